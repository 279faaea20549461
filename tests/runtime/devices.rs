//! Device files: the default ones, the document's, and what is refused.

use std::process::Command;

use serde_json::json;
use support::{User, for_users};

use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

for_users! {
    /// A privileged container gets all of the host's devices, and `/dev/ptmx` of its own.
    fn multiplexer(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.push("/linux/devices", json!({"type": "c", "path": "/dev/ptmx", "major": 5, "minor": 2, "fileMode": 0o666, "uid": 0, "gid": 0}));
        assert_eq!(bundle.prints("readlink /dev/ptmx"), ["pts/ptmx"]);
    }

    /// Devices that a mount from the host has already stay as they are.
    fn of_the_host(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for name in ["null", "zero"] {
            let device = format!("/dev/{name}");
            bundle.mount("bind", &device, &device, &["bind"]);
        }
        assert_eq!(bundle.prints("echo x >/dev/null && head -c 3 /dev/zero | wc -c"), ["3"]);
        if world.user == User::Root {
            // A mount of the test's own stands for the host's.
            let dev = bundle.make_dir("dev");
            let node = dev.join("zero");
            let made = Command::new("mknod").args(["-m", "0600"]).arg(&node).args(["c", "1", "5"]).status();
            assert!(made.is_ok_and(|status| status.success()));
            bundle.without_mount("/dev/zero");
            bundle.mount("bind", node.to_str().unwrap(), "/dev/zero", &["bind"]);
            bundle.script("true").run().success();
            let found = std::fs::metadata(&node).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::mode(&found) & 0o7777, 0o600);
        }
    }

    /// The devices and links that the specification promises to every container.
    fn default_ones(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints(
            "for d in null zero full random urandom tty; do test -c /dev/$d && stat -c '%n %t:%T' /dev/$d; done
             for l in fd stdin stdout stderr ptmx core; do echo $l $(readlink /dev/$l); done
             head -c 4 /dev/zero | wc -c; echo x >/dev/null && echo swallowed; echo x >/dev/full 2>/dev/null || echo full
             head -c 3 /dev/urandom | wc -c",
        );
        for line in ["/dev/null 1:3", "/dev/zero 1:5", "/dev/full 1:7", "/dev/random 1:8", "/dev/urandom 1:9", "/dev/tty 5:0",
                     "fd /proc/self/fd", "stdin /proc/self/fd/0", "stdout /proc/self/fd/1", "stderr /proc/self/fd/2",
                     "4", "3", "swallowed", "full"] {
            assert!(lines.iter().any(|l| l == line), "{line}: {lines:?}");
        }
        assert!(lines.iter().any(|l| l == "ptmx pts/ptmx" || l == "ptmx /dev/pts/ptmx"), "{lines:?}");
    }

    /// Their modes; the host's where they are bound.
    fn default_modes(world) as [root] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints("umask 0; stat -c %a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty");
        assert_eq!(lines, ["666"; 6]);
    }

    /// Everything below /dev is what is promised, and no host device.
    fn nothing_else(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let allowed = ["null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx", "core", "pts", "shm", "mqueue", "console"];
        for name in bundle.prints("ls -A /dev") {
            assert!(allowed.contains(&name.as_str()), "{name}");
        }
    }

    /// Devices of the document, made by number as root.
    fn of_the_document(world) as [root] {
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/devices", json!([
            {"path": "/dev/own/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 8, "gid": 50},
            {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600, "uid": 0, "gid": 0},
        ]));
        let lines = bundle.prints("stat -c '%n %t:%T %a %u:%g' /dev/own/null /dev/unbuffered; test -p /dev/pipe && stat -c %a /dev/pipe; echo x >/dev/own/null; head -c 2 /dev/unbuffered | wc -c");
        assert_eq!(lines[0], "/dev/own/null 1:3 640 8:50");
        assert!(lines[1].starts_with("/dev/unbuffered 1:5"), "{lines:?}");
        assert_eq!(lines[2..], ["600", "2"]);
    }

    /// A block device, and that its mode is the document's, whatever the caller's umask.
    fn block_device(world) as [root] {
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/devices", json!([
            {"path": "/dev/loop77", "type": "b", "major": 7, "minor": 77, "fileMode": 0o666},
        ]));
        bundle.save();
        let script = "umask 077; exec \"$@\"";
        bundle.script("test -b /dev/loop77 && stat -c '%t:%T %a' /dev/loop77; umask").save();
        let output = world.command("sh").args(["-c", script, "sh"]).arg(crate::harness::program()).arg("--root").arg(world.path("state"))
            .args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).ok();
        assert_eq!(output.text().lines().next(), Some("7:4d 666"));
    }

    /// Ordinary users can't make devices: those of the host are bound.
    fn bound_ones(world) as [subids, plain] {
        if differs(world, &[(Crun, "1.8.1 wants a right that it doesn't have")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/devices", json!([
            {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666},
        ]));
        assert_eq!(bundle.prints("stat -c %t:%T /dev/zero; head -c 4 /dev/zero | wc -c"), ["1:5", "4"]);
    }

    /// A device that the host doesn't have can't be bound, and says so.
    fn missing_device(world) as [subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/devices", json!([
            {"path": "/dev/no-such-device", "type": "c", "major": 1, "minor": 3},
        ]));
        if differs(world, &[(Crun, "1.8.1 binds by path and says the path")]) {
            return;
        }
        assert_error(bundle.run(), &["/dev/no-such-device", "no-such-device"]);
    }

    /// A device in the place of a default one is the document's.
    fn over_a_default(world) as [root] {
        let mut bundle = Bundle::new(world);
        bundle.set("/linux/devices", json!([
            {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600, "uid": 8, "gid": 8},
        ]));
        if differs(world, &[(Runc, "1.1.5 makes the default one"), (Crun, "1.8.1 makes the default one")]) {
            return;
        }
        assert_eq!(bundle.prints("stat -c '%a %u' /dev/full"), ["600 8"]);
    }

    /// What is no device.
    fn bad_ones(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        for (device, words) in [
            (json!({"path": "/dev/x", "type": "z", "major": 1, "minor": 3}), &["type", "\"z\"", "invalid", "device"][..]),
            (json!({"path": "relative", "type": "c", "major": 1, "minor": 3}), &["path", "relative"]),
            (json!({"path": "/dev/x", "type": "c"}), &["major", "/dev/x", "linux.devices[0]"]),
        ] {
            bundle.set("/linux/devices", json!([device]));
            if kind() != Sandcrab {
                // runc and crun refuse the first only.
                if device["type"] == "z" && kind() == Runc {
                    assert_error(bundle.run(), words);
                }
                continue;
            }
            assert_error(bundle.run(), words);
        }
    }

    /// What the control group allows is what can be opened.
    fn allowed_by_cgroup(world) as [root] {
        let mut bundle = Bundle::new(world);
        bundle.capabilities(&["CAP_MKNOD", "CAP_SYS_ADMIN"]);
        bundle.set("/linux/resources/devices", json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
        ]));
        bundle.set("/linux/devices", json!([
            {"path": "/dev/fuse2", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666},
            {"path": "/dev/port2", "type": "c", "major": 1, "minor": 4, "fileMode": 0o666},
        ]));
        let lines = bundle.prints("(: </dev/fuse2) 2>&1 | grep -q 'not permitted' || echo readable; (echo x >/dev/fuse2) 2>/dev/null || echo not writable; (head -c 1 /dev/port2) 2>&1 | grep -c 'not permitted'; mknod /tmp/mem c 1 1 && (head -c 1 /tmp/mem) 2>&1 | grep -c 'not permitted'; echo x >/dev/null && echo null");
        assert_eq!(lines, ["readable", "not writable", "1", "1", "null"]);
    }

    /// A container's /dev without a file system of its own: the directory of the root is filled.
    fn without_tmpfs(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for place in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            bundle.without_mount(place);
        }
        let output = bundle.script("echo x >/dev/null && test -c /dev/null && echo device").run();
        if world.user == User::Root || output.code == Some(0) {
            assert_eq!(output.success().text(), "device\n");
        } else {
            assert_error(output, &["/dev"]);
        }
    }

    /// /dev bound from the host is left as it is.
    fn bound_dev(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        for place in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            bundle.without_mount(place);
        }
        bundle.mount("bind", "/dev", "/dev", &["rbind"]);
        let before = std::fs::read_dir("/dev").unwrap().count();
        assert_eq!(bundle.prints("test -c /dev/null && echo device"), ["device"]);
        assert_eq!(std::fs::read_dir("/dev").unwrap().count(), before);
    }

    /// A terminal is at /dev/console, too.
    fn console(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true)).script("test -c /dev/console && echo written >/dev/console; sleep 0.1");
        let socket = crate::harness::ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        container.start();
        terminal.wait_for("written");
    }

    /// Pseudo-terminals are the container's own.
    fn own_terminals(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        assert_eq!(container.sh("ls /dev/pts"), "ptmx\n");
        assert_eq!(container.sh("stat -c %a /dev/pts/ptmx"), "666\n");
    }
}
