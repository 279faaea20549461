//! Profiles of documents, against a plain reading of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::architecture::{Calls, Named, multiplexers, parse};
use super::super::profile::{Condition, Test};
use super::*;
use crate::spec::{Seccomp, SeccompArg, SeccompCall};
use crate::validate;

fn document(text: &serde_json::Value) -> Seccomp {
    serde_json::from_value(text.clone()).expect("a document")
}

fn compiled_document(seccomp: &Seccomp, family: &Family) -> Filter {
    let profile = documents::profile(seccomp, family).expect("a profile");
    compiled(&profile, family)
}

fn holds(condition: Condition, arguments: [u64; 6]) -> bool {
    let argument = arguments[usize::from(condition.argument)];
    match condition.test {
        Test::Equal(value) => argument == value,
        Test::NotEqual(value) => argument != value,
        Test::Less(value) => argument < value,
        Test::LessOrEqual(value) => argument <= value,
        Test::Greater(value) => argument > value,
        Test::GreaterOrEqual(value) => argument >= value,
        Test::Masked { mask, value } => argument & mask == value & mask,
        Test::NotMasked { mask, value } => argument & mask != value & mask,
    }
}

/// What a profile says about a name, rule by rule.
fn by_name(profile: &Profile<'_>, name: &str, arguments: Option<[u64; 6]>) -> Vec<Action> {
    let mut found: Vec<(Vec<_>, Action)> = Vec::new();
    for rule in &profile.rules {
        if !rule.calls.contains(&name) || rule.action == profile.default {
            continue;
        }
        if rule.conditions.is_empty() {
            return vec![rule.action];
        }
        let applies = |c: &Condition| arguments.is_none_or(|arguments| holds(*c, arguments));
        let mut conditions = rule.conditions.clone();
        conditions.sort_by_key(|c| c.argument);
        if conditions.iter().all(applies) {
            let ranks: Vec<_> = conditions.iter().map(|c| c.rank()).collect();
            found.push((ranks, rule.action));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut all: Vec<Action> = found.into_iter().map(|(_, action)| action).collect();
    all.push(profile.default);
    all
}

/// What a profile says about a call.
fn evaluate(
    profile: &Profile<'_>,
    calls: &Calls,
    family: &Family,
    audit: u32,
    nr: u32,
    arguments: [u64; 6],
) -> u32 {
    let listed = |a: &Architecture| profile.architectures.contains(a);
    let here = |a: &&Architecture| {
        let x32 = nr >= X32_BIT && a.audit() == Architecture::X32.audit();
        a.audit() == audit && (**a == Architecture::X32) == x32
    };
    let Some(architecture) = family.members.iter().find(here) else {
        return profile.foreign.value();
    };
    if !listed(architecture) {
        let cancelled = nr == u32::MAX && *architecture == Architecture::X32;
        return if cancelled {
            profile.default
        } else {
            profile.foreign
        }
        .value();
    }
    let named = profile.rules.iter().flat_map(|rule| &rule.calls);
    let numbers = named
        .clone()
        .filter_map(|name| calls.number(name, *architecture));
    let mut newest = numbers.clone().filter(|n| n & !X32_BIT < 0xf_0000).max();
    for multiplexer in multiplexers(*architecture) {
        let number = calls
            .number(multiplexer.name, *architecture)
            .expect("a number");
        let mut behind = multiplexer.calls.iter();
        let leads = behind.any(|(name, _)| by_name(profile, name, None) != [profile.default]);
        if leads {
            newest = newest.max(Some(number));
        }
        // One that leads to nothing special is a call like any other.
        let is_named = named.clone().any(|name| *name == multiplexer.name);
        if nr != number || !leads && !is_named {
            continue;
        }
        let own = by_name(profile, multiplexer.name, Some(arguments));
        if own.len() > 1 || own[0] != profile.default {
            return own[0].value();
        }
        let selector = arguments[0] & multiplexer.mask;
        let Some((name, _)) = multiplexer.calls.iter().find(|(_, s)| *s == selector) else {
            return profile.default.value();
        };
        let any = by_name(profile, name, None);
        return any
            .iter()
            .min_by_key(|a| a.precedence())
            .expect("one")
            .value();
    }
    let name = profile
        .rules
        .iter()
        .flat_map(|rule| &rule.calls)
        .find(|name| calls.number(name, *architecture) == Some(nr));
    match name {
        Some(name) => by_name(profile, name, Some(arguments))[0].value(),
        None if profile.hides_newer && newest.is_some_and(|newest| nr > newest) => {
            errno(libc::ENOSYS)
        }
        None => profile.default.value(),
    }
}

/// Values around which comparisons change their outcome.
fn edges(profile: &Profile<'_>) -> Vec<u64> {
    let mut edges = vec![0, 1, u64::MAX, u64::from(u32::MAX), 1 << 32];
    for condition in profile.rules.iter().flat_map(|rule| &rule.conditions) {
        let (mask, value) = match condition.test {
            Test::Equal(v)
            | Test::NotEqual(v)
            | Test::Less(v)
            | Test::LessOrEqual(v)
            | Test::Greater(v)
            | Test::GreaterOrEqual(v) => (u64::MAX, v),
            Test::Masked { mask, value } | Test::NotMasked { mask, value } => (mask, value),
        };
        edges.extend([value, value.wrapping_add(1), value.wrapping_sub(1)]);
        edges.extend([value ^ (1 << 32), value & mask, value | !mask]);
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// Compares programs with their profile, for one in `step` numbers.
fn check(seccomp: &Seccomp, family: &Family, step: usize) {
    let profile = documents::profile(seccomp, family).expect("a profile");
    let filter = compiled(&profile, family);
    let calls = family.calls();
    let edges = edges(&profile);
    let conditional: Vec<u32> = profile
        .rules
        .iter()
        .filter(|rule| !rule.conditions.is_empty())
        .flat_map(|rule| &rule.calls)
        .flat_map(|name| family.members.iter().filter_map(|a| calls.number(name, *a)))
        .chain([102, 117])
        .collect();
    // Where verdicts can change: at the numbers that are named, and at the ends.
    let named = profile.rules.iter().flat_map(|rule| &rule.calls);
    let named = named
        .flat_map(|name| family.members.iter().filter_map(|a| calls.number(name, *a)))
        .flat_map(|number| [number.saturating_sub(1), number, number + 1]);
    let ends = [
        0,
        600,
        0xf_0000,
        X32_BIT - 1,
        X32_BIT,
        X32_BIT + 600,
        0x8000_0001,
        u32::MAX,
    ];
    let numbers: BTreeSet<u32> = named.chain(ends).chain([102, 117]).collect();
    let mut audits: Vec<u32> = family.members.iter().map(|a| a.audit()).collect();
    audits.push(1);
    audits.dedup();
    for audit in audits {
        for nr in numbers.iter().copied().step_by(step) {
            let mut cases = vec![NONE, [u64::MAX; 6]];
            if conditional.contains(&nr) {
                for (i, edge) in edges.iter().enumerate() {
                    cases.push([*edge; 6]);
                    let other = edges[(i * 7 + 3) % edges.len()];
                    cases.push([*edge, other, *edge, other, *edge, other]);
                    cases.push([other, *edge, 0, *edge, 1, other]);
                }
                cases.extend((0..40).map(|selector| [selector, 0, 0, 0, 0, 0]));
            }
            for arguments in cases {
                let expected = evaluate(&profile, &calls, family, audit, nr, arguments);
                let found = verdict(&filter, audit, nr, arguments);
                assert_eq!(
                    found, expected,
                    "audit {audit:#x} number {nr:#x} arguments {arguments:x?} of {seccomp:#?}"
                );
            }
        }
    }
}

const NAMES: [&str; 14] = [
    "read",
    "write",
    "socket",
    "bind",
    "send",
    "clone",
    "semop",
    "socketcall",
    "ipc",
    "execve",
    "mseal",
    "no_such_call",
    "stat64",
    "set_tls",
];

fn arg() -> impl Strategy<Value = SeccompArg> {
    let value = prop_oneof![
        0..4_u64,
        Just(1 << 32),
        Just((1 << 32) + 1),
        Just(u64::MAX),
        Just(0xffff_ffff),
        any::<u64>()
    ];
    let op = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0..6_u32, value.clone(), value, op).prop_map(|(index, value, value_two, op)| SeccompArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    })
}

fn action() -> impl Strategy<Value = (String, Option<u32>)> {
    let plain = [
        "ALLOW",
        "KILL",
        "KILL_PROCESS",
        "TRAP",
        "LOG",
        "TRACE",
        "ERRNO",
    ];
    prop_oneof![
        prop::sample::select(plain.to_vec()).prop_map(|a| (format!("SCMP_ACT_{a}"), None)),
        (0..3_u32).prop_map(|e| ("SCMP_ACT_ERRNO".to_owned(), Some(e))),
    ]
}

fn call() -> impl Strategy<Value = SeccompCall> {
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..5);
    let args = prop_oneof![Just(Vec::new()), prop::collection::vec(arg(), 0..4)];
    (names, action(), args).prop_map(|(names, (action, errno_ret), args)| SeccompCall {
        names: names.into_iter().map(str::to_owned).collect(),
        action,
        errno_ret,
        args,
    })
}

fn profiles() -> impl Strategy<Value = Seccomp> {
    let names = ["X86_64", "X86", "X32", "AARCH64", "ARM", "S390X"];
    let architectures = prop::sample::subsequence(names.to_vec(), 0..=names.len());
    let calls = prop::collection::vec(call(), 0..12);
    (action(), architectures, calls).prop_map(|((action, errno), architectures, calls)| Seccomp {
        default_action: action,
        default_errno_ret: errno,
        architectures: architectures
            .iter()
            .map(|a| format!("SCMP_ARCH_{a}"))
            .collect(),
        syscalls: calls,
        ..Seccomp::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn programs_say_what_profiles_say(seccomp in profiles()) {
        check(&seccomp, &X86_FAMILY, 1);
        check(&seccomp, &ARM_FAMILY, 1);
    }
}

/// A profile of the size that Docker's and podman's have.
fn large(conditions: u64) -> Seccomp {
    let family = &X86_FAMILY;
    let names: Vec<&str> = family.calls().names().collect();
    let syscalls = names.iter().step_by(2).flat_map(|name| {
        (0..conditions.max(1)).map(move |i| SeccompCall {
            names: vec![(*name).to_owned()],
            action: "SCMP_ACT_ALLOW".to_owned(),
            errno_ret: None,
            args: (0..conditions.min(1))
                .map(|_| SeccompArg {
                    index: 1,
                    value: i << 33 | 7,
                    value_two: 0,
                    op: "SCMP_CMP_EQ".to_owned(),
                })
                .collect(),
        })
    });
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        architectures: ["X86_64", "X86", "X32"]
            .map(|a| format!("SCMP_ARCH_{a}"))
            .to_vec(),
        syscalls: syscalls.collect(),
        ..Seccomp::default()
    }
}

#[test]
fn the_worst_unconditional_profile_is_one_program() {
    let filter = compiled_document(&large(0), &X86_FAMILY);
    assert_eq!(filter.parts.len(), 1);
    check(&large(0), &X86_FAMILY, 9);
}

#[test]
fn what_is_too_long_is_split_and_means_the_same() {
    let seccomp = large(8);
    let filter = compiled_document(&seccomp, &X86_FAMILY);
    assert!(filter.parts.len() > 3, "{}", filter.parts.len());
    for part in &filter.parts {
        assert!(part.instructions.len() <= 4096);
    }
    // Only the last one may keep the next from being installed.
    let nr = number(&X86_FAMILY, Architecture::X86_64, "seccomp");
    let audit = Architecture::X86_64.audit();
    let (last, others) = filter.parts.split_last().expect("parts");
    for part in others {
        assert_eq!(run(&part.instructions, audit, nr, NONE).0, ALLOW);
    }
    assert_eq!(
        run(&last.instructions, audit, nr, NONE).0,
        errno(libc::EPERM)
    );
    check(&seccomp, &X86_FAMILY, 199);
}

#[test]
fn one_call_with_too_many_conditions_is_an_error() {
    let mut seccomp = large(1000);
    seccomp.syscalls.truncate(1000);
    let profile = documents::profile(&seccomp, &X86_FAMILY).expect("a profile");
    let error = filter(&profile, 0, &X86_FAMILY).expect_err("too long");
    assert_eq!(error.to_string(), "compile seccomp profile");
}

#[test]
fn precedence_is_that_of_libseccomp() {
    let rule = |action: &str, errno: u32, args: serde_json::Value| {
        let errno = (action == "ERRNO").then_some(errno);
        let action = format!("SCMP_ACT_{action}");
        serde_json::json!({"names": ["read"], "action": action, "errnoRet": errno, "args": args})
    };
    let eq = |index: u32, value: u64| serde_json::json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let gt = |value: u64| serde_json::json!({"index": 0, "value": value, "op": "SCMP_CMP_GT"});
    let (allow, two) = (ALLOW, errno(2));
    let one = errno(libc::EPERM);
    let none = serde_json::json!([]);
    for (rules, arguments, expected) in [
        // A rule without conditions beats all others, whatever the order.
        (
            vec![
                rule("ALLOW", 0, none.clone()),
                rule("ERRNO", 2, serde_json::json!([eq(0, 1)])),
            ],
            [1, 0],
            allow,
        ),
        (
            vec![
                rule("ERRNO", 2, serde_json::json!([eq(0, 1)])),
                rule("ALLOW", 0, none.clone()),
            ],
            [1, 0],
            allow,
        ),
        (
            vec![
                rule("ERRNO", 2, none.clone()),
                rule("ALLOW", 0, none.clone()),
            ],
            [1, 0],
            two,
        ),
        // A rule with the default action is none.
        (
            vec![
                rule("ERRNO", 1, none.clone()),
                rule("ALLOW", 0, none.clone()),
            ],
            [1, 0],
            allow,
        ),
        // Later arguments come first.
        (
            vec![
                rule("ALLOW", 0, serde_json::json!([eq(0, 1)])),
                rule("ERRNO", 2, serde_json::json!([eq(1, 2)])),
            ],
            [1, 2],
            two,
        ),
        (
            vec![
                rule("ERRNO", 2, serde_json::json!([eq(0, 1)])),
                rule("ALLOW", 0, serde_json::json!([eq(1, 2)])),
            ],
            [1, 2],
            allow,
        ),
        // Narrow bounds come before wide ones.
        (
            vec![
                rule("ALLOW", 0, serde_json::json!([gt(3)])),
                rule("ERRNO", 2, serde_json::json!([gt(5)])),
            ],
            [6, 0],
            two,
        ),
        (
            vec![
                rule("ALLOW", 0, serde_json::json!([gt(3)])),
                rule("ERRNO", 2, serde_json::json!([gt(5)])),
            ],
            [4, 0],
            allow,
        ),
        // All conditions of a rule, any of those about the same argument.
        (
            vec![rule("ALLOW", 0, serde_json::json!([eq(0, 1), eq(1, 2)]))],
            [1, 3],
            one,
        ),
        (
            vec![rule("ALLOW", 0, serde_json::json!([eq(0, 1), eq(1, 2)]))],
            [1, 2],
            allow,
        ),
        (
            vec![rule("ALLOW", 0, serde_json::json!([eq(0, 1), eq(0, 2)]))],
            [2, 0],
            allow,
        ),
    ] {
        let seccomp = document(&serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules,
        }));
        let filter = compiled_document(&seccomp, &X86_FAMILY);
        let arguments = [arguments[0], arguments[1], 0, 0, 0, 0];
        let found = verdict(&filter, Architecture::X86_64.audit(), 0, arguments);
        assert_eq!(found, expected, "{rules:?}");
    }
}

