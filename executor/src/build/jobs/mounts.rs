//! What is mounted during a RUN step, on the job's side.
//!
//! Responsible for the request's form and for turning it into what the sandbox mounts. Must not
//! decide what a step sees.

use runtime::identity::Owner;
use runtime::rootfs::step_mounts::{Content, StepMount as Wanted};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::plan::step::Permissions;

/// Something that is mounted during a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepMount {
    /// Where the step sees it, absolute.
    pub target: String,
    /// What it is.
    pub content: MountContent,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountContent {
    /// A program that can only be read and executed.
    Script(String),
    /// An empty file system in memory, with the most bytes that it holds.
    Tmpfs(Option<u64>),
    /// A file in memory with one of the secrets.
    Secret {
        /// Its number among those that came with the request.
        number: usize,
        /// The file's.
        permissions: Permissions,
    },
}

/// Makes what the sandbox mounts.
pub(super) fn open(mounts: &[StepMount], secrets: &[Vec<u8>]) -> Result<Vec<Wanted>> {
    let mut wanted = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let (content, read_only) = match &mount.content {
            MountContent::Script(text) => (
                Content::File {
                    content: text.clone().into_bytes(),
                    mode: 0o755,
                    owner: Owner::ROOT,
                    inert: false,
                },
                true,
            ),
            MountContent::Tmpfs(size) => (Content::Memory { size: *size }, false),
            MountContent::Secret {
                number,
                permissions,
            } => (
                Content::File {
                    content: value(secrets, *number)?.to_vec(),
                    mode: permissions.mode,
                    owner: owner(*permissions),
                    inert: true,
                },
                true,
            ),
        };
        wanted.push(Wanted {
            target: mount.target.clone().into(),
            content,
            read_only,
        });
    }
    Ok(wanted)
}

/// Returns a secret by its number.
pub(super) fn value(secrets: &[Vec<u8>], number: usize) -> Result<&[u8]> {
    let found = secrets.get(number).map(Vec::as_slice);
    found.ok_or_else(|| Error::new("a secret did not come with its job").kind(Kind::Internal))
}

fn owner(permissions: Permissions) -> Owner {
    Owner {
        uid: permissions.uid,
        gid: permissions.gid,
    }
}
