//! RUN: how a step is executed, apart from its mounts.

use std::time::Duration;

use support::image::assert_file;
use support::progress::{assert_all_cached, steps};
use support::{World, base, for_users};

/// Builds a Dockerfile, and returns what its steps printed.
fn printed(world: &World, text: &str, arguments: &[&str]) -> Vec<String> {
    world.dockerfile(text);
    let arguments = ["--no-cache"].into_iter().chain(arguments.iter().copied());
    let output = world.build(arguments).ok();
    let steps = steps(&output.stderr);
    steps.into_iter().flat_map(|step| step.lines).collect()
}

for_users! {
    /// `--network` of an instruction counts more than the command line's; the host's network
    /// must be allowed.
    fn network(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let count = "ls /sys/class/net | wc -l";
        let outside = std::fs::read_dir("/sys/class/net").unwrap().count().to_string();
        let text = format!(
            "FROM {base}\n\
             RUN --network=none {count}\n\
             RUN --network=default {count}\n\
             RUN {count}\n"
        );
        assert_eq!(printed(world, &text, &[]), ["1", &outside, &outside]);
        assert_eq!(printed(world, &text, &["--network=none"]), ["1"; 3]);
        let text = format!("FROM {base}\nRUN true\nRUN --network=host {count}\n");
        world.dockerfile(&text);
        world.build([]).run().exits(1).says(&[
            "`RUN --network=host` needs the entitlement network.host",
            "Dockerfile:3:15",
            "--allow network.host",
        ]);
        for allowed in [&["--allow=network.host", "--network=none"][..], &["--network=host"]] {
            assert_eq!(printed(world, &text, allowed), [outside.as_str()], "{allowed:?}");
        }
        // What is not needed is not asked.
        world.dockerfile(&format!("FROM {base} AS a\nRUN --network=host x\nFROM {base}\n"));
        world.build([]).ok();
        world.build(["--allow=network.hots"]).run().exits(2).says(&[
            "unknown entitlement `network.hots`",
            "did you mean `network.host`?",
        ]);
    }

    /// `--add-host` is in the steps' hosts file and not in the image; names are in the key,
    /// addresses are not.
    fn added_hosts(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN grep -v localhost /etc/hosts\n");
        let first = [
            "--add-host=one.example:10.0.0.1",
            "--add-host=two=[fe80::2]",
            "--add-host=me:host-gateway",
        ];
        let lines = printed(world, &text, &first);
        assert_eq!(lines, ["10.0.0.1\tone.example", "fe80::2\ttwo", "127.0.0.1\tme"]);
        assert_file(&world.tree(first), "etc/hosts", "");
        let moved = ["--add-host=one.example:10.0.0.9", "--add-host=two=::1", "--add-host=me=::1"];
        assert_all_cached(&world.build(moved).ok().stderr, 1);
        assert_eq!(printed(world, &text, &["--add-host=one:10.0.0.1"]), ["10.0.0.1\tone"]);
    }

    /// `--dns` and its like are in resolv.conf; a step that does not write there leaves no trace.
    fn name_servers(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN cat /etc/resolv.conf\n");
        let lines = printed(world, &text, &[
            "--dns=192.0.2.1", "--dns=2001:db8::1", "--dns-search=a.example", "--dns-option=ndots:3",
        ]);
        let wanted = ["search a.example", "nameserver 192.0.2.1", "nameserver 2001:db8::1", "options ndots:3"];
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|l| wanted.contains(l)).collect();
        assert_eq!(lines, wanted);
        let own = format!("FROM {base}\nRUN echo own >/etc/resolv.conf\nRUN cat /etc/resolv.conf; ls -l /etc/resolv.conf\n");
        let lines = printed(world, &own, &["--dns=none"]);
        assert_eq!(lines[0], "own");
    }

    /// `--security=insecure` must be allowed, gives all there is, and is in the key.
    fn insecure(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!(
            "FROM {base}\n\
             RUN --security=insecure grep -E '^(CapEff|Seccomp:)' /proc/self/status; \
             mount -t tmpfs none /mnt && grep -c /mnt /proc/mounts; umount /mnt; \
             grep -c ' /proc/' /proc/mounts; grep -c ' /sys sysfs rw' /proc/mounts; unshare -m true && echo unshared\n"
        )
        .replace("/mnt", "/tmp");
        world.dockerfile(&text);
        world.build([]).run().exits(1).says(&[
            "`RUN --security=insecure` needs the entitlement security.insecure",
            "Dockerfile:2:16",
            "--allow security.insecure",
        ]);
        let allow = "--allow=security.insecure";
        if world.user == support::User::Plain {
            world.build([allow]).run().exits(1).says(&[
                "`--security=insecure` needs user ids of its own",
                "sandcrab doctor",
            ]);
            return;
        }
        let lines = printed(world, &text, &[allow]);
        let all = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        let all = (1_u64 << (all.trim().parse::<u32>().unwrap() + 1)) - 1;
        assert_eq!(lines[0], format!("CapEff:\t{all:016x}"));
        assert_eq!(lines[1..], ["Seccomp:\t0", "1", "0", "1", "unshared"]);
        // As BuildKit: other users have the capabilities, too.
        let text = format!("FROM {base}\nUSER app\nRUN --security=insecure grep CapEff /proc/self/status\n");
        assert_eq!(printed(world, &text, &[allow]), [format!("CapEff:\t{all:016x}")]);
        let plain = |flag: &str| format!("FROM {base}\nRUN {flag} true\n");
        world.dockerfile(&plain("--security=insecure"));
        world.build([allow]).ok();
        assert_all_cached(&world.build([allow]).ok().stderr, 1);
        world.dockerfile(&plain("--security=sandbox"));
        world.build([allow]).ok().never_says(&["CACHED\n#"]);
    }

    /// The host's devices, as far as they can be had.
    fn insecure_devices(world) as [root, subids] {
        let base = base!(world, Busybox);
        let Some(device) = ["/dev/fuse", "/dev/net/tun", "/dev/kvm"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
        else {
            eprintln!("SKIP: no device that others may use");
            return;
        };
        let text = format!("FROM {base}\nRUN --security=insecure test -c {device} && echo here\nRUN test -e {device} || echo gone\n");
        assert_eq!(printed(world, &text, &["--allow=security.insecure"]), ["here", "gone"]);
    }

    /// `--ulimit`: as asked for, or as high as permitted with a word about it; in the key.
    fn ulimits(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Ss\n");
        let given = ["--ulimit=nofile=100:200", "--ulimit=core=0", "--ulimit", "stack=1048576:-1"];
        assert_eq!(printed(world, &text, &given), ["100", "200", "0", "1024"]);
        world.dockerfile(&text);
        world.build(given).ok();
        assert_all_cached(&world.build(given).ok().stderr, 1);
        world.build(["--ulimit=nofile=100:201"]).ok().says(&["201"]);
        if world.user != support::User::Root {
            let text = format!("FROM {base}\nRUN ulimit -Hn\nRUN true\n");
            world.dockerfile(&text);
            let output = world.build(["--ulimit=nofile=100:1000000000"]).ok();
            let output = output.says(&["--ulimit: RLIMIT_NOFILE lowered from 1000000000 to"]);
            assert_eq!(output.stderr.matches("WARN:").count(), 1, "{}", output.stderr);
        }
        world.build(["--ulimit=nofiles=1"]).run().exits(2).says(&["unknown limit", "`nofile`"]);
    }

    /// `--shm-size` is the size of /dev/shm.
    fn shared_memory(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN df -k /dev/shm | tail -n 1 | awk '{{print $2}}'\n");
        assert_eq!(printed(world, &text, &[]), ["65536"]);
        assert_eq!(printed(world, &text, &["--shm-size=128m"]), ["131072"]);
        assert_eq!(printed(world, &text, &["--shm-size", "1048576"]), ["1024"]);
    }

    /// `--cap-add` and `--cap-drop`, with the calls that they bring; in the key.
    fn capabilities(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        let text = format!(
            "FROM {base}\nRUN grep CapEff /proc/self/status; (mount -t tmpfs none /tmp && echo mount''ed) 2>/dev/null; \
             (chown 1:1 /tmp && echo owned) 2>/dev/null; echo end\n"
        );
        let usual = 0xa804_25fb_u64;
        let set = |bits: u64| format!("CapEff:\t{bits:016x}");
        assert_eq!(printed(world, &text, &[]), [&set(usual), "owned", "end"]);
        assert_eq!(printed(world, &text, &["--cap-drop=CHOWN"]), [&set(usual & !1), "end"]);
        assert_eq!(printed(world, &text, &["--cap-drop=all"]), [&set(0), "end"]);
        let one = printed(world, &text, &["--cap-drop=all", "--cap-add=cap_kill"]);
        assert_eq!(one, [&set(1 << 5), "end"]);
        let more = usual | 1 << 21;
        world.dockerfile(&text);
        let added = world.build(["--cap-add=SYS_ADMIN"]).ok();
        if world.user == support::User::Plain {
            added.says(&[&set(more), "--cap-add: where ids are emulated"]).never_says(&["mounted"]);
        } else {
            added.says(&[&set(more), "mounted"]);
        }
        assert_all_cached(&world.build(["--cap-add=CAP_SYS_ADMIN"]).ok().stderr, 1);
        world.build(["--cap-add=SYS_ADMIM"]).run().exits(2).says(&["unknown capability", "CAP_SYS_ADMIN"]);
    }

    /// `--memory` and its like hold where a control group can be made, and leave none; elsewhere
    /// one warning names them.
    fn limits(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!(
            "FROM {base}\nRUN dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null && echo done || echo kil''led\nRUN true\n"
        );
        let given = ["--memory=24m", "--memory-swap=24m", "-c", "512", "--cpuset-cpus=0"];
        world.dockerfile(&text);
        let output = world.build(given).ok();
        if output.stderr.contains("not enforced") {
            let output = output.says(&["--memory", "--cpu-shares", "--cpuset-cpus", "not enforced", "done"]);
            assert_eq!(output.stderr.matches("WARN:").count(), 1, "{}", output.stderr);
            if world.user == support::User::Root {
                eprintln!("SKIP: root can't make control groups here");
            }
        } else {
            output.says(&["killed", "the step were killed: it exceeded the memory limit"]);
            world.dockerfile(&format!(
                "FROM {base}\nRUN exec dd if=/dev/zero of=/dev/shm/x bs=1M count=40\n"
            ));
            world.build(given).run().exits(1).says(&[
                "exit code: 137: the step exceeded the memory limit",
                "hint: allow it more with `--memory`",
            ]);
            world.dockerfile(&text);
        }
        // They change nothing that is kept.
        assert_all_cached(&world.build([]).ok().stderr, 2);
        // Other tests' groups come and go at the same time.
        let is_clean = || {
            let mut find = std::process::Command::new("find");
            find.args(["/sys/fs/cgroup", "-name", "sandcrab-step-*"]);
            let none = find.output().unwrap().stdout.is_empty();
            if !none {
                std::thread::sleep(Duration::from_millis(200));
            }
            none
        };
        assert!((0..100).any(|_| is_clean()), "control groups are left");
        for (wrong, text) in [
            ("--memory=x", "not a size"),
            ("--memory-swap=1g", "needs --memory"),
            ("--cpuset-cpus=a", "not a list"),
        ] {
            world.build([wrong]).run().exits(2).says(&[text]);
        }
    }

    /// `--cgroup-parent` is where a step's group is.
    fn parent_group(world) as [root] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN cat /proc/self/cgroup; \
             find /sys/fs/cgroup -path '*/sandcrab-test-parent/sandcrab-step-*' | grep -c .\n");
        world.dockerfile(&text);
        let output = world.build(["--cgroup-parent=sandcrab-test-parent"]).run();
        if output.stderr.contains("WARN:") {
            eprintln!("SKIP: root can't make control groups here");
        } else {
            output.success();
        }
        let remove = "find /sys/fs/cgroup -depth -name sandcrab-test-parent -exec rmdir {} +";
        assert!(std::process::Command::new("sh").args(["-c", remove]).status().unwrap().success());
    }

    /// `--device`: what a specification says, if that is allowed; by its name in the key.
    fn devices(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("shared/hello", "from the host\n");
        world.set_mode("shared", 0o755);
        let specification = format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "vendor.example/dev", "devices": [
                {{"name": "zero", "containerEdits": {{"env": ["FOUND=yes"],
                    "deviceNodes": [{{"path": "/dev/my/zero", "hostPath": "/dev/zero", "major": 1, "minor": 5}}],
                    "mounts": [{{"hostPath": "{}", "containerPath": "/opt/lib", "options": ["ro", "bind"]}}]}}}},
                {{"name": "free", "annotations": {{"org.mobyproject.buildkit.device.autoallow": true}},
                    "containerEdits": {{"env": ["FREE=yes"]}}}},
                {{"name": "wrong", "containerEdits": {{"hooks": []}}}}]}}"#,
            world.path("shared").display()
        );
        world.write("cdi/a.json", specification);
        let cdi = format!("--cdi-spec-dir={}", world.path("cdi").display());
        let text = format!(
            "FROM {base}\nRUN --device=vendor.example/dev=zero,required head -c 3 /dev/my/zero | wc -c; \
             echo $FOUND; cat /opt/lib/hello; touch /opt/lib/x 2>/dev/null || echo read-only\n\
             RUN ls -d /opt /dev/my 2>/dev/null; echo ${{FOUND:-none}}\n"
        );
        let lines = printed(world, &text, &[&cdi, "--allow=device"]);
        assert_eq!(lines, ["3", "yes", "from the host", "read-only", "none"]);
        let named = [cdi.as_str(), "--allow", "device=vendor.example/dev=zero"];
        world.dockerfile(&text);
        world.build(named).ok();
        assert_all_cached(&world.build(named).ok().stderr, 2);
        // Not even when the step is cached.
        world.build([cdi.as_str()]).run().exits(1).says(&[
            "device `vendor.example/dev=zero` needs the entitlement device",
            "Dockerfile:2:14",
            "--allow device=vendor.example/dev=zero",
        ]);
        let text = format!(
            "FROM {base}\nRUN --device=no.example/x=y true\nRUN --device=vendor.example/dev=free echo $FREE\n"
        );
        assert_eq!(printed(world, &text, &[&cdi]), ["yes"]);
        for (flag, said) in [
            ("no.example/x=y,required", "required device `no.example/x=y` is not there"),
            ("vendor.example/dev=wrong", "wants `hooks`"),
            ("vendor.example/dev=zero,require", "unknown key `require`"),
            ("required", "names no device"),
        ] {
            world.dockerfile(&format!("FROM {base}\nRUN --device={flag} true\n"));
            world.build([cdi.as_str(), "--allow=device"]).run().exits(1).says(&[said]);
        }
    }

    /// Each form of USER: ids, groups, HOME; a name that the image lacks is said with its line.
    fn users(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        let who = "RUN echo $(id -u) $(id -g) $(id -G) $HOME";
        for (user, wanted) in [
            ("app", "1000 1001 1001 33 50 /home/app"),
            ("1000", "1000 1001 1001 33 50 /home/app"),
            ("app:mail", "1000 8 8 /home/app"),
            ("app:4000", "1000 4000 4000 /home/app"),
            ("4321", "4321 0 0 /"),
            ("4321:99", "4321 99 99 /"),
            (":mail", "0 8 8 /root"),
        ] {
            let text = format!("FROM {base}\nUSER {user}\n{who}\n");
            assert_eq!(printed(world, &text, &[]), [wanted], "{user}");
        }
        world.dockerfile(&format!("FROM {base}\nUSER ap\nRUN true\n"));
        world.build([]).run().exits(1).says(&["unable to find user ap", "Dockerfile:3", "did you mean `app`?"]);
    }

    /// A command's end is the build's: by its code, or by a signal with its number.
    fn ends(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        for (command, code) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("nothing-of-that-name", 127)] {
            world.dockerfile(&format!("FROM {base}\nRUN {command}\n"));
            let text = format!("exit code: {code}");
            world.build([]).run().says(&[&text, "Dockerfile:2"]);
        }
    }

    /// The host name is a build argument's, and in the key.
    fn host_name(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let text = format!("FROM {base}\nRUN hostname; grep -c $(hostname) /etc/hosts\n");
        assert_eq!(printed(world, &text, &[]), ["sandcrab", "1"]);
        let own = ["--build-arg=BUILDKIT_SANDBOX_HOSTNAME=builder.example"];
        world.dockerfile(&text);
        world.build(own).ok().says(&["builder.example"]);
        assert_all_cached(&world.build(own).ok().stderr, 1);
    }
}
