//! Crashes, races, crowds, other users, and state that somebody broke.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{User, for_users};

use crate::harness::bundle::runtime;
use crate::harness::container::eventually;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, alive, assert_error, differs, reap};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

for_users! {
    /// A crowd of containers at once, each with its own answer.
    fn fifty_at_once(world) as [root, subids, plain] {
        let bundles: Vec<Bundle<'_>> = (0..50).map(|number| Bundle::with_script(world, &format!("echo {number}; exit {number}"))).collect();
        let running: Vec<_> = bundles.iter().map(|bundle| bundle.run_with(&[]).spawn()).collect();
        for (number, running) in running.into_iter().enumerate() {
            let output = running.wait().exits(i32::try_from(number).unwrap());
            assert_eq!(output.text(), format!("{number}\n"));
        }
        assert_eq!(runtime(world, ["list", "-q"]).ok().text(), "");
    }

    /// A crowd of containers that stay, created, listed, stopped and deleted at once.
    fn crowd_of_daemons(world) as [root, subids, plain] {
        let bundles: Vec<Bundle<'_>> = (0..12).map(|_| Bundle::with_script(world, SLEEP)).collect();
        std::thread::scope(|scope| {
            for bundle in &bundles {
                scope.spawn(|| {
                    let container = bundle.start();
                    container.wait_for("ready");
                    let pid = container.pid();
                    assert_eq!(container.exec(&[], &["echo", "x"]).ok().text(), "x\n");
                    let listed = runtime(world, ["list"]).run();
                    if kind() != Runc {
                        // runc 1.1.5 stumbles over what is gone meanwhile.
                        listed.success();
                    }
                    container.kill("TERM");
                    assert_eq!(reap(pid), 3);
                    container.delete();
                });
            }
        });
        assert_eq!(runtime(world, ["list", "-q"]).ok().text(), "");
    }

    /// Two creates of one id: one succeeds, and it is a whole container.
    fn create_race(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "1.1.5 fails both now and then"), (Crun, "fails both now and then")]) {
            return;
        }
        for _ in 0..5 {
            let bundle = Bundle::with_script(world, "echo whole");
            bundle.save();
            let create = || runtime(world, ["create", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
            let [first, second] = std::thread::scope(|scope| {
                let threads = ["a", "b"].map(|name| {
                    let (out, err) = (bundle.path(&format!("{name}.out")), bundle.path(&format!("{name}.err")));
                    let create = create();
                    scope.spawn(move || create.run_into(&out, &err))
                });
                threads.map(|thread| thread.join().unwrap())
            });
            let succeeded = [&first, &second].iter().filter(|output| output.code == Some(0)).count();
            assert_eq!(succeeded, 1, "{}\n{}", first.all(), second.all());
            let container = bundle.container();
            assert_eq!(container.status(), "created");
            assert_eq!(container.finish(), 0);
        }
    }

    /// Two starts at once: the program runs once.
    fn start_race(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "echo once; sleep 0.2");
        let container = bundle.create();
        let pid = container.pid();
        let outputs = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| container.verb(&["start"]).run())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let succeeded = outputs.iter().filter(|output| output.code == Some(0)).count();
        assert_eq!(reap(pid), 0);
        assert_eq!(container.stdout(), "once\n");
        if kind() == crate::harness::Sandcrab {
            assert_eq!(succeeded, 1);
        }
    }

    /// Many execs at once, each with its own streams and code.
    fn execs_at_once(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let running: Vec<_> = (0..20).map(|number| container.exec(&[], &["sh", "-c", &format!("echo {number}; exit {number}")]).spawn()).collect();
        for (number, running) in running.into_iter().enumerate() {
            assert_eq!(running.wait().exits(i32::try_from(number).unwrap()).text(), format!("{number}\n"));
        }
    }

    /// Verbs that race with a deletion fail by themselves, in words that callers know.
    fn delete_race(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let pid = container.pid();
        std::thread::scope(|scope| {
            let verbs = [&["state"][..], &["kill"], &["delete", "--force"], &["delete", "--force"], &["state"]];
            let threads: Vec<_> = verbs.iter().map(|verb| scope.spawn(|| container.verb(verb).timeout(Duration::from_secs(30)).run())).collect();
            for thread in threads {
                let output = thread.join().unwrap();
                assert!(output.signal.is_none(), "{}", output.all());
                assert!(!output.stderr.contains("panic"), "{}", output.stderr);
            }
        });
        container.verb(&["delete", "--force"]).ok();
        reap(pid);
        assert_error(container.verb(&["state"]).run(), &["does not exist"]);
    }

    /// The creator is killed at any moment: `delete --force` brings back a clean slate.
    fn creator_killed(world) as [root, subids, plain] {
        for step in 0..12 {
            let bundle = Bundle::with_script(world, SLEEP);
            bundle.save();
            let container = bundle.container();
            let command = runtime(world, ["create", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
            let running = command.spawn();
            std::thread::sleep(Duration::from_millis(step * 2));
            running.signal(Signal::KILL);
            // The output pipe may be held by a container that was made in time.
            let left = bundle.id().to_owned();
            drop(running);
            let output = container.verb(&["delete", "--force"]).timeout(Duration::from_secs(30)).run();
            if kind() == crate::harness::Sandcrab {
                assert_eq!(output.code, Some(0), "{}", output.all());
            }
            let listed = runtime(world, ["list", "-q"]).ok().text();
            if kind() == crate::harness::Sandcrab {
                assert!(!listed.contains(&left), "{listed}");
                // The id can be used again at once.
                let again = bundle.create();
                again.verb(&["delete", "--force"]).ok();
            }
        }
    }

    /// `run` is killed: the container goes on, and can be deleted, as with runc.
    fn run_killed(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.container();
        let mut running = bundle.run_with(&[]).spawn();
        running.wait_for("ready");
        let pid = container.pid();
        running.signal(Signal::KILL);
        eventually("run is gone", || !running.is_running());
        assert!(alive(pid) || container.status() == "stopped");
        container.verb(&["delete", "--force"]).ok();
        eventually("the process is gone", || !alive(pid));
        assert_error(container.verb(&["state"]).run(), &["does not exist"]);
    }

    /// A container's process is killed from outside, with SIGKILL.
    fn init_killed(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.create();
        let pid = container.pid();
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(process, Signal::KILL).unwrap();
        assert_eq!(reap(pid), 137);
        assert_eq!(container.status(), "stopped");
        assert_error(container.verb(&["start"]).run(), &[]);
        container.delete();
    }

    /// One user's ids and states are not another's, also with the same id.
    fn users_apart(world) as [subids, plain] {
        if !support::user::is_root() {
            return;
        }
        let Some(other) = support::World::new(User::Root, &format!("{}-root", world.test)) else {
            return;
        };
        let theirs = Bundle::with_script(&other, SLEEP);
        let container = theirs.start();
        container.wait_for("ready");
        // Their state directory can't be read, let alone changed.
        let command = |verb: &[&str]| world.command(crate::harness::program()).arg("--root").arg(other.path("state")).args(verb).arg(&container.id).run();
        assert_error(command(&["state"]), &[]);
        assert_error(command(&["kill"]), &[]);
        assert_error(command(&["exec"]), &[]);
        command(&["delete", "--force"]);
        assert_eq!(container.status(), "running");
        let ours = Bundle::with_script(world, SLEEP);
        ours.save();
        let same = ours.container_named(&container.id);
        same.create(&[]).success();
        assert_eq!(same.status(), "created");
        assert_eq!(container.status(), "running");
        same.verb(&["delete", "--force"]).ok();
        assert_eq!(container.status(), "running");
    }

    /// What is no container in the state directory disturbs nobody.
    fn broken_state(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        world.make_dir("state/empty");
        world.write("state/file", "x");
        world.write("state/garbage/state.json", "{");
        world.write("state/garbage/status", "{");
        world.write("state/garbage/record.json", "{");
        let listed = runtime(world, ["list", "-q"]).run();
        if kind() == crate::harness::Sandcrab {
            assert!(listed.text().lines().any(|line| line == container.id), "{}", listed.all());
        }
        for id in ["empty", "garbage"] {
            assert_error(runtime(world, ["state", id]).run(), &[]);
        }
        if kind() == crate::harness::Sandcrab {
            for id in ["empty", "garbage"] {
                runtime(world, ["delete", "--force", id]).ok();
                assert!(!world.path("state").join(id).exists(), "{id}");
            }
        }
        assert_eq!(container.status(), "running");
    }

    /// A container that runs is not lost because its record was damaged: `--force` refuses.
    fn damaged_record(world) as [root] {
        if differs(world, &[(Runc, "keeps its state in a form of its own"), (Crun, "keeps its state in a form of its own")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let record = world.path(format!("state/{}/state.json", container.id));
        let whole = std::fs::read(&record).unwrap();
        std::fs::write(&record, "{").unwrap();
        assert_error(runtime(world, ["delete", "--force", container.id.as_str()]).run(), &["not empty"]);
        std::fs::write(&record, whole).unwrap();
        assert_eq!(container.status(), "running");
    }

    /// Another process with the number of a container's is not the container.
    fn recycled_pid(world) as [root, subids, plain] {
        if differs(world, &[(Runc, "keeps its state in a form of its own"), (Crun, "keeps its state in a form of its own")]) {
            return;
        }
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        container.wait_for("ready");
        let pid = container.pid();
        container.kill("KILL");
        reap(pid);
        // Every record that has the number gets that of a process which lives.
        let mut victim = world.command("sleep").arg("60").spawn();
        let mut changed = 0;
        for entry in std::fs::read_dir(world.path("state").join(&container.id)).unwrap().flatten() {
            // A pipe would be waited for.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            let Ok(mut json) = serde_json::from_str::<Value>(&text) else { continue };
            if json["init"]["pid"] == pid {
                json["init"]["pid"] = json!(victim.pid());
                std::fs::write(entry.path(), json.to_string()).unwrap();
                changed += 1;
            }
        }
        assert!(changed > 0, "no record has the process id");
        assert_eq!(container.status(), "stopped");
        container.verb(&["kill"]).run().exits(1);
        container.verb(&["delete", "--force"]).ok();
        assert!(victim.is_running(), "a stranger was killed");
    }

    /// A state directory that can't be written, and no space for it.
    fn state_not_writable(world) as [subids, plain] {
        let bundle = Bundle::new(world);
        bundle.save();
        let output = world.command(crate::harness::program()).args(["--root", "/proc/no/such", "run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).run();
        assert_error(output, &["/proc/no", "no such file", "permission denied"]);
        let output = world.command(crate::harness::program()).args(["--root", "/etc/sandcrab-state", "run", "--bundle"]).arg(bundle.path("")).arg(bundle.id()).run();
        assert_error(output, &["/etc/sandcrab-state", "permission denied"]);
    }

    /// A full disk under the state directory: an error, no process.
    fn state_disk_full(world) as [root] {
        if differs(world, &[(Runc, "leaves the directory"), (Crun, "has no limit here")]) {
            return;
        }
        let disk = support::world::SmallDisk::mount(world, "state", 1).unwrap();
        let fill = std::fs::write(world.path("state/fill"), vec![0_u8; 4 << 20]);
        assert!(fill.is_err(), "the disk is not small");
        let bundle = Bundle::with_script(world, SLEEP);
        let output = bundle.container().create(&[]);
        assert_error(output, &["no space"]);
        assert!(world.processes_with(bundle.id()).is_empty());
        drop(disk);
    }

    /// Errors don't take long: nothing waits for what can't come.
    fn quick_errors(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.args(&["/no/such/program"]);
        let begun = Instant::now();
        for _ in 0..3 {
            assert_error(bundle.run(), &[]);
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    /// A subreaper above, or a parent that dies at once, changes nothing.
    fn orphaned(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "sleep 0.1; echo survived");
        bundle.save();
        // The shell ends before the container does.
        let container = bundle.container();
        let script = "\"$@\" & exit 0";
        let command = world.command("sh").args(["-c", script, "sh"]).arg(crate::harness::program());
        let command = if kind() == Crun && world.user != User::Root { command.arg("--cgroup-manager=disabled") } else { command };
        let command = command.arg("--root").arg(world.path("state")).args(["run", "-d", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
        container.leaving(command).success();
        eventually("it is there", || container.verb(&["state"]).run().code == Some(0));
        container.wait_for("survived");
    }

    /// Large documents, many mounts, long arguments.
    fn large_configuration(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        for number in 0..100 {
            bundle.mount("bind", source.to_str().unwrap(), &format!("/many/{number}"), &["bind"]);
        }
        let long = "x".repeat(100_000);
        bundle.set("/process/env", json!(["PATH=/bin", format!("LONG={long}")]));
        bundle.set("/annotations", json!({"long": long}));
        bundle.script("grep -c ' /many/' /proc/self/mountinfo; echo ${#LONG}");
        assert_eq!(bundle.lines(), ["100", "100000"]);
    }
}
