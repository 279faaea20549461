//! Every case of the corpus, built here and by buildah: both fail, or their images are the same,
//! but for the differences that DIFFERENCES.md gives a reason for.
//!
//! Responsible for building and comparing. Must not know what is in the cases. Invariant: buildah
//! builds a case once, whoever compares with it; a difference that no longer occurs is a failure.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use support::image::{Image, Options, compare, flatten};
use support::peers::buildah;
use support::process::find;
use support::{Base, Registry, User, World, for_users};

use super::corpus::{self, Case};

/// Where buildah leaves marks of its own: mount points that it makes in the image.
const ENGINE_MARKS: [&str; 4] = ["proc", "sys", "dev", "run"];

/// What buildah says when it has tripped over its own executable, which it copies into memory for each
/// step: a mistake of its own, which comes and goes.
const BUSY: &str = "sealing memfd copy";

/// What buildah made of a case.
#[derive(Debug, Clone)]
enum Peer {
    Image(PathBuf),
    Failure(String),
}

/// A difference that is meant to be.
#[derive(Debug)]
struct Accepted {
    case: String,
    /// A part of the line that tells it.
    difference: String,
}

/// Reads a table of DIFFERENCES.md: the first one is about buildah, the second one about BuildKit.
fn table(number: usize) -> Vec<Accepted> {
    let path = corpus::directory().join("DIFFERENCES.md");
    let text = std::fs::read_to_string(path).expect("read DIFFERENCES.md");
    let table = text.split("\n# ").nth(number).expect("a table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('`').collect();
        let [_, case, _, difference, reason, ..] = cells[..] else {
            panic!("not case, difference and reason: {row}")
        };
        assert!(reason.len() > 10, "no reason: {row}");
        Accepted {
            case: case.to_owned(),
            difference: difference.to_owned(),
        }
    })
    .collect()
}

fn accepted() -> Vec<Accepted> {
    table(0)
}

fn bases() -> Result<Vec<(&'static str, String)>, String> {
    let registry = Registry::shared()?;
    [Base::Busybox, Base::Owners, Base::Layered, Base::Triggers]
        .into_iter()
        .map(|base| Ok((base.name(), registry.base(base)?)))
        .collect()
}

/// Builds a case with buildah, in Docker's format: it keeps all keys of the config.
fn build_there(world: &World, case: &Case) -> Peer {
    let place = place(case);
    case.lay_out(world, &place);
    let archive = world.path(&place).join("peer.tar");
    let build = || {
        let mut command = buildah(world)
            .args(["bud", "--quiet", "--tls-verify=false"])
            .args(["--identity-label=false", "--format", "docker", "--tag"])
            .arg(format!("docker-archive:{}:peer:latest", archive.display()))
            .args(&case.arguments)
            .arg("ctx")
            .cwd(world.path(&place));
        for (name, value) in &case.environment {
            command = command.env(name, value);
        }
        command.run()
    };
    let mut output = build();
    for _ in 0..4 {
        if !output.all().contains(BUSY) {
            break;
        }
        output = build();
    }
    if output.code == Some(0) {
        Peer::Image(archive)
    } else {
        Peer::Failure(output.all())
    }
}

fn place(case: &Case) -> String {
    case.name.replace("::", ".")
}

/// Returns what buildah makes of a case; `None` where it can't be asked.
fn peer(case: &Case) -> Option<Peer> {
    type Results = Mutex<HashMap<String, Arc<OnceLock<Peer>>>>;
    static RESULTS: OnceLock<Results> = OnceLock::new();
    find("buildah")?;
    let user = [User::Root, User::Subids]
        .into_iter()
        .find(|user| user.account().is_ok())?;
    let world = World::new(user, "dockerfile::differential::peer")?;
    let results = RESULTS.get_or_init(Results::default);
    let result = {
        let mut results = results.lock().expect("nobody panics with it");
        Arc::clone(results.entry(case.name.clone()).or_default())
    };
    Some(result.get_or_init(|| build_there(&world, case)).clone())
}

