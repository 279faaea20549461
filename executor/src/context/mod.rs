//! Build contexts: where the files of a build come from, and which of them a COPY selects.
//!
//! Responsible for reading a context as a confined tree, for `.dockerignore`, for wildcards and
//! for content digests. Must not know what files become in an image. Invariant: nothing outside
//! the context's root is read on behalf of a name in it.

pub mod access;
pub mod archive;
pub mod digest;
pub mod git;
pub mod http;
pub mod ignore;
pub mod local;
pub mod location;
pub mod pattern;
pub mod suggest;
pub mod tar;
pub mod walk;
pub mod xattrs;

use std::io::Read;
use std::path::Path;

use runtime::path::Root;
use tempfile::TempDir;

use crate::context::access::Access;
use crate::context::digest::{FileDigests, SelectRequest, Selection};
use crate::context::git::GitUrl;
use crate::context::http::FetchOptions;
use crate::context::ignore::{IgnoreFile, Matcher};
use crate::context::location::{DockerfileLocation, Location};
use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::Digest;
use crate::layer::tar_read::Limits;
use crate::redact;

/// Largest Dockerfile, in bytes.
pub const MAX_DOCKERFILE: u64 = 16 << 20;

/// A tree that COPY takes files from.
#[derive(Debug)]
pub struct Context {
    root: Root,
    ignore: Option<IgnoreFile>,
    rules: Matcher,
    /// The directory, when it is one of ours that goes away with the context.
    _owned: Option<TempDir>,
    /// Whether the tree is ours, so that nobody else changes it.
    private: bool,
    /// What it was fetched from.
    origin: Option<Origin>,
}

/// What something was fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The address, without what it hides.
    pub address: String,
    /// What was there.
    pub version: Version,
}

/// What an address gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// A commit.
    Commit(String),
    /// Content with this digest.
    Content(Digest),
}

impl Origin {
    /// Makes that of a download.
    pub fn download(url: &str, digest: Digest) -> Self {
        Self {
            address: redact::text(url),
            version: Version::Content(digest),
        }
    }

    /// Makes that of a commit of a repository.
    pub fn commit(url: &GitUrl, commit: &str) -> Self {
        let mut address = url.shown();
        let (reference, subdir) = (url.reference.as_deref(), url.subdir.as_deref());
        if reference.is_some() || subdir.is_some() {
            address.push('#');
            address.push_str(reference.unwrap_or_default());
        }
        if let Some(subdir) = subdir {
            address.push(':');
            address.push_str(subdir);
        }
        Self {
            address,
            version: Version::Commit(commit.to_owned()),
        }
    }
}

/// A Dockerfile's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileText {
    /// Name in messages.
    pub name: String,
    /// Contents.
    pub bytes: Vec<u8>,
    /// What it was fetched from, if that was not the context.
    pub origin: Option<Origin>,
}

/// What to open.
pub struct OpenRequest<'a> {
    /// Where the files come from.
    pub location: &'a Location,
    /// Where the Dockerfile comes from.
    pub dockerfile: &'a DockerfileLocation,
    /// Standard input.
    pub stdin: &'a mut (dyn Read + Send),
    /// Directory for what has to be unpacked; the session's own.
    pub tmp: &'a Path,
    /// How what is elsewhere is fetched.
    pub access: &'a Access,
}

impl std::fmt::Debug for OpenRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRequest")
            .field("location", &self.location)
            .field("dockerfile", &self.dockerfile)
            .finish_non_exhaustive()
    }
}

