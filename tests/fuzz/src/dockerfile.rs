//! Dockerfiles, as far as they go before anything is fetched or run.
//!
//! Responsible for the parser, the planner, the steps of every stage and the drawing of what is
//! found, and for what must hold between them. Must not touch the system. Invariant: there is
//! always a tree, all places are inside the file, and what has no error can be planned.

use std::fmt::Write as _;

use executor::diagnostics::{Diagnostic, render};
use executor::dockerfile::{self, BuildArgs};
use executor::image::config::ImageConfig;
use executor::image::platform::Platform;
use executor::plan::{Extents, Options, Origin, lower_all, resolve, survey};

use crate::config::kind;

/// Longest file whose findings are drawn: drawing takes longer than finding.
const DRAWN: usize = 4096;

/// Reads a file; the kinds of its findings.
pub(crate) fn read(bytes: &[u8]) -> String {
    let parsed = dockerfile::read(
        bytes,
        &BuildArgs {
            check: Some("experimental=all"),
            syntax: None,
        },
    );
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let options = Options {
        target: None,
        build_args: vec![
            ("a".into(), Some("b c".into())),
            ("b".into(), Some("".into())),
        ],
        platform: platform.clone(),
        build_platform: platform.clone(),
        entitlements: Default::default(),
        contexts: Default::default(),
    };
    let found = survey(&parsed, &options, Extents::All, &|path| path.len() % 2 == 0);
    let mut what = String::new();
    for finding in found.errors.iter().chain(&found.warnings) {
        place(finding, bytes);
        let _: std::fmt::Result = write!(what, "{} ", kind(&finding.message));
    }
    if bytes.len() <= DRAWN {
        let all: Vec<Diagnostic> = found.errors.iter().take(20).cloned().collect();
        let text = render(&all, "Dockerfile", bytes, false, 80);
        assert_eq!(text.is_empty(), all.is_empty());
    }
    if !parsed.errors.is_empty() {
        assert!(!found.errors.is_empty(), "errors of the parser are kept");
        return what;
    }
    assert!(!parsed.file.stages.is_empty(), "no error and no stage");
    let Ok(plan) = resolve(&parsed.file, &options) else {
        assert!(
            !found.errors.is_empty(),
            "the survey finds what the plan finds"
        );
        return what;
    };
    // The same with bases that are known.
    let mut image = ImageConfig::scratch(platform);
    image.config.env = vec!["PATH=/bin".into(), "x=y".into(), "=".into()];
    image.config.on_build = vec![
        "RUN a".into(),
        "COPY --from=a b c".into(),
        "ENV a $b".into(),
    ];
    for head in &plan.heads {
        let (lowered, errors) = lower_all(&plan, head.index, Origin::Image(&image));
        for finding in errors.iter().chain(&lowered.warnings) {
            place(finding, bytes);
        }
        let _: std::fmt::Result = write!(what, "{} ", lowered.steps.len().min(6));
    }
    what
}

fn place(finding: &Diagnostic, bytes: &[u8]) {
    let span = &finding.span;
    assert!(
        span.start <= span.end && span.end <= bytes.len(),
        "{finding:?} is outside"
    );
    assert!(!finding.message.is_empty());
}
