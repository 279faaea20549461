//! ADD: archives, URLs, checksums.

use support::hash::sha256;
use support::http::Server;
use support::image::{NodeKind, assert_file, node};
use support::layer::{Layer, by_root, owned};
use support::{World, for_users, need};

/// An archive with a file, a directory and a link, all root's.
fn archive() -> Vec<u8> {
    Layer::empty()
        .dir("d", by_root(0o750))
        .file("d/inner", by_root(0o640), b"from the archive\n")
        .symlink("link", "d/inner")
        .finish()
}

fn compress(world: &World, program: &str, bytes: &[u8]) -> Vec<u8> {
    world.command(program).arg("-c").stdin(bytes).ok().stdout
}

for_users! {
    /// Local archives are unpacked by what they contain, not by their names.
    fn archives(world) as [root, subids, plain] {
        need!(world, "gzip", "bzip2", "xz", "zstd");
        let tar = archive();
        world.write("ctx/plain.tar", &tar);
        let mut lines = String::from("FROM scratch\nADD plain.tar /tar/\n");
        for program in ["gzip", "bzip2", "xz", "zstd"] {
            world.write(&format!("ctx/{program}.bin"), compress(world, program, &tar));
            lines.push_str(&format!("ADD {program}.bin /{program}/\n"));
        }
        // Looks like an archive by its name only; COPY never unpacks.
        world.write("ctx/fake.tar.gz", "no archive\n");
        lines.push_str("ADD fake.tar.gz /kept/\nCOPY plain.tar /copied/\n");
        world.dockerfile(&lines);
        let tree = world.tree([]);
        for directory in ["tar", "gzip", "bzip2", "xz", "zstd"] {
            assert_file(&tree, &format!("{directory}/d/inner"), "from the archive\n");
            assert_eq!(node(&tree, &format!("{directory}/d")).mode, 0o750);
            let link = node(&tree, &format!("{directory}/link"));
            assert_eq!(link.kind, NodeKind::Symlink(b"d/inner".to_vec()));
        }
        assert_file(&tree, "kept/fake.tar.gz", "no archive\n");
        assert_file(&tree, "copied/plain.tar", &tar);
    }

    /// Owners of an archive are kept, where the ids are there.
    fn archive_owners(world) as [root, subids] {
        let tar = Layer::empty().file("f", owned(0o4640, 33, 8), b"").finish();
        world.write("ctx/a.tar", tar);
        world.dockerfile("FROM scratch\nADD a.tar /\nADD --chown=5:6 a.tar /given/\n");
        let tree = world.tree([]);
        let f = node(&tree, "f");
        assert_eq!((f.uid, f.gid, f.mode), (33, 8, 0o4640));
        let given = node(&tree, "given/f");
        assert_eq!((given.uid, given.gid), (5, 6));
    }

    /// Where the ids are emulated, the owners of an archive are kept all the same.
    fn archive_owners_without_ids(world) as [plain] {
        let tar = Layer::empty().file("f", owned(0o640, 33, 8), b"").finish();
        world.write("ctx/a.tar", tar);
        world.dockerfile("FROM scratch\nADD a.tar /\n");
        let tree = world.tree([]);
        let f = node(&tree, "f");
        assert_eq!((f.uid, f.gid, f.mode), (33, 8, 0o640));
    }

    /// An URL is fetched, named after its path, and not unpacked.
    fn url(world) as [root, subids, plain] {
        let tar = archive();
        let server = Server::start(&[("/dir/file.txt", b"fetched\n"), ("/a.tar", &tar)]);
        world.dockerfile(&format!(
            "FROM scratch\nADD {} /named\nADD {} /dir/\nADD --chmod=755 {} /dir/\n",
            server.url("/dir/file.txt"),
            server.url("/dir/file.txt"),
            server.url("/a.tar"),
        ));
        let tree = world.tree([]);
        assert_file(&tree, "named", "fetched\n");
        assert_eq!(node(&tree, "named").mode, 0o600);
        assert_eq!(node(&tree, "named").mtime, 1_600_000_000, "Last-Modified");
        assert_file(&tree, "dir/file.txt", "fetched\n");
        assert_file(&tree, "dir/a.tar", &tar);
        assert_eq!(node(&tree, "dir/a.tar").mode, 0o755);
    }

    /// A checksum is verified; a wrong one ends the build and shows both.
    fn checksum(world) as [subids, plain] {
        let server = Server::start(&[("/f", b"fetched\n")]);
        let right = sha256(b"fetched\n");
        let wrong = sha256(b"other\n");
        let url = server.url("/f");
        world.dockerfile(&format!("FROM scratch\nADD --checksum=sha256:{right} {url} /f\n"));
        assert_file(&world.tree([]), "f", "fetched\n");
        world.dockerfile(&format!("FROM scratch\nADD --checksum=sha256:{wrong} {url} /f\n"));
        world.build([]).run().exits(1).says(&[&wrong, &right, "ADD --checksum"]);
    }

    /// What isn't there is an error with its URL and the server's answer.
    fn url_not_found(world) as [plain] {
        let server = Server::start(&[]);
        let url = server.url("/absent");
        world.dockerfile(&format!("FROM scratch\nADD {url} /f\n"));
        world.build([]).run().exits(1).says(&[&url, "404"]);
        assert!(server.requests().iter().all(|path| path == "/absent"));
    }

    /// An archive that tries to get out stays in, or is refused; outside nothing changes.
    fn hostile_archive(world) as [root, subids, plain] {
        let victim = world.write("victim", "untouched\n");
        let path = victim.to_str().unwrap();
        let absolute = Layer::empty().file(path, by_root(0o644), b"pwned\n").finish();
        let parents = format!("../../../../../../../../../..{path}");
        let dots = Layer::empty().file(&parents, by_root(0o644), b"pwned\n").finish();
        let target = victim.parent().unwrap().to_str().unwrap();
        let through = Layer::empty()
            .symlink("way", target)
            .file("way/victim", by_root(0o644), b"pwned\n")
            .finish();
        let linked = Layer::empty()
            .hard_link("name", path, by_root(0o644))
            .file("name", by_root(0o644), b"pwned\n")
            .finish();
        for (name, tar) in
            [("absolute", absolute), ("dots", dots), ("through", through), ("linked", linked)]
        {
            world.write("ctx/a.tar", tar);
            world.dockerfile("FROM scratch\nADD a.tar /\n");
            let output = world.build([]).run();
            assert!(matches!(output.code, Some(0 | 1)), "{name}: {}", output.all());
            assert_eq!(std::fs::read(&victim).unwrap(), b"untouched\n", "{name}");
        }
    }
}
