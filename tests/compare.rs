//! Whole builds against buildah: the flattened tree with owners, modes, attributes and contents,
//! and the config.

use support::image::{Options, assert_same};
use support::peers::buildah_build;
use support::{World, base, for_users, need};

/// Where the engines themselves leave marks: mount points that they make in the image.
const ENGINE_MARKS: [&str; 4] = ["proc", "sys", "dev", "run"];

/// Everything counts that both engines have a say in.
fn options() -> Options {
    let mut options = Options::standard().ignoring(&ENGINE_MARKS);
    // What the kernel notes in the layers of a rootless overlay; buildah puts it into its images.
    options.ignore_xattrs.push("user.overlay.".to_owned());
    options
}

/// Builds `ctx` with sandcrab and with buildah, in Docker's format, and expects the same.
fn assert_same_as_buildah(world: &World, arguments: &[&str], options: &Options) {
    let ours = ["--output=type=docker,dest=ours.tar"];
    world.build(ours.iter().chain(arguments).copied()).ok();
    let target = format!(
        "docker-archive:{}:peer:latest",
        world.path("peer.tar").display()
    );
    buildah_build(world, "docker", arguments, &target);
    assert_same(&world.image("ours.tar"), &world.image("peer.tar"), options);
}

fn write_context(world: &World) {
    world.write("ctx/f.txt", "a file\n");
    world.write("ctx/script.sh", "#!/bin/sh\necho script\n");
    world.set_mode("ctx/script.sh", 0o755);
    world.write("ctx/private", "only for its owner\n");
    world.set_mode("ctx/private", 0o600);
    world.write("ctx/name with space", "spaces\n");
    world.write("ctx/tree/a", "a\n");
    world.write("ctx/tree/sub/b", "b\n");
    world.make_dir("ctx/tree/empty");
    world.set_mode("ctx/tree/empty", 0o711);
    world.link("ctx/tree/link", "sub/b");
    world.link("ctx/tree/dangling", "/nowhere");
    for name in ["x1.conf", "x2.conf", "y.txt", "z.md"] {
        world.write(&format!("ctx/glob/{name}"), name);
    }
    for (archive, flag) in [
        ("a.tar", "--create"),
        ("a.tar.gz", "-cz"),
        ("a.tar.bz2", "-cj"),
        ("a.tar.xz", "-cJ"),
    ] {
        world
            .command("tar")
            .arg(flag)
            .args([
                "--file",
                &format!("ctx/{archive}"),
                "--directory",
                "ctx/tree",
            ])
            .args([
                "--sort=name",
                "--mtime=@1600000000",
                "--owner=0",
                "--group=0",
                ".",
            ])
            .ok();
    }
}

/// Every classic instruction in one Dockerfile. What buildah does differently from Docker on
/// purpose is not in here but in `instructions`, with the expected result written out.
const EVERY_INSTRUCTION: &str = r#"# escape=\
ARG BASE
ARG VERSION=1
FROM ${BASE} AS build
MAINTAINER Someone <someone@example.org>
ARG VERSION
ARG WITH_DEFAULT="a default"
ENV A=1 B="two words" C=$A-${VERSION:-none}
ENV OLD style value
LABEL one=1 two="2 3" \
      three="${B}"
SHELL ["/bin/sh", "-ec"]
WORKDIR /work
WORKDIR sub/dir
RUN echo "$A|$B|$C|$OLD|$VERSION|$WITH_DEFAULT" >vars; pwd >>vars; id -u >>vars; umask >>vars
RUN ["/bin/busybox", "sh", "-c", "echo exec form >exec"]
RUN mkdir made && chmod 2770 made && echo x >made/x && ln made/x made/hard && ln -s x made/soft \
    # a comment inside a continuation
    && mkfifo made/pipe && chmod 4711 made/x
