//! Output options: the value of `-o`.
//!
//! Responsible for parsing what BuildKit's users write (comma-separated `key=value` fields in
//! CSV quoting, or a bare path). Must not open destinations. Invariant: a key that has no effect
//! here is an error that names it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::layer::compress::Compression;

/// One output of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What is written, and where.
    pub target: Target,
    /// Names given with `name=`, besides those of `-t`.
    pub names: Vec<Reference>,
    /// The image's form; of no meaning for file trees.
    pub form: Form,
    /// Whether files of several platforms go into a directory for each (`platform-split`); `None`
    /// leaves it to their number.
    pub split: Option<bool>,
}

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The image in the store, and in a registry as well when `push` is set.
    Image {
        /// Whether the names are pushed.
        push: bool,
    },
    /// An image archive, or its directory.
    Archive {
        /// Its format.
        format: ArchiveFormat,
        /// Where it goes.
        dest: Dest,
        /// Whether it is one tar file; else a directory in OCI layout.
        tar: bool,
    },
    /// The files of the root file system, in a directory.
    Local(PathBuf),
    /// The files of the root file system, as one tar.
    Tar(Dest),
}

/// A destination for one stream of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    /// Standard output.
    Stdout,
    /// A file.
    Path(PathBuf),
}

/// The two kinds of image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// OCI image layout.
    Oci,
    /// OCI image layout with the files that `docker load` reads.
    Docker,
}

/// How an image leaves the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Compression of layers; `None` leaves it to the output (gzip where layers travel).
    pub compression: Option<Compression>,
    /// Whether layers that are compressed otherwise are converted too.
    pub force_compression: bool,
    /// Whether documents have OCI's media types, else Docker's.
    pub oci_media_types: bool,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the descriptor that points to the manifest.
    pub descriptor_annotations: BTreeMap<String, String>,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            compression: None,
            force_compression: false,
            oci_media_types: true,
            annotations: BTreeMap::new(),
            descriptor_annotations: BTreeMap::new(),
        }
    }
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Parses the value of `-o`.
///
/// # Errors
/// [`Kind::Usage`], naming the key or value that is not understood.
pub fn parse(text: &str) -> Result<Output> {
    let fields = split(text)?;
    if let [only] = &fields[..]
        && !only.contains('=')
    {
        let target = match only.as_str() {
            "" => return Err(usage("empty output").hint("name a type: -o type=oci,dest=FILE")),
            "-" => Target::Tar(Dest::Stdout),
            path => Target::Local(path.into()),
        };
        return Ok(Output {
            target,
            names: Vec::new(),
            form: Form::default(),
            split: None,
        });
    }
    Fields::new("output", text)?.into_output()
}

/// The fields not yet understood.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    keys: BTreeMap<String, String>,
    /// What they are of, for people.
    what: &'a str,
    text: &'a str,
}

impl<'a> Fields<'a> {
    /// Splits `text` into fields.
    pub(crate) fn new(what: &'a str, text: &'a str) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for field in split(text)? {
            let Some((key, value)) = field.split_once('=') else {
                return Err(usage(format!("invalid {what} field `{field}` in `{text}`"))
                    .hint("fields are written key=value"));
            };
            let key = key.trim().to_ascii_lowercase();
            if keys.insert(key.clone(), value.to_owned()).is_some() {
                return Err(usage(format!("{what} key `{key}` is given twice")));
            }
        }
        Ok(Self { keys, what, text })
    }

    /// Takes a field's value.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        self.keys.remove(key)
    }

    /// Ends the reading: what is left is unknown.
    pub(crate) fn finish(self) -> Result<()> {
        match self.keys.keys().next() {
            Some(key) => {
                let (what, text) = (self.what, self.text);
                Err(usage(format!("unknown key `{key}` for {what} in `{text}`")))
            }
            None => Ok(()),
        }
    }
}

