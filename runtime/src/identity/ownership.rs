//! Who owns the files of one tree, whatever the identity.
//!
//! Responsible for setting and reading owners in a container's ids: real ones of the kernel's, or
//! records where ids are emulated. Must not walk trees nor resolve paths. Invariant: with
//! [`Identity::Emulated`] no owner is changed on disk, and what is set here is what is read here.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Gid, Stat, Uid};
use rustix::io::Errno;

use super::owners::Owners;
use super::record::{self, Owner, Record, Unreadable};
use super::specials::{Full, Inode, Specials};
use super::{IdMap, Identity};

/// Owners in one tree.
///
/// Files that carry no record are found by their path in a tree that is read, and by their inode in
/// one that is written: there, paths may lead through links, and files come and go.
#[derive(Debug)]
pub struct Ownership {
    identity: Identity,
    ids: IdMap,
    known: Owners,
    given: RefCell<Specials>,
    changed: Cell<bool>,
}

/// Why an owner could not be set or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The container has no such id.
    #[error("owner {0} does not exist here")]
    NoSuchOwner(Owner),
    /// On disk it belongs to an id that is none of the container's.
    #[error("owner {0}:{1} is none of the container's")]
    Foreign(u32, u32),
    /// There is a record, and it can't be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// There is no room for one more.
    #[error(transparent)]
    Full(#[from] Full),
    /// The kernel refused.
    #[error(transparent)]
    System(#[from] Errno),
}

impl Trouble {
    /// Returns the error number that is nearest, for those who can only pass on one.
    pub fn errno(self) -> Errno {
        match self {
            Self::System(errno) | Self::Unreadable(Unreadable::System(errno)) => errno,
            Self::NoSuchOwner(_) | Self::Foreign(..) => Errno::INVAL,
            Self::Unreadable(Unreadable::Malformed) => Errno::IO,
            Self::Full(_) => Errno::NOSPC,
        }
    }
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::System(errno) | Trouble::Unreadable(Unreadable::System(errno)) => errno.into(),
            other => Self::other(other),
        }
    }
}

impl Ownership {
    /// Takes an identity and its ids, for a tree in which links, fifos and the like belong to root
    /// until something else is said.
    pub fn new(identity: Identity, ids: IdMap) -> Self {
        Self {
            identity,
            ids,
            known: Owners::new(),
            given: RefCell::default(),
            changed: Cell::new(false),
        }
    }

    /// For a tree that is read, whose links, fifos and the like have these owners.
    #[must_use]
    pub fn knowing(mut self, known: Owners) -> Self {
        self.known = known;
        self
    }

    /// For a tree that is written, over layers whose links, fifos and the like have these owners.
    #[must_use]
    pub fn over(self, specials: Specials) -> Self {
        self.given.replace(specials);
        self
    }

    /// Returns the identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether owners are records.
    pub fn is_emulated(&self) -> bool {
        self.identity == Identity::Emulated
    }

    /// Returns the ids that files can have.
    pub fn ids(&self) -> IdMap {
        self.ids
    }

    /// Returns the ids that the kernel knows, which file capabilities are about.
    pub fn kernel_ids(&self) -> IdMap {
        IdMap {
            count: if self.is_emulated() {
                1
            } else {
                self.ids.count
            },
            ..self.ids
        }
    }

    /// Whether the container has an owner's ids.
    pub fn exists(&self, owner: Owner) -> bool {
        let has = |id: u32| {
            if self.is_emulated() {
                id != u32::MAX
            } else {
                self.ids.to_executor(id).is_some()
            }
        };
        has(owner.uid) && has(owner.gid)
    }

