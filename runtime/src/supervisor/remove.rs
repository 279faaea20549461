//! Names that go away or change: unlink(2), rmdir(2), rename(2).
//!
//! Responsible for permission, and for owners of what carries no record when its inode goes or is
//! copied up. Must not make anything new. Invariant: an owner in the table is that of a living inode.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::State;
use super::call::{Answer, Call, Caller, DONE, Outcome, Stop};
use super::credentials::Access;
use super::inode::Inode;
use super::paths::{Place, is_nameless};

/// unlinkat(2): directory, path, flags.
pub(super) fn unlinkat(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(2));
    state.unlink(call, call.int(0), 1, flags)
}

/// unlink(2): path.
#[cfg(target_arch = "x86_64")]
pub(super) fn unlink(state: &mut State, call: &Call<'_>) -> Outcome {
    state.unlink(call, libc::AT_FDCWD, 0, AtFlags::empty())
}

/// rmdir(2): path.
#[cfg(target_arch = "x86_64")]
pub(super) fn rmdir(state: &mut State, call: &Call<'_>) -> Outcome {
    state.unlink(call, libc::AT_FDCWD, 0, AtFlags::REMOVEDIR)
}

/// renameat2(2): directory, path, directory, path, flags.
pub(super) fn renameat2(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = RenameFlags::from_bits_retain(call.unsigned(4));
    state.rename(call, (call.int(0), 1), (call.int(2), 3), flags)
}

/// renameat(2): directory, path, directory, path.
pub(super) fn renameat(state: &mut State, call: &Call<'_>) -> Outcome {
    let none = RenameFlags::empty();
    state.rename(call, (call.int(0), 1), (call.int(2), 3), none)
}

/// rename(2): path, path.
#[cfg(target_arch = "x86_64")]
pub(super) fn rename(state: &mut State, call: &Call<'_>) -> Outcome {
    let here = libc::AT_FDCWD;
    state.rename(call, (here, 0), (here, 1), RenameFlags::empty())
}

/// Whether flags of renameat2(2) go together.
fn is_valid(flags: RenameFlags) -> bool {
    let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE | RenameFlags::WHITEOUT;
    let alone = RenameFlags::NOREPLACE | RenameFlags::WHITEOUT;
    known.contains(flags) && !(flags.contains(RenameFlags::EXCHANGE) && flags.intersects(alone))
}

/// A path and where it starts.
pub(super) type Name<'p> = (i32, &'p [u8]);

impl State {
    fn unlink(&mut self, call: &Call<'_>, dir: i32, path: usize, flags: AtFlags) -> Outcome {
        let caller = self.caller(call)?;
        let known = AtFlags::REMOVEDIR.contains(flags);
        if caller.credentials.is_plain_root() && self.specials.is_empty() || !known {
            return Ok(Answer::Continue);
        }
        let path = call.path(path)?;
        let place = self.place(call, &caller, dir, &path)?;
        let Some(there) = self.there(&place)? else {
            return Ok(Answer::Continue);
        };
        let is_dir_wanted = flags.contains(AtFlags::REMOVEDIR);
        if place.has_slash() && !is_dir_wanted {
            return Ok(Answer::Continue);
        }
        let in_proc = Some(place.facts.id.dev) == self.proc_device;
        if in_proc && self.is_own_descriptors(call, &place.dir) {
            return Ok(Answer::Continue);
        }
        self.may_remove(&caller, &place, &there)?;
        if !self.is_special(&there) {
            return Ok(Answer::Continue);
        }
        call.still_waits()?;
        rustix::fs::unlinkat(&place.dir, place.name(), flags)?;
        self.forget(&there);
        DONE
    }

    fn rename(
        &mut self,
        call: &Call<'_>,
        (from_dir, from): (i32, usize),
        (to_dir, to): (i32, usize),
        flags: RenameFlags,
    ) -> Outcome {
        let caller = self.caller(call)?;
        if caller.credentials.is_plain_root() && self.specials.is_empty() || !is_valid(flags) {
            return Ok(Answer::Continue);
        }
        let from = call.path(from)?;
        let to = match call.path(to) {
            Ok(to) => to,
            // What is wrong with the first path comes before that.
            Err(stop) => {
                self.parent(call, &caller, from_dir, &from)?;
                return Err(stop);
            }
        };
        let names = ((from_dir, &from[..]), (to_dir, &to[..]));
        self.rename_as(call, &caller, names, flags)
    }