impl Fields<'_> {
    fn into_output(mut self) -> Result<Output> {
        let kind = self.keys.remove("type").ok_or_else(|| {
            usage(format!("output `{}` has no type", self.text))
                .hint("types are image, registry, oci, docker, local and tar")
        })?;
        let is_image = !matches!(kind.as_str(), "local" | "tar");
        let target = match kind.as_str() {
            "image" => Target::Image {
                push: self.flag("push")?.unwrap_or(false),
            },
            "registry" => Target::Image {
                push: self.flag("push")?.unwrap_or(true),
            },
            "oci" => self.archive(ArchiveFormat::Oci)?,
            "docker" => self.archive(ArchiveFormat::Docker)?,
            "local" => match self.dest() {
                Some(Dest::Path(path)) => Target::Local(path),
                _ => {
                    return Err(
                        usage("output type=local needs a directory").hint("add dest=DIRECTORY")
                    );
                }
            },
            "tar" => Target::Tar(self.dest().unwrap_or(Dest::Stdout)),
            other => {
                return Err(usage(format!("unknown output type `{other}`"))
                    .hint("types are image, registry, oci, docker, local and tar"));
            }
        };
        let (names, form) = if is_image {
            (self.names()?, self.form()?)
        } else {
            (Vec::new(), Form::default())
        };
        let split = match target {
            Target::Local(_) => self.flag("platform-split")?,
            _ => None,
        };
        if let Some(key) = self.keys.keys().next() {
            return Err(usage(format!("unknown key `{key}` for output type={kind}")));
        }
        Ok(Output {
            target,
            names,
            form,
            split,
        })
    }

    fn archive(&mut self, format: ArchiveFormat) -> Result<Target> {
        let tar = self.flag("tar")?.unwrap_or(true);
        let dest = self.dest().unwrap_or(Dest::Stdout);
        if !tar && dest == Dest::Stdout {
            return Err(usage("output with tar=false needs a directory").hint("add dest=DIRECTORY"));
        }
        Ok(Target::Archive { format, dest, tar })
    }

    fn dest(&mut self) -> Option<Dest> {
        match self.keys.remove("dest")?.as_str() {
            "-" => Some(Dest::Stdout),
            "" => None,
            path => Some(Dest::Path(path.into())),
        }
    }

    fn names(&mut self) -> Result<Vec<Reference>> {
        let names = self.keys.remove("name").unwrap_or_default();
        names
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .map(|n| n.parse::<Reference>().map_err(|e| e.kind(Kind::Usage)))
            .collect()
    }

    fn form(&mut self) -> Result<Form> {
        let mut form = Form {
            compression: self.compression()?,
            force_compression: self.flag("force-compression")?.unwrap_or(false),
            oci_media_types: self.flag("oci-mediatypes")?.unwrap_or(true),
            ..Form::default()
        };
        if !form.oci_media_types && matches!(form.compression, Some(Compression::Zstd { .. })) {
            return Err(usage(
                "compression=zstd with oci-mediatypes=false: Docker's media types have no zstd",
            ));
        }
        let annotated: Vec<String> = self
            .keys
            .keys()
            .filter(|k| k.starts_with("annotation"))
            .cloned()
            .collect();
        for key in annotated {
            let (into, name) = if let Some(name) = key.strip_prefix("annotation.") {
                (&mut form.annotations, name)
            } else if let Some(name) = key.strip_prefix("annotation-manifest.") {
                (&mut form.annotations, name)
            } else if let Some(name) = key.strip_prefix("annotation-manifest-descriptor.") {
                (&mut form.descriptor_annotations, name)
            } else {
                return Err(usage(format!("unsupported annotation scope `{key}`"))
                    .hint("annotation.KEY and annotation-manifest-descriptor.KEY are supported"));
            };
            let value = self.keys.remove(&key).unwrap_or_default();
            into.insert(name.to_owned(), value);
        }
        if !form.oci_media_types && !form.annotations.is_empty() {
            return Err(usage(
                "annotations with oci-mediatypes=false: Docker's manifests have none",
            ));
        }
        Ok(form)
    }

    /// Takes the compression and its level.
    pub(crate) fn compression(&mut self) -> Result<Option<Compression>> {
        let level =
            match self.keys.remove("compression-level") {
                None => None,
                Some(text) => Some(text.parse::<i32>().map_err(|_| {
                    usage(format!("compression-level `{text}` is not a whole number"))
                })?),
            };
        let outside = |level: i32, range: &str| {
            usage(format!(
                "compression-level {level} is out of range: it goes {range}"
            ))
        };
        let name = self.keys.remove("compression");
        let compression = match (name.as_deref(), level) {
            (None, None) => return Ok(None),
            (Some("uncompressed"), None) => Compression::None,
            (Some("uncompressed"), Some(_)) => {
                return Err(usage("compression=uncompressed has no compression-level"));
            }
            (Some("gzip"), None) => Compression::GZIP,
            (None | Some("gzip"), Some(level)) => Compression::Gzip {
                level: u32::try_from(level)
                    .ok()
                    .filter(|l| *l <= 9)
                    .ok_or_else(|| outside(level, "from 0 to 9"))?,
            },
            (Some("zstd"), None) => Compression::ZSTD,
            (Some("zstd"), Some(level @ -7..=22)) => Compression::Zstd { level },
            (Some("zstd"), Some(level)) => return Err(outside(level, "from -7 to 22")),
            (Some(other), _) => {
                return Err(usage(format!("unsupported compression `{other}`"))
                    .hint("compressions are uncompressed, gzip and zstd"));
            }
        };
        Ok(Some(compression))
    }

    /// Takes what is true or false.
    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.keys.remove(key).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(Some(true)),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(usage(format!("`{key}={other}` is neither true nor false"))),
        }
    }
}

