//! Root file systems that were made to harm whoever uses them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::for_users;

use crate::attempt::fails;
use crate::harness::Bundle;

/// Makes a named pipe in a bundle.
pub(crate) fn make_fifo(bundle: &Bundle<'_>, relative: &str) {
    let path = bundle.path(relative);
    std::fs::remove_file(&path).ok();
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("make a pipe");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("chmod");
}

for_users! {
    /// Invariant 1 of the boundary, buildah's CVE-2024-9675 and -9676 in kind: the root's `/dev`
    /// leads to a directory of the host, where devices and links would be made.
    fn dev_leads_out(world) as [root, subids, plain] {
        fails(world, "Root", |attempt| {
            let mut bundle = Bundle::new(world);
            for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle.without_mount(path);
            }
            let outside = bundle.make_dir("outside");
            std::fs::remove_dir(bundle.inside("dev")).expect("remove dev");
            std::os::unix::fs::symlink(&outside, bundle.inside("dev")).expect("link");
            attempt.run(&bundle);
            std::fs::read_dir(&outside).expect("list").count() > 0
        });
    }

    /// The root's `/dev/null` is a hard link to a file of the host, which would get the device's
    /// mode.
    fn device_is_a_hard_link(world) as [root] {
        fails(world, "Nodes", |attempt| {
            let mut bundle = Bundle::new(world);
            for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle.without_mount(path);
            }
            let secret = bundle.write("secret", "s3cr3t");
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            std::fs::hard_link(&secret, bundle.inside("dev/null")).expect("link");
            attempt.run(&bundle);
            let found = std::fs::metadata(&secret).expect("stat");
            found.mode() & 0o7777 != 0o600
        });
    }

    /// The root's `/etc/passwd` is a pipe, for which the runtime would wait.
    fn users_are_a_pipe(world) as [root, subids, plain] {
        fails(world, "Users", |attempt| {
            let bundle = Bundle::new(world);
            make_fifo(&bundle, "rootfs/etc/passwd");
            let command = attempt.command_after("exec timeout -s KILL 5 \"$@\"", &["run"]);
            let output = attempt.run_by(&bundle, command);
            bundle.container().verb(&["delete", "--force"]).run();
            // What is killed with the container's process not begun has not succeeded.
            output.code != Some(0)
        });
    }

    /// Directories that nobody may read, and names that are no text: they are no matter.
    fn unreadable_directories(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let locked = bundle.make_dir("rootfs/locked");
        bundle.mount("tmpfs", "tmpfs", "/locked/\u{fffd} \n", &["size=4k"]);
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).expect("chmod");
        let output = bundle.run();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        // Whose capabilities reach there may do so; a panic is no answer.
        assert!(matches!(output.code, Some(0 | 1)), "{}", output.all());
        assert!(!output.stderr.contains("panic"), "{}", output.all());
    }
}
