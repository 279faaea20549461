//! Owners of inodes that carry no record, while a container runs.
//!
//! Symbolic links, fifos, sockets and device nodes can't have `user.` attributes (xattr(7)), so
//! their owners are kept beside them. Responsible for this table. Must not know paths nor do
//! system calls. Invariant: what it says of an inode was said of that inode, not of an earlier one
//! with the same number; and it never grows beyond [`LIMIT`].

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Statx, StatxFlags};

use super::record::Owner;

/// How many owners a table holds at most; about 40 MB.
pub const LIMIT: usize = 1 << 20;

/// An inode, as statx(2) shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The file system's device number, as `st_dev`.
    pub dev: u64,
    /// The inode's number.
    pub ino: u64,
    /// When it was made, which tells it from an earlier one with its number: seconds and
    /// nanoseconds. Both are 0 on a file system that does not remember.
    pub born: (i64, u32),
}

impl Inode {
    /// What to ask statx(2) for.
    pub const WANTED: StatxFlags =
        StatxFlags::from_bits_retain(StatxFlags::INO.bits() | StatxFlags::BTIME.bits());

    /// Takes the facts from what statx(2) said.
    pub fn of(stat: &Statx) -> Self {
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        Self {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            born: if told {
                (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
            } else {
                (0, 0)
            },
        }
    }
}

/// The table has [`LIMIT`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {LIMIT} links, fifos, sockets and devices have owners of their own")]
pub struct Full;

/// Owners by inode. What is not in it belongs to root.
///
/// An inode of a lower layer has the number of the lower file for as long as overlayfs keeps it in
/// memory, also after it was copied up, which gives it another birth time; later it has the number
/// of the copy (Linux, overlayfs.rst, "Inode properties": such files can't carry the attribute that
/// would say what they were copied from). So whoever lets one be copied up (by rename, link, chmod or
/// setting times) keeps it in memory with [`Self::pin`].
#[derive(Debug, Default)]
pub struct Specials {
    /// By device and number. A lower layer's inode with several names, of which some were copied up,
    /// is several inodes of one number.
    owners: HashMap<(u64, u64), Vec<Known>>,
    count: usize,
    pins: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Known {
    /// `None`: whenever it was made. While it is in a lower layer nothing else gets its number.
    born: Option<(i64, u32)>,
    owner: Owner,
}

impl Specials {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many inodes have an owner here.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns the owner of an inode. One that was made at another time is another inode.
    pub fn get(&self, inode: Inode) -> Option<Owner> {
        let known = self.owners.get(&(inode.dev, inode.ino))?;
        let at = known.iter().position(|k| k.born == Some(inode.born));
        let at = at.or_else(|| known.iter().position(|k| k.born.is_none()))?;
        known.get(at).map(|k| k.owner)
    }

    /// Records the owner of an inode, in place of an earlier one with its number. Root's are
    /// recorded, too: an entry may stand for an inode whose layer said something else.
    ///
    /// # Errors
    /// There is no room.
    pub fn set(&mut self, inode: Inode, owner: Owner) -> Result<(), Full> {
        let known = self.owners.entry((inode.dev, inode.ino)).or_default();
        let same = known.iter_mut().find(|k| k.born == Some(inode.born));
        if let Some(known) = same {
            known.owner = owner;
            return Ok(());
        }
        // What was known as a lower layer's stays so.
        if let Some(known) = known.iter_mut().find(|k| k.born.is_none()) {
            known.owner = owner;
            return Ok(());
        }
        let more = 1 - known.len().min(1);
        if self.count + more > LIMIT {
            return Err(Full);
        }
        self.count += more;
        let born = Some(inode.born);
        *known = vec![Known { born, owner }];
        Ok(())
    }

    /// Records the owner of an inode that was just copied up from a lower layer, where other names
    /// of it may have stayed: what is known of those stays, too.
    ///
    /// # Errors
    /// There is no room.
    pub fn set_copied(&mut self, inode: Inode, owner: Owner) -> Result<(), Full> {
        if self.count >= LIMIT {
            return Err(Full);
        }
        let known = self.owners.entry((inode.dev, inode.ino)).or_default();
        let before = known.len();
        known.retain(|k| k.born != Some(inode.born));
        let born = Some(inode.born);
        known.push(Known { born, owner });
        self.count += known.len() - before;
        Ok(())
    }

    /// Records the owner of an inode of a lower layer, before anything runs.
    ///
    /// # Errors
    /// There is no room.
    pub fn set_lower(&mut self, inode: Inode, owner: Owner) -> Result<(), Full> {
        if self.count >= LIMIT {
            return Err(Full);
        }
        let known = self.owners.entry((inode.dev, inode.ino)).or_default();
        self.count += 1 - known.len().min(1);
        *known = vec![Known { born: None, owner }];
        Ok(())
    }

