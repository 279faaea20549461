//! Steps: one instruction, fully expanded.
//!
//! Pure data between the planner, which makes it, and the build, which executes it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::scope::Variables;
use crate::dockerfile::mode::FileMode;
use crate::image::platform::Platform;
use crate::image::reference::Reference;

/// Position of a stage in the Dockerfile, from 0.
pub type StageIndex = usize;

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// `FROM scratch`.
    Scratch,
    /// An earlier stage.
    Stage(StageIndex),
    /// An image from a registry or from the store.
    Image(Reference),
    /// A named context: files, or an image in a layout.
    Named(String),
}

/// One step of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the instruction is in the Dockerfile (for an ONBUILD trigger: the FROM line).
    pub span: Range<usize>,
    /// The instruction as the progress display shows it, on one line: `RUN make install`.
    pub name: String,
    /// The history entry's `created_by`.
    pub created_by: String,
    /// MAINTAINER in force after the step.
    pub author: Option<String>,
    /// What to do.
    pub op: Op,
}

/// What a step does to the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Nothing; the config changed (`empty_layer`).
    Config,
    /// WORKDIR: make this absolute, clean directory, owned by `user` when it is new.
    Workdir {
        /// The directory.
        path: String,
        /// USER in force; empty for root.
        user: String,
    },
    /// RUN.
    Run(Box<Run>),
    /// COPY or ADD.
    Copy(Box<Copy>),
}

/// A RUN step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The argument vector: exec form, or shell form behind SHELL.
    pub argv: Vec<String>,
    /// The environment: ENV and ARG in force. What only the host's proxy settings give is in
    /// `proxy`.
    pub env: Variables,
    /// Predefined proxy arguments that were not declared: passed on, but not part of the key.
    pub proxy: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER, verbatim; empty for root.
    pub user: String,
    /// `--network=` of the instruction, when given.
    pub network: Option<Network>,
    /// `--security=insecure`.
    pub insecure: bool,
    /// `--device`, in order.
    pub devices: Vec<DeviceRequest>,
    /// What is mounted during the step, in order.
    pub mounts: Vec<Mount>,
}

/// `RUN --device=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// Where in the Dockerfile it is asked for.
    pub span: Range<usize>,
    /// `vendor/class`, `vendor/class=device` or a class of devices.
    pub name: String,
    /// Whether the step can't do without.
    pub required: bool,
}

/// Something that is mounted during a RUN step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the Dockerfile it is asked for.
    pub span: Range<usize>,
    /// What it is.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file of the plan's own: the script of a here-document that begins with `#!`.
    Script {
        /// Its name below [`SCRIPTS`].
        name: String,
        /// What is in it.
        content: String,
    },
    /// `type=bind`.
    Bind(BindMount),
    /// `type=cache`.
    Cache(CacheMount),
    /// `type=tmpfs`.
    Tmpfs {
        /// Where the step sees it, absolute.
        target: String,
        /// The most bytes that it holds, when that is limited.
        size: Option<u64>,
    },
    /// `type=secret`.
    Secret(SecretMount),
    /// `type=ssh`.
    Ssh(SshMount),
}

/// Files of the context, a stage or an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Whose files they are.
    pub from: CopyFrom,
    /// Where they are there: absolute.
    pub source: String,
    /// Where the step sees them, absolute.
    pub target: String,
    /// Whether the step can't write to them; what it writes is thrown away.
    pub read_only: bool,
}

/// A directory that outlives the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name, with the namespace before a slash.
    pub id: String,
    /// Where the step sees it, absolute.
    pub target: String,
    /// Whose files are in it at first.
    pub from: Option<CopyFrom>,
    /// Where they are there: absolute.
    pub source: String,
    /// What happens when another step uses it.
    pub sharing: Sharing,
    /// Whether the step can't write to it.
    pub read_only: bool,
    /// What it gets when it is made.
    pub permissions: Permissions,
}

/// What happens when two steps use a cache mount at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Both write to it.
    Shared,
    /// The second gets another one.
    Private,
    /// The second waits.
    Locked,
}

/// A secret of the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// Its name.
    pub id: String,
    /// The file that holds it in the step, if there is one.
    pub target: Option<String>,
    /// The variable that holds it in the step, if there is one.
    pub env: Option<String>,
    /// Whether the step fails without it.
    pub required: bool,
    /// The file's.
    pub permissions: Permissions,
}

/// The caller's ssh agent, or one with some of the caller's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    /// Its name.
    pub id: String,
    /// The socket in the step.
    pub target: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// The socket's.
    pub permissions: Permissions,
}

/// Mode and owner of what a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Permission bits.
    pub mode: u32,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
}

impl Permissions {
    /// A directory of root's that everybody may read.
    pub const DIRECTORY: Self = Self {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
}

/// Directory of a step's scripts.
pub const SCRIPTS: &str = "/dev/pipes";

/// Which network a RUN step has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The host's.
    Host,
    /// Only a loopback interface of its own.
    None,
}

/// Where COPY takes files from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    #[default]
    Context,
    /// Another stage's result.
    Stage(StageIndex),
    /// An image.
    Image(Reference),
    /// A named context: files, or an image in a layout.
    Named(String),
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// Where in the Dockerfile it is.
    pub span: Range<usize>,
    /// What it is.
    pub kind: CopySourceKind,
}

impl Copy {
    /// Returns the sources that are words.
    pub fn words(&self) -> impl Iterator<Item = &String> {
        self.sources.iter().filter_map(|source| match &source.kind {
            CopySourceKind::Word(word) => Some(word),
            CopySourceKind::File { .. } => None,
        })
    }
}

/// What a source of COPY or ADD is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySourceKind {
    /// A pattern or a URL, expanded.
    Word(String),
    /// A file that a here-document is, expanded.
    File {
        /// Its name.
        name: String,
        /// What is in it.
        content: String,
    },
}

/// A COPY or ADD step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// Where from.
    pub from: CopyFrom,
    /// Sources in order.
    pub sources: Vec<CopySource>,
    /// Destination, absolute; ends in `/` when it was written as a directory.
    pub dest: String,
    /// `--chown=`, verbatim after expansion.
    pub chown: Option<String>,
    /// `--chmod=`.
    pub chmod: Option<FileMode>,
    /// `--exclude=`, in order.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`, where it has an effect.
    pub link: bool,
    /// ADD: URLs are fetched and archives unpacked.
    pub add: bool,
    /// `--checksum=` of ADD: a digest for a URL, a commit or the beginning of one for a repository.
    pub checksum: Option<String>,
    /// `--unpack=` of ADD: whether archives are unpacked; by default local ones are.
    pub unpack: Option<bool>,
    /// `--keep-git-dir=` of ADD.
    pub keep_git_dir: Option<bool>,
}

/// A stage that is needed, in an order in which each comes after those it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageHead {
    /// Its position in the Dockerfile.
    pub index: StageIndex,
    /// `AS` name, lower-cased.
    pub name: Option<String>,
    /// What it starts from.
    pub base: Base,
    /// `--platform`, or the target's.
    pub platform: Platform,
    /// Where its FROM is in the Dockerfile.
    pub span: Range<usize>,
    /// `FROM debian:12 AS build`, on one line, for the progress display.
    pub display: String,
    /// Stages it needs: its base and its COPY --from.
    pub needs: Vec<StageIndex>,
    /// Images that its COPY --from need.
    pub images: Vec<Reference>,
}
