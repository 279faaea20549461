//! What must hold for every container and job.
//!
//! Responsible for the claims. Must not depend on who the caller is beyond what the bench says.
//! Invariant: a case fails when its claim does not hold; none only prints.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use runtime::identity::Identity;

use crate::jobs::{Bench, Op, Outcome, RESOLV, Reply, Spec};

type Case = fn(&mut Bench);

pub(crate) const ALL: [(&str, Case); 28] = [
    ("exit_codes_and_signals", exit_codes_and_signals),
    ("programs_that_cannot_run", programs_that_cannot_run),
    ("a_missing_working_directory", a_missing_working_directory),
    (
        "root_has_dockers_capabilities",
        root_has_dockers_capabilities,
    ),
    ("a_user_has_none", a_user_has_none),
    (
        "set_user_id_programs_and_refused_calls",
        set_user_id_programs_and_refused_calls,
    ),
    ("ids_the_container_lacks", ids_the_container_lacks),
    ("the_environment_is_exact", the_environment_is_exact),
    ("no_descriptor_is_inherited", no_descriptor_is_inherited),
    ("kernel_files_are_masked", kernel_files_are_masked),
    ("mounts_are_locked", mounts_are_locked),
    ("namespaces_are_refused", namespaces_are_refused),
    ("devices", devices),
    ("init_is_opaque", init_is_opaque),
    ("loopback_only", loopback_only),
    ("host_name_and_umask", host_name_and_umask),
    ("orphans_are_reaped", orphans_are_reaped),
    ("leftovers_are_killed", leftovers_are_killed),
    ("mounted_files_leave_no_trace", mounted_files_leave_no_trace),
    (
        "mounted_files_can_be_written_but_not_removed",
        mounted_files_can_be_written_but_not_removed,
    ),
    ("terminals", terminals),
    ("signals_are_forwarded", signals_are_forwarded),
    ("cancelling_kills_all", cancelling_kills_all),
    ("nothing_outlives_the_spawner", nothing_outlives_the_spawner),
    (
        "nothing_outlives_the_main_process",
        nothing_outlives_the_main_process,
    ),
    ("jobs_that_break", jobs_that_break),
    ("layers_and_large_messages", layers_and_large_messages),
    ("features_are_tried", features_are_tried),
];

fn line<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text.lines().find_map(|l| l.strip_prefix(key));
    found.unwrap_or_else(|| panic!("no {key} in {text}")).trim()
}

fn exit_codes_and_signals(b: &mut Bench) {
    for code in [0, 1, 42, 255] {
        assert_eq!(b.run(Spec::sh(&format!("exit {code}"))).code, code);
    }
    for signal in [9, 15, 6] {
        let script = format!("kill -{signal} $$");
        assert_eq!(b.run(Spec::sh(&script)).code, -signal);
    }
}

fn programs_that_cannot_run(b: &mut Bench) {
    for (program, code, text) in [
        (
            "nope",
            127,
            "exec: \"nope\": executable file not found in $PATH\n",
        ),
        (
            "/bin/nope",
            127,
            "exec: \"/bin/nope\": no such file or directory\n",
        ),
        ("data", 126, "exec: \"data\": permission denied\n"),
        ("/bin", 126, "exec: \"/bin\": permission denied\n"),
    ] {
        let Outcome {
            code: found, out, ..
        } = b.run(Spec::new(&[program]));
        assert_eq!((found, out.as_str()), (code, text));
    }
}

fn a_missing_working_directory(b: &mut Bench) {
    let spec = Spec {
        cwd: "/not/there".to_owned(),
        ..Spec::new(&["true"])
    };
    let error = b.try_run(spec).expect_err("no directory");
    assert_eq!(error.to_string(), "enter working directory `/not/there`");
    assert_eq!(error.errno(), Some(libc::ENOENT));
}

