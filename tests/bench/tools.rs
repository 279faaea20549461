//! The builders that are compared.
//!
//! Responsible for each one's command line, as a user would write it for speed. Must not measure.

use std::path::Path;

use support::process::find;
use support::scratch;
use support::{Base, World};

use crate::work::Work;

/// A builder.
#[derive(Debug)]
pub(crate) struct Tool {
    /// For the table.
    pub name: &'static str,
    /// The shell script that does a piece of work, or nothing when the tool can't.
    script: fn(&World, &Work) -> Option<String>,
}

impl Tool {
    /// Returns the shell script that does the work.
    pub(crate) fn script(&self, world: &World, work: &Work) -> Option<String> {
        (self.script)(world, work)
    }
}

/// Returns sandcrab first, and then the peers that this machine has.
pub(crate) fn all(world: &World, program: &Path) -> Vec<Tool> {
    let copy = scratch::install(program);
    std::os::unix::fs::symlink(copy, world.path("sandcrab")).expect("link the program");
    let mut tools = vec![Tool {
        name: "sandcrab",
        script: sandcrab,
    }];
    if find("buildah").is_some() {
        tools.push(Tool {
            name: "buildah",
            script: buildah,
        });
    }
    if find("podman").is_some() {
        tools.push(Tool {
            name: "podman",
            script: podman,
        });
    }
    // The client alone builds nothing.
    if world
        .command("docker")
        .arg("info")
        .try_run()
        .is_some_and(|output| output.code == Some(0))
    {
        tools.push(Tool {
            name: "docker",
            script: docker,
        });
    }
    if find("bwrap").is_some() && unpack_base(world) {
        tools.push(Tool {
            name: "bubblewrap (no image)",
            script: bubblewrap,
        });
    }
    tools
}

fn no_cache(work: &Work) -> &'static str {
    if work.cached { "" } else { "--no-cache" }
}

fn sandcrab(_world: &World, work: &Work) -> Option<String> {
    let output = if work.archive {
        "--output=type=oci,dest=out.tar,compression=gzip"
    } else {
        ""
    };
    Some(format!(
        "exec ./sandcrab build --progress=plain --tag=bench {} {output} {}",
        no_cache(work),
        work.context
    ))
}

fn buildah(_world: &World, work: &Work) -> Option<String> {
    let buildah = "buildah --root $PWD/buildah --runroot $PWD/buildah-run --storage-driver overlay";
    let mut script = format!(
        "{buildah} bud --layers --isolation=chroot --tls-verify=false --tag=bench {} {}",
        no_cache(work),
        work.context
    );
    if work.archive {
        script.push_str(&format!(" && {buildah} push bench oci-archive:out.tar"));
    }
    Some(script)
}

fn podman(_world: &World, work: &Work) -> Option<String> {
    let podman = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver overlay \
                  --cgroup-manager cgroupfs";
    let mut script = format!(
        "{podman} build --layers --isolation=chroot --tls-verify=false --tag=bench {} {}",
        no_cache(work),
        work.context
    );
    if work.archive {
        script.push_str(&format!(" && {podman} push bench oci-archive:out.tar"));
    }
    Some(script)
}

fn docker(_world: &World, work: &Work) -> Option<String> {
    let output = if work.archive {
        "--output=type=oci,dest=out.tar"
    } else {
        ""
    };
    Some(format!(
        "docker build --tag=bench {} {output} {}",
        no_cache(work),
        work.context
    ))
}

/// The same commands in the same sandbox, but neither a snapshot nor a layer: what a RUN step
/// can't be quicker than.
fn bubblewrap(_world: &World, work: &Work) -> Option<String> {
    let script = work.script?;
    Some(format!(
        "mkdir -p fresh/$$ && exec bwrap --unshare-all --uid 0 --gid 0 --bind rootfs / \
         --bind fresh/$$ /files --proc /proc --dev /dev sh -c '{script}'"
    ))
}

fn unpack_base(world: &World) -> bool {
    let Ok(source) = Base::Busybox.make() else {
        return false;
    };
    world.make_dir("rootfs");
    let directory = source.split(':').nth(1).expect("a transport and a path");
    let script = format!(
        "for blob in {directory}/blobs/sha256/*; do tar -xzf $blob -C rootfs 2>/dev/null; done; \
         mkdir rootfs/files && test -x rootfs/bin/sh"
    );
    world.command("sh").args(["-c", &script]).run().code == Some(0)
}
