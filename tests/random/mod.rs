//! Random sequences of file and credential calls: what a step sees with emulated ids is what it
//! sees with real ones.
//!
//! Responsible for running the same sequences in two identities and for a report of what differs.
//! `SANDCRAB_RANDOM_SEED` chooses another seed than the fixed one, `SANDCRAB_RANDOM_SEQUENCES` which
//! sequences are run (`0-9999`, or `17` for one). Must not know how ids are emulated.

mod differences;
mod shrink;
mod side;

use support::image::{Options, assert_same};
use support::user::is_root;
use support::{User, skip};

use crate::random::shrink::shrunk;
use crate::random::side::{Side, both};

/// What every run begins with, so that a failure comes again.
const SEED: u64 = 4;

/// How many kinds of differences are made small, where `SANDCRAB_RANDOM_SHRUNK` doesn't say.
const SHRUNK: usize = 8;

/// Runs sequences on two sides and expects the same of both.
fn agree(one: &Side, other: &Side, without: &str, sequences: &str) {
    let seed = std::env::var("SANDCRAB_RANDOM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(SEED);
    let sequences =
        std::env::var("SANDCRAB_RANDOM_SEQUENCES").unwrap_or_else(|_| sequences.to_owned());
    let jobs = [sequences];
    let (a, b) = both(one, other, seed, without, &jobs).unwrap_or_else(|why| panic!("{why}"));
    let found = differences::of(&a, &b);
    if found.is_empty() {
        // Sockets are not part of a layer, and times are nobody's.
        assert_same(&one.image(), &other.image(), &Options::standard());
        return;
    }
    let mut report = format!(
        "{} of {} sequences differ between {} and {}; SANDCRAB_RANDOM_SEED={seed}, without={without:?}\n",
        found.len(),
        a.sections.len(),
        one.name(),
        other.name(),
    );
    for (kind, list) in differences::kinds(&found) {
        report.push_str(&format!("{:6} × {kind}\n", list.len()));
    }
    let kinds = differences::kinds(&found);
    let shrunk_count = std::env::var("SANDCRAB_RANDOM_SHRUNK")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(SHRUNK);
    let first: Vec<_> = kinds
        .iter()
        .take(shrunk_count)
        .map(|(_, list)| list[0])
        .collect();
    for small in shrunk(one, other, seed, without, &first) {
        report.push_str(&small);
    }
    panic!("{report}");
}

fn sides(test: &str, users: [(User, Option<&'static str>); 2]) -> Option<[Side; 2]> {
    if !is_root() {
        skip(test, "needs root, for both accounts");
        return None;
    }
    let [one, other] = users.map(|(user, isolation)| Side::new(test, user, isolation));
    Some([one?, other?])
}

/// What is a limit of the emulation, which SHORTCOMINGS.md has: the auxiliary vector (`auxv`), names
/// for descriptors that were opened under other credentials (`handle`), the inodes of sockets
/// themselves, which are root's (`sockets`), what a child inherits from a process that could not
/// execute a program and made no call since (`exec`), and a set-group-id bit without execution by the group, which
/// stays when others write (`setgid`). The attribute of the records belongs to the emulation
/// (ARCHITECTURE.md).
macro_rules! limits {
    ($without:literal) => {
        concat!($without, "auxv,exec,handle,sockets,setgid,record")
    };
}

/// Against a real range of ids, which is what the emulation stands for.
#[test]
fn emulated_as_subids() {
    let users = [(User::Plain, None), (User::Subids, None)];
    if let Some([emulated, subids]) = sides("random::emulated_as_subids", users) {
        agree(&emulated, &subids, limits!("wide,"), "0-6999");
    }
}

/// Against root itself, where devices can be made and every id is there.
#[test]
fn emulated_as_root() {
    let users = [(User::Plain, None), (User::Root, Some("host"))];
    if let Some([emulated, root]) = sides("random::emulated_as_root", users) {
        agree(&emulated, &root, limits!(""), "10000-12999");
    }
}

/// The two references agree, or this test is about something else than the emulation.
#[test]
fn subids_as_subids_of_root() {
    let users = [(User::Subids, None), (User::Root, Some("subids"))];
    if let Some([one, other]) = sides("random::subids_as_subids_of_root", users) {
        agree(&one, &other, "wide", "0-299");
    }
}