    /// Keeps an inode in memory, and so its number, for as long as the table is; `handle` is one of
    /// `O_PATH`, of an inode that is about to be copied up.
    pub fn pin(&mut self, handle: OwnedFd) {
        self.pins.push(handle);
    }

    /// Forgets an inode.
    pub fn remove(&mut self, inode: Inode) {
        let key = (inode.dev, inode.ino);
        let Some(known) = self.owners.get_mut(&key) else {
            return;
        };
        let before = known.len();
        known.retain(|k| k.born != Some(inode.born));
        if known.len() == before {
            known.retain(|k| k.born.is_some());
        }
        self.count -= before - known.len();
        if known.is_empty() {
            self.owners.remove(&key);
        }
    }

    /// Returns all that is recorded, in no order. The birth time of a lower layer's is not known.
    pub fn iter(&self) -> impl Iterator<Item = (Inode, Owner)> + '_ {
        let all = self.owners.iter();
        all.flat_map(|((dev, ino), known)| {
            known.iter().map(|k| {
                let inode = Inode {
                    dev: *dev,
                    ino: *ino,
                    born: k.born.unwrap_or_default(),
                };
                (inode, k.owner)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::AtFlags;

    fn inode(ino: u64, born: i64) -> Inode {
        Inode {
            dev: 1,
            ino,
            born: (born, 0),
        }
    }

    const WWW: Owner = Owner { uid: 33, gid: 33 };

    #[test]
    fn an_inode_made_later_is_another() {
        let mut specials = Specials::new();
        assert!(specials.is_empty());
        specials.set(inode(5, 100), WWW).expect("room");
        assert_eq!(specials.get(inode(5, 100)), Some(WWW));
        assert_eq!(specials.get(inode(5, 101)), None);
        assert_eq!(specials.get(inode(6, 100)), None);
        specials.set(inode(5, 101), Owner::ROOT).expect("room");
        assert_eq!(specials.get(inode(5, 101)), Some(Owner::ROOT));
        assert_eq!(specials.get(inode(5, 100)), None);
        assert_eq!(
            specials.iter().collect::<Vec<_>>(),
            [(inode(5, 101), Owner::ROOT)]
        );
        specials.remove(inode(5, 101));
        assert!(specials.is_empty());
    }

    #[test]
    fn an_inode_of_a_lower_layer_stays_the_same_when_it_is_copied_up() {
        let mut specials = Specials::new();
        specials.set_lower(inode(5, 100), WWW).expect("room");
        assert_eq!(specials.get(inode(5, 200)), Some(WWW));
        specials.set(inode(5, 200), Owner::ROOT).expect("room");
        assert_eq!(specials.get(inode(5, 300)), Some(Owner::ROOT));
    }

    #[test]
    fn names_that_were_not_copied_up_keep_their_owner() {
        const ROOT: Owner = Owner::ROOT;
        let mut specials = Specials::new();
        specials.set_lower(inode(5, 100), WWW).expect("room");
        specials.set_copied(inode(5, 200), ROOT).expect("room");
        let owners = |s: &Specials| [100, 200].map(|born| s.get(inode(5, born)));
        assert_eq!(owners(&specials), [Some(WWW), Some(ROOT)]);
        specials.set(inode(5, 200), WWW).expect("room");
        specials.set(inode(5, 100), ROOT).expect("room");
        assert_eq!(owners(&specials), [Some(ROOT), Some(WWW)]);
        assert_eq!(specials.len(), 2);
        specials.remove(inode(5, 200));
        // A lower layer's entry stands for all that is left.
        assert_eq!(owners(&specials), [Some(ROOT), Some(ROOT)]);
        specials.remove(inode(5, 100));
        assert!(specials.is_empty());
    }

    #[test]
    fn a_full_table_says_so() {
        let mut specials = Specials::new();
        for ino in 0..LIMIT as u64 {
            specials.set(inode(ino, 0), WWW).expect("room");
        }
        assert_eq!(specials.set(inode(LIMIT as u64, 0), WWW), Err(Full));
        specials
            .set(inode(7, 9), Owner::ROOT)
            .expect("known inodes change");
        assert_eq!(specials.len(), LIMIT);
    }

    #[test]
    fn facts_of_a_real_link() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("x", &link).expect("symlink");
        let stat = rustix::fs::statx(
            rustix::fs::CWD,
            &link,
            AtFlags::SYMLINK_NOFOLLOW,
            Inode::WANTED,
        )
        .expect("statx");
        let plain = rustix::fs::lstat(&link).expect("lstat");
        let inode = Inode::of(&stat);
        assert_eq!((inode.dev, inode.ino), (plain.st_dev, plain.st_ino));
    }
}
