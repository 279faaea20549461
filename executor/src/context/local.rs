//! Contexts that are directories: the Dockerfile and the ignore file in them or beside them.
//!
//! Responsible for finding these two by Docker's rules. Must not apply the ignore file to them:
//! an ignored Dockerfile can be built. Invariant: inside a context only regular files are read,
//! confined to it; only a path that the user gave with `-f` is opened as the host has it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use runtime::path::Root;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{DockerfileText, MAX_DOCKERFILE};
use crate::context::ignore::{self, IgnoreFile};
use crate::context::suggest;
use crate::error::{Error, Kind, Result, ResultExt};

/// The ignore file's name when the Dockerfile has none of its own.
pub const IGNORE: &str = ".dockerignore";

/// podman's name for it.
pub const CONTAINER_IGNORE: &str = ".containerignore";

/// Names of a Dockerfile that is not named, in order. Docker knows the first two; buildah and podman look
/// for `Containerfile` first, then for `Dockerfile` (Containerfile(5)). What Docker builds stays the same
/// here.
const DEFAULTS: [&str; 3] = ["Dockerfile", LOWER_CASE, "Containerfile"];

/// What Docker takes where a file that is called `Dockerfile` is not there.
const LOWER_CASE: &str = "dockerfile";

/// A Dockerfile, with the ignore file that belongs to it alone.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) dockerfile: DockerfileText,
    pub(super) ignore: Option<IgnoreFile>,
}

impl Found {
    /// Takes a Dockerfile that came by itself.
    pub(super) fn text(dockerfile: DockerfileText) -> Self {
        Self {
            dockerfile,
            ignore: None,
        }
    }
}

/// Opens a context directory.
pub(super) fn open_dir(path: &Path) -> Result<Root> {
    Root::open_host(path).map_err(|e| match e {
        Errno::NOENT => Error::new("context not found:")
            .path(path)
            .kind(Kind::NotFound),
        Errno::NOTDIR => Error::new("the context is not a directory:")
            .path(path)
            .hint("for an archive or a Dockerfile, use `-` and redirect standard input"),
        e => Error::new("open the context").path(path).source(e),
    })
}

/// Finds the Dockerfile that has no name.
pub(super) fn default(root: &Root) -> Result<Found> {
    for name in DEFAULTS {
        if let Some(found) = read_inside(root, Path::new(name))? {
            return Ok(found);
        }
    }
    let names = names(root);
    let error = Error::new("the context has no `Dockerfile`").kind(Kind::NotFound);
    Err(
        match suggest::closest(DEFAULTS[0], names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("there is a `{near}`; name it with -f")),
            None => error.hint("name another file with -f, or `-f -` for standard input"),
        },
    )
}

/// Finds the Dockerfile that `-f` names: on the host, else in the context.
pub(super) fn named(root: &Root, path: &Path) -> Result<Found> {
    let lower = lower_case(path).filter(|lower| !path.exists() && lower.is_file());
    let path = lower.as_deref().unwrap_or(path);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound && path.is_relative() => {
            return inside(root, path);
        }
        Err(e) => return Err(Error::new("open Dockerfile").path(path).source(e)),
    };
    // A pipe is fine here: `-f <(command)`.
    let bytes = read_bounded(&mut file, MAX_DOCKERFILE, path)?;
    let beside = with_ignore_suffix(path);
    let ignore = match File::open(&beside) {
        Ok(mut file) => Some(IgnoreFile {
            name: beside.display().to_string(),
            text: read_bounded(&mut file, ignore::MAX_FILE, &beside)?,
        }),
        Err(_) => None,
    };
    Ok(Found {
        dockerfile: DockerfileText {
            name: path.display().to_string(),
            bytes,
            origin: None,
        },
        ignore,
    })
}

/// Finds the Dockerfile that `-f` names in an archive.
pub(super) fn inside(root: &Root, path: &Path) -> Result<Found> {
    for path in [Some(path), lower_case(path).as_deref()] {
        if let Some(found) = path.map_or(Ok(None), |path| read_inside(root, path))? {
            return Ok(found);
        }
    }
    let names = names(root);
    let error = Error::new("Dockerfile not found:")
        .path(path)
        .kind(Kind::NotFound);
    let wanted = path.to_str().unwrap_or_default();
    Err(
        match suggest::closest(wanted, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        },
    )
}

/// Returns the other path that Docker looks at for this one.
fn lower_case(path: &Path) -> Option<PathBuf> {
    (path.file_name()? == DEFAULTS[0]).then(|| path.with_file_name(LOWER_CASE))
}

fn read_inside(root: &Root, path: &Path) -> Result<Option<Found>> {
    let Some(bytes) = read_file(root, path, MAX_DOCKERFILE)? else {
        return Ok(None);
    };
    Ok(Some(Found {
        dockerfile: DockerfileText {
            name: path.display().to_string(),
            bytes,
            origin: None,
        },
        ignore: ignore_file(root, &with_ignore_suffix(path))?,
    }))
}

/// Reads an ignore file of the context; `None` when there is none.
pub(super) fn ignore_file(root: &Root, path: &Path) -> Result<Option<IgnoreFile>> {
    let text = read_file(root, path, ignore::MAX_FILE)?;
    Ok(text.map(|text| IgnoreFile {
        name: path.display().to_string(),
        text,
    }))
}

/// Reads a regular file of the context; `None` when there is none.
fn read_file(root: &Root, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    // Without O_NONBLOCK, a FIFO would block for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = match root.open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            return match root.stat(path, false) {
                Ok(_) => Err(
                    Error::new("a symbolic link that leads nowhere inside the context:").path(path),
                ),
                Err(_) => Ok(None),
            };
        }
        Err(e) => return Err(Error::new("open").path(path).source(e)),
    };
    let stat = rustix::fs::fstat(&file).op_path("stat", path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new("not a regular file:").path(path));
    }
    read_bounded(&mut file, limit, path).map(Some)
}

/// Reads all of a small file.
pub(super) fn read_bounded(reader: &mut dyn Read, limit: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .op_path("read", path)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(format!("larger than {limit} bytes:")).path(path));
    }
    Ok(bytes)
}

fn with_ignore_suffix(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(IGNORE);
    name.into()
}

/// Lists the context's own entries for a suggestion; what can't be read has none.
fn names(root: &Root) -> Vec<String> {
    let list = || -> rustix::io::Result<Vec<String>> {
        let fd = root.open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let entries = rustix::fs::Dir::new(fd)?;
        Ok(entries
            .filter_map(|e| e.ok()?.file_name().to_str().ok().map(str::to_owned))
            .collect())
    };
    list().unwrap_or_default()
}
