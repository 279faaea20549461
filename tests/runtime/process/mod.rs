//! `process` of the configuration: who the program is and what it starts with.

mod descriptors;
mod document;
mod ids;
mod limits;
mod privileges;
mod program;
mod scheduling;
mod terminal;

use crate::harness::under_test::kind;
use crate::harness::{Crun, program};
use support::{User, World};

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";

/// A line of `/proc/self/status`, without its name.
fn field(lines: &[String], name: &str) -> String {
    let line = lines
        .iter()
        .find(|line| line.starts_with(&format!("{name}:")));
    let line = line.unwrap_or_else(|| panic!("{name} is missing: {lines:?}"));
    line.split_once(':').expect("a colon").1.trim().to_owned()
}

fn bits(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a set of capabilities")
}

/// A shell that prepares something and then becomes the runtime; verbs follow.
fn with_shell(world: &World, script: &str) -> support::Command {
    let mut command = world
        .command("sh")
        .args(["-c", script, "sh"])
        .arg(program())
        .arg("--root")
        .arg(world.path("state"));
    if kind() == Crun && world.user != User::Root {
        command = command.arg("--cgroup-manager=disabled");
    }
    command
}
