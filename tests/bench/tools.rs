//! The tools that are compared.
//!
//! Responsible for each one's command lines, as a user would write them for speed. Must not measure.
//! Invariant: what is not the work itself, such as throwing away what the last turn left, is not in
//! the script that is timed.

use std::path::Path;

use support::process::find;
use support::scratch;
use support::{Base, World};

use crate::work::{Build, Task, Work};

/// A tool. Its scripts find the number of the turn in `$TURN`, where to write an archive in `$OUT` and, to
/// push, a registry in `$DEST`.
#[derive(Debug)]
pub(crate) struct Tool {
    /// For the table.
    pub name: &'static str,
    lines: fn(&Work) -> Option<Lines>,
    /// Makes room for the next piece of work.
    pub forget: String,
}

/// The scripts for one piece of work.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Makes ready for a turn; not timed.
    pub before: String,
    /// Does the work.
    pub work: String,
    /// Runs `$PROOF` in the root directory of the image that was made.
    pub look: String,
}

impl Tool {
    /// Returns the scripts for the work, or nothing when the tool can't do it.
    pub(crate) fn lines(&self, work: &Work) -> Option<Lines> {
        (self.lines)(work)
    }
}

/// Where buildah and podman keep what they make.
const BUILDAH: &str =
    "buildah --root $PWD/buildah --runroot $PWD/buildah-run --storage-driver overlay";
const PODMAN: &str = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver overlay \
     --cgroup-manager cgroupfs";

/// Returns sandcrab first, and then the peers that this machine has; of all, those that are wanted.
pub(crate) fn all(world: &World, program: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<Tool> {
    let copy = scratch::install(program);
    std::os::unix::fs::symlink(copy, world.path("sandcrab")).expect("link the program");
    let mut tools = vec![Tool {
        name: "sandcrab",
        lines: sandcrab,
        forget: "./sandcrab prune --all".into(),
    }];
    let mut add = |name, programs: &[&str], lines, forget: &str| {
        if wanted(name) && programs.iter().all(|program| find(program).is_some()) {
            tools.push(Tool {
                name,
                lines,
                forget: forget.to_owned(),
            });
        }
    };
    add(
        "buildah",
        &["buildah"],
        buildah,
        &format!("{BUILDAH} rmi --all --force"),
    );
    add(
        "podman",
        &["podman"],
        podman,
        &format!("{PODMAN} rmi --all --force"),
    );
    add("skopeo, umoci", &["skopeo", "umoci"], skopeo, "true");
    if unpack_base(world) {
        add("bubblewrap (no image)", &["bwrap"], bubblewrap, "true");
    }
    // Without a daemon and buildx the client builds nothing.
    let docker_builds = ["info", "buildx"].iter().all(|word| {
        let mut command = world.command("docker").arg(word);
        if *word == "buildx" {
            command = command.arg("version");
        }
        command
            .try_run()
            .is_some_and(|output| output.code == Some(0))
    });
    if docker_builds && wanted("docker") {
        tools.push(Tool {
            name: "docker",
            lines: docker,
            // Its store is the caller's.
            forget: "true".into(),
        });
    }
    tools
}

fn no_cache(build: &Build) -> &'static str {
    if build.cached { "" } else { "--no-cache" }
}

fn jobs(build: &Build) -> String {
    build
        .jobs
        .map_or_else(String::new, |jobs| format!("--jobs={jobs}"))
}

fn sandcrab(work: &Work) -> Option<Lines> {
    Some(match &work.task {
        Task::Build(build) => {
            let (output, load) = match build.archive {
                Some(how) => (
                    format!("--output=type=oci,dest=$OUT,compression={how},force-compression=true"),
                    "./sandcrab load --input $OUT >/dev/null && ",
                ),
                None => (String::new(), ""),
            };
            Lines {
                before: String::new(),
                work: format!(
                    "exec ./sandcrab build --progress=plain --tag=bench {} {} {output} {}",
                    no_cache(build),
                    jobs(build),
                    build.context
                ),
                look: format!(
                    "{load}./sandcrab run --network=none --workdir=/ bench sh -c \"$PROOF\""
                ),
            }
        }
        Task::Pull { image } => {
            let run = format!("SANDCRAB_ROOT=$PWD/pulled ./sandcrab run --network=none {image}");
            Lines {
                before: "unshare -r --map-auto rm -rf pulled".into(),
                work: format!("{run} true"),
                look: format!("{run} sh -c \"$PROOF\""),
            }
        }
        Task::Push { image, .. } => Lines {
            before: format!(
                "export SANDCRAB_ROOT=$PWD/pushing; [ -d pushing ] || ./sandcrab pull {image} && \
                 ./sandcrab tag {image} $DEST/large:1"
            ),
            work: "SANDCRAB_ROOT=$PWD/pushing exec ./sandcrab push $DEST/large:1".into(),
            look: String::new(),
        },
    })
}

