//! SBOMs: which packages an image has.

use std::collections::BTreeSet;

use serde_json::Value;

use support::{World, base, for_users};

use super::{attested, json};

const SPDX: &str = "https://spdx.dev/Document";

/// Returns the package URLs of a document.
fn purls(document: &Value) -> Vec<&str> {
    let packages = document["packages"].as_array().expect("packages");
    packages
        .iter()
        .filter_map(|p| p["externalRefs"][0]["referenceLocator"].as_str())
        .collect()
}

fn lock_files(world: &World) {
    world.write(
        "ctx/app/package-lock.json",
        r#"{"packages":{"":{},"node_modules/left-pad":{"version":"1.3.0","license":"WTFPL"}}}"#,
    );
    world.write(
        "ctx/app/Cargo.lock",
        "[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\n",
    );
    world.write(
        "ctx/app/go.sum",
        "a.io/b v1.0.0 h1:x=\na.io/b v1.0.0/go.mod h1:y=\n",
    );
    world.write("ctx/app/requirements.txt", "Flask==2.0.1\n");
    world.write("ctx/bad/composer.lock", "{\"packages\": 7}");
    world.write(
        "ctx/lib/apk/db/installed",
        "P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\nP:busybox\nV:1.36\nA:x86_64\nL:GPL-2.0-only\no:bb\n",
    );
    world.write("ctx/etc/os-release", "ID=alpine\nVERSION_ID=3.18.4\n");
    world.dockerfile("FROM scratch\nCOPY . /\n");
    world.write("ctx/.dockerignore", "Dockerfile\n.dockerignore\n");
}

for_users! {
    /// Of a Debian base the list is dpkg's own.
    fn as_dpkg_lists_them(world) as [root, subids, plain] {
        let base = base!(world, Debian);
        world.dockerfile(&format!(
            "FROM {base}\nRUN dpkg-query -W -f '${{db:Status-Abbrev}} ${{Package}} ${{Version}} ${{Architecture}}\\n' >/list\n"
        ));
        world.build(["--sbom", "-t=listed", "--output=type=oci,tar=false,dest=o"]).ok();
        let images = attested(world, "o");
        let document = &images[0].of(SPDX)["predicate"];
        let listed: BTreeSet<[&str; 2]> = document["packages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["sourceInfo"] == "listed in /var/lib/dpkg/status")
            .map(|p| [p["name"].as_str().unwrap(), p["versionInfo"].as_str().unwrap()])
            .collect();
        let text = world.sandcrab(["run", "listed", "cat", "/list"]).ok().text();
        let installed: BTreeSet<[&str; 2]> = text
            .lines()
            .filter_map(|line| line.strip_prefix("ii "))
            .map(|line| {
                let mut words = line.split_whitespace();
                [words.next().unwrap(), words.next().unwrap()]
            })
            .collect();
        assert!(installed.len() > 20, "{text}");
        assert_eq!(listed, installed);
        let dpkg = purls(document).into_iter().find(|purl| purl.starts_with("pkg:deb/debian/dpkg@"));
        let dpkg = dpkg.expect("a package URL");
        assert!(dpkg.contains("?arch=amd64&distro=debian-"), "{dpkg}");
    }

    /// Lock files and apk's database; what can't be read is a warning that names the file. With a
    /// date two stores make the same.
    fn lists_of_all_kinds(world) as [root, subids, plain] {
        lock_files(world);
        let build = |world: &World| {
            let output = world
                .build(["--sbom=true", "--provenance", "-t=app:1", "-o=out", "--output=type=oci,tar=false,dest=o"])
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .ok()
                .says(&["the packages in `/bad/composer.lock` are not in the SBOM", "`packages` is no list"]);
            drop(output);
            std::fs::read_to_string(world.path("o/index.json")).unwrap()
        };
        let first = build(world);
        let statement = json(world, "out/sbom.spdx.json");
        assert_eq!(statement["predicateType"], SPDX);
        let document = &statement["predicate"];
        assert_eq!(document["spdxVersion"], "SPDX-2.3");
        assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        assert_eq!(
            purls(document),
            [
                "pkg:apk/alpine/busybox@1.36?arch=x86_64&distro=alpine-3.18.4&upstream=bb",
                "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.18.4",
                "pkg:cargo/serde@1.0.1",
                "pkg:golang/a.io/b@v1.0.0",
                "pkg:npm/left-pad@1.3.0",
                "pkg:pypi/flask@2.0.1",
            ]
        );
        let packages = document["packages"].as_array().unwrap();
        let left_pad = packages.iter().find(|p| p["name"] == "left-pad").unwrap();
        assert_eq!(left_pad["licenseDeclared"], "WTFPL");
        assert_eq!(left_pad["sourceInfo"], "listed in /app/package-lock.json");
        // The image says the same of itself, and has both statements.
        let images = attested(world, "o");
        assert_eq!(images[0].statements.len(), 2);
        assert_eq!(images[0].of(SPDX)["predicate"], *document);
        assert!(world.path("out/provenance.json").exists());
        let other = world.second_with_context();
        lock_files(&other);
        assert_eq!(build(&other), first);
    }

    /// What makes no SBOM here is refused by name.
    fn generators(world) as [plain] {
        world.dockerfile("FROM scratch\nLABEL a=b\n");
        world
            .build(["--sbom=generator=example.org/scanner"])
            .run()
            .exits(2)
            .says(&["the SBOM generator `example.org/scanner` is not run"]);
        // An image without files has no packages, and says so.
        world.build(["--attest=type=sbom", "--output=type=oci,tar=false,dest=o"]).ok();
        assert!(purls(&attested(world, "o")[0].of(SPDX)["predicate"]).is_empty());
    }
}
