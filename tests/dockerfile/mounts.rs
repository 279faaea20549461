//! `RUN --mount`: scripts, file systems in memory and secrets.

use support::image::{Tree, assert_file, node};
use support::{base, for_users};

use std::path::Path;
use std::process::Command as Host;

fn has(tree: &Tree, path: &str) -> bool {
    tree.contains_key(Path::new(path))
}

for_users! {
    /// A here-document that begins with `#!` is a program for the time of the step.
    fn script(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN <<EOF\n\
             #!/bin/busybox sh\n\
             echo \"$0\" >/name\n\
             stat -c '%a %u:%g' \"$0\" >/mode\n\
             echo x 2>/dev/null >>\"$0\" || echo refused >/write\n\
             EOF\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "name", "/dev/pipes/EOF\n");
        assert_file(&tree, "mode", "755 0:0\n");
        assert_file(&tree, "write", "refused\n");
        assert!(!has(&tree, "dev/pipes"), "{tree:?}");
    }

    /// A tmpfs is empty, writable, limited, and gone afterwards with its mount point.
    fn tmpfs(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\n\
             WORKDIR /w\n\
             RUN mkdir -p /full && echo hidden >/full/file\n\
             RUN --mount=type=tmpfs,target=/full --mount=type=tmpfs,dst=new/deep,size=1m \\\n\
                 ls /full >/listing && echo x >/full/f && \\\n\
                 ! dd if=/dev/zero of=/w/new/deep/f bs=64k count=32 2>/dev/null && \\\n\
                 stat -c %s /w/new/deep/f >/size && stat -c '%a %u' /full >/looks\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "listing", "");
        assert_file(&tree, "size", "1048576\n");
        assert_file(&tree, "looks", "1777 0\n");
        assert_file(&tree, "full/file", "hidden\n");
        assert!(!has(&tree, "w/new") && !has(&tree, "full/f"), "{tree:?}");
    }

    /// Where nothing but mount points was made, the layer has nothing, and directories keep their times.
    fn no_trace(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("token", "hunter2");
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN mkdir -p /a/b && touch -d '2001-02-03 04:05:06' /a/b /a && chmod 711 /a/b\n\
             RUN --mount=type=tmpfs,target=/a/b/c/d --mount=type=secret,id=t,target=/a/b/c/d/e/s \\\n\
                 --mount=type=secret,id=t,target=/a/b/f cat /a/b/f /a/b/c/d/e/s >/dev/null\n"
        ));
        let image = world.built(["--secret=id=t,src=token"]);
        assert_eq!(image.layer_names(image.layer_count() - 1), Vec::<String>::new());
        // What a step leaves beside a mount point stays, and so does what it makes in a new parent.
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN --mount=type=tmpfs,target=/x/y touch /x/stays /x/y/goes\n"
        ));
        let tree = world.tree([]);
        assert!(has(&tree, "x/stays") && !has(&tree, "x/y"), "{tree:?}");
        assert_eq!((node(&tree, "x").uid, node(&tree, "x").mode), (0, 0o755));
    }

    /// Secrets are files in memory, or variables, or both.
    fn secrets(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("token", "s3cret-in-a-file\n");
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN --mount=type=secret,id=file --mount=type=secret,id=dir/var,required=true \\\n\
                 --mount=type=secret,id=file,env=FILE --mount=type=secret,id=dir/var,env=VAR,target=/v \\\n\
                 --mount=type=secret,id=file,target=own,mode=0440,uid=12,gid=34 \\\n\
                 --mount=type=secret,id=none --mount=type=secret,id=none,env=NONE \\\n\
                 md5sum </run/secrets/file >/file && md5sum </run/secrets/var >/vari && \\\n\
                 printf %s \"$FILE\" | md5sum >/env && printf %s \"$VAR\" | md5sum >/both && md5sum </v >>/both && \\\n\
                 stat -c '%a %u:%g' /run/secrets/file own >/modes && ls /run/secrets >/names && \\\n\
                 echo \"[${{NONE-unset}}]\" >/none && \\\n\
                 grep '/run/secrets/file tmpfs.*nosuid' /proc/mounts && \\\n\
                 ! echo x 2>/dev/null >>/run/secrets/file\n"
        ));
        let md5 = |text: &str| {
            let out = world.command("md5sum").stdin(text.as_bytes()).ok();
            out.stdout
        };
        let output = world
            .build(["--output=type=oci,dest=built.oci", "--secret=id=file,src=token", "--secret=id=dir/var,env=TOKEN"])
            .env("TOKEN", "s3cret-in-a-variable")
            .ok();
        output.never_says(&["s3cret"]);
        let tree = support::image::flatten(&world.image("built.oci")).unwrap();
        assert_file(&tree, "file", md5("s3cret-in-a-file\n"));
        assert_file(&tree, "vari", md5("s3cret-in-a-variable"));
        assert_file(&tree, "env", md5("s3cret-in-a-file\n"));
        assert_file(&tree, "both", md5("s3cret-in-a-variable").repeat(2));
        assert_file(&tree, "modes", "400 0:0\n440 12:34\n");
        assert_file(&tree, "names", "file\nvar\n");
        assert_file(&tree, "none", "[unset]\n");
        for gone in ["run/secrets", "v", "own"] {
            assert!(!has(&tree, gone), "{gone}");
        }
    }

    /// A secret's value is nowhere but in the step: not in the image, not in the store, not in the log.
    fn secrets_stay_secret(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("token", "tr0ub4dor-and-3\n");
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN --mount=type=secret,id=t --mount=type=secret,id=t,env=TOKEN \\\n\
                 cat /run/secrets/t; printf tr0ub4; sleep 0.2; echo dor-and-3; echo \"err $TOKEN\" >&2; \\\n\
                 echo ${{#TOKEN}} >/length\n\
             RUN --mount=type=secret,id=t,env=TOKEN echo \"last words: $TOKEN\"; exit 7\n"
        ));
        let failed = world.build(["--secret=id=t,src=token"]).run().exits(7);
        assert!(failed.all().contains("****"), "{}", failed.all());
        failed.says(&["err ****", "last words: ****"]).never_says(&["tr0ub4dor"]);
        let found = Host::new("grep")
            .args(["-rl", "tr0ub4dor"])
            .arg(world.store())
            .output()
            .unwrap();
        assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));

        // Another value meets the same step.
        world.dockerfile(&format!(
            "FROM {base}\nRUN --mount=type=secret,id=t true\n"
        ));
        world.build(["--secret=id=t,src=token"]).ok();
        world.write("token", "another");
        let again = world.build(["--secret=id=t,src=token"]).ok();
        support::progress::assert_all_cached(&again.stderr, 1);
    }

    /// What a step requires and nobody gives, and what can't be given.
    fn missing_secrets(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN --mount=type=secret,id=token,required true\n"
        ));
        world.build([]).run().exits(1).says(&[
            "Dockerfile:2",
            "requires secret `token`, which was not given",
            "--secret id=token,src=FILE",
        ]);
        world.write("f", "x");
        world.build(["--secret=id=tokn,src=f"]).run().exits(1).says(&["did you mean `tokn`?"]);
        world.build(["--secret=id=token,src=nowhere"]).run().says(&["read secret `token`", "nowhere"]);
        world.build(["--secret=id=token,env=UNSET_HERE"]).run().says(&["`UNSET_HERE` is not set"]);
    }

    /// No target leads out of the container, whatever the image has in its way.
    fn targets_stay_inside(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let outside = world.make_dir("outside");
        world.write("token", "hunter2");
        let out = outside.display();
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN ln -s / /top && ln -s ../../../../../../..{out} /up && mkdir -p /in && ln -s /in /abs && \\\n\
                 ln -s /proc/1/root /magic && mkdir -p {out}\n\
             RUN --mount=type=secret,id=t,target=/abs/s --mount=type=tmpfs,target=/up \\\n\
                 --mount=type=secret,id=t,target=/../../../..{out}/../s2 --mount=type=secret,id=t,target=/top/s3 \\\n\
                 grep -c ' /in/s ' /proc/mounts && grep -c ' {out} ' /proc/mounts && test -s /s3\n"
        ));
        world.build(["--secret=id=t,src=token"]).ok();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        for (target, says) in [("/magic/s", "/magic"), ("/dangling/x", "/dangling")] {
            world.dockerfile(&format!(
                "FROM {base}\nRUN ln -s /proc/1/root /magic; ln -s /nowhere /dangling\n\
                 RUN --mount=type=tmpfs,target={target} true\n"
            ));
            world.build([]).run().exits(1).says(&[says]);
        }
    }
}
