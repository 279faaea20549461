//! `pause` and `resume`.

use std::time::Duration;

use support::for_users;

use super::SLEEP;
use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, assert_error, differs};

for_users! {
    /// `pause` and `resume`, and what waits meanwhile.
    fn pause(world) as [root] {
        let bundle = Bundle::with_script(world, "while :; do echo tick; sleep 0.02; done");
        let container = bundle.start();
        container.wait_for("tick");
        container.verb(&["pause"]).ok();
        assert_eq!(container.status(), "paused");
        let before = container.stdout().len();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(container.stdout().len(), before, "it ran on");
        assert_error(container.exec(&[], &["true"]).timeout(Duration::from_secs(20)).run(), &["paused"]);
        let again = container.verb(&["pause"]).run();
        container.verb(&["resume"]).ok();
        assert_eq!(container.status(), "running");
        eventually("it goes on", || container.stdout().len() > before);
        if kind() != Crun {
            assert_error(again, &[]);
            assert_error(container.verb(&["resume"]).run(), &[]);
        }
        container.verb(&["pause"]).ok();
        container.verb(&["delete", "--force"]).timeout(Duration::from_secs(20)).ok();
        world.assert_nothing_left(bundle.id());
    }

    /// `pause` without a control group is refused.
    fn pause_rootless(world) as [subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let output = container.verb(&["pause"]).run();
        if differs(world, &[(Crun, "says nothing when it has no cgroup")]) {
            return;
        }
        assert_error(output, &[]);
        assert_eq!(container.status(), "running");
    }

    /// `exec --ignore-paused` is accepted; the program runs after `resume`.
    fn exec_ignore_paused(world) as [root] {
        if differs(world, &[(Crun, "1.8.1 has no --ignore-paused")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.verb(&["pause"]).ok();
        let running = container.exec(&["--ignore-paused"], &["echo", "executed"]).spawn();
        std::thread::sleep(Duration::from_millis(200));
        container.verb(&["resume"]).ok();
        assert_eq!(running.wait().success().text(), "executed\n");
    }
}
