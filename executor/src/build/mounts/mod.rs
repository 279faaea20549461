//! What is mounted during a RUN step, on the main process's side.
//!
//! Responsible for finding what the plan's mounts name, for their part in the step's key, and for
//! what the job is told. Must not mount. Invariant: a secret is in no key, no request and no text.

mod cache;
pub mod mask;
pub mod secrets;
mod trees;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::jobs::{MountContent, Reply, StepMount};
use super::ssh::{self, Proxy};
use super::stage::{Settings, Stage};
use crate::diagnostics::Diagnostic;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::plan::step::{Mount, MountKind, Run, SCRIPTS, SecretMount, SshMount};
use crate::progress::event::Vertex;
use mask::Mask;

pub(super) use cache::Held;
pub(super) use trees::Inputs;

/// Mounts that are ready for the job.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// In order.
    pub(super) mounts: Vec<StepMount>,
    /// Variables and the secret that each holds, by number.
    pub(super) secret_env: Vec<(String, usize)>,
    /// The secrets, in order.
    secrets: Option<OwnedFd>,
    locks: Vec<OwnedFd>,
    /// What is hidden in the step's output.
    pub(super) mask: Mask,
    /// Further variables, `NAME=value`.
    pub(super) env: Vec<String>,
    /// Sockets, as long as the step may use them.
    proxies: Vec<Proxy>,
}

impl Ready {
    /// Returns the descriptors that the job takes, in order.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let all = self.secrets.iter().chain(&self.locks);
        all.map(AsFd::as_fd).collect()
    }

    /// Returns how many locks there are among them.
    pub(super) fn locks(&self) -> usize {
        self.locks.len()
    }

    /// Whether there are secrets among them.
    pub(super) fn has_secrets(&self) -> bool {
        self.secrets.is_some()
    }
}

impl Ready {
    /// Hides the secrets in what a job says.
    pub(super) fn hide(&self, reply: Reply) -> Reply {
        let hide = |notes: Vec<String>| notes.iter().map(|note| self.mask.text(note)).collect();
        match reply {
            Reply::Layer(Some(mut made)) => {
                made.notes = hide(made.notes);
                Reply::Layer(Some(made))
            }
            Reply::Exited(mut ended) => {
                ended.notes = hide(ended.notes);
                Reply::Exited(ended)
            }
            other => other,
        }
    }

    /// Hides the secrets in an error that only has a text.
    pub(super) fn hide_error(&self, error: Error) -> Error {
        let text = error.chain();
        let hidden = self.mask.text(&text);
        if hidden == text {
            return error;
        }
        let hints: Vec<String> = error.hints().iter().map(|h| self.mask.text(h)).collect();
        let kind = error.get_kind();
        (hints.into_iter()).fold(Error::new(hidden).kind(kind), Error::hint)
    }
}

impl Stage<'_> {
    /// Makes what the job of a step is told about its mounts.
    ///
    /// # Errors
    /// What is required and was not given; those of unpacking and copying.
    pub(super) fn ready_mounts(
        &self,
        run: &Run,
        inputs: &Inputs,
        held: &Held,
        vertex: &Vertex,
    ) -> Result<Ready> {
        let settings = self.shared.settings;
        let mut ready = Ready::default();
        let mut values: Vec<&[u8]> = Vec::new();
        for (number, mount) in run.mounts.iter().enumerate() {
            let (target, content) = match &mount.kind {
                MountKind::Script { name, content } => (
                    format!("{SCRIPTS}/{name}"),
                    MountContent::Script(content.clone()),
                ),
                MountKind::Tmpfs { target, size } => (target.clone(), MountContent::Tmpfs(*size)),
                MountKind::Bind(bind) => {
                    let input = inputs.get(number).ok_or_else(lost)?;
                    let scratch = self.shared.session.scratch().fresh("bind");
                    let content = MountContent::Tree {
                        lowers: self.lowers_of(input, vertex)?,
                        source: bind.source.clone(),
                        scratch: (!bind.read_only).then_some(scratch),
                    };
                    (bind.target.clone(), content)
                }
                MountKind::Cache(cache) => {
                    let content = MountContent::Cache {
                        fs: held.tree(number).ok_or_else(lost)?.to_path_buf(),
                        read_only: cache.read_only,
                    };
                    (cache.target.clone(), content)
                }
                MountKind::Secret(secret) => {
                    let Some(value) = settings.secrets.get(&secret.id) else {
                        if secret.required {
                            return Err(missing(mount, secret, settings));
                        }
                        continue;
                    };
                    let number = values.len();
                    values.push(value);
                    if let Some(name) = &secret.env {
                        ready.secret_env.push((name.clone(), number));
                    }
                    let Some(target) = &secret.target else {
                        continue;
                    };
                    let permissions = secret.permissions;
                    let content = MountContent::Secret {
                        number,
                        permissions,
                    };
                    (target.clone(), content)
                }
                MountKind::Ssh(ssh) => {
                    let Some(agent) = settings.agents.get(&ssh.id) else {
                        if ssh.required {
                            return Err(no_agent(mount, ssh, settings));
                        }
                        continue;
                    };
                    let dir = self.shared.session.scratch().fresh("ssh");
                    let proxy = Proxy::start(agent, &dir, ssh.permissions.mode)
                        .map_err(|e| e.during(format!("`--ssh {}`", ssh.id)))?;
                    ready.proxies.push(proxy);
                    // The first is what programs find, unless the image says something else.
                    let named = |entry: &str| entry.starts_with(AUTH_SOCK);
                    if !run.env.entries().any(named) && !ready.env.iter().any(|e| named(e)) {
                        ready.env.push(format!("{AUTH_SOCK}{}", ssh.target));
                    }
                    let content = MountContent::Socket {
                        dir,
                        name: ssh::SOCKET.to_owned(),
                        permissions: ssh.permissions,
                    };
                    (ssh.target.clone(), content)
                }
            };
            ready.mounts.push(StepMount { target, content });
        }
        if !values.is_empty() {
            ready.secrets = Some(secrets::pack(&values)?);
            ready.mask = Mask::new(values);
        }
        for lock in held.locks() {
            let lock = lock.try_clone_to_owned().op("duplicate lock")?;
            ready.locks.push(lock);
        }
        Ok(ready)
    }
}

/// The variable by which programs find their agent.
const AUTH_SOCK: &str = "SSH_AUTH_SOCK=";

fn no_agent(mount: &Mount, wanted: &SshMount, settings: &Settings) -> Error {
    let id = &wanted.id;
    let message = format!("the step requires ssh agent `{id}`, which was not given");
    let near = crate::dockerfile::suggest::hint(id, settings.agents.ids());
    let hint = near.unwrap_or_else(|| match id.as_str() {
        ssh::DEFAULT => "build with `--ssh default`".to_owned(),
        id => format!("build with `--ssh {id}=SOCKET` or `--ssh {id}=KEY`"),
    });
    let finding = Diagnostic::error(mount.span.clone(), message.clone());
    Error::new(message).diagnostic(finding).hint(hint)
}

fn lost() -> Error {
    Error::new("a mount was not prepared").kind(Kind::Internal)
}

fn missing(mount: &Mount, secret: &SecretMount, settings: &Settings) -> Error {
    let id = &secret.id;
    let message = format!("the step requires secret `{id}`, which was not given");
    let near = crate::dockerfile::suggest::hint(id, settings.secrets.ids());
    let hint = near.unwrap_or_else(|| format!("build with `--secret id={id},src=FILE`"));
    let finding = Diagnostic::error(mount.span.clone(), message.clone());
    Error::new(message).diagnostic(finding).hint(hint)
}
