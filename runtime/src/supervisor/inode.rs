//! What an inode is in the container: its recorded owner, or the device it stands for.
//!
//! Responsible for reading and writing owners, wherever they are kept. Must not resolve paths.
//! Invariant: owners are said in the container's ids; what has no record belongs to root.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Statx, StatxFlags, Uid};
use rustix::io::Errno;

use super::State;
use super::call::{Call, Caller, Stop};
use crate::identity::record::{self, Unreadable};
use crate::identity::specials;
use crate::identity::{Device, Owner, Record};

/// An inode by a handle that can't read or write.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) fd: OwnedFd,
    pub(super) facts: Facts,
}

/// What matters of an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) id: specials::Inode,
    /// Type and permissions as on disk.
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) owner: Owner,
    /// What a placeholder stands for.
    pub(super) device: Option<Device>,
    /// Whether a record says what the disk does not.
    pub(super) recorded: bool,
}

impl Facts {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether its owner is recorded on the inode itself, and copied up with it.
    pub(super) fn carries_record(&self) -> bool {
        can_carry(self.kind())
    }

    /// What the inode's mode looks like in the container.
    pub(super) fn shown_mode(&self) -> u32 {
        match self.device {
            None => self.mode,
            Some(device) => device_type(device) | self.mode & 0o7777,
        }
    }
}

/// The type bits of a device.
pub(super) fn device_type(device: Device) -> u32 {
    if device.block {
        libc::S_IFBLK
    } else {
        libc::S_IFCHR
    }
}

/// How many links, fifos and devices of lower layers that were copied up are kept in memory. The
/// kernel does so, too, as long as it has room.
const MAX_PINNED: usize = 256;

/// What is asked of every inode.
const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// A path to a handle of this process, for calls that take no handles. The working directory is a
/// proc of its pid namespace.
pub(super) fn handle_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("self/fd/{}", fd.as_raw_fd()))
}

impl State {
    /// Reads what matters of an inode.
    pub(super) fn facts(&self, fd: &OwnedFd) -> Result<Facts, Stop> {
        self.facts_of(fd, &Self::status(fd)?)
    }

