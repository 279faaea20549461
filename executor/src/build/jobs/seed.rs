//! Trees that are no layers: what bind mounts of the caller's files show, and new cache mounts.

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::copy::{CopyPart, Source, copy_parts};
use super::mounts::owner;
use super::specials::Stack;
use super::tree::Staged;
use super::{Descriptors, Scene};
use crate::error::{Result, ResultExt};
use crate::image::digest::Digest;
use crate::plan::step::Permissions;

/// Make a tree. Descriptors: the directory of each part that has one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeedTask {
    /// The staging directory, with `fs` in it.
    pub staging: PathBuf,
    /// What to copy into it, in order.
    pub parts: Vec<CopyPart>,
    /// The root directory's.
    pub permissions: Permissions,
}

/// A tree was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeedReply {
    /// Identity of the files that were read, for each part.
    pub stamps: Vec<Digest>,
    /// What could not be kept, for people.
    pub notes: Vec<String>,
    /// Size of the files in it, in bytes.
    pub bytes: u64,
}

pub(super) fn seed(scene: Scene, task: &SeedTask, fds: &mut Descriptors) -> Result<SeedReply> {
    let staged = Staged {
        lowers: Vec::new(),
        staging: task.staging.clone(),
        latest: None,
        without_user: false,
    };
    let tree = staged.open(scene)?;
    let copied = copy_parts(scene, &tree, &task.parts, fds)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = tree
        .merged
        .open("/", flags, Mode::empty())
        .op("open tree")?;
    let permissions = task.permissions;
    tree.ownership
        .set(&root, owner(permissions))
        .op("set owner of mount")?;
    rustix::fs::fchmod(&root, Mode::from_raw_mode(permissions.mode)).op("set mode of mount")?;
    let mut devices = false;
    if tree.ownership.is_emulated() {
        for part in &task.parts {
            if let Source::Snapshots(lowers) = &part.source {
                devices |= Stack::read(lowers)?.has_devices();
            }
        }
    }
    tree.finish(u64::from(devices))?;
    Ok(SeedReply {
        stamps: copied.stamps,
        notes: copied.notes,
        bytes: copied.bytes,
    })
}
