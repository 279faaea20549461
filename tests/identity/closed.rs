//! Ways around: what could make calls that nobody looks at, and what may not be in the way.

use std::time::Duration;

use support::{User, World, base, for_users};

use super::context;
use super::table::{self, assert_printed};

/// A program for i386 that makes `/made32` and gives it to 33:33 by the calls of that architecture,
/// then ends with 0, or with 7 where it was told of an error.
fn program32() -> Vec<u8> {
    let code: &[u8] = &[
        0xb8, 8, 0, 0, 0, // mov eax, 8 (creat)
        0xbb, 0, 0, 0, 0, // mov ebx, path
        0xb9, 0xa4, 1, 0, 0, // mov ecx, 0644
        0xcd, 0x80, // int 0x80
        0x85, 0xc0, 0x78, 0x1f, // test eax, eax; js error
        0xb8, 212, 0, 0, 0, // mov eax, 212 (chown32)
        0xb9, 33, 0, 0, 0, // mov ecx, 33
        0xba, 33, 0, 0, 0, // mov edx, 33
        0xcd, 0x80, // int 0x80
        0x85, 0xc0, 0x78, 0x0a, // test eax, eax; js error
        0x31, 0xdb, // xor ebx, ebx
        0xb8, 1, 0, 0, 0, // mov eax, 1 (exit)
        0xcd, 0x80, // int 0x80
        0x90, // nop
        0xbb, 7, 0, 0, 0, // error: mov ebx, 7
        0xb8, 1, 0, 0, 0, // mov eax, 1 (exit)
        0xcd, 0x80, // int 0x80
    ];
    const BASE: u32 = 0x0804_8000;
    let header = 52 + 32;
    let mut code = code.to_vec();
    let path = BASE + header + u32::try_from(code.len()).expect("a few bytes");
    code[6..10].copy_from_slice(&path.to_le_bytes());
    code.extend_from_slice(b"/made32\0");
    let size = header + u32::try_from(code.len()).expect("a few bytes");
    let mut file = vec![
        0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0,
    ];
    // Version, entry, program headers, section headers, flags; sizes and counts.
    for word in [1, BASE + header, 52, 0, 0] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    for half in [52_u16, 32, 1, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    // One segment: load all, to be read and executed.
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&code);
    file
}

/// Runs the i386 program on this machine, where it may have been configured away.
fn runs_here(world: &World) -> bool {
    world.write("try32", program32());
    world.set_mode("try32", 0o755);
    // It can't make a file in `/`, and says so.
    let path = world.path("try32");
    std::process::Command::new(path)
        .status()
        .is_ok_and(|status| status.code().is_some())
}

