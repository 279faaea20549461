//! The rules, against the kernel where that is allowed and against tables everywhere.
//!
//! A thread has credentials of its own in the kernel; only the C library keeps those of a process
//! together. So a thread of the test may become anybody, by calls of `sys`, and ends with it.

mod changes;
mod files;
mod programs;
mod tables;

use std::fmt::Debug;
use std::thread;

use libc::c_long;
use proptest::prelude::*;
use rustix::io::{Errno, Result};
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups};

use super::Credentials;
use crate::sys::call_with_numbers;

/// "As it is", and invalid where an id has to be given.
const NONE: u32 = u32::MAX;

/// One call that changes credentials.
#[derive(Clone, Debug)]
enum Change {
    SetUid(u32),
    SetReUid(u32, u32),
    SetResUid(u32, u32, u32),
    SetFsUid(u32),
    SetGid(u32),
    SetReGid(u32, u32),
    SetResGid(u32, u32, u32),
    SetFsGid(u32),
    SetGroups(Vec<u32>),
    CapSet(u64, u64, u64),
    InBounding(u64),
    DropBounding(u64),
    InAmbient(u64),
    RaiseAmbient(u64),
    LowerAmbient(u64),
    ClearAmbient,
    KeepCapabilities(u64),
    SecureBits(u64),
}

impl Change {
    fn in_kernel(&self) -> Result<c_long> {
        let ids = |number, ids: &[u32]| {
            let mut arguments = [0; 5];
            for (argument, &id) in arguments.iter_mut().zip(ids) {
                *argument = c_long::from(id);
            }
            call_with_numbers(number, arguments)
        };
        let option = |arguments: [u64; 3]| {
            let [a, b, c] = arguments.map(u64::cast_signed);
            call_with_numbers(libc::SYS_prctl, [a, b, c, 0, 0])
        };
        let ambient =
            |what: i32, capability| option([libc::PR_CAP_AMBIENT as u64, what as u64, capability]);
        match self {
            Self::SetUid(uid) => ids(libc::SYS_setuid, &[*uid]),
            Self::SetReUid(r, e) => ids(libc::SYS_setreuid, &[*r, *e]),
            Self::SetResUid(r, e, s) => ids(libc::SYS_setresuid, &[*r, *e, *s]),
            Self::SetFsUid(uid) => ids(libc::SYS_setfsuid, &[*uid]),
            Self::SetGid(gid) => ids(libc::SYS_setgid, &[*gid]),
            Self::SetReGid(r, e) => ids(libc::SYS_setregid, &[*r, *e]),
            Self::SetResGid(r, e, s) => ids(libc::SYS_setresgid, &[*r, *e, *s]),
            Self::SetFsGid(gid) => ids(libc::SYS_setfsgid, &[*gid]),
            Self::SetGroups(groups) => {
                let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
                set_thread_groups(&groups).map(|()| 0)
            }
            Self::CapSet(effective, permitted, inheritable) => set_capabilities(
                None,
                CapabilitySets {
                    effective: CapabilitySet::from_bits_retain(*effective),
                    permitted: CapabilitySet::from_bits_retain(*permitted),
                    inheritable: CapabilitySet::from_bits_retain(*inheritable),
                },
            )
            .map(|()| 0),
            Self::InBounding(number) => option([libc::PR_CAPBSET_READ as u64, *number, 0]),
            Self::DropBounding(number) => option([libc::PR_CAPBSET_DROP as u64, *number, 0]),
            Self::InAmbient(number) => ambient(libc::PR_CAP_AMBIENT_IS_SET, *number),
            Self::RaiseAmbient(number) => ambient(libc::PR_CAP_AMBIENT_RAISE, *number),
            Self::LowerAmbient(number) => ambient(libc::PR_CAP_AMBIENT_LOWER, *number),
            Self::ClearAmbient => ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0),
            Self::KeepCapabilities(keep) => option([libc::PR_SET_KEEPCAPS as u64, *keep, 0]),
            Self::SecureBits(bits) => option([libc::PR_SET_SECUREBITS as u64, *bits, 0]),
        }
    }

    fn in_model(&self, credentials: &mut Credentials) -> Result<c_long> {
        let done = match self {
            Self::SetUid(uid) => credentials.setuid(*uid),
            Self::SetReUid(r, e) => credentials.setreuid(*r, *e),
            Self::SetResUid(r, e, s) => credentials.setresuid(*r, *e, *s),
            Self::SetFsUid(uid) => return Ok(credentials.setfsuid(*uid).into()),
            Self::SetGid(gid) => credentials.setgid(*gid),
            Self::SetReGid(r, e) => credentials.setregid(*r, *e),
            Self::SetResGid(r, e, s) => credentials.setresgid(*r, *e, *s),
            Self::SetFsGid(gid) => return Ok(credentials.setfsgid(*gid).into()),
            Self::SetGroups(groups) => credentials.setgroups(groups),
            Self::CapSet(effective, permitted, inheritable) => credentials.capset(
                CapabilitySet::from_bits_retain(*effective),
                CapabilitySet::from_bits_retain(*permitted),
                CapabilitySet::from_bits_retain(*inheritable),
            ),
            Self::InBounding(number) => return credentials.in_bounding(*number).map(c_long::from),
            Self::DropBounding(number) => credentials.drop_bounding(*number),
            Self::InAmbient(number) => return credentials.in_ambient(*number).map(c_long::from),
            Self::RaiseAmbient(number) => credentials.raise_ambient(*number),
            Self::LowerAmbient(number) => credentials.lower_ambient(*number),
            Self::ClearAmbient => {
                credentials.clear_ambient();
                Ok(())
            }
            Self::KeepCapabilities(keep) => credentials.set_keep_capabilities(*keep),
            Self::SecureBits(bits) => credentials.set_securebits(*bits),
        };
        done.map(|()| 0)
    }
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0u32), 4 => Just(33), 2 => Just(70000), 1 => Just(1000)]
}

