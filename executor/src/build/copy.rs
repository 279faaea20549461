//! COPY: files of a context, a stage or an image placed in a container's tree.
//!
//! Responsible for BuildKit's rules about destinations, and for driving the walk. Must not decide
//! what a step copies from or resolve stages; runs in a job process, where ids are the
//! executor's. Invariant: every read goes through the source's root and every write through the
//! destination's, by handles; no file is ever held in memory.
//!
//! The rules that are not obvious, all checked against BuildKit:
//! - The contents of a directory are copied, not the directory: its own owner and permissions
//!   play no part, and a destination that has to be made is 0755, or as `--chmod` makes that.
//! - Directories *below* it that exist already are merged and take the source's owner and
//!   permissions. A directory over anything else, or anything else over a directory, is an error.
//! - Missing parents are 0755 and owned as `--chown` says. (Since its version 0.21 BuildKit gives them
//!   the mode of `--chmod`, so that nobody can enter those of a file with 0640.)
//! - Symbolic links in the destination are followed, the last one too, even when they dangle.
//! - Hard links are kept among the files of one source. A socket becomes an empty file.
//! - Several files that one wildcard matches may go to one file name, and the last one counts.
//!
//! Where BuildKit drops FIFOs of a context without a word, they are copied; where it keeps the
//! time of the build as a directory's time, a copied or made one has its source's and one that
//! stood already keeps its own, so that equal contexts make equal layers; and several sources to
//! one file name are an error, not the last one.

mod content;
mod place;
mod target;
mod times;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use runtime::identity::ownership::Trouble;
use runtime::identity::{Owner, Ownership};
use runtime::path::{Root, normalize};
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::build::users;
use crate::context::digest::Stamp;
use crate::context::ignore::{IgnoreFile, Matcher};
use crate::context::walk::{Match, Node, Pick, Step, Tree};
use crate::dockerfile::mode::FileMode;
use crate::error::{Error, Result, ResultExt};
use crate::image::digest::Digest;
use crate::layer::tar_apply::{self, ApplyOptions};

use content::Transfer;
use times::DirTimes;

/// How many warnings one copy reports.
const MAX_WARNINGS: usize = 16;

/// What to copy, where to, and how it is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// What to copy.
    pub pick: Pick,
    /// Destination, absolute; `/` at the end makes it a directory.
    pub dest: String,
    /// The source's ignore file, if it is a context that has one.
    pub ignore: Option<IgnoreFile>,
    /// Who the copies belong to.
    pub owners: Owners,
    /// `--chmod=`: permissions of everything but missing parents and links.
    pub chmod: Option<FileMode>,
}

/// Who copies belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// Nobody was named: 0 and 0, as for a context. What ADD unpacks keeps its owners.
    Root,
    /// These ids in the container.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// An argument of `--chown`, resolved in the destination's passwd and group.
    Named(String),
    /// The source's own: a stage or an image without `--chown`.
    Source,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStats {
    /// Whether the destination is a file that was copied.
    pub is_file: bool,
    /// Files, links and other entries that were written.
    pub files: u64,
    /// Directories that were made.
    pub directories: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// Equal to the selection's stamp when nothing changed since it was made.
    pub stamp: Digest,
    /// What was left behind without failing the copy, such as an attribute that the file system
    /// of the destination can't store.
    pub warnings: Vec<String>,
}

/// A tree to copy from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Its root.
    pub root: &'a Root,
    /// Who owns what in it; `None` for the caller's files, whose owners play no part.
    pub owners: Option<&'a Ownership>,
}

/// Copies what `request` selects from `source` to `dest`, whose files get owners by `ownership`.
///
/// # Errors
/// When a source is missing, a destination is in the way, an owner does not exist under this
/// identity, or a source changes while it is read; each names the path.
pub fn copy(
    source: Origin<'_>,
    dest: &Root,
    request: &CopyRequest,
    ownership: &Ownership,
) -> Result<CopyStats> {
    let ignore = request.ignore_rules()?;
    let tree = Tree::new(source.root, &ignore);
    let matches = tree.pick(&request.pick)?;
    let mut copier = Copier::new(source, dest, request, ownership)?;
    for from in &matches {
        copier.copy_match(&tree, from)?;
    }
    copier.finish()
}

impl CopyRequest {
    pub(super) fn ignore_rules(&self) -> Result<Matcher> {
        match &self.ignore {
            Some(file) => file.rules(),
            None => Ok(Matcher::none()),
        }
    }
}

