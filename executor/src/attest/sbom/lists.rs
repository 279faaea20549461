//! Lists of packages that are lines of text: yarn's, pnpm's, Go's, pip's and bundler's.
//!
//! Responsible for names and versions. Must not read files. Invariant: any text gives a list.

use super::package::Package;
use super::tables::pypi;

/// Reads `yarn.lock`, of yarn 1 and of later ones.
pub(super) fn yarn(text: &str) -> Vec<Package> {
    let mut all = Vec::new();
    let mut name: Option<String> = None;
    let mut version: Option<String> = None;
    for line in text.lines().chain(["end:"]) {
        if !line.starts_with([' ', '#']) && line.ends_with(':') {
            let found = name.take().zip(version.take());
            // What is of the project itself.
            let found = found.filter(|(_, version)| !version.ends_with("-use.local"));
            all.extend(found.map(|(name, version)| Package::of("npm", &name, &version)));
            (name, version) = (header(line), None);
        } else if let Some(rest) = line.strip_prefix("  version") {
            version = Some(rest.trim_matches([' ', ':', '"']).to_owned());
        } else if let Some(rest) = line.strip_prefix("  resolution:") {
            name = header(rest.trim()).or(name);
        }
    }
    all
}

/// Returns the name of the first package that `"a@^1", b@2:` lists.
fn header(line: &str) -> Option<String> {
    let first = line
        .split([',', '"'])
        .find(|part| !part.trim().is_empty())?
        .trim();
    let at = first.char_indices().skip(1).find(|(_, c)| *c == '@')?.0;
    Some(first[..at].to_owned())
}

/// Reads the part `packages` of `pnpm-lock.yaml`: keys are `/a/1.0.0`, `/a@1.0.0` or `a@1.0.0`, by its version.
pub(super) fn pnpm(text: &str) -> Vec<Package> {
    let mut all = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with(' ') && !line.trim().is_empty() {
            inside = line.trim_end() == "packages:";
            continue;
        }
        let Some(key) = line
            .strip_prefix("  ")
            .filter(|key| inside && !key.starts_with(' '))
        else {
            continue;
        };
        let key = key.trim_end_matches("{}").trim_end().trim_end_matches(':');
        let key = key.trim_matches(['\'', '"']).trim_start_matches('/');
        let key = key.split('(').next().unwrap_or(key);
        let last = key.rfind('/').map_or(0, |at| at + 1);
        let old = last > 0 && is_version(&key[last..]);
        // A scope begins with the sign that is before a version, too.
        let at = key[last..].find('@').map(|at| last + at);
        let split = match at.filter(|at| *at > 0 && !old) {
            Some(at) => Some((&key[..at], &key[at + 1..])),
            None => key.rsplit_once('/'),
        };
        let found = split.filter(|(name, version)| !name.is_empty() && is_version(version));
        if let Some((name, version)) = found {
            let version = version.split('_').next().unwrap_or(version);
            all.push(Package::of("npm", name, version));
        }
    }
    all
}

/// Tells whether a text begins like a version: with three numbers.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match parts[..] {
        [major, minor, rest] => {
            is_number(major) && is_number(minor) && rest.starts_with(|c: char| c.is_ascii_digit())
        }
        _ => false,
    }
}

/// Reads `go.sum`: modules whose content is pinned, not those of which only `go.mod` is.
pub(super) fn go_sum(text: &str) -> Vec<Package> {
    let read = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (name, version) = (words.next()?, words.next()?);
        let pinned = words.next()?.starts_with("h1:") && !version.ends_with("/go.mod");
        pinned.then(|| Package::of("golang", name, version))
    };
    text.lines().filter_map(read).collect()
}

/// Reads what `go.mod` requires.
pub(super) fn go_mod(text: &str) -> Vec<Package> {
    let mut all = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let required = match line.strip_prefix("require") {
            Some(rest) if rest.trim() == "(" => {
                inside = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest,
            _ if line == ")" => {
                inside = false;
                continue;
            }
            _ if inside => line,
            _ => continue,
        };
        let mut words = required.split_ascii_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next())
            && version.starts_with('v')
        {
            all.push(Package::of("golang", name, version));
        }
    }
    all
}

/// Reads what `requirements.txt` pins by `==` (PEP 508).
pub(super) fn requirements(text: &str) -> Vec<Package> {
    let read = |line: &str| {
        let line = line.split(['#', ';']).next()?.trim();
        let (name, rest) = line.split_once("==")?;
        let name = name.split('[').next()?.trim();
        let version = rest
            .trim_start_matches('=')
            .split([' ', ',', '\\', '\t'])
            .find(|v| !v.is_empty())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = !name.is_empty() && name.chars().all(is_name) && !version.contains('*');
        fits.then(|| pypi(name, version))
    };
    text.lines().filter_map(read).collect()
}

