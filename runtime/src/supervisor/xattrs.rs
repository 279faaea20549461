//! Extended attributes: setxattr(2) and its relatives.
//!
//! Responsible for hiding the attribute that holds owners, and for who may use the others. Must not
//! interpret any. Invariant: a step can neither see nor change a record.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::State;
use super::call::{Answer, Call, Caller, Outcome, Stop};
use super::credentials::{Access, FileCapabilities};
use super::inode::{Inode, handle_path};
use crate::identity::record::ATTRIBUTE;

/// The longest name with its NUL (`XATTR_NAME_MAX`), xattr(7).
const NAME_MAX: usize = 256;
/// The longest list of names (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 64 * 1024;

/// The longest value (`XATTR_SIZE_MAX`).
const VALUE_MAX: u64 = 64 * 1024;
/// `XATTR_CREATE`, `XATTR_REPLACE`.
const KNOWN_FLAGS: u32 = 3;

/// The capabilities of a file, and the size of their last revision, capabilities(7).
const CAPABILITIES: &[u8] = b"security.capability";
const CAPABILITIES_MAX: usize = 24;

/// Which inode is meant.
#[derive(Debug, Clone, Copy)]
enum Of {
    Path { follow: bool },
    Descriptor,
}

const PATH: Of = Of::Path { follow: true };
const LINK: Of = Of::Path { follow: false };

/// setxattr(2): path, name, value, size, flags.
pub(super) fn setxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.set_attribute(call, PATH)
}

/// lsetxattr(2): as setxattr(2).
pub(super) fn lsetxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.set_attribute(call, LINK)
}

/// fsetxattr(2): descriptor, name, value, size, flags.
pub(super) fn fsetxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.set_attribute(call, Of::Descriptor)
}

/// removexattr(2): path, name.
pub(super) fn removexattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change_attribute(call, PATH)
}

/// lremovexattr(2): path, name.
pub(super) fn lremovexattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change_attribute(call, LINK)
}

/// fremovexattr(2): descriptor, name.
pub(super) fn fremovexattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.change_attribute(call, Of::Descriptor)
}

/// getxattr(2): path, name, buffer, size.
pub(super) fn getxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.read_attribute(call, PATH)
}

/// lgetxattr(2): as getxattr(2).
pub(super) fn lgetxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.read_attribute(call, LINK)
}

/// fgetxattr(2): descriptor, name, buffer, size.
pub(super) fn fgetxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.read_attribute(call, Of::Descriptor)
}

/// listxattr(2): path, buffer, size.
pub(super) fn listxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.list_attributes(call, PATH)
}

/// llistxattr(2): as listxattr(2).
pub(super) fn llistxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.list_attributes(call, LINK)
}

/// flistxattr(2): descriptor, buffer, size.
pub(super) fn flistxattr(state: &mut State, call: &Call<'_>) -> Outcome {
    state.list_attributes(call, Of::Descriptor)
}

impl State {
    fn attributes_of(&self, call: &Call<'_>, caller: &Caller, of: Of) -> Result<Inode, Stop> {
        match of {
            Of::Path { follow } => {
                let path = call.path(0)?;
                self.inode(call, caller, libc::AT_FDCWD, &path, follow)
            }
            Of::Descriptor => self.inode_of(call.open_file(call.int(0))?),
        }
    }

    /// Whether an attribute is one that a device can't have, and there are placeholders of devices.
    fn may_be_device(&self, name: &[u8]) -> bool {
        self.devices && name.starts_with(b"user.")
    }

    fn set_attribute(&mut self, call: &Call<'_>, of: Of) -> Outcome {
        // What is wrong with these the kernel says before it looks at anything else.
        if call.unsigned(4) & !KNOWN_FLAGS != 0 || call.word(3) > VALUE_MAX {
            return Ok(Answer::Continue);
        }
        // Capabilities that are none it refuses as soon as it knows of what.
        if attribute(call)? == CAPABILITIES && !holds_capabilities(call)? {
            let caller = self.caller(call)?;
            self.attributes_of(call, &caller, of)?;
            return Ok(Answer::Continue);
        }
        self.change_attribute(call, of)
    }

