//! `RUN --mount=type=bind`: files of the context, of stages and of images.

use std::path::Path;

use support::image::{Tree, assert_file};
use support::progress::{assert_all_cached, steps};
use support::{base, for_users};

fn has(tree: &Tree, path: &str) -> bool {
    tree.contains_key(Path::new(path))
}

for_users! {
    /// Files of the context, without what is ignored; read-only, and nothing of it in the layer.
    fn context(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/src/a", "a\n");
        world.write("ctx/src/deep/b", "b\n");
        world.write("ctx/src/secret", "no\n");
        world.write("ctx/one[1]", "one\n");
        world.write("ctx/.dockerignore", "**/secret\n");
        world.dockerfile(&format!(
            "FROM {base}\n\
             WORKDIR /w\n\
             RUN --mount=target=. --mount=source=src,target=/s --mount=type=bind,src=src/deep/b,dst=/file \\\n\
                 --mount=source=one[1],target=/one \\\n\
                 cat src/a /s/deep/b /file /one >/out && (find /s | sort; stat -c %u:%g /s/a) >/listing && \\\n\
                 ! touch /s/new 2>/dev/null && ! echo x 2>/dev/null >>/file && ! rm src/a 2>/dev/null\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "out", "a\nb\nb\none\n");
        assert_file(&tree, "listing", "/s\n/s/a\n/s/deep\n/s/deep/b\n0:0\n");
        assert!(!has(&tree, "s") && !has(&tree, "file") && !has(&tree, "w/src"), "{tree:?}");

        // Its content is what counts, and it is copied once.
        assert_all_cached(&world.build([]).ok().stderr, 2);
        world.write("ctx/other", "not below src");
        let again = steps(&world.build([]).ok().stderr);
        assert!(!again[1].cached, "the whole context is mounted");
        world.write("ctx/src/deep/b", "B\n");
        let tree = world.tree([]);
        assert_file(&tree, "out", "a\nB\nB\none\n");
    }

    /// Files of a stage and of an image, with their owners; what is written with `rw` is thrown away.
    fn trees(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", "context\n");
        world.dockerfile(&format!(
            "FROM {base} AS made\n\
             RUN mkdir -p /out/sub && echo made >/out/sub/f && chown -R 12:34 /out && ln -s sub /out/link && \\\n\
                 chown -h 56:78 /out/link && ln -s /out /abs && ln -s ../../../../../../etc /up\n\
             FROM {base}\n\
             RUN --mount=from=made,source=/out,target=/m,rw --mount=from=0,src=abs/link/f,dst=/f \\\n\
                 --mount=from={base},target=/image --mount=from=made,source=up,target=/etc2 \\\n\
                 --mount=source=f,target=/ctx,rw \\\n\
                 cat /m/sub/f /f >/got && echo more >>/m/sub/f && rm /m/link && cat /m/sub/f >>/got && \\\n\
                 echo more >>/ctx && cat /ctx >>/got && \\\n\
                 test -x /image/bin/sh && test -e /etc2/passwd && ! touch /image/x 2>/dev/null\n\
             RUN --mount=from=made,source=/out,target=/m \\\n\
                 cat /m/sub/f >/after && stat -c '%u:%g' /m/sub/f /m/link >/owners\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "got", "made\nmade\nmade\nmore\ncontext\nmore\n");
        assert_file(&tree, "after", "made\n");
        assert_file(&tree, "owners", "12:34\n56:78\n");
        for gone in ["m", "f", "image", "ctx", "etc2"] {
            assert!(!has(&tree, gone), "{gone}");
        }
        assert_eq!(std::fs::read_to_string(world.path("ctx/f")).unwrap(), "context\n");
    }

    /// Mounts lie on each other in the order in which they are listed.
    fn order(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/d/inner/f", "inner\n");
        world.write("ctx/e", "e\n");
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN --mount=source=d,target=/x,rw --mount=type=tmpfs,target=/x/inner --mount=source=e,target=/x/new/e \\\n\
                 (ls /x/inner; ls /x; cat /x/new/e) >/first\n\
             RUN --mount=type=tmpfs,target=/x/inner --mount=source=d,target=/x cat /x/inner/f >/second\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "first", "inner\nnew\ne\n");
        assert_file(&tree, "second", "inner\n");
        assert!(!has(&tree, "x"), "{tree:?}");
    }

    /// What a trigger of the base mounts is there, and stages that only a mount needs are built.
    fn triggers(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", "context\n");
        world.dockerfile(&format!(
            "FROM {base} AS tool\n\
             RUN echo tool >/t\n\
             FROM {base} AS base\n\
             ONBUILD RUN --mount=source=f,target=/f --mount=from=tool,source=t,target=/t \\\n\
                 --mount=type=cache,target=/c cat /f /t >/got\n\
             FROM base\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "got", "context\ntool\n");
    }

    /// Sources that are not there, and stages that come too late.
    fn missing(world) as [subids, plain] {
        let base = base!(world, Busybox);
        for (mount, says) in [
            ("source=nowhere,target=/x", "nowhere"),
            ("from=first,source=nowhere,target=/x", "nowhere"),
            ("from=late,target=/x", "late"),
        ] {
            world.dockerfile(&format!(
                "FROM {base} AS first\nFROM {base} AS middle\nRUN --mount={mount} true\n\
                 FROM {base} AS late\nFROM middle\n"
            ));
            world.build([]).run().exits(1).says(&["Dockerfile:3", says]);
        }
    }
}
