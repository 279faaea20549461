//! Sources of ADD that are elsewhere: URLs and git repositories.
//!
//! Responsible for knowing what they are before a step's key is computed, with as little traffic as
//! that takes, and for their files when the step runs. Must not speak any protocol. Invariant: what
//! is copied has the digest, or is of the commit, that the key stands for.

use std::os::fd::{AsFd, OwnedFd};

use runtime::path::Root;

use super::{Part, Place, Sources, literal, pick};
use crate::cache::downloads::Download;
use crate::cache::key::KeyBuilder;
use crate::context::Origin;
use crate::context::git::{self, GitOptions, GitUrl};
use crate::context::http::{self, FetchOptions, Fetched, Validators};
use crate::context::location;
use crate::context::walk::Pick;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::{Digest, HashingReader};
use crate::plan::step::Copy;
use crate::progress::event::Vertex;
use crate::redact;

/// A commit of a repository.
#[derive(Debug)]
pub(in crate::build) struct Repository {
    url: GitUrl,
    commit: String,
    options: GitOptions,
}

impl Sources<'_> {
    /// Looks at a source that is elsewhere; `None` when it is not.
    pub(super) fn remote(&self, copy: &Copy, source: &str) -> Result<Option<Part>> {
        if let Some(url) = GitUrl::parse(source)? {
            return self.repository(copy, url).map(Some);
        }
        if location::is_http(source) {
            return self.download(copy, source).map(Some);
        }
        Ok(None)
    }

    /// Returns a part's directory, fetching it where that had to wait.
    pub(in crate::build) fn open(&self, part: &Part) -> Result<OwnedFd> {
        let root = match &part.place {
            Place::Directory(fd) => return fd.try_clone().op("duplicate descriptor"),
            Place::Layers(..) => {
                return Err(Error::new("layers are no directory").kind(Kind::Internal));
            }
            Place::Git(repository) => {
                let shown = repository.url.shown();
                let vertex = format!("[internal] fetch {shown} at {}", repository.commit);
                self.shown(vertex, |_| {
                    let Repository {
                        url,
                        commit,
                        options,
                    } = repository.as_ref();
                    git::checkout(url, commit, options, self.session.scratch().dir())
                })?
                .root
            }
            Place::Download(download) => self.unpack_download(download)?,
        };
        root.as_fd().try_clone_to_owned().op("duplicate descriptor")
    }

    fn shown<T>(&self, name: String, work: impl FnOnce(&Vertex) -> Result<T>) -> Result<T> {
        let vertex = self.progress.start(name);
        match work(&vertex) {
            Ok(found) => {
                vertex.done();
                Ok(found)
            }
            Err(error) => {
                vertex.fail(&error);
                Err(error)
            }
        }
    }

    fn repository(&self, copy: &Copy, mut url: GitUrl) -> Result<Part> {
        if let Some(checksum) = &copy.checksum {
            if url.checksum.as_ref().is_some_and(|known| known != checksum) {
                return Err(Error::new(format!(
                    "`--checksum={checksum}` contradicts the source's own checksum"
                )));
            }
            url.checksum = Some(checksum.clone());
        }
        if let (Some(flag), Some(own)) = (copy.keep_git_dir, url.keep_git_dir)
            && flag != own
        {
            return Err(Error::new(
                "`--keep-git-dir` contradicts the source's own `keep-git-dir`",
            ));
        }
        let options = GitOptions {
            keep_git_dir: copy.keep_git_dir.or(url.keep_git_dir).unwrap_or(false),
            ..self.access.git(&url)
        };
        let commit = match url.reference.as_deref() {
            Some(reference) if git::is_commit(reference) => git::resolve(&url, &options)?,
            _ => self.shown(format!("[internal] resolve {}", url.shown()), |_| {
                git::resolve(&url, &options)
            })?,
        };
        let mut key = KeyBuilder::new("git");
        key.field("commit", &commit)
            .option("subdir", url.subdir.as_ref())
            .field("submodules", [u8::from(url.submodules != Some(false))]);
        if options.keep_git_dir {
            // `.git` names the remote.
            key.field("remote", url.shown());
        }
        Ok(Part {
            digest: key.finish(),
            origin: Some(Origin::commit(&url, &commit)),
            place: Place::Git(Box::new(Repository {
                url,
                commit,
                options,
            })),
            pick: pick(copy, vec![".".to_owned()]),
            stamp: None,
            ignore: None,
            unpack: false,
        })
    }

    fn download(&self, copy: &Copy, url: &str) -> Result<Part> {
        let checksum = copy.checksum.as_deref().map(str::parse).transpose()?;
        let downloads = self.session.cache().downloads();
        let known = downloads.get(url);
        if let (Some(wanted), Some(known)) = (&checksum, &known)
            && known.digest == *wanted
        {
            return stored(copy, url, known.clone());
        }
        let options = FetchOptions {
            known: known.as_ref().map(validators).unwrap_or_default(),
            ..self.access.http(url)
        };
        let shown = redact::text(url);
        let fetched = self.shown(format!("[internal] fetch {shown}"), |vertex| {
            let dir = self.session.scratch().dir();
            let fetched = http::fetch_changed(url, checksum.as_ref(), &options, dir)?;
            if let Some(fetched) = &fetched {
                vertex.status(&shown, fetched.size, Some(fetched.size), true);
            }
            Ok(fetched)
        })?;
        let Some(fetched) = fetched else {
            let known = known.ok_or_else(|| {
                Error::new("a server left out what is not known").kind(Kind::Internal)
            })?;
            if let Some(wanted) = checksum.filter(|wanted| *wanted != known.digest) {
                return Err(mismatch(&wanted, &known));
            }
            return stored(copy, url, known);
        };
        let download = Download {
            digest: fetched.digest,
            size: fetched.size,
            name: fetched.name.clone(),
            mtime: fetched.mtime,
            etag: fetched.validators.etag.clone(),
            last_modified: fetched.validators.last_modified.clone(),
        };
        // What can't be asked for again has to be transferred again anyway.
        if !fetched.validators.is_empty() || checksum.is_some() {
            self.keep(&fetched)?;
            downloads.put(url, &download)?;
        }
        let root = Root::open_host(&fetched.dir).op_path("open", &fetched.dir)?;
        Ok(Part {
            place: Place::of(&root)?,
            ..stored(copy, url, download)?
        })
    }

    /// Puts a download's content into the store.
    fn keep(&self, fetched: &Fetched) -> Result<()> {
        let blobs = self.session.blobs();
        let file = blobs.file()?;
        std::fs::copy(&fetched.path, file.path()).op_path("copy", &fetched.path)?;
        blobs.adopt(file, &fetched.digest)
    }

    /// Writes a download's file from the store.
    fn unpack_download(&self, download: &Download) -> Result<Root> {
        let dir = self.session.scratch().fresh("download");
        let mut content = HashingReader::new(self.session.blobs().open(&download.digest)?);
        let name = download.name.as_deref();
        http::write_file(&mut content, name, download.mtime, &dir)?;
        if content.finish().1 != download.digest {
            // Says so, and what to do about it.
            self.session.blobs().verify(&download.digest)?;
        }
        Root::open_host(&dir).op_path("open", &dir)
    }
}

/// Makes the part of a download that is in the store.
fn stored(copy: &Copy, url: &str, download: Download) -> Result<Part> {
    let name = match &download.name {
        Some(name) => name,
        None if copy.dest.ends_with('/') => {
            let url = redact::text(url);
            return Err(Error::new(format!("`{url}` gives its file no name"))
                .hint("name the file in ADD's destination"));
        }
        None => http::UNNAMED,
    };
    Ok(Part {
        digest: http::key(Some(name), &download.digest, download.mtime),
        origin: Some(Origin::download(url, download.digest)),
        pick: Pick::plain(vec![literal(name)]),
        place: Place::Download(Box::new(download)),
        stamp: None,
        ignore: None,
        unpack: copy.unpack.unwrap_or(false),
    })
}

fn validators(download: &Download) -> Validators {
    Validators {
        etag: download.etag.clone(),
        last_modified: download.last_modified.clone(),
    }
}

fn mismatch(wanted: &Digest, known: &Download) -> Error {
    Error::new(format!(
        "checksum mismatch: expected {wanted}, got {} ({} bytes)",
        known.digest, known.size
    ))
}