fn root_has_dockers_capabilities(b: &mut Bench) {
    let status = b.sh("cat /proc/self/status");
    for (key, value) in [
        ("CapInh:", "0000000000000000"),
        ("CapPrm:", "00000000a80425fb"),
        ("CapEff:", "00000000a80425fb"),
        ("CapBnd:", "00000000a80425fb"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "0"),
        ("Seccomp:", "2"),
        ("Uid:", "0\t0\t0\t0"),
        ("Gid:", "0\t0\t0\t0"),
    ] {
        assert_eq!(line(&status, key), value, "{key}");
    }
}

fn a_user_has_none(b: &mut Bench) {
    if !b.has_users() {
        return;
    }
    let spec = Spec {
        uid: 1000,
        gid: 1001,
        groups: vec![7, 8],
        ..Spec::new(&["cat", "/proc/self/status"])
    };
    let status = b.run(spec).out;
    for (key, value) in [
        ("CapInh:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
        ("CapEff:", "0000000000000000"),
        ("CapBnd:", "00000000a80425fb"),
        ("Uid:", "1000\t1000\t1000\t1000"),
        ("Gid:", "1001\t1001\t1001\t1001"),
        ("Groups:", "7 8"),
    ] {
        assert_eq!(line(&status, key), value, "{key}");
    }
}

fn set_user_id_programs_and_refused_calls(b: &mut Bench) {
    let reply = b.ask(&Op::Probe(b.dir().to_path_buf()));
    assert!(matches!(reply, Reply::Done), "{reply:?}");
    let uid = if b.has_users() { 1000 } else { 0 };
    let outcome = b.run(Spec {
        uid,
        layers: vec!["probe".to_owned(), "base".to_owned()],
        ..Spec::new(&["/bin/probe"])
    });
    let (refused, absent) = (libc::EPERM, libc::ENOSYS);
    for (name, errno) in [
        ("getppid", 0),
        ("clone3", absent),
        ("io_uring_setup", refused),
        ("keyctl", refused),
        ("unshare", refused),
        ("clone_newuser", refused),
        ("setns", refused),
        ("bpf", refused),
        ("mount", refused),
        ("fsopen", refused),
        ("open_by_handle_at", refused),
        ("socket_vsock", refused),
        ("unknown", absent),
        ("x32_getppid", absent),
    ] {
        let found = line(&outcome.out, &format!("{name} "));
        assert_eq!(found, errno.to_string(), "{name}");
    }
    assert_eq!(line(&outcome.out, "uids "), format!("{uid},0,0"));
}

fn ids_the_container_lacks(b: &mut Bench) {
    let id = b.plan.ids.count;
    let spec = Spec {
        uid: id,
        ..Spec::new(&["true"])
    };
    let error = b.try_run(spec).expect_err("no such id");
    assert_eq!(error.to_string(), format!("the container has no id {id}"));
    assert!(!error.hints().is_empty());
}

fn the_environment_is_exact(b: &mut Bench) {
    let spec = Spec {
        env: vec!["B=2 3".to_owned(), "A=".to_owned()],
        ..Spec::new(&["/bin/env"])
    };
    assert_eq!(b.run(spec).out, "B=2 3\nA=\n");
}

fn no_descriptor_is_inherited(b: &mut Bench) {
    let out = b.sh("ls /proc/$$/fd; ls -l /proc/$$/fd/0");
    assert!(out.starts_with("0\n1\n2\n"), "{out}");
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(out.contains("/dev/null"), "{out}");
}

fn kernel_files_are_masked(b: &mut Bench) {
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        let script = format!("[ ! -e {path} ] || [ $(cat {path} | wc -c) = 0 ]");
        assert_eq!(b.run(Spec::sh(&script)).code, 0, "{path}");
    }
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/kernel/debug",
        "/sys/kernel/tracing",
    ] {
        let script = format!("[ ! -e {path} ] || [ $(ls {path} | wc -l) = 0 ]");
        assert_eq!(b.run(Spec::sh(&script)).code, 0, "{path}");
    }
    for script in [
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "mkdir /sys/fs/cgroup/x",
    ] {
        assert_ne!(b.run(Spec::sh(script)).code, 0, "{script}");
    }
}