for_users! {
    /// No ring of calls behind the filter's back; a filter of one's own works, with all the rest;
    /// the mark by which a process is known can't be changed.
    fn ways_around(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN . /probe/lib.sh; say uring $($p do uring | grep -cE '^(EPERM|ENOSYS)$'); \
            say filter $($p do filter priority ids create:/f1 chown:33:34:/f1 stat:/f1 -- $p do priority ids stat:/f1); \
            say filter-user $($p do setgroups:33 setgid:33 setuid:33 filter -- $p do priority ids create:/tmp/f2 stat:/tmp/f2 read:/etc/shadow); \
            $p do setgroups:33 setgid:33 setuid:33 -- sh -c '/probe/p do rttime >/dev/null; echo rttime=$(/probe/p do rttime -- /probe/p do ids read:/etc/shadow)'; \
            ulimit -c 0; say limits $(ulimit -a >/dev/null && echo ok)\n");
        assert_printed(world, "
            uring = 1
            filter = EXDEV 0,0,0/0,0,0/0 33:34:644
            filter-user = EXDEV 33,33,33/33,33,33/33 ok 33:33:644 EACCES
            rttime = 33,33,33/33,33,33/33 EACCES
            limits = ok
        ");
    }

    /// Long lists of groups, which the job has to keep, are refused before they take much; who has some
    /// goes on.
    fn flood_of_groups(world) as [plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN . /probe/lib.sh; say flood $($p do groups-flood:200 groups-flood:1 setgroups:5 setgid:5 setuid:5 ids); \
            say child $($p do groups-flood:1 setgroups:5 setgid:5 setuid:5 -- $p do ids); \
            say again $($p do groups-flood:2 setgroups:9 setgid:9 ids)\n");
        assert_printed(world, "
            flood = EAGAIN late ok ok ok ok 5,5,5/5,5,5/5
            child = 5,5,5/5,5,5/5
            again = ok ok ok 0,0,0/9,9,9/9
        ");
    }

    /// A program for i386 either works, owners included, or is refused by name; it is never left
    /// with a success that didn't happen.
    fn programs_for_i386(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        if cfg!(not(target_arch = "x86_64")) || !runs_here(world) {
            return support::skip(&world.test, "this kernel runs no programs for i386");
        }
        world.write("ctx/probe/p32", program32());
        world.set_mode("ctx/probe/p32", 0o755);
        context(world, &base, "RUN . /probe/lib.sh; /probe/p32; say ended $?; say made $(own /made32)\n");
        let output = world.build(["--no-cache", "--network=none"]).ok();
        let text = output.all();
        if text.contains("made=33:33:644") {
            assert!(text.contains("ended=0"), "{text}");
        } else {
            assert_eq!(world.user, User::Plain, "only the emulated identity may refuse it:\n{text}");
            assert!(!text.contains("ended=0"), "a success that didn't happen:\n{text}");
            assert!(text.contains("32-bit") || text.contains("i386"), "not named:\n{text}");
        }
    }

    /// Paths that are too long, too many links, names that are too long: as the kernel has it.
    fn paths_at_the_limits(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN . /probe/lib.sh; cd /tmp; for who in root www; do \
            as=; [ $who = root ] || as=\"$p do setgid:33 setuid:33 --\"; \
            long=$(printf 'x%.0s' $(seq 255)); say name.$who $($as $p do create:$long stat:$long unlink:$long create:x$long stat:x$long chown:1:1:x$long mkdir:x$long); \
            path=$(printf './%.0s' $(seq 2047)); say path.$who $($as $p do stat:$path. stat:$path.x/ stat:./$path. chown:1:1:./$path. mkdir:./$path. access:0:./$path. unlink:./$path. rename:./$path.:x long:3000 long:2047); \
            ln -s loop-$who loop-$who; say loop.$who $($as $p do read:loop-$who chown:1:1:loop-$who stat:loop-$who/x chdir:loop-$who); \
            i=0; : >l-$who-0; while [ $i -lt 42 ]; do ln -s l-$who-$i l-$who-$((i + 1)); i=$((i + 1)); done; \
            say chain.$who $($as $p do read:l-$who-40 read:l-$who-41 access:4:l-$who-40 access:4:l-$who-41); done\n");
        assert_printed(world, "
            name.{root,www} = ok WHO:644 ok ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG
            path.{root,www} = 0:0:1777 ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENOENT
            loop.{root,www} = ELOOP ELOOP ELOOP ELOOP
            chain.{root,www} = ok ELOOP ok ELOOP
        ".replace("name.{root,www}", "name.root").replace("WHO:", "0:0:").replace("path.{", "name.www = ok 33:33:644 ok ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG\npath.{").as_str());
    }

    /// A step ends in time, whatever it leaves running with other ids.
    fn left_behind(world) as [subids, plain] {
        let base = base!(world, Owners);
        let marker = format!("6161.{}{}", std::process::id(), world.account.uid);
        context(world, &base, &format!("RUN (/probe/p do setuid:33 -- sleep {marker} >/dev/null 2>&1 &); \
            (/probe/p do setuid:33 -- sh -c 'while :; do /probe/p do stat:/etc/passwd; done' >/dev/null 2>&1 &); sleep 0.3; echo done=1\n"));
        let output = world.build(["--network=none"]).timeout(Duration::from_secs(60)).ok();
        table::assert_output(world, &output.stderr, "done = 1");
        world.assert_nothing_left(&marker);
    }
}
