//! The mounts of this process, proc_pid_mountinfo(5).
//!
//! Responsible for reading that file. Must not interpret what it finds. Invariant: paths are
//! bytes, with the kernel's escapes undone.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Result, ResultExt};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Number of the mount.
    pub(super) id: u64,
    /// Number of the mount that it is on.
    pub(super) parent: u64,
    /// The part of the file system that is its root.
    pub(super) root: PathBuf,
    /// Where it is.
    pub(super) point: PathBuf,
    /// Type of the file system.
    pub(super) kind: String,
    /// Options of the file system.
    pub(super) options: Vec<String>,
}

/// Reads all mounts.
pub(super) fn read() -> Result<Vec<Mounted>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).op_path("read mounts", path)?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    // Optional fields end with a dash.
    let dash = fields.iter().skip(6).position(|f| *f == b"-")? + 6;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    Some(Mounted {
        id: number(fields.first()?)?,
        parent: number(fields.get(1)?)?,
        root: unescape(fields.get(3)?),
        point: unescape(fields.get(4)?),
        kind: text(fields.get(dash + 1)?),
        options: text(fields.get(dash + 3)?)
            .split(',')
            .map(str::to_owned)
            .collect(),
    })
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|code| {
            let code = std::str::from_utf8(code).ok()?;
            u8::from_str_radix(code, 8).ok()
        });
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line() {
        let line = br"36 35 98:0 /a\040b /mnt\134x rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mounted = parse(line).expect("a mount");
        assert_eq!((mounted.id, mounted.parent), (36, 35));
        assert_eq!(mounted.root, PathBuf::from("/a b"));
        assert_eq!(mounted.point, PathBuf::from(r"/mnt\x"));
        assert_eq!(mounted.kind, "ext3");
        assert_eq!(mounted.options, ["rw", "errors=continue"]);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn reads_the_real_one() {
        let mounts = read().expect("read");
        assert!(mounts.iter().any(|m| m.kind == "proc"));
    }
}
