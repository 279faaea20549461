//! Terminals.

use std::os::fd::AsFd;

use serde_json::json;
use support::{User, for_users};

use super::SLEEP;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, ConsoleSocket, Crun, assert_error, differs, program, reap};

for_users! {
    /// A terminal over the console socket: its name, the descriptor, what is typed and printed.
    fn console_socket(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.script("tty; test -t 0 -a -t 1 -a -t 2 && echo all; stty size; read x; echo \"got $x\"; ls -l /dev/console; exit 4");
        bundle.set("/process/consoleSize", json!({"height": 33, "width": 77}));
        let socket = ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        let pid = container.pid();
        container.start();
        terminal.wait_for("33 77");
        assert!(terminal.text.contains("/dev/pts/0") || terminal.text.contains("/dev/console"), "{}", terminal.text);
        assert!(terminal.text.contains("all"), "{}", terminal.text);
        terminal.type_in("hello\n");
        terminal.wait_for("got hello");
        terminal.read_all();
        assert_eq!(reap(pid), 4);
        assert!(container.stdout().is_empty());
    }

    /// The payload beside the console's descriptor is a name.
    fn console_payload(world) as [root, plain] {
        let mut bundle = Bundle::with_script(world, SLEEP);
        bundle.set("/process/terminal", json!(true));
        let socket = ConsoleSocket::new(world, "console");
        let _container = bundle.create_with(&["--console-socket", socket.argument()]);
        let (bytes, descriptor) = socket.receive();
        assert!(!bytes.is_empty() && bytes.len() < 4096, "{bytes:?}");
        assert!(rustix::termios::isatty(descriptor.as_fd()));
    }

    /// A terminal resized from outside tells the program; Ctrl-C interrupts it.
    fn console_signals(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.script("trap 'stty size' WINCH; trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done");
        let socket = ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        let pid = container.pid();
        container.start();
        terminal.wait_for("ready");
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal.master(), size).unwrap();
        terminal.wait_for("40 120");
        terminal.type_in("\u{3}");
        terminal.wait_for("interrupted");
        assert_eq!(reap(pid), 8);
    }

    /// The terminal belongs to the program's user.
    fn console_owner(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        bundle.script("stat -c %u $(readlink /proc/self/fd/0); echo x >$(tty) && echo opened");
        let socket = ConsoleSocket::new(world, "console");
        let container = bundle.create_with(&["--console-socket", socket.argument()]);
        let mut terminal = socket.terminal();
        container.start();
        terminal.wait_for("opened");
        assert!(terminal.text.starts_with("1000"), "{}", terminal.text);
    }

    /// `exec --tty` with a console socket.
    fn exec_console_socket(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, SLEEP);
        let container = bundle.start();
        let socket = ConsoleSocket::new(world, "console");
        let pid_file = bundle.path("pid");
        let flags = ["--tty", "--detach", "--console-socket", socket.argument(), "--pid-file", pid_file.to_str().unwrap()];
        container.leaving(container.exec(&flags, &["sh", "-c", "tty; read x; echo got $x; exit 5"])).success();
        let mut terminal = socket.terminal();
        terminal.type_in("word\n");
        terminal.wait_for("got word");
        let pid = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
        assert_eq!(reap(pid), 5);
    }

    /// `run` in the foreground with a terminal: on a terminal, everything passes.
    fn foreground_terminal(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        bundle.script("tty; test -t 0 && echo terminal; exit 6").save();
        let command = format!(
            "{} {} --root {} run --bundle {} {}",
            program().display(),
            if kind() == Crun && world.user != User::Root { "--cgroup-manager=disabled" } else { "" },
            world.path("state").display(), bundle.path("").display(), bundle.id()
        );
        let output = crate::harness::terminal::on_terminal(world, &command).run().exits(6);
        assert!(output.text().contains("terminal\r\n"), "{:?}", output.text());
        let container = bundle.set("/process/terminal", json!(false)).script(SLEEP).start();
        let command = format!(
            "{} --root {} exec --tty {} sh -c 'test -t 1 && echo terminal; exit 7'",
            program().display(), world.path("state").display(), container.id
        );
        if kind() == Crun {
            return;
        }
        let output = crate::harness::terminal::on_terminal(world, &command).run().exits(7);
        assert!(output.text().contains("terminal\r\n"), "{:?}", output.text());
    }

    /// What doesn't go together with a terminal.
    fn terminal_and_detach(world) as [root, subids, plain] {
        let mut bundle = Bundle::new(world);
        bundle.set("/process/terminal", json!(true));
        assert_error(bundle.container().create(&[]), &["console", "terminal", "tty"]);
        assert_error(bundle.container().leaving(bundle.run_with(&["-d"])), &["console", "terminal", "tty"]);
        assert_error(bundle.container().create(&["--console-socket", "/no/such/socket"]), &["/no/such/socket", "no such file", "console"]);
        bundle.set("/process/terminal", json!(false));
        if differs(world, &[(Crun, "ignores the socket")]) {
            return;
        }
        let socket = ConsoleSocket::new(world, "console");
        assert_error(bundle.container().create(&["--console-socket", socket.argument()]), &["console"]);
    }
}
