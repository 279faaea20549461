//! The verbs of the command line: what they do, print, write and exit with.
//!
//! Options of `run`, `create` and `exec` that change the process are in `process`.

mod exec;
mod information;
mod kill;
mod life;
mod pause;
mod run;
mod usage;

use serde_json::Value;
use support::Output;

use crate::harness::under_test::kind;
use crate::harness::{Crun, Runc};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// Parses what a command printed.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", output.all()))
}
/// The name that the documentation of a runtime's differences uses, without a line in the output.
fn differs_quietly(what: &str) -> bool {
    match kind() {
        Runc => [
            "rro",
            "rnosuid",
            "mode of the state directory",
            "ps rootless",
            "umask of exec",
            "oom of exec",
        ]
        .contains(&what),
        Crun => [
            "pause",
            "resume",
            "ps",
            "update",
            "events",
            "kill",
            "exec",
            "oom of exec",
            "ps rootless",
            "mode of the state directory",
        ]
        .contains(&what),
        crate::harness::Sandcrab => false,
    }
}

fn document_or_null(output: &Output) -> Value {
    match document(output) {
        Value::Array(list) if list.is_empty() => Value::Null,
        other => other,
    }
}
