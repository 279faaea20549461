//! The quiet display.

use super::*;

#[test]
fn only_failures_are_seen() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let text = Script::new(quiet::Quiet::new(false, dir.path().into()))
        .started(0, "RUN good")
        .log(0, b"fine\n")
        .done(0)
        .started(1, "RUN bad")
        .log(1, b"oh\nno")
        .failed(1, "exit code: 1")
        .finish(&["not shown"]);
    assert_eq!(text, "------\n > RUN bad:\n0.000 oh\n0.000 no\n------\n");
}
