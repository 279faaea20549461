//! Removal of several trees at once.
//!
//! Responsible for doing it side by side: file systems wait for the disk at each directory that
//! goes, and these waits overlap. Must not decide what goes, nor follow links. Invariant: nothing
//! outside the named trees is touched.

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Removals that wait for the disk at once.
const THREADS: usize = 8;

/// Removes files and trees; returns those that are not gone, with the reasons. One that is not
/// there is gone.
pub(crate) fn remove(paths: &[PathBuf]) -> Vec<(PathBuf, io::Error)> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = paths.len().min(THREADS.max(cores));
    let left = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(e) = remove_one(path) {
                let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                left.push((path.clone(), e));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without a further thread, this one does it all.
            drop(std::thread::Builder::new().spawn_scoped(scope, work));
        }
        work();
    });
    let mut left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
    left.sort_by(|a, b| a.0.cmp(&b.0));
    left
}

fn remove_one(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_it_may_and_names_the_rest() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let kept = dir.path().join("kept");
        fs::write(&kept, "x").expect("write");
        let mut paths = vec![dir.path().join("missing"), dir.path().join("file")];
        fs::write(&paths[1], "x").expect("write");
        for n in 0..30 {
            let tree = dir.path().join(format!("tree-{n}"));
            fs::create_dir_all(tree.join("a/b")).expect("mkdir");
            std::os::unix::fs::symlink(&kept, tree.join("a/link")).expect("link");
            paths.push(tree);
        }
        // A path below a file can be neither there nor removed.
        let odd = kept.join("below");
        paths.push(odd.clone());
        let left = remove(&paths);
        assert_eq!(left.iter().map(|(p, _)| p).collect::<Vec<_>>(), [&odd]);
        let names: Vec<_> = fs::read_dir(dir.path())
            .expect("list")
            .map(|e| e.expect("entry").path())
            .collect();
        assert_eq!(names, [kept]);
        assert!(remove(&[]).is_empty());
    }
}
