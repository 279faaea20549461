//! Attacks by way of processes that outlive others.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::for_users;

use crate::attempt::fails;
use crate::harness::Bundle;
use crate::harness::container::eventually;

for_users! {
    /// A container that is being made ends with its maker, in whatever way that ends.
    fn maker_is_killed(world) as [root, subids, plain] {
        fails(world, "Parent", |attempt| {
            let mut bundle = Bundle::new(world);
            let begun = bundle.path("begun");
            let script = format!("echo >'{}'; exec sleep 60", begun.display());
            bundle.set("/hooks/createContainer", json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
            bundle.save();
            let command = attempt.command(&["create", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
            let running = command.spawn();
            eventually("the hook runs", || begun.exists());
            running.signal(Signal::KILL);
            let left = || world.processes_with(bundle.id());
            for _ in 0..40 {
                if left().is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let remain = left();
            for line in &remain {
                let number = line.split(':').next().and_then(|pid| pid.parse().ok());
                kill_process(number.and_then(Pid::from_raw).unwrap(), Signal::KILL).ok();
            }
            drop(running);
            bundle.container().verb(&["delete", "--force"]).run();
            !remain.is_empty()
        });
    }
}