#[test]
fn entry_points_that_are_not_listed_are_closed() {
    let seccomp = document(&serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    let filter = compiled_document(&seccomp, &X86_FAMILY);
    let native = Architecture::X86_64.audit();
    let kill = libc::SECCOMP_RET_KILL_THREAD;
    for (audit, nr, expected) in [
        (native, 1, ALLOW),
        (native, X32_BIT | 1, kill),
        (Architecture::X86.audit(), 1, kill),
        // A call that a tracer has cancelled.
        (native, u32::MAX, ALLOW),
    ] {
        assert_eq!(
            verdict(&filter, audit, nr, NONE),
            expected,
            "{audit:#x} {nr:#x}"
        );
    }
}

#[test]
fn newer_calls_do_not_exist_where_the_default_refuses() {
    for (default, expected) in [
        ("ERRNO", errno(libc::ENOSYS)),
        ("KILL", errno(libc::ENOSYS)),
        ("TRAP", errno(libc::ENOSYS)),
        ("ALLOW", ALLOW),
        ("LOG", libc::SECCOMP_RET_LOG),
        ("TRACE", libc::SECCOMP_RET_TRACE | 1),
    ] {
        let seccomp = document(&serde_json::json!({
            "defaultAction": format!("SCMP_ACT_{default}"),
            "syscalls": [{"names": ["openat2", "read"], "action": "SCMP_ACT_LOG"}],
        }));
        let filter = compiled_document(&seccomp, &X86_FAMILY);
        let newer = number(&X86_FAMILY, Architecture::X86_64, "faccessat2");
        let found = verdict(&filter, Architecture::X86_64.audit(), newer, NONE);
        assert_eq!(found, expected, "{default}");
    }
}

#[test]
fn notification_is_noticed() {
    let seccomp = document(&serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "syscalls": [{"names": ["mknod"], "action": "SCMP_ACT_NOTIFY"}],
    }));
    assert!(compiled_document(&seccomp, &X86_FAMILY).notifies());
    // A name that this architecture does not have asks for nothing.
    let seccomp = document(&serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_NOTIFY"}],
    }));
    assert!(!compiled_document(&seccomp, &X86_FAMILY).notifies());
}

