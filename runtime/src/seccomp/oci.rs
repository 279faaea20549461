//! Profiles of OCI documents (config-linux.md, "Seccomp").
//!
//! Responsible for what a document's words mean, as runc 1.1 to 1.4 take them where the
//! specification leaves it open. Must not know numbers of calls. Invariant: an action, operator,
//! architecture or flag that is not understood is an error that names it and its place.

use std::collections::BTreeSet;

use libc::c_ulong;

use super::action::Action;
use super::architecture::{self, Family, Named};
use super::profile::{ARGUMENTS, Condition, Profile, Rule, Test};
use crate::error::{Error, Result};
use crate::spec;

/// Translates a document's profile.
pub(super) fn profile<'a>(seccomp: &'a spec::Seccomp, family: &Family) -> Result<Profile<'a>> {
    let default = Action::parse(&seccomp.default_action, seccomp.default_errno_ret)
        .map_err(|e| wrong("defaultAction", e))?;
    if default == Action::NOTIFY {
        let text = "`SCMP_ACT_NOTIFY` can't be the default: the runtime must get to its end";
        return Err(wrong("defaultAction", text));
    }
    // The native one is always meant, even by a profile that does not list it (libseccomp).
    let mut architectures = BTreeSet::from([family.native()]);
    for (at, name) in seccomp.architectures.iter().enumerate() {
        match architecture::parse(name, family) {
            Some(Named::Ours(architecture)) => {
                architectures.insert(architecture);
            }
            // Its programs can't run here.
            Some(Named::Foreign) => {}
            None => {
                let place = format!("architectures[{at}]");
                return Err(wrong(place, format!("unknown architecture `{name}`")));
            }
        }
    }
    let mut rules = Vec::new();
    for (at, call) in seccomp.syscalls.iter().enumerate() {
        let place = format!("syscalls[{at}]");
        rules_of(call, &place, &mut rules)?;
        if rules.iter().any(|rule| rule.action == Action::NOTIFY)
            && seccomp.listener_path.is_empty()
        {
            return Err(wrong(place, "`SCMP_ACT_NOTIFY` needs a `listenerPath`"));
        }
    }
    Ok(Profile {
        default,
        foreign: Action::KILL_THREAD,
        // What runc does since 1.0.0: with a default that refuses or kills, a C library would take
        // a call that it could replace for one that is forbidden.
        hides_newer: !default.lets_through(),
        architectures: architectures.into_iter().collect(),
        rules,
    })
}

fn rules_of<'a>(call: &'a spec::SeccompCall, place: &str, rules: &mut Vec<Rule<'a>>) -> Result<()> {
    let action = Action::parse(&call.action, call.errno_ret)
        .map_err(|e| wrong(format!("{place}.action"), e))?;
    if call.names.is_empty() || call.names.iter().any(String::is_empty) {
        return Err(wrong(format!("{place}.names"), "a name is missing"));
    }
    if action == Action::NOTIFY && call.names.iter().any(|name| name == "write") {
        // It still has to say which descriptor the listener is.
        let text = "`SCMP_ACT_NOTIFY` can't be used for `write`, which the runtime needs itself";
        return Err(wrong(format!("{place}.action"), text));
    }
    let conditions = call
        .args
        .iter()
        .enumerate()
        .map(|(at, arg)| condition(arg).map_err(|e| wrong(format!("{place}.args[{at}]"), e)));
    let conditions = conditions.collect::<Result<Vec<Condition>>>()?;
    let arguments: BTreeSet<u8> = conditions.iter().map(|c| c.argument).collect();
    let groups = if arguments.len() == conditions.len() {
        vec![conditions]
    } else {
        // As runc and crun do, since libseccomp takes one comparison for each argument: older
        // profiles name the same argument twice and mean "or".
        conditions.into_iter().map(|c| vec![c]).collect()
    };
    for conditions in groups {
        rules.push(Rule {
            calls: call.names.iter().map(String::as_str).collect(),
            action,
            conditions,
        });
    }
    Ok(())
}

fn condition(arg: &spec::SeccompArg) -> std::result::Result<Condition, String> {
    let argument = u8::try_from(arg.index).unwrap_or(ARGUMENTS);
    if argument >= ARGUMENTS {
        return Err(format!("a call has no argument {}", arg.index));
    }
    let test = match arg.op.as_str() {
        "SCMP_CMP_NE" => Test::NotEqual(arg.value),
        "SCMP_CMP_LT" => Test::Less(arg.value),
        "SCMP_CMP_LE" => Test::LessOrEqual(arg.value),
        "SCMP_CMP_EQ" => Test::Equal(arg.value),
        "SCMP_CMP_GE" => Test::GreaterOrEqual(arg.value),
        "SCMP_CMP_GT" => Test::Greater(arg.value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked {
            mask: arg.value,
            value: arg.value_two,
        },
        other => return Err(format!("unknown operator `{other}`")),
    };
    Ok(Condition { argument, test })
}

/// Returns the flags for seccomp(2). Without the member, `SECCOMP_FILTER_FLAG_SPEC_ALLOW` is one
/// (runc 1.1); an empty list is none.
pub(super) fn flags(seccomp: &spec::Seccomp) -> Result<c_ulong> {
    let Some(names) = &seccomp.flags else {
        return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    };
    let mut flags = 0;
    for (at, name) in names.iter().enumerate() {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
            other => {
                let place = format!("flags[{at}]");
                return Err(wrong(place, format!("unknown flag `{other}`")));
            }
        };
    }
    Ok(flags)
}

fn wrong(place: impl AsRef<str>, text: impl Into<String>) -> Error {
    let text = text.into();
    Error::new("compile seccomp profile").cause(format!("linux.seccomp.{}: {text}", place.as_ref()))
}
