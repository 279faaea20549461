//! `kill`, in every state of a container.

use support::for_users;

use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, alive, assert_error, differs, reap};

for_users! {
    /// Signals by name and number.
    fn kill_signals(world) as [root, subids, plain] {
        let script = "for s in HUP INT USR1 USR2 TERM WINCH; do trap \"echo got-$s\" $s; done
                      echo ready; while :; do sleep 0.05; done";
        let bundle = Bundle::with_script(world, script);
        let container = bundle.start();
        container.wait_for("ready");
        for (name, word) in [("HUP", "got-HUP"), ("SIGINT", "got-INT"), ("10", "got-USR1"), ("usr2", "got-USR2"), ("28", "got-WINCH")] {
            if name == "usr2" && kind() == Crun {
                // crun 1.8.1 knows names in upper case only.
                continue;
            }
            container.kill(name);
            container.wait_for(word);
        }
        container.verb(&["kill"]).ok();
        container.wait_for("got-TERM");
        for bad in ["FROBNICATE", "999"] {
            // crun 1.8.1 takes what is no signal for number 0.
            if kind() == Crun {
                continue;
            }
            assert_error(container.verb(&["kill"]).arg(bad).run(), &[]);
        }
        assert_eq!(container.status(), "running");
        let pid = container.pid();
        container.kill("9");
        assert_eq!(reap(pid), 137);
    }

    /// `kill` of what has stopped.
    fn kill_stopped(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        let container = bundle.create();
        assert_eq!(container.finish(), 0);
        let output = container.verb(&["kill"]).run();
        if differs(world, &[(Crun, "says `No such process`")]) {
            return;
        }
        output.exits(1).says(&["container not running"]);
    }

    /// `kill` before `start`.
    fn kill_created(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "touch /ran");
        let container = bundle.create();
        let pid = container.pid();
        container.kill("KILL");
        assert_eq!(reap(pid), 137);
        assert_eq!(container.status(), "stopped");
        assert!(!bundle.inside("ran").exists());
        container.delete();
    }

    /// `kill --all` reaches every process.
    fn kill_all(world) as [root] {
        let bundle = Bundle::with_script(world, "trap '' TERM; sleep 300 & echo ready; wait; sleep 301");
        let container = bundle.start();
        container.wait_for("ready");
        let pid = container.pid();
        container.verb(&["kill", "--all"]).arg("KILL").ok();
        assert_eq!(reap(pid), 137);
        assert!(!alive(pid));
    }

    /// A signal for a paused container arrives; a deadly one at once or after `resume`.
    fn kill_paused(world) as [root] {
        let bundle = Bundle::with_script(world, "while :; do sleep 0.02; done");
        let container = bundle.start();
        let pid = container.pid();
        container.verb(&["pause"]).ok();
        container.kill("KILL");
        // runc 1.1.5 thaws for SIGKILL; elsewhere the process ends with the freeze.
        if alive(pid) {
            container.verb(&["resume"]).run();
        }
        assert_eq!(reap(pid), 137);
        assert_eq!(container.status(), "stopped");
    }
}