fn mounts_are_locked(b: &mut Bench) {
    for path in ["/proc/sys", "/proc", "/etc/resolv.conf", "/dev/shm", "/"] {
        let outcome = b.run(Spec::new(&["umount", path]));
        assert_ne!(outcome.code, 0, "{path}");
    }
    // Nothing of the host's tree is mounted.
    let mounts = b.sh("cat /proc/self/mounts");
    for point in mounts.lines().filter_map(|l| l.split(' ').nth(1)) {
        let known = ["/proc", "/sys", "/dev", "/etc/resolv.conf"];
        assert!(
            point == "/"
                || known
                    .iter()
                    .any(|k| point == *k || point.starts_with(&format!("{k}/"))),
            "{point}"
        );
    }
}

fn namespaces_are_refused(b: &mut Bench) {
    for script in [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs x /tmp",
    ] {
        let outcome = b.run(Spec::sh(script));
        assert_ne!(outcome.code, 0, "{script}");
        assert!(
            outcome.out.to_lowercase().contains("permi"),
            "{}",
            outcome.out
        );
    }
}

fn devices(b: &mut Bench) {
    let out = b.sh("cd /dev; for d in *; do echo $d $(stat -c %t:%T $d); done");
    let expected = [
        "fd 0:0",
        "full 1:7",
        "mqueue 0:0",
        "null 1:3",
        "ptmx 0:0",
        "pts 0:0",
        "random 1:8",
        "shm 0:0",
        "stderr 0:0",
        "stdin 0:0",
        "stdout 0:0",
        "tty 5:0",
        "urandom 1:9",
        "zero 1:5",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    let out = b.sh(
        "echo x > /dev/null; echo out > /dev/stdout; echo err > /dev/stderr; \
         echo y > /dev/shm/f; cat /dev/shm/f; [ -c /dev/ptmx ] && echo pty",
    );
    assert_eq!(out, "out\nerr\ny\npty\n");
}

fn init_is_opaque(b: &mut Bench) {
    let out = b.sh("cat /proc/1/comm; cat /proc/1/cmdline | wc -c");
    let mut lines = out.lines();
    if b.run(Spec::sh("[ $$ -lt 10 ]")).code == 0 && lines.next() == Some("init") {
        let size: usize = lines
            .next()
            .expect("a size")
            .trim()
            .parse()
            .expect("a number");
        // Whatever is left of it is zeros.
        assert_eq!(
            b.sh("cat /proc/1/cmdline").trim_matches('\0').len(),
            0,
            "{size}"
        );
    }
    for path in ["exe", "root/", "cwd/", "fd/", "environ", "maps", "mem"] {
        let script = format!("ls -L /proc/1/{path} && cat /proc/1/{path}");
        assert_ne!(b.run(Spec::sh(&script)).code, 0, "{path}");
    }
    assert_eq!(b.run(Spec::sh("kill -9 1; exit 3")).code, 3);
    assert_eq!(b.run(Spec::sh("kill -TERM 1; exit 3")).code, 3);
}

fn loopback_only(b: &mut Bench) {
    let spec = Spec {
        no_network: true,
        ..Spec::sh("ip link; ls /sys/class/net; cat /proc/net/dev | wc -l")
    };
    let out = b.run(spec).out;
    assert!(out.contains("lo: <LOOPBACK,UP"), "{out}");
    assert!(!out.contains("eth0"), "{out}");
    let host = b.sh("ls -l /proc/self/ns/net");
    let spec = Spec {
        no_network: true,
        ..Spec::sh("ls -l /proc/self/ns/net")
    };
    let id = |text: &str| text.rsplit("net:").next().map(str::to_owned);
    assert_ne!(id(&host), id(&b.run(spec).out));
}

fn host_name_and_umask(b: &mut Bench) {
    assert_eq!(
        b.sh("hostname; umask; cat /etc/resolv.conf"),
        "box\n0022\nnameserver 192.0.2.1\n"
    );
}

fn orphans_are_reaped(b: &mut Bench) {
    // A process whose parent is gone keeps its entry in /proc until somebody reaps it.
    let script = "p=$(sh -c 'sleep 0.05 >/dev/null 2>&1 & echo $!'); \
                  timeout 20 sh -c \"while [ -e /proc/$p ]; do sleep 0.01; done\"";
    assert_eq!(b.run(Spec::sh(script)).code, 0);
}

fn leftovers_are_killed(b: &mut Bench) {
    // Reading the output to its end, which `run` does, needs all of them to be gone.
    assert_eq!(
        b.run(Spec::sh(
            "(sleep 1000 &); (sh -c 'sleep 1000' &); sleep 1000 & echo x"
        ))
        .out,
        "x\n"
    );
}

fn mounted_files_leave_no_trace(b: &mut Bench) {
    let show = "cat /etc/resolv.conf";
    let content = RESOLV;
    for layers in [vec!["base"], vec!["dangling", "base"]] {
        let spec = Spec {
            layers: layers.iter().map(|l| (*l).to_owned()).collect(),
            ..Spec::sh(show)
        };
        let outcome = b.run(spec);
        assert_eq!(outcome.out, content, "{layers:?}");
        assert_eq!(outcome.resolv, [content.as_bytes()]);
        assert!(outcome.upper.is_empty(), "{layers:?}: {:?}", outcome.upper);
    }
    // Hidden by a whiteout: the mount point must be made, and unmade. Its directory stays, as a
    // copy with the times that it had.
    let spec = Spec {
        layers: vec!["hiding".to_owned(), "base".to_owned()],
        ..Spec::sh(show)
    };
    let outcome = b.run(spec);
    assert_eq!(outcome.out, content);
    assert_eq!(outcome.upper, ["etc"]);
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let copy = fs::read_dir(b.dir())
        .expect("read directory")
        .map(|entry| entry.expect("an entry").path().join("upper/etc"))
        .find(|path| path.exists())
        .expect("the copy");
    assert_eq!(modified(&copy), modified(&b.dir().join("hiding/etc")));
}

fn mounted_files_can_be_written_but_not_removed(b: &mut Bench) {
    let outcome = b.run(Spec::sh(
        "echo x > /etc/resolv.conf && stat -c %a:%u:%g /etc/resolv.conf && rm /etc/resolv.conf",
    ));
    assert_ne!(outcome.code, 0);
    assert!(outcome.out.starts_with("644:0:0\n"), "{}", outcome.out);
    assert_eq!(outcome.resolv, [b"x\n"]);
    assert!(outcome.upper.is_empty(), "{:?}", outcome.upper);
}

fn terminals(b: &mut Bench) {
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    let spec = Spec {
        terminal: true,
        ..Spec::sh("[ -t 0 ] && [ -c /dev/console ] && echo hello > /dev/tty")
    };
    let op = Op::Run(b.dir().to_path_buf(), spec);
    let slave = pty.slave.as_fd();
    let job = b.submit(&op, &[slave, slave, slave]);
    let bytes = job.wait().expect("a reply");
    let reply: Reply = serde_json::from_slice(&bytes).expect("a reply");
    assert!(matches!(reply, Reply::Ended { code: 0, .. }), "{reply:?}");
    let mut text = [0; 64];
    let count = std::fs::File::from(pty.master)
        .read(&mut text)
        .expect("output");
    assert_eq!(&text[..count], b"hello\r\n");
}

fn signals_are_forwarded(b: &mut Bench) {
    let (job, reader) = b.start(Spec::sh(
        "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done",
    ));
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut String::new()).expect("a line");
    job.canceller().signal(libc::SIGTERM).expect("signal");
    let reply: Reply = serde_json::from_slice(&job.wait().expect("a reply")).expect("a reply");
    assert!(matches!(reply, Reply::Ended { code: 42, .. }), "{reply:?}");
}

