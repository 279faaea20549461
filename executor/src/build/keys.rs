//! Cache keys of steps.
//!
//! Responsible for naming everything that a step's result depends on. Must not compute content
//! digests. Invariant: the tree below a step enters as its chain id, which is content: a rebuild
//! whose upper steps come out the same meets its old keys again.

use runtime::sandbox::Confinement;

use crate::cache::key::KeyBuilder;
use crate::dockerfile::mode::FileMode;
use crate::image::digest::{ChainId, Digest};
use crate::image::platform::Platform;
use crate::plan::step::{Copy, MountKind, Network, Permissions, Run};

/// What every step's result depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Below {
    /// The tree that the step stands on.
    pub(super) chain: Option<ChainId>,
    /// The latest time that its files may have.
    pub(super) epoch: Option<i64>,
    /// Whether they are without attributes `user.*`.
    pub(super) without_user: bool,
}

impl Below {
    fn start(self, kind: &str) -> KeyBuilder {
        let mut key = start(kind, self.chain);
        // Without it the key is the same as before it could be given.
        if let Some(epoch) = self.epoch {
            key.field("epoch", epoch.to_be_bytes());
        }
        if self.without_user {
            key.field("without", "user.*");
        }
        key
    }
}

fn start(kind: &str, parent: Option<ChainId>) -> KeyBuilder {
    let mut key = KeyBuilder::new(kind);
    key.option("parent", parent.map(|chain| *chain.0.as_bytes()));
    key
}

/// Returns the key of a RUN step. Proxy settings that only the host gives are not part of it.
pub(super) fn run(
    below: Below,
    platform: &Platform,
    run: &Run,
    network: Network,
    around: Around<'_>,
) -> Digest {
    let network = match network {
        Network::Host => "host",
        Network::None => "none",
    };
    let mut key = below.start("run");
    key.field("platform", platform.to_string())
        .list("argv", &run.argv)
        .list("env", run.env.entries())
        .field("cwd", &run.cwd)
        .field("user", &run.user)
        .field("network", network);
    for mount in &run.mounts {
        match &mount.kind {
            MountKind::Script { name, content } => {
                key.field("script", name).field("content", content);
            }
            MountKind::Bind(bind) => {
                key.field("bind", &bind.target)
                    .field("source", &bind.source)
                    .field("writable", [u8::from(!bind.read_only)]);
            }
            // What is in it is no part of the key.
            MountKind::Cache(cache) => {
                key.field("cache", &cache.target).field("id", &cache.id);
                if cache.read_only {
                    key.field("readonly", "");
                }
            }
            MountKind::Tmpfs { target, size } => {
                key.field("tmpfs", target)
                    .option("size", size.map(u64::to_be_bytes));
            }
            // Nor is what the caller gives for a name.
            MountKind::Secret(secret) => {
                key.field("secret", &secret.id)
                    .option("target", secret.target.as_ref())
                    .option("variable", secret.env.as_ref());
                permissions(&mut key, secret.permissions);
            }
            MountKind::Ssh(ssh) => {
                key.field("ssh", &ssh.id).field("target", &ssh.target);
                permissions(&mut key, ssh.permissions);
            }
        }
    }
    // Without these the key is the same as before they could be given.
    if !around.hosts.is_empty() {
        key.list("hosts", around.hosts);
    }
    let confinement = around.confinement;
    key_of_confinement(&mut key, confinement);
    for device in &run.devices {
        key.field("device", &device.name);
    }
    if run.insecure {
        key.field("security", "insecure");
    }
    key.finish()
}

/// Returns the key of a RUN step with files mounted that have the digests `content`.
pub(super) fn with_mounts(key: Digest, content: &[Digest]) -> Digest {
    if content.is_empty() {
        return key;
    }
    let mut whole = KeyBuilder::new("run with mounts");
    whole
        .field("run", key.as_bytes())
        .list("content", content.iter().map(|d| *d.as_bytes()));
    whole.finish()
}

fn permissions(key: &mut KeyBuilder, permissions: Permissions) {
    for (name, number) in [
        ("mode", permissions.mode),
        ("uid", permissions.uid),
        ("gid", permissions.gid),
    ] {
        key.field(name, number.to_be_bytes());
    }
}

/// What the command line says about all RUN steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// Names, whose addresses don't count.
    pub(super) hosts: &'a [String],
    pub(super) confinement: &'a Confinement,
}

/// Adds what a step can see of its limits. Those of its control group only make it slower, or fail.
fn key_of_confinement(key: &mut KeyBuilder, confinement: &Confinement) {
    if let Some(capabilities) = confinement.capabilities {
        key.field("capabilities", capabilities.to_be_bytes());
    }
    for limit in &confinement.rlimits {
        key.field("ulimit", &limit.kind)
            .field("soft", limit.soft.to_be_bytes())
            .field("hard", limit.hard.to_be_bytes());
    }
    if let Some(size) = confinement.shm_size {
        key.field("shm", size.to_be_bytes());
    }
}

/// Returns the key of a WORKDIR step.
pub(super) fn workdir(below: Below, path: &str, user: &str) -> Digest {
    let mut key = below.start("workdir");
    key.field("path", path).field("user", user);
    key.finish()
}

