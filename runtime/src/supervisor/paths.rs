//! From a caller's path to an inode, or to a directory and a name in it.
//!
//! Responsible for resolving as the kernel would for the caller: from its directories, within its
//! root, with the search permissions of its emulated credentials. Must not change anything.
//! Invariant: a handle never leads to where the caller itself could not go. Of proc's magic links
//! only those are followed that lead from a process of the container to its files and directories;
//! the container's first process, which is not of its making, has its root, too (`sandbox::init`).
//! What can't be resolved is left to the kernel.
//!
//! Root may search everything, so its paths are resolved in one call. Others' are walked step by
//! step.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx};
use rustix::io::Errno;

use super::State;
use super::call::{Call, Caller, Stop};
use super::credentials::Access;
use super::inode::{Facts, Inode};
use super::magic::{self, Own};
use crate::identity::specials;

/// How many symbolic links one path may lead through, path_resolution(7).
const MAX_LINKS: usize = 40;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Where a relative path starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base<'a> {
    /// The caller's working directory, or a descriptor of its own.
    Number(i32),
    Handle(&'a OwnedFd),
}

impl From<i32> for Base<'_> {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

/// Where something is or is to be.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory.
    pub(super) dir: OwnedFd,
    pub(super) facts: Facts,
    /// The name in it; with slashes behind it where the path had them.
    pub(super) name: Vec<u8>,
}

impl Place {
    /// Whether the path asks for a directory.
    pub(super) fn has_slash(&self) -> bool {
        self.name.ends_with(b"/")
    }

    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    /// Opens a handle of what is there, unfollowed; `None` when nothing is.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>, Stop> {
        let name = trim(&self.name);
        match open(self.dir.as_fd(), name, OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(_) => Err(Stop::Kernel),
        }
    }
}

/// Splits a path before its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = trim(path).len();
    let start = path[..end].iter().rposition(|b| *b == b'/');
    path.split_at(start.map_or(0, |at| at + 1))
}

/// Whether a path ends in no name of its own: the root, or dots.
pub(super) fn is_nameless(path: &[u8]) -> bool {
    matches!(trim(split(path).1), b"" | b"." | b"..")
}

/// Drops slashes at the end.
pub(super) fn trim(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    &name[..end]
}

fn open(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let path = OsStr::from_bytes(path);
    rustix::io::retry_on_intr(|| {
        rustix::fs::openat2(dir, path, HANDLE | flags, Mode::empty(), resolve)
    })
}

