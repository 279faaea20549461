//! Which hierarchies of control groups this process sees, and where it stands in them.
//!
//! Responsible for reading `/proc/self/mountinfo` and `/proc/self/cgroup` (cgroups(7)). Must not
//! create or change anything. Invariant: paths of groups are relative to the mount point of their
//! hierarchy and absolute in form, whatever the root of the mount is.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[cfg(test)]
use super::files::Directory;
use super::files::clean;
use crate::error::{Result, ResultExt};

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// The controllers; `name=…` for a version 1 hierarchy without one, none for version 2.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// This process's group below the mount point. `None` when it is not below it, which is so for
    /// a mount that was made in another cgroup namespace.
    pub(crate) own: Option<PathBuf>,
}

/// All hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// Version 2, with or without controllers.
    pub(crate) unified: Option<Hierarchy>,
    /// Version 1.
    pub(crate) legacy: Vec<Hierarchy>,
}

impl Layout {
    /// Looks at the running system.
    pub(crate) fn detect() -> Result<Self> {
        let mounts =
            std::fs::read("/proc/self/mountinfo").op_path("read mounts", "/proc/self/mountinfo")?;
        // A kernel without control groups has no such file.
        let groups = std::fs::read("/proc/self/cgroup").unwrap_or_default();
        Ok(Self::parse(&mounts, &groups))
    }

    /// Reads the two files.
    pub(crate) fn parse(mountinfo: &[u8], membership: &[u8]) -> Self {
        let mut layout = Self::default();
        let groups: Vec<(Vec<String>, PathBuf)> = membership
            .split(|b| *b == b'\n')
            .filter_map(parse_membership)
            .collect();
        for line in mountinfo.split(|b| *b == b'\n') {
            let Some(mount) = parse_mount(line) else {
                continue;
            };
            if mount.kind == b"cgroup2" {
                // The first mount wins: a later one over it would hide it, and elsewhere is a copy.
                let own = groups.iter().find(|(list, _)| list.is_empty());
                layout.unified.get_or_insert_with(|| Hierarchy {
                    controllers: Vec::new(),
                    own: own.and_then(|(_, path)| inside(&mount.root, path)),
                    mount: mount.point.clone(),
                });
            } else if mount.kind == b"cgroup" {
                let options: Vec<&str> = mount.options.split(',').collect();
                let own = groups
                    .iter()
                    .find(|(list, _)| list.iter().any(|c| options.contains(&c.as_str())));
                let Some((controllers, path)) = own else {
                    continue;
                };
                if layout.legacy.iter().any(|h| &h.controllers == controllers) {
                    continue;
                }
                layout.legacy.push(Hierarchy {
                    controllers: controllers.clone(),
                    own: inside(&mount.root, path),
                    mount: mount.point.clone(),
                });
            }
        }
        layout
    }

    /// Returns the version 1 hierarchy of a controller.
    #[cfg(test)]
    pub(crate) fn legacy_of(&self, controller: &str) -> Option<&Hierarchy> {
        self.legacy
            .iter()
            .find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// Says whether version 1 has any controller, so that version 2 is only a part.
    pub(crate) fn has_legacy_controllers(&self) -> bool {
        let real = |c: &String| !c.starts_with("name=");
        self.legacy.iter().any(|h| h.controllers.iter().any(real))
    }
}

#[cfg(test)]
impl Hierarchy {
    /// Opens this process's own group.
    pub(crate) fn open_own(&self) -> rustix::io::Result<Directory> {
        let own = self.own.as_deref().ok_or(rustix::io::Errno::NOENT)?;
        Directory::open(&self.mount, own)
    }
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
    kind: Vec<u8>,
    options: String,
}

/// One line of proc_pid_mountinfo(5).
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let options = fields.get(dash + 3)?;
    Some(Mount {
        root: unescape(fields.get(3)?),
        point: unescape(fields.get(4)?),
        kind: fields.get(dash + 1)?.to_vec(),
        options: String::from_utf8_lossy(options).into_owned(),
    })
}

/// One line of proc_pid_cgroup(5): its controllers and path.
fn parse_membership(line: &[u8]) -> Option<(Vec<String>, PathBuf)> {
    let mut fields = line.splitn(3, |b| *b == b':');
    fields.next()?;
    let controllers = String::from_utf8_lossy(fields.next()?).into_owned();
    let path = fields.next()?;
    let controllers = controllers
        .split(',')
        .filter(|c| !c.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    Some((controllers, PathBuf::from(OsString::from_vec(path.into()))))
}

/// Says where the group `path` is below a mount of `root`.
fn inside(root: &Path, path: &Path) -> Option<PathBuf> {
    // A path that begins with `/..` is above the cgroup namespace.
    let dots = path.as_os_str().as_bytes().starts_with(b"/..");
    let rest = path.strip_prefix(root).ok()?;
    (!dots).then(|| clean(rest))
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
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
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_two() {
        let layout = Layout::parse(
            b"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            b"0::/user.slice/user-1000.slice/session-3.scope\n",
        );
        let unified = layout.unified.as_ref().expect("version 2");
        assert_eq!(unified.mount, Path::new("/sys/fs/cgroup"));
        let own = Path::new("/user.slice/user-1000.slice/session-3.scope");
        assert_eq!(unified.own.as_deref(), Some(own));
        assert!(!layout.has_legacy_controllers());
    }

    #[test]
    fn hybrid_with_a_mount_of_a_part() {
        let layout = Layout::parse(
            b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
              32 31 0:29 /docker/ab /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
              33 31 0:30 / /sys/fs/cgroup/a\\040b rw - cgroup cgroup rw,name=systemd\n\
              34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
              41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            b"3:cpu,cpuacct:/docker/ab/x:y\n2:memory:/../other\n1:name=systemd:/\n0::/\n",
        );
        let cpu = layout.legacy_of("cpuacct").expect("cpu");
        assert_eq!(cpu.own.as_deref(), Some(Path::new("/x:y")));
        let named = layout.legacy_of("name=systemd").expect("named");
        assert_eq!(named.mount, Path::new("/sys/fs/cgroup/a b"));
        assert_eq!(layout.legacy_of("memory").expect("memory").own, None);
        assert!(layout.unified.is_some() && layout.has_legacy_controllers());
    }

    #[test]
    fn nothing_at_all() {
        assert_eq!(Layout::parse(b"", b""), Layout::default());
        assert_eq!(Layout::parse(b"garbage\n - \n", b"x\n"), Layout::default());
    }
}