    /// Reads an inode's status.
    pub(super) fn status(fd: &OwnedFd) -> Result<Statx, Stop> {
        Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, WANTED)?)
    }

    /// As [`State::facts`], where the status is known.
    pub(super) fn facts_of(&self, fd: &OwnedFd, stat: &Statx) -> Result<Facts, Stop> {
        let id = specials::Inode::of(stat);
        let mut facts = Facts {
            id,
            mode: stat.stx_mode.into(),
            links: stat.stx_nlink,
            owner: Owner::ROOT,
            device: None,
            recorded: false,
        };
        if Some(id.dev) == self.proc_device {
            facts.owner = self.process_owner(fd, facts.mode);
            facts.recorded = facts.owner != Owner::ROOT;
            return Ok(facts);
        }
        if self.nameless.contains(&id.dev) {
            // In no directory: whoever asks has made it or was given it.
            facts.owner = self.asking.get();
            facts.recorded = facts.owner != Owner::ROOT;
            return Ok(facts);
        }
        if Some(id.dev) == self.terminals && facts.kind() == FileType::CharacterDevice {
            // Of the one who opened its other end, which is not told.
            facts.owner.uid = self.asking.get().uid;
            facts.recorded = facts.owner.uid != 0;
            return Ok(facts);
        }
        let record = if can_carry(facts.kind()) {
            read_record(&handle_path(fd))?
        } else {
            None
        };
        if let Some(record) = record {
            (facts.owner, facts.device, facts.recorded) = (record.owner, record.device, true);
        } else if let Some(owner) = self.special(id) {
            (facts.owner, facts.recorded) = (owner, true);
        }
        Ok(facts)
    }

    fn special(&self, id: specials::Inode) -> Option<Owner> {
        if self.specials.is_empty() {
            return None;
        }
        self.specials.get(id)
    }

    /// Takes a handle's inode.
    pub(super) fn inode_of(&self, fd: OwnedFd) -> Result<Inode, Stop> {
        let facts = self.facts(&fd)?;
        Ok(Inode { fd, facts })
    }

    /// Records an inode's owner; its device stays.
    pub(super) fn record_owner(&mut self, inode: &Inode, owner: Owner) -> Result<(), Stop> {
        self.record(&inode.fd, inode.facts, owner)
    }

    /// Records the owner of an inode that may have been copied up since its facts were read: what
    /// carries no record is another inode then.
    pub(super) fn record_copied(&mut self, inode: &Inode, owner: Owner) -> Result<(), Stop> {
        if can_carry(inode.facts.kind()) {
            return self.record(&inode.fd, inode.facts, owner);
        }
        let facts = self.facts(&inode.fd)?;
        if facts.id == inode.facts.id {
            return self.record(&inode.fd, facts, owner);
        }
        if self.pinned < MAX_PINNED {
            // Its number is its old one for as long as it is in memory.
            self.pinned += 1;
            let handle = rustix::io::fcntl_dupfd_cloexec(&inode.fd, 0)?;
            self.specials.pin(handle);
        }
        let set = self.specials.set_copied(facts.id, owner);
        set.map_err(|full| Stop::Broken(full.to_string()))
    }

    /// Records the owner of an inode that was just made.
    pub(super) fn record_new(&mut self, fd: &OwnedFd, owner: Owner) -> Result<(), Stop> {
        if owner == Owner::ROOT && self.specials.is_empty() {
            return Ok(());
        }
        let facts = self.facts(fd)?;
        if facts.owner == owner {
            return Ok(());
        }
        self.record(fd, facts, owner)
    }

    fn record(&mut self, fd: &OwnedFd, facts: Facts, owner: Owner) -> Result<(), Stop> {
        if can_carry(facts.kind()) {
            let record = Record {
                owner,
                device: facts.device,
            };
            match record::write_path(&handle_path(fd), &record) {
                // Such as a tmpfs before Linux 6.6.
                Err(Errno::OPNOTSUPP) => {}
                other => return Ok(other?),
            }
        }
        if owner == Owner::ROOT {
            self.specials.remove(facts.id);
            return Ok(());
        }
        let set = self.specials.set(facts.id, owner);
        set.map_err(|full| Stop::Broken(full.to_string()))
    }

    /// Does to an inode what a change of owner does to all but the owner: permission bits and
    /// capabilities are taken away, times are set, a lower layer's file is copied up.
    pub(super) fn touch_owner(
        &self,
        call: &Call<'_>,
        inode: &Inode,
        user: bool,
        group: bool,
    ) -> Result<(), Stop> {
        call.still_waits()?;
        rustix::fs::chownat(
            &inode.fd,
            "",
            user.then_some(Uid::ROOT),
            group.then_some(Gid::ROOT),
            AtFlags::EMPTY_PATH,
        )?;
        Ok(())
    }

    /// Has an inode that carries no record copied up, with the bits and all that it has.
    pub(super) fn touch(&self, call: &Call<'_>, inode: &Inode) -> Result<(), Stop> {
        if inode.facts.kind() == FileType::Symlink {
            return self.touch_owner(call, inode, true, true);
        }
        call.still_waits()?;
        let mode = Mode::from_raw_mode(inode.facts.mode & 0o7777);
        rustix::fs::chmod(handle_path(&inode.fd), mode)?;
        Ok(())
    }

    /// Takes a set-group-id bit away that the kernel would take from the caller's real counterpart
    /// before it writes: one without execution by the group, of a group that is not the caller's.
    pub(super) fn clear_set_gid(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        inode: &Inode,
    ) -> Result<(), Stop> {
        let facts = &inode.facts;
        let mode = facts.mode & 0o7777;
        let left = caller.credentials.mode_after_write(facts.owner, mode);
        if facts.kind() == FileType::RegularFile && left != mode {
            call.still_waits()?;
            rustix::fs::chmod(handle_path(&inode.fd), Mode::from_raw_mode(left))?;
        }
        Ok(())
    }

    /// Sets this thread's umask to the caller's.
    pub(super) fn use_umask(&mut self, umask: u32) {
        if self.umask != Some(umask) {
            rustix::process::umask(Mode::from_raw_mode(umask));
            self.umask = Some(umask);
        }
    }
}

/// Whether an inode of this type can have `user.` attributes, xattr(7).
fn can_carry(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

/// Reads the record of what `path` leads to.
pub(super) fn read_record(path: &Path) -> Result<Option<Record>, Stop> {
    match record::read_path(path) {
        Ok(record) => Ok(record),
        Err(Unreadable::Malformed) => Err(Stop::Broken(Unreadable::Malformed.to_string())),
        Err(Unreadable::System(errno)) => Err(errno.into()),
    }
}
