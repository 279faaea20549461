//! Where a context and its Dockerfile are, as the command line names them.
//!
//! Responsible for telling the kinds apart by their text. Must not open anything, except that an
//! existing directory wins over what only looks like an address. Invariant: what is not supported
//! is refused by name here.

use std::path::{Path, PathBuf};

use crate::context::git::GitUrl;
use crate::error::{Error, Kind, Result};

/// Where the files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// An archive, or a bare Dockerfile, on standard input.
    Stdin,
    /// An archive, or a bare Dockerfile, at an http or https URL.
    Url(String),
    /// A commit of a git repository.
    Git(GitUrl),
}

/// Where the Dockerfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileLocation {
    /// `Dockerfile` in the context, else `Containerfile`.
    Default,
    /// This file: relative to the working directory, or a path within an archive.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// An http or https URL.
    Url(String),
}

impl Location {
    /// Tells what the command line's CONTEXT means.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a git address that is malformed, and for nothing at all.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if text.is_empty() {
            return Err(Error::new("the context is empty")
                .kind(Kind::Usage)
                .hint("use `.` for the current directory"));
        }
        if Path::new(text).is_dir() {
            return Ok(Self::Directory(text.into()));
        }
        if let Some(url) = GitUrl::parse_context(text).map_err(|e| e.kind(Kind::Usage))? {
            return Ok(Self::Git(url));
        }
        if is_http(text) {
            return Ok(Self::Url(text.to_owned()));
        }
        Ok(Self::Directory(text.into()))
    }
}

/// Tells whether a text is an http or https URL, as in `ADD`.
pub fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Tells whether a text names a git repository, as Docker decides it: by scheme, by `git@`, by
/// `github.com/`, or by the `.git` that a URL's path ends in.
pub fn is_git(text: &str) -> bool {
    let by_prefix = ["git://", "ssh://", "git@", "github.com/", "git+"];
    if by_prefix.iter().any(|prefix| text.starts_with(prefix)) {
        return true;
    }
    let path = text.split(['#', '?']).next().unwrap_or(text);
    is_http(text) && path.ends_with(".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_kinds_apart() {
        let url = |text: &str| Location::Url(text.into());
        for (text, expected) in [
            ("-", Location::Stdin),
            (".", Location::Directory(".".into())),
            (
                "/nowhere/at/all",
                Location::Directory("/nowhere/at/all".into()),
            ),
            (
                "https://example.com/c.tar.gz",
                url("https://example.com/c.tar.gz"),
            ),
            (
                "http://example.com/x.git.tar",
                url("http://example.com/x.git.tar"),
            ),
        ] {
            assert_eq!(Location::parse(text).expect(text), expected);
        }
        for text in [
            "git@example.com:a/b",
            "https://example.com/x.git",
            "https://example.com/x.git#main:sub",
            "github.com/a/b",
            "ssh://git@example.com/x",
        ] {
            let found = Location::parse(text).expect(text);
            assert!(matches!(found, Location::Git(_)), "{text}: {found:?}");
        }
        for text in ["", "https://example.com/x.git?what=1"] {
            let error = Location::parse(text).expect_err(text);
            assert_eq!(error.get_kind(), Kind::Usage, "{text}");
        }
    }
}
