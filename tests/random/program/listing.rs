//! What is in a tree, as root sees it.
//!
//! Responsible for every observable of a tree but times and numbers of inodes.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::attributes::shown;
use crate::call::{self, must};
use crate::look::stat_words;

/// Lists a directory and everything below it.
pub(crate) fn of(place: &str) -> String {
    let mut text = String::new();
    add(Path::new(place), place, &mut text);
    text
}

fn add(path: &Path, place: &str, text: &mut String) {
    let name = path
        .strip_prefix(place)
        .unwrap_or(path)
        .display()
        .to_string();
    let name = if name.is_empty() { "." } else { &name };
    let mut c_path = path.as_os_str().as_bytes().to_vec();
    c_path.push(0);
    let address = c_path.as_ptr() as i64;
    let mut stat = vec![0_u8; size_of::<libc::stat>()];
    let words = match must(
        libc::SYS_lstat,
        [address, stat.as_mut_ptr() as i64, 0, 0, 0, 0],
    ) {
        Ok(_) => stat_words(&stat),
        Err(error) => format!("{error}"),
    };
    let _ = write!(text, "= {name} {words}");
    if words.starts_with("lnk")
        && let Ok(target) = std::fs::read_link(path)
    {
        let _ = write!(text, " -> {}", target.display());
    }
    let mut list = vec![0_u8; 1024];
    let arguments = [address, list.as_mut_ptr() as i64, 1024, 0, 0, 0];
    match call::raw(libc::SYS_llistxattr, arguments) {
        0 => {}
        length @ 1.. => {
            let length = usize::try_from(length).unwrap_or_default();
            let _ = write!(text, " {{{}}}", shown(&list[..length], true));
        }
        error => {
            let _ = write!(text, " {{{}}}", call::result(error));
        }
    }
    text.push('\n');
    if !words.starts_with("dir") {
        return;
    }
    let mut names: Vec<_> = match std::fs::read_dir(path) {
        Ok(list) => list.flatten().map(|entry| entry.path()).collect(),
        Err(error) => {
            let _ = writeln!(text, "= {name}: {error}");
            return;
        }
    };
    names.sort();
    for entry in names {
        add(&entry, place, text);
    }
}
