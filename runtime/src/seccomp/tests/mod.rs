//! Programs against what they are made from: the kernel's filter machine is played here.

use std::collections::BTreeMap;

mod oci;

use super::action::Action;
use super::architecture::{ARM_FAMILY, Architecture, Family, X32_BIT, X86_FAMILY};
use super::profile::Profile;
use super::{Filter, default, filter, oci as documents};

/// Runs one program as the kernel does; returns its verdict and the steps that it took.
fn run(program: &[libc::sock_filter], audit: u32, number: u32, args: [u64; 6]) -> (u32, usize) {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(audit.to_le_bytes());
    data.extend([0; 8]);
    for arg in args {
        data.extend(arg.to_le_bytes());
    }
    let (mut pc, mut acc, mut steps) = (0, 0_u32, 0);
    loop {
        let i = program[pc];
        steps += 1;
        pc += 1;
        let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            0x20 => {
                let at = i.k as usize;
                acc = u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
            }
            0x05 => pc += i.k as usize,
            0x15 => pc += branch(acc == i.k),
            0x35 => pc += branch(acc >= i.k),
            0x25 => pc += branch(acc > i.k),
            0x54 => acc &= i.k,
            0x06 => return (i.k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// The kernel's verdict on a call: the most severe of all programs' (seccomp(2)).
fn verdict(filter: &Filter, audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let verdicts = filter
        .parts
        .iter()
        .map(|part| run(&part.instructions, audit, number, args).0);
    verdicts
        .min_by_key(|v| (v & libc::SECCOMP_RET_ACTION_FULL).cast_signed())
        .expect("a program")
}

const NONE: [u64; 6] = [0; 6];
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn errno(errno: i32) -> u32 {
    Action::errno(errno).value()
}

fn compiled(profile: &Profile<'_>, family: &Family) -> Filter {
    filter(profile, 0, family).expect("compile")
}

fn run_filter(family: &Family) -> Filter {
    compiled(&default::profile(family), family)
}

fn number(family: &Family, architecture: Architecture, name: &str) -> u32 {
    family.calls().number(name, architecture).expect("a call")
}

#[test]
fn run_steps_every_number_gets_its_verdict() {
    for family in [&X86_FAMILY, &ARM_FAMILY] {
        let (filter, profile) = (run_filter(family), default::profile(family));
        let calls = family.calls();
        for architecture in &profile.architectures {
            let mut expected = BTreeMap::new();
            for rule in &profile.rules {
                for name in &rule.calls {
                    if let Some(number) = calls.number(name, *architecture) {
                        expected.insert(number, rule.action.value());
                    }
                }
            }
            // With all arguments 0 each of the rules with conditions applies.
            for nr in (0..2000).chain(0xf_0000..0xf_0010) {
                let found = verdict(&filter, architecture.audit(), nr, NONE);
                let unnamed = if nr > 469 { libc::ENOSYS } else { libc::EPERM };
                let expected = expected.get(&nr).copied().unwrap_or_else(|| errno(unnamed));
                let multiplexed = *architecture == Architecture::X86 && [102, 117].contains(&nr);
                if !multiplexed {
                    assert_eq!(found, expected, "{architecture:?} {nr}");
                }
            }
        }
    }
}

#[test]
fn run_steps_dangerous_calls_are_refused() {
    for (family, architecture) in [
        (&X86_FAMILY, Architecture::X86_64),
        (&X86_FAMILY, Architecture::X86),
        (&ARM_FAMILY, Architecture::Aarch64),
        (&ARM_FAMILY, Architecture::Arm),
    ] {
        let filter = run_filter(family);
        for name in [
            "mount",
            "umount2",
            "pivot_root",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "keyctl",
            "add_key",
            "kexec_load",
            "init_module",
            "open_by_handle_at",
            "fsopen",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "reboot",
            "pidfd_getfd",
            "clock_settime",
            "swapon",
            "syslog",
            "quotactl",
        ] {
            let nr = number(family, architecture, name);
            let found = verdict(&filter, architecture.audit(), nr, NONE);
            assert_eq!(found, errno(libc::EPERM), "{architecture:?} {name}");
        }
        for name in ["clone3", "statmount", "open_tree_attr"] {
            let nr = number(family, architecture, name);
            let found = verdict(&filter, architecture.audit(), nr, NONE);
            assert_eq!(found, errno(libc::ENOSYS), "{architecture:?} {name}");
        }
    }
}

#[test]
fn run_steps_foreign_entry_points_do_not_exist() {
    let filter = run_filter(&X86_FAMILY);
    let native = Architecture::X86_64.audit();
    for (audit, nr) in [
        (Architecture::Aarch64.audit(), 1),
        (native, X32_BIT),
        (native, X32_BIT | 1),
        (native, 0x8000_0001),
    ] {
        assert_eq!(verdict(&filter, audit, nr, NONE), errno(libc::ENOSYS));
    }
}

#[test]
fn run_steps_arguments_decide() {
    let (yes, no) = (ALLOW, errno(libc::EPERM));
    for (name, arg, expected) in [
        ("clone", libc::CLONE_VM as u64 | 17, yes),
        ("clone", libc::CLONE_NEWUSER as u64, no),
        ("clone", libc::CLONE_NEWNS as u64 | 17, no),
        ("clone", libc::CLONE_NEWCGROUP as u64, no),
        ("personality", 0, yes),
        ("personality", 0xffff_ffff, yes),
        ("personality", 0x0040_0000, no),
        ("socket", libc::AF_INET as u64, yes),
        ("socket", libc::AF_UNIX as u64, yes),
        ("socket", libc::AF_VSOCK as u64, no),
        ("socket", libc::AF_ALG as u64, no),
    ] {
        for (family, architecture) in [
            (&X86_FAMILY, Architecture::X86_64),
            (&X86_FAMILY, Architecture::X86),
            (&ARM_FAMILY, Architecture::Aarch64),
            (&ARM_FAMILY, Architecture::Arm),
        ] {
            let (filter, audit) = (run_filter(family), architecture.audit());
            let nr = number(family, architecture, name);
            for arg in [arg, arg | 1 << 32] {
                // The kernel only looks at the lower half of an `int`.
                let found = verdict(&filter, audit, nr, [arg, 0, 0, 0, 0, 0]);
                assert_eq!(found, expected, "{architecture:?} {name} with {arg:#x}");
            }
        }
    }
}

#[test]
fn run_steps_multiplexed_calls_are_what_they_stand_for() {
    let filter = run_filter(&X86_FAMILY);
    let audit = Architecture::X86.audit();
    let (yes, no) = (ALLOW, errno(libc::EPERM));
    for (nr, selector, expected) in [
        // Its address family can't be seen.
        (102, 1, no),
        (102, 2, yes),
        (102, 3, yes),
        (102, 8, yes),
        (102, 20, yes),
        (102, 21, no),
        (102, 0, no),
        (117, 1, yes),
        (117, 0x1_0001, yes),
        (117, 24, yes),
        (117, 25, no),
    ] {
        let found = verdict(&filter, audit, nr, [selector, 0, 0, 0, 0, 0]);
        assert_eq!(found, expected, "{nr} {selector}");
    }
}

#[test]
fn run_steps_program_is_short_to_walk() {
    for family in [&X86_FAMILY, &ARM_FAMILY] {
        let filter = run_filter(family);
        assert_eq!(filter.parts.len(), 1);
        let program = &filter.parts[0].instructions;
        assert!(program.len() < 700, "{}", program.len());
        let audit = family.native().audit();
        let longest = (0..500).map(|nr| run(program, audit, nr, NONE).1).max();
        assert!(longest < Some(30), "{longest:?} steps");
    }
}

#[test]
fn forwarded_calls_are_notified() {
    let forwarded = crate::supervisor::forwarded();
    let profile = default::forwarding(&X86_FAMILY, forwarded);
    let filter = compiled(&profile, &X86_FAMILY);
    let native = Architecture::X86_64;
    let of = |name: &str, args| {
        let number = number(&X86_FAMILY, native, name);
        verdict(&filter, native.audit(), number, args)
    };
    let notify = libc::SECCOMP_RET_USER_NOTIF;
    for name in forwarded.calls {
        assert_eq!(of(name, NONE), notify, "{name}");
    }
    for name in forwarded.absent {
        assert_eq!(of(name, NONE), errno(libc::ENOSYS), "{name}");
    }
    for (name, argument, values) in forwarded.by_argument {
        for value in *values {
            let mut args = [7; 6];
            args[usize::from(*argument)] = *value;
            assert_eq!(of(name, args), notify, "{name} {value}");
            // The upper half is not part of an `int`.
            args[usize::from(*argument)] |= 1 << 40;
            assert_eq!(of(name, args), notify, "{name} {value}");
        }
        let mut args = NONE;
        args[usize::from(*argument)] = 0x7fff_0000;
        assert_eq!(of(name, args), ALLOW, "{name}");
    }
    // Around the supervisor leads no other entry point.
    for foreign in [Architecture::X86, Architecture::X32] {
        let number = number(&X86_FAMILY, foreign, "chown");
        let found = verdict(&filter, foreign.audit(), number, NONE);
        assert_eq!(found, errno(libc::ENOSYS), "{foreign:?}");
    }
    assert_eq!(of("io_uring_setup", NONE), errno(libc::EPERM));
    assert_eq!(of("getpid", NONE), ALLOW);
}
