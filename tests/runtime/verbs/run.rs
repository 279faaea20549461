//! `run`: its exit code, signals, streams and options.

use std::time::Duration;

use rustix::process::Signal;
use support::for_users;

use super::SLEEP;
use crate::harness::bundle::runtime;
use crate::harness::{Bundle, Crun, assert_error, differs, reap};

for_users! {
    /// `run` exits as the program did.
    fn run_exit_code(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, "exit 7");
        bundle.run().exits(7);
        bundle.script("exit 255").run().exits(255);
        bundle.args(&["true"]).run().exits(0);
        assert_error(runtime(world, ["state", bundle.id()]).run(), &["does not exist"]);
    }

    /// `run` exits with 128 and the number of the signal that ended the program.
    fn run_killed(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.container();
        let mut running = bundle.run_with(&[]).spawn();
        running.wait_for("ready");
        container.kill("KILL");
        running.wait().exits(137);
        assert_error(container.verb(&["state"]).run(), &["does not exist"]);
    }

    /// `run` passes signals on.
    fn run_forwards_signals(world) as [root, subids, plain] {
        let script = "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'exit 9' TERM; trap 'echo int' INT
                      echo ready; while :; do sleep 0.05; done";
        let bundle = Bundle::with_script(world, script);
        let mut running = bundle.run_with(&[]).spawn();
        running.wait_for("ready");
        for (signal, word) in [(Signal::USR1, "usr1"), (Signal::HUP, "hup"), (Signal::INT, "int")] {
            running.signal(signal);
            running.wait_for(word);
        }
        running.signal(Signal::TERM);
        running.wait().exits(9);
    }

    /// Standard streams are the caller's.
    fn run_streams(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "cat; echo error >&2");
        let output = bundle.run_with(&[]).stdin("input\n").ok();
        assert_eq!(output.text(), "input\n");
        assert_eq!(output.stderr, "error\n");
    }

    /// `run --detach` returns while the program runs.
    fn run_detach(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        for flag in ["--detach", "-d"] {
            let container = bundle.container();
            container.leaving(bundle.run_with(&[flag])).success();
            container.wait_for("ready");
            assert_eq!(container.status(), "running");
            let pid = container.pid();
            container.kill("TERM");
            assert_eq!(reap(pid), 3);
            container.delete();
        }
    }

    /// `run --keep` leaves a stopped container.
    fn run_keep(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 has no --keep")]) {
            return;
        }
        let bundle = Bundle::with_script(world, "exit 4");
        let container = bundle.container();
        bundle.run_with(&["--keep"]).run().exits(4);
        assert_eq!(container.status(), "stopped");
        container.delete();
    }

    /// Many short runs one after the other, none of which may hang or lose its end.
    fn run_short(world) as [root, subids, plain] {
        let mut bundle = Bundle::with_script(world, "exit 5");
        for _ in 0..10 {
            bundle.run_with(&["--no-subreaper"]).timeout(Duration::from_secs(20)).run().exits(5);
        }
        bundle.args(&["/bin/echo", "all"]);
        for _ in 0..10 {
            assert_eq!(bundle.run().success().text(), "all\n");
        }
    }
}
