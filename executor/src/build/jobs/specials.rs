//! Owners of links, fifos and the like in stacks of snapshots, where ids are emulated.
//!
//! Responsible for the file beside each snapshot that names them by path, for what of it shows in a
//! stack, and for finding the paths again after a step. Must not know what a step does. Invariant:
//! a file that can't be read fails the step, and none means that all belong to root.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime::identity::{Inode, Owner, Owners, Specials, ownership};
use runtime::path::Root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, ResultExt};
use crate::layer::entry::join;

/// The file's name in a snapshot's directory, where `fs` is its tree.
const NAME: &str = "owners";

/// Something that shows in a stack and belongs to somebody else than root.
#[derive(Debug)]
pub(super) struct Special {
    path: Vec<u8>,
    inode: Inode,
    owner: Owner,
}

/// What the snapshots of a stack say.
#[derive(Debug)]
pub(super) struct Stack {
    /// The tree and its table, topmost first.
    layers: Vec<(PathBuf, Owners)>,
}

impl Stack {
    /// Reads what is beside the trees of a stack, topmost first.
    pub(super) fn read(lowers: &[PathBuf]) -> Result<Self> {
        let layers = lowers.iter().map(|tree| {
            let path = tree.with_file_name(NAME);
            let owners = match fs::read(&path) {
                Ok(bytes) => Owners::parse(&bytes).ok_or_else(|| {
                    Error::new("the snapshot's owners can't be read:")
                        .path(&path)
                        .hint(
                            "`sandcrab prune --all` removes unpacked layers, which are made again",
                        )
                })?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => Owners::new(),
                Err(e) => return Err(Error::new("read").path(path).source(e)),
            };
            Ok((tree.clone(), owners))
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// Whether files of some layer stand for devices.
    pub(super) fn has_devices(&self) -> bool {
        self.layers.iter().any(|(_, owners)| owners.has_devices())
    }

    /// Returns those that show in the stack's merged view.
    pub(super) fn visible(&self, merged: &Root) -> Result<Vec<Special>> {
        let mut paths: Vec<&[u8]> = (self.layers.iter())
            .flat_map(|(_, owners)| owners.iter().map(|(path, _)| path))
            .collect();
        paths.sort_unstable();
        paths.dedup();
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let roots = self.layers.iter().map(|(tree, owners)| {
            let root = Root::open_host(tree).op_path("open", tree)?;
            Ok((root, owners))
        });
        let roots = roots.collect::<Result<Vec<_>>>()?;
        let mut found = Vec::new();
        for path in paths {
            if let Some(inode) = special_at(merged, path)?
                && let Some(owner) = owner_at(&roots, path)?
            {
                found.push(Special {
                    path: path.to_vec(),
                    inode,
                    owner,
                });
            }
        }
        Ok(found)
    }
}

/// Returns the table of a tree that is only read.
pub(super) fn by_path(specials: Vec<Special>) -> Owners {
    let mut owners = Owners::new();
    for special in specials {
        owners.set(special.path, special.owner);
    }
    owners
}

/// Returns the table of a tree that is about to be changed.
pub(super) fn by_inode(specials: &[Special]) -> Result<Specials> {
    let mut table = Specials::new();
    for special in specials {
        table
            .set_lower(special.inode, special.owner)
            .op("keep owners")?;
    }
    Ok(table)
}

/// The names of one inode.
#[derive(Debug, Default)]
struct Names {
    owner: Option<Owner>,
    paths: Vec<Vec<u8>>,
}

/// Finds what an upper directory holds of a table, by looking it up through the mount that it is the
/// upper directory of: inode numbers are the mount's.
pub(super) fn collect(upper: &Root, merged: &Root, table: &Specials) -> Result<Owners> {
    let mut owners = Owners::new();
    let mut links: HashMap<(u64, u64), Names> = HashMap::new();
    let mut rest = vec![Vec::new()];
    while let Some(dir) = rest.pop() {
        let shown = if dir.is_empty() { b"/" } else { &dir[..] };
        let reading = |e: Errno| Error::new("read").path_bytes(shown).source(e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = upper.open(OsStr::from_bytes(shown), flags, Mode::empty());
        let opened = opened.map_err(reading)?;
        let mut view = None;
        for entry in Dir::read_from(&opened).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let name = OsStr::from_bytes(name);
            let path = join(&dir, name.as_bytes());
            match entry.file_type() {
                FileType::RegularFile => continue,
                FileType::Directory => {
                    rest.push(path);
                    continue;
                }
                _ => {}
            }
            let stat = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(reading)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => continue,
                // Reached where the file system does not tell types with names.
                FileType::Directory => {
                    rest.push(path);
                    continue;
                }
                _ => {}
            }
            let view = match &view {
                Some(view) => view,
                None => {
                    let opened = merged.open_dir(OsStr::from_bytes(shown));
                    view.insert(opened.map_err(reading)?)
                }
            };
            let owner = match ownership::look_up(view, name) {
                Ok(inode) => table.get(inode),
                // A deletion.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(Error::new("read").path_bytes(&path).source(e)),
            };
            if stat.st_nlink > 1 {
                let names = links.entry((stat.st_dev, stat.st_ino)).or_default();
                names.owner = names.owner.or(owner);
                names.paths.push(path);
            } else if let Some(owner) = owner {
                owners.set(path, owner);
            }
        }
    }
    // What was linked after it was copied up has the number of the copy under its new name, and that
    // of the original under the old one: the names have one owner all the same.
    for names in links.into_values() {
        if let Some(owner) = names.owner {
            for path in names.paths {
                owners.set(path, owner);
            }
        }
    }
    Ok(owners)
}

/// Writes a table beside the tree of a snapshot in the making.
pub(super) fn write(staging: &Path, owners: &Owners) -> Result<()> {
    if owners.is_empty() {
        return Ok(());
    }
    let path = staging.join(NAME);
    fs::write(&path, owners.render()).op_path("write", &path)
}

/// Replaces the table beside a tree that is in use, at once.
pub(super) fn replace(tree: &Path, owners: &Owners) -> Result<()> {
    let path = tree.with_file_name(NAME);
    let new = tree.with_file_name(format!("{NAME}.{}", std::process::id()));
    fs::write(&new, owners.render()).op_path("write", &new)?;
    fs::rename(&new, &path).op_path("write", &path)
}

/// Returns the inode at a path, if it is one that carries no record.
fn special_at(root: &Root, path: &[u8]) -> Result<Option<Inode>> {
    let failed = |e: Errno| Error::new("read status of").path_bytes(path).source(e);
    let handle = match root.handle(OsStr::from_bytes(path)) {
        Ok(handle) => handle,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let wanted = Inode::WANTED | rustix::fs::StatxFlags::TYPE;
    let stat = rustix::fs::statx(&handle, "", AtFlags::EMPTY_PATH, wanted).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let carries = matches!(kind, FileType::RegularFile | FileType::Directory);
    Ok((!carries).then(|| Inode::of(&stat)))
}

/// Returns who owns what shows at a path: the topmost layer that has it says so.
fn owner_at(layers: &[(Root, &Owners)], path: &[u8]) -> Result<Option<Owner>> {
    for (root, owners) in layers {
        if special_at(root, path)?.is_some() {
            let owner = owners.get(path);
            return Ok((owner != Owner::ROOT).then_some(owner));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const WWW: Owner = Owner { uid: 33, gid: 33 };

    /// A snapshot with links, of which some belong to somebody.
    fn snapshot(dir: &Path, name: &str, links: &[&str], owned: &[&str]) -> PathBuf {
        let (home, tree) = (dir.join(name), dir.join(name).join("fs"));
        fs::create_dir_all(tree.join("d")).expect("mkdir");
        for link in links {
            symlink(name, tree.join(link)).expect("symlink");
        }
        let mut owners = Owners::new();
        for path in owned {
            owners.set(path.as_bytes().to_vec(), WWW);
        }
        write(&home, &owners).expect("write");
        assert_eq!(home.join(NAME).exists(), !owned.is_empty());
        tree
    }

    #[test]
    fn the_topmost_layer_that_has_a_path_says_whose_it_is() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let low = snapshot(
            dir.path(),
            "low",
            &["a", "b", "d/c"],
            &["a", "b", "d/c", "gone"],
        );
        let high = snapshot(dir.path(), "high", &["b", "new"], &["new"]);
        let stack = Stack::read(&[high.clone(), low.clone()]).expect("read");
        assert!(!stack.has_devices());
        // As the overlay would show it.
        let view = snapshot(dir.path(), "view", &["a", "b", "d/c", "new"], &[]);
        let merged = Root::open_host(&view).expect("open");
        let visible = stack.visible(&merged).expect("look up");
        let table = by_inode(&visible).expect("room");
        let owners = by_path(visible);
        let paths: Vec<_> = owners.iter().map(|(path, _)| path.to_vec()).collect();
        assert_eq!(paths, [&b"a"[..], b"d/c", b"new"]);
        assert_eq!(table.len(), 3);
        // Through a link nothing is found.
        fs::rename(view.join("d"), view.join("e")).expect("rename");
        symlink("e", view.join("d")).expect("symlink");
        let owners = by_path(stack.visible(&merged).expect("look up"));
        assert_eq!(owners.get(b"d/c"), Owner::ROOT);
        fs::write(low.with_file_name(NAME), "x").expect("write");
        let error = Stack::read(&[high, low]).expect_err("damaged");
        assert!(error.to_string().contains("owners"), "{error}");
    }

    #[test]
    fn paths_are_found_again_by_inode() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let tree = snapshot(dir.path(), "up", &["a", "b", "d/c"], &[]);
        fs::hard_link(tree.join("b"), tree.join("d/same")).expect("link");
        fs::write(tree.join("file"), "").expect("write");
        let root = Root::open_host(&tree).expect("open");
        let mut table = Specials::new();
        for path in ["b", "d/c"] {
            let inode = special_at(&root, path.as_bytes()).expect("look up");
            table.set(inode.expect("a link"), WWW).expect("room");
        }
        let owners = collect(&root, &root, &table).expect("collect");
        let paths: Vec<_> = owners.iter().map(|(path, _)| path.to_vec()).collect();
        assert_eq!(paths, [&b"b"[..], b"d/c", b"d/same"]);
        assert!(special_at(&root, b"file").expect("look up").is_none());
    }
}
