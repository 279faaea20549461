//! `sandcrab doctor`: what this machine and user can do, and what to change for more.
//!
//! Responsible for putting into words what [`runtime::features`] has found. Must not try or decide
//! anything itself. Invariant: what the report says a build would use is what a build uses, since
//! both ask the same function.

use std::path::{Path, PathBuf};

use runtime::features::{Cgroup, Features, Support};
use runtime::identity::{EnterPlan, Identity};
use serde_json::{Value, json};

use runtime::binfmt::Means;

use crate::build::emulation;
use crate::config::Settings;
use crate::error::{Result, ResultExt};
use crate::image::platform::Platform;

/// The command line of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What to print, and whether builds work.
#[derive(Debug)]
pub(super) struct Diagnosis {
    /// For standard output.
    pub(super) text: String,
    /// Whether a build would get as far as its steps.
    pub(super) can_build: bool,
}

/// Tries everything and reports; the process has one thread still.
///
/// # Errors
/// When no process can be started to try things in.
pub(super) fn run(args: &Args, settings: &Settings) -> Result<Diagnosis> {
    let near = existing(&settings.root);
    let features = runtime::features::probe(&near).op("find out what works")?;
    let can_build = features.identity.is_ok()
        && features.user_namespace.is_ok()
        && features.overlay.is_ok()
        && (features.seccomp_notify.is_ok() || !is_emulated(&features));
    let text = if args.json {
        let document = document(&features, &settings.root, can_build);
        format!("{document:#}\n")
    } else {
        report(&features, &settings.root)
    };
    Ok(Diagnosis { text, can_build })
}

