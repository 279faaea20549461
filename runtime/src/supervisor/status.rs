//! What a file is: stat(2) and its relatives.
//!
//! Responsible for answers about inodes that have a record; the kernel's are right for all others.
//! Must not change anything. Invariant: all of them say the same.

use rustix::fs::AtFlags;

use super::State;
use super::call::{Answer, Call, Caller, DONE, Outcome, Stop};
use super::inode::{Facts, Inode, device_type, read_record};
use super::paths::means_handle;
use super::peek::Seen;
use crate::identity::Device;
use crate::sys::notify;

/// The flags that the kernel knows here; it refuses others before anything else.
const ALLOWED: AtFlags = AtFlags::SYMLINK_NOFOLLOW
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::EMPTY_PATH)
    .union(AtFlags::from_bits_retain(SYNC_TYPE));
const SYNC_TYPE: u32 = libc::AT_STATX_SYNC_TYPE.cast_unsigned();
/// `STATX__RESERVED`.
const RESERVED: u32 = 0x8000_0000;

/// newfstatat(2): directory, path, buffer, flags.
pub(super) fn newfstatat(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(3));
    if !ALLOWED.contains(flags) {
        return Ok(Answer::Continue);
    }
    let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
    state.stat_at(
        call,
        call.int(0),
        1,
        flags,
        follow,
        Buffer::Stat(call.word(2)),
    )
}

/// statx(2): directory, path, flags, mask, buffer.
pub(super) fn statx(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(2));
    let both = call.unsigned(2) & SYNC_TYPE == SYNC_TYPE;
    if !ALLOWED.contains(flags) || both || call.unsigned(3) & RESERVED != 0 {
        return Ok(Answer::Continue);
    }
    let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
    let buffer = Buffer::Statx {
        address: call.word(4),
        flags: call.int(2),
        mask: call.unsigned(3),
    };
    state.stat_at(call, call.int(0), 1, flags, follow, buffer)
}

/// stat(2): path, buffer.
#[cfg(target_arch = "x86_64")]
pub(super) fn stat(state: &mut State, call: &Call<'_>) -> Outcome {
    let buffer = Buffer::Stat(call.word(1));
    state.stat_at(call, libc::AT_FDCWD, 0, AtFlags::empty(), true, buffer)
}

/// lstat(2): path, buffer.
#[cfg(target_arch = "x86_64")]
pub(super) fn lstat(state: &mut State, call: &Call<'_>) -> Outcome {
    let buffer = Buffer::Stat(call.word(1));
    state.stat_at(call, libc::AT_FDCWD, 0, AtFlags::empty(), false, buffer)
}

/// fstat(2): descriptor, buffer.
pub(super) fn fstat(state: &mut State, call: &Call<'_>) -> Outcome {
    state.stat_descriptor(call, call.int(0), Buffer::Stat(call.word(1)))
}

/// Where the answer goes, and in which form.
#[derive(Debug, Clone, Copy)]
enum Buffer {
    Stat(u64),
    Statx { address: u64, flags: i32, mask: u32 },
}

impl State {
    fn stat_at(
        &mut self,
        call: &Call<'_>,
        dir: i32,
        path: usize,
        flags: AtFlags,
        follow: bool,
        buffer: Buffer,
    ) -> Outcome {
        // A null path means the descriptor since Linux 6.11.
        if call.word(path) == 0 && flags.contains(AtFlags::EMPTY_PATH) {
            return self.stat_descriptor(call, dir, buffer);
        }
        let path = call.path(path)?;
        if means_handle(&path, flags) {
            return self.stat_descriptor(call, dir, buffer);
        }
        let caller = self.caller(call)?;
        if self.is_free(&caller) && self.look(call, dir, &path, follow) == Seen::Plain {
            return Ok(Answer::Continue);
        }
        let inode = self.inode(call, &caller, dir, &path, follow)?;
        self.tell(call, &caller, &inode, buffer)
    }

    fn stat_descriptor(&mut self, call: &Call<'_>, number: i32, buffer: Buffer) -> Outcome {
        // The usual file has no record, which one call finds out.
        if number >= 0 && self.specials.is_empty() {
            let path = format!("{}/fd/{number}", call.tid.as_raw_pid());
            match read_record(path.as_ref()) {
                Ok(None) if !self.shows_processes() => return Ok(Answer::Continue),
                Ok(_) | Err(Stop::Broken(_)) => {}
                Err(_) => return Ok(Answer::Continue),
            }
        }
        let fd = self.start(call, number)?;
        let caller = self.caller(call)?;
        let inode = self.inode_of(fd)?;
        self.tell(call, &caller, &inode, buffer)
    }

    /// Whether the status of open directories of proc is answered here.
    fn shows_processes(&self) -> bool {
        !self.table.is_roots()
    }

    /// Answers, where the kernel would not say what is recorded.
    fn tell(&self, call: &Call<'_>, _caller: &Caller, inode: &Inode, buffer: Buffer) -> Outcome {
        let facts = &inode.facts;
        if !facts.recorded {
            return Ok(Answer::Continue);
        }
        match buffer {
            Buffer::Stat(address) => {
                let stat = shown_stat(inode)?;
                call.write(address, notify::bytes_of_stat(&stat))?;
            }
            Buffer::Statx {
                address,
                flags,
                mask,
            } => {
                let statx = shown_statx(inode, flags, mask)?;
                call.write(address, notify::bytes_of_statx(&statx))?;
            }
        }
        DONE
    }
}

fn shown_stat(inode: &Inode) -> rustix::io::Result<libc::stat> {
    use std::os::fd::AsFd;
    let mut stat = notify::stat_fd(inode.fd.as_fd())?;
    let Facts { owner, device, .. } = inode.facts;
    (stat.st_uid, stat.st_gid) = (owner.uid, owner.gid);
    if let Some(device) = device {
        stat.st_mode = inode.facts.shown_mode();
        stat.st_rdev = number(device);
    }
    Ok(stat)
}

fn number(device: Device) -> u64 {
    rustix::fs::makedev(device.major, device.minor)
}

fn shown_statx(inode: &Inode, flags: i32, mask: u32) -> rustix::io::Result<libc::statx> {
    use std::os::fd::AsFd;
    let mut statx = notify::statx_fd(inode.fd.as_fd(), flags & libc::AT_STATX_SYNC_TYPE, mask)?;
    let Facts { owner, device, .. } = inode.facts;
    (statx.stx_uid, statx.stx_gid) = (owner.uid, owner.gid);
    if let Some(device) = device {
        // The upper half of the mode is the type.
        let kind = u16::try_from(device_type(device)).unwrap_or_default();
        statx.stx_mode = kind | statx.stx_mode & 0o7777;
        (statx.stx_rdev_major, statx.stx_rdev_minor) = (device.major, device.minor);
    }
    Ok(statx)
}
