//! The pieces of work that are measured.
//!
//! Responsible for what is to be done, and for what must be there afterwards. Must not know who does
//! it. Invariant: each piece can be done any number of times, one after the other.

mod builds;
mod files;
mod images;

use support::{Registry, World};

/// Something to do.
#[derive(Debug)]
pub(crate) struct Work {
    /// For the table.
    pub name: &'static str,
    /// What it is.
    pub task: Task,
    /// How often, at most.
    pub rounds: usize,
    /// Whether what it leaves would fill the disk, if it stayed.
    pub large: bool,
    /// A script that is run in the root directory of the image afterwards, in which all paths are
    /// relative, and what it prints when the work was done; a line `CONTENT` is that of the file that
    /// changes.
    pub proof: (&'static str, String),
}

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Build an image.
    Build(Build),
    /// Pull an image into an empty store, and unpack it.
    Pull {
        /// Its reference.
        image: String,
    },
    /// Push an image, which is there, to an empty registry, `$DEST`.
    Push {
        /// Its reference.
        image: String,
        /// How many layers it has.
        layers: usize,
    },
}

/// A build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Build {
    /// Context directory in the world; its Dockerfile is inside.
    pub context: &'static str,
    /// Whether the cache may be used; it is filled beforehand.
    pub cached: bool,
    /// How many stages and steps at a time.
    pub jobs: Option<u32>,
    /// How the layers of the OCI archive are compressed that is written, too, if one is.
    pub archive: Option<&'static str>,
    /// A file of the context that is another one in each turn.
    pub changes: Option<&'static str>,
    /// The script of its one RUN step, for a comparison without any builder.
    pub script: Option<&'static str>,
}

/// Prepares the pieces of work whose names are wanted.
pub(crate) fn all(world: &World, wanted: &dyn Fn(&str) -> bool) -> Vec<Work> {
    let registry = Registry::shared().unwrap_or_else(|why| panic!("{why}"));
    let mut all = builds::all(world, registry, wanted);
    all.extend(images::all(registry, wanted));
    all
}
