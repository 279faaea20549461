//! `checkpoint` and `restore`: refused.
//!
//! Any option is taken, so that the answer is about the verb and not about an option of it. `--help`
//! fails, too: podman takes its success to mean that containers can be saved.

use runtime::Error;

use super::args::{Matches, Stop};
use super::context::Context;
use super::verb::{Outcome, Verb};

/// The verb that would save a container.
pub(crate) const CHECKPOINT: Verb = Verb {
    name: "checkpoint",
    usage: "ID",
    about: "not supported",
    details: "Checkpoints are not supported; this verb always fails.",
    flags: &[],
    arguments: (0, usize::MAX),
    stop: Stop::AtOnce,
    enters: false,
    run: |_: &Context<'_>, _: &Matches| -> Outcome { refuse("checkpoint is not supported") },
};

/// The verb that would bring it back.
pub(crate) const RESTORE: Verb = Verb {
    name: "restore",
    run: |_: &Context<'_>, _: &Matches| -> Outcome { refuse("restore is not supported") },
    ..CHECKPOINT
};

fn refuse(text: &'static str) -> Outcome {
    Err(Error::new(text)
        .hint("containers can be paused and resumed")
        .into())
}
