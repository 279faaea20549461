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

/// A tool. Its scripts find the number of the turn in `$TURN` and, to push, a registry in `$DEST`.
#[derive(Debug)]
pub(crate) struct Tool {
    /// For the table.
    pub name: &'static str,
    lines: fn(&Work) -> Option<Lines>,
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

/// Returns sandcrab first, and then the peers that this machine has.
pub(crate) fn all(world: &World, program: &Path) -> Vec<Tool> {
    let copy = scratch::install(program);
    std::os::unix::fs::symlink(copy, world.path("sandcrab")).expect("link the program");
    let mut tools = vec![Tool {
        name: "sandcrab",
        lines: sandcrab,
    }];
    let mut add = |name, wanted: &[&str], lines| {
        if wanted.iter().all(|program| find(program).is_some()) {
            tools.push(Tool { name, lines });
        }
    };
    add("buildah", &["buildah"], buildah);
    add("podman", &["podman"], podman);
    add("skopeo, umoci", &["skopeo", "umoci"], skopeo);
    if unpack_base(world) {
        add("bubblewrap (no image)", &["bwrap"], bubblewrap);
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
    if docker_builds {
        tools.push(Tool {
            name: "docker",
            lines: docker,
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
                    format!("--output=type=oci,dest=out.tar,compression={how}"),
                    "./sandcrab load --input out.tar >/dev/null && ",
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
                look: format!("{load}./sandcrab run --network=none bench sh -c \"$PROOF\""),
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
    let buildah = "buildah --root $PWD/buildah --runroot $PWD/buildah-run --storage-driver overlay";
    let mut script = format!(
        "{buildah} bud --layers --isolation=chroot --tls-verify=false --tag=bench {} {} {}",
        no_cache(build),
        jobs(build),
        build.context
    );
    if let Some(how) = build.archive {
        script.push_str(&format!(
            " && {buildah} push --compression-format {how} bench oci-archive:out.tar"
        ));
    }
    Some(Lines {
        before: String::new(),
        work: script,
        look: format!(
            "{buildah} unshare sh -c 'c=$({buildah} from --pull-never bench) && \
             (cd $({buildah} mount $c) && sh -c \"$PROOF\"); {buildah} rm $c >/dev/null'"
        ),
    })
}

fn podman(work: &Work) -> Option<Lines> {
    let podman = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver overlay \
                  --cgroup-manager cgroupfs";
    let look = |image: &str| {
        format!(
            "{podman} unshare sh -c '(cd $({podman} image mount {image}) && sh -c \"$PROOF\"); \
             {podman} image unmount --all >/dev/null'"
        )
    };
    Some(match &work.task {
        Task::Build(build) => {
            let mut script = format!(
                "{podman} build --layers --isolation=chroot --tls-verify=false --tag=bench {} {} {}",
                no_cache(build),
                jobs(build),
                build.context
            );
            if let Some(how) = build.archive {
                script.push_str(&format!(
                    " && {podman} push --compression-format {how} bench oci-archive:out.tar"
                ));
            }
            Lines {
                before: String::new(),
                work: script,
                look: look("bench"),
            }
        }
        Task::Pull { image } => Lines {
            before: format!("{podman} rmi --force {image} >/dev/null 2>&1 || true"),
            work: format!("{podman} pull --quiet --tls-verify=false {image}"),
            look: look(image),
        },
        Task::Push { image, .. } => Lines {
            before: format!(
                "{{ {podman} image exists {image} || {podman} pull --quiet --tls-verify=false \
                 {image}; }} && {podman} tag {image} $DEST/large:1"
            ),
            work: format!("{podman} push --quiet --tls-verify=false $DEST/large:1"),
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
        before: "rm -rf fresh && mkdir -p fresh/files".into(),
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
