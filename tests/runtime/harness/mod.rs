//! Bundles, containers and terminals for the tests of a runtime.
//!
//! Responsible for the world around a runtime: what its callers do. Must not judge what it
//! answers. Invariant: a container that a test made is gone when its [`container::Container`] is.

pub(crate) mod bundle;
pub(crate) mod container;
pub(crate) mod rootfs;
pub(crate) mod terminal;
pub(crate) mod under_test;

pub(crate) use bundle::{Bundle, strings};
pub(crate) use container::{alive, reap};
pub(crate) use terminal::ConsoleSocket;
pub(crate) use under_test::{Kind::*, differs, program};

/// Expects that a command failed by itself, and that it said one of these; crun has its own words.
///
/// # Panics
/// Otherwise, with all that it printed.
#[track_caller]
pub(crate) fn assert_error(output: support::Output, texts: &[&str]) {
    let all = output.all();
    assert!(
        !matches!(output.code, Some(0) | None),
        "it succeeded: {all}"
    );
    let said = output.stderr.to_lowercase();
    assert!(
        texts.is_empty()
            || under_test::kind() == Crun
            || texts.iter().any(|text| said.contains(text)),
        "none of {texts:?} in: {all}",
    );
}
