//! What all verbs are given: global options and what matters of the environment.
//!
//! Responsible for reading both. Must not act on a container. Invariant: a near-empty environment
//! works (CRI-O and podman give little more than `PATH`), and two options that contradict each
//! other are refused.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use runtime::cgroup::Driver;
use runtime::container::Container;
use runtime::state::{Dir, Id, Record, Root, Status};
use runtime::{Error, Result};

use super::args::{Flag, Matches, Takes, invalid};
use super::log::{Format, Level, Log};

const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

/// The options before the verb.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("root", "DIR", "directory of the containers' states"),
    Flag::value(
        "log",
        "FILE",
        "append messages to FILE, not to standard error",
    ),
    Flag::value("log-format", "FORMAT", "`text` (default) or `json`"),
    Flag::value(
        "log-level",
        "LEVEL",
        "`debug`, `info` (default), `warning` or `error`",
    ),
    Flag::switch("debug", "the same as --log-level debug"),
    Flag::switch("systemd-cgroup", "the same as --cgroup-manager systemd"),
    Flag::value(
        "cgroup-manager",
        "NAME",
        "who makes control groups: `cgroupfs` (default), `systemd` or `disabled`",
    ),
    Flag::value(
        "rootless",
        "WHEN",
        "go on without control groups that can't be made: `true`, `false` or `auto` (default)",
    ),
    Flag::switch("version", "show versions").short(b'v'),
    Flag::new(
        "criu",
        Takes::Ineffective("checkpoints are not supported"),
        "",
    ),
];

/// What all verbs are given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Where messages go.
    pub log: &'a Log,
    /// Who makes control groups.
    pub driver: Driver,
    /// Whether a control group that can't be made or limited is no error.
    pub rootless: bool,
    root: PathBuf,
}

impl<'a> Context<'a> {
    /// Reads the global options.
    ///
    /// # Errors
    /// A value is unknown, or two options contradict each other.
    pub(crate) fn new(globals: &Matches, log: &'a Log) -> Result<Self> {
        let user = rustix::process::geteuid().as_raw();
        let root = match globals.value("root") {
            Some(root) if !root.is_empty() => std::path::absolute(root)
                .map_err(|e| Error::new("resolve state directory").path(root).cause(e))?,
            _ => Root::default_path(run_directory(user).as_deref(), user),
        };
        Ok(Self {
            log,
            driver: driver(globals)?,
            rootless: match globals.text("rootless")? {
                None | Some("auto") => user != 0 || in_user_namespace(),
                Some("true") => true,
                Some("false") => false,
                Some(other) => {
                    let why = "it is none of true, false and auto";
                    return Err(invalid("rootless", OsStr::new(other), why));
                }
            },
            root,
        })
    }

    /// Where systemd answers: the user's own bus, which root in a user namespace shares with the
    /// user that it is outside; none is the system's.
    pub(crate) fn bus() -> Option<String> {
        if rustix::process::geteuid().is_root() && !in_user_namespace() {
            return std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        }
        std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().or_else(|| {
            let run = std::env::var("XDG_RUNTIME_DIR").ok()?;
            Some(format!("unix:path={run}/bus"))
        })
    }

    /// Where a service manager waits for the program to be ready, sd_notify(3).
    pub(crate) fn notify_socket() -> Option<PathBuf> {
        let socket = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
        socket.filter(|socket| !socket.as_os_str().is_empty())
    }

    /// Where containers are kept.
    pub(crate) fn root_path(&self) -> &Path {
        &self.root
    }

    /// Opens the directory of containers.
    ///
    /// # Errors
    /// See [`Root::open`].
    pub(crate) fn open_root(&self) -> Result<Root> {
        Root::open(&self.root)
    }

    /// Reads a container's record and says what it does.
    ///
    /// # Errors
    /// It can't be read, or the container was deleted meanwhile.
    pub(crate) fn status(&self, id: &Id, dir: &Dir) -> Result<(Record, Status)> {
        let record = dir.record().map_err(|error| gone(id, error))?;
        let status = self.status_of(&record, dir)?;
        Ok((record, status))
    }

