//! Device nodes, pipes and sockets: made, used, copied, and found in the layer.

use support::image::{NodeKind, flatten, node};
use support::{User, base, for_users};

use super::context;
use super::table::assert_printed;

for_users! {
    /// Devices are nodes for every program, the usual ones work, and the layer has them.
    fn devices(world) as [subids, plain] {
        let base = base!(world, Busybox);
        context(world, &base, "RUN sh /probe/specials.sh\nRUN . /probe/lib.sh; say next $(test -c /n/zero && head -c 4 /n/zero 2>/dev/null | wc -c) $(own /n/zero); rm -r /n/archive; mv /n/urandom /n/last 2>/dev/null; true\n");
        assert_printed(world, "
            mknod = ok ok ok ok ok ok ok ok ok | EPERM EPERM EPERM EPERM EPERM EPERM EPERM ok ok
            kind.null = 0:0:644 character special file 1:3 |
            kind.zero = 0:0:644 character special file 1:5 |
            kind.loop = 0:0:644 block special file 7:0 |
            kind.fuse = 0:0:644 character special file a:e5 |
            kind.file = 0:0:644 regular file 0:0
            kind.pipe = 0:0:644 fifo 0:0
            views = 0:0:644 0:0:644 0:0:644 | ENOENT ENOENT 0:0:644
            null = 0,3 | ENOENT,ENOENT
            zero = 3,3 | ENOENT,ENOENT
            full = 3,errno-28 | ENOENT,ENOENT
            urandom = 3,3 | ENOENT,ENOENT
            sent = 0 0 0 | 0 10 10
            head = 5 | 0
            tests = c b | f
            chowned = 33:34:640 character special file 1:3 | 33:34:640 regular file 0:0
            moved = 33:34:640 character special file 1:3 | 33:34:640 regular file 0:0
            copied = 33:34:640 character special file 1:3 | 33:34:640 regular file 0:0
            archived = 33:34:640 character special file 1:3 / 0:0:644 fifo 0:0 | 33:34:640 regular file 0:0 / 0:0:644 fifo 0:0
            hard = 33:34:640 character special file 1:3 | 33:34:640 regular file 0:0
            reused = 0:0:644 regular file 0:0
            www = 3,EACCES 0,3 | ENOENT,ENOENT 3,3
            find = ./archive/moved ./copied ./full ./fuse ./hard ./null2 ./random ./urandom ./zero ./loop |
            next = 4 0:0:644 | none
        ".replace(" ./null2", "").as_str());
        if world.user == User::Plain {
            let tree = flatten(&world.built(["--network=none"])).unwrap();
            for (path, block, major, minor, uid, gid, mode) in [
                ("n/zero", false, 1, 5, 0, 0, 0o644),
                ("n/last", false, 1, 9, 0, 0, 0o644),
                ("n/hard", false, 1, 3, 33, 34, 0o640),
                ("n/loop", true, 7, 0, 0, 0, 0o644),
                ("n/fuse", false, 10, 229, 0, 0, 0o644),
            ] {
                let found = node(&tree, path);
                assert_eq!(found.kind, NodeKind::Device { block, major, minor }, "{path}");
                assert_eq!((found.uid, found.gid, found.mode), (uid, gid, mode), "{path}");
                assert!(found.xattrs.is_empty(), "{path}: {:?}", found.xattrs);
            }
        }
    }

    /// COPY from another stage keeps them, as does another image's layer.
    fn copied_devices(world) as [plain] {
        let base = base!(world, Busybox);
        context(world, &base, &format!(
            "RUN mkdir /n && cd /n && mknod null c 1 3 && mknod loop b 7 0 && mkfifo pipe && chown 5:6 null pipe && chmod 600 loop\n\
             FROM {base}\nCOPY --from=0 /n /n\nRUN test -c /n/null && echo x >/n/null && test -b /n/loop && rm /n/loop && ln /n/null /n/hard\n"));
        let tree = flatten(&world.built(["--network=none"])).unwrap();
        for path in ["n/null", "n/hard"] {
            let found = node(&tree, path);
            assert_eq!(found.kind, NodeKind::Device { block: false, major: 1, minor: 3 }, "{path}");
            assert_eq!((found.uid, found.gid), (5, 6), "{path}");
        }
        assert_eq!(node(&tree, "n/pipe").uid, 5);
        assert!(!tree.contains_key(std::path::Path::new("n/loop")));
    }
}
