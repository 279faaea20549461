//! Caches that are elsewhere, and layers that stay there until something needs them.

mod ahead;
mod cutoff;
mod exchange;
mod lazy;
mod once;
mod places;

use support::{Base, Registry, World};

/// Starts a registry of a test's own, with a base image; `None` where there is none.
fn registry(world: &World, name: &str) -> Option<(Registry, String)> {
    let registry = Registry::private(&format!("{name}-{}", world.user.name()));
    let started = registry.and_then(|registry| {
        let base = registry.base(Base::Busybox)?;
        Ok((registry, base))
    });
    match started {
        Ok(started) => Some(started),
        Err(why) => {
            support::skip(&world.test, &why);
            None
        }
    }
}
