//! Output options: the value of `-o`.
//!
//! Responsible for parsing what BuildKit's users write (comma-separated `key=value` fields in
//! CSV quoting, or a bare path). Must not open destinations. Invariant: a key that has no effect
//! here is an error that names it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::image::annotations::{Annotation, Annotations};
use crate::image::reference::Reference;
use crate::layer::compress::Compression;
use crate::output::packing::Packing;

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
    /// What names of attestations begin with (`attestation-prefix`); files only.
    pub prefix: String,
    /// The date of the image and the latest one of files in new layers (`source-date-epoch`).
    pub epoch: Option<i64>,
    /// Whether such files get that date (`rewrite-timestamp`), where it was said.
    pub rewrite_timestamp: Option<bool>,
}

impl Output {
    /// Makes an output with nothing but its target.
    pub fn of(target: Target) -> Self {
        Self {
            target,
            names: Vec::new(),
            form: Form::default(),
            split: None,
            prefix: String::new(),
            epoch: None,
            rewrite_timestamp: None,
        }
    }
}

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The image in the store or in a registry.
    Image(ImageTarget),
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
    Local {
        /// The directory.
        dest: PathBuf,
        /// Whether what it has besides them is removed (`mode=delete`).
        delete: bool,
    },
    /// The files of the root file system, as one tar.
    Tar(Dest),
    /// Nothing: the steps are run, and the cache has them.
    None,
}

/// What becomes of an image's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageTarget {
    /// Whether they are pushed.
    pub push: bool,
    /// Whether the store has them.
    pub store: bool,
    /// Whether the registry gets no tag, so that the digest alone names the image.
    pub by_digest: bool,
    /// Whether the store knows the image by `NAME@DIGEST`, too.
    pub canonical: bool,
    /// Whether the layers are unpacked in the store.
    pub unpack: bool,
}

impl ImageTarget {
    /// The image stays in the store.
    pub const STORE: Self = Self {
        push: false,
        store: true,
        by_digest: false,
        canonical: false,
        unpack: false,
    };
    /// The image goes to registries.
    pub const PUSH: Self = Self {
        push: true,
        store: false,
        ..Self::STORE
    };
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
    pub compression: Option<Packing>,
    /// Whether layers that are compressed otherwise are converted too.
    pub force_compression: bool,
    /// Whether documents have OCI's media types, else Docker's.
    pub oci_media_types: bool,
    /// Annotations of its documents.
    pub annotations: Annotations,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            compression: None,
            force_compression: false,
            oci_media_types: true,
            annotations: Annotations::default(),
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
            path => Target::Local {
                dest: path.into(),
                delete: false,
            },
        };
        return Ok(Output::of(target));
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
            let key = lower(key.trim());
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

const TYPES: &str = "types are image, registry, oci, docker, local, tar and none";

/// Keys of BuildKit's that have no use here, and why.
const ELSEWHERE: [(&str, &str); 8] = [
    (
        "registry.insecure",
        "name the registry with --insecure-registry HOST",
    ),
    (
        "attestation-inline",
        "attestations are part of the image's index in any case",
    ),
    (
        "prefer-nondist-layers",
        "layers that may not be distributed stay as they are",
    ),
    ("dangling-name-prefix", "an image without a name has none"),
    (
        "danging-name-empty-only",
        "an image without a name has none",
    ),
    (
        "compatibility-version",
        "digests of other builders are not reproduced",
    ),
    (
        "buildinfo",
        "use --provenance to record what was built from what",
    ),
    (
        "oci-artifact",
        "attestations have an image's manifest, which every registry takes",
    ),
];