    fn rename_as(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        ((from_dir, from), (to_dir, to)): (Name<'_>, Name<'_>),
        flags: RenameFlags,
    ) -> Outcome {
        if is_nameless(from) || is_nameless(to) {
            self.parent(call, caller, from_dir, from)?;
            self.parent(call, caller, to_dir, to)?;
            return Err(Stop::Kernel);
        }
        let source = self.place(call, caller, from_dir, from)?;
        let target = self.place(call, caller, to_dir, to)?;
        let Some(moved) = self.there(&source)? else {
            return Ok(Answer::Continue);
        };
        let replaced = self.there(&target)?;
        // What is wrong with the names themselves comes before who may change them.
        let is_elsewhere = source.facts.id.dev != target.facts.id.dev;
        let same = |inode: &Inode, place: &Place| inode.facts.id == place.facts.id;
        let is_nested =
            same(&moved, &target) || replaced.as_ref().is_some_and(|r| same(r, &source));
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        // What a slash asks for: what it is behind, unless a new name is to become it.
        let named = match exchange {
            true => replaced.as_ref(),
            false => Some(&moved),
        };
        let slashes = source.has_slash() && !moved.facts.is_dir()
            || target.has_slash() && named.is_some_and(|there| !there.facts.is_dir());
        let is_itself = replaced
            .as_ref()
            .is_some_and(|there| there.facts.id == moved.facts.id);
        if is_elsewhere || slashes || is_nested || is_itself || exchange && replaced.is_none() {
            return Ok(Answer::Continue);
        }
        if replaced.is_some() && flags.contains(RenameFlags::NOREPLACE) {
            return Ok(Answer::Continue);
        }
        let ends = ((&source, &moved), (&target, replaced.as_ref()));
        if let Err(stop) = self.may_rename(caller, ends, exchange) {
            // That a directory would be moved into itself comes before, too.
            let into_itself = self.is_below(&target.dir, &moved)
                || replaced.is_some_and(|there| self.is_below(&source.dir, &there));
            return if into_itself {
                Ok(Answer::Continue)
            } else {
                Err(stop)
            };
        }
        let specials = |inode: &Inode| self.is_special(inode);
        if !specials(&moved) && !replaced.as_ref().is_some_and(specials) {
            return Ok(Answer::Continue);
        }
        call.still_waits()?;
        rustix::fs::renameat_with(
            &source.dir,
            source.name(),
            &target.dir,
            target.name(),
            flags,
        )?;
        if self.is_special(&moved) {
            self.record_copied(&moved, moved.facts.owner)?;
        }
        if let Some(there) = replaced.filter(|there| self.is_special(there)) {
            if exchange {
                self.record_copied(&there, there.facts.owner)?;
            } else if there.facts.id != moved.facts.id {
                self.forget(&there);
            }
        }
        DONE
    }

    fn may_rename(
        &self,
        caller: &Caller,
        ((source, moved), (target, replaced)): ((&Place, &Inode), (&Place, Option<&Inode>)),
        exchange: bool,
    ) -> Result<(), Stop> {
        self.may_remove(caller, source, moved)?;
        match replaced {
            Some(there) => self.may_remove(caller, target, there)?,
            None => self.may_make(caller, target)?,
        }
        let is_dir = moved.facts.is_dir();
        if !exchange && replaced.is_some_and(|there| there.facts.is_dir() != is_dir) {
            return Err(Stop::Kernel);
        }
        if source.facts.id != target.facts.id {
            self.may_move(caller, moved)?;
            if let Some(there) = replaced.filter(|_| exchange) {
                self.may_move(caller, there)?;
            }
        }
        Ok(())
    }

    /// Whether a directory is below another one.
    fn is_below(&self, dir: &OwnedFd, above: &Inode) -> bool {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut here = rustix::fs::openat(dir, "..", flags, Mode::empty());
        while above.facts.is_dir()
            && let Ok(dir) = here
            && let Ok(stat) = rustix::fs::fstat(&dir)
        {
            let id = (stat.st_dev, stat.st_ino);
            if id == (above.facts.id.dev, above.facts.id.ino) {
                return true;
            }
            if id == self.root_id {
                break;
            }
            here = rustix::fs::openat(&dir, "..", flags, Mode::empty());
        }
        false
    }

    fn there(&self, place: &Place) -> Result<Option<Inode>, Stop> {
        match place.open()? {
            Some(fd) => self.inode_of(fd).map(Some),
            None => Ok(None),
        }
    }

    /// Whether an inode's owner is kept in the table.
    fn is_special(&self, inode: &Inode) -> bool {
        !self.specials.is_empty() && self.specials.get(inode.facts.id).is_some()
    }

    /// Forgets the owner of an inode that lost a name, if that was its last.
    fn forget(&mut self, inode: &Inode) {
        if inode.facts.links <= 1 {
            self.specials.remove(inode.facts.id);
        }
    }

    fn may_remove(&self, caller: &Caller, place: &Place, there: &Inode) -> Result<(), Stop> {
        self.may_make(caller, place)?;
        let dir = &place.facts;
        let credentials = &caller.credentials;
        if credentials.may_remove(dir.owner, dir.mode, there.facts.owner) {
            Ok(())
        } else {
            Err(Errno::PERM.into())
        }
    }

    /// Checks that a directory may get another parent: it is changed by that itself.
    fn may_move(&self, caller: &Caller, moved: &Inode) -> Result<(), Stop> {
        let facts = &moved.facts;
        let credentials = &caller.credentials;
        if !facts.is_dir() || credentials.access(facts.owner, facts.mode, true, Access::WRITE) {
            Ok(())
        } else {
            Err(Errno::ACCESS.into())
        }
    }
}
