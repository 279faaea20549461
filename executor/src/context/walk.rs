//! Which files of a tree a COPY selects, in a fixed order.
//!
//! Responsible for walking what source patterns name, within the tree as its ignore file leaves
//! it. Must not read file contents or write anything. Invariant: the order depends on names only,
//! and every access is confined to the root.

mod pick;
mod resolve;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use runtime::path::Root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::context::ignore::{Matcher, State};
use crate::error::{Error, Result, ResultExt};

pub use pick::Pick;
use pick::{Filter, Verdict};

/// How deep directories may be nested: one descriptor is open per level.
const MAX_DEPTH: usize = 500;

/// A tree without what its ignore file excludes.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    root: &'a Root,
    ignore: &'a Matcher,
}

/// One thing that a source pattern names.
#[derive(Debug, Clone)]
pub struct Match {
    /// Position of its pattern among the sources.
    pub source: usize,
    /// Where it really is: relative to the root, without symbolic links; empty for the root.
    pub path: PathBuf,
    /// The last component as the pattern matched it, which is what a copy is called.
    pub name: OsString,
    /// Its status; never that of a symbolic link.
    pub stat: Stat,
    state: State,
    filter: Filter,
}

/// An entry that is being visited.
#[derive(Debug)]
pub struct Node<'a> {
    /// Relative to the root, for messages.
    pub path: &'a Path,
    /// Relative to the match; empty for the match itself.
    pub below: &'a Path,
    /// The directory that holds it.
    pub dir: BorrowedFd<'a>,
    /// Its name in `dir`, one component; `.` when it is `dir` itself.
    pub name: &'a OsStr,
    /// Its own status.
    pub stat: &'a Stat,
    /// A directory's own handle, for reading.
    pub opened: Option<BorrowedFd<'a>>,
}

/// A step of a walk.
#[derive(Debug)]
pub enum Step<'a> {
    /// A directory, before its entries.
    Enter(&'a Node<'a>),
    /// Anything but a directory.
    Item(&'a Node<'a>),
    /// The directory that was entered last and not left, after its entries.
    Leave(&'a Node<'a>),
}

impl Match {
    /// Tells whether it is a regular file.
    pub fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    /// Tells whether it is a directory, whose contents are copied instead of itself.
    pub fn is_dir(&self) -> bool {
        is_dir(&self.stat)
    }
}

impl Node<'_> {
    /// Returns the kind of file.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns the target of a symbolic link.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(self.dir, self.name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|e| changed_or(e, "read symbolic link", self.path))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Also when it is no longer the file that was listed.
    pub fn open(&self) -> Result<OwnedFd> {
        // Without O_NONBLOCK, a FIFO that took the file's place would block for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.dir, self.name, flags, Mode::empty())
            .map_err(|e| changed_or(e, "open", self.path))?;
        let now = rustix::fs::fstat(&fd).op_path("stat", self.path)?;
        if (now.st_dev, now.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(changed(self.path));
        }
        Ok(fd)
    }
}

impl<'a> Tree<'a> {
    /// Takes a root and the rules for it.
    pub fn new(root: &'a Root, ignore: &'a Matcher) -> Self {
        Self { root, ignore }
    }

    /// Returns the root.
    pub fn root(&self) -> &'a Root {
        self.root
    }

    /// Walks what a match names. Directories come in the order of their names, each before its
    /// entries; an excluded directory comes only when something below it is included.
    ///
    /// # Errors
    /// Those of `visit`, which end the walk; and when an entry can't be read or goes away.
    pub fn walk(&self, from: &Match, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
        let name = from.path.file_name();
        let parent = from.path.parent().unwrap_or_else(|| Path::new(""));
        let dir = self
            .root
            .open_dir(parent)
            .op_path("open directory", parent)?;
        let name = name.unwrap_or_else(|| OsStr::new("."));
        if !from.is_dir() {
            return visit(Step::Item(&Node {
                path: &from.path,
                below: Path::new(""),
                dir: dir.as_fd(),
                name,
                stat: &from.stat,
                opened: None,
            }));
        }
        let mut walk = Walk {
            tree: self,
            filter: &from.filter,
            top: dir,
            frames: Vec::new(),
        };
        walk.push(
            from.path.clone(),
            PathBuf::new(),
            name.to_owned(),
            from.stat,
            (from.state.clone(), from.filter.root()),
        )?;
        // Its contents are copied, whatever is taken of them.
        if let Some(top) = walk.frames.last_mut() {
            top.hidden = from.state.is_excluded();
        }
        walk.run(visit)
    }

    /// Lists the names in a directory, sorted.
    pub(super) fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = self
            .root
            .open(dir, flags, Mode::empty())
            .map_err(|e| changed_or(e, "open directory", dir))?;
        list(fd.as_fd(), dir)
    }

    /// Returns the state of an entry, and whether it is hidden for want of any included part.
    pub(super) fn is_hidden(&self, path: &Path) -> bool {
        let state = self.ignore.decide(path);
        let below = || -> Result<bool> {
            let stat = self.root.stat(path, false).op("stat")?;
            Ok(is_dir(&stat) && self.any_included(path, &stat, &state)?)
        };
        state.is_excluded() && !below().unwrap_or(false)
    }

    /// Tells whether an excluded directory has anything included below it, by which it exists.
    fn any_included(&self, path: &Path, stat: &Stat, state: &State) -> Result<bool> {
        if !self.ignore.may_include_below(path) {
            return Ok(false);
        }
        let from = Match {
            source: 0,
            path: path.to_owned(),
            name: OsString::new(),
            stat: *stat,
            state: state.clone(),
            filter: Filter::default(),
        };
        let mut any = false;
        let walked = self.walk(&from, &mut |_| {
            any = true;
            Err(Error::new("found"))
        });
        if any {
            Ok(true)
        } else {
            walked.map(|()| false)
        }
    }
}

