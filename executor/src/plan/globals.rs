//! The global scope: ARGs before the first FROM.
//!
//! Responsible for their values. Must not know stages but for the target's name. Invariant: what
//! the caller gives wins over defaults, and one that is neither given nor has a default is absent.

use std::collections::BTreeMap;
use std::ops::Range;

use super::platform::predefined;
use super::scope::Variables;
use super::stages::{Options, find_target};
use crate::diagnostics::Diagnostic;
use crate::dockerfile::ast::{ArgPair, Dockerfile, Kind};
use crate::dockerfile::text::Text;
use crate::dockerfile::words::{Expander, Expansion, Mode};

/// Expands a word with the variables of the global scope.
pub(super) fn expand(
    file: &Dockerfile,
    globals: &Variables,
    text: &Text,
) -> Result<Expansion, Diagnostic> {
    let expander = Expander {
        escape: file.escape,
        mode: Mode::Plain,
        lookup: &|name| globals.get(name).map(str::to_owned),
    };
    let expansion = expander.expand(text.as_str());
    expansion.map_err(|error| Diagnostic::error(text.locate(error.range), error.message))
}

fn declared(file: &Dockerfile) -> impl Iterator<Item = &ArgPair> {
    let pairs = file.globals.iter().filter_map(|i| match &i.kind {
        Kind::Arg(pairs) => Some(pairs),
        _ => None,
    });
    pairs.flatten()
}

/// Tells whether the global scope declares an ARG.
pub(super) fn declares(file: &Dockerfile, name: &str) -> bool {
    declared(file).any(|pair| pair.name == name)
}

/// Returns the global scope; what can't be expanded is left out, and reported.
pub(super) fn collect(
    file: &Dockerfile,
    options: &Options,
    build_args: &BTreeMap<String, String>,
    target: usize,
    errors: &mut Vec<Diagnostic>,
) -> Variables {
    let target_stage = options
        .target
        .as_deref()
        .or(file.stages[target].name.as_deref());
    let known = predefined(&options.platform, &options.build_platform, target_stage);
    let mut globals = Variables::default();
    for (name, value) in known {
        let given = build_args.get(name);
        globals.set(name, given.unwrap_or(&value));
    }
    for ArgPair { name, value } in declared(file) {
        let name = name.as_str();
        if let Some(given) = build_args.get(name) {
            globals.set(name, given);
        } else if let Some(default) = value {
            match expand(file, &globals, default) {
                Ok(expansion) => drop(globals.set(name, &expansion.text)),
                Err(error) => errors.push(error),
            }
        }
    }
    globals
}

/// Returns the value of an ARG that the global scope declares, and the place that it is from; none
/// where it has no value or the Dockerfile is wrong, which planning tells.
pub fn global(file: &Dockerfile, options: &Options, name: &str) -> Option<(String, Range<usize>)> {
    let pair = declared(file).filter(|pair| pair.name == name).last()?;
    let target = find_target(file, options.target.as_deref()).ok()?;
    let build_args = options.given();
    let globals = collect(file, options, &build_args, target, &mut Vec::new());
    let span = pair.value.as_ref().unwrap_or(&pair.name).span();
    Some((globals.get(name)?.to_owned(), span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile;
    use crate::dockerfile::ast::Dockerfile;
    use crate::image::platform::Platform;

    fn read(text: &str) -> Dockerfile {
        dockerfile::read(text.as_bytes(), &dockerfile::BuildArgs::default()).file
    }

    #[test]
    fn what_is_given_wins_over_the_last_default() {
        let options = |given: Option<&str>| Options {
            target: None,
            build_args: given
                .map(|v| ("D".into(), Some(v.into())))
                .into_iter()
                .collect(),
            platform: Platform::host(),
            build_platform: Platform::host(),
            entitlements: Default::default(),
            contexts: Default::default(),
        };
        let of = |text: &str, given| {
            let found = global(&read(text), &options(given), "D");
            found.map(|(value, span)| (value, text[span].to_owned()))
        };
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        let text = "ARG A=1\nARG D=0\nARG D=$A\nFROM scratch\nARG D=3\n";
        assert_eq!(of(text, None), pair("1", "$A"));
        assert_eq!(of(text, Some("2")), pair("2", "$A"));
        assert_eq!(of(text, Some("")), pair("", "$A"));
        assert_eq!(of("ARG D\nFROM scratch\n", Some("2")), pair("2", "D"));
        assert_eq!(of("ARG D\nFROM scratch\n", None), None);
        assert_eq!(of("FROM scratch\nARG D=3\n", None), None);
    }
}
