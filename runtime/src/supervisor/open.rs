//! open(2) and its relatives.
//!
//! Responsible for permission to open what is there, for files that are made by opening, and for
//! placeholders of devices. Must not wait: what exists is opened by the kernel for the caller.
//! Invariant: a handle that is given to a caller is of a new file, of one of the container's own
//! devices, or of a text that was made for it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::call::{Answer, Call, Caller, Outcome, PATH_MAX, Stop};
use super::credentials::Access;
use super::inode::{Inode, handle_path};
use super::paths::{Base, Place};
use super::peek::Seen;
use super::{State, proc};
use crate::identity::Device;

/// How a file is to be opened.
#[derive(Debug, Clone, Copy)]
struct How {
    flags: OFlags,
    mode: u32,
    resolve: ResolveFlags,
}

/// openat(2): directory, path, flags, mode.
pub(super) fn openat(state: &mut State, call: &Call<'_>) -> Outcome {
    let how = How {
        flags: OFlags::from_bits_retain(call.unsigned(2)),
        mode: call.unsigned(3),
        resolve: ResolveFlags::empty(),
    };
    state.open(call, call.int(0), 1, how)
}

/// openat2(2): directory, path, how, size.
pub(super) fn openat2(state: &mut State, call: &Call<'_>) -> Outcome {
    // struct open_how: three words, which may grow.
    let mut words = [0; 24];
    let Some(more) = call.word(3).checked_sub(24) else {
        return Ok(Answer::Continue);
    };
    call.read(call.word(2), &mut words)?;
    if more > 0 {
        // What this kernel may not know must be zero.
        let more = usize::try_from(more).map_err(|_| Stop::Kernel)?;
        let mut rest = vec![0; more.min(PATH_MAX)];
        call.read(call.word(2).wrapping_add(24), &mut rest)?;
        if more > rest.len() || rest.iter().any(|byte| *byte != 0) {
            return Ok(Answer::Continue);
        }
    }
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&words[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    // What does not fit in the lower half is refused by the kernel.
    let low = |at| u32::try_from(word(at)).map_err(|_| Stop::Kernel);
    let how = How {
        flags: OFlags::from_bits_retain(low(0)?),
        mode: low(8)?,
        resolve: ResolveFlags::from_bits_retain(word(16)),
    };
    if how.is_refused() {
        return Ok(Answer::Continue);
    }
    state.open(call, call.int(0), 1, how)
}

/// open(2): path, flags, mode.
#[cfg(target_arch = "x86_64")]
pub(super) fn open(state: &mut State, call: &Call<'_>) -> Outcome {
    let how = How {
        flags: OFlags::from_bits_retain(call.unsigned(1)),
        mode: call.unsigned(2),
        resolve: ResolveFlags::empty(),
    };
    state.open(call, libc::AT_FDCWD, 0, how)
}

/// creat(2): path, mode.
#[cfg(target_arch = "x86_64")]
pub(super) fn creat(state: &mut State, call: &Call<'_>) -> Outcome {
    let how = How {
        flags: OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC,
        mode: call.unsigned(1),
        resolve: ResolveFlags::empty(),
    };
    state.open(call, libc::AT_FDCWD, 0, how)
}

/// How often a new file's place is looked for again: through links that lead nowhere, or because
/// somebody else was quicker.
const ATTEMPTS: usize = 40;

impl State {
    fn open(&mut self, call: &Call<'_>, dir: i32, path: usize, how: How) -> Outcome {
        if how.is_malformed() {
            return Ok(Answer::Continue);
        }
        let caller = Caller {
            resolve: how.resolve,
            ..self.caller(call)?
        };
        let plain = self.is_free(&caller);
        let makes = how.flags.contains(OFlags::CREATE) && !how.flags.contains(OFlags::PATH);
        let unnamed = how.flags.contains(OFlags::TMPFILE) && !how.flags.contains(OFlags::PATH);
        let uses = plain && !makes && !unnamed && !self.devices;
        let path = call.path(path)?;
        if uses && !proc::may_show(&path) {
            return Ok(Answer::Continue);
        }
        if unnamed {
            return self.open_unnamed(call, &caller, dir, &path, how);
        }
        if makes {
            let look = plain && !self.devices && how.resolve.is_empty();
            if look && self.look_before_open(call, dir, &path) == Seen::Plain {
                return Ok(Answer::Continue);
            }
            return self.open_or_make(call, &caller, dir, path, how);
        }
        let follow = !how.flags.contains(OFlags::NOFOLLOW)
            && !how.resolve.contains(ResolveFlags::NO_SYMLINKS);
        let inode = self.inode(call, &caller, dir, &path, follow)?;
        self.open_there(call, &caller, &inode, how)
    }

    /// Judges the opening, with `O_CREAT`, of what is there already: others' files in directories
    /// that everybody may write to are protected, proc_sys_fs(5).
    fn open_found(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        (place, there): (&Place, &Inode),
        how: How,
    ) -> Outcome {
        let (dir, facts) = (&place.facts, &there.facts);
        let kind = FileType::from_raw_mode(facts.shown_mode());
        // Other kinds are protected always, but not from groups.
        let level = match kind {
            FileType::RegularFile => self.protected.regular,
            FileType::Fifo => self.protected.fifos,
            FileType::Directory => 0,
            _ => 1,
        };
        let is_others =
            facts.owner.uid != dir.owner.uid && facts.owner.uid != caller.credentials.fsuid;
        let is_open = dir.mode & 0o002 != 0 || level >= 2 && dir.mode & 0o020 != 0;
        if level > 0 && is_others && dir.mode & libc::S_ISVTX != 0 && is_open {
            return Err(Errno::ACCESS.into());
        }
        self.open_there(call, caller, there, how)
    }

    /// Judges the opening of what is there.
    fn open_there(&mut self, call: &Call<'_>, caller: &Caller, inode: &Inode, how: How) -> Outcome {
        let facts = &inode.facts;
        if how.flags.contains(OFlags::PATH) {
            return Ok(Answer::Continue);
        }
        if facts.kind() == FileType::Symlink {
            return Ok(Answer::Continue);
        }
        // What something is comes before who may open it.
        let makes = how.flags.contains(OFlags::CREATE);
        let want = how.wanted();
        let for_files = makes || want.has(Access::WRITE);
        if how.flags.contains(OFlags::DIRECTORY) && !facts.is_dir() || facts.is_dir() && for_files {
            return Ok(Answer::Continue);
        }
        let credentials = &caller.credentials;
        let in_proc = Some(facts.id.dev) == self.proc_device;
        let granted = credentials.access(facts.owner, facts.mode, facts.is_dir(), want)
            || in_proc && self.is_own_descriptors(call, &inode.fd);
        if !granted {
            return Err(Errno::ACCESS.into());
        }
        let chooses_times = how.flags.contains(OFlags::NOATIME) && facts.device.is_none();
        if chooses_times && !credentials.owns(facts.owner) {
            return Err(Errno::PERM.into());
        }
        if Some(facts.id.dev) == self.proc_device
            && want == Access::READ
            && let Some(fd) = self.shown_text(&inode.fd)?
        {
            return Ok(Answer::Descriptor {
                fd,
                close_on_exec: how.flags.contains(OFlags::CLOEXEC),
            });
        }
        if how.flags.contains(OFlags::TRUNC) && facts.device.is_none() {
            self.clear_set_gid(call, caller, inode)?;
        }
        match facts.device {
            Some(device) => open_device(device, how.flags),
            None => Ok(Answer::Continue),
        }
    }

    fn open_or_make(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        dir: i32,
        mut path: Vec<u8>,
        how: How,
    ) -> Outcome {
        let exclusive = how.flags.contains(OFlags::EXCL);
        let mut base: Option<OwnedFd> = None;
        for _ in 0..ATTEMPTS {
            let from = base.as_ref().map_or(Base::Number(dir), Base::Handle);
            let place = self.place(call, caller, from, &path)?;
            if place.has_slash() || self.is_closed(&place) && place.open()?.is_none() {
                return Ok(Answer::Continue);
            }
            let Some(there) = place.open()? else {
                if self.is_roots(caller, &place) {
                    return Ok(Answer::Continue);
                }
                let flags = how.flags | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let made = if how.resolve.is_empty() {
                    self.make_file(call, caller, &place, how.mode, |mode| {
                        let flags = flags | OFlags::NOFOLLOW;
                        rustix::fs::openat(&place.dir, place.name(), flags, mode)
                    })
                } else {
                    // The path once more, by the rules that were asked for.
                    let start = self.from(call, from)?;
                    self.make_file(call, caller, &place, how.mode, |mode| {
                        make_by(&start, &path, flags, mode, how.resolve)
                    })
                };
                return match made {
                    Err(Stop::Errno(Errno::EXIST)) if !exclusive => continue,
                    made => Ok(Answer::Descriptor {
                        fd: made?,
                        close_on_exec: how.flags.contains(OFlags::CLOEXEC),
                    }),
                };
            };
            if exclusive {
                return Err(Errno::EXIST.into());
            }
            let there = self.inode_of(there)?;
            if there.facts.kind() != FileType::Symlink || how.flags.contains(OFlags::NOFOLLOW) {
                return self.open_found(call, caller, (&place, &there), how);
            }
            if how.resolve.contains(ResolveFlags::NO_SYMLINKS) {
                return Ok(Answer::Continue);
            }
            if Some(there.facts.id.dev) == self.proc_device {
                let there = self.inode(call, caller, from, &path, true)?;
                return self.open_there(call, caller, &there, how);
            }
            // Made is what the link leads to.
            path = rustix::fs::readlinkat(&there.fd, "", Vec::new())?.into_bytes();
            base = Some(place.dir);
        }
        Ok(Answer::Continue)
    }

    fn open_unnamed(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        dir: i32,
        path: &[u8],
        how: How,
    ) -> Outcome {
        let follow = !how.flags.contains(OFlags::NOFOLLOW);
        let inode = self.inode(call, caller, dir, path, follow)?;
        if !inode.facts.is_dir() {
            return Ok(Answer::Continue);
        }
        let place = Place {
            dir: inode.fd,
            facts: inode.facts,
            name: Vec::new(),
        };
        if self.is_roots(caller, &place) {
            return Ok(Answer::Continue);
        }
        let flags = how.flags & !OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make_file(call, caller, &place, how.mode, |mode| {
            rustix::fs::openat(rustix::fs::CWD, handle_path(&place.dir), flags, mode)
        })?;
        Ok(Answer::Descriptor {
            fd,
            close_on_exec: how.flags.contains(OFlags::CLOEXEC),
        })
    }
}

impl How {
    /// What an opening needs to be allowed.
    fn wanted(&self) -> Access {
        let access = match self.access() {
            0 => Access::READ,
            1 => Access::WRITE,
            _ => Access::READ.and(Access::WRITE),
        };
        if self.flags.contains(OFlags::TRUNC) {
            access.and(Access::WRITE)
        } else {
            access
        }
    }

    fn access(&self) -> u32 {
        self.flags.bits() & libc::O_ACCMODE.cast_unsigned()
    }

    /// Whether openat2(2) refuses what open(2) passes over.
    fn is_refused(&self) -> bool {
        let handle = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let unnamed = OFlags::TMPFILE & !OFlags::DIRECTORY;
        let makes = self.flags.intersects(OFlags::CREATE | unnamed);
        let tree = ResolveFlags::BENEATH | ResolveFlags::IN_ROOT;
        self.flags.contains(OFlags::PATH) && !handle.contains(self.flags)
            || self.mode & !0o7777 != 0
            || !makes && self.mode != 0
            || self.resolve.contains(tree)
            || !ResolveFlags::all().contains(self.resolve)
    }

    /// Whether the flags contradict each other, which comes before everything else.
    fn is_malformed(&self) -> bool {
        let flags = self.flags;
        if flags.contains(OFlags::PATH) {
            return false;
        }
        let unnamed = OFlags::TMPFILE & !OFlags::DIRECTORY;
        if flags.contains(unnamed) {
            return !flags.contains(OFlags::DIRECTORY)
                || flags.contains(OFlags::CREATE)
                || self.access() == 0;
        }
        flags.contains(OFlags::CREATE | OFlags::DIRECTORY)
    }
}

/// Makes a file where a path leads by openat2(2)'s rules.
fn make_by(
    start: &OwnedFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = OsStr::from_bytes(path);
    let mut attempts = 0..ATTEMPTS;
    loop {
        match rustix::fs::openat2(start, path, flags, mode, resolve) {
            // Something was renamed meanwhile, anywhere.
            Err(Errno::AGAIN) if attempts.next().is_some() => {}
            other => return other,
        }
    }
}

/// Opens what a placeholder stands for, if it is one of the devices that a container has.
fn open_device(device: Device, flags: OFlags) -> Outcome {
    let name = match (device.block, device.major, device.minor) {
        (false, 1, 3) => "/dev/null",
        (false, 1, 5) => "/dev/zero",
        (false, 1, 7) => "/dev/full",
        (false, 1, 8) => "/dev/random",
        (false, 1, 9) => "/dev/urandom",
        // The caller's terminal is not the supervisor's; others are not in the container, whose
        // mounts are `nodev` with every identity.
        _ => return Err(Errno::ACCESS.into()),
    };
    let flags = flags & !(OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW) | OFlags::NOCTTY;
    let resolve = ResolveFlags::NO_SYMLINKS;
    let opened = rustix::fs::openat2(
        rustix::fs::CWD,
        name,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?;
    let stat = rustix::fs::fstat(&opened)?;
    let number = rustix::fs::makedev(device.major, device.minor);
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != number
    {
        return Err(Errno::NXIO.into());
    }
    Ok(Answer::Descriptor {
        fd: opened,
        close_on_exec: flags.contains(OFlags::CLOEXEC),
    })
}
