//! The owner of an inode that belongs to the caller on disk: one extended attribute.
//!
//! Responsible for the attribute's format and for reading and writing it on files and
//! directories, which are what a `user.` attribute can be on (xattr(7)). Must not know where in a
//! tree an inode is, nor what owns one that has no record: its reader decides. Invariant: what
//! [`Record::encode`] writes, [`Record::decode`] reads as the same record, and what umoci's
//! rootless mode writes is read as umoci means it.
//!
//! The value is a message in protocol buffers' wire format, `rootlesscontainers.Resource` of
//! <https://github.com/rootless-containers/proto>: field 1 is the user, field 2 the group, both
//! `uint32`, 4294967295 for "not set". Field 15 is ours: the bytes of three varints, a device's
//! kind (`c` or `b`), major and minor number. It makes an empty regular file stand for the device.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The attribute's name.
pub const ATTRIBUTE: &str = "user.rootlesscontainers";

/// "Not set" in the attribute.
const UNSET: u32 = u32::MAX;

/// More than any record needs, with room for fields that others may add.
const LONGEST: usize = 256;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

const USER: u64 = 1;
const GROUP: u64 = 2;
const DEVICE: u64 = 15;

/// Who owns an inode, in a container's ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// Who owns what has no record.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// A device that an empty regular file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// A block device, not a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What an inode really is in the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who owns it.
    pub owner: Owner,
    /// The device that it stands for.
    pub device: Option<Device>,
}

impl From<Owner> for Record {
    fn from(owner: Owner) -> Self {
        Self {
            owner,
            device: None,
        }
    }
}

impl Record {
    /// Renders the attribute's value. Fields that are zero are left out, as the format wants.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        for (field, id) in [(USER, self.owner.uid), (GROUP, self.owner.gid)] {
            if id != 0 && id != UNSET {
                push_varint(&mut out, field << 3 | VARINT);
                push_varint(&mut out, u64::from(id));
            }
        }
        if let Some(device) = self.device {
            let mut packed = Vec::with_capacity(12);
            push_varint(
                &mut packed,
                u64::from(if device.block { b'b' } else { b'c' }),
            );
            push_varint(&mut packed, u64::from(device.major));
            push_varint(&mut packed, u64::from(device.minor));
            push_varint(&mut out, DEVICE << 3 | BYTES);
            push_varint(&mut out, packed.len() as u64);
            out.extend_from_slice(&packed);
        }
        out
    }

    /// Reads an attribute's value. Unknown fields are skipped; of a repeated one the last counts.
    /// `None`: malformed, which must not be taken for root's.
    pub fn decode(mut value: &[u8]) -> Option<Self> {
        let mut record = Self::default();
        while !value.is_empty() {
            let key = take_varint(&mut value)?;
            match (key >> 3, key & 7) {
                (0, _) => return None,
                (USER, VARINT) => record.owner.uid = take_id(&mut value)?,
                (GROUP, VARINT) => record.owner.gid = take_id(&mut value)?,
                (DEVICE, BYTES) => record.device = Some(take_device(take_bytes(&mut value)?)?),
                // A known field of another type is not what it claims to be.
                (USER | GROUP | DEVICE, _) => return None,
                (_, VARINT) => drop(take_varint(&mut value)?),
                (_, FIXED64) => value = value.get(8..)?,
                (_, BYTES) => drop(take_bytes(&mut value)?),
                (_, FIXED32) => value = value.get(4..)?,
                _ => return None,
            }
        }
        Some(record)
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn take_varint(value: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = value.split_first()?;
        *value = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds one bit.
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_u32(value: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(value)?).ok()
}

fn take_id(value: &mut &[u8]) -> Option<u32> {
    take_u32(value).map(|id| if id == UNSET { 0 } else { id })
}

fn take_bytes<'v>(value: &mut &'v [u8]) -> Option<&'v [u8]> {
    let len = usize::try_from(take_varint(value)?).ok()?;
    let (bytes, rest) = value.split_at_checked(len)?;
    *value = rest;
    Some(bytes)
}

