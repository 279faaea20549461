//! Cache keys of steps.
//!
//! Responsible for naming everything that a step's result depends on. Must not compute content
//! digests. Invariant: the tree below a step enters as its chain id, which is content: a rebuild
//! whose upper steps come out the same meets its old keys again.

use crate::cache::key::KeyBuilder;
use crate::image::digest::{ChainId, Digest};
use crate::image::platform::Platform;
use crate::plan::step::{Copy, Network, Run};

fn start(kind: &str, parent: Option<ChainId>) -> KeyBuilder {
    let key = KeyBuilder::new("step").field("kind", kind.as_bytes());
    match parent {
        Some(chain) => key.field("parent", chain.0.as_bytes()),
        None => key,
    }
}

fn list(key: KeyBuilder, name: &str, items: &[String]) -> KeyBuilder {
    items
        .iter()
        .fold(key, |key, item| key.field(name, item.as_bytes()))
}

/// Returns the key of a RUN step. Proxy settings that only the host gives are not part of it.
pub(super) fn run(
    parent: Option<ChainId>,
    platform: &Platform,
    run: &Run,
    network: Network,
) -> Digest {
    let key = start("run", parent).field("platform", platform.to_string().as_bytes());
    let key = list(key, "argv", &run.argv);
    let key = list(key, "env", &run.env);
    let network: &[u8] = match network {
        Network::Host => b"host",
        Network::None => b"none",
    };
    key.field("cwd", run.cwd.as_bytes())
        .field("user", run.user.as_bytes())
        .field("network", network)
        .finish()
}

/// Returns the key of a WORKDIR step.
pub(super) fn workdir(parent: Option<ChainId>, path: &str, user: &str) -> Digest {
    start("workdir", parent)
        .field("path", path.as_bytes())
        .field("user", user.as_bytes())
        .finish()
}

/// Returns the key of a COPY or ADD step whose files have the digest `content`.
pub(super) fn copy(parent: Option<ChainId>, copy: &Copy, content: Digest) -> Digest {
    let mut key = start(if copy.add { "add" } else { "copy" }, parent)
        .field("content", content.as_bytes())
        .field("dest", copy.dest.as_bytes());
    if let Some(chown) = &copy.chown {
        key = key.field("chown", chown.as_bytes());
    }
    if let Some(chmod) = copy.chmod {
        key = key.field("chmod", &chmod.to_be_bytes());
    }
    key.finish()
}

/// Returns the content digest of what is copied from another tree: the tree and the patterns.
pub(super) fn tree_content(chain: Option<ChainId>, sources: &[String]) -> Digest {
    list(start("tree", chain), "source", sources).finish()
}
