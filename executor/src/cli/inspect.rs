//! `sandcrab inspect`: everything about images, as JSON.

use std::io::Write;

use serde_json::{Value, json};

use super::images::image_size;
use super::table::write;
use super::template::render;
use crate::error::{Result, ResultExt};
use crate::image::reference::Reference;
use crate::store::Store;
use crate::store::images::Image;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<String>,
    /// Fields to print: text with {{.Path.To.Field}} and {{json .Path}}, or json alone
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
}

/// Runs the command; data goes to `out`.
///
/// # Errors
/// When an image does not exist; nothing is printed then.
pub(super) fn run(args: &Args, store: &Store, out: &mut dyn Write) -> Result<()> {
    let mut documents = Vec::new();
    for text in &args.images {
        documents.push(document(store, &store.images().get(text)?));
    }
    let text = match args.format.as_deref() {
        None => serde_json::to_string_pretty(&documents).op("encode output")? + "\n",
        Some("json") => serde_json::to_string(&documents).op("encode output")? + "\n",
        Some(template) => {
            let mut text = String::new();
            for document in &documents {
                text += &render(template, document)?;
                text.push('\n');
            }
            text
        }
    };
    write(out, text.as_bytes())
}

/// Describes an image with Docker's keys.
fn document(store: &Store, image: &Image) -> Value {
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    let config = &image.config;
    let mut value = json!({
        "Id": image.config_digest,
        "RepoTags": familiar(&image.names),
        "RepoDigests": familiar(&image.origins),
        "Comment": config.history.last().map_or("", |h| &h.comment),
        "Created": config.created,
        "Author": config.author.as_deref().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.platform.architecture,
        "Os": config.platform.os,
        "Size": image_size(store, image),
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "Descriptor": {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest_digest,
            "size": image.manifest_bytes.len(),
        },
    });
    if let (Some(variant), Some(object)) = (&config.platform.variant, value.as_object_mut()) {
        object.insert("Variant".to_owned(), json!(variant));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::fixture;

    fn inspect(store: &Store, images: &[&str], format: Option<&str>) -> Result<String> {
        let args = Args {
            images: images.iter().map(|&i| i.to_owned()).collect(),
            format: format.map(str::to_owned),
        };
        let mut out = Vec::new();
        run(&args, store, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn prints_an_array_or_fields() {
        let (_dir, session) = fixture::session();
        let image = fixture::image(&session, &["a"], &["app:1"]);
        let store = session.store();
        let text = inspect(store, &["app:1", "app:1"], None).expect("inspect");
        let value: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value.as_array().map(Vec::len), Some(2));
        assert_eq!(value[0]["Id"], image.config_digest.to_string());
        assert_eq!(value[0]["RepoTags"][0], "app:1");
        assert_eq!(value[0]["Config"]["User"], "1000");
        let text = inspect(store, &["app:1"], Some("{{.Os}}/{{json .Config.Cmd}}"));
        assert_eq!(text.expect("format"), "linux/[\"/bin/app\"]\n");
    }

    #[test]
    fn a_missing_image_prints_nothing() {
        let (_dir, session) = fixture::session();
        fixture::image(&session, &["a"], &["app:1"]);
        let error = inspect(session.store(), &["app:1", "nothing"], None).expect_err("missing");
        assert_eq!(error.get_kind(), Kind::NotFound);
    }
}
