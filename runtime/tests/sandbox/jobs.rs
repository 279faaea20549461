//! What the cases let jobs do, and the bench that they do it on.
//!
//! Responsible for a small image, for the handler, and for collecting a run's output. Must not
//! judge results. Invariant: everything lies in a temporary directory that goes with the bench.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use runtime::identity::{self, Choice, EnterPlan, Identity};
use runtime::rootfs::files::ProvidedFile;
use runtime::rootfs::{overlay, skeleton};
use runtime::sandbox::{self, Exit, Network, Plan};
use runtime::spawner::{Job, Request, Spawner};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde::{Deserialize, Serialize};

pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// What is in the file that every run is provided with, `/etc/resolv.conf`.
pub(crate) const RESOLV: &str = "nameserver 192.0.2.1\n";

const APPLETS: [&str; 24] = [
    "cat", "chmod", "cp", "echo", "env", "grep", "hostname", "id", "ip", "kill", "ls", "mkdir",
    "mount", "rm", "sh", "sleep", "stat", "timeout", "touch", "true", "tty", "umount", "unshare",
    "wc",
];

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) no_network: bool,
    pub(crate) terminal: bool,
    /// Layers of the bench, topmost first; the skeleton is added.
    pub(crate) layers: Vec<String>,
}

impl Spec {
    pub(crate) fn new(argv: &[&str]) -> Self {
        Self {
            argv: argv.iter().map(|s| (*s).to_owned()).collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            no_network: false,
            terminal: false,
            layers: vec!["base".to_owned()],
        }
    }

    pub(crate) fn sh(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Image(PathBuf),
    Run(PathBuf, Spec),
    Layers(PathBuf, usize),
    /// Adds a layer with this program, set-user-id.
    Probe(PathBuf),
    Remove(PathBuf),
    Echo(Vec<u8>),
    Panic,
    Abort,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Ended {
        code: i32,
        upper: Vec<String>,
        resolv: Vec<Vec<u8>>,
    },
    Bytes(Vec<u8>),
    Refused(runtime::Error),
}

pub(crate) fn handle(mut request: Request) -> Vec<u8> {
    let body = std::mem::take(&mut request.body);
    let reply = match serde_json::from_slice(&body).expect("an operation") {
        Op::Image(dir) => image(&dir, &request).map(|()| Reply::Done),
        Op::Run(dir, spec) => run(&dir, &spec, request),
        Op::Layers(dir, count) => layers(&dir, count).map(|()| Reply::Done),
        Op::Probe(dir) => {
            let bin = dir.join("probe/bin");
            fs::create_dir_all(&bin).expect("mkdir");
            let program = std::env::current_exe().expect("own path");
            fs::copy(program, bin.join("probe")).expect("copy");
            own_all(&dir.join("probe"), request.ids.to_executor(0));
            let mode = fs::Permissions::from_mode(0o4755);
            fs::set_permissions(bin.join("probe"), mode).expect("chmod");
            Ok(Reply::Done)
        }
        Op::Remove(dir) => {
            remove(&dir);
            Ok(Reply::Done)
        }
        Op::Echo(bytes) => Ok(Reply::Bytes(bytes)),
        Op::Panic => panic!("as the case wants"),
        Op::Abort => std::process::abort(),
    };
    serde_json::to_vec(&reply.unwrap_or_else(Reply::Refused)).expect("a reply")
}

/// Makes the layers that cases use.
fn image(dir: &Path, request: &Request) -> Result<(), runtime::Error> {
    let bin = dir.join("base/bin");
    fs::create_dir_all(&bin).expect("mkdir");
    fs::copy(BUSYBOX, bin.join("busybox")).expect("copy");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("symlink");
    }
    fs::write(bin.join("data"), "no program").expect("write");
    fs::create_dir(dir.join("base/tmp")).expect("mkdir");
    for layer in ["dangling", "hiding"] {
        fs::create_dir_all(dir.join(layer).join("etc")).expect("mkdir");
    }
    symlink(
        "../run/nowhere/resolv.conf",
        dir.join("dangling/etc/resolv.conf"),
    )
    .expect("symlink");
    let whiteout = dir.join("hiding/etc/resolv.conf");
    mknodat(
        CWD,
        &whiteout,
        FileType::CharacterDevice,
        Mode::empty(),
        makedev(0, 0),
    )
    .expect("mknod");
    skeleton::create(&dir.join("skeleton"), request.ids)?;
    for layer in ["base", "dangling", "hiding"] {
        own_all(&dir.join(layer), request.ids.to_executor(0));
    }
    let sticky = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(dir.join("base/tmp"), sticky).expect("chmod");
    Ok(())
}

