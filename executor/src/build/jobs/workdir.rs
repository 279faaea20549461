//! WORKDIR: a directory that exists afterwards.

use runtime::identity::Owner;
use runtime::identity::ownership::Trouble;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::tree::{LayerReply, Staged, Tree};
use super::{Descriptors, Scene};
use crate::build::users;
use crate::error::{Error, Result};

/// Make a working directory. Descriptor: the layer's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkdirTask {
    /// The snapshots below and the staging directory.
    pub tree: Staged,
    /// Absolute, clean path.
    pub path: String,
    /// Who owns what has to be made: USER, verbatim; empty for root.
    pub user: String,
}

/// Makes the directory; `None` when it was there already.
pub(super) fn workdir(
    scene: Scene,
    task: &WorkdirTask,
    fds: &mut Descriptors,
) -> Result<Option<LayerReply>> {
    let out = fds.take()?;
    let tree = task.tree.open(scene)?;
    let made = make(scene, &tree, &task.path, &task.user)?;
    if made {
        tree.write_layer(scene, out).map(Some)
    } else {
        Ok(None)
    }
}

/// Makes `path` with its missing parents, owned by `user`; tells whether anything was missing. As in
/// BuildKit and buildah, that is whom COPY's `--chown` would name: a number alone is the group's, too.
pub(super) fn make(scene: Scene, tree: &Tree, path: &str, user: &str) -> Result<bool> {
    let root = &tree.merged;
    if root.open_dir(path).is_ok() {
        return Ok(false);
    }
    let owner = match user.strip_suffix(':').unwrap_or(user) {
        "" => Owner::ROOT,
        user => {
            let (uid, gid) = users::resolve_owner(root, user)?;
            Owner { uid, gid }
        }
    };
    if !tree.ownership.exists(owner) {
        return Err(super::tree::no_such_id(scene, path, owner));
    }
    root.make_dirs(path, Mode::from_raw_mode(0o755), &mut |dir| {
        tree.ownership.set(dir, owner).map_err(Trouble::errno)
    })
    .map_err(|e| match e {
        rustix::io::Errno::NOTDIR | rustix::io::Errno::EXIST => {
            Error::new("a part of the working directory is not a directory:").path(path)
        }
        other => Error::new("create working directory")
            .path(path)
            .source(other),
    })?;
    Ok(true)
}
