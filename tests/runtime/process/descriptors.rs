//! Descriptors that the program is given, and sockets of service managers.

use std::os::unix::net::UnixDatagram;

use support::{World, for_users};

use super::{SLEEP, with_shell};
use crate::harness::bundle::runtime;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Sandcrab, assert_error, differs, reap};

for_users! {
    /// Nothing of the caller's descriptors reaches the program.
    fn descriptors(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.args(&["ls", "/proc/self/fd"]).save();
        let script = "exec 3</etc/passwd 5</etc/group 9</etc/hosts; exec \"$@\"";
        let path = bundle.path("");
        let id = bundle.id().to_owned();
        let command = with_shell(world, script).args(["run", "--bundle"]).arg(&path).arg(&id);
        // `ls` itself has the directory open.
        assert_eq!(command.ok().text().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        let container = bundle.script(SLEEP).start();
        let command = with_shell(world, script).args(["exec", &container.id, "ls", "/proc/self/fd"]);
        assert_eq!(command.ok().text().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }

    /// `--preserve-fds N` keeps N descriptors after the standard ones.
    fn preserve_fds(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let file = bundle.write("three", "the third\n");
        let script = format!("exec 3<{0} 4<{0} 5</etc/passwd; exec \"$@\"", file.display());
        bundle.script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '").save();
        let command = with_shell(world, &script).args(["run", "--preserve-fds", "2", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
        // Two readers of one file each have an offset of their own: it was opened twice.
        assert_eq!(command.ok().text(), "the third\nthe third\n0 1 2 3 4 5 ");
        let container = bundle.script(SLEEP).start();
        let command = with_shell(world, &script).args(["exec", "--preserve-fds=1", &container.id, "sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"]);
        if differs(world, &[(Crun, "has it for run and create only")]) {
            return;
        }
        assert_eq!(command.ok().text(), "the third\n5\n");
        let command = with_shell(world, "exec \"$@\"").args(["run", "--preserve-fds", "7", "--bundle"]).arg(bundle.path("")).arg("other");
        assert_error(command.run(), &[]);
    }

    /// LISTEN_FDS: the descriptors, and the variables as the program needs them.
    fn listen_fds(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        let file = bundle.write("three", "the third\n");
        let script = format!("exec 3<{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", file.display());
        bundle.script("cat <&3; echo $LISTEN_FDS $LISTEN_PID").save();
        let command = with_shell(world, &script).args(["run", "--bundle"]).arg(bundle.path("")).arg(bundle.id());
        let text = command.ok().text();
        // crun 1.8.1 leaves LISTEN_PID to the program.
        assert_eq!(text, if kind() == Crun { "the third\n1\n" } else { "the third\n1 1\n" });
    }

    /// NOTIFY_SOCKET: that the program is ready reaches the caller's socket, and nothing else.
    fn notify_socket(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 passed nothing on when tried on a hybrid host")]) {
            return;
        }
        let (path, socket) = manager(world);
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.script("echo $NOTIFY_SOCKET; probe notify $NOTIFY_SOCKET FDSTORE=1; probe notify $NOTIFY_SOCKET READY=1").save();
        let running = bundle.run_with(&[]).env("NOTIFY_SOCKET", &path).spawn();
        assert_eq!(hear(&socket).trim_end(), "READY=1");
        assert!(hear(&socket).starts_with("MAINPID="));
        let output = running.wait().success();
        assert!(output.text().starts_with("/run/notify/"), "{}", output.text());
    }

    /// NOTIFY_SOCKET: `start` returns when the program is ready, after the caller's end of the
    /// socket knows of it.
    fn notify_socket_of_start(world) as [root, subids, plain] {
        if differs(world, &[(Crun, "1.8.1 passed nothing on when tried on a hybrid host")]) {
            return;
        }
        let (path, socket) = manager(world);
        let mut bundle = Bundle::new(world);
        bundle.add_probe();
        bundle.args(&["/bin/sh", "-c", "sleep 1; probe notify $NOTIFY_SOCKET READY=1; sleep 100"]);
        let container = bundle.container();
        let create = runtime(world, ["create"]).env("NOTIFY_SOCKET", &path);
        container.create_by(create, &[]).success();
        let pid = container.pid();
        let mut starting = container.verb(&["start"]).env("NOTIFY_SOCKET", &path).spawn();
        assert_eq!(hear(&socket).trim_end(), "READY=1");
        assert_eq!(hear(&socket).trim_end(), format!("MAINPID={pid}"));
        // runc 1.1.5 waits for a second instead.
        if kind() == Sandcrab {
            assert!(starting.is_running(), "it waits for the barrier");
            assert_eq!(hear(&socket).trim_end(), "BARRIER=1");
        }
        starting.wait().success();
        container.kill("KILL");
        reap(pid);
        container.delete();
    }
}

/// A socket like a service manager's, sd_notify(3).
fn manager(world: &World) -> (std::path::PathBuf, UnixDatagram) {
    use std::os::unix::fs::PermissionsExt;
    let path = world.short_directory().join("notify");
    std::fs::remove_file(&path).ok();
    let socket = UnixDatagram::bind(&path).expect("bind");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let limit = std::time::Duration::from_secs(20);
    socket.set_read_timeout(Some(limit)).expect("set");
    (path, socket)
}

/// Waits for a message; descriptors that come with it are closed.
fn hear(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    loop {
        match socket.recv(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => {
                let count = other.expect("the message arrives");
                return String::from_utf8_lossy(&bytes[..count]).into_owned();
            }
        }
    }
}
