//! Permission bits, times, sizes and directories to be in: what is asked of an inode by its path.
//!
//! Responsible for whether the caller may; what is allowed is done by the kernel, except where it
//! would judge a set-group-id bit by rights that the caller does not have. Must not change owners.
//! Invariant: root with its usual capabilities is not asked at all.

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::State;
use super::call::{Answer, Call, Caller, DONE, Outcome, Stop};
use super::credentials::Access;
use super::inode::{Inode, handle_path};
use super::paths::means_handle;

/// fchmodat2(2): directory, path, mode, flags.
pub(super) fn fchmodat2(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(3));
    if !(AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).contains(flags) {
        return Ok(Answer::Continue);
    }
    state.chmod(call, call.int(0), Some(1), flags, call.unsigned(2))
}

/// fchmodat(2): directory, path, mode.
pub(super) fn fchmodat(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    state.chmod(call, call.int(0), Some(1), none, call.unsigned(2))
}

/// fchmod(2): descriptor, mode.
pub(super) fn fchmod(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    state.chmod(call, call.int(0), None, none, call.unsigned(1))
}

/// chmod(2): path, mode.
#[cfg(target_arch = "x86_64")]
pub(super) fn chmod(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    state.chmod(call, libc::AT_FDCWD, Some(0), none, call.unsigned(1))
}

/// faccessat2(2): directory, path, mode, flags.
pub(super) fn faccessat2(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(3));
    if !(AtFlags::EACCESS | AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).contains(flags) {
        return Ok(Answer::Continue);
    }
    state.access(call, call.int(0), 1, call.unsigned(2), flags)
}

/// faccessat(2): directory, path, mode.
pub(super) fn faccessat(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    state.access(call, call.int(0), 1, call.unsigned(2), none)
}

/// access(2): path, mode.
#[cfg(target_arch = "x86_64")]
pub(super) fn access(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    state.access(call, libc::AT_FDCWD, 0, call.unsigned(1), none)
}

/// utimensat(2): directory, path, two times, flags.
pub(super) fn utimensat(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(3));
    if !(AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).contains(flags) {
        return Ok(Answer::Continue);
    }
    let times = Times::of_timespecs(call, 2)?;
    let path = (call.word(1) != 0).then_some(1);
    if path.is_none() && !flags.is_empty() {
        return Ok(Answer::Continue);
    }
    state.set_times(call, call.int(0), path, flags, times)
}

/// utime(2), utimes(2): path, times.
#[cfg(target_arch = "x86_64")]
pub(super) fn utimes(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    let times = Times::of_pointer(call, 1);
    state.set_times(call, libc::AT_FDCWD, Some(0), none, times)
}

/// futimesat(2): directory, path, times.
#[cfg(target_arch = "x86_64")]
pub(super) fn futimesat(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = AtFlags::empty();
    let times = Times::of_pointer(call, 2);
    let path = (call.word(1) != 0).then_some(1);
    state.set_times(call, call.int(0), path, none, times)
}

/// truncate(2): path, length.
pub(super) fn truncate(state: &mut State, call: &Call<'_>) -> Outcome {
    let caller = state.caller(call)?;
    let plain = caller.credentials.is_plain_root() && !state.devices;
    if plain || call.word(1).cast_signed() < 0 {
        return Ok(Answer::Continue);
    }
    let path = call.path(0)?;
    let inode = state.inode(call, &caller, libc::AT_FDCWD, &path, true)?;
    if inode.facts.kind() != FileType::RegularFile {
        return Ok(Answer::Continue);
    }
    if inode.facts.device.is_some() {
        return Err(Errno::INVAL.into());
    }
    let judged = state.judge(&caller, &inode, Access::WRITE)?;
    state.clear_set_gid(call, &caller, &inode)?;
    Ok(judged)
}

/// chdir(2): path.
pub(super) fn chdir(state: &mut State, call: &Call<'_>) -> Outcome {
    let caller = state.caller(call)?;
    if caller.credentials.is_plain_root() {
        return Ok(Answer::Continue);
    }
    let path = call.path(0)?;
    let inode = state.inode(call, &caller, libc::AT_FDCWD, &path, true)?;
    state.judge_entering(&caller, &inode)
}

