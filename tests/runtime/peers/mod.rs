//! Other people's tools on top of the runtime under test.

mod buildah;
mod containerd;
mod docker;
mod podman;

use std::sync::OnceLock;

use support::World;

/// Makes the busybox image available as an OCI layout, and returns it as the tools name it.
fn image(world: &World) -> Option<String> {
    // Tests of one run share it, and the first one makes it.
    static MADE: OnceLock<Result<String, String>> = OnceLock::new();
    match MADE.get_or_init(|| support::Base::Busybox.make()).clone() {
        Ok(name) => Some(name),
        Err(why) => {
            support::skip(&world.test, &why);
            None
        }
    }
}
