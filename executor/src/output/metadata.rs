//! Documents that describe a result, for scripts.
//!
//! Responsible for the content of `--metadata-file` (BuildKit's keys) and `--iidfile`.

use serde_json::{Value, json};

use crate::image::config::ImageConfig;
use crate::image::manifest::Descriptor;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::output::layout::Export;

/// Makes the content of `--metadata-file`; `provenance` has how the image for each platform was made,
/// `warnings` what was found in the Dockerfile.
pub fn metadata(
    export: &Export,
    names: &[Reference],
    provenance: &[(&Platform, &Value)],
    warnings: &[Value],
) -> Vec<u8> {
    let descriptor = described(export);
    let mut document = json!({
        "containerimage.descriptor": descriptor,
        "containerimage.digest": descriptor.digest,
    });
    if let (None, Some(object)) = (&export.index, document.as_object_mut()) {
        let config = json!(export.plan.config.digest);
        object.insert("containerimage.config.digest".to_owned(), config);
    }
    if let (false, Some(object)) = (names.is_empty(), document.as_object_mut()) {
        let names: Vec<String> = names.iter().map(Reference::to_string).collect();
        object.insert("image.name".to_owned(), Value::String(names.join(",")));
    }
    for (platform, body) in provenance {
        let key = match provenance.len() {
            1 => "buildx.build.provenance".to_owned(),
            _ => format!("buildx.build.provenance/{platform}"),
        };
        document[key] = (*body).clone();
    }
    if !warnings.is_empty() {
        document["buildx.build.warnings"] = json!(warnings);
    }
    let mut bytes = serde_json::to_vec_pretty(&document).expect("string keys only");
    bytes.push(b'\n');
    bytes
}

/// Describes the result as BuildKit does: with an image's id and date.
fn described(export: &Export) -> Descriptor {
    let mut descriptor = export.descriptor().clone();
    if export.index.is_none() {
        let id = export.plan.config.digest.to_string();
        let annotations = &mut descriptor.annotations;
        annotations.insert("config.digest".to_owned(), id);
        let config = ImageConfig::parse(&export.plan.config_bytes).ok();
        if let Some(created) = config.and_then(|config| config.created) {
            annotations.insert("org.opencontainers.image.created".to_owned(), created);
        }
    }
    descriptor
}

/// Makes the content of `--iidfile`: the image's id, or an index's digest, without a line end, as
/// Docker writes it.
pub fn iid(export: &Export) -> Vec<u8> {
    let digest = match &export.index {
        Some(index) => index.descriptor.digest,
        None => export.plan.config.digest,
    };
    digest.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::media_type;
    use crate::output::assemble::PushPlan;

    #[test]
    fn has_buildkits_keys() {
        let mut config = ImageConfig::scratch(Platform::host());
        config.created = Some("2001-01-01T00:00:00Z".to_owned());
        let config = config.to_bytes();
        let plan = PushPlan {
            manifest: Descriptor::of(media_type::OCI_MANIFEST, b"m"),
            manifest_bytes: b"m".to_vec(),
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            config_bytes: config,
            layers: Vec::new(),
        };
        let plan = Export {
            plan,
            names: Vec::new(),
            index: None,
        };
        let names = ["a:1".parse().expect("name"), "b:2".parse().expect("name")];
        let value: Value =
            serde_json::from_slice(&metadata(&plan, &names, &[], &[])).expect("json");
        assert_eq!(
            value["containerimage.digest"],
            plan.descriptor().digest.to_string()
        );
        let descriptor = &value["containerimage.descriptor"];
        assert_eq!(descriptor["size"], 1);
        let annotations = &descriptor["annotations"];
        assert_eq!(
            annotations["config.digest"],
            value["containerimage.config.digest"]
        );
        let created = &annotations["org.opencontainers.image.created"];
        assert_eq!(created, "2001-01-01T00:00:00Z");
        assert_eq!(
            value["image.name"],
            "docker.io/library/a:1,docker.io/library/b:2"
        );
        let value: Value =
            serde_json::from_slice(&metadata(&plan, &[], &[], &[json!({"level": 1})]))
                .expect("json");
        assert!(value.get("image.name").is_none());
        assert_eq!(value["buildx.build.warnings"], json!([{"level": 1}]));
        assert_eq!(
            iid(&plan),
            value["containerimage.config.digest"]
                .as_str()
                .expect("id")
                .as_bytes()
        );
    }
}