/// Returns the nearest directory that exists: nothing is left behind in a place that is new.
fn existing(root: &Path) -> PathBuf {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let found = absolute.ancestors().find(|dir| dir.is_dir());
    found.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// One thing that was tried.
struct Finding {
    key: &'static str,
    label: String,
    result: Support,
    /// What is lost without it; `None` when builds are.
    without: Option<&'static str>,
}

/// Names the platforms whose steps run here, and says why others' don't.
fn platforms(known: impl Iterator<Item = (Platform, emulation::Support)>) -> (String, Support) {
    let (mut run, mut emulated) = (Vec::new(), false);
    for (platform, support) in known {
        match support {
            emulation::Support::Native => {}
            emulation::Support::Emulated(Means::Program(_) | Means::Registration) => {
                emulated = true;
            }
            emulation::Support::Emulated(Means::None) | emulation::Support::Unknown => continue,
        }
        run.push(platform.to_string());
    }
    let result = if emulated {
        Ok(())
    } else {
        Err("no qemu-*-static in /usr/bin: install `qemu-user-static`".to_owned())
    };
    (
        format!("steps for other platforms; {} run", run.join(", ")),
        result,
    )
}

fn findings(features: &Features, root: &Path) -> Vec<Finding> {
    let finding = |key, label: &str, result: &Support, without| Finding {
        key,
        label: label.to_owned(),
        result: result.clone(),
        without,
    };
    let present = |found: bool, why: &str| if found { Ok(()) } else { Err(why.to_owned()) };
    let overlay = format!("overlay file systems in `{}`", root.display());
    let landlock = match features.landlock {
        Some(version) => format!("Landlock, version {version}"),
        None => "Landlock".to_owned(),
    };
    let known = emulation::known().map(|platform| {
        let support = emulation::support(&platform);
        (platform, support)
    });
    let (platforms, emulators) = platforms(known);
    vec![
        finding(
            "platforms",
            &platforms,
            &emulators,
            Some("steps for other platforms than this machine's fail"),
        ),
        finding(
            "user_namespace",
            "user namespaces",
            &features.user_namespace,
            None,
        ),
        finding("overlay", &overlay, &features.overlay, None),
        finding(
            "overlay_options",
            "many layers in one overlay (Linux 6.7)",
            &features.overlay_options,
            Some("a slower way is used for images with many layers"),
        ),
        finding(
            "proc",
            "a /proc of its own for each step",
            &features.proc,
            Some("steps see this machine's processes by their numbers"),
        ),
        finding(
            "seccomp",
            "filters of system calls",
            &features.seccomp,
            None,
        ),
        finding(
            "seccomp_notify",
            "answering system calls for a step (Linux 5.0)",
            &features.seccomp_notify,
            if is_emulated(features) {
                None
            } else {
                Some("nothing is lost by that with this isolation")
            },
        ),
        finding(
            "seccomp_wake",
            "answering them quickly (Linux 6.6)",
            &features.seccomp_wake,
            if is_emulated(features) {
                Some("steps that ask for owners a lot are several times slower")
            } else {
                Some("nothing is lost by that with this isolation")
            },
        ),
        finding(
            "landlock",
            &landlock,
            &present(features.landlock.is_some(), "not switched on in the kernel"),
            Some("nothing is lost by that so far"),
        ),
    ]
}

fn report(features: &Features, root: &Path) -> String {
    let mut text = format!(
        "sandcrab {} for {}, on Linux {} ({})\n\nA build would use\n",
        env!("CARGO_PKG_VERSION"),
        Platform::host(),
        features.kernel,
        features.machine
    );
    match &features.identity {
        Ok(plan) => {
            row(&mut text, "isolation", &isolation(plan));
            row(&mut text, "because", &plan.reason);
            if plan.identity == Identity::Emulated {
                row(&mut text, "means", EMULATED_MEANS);
                row(&mut text, "costs", emulated_cost(features));
            }
            row(
                &mut text,
                "files",
                "overlays of the layers, nothing is copied",
            );
        }
        Err(error) => row(&mut text, "nothing", &describe(error)),
    }
    row(&mut text, "store", &root.display().to_string());
    text.push_str("\nWhat works\n");
    for finding in findings(features, root) {
        match (&finding.result, finding.without) {
            (Ok(()), _) => text.push_str(&format!("  yes  {}\n", finding.label)),
            (Err(why), None) => text.push_str(&format!("  NO   {}: {why}\n", finding.label)),
            (Err(why), Some(without)) => {
                text.push_str(&format!(
                    "  no   {}: {why}\n       {without}\n",
                    finding.label
                ));
            }
        }
    }
    text.push_str(&format!("  {}\n", programs(features)));
    text.push_str(&format!("  control groups: {}\n", cgroup(features.cgroup)));
    let modules = features.security_modules.trim();
    if !modules.is_empty() {
        text.push_str(&format!("  security modules: {modules}\n"));
    }
    let advice = advice(features);
    if advice.is_empty() {
        text.push_str("\nThere is nothing to change.\n");
    } else {
        // What is not needed is not asked for.
        text.push_str(if is_emulated(features) && features.restriction.is_none() {
            "\nThere is nothing that has to be changed. Quicker would be\n"
        } else {
            "\nWhat to change\n"
        });
        for item in advice {
            text.push_str(&format!("  - {item}\n"));
        }
    }
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("  {name:<11}{value}\n"));
}

fn isolation(plan: &EnterPlan) -> String {
    let name = plan.identity.name();
    match plan.identity {
        Identity::Subids => format!(
            "{name}: {} user ids of your own, none of which is you",
            plan.ids.count
        ),
        Identity::Emulated => format!("{name}: every user id; on disk all of them are you"),
        Identity::Host => format!("{name}: this machine's user ids"),
    }
}

fn is_emulated(features: &Features) -> bool {
    let plan = features.identity.as_ref();
    plan.is_ok_and(|plan| plan.identity == Identity::Emulated)
}

const EMULATED_MEANS: &str = "who owns a file is kept in a record beside it, and sandcrab answers\n             \
the system calls of steps that depend on it; images come out the same";

