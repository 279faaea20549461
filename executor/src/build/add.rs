//! ADD: COPY that unpacks archives.
//!
//! Responsible for telling archives among the sources by their content, and for unpacking them
//! into the destination, which is then a directory. URLs are fetched beforehand and come here as
//! plain files. Must not interpret deletions: an archive is not a layer. Invariant: as in
//! [`super::copy`].

use std::fs::File;

use runtime::identity::Ownership;
use runtime::path::Root;

use super::copy::{Copier, CopyRequest, CopyStats, Origin};
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
    source: Origin<'_>,
    dest: &Root,
    request: &CopyRequest,
    ownership: &Ownership,
) -> Result<CopyStats> {
    let ignore = request.ignore_rules()?;
    let tree = Tree::new(source.root, &ignore);
    let mut copier = Copier::new(source, dest, request, ownership)?;
    for from in &tree.pick(&request.pick)? {
        if is_archive(&tree, from)? {
            unpack(&mut copier, &tree, from)?;
        } else {
            copier.copy_match(&tree, from)?;
        }
    }
    copier.finish()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::copy::Owners;
    use crate::build::copy::tests::{Trees, can_chown, own, request};
    use crate::context::archive::tests::tar_of;
    use crate::layer::entry::{Entry, EntryKind};
    use crate::layer::tar_write::TarWriter;
    use std::os::unix::fs::MetadataExt;

    fn run(trees: &Trees, request: &CopyRequest) -> Result<CopyStats> {
        let (source, dest) = trees.roots();
        let source = Origin {
            root: &source,
            owners: None,
        };
        add(source, &dest, request, &own())
    }

    #[test]
    fn archives_are_unpacked_and_other_files_copied() {
        let trees = Trees::new();
        let tar = tar_of(&[("in/a", b"A"), (".wh.b", b"not a deletion")]);
        let gzip = {
            use std::io::Write;
            let level = flate2::Compression::fast();
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(b"only text").expect("gzip");
            out.finish().expect("gzip")
        };
        for (name, bytes) in [
            ("no-suffix", &zstd::encode_all(&tar[..], 1).expect("zstd")),
            ("text.gz", &gzip),
            ("fake.tar", &b"hello".to_vec()),
        ] {
            std::fs::write(trees.source.path().join(name), bytes).expect("write");
        }
        run(&trees, &request(&["no-suffix"], "/one")).expect("add");
        // One archive and one file need no directory for the file's sake.
        run(&trees, &request(&["no-suffix", "fake.tar"], "/two")).expect("add");
        let text = trees.list().join("\n");
        for line in [
            "755 one/",
            "644 one/in/a=A",
            "644 one/.wh.b=not a deletion",
            "644 two/fake.tar=hello",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        run(&trees, &request(&["text.gz"], "/three/")).expect("add");
        assert!(trees.dest.path().join("three/text.gz").exists());
    }

    #[test]
    fn a_truncated_archive_names_its_file() {
        let trees = Trees::new();
        let tar = tar_of(&[("a", &[1; 2000])]);
        std::fs::write(trees.source.path().join("cut.tar"), &tar[..1024]).expect("write");
        let error = run(&trees, &request(&["cut.tar"], "/")).expect_err("truncated");
        assert!(
            error.chain().contains("unpack `cut.tar`"),
            "{}",
            error.chain()
        );
    }

    #[test]
    fn owners_in_an_archive_are_kept_unless_one_is_named() {
        if !can_chown() {
            println!("SKIP: files can't be given away here");
            return;
        }
        let trees = Trees::new();
        let mut entry = Entry::new("f", EntryKind::File, 0o644);
        (entry.uid, entry.gid) = (12, 13);
        let mut tar = TarWriter::new(Vec::new());
        tar.append_reader(&entry, &mut &b""[..]).expect("append");
        let tar = tar.finish().expect("finish");
        std::fs::write(trees.source.path().join("a.tar"), tar).expect("write");
        for (owners, dest, of_dir, of_file) in [
            (Owners::Root, "/r", (0, 0), (12, 13)),
            (Owners::Ids { uid: 0, gid: 0 }, "/i", (0, 0), (0, 0)),
            (Owners::Ids { uid: 5, gid: 6 }, "/j", (5, 6), (5, 6)),
        ] {
            let mut request = request(&["a.tar"], dest);
            request.owners = owners;
            run(&trees, &request).expect(dest);
            for (path, expected) in [
                (&dest[1..], of_dir),
                (&format!("{}/f", &dest[1..]), of_file),
            ] {
                let meta = trees.dest.path().join(path).metadata().expect(path);
                assert_eq!((meta.uid(), meta.gid()), expected, "{path}");
            }
        }
    }
}
