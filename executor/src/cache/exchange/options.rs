//! The values of `--cache-from` and `--cache-to`.
//!
//! Responsible for parsing what BuildKit's users write: comma-separated `key=value` fields in CSV
//! quoting, or the references of images. Must not open or reach anything. Invariant: a key that has no
//! effect here is an error that names it.

use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::output::options::{Fields, Form, split};
use crate::output::packing::Packing;

/// A cache in a layout has this name unless it gets another one.
const TAG: &str = "latest";

/// Where a cache is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSource {
    /// In a registry: a cache, or an image with one in its config.
    Registry(Reference),
    /// In an OCI layout.
    Local {
        /// Its directory.
        src: PathBuf,
        /// The name in it.
        tag: String,
        /// The manifest in it, instead of a name.
        digest: Option<Digest>,
    },
}

/// Where a cache is written, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// Where it goes.
    pub place: TargetPlace,
    /// Whether the layers of all steps are written, else only those of the result.
    pub all: bool,
    /// Whether the build may go on without it.
    pub ignore_error: bool,
    /// The layers' form.
    pub form: Form,
}

/// Where a cache is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPlace {
    /// To a registry.
    Registry(Reference),
    /// To a directory, as OCI layout.
    Local {
        /// The directory.
        dest: PathBuf,
        /// Its name in there.
        tag: String,
        /// Whether everything else in there goes.
        reset: bool,
    },
    /// Into the image's config.
    Inline,
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Parses one value of `--cache-from`.
///
/// # Errors
/// [`Kind::Usage`], naming the key or value that is not understood.
pub fn source(text: &str) -> Result<Vec<CacheSource>> {
    let fields = split(text)?;
    if fields.iter().all(|field| !field.contains('=')) {
        let bare = fields.iter().map(|field| reference("--cache-from", field));
        return bare.map(|found| found.map(CacheSource::Registry)).collect();
    }
    let mut fields = Fields::new("--cache-from", text)?;
    let source = match kind(&mut fields, "--cache-from", text)?.as_str() {
        "registry" => CacheSource::Registry(wanted_reference(&mut fields, "--cache-from")?),
        "local" => CacheSource::Local {
            src: wanted_path(&mut fields, "--cache-from", "src")?,
            tag: fields.take("tag").unwrap_or_else(|| TAG.to_owned()),
            digest: match fields.take("digest") {
                Some(digest) => Some(digest.parse().map_err(|e: Error| e.kind(Kind::Usage))?),
                None => None,
            },
        },
        "inline" => {
            return Err(usage("--cache-from has no type=inline")
                .hint("an image's own cache is read by type=registry"));
        }
        other => return Err(unsupported("--cache-from", other, "registry and local")),
    };
    fields.finish()?;
    Ok(vec![source])
}

/// Parses one value of `--cache-to`.
///
/// # Errors
/// [`Kind::Usage`], naming the key or value that is not understood.
pub fn target(text: &str) -> Result<CacheTarget> {
    let fields = split(text)?;
    if let [only] = &fields[..]
        && !only.contains('=')
    {
        return Ok(CacheTarget {
            place: match only.as_str() {
                "inline" => TargetPlace::Inline,
                only => TargetPlace::Registry(reference("--cache-to", only)?),
            },
            all: false,
            ignore_error: false,
            form: Form::default(),
        });
    }
    let mut fields = Fields::new("--cache-to", text)?;
    let kind = kind(&mut fields, "--cache-to", text)?;
    let place = match kind.as_str() {
        "registry" => TargetPlace::Registry(wanted_reference(&mut fields, "--cache-to")?),
        "local" => TargetPlace::Local {
            dest: wanted_path(&mut fields, "--cache-to", "dest")?,
            tag: fields.take("tag").unwrap_or_else(|| TAG.to_owned()),
            reset: fields.flag("reset")?.unwrap_or(false),
        },
        "inline" => TargetPlace::Inline,
        other => {
            return Err(unsupported(
                "--cache-to",
                other,
                "registry, local and inline",
            ));
        }
    };
    let all = match fields.take("mode").as_deref() {
        None | Some("min") => false,
        Some("max") if place == TargetPlace::Inline => {
            return Err(usage("--cache-to=type=inline has mode=min only")
                .hint("use type=registry for a cache of all steps"));
        }
        Some("max") => true,
        Some(other) => {
            return Err(usage(format!("--cache-to: mode `{other}` is unknown"))
                .hint("modes are min and max"));
        }
    };
    let ignore_error = fields.flag("ignore-error")?.unwrap_or(false);
    let mut form = Form::default();
    if place != TargetPlace::Inline {
        form.compression = fields.compression()?.or(Some(Packing::GZIP));
        form.force_compression = fields.flag("force-compression")?.unwrap_or(false);
        for key in ["oci-mediatypes", "image-manifest"] {
            if fields.flag(key)? == Some(false) {
                return Err(usage(format!(
                    "--cache-to: {key}=false is not supported: a cache is an OCI image manifest"
                )));
            }
        }
    }
    fields.finish()?;
    Ok(CacheTarget {
        place,
        all,
        ignore_error,
        form,
    })
}

