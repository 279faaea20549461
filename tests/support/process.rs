//! Running a program as some user, and what came of it.
//!
//! Responsible for a clean environment, captured output, deadlines, and for ending a whole process
//! group. Must not know what the programs do. Invariant: a program that was started here is gone
//! when its [`Running`] is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::terminal::Terminal;
use crate::user::Account;

/// A program with its arguments, to be run as an account.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    stdin: Vec<u8>,
    timeout: Duration,
    shown: String,
}

impl Command {
    /// Makes a command with nothing in its environment but a path.
    pub fn new(program: impl AsRef<OsStr>, account: &Account) -> Self {
        let program = program.as_ref();
        let mut inner = std::process::Command::new(program);
        inner
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .process_group(0);
        if account.uid != rustix::process::geteuid().as_raw() {
            // As root this drops the supplementary groups, too.
            inner.uid(account.uid).gid(account.gid);
        }
        Self {
            inner,
            stdin: Vec::new(),
            timeout: Duration::from_secs(240),
            shown: program.to_string_lossy().into_owned(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&argument.as_ref().to_string_lossy());
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.inner.current_dir(directory);
        self
    }

    /// Sets what it reads on standard input; nothing otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets how long it may take before it is killed; four minutes otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn(mut self) -> Running {
        self.inner.stderr(Stdio::piped());
        self.start(None)
    }

    /// Starts it with standard error on a terminal, whose name it gets as `xterm`.
    ///
    /// # Panics
    /// When it can't be started, or the terminal was used before.
    pub fn spawn_on(mut self, terminal: &mut Terminal) -> Running {
        self.inner.stderr(terminal.user()).env("TERM", "xterm");
        self.start(Some(terminal))
    }

    fn start(mut self, terminal: Option<&Terminal>) -> Running {
        self.inner.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = self
            .inner
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", self.shown));
        let mut input = child.stdin.take().expect("stdin is a pipe");
        let bytes = self.stdin;
        // A program may end without reading all; that is its right.
        std::thread::spawn(move || drop(input.write_all(&bytes)));
        let stdout = collect(child.stdout.take().expect("stdout is a pipe"));
        let stderr = match terminal {
            Some(terminal) => collect(terminal.seen()),
            None => collect(child.stderr.take().expect("stderr is a pipe")),
        };
        Running {
            child,
            stdout,
            stderr,
            started,
            deadline: started + self.timeout,
            shown: self.shown,
            ended: false,
        }
    }

    /// Runs it to its end; `None` where there is no such program.
    pub fn try_run(self) -> Option<Output> {
        find(&self.inner.get_program().to_string_lossy())?;
        Some(self.run())
    }

    /// Runs it to its end with its output in files, for a program that leaves processes behind
    /// which go on to write. Nothing is on its standard input.
    ///
    /// # Panics
    /// When it can't be started, or takes too long.
    pub fn run_into(mut self, stdout: &Path, stderr: &Path) -> Output {
        let [out, err] = [stdout, stderr].map(|path| {
            File::create(path).unwrap_or_else(|error| panic!("make `{}`: {error}", path.display()))
        });
        self.inner.stdin(Stdio::null()).stdout(out).stderr(err);
        let started = Instant::now();
        let mut child = self
            .inner
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", self.shown));
        let shown = self.shown;
        let read = |path: &Path| std::fs::read(path).unwrap_or_default();
        let ended = wait_until(&child, started + self.timeout);
        if !ended {
            kill_process_group(Pid::from_child(&child), Signal::KILL).ok();
        }
        let status = child.wait().expect("wait");
        let output = Output {
            code: status.code(),
            signal: status.signal(),
            stdout: read(stdout),
            stderr: String::from_utf8_lossy(&read(stderr)).into_owned(),
            elapsed: started.elapsed(),
            shown,
        };
        assert!(ended, "{} took too long:\n{}", output.shown, output.all());
        output
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Runs it and expects exit code 0.
    ///
    /// # Panics
    /// Otherwise, with all that it printed.
    #[track_caller]
    pub fn ok(self) -> Output {
        self.run().success()
    }
}

/// Waits for a child's end, and returns whether it came in time.
fn wait_until(child: &Child, deadline: Instant) -> bool {
    // A descriptor wakes us at once; measurements must not be rounded up to a polling interval.
    let handle =
        pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("it was not waited for yet");
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).expect("minutes are not too many");
    poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left)).expect("poll a process") > 0
}

