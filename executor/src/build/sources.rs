//! What COPY and ADD take: files of the context, other trees, here-documents, and what URLs
//! and repositories give.
//!
//! Responsible for reading a copy's sources once before it, for the step's key, and for handing
//! the job the very tree that was read. Must not place files. Invariant: a step is cached under
//! the content that was copied: the job reports the files' identity, and a copy whose files
//! changed meanwhile is not recorded.

mod remote;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use runtime::path::Root;
use rustix::fs::{Mode, OFlags};

use super::contexts::Contexts;
use super::copy::{CopyRequest, Owners};
use super::keys;
use super::state::Layer;
use crate::cache::downloads::Download;
use crate::cache::key::KeyBuilder;
use crate::cache::stat::{FileStat, StatCache};
use crate::context::access::Access;
use crate::context::digest::{FileDigests, FileKey, SelectRequest};
use crate::context::ignore::IgnoreFile;
use crate::context::pattern::has_wildcard;
use crate::context::walk::Pick;
use crate::context::{Context, Origin};
use crate::error::{Result, ResultExt};
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::plan::step::{Copy, CopyFrom, CopySourceKind};
use crate::progress::event::Sender;
use crate::store::lock::Session;

use remote::Repository;

/// The build context, ready to be selected from.
#[derive(Debug)]
pub struct Sources<'a> {
    context: &'a Context,
    contexts: &'a Contexts<'a>,
    session: &'a Session,
    progress: &'a Sender,
    access: &'a Access,
    known: Known,
}

/// The sources of one copy.
#[derive(Debug)]
pub struct Prepared {
    parts: Vec<Part>,
    changed: AtomicBool,
}

/// Sources of a copy that are in one place.
#[derive(Debug)]
pub(super) struct Part {
    /// Where they are.
    pub(super) place: Place,
    /// What is taken of it.
    pick: Pick,
    /// Digest of what is copied.
    digest: Digest,
    /// Identity of the context's files as they were read.
    stamp: Option<Digest>,
    ignore: Option<IgnoreFile>,
    /// Whether archives are unpacked.
    unpack: bool,
    /// What they were fetched from, if they are from elsewhere.
    origin: Option<Origin>,
}

/// Where sources are.
#[derive(Debug)]
pub(super) enum Place {
    /// Under this directory of the caller's.
    Directory(OwnedFd),
    /// In a repository, at this commit, which is fetched when it is needed.
    Git(Box<Repository>),
    /// In the store, as an earlier build has fetched it.
    Download(Box<Download>),
    /// In the tree of these layers; the name is for the progress display.
    Layers(Vec<Layer>, String),
}

/// Digests of files that were read in earlier builds.
#[derive(Debug)]
pub(super) struct Known(pub(super) StatCache);

impl<'a> Sources<'a> {
    /// Takes the context, the digests known from earlier builds, named contexts, and what fetching needs.
    pub fn new(
        context: &'a Context,
        known: StatCache,
        contexts: &'a Contexts<'a>,
        session: &'a Session,
        progress: &'a Sender,
        access: &'a Access,
    ) -> Self {
        Self {
            context,
            contexts,
            session,
            progress,
            access,
            known: Known(known),
        }
    }

    /// Reads what a copy selects from the context, or from `tree` when it is given, fetches what it
    /// takes from URLs, and writes its here-documents.
    pub(super) fn prepare(
        &self,
        copy: &Copy,
        tree: Option<(Vec<Layer>, String)>,
    ) -> Result<Prepared> {
        let mut parts = Vec::new();
        let mut local = Vec::new();
        let select = |parts: &mut Vec<Part>, local: &mut Vec<String>| -> Result<()> {
            if !local.is_empty() {
                let sources = std::mem::take(local);
                parts.push(match &tree {
                    Some((layers, name)) => Part::tree(pick(copy, sources), layers, name),
                    None => self.select(copy, sources)?,
                });
            }
            Ok(())
        };
        for source in &copy.sources {
            match &source.kind {
                CopySourceKind::File { name, content } => {
                    select(&mut parts, &mut local)?;
                    parts.push(self.inline(name, content)?);
                }
                CopySourceKind::Word(word) => {
                    let remote = if copy.add {
                        self.remote(copy, word)?
                    } else {
                        None
                    };
                    match remote {
                        Some(part) => {
                            select(&mut parts, &mut local)?;
                            parts.push(part);
                        }
                        None => local.push(word.clone()),
                    }
                }
            }
        }
        select(&mut parts, &mut local)?;
        Ok(Prepared {
            parts,
            changed: AtomicBool::new(false),
        })
    }

    /// Keeps the digests of the files that were read for later builds.
    pub fn save(&self) -> Result<()> {
        self.known.save()?;
        self.contexts.save()
    }

    fn select(&self, copy: &Copy, sources: Vec<String>) -> Result<Part> {
        let pick = pick(copy, sources);
        let request = SelectRequest {
            pick: &pick,
            chmod: copy.chmod.as_ref(),
            owners: None,
            whole: false,
        };
        let named = match &copy.from {
            CopyFrom::Named(name) => Some(self.contexts.files(name)?),
            _ => None,
        };
        let (context, known) = match &named {
            Some(opened) => (&opened.context, &opened.known),
            None => (self.context, &self.known),
        };
        let selection = context.select(&request, known)?;
        Ok(Part {
            place: Place::of(context.root())?,
            digest: selection.digest,
            stamp: Some(selection.stamp),
            ignore: context.ignore_file().cloned(),
            pick,
            unpack: copy.unpack.unwrap_or(copy.add),
            origin: None,
        })
    }

