//! How a container's processes are scheduled and where their memory is.
//!
//! Responsible for the attributes of the calling thread that a specification can set: scheduler,
//! I/O priority, processors, memory policy, execution domain. Must not know control groups.
//! Invariant: each is read in the parent, with every problem named, and applied in the child
//! without allocation.

mod affinity;
mod io_priority;
mod list;
mod memory_policy;
mod personality;
mod scheduler;

pub use affinity::Affinity;
pub use io_priority::IoPriority;
pub(crate) use list::parse_list;
pub use memory_policy::{FLAGS as MEMORY_FLAGS, MODES as MEMORY_MODES, MemoryPolicy};
pub use personality::Personality;
pub use scheduler::Scheduler;
