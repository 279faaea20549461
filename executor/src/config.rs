//! Settings: what the command line and the environment decided, as values.
//!
//! Plain data between the edge, which makes it, and all other parts, which are handed what they
//! need of it. There is no configuration file. Must not read anything itself.

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// What holds for a whole command.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store's directory.
    pub root: PathBuf,
    /// A directory on disk for large temporary files outside of the store.
    pub temp_dir: PathBuf,
    /// How many steps run at the same time.
    pub jobs: NonZeroUsize,
    /// `--authfile`: the only file with credentials, when given.
    pub authfile: Option<PathBuf>,
    /// Registries (`host` or `host:port`) that may have any certificate or none.
    pub insecure_registries: Vec<String>,
}
