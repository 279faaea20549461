//! Changes of owner: chown(2) and its relatives.
//!
//! Responsible for the rules of who may, and for recording. Must not resolve paths. Invariant: the
//! kernel is asked to change the owner to the one that it is, so that everything else which a change
//! of owner does happens, too: times, permission bits, capabilities, a copy in the upper layer.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::State;
use super::call::{Call, Caller, DONE, Outcome};
use super::inode::Inode;
use super::paths::means_handle;
use crate::identity::Owner;

/// "Leave it", chown(2).
const SAME: u32 = u32::MAX;

/// fchownat(2): directory, path, user, group, flags.
pub(super) fn fchownat(state: &mut State, call: &Call<'_>) -> Outcome {
    let flags = AtFlags::from_bits_retain(call.unsigned(4));
    if !(AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).contains(flags) {
        return Err(Errno::INVAL.into());
    }
    let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
    let path = call.path(1)?;
    let caller = state.caller(call)?;
    let inode = if means_handle(&path, flags) {
        let fd = state.start(call, call.int(0))?;
        state.inode_of(fd)?
    } else {
        state.inode(call, &caller, call.int(0), &path, follow)?
    };
    state.chown(call, &caller, &inode, call.unsigned(2), call.unsigned(3))
}

/// fchown(2): descriptor, user, group.
pub(super) fn fchown(state: &mut State, call: &Call<'_>) -> Outcome {
    let caller = state.caller(call)?;
    let inode = state.inode_of(call.open_file(call.int(0))?)?;
    state.chown(call, &caller, &inode, call.unsigned(1), call.unsigned(2))
}

/// chown(2): path, user, group.
#[cfg(target_arch = "x86_64")]
pub(super) fn chown(state: &mut State, call: &Call<'_>) -> Outcome {
    chown_path(state, call, true)
}

/// lchown(2): path, user, group.
#[cfg(target_arch = "x86_64")]
pub(super) fn lchown(state: &mut State, call: &Call<'_>) -> Outcome {
    chown_path(state, call, false)
}

#[cfg(target_arch = "x86_64")]
fn chown_path(state: &mut State, call: &Call<'_>, follow: bool) -> Outcome {
    let path = call.path(0)?;
    let caller = state.caller(call)?;
    let inode = state.inode(call, &caller, libc::AT_FDCWD, &path, follow)?;
    state.chown(call, &caller, &inode, call.unsigned(1), call.unsigned(2))
}

impl State {
    fn chown(
        &mut self,
        call: &Call<'_>,
        caller: &Caller,
        inode: &Inode,
        uid: u32,
        gid: u32,
    ) -> Outcome {
        let given = |id| (id != SAME).then_some(id);
        let (uid, gid) = (given(uid), given(gid));
        let before = inode.facts.owner;
        let (mode, is_dir) = (inode.facts.mode & 0o7777, inode.facts.is_dir());
        let credentials = &caller.credentials;
        if !credentials.may_chown(before, mode, is_dir, uid, gid) {
            return Err(Errno::PERM.into());
        }
        self.touch_owner(call, inode, uid.is_some(), gid.is_some())?;
        // The kernel judged by the supervisor's rights what happens to a set-group-id bit.
        let left = credentials.mode_after_chown(before, mode, is_dir);
        if mode & 0o2000 != 0 && left & 0o2000 == 0 && mode & 0o0010 == 0 {
            let path = super::inode::handle_path(&inode.fd);
            rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(left))?;
        }
        let after = Owner {
            uid: uid.unwrap_or(before.uid),
            gid: gid.unwrap_or(before.gid),
        };
        if after != before || inode.facts.recorded && !is_dir {
            self.record_copied(inode, after)?;
        }
        DONE
    }
}
