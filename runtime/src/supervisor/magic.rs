//! The links of proc by which a process names its own directories and descriptors.
//!
//! Responsible for reading them off a path. Must not open anything. Invariant: only links of the
//! process itself, which lead to where it already is or holds a descriptor of; those of others are
//! left to the kernel, with its rules for who may follow them.

/// Where a link of the caller's own leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own<'p> {
    /// To a descriptor or, as `AT_FDCWD`, the working directory; and on from there. Slashes at the
    /// end of an otherwise empty rest ask for a directory.
    Start(i32, &'p [u8]),
    /// To the root; and on from there.
    Root(&'p [u8]),
}

/// Reads `/proc/self/fd/N`, `/dev/fd/N`, `/proc/self/cwd` and `/proc/self/root`, alone or before
/// a slash: proc_pid_fd(5), proc_pid_cwd(5), proc_pid_root(5).
pub(super) fn own(path: &[u8]) -> Option<Own<'_>> {
    let own = path
        .strip_prefix(b"/proc/self/")
        .or_else(|| path.strip_prefix(b"/proc/thread-self/"));
    let numbered = match own {
        Some(own) => {
            if let Some(rest) = end_of(own, b"cwd") {
                return Some(Own::Start(libc::AT_FDCWD, rest));
            }
            if let Some(rest) = end_of(own, b"root") {
                return Some(Own::Root(rest));
            }
            own.strip_prefix(b"fd/")?
        }
        None => path.strip_prefix(b"/dev/fd/")?,
    };
    let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit());
    let (number, rest) = numbered.split_at(digits.count());
    let rest = end_of(rest, b"")?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some(Own::Start(number, rest))
}

/// Returns what follows a name that a path begins with: nothing, or a slash and more.
fn end_of<'p>(path: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(name)?;
    matches!(rest.first(), None | Some(b'/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_of_the_process_itself() {
        let start = |number, rest: &'static str| Some(Own::Start(number, rest.as_bytes()));
        for (path, wanted) in [
            ("/proc/self/fd/3", start(3, "")),
            ("/proc/self/fd/3/", start(3, "/")),
            ("/proc/thread-self/fd/10/a/b", start(10, "/a/b")),
            ("/dev/fd/0", start(0, "")),
            ("/proc/self/cwd", start(libc::AT_FDCWD, "")),
            ("/proc/self/cwd/../x", start(libc::AT_FDCWD, "/../x")),
            ("/proc/self/root/etc", Some(Own::Root(b"/etc"))),
            ("/proc/self/root", Some(Own::Root(b""))),
            ("/proc/self/rooted", None),
            ("/proc/self/fd", None),
            ("/proc/self/fd/", None),
            ("/proc/self/fd/3x", None),
            ("/proc/self/fd/99999999999", None),
            ("/proc/self/fd/-1", None),
            ("/proc/1/fd/3", None),
            ("/proc/self/exe", None),
            ("proc/self/cwd", None),
        ] {
            assert_eq!(own(path.as_bytes()), wanted, "{path}");
        }
    }
}
