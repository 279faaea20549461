//! Where the context and the Dockerfile come from.

use support::image::{NodeKind, assert_file, flatten, node};
use support::layer::{Layer, by_root};
use support::{base, for_users, need};

for_users! {
    /// A Dockerfile elsewhere, and one on standard input.
    fn dockerfile_elsewhere(world) as [subids, plain] {
        world.write("ctx/f", "f");
        world.write("other/Recipe", "FROM scratch\nCOPY f /there\n");
        let tree = world.tree(["--file=other/Recipe"]);
        assert_file(&tree, "there", "f");
        world.write("ctx/docker/Dockerfile.dev", "FROM scratch\nCOPY f /dev-there\n");
        let tree = world.tree(["-f", "ctx/docker/Dockerfile.dev"]);
        assert_file(&tree, "dev-there", "f");
    }

    /// A bare Dockerfile on standard input: there is no context.
    fn dockerfile_on_stdin(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nLABEL from=stdin\n");
        world
            .sandcrab(["build", "--output=type=oci,dest=built.oci", "-"])
            .stdin(text)
            .ok();
        let image = world.image("built.oci");
        assert_eq!(image.config["config"]["Labels"]["from"], "stdin");
        world.sandcrab(["build", "-"]).stdin("FROM scratch\nCOPY f /\n").run().exits(1).says(&["f"]);
    }

    /// A tar on standard input is the context, compressed or not.
    fn tar_on_stdin(world) as [root, subids, plain] {
        need!(world, "gzip");
        let tar = Layer::empty()
            .file("Dockerfile", by_root(0o644), b"FROM scratch\nCOPY . /all/\n")
            .file(".dockerignore", by_root(0o644), b"ignored\n")
            .dir("d", by_root(0o700))
            .file("d/f", by_root(0o755), b"in a tar")
            .file("ignored", by_root(0o644), b"")
            .symlink("d/link", "f")
            .finish();
        let gzip = world.command("gzip").arg("-c").stdin(tar.clone()).ok().stdout;
        for bytes in [tar, gzip] {
            world
                .sandcrab(["build", "--output=type=oci,dest=built.oci", "-"])
                .stdin(bytes)
                .ok();
            let tree = flatten(&world.image("built.oci")).unwrap();
            assert_file(&tree, "all/d/f", "in a tar");
            assert_eq!(node(&tree, "all/d/f").mode, 0o755);
            assert_eq!(node(&tree, "all/d/link").kind, NodeKind::Symlink(b"f".to_vec()));
            assert!(!tree.contains_key(std::path::Path::new("all/ignored")));
        }
    }

    /// A context tar with an entry that leads out of it is refused or contained.
    fn hostile_tar_on_stdin(world) as [root, plain] {
        let secret = world.write("secret", "private\n");
        let directory = secret.parent().unwrap().to_str().unwrap();
        let tar = Layer::empty()
            .file("Dockerfile", by_root(0o644), b"FROM scratch\nCOPY way/secret /stolen\n")
            .symlink("way", directory)
            .finish();
        let output = world.sandcrab(["build", "-"]).stdin(tar).run().exits(1);
        assert!(!output.all().contains("private"));
    }

    /// A link in the context that leads out of it is copied as a link, and never followed.
    fn link_out_of_context(world) as [root, subids, plain] {
        world.write("secret", "private\n");
        world.write("ctx/real/f", "f");
        world.link("ctx/out", "../secret");
        world.link("ctx/dir", "..");
        world.link("ctx/inside", "real");
        world.dockerfile("FROM scratch\nCOPY . /all/\nCOPY inside/f /through\n");
        let tree = world.tree([]);
        assert_eq!(node(&tree, "all/out").kind, NodeKind::Symlink(b"../secret".to_vec()));
        assert_eq!(node(&tree, "all/dir").kind, NodeKind::Symlink(b"..".to_vec()));
        assert_file(&tree, "through", "f");
        world.dockerfile("FROM scratch\nCOPY dir/secret /stolen\n");
        world.build([]).run().exits(1).never_says(&["private"]);
        world.dockerfile("FROM scratch\nCOPY ../secret /stolen\n");
        world.build([]).run().exits(1).never_says(&["private"]);
    }

    /// Names that are no UTF-8, contain newlines, or are as long as they may be.
    fn names(world) as [subids, plain] {
        use std::os::unix::ffi::OsStringExt;
        world.make_dir("ctx/n");
        let long = "l".repeat(255);
        let odd = std::ffi::OsString::from_vec(b"odd\xff\n name".to_vec());
        world.write(&format!("ctx/n/{long}"), "long");
        std::fs::write(world.path("ctx/n").join(&odd), "odd").unwrap();
        world.dockerfile("FROM scratch\nCOPY n /n\n");
        let tree = world.tree([]);
        assert_file(&tree, &format!("n/{long}"), "long");
        assert!(tree.contains_key(&std::path::Path::new("n").join(&odd)), "{:?}", tree.keys());
    }

    /// What can't be copied is named.
    fn unreadable_file(world) as [subids, plain] {
        world.write("ctx/locked", "");
        world.set_mode("ctx/locked", 0);
        world.dockerfile("FROM scratch\nCOPY locked /\n");
        world.build([]).run().exits(1).says(&["locked", "permission denied"]);
        world.write("ctx/.dockerignore", "locked\n");
        world.write("ctx/open", "");
        world.dockerfile("FROM scratch\nCOPY . /\n");
        world.build([]).ok();
    }
}
