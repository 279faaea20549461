//! Attestations: what a build says about its image, and who reads it.

mod provenance;
mod sbom;

use serde_json::Value;

use support::World;

/// Reads a JSON file of the world.
fn json(world: &World, path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(world.path(path)).expect("a file")).expect("JSON")
}

/// Reads a document of a layout.
fn document(world: &World, layout: &str, digest: &Value) -> Value {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    json(world, &format!("{layout}/blobs/{digest}"))
}

/// An image of a layout, and what is attested about it.
struct Attested {
    /// The image's descriptor in the index.
    descriptor: Value,
    /// The statements, in order.
    statements: Vec<Value>,
}

impl Attested {
    /// Returns the statement with a type of predicate.
    fn of(&self, kind: &str) -> &Value {
        let found = self.statements.iter().find(|s| s["predicateType"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} among {:?}", self.statements))
    }
}

/// Reads all images of an index, and checks that its attestations are stored as BuildKit stores them.
fn attested(world: &World, layout: &str) -> Vec<Attested> {
    let top = json(world, &format!("{layout}/index.json"));
    let index = document(world, layout, &top["manifests"][0]["digest"]);
    let entries = index["manifests"].as_array().expect("an index");
    let is_one = |entry: &&Value| {
        entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
    };
    let (attestations, images): (Vec<&Value>, Vec<&Value>) = entries.iter().partition(is_one);
    // Images come first, so that who takes the first takes one.
    assert!(!is_one(&&entries[0]));
    let read = |image: &Value| {
        let about =
            |a: &&&Value| a["annotations"]["vnd.docker.reference.digest"] == image["digest"];
        let mut statements = Vec::new();
        for entry in attestations.iter().filter(about) {
            let nowhere = serde_json::json!({"os": "unknown", "architecture": "unknown"});
            assert_eq!(entry["platform"], nowhere);
            let manifest = document(world, layout, &entry["digest"]);
            let config = document(world, layout, &manifest["config"]["digest"]);
            assert_eq!(config["os"], "unknown");
            let layers = manifest["layers"].as_array().expect("layers");
            let digests: Vec<&Value> = layers.iter().map(|l| &l["digest"]).collect();
            let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff ids");
            assert_eq!(diff_ids.iter().collect::<Vec<_>>(), digests);
            for layer in layers {
                assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
                let statement = document(world, layout, &layer["digest"]);
                let kind = &layer["annotations"]["in-toto.io/predicate-type"];
                assert_eq!(statement["predicateType"], *kind);
                let wanted = image["digest"].as_str().expect("a digest");
                for subject in statement["subject"].as_array().expect("subjects") {
                    let digest = subject["digest"]["sha256"].as_str().expect("a digest");
                    assert_eq!(format!("sha256:{digest}"), wanted);
                }
                statements.push(statement);
            }
        }
        Attested {
            descriptor: image.clone(),
            statements,
        }
    };
    images.into_iter().map(read).collect()
}
