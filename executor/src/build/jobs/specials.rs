//! Owners of links, fifos and the like in stacks of snapshots, where ids are emulated.
//!
//! Responsible for the file beside each snapshot that names them by path, for what of it shows in a
//! stack, and for finding the paths again after a step. Must not know what a step does. Invariant:
//! a file that can't be read fails the step, and none means that all belong to root.

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

/// Finds what an upper directory holds of a table, by looking it up through the mount that it is the
/// upper directory of: inode numbers are the mount's.
pub(super) fn collect(upper: &Root, merged: &Root, table: &Specials) -> Result<Owners> {
    let mut owners = Owners::new();
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
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW);
                    FileType::from_raw_mode(stat.map_err(reading)?.st_mode)
                }
                known => known,
            };
            let path = join(&dir, name.as_bytes());
            match kind {
                FileType::RegularFile => {}
                FileType::Directory => rest.push(path),
                _ => {
                    let view = match &view {
                        Some(view) => view,
                        None => {
                            view.insert(merged.open_dir(OsStr::from_bytes(shown)).map_err(reading)?)
                        }
                    };
                    match ownership::look_up(view, name) {
                        Ok(inode) => {
                            if let Some(owner) = table.get(inode) {
                                owners.set(path, owner);
                            }
                        }
                        // A deletion.
                        Err(Errno::NOENT) => {}
                        Err(e) => return Err(Error::new("read").path_bytes(&path).source(e)),
                    }
                }
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