fn take_device(mut packed: &[u8]) -> Option<Device> {
    let block = match take_varint(&mut packed)? {
        98 => true,
        99 => false,
        _ => return None,
    };
    let device = Device {
        block,
        major: take_u32(&mut packed)?,
        minor: take_u32(&mut packed)?,
    };
    packed.is_empty().then_some(device)
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is one, and it is none that [`Record::decode`] knows.
    #[error("the owner record in the attribute `{ATTRIBUTE}` is damaged")]
    Malformed,
    /// The kernel refused.
    #[error(transparent)]
    System(#[from] Errno),
}

/// Reads the record of an open file or directory, fgetxattr(2); `None` when there is none, as on
/// what can't carry one. The descriptor must not be one of `O_PATH`: see [`read_path`].
pub fn read(fd: impl AsFd) -> Result<Option<Record>, Unreadable> {
    let mut buffer = [0_u8; LONGEST];
    let result = rustix::fs::fgetxattr(fd, ATTRIBUTE, &mut buffer[..]);
    parse(&buffer, result)
}

/// Reads the record of what `path` leads to, getxattr(2). The path must be our own: that of a
/// descriptor in `/proc/self/fd`, or one in a directory that nobody else changes.
pub fn read_path(path: &Path) -> Result<Option<Record>, Unreadable> {
    let mut buffer = [0_u8; LONGEST];
    let result = rustix::fs::getxattr(path, ATTRIBUTE, &mut buffer[..]);
    parse(&buffer, result)
}

fn parse(buffer: &[u8], result: rustix::io::Result<usize>) -> Result<Option<Record>, Unreadable> {
    match result {
        Ok(len) => buffer
            .get(..len)
            .and_then(Record::decode)
            .map(Some)
            .ok_or(Unreadable::Malformed),
        // Links, fifos, sockets and devices say `ENODATA`; procfs and the like `EOPNOTSUPP`.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(Errno::RANGE) => Err(Unreadable::Malformed),
        Err(errno) => Err(Unreadable::System(errno)),
    }
}

/// Writes the record of an open file or directory, fsetxattr(2); one that says nothing is removed.
///
/// # Errors
/// Those of fsetxattr(2): `EPERM` on what can't carry a record, `EOPNOTSUPP` on a file system
/// without such attributes.
pub fn write(fd: impl AsFd, record: &Record) -> rustix::io::Result<()> {
    if *record == Record::default() {
        return remove(fd);
    }
    rustix::fs::fsetxattr(fd, ATTRIBUTE, &record.encode(), XattrFlags::empty())
}

/// As [`write()`], on what `path` leads to; for the paths of [`read_path`].
///
/// # Errors
/// Those of setxattr(2).
pub fn write_path(path: &Path, record: &Record) -> rustix::io::Result<()> {
    if *record == Record::default() {
        return remove_path(path);
    }
    rustix::fs::setxattr(path, ATTRIBUTE, &record.encode(), XattrFlags::empty())
}

/// Removes the record of an open file or directory, if there is one.
///
/// # Errors
/// Those of fremovexattr(2).
pub fn remove(fd: impl AsFd) -> rustix::io::Result<()> {
    none_left(rustix::fs::fremovexattr(fd, ATTRIBUTE))
}

/// As [`remove`], on what `path` leads to; for the paths of [`read_path`].
///
/// # Errors
/// Those of removexattr(2).
pub fn remove_path(path: &Path) -> rustix::io::Result<()> {
    none_left(rustix::fs::removexattr(path, ATTRIBUTE))
}

fn none_left(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NODATA) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn owner(uid: u32, gid: u32) -> Record {
        Owner { uid, gid }.into()
    }

    #[test]
    fn the_bytes_of_umoci() {
        // As `umoci unpack --rootless` writes them.
        for (bytes, record) in [
            (&b"\x10\x2a"[..], owner(0, 42)),
            (b"\x08\x00\x10\x2a", owner(0, 42)),
            (b"\x08\x21\x10\x21", owner(33, 33)),
            (b"\x08\xff\xff\xff\xff\x0f\x10\x2a", owner(0, 42)),
            (b"\x08\x64", owner(100, 0)),
            (b"", owner(0, 0)),
        ] {
            assert_eq!(Record::decode(bytes), Some(record), "{bytes:?}");
        }
        assert_eq!(owner(0, 42).encode(), b"\x10\x2a");
        assert_eq!(owner(33, 70_000).encode(), b"\x08\x21\x10\xf0\xa2\x04");
        assert_eq!(owner(0, 0).encode(), b"");
    }

    #[test]
    fn devices_are_an_unknown_field_to_others() {
        let record = Record {
            owner: Owner { uid: 0, gid: 6 },
            device: Some(Device {
                block: true,
                major: 7,
                minor: 300,
            }),
        };
        assert_eq!(record.encode(), b"\x10\x06\x7a\x04b\x07\xac\x02");
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let value = b"\x18\x05\x10\x2a\x22\x03abc\x29abcdefgh\x35abcd\xf8\x07\x01";
        assert_eq!(Record::decode(value), Some(owner(0, 42)));
    }

    #[test]
    fn malformed_values_are_none() {
        for bytes in [
            &b"\x08"[..],                                    // no value
            b"\x08\x80",                                     // unfinished number
            b"\x08\x80\x80\x80\x80\x10",                     // more than 32 bits
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", // more than 64
            b"\x0a\x01a",                                    // a user that is text
            b"\x00\x01",                                     // field 0
            b"\x1b",                                         // a group
            b"\x22\x05ab",                                   // too short
            b"\x29abc",
            b"\x35abc",
            b"\x7a\x03x\x01\x02", // neither kind
            b"\x7a\x02b\x01",
            b"\x7a\x04b\x01\x02\x03",
            b"root",
        ] {
            assert_eq!(Record::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn records_on_files() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let (fd, path) = (file.as_file(), file.path());
        match write(fd, &owner(33, 42)) {
            Err(Errno::OPNOTSUPP) => {
                eprintln!("SKIP: the temporary directory has no user attributes");
                return;
            }
            other => other.expect("write"),
        }
        assert_eq!(read(fd), Ok(Some(owner(33, 42))));
        let handle = rustix::fs::open(
            path,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .expect("open");
        let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
        assert_eq!(read_path(Path::new(&link)), Ok(Some(owner(33, 42))));
        write_path(Path::new(&link), &owner(1, 2)).expect("write by path");
        assert_eq!(read(fd), Ok(Some(owner(1, 2))));
        write(fd, &owner(0, 0)).expect("remove");
        assert_eq!(read(fd), Ok(None));
        remove_path(path).expect("nothing to remove");
        rustix::fs::fsetxattr(fd, ATTRIBUTE, b"root", XattrFlags::empty()).expect("set");
        assert_eq!(read(fd), Err(Unreadable::Malformed));
        rustix::fs::fsetxattr(fd, ATTRIBUTE, &[0x18; 300], XattrFlags::empty()).expect("set");
        assert_eq!(read(fd), Err(Unreadable::Malformed));
        remove(fd).expect("remove");
        assert_eq!(read(File::open("/proc/self/stat").expect("open")), Ok(None));
    }

    proptest! {
        #[test]
        fn both_ways(uid in 0..UNSET, gid in 0..UNSET, device in proptest::option::of((any::<bool>(), any::<u32>(), any::<u32>()))) {
            let device = device.map(|(block, major, minor)| Device { block, major, minor });
            let record = Record { owner: Owner { uid, gid }, device };
            prop_assert_eq!(Record::decode(&record.encode()), Some(record));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::decode(&record.encode()), Some(record));
            }
        }
    }
}
