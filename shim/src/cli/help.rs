//! Help and version texts.
//!
//! Responsible for rendering the tables of verbs and options. Invariant: what is accepted is
//! shown, except for crutches that have no effect.

use runtime::state::OCI_VERSION;

use super::args::{Flag, Takes};
use super::context;
use super::verb::Verb;

/// The program's version in the form that go-runc takes apart: a line that ends in the version,
/// then `commit:` and `spec:` lines.
pub(crate) fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("SANDCRAB_COMMIT").unwrap_or("unknown");
    format!("sandcrab-oci version {version}\ncommit: {commit}\nspec: {OCI_VERSION}\n")
}

/// The help text of the program.
pub(crate) fn program(verbs: &[&Verb]) -> String {
    let mut text = "sandcrab-oci - an OCI runtime with runc's command line\n\n\
        Usage: sandcrab-oci [OPTIONS] VERB [OPTIONS] [ARGUMENTS]\n\nVerbs:\n"
        .to_owned();
    for verb in verbs {
        text += &format!("  {:<10}  {}\n", verb.name, verb.about);
    }
    text + "\nOptions, before the verb:\n" + &options(&[context::FLAGS])
}

/// The help text of a verb.
pub(crate) fn verb(verb: &Verb) -> String {
    let mut text = format!(
        "{} - {}\n\nUsage: sandcrab-oci {} {}\n",
        verb.name, verb.about, verb.name, verb.usage
    );
    if !verb.details.is_empty() {
        text += &format!("\n{}\n", verb.details);
    }
    text + "\nOptions:\n" + &options(verb.flags)
}

fn options(flags: &[&[Flag]]) -> String {
    const HELP: Flag = Flag::switch("help", "show this text").short(b'h');
    let shown = flags
        .iter()
        .flat_map(|part| part.iter())
        .filter(|flag| !matches!(flag.takes, Takes::Ineffective(_) | Takes::Refused(_)));
    let rows: Vec<(String, &str)> = shown
        .chain([&HELP])
        .map(|flag| (spelling(flag), flag.help))
        .collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(left, help)| format!("  {left:<width$}  {help}\n"))
        .collect()
}

fn spelling(flag: &Flag) -> String {
    let short = match flag.short {
        Some(letter) => format!("-{}, ", char::from(letter)),
        None => "    ".to_owned(),
    };
    let value = match flag.takes {
        Takes::Value(name) | Takes::List(name) => format!(" {name}"),
        _ => String::new(),
    };
    format!("{short}--{}{value}", flag.long)
}