fn own_all(path: &Path, owner: Option<u32>) {
    std::os::unix::fs::lchown(path, owner, owner).expect("chown");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("read directory") {
            own_all(&entry.expect("an entry").path(), owner);
        }
    }
}

fn run(dir: &Path, spec: &Spec, request: Request) -> Result<Reply, runtime::Error> {
    let place = dir.join(format!("run-{}", std::process::id()));
    let (upper, work) = (place.join("upper"), place.join("work"));
    for path in [&upper, &work] {
        fs::create_dir_all(path).expect("mkdir");
    }
    let root = request.ids.to_executor(0);
    chown(&upper, root, root).expect("chown");
    let lowers: Vec<PathBuf> = spec
        .layers
        .iter()
        .map(String::as_str)
        .chain(["skeleton"])
        .map(|name| dir.join(name))
        .collect();
    let rootfs = overlay::mount(&lowers, Some((&upper, &work)))?;
    let c = |text: &String| CString::new(text.as_str()).expect("no zero byte");
    let mut fds = request.fds.into_iter();
    let mut next = || fds.next();
    let outcome = sandbox::run(Plan {
        rootfs,
        argv: spec.argv.iter().map(c).collect(),
        env: spec.env.iter().map(c).collect(),
        cwd: c(&spec.cwd),
        uid: spec.uid,
        gid: spec.gid,
        groups: spec.groups.clone(),
        hostname: "box".to_owned(),
        network: if spec.no_network {
            Network::None
        } else {
            Network::Host
        },
        ids: request.ids,
        identity: request.identity,
        files: vec![ProvidedFile {
            path: "/etc/resolv.conf".into(),
            content: RESOLV.into(),
        }],
        mounts: Vec::new(),
        stdin: if spec.terminal { next() } else { None },
        stdout: next(),
        stderr: next(),
        specials: runtime::identity::Specials::new(),
        devices: false,
        terminal: spec.terminal,
        confinement: sandbox::Confinement::default(),
        emulator: None,
    })?;
    Ok(Reply::Ended {
        code: match outcome.exit {
            Exit::Code(code) => i32::from(code),
            Exit::Signal(signal) => -signal,
        },
        upper: list(&upper, &upper),
        resolv: outcome.files,
    })
}

/// Lists a tree: path, and the modification time of directories.
fn list(root: &Path, dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).expect("read directory") {
        let path = entry.expect("an entry").path();
        out.push(
            path.strip_prefix(root)
                .expect("below")
                .display()
                .to_string(),
        );
        if path.is_dir() && !path.is_symlink() {
            out.extend(list(root, &path));
        }
    }
    out.sort();
    out
}

fn layers(dir: &Path, count: usize) -> Result<(), runtime::Error> {
    let lowers: Vec<PathBuf> = (0..count)
        .map(|n| {
            let layer = dir.join(format!("many/{count}/{n}"));
            fs::create_dir_all(&layer).expect("mkdir");
            fs::write(layer.join(format!("own{n}")), "").expect("write");
            layer
        })
        .collect();
    let fd = overlay::mount(&lowers, None)?;
    let root = runtime::path::Root::new(fd);
    for n in 0..count {
        root.stat(format!("own{n}"), false)
            .expect("a file of a layer");
    }
    Ok(())
}

