//! The layer of a step whose view has ended: its upper directory, and the archive of it.
//!
//! Responsible for the order at a step's end: what the next step stands on is complete before anybody
//! is told so, and the archive is read from the same directory afterwards. Must not know what the step
//! did. Invariant: from the moment that the tree is announced, nothing in it changes any more.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use runtime::identity::Owners;
use runtime::path::Root;

use super::Scene;
use super::specials;
use super::tree::LayerReply;
use crate::error::{Result, ResultExt};
use crate::image::digest::HashingWriter;
use crate::layer::diff::{self, DiffOptions};
use crate::store::steady::Steady;

/// An upper directory that nothing is mounted on any more.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) upper: Root,
    pub(super) staging: PathBuf,
    /// Owners of links and the like.
    pub(super) owners: Owners,
    pub(super) latest: Option<i64>,
    pub(super) without_user: bool,
    /// Whether somebody may stand on the tree already.
    pub(super) announced: bool,
}

impl Ended {
    /// Says through `out` that a step can stand on the tree; `devices` tells whether files in it may
    /// stand for devices. Which do, and what else the archive changes in the tree, is known when that is
    /// written: then the next step has to wait.
    pub(super) fn announce(&mut self, devices: bool, out: OwnedFd) -> Result<()> {
        if devices || self.latest.is_some() || self.without_user {
            return Ok(());
        }
        specials::write(&self.staging, &self.owners)?;
        self.announced = true;
        // Who asked may have ended, or wait no longer.
        drop(File::from(out).write_all(b"."));
        Ok(())
    }

    /// Writes the layer's archive to `out`.
    pub(super) fn archive(mut self, scene: Scene, out: OwnedFd) -> Result<LayerReply> {
        let ownership = scene.ownership().knowing(self.owners.clone());
        let mut out = HashingWriter::new(Steady::new(File::from(out)));
        let options = DiffOptions {
            ownership: &ownership,
            latest: self.latest,
            without_user: self.without_user,
        };
        let stats = diff::write_diff(&self.upper, options, &mut out)?;
        out.flush().op("write layer")?;
        let stands_in = stats.stand_ins > 0;
        if stands_in {
            self.owners.note_devices();
        }
        if !self.announced {
            specials::write(&self.staging, &self.owners)?;
        } else if stands_in {
            // Nothing of the step said so; who stands on it later is told.
            specials::replace(&self.staging.join("fs"), &self.owners)?;
        }
        let (_, digest, size) = out.finish();
        Ok(LayerReply {
            digest,
            size,
            bytes: stats.bytes,
            notes: stats.notes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::identity::Owner;
    use std::io::Read;

    fn ended(dir: &std::path::Path) -> Ended {
        std::fs::create_dir(dir.join("fs")).expect("mkdir");
        let mut owners = Owners::new();
        owners.set(b"link".to_vec(), Owner { uid: 33, gid: 33 });
        Ended {
            upper: Root::open_host(&dir.join("fs")).expect("open"),
            staging: dir.to_path_buf(),
            owners,
            latest: None,
            without_user: false,
            announced: false,
        }
    }

    fn announced(mut ended: Ended, devices: bool) -> bool {
        let (mut read, write) = std::io::pipe().expect("pipe");
        ended.announce(devices, write.into()).expect("announce");
        let mut said = Vec::new();
        read.read_to_end(&mut said).expect("read");
        !said.is_empty()
    }

    #[test]
    fn owners_are_beside_the_tree_when_it_is_announced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ended = ended(dir.path());
        assert!(announced(ended, false));
        let owners = std::fs::read(dir.path().join("owners")).expect("read");
        assert!(Owners::parse(&owners).is_some());
    }

    #[test]
    fn a_tree_that_its_archive_may_change_is_not() {
        for (latest, without_user, devices) in [
            (Some(0), false, false),
            (None, true, false),
            (None, false, true),
        ] {
            let dir = tempfile::tempdir().expect("temporary directory");
            let ended = Ended {
                latest,
                without_user,
                ..ended(dir.path())
            };
            assert!(!announced(ended, devices));
        }
    }
}
