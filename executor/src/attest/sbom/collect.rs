//! Finds the packages of a tree.
//!
//! Responsible for knowing lists of packages by their names, and for reading each within bounds. Runs in a
//! job. Must not know what becomes of packages. Invariants: no file makes it fail or take more memory than a
//! small multiple of [`MAX_FILE`]; what is not read is said.

use std::io::Read;
use std::path::Path;

use runtime::path::Root;
use rustix::fs::{Mode, OFlags};

use super::package::Package;
use super::system::Distribution;
use super::{lists, locks, rpm, system, tables};
use crate::attest::files::Found;
use crate::error::{Result, ResultExt};

/// The largest list that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// An image has no more packages.
const MAX_PACKAGES: usize = 200_000;

/// What kind of list a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Dpkg,
    Apk,
    /// A database of rpm's.
    Rpm,
    Npm,
    Yarn,
    Pnpm,
    Cargo,
    GoSum,
    GoMod,
    Requirements,
    PythonPackage,
    PythonLock,
    Pipenv,
    Bundler,
    Composer,
}

/// Knows a list by its path.
fn list_of(path: &Path) -> Option<List> {
    let name = path.file_name()?.to_str()?;
    let dir = path.parent()?;
    let list = match name {
        "status" if dir.ends_with("var/lib/dpkg") => List::Dpkg,
        _ if dir.ends_with("var/lib/dpkg/status.d") && !name.ends_with(".md5sums") => List::Dpkg,
        "installed" if dir.ends_with("lib/apk/db") => List::Apk,
        "rpmdb.sqlite" | "Packages.db" | "Packages"
            if dir.ends_with("lib/rpm") || dir.ends_with("lib/sysimage/rpm") =>
        {
            List::Rpm
        }
        "package-lock.json" | "npm-shrinkwrap.json" | ".package-lock.json" => List::Npm,
        "yarn.lock" => List::Yarn,
        "pnpm-lock.yaml" => List::Pnpm,
        "Cargo.lock" => List::Cargo,
        "go.sum" => List::GoSum,
        "go.mod" => List::GoMod,
        "requirements.txt" => List::Requirements,
        "METADATA" if ends_in(dir, ".dist-info") => List::PythonPackage,
        "PKG-INFO" if ends_in(dir, ".egg-info") => List::PythonPackage,
        "poetry.lock" | "uv.lock" => List::PythonLock,
        "Pipfile.lock" => List::Pipenv,
        "Gemfile.lock" => List::Bundler,
        "composer.lock" => List::Composer,
        _ => return None,
    };
    Some(list)
}

fn malformed(path: &str, why: &str) -> String {
    format!("the packages in `{path}` are not in the SBOM: it is malformed: {why}")
}

fn ends_in(dir: &Path, end: &str) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(end))
}

/// Packages that were found, and what could not be read.
#[derive(Debug)]
pub struct Collector {
    distribution: Distribution,
    packages: Vec<Package>,
    notes: Vec<String>,
    full: bool,
}

impl Collector {
    /// Starts with a tree's distribution.
    pub fn new(root: &Root) -> Self {
        let release = ["/etc/os-release", "/usr/lib/os-release"]
            .into_iter()
            .find_map(|path| {
                let fd = root
                    .open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
                    .ok()?;
                let mut text = Vec::new();
                std::fs::File::from(fd)
                    .take(1 << 16)
                    .read_to_end(&mut text)
                    .ok()?;
                Some(String::from_utf8_lossy(&text).into_owned())
            });
        Self {
            distribution: Distribution::parse(&release.unwrap_or_default()),
            packages: Vec::new(),
            notes: Vec::new(),
            full: false,
        }
    }

