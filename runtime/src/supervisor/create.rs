//! New inodes: mkdir(2), mknod(2), symlink(2), link(2), and files that open(2) makes.
//!
//! Responsible for whose they are. Must not open what is there. Invariant: where the owner would be
//! root's in any case, the kernel makes them; everywhere else they are made here, with the caller's
//! umask, and have their record before the caller knows of them.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::State;
use super::call::{Answer, Call, Caller, DONE, Outcome, Stop};
use super::credentials::{Access, NewNode};
use super::inode::{Facts, Inode, handle_path};
use super::paths::{Place, means_handle};
use super::peek::Seen;
use super::remove::Name;
use crate::identity::{Device, Record, record};

/// mkdirat(2): directory, path, mode.
pub(super) fn mkdirat(state: &mut State, call: &Call<'_>) -> Outcome {
    state.mkdir(call, call.int(0), 1, call.unsigned(2))
}

/// mkdir(2): path, mode.
#[cfg(target_arch = "x86_64")]
pub(super) fn mkdir(state: &mut State, call: &Call<'_>) -> Outcome {
    state.mkdir(call, libc::AT_FDCWD, 0, call.unsigned(1))
}

/// mknodat(2): directory, path, mode, device.
pub(super) fn mknodat(state: &mut State, call: &Call<'_>) -> Outcome {
    state.mknod(call, call.int(0), 1, call.unsigned(2), call.unsigned(3))
}

/// mknod(2): path, mode, device.
#[cfg(target_arch = "x86_64")]
pub(super) fn mknod(state: &mut State, call: &Call<'_>) -> Outcome {
    state.mknod(call, libc::AT_FDCWD, 0, call.unsigned(1), call.unsigned(2))
}

/// symlinkat(2): target, directory, path.
pub(super) fn symlinkat(state: &mut State, call: &Call<'_>) -> Outcome {
    state.symlink(call, 0, call.int(1), 2)
}

/// symlink(2): target, path.
#[cfg(target_arch = "x86_64")]
pub(super) fn symlink(state: &mut State, call: &Call<'_>) -> Outcome {
    state.symlink(call, 0, libc::AT_FDCWD, 1)
}

/// linkat(2): directory, path, directory, path, flags.
pub(super) fn linkat(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(4));
    state.link(call, (call.int(0), 1), (call.int(2), 3), flags)
}

/// link(2): path, path.
#[cfg(target_arch = "x86_64")]
pub(super) fn link(state: &mut State, call: &Call<'_>) -> Outcome {
    let here = libc::AT_FDCWD;
    state.link(call, (here, 0), (here, 1), AtFlags::empty())
}

impl State {
    fn mkdir(&mut self, call: &Call<'_>, dir: i32, path: usize, mode: u32) -> Outcome {
        let caller = self.caller(call)?;
        let path = call.path(path)?;
        let Some(place) = self.new_place(call, &caller, dir, &path, true)? else {
            return Ok(Answer::Continue);
        };
        let node = self.node(&caller, &place, mode, true);
        self.prepare(call, &caller)?;
        rustix::fs::mkdirat(&place.dir, place.name(), Mode::from_raw_mode(mode & 0o7777))?;
        let made = place.open()?.ok_or(Errno::NOENT)?;
        self.record_new(&made, node.owner)?;
        DONE
    }

