//! The edge: errors become text for the user and exit codes for the shell.
//!
//! Responsible for how an error looks and which code it is. Must not decide anything else.
//! Invariant: everything that is printed here goes to standard error.

use super::streams;
use crate::diagnostics;
use crate::error::{Error, Kind, STORAGE_FULL_HINT};

/// Exit code for a broken assumption of our own (sysexits.h, `EX_SOFTWARE`).
pub(super) const INTERNAL: u8 = 70;

/// Exit code for a wrong command line.
pub(super) const USAGE: u8 = 2;

/// Where a bug is reported.
const REPORT: &str = "this is a bug in sandcrab: please report it with the command and this output";

/// A Dockerfile as it was given, for findings that point into it.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    /// What to call it.
    pub name: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// An error on its way out, with what is needed to show it.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error.
    pub error: Error,
    /// What its findings point into.
    pub source: Option<Source>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            source: None,
        }
    }
}

/// Returns the exit code of an error's kind.
pub(super) fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Build | Kind::NotFound | Kind::Denied | Kind::Cancelled => 1,
        Kind::Usage => USAGE,
        // 125 and above mean something else to a shell and to docker's users.
        Kind::Step(code) => u8::try_from(code)
            .ok()
            .filter(|code| (1..=124).contains(code))
            .unwrap_or(1),
        Kind::Interrupted(signal) => u8::try_from(signal).map_or(1, |s| s.saturating_add(128)),
        Kind::Internal => INTERNAL,
    }
}

/// Returns what is printed for an error, with a line end.
///
/// With `debug`, each cause has a line of its own.
pub(super) fn describe(failure: &Failure, colour: bool, debug: bool) -> String {
    let Failure { error, source } = failure;
    let (red, cyan, bold, reset) = if colour {
        ("\x1b[1;31m", "\x1b[1;36m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "", "")
    };
    let mut text = String::new();
    let chain = error.chain();
    // Without a Dockerfile there is no place to show: `run` loads images too.
    if let Some(source) = source {
        // A finding that says what the error says only shows the place.
        let (places, findings): (Vec<_>, Vec<_>) = error
            .diagnostics()
            .iter()
            .cloned()
            .partition(|finding| finding.message == chain);
        for place in places {
            text.push_str(&diagnostics::excerpt(
                &source.name,
                &source.text,
                &place.span,
            ));
        }
        text.push_str(&diagnostics::render(
            &findings,
            &source.name,
            &source.text,
            colour,
            streams::columns(),
        ));
    }
    let all = if debug { causes(error) } else { chain };
    line(
        &mut text,
        &format!("{red}error{reset}{bold}:{reset} {}", safe(&all)),
    );
    let full = error.is_storage_full().then_some(STORAGE_FULL_HINT);
    for hint in hints(error).chain(full) {
        line(&mut text, &format!("{cyan}hint{reset}: {}", safe(hint)));
    }
    if error.get_kind() == Kind::Internal {
        line(&mut text, &format!("{cyan}hint{reset}: {REPORT}"));
    }
    text
}

/// Returns the hints of an error and of the runtime's error that caused it.
fn hints(error: &Error) -> impl Iterator<Item = &str> {
    let source = std::error::Error::source(error);
    let inner = std::iter::successors(source, |cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<runtime::Error>())
        .flat_map(|cause| cause.hints());
    error.hints().iter().chain(inner).map(AsRef::as_ref)
}

fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!("\n  caused by: {cause}"));
        next = cause.source();
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Removes control characters: an error may quote what a registry or an archive said.
fn safe(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_codes() {
        for (kind, wanted) in [
            (Kind::Build, 1),
            (Kind::NotFound, 1),
            (Kind::Denied, 1),
            (Kind::Usage, 2),
            (Kind::Step(0), 1),
            (Kind::Step(7), 7),
            (Kind::Step(124), 124),
            (Kind::Step(125), 1),
            (Kind::Step(-1), 1),
            (Kind::Step(1000), 1),
            (Kind::Interrupted(2), 130),
            (Kind::Interrupted(15), 143),
            (Kind::Internal, 70),
        ] {
            assert_eq!(code(kind), wanted, "{kind:?}");
        }
    }

    #[test]
    fn findings_come_first() {
        let finding = diagnostics::Diagnostic::error(5..8, "unknown instruction `RUM`");
        let failure = Failure {
            error: Error::with_diagnostics("Dockerfile has errors", vec![finding]),
            source: Some(Source {
                name: "Dockerfile".into(),
                text: b"ARG\n\nRUM x\n".to_vec(),
            }),
        };
        let text = describe(&failure, false, false);
        assert!(
            text.starts_with("error: unknown instruction `RUM`\n --> Dockerfile:3:1\n"),
            "{text}"
        );
        assert!(text.ends_with("\nerror: Dockerfile has errors\n"), "{text}");
    }

    #[test]
    fn a_place_needs_a_source() {
        let finding = diagnostics::Diagnostic::error(0..0, "image not found");
        let error = Error::with_diagnostics("image not found", vec![finding]);
        assert_eq!(
            describe(&error.into(), false, false),
            "error: image not found\n"
        );
    }

    #[test]
    fn the_chain_and_the_hints_are_shown() {
        let error = Error::new("open")
            .path("/x")
            .source(std::io::Error::from_raw_os_error(2))
            .hint("look elsewhere")
            .during("read context");
        assert_eq!(
            describe(&error.into(), false, false),
            "error: read context: open `/x`: no such file or directory\nhint: look elsewhere\n"
        );
        let full = Error::new("write blob").source(rustix::io::Errno::NOSPC);
        let text = describe(&full.during("pull").into(), false, false);
        assert!(
            text.contains("no space left on device\nhint: `sandcrab df`"),
            "{text}"
        );
        let inner = runtime::Error::new("enter namespace").hint("from within");
        let outer = Error::new("start").source(inner).hint("from outside");
        assert_eq!(
            describe(&outer.into(), false, false),
            "error: start: enter namespace\nhint: from outside\nhint: from within\n"
        );
        let nested = Error::new("a").source(Error::new("b").path("/c"));
        assert_eq!(
            describe(&nested.into(), false, true),
            "error: a\n  caused by: b `/c`\n"
        );
        let bug = Error::new("odd\x1b[2J").kind(Kind::Internal);
        let text = describe(&bug.into(), false, false);
        assert!(text.starts_with("error: odd[2J\nhint: this is a bug"));
        let red = describe(&Error::new("x").into(), true, false);
        assert!(red.contains("\x1b[1;31merror\x1b[0m"));
    }
}
