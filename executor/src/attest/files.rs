//! The files of a finished tree.
//!
//! Responsible for walking it, and for the digests that statements about files name. Runs in a job, which
//! may read everything. Must not follow links. Invariant: the same tree gives the same list.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime::identity::Ownership;
use runtime::path::{Root, names};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use super::sbom::Package;
use crate::error::{Result, ResultExt};
use crate::image::digest::{Digest, HashingReader};

/// What is known of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The names in its root directory.
    pub top: Vec<String>,
    /// Its regular files, without the slash in front, where they were asked for.
    pub files: Vec<(String, Digest)>,
    /// Its packages, where they were asked for.
    pub packages: Vec<Package>,
    /// What could not be read, for people.
    pub notes: Vec<String>,
}

/// A regular file that the walk has come to.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its path, absolute.
    pub path: &'a Path,
    dir: &'a OwnedFd,
    name: &'a OsString,
    stat: Stat,
}

impl Found<'_> {
    /// Opens it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir, self.name, flags, Mode::empty());
        file.map(File::from).op_path("read", self.path)
    }
}

/// Shows all regular files of a tree, sorted by their directories.
///
/// # Errors
/// When a directory can't be read; those of `visit`.
pub fn walk(root: &Root, visit: &mut dyn FnMut(&Found<'_>) -> Result<()>) -> Result<()> {
    let mut rest = vec![PathBuf::from("/")];
    while let Some(path) = rest.pop() {
        let dir = root
            .open(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .op_path("read", &path)?;
        let names = names(&dir).op_path("read", &path)?;
        let mut below = Vec::new();
        for name in &names {
            let child = path.join(name);
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .op_path("read", &child)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => below.push(child),
                FileType::RegularFile => visit(&Found {
                    path: &child,
                    dir: &dir,
                    name,
                    stat,
                })?,
                _ => {}
            }
        }
        rest.extend(below.into_iter().rev());
    }
    Ok(())
}

/// Returns the digest of a file; `None` for one that stands for a device.
///
/// # Errors
/// Those of the file system.
pub fn digest(found: &Found<'_>, ownership: &Ownership) -> Result<Option<Digest>> {
    let file = found.open()?;
    if ownership.is_emulated() && found.stat.st_size == 0 {
        let record = ownership.record(&file, &found.stat);
        if record
            .op_path("read the owner of", found.path)?
            .device
            .is_some()
        {
            return Ok(None);
        }
    }
    let mut reader = HashingReader::new(file);
    io::copy(&mut reader, &mut io::sink()).op_path("read", found.path)?;
    Ok(Some(reader.finish().1))
}

/// Returns a path as statements have it.
pub fn name_of(path: &Path) -> String {
    let path = path.strip_prefix("/").unwrap_or(path);
    path.to_string_lossy().into_owned()
}

/// Lists what is in the root directory.
///
/// # Errors
/// Those of the file system.
pub fn top(root: &Root) -> Result<Vec<String>> {
    let dir = root
        .open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .op_path("read", "/")?;
    let names = names(&dir).op_path("read", "/")?;
    let names = names
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned());
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn regular_files_in_order_and_no_links() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for name in ["b", "a/y", "a/x/f", "a.txt"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, name).expect("write");
        }
        std::os::unix::fs::symlink("/", dir.path().join("link")).expect("link");
        let root = Root::open_host(dir.path()).expect("root");
        let mut seen = Vec::new();
        walk(&root, &mut |found| {
            let mut text = String::new();
            io::Read::read_to_string(&mut found.open()?, &mut text).op("read")?;
            seen.push((name_of(found.path), text));
            Ok(())
        })
        .expect("walk");
        let names = ["a.txt", "b", "a/y", "a/x/f"];
        assert_eq!(seen, names.map(|n| (n.to_owned(), n.to_owned())));
        assert_eq!(top(&root).expect("top"), ["a", "a.txt", "b", "link"]);
    }
}
