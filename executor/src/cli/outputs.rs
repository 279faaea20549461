//! `--output`: what is made of the result, as written on the command line.
//!
//! Responsible for the syntax (comma-separated `key=value`, RFC 4180 quotes, as docker buildx has
//! it) and for what goes with what. Must not open or write anything. Invariant: an [`Output`] is
//! complete: a type that needs a destination has one.

use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file or a directory.
    Path(PathBuf),
    /// Standard output, `-`.
    Stdout,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// `uncompressed`.
    None,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

/// What an output writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout: a tar archive, or a directory with `tar=false`.
    Oci {
        /// Where to.
        to: Destination,
        /// Whether it is an archive.
        tar: bool,
    },
    /// An archive that `docker load` reads.
    Docker(Destination),
    /// The files of the image, as a tar archive.
    Tar(Destination),
    /// The files of the image, in a directory.
    Local(PathBuf),
    /// The image in a registry, under the names of `--tag`, or `name=`.
    Registry,
    /// The image in the store, which it is anyway.
    Store,
}

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What and where to.
    pub form: Form,
    /// `name=`: names in place of those from `--tag`.
    pub names: Vec<Reference>,
    /// `compression=`; `None` leaves it to the form's default.
    pub compression: Option<LayerCompression>,
    /// `compression-level=`.
    pub level: Option<i32>,
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Parses one `--output`.
///
/// # Errors
/// [`Kind::Usage`], naming what is unknown, missing or not supported.
pub(super) fn parse(text: &str) -> Result<Output> {
    // A bare word is a destination: `-o -` for a tar archive, `-o DIR` for the files.
    if !text.contains('=') {
        let form = match destination(text)? {
            Destination::Stdout => Form::Tar(Destination::Stdout),
            Destination::Path(path) => Form::Local(path),
        };
        return Ok(Output {
            form,
            names: Vec::new(),
            compression: None,
            level: None,
        });
    }
    let mut fields = Fields::read(text)?;
    let Some(kind) = fields.kind.take() else {
        return Err(usage(format!("output `{text}` has no type")).hint(
            "write for example type=oci,dest=image.tar, or a directory alone for the files",
        ));
    };
    let to = |fields: &mut Fields| {
        fields.dest.take().ok_or_else(|| {
            usage(format!("output of type {kind} needs a destination"))
                .hint("add dest=FILE, or dest=- for standard output")
        })
    };
    let form = match kind.as_str() {
        "oci" => {
            let tar = fields.tar.take().unwrap_or(true);
            match to(&mut fields)? {
                Destination::Stdout if !tar => {
                    return Err(usage(
                        "an OCI layout in a directory can't go to standard output",
                    ));
                }
                to => Form::Oci { to, tar },
            }
        }
        "docker" => Form::Docker(to(&mut fields)?),
        "tar" => Form::Tar(to(&mut fields)?),
        "local" => match to(&mut fields)? {
            Destination::Path(path) => Form::Local(path),
            Destination::Stdout => {
                return Err(usage("files can't go to standard output one by one")
                    .hint("use type=tar,dest=-"));
            }
        },
        "registry" => Form::Registry,
        "image" if fields.push.take() == Some(true) => Form::Registry,
        "image" => Form::Store,
        other => {
            return Err(usage(format!("unknown output type `{other}`"))
                .hint("types are oci, docker, tar, local, registry and image"));
        }
    };
    let is_image = !matches!(form, Form::Tar(_) | Form::Local(_));
    let output = Output {
        form,
        names: std::mem::take(&mut fields.names),
        compression: fields.compression.take(),
        level: fields.level.take(),
    };
    if let Some(left) = fields.left(&output, is_image) {
        return Err(usage(format!(
            "output of type {kind} has no option `{left}`"
        )));
    }
    check_level(&output)?;
    Ok(output)
}

fn check_level(output: &Output) -> Result<()> {
    let Some(level) = output.level else {
        return Ok(());
    };
    let (name, range) = match output.compression {
        Some(LayerCompression::None) => {
            return Err(usage("compression-level without compression"));
        }
        Some(LayerCompression::Zstd) => ("zstd", 1..=22),
        Some(LayerCompression::Gzip) | None => ("gzip", 0..=9),
    };
    if range.contains(&level) {
        return Ok(());
    }
    Err(usage(format!(
        "compression-level for {name} is {} to {}, not {level}",
        range.start(),
        range.end()
    )))
}

fn destination(text: &str) -> Result<Destination> {
    match text {
        "" => Err(usage("output has an empty destination")),
        "-" => Ok(Destination::Stdout),
        path => Ok(Destination::Path(path.into())),
    }
}

/// The fields of one output before it is known what they mean together.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<Destination>,
    tar: Option<bool>,
    push: Option<bool>,
    names: Vec<Reference>,
    compression: Option<LayerCompression>,
    level: Option<i32>,
}

