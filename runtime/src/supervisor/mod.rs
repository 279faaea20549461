//! The supervisor: it answers the system calls of a container that has one id as if it had all.
//!
//! Responsible for the emulated identity's credentials. Must not know images. Invariant: an answer
//! gives a container nothing that its one id could not do by itself.

pub(crate) mod credentials;
