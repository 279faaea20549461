//! `run`: makes a container and executes its program.

use runtime::Error;
use runtime::container::{self, Mode};

use super::args::{Flag, Matches, Stop};
use super::context::Context;
use super::create;
use super::verb::{Outcome, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "run",
    usage: "[OPTIONS] ID",
    about: "make a container and run its program",
    details: "Waits for the program's end and ends as it did (128 + signal number); then the\n\
              container is deleted.",
    flags: &[
        create::FLAGS,
        &[
            Flag::switch("detach", "do not wait for the program").short(b'd'),
            Flag::switch("keep", "do not delete the container after its end"),
        ],
    ],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: true,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let mode = match (matches.switch("detach"), matches.switch("keep")) {
        (true, true) => {
            let error = Error::new("`--detach` and `--keep` exclude each other");
            return Err(error.hint("a detached container is kept anyway").into());
        }
        (true, false) => Mode::Detached,
        (false, true) => Mode::Kept,
        (false, false) => Mode::Foreground,
    };
    let options = create::options(context, matches)?;
    let root = context.make_root()?;
    let exit = container::run(&root, &options, mode, &mut |text| context.log.warn(&text))?;
    Ok(exit.map_or(0, |exit| exit.code()))
}
