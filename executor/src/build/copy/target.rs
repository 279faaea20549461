//! Destination paths, with their symbolic links followed inside the container's tree.
//!
//! Responsible for the one thing that opening a path can't do: name where a path *would* be that
//! does not exist yet, through links that dangle. Must not make anything. Invariant: the result
//! is absolute and has no `..`; whoever uses it goes through the root again, so that a result
//! that is out of date can't lead outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime::path::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, ResultExt};

/// How many symbolic links one path may lead through, as in containerd.
const MAX_LINKS: usize = 255;

/// Follows all symbolic links in `path`, the last component's too. What does not exist is taken
/// by its name.
pub(super) fn resolve(root: &Root, path: &Path) -> Result<PathBuf> {
    let mut todo: VecDeque<OsString> = parts(path.as_os_str()).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let target = match root.open(&next, flags, Mode::empty()) {
            Ok(fd) => match rustix::fs::readlinkat(fd, "", Vec::new()) {
                Ok(target) => target,
                // Not a symbolic link.
                Err(Errno::INVAL | Errno::NOENT) => {
                    at = next;
                    continue;
                }
                Err(e) => return Err(Error::new("read symbolic link").path(next).source(e)),
            },
            Err(Errno::NOENT) => {
                at = next;
                continue;
            }
            other => {
                other.op_path("look up", &next)?;
                continue;
            }
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::new("too many symbolic links in the destination").path(path));
        }
        let target = OsStr::from_bytes(target.to_bytes());
        if target.as_bytes().starts_with(b"/") {
            at = PathBuf::from("/");
        }
        for part in parts(target).rev() {
            todo.push_front(part);
        }
    }
    Ok(at)
}

fn parts(path: &OsStr) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.as_bytes()
        .split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .map(|part| OsStr::from_bytes(part).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn follows_links_that_dangle_and_stays_inside() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = Root::open_host(dir.path()).expect("open root");
        std::fs::create_dir_all(dir.path().join("real/sub")).expect("mkdir");
        for (target, link) in [
            ("/target", "abs"),
            ("/missing/x", "deep"),
            ("sub/../../up", "real/rel"),
            ("../../../../etc", "real/out"),
            ("loop", "loop"),
        ] {
            symlink(target, dir.path().join(link)).expect("symlink");
        }
        for (path, expected) in [
            ("/", "/"),
            ("/abs", "/target"),
            ("/abs/y", "/target/y"),
            ("/deep/y", "/missing/x/y"),
            ("/real/rel", "/up"),
            ("/real/out/passwd", "/etc/passwd"),
            ("/real/new/a", "/real/new/a"),
        ] {
            let resolved = resolve(&root, Path::new(path)).expect(path);
            assert_eq!(resolved, Path::new(expected), "{path}");
        }
        assert!(resolve(&root, Path::new("/loop")).is_err());
    }
}
