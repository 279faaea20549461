//! `start`: executes the program of a container that was created.

use super::args::{Matches, Stop};
use super::context::Context;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "start",
    usage: "ID",
    about: "run the program of a created container",
    details: "",
    flags: &[],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let (root, id) = context.named(matches)?;
    let container = context.load(&root, &id)?;
    let manager = Context::notify_socket();
    container.start(manager.as_deref(), &mut |text| context.log.warn(&text))?;
    Ok(0)
}
