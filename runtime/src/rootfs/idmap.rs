//! Id maps of mounts.
//!
//! Responsible for user namespaces that carry a map and nothing else. Must not know which mounts
//! get them. Invariant: the process that holds such a namespace never runs anything and is gone
//! when the namespace is returned.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::{WaitId, WaitIdOptions};

use crate::error::{Error, Result, ResultExt};
use crate::spec::IdMapping;
use crate::sys::{MountChange, change_mount, pidfd_signal, start_idle_in_user_namespace};

/// The ids of a mount: where the map comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ids {
    /// These lines. Ids on disk are `container_id`, ids that are seen `host_id`.
    Lines {
        users: Vec<IdMapping>,
        groups: Vec<IdMapping>,
    },
    /// A user namespace that exists.
    Namespace(String),
}

/// User namespaces that were opened; mounts of a container often have the same ids.
#[derive(Debug, Default)]
pub(super) struct Maps(Vec<(Ids, OwnedFd)>);

impl Maps {
    /// Opens a user namespace with these ids, unless it is open.
    pub(super) fn get(&mut self, ids: &Ids) -> Result<BorrowedFd<'_>> {
        let place = match self.0.iter().position(|(known, _)| known == ids) {
            Some(place) => place,
            None => {
                self.0.push((ids.clone(), ids.open()?));
                self.0.len() - 1
            }
        };
        Ok(self.0[place].1.as_fd())
    }
}

impl Ids {
    /// Reads crun's `idmap=uids=C-H-N#…;gids=…` (crun(1), "idmap mount options").
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::new(format!("option `idmap={text}` is not understood"));
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (list, lines) = match part.split_once('=').ok_or_else(wrong)? {
                ("uids", lines) => (&mut users, lines),
                ("gids", lines) => (&mut groups, lines),
                _ => return Err(wrong()),
            };
            for line in lines.split('#').filter(|line| !line.is_empty()) {
                if line.starts_with('@') {
                    return Err(
                        wrong().hint("ids relative to the container's (`@`) are not supported")
                    );
                }
                let numbers: Vec<u32> = line
                    .split('-')
                    .map(|n| n.parse().map_err(|_| wrong()))
                    .collect::<Result<_>>()?;
                let [container_id, host_id, size] = numbers[..] else {
                    return Err(wrong());
                };
                list.push(IdMapping {
                    container_id,
                    host_id,
                    size,
                });
            }
        }
        if users.is_empty() || groups.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Lines { users, groups })
    }

    /// Opens a user namespace with this map.
    fn open(&self) -> Result<OwnedFd> {
        match self {
            Self::Namespace(path) => fs::File::open(path)
                .op_path("open user namespace", path)
                .map(OwnedFd::from),
            Self::Lines { users, groups } => make(users, groups),
        }
    }
}

fn make(users: &[IdMapping], groups: &[IdMapping]) -> Result<OwnedFd> {
    let (pid, pidfd) = start_idle_in_user_namespace().op("create user namespace")?;
    let dir = Path::new("/proc").join(pid.as_raw_pid().to_string());
    let made = write(&dir.join("uid_map"), users)
        .and_then(|()| write(&dir.join("gid_map"), groups))
        .and_then(|()| {
            let path = dir.join("ns/user");
            fs::File::open(&path).op_path("open user namespace", path)
        });
    // Its own child can only be gone already, which is as good.
    let _: rustix::io::Result<()> = pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    let _: rustix::io::Result<_> = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    });
    made.map(OwnedFd::from)
}

fn write(path: &Path, lines: &[IdMapping]) -> Result<()> {
    let text: String = lines
        .iter()
        .map(|line| format!("{} {} {}\n", line.container_id, line.host_id, line.size))
        .collect();
    fs::write(path, text).op_path("write id map", path)
}

/// Maps the ids of a detached mount.
pub(super) fn apply(mount: BorrowedFd<'_>, ids: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let change = MountChange {
        id_map: Some(ids),
        recursive,
        ..MountChange::default()
    };
    change_mount(mount, &change).map_err(|errno| {
        let error = Error::new("map ids of source").cause(errno);
        match errno {
            rustix::io::Errno::PERM => error.hint(
                "only who owns the file system's user namespace may map its ids: on the host, root",
            ),
            rustix::io::Errno::INVAL => {
                error.hint("its file system does not support id-mapped mounts on this kernel")
            }
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_form_of_crun() {
        let ids = Ids::parse("uids=0-1-10#10-11-5;gids=0-100-10").expect("parse");
        let Ids::Lines { users, groups } = ids else {
            panic!("not lines");
        };
        assert_eq!((users.len(), groups.len()), (2, 1));
        assert_eq!(
            (users[1].container_id, users[1].host_id, users[1].size),
            (10, 11, 5)
        );
        for wrong in [
            "",
            "uids=0-1-10",
            "uids=0-1;gids=0-1-1",
            "x=0-0-1",
            "uids=@0-1-1;gids=0-1-1",
        ] {
            assert!(Ids::parse(wrong).is_err(), "{wrong}");
        }
    }
}
