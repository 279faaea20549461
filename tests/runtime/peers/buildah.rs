//! buildah with `--runtime`, in its two isolations that use one.

use support::for_users;

use crate::harness::{Crun, differs, program};

for_users! {
    /// A Dockerfile with two stages.
    fn multi_stage(world) as [root, subids] {
        if differs(world, &[(Crun, "1.8.1 refuses hybrid hosts")]) {
            return;
        }
        let Some(image) = crate::peers::image(world) else {
            return;
        };
        let archive = world.path("base.tar");
        let archive = format!("docker-archive:{}", archive.display());
        support::peers::skopeo_copy(world, &image, &format!("{archive}:localhost/base:latest"));
        support::peers::buildah(world).args(["pull", "--quiet", &archive]).ok();
        let image = "localhost/base";
        world.dockerfile(&format!(
            "FROM {image} AS first\nRUN echo made >/made && id -u >>/made\nUSER 1000\nRUN id -u >/tmp/user\n\
             FROM {image}\nCOPY --from=first /made /tmp/user /from/\nRUN cat /from/made /from/user\n"
        ));
        let isolation = if world.user == support::User::Root { "oci" } else { "rootless" };
        let output = support::peers::buildah(world)
            .args(["bud", "--isolation", isolation, "--network", "none", "--runtime"])
            .arg(program())
            .args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "ctx"])
            .ok();
        let lines: Vec<String> = output.all().lines().map(str::to_owned).collect();
        for line in ["made", "0", "1000"] {
            assert!(lines.iter().any(|l| l == line), "{line}: {}", output.all());
        }
    }
}
