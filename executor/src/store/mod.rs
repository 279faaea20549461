//! The store: what survives between builds, shared by concurrent ones.
//!
//! Invariant: everything is written aside and renamed into place; a killed writer leaves garbage
//! in `tmp/` only.

pub mod blobs;
