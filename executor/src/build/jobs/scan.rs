//! Looks at a finished tree for what is attested about it.
//!
//! Responsible for the view of the tree. Must not interpret files: [`crate::attest`] does.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::tree;
use super::{Descriptors, Scene};
use crate::attest::files::{self, Scan};
use crate::attest::sbom::collect::Collector;
use crate::error::{Error, Result, ResultExt};

/// What is looked for in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// The digests of all files.
    Digests,
    /// The packages.
    Packages,
}

/// Look at a tree. Descriptor: where to write what was found, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanTask {
    /// Snapshot directories, topmost first.
    pub lowers: Vec<PathBuf>,
    /// What is wanted.
    pub wanted: Wanted,
}

pub(super) fn scan(scene: Scene, task: &ScanTask, fds: &mut Descriptors) -> Result<()> {
    let mut out = BufWriter::new(File::from(fds.take()?));
    let (root, ownership) = tree::open_readonly(scene, &task.lowers)?;
    let mut scan = Scan {
        top: files::top(&root)?,
        ..Scan::default()
    };
    match task.wanted {
        Wanted::Digests => files::walk(&root, &mut |found| {
            if let Some(digest) = files::digest(found, &ownership)? {
                scan.files.push((files::name_of(found.path), digest));
            }
            Ok(())
        })?,
        Wanted::Packages => {
            let mut collector = Collector::new(&root);
            files::walk(&root, &mut |found| collector.visit(found))?;
            (scan.packages, scan.notes) = collector.finish();
        }
    }
    serde_json::to_writer(&mut out, &scan)
        .map_err(|e| Error::new("write what was found").source(e))?;
    out.flush().op("write what was found")
}
