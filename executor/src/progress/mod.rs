//! Progress: events flow from all parts of a build to exactly one renderer.

pub mod event;
