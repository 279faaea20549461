//! Plans: from the syntax tree to what has to be done, without any I/O.
//!
//! Responsible for stages, variable scopes and the steps of each stage. Must not run or read
//! anything: base image configs are handed in.

pub mod contexts;
mod copy;
mod devices;
pub mod entitlements;
pub mod globals;
mod history;
mod inputs;
pub mod mounts;
mod path;
pub mod platform;
mod run;
pub mod scope;
pub mod stages;
pub mod step;
pub mod steps;
pub mod survey;
mod table;

pub use globals::global;
pub use stages::{Options, Plan, resolve};
pub use steps::{Lowered, Origin, apply_labels, lower, lower_all};
pub use survey::{Extents, Survey, survey};