    /// Writes a here-document to a directory of its own.
    fn inline(&self, name: &str, content: &str) -> Result<Part> {
        let dir = self.session.scratch().fresh("inline");
        std::fs::create_dir(&dir).op_path("create", &dir)?;
        let root = Root::open_host(&dir).op_path("open", &dir)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = root
            .open(Path::new(name), flags, Mode::from_raw_mode(0o644))
            .op_path("create", name)?;
        let mut file = File::from(file);
        file.write_all(content.as_bytes()).op_path("write", name)?;
        // Neither the umask nor the clock may show in the layer.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))
            .op_path("change the permissions of", name)?;
        file.set_modified(SystemTime::UNIX_EPOCH)
            .op_path("set the time of", name)?;
        let mut key = KeyBuilder::new("inline");
        key.field("name", name).field("content", content);
        Ok(Part {
            place: Place::of(&root)?,
            digest: key.finish(),
            stamp: None,
            ignore: None,
            pick: Pick::plain(vec![literal(name)]),
            unpack: false,
            origin: None,
        })
    }
}

impl Prepared {
    /// Returns the digests of what is copied, in order.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.digests_with(&[])
    }

    /// Returns the digests of what is copied, with these in the place of those that stand for whole trees.
    pub(super) fn digests_with(&self, content: &[Digest]) -> Vec<Digest> {
        let mut content = content.iter();
        let digest = |part: &Part| match part.place {
            Place::Layers(..) => *content.next().unwrap_or(&part.digest),
            _ => part.digest,
        };
        self.parts.iter().map(digest).collect()
    }

    /// Returns what is from elsewhere.
    pub(super) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.parts.iter().filter_map(|part| part.origin.as_ref())
    }

    /// Returns the parts, in order.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Compares the identity of the files that the job read with that of those the key is for.
    pub(super) fn check(&self, stamps: &[Digest]) {
        let same = self.parts.len() == stamps.len()
            && self
                .parts
                .iter()
                .zip(stamps)
                .all(|(part, stamp)| part.stamp.is_none_or(|known| known == *stamp));
        if !same {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether the job copied what the key is for.
    pub(super) fn is_unchanged(&self) -> bool {
        !self.changed.load(Ordering::Relaxed)
    }
}

impl Place {
    fn of(root: &Root) -> Result<Self> {
        let dir = root.as_fd().try_clone_to_owned();
        Ok(Self::Directory(dir.op("duplicate descriptor")?))
    }
}

impl Part {
    /// Takes sources in another tree: the whole of it stands for what is selected.
    fn tree(pick: Pick, layers: &[Layer], name: &str) -> Self {
        let diff_ids: Vec<DiffId> = layers.iter().map(|l| l.diff_id).collect();
        Self {
            digest: keys::tree_content(ChainId::of(&diff_ids)),
            place: Place::Layers(layers.to_vec(), name.to_owned()),
            pick,
            stamp: None,
            ignore: None,
            unpack: false,
            origin: None,
        }
    }

    /// Returns what is taken of the place.
    pub(super) fn pick(&self) -> &Pick {
        &self.pick
    }

    /// Tells whether archives among the sources are unpacked.
    pub(super) fn unpacks(&self) -> bool {
        self.unpack
    }

    /// Returns the request for the job.
    pub(super) fn request(&self, copy: &Copy) -> CopyRequest {
        let owners = match (&copy.chown, &self.place) {
            (Some(spec), _) => Owners::Named(spec.clone()),
            (None, Place::Layers(..)) => Owners::Source,
            (None, _) => Owners::Root,
        };
        CopyRequest {
            pick: self.pick.clone(),
            dest: copy.dest.clone(),
            ignore: self.ignore.clone(),
            owners,
            chmod: copy.chmod.clone(),
        }
    }
}

/// Returns what a copy takes of files that may be many.
fn pick(copy: &Copy, sources: Vec<String>) -> Pick {
    Pick {
        sources,
        exclude: copy.exclude.clone(),
        parents: copy.parents,
    }
}

/// Returns the pattern that only `name` matches: a source in which nothing looks like a wildcard is
/// taken literally, in others brackets and backslashes quote.
pub(super) fn literal(name: &str) -> String {
    if !has_wildcard(name.as_bytes()) {
        return name.to_owned();
    }
    let mut pattern = String::with_capacity(2 * name.len());
    for c in name.chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            '\\' => pattern.push_str("\\\\"),
            c => pattern.push(c),
        }
    }
    pattern
}

impl Known {
    /// Keeps them for later builds.
    pub(super) fn save(&self) -> Result<()> {
        self.0.save()
    }
}

impl FileDigests for Known {
    fn lookup(&self, key: &FileKey) -> Option<Digest> {
        self.0.lookup(&file_stat(key))
    }

    fn insert(&self, key: &FileKey, digest: Digest, seen: SystemTime) {
        self.0.insert(file_stat(key), digest, seen);
    }
}

fn file_stat(key: &FileKey) -> FileStat {
    FileStat {
        dev: key.dev,
        ino: key.ino,
        size: key.size,
        mtime: key.mtime,
        ctime: key.ctime,
    }
}