/// Reads `METADATA` or `PKG-INFO` of an installed Python package (PEP 566).
pub(super) fn metadata(text: &str) -> Vec<Package> {
    let head = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| {
        let mut lines = head.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let license = field("License-Expression").or_else(|| field("License"));
    let found = field("Name").zip(field("Version"));
    let package = found.map(|(name, version)| pypi(name, version).licensed(license));
    package.into_iter().collect()
}

/// Reads `Gemfile.lock`.
pub(super) fn bundler(text: &str) -> Vec<Package> {
    let mut all = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with(' ') {
            inside = line.trim_end() == "GEM";
            continue;
        }
        let Some(spec) = line
            .strip_prefix("    ")
            .filter(|spec| inside && !spec.starts_with(' '))
        else {
            continue;
        };
        let version = |rest: &str| rest.trim_end().strip_suffix(')').map(str::to_owned);
        if let Some((name, Some(version))) =
            spec.split_once(" (").map(|(n, rest)| (n, version(rest)))
        {
            all.push(Package::of("gem", name, &version));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purls(packages: &[Package]) -> Vec<&str> {
        packages.iter().map(|p| p.purl.as_str()).collect()
    }

    #[test]
    fn yarn_old_and_new() {
        let old = "# yarn lockfile v1\n\n\"@s/a@^7.0.0\", \"@s/a@^7.1.0\":\n  version \"7.1.2\"\n  dependencies:\n    b \"^1\"\n\nb@^1:\n  version \"1.0.0\"\n";
        assert_eq!(
            purls(&yarn(old)),
            ["pkg:npm/%40s/a@7.1.2", "pkg:npm/b@1.0.0"]
        );
        let new = "__metadata:\n  version: 6\n\n\"alias@npm:real@^1\":\n  version: 1.2.0\n  resolution: \"real@npm:1.2.0\"\n\n\"me@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \"me@workspace:.\"\n";
        assert_eq!(purls(&yarn(new)), ["pkg:npm/real@1.2.0"]);
        assert!(yarn(":\n@:\n  version\n\"\":\n").is_empty());
    }

    #[test]
    fn pnpm_of_all_versions() {
        let text = "lockfileVersion: '9.0'\nimporters:\n  .:\n    x: 1\npackages:\n\n  '@s/a@1.0.0':\n    resolution: {}\n  b@2.0.0(react@18.0.0): {}\n  /c@3.0.0:\n  /@s/d/4.0.0_peer@1:\n  /e/5.0.0:\nsnapshots:\n  f@6.0.0: {}\n";
        assert_eq!(
            purls(&pnpm(text)),
            [
                "pkg:npm/%40s/a@1.0.0",
                "pkg:npm/b@2.0.0",
                "pkg:npm/c@3.0.0",
                "pkg:npm/%40s/d@4.0.0",
                "pkg:npm/e@5.0.0"
            ]
        );
    }

    #[test]
    fn go_ruby_and_python() {
        let sum = "a.io/x/y v1.0.0 h1:abc=\na.io/x/y v1.0.0/go.mod h1:def=\nz v2 \n";
        assert_eq!(purls(&go_sum(sum)), ["pkg:golang/a.io/x/y@v1.0.0"]);
        let module = "module m\nrequire a.io/b v1.0.0 // indirect\nrequire (\n\tc.io/d v2.0.0+incompatible\n\t// none\n)\nreplace x v1 => y v2\n";
        assert_eq!(
            purls(&go_mod(module)),
            [
                "pkg:golang/a.io/b@v1.0.0",
                "pkg:golang/c.io/d@v2.0.0%2Bincompatible"
            ]
        );
        let gems = "GEM\n  remote: https://x/\n  specs:\n    rails (7.0.1)\n      actionpack (= 7.0.1)\n    nokogiri (1.15-x86_64-linux)\n\nPLATFORMS\n    ruby (1)\n";
        assert_eq!(
            purls(&bundler(gems)),
            ["pkg:gem/rails@7.0.1", "pkg:gem/nokogiri@1.15-x86_64-linux"]
        );
        let pinned = "Flask[async]==2.0.1 ; python_version > '3' # web\n-r other.txt\nb>=1\nc==1.*\nd === 3 \\\n    --hash=sha256:x==y\n";
        assert_eq!(
            purls(&requirements(pinned)),
            ["pkg:pypi/flask@2.0.1", "pkg:pypi/d@3"]
        );
        let installed =
            "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1\nLicense: MIT\n\nName: no\n";
        let found = metadata(installed);
        assert_eq!(
            (purls(&found), found[0].license.as_deref()),
            (vec!["pkg:pypi/foo-bar@1"], Some("MIT"))
        );
        assert!(metadata("").is_empty());
    }
}