impl State {
    /// Resolves a whole path.
    pub(super) fn inode<'p>(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        base: impl Into<Base<'p>>,
        path: &[u8],
        follow: bool,
    ) -> Result<Inode, Stop> {
        let fd = self.handle(call, caller, base, path, follow)?;
        self.inode_of(fd)
    }

    /// Resolves a whole path to a handle.
    pub(super) fn handle<'p>(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        base: impl Into<Base<'p>>,
        path: &[u8],
        follow: bool,
    ) -> Result<OwnedFd, Stop> {
        let base = base.into();
        if path.is_empty() {
            return Err(Stop::Kernel);
        }
        let own = magic::own(path).filter(|_| caller.resolve.is_empty());
        match own.filter(|_| self.has_own_root(call)) {
            // The link itself is meant.
            Some(Own::Start(_, b"") | Own::Root(b"")) if !follow => {}
            Some(Own::Root(b"")) => return self.handle(call, caller, base, b"/", follow),
            Some(Own::Root(rest)) => return self.handle(call, caller, base, rest, follow),
            Some(Own::Start(number, rest)) => {
                let start = self.start(call, number)?;
                let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
                if rest.len() > slashes {
                    let start = Base::Handle(&start);
                    return self.handle(call, caller, start, &rest[slashes..], follow);
                }
                if slashes > 0 && !self.facts(&start)?.is_dir() {
                    return Err(Stop::Kernel);
                }
                return Ok(start);
            }
            None => {}
        }
        let is_link = !follow && matches!(path, b"/proc/self" | b"/proc/thread-self");
        let path = match is_link {
            true => path.into(),
            false => self.own_proc(call, caller, path),
        };
        if !self.walks(caller) {
            let flags = if follow {
                OFlags::empty()
            } else {
                OFlags::NOFOLLOW
            };
            let opened = if path.starts_with(b"/") {
                open(rustix::fs::CWD, &path, flags)
            } else {
                open(self.from(call, base)?.as_fd(), &path, flags)
            };
            match opened {
                // A link of proc's: magic, or to whoever asks.
                Err(Errno::LOOP | Errno::NOENT) => {}
                other => return other.map_err(|_| Stop::Kernel),
            }
        }
        let mut walk = Walk::new(self, call, caller, base, &path)?;
        while let Some((name, last)) = walk.next() {
            let is_last = last && !walk.slash;
            walk.step(&name, follow || !is_last, last)?;
        }
        if walk.slash && !self.facts(&walk.here)?.is_dir() {
            return Err(Stop::Kernel);
        }
        Ok(walk.here)
    }

    /// Resolves all of a path but its last component.
    pub(super) fn place<'p>(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        base: impl Into<Base<'p>>,
        path: &[u8],
    ) -> Result<Place, Stop> {
        let base = base.into();
        let path = self.own_proc(call, caller, path);
        // Nothing can be made, removed or renamed by these names; how the kernel says so depends
        // on the call.
        if is_nameless(&path) {
            self.parent(call, caller, base, &path)?;
            return Err(Stop::Kernel);
        }
        let (parent, name) = split(&path);
        let dir = if parent.is_empty() {
            self.from(call, base)?
        } else {
            self.handle(call, caller, base, parent, true)?
        };
        let facts = self.facts(&dir)?;
        if !facts.is_dir() {
            return Err(Stop::Kernel);
        }
        self.search(call, caller, &dir, &facts)?;
        Ok(Place {
            dir,
            facts,
            name: name.to_vec(),
        })
    }

    /// Checks the way to the last component of a path.
    pub(super) fn parent<'p>(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        base: impl Into<Base<'p>>,
        path: &[u8],
    ) -> Result<(), Stop> {
        if !is_nameless(path) {
            return self.place(call, caller, base, path).map(drop);
        }
        match trim(path) {
            b"" if path.is_empty() => Err(Stop::Kernel),
            b"" => Ok(()),
            path => self.handle(call, caller, base, path, true).map(drop),
        }
    }

    pub(super) fn from(&self, call: &Call<'_>, base: Base<'_>) -> Result<OwnedFd, Stop> {
        match base {
            Base::Number(dir) => self.start(call, dir),
            Base::Handle(fd) => duplicate(fd),
        }
    }

    /// Opens the directory that a relative path starts from.
    pub(super) fn start(&self, call: &Call<'_>, dir: i32) -> Result<OwnedFd, Stop> {
        if dir == libc::AT_FDCWD {
            call.open_own("cwd")
        } else {
            call.open_fd(dir)
        }
    }

    /// Whether a path is to be walked.
    fn walks(&self, caller: &Caller) -> bool {
        !caller.resolve.is_empty() || !self.is_free(caller)
    }

    /// Whether the caller is root as the kernel sees it, in the supervisor's own root.
    pub(super) fn is_free(&self, caller: &Caller) -> bool {
        !self.chrooted && caller.credentials.is_plain_root()
    }

    /// Whether the caller's root is the container's, where proc is.
    fn has_own_root(&self, call: &Call<'_>) -> bool {
        !self.chrooted
            || call.open_own("root").is_ok_and(|root| {
                rustix::fs::fstat(root).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.root_id)
            })
    }

    /// Checks that a directory may be searched.
    fn search(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        dir: &OwnedFd,
        facts: &Facts,
    ) -> Result<(), Stop> {
        let credentials = &caller.credentials;
        if credentials.access(facts.owner, facts.mode, true, Access::EXECUTE)
            || Some(facts.id.dev) == self.proc_device && self.is_own_descriptors(call, dir)
        {
            Ok(())
        } else {
            Err(Errno::ACCESS.into())
        }
    }

    /// Puts the caller's number where a path says "myself", which would mean the supervisor.
    fn own_proc<'p>(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        path: &'p [u8],
    ) -> std::borrow::Cow<'p, [u8]> {
        // By other rules it may be another place, or no place to go to.
        if !caller.resolve.is_empty() {
            return path.into();
        }
        for (link, is_thread) in [(&b"/proc/self"[..], false), (b"/proc/thread-self", true)] {
            let Some(rest) = path.strip_prefix(link) else {
                continue;
            };
            if !matches!(rest.first(), None | Some(b'/')) {
                continue;
            }
            if let Some((process, thread)) = call.numbers() {
                let mut own = if is_thread {
                    format!("/proc/{process}/task/{thread}").into_bytes()
                } else {
                    format!("/proc/{process}").into_bytes()
                };
                own.extend_from_slice(rest);
                return own.into();
            }
        }
        path.into()
    }
}