fn kind(fields: &mut Fields<'_>, flag: &str, text: &str) -> Result<String> {
    fields
        .take("type")
        .ok_or_else(|| usage(format!("{flag}: `{text}` has no type")).hint("write type=registry"))
}

fn reference(flag: &str, text: &str) -> Result<Reference> {
    if text.is_empty() {
        return Err(usage(format!("{flag} names no image")));
    }
    text.parse()
        .map_err(|e: Error| e.kind(Kind::Usage).during(format!("read {flag}")))
}

fn wanted_reference(fields: &mut Fields<'_>, flag: &str) -> Result<Reference> {
    match fields.take("ref") {
        Some(text) => reference(flag, &text),
        None => Err(usage(format!("{flag}: type=registry needs a reference"))
            .hint("add ref=REGISTRY/NAME:TAG")),
    }
}

fn wanted_path(fields: &mut Fields<'_>, flag: &str, key: &str) -> Result<PathBuf> {
    match fields.take(key).filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => Err(usage(format!("{flag}: type=local needs a directory"))
            .hint(format!("add {key}=DIRECTORY"))),
    }
}

fn unsupported(flag: &str, kind: &str, known: &str) -> Error {
    match kind {
        "gha" | "s3" | "azblob" => usage(format!("{flag}: type `{kind}` is not supported")),
        _ => usage(format!("{flag}: unknown type `{kind}`")),
    }
    .hint(format!("types are {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let one = |text: &str| source(text).expect(text).remove(0);
        let image = |text: &str| CacheSource::Registry(text.parse().expect("reference"));
        assert_eq!(one("r.example/a:b"), image("r.example/a:b"));
        assert_eq!(one("type=registry,ref=r.example/a"), image("r.example/a"));
        let two = source("r.example/a,r.example/b").expect("two");
        assert_eq!(two, [image("r.example/a"), image("r.example/b")]);
        let CacheSource::Local { src, tag, digest } = one("type=local,src=a b") else {
            panic!("local");
        };
        assert_eq!((src, tag.as_str(), digest), ("a b".into(), "latest", None));
    }

    #[test]
    fn targets() {
        let text = "type=local,dest=d,tag=t,reset=true,mode=max,ignore-error=true,compression=zstd";
        let local = target(text).expect("local");
        assert!(local.all && local.ignore_error);
        assert_eq!(local.form.compression, Some(Packing::ZSTD));
        let place = TargetPlace::Local {
            dest: "d".into(),
            tag: "t".into(),
            reset: true,
        };
        assert_eq!(local.place, place);
        let bare = target("r.example/a:b").expect("registry");
        assert!(!bare.all && matches!(bare.place, TargetPlace::Registry(_)));
        for text in ["inline", "type=inline", "type=inline,mode=min"] {
            assert_eq!(target(text).expect(text).place, TargetPlace::Inline);
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let cases = [
            ("type=gha", "`gha` is not supported"),
            ("type=s3,bucket=x", "`s3` is not supported"),
            ("type=azblob", "`azblob` is not supported"),
            ("type=x", "unknown type `x`"),
            ("ref=a", "no type"),
            ("type=registry", "needs a reference"),
            ("type=registry,ref=UPPER", "UPPER"),
            ("type=local", "needs a directory"),
            ("type=registry,ref=a,scope=x", "`scope`"),
            ("", "names no image"),
        ];
        for (text, wanted) in cases {
            for error in [source(text).expect_err(text), target(text).expect_err(text)] {
                assert_eq!(error.get_kind(), Kind::Usage, "{text}");
                assert!(error.chain().contains(wanted), "{text}: {}", error.chain());
            }
        }
        for (text, wanted) in [
            ("type=inline,mode=max", "min only"),
            ("type=inline,compression=zstd", "`compression`"),
            ("type=registry,ref=a,mode=mid", "`mid`"),
            ("type=registry,ref=a,image-manifest=false", "image-manifest"),
            ("type=registry,ref=a,oci-mediatypes=false", "oci-mediatypes"),
            ("type=registry,ref=a,reset=true", "`reset`"),
            ("type=registry,ref=a,compression=estargz2", "estargz2"),
        ] {
            let error = target(text).expect_err(text);
            assert!(error.chain().contains(wanted), "{text}: {}", error.chain());
        }
        for text in [
            "type=inline",
            "type=local,src=x,digest=y",
            "type=registry,ref=a,mode=max",
        ] {
            assert_eq!(source(text).expect_err(text).get_kind(), Kind::Usage);
        }
    }
}
