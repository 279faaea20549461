//! The work of one step, once it is known that the cache does not have it.
//!
//! Responsible for what a job is told, and for making a snapshot of what it leaves. Must not know
//! keys or the cache. Invariant: what a job wrote is in the store as a snapshot, or gone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::super::devices::{Devices, Given};
use super::super::jobs::{
    Command, CopyPart, CopyTask, Exited, LayerReply, Reply, RunTask, Source, Staged, Task,
    WorkdirTask,
};
use super::super::mounts::Held;
use super::super::sources::{Place, Prepared};
use super::super::state::{Layer, State};
use super::{Ready, Stage};
use crate::error::{Error, Kind, Result};
use crate::image::digest::{ChainId, DiffId};
use crate::plan::step::{Copy, Network, Op, Run, Step};
use crate::progress::event::Vertex;
use crate::store::snapshots::Staging;

use runtime::sandbox::Confinement;
use tempfile::NamedTempFile;

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

    pub(super) fn run_step(
        &self,
        step: &Step,
        ready: &Ready,
        state: &State,
        lowers: Vec<PathBuf>,
        held: &Held,
        vertex: &Vertex,
    ) -> Result<Option<(Layer, NamedTempFile)>> {
        let shared = self.shared;
        let snapshots = shared.session.store().snapshots();
        let staging = snapshots.staging(shared.session)?;
        let out = shared.session.blobs().file()?;
        let tree = Staged {
            lowers,
            staging: staging.dir().to_path_buf(),
            latest: shared.settings.epoch,
            without_user: shared.settings.without_user,
        };
        let reply = match &step.op {
            Op::Run(run) => {
                let mounts = self.ready_mounts(run, &ready.mounted, held, vertex)?;
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
                    secrets: mounts.has_secrets(),
                    locks: mounts.locks(),
                    secret_env: mounts.secret_env.clone(),
                }));
                let mut fds = vec![out.as_file().as_fd()];
                fds.extend(mounts.fds());
                let worker = shared.worker;
                match worker.submit_logged(&task, &fds, &mounts.mask, vertex) {
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
            Op::Copy(copy) => self.run_copy(copy, ready, tree, out.as_file())?,
            Op::Config => return Ok(None),
        };
        match reply {
            Reply::Layer(None) => Ok(None),
            Reply::Copied(copied) => {
                if let Some(prepared) = &ready.prepared {
                    prepared.check(&copied.stamps);
                }
                for note in &copied.notes {
                    vertex.warn(note.clone());
                }
                self.keep(state, copied.layer, staging, out, vertex)
                    .map(Some)
            }
            Reply::Layer(Some(made)) => self.keep(state, made, staging, out, vertex).map(Some),
            Reply::Exited(ended) => {
                self.shared.warn(vertex, &ended.notes);
                Err(step_failed(step, &ended))
            }
            _ => Err(Error::new("unexpected reply to a step").kind(Kind::Internal)),
        }
    }

    /// Puts a step's tree into the store as a snapshot; its archive is the caller's to store.
    fn keep(
        &self,
        state: &State,
        made: LayerReply,
        staging: Staging,
        out: NamedTempFile,
        vertex: &Vertex,
    ) -> Result<(Layer, NamedTempFile)> {
        self.shared.warn(vertex, &made.notes);
        let diff_id = DiffId(made.digest);
        let chain = ChainId::child(state.chain(), diff_id);
        self.shared.trees.commit(staging, chain, made.bytes)?;
        Ok((Layer::uncompressed(diff_id, made.size), out))
    }

    fn run_copy(
        &self,
        copy: &Copy,
        ready: &Ready,
        tree: Staged,
        out: &std::fs::File,
    ) -> Result<Reply> {
        let shared = self.shared;
        let prepared = ready
            .prepared
            .as_ref()
            .ok_or_else(|| Error::new("a copy was not prepared").kind(Kind::Internal))?;
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
