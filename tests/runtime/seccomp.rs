//! `linux.seccomp`: actions, conditions, architectures, flags, and notification.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use serde_json::{Value, json};
use support::for_users;

use crate::harness::under_test::kind;
use crate::harness::{Bundle, ConsoleSocket, Crun, Runc, Sandcrab, assert_error, differs, reap};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// Numbers of x86-64 and names of calls that nothing but the probe makes.
const GETPGID: (&str, &str) = ("getpgid", "121");
const KCMP: (&str, &str) = ("kcmp", "312");
const PERSONALITY: (&str, &str) = ("personality", "135");

/// A filter that allows all but the rules.
fn filter(rules: Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules
    })
}

fn probing<'w>(world: &'w support::World, filter: Value) -> Bundle<'w> {
    let mut bundle = Bundle::new(world);
    bundle.add_probe();
    bundle.set("/linux/seccomp", filter);
    bundle
}

/// What the probe says of a call.
fn call(bundle: &mut Bundle<'_>, number: &str, arguments: &[&str]) -> String {
    let mut args = vec!["probe", "call", number];
    args.extend(arguments);
    bundle.args(&args).run().success().text().trim().to_owned()
}

fn supported() -> bool {
    cfg!(target_arch = "x86_64")
}

for_users! {
    /// The filter is on, for every thread and every exec.
    fn installed(world) as [root, subids, plain] {
        let mut bundle = probing(world, filter(json!([{"names": [KCMP.0], "action": "SCMP_ACT_ERRNO"}])));
        assert_eq!(bundle.prints("grep Seccomp: /proc/self/status"), ["Seccomp:\t2"]);
        assert_eq!(bundle.args(&["probe", "threads", "3"]).lines(), ["2 2 2"]);
        let container = bundle.script(SLEEP).start();
        assert_eq!(container.sh("grep Seccomp: /proc/self/status"), "Seccomp:\t2\n");
        assert_eq!(container.sh("probe call 312"), "errno 1\n");
    }

    /// Without a filter there is none.
    fn none(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        assert_eq!(bundle.prints("grep Seccomp: /proc/self/status"), ["Seccomp:\t0"]);
    }

    /// The error number of an action; EPERM where none is given.
    fn errno(world) as [root, subids, plain] {
        if !supported() {
            return;
        }
        let mut bundle = probing(world, filter(json!([
            {"names": [GETPGID.0], "action": "SCMP_ACT_ERRNO"},
            {"names": [PERSONALITY.0], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
        ])));
        assert_eq!(call(&mut bundle, GETPGID.1, &["0"]), "errno 1");
        assert_eq!(call(&mut bundle, PERSONALITY.1, &["0xffffffff"]), "errno 99");
        // getppid(2)
        assert_eq!(call(&mut bundle, "110", &[]), "0");
    }

    /// The default action is for calls that no rule names; an allow-list lets the rest work.
    fn default_action(world) as [root, subids, plain] {
        if !supported() {
            return;
        }
        let mut profile = default_profile();
        profile["defaultAction"] = json!("SCMP_ACT_ERRNO");
        profile["defaultErrnoRet"] = json!(38);
        let mut bundle = probing(world, profile);
        assert_eq!(call(&mut bundle, KCMP.1, &["1", "1", "0"]), "errno 38");
        assert_eq!(call(&mut bundle, GETPGID.1, &["0"]), "1");
        bundle.config["linux"]["seccomp"].as_object_mut().unwrap().remove("defaultErrnoRet");
        assert_eq!(call(&mut bundle, KCMP.1, &["1", "1", "0"]), "errno 1");
    }

    /// A call that is newer than every call of the profile gets ENOSYS, so that programs fall back.
    fn newer_calls(world) as [root, plain] {
        if !supported() || differs(world, &[(Crun, "1.8.1 answers with the default action")]) {
            return;
        }
        let mut bundle = probing(world, default_profile());
        assert_eq!(call(&mut bundle, "600", &[]), "errno 38");
    }

    /// SCMP_ACT_KILL_PROCESS, KILL, KILL_THREAD and TRAP end the program with SIGSYS.
    fn killing_actions(world) as [root, subids, plain] {
        if !supported() {
            return;
        }
        for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
            let mut bundle = probing(world, filter(json!([{"names": [KCMP.0], "action": action}])));
            let output = bundle.script("probe call 312; echo $?").run().success();
            assert_eq!(output.text().lines().last(), Some("159"), "{action}: {}", output.all());
        }
    }

    /// SCMP_ACT_LOG and SCMP_ACT_TRACE (which is ENOSYS without a tracer).
    fn log_and_trace(world) as [root, subids, plain] {
        if !supported() {
            return;
        }
        let mut bundle = probing(world, filter(json!([
            {"names": [GETPGID.0], "action": "SCMP_ACT_LOG"},
            {"names": [KCMP.0], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
        ])));
        assert_eq!(call(&mut bundle, GETPGID.1, &["0"]), "1");
        assert_eq!(call(&mut bundle, KCMP.1, &["1", "1", "0"]), "errno 38");
    }

    /// Every operator, with 64-bit values. lseek(2) on no descriptor: EBADF where it is let through.
    fn operators(world) as [root, plain] {
        if !supported() {
            return;
        }
        let big = 0x1_0000_0005_u64;
        for (op, value, two, hits, misses) in [
            ("SCMP_CMP_EQ", big, 0, &[big][..], &[5, big + 1, 0x2_0000_0005][..]),
            ("SCMP_CMP_NE", big, 0, &[5, big + 1], &[big]),
            ("SCMP_CMP_LT", big, 0, &[5, big - 1, 0], &[big, big + 1, 0x2_0000_0000]),
            ("SCMP_CMP_LE", big, 0, &[5, big], &[big + 1, 0x2_0000_0000]),
            ("SCMP_CMP_GE", big, 0, &[big, big + 1, 0x2_0000_0000], &[5, big - 1]),
            ("SCMP_CMP_GT", big, 0, &[big + 1, 0x2_0000_0000], &[5, big, 0xffff_ffff]),
            // valueTwo is what the masked argument is compared with.
            ("SCMP_CMP_MASKED_EQ", 0x1_0000_000f, 0x1_0000_0005_u64, &[0x1_0000_0005, 0x1_0000_0015, 0x3_0000_0005], &[5, 0x1_0000_0004]),
        ] {
            let mut bundle = probing(world, filter(json!([{
                "names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]
            }])));
            let values = hits.iter().chain(misses);
            let script: String = values.map(|value| format!("probe call 8 99 {value:#x} 0;")).collect();
            let lines = bundle.prints(&script);
            let wanted: Vec<&str> = hits.iter().map(|_| "errno 77").chain(misses.iter().map(|_| "errno 9")).collect();
            assert_eq!(lines, wanted, "{op}");
        }
    }

    /// Several conditions must all hold; several rules for one call are alternatives.
    fn conditions(world) as [root, plain] {
        if !supported() {
            return;
        }
        let mut bundle = probing(world, filter(json!([
            {"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [
                {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 1, "op": "SCMP_CMP_EQ"}]},
            {"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [
                {"index": 1, "value": 6, "op": "SCMP_CMP_EQ"}]},
        ])));
        let lines = bundle.prints("for a in '5 1' '5 0' '4 1' '6 0'; do probe call 8 99 $a; done");
        assert_eq!(lines, ["errno 77", "errno 9", "errno 9", "errno 77"]);
    }

    /// Several conditions on one argument are alternatives in runc and libseccomp's callers.
    fn conditions_on_one_argument(world) as [root, plain] {
        if !supported() || differs(world, &[(Crun, "1.8.1 wants all to hold")]) {
            return;
        }
        let mut bundle = probing(world, filter(json!([
            {"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [
                {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
        ])));
        let lines = bundle.prints("for a in 5 7 6; do probe call 8 99 $a 0; done");
        assert_eq!(lines, ["errno 77", "errno 77", "errno 9"]);
    }

    /// Names that this architecture doesn't have are passed over.
    fn unknown_names(world) as [root, subids, plain] {
        let mut bundle = probing(world, filter(json!([
            {"names": ["frobnicate", "socketcall", KCMP.0], "action": "SCMP_ACT_ERRNO"},
        ])));
        assert_eq!(call(&mut bundle, KCMP.1, &["1", "1", "0"]), "errno 1");
    }

    /// The 32-bit entry has a filter of its own where the document names it, and ends a program
    /// where it doesn't.
    fn architectures(world) as [root, plain] {
        if !supported() {
            return;
        }
        let mut with = filter(json!([{"names": [GETPGID.0], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
        with["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        let mut bundle = probing(world, with);
        // getpgid is 132 there, getpid 20.
        let lines = bundle.prints("probe call32 132 0; probe call32 20 >/dev/null && echo fine; probe call 121 0");
        if lines.first().map(String::as_str) == Some("errno 38") {
            support::skip(&world.test, "a kernel without 32-bit programs");
            return;
        }
        assert_eq!(lines, ["errno 77", "fine", "errno 77"]);
        let mut without = probing(world, filter(json!([{"names": [GETPGID.0], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}])));
        let lines = without.prints("probe call32 132 0; echo $?; probe call 121 0");
        if kind() == Sandcrab {
            assert!(lines[0] != "1" && lines[lines.len() - 1] == "errno 77", "{lines:?}");
        }
    }

    /// x32 numbers don't get around a filter.
    fn x32(world) as [root, plain] {
        if !supported() {
            return;
        }
        let mut bundle = probing(world, filter(json!([{"names": [GETPGID.0], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}])));
        let output = bundle.script("probe call 0x40000079 0; echo $?").run().success();
        let first = output.text().lines().next().unwrap().to_owned();
        assert!(first != "1", "the filter was passed by");
    }

    /// Flags of the filter.
    fn flags(world) as [root, subids, plain] {
        let mut rules = filter(json!([{"names": [KCMP.0], "action": "SCMP_ACT_ERRNO"}]));
        for flag in ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] {
            if kind() == Runc {
                // runc 1.1.5 knows the first two with a newer library.
                continue;
            }
            rules["flags"] = json!([flag]);
            let mut bundle = probing(world, rules.clone());
            assert_eq!(call(&mut bundle, KCMP.1, &["1", "1", "0"]), "errno 1", "{flag}");
        }
        rules["flags"] = json!(["SECCOMP_FILTER_FLAG_FROBNICATE"]);
        assert_error(probing(world, rules).run(), &["frobnicate", "flag"]);
    }

    /// Words that nobody knows are refused by name.
    fn bad_ones(world) as [root, plain] {
        let mut bundle = probing(world, filter(json!([])));
        for (pointer, value, word) in [
            ("/linux/seccomp/defaultAction", json!("SCMP_ACT_FROBNICATE"), "scmp_act_frobnicate"),
            ("/linux/seccomp/architectures", json!(["SCMP_ARCH_FROBNICATE"]), "scmp_arch_frobnicate"),
            ("/linux/seccomp/syscalls", json!([{"names": ["kcmp"], "action": "FROBNICATE"}]), "frobnicate"),
            ("/linux/seccomp/syscalls", json!([{"names": ["kcmp"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "FROBNICATE"}]}]), "frobnicate"),
        ] {
            let before = bundle.config.clone();
            bundle.set(pointer, value);
            assert_error(bundle.run(), &[word, "seccomp"]);
            bundle.config = before;
        }
        if kind() == Sandcrab {
            bundle.set("/linux/seccomp/syscalls", json!([{"names": ["kcmp"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]));
            assert_error(bundle.run(), &["index"]);
        }
    }

    /// A filter goes with noNewPrivileges and without; with an ordinary user without capabilities.
    fn with_and_without_new_privileges(world) as [root, subids] {
        let mut bundle = probing(world, filter(json!([{"names": [KCMP.0], "action": "SCMP_ACT_ERRNO"}])));
        for wanted in [true, false] {
            bundle.set("/process/noNewPrivileges", json!(wanted));
            bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
            bundle.set("/process/capabilities", json!({}));
            let lines = bundle.prints("probe call 312; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status");
            assert_eq!(lines, ["errno 1".to_owned(), format!("NoNewPrivs:\t{}", i32::from(wanted)), "Seccomp:\t2".to_owned()]);
        }
    }

    /// With noNewPrivileges a filter may refuse what the runtime itself needs until then.
    fn strict_filter(world) as [root, subids, plain] {
        let mut bundle = probing(world, filter(json!([
            {"names": ["setuid", "setgid", "setgroups", "setresuid", "setresgid", "mount", "pivot_root", "umount2", "setns", "unshare", "capset", "chroot", "socket", "sendmsg", "fsmount", "move_mount", "open_tree", "sethostname", "setsid"], "action": "SCMP_ACT_ERRNO"},
        ])));
        bundle.set("/process/noNewPrivileges", json!(true));
        // mount(2)
        assert_eq!(call(&mut bundle, "165", &[]), "errno 1");
    }

    /// SCMP_ACT_NOTIFY: an agent at `listenerPath` gets the descriptor, the state and the
    /// metadata, and answers.
    fn notify(world) as [root, subids, plain] {
        if !supported() {
            return;
        }
        let socket = ConsoleSocket::new(world, "agent");
        let mut rules = filter(json!([{"names": [KCMP.0], "action": "SCMP_ACT_NOTIFY"}]));
        rules["listenerPath"] = json!(socket.path);
        rules["listenerMetadata"] = json!("some metadata");
        let mut bundle = probing(world, rules);
        bundle.set("/annotations", json!({"for.agent": "yes"}));
        bundle.script("probe call 312 1 1 0; probe call 121 0");
        let agent = std::thread::spawn(move || {
            let (bytes, listener) = socket.receive();
            answer(&listener, 55);
            (bytes, socket)
        });
        let output = bundle.run().success();
        let (bytes, _socket) = agent.join().unwrap();
        assert_eq!(output.text(), "errno 55\n1\n");
        let state: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "some metadata");
        assert!(state["pid"].as_i64().unwrap() > 0, "{state}");
        assert_eq!(state["state"]["id"], bundle.id());
        assert_eq!(state["state"]["annotations"]["for.agent"], "yes");
        // crun 1.8.1 writes 0.2.0, as an example in the specification once had.
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1.") || kind() == Crun);
    }

    /// An exec's filter has a listener of its own, which the agent gets, too.
    fn notify_of_exec(world) as [root, subids, plain] {
        if !supported() || differs(world, &[(Crun, "1.8.1 has it for the first process only")]) {
            return;
        }
        if world.user != support::User::Root && differs(world, &[(Runc, "1.1.5 may not take the listener")]) {
            return;
        }
        let socket = ConsoleSocket::new(world, "agent");
        let mut rules = filter(json!([{"names": [KCMP.0], "action": "SCMP_ACT_NOTIFY"}]));
        rules["listenerPath"] = json!(socket.path);
        let mut bundle = probing(world, rules);
        let agent = std::thread::spawn(move || (socket.receive(), socket));
        let container = bundle.script(SLEEP).start();
        container.wait_for("ready");
        let ((_, first), socket) = agent.join().unwrap();
        let agent = std::thread::spawn(move || {
            let (bytes, listener) = socket.receive();
            answer(&listener, 56);
            (bytes, socket)
        });
        assert_eq!(container.exec(&[], &["probe", "call", "312"]).ok().text(), "errno 56\n");
        let (bytes, _socket) = agent.join().unwrap();
        let state: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(state["state"]["id"], container.id);
        drop(first);
        let pid = container.pid();
        container.kill("KILL");
        assert_eq!(reap(pid), 137);
    }

    /// Nobody at the listener's path: an error, and nothing is left.
    fn notify_without_agent(world) as [root, subids, plain] {
        let mut rules = filter(json!([{"names": [KCMP.0], "action": "SCMP_ACT_NOTIFY"}]));
        rules["listenerPath"] = json!("/no/such/agent");
        let bundle = probing(world, rules.clone());
        assert_error(bundle.run(), &["/no/such/agent", "no such file", "seccomp"]);
        world.assert_nothing_left(bundle.id());
        if kind() == Crun {
            // crun 1.8.1 starts it.
            return;
        }
        rules.as_object_mut().unwrap().remove("listenerPath");
        assert_error(probing(world, rules).run(), &["listenerpath", "seccomp", "notify"]);
    }

    /// A profile as large as docker's.
    fn large_profile(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/seccomp", default_profile());
        assert_eq!(bundle.prints("unshare -U true 2>/dev/null || echo refused; echo fine"), ["refused", "fine"]);
    }
}

/// The profile of podman and buildah for a container without further capabilities.
fn default_profile() -> Value {
    // Of golang-github-containers-common, which tests/setup installs.
    let text = std::fs::read("/usr/share/containers/seccomp.json").expect("podman's profile");
    let profile: Value = serde_json::from_slice(&text).expect("podman's profile is JSON");
    let rules = profile["syscalls"].as_array().expect("it has rules").iter();
    let names: Vec<&Value> = rules
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .filter(|rule| rule["args"].as_array().is_none_or(Vec::is_empty))
        .filter(|rule| rule["includes"]["caps"].is_null())
        .flat_map(|rule| rule["names"].as_array().into_iter().flatten())
        .filter(|name| {
            !["personality", "clone", "clone3", "kcmp", "unshare"]
                .iter()
                .any(|own| *name == own)
        })
        .collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0xffff_ffff_u64, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ]
    })
}

/// `struct seccomp_notif`, seccomp_unotify(2), as bytes: id, pid, flags, data.
const NOTIFICATION: usize = 80;

/// Receives one notification and answers it with an error number.
fn answer(listener: &OwnedFd, errno: i32) {
    let mut notification = [0_u8; NOTIFICATION];
    // SAFETY: the buffer has the size of the structure, and is zero, as the call demands.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), 0xc050_2100, notification.as_mut_ptr()) };
    assert_eq!(result, 0, "receive: {}", std::io::Error::last_os_error());
    // id, value, error, flags
    let mut response = [0_u8; 24];
    response[..8].copy_from_slice(&notification[..8]);
    (&mut response[16..20])
        .write_all(&(-errno).to_ne_bytes())
        .expect("four bytes");
    // SAFETY: the buffer has the size of the structure.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), 0xc018_2101, response.as_mut_ptr()) };
    assert_eq!(result, 0, "send: {}", std::io::Error::last_os_error());
}
