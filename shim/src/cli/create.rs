//! `create`: makes a container that waits for `start`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use runtime::container::{self, CreateOptions, Inherited};
use runtime::error::ResultExt;
use runtime::state::Id;
use runtime::{Error, Result};

use super::args::{Flag, Matches, Stop};
use super::context::Context;
use super::verb::{Outcome, Verb};

/// Largest configuration; runc's tests and real pods stay far below.
const LARGEST: u64 = 16 << 20;

/// The options that `create` and `run` share.
pub(super) const FLAGS: &[Flag] = &[
    Flag::value(
        "bundle",
        "DIR",
        "the bundle (default: the current directory)",
    )
    .short(b'b'),
    Flag::value(
        "config",
        "FILE",
        "read FILE instead of the bundle's config.json",
    )
    .short(b'f'),
    Flag::value("console-socket", "SOCKET", "send the terminal there"),
    Flag::value(
        "pid-file",
        "FILE",
        "write the first process's number to FILE",
    ),
    Flag::value(
        "pidfd-socket",
        "SOCKET",
        "send the first process's descriptor there",
    ),
    Flag::value("preserve-fds", "N", "pass N descriptors from 3 on"),
    Flag::switch(
        "no-pivot",
        "move the root instead of pivoting, for a host on a ramdisk",
    ),
    Flag::switch("no-new-keyring", "keep the caller's session keyring"),
    Flag::switch("no-subreaper", "(always so: no subreaper is needed)"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "create",
    usage: "[OPTIONS] ID",
    about: "make a container",
    details: "The program of the container waits for `start`.",
    flags: &[FLAGS],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: true,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let options = options(context, matches)?;
    let root = context.make_root()?;
    container::create(&root, &options, &mut |text| context.log.warn(&text))?;
    Ok(0)
}

/// Reads the options that `create` and `run` share, and the configuration.
///
/// # Errors
/// A value can't be used, or the configuration can't be read.
pub(super) fn options(context: &Context<'_>, matches: &Matches) -> Result<CreateOptions> {
    let id = Id::new(matches.argument(0)?)?;
    let bundle = matches.value("bundle").filter(|path| !path.is_empty());
    let bundle = absolute(bundle.unwrap_or_else(|| ".".as_ref()))?;
    let config = match matches.value("config") {
        Some(path) => absolute(path)?,
        None => bundle.join("config.json"),
    };
    Ok(CreateOptions {
        id,
        config: read(&config)?,
        bundle,
        pid_file: path(matches, "pid-file")?,
        pidfd_socket: path(matches, "pidfd-socket")?,
        console_socket: path(matches, "console-socket")?,
        driver: context.driver,
        bus: Context::bus(),
        rootless: context.rootless,
        inherited: inherited(matches)?,
        notify_socket: Context::notify_socket(),
        no_pivot: matches.switch("no-pivot"),
    })
}

/// Reads an option that names a file, so that changing the directory doesn't change its meaning.
///
/// # Errors
/// The current directory is needed and unknown.
pub(super) fn path(matches: &Matches, long: &str) -> Result<Option<PathBuf>> {
    let path = matches.value(long).filter(|path| !path.is_empty());
    path.map(absolute).transpose()
}

/// Makes a path absolute and leaves out what says nothing, such as a slash at the end: callers
/// compare a bundle with the one that they gave.
fn absolute(path: &OsStr) -> Result<PathBuf> {
    let path = std::path::absolute(path).op_path("resolve path", path)?;
    Ok(path.components().collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).op_path("open configuration", path)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .op_path("read configuration", path)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::new("read configuration")
            .path(path)
            .cause(format!("it is larger than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// Reads what a process gets from the caller.
///
/// # Errors
/// A descriptor that it should get is not there.
pub(super) fn inherited(matches: &Matches) -> Result<Inherited> {
    let preserve: u32 = matches.number("preserve-fds")?.unwrap_or(0);
    let listen = listening();
    for number in 0..preserve.saturating_add(listen) {
        check_inherited(number.saturating_add(3))?;
    }
    Ok(Inherited {
        preserve,
        listen,
        keep_keyring: matches.switch("no-new-keyring"),
    })
}

/// How many sockets systemd, or who acts like it, gave this process: sd_listen_fds(3).
fn listening() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Makes sure that a descriptor is the caller's and none of this program's own, which are all
/// close-on-exec (proc_pid_fdinfo(5) shows that in `flags`).
fn check_inherited(number: u32) -> Result<()> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok();
    let flags = flags.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(line.trim(), 8).ok()
    });
    match flags {
        Some(flags) if flags & O_CLOEXEC == 0 => Ok(()),
        _ => Err(Error::new(format!("pass descriptor {number}"))
            .cause("the caller gave none of that number".to_owned())),
    }
}
