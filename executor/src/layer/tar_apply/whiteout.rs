//! Deletions in a layer.
//!
//! Responsible for telling deletions from entries and for carrying them out. Invariant: a
//! deletion removes what lower layers brought and never what this layer brings, in whatever order
//! the archive has them (OCI image-spec, layer, "Whiteouts").

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dirs::{Dirs, host_path};
use super::unpacking;
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, Name, classify, join, split};

/// What an entry of a layer asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// To be there.
    Plain,
    /// Nothing; it is book-keeping of AUFS.
    Nothing,
    /// That this path of lower layers be gone.
    Whiteout(Vec<u8>),
    /// That this directory show nothing of lower layers.
    Opaque(Vec<u8>),
}

/// Tells what an entry asks for, by its path.
///
/// # Errors
/// For a deletion that names nothing or leads elsewhere, for an entry below a deletion, and for a
/// hard link to a file in AUFS's book-keeping, which was never unpacked.
pub(super) fn meaning(entry: &Entry) -> Result<Meaning> {
    let (dir, name) = split(&entry.path);
    if dir.starts_with(b".wh.") || contains(dir, b"/.wh.") {
        for part in dir.split(|b| *b == b'/') {
            match classify(part) {
                Name::Plain => {}
                Name::Aufs => return Ok(Meaning::Nothing),
                Name::Whiteout(_) | Name::Opaque => {
                    return Err(Error::new("the layer has an entry below a deletion")
                        .path_bytes(&entry.path));
                }
            }
        }
    }
    if entry.link.starts_with(b".wh..wh.") {
        return Err(
            Error::new("the layer has a link into the book-keeping of AUFS")
                .path_bytes(&entry.path)
                .hint("the image is from a very old Docker; push it again with a current one"),
        );
    }
    match classify(name) {
        Name::Plain => Ok(Meaning::Plain),
        Name::Aufs => Ok(Meaning::Nothing),
        Name::Opaque => Ok(Meaning::Opaque(dir.to_vec())),
        Name::Whiteout(b"" | b"." | b"..") => {
            Err(Error::new("the layer has a malformed deletion").path_bytes(&entry.path))
        }
        Name::Whiteout(deleted) => Ok(Meaning::Whiteout(join(dir, deleted))),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

impl Dirs<'_> {
    /// Removes what lower layers have at `path`; below it, if this layer has a directory there.
    pub(super) fn delete(&mut self, path: &[u8]) -> Result<()> {
        if self.is_own(path) {
            return self.hide_lower(path);
        }
        let (dir, _) = split(path);
        match self.root().entry(host_path(path)) {
            Ok(Some(entry)) => {
                self.keep_time(dir, &entry.dir)?;
                self.forget_parent();
                entry.remove_all().map_err(unpacking(path))
            }
            // Its directory is not there, so neither is it.
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(e) => Err(unpacking(path)(e)),
        }
    }

    /// Removes from the directory `path` all that this layer did not bring. A path that is no
    /// directory has nothing to hide.
    pub(super) fn hide_lower(&mut self, path: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = match self.root().open(host_path(path), flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(unpacking(path)(e)),
        };
        self.keep_time(path, &dir)?;
        self.forget_parent();
        let mut keep = |below: &[u8]| self.is_own(&join(path, below));
        runtime::path::remove::remove_children(dir, &mut keep).map_err(unpacking(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::entry::EntryKind;

    fn of(path: &str) -> Result<Meaning> {
        meaning(&Entry::new(path, EntryKind::File, 0))
    }

    #[test]
    fn meanings() {
        for (path, expected) in [
            ("a/b", Meaning::Plain),
            ("a.wh.b", Meaning::Plain),
            ("a/.wh.b", Meaning::Whiteout(b"a/b".to_vec())),
            (".wh.b", Meaning::Whiteout(b"b".to_vec())),
            ("a/.wh..wh..opq", Meaning::Opaque(b"a".to_vec())),
            (".wh..wh..opq", Meaning::Opaque(Vec::new())),
            (".wh..wh.plnk", Meaning::Nothing),
            (".wh..wh.plnk/1.2", Meaning::Nothing),
            ("a/.wh..wh.orph/x", Meaning::Nothing),
        ] {
            assert_eq!(of(path).expect(path), expected, "{path}");
        }
        for path in [".wh.", "a/.wh...", "a/.wh..", ".wh.a/b", "a/.wh..wh..opq/b"] {
            assert!(of(path).is_err(), "{path}");
        }
    }
}