COPY f.txt ./
COPY f.txt script.sh private copied/
COPY tree tree/
COPY glob/*.conf glob/?.txt globbed/
COPY ["name with space", "/spaces/with space"]
ADD f.txt /added/
ADD a.tar /unpacked/plain/
ADD a.tar.gz /unpacked/gz
ADD a.tar.bz2 /unpacked/bz2/
ADD a.tar.xz /unpacked/xz/
USER app
WORKDIR /home/app/deep
RUN id -un >/tmp/who && echo $HOME >>/tmp/who && touch /tmp/mine
USER www-data:staff
RUN id >/tmp/group
USER 1234:4321
RUN touch /tmp/numeric
USER root
ENV PATH=/extra:$PATH

FROM $BASE
COPY --from=build /work /from-name
COPY --from=0 /tmp/who /tmp/mine /tmp/group /tmp/numeric /from-index/
COPY --from=build /unpacked /unpacked
RUN rm -r /home && rm /etc/group && mkdir /home && echo new >/home/file
ENV FINAL=yes
EXPOSE 80 443/udp
VOLUME /var
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --retries=2 CMD ["true"]
USER app
WORKDIR /from-name
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo hi"]
ONBUILD RUN echo later
ONBUILD COPY . /src
"#;

for_users! {
    /// Every instruction, on a base with one owner. Buildah can't build it without subordinate ids;
    /// there, `instructions` has the expectations.
    fn every_instruction(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Busybox);
        write_context(world);
        world.dockerfile(EVERY_INSTRUCTION);
        let argument = format!("--build-arg=BASE={base}");
        let options = options();
        assert_same_as_buildah(world, &[&argument, "--build-arg=VERSION=2"], &options);
    }

    /// Names and numbers of `--chown`, modes of `--chmod`, files of other owners in every way.
    fn owners(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Owners);
        write_context(world);
        world.dockerfile(
            "ARG BASE\nFROM ${BASE} AS a\n\
             COPY --chown=app f.txt /c/name\n\
             COPY --chown=app:staff f.txt /c/name-group\n\
             COPY --chown=33:8 f.txt /c/numbers\n\
             COPY --chown=33 f.txt /c/number\n\
             COPY --chown=4000:www-data tree /c/tree/\n\
             COPY --chown=app:app --chmod=640 f.txt /c/both\n\
             COPY --chmod=4755 f.txt /c/setuid\n\
             COPY f.txt /c/modes/\n\
             COPY --chmod=700 tree /c/modes/\n\
             RUN chown -R 33:33 /home/app && chown -h 8:8 /bin/sh && chmod 600 /etc/shadow\n\
             RUN chown 65534:65534 /usr/bin/setuid && mkdir -m 3775 /made && chown 12:34 /made && chmod 3775 /made\n\
             RUN chmod 700 /usr/bin/server\n\
             FROM ${BASE}\n\
             COPY --from=a /c /c\n\
             COPY --from=a --chown=7:7 /home /other\n\
             COPY --from=a /usr/bin /copied-bin/\n\
             COPY --from=a /made /made\n",
        );
        let argument = format!("--build-arg=BASE={base}");
        for target in ["a", "1"] {
            let target = format!("--target={target}");
            let options = options();
            assert_same_as_buildah(world, &[&argument, &target], &options);
        }
    }

    /// A base of several layers, with everything that may be in one, seen through a build.
    fn layered_base(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Layered);
        world.dockerfile(&format!(
            "FROM {base}\nRUN find /data | sort >/list && rm -rf /data/opaque && chmod 750 /data/attr\n"
        ));
        let options = options();
        assert_same_as_buildah(world, &[], &options);
    }

    /// Triggers of a base run right after FROM, and are not inherited further.
    fn triggers(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Triggers);
        world.dockerfile(&format!("FROM {base}\nRUN echo $TRIGGERED >/seen\n"));
        let options = options();
        assert_same_as_buildah(world, &[], &options);
    }

    /// The OCI form: buildah drops what that config has no field for, Docker and we keep it.
    fn oci_form(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Busybox);
        write_context(world);
        world.dockerfile(EVERY_INSTRUCTION);
        let argument = format!("--build-arg=BASE={base}");
        world.build([argument.as_str(), "--output=type=oci,dest=ours.oci"]).ok();
        let target = format!("oci-archive:{}:peer", world.path("peer.oci").display());
        buildah_build(world, "oci", &[&argument], &target);
        let mut options = options();
        options.ignore_config = ["Healthcheck", "Shell", "OnBuild"].map(String::from).to_vec();
        assert_same(&world.image("ours.oci"), &world.image("peer.oci"), &options);
    }

    /// A Debian base and a package that makes a user, has set-id files and alternatives.
    fn debian_package(world) as [root, subids] {
        need!(world, "buildah");
        let base = base!(world, Debian);
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN apt-get update && apt-get install -y --no-install-recommends openssh-client \
             && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*\n\
             RUN useradd --create-home --uid 1500 zed\n"
        ));
        let options = options();
        // What changes from one second to the next: days since a password was set, dpkg's times.
        let options = options
            .ignoring(&["etc/shadow", "etc/shadow-", "var/lib/dpkg/status-old"])
            // What buildah mounts over and leaves behind, empty.
            .ignoring(&["etc/hostname", "etc/hosts", "etc/resolv.conf"]);
        assert_same_as_buildah(world, &["--network=host"], &options);
    }
}
