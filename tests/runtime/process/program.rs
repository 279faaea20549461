//! What is executed, with which arguments, environment and place.

use serde_json::json;
use support::{User, for_users};

use super::{SLEEP, bits, field, with_shell};
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, assert_error, differs};

for_users! {
    /// The environment is the document's, and nothing of the runtime's.
    fn environment(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/env", json!(["PATH=/bin", "A=1", "B=x=y", "EMPTY=", "A2=two words\nand lines"]));
        bundle.args(&["env"]).save();
        let output = bundle.run_with(&[]).env("SECRET", "1").env("_OCI_SYNCPIPE", "9").ok();
        let text = output.text();
        for line in ["PATH=/bin", "A=1", "B=x=y", "EMPTY=", "A2=two words"] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        for never in ["SECRET", "_OCI", "XDG", "LOGNAME", "LANG", "RUNC", "SANDCRAB", "_LIBCONTAINER"] {
            assert!(!text.contains(never), "{never}: {text}");
        }
    }

    /// The program is looked for in the container's PATH, relative to its root and its directory.
    fn path_lookup(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write_program("rootfs/tmp/tool", "#!/bin/sh\necho found in $PATH as $0\n");
        bundle.set("/process/env", json!(["PATH=/nowhere:/etc:/tmp:/bin"]));
        assert!(bundle.args(&["tool"]).lines()[0].starts_with("found in /nowhere:/etc:/tmp:/bin as /tmp/tool"));
        bundle.set("/process/cwd", json!("/tmp"));
        assert!(bundle.args(&["./tool"]).lines()[0].ends_with("./tool"));
        bundle.set("/process/cwd", json!("/"));
        assert!(bundle.args(&["tmp/tool"]).lines()[0].starts_with("found"));
    }

    /// The working directory; one that isn't there is made, as runc and crun do.
    fn working_directory(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/cwd", json!("/tmp"));
        assert_eq!(bundle.args(&["pwd"]).lines(), ["/tmp"]);
        bundle.set("/process/cwd", json!("/made/by/it"));
        assert_eq!(bundle.args(&["pwd"]).lines(), ["/made/by/it"]);
        if kind() != Crun {
            // crun 1.8.1 takes it as relative to the root.
            bundle.set("/process/cwd", json!("relative"));
            assert_error(bundle.run(), &["cwd"]);
        }
        bundle.set("/process/cwd", json!("/etc/passwd"));
        assert_error(bundle.run(), &["not a directory"]);
        let container = bundle.set("/process/cwd", json!("/tmp")).script(SLEEP).start();
        assert_eq!(container.sh("pwd"), "/tmp\n");
        let output = container.exec(&["--cwd", "/proc"], &["pwd"]).ok();
        assert_eq!(output.text(), "/proc\n");
        assert_error(container.exec(&["--cwd", "/no/such"], &["pwd"]).run(), &[]);
    }

    /// Arguments are passed byte by byte.
    fn arguments(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let args = ["printf", "%s|", "", "two words", "line\nline", "ünïcode", "--help", "$HOME", "\\", "'"];
        assert_eq!(bundle.args(&args).run().success().text(), "|two words|line\nline|ünïcode|--help|$HOME|\\|'|");
        bundle.set("/process/args", json!([]));
        assert_error(bundle.run(), &["args", "no program"]);
    }

    /// A script with an interpreter, and one whose interpreter is missing.
    fn interpreters(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.write_program("rootfs/bin/script", "#!/bin/sh\necho script $1\n");
        assert_eq!(bundle.args(&["script", "x"]).lines(), ["script x"]);
        bundle.write_program("rootfs/bin/broken", "#!/no/such/interpreter\n");
        let output = bundle.args(&["broken"]).run();
        assert_error(output, &["no such file or directory", "not found"]);
    }

    /// The program is the leader of a session of its own.
    fn session(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints("cut -d' ' -f1,5,6 /proc/1/stat");
        assert_eq!(lines, ["1 1 1"]);
    }

    /// The program's parent doesn't exist in its namespace, and the signals are as at first.
    fn signal_dispositions(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let lines = bundle.args(&["cat", "/proc/self/status"]).lines();
        assert_eq!(field(&lines, "PPid"), "0");
        assert_eq!(bits(&field(&lines, "SigBlk")), 0);
        if differs(world, &[(Crun, "ignores a signal"), (Runc, "is written in Go, which changes some")]) {
            return;
        }
        // Whatever the caller ignores, such as a shell's background job. Both signals that C
        // libraries keep for themselves stay as they were, signal(7).
        assert_eq!(bits(&field(&lines, "SigIgn")) & !(3 << 31), 0);
        let mut bundle = Bundle::new(world);
        bundle.args(&["cat", "/proc/self/status"]).save();
        let output = with_shell(world, "trap '' INT QUIT USR1; exec \"$@\"")
            .args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).ok();
        let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
        assert_eq!(bits(&field(&lines, "SigIgn")) & !(3 << 31), 0);
    }

    /// A session keyring of its own, unless told otherwise.
    fn keyring(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
        bundle.args(&["probe", "call", "250", "0", "-3", "0"]);
        let first = bundle.lines();
        let second = bundle.lines();
        if first[0].starts_with("errno 38") {
            support::skip(&world.test, "a kernel without keys");
            return;
        }
        assert_ne!(first, second, "one keyring for two containers");
        let keep = |bundle: &Bundle| bundle.run_with(&["--no-new-keyring"]).ok().text();
        if world.user == User::Root {
            assert_eq!(keep(&bundle), keep(&bundle));
        }
    }
}
