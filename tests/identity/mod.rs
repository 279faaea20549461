//! What a step sees of owners, ids and rights, whichever identity the build has: a user without
//! subordinate ids must see what a user with them sees, and more where theirs end.
//!
//! Responsible for the probes and for how their answers are compared. Each is run by both kinds of
//! user, so that what is wanted is what the kernel itself answers. Must not reach into the
//! libraries.

mod acceptance;
mod access;
mod closed;
mod credentials;
mod debian;
mod layers;
mod owners;
mod paths;
mod setid;
mod sockets;
mod specials;
mod steps;
mod storm;
mod table;

use support::World;

/// The scripts that the context has in `probe/`, beside the static program `probe/p`.
const SCRIPTS: [(&str, &str); 13] = [
    ("access.sh", include_str!("scripts/access.sh")),
    ("become.sh", include_str!("scripts/become.sh")),
    ("lib.sh", include_str!("scripts/lib.sh")),
    ("owners.pl", include_str!("scripts/owners.pl")),
    ("owners.py", include_str!("scripts/owners.py")),
    ("owners.sh", include_str!("scripts/owners.sh")),
    ("paths.sh", include_str!("scripts/paths.sh")),
    ("setid.sh", include_str!("scripts/setid.sh")),
    ("sockets.py", include_str!("scripts/sockets.py")),
    ("specials.sh", include_str!("scripts/specials.sh")),
    ("storm.py", include_str!("scripts/storm.py")),
    ("tools.sh", include_str!("scripts/tools.sh")),
    ("who.sh", include_str!("scripts/who.sh")),
];

/// Writes the probes into the context and a Dockerfile that copies them to `/probe`.
fn context(world: &World, base: &str, instructions: &str) {
    for (name, text) in SCRIPTS {
        world.write(&format!("ctx/probe/{name}"), text);
    }
    world.write("ctx/probe/p", program());
    world.set_mode("ctx/probe/p", 0o755);
    world.dockerfile(&format!("FROM {base}\nCOPY probe /probe\n{instructions}"));
}

/// The static program `identity-probe`, which cargo builds beside the tests.
fn program() -> Vec<u8> {
    std::fs::read(env!("CARGO_BIN_EXE_identity-probe")).expect("cargo has built it")
}