impl Fields<'_> {
    fn into_output(mut self) -> Result<Output> {
        let kind = self
            .keys
            .remove("type")
            .ok_or_else(|| usage(format!("output `{}` has no type", self.text)).hint(TYPES))?;
        let is_image = matches!(kind.as_str(), "image" | "registry" | "oci" | "docker");
        let target = match kind.as_str() {
            "image" => self.image(ImageTarget::STORE)?,
            "registry" => self.image(ImageTarget::PUSH)?,
            "oci" => self.archive(ArchiveFormat::Oci)?,
            "docker" => self.archive(ArchiveFormat::Docker)?,
            "local" => match self.dest() {
                Some(Dest::Path(dest)) => Target::Local {
                    dest,
                    delete: self.deletes()?,
                },
                _ => {
                    return Err(
                        usage("output type=local needs a directory").hint("add dest=DIRECTORY")
                    );
                }
            },
            "tar" => Target::Tar(self.dest().unwrap_or(Dest::Stdout)),
            "none" | "cacheonly" => Target::None,
            other => {
                return Err(usage(format!("unknown output type `{other}`")).hint(TYPES));
            }
        };
        let mut output = Output::of(target);
        if is_image {
            output.names = self.names()?;
            if matches!(output.target, Target::Image(target) if target.by_digest) {
                output.names.iter_mut().for_each(|name| name.tag = None);
            }
            output.form = self.form()?;
        }
        if matches!(output.target, Target::Local { .. } | Target::Tar(_)) {
            output.split = self.flag("platform-split")?;
            output.prefix = self.prefix()?;
        }
        if output.target != Target::None {
            output.epoch = self.epoch()?;
        }
        if is_image {
            output.rewrite_timestamp = self.flag("rewrite-timestamp")?;
        }
        if let Some(key) = self.keys.keys().next() {
            let error = usage(format!("unknown key `{key}` for output type={kind}"));
            let known = ELSEWHERE.iter().find(|(name, _)| name == key);
            return Err(match known {
                Some((_, why)) => error.hint(format!("leave it out: {why}")),
                None => error,
            });
        }
        Ok(output)
    }

    fn image(&mut self, preset: ImageTarget) -> Result<Target> {
        let push = self.flag("push")?.unwrap_or(preset.push);
        let store = self.flag("store")?;
        let by_digest = self.flag("push-by-digest")?.unwrap_or(false);
        let target = ImageTarget {
            push,
            // What is pushed by digest has no tag for the store either.
            store: store.unwrap_or(preset.store || !push) && !by_digest,
            by_digest,
            canonical: self.flag("name-canonical")?.unwrap_or(false),
            unpack: self.flag("unpack")?.unwrap_or(false),
        };
        if by_digest && !push {
            return Err(usage("push-by-digest=true without push=true"));
        }
        if by_digest && store == Some(true) {
            return Err(usage(
                "push-by-digest=true with store=true: the store has names only",
            ));
        }
        if store == Some(false) && !push {
            return Err(usage("store=false without push=true leaves nothing to do")
                .hint("use type=none to run the steps only"));
        }
        if by_digest {
            let names = self.keys.get("name").map_or("", String::as_str);
            for name in names.split(',').map(str::trim) {
                let last = name.rsplit('/').next().unwrap_or(name);
                if name.is_empty() {
                    return Err(usage("push-by-digest=true without a name")
                        .hint("add name=REGISTRY/REPOSITORY"));
                }
                if last.contains([':', '@']) {
                    return Err(usage(format!("can't push tagged ref `{name}` by digest"))
                        .hint("leave out the tag"));
                }
            }
        }
        Ok(Target::Image(target))
    }

    /// Reads `mode` of type=local.
    fn deletes(&mut self) -> Result<bool> {
        match self.keys.remove("mode").as_deref() {
            None | Some("copy") => Ok(false),
            Some("delete") => Ok(true),
            Some(other) => Err(usage(format!("mode=`{other}` of output type=local"))
                .hint("modes are copy and delete")),
        }
    }

    fn prefix(&mut self) -> Result<String> {
        let prefix = self.keys.remove("attestation-prefix").unwrap_or_default();
        if prefix.contains(['/', '\0']) {
            return Err(usage(format!(
                "attestation-prefix=`{prefix}` is not the beginning of a file's name"
            )));
        }
        Ok(prefix)
    }

    fn epoch(&mut self) -> Result<Option<i64>> {
        let Some(text) = self.keys.remove("source-date-epoch") else {
            return Ok(None);
        };
        let seconds = text.parse::<u32>().map_err(|_| {
            usage(format!(
                "source-date-epoch is not a number of seconds: `{text}`"
            ))
        })?;
        Ok(Some(seconds.into()))
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
        if let Some(packing) = form.compression
            && !form.oci_media_types
            && packing.is_oci_only()
        {
            let name = match packing {
                Packing::Estargz { .. } => "estargz",
                Packing::Stream(_) => "zstd",
            };
            return Err(usage(format!(
                "compression={name} with oci-mediatypes=false: Docker's media types have no {name}"
            )));
        }
        let annotated: Vec<String> = self
            .keys
            .keys()
            .filter(|k| k.starts_with("annotation"))
            .cloned()
            .collect();
        for key in annotated {
            let value = self.keys.remove(&key).unwrap_or_default();
            form.annotations.push(Annotation::of_output(&key, &value)?);
        }
        if !form.oci_media_types && !form.annotations.is_empty() {
            return Err(usage(
                "annotations with oci-mediatypes=false: Docker's manifests have none",
            ));
        }
        Ok(form)
    }

    /// Takes the compression and its level.
    pub(crate) fn compression(&mut self) -> Result<Option<Packing>> {
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
        let gzip = |level: i32| {
            let valid = u32::try_from(level).ok().filter(|level| *level <= 9);
            valid.ok_or_else(|| outside(level, "from 0 to 9"))
        };
        let packing = match (name.as_deref(), level) {
            (None, None) => return Ok(None),
            (Some("uncompressed"), None) => Packing::NONE,
            (Some("uncompressed"), Some(_)) => {
                return Err(usage("compression=uncompressed has no compression-level"));
            }
            (Some("gzip"), None) => Packing::GZIP,
            (None | Some("gzip"), Some(level)) => Packing::Stream(Compression::Gzip {
                level: gzip(level)?,
            }),
            (Some("estargz"), None) => Packing::ESTARGZ,
            (Some("estargz"), Some(level)) => Packing::Estargz {
                level: gzip(level)?,
            },
            (Some("zstd"), None) => Packing::ZSTD,
            (Some("zstd"), Some(level @ -7..=22)) => Packing::Stream(Compression::Zstd { level }),
            (Some("zstd"), Some(level)) => return Err(outside(level, "from -7 to 22")),
            (Some(other), _) => {
                return Err(usage(format!("unsupported compression `{other}`"))
                    .hint("compressions are uncompressed, gzip, estargz and zstd"));
            }
        };
        Ok(Some(packing))
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

/// Writes a key in lower case, except what is an annotation's own.
fn lower(key: &str) -> String {
    let end = match key.split_once(['.', '[']) {
        Some((kind, _)) if kind.to_ascii_lowercase().starts_with("annotation") => kind.len(),
        _ => key.len(),
    };
    key[..end].to_ascii_lowercase() + &key[end..]
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
mod tests;
