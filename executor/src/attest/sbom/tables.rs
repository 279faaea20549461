//! Lock files that are TOML: cargo's, poetry's and uv's.
//!
//! Responsible for names and versions in their `[[package]]` tables. Must not read files. These files are
//! written by programs, one key a line, so that no more of TOML has to be known. Invariant: any text gives a list.

use super::package::Package;

/// Makes a package of Python's, whose names are compared without case and kinds of dashes (PEP 503).
pub(super) fn pypi(name: &str, version: &str) -> Package {
    let mut normal = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    Package {
        name: name.trim().to_owned(),
        ..Package::of("pypi", &normal, version)
    }
}

/// Returns names and versions.
fn packages(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut name, mut version) = (None, None);
    let mut inside = false;
    for line in text.lines().chain(["[[package]]"]) {
        if line.starts_with('[') {
            if line.trim_end() == "[[package]]" {
                all.extend(name.take().zip(version.take()));
                (name, version) = (None, None);
            }
            inside = line.trim_end() == "[[package]]";
        } else if inside {
            name = name.or_else(|| value(line, "name"));
            version = version.or_else(|| value(line, "version"));
        }
    }
    all
}

/// Returns the string that a line gives a key.
fn value(line: &str, key: &str) -> Option<String> {
    let rest = line
        .strip_prefix(key)?
        .trim_start()
        .strip_prefix('=')?
        .trim();
    let text = rest.strip_prefix('"')?.strip_suffix('"')?;
    (!text.is_empty() && !text.contains(['"', '\\'])).then(|| text.to_owned())
}

/// Reads `Cargo.lock`.
pub(super) fn cargo(text: &str) -> Vec<Package> {
    let all = packages(text).into_iter();
    all.map(|(name, version)| Package::of("cargo", &name, &version))
        .collect()
}

/// Reads `poetry.lock` and `uv.lock`.
pub(super) fn python(text: &str) -> Vec<Package> {
    let all = packages(text).into_iter();
    all.map(|(name, version)| pypi(&name, &version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_packages() {
        let text = "version = 3\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\ndependencies = [\n \"x\",\n]\n\n\
                    [[package]]\nname = \"no-version\"\n\n[[package]]\nname = \"b\"\nversion = \"2\"\n\n\
                    [package.dependencies]\nname = \"not this\"\n[metadata]\nversion = \"9\"\n";
        let all = packages(text);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(all, [pair("serde", "1.0.1"), pair("b", "2")]);
        assert_eq!(cargo(text)[0].purl, "pkg:cargo/serde@1.0.1");
        assert_eq!(
            python("[[package]]\nname = \"Zope.Interface__x\"\nversion = \"5\"")[0].purl,
            "pkg:pypi/zope-interface-x@5"
        );
        assert!(packages("name = \"\\\"\n[[[[\n=\n").is_empty());
    }
}
