use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use runtime::identity::{self, Choice};
use runtime::rootfs::{overlay, skeleton};
use runtime::sandbox::{self, Network, Plan};
use runtime::spawner::{Request, Spawner};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Op {
    Rootfs(PathBuf),
    Run {
        base: PathBuf,
        dir: PathBuf,
        argv: Vec<String>,
        none: bool,
    },
}

fn handle(request: Request) -> Vec<u8> {
    let op: Op = serde_json::from_slice(&request.body).expect("op");
    let result: Result<String, runtime::Error> = match op {
        Op::Rootfs(dir) => make_rootfs(&dir, &request),
        Op::Run {
            base,
            dir,
            argv,
            none,
        } => run(&base, &dir, argv, none, request),
    };
    serde_json::to_vec(&result).expect("reply")
}

fn make_rootfs(dir: &Path, request: &Request) -> Result<String, runtime::Error> {
    let bin = dir.join("base/bin");
    std::fs::create_dir_all(&bin).expect("mkdir");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("copy");
    for name in [
        "sh", "cat", "id", "ls", "true", "ip", "ps", "mount", "umount", "sleep", "kill",
        "hostname", "env",
    ] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).expect("link");
    }
    skeleton::create(&dir.join("skeleton"), request.ids)?;
    let root = request.ids.to_executor(0);
    for p in [dir.join("base"), bin.clone(), bin.join("busybox")] {
        std::os::unix::fs::chown(&p, root, root).expect("chown");
    }
    Ok(String::new())
}

fn run(
    base: &Path,
    dir: &Path,
    argv: Vec<String>,
    none: bool,
    request: Request,
) -> Result<String, runtime::Error> {
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    std::fs::create_dir_all(&upper).expect("mkdir");
    std::fs::create_dir_all(&work).expect("mkdir");
    let root = request.ids.to_executor(0);
    std::os::unix::fs::chown(&upper, root, root).expect("chown");
    let rootfs = overlay::mount(
        &[base.join("base"), base.join("skeleton")],
        Some((&upper, &work)),
    )?;
    let mut fds = request.fds.into_iter();
    let c = |s: &str| CString::new(s).expect("c");
    let t = Instant::now();
    let exit = sandbox::run(Plan {
        rootfs,
        argv: argv.iter().map(|s| c(s)).collect(),
        env: vec![c("PATH=/bin"), c("A=b")],
        cwd: c("/"),
        uid: 0,
        gid: 0,
        groups: vec![],
        hostname: "box".into(),
        network: if none { Network::None } else { Network::Host },
        ids: request.ids,
        identity: request.identity,
        files: vec![("/etc/resolv.conf".into(), "/etc/resolv.conf".into())],
        stdin: None,
        stdout: fds.next(),
        stderr: fds.next(),
        terminal: false,
    })?;
    Ok(format!("{exit:?} {:?}", t.elapsed()))
}

fn main() {
    let spawner = Spawner::start(handle).expect("start");
    let choice = match std::env::args().nth(1).as_deref() {
        Some("single") => Choice::Single,
        Some("host") => Choice::Host,
        _ => Choice::Auto,
    };
    let plan = identity::detect(choice).expect("detect");
    println!("{} {:?}", plan.reason, plan.advice);
    spawner.configure(&plan).expect("configure");
    let dir = tempfile::tempdir().expect("tmp");
    let call = |op: &Op, fds: &[std::os::fd::BorrowedFd<'_>]| -> Result<String, runtime::Error> {
        let t = Instant::now();
        let reply = spawner
            .submit(&serde_json::to_vec(op).expect("json"), fds)?
            .wait()?;
        println!("  job took {:?}", t.elapsed());
        serde_json::from_slice(&reply).expect("reply")
    };
    println!("{:?}", call(&Op::Rootfs(dir.path().into()), &[]));
    let scripts = std::env::args().skip(2).collect::<Vec<_>>();
    for (n, script) in scripts.iter().enumerate() {
        for none in [false, true] {
            let (mut r, w) = std::io::pipe().expect("pipe");
            let w: OwnedFd = w.into();
            let result = call(
                &Op::Run {
                    base: dir.path().into(),
                    dir: dir.path().join(format!("{n}{none}")),
                    argv: vec!["sh".into(), "-c".into(), script.clone()],
                    none,
                },
                &[w.as_fd(), w.as_fd()],
            );
            drop(w);
            let mut out = String::new();
            r.read_to_string(&mut out).expect("read");
            println!("{result:?}\n{out}");
        }
    }
}
