//! COPY: its sources, its destinations and its flags, as the tables of `COVERAGE.md` list them.

use support::image::{assert_file, node};
use support::progress::assert_all_cached;
use support::{base, for_users};

for_users! {
    /// Here-documents are files with a fixed mode and time, expanded unless their names are quoted.
    fn heredocs(world) as [root, subids, plain] {
        world.write("ctx/beside", "beside\n");
        let lines = "FROM scratch\n\
             ARG WHO=world\n\
             COPY <<EOF /greeting\nhello $WHO\nEOF\n\
             COPY <<'EOF' /literal\nhello $WHO\nEOF\n\
             COPY --chmod=4751 --chown=3:4 <<-one <<two beside /dir/\n\tfirst\n\t\tmore\n\tone\ntwo's\ntwo\n\
             ADD <<tar.gz /added/\nno archive\ntar.gz\n\
             COPY --from=0 <<x greeting /\nX\nx\n"
            .replace("COPY --from=0", "FROM scratch\nCOPY --from=0");
        world.dockerfile(&lines);
        let tree = world.tree(["--target=0"]);
        assert_file(&tree, "greeting", "hello world\n");
        assert_file(&tree, "literal", "hello $WHO\n");
        assert_file(&tree, "dir/one", "first\nmore\n");
        assert_file(&tree, "dir/two", "two's\n");
        assert_file(&tree, "dir/beside", "beside\n");
        assert_file(&tree, "added/tar.gz", "no archive\n");
        let greeting = node(&tree, "greeting");
        assert_eq!((greeting.mode, greeting.uid, greeting.gid, greeting.mtime), (0o644, 0, 0, 0));
        let one = node(&tree, "dir/one");
        assert_eq!((one.mode, one.uid, one.gid), (0o4751, 3, 4));
        // Beside files of another stage.
        let tree = world.tree([]);
        assert_file(&tree, "x", "X\n");
        assert_file(&tree, "greeting", "hello world\n");
    }

    /// A here-document is part of its step's key, and its layer the same every time.
    fn heredocs_are_cached_by_content(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let write = |text: &str| {
            world.dockerfile(&format!("FROM {base}\nCOPY <<EOF /f\n{text}\nEOF\n"));
        };
        write("one");
        world.build(["--iidfile=first"]).ok();
        assert_all_cached(&world.build([]).ok().stderr, 1);
        world.build(["--iidfile=again", "--no-cache"]).ok();
        let diff_ids = || world.built([]).config["rootfs"].clone();
        let first = diff_ids();
        write("two");
        assert_ne!(diff_ids(), first);
        write("one");
        assert_eq!(diff_ids(), first);
    }

    /// A name that is no file's is refused, with its place.
    fn heredoc_names(world) as [plain] {
        for name in ["..", "a/b"] {
            world.dockerfile(&format!("FROM scratch\nCOPY <<{name} /d/\nx\n{name}\n"));
            world.build([]).run().exits(1).says(&["can't be a file's", "Dockerfile:2"]);
        }
    }
}
