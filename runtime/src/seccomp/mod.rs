//! The system calls that a container may make.
//!
//! Responsible for compiling and installing profiles: those of OCI documents and the default one
//! of RUN steps. Must not depend on what is run. Invariant: a call that no rule names gets the
//! profile's default, an entry point that it does not list is closed.

mod action;
mod architecture;
mod assemble;
mod default;
mod listener;
mod oci;
mod profile;
mod resolve;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use libc::c_ulong;
use rustix::thread::CapabilitySet;

use crate::error::{Error, Result};
use crate::{spec, sys};

use architecture::Family;
use assemble::Part;
use profile::Profile;

pub(crate) use default::Forwarded;
pub use listener::{container_process_state, send_listener};

/// A compiled profile.
#[derive(Debug, Clone)]
pub struct Filter {
    parts: Vec<Part>,
    flags: c_ulong,
}

/// Compiles the profile of a document. What is wrong with it is an error that names the place.
pub fn compile(seccomp: &spec::Seccomp) -> Result<Filter> {
    let family = Family::host();
    let profile = oci::profile(seccomp, family)?;
    let flags = oci::flags(seccomp)?;
    if seccomp.flags.is_some() && !sys::seccomp_has_flags(flags) {
        return Err(Error::new("compile seccomp profile")
            .cause("linux.seccomp.flags: this kernel does not know all of them".to_owned()));
    }
    filter(&profile, flags, family)
}

/// Returns the compiled default profile of RUN steps; the first call compiles it, for later and
/// for forked processes.
pub fn default_filter() -> Result<&'static Filter> {
    static FILTER: OnceLock<Result<Filter>> = OnceLock::new();
    FILTER
        .get_or_init(|| {
            let family = Family::host();
            let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
            filter(&default::profile(family), flags, family)
        })
        .as_ref()
        .map_err(Error::clone)
}

/// Whether some call is allowed to who has one of these capabilities besides the default ones.
pub(crate) fn unlocks(added: CapabilitySet) -> bool {
    default::unlocked(added).next().is_some()
}

/// Compiles the default profile for a container that has these capabilities besides the default
/// ones.
pub(crate) fn filter_with(added: CapabilitySet) -> Result<Filter> {
    let family = Family::host();
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    filter(&default::profile_with(family, added), flags, family)
}

/// Returns the default profile with calls that a supervisor answers; compiled once, as
/// [`default_filter`].
pub(crate) fn forwarding_filter(forwarded: Forwarded) -> Result<&'static Filter> {
    static FILTER: OnceLock<Result<Filter>> = OnceLock::new();
    FILTER
        .get_or_init(|| {
            let family = Family::host();
            let mut flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
            // Linux 5.19. Without it a caller that gets signals asks again and again.
            if sys::seccomp_has_flag(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
                flags |= libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
            }
            filter(&default::forwarding(family, forwarded), flags, family)
        })
        .as_ref()
        .map_err(Error::clone)
}

fn filter(profile: &Profile<'_>, flags: c_ulong, family: &Family) -> Result<Filter> {
    let sections = resolve::resolve(profile, family);
    let installing = u32::try_from(libc::SYS_seccomp).unwrap_or(u32::MAX);
    let parts = assemble::assemble(&sections, profile.foreign, installing)?;
    Ok(Filter { parts, flags })
}

impl Filter {
    /// Says whether [`Self::install`] returns a listener.
    pub fn notifies(&self) -> bool {
        self.parts.iter().any(|part| part.notifies)
    }

    /// Installs the filter for the calling thread, which needs `CAP_SYS_ADMIN` in its user
    /// namespace or no-new-privs. Neither allocates nor locks.
    ///
    /// With a listener, any further call may wait for the agent's answer, except write(2): the
    /// caller's parent takes the listener by pidfd_getfd(2) when it is told the number, and sends
    /// it by [`send_listener`] before anything else.
    pub fn install(&self) -> rustix::io::Result<Option<OwnedFd>> {
        let mut listener = None;
        for part in &self.parts {
            let found = sys::set_filter(&part.instructions, self.flags, part.notifies)?;
            listener = listener.or(found);
        }
        Ok(listener)
    }
}