/// Measured on two virtual CPUs with Linux 6.18: 1.7 µs for a call that is passed on, 3.9 µs for one
/// that is answered, 50 to 60 µs without the quick way.
fn emulated_cost(features: &Features) -> &'static str {
    if features.seccomp_wake.is_ok() {
        "some millionths of a second for each such call (stat, chown, open …):\n             \
         little where a step computes, up to twice the time where it installs or lists"
    } else {
        "about 50 millionths of a second for each such call (stat, chown, open …),\n             \
         because this kernel is older than 6.6: steps that install a lot are several times slower"
    }
}

fn programs(features: &Features) -> String {
    let found = |path: &Option<PathBuf>| match path {
        Some(path) => path.display().to_string(),
        None => "not found".to_owned(),
    };
    format!(
        "newuidmap: {}, newgidmap: {}",
        found(&features.newuidmap),
        found(&features.newgidmap)
    )
}

fn cgroup(cgroup: Cgroup) -> &'static str {
    match cgroup {
        Cgroup::None => "none",
        Cgroup::V1 => "version 1",
        Cgroup::Hybrid => "versions 1 and 2",
        Cgroup::V2 => "version 2",
    }
}

/// What the user can do, the most important first.
fn advice(features: &Features) -> Vec<String> {
    let mut advice: Vec<String> = Vec::new();
    if let Some((why, change)) = &features.restriction {
        advice.push(format!("{why}: {change}"));
    }
    match &features.identity {
        Ok(plan) => advice.extend(plan.advice.iter().cloned()),
        Err(error) => advice.extend(error.hints().iter().map(ToString::to_string)),
    }
    let mut seen = std::collections::BTreeSet::new();
    advice.retain(|item| seen.insert(item.clone()));
    advice
}

fn describe(error: &runtime::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn document(features: &Features, root: &Path, can_build: bool) -> Value {
    let identity = match &features.identity {
        Ok(plan) => json!({
            "name": plan.identity.name(),
            "ids": plan.ids.count,
            "reason": plan.reason,
        }),
        Err(error) => json!({ "error": describe(error) }),
    };
    let tried: serde_json::Map<String, Value> = findings(features, root)
        .into_iter()
        .map(|finding| {
            let value = match finding.result {
                Ok(()) => json!({ "works": true }),
                Err(why) => json!({ "works": false, "reason": why }),
            };
            (finding.key.to_owned(), value)
        })
        .collect();
    let modules: Vec<&str> = features
        .security_modules
        .trim()
        .split(',')
        .filter(|name| !name.is_empty())
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "platform": Platform::host().to_string(),
        "kernel": features.kernel,
        "machine": features.machine,
        "can_build": can_build,
        "store": root,
        "identity": identity,
        "features": tried,
        "landlock_version": features.landlock,
        "newuidmap": features.newuidmap,
        "newgidmap": features.newgidmap,
        "cgroup": cgroup(features.cgroup),
        "security_modules": modules,
        "advice": advice(features),
    })
}

#[cfg(test)]
mod tests {
    use runtime::identity::{IdMap, MapWriter};

    use super::*;

    fn good() -> Features {
        Features {
            kernel: "6.12.1".into(),
            machine: "x86_64".into(),
            identity: Ok(EnterPlan {
                identity: Identity::Subids,
                ids: IdMap {
                    first: 1,
                    count: 65_536,
                },
                uid_map: Vec::new(),
                gid_map: Vec::new(),
                writer: MapWriter::Own,
                reason: "user has a range".into(),
                advice: Vec::new(),
            }),
            newuidmap: Some("/usr/bin/newuidmap".into()),
            newgidmap: None,
            user_namespace: Ok(()),
            overlay: Ok(()),
            overlay_options: Ok(()),
            proc: Ok(()),
            seccomp: Ok(()),
            seccomp_notify: Ok(()),
            seccomp_wake: Ok(()),
            landlock: Some(6),
            cgroup: Cgroup::V2,
            security_modules: "lockdown,landlock\n".into(),
            restriction: None,
        }
    }