/// A copy under way.
pub(super) struct Copier<'a> {
    /// Who owns what in the source.
    owners: Option<&'a Ownership>,
    dest: &'a Root,
    request: &'a CopyRequest,
    ownership: &'a Ownership,
    /// The owner that was named.
    named: Option<Owner>,
    /// Owner of everything; `None` when the source's are kept.
    owner: Option<Owner>,
    transfer: Transfer,
    /// Where files with several links went first, in one match.
    links: HashMap<(u64, u64), PathBuf>,
    times: DirTimes,
    /// Destinations that were made as copies of directories.
    made: Vec<PathBuf>,
    /// What was not put into the destination but became it.
    became: Option<Became>,
    stamp: Stamp,
    stats: CopyStats,
}

/// Files that became the destination itself.
struct Became {
    /// The source that named them.
    source: usize,
    count: usize,
    last: PathBuf,
}

/// Says that sources would be lost.
pub(super) fn several_to_one(dest: &str) -> Error {
    Error::new("several sources would be copied to one file:")
        .path(dest)
        .hint(format!("end the destination with a slash: `{dest}/`"))
}

/// A directory of the destination that is being filled.
struct OpenDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: Origin<'a>,
        dest: &'a Root,
        request: &'a CopyRequest,
        ownership: &'a Ownership,
    ) -> Result<Self> {
        let named = match &request.owners {
            Owners::Ids { uid, gid } => Some((*uid, *gid)),
            Owners::Named(spec) => Some(users::resolve_owner(dest, spec)?),
            Owners::Root | Owners::Source => None,
        };
        let named = named.map(|(uid, gid)| Owner { uid, gid });
        let mut copier = Self {
            owners: source.owners,
            dest,
            request,
            ownership,
            named,
            owner: None,
            transfer: Transfer::new(),
            links: HashMap::new(),
            times: DirTimes::default(),
            made: Vec::new(),
            became: None,
            stamp: Stamp::new(),
            stats: CopyStats {
                is_file: false,
                files: 0,
                directories: 0,
                bytes: 0,
                stamp: Digest::of(b""),
                warnings: Vec::new(),
            },
        };
        if request.owners != Owners::Source {
            let owner = named.unwrap_or(Owner::ROOT);
            copier.require(owner, Path::new(&request.dest))?;
            copier.owner = Some(owner);
        }
        Ok(copier)
    }

    /// Unpacks an archive's content below the directory that is the destination.
    pub(super) fn unpack(
        &mut self,
        archive: impl std::io::Read,
        from: &Match,
        node: &Node<'_>,
    ) -> Result<()> {
        let path = self.make_dirs(Path::new(&self.request.dest))?;
        self.times.made_for(node.stat);
        let options = ApplyOptions {
            owner: self.named,
            ..ApplyOptions::archive(self.ownership, &path)
        };
        let applied = tar_apply::apply(archive, self.dest, &options)
            .map_err(|e| e.during(format!("unpack `{}`", node.path.display())))?;
        self.stamp.start(from);
        self.stamp.add(node);
        self.stats.files += applied.entries;
        self.stats.bytes += applied.bytes;
        for note in applied.notes() {
            self.warn(format!("`{}`: {note}", node.path.display()));
        }
        Ok(())
    }

    /// Keeps a warning, unless there are many.
    fn warn(&mut self, warning: String) {
        if self.stats.warnings.len() < MAX_WARNINGS {
            self.stats.warnings.push(warning);
        }
    }

    pub(super) fn finish(mut self) -> Result<CopyStats> {
        if let Some(chmod) = &self.request.chmod {
            // Last, as it may forbid everything.
            for path in &self.made {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let dir = self.dest.open(path, flags, Mode::empty());
                let dir = dir.op_path("open directory", path)?;
                let mode = Mode::from_raw_mode(chmod.apply(0o755, true));
                rustix::fs::fchmod(&dir, mode).op_path("change the permissions of", path)?;
            }
        }
        self.stats.is_file = self.became.is_some();
        if let Some(became) = self.became.take().filter(|became| became.count > 1) {
            self.warn(format!(
                "{} files are copied to one, `{}`, where `{}` is the last: end the destination in `/` \
                 to make it a directory",
                became.count,
                self.request.dest,
                became.last.display(),
            ));
        }
        self.times.apply(self.dest)?;
        Ok(CopyStats {
            stamp: self.stamp.finish(),
            ..self.stats
        })
    }

    /// Notes that `from` is not put into the destination but becomes it. A wildcard may do that several
    /// times, and then the last one counts; other sources may not.
    fn become_destination(&mut self, from: &Match) -> Result<()> {
        if let Some(before) = &self.became
            && before.source != from.source
        {
            return Err(several_to_one(&self.request.dest));
        }
        let count = self.became.as_ref().map_or(0, |before| before.count) + 1;
        self.became = Some(Became {
            source: from.source,
            count,
            last: from.path.clone(),
        });
        Ok(())
    }

    /// Copies what one pattern matched.
    pub(super) fn copy_match(&mut self, tree: &Tree<'_>, from: &Match) -> Result<()> {
        self.links.clear();
        self.stamp.start(from);
        let path = self.prepare(from)?;
        let filled = if from.is_dir() {
            Some(path.as_path())
        } else {
            path.parent()
        };
        self.times
            .note(self.dest, filled.unwrap_or_else(|| Path::new("/")))?;
        self.times.made_for(&from.stat);
        let mut open: Vec<OpenDir> = Vec::new();
        tree.walk(from, &mut |step| match step {
            Step::Enter(node) => {
                self.stamp.add(node);
                let dir = match open.last() {
                    None => self.open_top(&path)?,
                    Some(parent) => self.enter(parent, node)?,
                };
                open.push(dir);
                Ok(())
            }
            Step::Item(node) => {
                self.stamp.add(node);
                match open.last() {
                    Some(parent) => {
                        let at = parent.path.join(node.name);
                        self.place(parent.fd.as_fd(), &at, node)
                    }
                    None => {
                        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
                        let dir = self.dest.open_dir(parent).op_path("open", parent)?;
                        self.place(dir.as_fd(), &path, node)
                    }
                }
            }
            Step::Leave(node) => {
                let dir = open.pop();
                match dir.filter(|_| !node.below.as_os_str().is_empty()) {
                    Some(dir) => self.finish_dir(&dir.fd, &dir.path, node),
                    None => Ok(()),
                }
            }
        })
    }

    /// Makes the destination's missing directories. Returns the directory that a directory's
    /// contents go to, or the file that anything else becomes; without symbolic links but for
    /// the last component of the latter.
    fn prepare(&mut self, from: &Match) -> Result<PathBuf> {
        let dest = normalize(Path::new(&self.request.dest));
        let is_directory = self.request.dest.ends_with('/');
        // That of a directory is made below.
        let made_later = from.is_dir() || !is_directory;
        let parent = dest.parent().filter(|_| made_later).unwrap_or(&dest);
        self.make_dirs(parent)?;
        let path = target::resolve(self.dest, &dest)?;
        let existing = self.stat(&path)?;
        if from.is_dir() {
            return match existing {
                Some(FileType::Directory) => Ok(path),
                Some(_) => Err(Error::new(format!(
                    "cannot copy the directory `{}` over what is no directory:",
                    from.path.display()
                ))
                .path(path)),
                None => {
                    self.make_dirs(&path)?;
                    self.made.push(path.clone());
                    Ok(path)
                }
            };
        }
        if existing == Some(FileType::Directory) {
            return Ok(path.join(&from.name));
        }
        self.become_destination(from)?;
        match existing {
            Some(_) => Ok(path),
            None => {
                // The destination was a dangling link, maybe to a directory that is missing.
                self.make_dirs(path.parent().unwrap_or_else(|| Path::new("/")))?;
                Ok(path)
            }
        }
    }

    /// Makes a directory and its missing parents as BuildKit does: 0755, owned as `--chown` says.
    pub(super) fn make_dirs(&mut self, path: &Path) -> Result<PathBuf> {
        let path = target::resolve(self.dest, path)?;
        let owner = self.owner.unwrap_or(Owner::ROOT);
        self.times.note(self.dest, &path)?;
        let mut made = 0;
        self.dest
            .make_dirs(&path, Mode::from_raw_mode(0o755), &mut |fd| {
                made += 1;
                self.ownership.set(fd, owner).map_err(Trouble::errno)
            })
            .op_path("make directory", &path)?;
        self.stats.directories += made;
        Ok(path)
    }

    fn open_top(&self, path: &Path) -> Result<OpenDir> {
        let fd = self.dest.open_dir(path).op_path("open directory", path)?;
        Ok(OpenDir {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens the copy of a directory, and makes it if it is missing.
    fn enter(&mut self, parent: &OpenDir, node: &Node<'_>) -> Result<OpenDir> {
        let path = parent.path.join(node.name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match place::kind(parent.fd.as_fd(), node.name).op_path("stat", &path)? {
            Some(FileType::Directory) => {}
            Some(_) => {
                return Err(Error::new(format!(
                    "cannot copy the directory `{}` over what is no directory:",
                    node.path.display()
                ))
                .path(path));
            }
            None => {
                rustix::fs::mkdirat(&parent.fd, node.name, Mode::RWXU)
                    .op_path("make directory", &path)?;
                self.stats.directories += 1;
            }
        }
        let fd = rustix::fs::openat(&parent.fd, node.name, flags, Mode::empty())
            .op_path("open directory", &path)?;
        Ok(OpenDir { fd, path })
    }

    /// Returns the type of an entry of the destination, unfollowed; `None` when there is none.
    fn stat(&self, path: &Path) -> Result<Option<FileType>> {
        match self.dest.stat(path, false) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::new("stat").path(path).source(e)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
