//! The work of one step, once it is known that the cache does not have it.
//!
//! Responsible for what a job is told, and for what its answer means. Must not know keys, the cache, or
//! what becomes of what a job leaves. Invariant: a job writes to its own site only.

use std::io::PipeWriter;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::super::devices::{Devices, Given};
use super::super::jobs::{
    Command, CopyPart, CopyTask, Exited, LayerReply, Reply, RunTask, Source, Staged, Task,
    WorkdirTask,
};
use super::super::mounts::{Held, Inputs};
use super::super::sources::{Place, Prepared};
use super::super::state::{Layer, State};
use super::Stage;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::image::digest::{ChainId, DiffId};
use crate::plan::step::{Copy, Network, Op, Run, Step};
use crate::progress::event::Vertex;
use crate::store::snapshots::Staging;

use runtime::sandbox::Confinement;
use tempfile::NamedTempFile;

/// Where a step works.
#[derive(Debug)]
pub(super) struct Site {
    /// The snapshots that it stands on, topmost first.
    pub(super) lowers: Vec<PathBuf>,
    /// Its tree.
    pub(super) staging: Staging,
    /// Where a RUN step says that the next one can stand on its tree.
    pub(super) announce: Option<PipeWriter>,
    /// What ends it.
    pub(super) cancel: Cancel,
}

/// What a job has left of a step.
#[derive(Debug)]
pub(super) struct Left {
    layer: Layer,
    /// The layer's archive.
    archive: NamedTempFile,
    /// The layer's tree.
    staging: Staging,
    /// Size of the files in it, in bytes.
    bytes: u64,
}

impl Left {
    fn new(made: LayerReply, staging: Staging, archive: NamedTempFile) -> Self {
        Self {
            layer: Layer::uncompressed(DiffId(made.digest), made.size),
            archive,
            staging,
            bytes: made.bytes,
        }
    }
}

