//! Attestations beside files: what `type=local` and `type=tar` have of them.
//!
//! Responsible for their names, which are BuildKit's, and for the statements about the files. Must not
//! write them. Invariant: none takes the place of a file of the tree.

use crate::attest::files::Scan;
use crate::attest::statement::{self, Predicate, Subject};
use crate::error::{Error, Kind, Result};
use crate::image::platform::Platform;

/// A file beside a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beside {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Returns what has to be beside files.
pub(super) fn wanted(predicates: &[Predicate]) -> Vec<&Predicate> {
    let beside = predicates.iter().filter(|p| !p.inline_only);
    beside.collect()
}

/// Makes the statements about a tree. `platform` becomes part of the names where several trees share a
/// directory.
///
/// # Errors
/// When the tree has a file of that name.
pub(super) fn statements(
    predicates: &[&Predicate],
    scan: &Scan,
    prefix: &str,
    platform: Option<&Platform>,
) -> Result<Vec<Beside>> {
    let files = scan.files.iter();
    let subjects: Vec<Subject> = files
        .map(|(name, digest)| Subject::new(name, digest))
        .collect();
    let mut all = Vec::new();
    for predicate in predicates {
        let name = format!("{prefix}{}", named(&predicate.file, platform));
        if scan.top.contains(&name) {
            return Err(Error::new(format!(
                "the result has a file `/{name}` of its own, where the attestation would go"
            ))
            .kind(Kind::Build)
            .hint("add attestation-prefix=PREFIX to the output"));
        }
        let bytes = statement::pretty(predicate, &subjects)?;
        all.push(Beside { name, bytes });
    }
    Ok(all)
}

/// Puts a platform before the end of a file's name.
fn named(file: &str, platform: Option<&Platform>) -> String {
    let Some(platform) = platform else {
        return file.to_owned();
    };
    let platform = platform.to_string().replace('/', "_");
    match file.rsplit_once('.') {
        Some((stem, end)) => format!("{stem}.{platform}.{end}"),
        None => format!("{file}.{platform}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    #[test]
    fn names_and_subjects() {
        let platform: Platform = "linux/arm64".parse().expect("platform");
        assert_eq!(
            named("a.spdx.json", Some(&platform)),
            "a.spdx.linux_arm64.json"
        );
        assert_eq!(named("a.json", None), "a.json");
        assert_eq!(named("a", Some(&platform)), "a.linux_arm64");
        let predicate = Predicate {
            kind: "https://a",
            file: "a.json".into(),
            inline_only: false,
            body: serde_json::value::to_raw_value(&1).expect("json"),
        };
        let scan = Scan {
            top: vec!["a.json".into()],
            files: vec![("d/f".into(), Digest::of(b"x"))],
            ..Scan::default()
        };
        assert!(statements(&[&predicate], &scan, "", None).is_err());
        let made = statements(&[&predicate], &scan, "p-", None).expect("statements");
        assert_eq!(made[0].name, "p-a.json");
        let value: serde_json::Value = serde_json::from_slice(&made[0].bytes).expect("json");
        assert_eq!(value["subject"][0]["name"], "d/f");
        assert_eq!(value["predicate"], 1);
        let hidden = Predicate {
            inline_only: true,
            ..predicate
        };
        assert!(wanted(&[hidden]).is_empty());
    }
}
