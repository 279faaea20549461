//! Attacks by way of what the runtime has open.

use std::time::{Duration, Instant};

use serde_json::json;
use support::for_users;

use crate::attempt::fails;
use crate::harness::Bundle;

for_users! {
    /// CVE-2024-21626 of runc: the working directory is a descriptor of the runtime's own.
    fn working_directory_is_a_leak(world) as [root, subids, plain] {
        fails(world, "Directory", |attempt| {
            (3..20).any(|number| {
                let mut bundle = Bundle::new(world);
                bundle.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
                attempt.run(&bundle).code == Some(0)
            })
        });
    }

    /// The same with a directory of the host, which the caller hands down.
    fn working_directory_is_the_hosts(world) as [root, subids, plain] {
        world.write("secret", "s3cr3t");
        fails(world, "Directory", |attempt| {
            let mut bundle = Bundle::with_script(world, "cat secret");
            bundle.set("/process/cwd", json!("/proc/self/fd/3"));
            let command = attempt.command_after("exec 3<.; exec \"$@\"", &["run", "--preserve-fds", "1"]);
            attempt.run_by(&bundle, command).text() == "s3cr3t"
        });
    }

    /// The same for `exec`.
    fn working_directory_of_exec(world) as [root, subids, plain] {
        world.write("secret", "s3cr3t");
        fails(world, "Directory", |attempt| {
            let bundle = Bundle::with_script(world, "sleep 60");
            let container = bundle.start();
            let words = ["exec", "--preserve-fds", "1", "--cwd", "/proc/self/fd/3", &container.id, "cat", "secret"];
            attempt.command_after("exec 3<.; exec \"$@\"", &words).run().text() == "s3cr3t"
        });
    }

    /// What the caller has open and does not hand down is closed.
    fn inherited(world) as [root, subids, plain] {
        world.write("secret", "s3cr3t");
        fails(world, "Program,Descriptors", |attempt| {
            let bundle = Bundle::with_script(world, "cat <&9");
            let command = attempt.command_after("exec 9<secret; exec \"$@\"", &["run"]);
            attempt.run_by(&bundle, command).text() == "s3cr3t"
        });
        fails(world, "Program,Descriptors", |attempt| {
            let bundle = Bundle::with_script(world, "sleep 60");
            let container = bundle.start();
            let words = ["exec", &container.id, "sh", "-c", "cat <&9"];
            attempt.command_after("exec 9<secret; exec \"$@\"", &words).run().text() == "s3cr3t"
        });
    }

    /// A container that waits for `start` has nothing of the host open but its streams and pipes.
    fn nothing_while_waiting(world) as [root, subids, plain] {
        fails(world, "Program,Descriptors", |attempt| {
            let bundle = Bundle::with_script(world, "sleep 60");
            let (container, output) = attempt.create(&bundle, &[]);
            output.success();
            let place = format!("/proc/{}/fd", container.pid());
            if std::fs::read_dir(&place).is_err() {
                support::skip(&world.test, "descriptors of other users can't be listed");
                return attempt.is_weak();
            }
            let state = world.path("state").display().to_string();
            let known = |path: &String| {
                path.starts_with(&state) || path == "/dev/null" || path.ends_with(".out") || path.ends_with(".err")
            };
            let is_clean = || {
                let fds = std::fs::read_dir(&place).expect("it could be listed before");
                fds.flatten()
                    .filter_map(|fd| std::fs::read_link(fd.path()).ok())
                    .map(|path| path.display().to_string())
                    .all(|path| known(&path))
            };
            // `create` returns when the process has been let go, and not when that has noticed.
            let deadline = Instant::now() + Duration::from_secs(2);
            while !is_clean() {
                if Instant::now() > deadline {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            false
        });
    }

    /// CVE-2016-9962 of runc: a container looks at what the process has open that `exec` adds. With
    /// `CAP_SYS_PTRACE` it may; then there is nothing that leads out.
    fn open_in_a_process_on_its_way_in(world) as [root] {
        fails(world, "Descriptors", |attempt| {
            let script = "echo ready; while :; do \
                 for d in /proc/[2-9] /proc/[1-9][0-9] /proc/[1-9][0-9][0-9]; do \
                 for f in $d/fd/[3-9] $d/fd/1[0-9]; do \
                 for up in .. ../.. ../../..; do \
                 read x <$f/$up/secret && echo got $x by $f/$up; \
                 done; done; done; done 2>/dev/null";
            let mut bundle = Bundle::with_script(world, script);
            bundle.capabilities(&["CAP_SYS_PTRACE"]);
            world.write("secret", "s3cr3t\n");
            let container = bundle.start();
            container.wait_for("ready");
            for _ in 0..60 {
                attempt.command(&["exec", &container.id, "true"]).ok();
            }
            container.stdout().contains("s3cr3t")
        });
    }
}
