//! What this kernel and this user can do.
//!
//! Responsible for finding out, for `sandcrab doctor`. Must not decide or print. Invariant: what
//! can be tried is tried, in a process of its own, rather than concluded from a version.