#[test]
fn what_is_not_understood_is_named_with_its_place() {
    let call = |more: serde_json::Value| {
        let mut call = serde_json::json!({"names": ["read"], "action": "SCMP_ACT_ERRNO"});
        let members = call.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]})
    };
    for (text, expected) in [
        (serde_json::json!({}), "defaultAction: unknown action ``"),
        (
            serde_json::json!({"defaultAction": "X"}),
            "defaultAction: unknown action `X`",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "defaultAction: `SCMP_ACT_ALLOW` takes no error number",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "VAX"]}),
            "architectures[1]: unknown architecture `VAX`",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}),
            "flags[0]: unknown flag `SECCOMP_FILTER_FLAG_X`",
        ),
        (
            call(serde_json::json!({"names": []})),
            "syscalls[0].names: a name is missing",
        ),
        (
            call(serde_json::json!({"action": "X"})),
            "syscalls[0].action: unknown action `X`",
        ),
        (
            call(serde_json::json!({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "syscalls[0].args[0]: a call has no argument 6",
        ),
        (
            call(serde_json::json!({"args": [{"index": 0, "value": 0, "op": "=="}]})),
            "syscalls[0].args[0]: unknown operator `==`",
        ),
        (
            call(serde_json::json!({"action": "SCMP_ACT_NOTIFY"})),
            "syscalls[0]: `SCMP_ACT_NOTIFY` needs a `listenerPath`",
        ),
        (
            call(serde_json::json!({"action": "SCMP_ACT_NOTIFY", "names": ["write"]})),
            "syscalls[0].action: `SCMP_ACT_NOTIFY` can't be used for `write`, which the runtime needs itself",
        ),
    ] {
        let error = crate::seccomp::compile(&document(&text)).expect_err(expected);
        let source = std::error::Error::source(&error)
            .expect("a cause")
            .to_string();
        assert_eq!(source, format!("linux.seccomp.{expected}"));
    }
}

#[test]
fn flags_are_the_kernels() {
    let flags = |text: &serde_json::Value| documents::flags(&document(text)).expect("flags");
    let with = |names: &[&str]| {
        flags(&serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": names}))
    };
    let none = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"});
    assert_eq!(flags(&none), libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    assert_eq!(with(&[]), 0);
    assert_eq!(
        with(&["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]),
        3
    );
    assert_eq!(with(&["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), 4);
    assert_eq!(with(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), 0x20);
}

#[test]
fn everything_that_is_validated_is_understood() {
    for name in validate::ARCHITECTURES {
        assert!(parse(name, &X86_FAMILY).is_some(), "{name}");
    }
    for name in validate::ACTIONS {
        assert!(Action::parse(name, None).is_ok(), "{name}");
    }
    for op in validate::OPERATORS {
        check(
            &document(&serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{
                    "names": ["read"], "action": "SCMP_ACT_LOG",
                    "args": [{"index": 5, "value": 3, "valueTwo": 1, "op": op}],
                }],
            })),
            &X86_FAMILY,
            1,
        );
    }
    assert!(documents::flags(&document(&serde_json::json!({"flags": validate::FLAGS}))).is_ok());
    assert_eq!(parse("SCMP_ARCH_S390X", &X86_FAMILY), Some(Named::Foreign));
}