/// fchdir(2): descriptor.
pub(super) fn fchdir(state: &mut State, call: &Call<'_>) -> Outcome {
    let caller = state.caller(call)?;
    if caller.credentials.is_plain_root() {
        return Ok(Answer::Continue);
    }
    let inode = state.inode_of(call.open_fd(call.int(0))?)?;
    state.judge_entering(&caller, &inode)
}

/// chroot(2): path.
pub(super) fn chroot(state: &mut State, call: &Call<'_>) -> Outcome {
    let caller = state.caller(call)?;
    let path = call.path(0)?;
    let inode = state.inode(call, &caller, libc::AT_FDCWD, &path, true)?;
    if !inode.facts.is_dir() {
        return Ok(Answer::Continue);
    }
    state.judge_entering(&caller, &inode)?;
    if !caller.credentials.may(CapabilitySet::SYS_CHROOT) {
        return Err(Errno::PERM.into());
    }
    state.chrooted = true;
    Ok(Answer::Continue)
}

/// readlink(2): path, buffer, size.
#[cfg(target_arch = "x86_64")]
pub(super) fn readlink(state: &mut State, call: &Call<'_>) -> Outcome {
    if call.int(2) <= 0 {
        return Ok(Answer::Continue);
    }
    state.reach(call, libc::AT_FDCWD, 0, false)
}

/// statfs(2): path.
pub(super) fn statfs(state: &mut State, call: &Call<'_>) -> Outcome {
    state.reach(call, libc::AT_FDCWD, 0, true)
}

/// readlinkat(2): directory, path, buffer, size.
pub(super) fn readlinkat(state: &mut State, call: &Call<'_>) -> Outcome {
    if call.int(3) <= 0 {
        return Ok(Answer::Continue);
    }
    state.reach(call, call.int(0), 1, false)
}

/// name_to_handle_at(2): directory, path.
pub(super) fn reach_at(state: &mut State, call: &Call<'_>) -> Outcome {
    state.reach(call, call.int(0), 1, false)
}

/// inotify_add_watch(2): descriptor, path.
pub(super) fn watch(state: &mut State, call: &Call<'_>) -> Outcome {
    let caller = state.caller(call)?;
    state.needs(call, &caller, (libc::AT_FDCWD, 1), true, Access::READ)
}

/// How times are to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// Both to now, which who may write may do.
    Now,
    /// Neither.
    Kept,
    /// To something that only an owner may choose.
    Chosen,
    /// To something that is no time, which the kernel says once it knows of what.
    Invalid,
}

impl Times {
    fn of_pointer(call: &Call<'_>, argument: usize) -> Self {
        if call.word(argument) == 0 {
            Self::Now
        } else {
            Self::Chosen
        }
    }

    fn of_timespecs(call: &Call<'_>, argument: usize) -> Result<Self, Stop> {
        let address = call.word(argument);
        if address == 0 {
            return Ok(Self::Now);
        }
        // Two of seconds and nanoseconds.
        let mut times = [0; 32];
        call.read(address, &mut times)?;
        let nanoseconds = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&times[at..at + 8]);
            i64::from_ne_bytes(bytes)
        };
        let both = |value| nanoseconds(8) == value && nanoseconds(24) == value;
        let is_valid = |value| {
            (0..1_000_000_000).contains(&value)
                || value == libc::UTIME_NOW
                || value == libc::UTIME_OMIT
        };
        if !is_valid(nanoseconds(8)) || !is_valid(nanoseconds(24)) {
            return Ok(Self::Invalid);
        }
        Ok(if both(libc::UTIME_NOW) {
            Self::Now
        } else if both(libc::UTIME_OMIT) {
            Self::Kept
        } else {
            Self::Chosen
        })
    }
}

impl State {
    /// Checks the way to a path only.
    fn reach(&mut self, call: &Call<'_>, dir: i32, path: usize, follow: bool) -> Outcome {
        let caller = self.caller(call)?;
        if !caller.credentials.is_plain_root() {
            let path = call.path(path)?;
            self.handle(call, &caller, dir, &path, follow)?;
        }
        Ok(Answer::Continue)
    }

    /// Checks a permission that the kernel would grant.
    fn needs(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        (dir, path): (i32, usize),
        follow: bool,
        want: Access,
    ) -> Outcome {
        if caller.credentials.is_plain_root() {
            return Ok(Answer::Continue);
        }
        let path = call.path(path)?;
        let inode = self.inode(call, caller, dir, &path, follow)?;
        self.judge(caller, &inode, want)
    }

