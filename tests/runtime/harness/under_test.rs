//! Which runtime is tested.
//!
//! Responsible for finding it and for naming it. Must not know what it is asked to do.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use support::{World, scratch};

/// A runtime whose command line is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `sandcrab-oci`, or any other that has to pass everything.
    Sandcrab,
    /// runc; what is said of it here is true of 1.1.5.
    Runc,
    /// crun; what is said of it here is true of 1.8.1.
    Crun,
}

/// Returns the program, where every account may execute it.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("SANDCRAB_TEST_RUNTIME") {
        // Both are installed for all.
        Some(path) => {
            support::process::find(&path.to_string_lossy()).unwrap_or_else(|| PathBuf::from(path))
        }
        None => {
            let tests = std::env::current_exe().expect("a path of its own");
            let built = tests
                .ancestors()
                .map(|directory| directory.join("sandcrab-oci"))
                .find(|path| path.is_file())
                .expect("`cargo build --package sandcrab-shim` makes the program");
            scratch::install(&built)
        }
    })
}

/// Returns which runtime it is.
pub(crate) fn kind() -> Kind {
    match program().file_name().and_then(|name| name.to_str()) {
        Some("runc") => Kind::Runc,
        Some("crun") => Kind::Crun,
        _ => Kind::Sandcrab,
    }
}

/// Returns whether the runtime is one that is known not to do what the test asks for, and says so.
pub(crate) fn differs(world: &World, known: &[(Kind, &str)]) -> bool {
    let found = known.iter().find(|(kind, _)| *kind == self::kind());
    if let Some((kind, why)) = found {
        support::skip(&world.test, &format!("{kind:?}: {why}"));
    }
    found.is_some()
}