/// Builds a case and returns everything that is wrong; differences to buildah apart from the rest.
fn examine(world: &World, case: &Case) -> (Vec<String>, Vec<String>) {
    let place = place(case);
    case.lay_out(world, &place);
    let mut command = world
        .sandcrab([
            "build",
            "--progress=plain",
            "--output=type=docker,dest=ours.tar",
        ])
        .args(&case.arguments)
        .args(&case.ours)
        .arg("ctx")
        .cwd(world.path(&place));
    for (name, value) in &case.environment {
        command = command.env(name, value);
    }
    let output = command.run();
    let built = output.code == Some(0);
    let mut wrong = Vec::new();
    if built != case.fails.is_empty() {
        let what = if built { "is built" } else { "fails" };
        wrong.push(format!("{what}:\n{}", output.all()));
        return (wrong, Vec::new());
    }
    for failure in &case.fails {
        let place = failure.place.iter().map(|place| format!("{place}\n"));
        for text in place.chain([failure.text.clone()]) {
            if !output.stderr.contains(&text) {
                wrong.push(format!("does not say {text:?}:\n{}", output.stderr));
            }
        }
    }
    for text in &case.warns {
        if !output.stderr.contains(text) {
            wrong.push(format!("does not say {text:?}:\n{}", output.stderr));
        }
    }
    let image = built.then(|| world.image(format!("{place}/ours.tar").as_str()));
    if let Some(image) = &image {
        match flatten(image) {
            Ok(tree) => {
                let checks = case.expectations.iter();
                wrong.extend(checks.filter_map(|each| each.check(image, &tree)));
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    let peer = case.alone.is_none().then(|| peer(case)).flatten();
    let differences = peer.map_or_else(Vec::new, |peer| differences(image.as_ref(), &peer));
    (wrong, differences)
}

fn differences(ours: Option<&Image>, peer: &Peer) -> Vec<String> {
    match (ours, peer) {
        (None, Peer::Failure(_)) => Vec::new(),
        (None, Peer::Image(_)) => vec!["buildah builds it".to_owned()],
        (Some(_), Peer::Failure(text)) => vec![format!("buildah fails: {text}")],
        (Some(ours), Peer::Image(path)) => {
            let mut options = Options::standard().ignoring(&ENGINE_MARKS);
            // What the kernel notes in the layers of a rootless overlay.
            options.ignore_xattrs.push("user.overlay.".to_owned());
            let theirs = Image::open(&path.to_string_lossy());
            let found = theirs.and_then(|theirs| compare(ours, &theirs, &options));
            found.map_or_else(
                |error| vec![format!("{error:#}")],
                |found| found.differences,
            )
        }
    }
}

/// Builds all cases of a file of the corpus as the world's user.
#[track_caller]
fn all_of(group: &str, world: &World) {
    let bases = match bases() {
        Ok(bases) => bases,
        Err(why) => return support::skip(&world.test, &why),
    };
    // One store for all cases, as a user has: the bases are fetched once.
    let shared = World::new(world.user, "dockerfile::differential::store");
    let shared = shared.expect("the account was there a moment ago");
    let accepted = accepted();
    let cases = corpus::read(group, &bases);
    assert!(!cases.is_empty(), "no cases in {group}");
    let only = std::env::var("SANDCRAB_CASE").ok();
    let mut report = Vec::new();
    for case in &cases {
        if only.as_ref().is_some_and(|only| !case.name.contains(only)) {
            continue;
        }
        let (mut wrong, differences) = examine(&shared, case);
        let listed = || accepted.iter().filter(|each| each.case == case.name);
        for line in &differences {
            if !listed().any(|each| line.contains(&each.difference)) {
                wrong.push(format!("differs from buildah: {line}"));
            }
        }
        let compared = case.alone.is_none() && find("buildah").is_some();
        for each in listed().filter(|_| compared) {
            if !differences
                .iter()
                .any(|line| line.contains(&each.difference))
            {
                wrong.push(format!(
                    "no longer differs, but is listed: {}",
                    each.difference
                ));
            }
        }
        report.extend(wrong.iter().map(|line| format!("{}: {line}", case.name)));
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

for_users! {
    fn parser(world) as [root, subids, plain] {
        all_of("parser", world);
    }

    fn variables(world) as [root, subids, plain] {
        all_of("variables", world);
    }

    fn copy(world) as [root, subids, plain] {
        all_of("copy", world);
    }

    fn heredocs(world) as [root, subids, plain] {
        all_of("heredocs", world);
    }

    fn add(world) as [root, subids, plain] {
        all_of("add", world);
    }

    fn flags(world) as [root, subids, plain] {
        all_of("flags", world);
    }

    fn run(world) as [root, subids, plain] {
        all_of("run", world);
    }

    fn checks(world) as [root, subids, plain] {
        all_of("checks", world);
    }

    fn mounts(world) as [root, subids, plain] {
        all_of("mounts", world);
    }

    fn inputs(world) as [root, subids, plain] {
        all_of("inputs", world);
    }

    fn instructions(world) as [root, subids, plain] {
        all_of("instructions", world);
    }

    fn world(world) as [root, subids, plain] {
        all_of("world", world);
    }
}

/// Each file of the corpus is built, and each accepted difference is about a case.
#[test]
fn whole_corpus() {
    let source = include_str!("differential.rs");
    let mut names = Vec::new();
    for group in corpus::groups() {
        assert!(
            source.contains(&format!("all_of(\"{group}\"")),
            "{group} is not built"
        );
        names.extend(corpus::read(&group, &[]).into_iter().map(|case| case.name));
    }
    assert!(names.len() >= 120, "only {} cases", names.len());
    for each in table(0).into_iter().chain(table(1)) {
        assert!(names.contains(&each.case), "there is no case {}", each.case);
    }
}
