//! `config.json` of a bundle, as far as it goes before any process exists.
//!
//! Responsible for the calls that `create` makes with an untrusted document, and for what must
//! hold between them. Must not touch the system. Invariant: a document without problems is one
//! that every part can read.

use std::fmt::Write as _;
use std::path::Path;

use runtime::caps::Sets;
use runtime::rlimits::Rlimits;
use runtime::rootfs::{Layout, RootSource, Settings};
use runtime::scheduling::{Affinity, IoPriority, MemoryPolicy, Personality, Scheduler};
use runtime::seccomp;
use runtime::spec::Spec;
use runtime::sysctl::Sysctls;
use runtime::validate::validate;

/// Reads a document; the kinds of its problems.
pub(crate) fn read(bytes: &[u8]) -> String {
    let spec = match Spec::parse(bytes) {
        Ok(spec) => spec,
        Err(error) => return kind(&describe(&error)),
    };
    // Fractions, which only these can hold, may change when written.
    let plain = Spec {
        solaris: None,
        windows: None,
        vm: None,
        zos: None,
        freebsd: None,
        ..spec.clone()
    };
    let written = serde_json::to_vec(&plain).expect("a document can be written");
    let again = Spec::parse(&written).expect("what was written can be read");
    assert_eq!(plain, again, "what was written is what was read");

    let problems = validate(&spec);
    let mut what = String::new();
    for problem in &problems {
        assert!(!problem.text.contains(['\0', '\n']), "{problem}");
        let _: std::fmt::Result = write!(what, "{} ", kind(&problem.to_string()));
    }
    let fine = problems.is_empty();
    let mut part = |name: &str, result: runtime::Result<()>| match result {
        Ok(()) => {}
        Err(error) => {
            let text = describe(&error);
            assert!(!fine, "no problem was found, but {name}: {text}");
            let _: std::fmt::Result = write!(what, "{} ", kind(&text));
        }
    };
    if let Some(process) = &spec.process {
        let (sets, _) = Sets::parse(
            &process.capabilities.clone().unwrap_or_default(),
            process.user.uid,
        );
        assert!(sets.permitted.contains(sets.ambient), "{sets:?}");
        part("rlimits", Rlimits::parse(&process.rlimits).map(drop));
        let scheduler = process.scheduler.as_ref().map(Scheduler::parse);
        part("scheduler", scheduler.transpose().map(drop));
        let priority = process.io_priority.as_ref().map(IoPriority::parse);
        part("ioPriority", priority.transpose().map(drop));
        let affinity = process.exec_cpu_affinity.as_ref().map(Affinity::parse);
        part("execCPUAffinity", affinity.transpose().map(drop));
    }
    if let Some(linux) = &spec.linux {
        part(
            "sysctl",
            Sysctls::parse(&linux.sysctl, &linux.namespaces).map(drop),
        );
        let policy = linux.memory_policy.as_ref().map(MemoryPolicy::parse);
        part("memoryPolicy", policy.transpose().map(drop));
        let filter = linux.seccomp.as_ref().map(seccomp::compile);
        part("seccomp", filter.transpose().map(drop));
        let personality = linux.personality.as_ref().map(Personality::parse);
        part("personality", personality.transpose().map(drop));
    }
    let root = RootSource::Directory("/bundle/rootfs".into());
    let layout = Layout::with_root(&spec, Path::new("/bundle"), root, Settings::default());
    part("rootfs", layout.map(drop));
    what
}

fn describe(error: &runtime::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A message without what the document put into it: numbers, and what is in quotes.
pub(crate) fn kind(text: &str) -> String {
    let mut kind = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '`' | '"' => quoted = !quoted,
            _ if quoted || c.is_ascii_digit() => {}
            c => kind.push(c),
        }
    }
    kind
}