fn cancelling_kills_all(b: &mut Bench) {
    // The second one makes calls all the time, which the supervisor answers where there is one: that it
    // is gone is nothing that a step can see.
    let scripts = [
        (
            "trap '' TERM INT HUP; echo ready; sleep 1000 & sleep 1000",
            1,
        ),
        (
            "echo ready; while :; do chmod 755 /tmp/a /tmp/b 2>&- || echo refused; >/tmp/c; done",
            10,
        ),
    ];
    for (script, rounds) in scripts {
        let script = format!("touch /tmp/a /tmp/b; {script}");
        for round in 0..2 * rounds {
            let (job, reader) = b.start(Spec::sh(&script));
            let mut reader = BufReader::new(reader);
            reader.read_line(&mut String::new()).expect("a line");
            let canceller = job.canceller();
            if round % 2 == 1 {
                drop(job);
            } else {
                canceller.cancel();
                let error = job.wait().expect_err("no reply");
                assert_eq!(error.to_string(), "job was killed by signal 9");
            }
            let mut rest = String::new();
            reader
                .read_to_string(&mut rest)
                .expect("the end of the output");
            assert_eq!(rest, "", "{script}, round {round}");
        }
    }
    // The spawner still serves.
    assert_eq!(b.sh("echo x"), "x\n");
}