fn maybe_id() -> impl Strategy<Value = u32> {
    prop_oneof![4 => id(), 1 => Just(NONE)]
}

fn capability() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => prop::sample::select(vec![0u64, 1, 2, 3, 4, 6, 7, 8, 27, 40]),
        1 => prop::sample::select(vec![41u64, 63, 64, 1 << 32, u64::MAX]),
    ]
}

fn set() -> impl Strategy<Value = u64> {
    let some = prop::collection::vec(0..41u64, 0..4);
    prop_oneof![
        2 => Just(u64::MAX),
        2 => Just(super::caps::DEFAULT.bits()),
        1 => Just(0),
        // Most of Docker's default set, and few.
        3 => some.clone().prop_map(|some| super::caps::DEFAULT.bits() & !bits(&some)),
        3 => some.prop_map(|some| bits(&some)),
    ]
}

fn bits(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |set, number| set | 1 << number)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => maybe_id().prop_map(Change::SetUid),
        4 => (maybe_id(), maybe_id()).prop_map(|(r, e)| Change::SetReUid(r, e)),
        4 => (maybe_id(), maybe_id(), maybe_id()).prop_map(|(r, e, s)| Change::SetResUid(r, e, s)),
        2 => maybe_id().prop_map(Change::SetFsUid),
        2 => maybe_id().prop_map(Change::SetGid),
        2 => (maybe_id(), maybe_id()).prop_map(|(r, e)| Change::SetReGid(r, e)),
        2 => (maybe_id(), maybe_id(), maybe_id()).prop_map(|(r, e, s)| Change::SetResGid(r, e, s)),
        2 => maybe_id().prop_map(Change::SetFsGid),
        2 => prop::collection::vec(id(), 0..4).prop_map(Change::SetGroups),
        3 => (set(), set(), set()).prop_map(|(e, p, i)| Change::CapSet(e & p, p, i)),
        1 => (set(), set(), set()).prop_map(|(e, p, i)| Change::CapSet(e, p, i)),
        1 => capability().prop_map(Change::InBounding),
        1 => capability().prop_map(Change::DropBounding),
        1 => capability().prop_map(Change::InAmbient),
        2 => capability().prop_map(Change::RaiseAmbient),
        1 => capability().prop_map(Change::LowerAmbient),
        1 => Just(Change::ClearAmbient),
        2 => prop_oneof![4 => Just(1u64), 1 => Just(0), 1 => Just(2)]
            .prop_map(Change::KeepCapabilities),
        2 => prop_oneof![4 => 0..64u64, 1 => 0..4096u64, 1 => Just(1 << 32)]
            .prop_map(Change::SecureBits),
    ]
}

/// Changes that often leave something interesting to decide: without a lock for good.
fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 0..most)
}

/// Reads credentials as the kernel tells them.
fn parse(status: &str, securebits: u32) -> Credentials {
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .expect("a line of /proc/PID/status")
    };
    let numbers = |name: &str| -> Vec<u32> {
        let ids = line(name).split_whitespace();
        ids.map(|id| id.parse().expect("an id")).collect()
    };
    let set = |name: &str| {
        let bits = u64::from_str_radix(line(name).trim(), 16).expect("a set");
        CapabilitySet::from_bits_retain(bits)
    };
    let uids = numbers("Uid");
    let gids = numbers("Gid");
    Credentials {
        ruid: uids[0],
        euid: uids[1],
        suid: uids[2],
        fsuid: uids[3],
        rgid: gids[0],
        egid: gids[1],
        sgid: gids[2],
        fsgid: gids[3],
        groups: numbers("Groups").into(),
        permitted: set("CapPrm"),
        effective: set("CapEff"),
        inheritable: set("CapInh"),
        ambient: set("CapAmb"),
        bounding: set("CapBnd"),
        securebits,
        umask: 0o022,
        dumpable: super::DUMPABLE,
    }
}

/// The credentials of this thread.
fn of_kernel() -> Credentials {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
    let bits = call_with_numbers(
        libc::SYS_prctl,
        [libc::PR_GET_SECUREBITS.into(), 0, 0, 0, 0],
    );
    parse(&status, bits.expect("bits").try_into().expect("32 bits"))
}

/// Whether this process may become anybody.
fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all_ids = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let here = of_kernel();
    let root = all_ids && here.effective.contains(super::caps::DEFAULT) && here.is_plain_root();
    if !root {
        eprintln!("SKIP: only root can compare with the kernel");
    }
    root
}

/// Runs something in a thread that may become anybody.
fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(work).join().expect("the thread ends well")
}

/// Makes the same changes in the kernel, in this thread, and to credentials of ours.
fn change_both(changes: &[Change]) -> std::result::Result<Credentials, TestCaseError> {
    let mut ours = of_kernel();
    for change in changes {
        let kernel = change.in_kernel();
        equal(&change.in_model(&mut ours), &kernel, change)?;
        equal(&ours, &of_kernel(), change)?;
    }
    Ok(ours)
}

fn equal<T: PartialEq + Debug>(
    ours: &T,
    kernel: &T,
    after: &impl Debug,
) -> std::result::Result<(), TestCaseError> {
    prop_assert!(
        ours == kernel,
        "{after:?}\nours   {ours:?}\nkernel {kernel:?}"
    );
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn refused(done: bool) -> Result<()> {
    match done {
        true => Ok(()),
        false => Err(Errno::PERM),
    }
}