    /// Says what the container of a record does.
    ///
    /// # Errors
    /// `/proc` or the container's control group can't be read.
    pub(crate) fn status_of(&self, record: &Record, dir: &Dir) -> Result<Status> {
        record.status(dir)
    }

    /// Opens the directory of containers, which is made if it is missing.
    ///
    /// # Errors
    /// See [`Root::make`].
    pub(crate) fn make_root(&self) -> Result<Root> {
        Root::make(&self.root)
    }

    /// Opens the directory of containers and reads the name that is the first argument.
    ///
    /// # Errors
    /// See [`Root::open`]; or the name is none.
    pub(crate) fn named(&self, matches: &Matches) -> Result<(Root, Id)> {
        let id = Id::new(matches.argument(0)?)?;
        Ok((self.open_root()?, id))
    }

    /// Loads a container.
    ///
    /// # Errors
    /// It does not exist or can't be read.
    pub(crate) fn load<'r>(&self, root: &'r Root, id: &Id) -> Result<Container<'r>> {
        let container = Container::load(root, id)?;
        self.log
            .debug(|| format!("container {id}: {:?}", container.record()));
        Ok(container)
    }

    /// Finds the container that the first argument names.
    ///
    /// # Errors
    /// The name is none, or there is no such container.
    pub(crate) fn find(&self, matches: &Matches) -> Result<(Root, Id, Dir)> {
        let (root, id) = self.named(matches)?;
        let dir = root.get(&id)?;
        Ok((root, id, dir))
    }
}

/// A file of a container's directory is only missing when the container has been deleted.
fn gone(id: &Id, error: Error) -> Error {
    if error.errno() == Some(ENOENT) {
        Root::unknown(id)
    } else {
        error
    }
}

/// Opens the log that the global options ask for.
///
/// # Errors
/// A value is unknown, or the file can't be opened.
pub(crate) fn open_log(globals: &Matches) -> Result<Log> {
    let format = match globals.text("log-format")? {
        None | Some("text" | "") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => {
            let why = "it is neither text nor json";
            return Err(invalid("log-format", OsStr::new(other), why));
        }
    };
    let level = match globals.text("log-level")? {
        _ if globals.switch("debug") => Level::Debug,
        None => Level::Info,
        Some(name) => Level::by_name(name).ok_or_else(|| {
            let why = "it is none of debug, info, warning and error";
            invalid("log-level", OsStr::new(name), why)
        })?,
    };
    Log::open(globals.value("log"), format, level)
}

fn driver(globals: &Matches) -> Result<Driver> {
    let named = globals.text("cgroup-manager")?;
    let named = match (globals.switch("systemd-cgroup"), named) {
        (true, None) => "systemd",
        (false, named) => named.unwrap_or("cgroupfs"),
        (true, Some("systemd")) => "systemd",
        (true, Some(_)) => {
            return Err(Error::new(
                "options `--systemd-cgroup` and `--cgroup-manager` contradict each other",
            ));
        }
    };
    match named {
        "cgroupfs" => Ok(Driver::Cgroupfs),
        "disabled" => Ok(Driver::Disabled),
        "systemd" => Ok(Driver::Systemd),
        other => {
            let why = "it is none of cgroupfs, systemd and disabled";
            Err(invalid("cgroup-manager", OsStr::new(other), why))
        }
    }
}

/// The caller's run-time directory if it counts. For root it does in a user namespace only, and
/// not when root logged in there, whose environment may be that of the user before (runc 1.1
/// has the same rule).
fn run_directory(user: u32) -> Option<PathBuf> {
    let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    let root = || std::env::var_os("USER").is_some_and(|name| name == "root");
    let counts = run.is_absolute() && (user != 0 || (in_user_namespace() && !root()));
    counts.then_some(run)
}

/// Whether this is another user namespace than the first one, which maps all ids to themselves
/// (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut words = map.split_ascii_whitespace();
    [words.next(), words.next(), words.next()] != [Some("0"), Some("0"), Some("4294967295")]
}
