//! What the layers of an image say of owners, modes, devices and capabilities.

use support::image::{Tree, flatten, node};
use support::{User, World, base, for_users};

use super::{context, table};

/// Expects `PATH = UID:GID:MODE KIND` of each line; after ` | ` what a range can do.
#[track_caller]
fn assert_tree(world: &World, tree: &Tree, table: &str) {
    let mut wrong = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (path, wanted) = line.split_once(" = ").expect("a row");
        let wanted = match wanted.split_once(" | ") {
            Some((_, ranged)) if world.user != User::Plain => ranged,
            Some((wanted, _)) => wanted,
            None => wanted,
        };
        let found = node(tree, path);
        let kind = found.kind.name();
        let mode = if kind == "symlink" { 0o777 } else { found.mode };
        let found = format!("{}:{}:{mode:o} {kind}", found.uid, found.gid);
        if found != wanted {
            wrong.push(format!("{path}: wanted `{wanted}`, got `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, node) in tree {
        let private = node
            .xattrs
            .keys()
            .find(|name| name.contains("rootlesscontainers"));
        assert!(
            private.is_none(),
            "{}: {private:?} is in the image",
            path.display()
        );
    }
}

/// What `owners.sh t` leaves.
const OWNERS: &str = "
    w/t/plain = 33:33:644 file
    w/t/cleared = 33:0:755 file
    w/t/kept = 33:33:2644 file
    w/t/dir = 0:8:2775 dir
    w/t/link = 8:9:777 symlink
    w/t/fifo = 1:2:644 fifo
    w/t/hard = 5:6:644 file
    w/t/after = 7:7:644 file
    w/t/target = 7:8:644 file
    w/t/lafter = 3:4:777 symlink
    w/t/name = 33:50:644 file
    w/t/big = 70000:70001:644 file | 0:0:644 file
    w/t/huge = 4294967294:4294967294:644 file | 0:0:644 file
    w/t/bigdir = 70000:70000:755 dir | 0:0:755 dir
    w/t/tree/a/b/f = 33:34:644 file
    w/t/tree/a/l = 33:34:777 symlink
    w/t/tree/p = 33:34:644 fifo
    w/t/inherit = 0:33:2775 dir
    w/t/inherit/d = 0:33:2755 dir
    w/t/inherit/l = 0:33:777 symlink
    w/t/named = 33:34:640 file
    w/t/ea = 2:2:644 file
";

for_users! {
    /// Owners and modes of all kinds of files, those of the base and those that steps made.
    fn owners(world) as [root, subids, plain] {
        let base = base!(world, Layered);
        context(world, &base, "RUN sh /probe/owners.sh t >/dev/null\n\
            RUN echo >>/etc/shadow; chmod 2770 /var/mail; mv /data/pipe /data/moved-pipe; chown 33 /usr/bin/setuid; chmod 4755 /usr/bin/setuid; touch /home/app/.profile; rm /var/nobody\n\
            USER app\nRUN : >/home/app/file; mkdir -m 700 /home/app/dir; ln -s x /home/app/link; mkfifo /home/app/fifo; umask 77; : >/tmp/private; : >/home/app/dir/in\n");
        let tree = flatten(&world.built(["--network=none"])).unwrap();
        assert_tree(world, &tree, OWNERS);
        assert_tree(world, &tree, "
            etc/shadow = 0:42:640 file
            var/mail = 0:8:2770 dir
            var/www = 33:33:755 dir
            data = 0:50:755 dir
            data/original = 33:33:640 file
            data/linked = 33:33:640 file
            data/moved-pipe = 0:8:620 fifo
            usr/bin/setuid = 33:0:4755 file
            usr/bin/setgid = 0:42:2755 file
            home/app = 1000:1001:750 dir
            home/app/.profile = 1000:1001:644 file
            home/app/file = 1000:1001:644 file
            home/app/dir = 1000:1001:700 dir
            home/app/dir/in = 1000:1001:600 file
            home/app/link = 1000:1001:777 symlink
            home/app/fifo = 1000:1001:644 fifo
            tmp/private = 1000:1001:600 file
        ");
        let capability = node(&tree, "usr/bin/server").xattrs.get("security.capability");
        assert_eq!(capability.map(Vec::as_slice), Some(&support::base::NET_BIND_SERVICE[..]));
        assert!(!tree.contains_key(std::path::Path::new("var/nobody")));
    }

    /// COPY and ADD with an owner, from the context, from another stage, and into what exists.
    fn copies(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        world.write("ctx/probe/tree/sub/f", "x");
        world.link("ctx/probe/tree/link", "sub/f");
        context(world, &base, &format!("COPY --chown=33:33 probe/tree /c\nADD --chown=app:staff probe/lib.sh /c/lib\n\
            COPY --chown=8:8 --chmod=4711 probe/who.sh /c/who\n\
            RUN sh /probe/owners.sh t >/dev/null; chown 1:1 /c/sub/f; mkdir -m 2775 /c/sub/d; chown 5:6 /c/sub/d; chmod 2775 /c/sub/d; mkfifo /c/fifo; chown 3:4 /c/fifo\n\
            FROM {base}\nCOPY --from=0 /w/t /w/t\nCOPY --from=0 --chown=9:9 /c /given\nCOPY --from=0 /c /c\nCOPY --from=0 /c/sub /home/app\n\
            WORKDIR /made/by/workdir\nRUN test $(stat -c %u:%g /w/t/link /c/sub/f | tr '\\n' ' ' | tr -d ' ') = 8:91:1\n"));
        let tree = flatten(&world.built(["--network=none"])).unwrap();
        assert_tree(world, &tree, OWNERS);
        assert_tree(world, &tree, "
            c = 0:0:755 dir
            c/sub = 33:33:755 dir
            c/sub/f = 1:1:644 file
            c/sub/d = 5:6:2775 dir
            c/link = 33:33:777 symlink
            c/fifo = 3:4:644 fifo
            c/lib = 1000:50:644 file
            c/who = 8:8:4711 file
            given/sub/f = 9:9:644 file
            given/link = 9:9:777 symlink
            given/fifo = 9:9:644 fifo
            home/app/f = 1:1:644 file
            home/app/.profile = 1000:1001:644 file
            made/by/workdir = 0:0:755 dir
            var/www = 33:33:755 dir
        ");
    }

    /// The same Dockerfile gives the same owners as with a range, or as root: entry for entry.
    fn capabilities(world) as [subids, plain] {
        let base = base!(world, Tools);
        context(world, &base, "RUN . /probe/lib.sh; cp $p /cap; setcap cap_net_raw,cap_net_bind_service=ep /cap; \
            say get $(getcap /cap); chown 0:33 /cap; say lost $(getcap /cap); setcap cap_net_raw=ep /cap; \
            cp $p /first; setcap cap_net_raw=p /first; mv /first /moved\n\
            RUN . /probe/lib.sh; say next $(getcap /cap /moved | tr '\\n' ' '); cp -a /cap /copied; say copied $(getcap /copied) $(own /copied); \
            say run $($p do setgroups:33 setgid:33 setuid:33 -- /cap do caps) $($p do setgroups:33 setgid:33 setuid:33 -- /moved do caps); \
            say user $($p do setgid:33 setuid:33 -- sh -c 'cp /cap /tmp/own; setcap cap_net_raw=ep /tmp/own 2>/dev/null; getcap /tmp/own')\n");
        table::assert_printed(world, "
            get = /cap cap_net_bind_service,cap_net_raw=ep
            lost =
            next = /cap cap_net_raw=ep /moved cap_net_raw=p
            copied = /copied cap_net_raw=ep 0:33:755
            run = 2000,2000,0 0,2000,0
            user =
        ");
        let tree = flatten(&world.built(["--network=none"])).unwrap();
        // Version 2 (vfs_cap_data of capabilities(7)): no user namespace's root in it.
        for (path, effective) in [("cap", 1), ("copied", 1), ("moved", 0)] {
            let value = node(&tree, path).xattrs.get("security.capability").expect(path);
            let mut wanted = [0; 20];
            wanted[0] = effective;
            wanted[3] = 2;
            wanted[5] = 0x20;
            assert_eq!(value.as_slice(), wanted, "{path}");
        }
    }
}