fn nothing_outlives_the_spawner(b: &mut Bench) {
    let (_job, reader) = b.start(Spec::sh("echo ready; sleep 1000 & sleep 1000"));
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut String::new()).expect("a line");
    let spawner = b.spawner.take().expect("a spawner");
    rustix::process::pidfd_send_signal(spawner.pidfd(), rustix::process::Signal::KILL)
        .expect("kill");
    let mut rest = String::new();
    reader
        .read_to_string(&mut rest)
        .expect("the end of the output");
    assert!(spawner.submit(b"", &[]).and_then(|j| j.wait()).is_err());
}

fn nothing_outlives_the_main_process(b: &mut Bench) {
    let plan = serde_json::to_vec(&b.plan).expect("a plan");
    fs::write(b.dir().join("plan.json"), plan).expect("write");
    let mut victim = Command::new(std::env::current_exe().expect("own path"))
        .env("SANDBOX_TEST_VICTIM", b.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut reader = BufReader::new(victim.stdout.take().expect("its output"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    victim.kill().expect("kill");
    let mut rest = String::new();
    reader
        .read_to_string(&mut rest)
        .expect("the end of the output");
    victim.wait().expect("wait");
}

fn jobs_that_break(b: &mut Bench) {
    let error = b.submit(&Op::Panic, &[]).wait().expect_err("a panic");
    assert_eq!(error.to_string(), "job panicked");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(cause.contains("as the case wants"), "{cause}");
    let error = b.submit(&Op::Abort, &[]).wait().expect_err("an abort");
    assert_eq!(error.to_string(), "job was killed by signal 6");
    assert_eq!(b.sh("echo x"), "x\n");
}

fn layers_and_large_messages(b: &mut Bench) {
    for count in [1, 2, 130, 300] {
        let reply = b.ask(&Op::Layers(b.dir().to_path_buf(), count));
        assert!(matches!(reply, Reply::Done), "{count}: {reply:?}");
    }
    let bytes = vec![7; 1 << 20];
    let jobs: Vec<_> = (0..4)
        .map(|_| b.submit(&Op::Echo(bytes.clone()), &[]))
        .collect();
    for job in jobs {
        let reply: Reply = serde_json::from_slice(&job.wait().expect("a reply")).expect("a reply");
        assert!(matches!(reply, Reply::Bytes(back) if back == bytes));
    }
    // With the host's ids there is no other namespace to be in.
    let inside = b.sh("cat /proc/self/uid_map");
    let whole = inside.contains("4294967295");
    assert_eq!(whole, b.identity() == Identity::Host, "{inside}");
}

fn features_are_tried(b: &mut Bench) {
    let found = runtime::features::probe(b.dir()).expect("probe");
    assert_eq!(found.user_namespace, Ok(()));
    assert_eq!(found.overlay, Ok(()));
    assert_eq!(found.seccomp, Ok(()));
    assert!(!found.kernel.is_empty());
    let names = fs::read_dir(b.dir()).expect("read directory");
    let left = names.filter(|e| {
        let name = e.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with(".probe")
    });
    assert_eq!(left.count(), 0);
    let missing = runtime::features::probe(Path::new("/not/there")).expect("probe");
    assert!(missing.overlay.is_err());
}
