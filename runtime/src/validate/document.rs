//! The document's upper level (config.md).
//!
//! Responsible for version, root, names, hooks and the sections of other platforms.
//! Invariant: as for its parent module.

use super::{Report, linux, mounts, process, quote};
use crate::spec::{Hook, Hooks, Spec};

/// Longest host and domain name (`__NEW_UTS_LEN`, uname(2)).
const LONGEST_NAME: usize = 64;

pub(super) fn check(spec: &Spec, report: &mut Report) {
    if let Err(text) = check_version(&spec.oci_version) {
        report.add_at("ociVersion", text);
    }
    report.field("root", |report| match &spec.root {
        None => report.add("is required"),
        Some(root) if root.path.is_empty() => report.add_at("path", "is required"),
        Some(root) => check_text("path", &root.path, report),
    });
    if let Some(process) = &spec.process {
        report.field("process", |report| process::check(process, report));
    }
    let kinds = spec.linux.as_ref().map(|l| l.namespaces.as_slice());
    let has = |kind: &str| kinds.is_some_and(|list| list.iter().any(|n| n.kind == kind));
    for (field, name) in [
        ("hostname", &spec.hostname),
        ("domainname", &spec.domainname),
    ] {
        if name.is_empty() {
            continue;
        }
        check_text(field, name, report);
        if name.len() > LONGEST_NAME {
            report.add_at(field, format!("is longer than {LONGEST_NAME} bytes"));
        }
        if !has("uts") {
            report.add_at(field, "needs a uts namespace");
        }
    }
    report.each("mounts", &spec.mounts, |report, mount| {
        mounts::check(mount, has("user"), report);
    });
    if !has("mount") {
        check_without_mounts(spec, report);
    }
    if let Some(hooks) = &spec.hooks {
        report.field("hooks", |report| check_hooks(hooks, report));
    }
    report.field("annotations", |report| {
        if spec.annotations.contains_key("") {
            report.add("a name is empty");
        }
    });
    if let Some(section) = &spec.linux {
        report.field("linux", |report| linux::check(section, report));
    }
    for (name, section) in [
        ("solaris", &spec.solaris),
        ("windows", &spec.windows),
        ("vm", &spec.vm),
        ("zos", &spec.zos),
        ("freebsd", &spec.freebsd),
    ] {
        if section.is_some() {
            report.add_at(name, "is for another platform and not supported");
        }
    }
}

/// SemVer 2.0.0, with major version 1: minor versions only add what may be ignored (config.md,
/// "Extensibility").
fn check_version(version: &str) -> Result<(), String> {
    if version.is_empty() {
        return Err("is required".to_owned());
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| {
        let plain = part == "0" || !part.starts_with('0');
        let digits = (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        (plain && digits)
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    let numbers: Option<Vec<u32>> = core.split('.').map(number).collect();
    let suffix = version.get(core.len()..).unwrap_or_default();
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-+.".contains(&b);
    match numbers.as_deref() {
        Some([1, _, _]) if suffix.len() != 1 && suffix.bytes().all(known) => Ok(()),
        Some([major, _, _]) if *major != 1 => Err(format!(
            "version {} is not supported, only 1.x is",
            quote(version)
        )),
        _ => Err(format!("{} is no version such as 1.3.0", quote(version))),
    }
}

/// Without a mount namespace everything that is mounted would be so on the host.
fn check_without_mounts(spec: &Spec, report: &mut Report) {
    const TEXT: &str = "needs a mount namespace";
    if !spec.mounts.is_empty() {
        report.add_at("mounts", TEXT);
    }
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        report.field("root", |report| report.add_at("readonly", TEXT));
    }
    let Some(linux) = &spec.linux else {
        return;
    };
    report.field("linux", |report| {
        for (name, present) in [
            ("maskedPaths", !linux.masked_paths.is_empty()),
            ("readonlyPaths", !linux.readonly_paths.is_empty()),
            ("rootfsPropagation", !linux.rootfs_propagation.is_empty()),
        ] {
            if present {
                report.add_at(name, TEXT);
            }
        }
    });
}

fn check_hooks(hooks: &Hooks, report: &mut Report) {
    for (name, list) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ] {
        report.each(name, list, |report, hook| check_hook(hook, report));
    }
}

fn check_hook(hook: &Hook, report: &mut Report) {
    check_path("path", &hook.path, report);
    report.each("args", &hook.args, |report, text| no_nul(text, report));
    process::check_environment(&hook.env, report);
    if let Some(timeout) = hook.timeout
        && timeout <= 0
    {
        report.add_at("timeout", format!("{timeout} is not above 0"));
    }
}

/// A field that has to be an absolute path.
pub(super) fn check_path(name: &str, path: &str, report: &mut Report) {
    report.field(name, |report| absolute(path, report));
}

/// The value at the present place has to be an absolute path.
pub(super) fn absolute(path: &str, report: &mut Report) {
    if path.is_empty() {
        report.add("is required");
    } else if !path.starts_with('/') {
        report.add(format!("{} is not an absolute path", quote(path)));
    }
    no_nul(path, report);
}

/// A field that is given to the kernel.
pub(super) fn check_text(name: &str, text: &str, report: &mut Report) {
    report.field(name, |report| no_nul(text, report));
}

/// The value at the present place is given to the kernel.
pub(super) fn no_nul(text: &str, report: &mut Report) {
    if text.contains('\0') {
        report.add(format!("has a null character: {}", quote(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in [
            "1.0.0",
            "1.0.2-dev",
            "1.1.0+dev",
            "1.2.0",
            "1.3.0",
            "1.99.12",
            "1.0.0-rc.1+b.7",
        ] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.0",
            "1.0.",
            "2.0.0",
            "0.9.0",
            "v1.0.0",
            "1.0.0-",
            "1.0.x",
            "1.0.0 ",
            "01.0.0",
            "1..0",
            "1.0.0.0",
            "١.0.0",
            "1.0.0-\0",
            "99999999999.0.0",
        ] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
        let text = check_version("2.0.0").expect_err("another major version");
        assert_eq!(text, "version `2.0.0` is not supported, only 1.x is");
    }
}