    fn change_attribute(&mut self, call: &Call<'_>, of: Of) -> Outcome {
        let name = attribute(call)?;
        if name == ATTRIBUTE.as_bytes() {
            return Err(Errno::OPNOTSUPP.into());
        }
        let caller = self.caller(call)?;
        if caller.credentials.is_plain_root() && !self.may_be_device(&name) {
            return Ok(Answer::Continue);
        }
        let inode = self.attributes_of(call, &caller, of)?;
        let facts = &inode.facts;
        let credentials = &caller.credentials;
        if name.starts_with(b"user.") {
            // Links and devices can't have any, which the kernel says.
            if facts.device.is_some() {
                return Err(Errno::PERM.into());
            }
            if !facts.carries_record() {
                return Ok(Answer::Continue);
            }
            let sticky = facts.is_dir() && facts.mode & libc::S_ISVTX != 0;
            if sticky && !credentials.owns(facts.owner) {
                return Err(Errno::PERM.into());
            }
            // A descriptor's right to write was checked when it was opened, but not for this.
            return self.judge(&caller, &inode, Access::WRITE);
        }
        if name == CAPABILITIES {
            if !credentials.may(CapabilitySet::SETFCAP) {
                return Err(Errno::PERM.into());
            }
            return Ok(Answer::Continue);
        }
        if name.starts_with(b"system.") && !credentials.owns(facts.owner) {
            return Err(Errno::PERM.into());
        }
        if is_privileged(&name) {
            return Ok(Answer::Continue);
        }
        self.judge(&caller, &inode, Access::WRITE)
    }

    fn read_attribute(&mut self, call: &Call<'_>, of: Of) -> Outcome {
        let name = attribute(call)?;
        if name == ATTRIBUTE.as_bytes() {
            let caller = self.caller(call)?;
            self.attributes_of(call, &caller, of)?;
            return Err(Errno::NODATA.into());
        }
        let caller = self.caller(call)?;
        if caller.credentials.is_plain_root() && !self.may_be_device(&name) {
            return Ok(Answer::Continue);
        }
        let inode = self.attributes_of(call, &caller, of)?;
        let is_user = name.starts_with(b"user.");
        if is_user && inode.facts.device.is_some() {
            return Err(Errno::NODATA.into());
        }
        if is_privileged(&name) || is_user && !inode.facts.carries_record() {
            return Ok(Answer::Continue);
        }
        self.judge(&caller, &inode, Access::READ)
    }

    fn list_attributes(&mut self, call: &Call<'_>, of: Of) -> Outcome {
        let caller = self.caller(call)?;
        let inode = self.attributes_of(call, &caller, of)?;
        if !inode.facts.recorded || !inode.facts.carries_record() {
            return Ok(Answer::Continue);
        }
        // Overlayfs tells how much room its own names need, too, and wants it.
        let all = rustix::fs::listxattr_query(handle_path(&inode.fd))?;
        let needed = all.saturating_sub(ATTRIBUTE.len() + 1);
        let room = usize::try_from(call.word(2)).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(Answer::Value(i64::try_from(needed).unwrap_or(0)));
        }
        if room < needed {
            return Err(Errno::RANGE.into());
        }
        let mut names = vec![0; LIST_MAX];
        let length = rustix::fs::listxattr(handle_path(&inode.fd), &mut names[..])?;
        let mut shown = Vec::with_capacity(length);
        for name in names[..length].split_inclusive(|b| *b == 0) {
            if name.strip_suffix(b"\0") != Some(ATTRIBUTE.as_bytes()) {
                shown.extend_from_slice(name);
            }
        }
        call.write(call.word(1), &shown)?;
        Ok(Answer::Value(i64::try_from(shown.len()).unwrap_or(0)))
    }
}

/// Whether who may use an attribute is not a matter of permission bits.
fn is_privileged(name: &[u8]) -> bool {
    [&b"security."[..], b"system.", b"trusted."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether the value to be set is one of `security.capability`, as the kernel takes it.
fn holds_capabilities(call: &Call<'_>) -> Result<bool, Stop> {
    let mut value = [0; CAPABILITIES_MAX];
    let Some(value) = usize::try_from(call.word(3))
        .ok()
        .and_then(|size| value.get_mut(..size))
    else {
        return Ok(false);
    };
    call.read(call.word(2), value)?;
    // The first revision is only read.
    Ok(value.is_empty() || value.len() >= 20 && FileCapabilities::decode(value).is_some())
}

fn attribute(call: &Call<'_>) -> Result<Vec<u8>, Stop> {
    match call.string(call.word(1), NAME_MAX)? {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Stop::Kernel),
    }
}
