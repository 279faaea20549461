//! The extended attributes that a copy carries over.
//!
//! Responsible for choosing them, reading them in one form, and writing them. Must not know of
//! archives. Invariant: `security.capability` values are read as version 2, without the user
//! namespace they were written in, so that equal capabilities are equal bytes.
//!
//! Copied are `user.*` and, for files, `security.capability`. Left behind are `user.overlay.*`
//! and `user.sandcrab.*` (the store's own), records of owners, access control lists, security labels and whatever
//! else belongs to the machine and not to the file. BuildKit copies all of them but keeps only
//! `security.capability` in its layers; buildah keeps `user.*` too, and `--no-user-xattrs` leaves them
//! out of a layer when it is written.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use runtime::identity::record::ATTRIBUTE;
use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

/// The attribute that holds file capabilities.
pub const CAPABILITY: &str = "security.capability";

/// Version field of `struct vfs_ns_cap_data` (linux/capability.h) without its flag bits.
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
/// Size of a version 2 value in bytes; version 3 appends the root id.
const SIZE_2: usize = 20;

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Full name, with its prefix.
    pub name: OsString,
    /// Value as written.
    pub value: Vec<u8>,
}

/// Reads the attributes of an open file that a copy carries over, sorted by name.
pub fn read(fd: &impl AsFd) -> Result<Vec<Attribute>> {
    let mut out = Vec::new();
    for name in names(fd)? {
        if !is_copied(name.to_bytes()) {
            continue;
        }
        let value = match value(fd, &name) {
            Ok(value) => value,
            // Gone meanwhile, or not ours to see: as if it were not there.
            Err(Errno::NODATA | Errno::OVERFLOW) => continue,
            Err(e) => return Err(e),
        };
        let name = OsStr::from_bytes(name.to_bytes()).to_owned();
        let value = if name == CAPABILITY {
            to_revision_2(value)
        } else {
            value
        };
        out.push(Attribute { name, value });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// Writes an attribute. `root_id` is what container root is to the writer inside a user
/// namespace, where capabilities need a version 3 value; `None` outside of one.
pub fn write(fd: &impl AsFd, attribute: &Attribute, root_id: Option<u32>) -> Result<()> {
    let name = CString::new(attribute.name.clone().into_vec()).map_err(|_| Errno::INVAL)?;
    let converted;
    let value = match root_id {
        Some(root) if attribute.name == CAPABILITY => {
            converted = to_revision_3(&attribute.value, root);
            &converted
        }
        _ => &attribute.value,
    };
    rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty())
}

fn is_copied(name: &[u8]) -> bool {
    if name == CAPABILITY.as_bytes() {
        return true;
    }
    let private: [&[u8]; 3] = [b"user.overlay.", b"user.sandcrab.", ATTRIBUTE.as_bytes()];
    name.starts_with(b"user.") && !private.iter().any(|p| name.starts_with(p))
}

fn names(fd: &impl AsFd) -> Result<Vec<CString>> {
    // The list can grow between asking for its size and reading it.
    loop {
        let size = match rustix::fs::flistxattr_query(fd) {
            Ok(size) => size,
            Err(Errno::NOTSUP) => 0,
            Err(e) => return Err(e),
        };
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = vec![0; size];
        match rustix::fs::flistxattr(fd, &mut buffer[..]) {
            Ok(n) => {
                return Ok(buffer[..n]
                    .split_inclusive(|b| *b == 0)
                    .filter_map(|n| CStr::from_bytes_with_nul(n).ok())
                    .map(CStr::to_owned)
                    .collect());
            }
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
    }
}

fn value(fd: &impl AsFd, name: &CStr) -> Result<Vec<u8>> {
    loop {
        let size = rustix::fs::fgetxattr_query(fd, name)?;
        let mut buffer = vec![0; size];
        match rustix::fs::fgetxattr(fd, name, &mut buffer[..]) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
    }
}

fn magic(value: &[u8]) -> u32 {
    value
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn to_revision_2(mut value: Vec<u8>) -> Vec<u8> {
    let magic = magic(&value);
    if magic & REVISION_MASK == REVISION_3 && value.len() > SIZE_2 {
        value.truncate(SIZE_2);
        let magic = magic & !REVISION_MASK | REVISION_2;
        value[..4].copy_from_slice(&magic.to_le_bytes());
    }
    value
}

fn to_revision_3(value: &[u8], root_id: u32) -> Vec<u8> {
    let mut value = value.to_vec();
    let magic = magic(&value);
    if magic & REVISION_MASK == REVISION_2 && value.len() == SIZE_2 {
        let magic = magic & !REVISION_MASK | REVISION_3;
        value[..4].copy_from_slice(&magic.to_le_bytes());
        value.extend(root_id.to_le_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability() -> Vec<u8> {
        // cap_net_raw=ep: effective bit set, CAP_NET_RAW (13) permitted.
        let mut value = (REVISION_2 | 1).to_le_bytes().to_vec();
        value.extend((1_u32 << 13).to_le_bytes());
        value.extend([0; 12]);
        value
    }

    #[test]
    fn revisions_convert_both_ways() {
        let namespaced = to_revision_3(&capability(), 100_000);
        assert_eq!(namespaced.len(), 24);
        assert_eq!(namespaced[20..], 100_000_u32.to_le_bytes());
        assert_eq!(to_revision_2(namespaced), capability());
        assert_eq!(to_revision_2(capability()), capability());
    }

    #[test]
    fn the_stores_own_attributes_stay_behind() {
        for (name, copied) in [
            ("user.mime_type", true),
            ("user.overlay.opaque", false),
            ("user.sandcrab.owner", false),
            ("user.rootlesscontainers", false),
            ("security.capability", true),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
            ("trusted.overlay.opaque", false),
        ] {
            assert_eq!(is_copied(name.as_bytes()), copied, "{name}");
        }
    }

    #[test]
    fn reads_what_was_written() {
        let file = tempfile::tempfile_in(".").expect("temporary file");
        let attribute = |name: &str, value: &[u8]| Attribute {
            name: name.into(),
            value: value.to_vec(),
        };
        let (b, a) = (attribute("user.b", b"2"), attribute("user.a", b""));
        if let Err(e) = write(&file, &b, None) {
            println!("SKIP: no user attributes here: {e}");
            return;
        }
        write(&file, &a, None).expect("write");
        assert_eq!(read(&file).expect("read"), [a, b]);
    }
}
