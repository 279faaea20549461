//! SBOMs: which packages an image has.
//!
//! Responsible for the document (SPDX 2.3, in JSON) and for the list that it is made of. Must not read
//! files: [`collect`] is handed them. Invariant: the same files give the same document, but for its date.

pub mod collect;
mod lists;
mod locks;
mod package;
mod rpm;
mod system;
mod tables;

use serde_json::{Value, json};

use super::statement::Predicate;
use crate::image::digest::Digest;

pub use package::Package;

/// The predicate's type.
pub const PREDICATE: &str = "https://spdx.dev/Document";

/// The image in the document.
const ROOT: &str = "SPDXRef-Image";

/// Makes the document of packages in order; `created` is its date (RFC 3339).
pub fn document(name: &str, created: &str, packages: &[Package]) -> Value {
    let entries: Vec<Value> = packages.iter().map(entry).collect();
    let listed = json!([name, entries]).to_string();
    let namespace = Digest::of(listed.as_bytes()).hex();
    let contained = packages.iter().map(|package| {
        json!({
            "spdxElementId": ROOT,
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": id(package),
        })
    });
    let described = json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": ROOT,
    });
    let relationships: Vec<Value> = std::iter::once(described).chain(contained).collect();
    let root = json!({
        "SPDXID": ROOT,
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
    });
    let all: Vec<Value> = std::iter::once(root).chain(entries).collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/sandcrab-{}", &namespace[..40]),
        "creationInfo": {
            // SPDX wants whole seconds.
            "created": whole_seconds(created),
            "creators": [concat!("Tool: sandcrab-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": all,
        "relationships": relationships,
    })
}

/// Makes an attestation of the document.
pub fn predicate(file: &str, document: &Value) -> Predicate {
    Predicate {
        kind: PREDICATE,
        file: file.to_owned(),
        inline_only: false,
        body: serde_json::value::to_raw_value(document).expect("values have string keys only"),
    }
}

fn whole_seconds(date: &str) -> String {
    let parsed: Result<jiff::Timestamp, _> = date.parse();
    let seconds = parsed.and_then(|date| jiff::Timestamp::from_second(date.as_second()));
    seconds.map_or_else(|_| date.to_owned(), |date| date.to_string())
}

fn entry(package: &Package) -> Value {
    let mut entry = json!({
        "SPDXID": id(package),
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "sourceInfo": format!("listed in /{}", package.found.trim_start_matches('/')),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.purl,
        }],
    });
    if let Some(license) = &package.license {
        if is_expression(license) {
            entry["licenseDeclared"] = license.as_str().into();
        } else {
            entry["licenseComments"] = format!("declared as: {license}").into();
        }
    }
    entry
}

/// Returns a package's name in the document.
fn id(package: &Package) -> String {
    let name = package.name.chars().take(64);
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.map(plain).collect();
    let digest = Digest::of(format!("{}\n{}", package.purl, package.found).as_bytes());
    format!("SPDXRef-Package-{name}-{}", &digest.hex()[..16])
}

/// Tells whether a text has the form of an expression (SPDX 2.3, annex D): names, with operators between.
fn is_expression(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let (mut depth, mut after_name) = (0_usize, false);
    for word in spaced.split_whitespace() {
        match word {
            "(" if !after_name => depth += 1,
            ")" if after_name && depth > 0 => depth -= 1,
            "AND" | "OR" | "WITH" if after_name => after_name = false,
            "(" | ")" | "AND" | "OR" | "WITH" => return false,
            name => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-.+:".contains(c);
                if after_name || !name.chars().all(plain) {
                    return false;
                }
                after_name = true;
            }
        }
    }
    after_name && depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, license: Option<&str>) -> Package {
        Package {
            name: name.into(),
            version: "1:2".into(),
            purl: format!("pkg:deb/debian/{name}@1:2"),
            license: license.map(str::to_owned),
            found: "/var/lib/dpkg/status".into(),
        }
    }

    #[test]
    fn the_document_has_what_spdx_wants() {
        let packages = [
            package("a+b", Some("MIT")),
            package("c", Some("do what you want")),
        ];
        let date = "2001-01-01T00:00:00.5Z";
        let document = document("app", date, &packages);
        assert_eq!(document["creationInfo"]["created"], "2001-01-01T00:00:00Z");
        let listed = document["packages"].as_array().expect("packages");
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[1]["licenseDeclared"], "MIT");
        assert_eq!(listed[2]["licenseDeclared"], "NOASSERTION");
        assert_eq!(
            listed[2]["licenseComments"],
            "declared as: do what you want"
        );
        assert_eq!(
            listed[1]["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/a+b@1:2"
        );
        let related = document["relationships"].as_array().expect("relationships");
        assert_eq!(related[1]["relatedSpdxElement"], listed[1]["SPDXID"]);
        let id = listed[1]["SPDXID"].as_str().expect("an id");
        assert!(id.starts_with("SPDXRef-Package-a-b-"), "{id}");
        // Only the date may differ.
        let later = super::document("app", "2002-01-01T00:00:00Z", &packages);
        assert_eq!(later["documentNamespace"], document["documentNamespace"]);
        let other = super::document("app", date, &packages[..1]);
        assert_ne!(other["documentNamespace"], document["documentNamespace"]);
    }

    #[test]
    fn expressions() {
        for text in [
            "MIT",
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
            "(MIT OR Apache-2.0) AND BSD-3-Clause",
        ] {
            assert!(is_expression(text), "{text}");
        }
        for text in [
            "",
            "GPL v2",
            "MIT OR",
            "(MIT",
            "MIT)",
            "AND MIT",
            "a/b",
            "SEE LICENSE IN x",
        ] {
            assert!(!is_expression(text), "{text}");
        }
    }
}
