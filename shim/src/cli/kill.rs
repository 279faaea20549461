//! `kill`: sends a signal to a container.

use super::args::{Flag, Matches, Stop, Takes};
use super::context::Context;
use super::signal;
use super::verb::{Outcome, Verb};

/// Why crun's selection by pattern is not here.
pub(super) const NO_REGEX: Takes = Takes::Refused("name one container; `list -q` shows all");

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "kill",
    usage: "[OPTIONS] ID [SIGNAL]",
    about: "send a signal to a container's first process",
    details: "SIGNAL is a number or a name, with or without SIG; TERM if it is left out.",
    flags: &[&[
        Flag::switch("all", "send it to all processes of the container").short(b'a'),
        Flag::new("regex", NO_REGEX, ""),
    ]],
    arguments: (1, 2),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let signal = match matches.argument(1)? {
        "" => signal::TERM,
        word => signal::parse(word)?,
    };
    let (root, id) = context.named(matches)?;
    let all = matches.switch("all");
    context.load(&root, &id)?.kill(signal, all)?;
    Ok(0)
}
