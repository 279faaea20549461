//! What runs inside the build's user namespace, one process a job.
//!
//! Responsible for the requests, the replies, and the dispatch in the job process. Must not talk
//! to a registry, read the environment or decide what to build: a job does one thing to trees
//! whose ids are real here. Invariant: a job changes nothing in the store but the staging
//! directory that its request names; committing is the main process's task.

mod archive;
mod content;
mod copy;
mod export;
mod mounts;
mod remove;
mod run;
mod scan;
mod seed;
mod specials;
mod tree;
mod unpack;
mod untouched;
mod workdir;

use std::os::fd::OwnedFd;

use runtime::identity::{IdMap, Identity, Ownership};
use runtime::spawner::Request;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, STORAGE_FULL_HINT};
use crate::image::digest::Digest;
use crate::store::measure::Size;

pub use content::{ContentPart, ContentTask};
pub use copy::{CopyPart, CopyReply, CopyTask, Source};
pub use export::{ExportLocalTask, ExportTarTask};
pub use mounts::{MountContent, StepMount};
pub use remove::{MeasureTask, RemoveTask};
pub use run::{Command, FileMount, RunTask, ShellTask, SkeletonTask};
pub use scan::{ScanTask, Wanted};
pub use seed::{SeedReply, SeedTask};
pub use tree::{LayerReply, Staged};
pub use unpack::{UnpackReply, UnpackTask};
pub use workdir::WorkdirTask;

/// A job's request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Apply a layer's archive.
    Unpack(UnpackTask),
    /// Make the mount points of sandboxes.
    Skeleton(SkeletonTask),
    /// Run a command and take the layer.
    Run(Box<RunTask>),
    /// Run a command and throw its changes away.
    Shell(Box<ShellTask>),
    /// Copy files and take the layer.
    Copy(Box<CopyTask>),
    /// Read what is taken of trees.
    Content(ContentTask),
    /// Make a tree that is no layer.
    Seed(SeedTask),
    /// Make a working directory and take the layer.
    Workdir(WorkdirTask),
    /// Remove trees.
    Remove(RemoveTask),
    /// Measure trees.
    Measure(MeasureTask),
    /// Write a flattened tree as an archive.
    ExportTar(ExportTarTask),
    /// Write a flattened tree as files of the caller.
    ExportLocal(ExportLocalTask),
    /// Look at a flattened tree.
    Scan(ScanTask),
}

/// A job's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// An archive was applied.
    Unpacked(UnpackReply),
    /// A layer was written; `None` when nothing changed and no layer is wanted for that.
    Layer(Option<LayerReply>),
    /// Files were copied.
    Copied(CopyReply),
    /// Trees were read: a digest for each part.
    Content(Vec<Option<Digest>>),
    /// A tree was made.
    Seeded(SeedReply),
    /// Trees were measured.
    Measured(Vec<Size>),
    /// A tree was written; what could not be kept, for people.
    Exported(Vec<String>),
    /// The command ended; no layer.
    Exited(Exited),
}

/// A command's end that made no layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exited {
    /// Its code, 128 + signal when a signal ended it.
    pub code: i32,
    /// What may explain it, for people.
    pub notes: Vec<String>,
    /// Whether processes were killed since they wanted more memory than the step may have.
    pub memory_exceeded: bool,
}

/// An error on its way from a job to the main process.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WireError {
    kind: WireKind,
    text: String,
    hints: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum WireKind {
    Build,
    NotFound,
    Internal,
}

/// What every job knows of its surroundings.
#[derive(Debug, Clone, Copy)]
struct Scene {
    ids: IdMap,
    identity: Identity,
}

impl Scene {
    fn ownership(self) -> Ownership {
        Ownership::new(self.identity, self.ids)
    }
}

/// Serves one request; the handler of the spawner.
pub fn handle(request: Request) -> Vec<u8> {
    let scene = Scene {
        ids: request.ids,
        identity: request.identity,
    };
    let result = dispatch(scene, &request.body, request.fds).map_err(|e| WireError {
        kind: match e.get_kind() {
            Kind::NotFound => WireKind::NotFound,
            Kind::Internal => WireKind::Internal,
            _ => WireKind::Build,
        },
        text: e.chain(),
        // The text alone no longer tells the edge that the disk was full.
        hints: (e.hints().iter().map(AsRef::as_ref))
            .chain(e.is_storage_full().then_some(STORAGE_FULL_HINT))
            .map(str::to_owned)
            .collect(),
    });
    serde_json::to_vec(&result).expect("replies have string keys only")
}

fn dispatch(scene: Scene, body: &[u8], fds: Vec<OwnedFd>) -> Result<Reply> {
    let task: Task = serde_json::from_slice(body).map_err(|e| {
        Error::new("read job request")
            .kind(Kind::Internal)
            .source(e)
    })?;
    let mut fds = Descriptors(fds.into_iter());
    match task {
        Task::Unpack(task) => unpack::unpack(scene, &task).map(Reply::Unpacked),
        Task::Skeleton(task) => run::skeleton(scene, &task).map(|()| Reply::Done),
        Task::Run(task) => run::run(scene, *task, &mut fds),
        Task::Shell(task) => run::shell(scene, *task, &mut fds).map(Reply::Exited),
        Task::Copy(task) => copy::copy(scene, &task, &mut fds).map(Reply::Copied),
        Task::Content(task) => Ok(Reply::Content(content::content(scene, &task))),
        Task::Seed(task) => seed::seed(scene, &task, &mut fds).map(Reply::Seeded),
        Task::Workdir(task) => workdir::workdir(scene, &task, &mut fds).map(Reply::Layer),
        Task::Remove(task) => remove::remove(&task).map(|()| Reply::Done),
        Task::Measure(task) => Ok(Reply::Measured(remove::measure(&task))),
        Task::ExportTar(task) => export::tar(scene, &task, &mut fds).map(Reply::Exported),
        Task::Scan(task) => scan::scan(scene, &task, &mut fds).map(|()| Reply::Done),
        Task::ExportLocal(task) => export::local(scene, &task).map(Reply::Exported),
    }
}

/// Parses a reply in the main process.
pub fn parse_reply(bytes: &[u8]) -> Result<Reply> {
    let result: std::result::Result<Reply, WireError> = serde_json::from_slice(bytes)
        .map_err(|e| Error::new("read job reply").kind(Kind::Internal).source(e))?;
    result.map_err(|wire| {
        let kind = match wire.kind {
            WireKind::Build => Kind::Build,
            WireKind::NotFound => Kind::NotFound,
            WireKind::Internal => Kind::Internal,
        };
        wire.hints
            .into_iter()
            .fold(Error::new(wire.text).kind(kind), Error::hint)
    })
}

/// The descriptors that came with a request, taken in the order the task documents.
#[derive(Debug)]
struct Descriptors(std::vec::IntoIter<OwnedFd>);

impl Descriptors {
    fn take(&mut self) -> Result<OwnedFd> {
        self.0
            .next()
            .ok_or_else(|| Error::new("a job's descriptor is missing").kind(Kind::Internal))
    }
}
