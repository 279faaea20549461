//! ADD: COPY that unpacks archives.
//!
//! Responsible for telling archives among the sources by their content, and for unpacking them
//! into the destination, which is then a directory. URLs are fetched beforehand and come here as
//! plain files. Must not interpret deletions: an archive is not a layer. Invariant: as in
//! [`super::copy`].

use std::fs::File;

use runtime::identity::{IdMap, Identity};
use runtime::path::Root;

use super::copy::{Copier, CopyRequest, CopyStats};
use crate::context::archive;
use crate::context::walk::{Match, Step, Tree};
use crate::error::{Result, ResultExt};

/// Copies what `request` selects from `source` to `dest`, unpacking archives: tar, plain or
/// compressed with gzip, bzip2, xz or zstd.
///
/// An archive's owners are kept unless the request names one.
///
/// # Errors
/// Those of [`super::copy::copy`]; and when an archive is hostile, malformed or truncated.
pub fn add(
    source: &Root,
    dest: &Root,
    request: &CopyRequest,
    ids: IdMap,
    identity: Identity,
) -> Result<CopyStats> {
    let ignore = request.ignore_rules()?;
    let tree = Tree::new(source, &ignore);
    let mut copier = Copier::new(dest, request, ids, identity)?;
    let mut archives = Vec::new();
    let mut others = Vec::new();
    let matches = tree.matches(&request.sources)?;
    for from in &matches {
        let is_archive = is_archive(&tree, from)?;
        archives.push(is_archive);
        if !is_archive {
            others.push(from.clone());
        }
    }
    copier.refuse_collision(&others)?;
    for (from, is_archive) in matches.iter().zip(archives) {
        if is_archive {
            unpack(&mut copier, &tree, from)?;
        } else {
            copier.copy_match(&tree, from)?;
        }
    }
    Ok(copier.finish())
}

/// Tells whether a match is a file that ADD unpacks.
fn is_archive(tree: &Tree<'_>, from: &Match) -> Result<bool> {
    if !from.is_file() {
        return Ok(false);
    }
    let mut tar = false;
    tree.walk(from, &mut |step| {
        if let Step::Item(node) = step {
            let file = File::from(node.open()?);
            tar = archive::open(file).op_path("read", node.path)?.tar;
        }
        Ok(())
    })?;
    Ok(tar)
}

fn unpack(copier: &mut Copier<'_>, tree: &Tree<'_>, from: &Match) -> Result<()> {
    tree.walk(from, &mut |step| {
        let Step::Item(node) = step else {
            return Ok(());
        };
        let file = File::from(node.open()?);
        let opened = archive::open(file).op_path("read", node.path)?;
        copier.unpack(opened.reader, from, node)
    })
}