    #[test]
    fn a_good_machine_has_nothing_to_change() {
        let text = report(&good(), Path::new("/s"));
        for wanted in [
            ", on Linux 6.12.1 (x86_64)\n",
            "  isolation  subids: 65536 user ids of your own, none of which is you\n",
            "  because    user has a range\n",
            "  yes  user namespaces\n",
            "  yes  overlay file systems in `/s`\n",
            "  yes  Landlock, version 6\n",
            "  newuidmap: /usr/bin/newuidmap, newgidmap: not found\n",
            "  security modules: lockdown,landlock\n",
            "There is nothing to change.\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        let document = document(&good(), Path::new("/s"), true);
        assert_eq!(document["identity"]["name"], "subids");
        assert_eq!(document["features"]["overlay"]["works"], true);
        assert_eq!(document["security_modules"][1], "landlock");
    }

    #[test]
    fn an_account_without_ids_is_told_what_that_means() {
        let mut features = good();
        if let Ok(plan) = &mut features.identity {
            plan.identity = Identity::Emulated;
            plan.advice = vec!["a range".into()];
        }
        let text = report(&features, Path::new("/s"));
        for wanted in [
            "  isolation  emulated: every user id; on disk all of them are you\n",
            "  means      who owns a file is kept in a record",
            "  costs      some millionths",
            "  yes  answering system calls for a step",
            "There is nothing that has to be changed. Quicker would be\n  - a range\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        features.seccomp_wake = Err("invalid argument".into());
        let text = report(&features, Path::new("/s"));
        assert!(text.contains("older than 6.6"), "{text}");
        features.seccomp_notify = Err("the kernel is too old".into());
        let text = report(&features, Path::new("/s"));
        assert!(text.contains("  NO   answering system calls"), "{text}");
    }

    #[test]
    fn a_bad_machine_is_told_what_to_change() {
        let refused = runtime::Error::new("no user namespace").hint("ask for one");
        let features = Features {
            identity: Err(refused),
            user_namespace: Err("permission denied".into()),
            landlock: None,
            restriction: Some(("a switch is off".into(), "switch it on".into())),
            ..good()
        };
        let text = report(&features, Path::new("/s"));
        for wanted in [
            "  nothing    no user namespace\n",
            "  NO   user namespaces: permission denied\n",
            "  no   Landlock: not switched on in the kernel\n       nothing is lost",
            "What to change\n  - a switch is off: switch it on\n  - ask for one\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        let document = document(&features, Path::new("/s"), false);
        assert_eq!(document["identity"]["error"], "no user namespace");
        assert_eq!(
            document["features"]["user_namespace"]["reason"],
            "permission denied"
        );
    }

    #[test]
    fn platforms_that_run_are_named() {
        let told = |means: Means| {
            let known = [
                ("linux/amd64", emulation::Support::Native),
                ("linux/arm64", emulation::Support::Emulated(means)),
                ("linux/s390x", emulation::Support::Emulated(Means::None)),
                ("windows/amd64", emulation::Support::Unknown),
            ];
            let known = known.into_iter().map(|(text, support)| {
                let platform: Platform = text.parse().expect("platform");
                (platform, support)
            });
            platforms(known)
        };
        let (label, result) = told(Means::Registration);
        let both = "steps for other platforms; linux/amd64, linux/arm64 run";
        assert_eq!((label.as_str(), result), (both, Ok(())));
        let (label, result) = told(Means::None);
        assert_eq!(label, "steps for other platforms; linux/amd64 run");
        assert!(
            result
                .expect_err("nothing")
                .contains("install `qemu-user-static`")
        );
    }

    #[test]
    fn what_does_not_exist_is_tried_above() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(existing(&dir.path().join("a/b")), dir.path());
        assert_eq!(existing(dir.path()), dir.path());
    }
}
