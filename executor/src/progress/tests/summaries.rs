//! What the displays say at the end.

use super::*;

/// A build with a cached step, a step with a layer and one without, and its image.
fn build(script: &mut Script) -> &mut Script {
    script
        .started(0, "[internal] load image debian")
        .done(0)
        .started(1, "[1/3] FROM debian")
        .event(Event::Cached { vertex: 1 })
        .started(2, "[2/3] RUN make\x1b[2J")
        .event(Event::Layer {
            vertex: 2,
            size: 45_200_000,
        })
        .at(2_500)
        .done(2)
        .started(3, "[3/3] RUN true")
        .done(3)
        .event(Event::Result {
            text: "image sha256:12 app".into(),
        })
}

#[test]
fn plain_has_a_table() {
    let mut script = Script::new(crate::progress::plain::Plain::new(false));
    let text = build(&mut script).finish(&[]);
    let (_, end) = text.split_once("#4 DONE 0.0s\n\n").expect("the last step");
    assert_eq!(
        end,
        "     time      layer  step\n\
         \x20  CACHED             [1/3] FROM debian\n\
         \x20    2.5s    45.20MB  [2/3] RUN make\n\
         \x20    0.0s             [3/3] RUN true\n\
         2.5s: 2 run, 1 cached, 45.20MB in new layers\n\
         image sha256:12 app\n"
    );
}

#[test]
fn the_terminal_shows_layers_beside_times() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let size = Box::new(|| Some((50, 24)));
    let mut script = Script::new(tty::Tty::new("Building", size, false, dir.path().into()));
    let text = build(&mut script).finish(&[]);
    assert!(
        text.contains(" => [2/3] RUN make                 45.20MB   2.5s\x1b[K\n"),
        "{text:?}"
    );
    assert!(
        text.ends_with("2.5s: 2 run, 1 cached, 45.20MB in new layers\nimage sha256:12 app\n"),
        "{text:?}"
    );
}

#[test]
fn a_failure_is_the_last_word() {
    let mut script = Script::new(crate::progress::plain::Plain::new(false));
    let text = script
        .started(0, "[1/2] RUN true")
        .done(0)
        .started(1, "[2/2] RUN false")
        .failed(1, "exit code: 1")
        .finish(&[]);
    assert!(text.ends_with("#2 ERROR: exit code: 1\n\n"), "{text:?}");
}

#[test]
fn what_is_all_cached_needs_no_table() {
    let mut script = Script::new(crate::progress::plain::Plain::new(false));
    let text = script
        .started(0, "[1/1] FROM debian")
        .event(Event::Cached { vertex: 0 })
        .finish(&[]);
    assert!(
        text.ends_with("#1 CACHED\n\n0.0s: 0 run, 1 cached\n"),
        "{text:?}"
    );
}