/// A spawner with an image.
pub(crate) struct Bench {
    pub(crate) spawner: Option<Spawner>,
    pub(crate) plan: EnterPlan,
    dir: tempfile::TempDir,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) upper: Vec<String>,
    /// What is in the provided files, of which there is one.
    pub(crate) resolv: Vec<Vec<u8>>,
}

impl Bench {
    pub(crate) fn new(choice: Choice) -> Self {
        let plan = identity::detect(choice).expect("detect identity");
        let spawner = start(&plan);
        let dir = tempfile::tempdir().expect("temporary directory");
        // Jobs that act as container root must reach the layers.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path(), open).expect("chmod");
        let bench = Self {
            spawner: Some(spawner),
            plan,
            dir,
        };
        let reply = bench.ask(&Op::Image(bench.dir.path().to_path_buf()));
        assert!(matches!(reply, Reply::Done), "{reply:?}");
        bench
    }

    pub(crate) fn identity(&self) -> Identity {
        self.plan.identity
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn submit(&self, op: &Op, fds: &[BorrowedFd<'_>]) -> Job {
        let body = serde_json::to_vec(op).expect("a body");
        let spawner = self.spawner.as_ref().expect("a spawner");
        spawner.submit(&body, fds).expect("submit")
    }

    pub(crate) fn ask(&self, op: &Op) -> Reply {
        let bytes = self.submit(op, &[]).wait().expect("a reply");
        serde_json::from_slice(&bytes).expect("a reply")
    }

    /// Starts a run, whose output is read from the pipe.
    pub(crate) fn start(&self, spec: Spec) -> (Job, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let writer = OwnedFd::from(writer);
        let op = Op::Run(self.dir.path().to_path_buf(), spec);
        let job = self.submit(&op, &[writer.as_fd(), writer.as_fd()]);
        (job, reader)
    }

    /// Runs to the end. Output must fit a pipe.
    pub(crate) fn try_run(&self, spec: Spec) -> Result<Outcome, runtime::Error> {
        let (job, mut reader) = self.start(spec);
        let bytes = job.wait()?;
        let mut out = String::new();
        // Ends only when nothing of the container holds the other end.
        reader.read_to_string(&mut out).expect("output");
        match serde_json::from_slice(&bytes).expect("a reply") {
            Reply::Ended {
                code,
                upper,
                resolv,
            } => Ok(Outcome {
                code,
                out,
                upper,
                resolv,
            }),
            Reply::Refused(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn run(&self, spec: Spec) -> Outcome {
        self.try_run(spec).expect("a run")
    }

    /// Runs a script that must succeed and returns its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        let outcome = self.run(Spec::sh(script));
        assert_eq!(outcome.code, 0, "{}", outcome.out);
        outcome.out
    }

    /// Says whether the container has user ids beside root's.
    pub(crate) fn has_users(&self) -> bool {
        self.plan.ids.count > 2000
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What belongs to subordinate ids only a job may remove.
        if self.spawner.is_none() {
            self.spawner = Some(start(&self.plan));
        }
        let reply = self.ask(&Op::Remove(self.dir.path().to_path_buf()));
        assert!(matches!(reply, Reply::Done), "{reply:?}");
    }
}

/// Runs something endless on another bench's image, until this process is killed.
pub(crate) fn be_victim(dir: &Path) -> ! {
    let plan = fs::read(dir.join("plan.json")).expect("a plan");
    let spawner = start(&serde_json::from_slice(&plan).expect("a plan"));
    let spec = Spec::sh("echo ready; sleep 1000 & sleep 1000");
    let body = serde_json::to_vec(&Op::Run(dir.to_path_buf(), spec)).expect("a body");
    let out = std::io::stdout();
    let job = spawner
        .submit(&body, &[out.as_fd(), out.as_fd()])
        .expect("submit");
    panic!("the job ended: {:?}", job.wait());
}

fn start(plan: &EnterPlan) -> Spawner {
    let spawner = Spawner::start(handle).expect("start spawner");
    spawner.configure(plan).expect("configure");
    spawner
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).expect("read directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).expect("remove");
        } else {
            fs::remove_file(&path).expect("remove");
        }
    }
}
