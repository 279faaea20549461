//! Databases of package managers of distributions: dpkg's and apk's.
//!
//! Responsible for packages that are installed, with the distribution's name. Must not read files.
//! Invariant: any text gives a list.

use super::super::purl;
use super::package::Package;

/// The distribution, from `/etc/os-release` (os-release(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    id: String,
    version: String,
}

impl Distribution {
    /// Reads it; what is missing stays empty.
    pub(super) fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default()
                .trim_matches(['"', '\''])
                .to_owned()
        };
        Self {
            id: value("ID").to_lowercase(),
            version: value("VERSION_ID"),
        }
    }

    /// Names the distribution as package URLs do: `debian-12`.
    fn named(&self) -> String {
        match (self.id.as_str(), self.version.as_str()) {
            ("", _) => String::new(),
            (id, "") => id.to_owned(),
            (id, version) => format!("{id}-{version}"),
        }
    }

    /// Makes a package of this distribution, or of the manager's own where there is no name.
    pub(super) fn package(
        &self,
        kind: &str,
        own: &str,
        name: &str,
        version: &str,
        qualifiers: &[(&str, &str)],
    ) -> Package {
        let namespace = if self.id.is_empty() { own } else { &self.id };
        let distro = self.named();
        let mut all = qualifiers.to_vec();
        all.push(("distro", &distro));
        all.sort_unstable();
        Package {
            purl: purl::make(kind, namespace, name, version, &all),
            name: name.to_owned(),
            version: version.to_owned(),
            found: String::new(),
            license: None,
        }
    }
}

/// Reads `/var/lib/dpkg/status`, or a file of `status.d`, where packages have no status.
pub(super) fn dpkg(text: &str, distribution: &Distribution) -> Vec<Package> {
    let stanzas = text.split("\n\n");
    let read = |stanza: &str| {
        let field = |name: &str| {
            let mut lines = stanza.lines();
            lines
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
            return None;
        }
        let (name, version) = (field("Package")?, field("Version")?);
        let source = field("Source").unwrap_or_default();
        let source = source.split(' ').next().unwrap_or_default();
        let architecture = field("Architecture").unwrap_or_default();
        let qualifiers = [("arch", architecture), ("upstream", source)];
        Some(distribution.package("deb", "debian", name, version, &qualifiers))
    };
    stanzas.filter_map(read).collect()
}

/// Reads apk's `installed` (Alpine's wiki, "Apk spec").
pub(super) fn apk(text: &str, distribution: &Distribution) -> Vec<Package> {
    let read = |stanza: &str| {
        let field = |key: &str| {
            let mut lines = stanza.lines();
            lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
        };
        let (name, version) = (field("P:")?, field("V:")?);
        let origin = field("o:")
            .filter(|origin| *origin != name)
            .unwrap_or_default();
        let qualifiers = [
            ("arch", field("A:").unwrap_or_default()),
            ("upstream", origin),
        ];
        let package = distribution.package("apk", "alpine", name, version, &qualifiers);
        Some(package.licensed(field("L:")))
    };
    text.split("\n\n").filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purls(packages: &[Package]) -> Vec<&str> {
        packages.iter().map(|p| p.purl.as_str()).collect()
    }

    #[test]
    fn dpkg_lists_what_is_installed() {
        let debian = Distribution::parse("NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n");
        let text = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\n\
                    Version: 5.2.15-2+b7\nSource: bash (5.2.15-2)\nDescription: x\n Package: no\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: half\nStatus: install ok installed\n\nVersion: 3\n";
        let packages = dpkg(text, &debian);
        assert_eq!(
            purls(&packages),
            ["pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12&upstream=bash"]
        );
        assert_eq!(packages[0].version, "5.2.15-2+b7");
        // Images without a package manager have a file for each, and maybe no name.
        let bare = dpkg(
            "Package: tzdata\nVersion: 2024a\n",
            &Distribution::default(),
        );
        assert_eq!(purls(&bare), ["pkg:deb/debian/tzdata@2024a"]);
        assert!(dpkg("\0\n\n:\n", &debian).is_empty());
    }

    #[test]
    fn apk_lists_with_licences() {
        let alpine = Distribution::parse("ID=alpine\nVERSION_ID=3.18.4\n");
        let text = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nF:lib\n\n\
                    P:musl-utils\nV:1.2.4-r2\nA:x86_64\nL:MIT AND BSD-2-Clause\no:musl\n\nV:1\n";
        let packages = apk(text, &alpine);
        assert_eq!(
            purls(&packages),
            [
                "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.18.4",
                "pkg:apk/alpine/musl-utils@1.2.4-r2?arch=x86_64&distro=alpine-3.18.4&upstream=musl",
            ]
        );
        assert_eq!(packages[1].license.as_deref(), Some("MIT AND BSD-2-Clause"));
    }
}