/// Opens a context and reads its Dockerfile and its ignore file.
///
/// A stream (standard input or a URL's content) is an archive when its first bytes say so, and
/// else a Dockerfile, with an empty context. An archive's Dockerfile is looked for inside of it.
///
/// # Errors
/// When something is missing, with hints; when both come from standard input; when an ignore
/// file has a malformed pattern; and those of unpacking and fetching.
pub fn open(request: OpenRequest<'_>) -> Result<(Context, DockerfileText)> {
    let both = request.location == &Location::Stdin;
    if both && request.dockerfile == &DockerfileLocation::Stdin {
        return Err(
            Error::new("context and Dockerfile can't both come from standard input")
                .kind(Kind::Usage),
        );
    }
    match request.location {
        Location::Directory(path) => {
            let root = local::open_dir(path)?;
            let found = match request.dockerfile {
                DockerfileLocation::Stdin => local::Found::text(read_dockerfile(request.stdin)?),
                DockerfileLocation::Path(file) => local::named(&root, file)?,
                DockerfileLocation::Default => local::default(&root)?,
                DockerfileLocation::Url(url) => by_url(url, request.access, request.tmp)?,
            };
            finish(root, found, None)
        }
        Location::Git(url) => {
            let (root, origin) = checked_out(url, request.access, request.tmp)?;
            let found = match request.dockerfile {
                DockerfileLocation::Stdin => local::Found::text(read_dockerfile(request.stdin)?),
                DockerfileLocation::Path(file) => local::inside(&root, file)?,
                DockerfileLocation::Default => local::default(&root)?,
                DockerfileLocation::Url(url) => by_url(url, request.access, request.tmp)?,
            };
            let (mut context, dockerfile) = finish(root, found, None)?;
            context.private = true;
            context.origin = Some(origin);
            Ok((context, dockerfile))
        }
        Location::Stdin => {
            let found = fetched_dockerfile(&request)?;
            stream(request.stdin, request.dockerfile, None, found, request.tmp)
        }
        Location::Url(url) => {
            let fetched = http::fetch(url, None, &request.access.http(url), request.tmp)?;
            let mut file = std::fs::File::open(&fetched.path).op_path("open", &fetched.path)?;
            let found = fetched_dockerfile(&request)?;
            let (mut context, dockerfile) = stream(
                &mut file,
                request.dockerfile,
                Some(request.stdin),
                found,
                request.tmp,
            )?;
            context.origin = Some(Origin::download(url, fetched.digest));
            Ok((context, dockerfile))
        }
    }
}

/// Takes a stream that is an archive or a Dockerfile.
fn stream(
    stream: &mut (dyn Read + Send),
    dockerfile: &DockerfileLocation,
    stdin: Option<&mut (dyn Read + Send)>,
    fetched: Option<local::Found>,
    tmp: &Path,
) -> Result<(Context, DockerfileText)> {
    let mut opened = archive::open(stream).op("read the context")?;
    let owned = tempfile::Builder::new()
        .prefix("context-")
        .tempdir_in(tmp)
        .op_path("make a directory in", tmp)?;
    let root = Root::open_host(owned.path()).op_path("open", owned.path())?;
    if !opened.compressed && !opened.tar {
        if fetched.is_some() {
            return Err(
                Error::new("context and Dockerfile are both a Dockerfile").kind(Kind::Usage)
            );
        }
        if let DockerfileLocation::Path(path) = dockerfile {
            return Err(
                Error::new("the context is a Dockerfile, and not an archive with")
                    .path(path)
                    .hint("leave out -f to build it"),
            );
        }
        let found = local::Found::text(read_dockerfile(&mut opened.reader)?);
        return finish(root, found, Some(owned));
    }
    tar::extract(opened, &root, Limits::default()).map_err(|e| e.during("unpack the context"))?;
    let found = match (dockerfile, stdin, fetched) {
        (_, _, Some(found)) => found,
        (DockerfileLocation::Path(path), ..) => local::inside(&root, path)?,
        (DockerfileLocation::Stdin, Some(stdin), _) => local::Found::text(read_dockerfile(stdin)?),
        _ => local::default(&root)?,
    };
    finish(root, found, Some(owned))
}

fn finish(
    root: Root,
    found: local::Found,
    owned: Option<TempDir>,
) -> Result<(Context, DockerfileText)> {
    let ignore = match found.ignore {
        Some(file) => Some(file),
        None => ignore_of(&root)?,
    };
    let rules = match &ignore {
        Some(file) => file.rules()?,
        None => Matcher::none(),
    };
    let context = Context {
        root,
        ignore,
        rules,
        private: owned.is_some(),
        _owned: owned,
        origin: None,
    };
    Ok((context, found.dockerfile))
}

/// Fetches a repository.
fn checked_out(url: &GitUrl, access: &Access, tmp: &Path) -> Result<(Root, Origin)> {
    let tree = git::fetch(url, &access.git(url), tmp)?;
    let origin = Origin::commit(url, &tree.commit);
    Ok((tree.root, origin))
}

/// Fetches the Dockerfile, if that is where it comes from.
fn fetched_dockerfile(request: &OpenRequest<'_>) -> Result<Option<local::Found>> {
    match request.dockerfile {
        DockerfileLocation::Url(url) => by_url(url, request.access, request.tmp).map(Some),
        _ => Ok(None),
    }
}

