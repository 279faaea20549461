//! Lock files that are JSON: npm's, pipenv's and composer's.
//!
//! Responsible for the packages that they pin. Must not read files. Invariant: what is no JSON, or has another
//! shape, is an error that says so, not a shorter list.

use serde_json::{Map, Value};

use super::package::Package;
use super::tables::pypi;

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is no object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("`{what}` is no object"))
}

/// Reads `package-lock.json` and `npm-shrinkwrap.json` of all versions (npm, package-lock-json(5)).
pub(super) fn npm(text: &str) -> Result<Vec<Package>, String> {
    let fields = parse(text)?;
    let mut all = Vec::new();
    if let Some(packages) = fields.get("packages") {
        for (path, entry) in object(packages, "packages")? {
            // The project itself, and links to what is listed elsewhere.
            let Some((_, last)) = path.rsplit_once("node_modules/") else {
                continue;
            };
            let name = entry["name"].as_str().unwrap_or(last);
            if let Some(version) = entry["version"].as_str() {
                all.push(Package::of("npm", name, version).licensed(entry["license"].as_str()));
            }
        }
    } else if let Some(dependencies) = fields.get("dependencies") {
        let mut rest = vec![object(dependencies, "dependencies")?];
        while let Some(dependencies) = rest.pop() {
            for (name, entry) in dependencies {
                if let Some(version) = entry["version"].as_str() {
                    all.push(Package::of("npm", name, version));
                }
                rest.extend(entry["dependencies"].as_object());
            }
        }
    }
    Ok(all)
}

/// Reads `Pipfile.lock`.
pub(super) fn pipenv(text: &str) -> Result<Vec<Package>, String> {
    let fields = parse(text)?;
    let mut all = Vec::new();
    for section in ["default", "develop"] {
        let Some(packages) = fields.get(section) else {
            continue;
        };
        for (name, entry) in object(packages, section)? {
            if let Some(version) = entry["version"].as_str() {
                all.push(pypi(name, version.trim_start_matches('=')));
            }
        }
    }
    Ok(all)
}

/// Reads `composer.lock`.
pub(super) fn composer(text: &str) -> Result<Vec<Package>, String> {
    let fields = parse(text)?;
    let mut all = Vec::new();
    for section in ["packages", "packages-dev"] {
        let Some(packages) = fields.get(section) else {
            continue;
        };
        let packages = packages
            .as_array()
            .ok_or_else(|| format!("`{section}` is no list"))?;
        for entry in packages {
            let (Some(name), Some(version)) = (entry["name"].as_str(), entry["version"].as_str())
            else {
                continue;
            };
            let licenses = entry["license"].as_array().into_iter().flatten();
            // Composer's documentation: several are alternatives.
            let licenses: Vec<&str> = licenses.filter_map(Value::as_str).collect();
            let license = licenses.join(" OR ");
            all.push(Package::of("composer", name, version).licensed(Some(&license)));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purls(packages: Result<Vec<Package>, String>) -> Vec<String> {
        let packages = packages.expect("packages");
        packages.into_iter().map(|p| p.purl).collect()
    }

    #[test]
    fn npm_of_all_versions() {
        let new = r#"{"packages":{"":{"version":"9"},"node_modules/a":{"version":"1.0.0","license":"MIT"},
            "node_modules/a/node_modules/@s/b":{"version":"2.0.0"},"node_modules/l":{"link":true},
            "node_modules/alias":{"name":"real","version":"3.0.0"}}}"#;
        assert_eq!(
            npm(new).expect("packages")[0].license.as_deref(),
            Some("MIT")
        );
        assert_eq!(
            purls(npm(new)),
            [
                "pkg:npm/a@1.0.0",
                "pkg:npm/%40s/b@2.0.0",
                "pkg:npm/real@3.0.0"
            ]
        );
        let old = r#"{"dependencies":{"a":{"version":"1","dependencies":{"b":{"version":"2"}}}}}"#;
        assert_eq!(purls(npm(old)), ["pkg:npm/a@1", "pkg:npm/b@2"]);
    }

    #[test]
    fn pipenv_and_composer() {
        let lock = r#"{"default":{"Flask_X":{"version":"==2.0"},"g":{"ref":"x"}},"develop":{"t":{"version":"==1"}}}"#;
        assert_eq!(
            purls(pipenv(lock)),
            ["pkg:pypi/flask-x@2.0", "pkg:pypi/t@1"]
        );
        let lock = r#"{"packages":[{"name":"v/n","version":"v1.2","license":["MIT","X"]}],"packages-dev":[{}]}"#;
        let packages = composer(lock).expect("packages");
        assert_eq!(packages[0].license.as_deref(), Some("MIT OR X"));
        assert_eq!(packages[0].purl, "pkg:composer/v/n@v1.2");
    }

    #[test]
    fn what_is_malformed_is_said() {
        for read in [npm, pipenv, composer] {
            assert!(read("{").is_err());
            assert!(read("[]").is_err());
            assert_eq!(read("{}").expect("empty"), []);
        }
        assert_eq!(
            npm(r#"{"packages":[]}"#).expect_err("a list"),
            "`packages` is no object"
        );
        assert!(npm(&"[".repeat(100_000)).is_err());
    }
}