fn buildah(work: &Work) -> Option<Lines> {
    let Task::Build(build) = &work.task else {
        return None;
    };
    let mut script = format!(
        "{BUILDAH} bud --layers --isolation=chroot --tls-verify=false --tag=bench {} {} {}",
        no_cache(build),
        jobs(build),
        build.context
    );
    if let Some(how) = build.archive {
        script.push_str(&format!(
            " && {BUILDAH} push --compression-format {how} bench oci-archive:$OUT"
        ));
    }
    Some(Lines {
        before: String::new(),
        work: script,
        look: format!(
            "{BUILDAH} unshare sh -c 'c=$({BUILDAH} from --pull-never bench) && \
             (cd $({BUILDAH} mount $c) && sh -c \"$PROOF\"); {BUILDAH} rm $c >/dev/null'"
        ),
    })
}

fn podman(work: &Work) -> Option<Lines> {
    let look = |image: &str| {
        format!(
            "{PODMAN} unshare sh -c '(cd $({PODMAN} image mount {image}) && sh -c \"$PROOF\"); \
             {PODMAN} image unmount --all >/dev/null'"
        )
    };
    Some(match &work.task {
        Task::Build(build) => {
            let mut script = format!(
                "{PODMAN} build --layers --isolation=chroot --tls-verify=false --tag=bench {} {} {}",
                no_cache(build),
                jobs(build),
                build.context
            );
            if let Some(how) = build.archive {
                script.push_str(&format!(
                    " && {PODMAN} push --compression-format {how} bench oci-archive:$OUT"
                ));
            }
            Lines {
                before: String::new(),
                work: script,
                look: look("bench"),
            }
        }
        Task::Pull { image } => Lines {
            before: format!("{PODMAN} rmi --force {image} >/dev/null 2>&1 || true"),
            work: format!("{PODMAN} pull --quiet --tls-verify=false {image}"),
            look: look(image),
        },
        Task::Push { image, .. } => Lines {
            before: format!(
                "{{ {PODMAN} image exists {image} || {PODMAN} pull --quiet --tls-verify=false \
                 {image}; }} && {PODMAN} tag {image} $DEST/large:1"
            ),
            work: format!("{PODMAN} push --quiet --tls-verify=false $DEST/large:1"),
            look: String::new(),
        },
    })
}

fn skopeo(work: &Work) -> Option<Lines> {
    let copy =
        "skopeo --insecure-policy copy --quiet --src-tls-verify=false --dest-tls-verify=false";
    match &work.task {
        Task::Build(_) => None,
        Task::Pull { image } => Some(Lines {
            before: "rm -rf layout bundle".into(),
            work: format!(
                "{copy} docker://{image} oci:layout:1 && \
                 umoci unpack --rootless --image layout:1 bundle"
            ),
            look: "cd bundle/rootfs && sh -c \"$PROOF\"".into(),
        }),
        Task::Push { image, .. } => Some(Lines {
            before: format!("[ -d pushed ] || {copy} docker://{image} oci:pushed:1"),
            work: format!("{copy} oci:pushed:1 docker://$DEST/large:1"),
            look: String::new(),
        }),
    }
}

/// Without containerd's image store it writes no archives of compressed layers.
fn docker(work: &Work) -> Option<Lines> {
    let look = |image: &str| format!("docker run --rm --network none {image} sh -c \"$PROOF\"");
    Some(match &work.task {
        Task::Build(build) if build.archive.is_none() => Lines {
            before: String::new(),
            work: format!(
                "docker build --progress=plain --tag=bench {} {}",
                no_cache(build),
                build.context
            ),
            look: look("bench"),
        },
        Task::Build(_) => return None,
        Task::Pull { image } => Lines {
            before: format!("docker rmi --force {image} >/dev/null 2>&1 || true"),
            work: format!("docker pull --quiet {image}"),
            look: look(image),
        },
        Task::Push { image, .. } => Lines {
            before: format!(
                "docker pull --quiet {image} >/dev/null && docker tag {image} $DEST/large:1"
            ),
            work: "docker push --quiet $DEST/large:1".into(),
            look: String::new(),
        },
    })
}

/// The same commands in the same sandbox, but neither a snapshot nor a layer: what a RUN step
/// can't be quicker than.
fn bubblewrap(work: &Work) -> Option<Lines> {
    let Task::Build(Build {
        script: Some(script),
        ..
    }) = &work.task
    else {
        return None;
    };
    Some(Lines {
        // Aside, not removed: ext4 is slow to make files where many have just been removed.
        before: "{ [ ! -d fresh ] || mv fresh done-$TURN; } && mkdir -p fresh/files".into(),
        work: format!(
            "exec bwrap --unshare-all --uid 0 --gid 0 --bind rootfs / --bind fresh/files /files \
             --proc /proc --dev /dev sh -c '{script}'"
        ),
        look: "cd fresh && sh -c \"$PROOF\"".into(),
    })
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