fn by_url(url: &str, access: &Access, tmp: &Path) -> Result<local::Found> {
    let options = FetchOptions {
        limit: MAX_DOCKERFILE,
        ..access.http(url)
    };
    let fetched = http::fetch(url, None, &options, tmp)?;
    let mut file = std::fs::File::open(&fetched.path).op_path("open", &fetched.path)?;
    let dockerfile = DockerfileText {
        name: fetched.name.unwrap_or_else(|| "Dockerfile".to_owned()),
        bytes: local::read_bounded(&mut file, MAX_DOCKERFILE, Path::new(url))?,
        origin: Some(Origin::download(url, fetched.digest)),
    };
    Ok(local::Found::text(dockerfile))
}

/// Opens files that come without a Dockerfile. A directory has its ignore file; a URL's content is
/// unpacked when it is an archive, and else the only file.
///
/// # Errors
/// When something is missing, when an ignore file has a malformed pattern, and those of unpacking
/// and fetching.
pub fn open_files(location: &Location, access: &Access, tmp: &Path) -> Result<Context> {
    let plain = |root: Root| Context {
        root,
        ignore: None,
        rules: Matcher::none(),
        _owned: None,
        private: true,
        origin: None,
    };
    match location {
        Location::Directory(path) => {
            let root = local::open_dir(path)?;
            let ignore = ignore_of(&root)?;
            let rules = match &ignore {
                Some(file) => file.rules()?,
                None => Matcher::none(),
            };
            Ok(Context {
                ignore,
                rules,
                private: false,
                ..plain(root)
            })
        }
        Location::Git(url) => {
            let (root, origin) = checked_out(url, access, tmp)?;
            Ok(Context {
                origin: Some(origin),
                ..plain(root)
            })
        }
        Location::Url(url) => {
            let fetched = http::fetch(url, None, &access.http(url), tmp)?;
            let file = std::fs::File::open(&fetched.path).op_path("open", &fetched.path)?;
            let opened = archive::open(file).op("read the context")?;
            let origin = Some(Origin::download(url, fetched.digest));
            if !opened.tar {
                let root = Root::open_host(&fetched.dir).op_path("open", &fetched.dir)?;
                return Ok(Context {
                    origin,
                    ..plain(root)
                });
            }
            let owned = tempfile::Builder::new()
                .prefix("context-")
                .tempdir_in(tmp)
                .op_path("make a directory in", tmp)?;
            let root = Root::open_host(owned.path()).op_path("open", owned.path())?;
            tar::extract(opened, &root, Limits::default())
                .map_err(|e| e.during("unpack the context"))?;
            Ok(Context {
                _owned: Some(owned),
                origin,
                ..plain(root)
            })
        }
        Location::Stdin => {
            Err(Error::new("a named context can't come from standard input").kind(Kind::Usage))
        }
    }
}

/// Finds a directory's own ignore file: as podman-build(1) has it, of both podman's counts.
fn ignore_of(root: &Root) -> Result<Option<IgnoreFile>> {
    match local::ignore_file(root, Path::new(local::CONTAINER_IGNORE))? {
        Some(file) => Ok(Some(file)),
        None => local::ignore_file(root, Path::new(local::IGNORE)),
    }
}

fn read_dockerfile(reader: &mut dyn Read) -> Result<DockerfileText> {
    let name = "Dockerfile";
    Ok(DockerfileText {
        name: name.to_owned(),
        bytes: local::read_bounded(reader, MAX_DOCKERFILE, Path::new("-"))?,
        origin: None,
    })
}

impl Context {
    /// Returns the tree's root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the ignore file, for a job that walks the tree again.
    pub fn ignore_file(&self) -> Option<&IgnoreFile> {
        self.ignore.as_ref()
    }

    /// Tells whether the ignore file leaves out a source of COPY; see [`Matcher::leaves_out`].
    pub fn excludes(&self, source: &Path) -> bool {
        self.rules.leaves_out(source)
    }

    /// Returns what the tree was fetched from, unless it is the caller's own.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Tells whether the tree was unpacked by us and can't change while it is copied.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Selects the sources of one COPY; see [`digest::select`].
    ///
    /// # Errors
    /// Those of [`digest::select`].
    pub fn select(
        &self,
        request: &SelectRequest<'_>,
        known: &dyn FileDigests,
    ) -> Result<Selection> {
        digest::select(&self.root, &self.rules, request, known)
    }
}

#[cfg(test)]
mod tests;