    fn mknod(&mut self, call: &Call<'_>, dir: i32, path: usize, mode: u32, number: u32) -> Outcome {
        let caller = self.caller(call)?;
        let path = call.path(path)?;
        let kind = FileType::from_raw_mode(mode);
        let is_made = match kind {
            FileType::Directory | FileType::Symlink => false,
            FileType::Unknown => mode & libc::S_IFMT == 0,
            _ => true,
        };
        if !is_made {
            return Ok(Answer::Continue);
        }
        let device = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => Some(device(kind, number)),
            _ => None,
        };
        if let Some(device) = device {
            let place = self.place(call, &caller, dir, &path)?;
            if place.has_slash() || self.is_closed(&place) || place.open()?.is_some() {
                return Ok(Answer::Continue);
            }
            self.may_make(&caller, &place)?;
            // What looks like overlayfs's own deletions is refused there, too (ovl_mknod).
            let is_whiteout = !device.block && device.major == 0 && device.minor == 0;
            if is_whiteout || !caller.credentials.may(CapabilitySet::MKNOD) {
                return Err(Errno::PERM.into());
            }
            return self.make_device(call, &caller, &place, mode, device);
        }
        let Some(place) = self.new_place(call, &caller, dir, &path, false)? else {
            return Ok(Answer::Continue);
        };
        let node = self.node(&caller, &place, mode & 0o7777, false);
        self.prepare(call, &caller)?;
        let kind = match kind {
            // No type means a regular file, mknod(2).
            FileType::Unknown if mode & libc::S_IFMT == 0 => FileType::RegularFile,
            other => other,
        };
        rustix::fs::mknodat(
            &place.dir,
            place.name(),
            kind,
            Mode::from_raw_mode(node.mode),
            0,
        )?;
        let made = place.open()?.ok_or(Errno::NOENT)?;
        self.record_new(&made, node.owner)?;
        DONE
    }

    /// Makes an empty file that stands for a device.
    fn make_device(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        place: &Place,
        mode: u32,
        device: Device,
    ) -> Outcome {
        let node = self.node(caller, place, mode & 0o7777, false);
        self.prepare(call, caller)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(node.mode);
        let made = rustix::fs::openat(&place.dir, place.name(), flags, mode)?;
        let record = Record {
            owner: node.owner,
            device: Some(device),
        };
        record::write(&made, &record)?;
        self.devices = true;
        DONE
    }

    fn symlink(&mut self, call: &Call<'_>, target: usize, dir: i32, path: usize) -> Outcome {
        let caller = self.caller(call)?;
        let target = call.path(target)?;
        let path = call.path(path)?;
        if target.is_empty() {
            return Ok(Answer::Continue);
        }
        let Some(place) = self.new_place(call, &caller, dir, &path, false)? else {
            return Ok(Answer::Continue);
        };
        let node = self.node(&caller, &place, 0o777, false);
        call.still_waits()?;
        rustix::fs::symlinkat(OsStr::from_bytes(&target), &place.dir, place.name())?;
        let made = place.open()?.ok_or(Errno::NOENT)?;
        self.record_new(&made, node.owner)?;
        DONE
    }

    fn link(
        &mut self,
        call: &Call<'_>,
        (from_dir, from): (i32, usize),
        (dir, path): (i32, usize),
        flags: AtFlags,
    ) -> Outcome {
        let known = AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH;
        let caller = self.caller(call)?;
        let handles = flags.contains(AtFlags::EMPTY_PATH);
        let plain = caller.credentials.is_plain_root() && !handles;
        if !known.contains(flags) || plain && self.specials.is_empty() {
            return Ok(Answer::Continue);
        }
        let from = call.path(from)?;
        let path = match call.path(path) {
            Ok(path) => path,
            // What is wrong with the first path comes before that.
            Err(stop) => {
                self.link_source(call, &caller, (from_dir, &from), flags)?;
                return Err(stop);
            }
        };
        let names = ((from_dir, &from[..]), (dir, &path[..]));
        self.link_as(call, &caller, names, flags)
    }

    /// Finds what is to get another name.
    fn link_source(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        (dir, path): (i32, &[u8]),
        flags: AtFlags,
    ) -> Result<Inode, Stop> {
        if means_handle(path, flags) {
            return self.inode_of(self.start(call, dir)?);
        }
        let follow = flags.contains(AtFlags::SYMLINK_FOLLOW);
        self.inode(call, caller, dir, path, follow)
    }

    fn link_as(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        ((from_dir, from), (dir, path)): (Name<'_>, Name<'_>),
        flags: AtFlags,
    ) -> Outcome {
        let source = self.link_source(call, caller, (from_dir, from), flags)?;
        let place = self.place(call, caller, dir, path)?;
        let is_elsewhere = source.facts.id.dev != place.facts.id.dev;
        let is_refused = is_elsewhere || place.has_slash() || self.is_closed(&place);
        if is_refused || place.open()?.is_some() {
            return Ok(Answer::Continue);
        }
        if self.protected.links && !may_link(caller, &source.facts) {
            return Err(Errno::PERM.into());
        }
        self.may_make(caller, &place)?;
        let is_special = source.facts.recorded && !source.facts.carries_record();
        if is_special || means_handle(from, flags) {
            // The link may be a copy of a lower layer's, with an owner to be recorded anew. And what
            // was opened here may be linked by its handle here only: the kernel wants whoever does
            // that to have opened it.
            call.still_waits()?;
            let here = rustix::fs::CWD;
            let name = place.name();
            let flags = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(here, handle_path(&source.fd), &place.dir, name, flags)?;
            if is_special {
                self.record_copied(&source, source.facts.owner)?;
            }
            return DONE;
        }
        Ok(Answer::Continue)
    }

    /// Finds the place for something new; `None` when the kernel's way of making it is right:
    /// what is there is in the way, or the new inode will be root's.
    pub(super) fn new_place(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        dir: i32,
        path: &[u8],
        is_dir: bool,
    ) -> Result<Option<Place>, Stop> {
        if self.is_free(caller) && self.look_for_group(call, dir, path) == Seen::Plain {
            return Ok(None);
        }
        let place = self.place(call, caller, dir, path)?;
        if self.is_closed(&place) || self.is_roots(caller, &place) {
            return Ok(None);
        }
        // Only a directory's name may end in a slash.
        if place.has_slash() && !is_dir || place.open()?.is_some() {
            return Ok(None);
        }
        self.may_make(caller, &place)?;
        Ok(Some(place))
    }

    /// Whether a directory takes nothing, whoever asks: one that was removed, or one of proc.
    pub(super) fn is_closed(&self, place: &Place) -> bool {
        place.facts.links == 0 || Some(place.facts.id.dev) == self.proc_device
    }

    /// Whether what is made in a directory is root's, as it is on disk.
    pub(super) fn is_roots(&self, caller: &Caller, place: &Place) -> bool {
        let inherits = place.facts.mode & libc::S_ISGID != 0 && place.facts.owner.gid != 0;
        caller.credentials.is_plain_root() && !inherits
    }

    /// Checks that a directory's entries may be changed.
    pub(super) fn may_make(&self, caller: &Caller, place: &Place) -> Result<(), Stop> {
        let want = Access::WRITE.and(Access::EXECUTE);
        let facts = &place.facts;
        if caller
            .credentials
            .access(facts.owner, facts.mode, true, want)
        {
            Ok(())
        } else {
            Err(Errno::ACCESS.into())
        }
    }

    /// Whose a new inode is, and its mode before the umask.
    pub(super) fn node(&self, caller: &Caller, place: &Place, mode: u32, is_dir: bool) -> NewNode {
        let facts = &place.facts;
        caller
            .credentials
            .new_node(facts.owner, facts.mode, mode, is_dir)
    }

    /// Makes ready for making something in the caller's place.
    pub(super) fn prepare(&mut self, call: &Call<'_>, caller: &Caller) -> Result<(), Stop> {
        self.use_umask(caller.credentials.umask);
        call.still_waits()
    }

    /// Makes a regular file in a directory for the caller, by `open`, which is given its mode.
    pub(super) fn make_file(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        place: &Place,
        mode: u32,
        open: impl FnOnce(Mode) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Stop> {
        self.may_make(caller, place)?;
        let node = self.node(caller, place, mode, false);
        self.prepare(call, caller)?;
        let made = open(Mode::from_raw_mode(node.mode))?;
        self.record_new(&made, node.owner)?;
        Ok(made)
    }
}

fn device(kind: FileType, number: u32) -> Device {
    // The argument is 32 bits wide: makedev(3) of the kernel's new_encode_dev.
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00);
    Device {
        block: kind == FileType::BlockDevice,
        major,
        minor,
    }
}

/// Whether a hard link may be made where links are protected, proc_sys_fs(5): to one's own, or to
/// what one could change in any case.
fn may_link(caller: &Caller, facts: &Facts) -> bool {
    let credentials = &caller.credentials;
    if credentials.owns(facts.owner) {
        return true;
    }
    let mode = facts.mode;
    let is_set_group_id = mode & 0o2010 == 0o2010;
    let want = Access::READ.and(Access::WRITE);
    facts.device.is_none()
        && facts.kind() == FileType::RegularFile
        && mode & 0o4000 == 0
        && !is_set_group_id
        && credentials.access(facts.owner, mode, false, want)
}