impl Fields {
    fn read(text: &str) -> Result<Self> {
        let mut fields = Self::default();
        for field in split(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| {
                usage(format!("output option `{field}` has no value")).hint("write key=value")
            })?;
            let bad = || usage(format!("output option `{key}` can't be `{value}`"));
            match key.trim().to_ascii_lowercase().as_str() {
                "type" => fields.kind = Some(value.to_owned()),
                "dest" => fields.dest = Some(destination(value)?),
                "tar" => fields.tar = Some(parse_bool(value).ok_or_else(bad)?),
                "push" => fields.push = Some(parse_bool(value).ok_or_else(bad)?),
                "name" => {
                    for name in value.split(',') {
                        fields.names.push(name.trim().parse()?);
                    }
                }
                "compression" => {
                    fields.compression = Some(match value {
                        "uncompressed" | "none" => LayerCompression::None,
                        "gzip" => LayerCompression::Gzip,
                        "zstd" => LayerCompression::Zstd,
                        _ => {
                            return Err(bad().hint("it is one of gzip, zstd and uncompressed"));
                        }
                    });
                }
                "compression-level" => fields.level = Some(value.parse().map_err(|_| bad())?),
                other => {
                    return Err(
                        usage(format!("output option `{other}` is not supported yet")).hint(
                            "options are type, dest, name, push, tar, compression and \
                             compression-level",
                        ),
                    );
                }
            }
        }
        Ok(fields)
    }

    /// Returns an option that was given but means nothing here.
    fn left(&self, output: &Output, is_image: bool) -> Option<&'static str> {
        [
            ("dest", self.dest.is_some()),
            ("tar", self.tar.is_some()),
            ("push", self.push.is_some()),
            ("name", !is_image && !output.names.is_empty()),
            ("compression", !is_image && output.compression.is_some()),
            ("compression-level", !is_image && output.level.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Splits one CSV record (RFC 4180): a field in quotes may contain commas.
fn split(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is a field from the start");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(usage(format!(
            "output `{text}` has a quote that is never closed"
        )));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(form: Form) -> Output {
        Output {
            form,
            names: Vec::new(),
            compression: None,
            level: None,
        }
    }

    #[test]
    fn accepts_what_buildx_accepts() {
        let path = |p: &str| Destination::Path(p.into());
        for (text, wanted) in [
            ("out", plain(Form::Local("out".into()))),
            ("-", plain(Form::Tar(Destination::Stdout))),
            ("type=tar,dest=-", plain(Form::Tar(Destination::Stdout))),
            ("type=local,dest=a b", plain(Form::Local("a b".into()))),
            (
                "type=oci,dest=x.tar",
                plain(Form::Oci {
                    to: path("x.tar"),
                    tar: true,
                }),
            ),
            (
                "type=oci,\"dest=a,b\",tar=false",
                plain(Form::Oci {
                    to: path("a,b"),
                    tar: false,
                }),
            ),
            ("type=registry", plain(Form::Registry)),
            ("type=image,push=true", plain(Form::Registry)),
            ("type=image,push=false", plain(Form::Store)),
            (
                "type=docker,dest=d.tar,name=a/b:1,compression=zstd,compression-level=19",
                Output {
                    form: Form::Docker(path("d.tar")),
                    names: vec!["a/b:1".parse().expect("reference")],
                    compression: Some(LayerCompression::Zstd),
                    level: Some(19),
                },
            ),
        ] {
            assert_eq!(parse(text).expect(text), wanted, "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        for (text, wanted) in [
            ("", "output has an empty destination"),
            ("dest=x", "output `dest=x` has no type"),
            ("type=oci", "output of type oci needs a destination"),
            ("type=zip,dest=x", "unknown output type `zip`"),
            ("type=oci,dest", "output option `dest` has no value"),
            (
                "type=tar,dest=x,name=y",
                "output of type tar has no option `name`",
            ),
            (
                "type=registry,dest=x",
                "output of type registry has no option `dest`",
            ),
            (
                "type=docker,dest=x,tar=false",
                "output of type docker has no option `tar`",
            ),
            (
                "type=oci,dest=-,tar=false",
                "an OCI layout in a directory can't go to standard output",
            ),
            (
                "type=oci,dest=x,tar=maybe",
                "output option `tar` can't be `maybe`",
            ),
            (
                "type=oci,dest=x,compression=lzma",
                "output option `compression` can't be `lzma`",
            ),
            (
                "type=oci,dest=x,rewrite-timestamp=true",
                "output option `rewrite-timestamp` is not supported yet",
            ),
            (
                "type=oci,dest=x,compression-level=12",
                "compression-level for gzip is 0 to 9, not 12",
            ),
            (
                "type=oci,\"dest=x",
                "output `type=oci,\"dest=x` has a quote that is never closed",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), wanted);
        }
    }
}