    fn real(&self, owner: Owner) -> Result<(Uid, Gid), Trouble> {
        match (
            self.ids.to_executor(owner.uid),
            self.ids.to_executor(owner.gid),
        ) {
            (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => Err(Trouble::NoSuchOwner(owner)),
        }
    }

    fn on_disk(&self, stat: &Stat) -> Result<Owner, Trouble> {
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        match (self.ids.to_container(uid), self.ids.to_container(gid)) {
            (Some(uid), Some(gid)) => Ok(Owner { uid, gid }),
            _ => Err(Trouble::Foreign(uid, gid)),
        }
    }

    /// Sets the owner of an open file or directory. Set-id bits and file capabilities have to be set
    /// after it: a real change clears them.
    ///
    /// # Errors
    /// The owner does not exist, or the kernel refuses.
    pub fn set(&self, fd: impl AsFd, owner: Owner) -> Result<(), Trouble> {
        self.set_record(fd, &owner.into())
    }

    /// As [`Self::set`]; an empty file may also stand for a device, where ids are emulated.
    ///
    /// # Errors
    /// Those of [`Self::set`]; and `EPERM` for a device anywhere else.
    pub fn set_record(&self, fd: impl AsFd, record: &Record) -> Result<(), Trouble> {
        if !self.exists(record.owner) {
            return Err(Trouble::NoSuchOwner(record.owner));
        }
        if self.is_emulated() {
            return Ok(record::write(fd, record)?);
        }
        if record.device.is_some() {
            return Err(Errno::PERM.into());
        }
        let (uid, gid) = self.real(record.owner)?;
        Ok(rustix::fs::fchown(fd, Some(uid), Some(gid))?)
    }

    /// Sets the owner of a symbolic link, fifo, socket or device.
    ///
    /// # Errors
    /// Those of [`Self::set`]; and no room for one more.
    pub fn set_special(&self, dir: impl AsFd, name: &OsStr, owner: Owner) -> Result<(), Trouble> {
        if !self.exists(owner) {
            return Err(Trouble::NoSuchOwner(owner));
        }
        if !self.is_emulated() {
            let (uid, gid) = self.real(owner)?;
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            return Ok(rustix::fs::chownat(
                dir,
                name,
                Some(uid),
                Some(gid),
                nofollow,
            )?);
        }
        let mut given = self.given.borrow_mut();
        if owner == Owner::ROOT && given.is_empty() {
            return Ok(());
        }
        let inode = look_up(dir, name)?;
        given.set(inode, owner)?;
        self.changed.set(true);
        Ok(())
    }

    /// Notes that `name` in `dir` has become another name of what `source` in `from` is: in an
    /// overlay its inode may have another number under the new name.
    ///
    /// # Errors
    /// Those of statx(2); and no room for one more.
    pub fn linked(&self, source: Inode, dir: impl AsFd, name: &OsStr) -> Result<(), Trouble> {
        let mut given = self.given.borrow_mut();
        if let Some(owner) = given.get(source) {
            given.set(look_up(dir, name)?, owner)?;
            self.changed.set(true);
        }
        Ok(())
    }

    /// Returns what an open file or directory with this status is.
    ///
    /// # Errors
    /// It belongs to none of the container's ids, or its record can't be read, or says what its
    /// file can't be.
    pub fn record(&self, fd: impl AsFd, stat: &Stat) -> Result<Record, Trouble> {
        let owner = self.on_disk(stat)?;
        if !self.is_emulated() {
            return Ok(owner.into());
        }
        let record = record::read(fd)?.unwrap_or_default();
        let is_empty_file =
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
        if record.device.is_some() && !is_empty_file {
            return Err(Unreadable::Malformed.into());
        }
        Ok(record)
    }

    /// Returns the owner of a symbolic link, fifo, socket or device with this status, at `path` in
    /// the tree.
    ///
    /// # Errors
    /// It belongs to none of the container's ids.
    pub fn special(&self, path: &[u8], stat: &Stat) -> Result<Owner, Trouble> {
        let owner = self.on_disk(stat)?;
        Ok(if self.is_emulated() {
            self.known.get(path)
        } else {
            owner
        })
    }

    /// Adds the owners of links, fifos and the like of another tree, which were not changed.
    ///
    /// # Errors
    /// No room for so many.
    pub fn learn(&self, specials: Specials) -> Result<(), Trouble> {
        let mut given = self.given.borrow_mut();
        for (inode, owner) in specials.iter() {
            given.set_lower(inode, owner)?;
        }
        Ok(())
    }

    /// Takes out the owners of links, fifos and the like of a tree that was written.
    pub fn take_specials(&self) -> Specials {
        self.given.take()
    }

    /// Puts them back, after somebody else has changed them.
    pub fn put_specials(&self, specials: Specials) {
        self.changed.set(self.changed.get() || !specials.is_empty());
        self.given.replace(specials);
    }

    /// Whether any owner of a link, fifo or the like may have changed.
    pub fn has_changed_specials(&self) -> bool {
        self.changed.get()
    }
}

/// Returns the inode of `name` in `dir`, unfollowed.
///
/// # Errors
/// Those of statx(2).
pub fn look_up(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<Inode> {
    let stat = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, Inode::WANTED)?;
    Ok(Inode::of(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Device;
    use std::fs::File;
    use std::os::unix::fs::symlink;

    fn emulated() -> Ownership {
        let ids = IdMap {
            first: rustix::process::geteuid().as_raw(),
            count: u32::MAX,
        };
        Ownership::new(Identity::Emulated, ids)
    }

    const WWW: Owner = Owner {
        uid: 33,
        gid: 70_000,
    };

    #[test]
    fn records_instead_of_owners() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = File::create(dir.path().join("f")).expect("create");
        let ownership = emulated();
        let read = || {
            let stat = rustix::fs::fstat(&file).expect("stat");
            ownership.record(&file, &stat)
        };
        assert_eq!(read(), Ok(Owner::ROOT.into()));
        if ownership.set(&file, WWW) == Err(Errno::OPNOTSUPP.into()) {
            eprintln!("SKIP: the temporary directory has no user attributes");
            return;
        }
        assert_eq!(read(), Ok(WWW.into()));
        let device = Record {
            owner: WWW,
            device: Some(Device {
                block: false,
                major: 1,
                minor: 3,
            }),
        };
        ownership.set_record(&file, &device).expect("set");
        assert_eq!(read(), Ok(device));
        file.set_len(1).expect("grow");
        assert_eq!(read(), Err(Unreadable::Malformed.into()));
        ownership.set(&file, Owner::ROOT).expect("set");
        assert_eq!(read(), Ok(Owner::ROOT.into()));
        let none = Owner {
            uid: u32::MAX,
            gid: 0,
        };
        assert_eq!(ownership.set(&file, none), Err(Trouble::NoSuchOwner(none)));
    }

    #[test]
    fn links_are_known_by_inode_and_read_by_path() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = File::open(dir.path()).expect("open");
        symlink("x", dir.path().join("a")).expect("symlink");
        let ownership = emulated();
        let (a, b) = (OsStr::new("a"), OsStr::new("b"));
        ownership.set_special(&at, a, Owner::ROOT).expect("set");
        assert!(!ownership.has_changed_specials());
        ownership.set_special(&at, a, WWW).expect("set");
        assert!(ownership.has_changed_specials());
        let inode = look_up(&at, a).expect("stat");
        rustix::fs::linkat(&at, a, &at, b, AtFlags::empty()).expect("link");
        ownership.linked(inode, &at, b).expect("linked");
        let specials = ownership.take_specials();
        assert_eq!(specials.get(look_up(&at, b).expect("stat")), Some(WWW));
        let mut known = Owners::new();
        known.set(b"d/a".to_vec(), WWW);
        let ownership = emulated().knowing(known);
        let stat = rustix::fs::statat(&at, a, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
        assert_eq!(ownership.special(b"d/a", &stat), Ok(WWW));
        assert_eq!(ownership.special(b"d/b", &stat), Ok(Owner::ROOT));
    }

    #[test]
    fn real_owners_are_translated() {
        let file = tempfile::tempfile().expect("temporary file");
        let uid = rustix::process::geteuid().as_raw();
        let ids = IdMap {
            first: uid,
            count: 1,
        };
        let ownership = Ownership::new(Identity::Subids, ids);
        let stat = rustix::fs::fstat(&file).expect("stat");
        if stat.st_gid != uid {
            eprintln!("SKIP: the caller's group has another number");
            return;
        }
        assert_eq!(ownership.record(&file, &stat), Ok(Owner::ROOT.into()));
        assert_eq!(ownership.set(&file, WWW), Err(Trouble::NoSuchOwner(WWW)));
        let far = IdMap {
            first: uid + 1,
            count: 1,
        };
        let ownership = Ownership::new(Identity::Subids, far);
        assert_eq!(
            ownership.record(&file, &stat),
            Err(Trouble::Foreign(uid, uid))
        );
    }
}