impl Stage<'_> {
    /// Returns what a step may do and use up.
    pub(super) fn confinement(&self, run: &Run) -> Confinement {
        Confinement {
            insecure: run.insecure,
            ..self.shared.settings.confinement.clone()
        }
    }

    /// Adds the devices that a step asks for to its confinement.
    pub(super) fn devices(&self, run: &Run, confinement: &mut Confinement) -> Result<Given> {
        let settings = self.shared.settings;
        if run.devices.is_empty() {
            return Ok(Given::default());
        }
        Devices::read(&settings.devices)?.give(&run.devices, &settings.entitlements, confinement)
    }

    pub(super) fn network(&self, run: &Run) -> Network {
        run.network.unwrap_or(self.shared.settings.network)
    }

    /// Starts the tree of a step that stands on `lowers`.
    pub(super) fn site(&self, lowers: Vec<PathBuf>) -> Result<Site> {
        let session = self.shared.session;
        Ok(Site {
            lowers,
            staging: session.store().snapshots().staging(session)?,
            announce: None,
            cancel: self.shared.worker.cancel().clone(),
        })
    }

    /// Has a job do a step, and returns what it leaves unless that is no layer.
    pub(super) fn work(
        &self,
        step: &Step,
        inputs: &Inputs,
        prepared: Option<&Prepared>,
        site: Site,
        held: &Held,
        vertex: &Vertex,
    ) -> Result<Option<Left>> {
        let shared = self.shared;
        let staging = site.staging;
        let out = shared.session.blobs().file()?;
        let tree = Staged {
            lowers: site.lowers,
            staging: staging.dir().to_path_buf(),
            latest: shared.settings.epoch,
            without_user: shared.settings.without_user,
        };
        let reply = match &step.op {
            Op::Run(run) => {
                let mounts = self.ready_mounts(run, inputs, held, vertex)?;
                let mut confinement = self.confinement(run);
                let given = self.devices(run, &mut confinement)?;
                let task = Task::Run(Box::new(RunTask {
                    tree,
                    command: Command {
                        argv: run.argv.clone(),
                        env: (run.env.entries().map(str::to_owned))
                            .chain(run.proxy.iter().chain(&given.env).cloned())
                            .chain(mounts.env.iter().cloned())
                            .collect(),
                        cwd: run.cwd.clone(),
                        user: run.user.clone(),
                        host_network: self.network(run) == Network::Host,
                        hostname: shared.settings.hostname.clone(),
                        platform: self.head.platform.clone(),
                        confinement,
                        groups: given.groups,
                    },
                    files: shared.settings.files.clone(),
                    mounts: mounts.mounts.clone(),
                    announce: site.announce.is_some(),
                    secrets: mounts.has_secrets(),
                    locks: mounts.locks(),
                    secret_env: mounts.secret_env.clone(),
                }));
                let mut fds = vec![out.as_file().as_fd()];
                fds.extend(site.announce.as_ref().map(AsFd::as_fd));
                fds.extend(mounts.fds());
                let worker = shared.worker;
                match worker.submit_logged(&site.cancel, &task, &fds, &mounts.mask, vertex) {
                    Ok(reply) => mounts.hide(reply),
                    Err(error) => return Err(mounts.hide_error(error)),
                }
            }
            Op::Workdir { path, user } => {
                let task = Task::Workdir(WorkdirTask {
                    tree,
                    path: path.clone(),
                    user: user.clone(),
                });
                shared.worker.submit(&task, &[out.as_file().as_fd()])?
            }
            Op::Copy(copy) => self.run_copy(copy, prepared, tree, out.as_file())?,
            Op::Config => return Ok(None),
        };
        match reply {
            Reply::Layer(None) => Ok(None),
            Reply::Copied(copied) => {
                if let Some(prepared) = prepared {
                    prepared.check(&copied.stamps);
                }
                for note in &copied.notes {
                    vertex.warn(note.clone());
                }
                self.shared.warn(vertex, &copied.layer.notes);
                Ok(Some(Left::new(copied.layer, staging, out)))
            }
            Reply::Layer(Some(made)) => {
                self.shared.warn(vertex, &made.notes);
                Ok(Some(Left::new(made, staging, out)))
            }
            Reply::Exited(ended) => {
                self.shared.warn(vertex, &ended.notes);
                Err(step_failed(step, &ended))
            }
            _ => Err(Error::new("unexpected reply to a step").kind(Kind::Internal)),
        }
    }

    /// Puts a step's tree into the store as a snapshot, or lends it to a job that stands on it; its archive
    /// is the caller's to store.
    pub(super) fn keep(
        &self,
        state: &State,
        left: Left,
        is_lent: bool,
    ) -> Result<(Layer, NamedTempFile)> {
        let chain = ChainId::child(state.chain(), left.layer.diff_id);
        let trees = self.shared.trees;
        if is_lent {
            trees.lend(left.staging, chain, left.bytes);
        } else {
            trees.commit(left.staging, chain, left.bytes)?;
        }
        Ok((left.layer, left.archive))
    }

    fn run_copy(
        &self,
        copy: &Copy,
        prepared: Option<&Prepared>,
        tree: Staged,
        out: &std::fs::File,
    ) -> Result<Reply> {
        let shared = self.shared;
        let prepared =
            prepared.ok_or_else(|| Error::new("a copy was not prepared").kind(Kind::Internal))?;
        let (dirs, parts) = self.parts(copy, prepared)?;
        let mut fds = vec![out.as_fd()];
        fds.extend(dirs.iter().map(AsFd::as_fd));
        let task = Task::Copy(Box::new(CopyTask {
            tree,
            parts,
            link: copy.link,
        }));
        shared.worker.submit(&task, &fds)
    }

    /// Returns what a job copies, and the directories that go with it.
    pub(in crate::build) fn parts(
        &self,
        copy: &Copy,
        prepared: &Prepared,
    ) -> Result<(Vec<OwnedFd>, Vec<CopyPart>)> {
        let (mut dirs, mut parts) = (Vec::new(), Vec::new());
        for part in prepared.parts() {
            let source = match &part.place {
                Place::Layers(layers, name) => {
                    Source::Snapshots(self.shared.trees.lowers(layers, name)?)
                }
                _ => {
                    dirs.push(self.shared.sources.open(part)?);
                    Source::Directory
                }
            };
            parts.push(CopyPart {
                source,
                request: part.request(copy),
                unpack: part.unpacks(),
            });
        }
        Ok((dirs, parts))
    }
}

/// The error for a RUN step's exit code; 128 and above name the signal.
fn step_failed(step: &Step, ended: &Exited) -> Error {
    let command = match &step.op {
        Op::Run(run) => run.argv.join(" "),
        _ => step.name.clone(),
    };
    let code = ended.code;
    // Quoted, so that a command of several lines is one line, as in BuildKit.
    let failed = format!("process {command:?} did not complete successfully: exit code: {code}");
    if ended.memory_exceeded {
        return Error::new(format!("{failed}: the step exceeded the memory limit"))
            .kind(Kind::Step(code))
            .hint("allow it more with `--memory`");
    }
    Error::new(failed).kind(Kind::Step(code))
}
