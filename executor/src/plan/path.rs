//! Container paths as text.
//!
//! Responsible for joining and cleaning as Go's `path` package does, on which the reference relies.

/// Joins a path to a directory, unless it is absolute, and cleans the result: absolute, without
/// `.`, `..`, doubled and trailing slashes.
pub(super) fn join(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Joins a destination of COPY: as [`join`], but with a trailing slash when it was written as a
/// directory (`x/`, `x/.`, `.` or nothing).
pub(super) fn join_dest(directory: &str, path: &str) -> String {
    let mut joined = join(directory, path);
    let is_directory =
        path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    if is_directory && !joined.ends_with('/') {
        joined.push('/');
    }
    joined
}

/// Cleans a path that need not be absolute, as Go's `path.Clean`; the empty one is `.`.
pub(super) fn clean(path: &str) -> String {
    if path.starts_with('/') {
        return join("/", path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        ".".into()
    } else {
        parts.join("/")
    }
}

/// Returns the last part of a path; nothing for one that has none.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans() {
        for (path, cleaned, last) in [
            ("/a/../b//c/", "/b/c", "c"),
            ("a/./b", "a/b", "b"),
            ("a/../../b", "../b", "b"),
            ("", ".", ""),
            ("./", ".", "."),
        ] {
            assert_eq!(
                (clean(path).as_str(), base(path)),
                (cleaned, last),
                "{path}"
            );
        }
    }

    #[test]
    fn joins() {
        for (directory, path, plain, dest) in [
            ("/", "a", "/a", "/a"),
            ("/w", "a/b", "/w/a/b", "/w/a/b"),
            ("/w", "/a/", "/a", "/a/"),
            ("/w", "../a", "/a", "/a"),
            ("/w", "../../..", "/", "/"),
            ("/w", ".", "/w", "/w/"),
            ("/w", "", "/w", "/w/"),
            ("/w", "./", "/w", "/w/"),
            ("/w", "a/.", "/w/a", "/w/a/"),
            ("/w", "/", "/", "/"),
            ("", "a//b/./c", "/a/b/c", "/a/b/c"),
        ] {
            assert_eq!(join(directory, path), plain, "{directory} {path}");
            assert_eq!(join_dest(directory, path), dest, "{directory} {path}");
        }
    }
}
