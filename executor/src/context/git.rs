//! Git repositories: what ADD and a context name by their addresses.
//!
//! Responsible for finding the commit that an address means, and for its files. Must not know what
//! they are for. The host's `git` does the work: nobody else speaks all of its protocols.
//! Invariant: neither the host's configuration nor the repository's decides what git executes, only
//! http, https, ssh and git are spoken, and nobody is asked for a password.
//!
//! ```text
//! let url = GitUrl::parse("https://example.com/a.git#main:sub")?.ok_or(…)?;
//! let commit = git::resolve(&url, &options)?;         // for a key; asks the remote at most once
//! let tree = git::checkout(&url, &commit, &options, tmp)?; // tree.root is `sub`
//! ```
//!
//! [`fetch`] does both. Files are 0644 or 0755, directories 0755, and all have the time of the
//! commit, so that equal commits make equal layers.

mod run;
mod url;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runtime::path::Root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result, ResultExt};
use run::Git;
pub use url::{GitUrl, is_commit};

/// How to fetch.
#[derive(Clone, Default)]
pub struct GitOptions {
    /// Leave `.git` in the tree.
    pub keep_git_dir: bool,
    /// Socket of the ssh agent to use; without one, ssh has no keys.
    pub ssh_agent: Option<PathBuf>,
    /// The file of known hosts, which is not written to; ssh's own choice without it.
    pub known_hosts: Option<PathBuf>,
    /// Value of the `Authorization` header for http and https; it is not sent to other hosts.
    pub authorization: Option<String>,
    /// Ends git, and all that it has started.
    pub cancel: Cancel,
}

impl std::fmt::Debug for GitOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitOptions")
            .field("keep_git_dir", &self.keep_git_dir)
            .field("ssh_agent", &self.ssh_agent)
            .finish_non_exhaustive()
    }
}

/// A commit's files.
#[derive(Debug)]
pub struct GitTree {
    /// The directory that was asked for: the repository's root, or a directory in it.
    pub root: Root,
    /// The commit.
    pub commit: String,
}

/// Fetches what `url` means into a new directory in `tmp`.
///
/// # Errors
/// Those of [`resolve`] and [`checkout`].
pub fn fetch(url: &GitUrl, options: &GitOptions, tmp: &Path) -> Result<GitTree> {
    let commit = resolve(url, options)?;
    checkout(url, &commit, options, tmp)
}

/// Returns the commit that an address means. A whole commit's name is taken as it is; otherwise the
/// remote is asked.
///
/// # Errors
/// When the remote can't be reached or has no such reference, when the commit is not the one that
/// the address promises, and when there is no git.
pub fn resolve(url: &GitUrl, options: &GitOptions) -> Result<String> {
    let commit = match url.reference.as_deref() {
        Some(commit) if is_commit(commit) => commit.to_ascii_lowercase(),
        reference => look_up(url, reference.unwrap_or("HEAD"), options)?,
    };
    let wanted = url.checksum.as_deref().unwrap_or_default();
    let hex = wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if url.checksum.is_some() && !(hex && (7..=64).contains(&wanted.len())) {
        return Err(Error::new(format!(
            "invalid checksum `{wanted}`: it must be a commit, or at least its first 7 digits"
        )));
    }
    if !commit.starts_with(&wanted.to_ascii_lowercase()) {
        return Err(Error::new(format!(
            "checksum mismatch: expected commit {wanted}, got {commit}"
        )));
    }
    Ok(commit)
}

fn look_up(url: &GitUrl, reference: &str, options: &GitOptions) -> Result<String> {
    let git = Git::new(url, options);
    let peeled = format!("{reference}^{{}}");
    let listed = git
        .run(None, &["ls-remote", "--", &url.remote, reference, &peeled])
        .map_err(|e| e.during(format!("ask {}", url.shown())))?;
    best(&listed, reference).ok_or_else(|| {
        Error::new(format!("`{}` has no reference `{reference}`", url.shown()))
            .kind(Kind::NotFound)
            .hint("it must be a branch, a tag, or a whole commit")
    })
}

/// Picks the commit of a reference from what `git ls-remote` lists: that of a full name, of a tag,
/// then of a branch, in git's own order (gitrevisions(7)).
fn best(listed: &str, reference: &str) -> Option<String> {
    let find = |name: &str| {
        listed.lines().find_map(|line| {
            let (commit, found) = line.split_once('\t')?;
            (found == name && is_commit(commit)).then(|| commit.to_owned())
        })
    };
    ["", "refs/", "refs/tags/", "refs/heads/"]
        .iter()
        .find_map(|prefix| {
            let name = format!("{prefix}{reference}");
            // An annotated tag is an object of its own; what it is of comes with `^{}`.
            find(&format!("{name}^{{}}")).or_else(|| find(&name))
        })
}