    /// Lets the kernel go on if the caller has a permission.
    pub(super) fn judge(&self, caller: &Caller, inode: &Inode, want: Access) -> Outcome {
        let facts = &inode.facts;
        let is_dir = facts.is_dir();
        let is_link = facts.kind() == FileType::Symlink;
        let granted = Some(facts.id.dev) == self.proc_device && !is_link
            || caller
                .credentials
                .access(facts.owner, facts.mode, is_dir, want);
        if granted {
            Ok(Answer::Continue)
        } else {
            Err(Errno::ACCESS.into())
        }
    }

    /// Judges becoming a directory's inhabitant; that it is one comes first.
    fn judge_entering(&self, caller: &Caller, inode: &Inode) -> Outcome {
        if inode.facts.is_dir() {
            self.judge(caller, inode, Access::EXECUTE)
        } else {
            Ok(Answer::Continue)
        }
    }

    /// Resolves a path, or takes the descriptor where there is none.
    fn target(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        dir: i32,
        path: Option<usize>,
        flags: AtFlags,
    ) -> Result<Inode, Stop> {
        let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
        let Some(path) = path else {
            return self.inode_of(call.open_file(dir)?);
        };
        let path = call.path(path)?;
        if means_handle(&path, flags) {
            return self.inode_of(self.start(call, dir)?);
        }
        self.inode(call, caller, dir, &path, follow)
    }

    fn chmod(
        &mut self,
        call: &Call<'_>,
        dir: i32,
        path: Option<usize>,
        flags: AtFlags,
        mode: u32,
    ) -> Outcome {
        let caller = self.caller(call)?;
        if caller.credentials.is_plain_root() {
            return Ok(Answer::Continue);
        }
        let inode = self.target(call, &caller, dir, path, flags)?;
        let is_link = inode.facts.kind() == FileType::Symlink;
        if is_link || Some(inode.facts.id.dev) == self.proc_device {
            return Ok(Answer::Continue);
        }
        let owner = inode.facts.owner;
        if !caller.credentials.owns(owner) {
            return Err(Errno::PERM.into());
        }
        let mode = mode & 0o7777;
        let given = caller.credentials.mode_of_chmod(owner, mode);
        if given == mode {
            return Ok(Answer::Continue);
        }
        call.still_waits()?;
        rustix::fs::chmod(handle_path(&inode.fd), Mode::from_raw_mode(given))?;
        DONE
    }

    fn access(
        &mut self,
        call: &Call<'_>,
        dir: i32,
        path: usize,
        mode: u32,
        flags: AtFlags,
    ) -> Outcome {
        let mut caller = self.caller(call)?;
        if !flags.contains(AtFlags::EACCESS) {
            caller.credentials = caller.credentials.with_real_ids().into();
        }
        if caller.credentials.is_plain_root() {
            return Ok(Answer::Continue);
        }
        let Some(want) = Access::from_bits(mode) else {
            return Ok(Answer::Continue);
        };
        let inode = self.target(call, &caller, dir, Some(path), flags)?;
        self.judge(&caller, &inode, want)
    }

    fn set_times(
        &mut self,
        call: &Call<'_>,
        dir: i32,
        path: Option<usize>,
        flags: AtFlags,
        times: Times,
    ) -> Outcome {
        let caller = self.caller(call)?;
        let free = self.specials.is_empty();
        if caller.credentials.is_plain_root() && free || times == Times::Kept {
            return Ok(Answer::Continue);
        }
        let inode = self.target(call, &caller, dir, path, flags)?;
        if times == Times::Invalid {
            return Ok(Answer::Continue);
        }
        let owner = inode.facts.owner;
        if !caller.credentials.owns(owner) {
            if times == Times::Chosen {
                return Err(Errno::PERM.into());
            }
            self.judge(&caller, &inode, Access::WRITE)?;
        }
        if inode.facts.recorded && !inode.facts.carries_record() && !free {
            // What carries no record may be copied up by this: it is to be known by its new number.
            self.touch(call, &inode)?;
            self.record_copied(&inode, owner)?;
        }
        Ok(Answer::Continue)
    }
}
