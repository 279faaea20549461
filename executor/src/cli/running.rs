//! Carries out `sandcrab run`: a command in an image, to try the result of a build.
//!
//! Responsible for joining the image's config with the command line, and for the command's
//! standard streams. Must not keep anything: what the command writes goes with it. Invariant: the
//! caller's own terminal is never handed to the container.

use std::os::fd::{AsFd, OwnedFd};

use runtime::sandbox::Confinement;

use super::building::MAX_LAYER;
use super::desk::{self, Desk};
use super::environment::Environment;
use super::exit::Failure;
use super::names::{Names, provided_files};
use super::run::{Args, Request};
use super::terminal::Terminal;
use super::{Global, registries, streams};
use crate::build::base::{Images, Loaded, PullPolicy};
use crate::build::fetch::Fetcher;
use crate::build::jobs::{Command, Reply, ShellTask, Staged, Task};
use crate::build::trees::Trees;
use crate::build::worker::Worker;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::config::ImageConfig;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::plan::step::Network;
use crate::progress::Mode;
use crate::store::images::short;
use crate::store::lock::Session;

/// The search path of an image that sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the command and returns its exit code.
pub(super) fn run(args: Args, global: &Global, environment: &Environment) -> Result<u8, Failure> {
    let settings = global.settings(environment, Some(args.registry()), None)?;
    let isolation = args.isolation();
    let request = args.request(environment, rustix::termios::isatty(std::io::stdin()))?;
    let mut desk = Desk::start(settings, isolation)?;
    let worker = desk.worker()?;
    let session = desk.store()?.session()?;
    session.check_attributes()?;
    let prepared = desk.show("Preparing", Mode::Quiet, environment, |progress| {
        let registry = registries::client(&desk.settings, environment, &desk.cancel);
        let images = Images::new(&session, &registry, progress, request.pull);
        let image = find(&session, &images, &request)?;
        let fetcher = Fetcher::new(&session, &registry, progress, &desk.cancel);
        let trees = Trees::new(&session, &worker, progress, &fetcher, MAX_LAYER);
        let lowers = trees.sandbox_lowers(&image.layers, &request.image)?;
        Ok((image, lowers))
    })?;
    let result = prepared.and_then(|(image, lowers)| {
        let staging = session.store().snapshots().staging(&session)?;
        let tree = Staged {
            lowers,
            staging: staging.dir().to_path_buf(),
            latest: None,
            without_user: false,
        };
        start(&request, &worker, &image.config, tree)
    });
    let cleared = desk::clear(&session, &worker);
    let code = result?;
    cleared?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Finds the image by name or id in the store, or pulls it.
fn find(session: &Session, images: &Images<'_>, request: &Request) -> Result<Loaded> {
    if request.pull != PullPolicy::Always {
        match session.store().images().get(&request.image) {
            Ok(image) => {
                if let Some(image) = images.take(image)? {
                    return Ok(image);
                }
            }
            Err(e) if e.get_kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let reference: Reference = request.image.parse()?;
    images.load(&reference, &Platform::host(), &(0..0))
}

fn start(request: &Request, worker: &Worker, config: &ImageConfig, tree: Staged) -> Result<i32> {
    let hostname = short(&crate::image::digest::Digest::of(
        tree.staging.as_os_str().as_encoded_bytes(),
    ));
    let task = Task::Shell(Box::new(ShellTask {
        tree,
        files: provided_files(&hostname, &Names::default()),
        command: command(request, config, hostname)?,
        terminal: request.tty,
    }));
    let reply = if request.tty {
        let (mut terminal, container) = Terminal::open()?;
        let mut ends = Some(container);
        std::thread::scope(|scope| {
            scope.spawn(|| terminal.carry());
            let fds: Vec<_> = ends.iter().flat_map(|end| [end.as_fd(); 3]).collect();
            let reply = worker.submit(&task, &fds);
            // The last open end on the container's side ends the carrying.
            drop(ends.take());
            reply
        })?
    } else {
        let stdin = if request.interactive {
            std::io::stdin().as_fd().try_clone_to_owned()
        } else {
            std::fs::File::open("/dev/null").map(OwnedFd::from)
        };
        let stdin = stdin.op("open standard input")?;
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        worker.submit(&task, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?
    };
    match reply {
        Reply::Exited(ended) => {
            for note in &ended.notes {
                streams::complain(&format!("warning: {note}\n"));
            }
            Ok(ended.code)
        }
        _ => Err(Error::new("unexpected reply to a command").kind(Kind::Internal)),
    }
}

/// Joins the command line with the image's config as docker does: an entry point from the
/// command line also removes the image's CMD.
fn command(request: &Request, image: &ImageConfig, hostname: String) -> Result<Command> {
    let config = &image.config;
    let (entrypoint, cmd) = match &request.entrypoint {
        Some(program) if program.is_empty() => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.clone()], Vec::new()),
        None => (
            config.entrypoint.clone().unwrap_or_default(),
            config.cmd.clone().unwrap_or_default(),
        ),
    };
    let rest = if request.command.is_empty() {
        cmd
    } else {
        request.command.clone()
    };
    let argv: Vec<String> = entrypoint.into_iter().chain(rest).collect();
    if argv.is_empty() {
        return Err(Error::new("the image has no command")
            .kind(Kind::Usage)
            .hint("name one after the image"));
    }
    let mut env = config.env.clone();
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        env.insert(0, DEFAULT_PATH.into());
    }
    if request.tty {
        env.push("TERM=xterm".into());
    }
    for (name, value) in &request.env {
        env.retain(|e| e.split_once('=').map_or(e.as_str(), |(n, _)| n) != name);
        env.push(format!("{name}={value}"));
    }
    let cwd = request
        .workdir
        .clone()
        .unwrap_or_else(|| config.working_dir.clone());
    Ok(Command {
        argv,
        env,
        cwd: if cwd.is_empty() { "/".into() } else { cwd },
        user: request.user.clone().unwrap_or_else(|| config.user.clone()),
        host_network: request.network == Network::Host,
        hostname,
        confinement: Confinement::default(),
        platform: image.platform.clone(),
        groups: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::config::ContainerConfig;

    fn request() -> Request {
        Request {
            image: "img".into(),
            command: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            network: Network::Host,
            pull: PullPolicy::Missing,
            interactive: false,
            tty: false,
        }
    }

    fn config() -> ImageConfig {
        let mut image = ImageConfig::scratch(Platform::host());
        image.config = ContainerConfig {
            entrypoint: Some(vec!["/e".into()]),
            cmd: Some(vec!["c".into()]),
            env: vec!["A=1".into(), "PATH=/p".into()],
            user: "u".into(),
            ..ContainerConfig::default()
        };
        image
    }

    #[test]
    fn the_command_line_overrides_the_config() {
        let argv = |r: Request| command(&r, &config(), String::new()).map(|c| c.argv);
        assert_eq!(argv(request()).expect("argv"), ["/e", "c"]);
        let with = |command: &[&str], entrypoint: Option<&str>| Request {
            command: command.iter().map(|s| (*s).to_owned()).collect(),
            entrypoint: entrypoint.map(Into::into),
            ..request()
        };
        assert_eq!(argv(with(&["x"], None)).expect("argv"), ["/e", "x"]);
        assert_eq!(argv(with(&[], Some("/f"))).expect("argv"), ["/f"]);
        assert_eq!(argv(with(&["x"], Some(""))).expect("argv"), ["x"]);
        assert!(argv(with(&[], Some(""))).is_err());
        let r = Request {
            env: vec![("A".into(), "2".into())],
            user: Some("v".into()),
            ..request()
        };
        let c = command(&r, &config(), "h".into()).expect("command");
        assert_eq!(c.env, ["PATH=/p", "A=2"]);
        assert_eq!((c.user.as_str(), c.cwd.as_str()), ("v", "/"));
    }
}