/// Splits one CSV record (RFC 4180): a field that begins with a quote ends at the next single
/// quote and may hold commas.
pub(crate) fn split(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some((part, after)) = quoted.split_once('"') else {
                    return Err(usage(format!("unclosed quote in `{text}`")));
                };
                field.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(usage(format!("text after a quote in `{text}`")));
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let path = |p: &str| Dest::Path(p.into());
        for (text, target) in [
            ("out", Target::Local("out".into())),
            ("-", Target::Tar(Dest::Stdout)),
            ("type=local,dest=a b", Target::Local("a b".into())),
            ("type=tar", Target::Tar(Dest::Stdout)),
            ("type=tar,dest=x.tar", Target::Tar(path("x.tar"))),
            ("type=image", Target::Image { push: false }),
            ("type=image,push=true", Target::Image { push: true }),
            ("type=registry", Target::Image { push: true }),
            (
                "\"type=oci\",\"dest=a,\"\"b\"\".tar\"",
                Target::Archive {
                    format: ArchiveFormat::Oci,
                    dest: path("a,\"b\".tar"),
                    tar: true,
                },
            ),
            (
                "type=docker,tar=false,dest=dir",
                Target::Archive {
                    format: ArchiveFormat::Docker,
                    dest: path("dir"),
                    tar: false,
                },
            ),
        ] {
            assert_eq!(parse(text).expect(text).target, target, "{text}");
        }
    }

    #[test]
    fn forms() {
        let output = parse(
            "type=oci,dest=x,\"name=app:1,app:2\",compression=zstd,compression-level=9,\
             force-compression=true,annotation.a.b=c=d,annotation-manifest-descriptor.e=f",
        )
        .expect("output");
        assert_eq!(output.names.len(), 2);
        let form = output.form;
        assert_eq!(form.compression, Some(Compression::Zstd { level: 9 }));
        assert!(form.force_compression && form.oci_media_types);
        assert_eq!(form.annotations["a.b"], "c=d");
        assert_eq!(form.descriptor_annotations["e"], "f");
        let level = parse("type=image,compression-level=3").expect("level alone");
        let gzip = Some(Compression::Gzip { level: 3 });
        assert_eq!(level.form.compression, gzip);
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, wanted) in [
            ("", "empty"),
            ("dest=x", "no type"),
            ("type=x", "`x`"),
            ("type=local", "directory"),
            ("type=local,dest=-", "directory"),
            ("type=oci,tar=false", "directory"),
            ("type=oci,dest", "`dest`"),
            ("type=oci,type=oci", "`type`"),
            ("type=oci,unpack=true", "`unpack`"),
            ("type=tar,compression=gzip", "`compression`"),
            ("type=oci,compression=estargz", "`estargz`"),
            ("type=oci,compression=gzip,compression-level=10", "10"),
            ("type=oci,compression=zstd,compression-level=x", "`x`"),
            ("type=oci,compression=zstd,oci-mediatypes=false", "zstd"),
            ("type=oci,oci-mediatypes=maybe", "maybe"),
            ("type=oci,annotation-index.a=b", "annotation-index.a"),
            ("type=oci,\"dest=x", "quote"),
            ("type=image,name=UPPER", "UPPER"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains(wanted), "{text}: {error}");
            assert_eq!(error.get_kind(), Kind::Usage, "{text}");
        }
    }
}
