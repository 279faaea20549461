//! `pause` and `resume`: the freezer of a container's control group.

use super::args::Stop;
use super::verb::Verb;

/// The verb that stops all processes.
pub(crate) const PAUSE: Verb = Verb {
    name: "pause",
    usage: "ID",
    about: "stop all processes of a container",
    details: "Needs a control group with a freezer.",
    flags: &[],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: false,
    run: |context, matches| {
        let (root, id) = context.named(matches)?;
        context.load(&root, &id)?.pause()?;
        Ok(0)
    },
};

/// The verb that lets them go on.
pub(crate) const RESUME: Verb = Verb {
    name: "resume",
    about: "let the processes of a paused container go on",
    details: "",
    run: |context, matches| {
        let (root, id) = context.named(matches)?;
        context.load(&root, &id)?.resume()?;
        Ok(0)
    },
    ..PAUSE
};
