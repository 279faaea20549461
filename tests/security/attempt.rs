//! One attempt at an attack, on the real program or on a weakened one.
//!
//! Responsible for building the weakened program and for calling either. Must not know attacks.
//! Invariant: an attack that is judged to fail has succeeded on the weakened program.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::{Command, Output, World, scratch};

use crate::harness::bundle::Bundle;
use crate::harness::container::Container;
use crate::harness::program;

/// What an attack is tried on.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'w> {
    pub(crate) world: &'w World,
    /// Names of `runtime::weaken::Protection`, with commas; empty for the real program.
    off: &'w str,
}

/// Expects that an attack, which says whether it succeeded, fails, and that it would succeed
/// without the protections.
#[track_caller]
pub(crate) fn fails(world: &World, protections: &str, attack: impl Fn(Attempt<'_>) -> bool) {
    let attempt = |off| Attempt::with(world, off);
    assert!(!attack(attempt("")), "the attack succeeded");
    assert!(
        attack(attempt(protections)),
        "the attack fails without {protections}, too: it shows nothing"
    );
}

/// As [`fails`], for an attack that needs luck: it is repeated for some seconds.
#[track_caller]
pub(crate) fn always_fails(world: &World, protections: &str, attack: impl Fn(Attempt<'_>) -> bool) {
    let attempt = |off| Attempt::with(world, off);
    let real = attempt("");
    let end = Instant::now() + Duration::from_secs(3);
    let mut rounds = 0;
    while rounds < 20 || Instant::now() < end {
        assert!(!attack(real), "the attack succeeded in round {rounds}");
        rounds += 1;
    }
    let weak = attempt(protections);
    let end = Instant::now() + Duration::from_secs(60);
    while !attack(weak) {
        assert!(
            Instant::now() < end,
            "the attack fails without {protections}, too: it shows nothing"
        );
    }
}

impl<'w> Attempt<'w> {
    /// An attempt without these protections.
    pub(crate) fn with(world: &'w World, off: &'w str) -> Self {
        Self { world, off }
    }

    /// Whether the program is the weakened one.
    pub(crate) fn is_weak(self) -> bool {
        !self.off.is_empty()
    }

    /// The program.
    pub(crate) fn program(self) -> &'static Path {
        if self.is_weak() {
            weakened()
        } else {
            program()
        }
    }

    /// A command of the program, with the test's state directory.
    pub(crate) fn command(self, args: &[&str]) -> Command {
        self.command_by(self.program(), args)
    }

    /// The same of a copy of the program.
    pub(crate) fn command_by(self, program: &Path, args: &[&str]) -> Command {
        self.complete(self.world.command(program), args)
    }

    /// The same by a shell that prepares something and then executes `"$@"`.
    pub(crate) fn command_after(self, script: &str, args: &[&str]) -> Command {
        let shell = self.world.command("sh").args(["-c", script, "sh"]);
        self.complete(shell.arg(self.program()), args)
    }

    fn complete(self, command: Command, args: &[&str]) -> Command {
        command
            .timeout(Duration::from_secs(60))
            .env("SANDCRAB_WEAKEN", self.off)
            .arg("--root")
            .arg(self.world.path("state"))
            .args(args)
    }

    /// Runs a bundle to its end.
    pub(crate) fn run(self, bundle: &Bundle<'_>) -> Output {
        self.run_by(bundle, self.command(&["run"]))
    }

    /// The same by a command that has the verb.
    pub(crate) fn run_by(self, bundle: &Bundle<'_>, command: Command) -> Output {
        bundle.save();
        let command = command.arg("--bundle").arg(bundle.path(""));
        command.arg(bundle.id()).run()
    }

    /// Creates a bundle's container, which is deleted in the end.
    pub(crate) fn create(self, bundle: &Bundle<'w>, flags: &[&str]) -> (Container<'w>, Output) {
        let container = bundle.container();
        let output = container.create_by(self.command(&["create"]), flags);
        (container, output)
    }
}

/// Returns the weakened program, where every account may execute it.
fn weakened() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let repository = support::user::repository();
        let target = repository.join("target/weaken");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Process::new(cargo)
            .current_dir(&repository)
            .args(["build", "--quiet", "--locked", "--package", "sandcrab-shim"])
            .args(["--features", "weaken", "--target-dir"])
            .arg(&target)
            .status()
            .expect("run cargo");
        assert!(status.success(), "build the weakened program");
        let place = scratch::directory().join("weakened");
        scratch::open_to_all(&place);
        let copy = place.join("sandcrab-oci");
        std::fs::copy(built(&target), &copy).expect("copy the weakened program");
        copy
    })
}

/// Finds the program below a target directory, with or without a directory for the target.
fn built(target: &Path) -> PathBuf {
    let inner = std::fs::read_dir(target).expect("list target/weaken");
    let inner = inner.flatten().map(|entry| entry.path());
    std::iter::once(target.to_owned())
        .chain(inner)
        .map(|directory| directory.join("debug/sandcrab-oci"))
        .find(|path| path.is_file())
        .expect("cargo has built the program")
}
