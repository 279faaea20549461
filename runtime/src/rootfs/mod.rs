//! Root file systems: overlays of layers, and what a container has mounted in them.
//!
//! Responsible for mounts only, all by descriptor through the new mount API (fsopen(2),
//! open_tree(2), move_mount(2); Linux 5.12 for mount_setattr(2)). Must not know images or
//! processes. Invariant: a mount point inside a container's tree is opened beneath its root,
//! checked, and then mounted on by descriptor.

mod bind;
mod cgroup_mount;
mod copyup;
pub(crate) mod devices;
mod entry;
pub mod files;
mod filesystem;
pub(crate) mod host_devices;
mod idmap;
pub(crate) mod kernel;
pub mod layout;
pub(crate) mod mount;
mod mountinfo;
mod nodes;
pub mod options;
pub mod overlay;
pub(crate) mod pivot;
pub(crate) mod protect;
pub mod skeleton;
pub mod step_mounts;
mod target;

pub use layout::{Built, Layout, RootSource, Settings};
