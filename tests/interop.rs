//! Our images in the hands of other tools, and theirs in ours.

use support::image::{Options, assert_same, flatten, node};
use support::peers::{buildah, podman, podman_run, skopeo, skopeo_copy};
use support::{Registry, World, base, for_users, need};

/// An image that prints something and has more than one layer and owner.
fn build_example(world: &World, base: &str) {
    world.write("ctx/message", "from the context\n");
    world.dockerfile(&format!(
        "FROM {base}\n\
         COPY message /etc/message\n\
         RUN echo made by a step >>/etc/message && ln /etc/message /etc/again\n\
         ENV WHO=crab\n\
         WORKDIR /tmp\n\
         ENTRYPOINT [\"sh\", \"-c\"]\n\
         CMD [\"echo $WHO $(id -u) $(pwd); cat /etc/message\"]\n"
    ));
}

const PRINTED: &str = "crab 0 /tmp\nfrom the context\nmade by a step\n";

for_users! {
    /// skopeo reads every form that we write, and what it makes of them is the same image.
    fn skopeo_reads(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        build_example(world, &base);
        for (kind, source) in [
            ("oci", "oci-archive:out.oci"),
            ("docker", "docker-archive:out.docker"),
        ] {
            let output = format!("--output=type={kind},dest=out.{kind}");
            world.build([output.as_str(), "--tag=example:1"]).ok();
            let place = format!("oci:copy-{kind}:example");
            skopeo_copy(world, source, &place);
            let inspected = skopeo(world).args(["inspect", "--config", &place]).ok();
            assert!(inspected.text().contains("WHO=crab"));
            assert_same(
                &world.image(&format!("out.{kind}")),
                &world.image(&format!("copy-{kind}")),
                &Options::standard(),
            );
        }
    }

    /// podman loads and runs it.
    fn podman_runs(world) as [root, subids] {
        need!(world, "podman", "runc");
        let base = base!(world, Owners);
        build_example(world, &base);
        for kind in ["oci", "docker"] {
            let output = format!("--output=type={kind},dest=out.{kind}");
            world.build([output.as_str(), "--tag=localhost/example:1"]).ok();
            podman(world).args(["load", "--quiet", "--input", &format!("out.{kind}")]).ok();
            let printed = podman_run(world).arg("localhost/example:1").ok();
            assert_eq!(printed.text(), PRINTED, "{kind}");
            podman(world).args(["rmi", "--all", "--force"]).ok();
        }
    }

    /// umoci unpacks it, as root and without ids.
    fn umoci_unpacks(world) as [root, subids, plain] {
        need!(world, "umoci", "skopeo");
        let base = base!(world, Busybox);
        build_example(world, &base);
        world.build(["--output=type=oci,dest=out.oci", "--tag=example:1"]).ok();
        skopeo_copy(world, "oci-archive:out.oci", "oci:layout:example");
        let mut unpack = world.command("umoci").arg("unpack");
        if world.user != support::User::Root {
            unpack = unpack.arg("--rootless");
        }
        unpack.args(["--image", "layout:example", "bundle"]).ok();
        let text = std::fs::read_to_string(world.path("bundle/rootfs/etc/again")).unwrap();
        assert_eq!(text, "from the context\nmade by a step\n");
        let spec = std::fs::read_to_string(world.path("bundle/config.json")).unwrap();
        assert!(spec.contains("WHO=crab"));
    }

    /// Where ids are emulated, umoci reads our records of owners as its own, and we read its.
    fn umoci_records(world) as [plain] {
        need!(world, "umoci", "skopeo", "setfattr", "getfattr");
        let base = base!(world, Owners);
        world.dockerfile(&format!("FROM {base}\nRUN true\n"));
        world.build(["--output=type=oci,dest=out.oci", "--tag=example:1"]).ok();
        skopeo_copy(world, "oci-archive:out.oci", "oci:layout:example");
        let umoci = |verb: &str| world.command("umoci").arg(verb);
        let image = ["--image", "layout:example"];
        umoci("unpack").arg("--rootless").args(image).arg("bundle").ok();
        let record = |path: &std::path::Path| {
            let value = world
                .command("getfattr")
                .args(["--only-values", "--absolute-names", "--name=user.rootlesscontainers"])
                .arg(path)
                .ok();
            value.stdout
        };
        let theirs = record(&world.path("bundle/rootfs/etc/shadow"));
        let layers = std::fs::read_dir(world.store().join("snapshots/emulated")).unwrap();
        let ours = layers
            .map(|layer| layer.unwrap().path().join("fs/etc/shadow"))
            .find(|path| path.exists())
            .expect("a layer has it");
        // Group 42; zeros may be left out.
        assert!(theirs.ends_with(b"\x10\x2a"), "{theirs:?}");
        assert_eq!(record(&ours), b"\x10\x2a");
        // A record as we write it, with more than 65536 ids, and a device that umoci knows nothing of.
        world.write("bundle/rootfs/new", "x");
        world.write("bundle/rootfs/null", "");
        for (path, value) in [("new", "0x082110f0a204"), ("null", "0x10067a03630103")] {
            world
                .command("setfattr")
                .args(["--name=user.rootlesscontainers", &format!("--value={value}")])
                .arg(world.path(format!("bundle/rootfs/{path}")))
                .ok();
        }
        umoci("repack").args(image).arg("bundle").ok();
        let tree = flatten(&world.image("layout#example")).unwrap();
        for (path, owner) in [("new", (33, 70_000)), ("null", (0, 6)), ("etc/shadow", (0, 42))] {
            let node = node(&tree, path);
            assert_eq!((node.uid, node.gid), owner, "{path}");
        }
        // What umoci made of it is a base for us.
        skopeo_copy(world, "oci:layout:example", "oci-archive:again.oci:example.org/again:1");
        world.sandcrab(["load", "--input", "again.oci"]).ok();
        let shown = world.sandcrab(["run", "example.org/again:1", "stat", "-c", "%u:%g", "/new"]).ok();
        assert_eq!(shown.text(), "33:70000\n");
    }

    /// buildah builds on it from a registry.
    fn buildah_continues(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Owners);
        build_example(world, &base);
        let registry = Registry::shared().expect("there is a base in it");
        let name = format!("{}/continued-{}:1", registry.host(), world.user.name());
        world.build([format!("--tag={name}").as_str(), "--push"]).ok();
        world.write("ctx/Next", format!("FROM {name}\nRUN echo more >>/etc/again\n"));
        buildah(world)
            .args(["bud", "--quiet", "--tls-verify=false", "--tag=next", "--file=ctx/Next", "ctx"])
            .ok();
    }

    /// What skopeo, buildah and podman write, `load` reads.
    fn load_of_others(world) as [root, subids, plain] {
        need!(world, "skopeo");
        let base = base!(world, Busybox);
        let source = format!("docker://{base}");
        skopeo_copy(world, &source, "oci-archive:theirs.oci:example.org/theirs:oci");
        skopeo_copy(world, &source, "docker-archive:theirs.docker:example.org/theirs:docker");
        for kind in ["oci", "docker"] {
            world.sandcrab(["load", "--input", &format!("theirs.{kind}")]).ok();
            let name = format!("example.org/theirs:{kind}");
            world.sandcrab(["run", &name, "true"]).ok();
            world.dockerfile(&format!("FROM {name}\nRUN true\n"));
            world.build([]).ok();
        }
    }

    /// `save` gives back what `load` took.
    fn save_and_load(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        build_example(world, &base);
        world.build(["--tag=example.org/saved:1", "--output=type=oci,dest=built.oci"]).ok();
        world.sandcrab(["save", "--output=saved.tar", "example.org/saved:1"]).ok();
        let other = world.second();
        other.command("cp").args([world.path("saved.tar"), other.path("saved.tar")]).ok();
        other.sandcrab(["load", "--input=saved.tar"]).ok();
        let printed = other.sandcrab(["run", "example.org/saved:1"]).ok();
        assert_eq!(printed.text(), PRINTED);
        assert_same(&world.image("saved.tar"), &world.image("built.oci"), &Options::standard());
    }
}
