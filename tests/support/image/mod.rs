//! Images as data: read from a layout or archive, flattened to one tree, compared.
//!
//! Responsible for what two images have in common and where they differ. Shares no code with the
//! programs under test, on purpose: a mistake in theirs must not be repeated here.

pub mod compare;
pub mod flatten;
pub mod read;
mod tape;

pub use compare::{Options, assert_same, compare};
pub use flatten::{Node, NodeKind, Tree, assert_file, flatten, node};
pub use read::Image;