/// A directory on the way down.
struct Frame {
    path: PathBuf,
    below: PathBuf,
    name: OsString,
    stat: Stat,
    state: State,
    verdict: Verdict,
    /// Left out, unless something below it is taken.
    hidden: bool,
    fd: OwnedFd,
    names: std::vec::IntoIter<OsString>,
    entered: bool,
}

struct Walk<'t> {
    tree: &'t Tree<'t>,
    filter: &'t Filter,
    /// The directory that holds the first frame.
    top: OwnedFd,
    frames: Vec<Frame>,
}

impl Walk<'_> {
    fn run(&mut self, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
        self.announce(visit)?;
        while let Some(frame) = self.frames.last_mut() {
            let Some(name) = frame.names.next() else {
                self.leave(visit)?;
                continue;
            };
            let path = frame.path.join(&name);
            let below = frame.below.join(&name);
            let stat = rustix::fs::statat(&frame.fd, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| changed_or(e, "stat", &path))?;
            let state = self.tree.ignore.enter(&frame.state, &path);
            let verdict = self.filter.enter(&frame.verdict, &below);
            if is_dir(&stat) {
                let visible = !state.is_excluded() || self.tree.ignore.may_include_below(&path);
                if !visible || !self.filter.may_take_below(&verdict, &below) {
                    continue;
                }
                self.push(path, below, name, stat, (state, verdict))?;
                self.announce(visit)?;
            } else if !state.is_excluded() && !verdict.is_out() {
                self.enter_pending(visit)?;
                let Some(frame) = self.frames.last() else {
                    break;
                };
                visit(Step::Item(&Node {
                    path: &path,
                    below: &below,
                    dir: frame.fd.as_fd(),
                    name: &name,
                    stat: &stat,
                    opened: None,
                }))?;
            }
        }
        Ok(())
    }

    /// Enters the directory on top of the stack unless it is excluded and has to wait.
    fn announce(&mut self, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
        if self.frames.last().is_some_and(|f| !f.hidden) {
            self.enter_pending(visit)?;
        }
        Ok(())
    }

    fn enter_pending(&mut self, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
        let count = self.frames.len();
        let first = self.frames.iter().position(|f| !f.entered);
        for index in first.unwrap_or(count)..count {
            self.frames[index].entered = true;
            visit(Step::Enter(&self.node(index)))?;
        }
        Ok(())
    }

    fn leave(&mut self, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
        let index = self.frames.len() - 1;
        if self.frames[index].entered {
            visit(Step::Leave(&self.node(index)))?;
        }
        self.frames.pop();
        Ok(())
    }

    fn node(&self, index: usize) -> Node<'_> {
        let frame = &self.frames[index];
        let dir = match index.checked_sub(1) {
            Some(parent) => self.frames[parent].fd.as_fd(),
            None => self.top.as_fd(),
        };
        Node {
            path: &frame.path,
            below: &frame.below,
            dir,
            name: &frame.name,
            stat: &frame.stat,
            opened: Some(frame.fd.as_fd()),
        }
    }

    fn push(
        &mut self,
        path: PathBuf,
        below: PathBuf,
        name: OsString,
        stat: Stat,
        (state, verdict): (State, Verdict),
    ) -> Result<()> {
        if self.frames.len() == MAX_DEPTH {
            return Err(
                Error::new(format!("directories nested more than {MAX_DEPTH} deep")).path(path),
            );
        }
        let dir = self.frames.last().map_or(&self.top, |f| &f.fd);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, &name, flags, Mode::empty())
            .map_err(|e| changed_or(e, "open directory", &path))?;
        let names = list(fd.as_fd(), &path)?.into_iter();
        self.frames.push(Frame {
            path,
            below,
            name,
            stat,
            hidden: state.is_excluded() || verdict.is_out(),
            state,
            verdict,
            fd,
            names,
            entered: false,
        });
        Ok(())
    }
}

/// Returns the names in an open directory, sorted by bytes.
fn list(fd: BorrowedFd<'_>, path: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd).op_path("read directory", path)? {
        let entry = entry.op_path("read directory", path)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The error for an entry that is not what it was when it was listed.
pub(crate) fn changed(path: &Path) -> Error {
    Error::new("file changed while it was being read:")
        .path(path)
        .hint("build again when nothing writes to the context")
}

/// Names a change of the tree where that is what an error number means.
pub(crate) fn changed_or(errno: Errno, op: &'static str, path: &Path) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO => changed(path).source(errno),
        Errno::ACCESS => Error::new(op)
            .path(path)
            .source(errno)
            .hint("make it readable for yourself, or name it in `.dockerignore`"),
        other => Error::new(op).path(path).source(other),
    }
}

#[cfg(test)]
mod tests;
