//! `state`: says what a container does.

use runtime::state::document;

use super::args::{Matches, Stop};
use super::context::Context;
use super::output;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "state",
    usage: "ID",
    about: "show the state of a container",
    details: "Prints the specification's state document with runc's additions.",
    flags: &[],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let (_root, id, dir) = context.find(matches)?;
    let (record, status) = context.status(&id, &dir)?;
    output::print(output::pretty(&document(&record, status), b"  ")?)
}
