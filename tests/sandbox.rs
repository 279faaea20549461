//! What a RUN step can see and do.

use std::time::Duration;

use support::progress::{parse, steps};
use support::{World, base, for_users};

/// Runs a script as the only step of a build and returns what it printed.
fn printed(world: &World, script: &str, arguments: &[&str]) -> Vec<String> {
    let base = support::Registry::shared()
        .and_then(|registry| registry.base(support::Base::Busybox))
        .expect("asked for before");
    world.write("ctx/script", script);
    world.dockerfile(&format!(
        "FROM {base}\nCOPY script /script\nRUN sh /script\n"
    ));
    let arguments = ["--no-cache"].into_iter().chain(arguments.iter().copied());
    let output = world
        .build(arguments)
        .env("SECRET_TOKEN", "s3cr3t-in-the-environment")
        .env("DOCKER_AUTH_CONFIG", "s3cr3t-in-the-environment")
        .ok();
    let vertices = parse(&output.stderr);
    let step = vertices
        .iter()
        .find(|vertex| vertex.name.contains("RUN sh /script"));
    step.expect("the step is in the log").lines.clone()
}

for_users! {
    /// A terminal that a step makes belongs to the group `tty`, 5, where the identity has that in truth,
    /// and others may only write to it; everybody may ask for one.
    fn terminals_of_steps(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN exec 3<>/dev/ptmx; stat -c '%a %u:%g' /dev/pts/0 >/made; stat -c %a /dev/pts/ptmx >/ptmx\n"
        ));
        let tree = world.tree([]);
        let group = if world.user == support::User::Plain { 0 } else { 5 };
        support::image::assert_file(&tree, "made", format!("620 0:{group}\n"));
        support::image::assert_file(&tree, "ptmx", "666\n");
    }

    /// Nothing of the caller: environment, home, descriptors, credentials, other processes.
    fn nothing_of_the_caller(world) as [root, subids, plain] {
        base!(world, Busybox);
        world.write("home/.docker/config.json", r#"{"auths":{"x.example":{"auth":"czNjcjN0LWluLWEtZmlsZTp4"}}}"#);
        world.write("home/.ssh/id", "s3cr3t-in-a-file");
        let home = world.home();
        let script = format!(
            "env\n\
             cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'\n\
             ls {} 2>&1\n\
             for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do cat $f | tr '\\0' ' '; done 2>/dev/null\n\
             ls -l /proc/self/fd /proc/1/fd 2>/dev/null\n\
             cat /proc/self/mountinfo\n\
             grep -rl s3cr3t / --exclude-dir=proc --exclude-dir=sys --exclude=script 2>/dev/null\n\
             echo uid $(id -u) gid $(id -g) groups $(id -G)\n",
            home.display()
        );
        let lines = printed(world, &script, &[]);
        let all = lines.join("\n");
        for secret in ["s3cr3t", "czNjcjN0", "SECRET_TOKEN", "DOCKER_AUTH", "config.json", "XDG_"] {
            assert!(!all.contains(secret), "{secret}:\n{all}");
        }
        assert!(all.contains("uid 0 gid 0 groups 0"), "{all}");
        assert!(all.contains("No such file"), "home is visible:\n{all}");
    }

    /// Descriptors: the three that are promised, and the one that `ls` opens itself.
    fn descriptors(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN [\"ls\", \"/proc/self/fd\"]\n"));
        let output = world.build([]).ok();
        let lines = &steps(&output.stderr)[0].lines;
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words, ["0", "1", "2", "3"], "{lines:?}");
    }

    /// Process 1 of its own, few processes, a name of its own, and no terminal.
    fn namespaces(world) as [root, subids, plain] {
        base!(world, Busybox);
        let outside = |kind: &str| {
            std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
        };
        let script = "ls -d /proc/[0-9]* | wc -l\n\
                      for n in mnt pid ipc uts cgroup user; do echo $n $(readlink /proc/self/ns/$n); done\n\
                      tty; test -t 0 || echo no terminal\n";
        let lines = printed(world, script, &[]);
        let count: usize = lines[0].trim().parse().unwrap();
        assert!(count <= 8, "processes: {count}");
        for kind in ["mnt", "pid", "ipc", "uts", "cgroup", "user"] {
            assert!(!lines.contains(&format!("{kind} {}", outside(kind))), "{kind} is the host's");
        }
        assert!(lines.contains(&"no terminal".to_owned()), "{lines:?}");
    }

    /// Docker's default capabilities, a filter, and what the filter refuses.
    fn privileges(world) as [root, subids, plain] {
        base!(world, Busybox);
        // Between two pipes there is no order, and the last line counts.
        let script = "exec 2>&1\n\
                      grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status\n\
                      mount -t tmpfs none /tmp && echo mounted\n\
                      unshare -m true && echo unshared\n\
                      mknod /tmp/sda b 8 0 && head -c 1 /tmp/sda && echo read a disk\n\
                      hostname changed && echo renamed\n\
                      echo end\n";
        let lines = printed(world, script, &[]);
        let field = |name: &str| {
            let line = lines.iter().find(|line| line.starts_with(name)).expect(name);
            line.split_whitespace().last().unwrap().to_owned()
        };
        // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw
        // sys_chroot mknod audit_write setfcap
        assert_eq!(field("CapEff:"), "00000000a80425fb");
        assert_eq!(field("CapBnd:"), "00000000a80425fb");
        assert_eq!(field("CapAmb:"), "0000000000000000");
        assert_eq!(field("Seccomp:"), "2");
        for done in ["mounted", "unshared", "read a disk", "renamed"] {
            assert!(!lines.contains(&done.to_owned()), "{done}: {lines:#?}");
        }
        assert_eq!(lines.last().unwrap(), "end");
    }

    /// Another user's step has none of the capabilities.
    fn ordinary_user(world) as [root, subids] {
        let base = base!(world, Owners);
        world.dockerfile(&format!(
            "FROM {base}\nUSER app\nRUN id; grep CapEff /proc/self/status; echo home=$HOME; cat /etc/shadow || echo refused\n"
        ));
        let output = world.build([]).ok();
        output.says(&[
            "uid=1000(app) gid=1001(app)",
            "33(www-data)",
            "50(staff)",
            "0000000000000000",
            "home=/home/app",
            "refused",
        ]);
    }

    /// Kernel interfaces are masked or can't be written.
    fn masked_paths(world) as [root, subids, plain] {
        base!(world, Busybox);
        let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do\n\
                      test -e $f && echo $f $(head -c 1 $f 2>/dev/null | wc -c); done\n\
                      for d in /proc/acpi /proc/scsi /sys/firmware; do test -d $d && echo $d $(ls $d | wc -l); done\n\
                      for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/sys/vm/drop_caches; do\n\
                      (echo 0 >$f) 2>/dev/null && echo wrote $f; done\n\
                      (mkdir /sys/x || echo x >/sys/kernel/uevent_helper) 2>/dev/null && echo wrote /sys\n\
                      echo end\n";
        let lines = printed(world, script, &[]);
        for line in &lines {
            assert!(line == "end" || line.ends_with(" 0"), "{lines:#?}");
        }
        assert_eq!(lines.last().unwrap(), "end");
    }

    /// The devices that programs count on, and no others.
    fn devices(world) as [root, subids, plain] {
        base!(world, Busybox);
        let script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c\n\
                      echo x >/dev/full 2>/dev/null || echo full\n\
                      test -c /dev/ptmx -o -L /dev/ptmx && test -d /dev/pts && echo pts\n\
                      echo shared >/dev/shm/f && grep -c ' /dev/shm tmpfs' /proc/mounts\n\
                      ls /dev\n";
        let lines = printed(world, script, &[]);
        for expected in ["3", "full", "pts", "1"] {
            assert!(lines.iter().any(|line| line.trim() == expected), "{expected}: {lines:?}");
        }
        for forbidden in ["sda", "vda", "mem", "kmsg", "kvm", "fuse", "loop-control"] {
            assert!(!lines.iter().any(|line| line.trim() == forbidden), "{forbidden}: {lines:?}");
        }
    }

    /// Container root is a subordinate id outside, not the caller, and never the host's root.
    fn outside_identity(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let marker = format!("4242.{}{}", std::process::id(), world.account.uid);
        world.dockerfile(&format!("FROM {base}\nRUN echo started; sleep {marker}\n"));
        let mut build = world.build([]).timeout(Duration::from_secs(60)).spawn();
        build.wait_for(" started");
        let sleeping = loop {
            let found = world.processes_with(&format!("sleep {marker}"));
            // The shell that starts it has it in its command line, too.
            if let Some(line) = found.iter().find(|line| !line.contains("sh -c")) {
                break line.split(':').next().unwrap().to_owned();
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let status = std::fs::read_to_string(format!("/proc/{sleeping}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        let uid: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        build.signal(rustix::process::Signal::INT);
        build.wait().exits(130);
        match world.user {
            support::User::Plain => assert_eq!(uid, world.account.uid),
            _ => assert!(uid != world.account.uid && uid >= 65536, "runs as {uid}"),
        }
        world.assert_nothing_left(&marker);
    }

    /// `none` is a loopback interface that is up, and nothing else; the flag of a step wins.
    fn network_none(world) as [root, subids, plain] {
        base!(world, Busybox);
        let script = "tail -n +3 /proc/net/dev | cut -d: -f1\n\
                      (echo hello | nc -l -p 7777 >/dev/null &) ; sleep 0.3\n\
                      nc 127.0.0.1 7777 </dev/null && echo loopback works\n";
        let lines = printed(world, script, &["--network=none"]);
        assert_eq!(lines[0].trim(), "lo", "{lines:?}");
        assert!(lines.iter().any(|line| line == "loopback works"), "{lines:?}");
        let base = base!(world, Busybox);
        world.dockerfile(&format!("FROM {base}\nRUN --network=none tail -n +3 /proc/net/dev\n"));
        let output = world.build(["--network=host"]).ok();
        let steps = steps(&output.stderr);
        assert_eq!(steps[0].lines.len(), 1, "{:?}", steps[0]);
    }

    /// Names are resolved as on the host during a step, and the layer knows nothing of it.
    fn resolver_files(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN cat /etc/resolv.conf /etc/hosts; grep -q localhost /etc/hosts && touch /ran\n"
        ));
        let image = world.built(["--network=host"]);
        let names = image.layer_names(1);
        assert!(names.iter().any(|name| name.ends_with("ran")), "{names:?}");
        let leaked = names.iter().any(|name| name.contains("resolv.conf") || name.contains("hosts"));
        assert!(!leaked, "{names:?}");
    }

    /// What a step writes to the files lent to it is kept, and only that.
    fn written_resolver_file(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo 192.0.2.1 peer >>/etc/hosts\nRUN grep peer /etc/hosts || touch /fresh\n"
        ));
        let image = world.built([]);
        let names = image.layer_names(1);
        assert!(names.iter().any(|name| name.ends_with("etc/hosts")), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("resolv.conf")), "{names:?}");
        // The next step gets a file of its own again, as with docker.
        assert!(image.layer_names(2).iter().any(|name| name.ends_with("fresh")));
    }

    /// A step on an empty image leaves no mount points behind.
    fn no_traces(world) as [root, subids, plain] {
        let Ok(busybox) = std::fs::read("/bin/busybox") else {
            return support::skip(&world.test, "no busybox");
        };
        world.write("ctx/busybox", busybox);
        world.set_mode("ctx/busybox", 0o755);
        world.dockerfile(
            "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"cat\", \"/etc/hosts\"]\n",
        );
        let tree = world.tree([]);
        let names: Vec<_> = tree.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["bin", "bin/busybox"]);
    }

    /// What a step leaves running ends with it; zombies are reaped meanwhile.
    fn background_processes(world) as [root, subids, plain] {
        base!(world, Busybox);
        let marker = format!("5151.{}{}", std::process::id(), world.account.uid);
        let script = format!(
            "(setsid sleep {marker} >/dev/null 2>&1 &)\n\
             i=0; while [ $i -lt 20 ]; do (true &) ; i=$((i+1)); done; sleep 0.2\n\
             grep -l '^State:.Z' /proc/[0-9]*/status | wc -l\n"
        );
        let lines = printed(world, &script, &[]);
        assert_eq!(lines.last().unwrap().trim(), "0", "zombies: {lines:?}");
        world.assert_nothing_left(&marker);
    }

    /// Output arrives line by line while the step runs, both streams, and binary does no harm.
    fn output_streams(world) as [subids, plain] {
        let base = base!(world, Busybox);
        world.dockerfile(&format!(
            "FROM {base}\nRUN echo first; sleep 2; echo second >&2; printf 'no newline'; head -c 20 /bin/busybox\n"
        ));
        let mut build = world.build([]).spawn();
        build.wait_for(" first");
        assert!(build.is_running(), "the first line came only with the end");
        build.wait().exits(0).says(&["second", "no newline"]);
    }

    /// `doctor` says which identity and which file system method a build would use.
    fn doctor(world) as [root, subids, plain] {
        let text = world.sandcrab(["doctor"]).ok().all().to_lowercase();
        let identity = if world.user == support::User::Plain { "emulated" } else { "subids" };
        for word in [identity, "overlay", "user namespace", "system calls"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        if world.user == support::User::Plain {
            for words in ["/etc/subuid", "record", "millionths of a second", "nothing that has to be changed"] {
                assert!(text.contains(words), "{words}:\n{text}");
            }
        }
    }
}
