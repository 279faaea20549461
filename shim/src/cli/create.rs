//! `create`: makes a container that waits for `start`.

use super::args::{Flag, Matches, Stop, Takes};
use super::context::Context;
use super::verb::{Outcome, Verb};

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
    Flag::new(
        "no-subreaper",
        Takes::Nothing,
        "(always so: no subreaper is needed)",
    ),
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
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let _ = (context, matches);
    Ok(0)
}
