//! What a build is given besides its context: named contexts, and arguments from files.
//!
//! Responsible for their grammar. Must not open a context. Invariant: what can't be a context is
//! refused here, by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::build::from_environment;
use super::environment::Environment;
use crate::context::location::Location;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::plan::contexts::{self, Layout, NamedContext};
use crate::redact;

/// The options.
#[derive(Debug, Default, clap::Args)]
pub(super) struct InputArgs {
    /// Put something in the place of a stage or image: a directory, docker-image://IMAGE,
    /// oci-layout://DIR (with :TAG or @DIGEST), a git repository, or a URL of an archive or file. A name can
    /// end in ::OS/ARCH
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    contexts: Vec<String>,

    /// Read build arguments from a file: NAME=VALUE lines, and NAME for the environment's value.
    /// Those of --build-arg come first
    #[arg(long = "build-arg-file", value_name = "FILE")]
    argument_files: Vec<PathBuf>,
}

impl InputArgs {
    /// Returns the named contexts by normalized name.
    ///
    /// # Errors
    /// [`Kind::Usage`] for those that are none.
    pub(super) fn contexts(&self) -> Result<BTreeMap<String, NamedContext>> {
        let mut found = BTreeMap::new();
        for text in &self.contexts {
            let (name, source) = text
                .split_once('=')
                .filter(|(name, source)| !name.is_empty() && !source.is_empty())
                .ok_or_else(|| {
                    usage(format!("--build-context names no source: `{text}`"))
                        .hint("write NAME=DIRECTORY")
                })?;
            // As in buildx, the last one counts.
            found.insert(name_of(name)?, context(name, source)?);
        }
        Ok(found)
    }

    /// Reads the files with build arguments, in order; an argument without a value is not given.
    ///
    /// # Errors
    /// When a file can't be read, or [`Kind::Usage`] naming the line that is wrong.
    pub(super) fn arguments(&self, environment: &Environment) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for path in &self.argument_files {
            let text = std::fs::read(path)
                .map_err(|e| Error::new("read build arguments from").path(path).source(e))?;
            arguments(&text, path, environment, &mut found)?;
        }
        Ok(found)
    }
}

fn usage(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(text).kind(Kind::Usage)
}

/// Normalizes a context's name, and the platform that it is for.
fn name_of(text: &str) -> Result<String> {
    let (name, platform) = match text.split_once(contexts::FOR) {
        Some((name, platform)) => {
            let platform: Platform = platform.parse().map_err(|e: Error| {
                e.kind(Kind::Usage)
                    .during(format!("read the name of context `{text}`"))
            })?;
            (name, Some(platform))
        }
        None => (text, None),
    };
    let known = contexts::normalize(name).ok_or_else(|| {
        usage(format!("invalid context name `{name}`"))
            .hint("it is a stage's or an image's: in lower case, without blanks")
    })?;
    Ok(match platform {
        Some(platform) => format!("{known}{}{platform}", contexts::FOR),
        None => known,
    })
}

fn context(name: &str, source: &str) -> Result<NamedContext> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        let reference: Reference = image.parse().map_err(|e: Error| e.kind(Kind::Usage))?;
        return Ok(NamedContext::Image(reference));
    }
    if let Some(layout) = source.strip_prefix("oci-layout://") {
        return Ok(NamedContext::Layout(layout_of(layout)?));
    }
    if source.starts_with("target:") {
        return Err(usage(format!(
            "context `{name}` can't be a target: only bake files have those"
        ))
        .hint("build the target, and use docker-image:// with its name"));
    }
    if source == "-" {
        return Err(usage(format!(
            "context `{name}` can't come from standard input"
        )));
    }
    match Location::parse(source)? {
        Location::Directory(path) if source.contains("://") && !path.exists() => {
            Err(usage(format!(
                "context `{name}` has an unknown scheme: `{}`",
                redact::text(source)
            ))
            .hint("it is a directory, docker-image://, oci-layout://, a git repository or a URL"))
        }
        // As in buildx, one that no step needs has to be there, too.
        Location::Directory(path) if !path.is_dir() => {
            Err(Error::new(format!("context `{name}` is not a directory:"))
                .path(path)
                .kind(Kind::NotFound))
        }
        location => Ok(NamedContext::Files(location)),
    }
}

/// Reads `DIR[:TAG][@DIGEST]`. A colon that a slash comes after is part of the directory's name.
fn layout_of(text: &str) -> Result<Layout> {
    let (rest, digest) = match text.rsplit_once('@') {
        Some((rest, digest)) if digest.contains(':') => {
            let digest: Digest = digest.parse().map_err(|e: Error| e.kind(Kind::Usage))?;
            (rest, Some(digest))
        }
        _ => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag)),
        _ => (rest, None),
    };
    if path.is_empty() {
        return Err(usage(format!("oci-layout:// names no directory: `{text}`")));
    }
    Ok(Layout {
        path: path.into(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

/// Reads the lines of a file with build arguments.
fn arguments(
    text: &[u8],
    path: &Path,
    environment: &Environment,
    found: &mut Vec<(String, String)>,
) -> Result<()> {
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let wrong =
            |why: String| usage(format!("`{}`, line {}: {why}", path.display(), number + 1));
        let line = std::str::from_utf8(line).map_err(|_| wrong("not valid UTF-8".into()))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => {
                let name = line.trim_end();
                (name, from_environment(name, environment)?)
            }
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong(format!("`{name}` is no argument's name"))
                .hint("write NAME=VALUE, or NAME alone for the environment's value"));
        }
        if let Some(value) = value {
            found.push((name.to_owned(), value));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
