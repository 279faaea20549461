//! The language itself, where the corpus can't see it: build arguments that control the build, and
//! forms of directives.

use support::image::assert_file;
use support::{base, for_users};

for_users! {
    /// Other frontends are warned about, however they are named; the standard one is not.
    fn other_frontends(world) as [plain] {
        for (source, warned) in [
            ("# syntax=docker/dockerfile:1\nFROM scratch\n", false),
            ("# syntax=docker.io/docker/dockerfile:1.7-labs\nFROM scratch\n", false),
            ("# syntax=example.com/mine:1\nFROM scratch\n", true),
            ("#!/usr/bin/mine\n# syntax=example.com/mine:1\nFROM scratch\n", true),
        ] {
            world.dockerfile(source);
            let output = world.build([]).ok();
            let said = output.stderr.contains("the frontend `example.com/mine:1` is not used");
            assert_eq!(said, warned, "{source}{}", output.all());
        }
        let argument = "--build-arg=BUILDKIT_SYNTAX=example.com/mine:1";
        world.build([argument]).ok().says(&["the frontend `example.com/mine:1` is not used"]);
        world.build(["--build-arg=BUILDKIT_SYNTAX=docker/dockerfile"]).ok();
    }

    /// Arguments that control the build reach no step; what means nothing here is named.
    fn control_arguments(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN hostname >/name; env >/env\n"));
        let tree = world.tree([
            "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=box",
            "--build-arg=BUILDKIT_INLINE_CACHE=1",
        ]);
        assert_file(&tree, "name", "box\n");
        let env = support::image::node(&tree, "env");
        assert!(!format!("{env:?}").contains("BUILDKIT"), "{env:?}");
        world
            .build(["--build-arg=BUILDKIT_INLINE_CACHE=1"])
            .ok()
            .says(&["the build argument `BUILDKIT_INLINE_CACHE` has no effect here"]);
    }
}
