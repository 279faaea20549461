//! System calls about processor time, I/O priority, memory placement and the execution domain.
//!
//! Responsible for the raw calls. Must hold no policy. Invariant: all are usable in a forked child.

use std::ffi::{c_int, c_ulong};
use std::ptr;

use rustix::io::{Errno, Result};

use super::{check, check_long};

/// `struct sched_attr` with utilisation clamps, sched_setattr(2), Linux 5.3.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) util_min: u32,
    pub(crate) util_max: u32,
}

/// Sets how the calling thread is scheduled.
pub(crate) fn set_scheduler(attributes: &SchedulerAttributes) -> Result<()> {
    // SAFETY: the kernel reads as many bytes as the structure's own size field says.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, ptr::from_ref(attributes), 0) };
    check_long(ret).map(drop)
}

/// Sets the I/O priority of the calling thread, ioprio_set(2).
pub(crate) fn set_io_priority(priority: c_int) -> Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    // SAFETY: plain integers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    check_long(ret).map(drop)
}

/// Sets the memory policy of the calling thread, set_mempolicy(2). `nodes` is a bit mask.
pub(crate) fn set_memory_policy(mode: c_int, nodes: &[u64]) -> Result<()> {
    let bits = nodes.len().checked_mul(64).ok_or(Errno::INVAL)?;
    // The kernel looks at one bit less than it is told (mm/mempolicy.c, `get_nodes`).
    let (mask, bits) = match bits {
        0 => (ptr::null(), 0),
        bits => (nodes.as_ptr(), bits + 1),
    };
    // SAFETY: the mask has the number of bits that the kernel reads, or is null and has none.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    check_long(ret).map(drop)
}

/// Sets the execution domain, personality(2).
pub(crate) fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::personality(c_ulong::from(persona)) }).map(drop)
}