/// A path on the way.
struct Walk<'a> {
    state: &'a State,
    call: &'a Call<'a>,
    caller: &'a Caller,
    root: OwnedFd,
    root_id: (u64, u64),
    here: OwnedFd,
    /// The status of `here`, where it is known.
    stat: Option<Statx>,
    /// What is left to do, without slashes at either end.
    rest: Vec<u8>,
    /// Whether what the path leads to must be a directory.
    slash: bool,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(
        state: &'a State,
        call: &'a Call<'a>,
        caller: &'a Caller,
        base: Base<'_>,
        path: &[u8],
    ) -> Result<Self, Stop> {
        let resolve = caller.resolve;
        let is_tree = resolve.intersects(ResolveFlags::BENEATH | ResolveFlags::IN_ROOT);
        let (root, root_id) = if state.chrooted || is_tree {
            let root = match is_tree {
                true => state.from(call, base)?,
                false => call.open_own("root")?,
            };
            let stat = rustix::fs::fstat(&root)?;
            (root, (stat.st_dev, stat.st_ino))
        } else {
            (duplicate(&state.root)?, state.root_id)
        };
        let here = if path.starts_with(b"/") {
            if resolve.contains(ResolveFlags::BENEATH) {
                return Err(Stop::Kernel);
            }
            duplicate(&root)?
        } else {
            state.from(call, base)?
        };
        Ok(Self {
            state,
            call,
            caller,
            root,
            root_id,
            here,
            stat: None,
            rest: path.to_vec(),
            slash: path.ends_with(b"/"),
            links: 0,
        })
    }

    /// Takes the next component; tells whether it is the last one.
    fn next(&mut self) -> Option<(Vec<u8>, bool)> {
        let start = self.rest.iter().position(|b| *b != b'/')?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let name = rest[..end].to_vec();
        let left = rest[end..].to_vec();
        let last = trim(&left).is_empty();
        self.rest = left;
        Some((name, last))
    }

    fn step(&mut self, name: &[u8], follow: bool, last: bool) -> Result<(), Stop> {
        let stat = match self.stat.take() {
            Some(stat) => stat,
            None => State::status(&self.here)?,
        };
        let mode = u32::from(stat.stx_mode);
        if FileType::from_raw_mode(mode) != FileType::Directory {
            return Err(Stop::Kernel);
        }
        // Whose it is does not matter where all may search.
        if mode & 0o111 != 0o111 {
            let facts = self.state.facts_of(&self.here, &stat)?;
            self.state
                .search(self.call, self.caller, &self.here, &facts)?;
        }
        let id = specials::Inode::of(&stat);
        let resolve = self.caller.resolve;
        let leaves = name == b".." && (id.dev, id.ino) == self.root_id;
        if leaves && resolve.contains(ResolveFlags::BENEATH) {
            return Err(Stop::Kernel);
        }
        if name == b"." || leaves {
            self.stat = Some(stat);
            return Ok(());
        }
        let next = open(self.here.as_fd(), name, OFlags::NOFOLLOW).map_err(|_| Stop::Kernel)?;
        let next_stat = State::status(&next)?;
        let next_dev = specials::Inode::of(&next_stat).dev;
        if resolve.contains(ResolveFlags::NO_XDEV) && next_dev != id.dev {
            return Err(Stop::Kernel);
        }
        let kind = FileType::from_raw_mode(next_stat.stx_mode.into());
        if follow && kind == FileType::Symlink {
            if resolve.contains(ResolveFlags::NO_SYMLINKS) {
                return Err(Stop::Kernel);
            }
            if Some(next_dev) == self.state.proc_device {
                return self.follow_proc(name, next);
            }
            if last && self.state.protected.symlinks {
                let dir = self.state.facts_of(&self.here, &stat)?;
                self.may_follow(&dir, &self.state.facts_of(&next, &next_stat)?)?;
            }
            let target = rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes();
            self.stat = Some(stat);
            return self.follow(&target);
        }
        (self.here, self.stat) = (next, Some(next_stat));
        Ok(())
    }

    /// Checks that a path may end in a link of somebody else's in a directory like /tmp.
    fn may_follow(&self, dir: &Facts, link: &Facts) -> Result<(), Stop> {
        let is_public = dir.mode & 0o1002 == 0o1002;
        let is_own = self.caller.credentials.fsuid == link.owner.uid;
        if is_public && !is_own && dir.owner.uid != link.owner.uid {
            return Err(Errno::ACCESS.into());
        }
        Ok(())
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), Stop> {
        self.links += 1;
        if self.links > MAX_LINKS || target.is_empty() {
            return Err(Stop::Kernel);
        }
        if target.starts_with(b"/") {
            if self.caller.resolve.contains(ResolveFlags::BENEATH) {
                return Err(Stop::Kernel);
            }
            (self.here, self.stat) = (duplicate(&self.root)?, None);
        }
        // A slash behind the link's target asks for a directory, too, when the link was the last.
        self.slash |= trim(&self.rest).is_empty() && target.ends_with(b"/");
        let mut rest = target.to_vec();
        rest.push(b'/');
        rest.extend_from_slice(&self.rest);
        self.rest = trim(&rest).to_vec();
        Ok(())
    }

    /// Follows a link of proc: what "self" is depends on who asks, and most of the others are no
    /// paths at all.
    fn follow_proc(&mut self, name: &[u8], link: OwnedFd) -> Result<(), Stop> {
        let (process, thread) = self.call.numbers().ok_or(Stop::Kernel)?;
        match name {
            b"self" => self.follow(process.to_string().as_bytes()),
            b"thread-self" => self.follow(format!("{process}/task/{thread}").as_bytes()),
            b"mounts" | b"net" => {
                let target = rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes();
                self.follow(&target)
            }
            _ => self.follow_magic(name),
        }
    }

    /// Follows a link that is no path, to a directory or file of the container.
    fn follow_magic(&mut self, name: &[u8]) -> Result<(), Stop> {
        // What is left is `NO_XDEV`, for which such a link may lead elsewhere.
        if !self.caller.resolve.is_empty() {
            return Err(Stop::Kernel);
        }
        let path = OsStr::from_bytes(name);
        let next = rustix::fs::openat(&self.here, path, HANDLE, Mode::empty());
        let next = next.map_err(|_| Stop::Kernel)?;
        let stat = rustix::fs::fstat(&next)?;
        // Standard streams are the builder's, and any user's to open again.
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                (self.here, self.stat) = (next, None);
            }
            _ => return Err(Stop::Kernel),
        }
        Ok(())
    }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Stop> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 0)?)
}

/// Whether nothing but a handle's own inode is meant, by `AT_EMPTY_PATH` and an empty path.
pub(super) fn means_handle(path: &[u8], flags: AtFlags) -> bool {
    path.is_empty() && flags.contains(AtFlags::EMPTY_PATH)
}

impl Call<'_> {
    /// Returns the numbers of the calling process and thread in the container.
    pub(super) fn numbers(&self) -> Option<(u32, u32)> {
        let text = std::fs::read_to_string(format!("{}/status", self.tid.as_raw_pid())).ok()?;
        let last = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next_back()?.parse().ok()
        };
        Some((last("NStgid:")?, last("NSpid:")?))
    }
}
