//! Attacks by way of where things are mounted.

use std::os::unix::fs::symlink;

use serde_json::json;
use support::{World, for_users};

use crate::attempt::{Attempt, always_fails, fails};
use crate::harness::Bundle;
use crate::race::while_exchanged;

/// Makes a bundle with a directory `vol` and a link `link` in its root, which leads to a directory
/// of the host.
fn with_link(world: &World) -> (Bundle<'_>, std::path::PathBuf) {
    let bundle = Bundle::new(world);
    bundle.make_dir("rootfs/vol");
    let outside = bundle.make_dir("outside");
    symlink(&outside, bundle.inside("link")).expect("link");
    (bundle, outside)
}

fn is_empty(directory: &std::path::Path) -> bool {
    std::fs::read_dir(directory).expect("list").next().is_none()
}

/// Tries whether a container with this change of its bundle comes to run.
fn runs(attempt: Attempt<'_>, change: impl FnOnce(&mut Bundle<'_>)) -> bool {
    let mut bundle = Bundle::new(attempt.world);
    change(&mut bundle);
    attempt.run(&bundle).code == Some(0)
}

for_users! {
    /// CVE-2021-30465 of runc in its plain form: a destination leads out by a link.
    fn destination_leads_out(world) as [root, subids, plain] {
        fails(world, "Root", |attempt| {
            let (mut bundle, outside) = with_link(world);
            bundle.mount("tmpfs", "tmpfs", "/link/made", &[]);
            attempt.run(&bundle);
            !is_empty(&outside)
        });
    }

    /// The same for the source of a bind mount that a bundle has in its root: relative sources
    /// are the bundle's, destinations that are files are made (buildah's CVE-2024-1753 in kind).
    fn file_is_made_outside(world) as [root, subids, plain] {
        fails(world, "Root", |attempt| {
            let (mut bundle, outside) = with_link(world);
            bundle.write("file", "x");
            bundle.mount("bind", "file", "/link/made", &["bind"]);
            attempt.run(&bundle);
            !is_empty(&outside)
        });
    }

    /// The same for the working directory, which is made where it is missing.
    fn working_directory_is_made_outside(world) as [root, subids, plain] {
        fails(world, "Root", |attempt| {
            let (mut bundle, outside) = with_link(world);
            bundle.set("/process/cwd", json!("/link/made"));
            attempt.run(&bundle);
            !is_empty(&outside)
        });
    }

    /// CVE-2024-45310 of runc: a directory is exchanged for a link while what is missing in it is
    /// made.
    fn made_outside_by_a_race(world) as [root, subids, plain] {
        always_fails(world, "Root", |attempt| {
            let (mut bundle, outside) = with_link(world);
            bundle.mount("tmpfs", "tmpfs", "/vol/a/b/c", &[]);
            while_exchanged(&bundle.inside("vol"), &bundle.inside("link"), || attempt.run(&bundle));
            !is_empty(&outside)
        });
    }

    /// CVE-2021-30465 of runc: a destination is exchanged for a link between the look at it and
    /// the mount. What should be in the container is mounted on the host's files then.
    fn mounted_outside_by_a_race(world) as [root, subids, plain] {
        always_fails(world, "Target", |attempt| {
            let (mut bundle, _) = with_link(world);
            for number in 0..20 {
                bundle.mount("tmpfs", &format!("marked{number}"), "/vol", &["size=4k"]);
            }
            bundle.script("grep -c marked /proc/self/mountinfo");
            let output = while_exchanged(&bundle.inside("vol"), &bundle.inside("link"), || {
                attempt.run(&bundle)
            });
            // A mount on a link that leads nowhere inside is an error, and no escape.
            output.code == Some(0) && output.text() != "20\n"
        });
    }

    /// CVE-2019-16884 of runc: something else than proc on `/proc`, so that labels are written to
    /// files of the image's.
    fn something_else_on_proc(world) as [root, subids, plain] {
        fails(world, "OverProc", |attempt| runs(attempt, |bundle| {
            bundle.mount("tmpfs", "tmpfs", "/proc", &[]);
        }));
        fails(world, "OverProc", |attempt| runs(attempt, |bundle| {
            let fake = bundle.make_dir("rootfs/fake");
            bundle.mount("bind", fake.to_str().unwrap(), "/proc", &["bind"]);
        }));
    }

    /// The same beneath `/proc`, also by a link of the image's (CVE-2025-52881 of runc).
    fn something_else_in_proc(world) as [root, subids, plain] {
        for destination in ["/proc/self/attr", "/proc/sys/kernel", "/to-proc/sys", "/x/../proc/fs"] {
            fails(world, "OverProc", |attempt| runs(attempt, |bundle| {
                symlink("proc", bundle.inside("to-proc")).unwrap();
                bundle.mount("tmpfs", "tmpfs", destination, &[]);
            }));
        }
    }

    /// CVE-2019-19921, CVE-2023-27561 and CVE-2023-28642 of runc: the root's `/proc` is a link, so
    /// that proc lies elsewhere, and what is masked or written to is the image's.
    fn proc_is_a_link(world) as [root, subids, plain] {
        fails(world, "OverProc", |attempt| runs(attempt, |bundle| {
            std::fs::remove_dir(bundle.inside("proc")).unwrap();
            bundle.make_dir("rootfs/elsewhere");
            symlink("elsewhere", bundle.inside("proc")).unwrap();
        }));
    }

    /// The same for `/sys`.
    fn sys_is_a_link(world) as [root, subids, plain] {
        fails(world, "OverProc", |attempt| runs(attempt, |bundle| {
            std::fs::remove_dir(bundle.inside("sys")).unwrap();
            bundle.make_dir("rootfs/elsewhere");
            symlink("elsewhere", bundle.inside("sys")).unwrap();
        }));
    }

    /// CVE-2025-31133 of runc in kind: who shares the root exchanges `/proc` for something else, so
    /// that what is to be hidden in it seems not to be there.
    fn masks_go_astray_by_a_race(world) as [root, subids, plain] {
        always_fails(world, "Place", |attempt| {
            let mut bundle = Bundle::new(world);
            bundle.make_dir("rootfs/other");
            bundle.set("/linux/maskedPaths", json!(["/proc/uptime"]));
            bundle.script(
                "m=; while [ -z \"$m\" ]; do \
                 m=$(cat /proc/self/mountinfo || cat /other/self/mountinfo); done 2>/dev/null; \
                 echo \"$m\" | grep -c uptime; true",
            );
            let output = while_exchanged(&bundle.inside("proc"), &bundle.inside("other"), || {
                attempt.run(&bundle)
            });
            output.code == Some(0) && output.text() != "1\n"
        });
    }

    /// The way back to the host's root: what was stacked on `/`, and the classic way out of a
    /// second chroot(2).
    fn host_root_is_gone(world) as [root, subids, plain] {
        let secret = world.write("secret", "s3cr3t");
        for flags in [&["run"][..], &["run", "--no-pivot"]] {
            fails(world, "OldRoot", |attempt| {
                let (secret, up) = (secret.display(), "/..".repeat(20));
                let mut bundle = Bundle::with_script(world, &format!(
                    "exec 3</; cat /..{secret}; chroot /sub /busybox cat /proc/self/fd/3{up}{secret}; true"
                ));
                bundle.make_dir("rootfs/sub");
                std::fs::hard_link(bundle.inside("bin/busybox"), bundle.inside("sub/busybox")).unwrap();
                bundle.mount("proc", "proc", "/sub/proc", &[]);
                let output = attempt.run_by(&bundle, attempt.command(flags)).success();
                output.text().contains("s3cr3t")
            });
        }
    }

    /// CVE-2025-31133 of runc: the container's `/dev/null` is a link, and what it leads to would be
    /// put over masked files.
    fn mask_is_a_link(world) as [root, subids, plain] {
        fails(world, "Masks", |attempt| {
            let mut bundle = Bundle::new(world);
            for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle.without_mount(path);
            }
            let dev = bundle.make_dir("dev");
            symlink("/proc/sys/kernel/hostname", dev.join("null")).unwrap();
            bundle.mount("bind", dev.to_str().unwrap(), "/dev", &["bind"]);
            bundle.set("/linux/maskedPaths", json!(["/proc/uptime"]));
            bundle.script("cat /proc/uptime");
            let output = attempt.run(&bundle).success();
            output.text() == "tested\n"
        });
    }

    /// CVE-2025-52565 of runc: `/dev/console` is a link, so that the terminal would be mounted on
    /// what the image wants, before that is masked.
    fn console_is_a_link(world) as [root, subids, plain] {
        fails(world, "Console", |attempt| {
            let mut bundle = Bundle::with_script(world, "sleep 60");
            let dev = bundle.make_dir("dev");
            symlink("../etc/group", dev.join("console")).unwrap();
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            let place = mounts.iter().position(|mount| mount["destination"] == "/dev").unwrap();
            mounts[place] = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]});
            bundle.set("/process/terminal", json!(true));
            let socket = crate::harness::ConsoleSocket::new(world, "tty");
            let (container, output) = attempt.create(&bundle, &["--console-socket", socket.argument()]);
            if output.code != Some(0) {
                assert!(output.stderr.contains("neither a file nor a device"), "{}", output.all());
                return false;
            }
            let _terminal = socket.terminal();
            container.start();
            container.sh("test ! -c /etc/group || echo moved") == "moved\n"
        });
    }

    /// CVE-2023-25809 of runc: without a network namespace of its own a container gets the host's
    /// `/sys`, with control groups in it that would be writable.
    fn control_groups_of_the_host(world) as [subids, plain] {
        fails(world, "StandIn", |attempt| {
            let mut bundle = Bundle::with_script(world, "grep ' /sys/' /proc/self/mountinfo");
            bundle.namespace("network", None);
            let output = attempt.run(&bundle);
            let text = output.success().text();
            let options = |line: &str| line.split(' ').nth(5).unwrap().to_owned();
            assert!(text.contains("cgroup"), "{text}");
            text.lines().any(|line| options(line).starts_with("rw"))
        });
    }
}
