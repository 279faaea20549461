//! The skeleton layer: mount points that an image may lack.
//!
//! Responsible for a directory to put at the very bottom of an overlay, so that mounting leaves
//! no trace in the upper directory. Must not hold content. Invariant: every mount point of the
//! sandbox exists in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::error::{Result, ResultExt};
use crate::identity::IdMap;

/// Directories that the sandbox mounts on.
pub(crate) const DIRS: [&str; 3] = ["proc", "sys", "dev"];

/// Files that callers usually mount on.
const FILES: [&str; 2] = ["etc/resolv.conf", "etc/hosts"];

/// Fills `dir`, which is made when missing. Owners are those of container root when the caller
/// may set them, which needs the executor's user namespace.
pub fn create(dir: &Path, ids: IdMap) -> Result<()> {
    let own = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).op_path("set mode of", path)?;
        chown(path, ids.to_executor(0), ids.to_executor(0)).op_path("set owner of", path)
    };
    fs::create_dir_all(dir.join("etc")).op_path("create directory", dir)?;
    own(dir, 0o755)?;
    own(&dir.join("etc"), 0o755)?;
    for name in DIRS {
        let path = dir.join(name);
        fs::create_dir_all(&path).op_path("create directory", &path)?;
        own(&path, 0o755)?;
    }
    for name in FILES {
        let path = dir.join(name);
        fs::write(&path, "").op_path("create file", &path)?;
        own(&path, 0o644)?;
    }
    Ok(())
}
