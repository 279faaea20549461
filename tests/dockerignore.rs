//! `.dockerignore`, with moby's semantics.

use std::collections::BTreeSet;

use support::peers::buildah_build;
use support::{World, for_users, need};

const FILES: [&str; 14] = [
    "README.md",
    "LICENSE",
    "a.txt",
    "src/main.c",
    "src/main.o",
    "src/deep/x.o",
    "src/deep/keep.o",
    "docs/README.md",
    "docs/index.html",
    "docs/img/logo.png",
    "build/out",
    "build/cache/blob",
    "foo/bar/baz",
    "[x].txt",
];

/// Patterns, and what of [`FILES`] is left. The expectations are moby's.
const CASES: [(&str, &[&str]); 11] = [
    ("", &FILES),
    (
        "# comment\n\n  a.txt  \n",
        &[
            "README.md",
            "LICENSE",
            "src/main.c",
            "src/main.o",
            "src/deep/x.o",
            "src/deep/keep.o",
            "docs/README.md",
            "docs/index.html",
            "docs/img/logo.png",
            "build/out",
            "build/cache/blob",
            "foo/bar/baz",
            "[x].txt",
        ],
    ),
    (
        "*.md\n*.txt\n",
        &[
            "LICENSE",
            "src/main.c",
            "src/main.o",
            "src/deep/x.o",
            "src/deep/keep.o",
            "docs/README.md",
            "docs/index.html",
            "docs/img/logo.png",
            "build/out",
            "build/cache/blob",
            "foo/bar/baz",
        ],
    ),
    (
        "**/*.o\n!src/deep/keep.o\n",
        &[
            "README.md",
            "LICENSE",
            "a.txt",
            "src/main.c",
            "src/deep/keep.o",
            "docs/README.md",
            "docs/index.html",
            "docs/img/logo.png",
            "build/out",
            "build/cache/blob",
            "foo/bar/baz",
            "[x].txt",
        ],
    ),
    (
        "*\n!docs\ndocs/img\n",
        &["docs/README.md", "docs/index.html"],
    ),
    (
        "docs\n!docs/README.md\n",
        &[
            "README.md",
            "LICENSE",
            "a.txt",
            "src/main.c",
            "src/main.o",
            "src/deep/x.o",
            "src/deep/keep.o",
            "docs/README.md",
            "build/out",
            "build/cache/blob",
            "foo/bar/baz",
            "[x].txt",
        ],
    ),
    (
        "/build/\n/src/../foo\n",
        &[
            "README.md",
            "LICENSE",
            "a.txt",
            "src/main.c",
            "src/main.o",
            "src/deep/x.o",
            "src/deep/keep.o",
            "docs/README.md",
            "docs/index.html",
            "docs/img/logo.png",
            "[x].txt",
        ],
    ),
    ("*/*\n", &["README.md", "LICENSE", "a.txt", "[x].txt"]),
    ("*\n!*.md\n", &["README.md"]),
    (
        "foo/bar\n\\[x].txt\n?.txt\n",
        &[
            "README.md",
            "LICENSE",
            "src/main.c",
            "src/main.o",
            "src/deep/x.o",
            "src/deep/keep.o",
            "docs/README.md",
            "docs/index.html",
            "docs/img/logo.png",
            "build/out",
            "build/cache/blob",
        ],
    ),
    (
        "!a.txt\na.txt\nsrc/**\n!src/**/*.c\n",
        &[
            "README.md",
            "LICENSE",
            "src/main.c",
            "docs/README.md",
            "docs/index.html",
            "docs/img/logo.png",
            "build/out",
            "build/cache/blob",
            "foo/bar/baz",
            "[x].txt",
        ],
    ),
];

/// Where buildah 1.28 still leaves a whole directory out, as Docker did before BuildKit.
const LIKE_BUILDKIT: [(&str, &[&str]); 1] = [("**\n!**/*.md\n", &["README.md", "docs/README.md"])];

fn write_files(world: &World) {
    for file in FILES {
        world.write(&format!("ctx/{file}"), file);
    }
    world.dockerfile("FROM scratch\nCOPY . /all/\n");
}

/// Returns the files below `all`, without the Dockerfile and `.dockerignore` themselves.
fn left(image: &support::image::Image) -> BTreeSet<String> {
    let tree = support::image::flatten(image).unwrap();
    tree.iter()
        .filter(|(_, node)| matches!(node.kind, support::image::NodeKind::File { .. }))
        .filter_map(|(path, _)| path.strip_prefix("all").ok())
        .map(|path| path.to_str().unwrap().to_owned())
        .filter(|name| name != "Dockerfile" && name != ".dockerignore")
        .collect()
}

for_users! {
    /// The table.
    fn table(world) as [plain, subids] {
        write_files(world);
        for (patterns, expected) in CASES.into_iter().chain(LIKE_BUILDKIT) {
            world.write("ctx/.dockerignore", patterns);
            let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(left(&world.built([])), expected, "patterns {patterns:?}");
        }
    }

    /// The same table through buildah: so that the expectations are somebody else's, too.
    fn table_agrees_with_buildah(world) as [subids] {
        need!(world, "buildah");
        write_files(world);
        for (index, (patterns, expected)) in CASES.iter().enumerate() {
            world.write("ctx/.dockerignore", patterns);
            let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
            let target = format!("oci-archive:{}", world.path(format!("{index}.oci")).display());
            buildah_build(world, "oci", &["--no-cache"], &target);
            let found = left(&world.image(&format!("{index}.oci")));
            assert_eq!(found, expected, "patterns {patterns:?}");
        }
    }

    /// The Dockerfile and `.dockerignore` can be left out, and still work.
    fn own_files(world) as [plain] {
        world.write("ctx/f", "");
        world.write("ctx/.dockerignore", "Dockerfile\n.dockerignore\n");
        world.dockerfile("FROM scratch\nCOPY . /all/\n");
        let tree = world.tree([]);
        let names: Vec<_> = tree.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["all", "all/f"]);
    }

    /// COPY of an ignored file says that it is ignored.
    fn copy_of_ignored(world) as [plain] {
        world.write("ctx/secret.env", "");
        world.write("ctx/.dockerignore", "*.env\n");
        world.dockerfile("FROM scratch\nCOPY secret.env /\n");
        world.build([]).run().exits(1).says(&["secret.env", ".dockerignore"]);
    }

    /// A pattern that can't be one is an error with its line.
    fn bad_pattern(world) as [plain] {
        world.write("ctx/f", "");
        world.write("ctx/.dockerignore", "ok\n[\n");
        world.dockerfile("FROM scratch\nCOPY . /\n");
        world.build([]).run().exits(1).says(&[".dockerignore"]);
    }
}
