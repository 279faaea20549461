//! Protections switched off one by one, to show what each of them is for.
//!
//! Responsible for naming them and for knowing which ones are off. Must not protect anything.
//! Invariant: without the cargo feature `weaken` all of them are on, and asking compiles to
//! nothing. The feature is for the attacks in `tests/security`: they succeed where the protection
//! is off. No release can have it.

#[cfg(all(feature = "weaken", not(debug_assertions)))]
compile_error!(
    "the feature `weaken` takes protections away: it is for tests, in debug builds only"
);

/// What can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// The runtime's program can't be written to by a container.
    Program,
    /// A container's paths are resolved beneath its root.
    Root,
    /// What is mounted on is a descriptor, not a path.
    Target,
    /// Nothing but proc is mounted on `/proc` or in it, and not through a link.
    OverProc,
    /// What is written to is a file of a real proc.
    ProcFiles,
    /// What hides a path is the host's `/dev/null`, and is checked to be.
    Masks,
    /// What is hidden in `/proc` is looked for in what was mounted there, not by its path.
    Place,
    /// The host's root is let go.
    OldRoot,
    /// The working directory is inside of the root.
    Directory,
    /// What the program is not to have open is closed.
    Descriptors,
    /// `/dev/console` is no link.
    Console,
    /// `exec --cap` leaves the inheritable set alone.
    Inheritable,
    /// What stands in for a kernel file system is restricted in all its parts.
    StandIn,
    /// What is in a device's place and isn't the device is replaced.
    Nodes,
    /// The container's users are read from a regular file only.
    Users,
    /// A container that is being made ends with its maker.
    Parent,
    /// A container's id is one plain name.
    Ids,
    /// The state directory is the caller's own.
    State,
}

/// Says whether a protection is switched off.
#[cfg(not(feature = "weaken"))]
#[inline(always)]
pub const fn off(_: Protection) -> bool {
    false
}

/// Says whether a protection is switched off: whether `SANDCRAB_WEAKEN` names it.
#[cfg(feature = "weaken")]
pub fn off(protection: Protection) -> bool {
    use std::sync::OnceLock;

    static NAMES: OnceLock<String> = OnceLock::new();
    // The one place of the library that reads the environment: no interface is to know of this.
    let names = NAMES.get_or_init(|| std::env::var("SANDCRAB_WEAKEN").unwrap_or_default());
    let own = format!("{protection:?}");
    names.split(',').any(|name| name == own)
}