    /// Reads a file if it is a list.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn visit(&mut self, found: &Found<'_>) -> Result<()> {
        let Some(list) = list_of(found.path) else {
            return Ok(());
        };
        let path = found.path.to_string_lossy();
        if list == List::Rpm {
            let name = found.path.file_name().unwrap_or_default().to_string_lossy();
            match rpm::read(&name, &found.open()?, &self.distribution) {
                Ok(packages) => self.add(packages, &path),
                Err(why) => self.notes.push(malformed(&path, &why)),
            }
            return Ok(());
        }
        let mut bytes = Vec::new();
        let file = found.open()?;
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .op_path("read", found.path)?;
        if bytes.len() as u64 > MAX_FILE {
            self.notes.push(format!(
                "the packages in `{path}` are not in the SBOM: it is larger than {} MiB",
                MAX_FILE >> 20
            ));
            return Ok(());
        }
        let told = match list {
            // Of these only names and versions count, which are ASCII.
            List::Dpkg | List::Apk | List::PythonPackage => {
                self.read(list, &String::from_utf8_lossy(&bytes))
            }
            _ => match std::str::from_utf8(&bytes) {
                Ok(text) => self.read(list, text),
                Err(_) => Err("it is no UTF-8".to_owned()),
            },
        };
        match told {
            Ok(packages) => self.add(packages, &path),
            Err(why) => self.notes.push(malformed(&path, &why)),
        }
        Ok(())
    }

    fn read(&self, list: List, text: &str) -> Result<Vec<Package>, String> {
        Ok(match list {
            List::Rpm => Vec::new(),
            List::Dpkg => system::dpkg(text, &self.distribution),
            List::Apk => system::apk(text, &self.distribution),
            List::Npm => locks::npm(text)?,
            List::Yarn => lists::yarn(text),
            List::Pnpm => lists::pnpm(text),
            List::Cargo => tables::cargo(text),
            List::GoSum => lists::go_sum(text),
            List::GoMod => lists::go_mod(text),
            List::Requirements => lists::requirements(text),
            List::PythonPackage => lists::metadata(text),
            List::PythonLock => tables::python(text),
            List::Pipenv => locks::pipenv(text)?,
            List::Bundler => lists::bundler(text),
            List::Composer => locks::composer(text)?,
        })
    }

    fn add(&mut self, packages: Vec<Package>, path: &str) {
        let room = MAX_PACKAGES - self.packages.len();
        if packages.len() > room && !self.full {
            self.full = true;
            self.notes.push(format!(
                "the SBOM ends in `{path}`: it has {MAX_PACKAGES} packages"
            ));
        }
        let found = packages.into_iter().take(room).map(|package| Package {
            found: path.to_owned(),
            ..package
        });
        self.packages.extend(found);
    }

    /// Returns the packages, sorted and each once for each list, and what was not read.
    pub fn finish(mut self) -> (Vec<Package>, Vec<String>) {
        self.packages.sort_unstable();
        self.packages.dedup();
        (self.packages, self.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::files;
    use std::fs;

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|\n|\n\n|  |: |=|@|/|\"|\\[\\[package\\]\\]\n|packages:\n|GEM\n){0,60}") {
            let dir = tempfile::tempdir().expect("temporary directory");
            let collector = Collector::new(&Root::open_host(dir.path()).expect("root"));
            for list in [
                List::Dpkg, List::Apk, List::Npm, List::Yarn, List::Pnpm, List::Cargo, List::GoSum,
                List::GoMod, List::Requirements, List::PythonPackage, List::PythonLock,
                List::Pipenv, List::Bundler, List::Composer,
            ] {
                for package in collector.read(list, &text).unwrap_or_default() {
                    proptest::prop_assert!(package.purl.starts_with("pkg:"));
                }
            }
        }
    }

    #[test]
    fn lists_are_known_by_their_paths() {
        for (path, list) in [
            ("/var/lib/dpkg/status", Some(List::Dpkg)),
            ("/var/lib/dpkg/status.d/tzdata", Some(List::Dpkg)),
            ("/var/lib/dpkg/status.d/tzdata.md5sums", None),
            ("/var/lib/dpkg/status-old", None),
            ("/usr/lib/apk/db/installed", Some(List::Apk)),
            ("/lib/apk/db/installed", Some(List::Apk)),
            ("/usr/lib/sysimage/rpm/rpmdb.sqlite", Some(List::Rpm)),
            ("/app/Cargo.lock", Some(List::Cargo)),
            ("/x/a-1.dist-info/METADATA", Some(List::PythonPackage)),
            ("/x/METADATA", None),
            ("/app/status", None),
        ] {
            assert_eq!(list_of(Path::new(path)), list, "{path}");
        }
    }

    #[test]
    fn a_tree_gives_packages_and_says_what_it_could_not_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let write = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, bytes).expect("write");
        };
        write("usr/lib/os-release", b"ID=debian\nVERSION_ID=12\n");
        fs::create_dir(dir.path().join("etc")).expect("mkdir");
        let link = dir.path().join("etc/os-release");
        std::os::unix::fs::symlink("../usr/lib/os-release", link).expect("link");
        write(
            "var/lib/dpkg/status",
            b"Package: b\nVersion: 1\n\nPackage: a\nVersion: 2\n",
        );
        write("app/package-lock.json", b"{\"packages\":");
        write("app/yarn.lock", b"\xff");
        write(
            "app/Cargo.lock",
            b"[[package]]\nname = \"c\"\nversion = \"3\"\n",
        );
        write("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0");
        let root = Root::open_host(dir.path()).expect("root");
        let mut collector = Collector::new(&root);
        files::walk(&root, &mut |found| collector.visit(found)).expect("walk");
        let (packages, notes) = collector.finish();
        let purls: Vec<&str> = packages.iter().map(|p| p.purl.as_str()).collect();
        assert_eq!(
            purls,
            [
                "pkg:cargo/c@3",
                "pkg:deb/debian/a@2?distro=debian-12",
                "pkg:deb/debian/b@1?distro=debian-12"
            ]
        );
        assert_eq!(packages[0].found, "/app/Cargo.lock");
        for (note, wanted) in notes.iter().zip([
            "package-lock.json` are not",
            "yarn.lock` are not",
            "rpmdb.sqlite` are not",
        ]) {
            assert!(note.contains(wanted), "{note}");
        }
        assert_eq!(notes.len(), 3);
    }
}
