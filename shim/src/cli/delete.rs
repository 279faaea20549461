//! `delete`: removes a container.

use runtime::container::remove_unread;
use runtime::state::Root;

use super::args::{Flag, Matches, Stop};
use super::context::Context;
use super::kill::NO_REGEX;
use super::log::render;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "delete",
    usage: "[OPTIONS] ID",
    about: "remove a container that is stopped",
    details: "With --force, one that runs is killed first, and one that doesn't exist is no error.",
    flags: &[&[
        Flag::switch("force", "kill it first").short(b'f'),
        Flag::new("regex", NO_REGEX, ""),
    ]],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let force = matches.switch("force");
    let (root, id) = context.named(matches)?;
    let Some(dir) = root.find(&id)? else {
        if force {
            context.log.debug(|| format!("there is no container {id}"));
            return Ok(0);
        }
        return Err(Root::unknown(&id).into());
    };
    let warn = &mut |text: String| context.log.warn(&text);
    match context.load(&root, &id) {
        Ok(container) => container.delete(force, warn)?,
        // Broken by a crash, or of a later version: nothing is known of its processes.
        Err(error) if force => {
            if root.find(&id)?.is_some() {
                let why = render(&error);
                remove_unread(&root, &id, &dir)?;
                warn(format!("container {id} was removed unread: {why}"));
            }
        }
        Err(error) => return Err(error.hint("`delete --force` removes it").into()),
    }
    Ok(0)
}
