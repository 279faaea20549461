//! The command line of runc, over the runtime.
//!
//! Responsible for words, environment, messages and exit codes; alone reads the environment and
//! prints. Must not know how a container is made. Invariant: whatever fails is said once in the
//! log and once on standard error, and exit codes are runc's.

mod args;
mod checkpoint;
mod context;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod help;
mod kill;
mod list;
mod log;
mod output;
mod pause;
mod ps;
mod run;
mod signal;
mod spec;
mod start;
mod state;
mod update;
mod verb;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use runtime::{Error, container};

use args::{Matches, Stop};
use context::Context;
use log::Log;
use verb::{Outcome, Verb};

/// All verbs, in the order of the help text.
const VERBS: &[&Verb] = &[
    &create::VERB,
    &start::VERB,
    &state::VERB,
    &kill::VERB,
    &delete::VERB,
    &run::VERB,
    &exec::VERB,
    &list::VERB,
    &ps::VERB,
    &pause::PAUSE,
    &pause::RESUME,
    &update::VERB,
    &events::VERB,
    &features::VERB,
    &spec::VERB,
    &checkpoint::CHECKPOINT,
    &checkpoint::RESTORE,
];

/// Runs the command that `words` (the program's name first) spell.
pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut log = Log::default();
    match dispatch(words.into_iter().skip(1), &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.fail(&failure.error);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(words: impl Iterator<Item = OsString>, log: &mut Log) -> Outcome {
    let globals = Matches::parse(&[context::FLAGS], Stop::After(1), words)?;
    *log = context::open_log(&globals)?;
    let log = &*log;
    if globals.switch("version") {
        return output::print(help::version());
    }
    let (name, words) = match globals.arguments.split_first() {
        Some((name, words)) => (name.as_os_str(), words),
        None => (OsStr::new("help"), &[][..]),
    };
    if name == "help" || name == "h" || globals.help {
        let topic = if globals.help {
            Some(name)
        } else {
            words.first().map(OsString::as_os_str)
        };
        return output::print(match topic {
            Some(topic) if topic != "help" => help::verb(find(topic)?),
            _ => help::program(VERBS),
        });
    }
    let verb = find(name)?;
    let matches = verb.parse(words.iter().cloned())?;
    if matches.help {
        return output::print(help::verb(verb));
    }
    if verb.enters {
        let kept = create::inherited(&matches)?;
        let first = kept.preserve.saturating_add(kept.listen).saturating_add(3);
        container::seal(std::env::args_os(), std::env::vars_os(), first)?;
    }
    let context = Context::new(&globals, log)?;
    for (option, why) in globals.ineffective.iter().chain(&matches.ineffective) {
        log.warn(&format!("option `--{option}` has no effect: {why}"));
    }
    log.debug(|| {
        let root = context.root_path().display();
        format!(
            "{} {:?}, containers in `{root}`",
            verb.name, matches.arguments
        )
    });
    (verb.run)(&context, &matches)
}

fn find(name: &OsStr) -> runtime::Result<&'static Verb> {
    if let Some(verb) = VERBS.iter().find(|verb| name == verb.name) {
        return Ok(verb);
    }
    let error = Error::new(format!("unknown verb {name:?}"));
    let near = args::nearest(&name.to_string_lossy(), VERBS.iter().map(|verb| verb.name));
    Err(match near {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`sandcrab-oci --help` lists the verbs"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_hold_no_name_twice() {
        for verb in VERBS {
            let mut names: Vec<String> = Vec::new();
            for flag in verb.flags.iter().flat_map(|part| part.iter()) {
                names.push(format!("--{}", flag.long));
                names.extend(flag.short.map(|letter| format!("-{}", char::from(letter))));
            }
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}", verb.name);
            assert!(!names.contains(&"-h".to_owned()), "{}", verb.name);
            assert!(verb.arguments.0 <= verb.arguments.1, "{}", verb.name);
        }
    }

    #[test]
    fn verbs_are_suggested() {
        let error = find(OsStr::new("stat")).expect_err("unknown");
        assert_eq!(error.to_string(), "unknown verb \"stat\"");
        assert!(error.hints()[0].contains("`sta"), "{:?}", error.hints());
    }
}
