//! Platforms: steps for another processor, and images for several.

use support::progress::steps;
use support::{World, base, for_users, need};

/// The number of AArch64 in an ELF file's header, elf(5).
const AARCH64: [u8; 2] = [183, 0];

/// Expects that a file of the account's is a program for AArch64.
fn is_foreign(world: &World, path: &str) {
    let bytes = std::fs::read(world.path(path)).expect("a program");
    assert_eq!(
        (&bytes[..4], &bytes[18..20]),
        (&b"\x7fELF"[..], &AARCH64[..])
    );
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

for_users! {
    /// Steps run whatever processor their programs are for: static and dynamic ones, scripts, what
    /// they start, and as whichever user. Nothing of how that is done is seen inside.
    fn a_step_for_another_platform(world) as [root, subids, plain] {
        need!(world, "qemu-aarch64-static");
        let base = base!(world, Platforms);
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN uname -m && cp /bin/busybox /program\n\
             RUN [\"/bin/dash\", \"-c\", \"echo $0; printf '#!/bin/dash\\\\necho script' >/s; chmod +x /s; /s\", \"zero\"]\n\
             RUN [\"/bin/busybox\", \"sh\", \"-c\", \"exec -a other /bin/busybox 2>&1 | head -n 1\"]\n\
             USER app\n\
             RUN id -u\n\
             USER root\n\
             RUN chown mail /program; stat -c %U /program\n\
             RUN ls /proc/sys/fs/binfmt_misc; grep -c binfmt /proc/mounts; (ls /proc/$$/fd) >/list; wc -l </list\n"
        ));
        let output = world.build(["--platform=linux/arm64", "--output=out"]).ok();
        let lines: Vec<String> =
            steps(&output.stderr).into_iter().flat_map(|step| step.lines).collect();
        let other = "other: applet not found";
        assert_eq!(lines, ["aarch64", "zero", "script", other, "1000", "mail", "0", "3"]);
        is_foreign(world, "out/program");
    }
}

for_users! {
    /// Several platforms make an index, in the store, in archives, in a registry and as files;
    /// stages of the build platform are built once. No user needs more than qemu's programs.
    fn several_platforms_make_an_index(world) as [root, subids, plain] {
        need!(world, "qemu-aarch64-static", "skopeo");
        let base = base!(world, Platforms);
        world.dockerfile(&format!(
            "FROM --platform=$BUILDPLATFORM {base} AS tool\n\
             ARG BUILDPLATFORM\n\
             RUN echo for $BUILDPLATFORM >/tool\n\
             FROM {base}\n\
             ARG TARGETARCH\n\
             COPY --from=tool /tool /\n\
             RUN uname -m >/machine; echo $TARGETARCH >/arch; cp /bin/busybox /program\n"
        ));
        let host = base.split('/').next().expect("a host").to_owned();
        let name = format!("{host}/index-{}:1", world.user.name());
        let push = format!("-t={name}");
        let output = world
            .build([
                "--platform=linux/amd64,linux/arm64",
                &push,
                "--push",
                "--output=out",
                "--output=type=oci,dest=index.oci",
                "--iidfile=iid",
                "--metadata-file=metadata",
            ])
            .ok();
        let copy = "[linux/arm64 stage-1 2/3] COPY";
        let copies = steps(&output.stderr).into_iter().filter(|step| step.name.starts_with(copy));
        assert_eq!(copies.count(), 1, "{}", output.stderr);
        is_foreign(world, "out/linux_arm64/program");
        let read = |path: &str| std::fs::read_to_string(world.path(path)).expect(path);
        for (directory, machine, arch) in [("amd64", "x86_64", "amd64"), ("arm64", "aarch64", "arm64")] {
            let path = |name: &str| format!("out/linux_{directory}/{name}");
            assert_eq!(read(&path("machine")).trim(), machine);
            assert_eq!(read(&path("arch")).trim(), arch);
            assert_eq!(read(&path("tool")), "for linux/amd64\n");
        }
        let metadata: serde_json::Value = serde_json::from_str(&read("metadata")).expect("JSON");
        let digest = metadata["containerimage.digest"].as_str().expect("a digest");
        assert_eq!(read("iid"), digest);

        // The registry's index, and each of its images, as another tool sees them.
        let raw = |reference: &str| {
            let arguments = ["inspect", "--raw", "--tls-verify=false", reference];
            text(&world.command("skopeo").args(arguments).ok().stdout)
        };
        let index: serde_json::Value =
            serde_json::from_str(&raw(&format!("docker://{name}"))).expect("JSON");
        let architectures: Vec<_> = (index["manifests"].as_array().expect("manifests").iter())
            .map(|m| m["platform"]["architecture"].as_str().expect("text"))
            .collect();
        assert_eq!(architectures, ["amd64", "arm64"]);
        for arch in ["amd64", "arm64"] {
            let to = format!("oci:copy-{arch}:x");
            world
                .command("skopeo")
                .args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false"])
                .args(["--override-arch", arch, &format!("docker://{name}"), &to])
                .ok();
            let config = world.command("skopeo").args(["inspect", "--config", &to]).ok().stdout;
            let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
            assert_eq!(config["architecture"], arch);
        }
        let archived = raw("oci-archive:index.oci:1");
        assert!(archived.contains("image.index"), "{archived}");

        // In the store one name stands for all, and for this machine's part where it is run.
        let list = text(&world.sandcrab(["images"]).ok().stdout);
        assert_eq!(list.lines().count(), 3, "{list}");
        assert_eq!(text(&world.sandcrab(["run", &name, "cat", "/arch"]).ok().stdout), "amd64\n");
        world.sandcrab(["prune"]).ok();
        world.dockerfile(&format!("FROM {name}\nRUN cat /arch\n"));
        let output = world.build(["--platform=linux/arm64", "--pull=never"]).ok();
        let lines: Vec<String> =
            steps(&output.stderr).into_iter().flat_map(|step| step.lines).collect();
        assert_eq!(lines, ["arm64"]);
        let arguments = ["--platform=linux/amd64,linux/arm64", "--output=type=docker,dest=x.tar"];
        world.build(arguments).run().exits(1).says(&["one platform only", "type=oci"]);
        world.sandcrab(["rmi", &name]).ok();
        world.sandcrab(["inspect", &name]).run().exits(1);
    }
}