type Collected = (Arc<Mutex<Vec<u8>>>, JoinHandle<()>);

fn collect(mut pipe: impl Read + Send + 'static) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            shared
                .lock()
                .expect("no reader panics")
                .extend_from_slice(&buffer[..count]);
        }
    });
    (bytes, reader)
}

/// A program that was started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    started: Instant,
    deadline: Instant,
    shown: String,
    ended: bool,
}

impl Running {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Sends a signal to it alone, as `kill` does.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it was not waited for yet");
    }

    /// Sends a signal to its process group, as a terminal does on Ctrl-C.
    pub fn signal_group(&self, signal: Signal) {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, signal).expect("it was not waited for yet");
    }

    /// Waits until what it has printed contains `text`.
    ///
    /// # Panics
    /// When it ends, or its deadline passes, before that.
    pub fn wait_for(&mut self, text: &str) {
        loop {
            let ended = self.child.try_wait().expect("wait").is_some();
            let printed = self.printed();
            if printed.contains(text) {
                return;
            }
            let late = Instant::now() > self.deadline;
            assert!(
                !ended && !late,
                "{} never printed {text:?}:\n{printed}",
                self.shown
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn printed(&self) -> String {
        let mut printed = String::new();
        for (bytes, _) in [&self.stdout, &self.stderr] {
            printed.push_str(&String::from_utf8_lossy(
                &bytes.lock().expect("no reader panics"),
            ));
        }
        printed
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When its deadline passes; it is killed then.
    pub fn wait(mut self) -> Output {
        wait_until(&self.child, self.deadline);
        let Some(status) = self.child.try_wait().expect("wait") else {
            self.kill_group();
            panic!("{} took too long:\n{}", self.shown, self.printed());
        };
        let elapsed = self.started.elapsed();
        self.ended = true;
        // What it left behind in its group would keep the pipes open.
        self.kill_group();
        let [stdout, stderr] = [&mut self.stdout, &mut self.stderr].map(|(bytes, reader)| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !reader.is_finished() {
                assert!(
                    Instant::now() < deadline,
                    "{} left a process with its output",
                    self.shown
                );
                std::thread::sleep(Duration::from_millis(1));
            }
            std::mem::take(&mut *bytes.lock().expect("no reader panics"))
        });
        Output {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            elapsed,
            shown: self.shown.clone(),
        }
    }

    fn kill_group(&self) {
        // Gone already is as good.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.kill_group();
            drop(self.child.wait());
        }
    }
}

/// What came of a program.
#[derive(Debug)]
pub struct Output {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error; broken UTF-8 replaced.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
    shown: String,
}

impl Output {
    /// Returns standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns everything that it printed.
    pub fn all(&self) -> String {
        format!("{}{}", self.text(), self.stderr)
    }

    /// Expects exit code 0.
    ///
    /// # Panics
    /// Otherwise, with all that it printed.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Expects this exit code.
    ///
    /// # Panics
    /// Otherwise, with all that it printed.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "{}\nended with {:?}, signal {:?}, not with {code}:\n{}",
            self.shown,
            self.code,
            self.signal,
            self.all()
        );
        self
    }

    /// Expects each of these on standard error.
    ///
    /// # Panics
    /// Otherwise, with all that it printed.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "{}\ndoes not say {text:?}:\n{}",
                self.shown,
                self.all()
            );
        }
        self
    }

    /// Expects none of these in anything that it printed.
    ///
    /// # Panics
    /// Otherwise, with all that it printed.
    #[track_caller]
    pub fn never_says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                !self.all().contains(text),
                "{}\nsays {text:?}:\n{}",
                self.shown,
                self.all()
            );
        }
        self
    }
}

/// Finds a program on the path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