/// Returns the key of a COPY or ADD step whose files have the digests `content`.
pub(super) fn copy(below: Below, copy: &Copy, content: &[Digest]) -> Digest {
    let kind = if copy.add { "add" } else { "copy" };
    let mut key = if copy.link {
        // Such a layer is the same whatever is below it.
        let apart = Below {
            chain: None,
            ..below
        };
        apart.start(&format!("{kind}-link"))
    } else {
        below.start(kind)
    };
    key.list("content", content.iter().map(|d| *d.as_bytes()))
        .list("source", copy.words())
        .field("dest", &copy.dest)
        .option("chown", copy.chown.as_ref())
        .option("chmod", copy.chmod.as_ref().map(FileMode::to_bytes));
    // Without them the key is the same as before they could be given.
    if !copy.exclude.is_empty() {
        key.list("exclude", &copy.exclude);
    }
    if copy.parents {
        key.field("parents", "");
    }
    if let Some(unpack) = copy.unpack {
        key.field("unpack", [u8::from(unpack)]);
    }
    key.finish()
}

/// Returns the digest that stands for another tree as a source.
pub(super) fn tree_content(chain: Option<ChainId>) -> Digest {
    start("tree", chain).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scope::Variables;

    fn around() -> Around<'static> {
        static USUAL: std::sync::LazyLock<Confinement> =
            std::sync::LazyLock::new(Confinement::default);
        Around {
            hosts: &[],
            confinement: &USUAL,
        }
    }

    fn env(entries: &[&str]) -> Variables {
        let mut env = Variables::default();
        env.extend_env(entries.iter().copied());
        env
    }

    fn step() -> Run {
        Run {
            argv: vec!["true".into()],
            env: env(&["A=b"]),
            proxy: Vec::new(),
            cwd: "/".into(),
            user: String::new(),
            network: None,
            insecure: false,
            devices: Vec::new(),
            mounts: Vec::new(),
        }
    }

    #[test]
    fn everything_counts_but_the_proxy() {
        let platform = Platform::host();
        let key = |r: &Run, n| run(Below::default(), &platform, r, n, around());
        let base = key(&step(), Network::Host);
        let variants = [
            Run {
                argv: vec!["false".into()],
                ..step()
            },
            Run {
                env: env(&[]),
                ..step()
            },
            Run {
                cwd: "/tmp".into(),
                ..step()
            },
            Run {
                user: "x".into(),
                ..step()
            },
        ];
        for variant in variants {
            assert_ne!(key(&variant, Network::Host), base, "{variant:?}");
        }
        assert_ne!(key(&step(), Network::None), base);
        let chain = Some(ChainId(Digest::of(b"x")));
        for below in [
            Below {
                chain,
                ..Below::default()
            },
            Below {
                epoch: Some(0),
                ..Below::default()
            },
            Below {
                without_user: true,
                ..Below::default()
            },
        ] {
            assert_ne!(
                run(below, &platform, &step(), Network::Host, around()),
                base
            );
        }
        let usual = Confinement::default();
        let hosts = ["a".to_owned()];
        let with = |hosts: &[String], confinement: &Confinement| {
            let around = Around { hosts, confinement };
            run(Below::default(), &platform, &step(), Network::Host, around)
        };
        assert_eq!(with(&[], &usual), base);
        assert_ne!(with(&hosts, &usual), base);
        for other in [
            Confinement {
                capabilities: Some(0),
                ..Confinement::default()
            },
            Confinement {
                shm_size: Some(1),
                ..Confinement::default()
            },
            Confinement {
                rlimits: vec![runtime::spec::Rlimit::default()],
                ..Confinement::default()
            },
        ] {
            assert_ne!(with(&[], &other), base);
        }
        let limited = Confinement {
            cgroup_parent: Some("x".into()),
            ..Confinement::default()
        };
        assert_eq!(with(&[], &limited), base);
        let proxied = Run {
            proxy: vec!["http_proxy=x".into()],
            ..step()
        };
        assert_eq!(key(&proxied, Network::Host), base);
    }

    #[test]
    fn everything_about_a_copy_counts() {
        let content = [Digest::of(b"x")];
        let plain = Copy {
            dest: "/d".into(),
            ..Copy::default()
        };
        let key = |step: &Copy| copy(Below::default(), step, &content);
        let mut seen = vec![key(&plain)];
        let mode = FileMode::parse("755").expect("a mode");
        for variant in [
            Copy {
                dest: "/d/".into(),
                ..plain.clone()
            },
            Copy {
                chown: Some("1".into()),
                ..plain.clone()
            },
            Copy {
                chmod: Some(mode),
                ..plain.clone()
            },
            Copy {
                exclude: vec!["x".into()],
                ..plain.clone()
            },
            Copy {
                parents: true,
                ..plain.clone()
            },
            Copy {
                link: true,
                ..plain.clone()
            },
            Copy {
                add: true,
                ..plain.clone()
            },
            Copy {
                add: true,
                unpack: Some(false),
                ..plain.clone()
            },
            Copy {
                add: true,
                unpack: Some(true),
                ..plain.clone()
            },
        ] {
            let found = key(&variant);
            assert!(!seen.contains(&found), "{variant:?}");
            seen.push(found);
        }
        let other = copy(Below::default(), &plain, &[Digest::of(b"y")]);
        assert!(!seen.contains(&other));
    }
}
