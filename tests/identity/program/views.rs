//! One file's owner and mode by every call that tells it.
//!
//! Responsible for asking all of them; a view that differs is named. Must not know which is right.

use super::call::{Answer, HERE, call, path};

/// Returns `uid:gid:mode` where all calls agree, and otherwise each with its name.
pub(crate) fn all(file: &str) -> String {
    let name = path(file);
    let name = name.as_ptr() as usize;
    let nofollow = libc::AT_SYMLINK_NOFOLLOW as usize;
    let mut views = vec![
        ("statx", statx(HERE, name, nofollow)),
        (
            "newfstatat",
            status(libc::SYS_newfstatat, &[HERE, name], Some(nofollow)),
        ),
    ];
    #[cfg(target_arch = "x86_64")]
    views.push(("lstat", status(libc::SYS_lstat, &[name], None)));
    let flags = (libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) as usize;
    if let Ok(handle) = call(libc::SYS_openat, &[HERE, name, flags]) {
        views.extend(by_handle("path", handle.cast_unsigned() as usize));
    }
    let how = [libc::O_PATH as u64 | libc::O_NOFOLLOW as u64, 0, 0];
    let arguments = [HERE, name, how.as_ptr() as usize, size_of_val(&how)];
    if let Ok(handle) = call(libc::SYS_openat2, &arguments) {
        views.extend(by_handle("openat2", handle.cast_unsigned() as usize));
    }
    // A fifo waits for its other end, a symbolic link can't be opened, a socket neither.
    if std::fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file() || meta.is_dir()) {
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
        if let Ok(handle) = call(libc::SYS_openat, &[HERE, name, flags]) {
            views.extend(by_handle("open", handle.cast_unsigned() as usize));
        }
    }
    let words: Vec<(&str, String)> = views
        .into_iter()
        .map(|(view, answer)| (view, answer.unwrap_or_else(|error| error)))
        .collect();
    if words.iter().all(|(_, word)| *word == words[0].1) {
        return words[0].1.clone();
    }
    let each: Vec<String> = words
        .iter()
        .map(|(view, word)| format!("{view}={word}"))
        .collect();
    each.join(",")
}

fn by_handle(way: &'static str, handle: usize) -> Vec<(&'static str, Result<String, String>)> {
    let nothing = path("");
    let nothing = nothing.as_ptr() as usize;
    let empty = libc::AT_EMPTY_PATH as usize;
    let views = vec![
        (way, status(libc::SYS_fstat, &[handle], None)),
        (
            way,
            status(libc::SYS_newfstatat, &[handle, nothing], Some(empty)),
        ),
        (way, statx(handle, nothing, empty)),
    ];
    drop(call(libc::SYS_close, &[handle]));
    views
}

/// The places of mode, uid and gid in `struct stat`, in units of four bytes.
#[cfg(target_arch = "x86_64")]
const PLACES: [usize; 3] = [6, 7, 8];
#[cfg(not(target_arch = "x86_64"))]
const PLACES: [usize; 3] = [4, 6, 7];

fn status(number: i64, arguments: &[usize], flags: Option<usize>) -> Result<String, String> {
    let mut buffer = [0_u32; 64];
    let mut all = arguments.to_vec();
    all.push(buffer.as_mut_ptr() as usize);
    all.extend(flags);
    let answer: Answer = call(number, &all);
    let [mode, uid, gid] = PLACES.map(|place| buffer[place]);
    answer.map(|_| shown(uid, gid, mode))
}

fn statx(directory: usize, name: usize, flags: usize) -> Result<String, String> {
    let mut buffer = [0_u32; 64];
    let basic = libc::STATX_BASIC_STATS as usize;
    let arguments = [directory, name, flags, basic, buffer.as_mut_ptr() as usize];
    call(libc::SYS_statx, &arguments)?;
    // statx(2): mask, block size, attributes (8 bytes), links, uid, gid, mode (2 bytes).
    Ok(shown(buffer[5], buffer[6], buffer[7] & 0xffff))
}

fn shown(uid: u32, gid: u32, mode: u32) -> String {
    format!("{uid}:{gid}:{:o}", mode & 0o7777)
}