/// Fetches a commit's files into a new directory in `tmp`.
///
/// # Errors
/// When the remote can't be reached or has no such commit, when the directory that is wanted is not
/// in it, and when there is no git.
pub fn checkout(url: &GitUrl, commit: &str, options: &GitOptions, tmp: &Path) -> Result<GitTree> {
    let dir = tempfile::Builder::new()
        .prefix("git-")
        .tempdir_in(tmp)
        .op_path("make a directory in", tmp)?;
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).op_path("create", &tree)?;
    let git = Git::new(url, options);
    let format = if commit.len() == 64 { "sha256" } else { "sha1" };
    let fetched = (|| {
        git.run(
            Some(&tree),
            &["init", "--quiet", &format!("--object-format={format}")],
        )?;
        git.run(Some(&tree), &["remote", "add", "origin", &url.shown()])?;
        fetch_commit(&git, &tree, url, commit)?;
        git.run(
            Some(&tree),
            &["checkout", "--quiet", "--force", "--detach", commit, "--"],
        )?;
        if url.submodules != Some(false) {
            let update = [
                "submodule",
                "update",
                "--quiet",
                "--init",
                "--recursive",
                "--depth=1",
            ];
            git.run(Some(&tree), &update)?;
        }
        git.run(
            Some(&tree),
            &["show", "--no-patch", "--format=%ct", commit, "--"],
        )
    })();
    let time = fetched.map_err(|e| e.during(format!("fetch {}", url.shown())))?;
    let time = time.trim().parse().unwrap_or(0);
    let whole = Root::open_host(&tree).op_path("open", &tree)?;
    let root = match &url.subdir {
        None => Root::open_host(&tree).op_path("open", &tree)?,
        Some(subdir) => Root::new(whole.open_dir(subdir).map_err(|e| {
            Error::new(format!(
                "`{}` has no directory `{subdir}` at {commit}",
                url.shown()
            ))
            .kind(Kind::NotFound)
            .source(e)
        })?),
    };
    if options.keep_git_dir && url.subdir.is_some() {
        let from = whole.open_dir("").op("open the directory")?;
        let to = root.open_dir("").op("open the directory")?;
        rustix::fs::renameat(from, ".git", to, ".git").op("move `.git`")?;
    }
    settle(&whole, options.keep_git_dir, time)?;
    // The files now belong to whoever asked for them.
    drop(dir.keep());
    Ok(GitTree {
        root,
        commit: commit.to_owned(),
    })
}

/// Fetches a commit, and of its history as little as the remote lets us.
fn fetch_commit(git: &Git, tree: &Path, url: &GitUrl, commit: &str) -> Result<()> {
    let shallow = [
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "origin",
        commit,
    ];
    let Err(error) = git.run(Some(tree), &shallow) else {
        return Ok(());
    };
    // Some remotes give what has a name only, and some have no shallow history.
    let has = |tree: &Path| {
        git.run(
            Some(tree),
            &["cat-file", "-e", &format!("{commit}^{{commit}}")],
        )
    };
    if let Some(reference) = url.reference.as_deref().filter(|r| !is_commit(r)) {
        let named = [
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "origin",
            reference,
        ];
        if git.run(Some(tree), &named).is_ok() && has(tree).is_ok() {
            return Ok(());
        }
    }
    let all = [
        "fetch",
        "--quiet",
        "--tags",
        "origin",
        "+refs/heads/*:refs/remotes/origin/*",
    ];
    git.run(Some(tree), &all).map_err(|_| error)?;
    has(tree).map(drop).map_err(|_| {
        Error::new(format!("no branch and no tag has commit {commit}")).kind(Kind::NotFound)
    })
}

/// Gives all files the time of the commit and modes without the umask's traces, and removes what
/// git keeps beside them.
fn settle(root: &Root, keep_git_dir: bool, time: i64) -> Result<()> {
    let time = Timespec {
        tv_sec: time,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let mut todo = vec![PathBuf::new()];
    let mut dirs = Vec::new();
    while let Some(dir) = todo.pop() {
        let fd = open_dir(root, &dir)?;
        for entry in rustix::fs::Dir::read_from(&fd).op_path("read directory", &dir)? {
            let entry = entry.op_path("read directory", &dir)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let path = dir.join(name);
            match name.as_bytes() {
                b"." | b".." => continue,
                // Git lets nobody commit a file of this name.
                b".git" if keep_git_dir => continue,
                b".git" => {
                    if let Some(entry) = root.entry(&path).op_path("open", &path)? {
                        entry.remove_all().op_path("remove", &path)?;
                    }
                    continue;
                }
                _ => {}
            }
            let stat = rustix::fs::statat(&fd, name, nofollow).op_path("stat", &path)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => todo.push(path),
                FileType::Symlink => rustix::fs::utimensat(&fd, name, &times, nofollow)
                    .op_path("set the time of", &path)?,
                _ => {
                    let mode = if stat.st_mode & 0o100 == 0 {
                        0o644
                    } else {
                        0o755
                    };
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                    let file = rustix::fs::openat(&fd, name, flags, Mode::empty())
                        .op_path("open", &path)?;
                    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
                        .op_path("change the permissions of", &path)?;
                    rustix::fs::futimens(&file, &times).op_path("set the time of", &path)?;
                }
            }
        }
        dirs.push(dir);
    }
    for dir in dirs {
        let fd = open_dir(root, &dir)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
            .op_path("change the permissions of", &dir)?;
        rustix::fs::futimens(&fd, &times).op_path("set the time of", &dir)?;
    }
    Ok(())
}

fn open_dir(root: &Root, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    root.open(path, flags, Mode::empty())
        .op_path("open directory", path)
}

#[cfg(test)]
mod tests;
