//! Layers: what a step changed, and nothing else; hostile layers in a base.

use support::image::{NodeKind, assert_file, flatten, node};
use support::layer::{Layer, by_root, owned, write_layout};
use support::peers::skopeo_copy;
use support::{Registry, World, base, for_users};

/// Pushes an image of these layers to the shared registry, and returns its reference.
fn push(world: &World, layers: &[Vec<u8>]) -> Option<String> {
    let registry = Registry::shared()
        .inspect_err(|why| support::skip(&world.test, why))
        .ok()?;
    let directory = world.path("pushed");
    drop(std::fs::remove_dir_all(&directory));
    write_layout(&directory, layers, &serde_json::json!({}));
    let name = format!("{}/made-{}:1", registry.host(), world.user.name());
    // World-readable, so that the account may push it.
    skopeo_copy(
        world,
        &format!("oci:{}:fixture", directory.display()),
        &format!("docker://{name}"),
    );
    Some(name)
}

/// Returns the names in the last layer, without leading `./` and trailing `/`, sorted.
fn last_layer(image: &support::image::Image) -> Vec<String> {
    let mut names: Vec<String> = image
        .layer_names(image.layer_count() - 1)
        .iter()
        .map(|name| {
            name.trim_start_matches("./")
                .trim_end_matches('/')
                .to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names
}

for_users! {
    /// A layer holds what changed and the directories above it.
    fn only_changes(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN mkdir -p /a/b && echo x >/a/b/c\n"));
        assert_eq!(last_layer(&world.built([])), ["a", "a/b", "a/b/c"]);
        world.dockerfile(&format!(
            "FROM {base}\nRUN mkdir -p /a/b && echo x >/a/b/c\nRUN chmod 600 /a/b/c\n"
        ));
        assert_eq!(last_layer(&world.built([])), ["a", "a/b", "a/b/c"]);
        world.dockerfile(&format!(
            "FROM {base}\nRUN mkdir -p /a/b /d && echo x >/a/b/c\nRUN rm -r /a/b\nRUN rmdir /d /a\n"
        ));
        assert_eq!(last_layer(&world.built([])), [".wh.a", ".wh.d"]);
    }

    /// A directory made anew hides what was below it before.
    fn opaque_directory(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN mkdir -p /d/sub && echo old >/d/old && echo old >/d/sub/old\n\
             RUN rm -r /d && mkdir /d && echo new >/d/new\n\
             RUN test ! -e /d/old && test -e /d/new && rm /d/new && echo newer >/d/newer\n"
        ));
        let image = world.built([]);
        let tree = flatten(&image).unwrap();
        assert_file(&tree, "d/newer", "newer\n");
        let below: Vec<_> = tree.keys().filter(|path| path.starts_with("d")).collect();
        assert_eq!(below.len(), 2, "{below:?}");
        let names = image.layer_names(2);
        assert!(names.iter().any(|name| name.ends_with("d/.wh..wh..opq")), "{names:?}");
    }

    /// Every kind of file that an ordinary user may make.
    fn kinds(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let long = format!("{}/{}/{}", "d".repeat(200), "e".repeat(200), "f".repeat(200));
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN mkdir /k && cd /k && echo one >one && ln one two && ln -s one soft && mkfifo pipe \
             && echo s >setid && chmod 6755 setid && mkdir sticky && chmod 1777 sticky \
             && touch -d '2001-02-03 04:05:06' old && mkdir -p $(dirname {long}) && echo long >{long} \
             && ln -s {long} longlink && truncate -s 200M sparse && echo end | dd of=sparse bs=1 seek=100000000 conv=notrunc\n"
        ));
        let tree = world.tree([]);
        let inode = |name| &node(&tree, name).inode;
        assert_eq!(inode("k/one"), inode("k/two"));
        assert_eq!(node(&tree, "k/soft").kind, NodeKind::Symlink(b"one".to_vec()));
        assert_eq!(node(&tree, "k/pipe").kind, NodeKind::Fifo);
        assert_eq!(node(&tree, "k/setid").mode, 0o6755);
        assert_eq!(node(&tree, "k/sticky").mode, 0o1777);
        assert_eq!(node(&tree, "k/old").mtime, 981_173_106);
        assert_file(&tree, &format!("k/{long}"), "long\n");
        assert_eq!(node(&tree, "k/longlink").kind, NodeKind::Symlink(long.into_bytes()));
        let NodeKind::File { size, .. } = node(&tree, "k/sparse").kind else {
            panic!("sparse is no file");
        };
        assert_eq!(size, 200 << 20);
    }

    /// A file capability and attributes come through a build unchanged.
    fn capabilities(world) as [root, subids] {
        let base = base!(world, Layered);
        world.dockerfile(&format!("FROM {base}\nRUN chmod 700 /usr/bin/server /data/attr\n"));
        let tree = world.tree([]);
        let server = node(&tree, "usr/bin/server");
        assert_eq!(server.mode, 0o700);
        assert_eq!(server.xattrs["security.capability"], support::base::NET_BIND_SERVICE);
        let attr = node(&tree, "data/attr");
        assert_eq!(attr.xattrs["user.note"], b"from the base \x00\xff");
        let marks: Vec<&String> = tree
            .values()
            .flat_map(|node| node.xattrs.keys())
            .filter(|name| name.contains("overlay"))
            .collect();
        assert!(marks.is_empty(), "{marks:?}");
    }

    /// Each whiteout form of a base, seen from inside a step.
    fn whiteouts_of_base(world) as [root, subids] {
        let base = base!(world, Layered);
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN cd /data && test ! -e gone && test ! -e gone-dir && test ! -e opaque/old \
             && test ! -e opaque/deep && test -f opaque/new && test -d becomes-dir \
             && test -f becomes-file && test ! -L becomes-real && test -p pipe && test -e .whale \
             && test $(stat -c %i original) = $(stat -c %i linked) \
             && test $(stat -c %u:%g:%a original) = 33:33:640 && test $(stat -c %a opaque) = 700\n"
        ));
        world.build([]).ok();
    }

    /// A hard link to a file of a lower layer: no builder writes it, but the format allows it.
    fn hard_link_to_lower_layer(world) as [root, subids, plain] {
        let lower = Layer::empty().file("one", by_root(0o640), b"shared\n").finish();
        let upper = Layer::empty().hard_link("two", "one", by_root(0o640)).finish();
        let Some(reference) = push(world, &[lower, upper]) else {
            return;
        };
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {reference} AS linked\nFROM {base}\nCOPY --from=linked /two /copied\n"
        ));
        assert_file(&world.tree([]), "copied", "shared\n");
    }

    /// A layer that leads out of the image is refused, or what it says stays inside.
    fn hostile_base(world) as [root, subids, plain] {
        let victim = world.write("victim", "untouched\n");
        let path = victim.to_str().unwrap().to_owned();
        let place = victim.parent().unwrap().to_str().unwrap().to_owned();
        let up = "../".repeat(15);
        let data = b"pwned\n";
        let cases = [
            ("absolute", Layer::empty().file(&path, by_root(0o644), data)),
            ("dots", Layer::empty().file(&format!("{up}{}", &path[1..]), by_root(0o644), data)),
            ("link", Layer::empty().symlink("l", &place).file("l/victim", by_root(0o644), data)),
            ("up-link", Layer::empty().symlink("l", &format!("{up}{}", &place[1..])).file("l/victim", by_root(0o644), data)),
            ("hard", Layer::empty().hard_link("h", &path, by_root(0o644)).file("h", by_root(0o644), data)),
            ("hard-up", Layer::empty().hard_link("h", &format!("{up}{}", &path[1..]), by_root(0o644)).file("h", by_root(0o644), data)),
            ("whiteout", Layer::empty().file(&format!("{up}{}/.wh.victim", &place[1..]), by_root(0), b"")),
            ("link-whiteout", Layer::empty().symlink("l", &place).file("l/.wh.victim", by_root(0), b"")),
            ("opaque-link", Layer::empty().symlink("l", &place).file("l/.wh..wh..opq", by_root(0), b"")),
            ("whiteout-dots", Layer::empty().file("d/.wh...", by_root(0), b"")),
        ];
        for (name, layer) in cases {
            let Some(reference) = push(world, &[Layer::empty().dir("d", by_root(0o755)).finish(), layer.finish()]) else {
                return;
            };
            world.write("ctx/f", name);
            world.dockerfile(&format!("FROM {reference}\nCOPY f /\n"));
            let output = world.build(["--no-cache"]).run();
            assert!(matches!(output.code, Some(0 | 1)), "{name}: {}", output.all());
            assert_eq!(std::fs::read(&victim).unwrap(), b"untouched\n", "{name}");
        }
        world.assert_nothing_left(world.path("ctx").to_str().unwrap());
    }

    /// Ids beyond the range are an error that names the file, not a wrong owner.
    fn owner_out_of_range(world) as [subids] {
        let layer = Layer::empty().file("far", owned(0o644, 70_000_000, 0), b"").finish();
        let Some(reference) = push(world, &[layer]) else {
            return;
        };
        world.write("ctx/f", "");
        world.dockerfile(&format!("FROM {reference}\nCOPY f /f2\nRUN [\"x\"]\n"));
        world.build([]).run().exits(1).says(&["far", "70000000"]);
    }

    /// A base with many layers.
    fn many_layers(world) as [root, subids, plain] {
        let layers: Vec<Vec<u8>> = (0..150)
            .map(|n| {
                let all = n.to_string();
                Layer::empty().file("last", by_root(0o644), all.as_bytes())
                    .file(&format!("f{n}"), by_root(0o644), all.as_bytes()).finish()
            })
            .collect();
        let busybox = std::fs::read("/bin/busybox").unwrap_or_default();
        if busybox.is_empty() {
            return support::skip(&world.test, "no busybox");
        }
        let Some(reference) = push(world, &layers) else {
            return;
        };
        world.write("ctx/busybox", busybox);
        world.set_mode("ctx/busybox", 0o755);
        world.dockerfile(&format!(
            "FROM {reference}\nCOPY busybox /bin/\n\
             RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox cat /last /f0 /f149 >/all && busybox rm /f1\"]\n"
        ));
        let tree = world.tree([]);
        assert_file(&tree, "all", "1490149");
        assert!(!tree.contains_key(std::path::Path::new("f1")));
    }
}
