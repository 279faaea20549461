//! The environment variables, read once.
//!
//! The only reader of environment variables. Responsible for their names, their precedence and
//! what an empty one means (the same as none). Must not act on what they say. Invariant: it is a
//! snapshot; later parts are handed values, never names to look up themselves.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::progress::Mode;

/// A snapshot of the environment.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    uid: u32,
}

impl Environment {
    /// Reads the process's environment. `HOME`, when missing, comes from `/etc/passwd`.
    pub(super) fn read() -> Self {
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let uid = rustix::process::getuid().as_raw();
        if variables
            .get(OsStr::new("HOME"))
            .is_none_or(|v| v.is_empty())
            && let Ok(passwd) = std::fs::read("/etc/passwd")
            && let Some(home) = home_of(&passwd, uid)
        {
            variables.insert("HOME".into(), home);
        }
        Self { variables, uid }
    }

    /// Makes one of given variables, for tests.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            uid: 1000,
        }
    }

    /// Returns the caller's user id.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns a variable; `None` when it is empty.
    pub(super) fn get(&self, name: &str) -> Option<OsString> {
        self.verbatim(name).filter(|value| !value.is_empty())
    }

    /// Returns a variable that the user named (`--build-arg NAME`, `-e NAME`), empty or not.
    pub(super) fn verbatim(&self, name: &str) -> Option<OsString> {
        self.variables.get(OsStr::new(name)).cloned()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.into_string().ok()
    }

    /// Returns an absolute path; the XDG base directory specification wants others ignored.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }

    /// Decides where the store is: `flag`, `SANDCRAB_ROOT`, `XDG_DATA_HOME/sandcrab`,
    /// `~/.local/share/sandcrab`.
    ///
    /// # Errors
    /// [`Kind::Usage`] when none of these is known.
    pub(super) fn store_root(&self, flag: Option<&Path>) -> Result<PathBuf> {
        flag.map(Path::to_path_buf)
            .or_else(|| self.get("SANDCRAB_ROOT").map(PathBuf::from))
            .or_else(|| self.directory("XDG_DATA_HOME").map(|d| d.join("sandcrab")))
            .or_else(|| {
                self.directory("HOME")
                    .map(|d| d.join(".local/share/sandcrab"))
            })
            .ok_or_else(|| {
                Error::new("no place for the store: there is no home directory")
                    .kind(Kind::Usage)
                    .hint("say where it is with --root DIR or SANDCRAB_ROOT")
            })
    }

    /// Returns the directory for large temporary files: `TMPDIR`, else `/var/tmp`, since `/tmp`
    /// may be memory.
    pub(super) fn temp_dir(&self) -> PathBuf {
        self.directory("TMPDIR")
            .unwrap_or_else(|| PathBuf::from("/var/tmp"))
    }

    /// Decides on colours for a stream: `NO_COLOR` forbids them, `CLICOLOR_FORCE` and
    /// `FORCE_COLOR` ask for them, else a terminal that is not dumb has them.
    pub(super) fn colour(&self, is_terminal: bool) -> bool {
        let forced = |name| self.get(name).is_some_and(|value| value != "0");
        if self.get("NO_COLOR").is_some() {
            return false;
        }
        forced("CLICOLOR_FORCE") || forced("FORCE_COLOR") || (is_terminal && self.has_terminal())
    }

    /// Tells whether `TERM` names a terminal that can move its cursor.
    pub(super) fn has_terminal(&self) -> bool {
        self.get("TERM").is_some_and(|term| term != "dumb")
    }

    /// Tells whether this is a CI job, whose output is recorded rather than watched.
    pub(super) fn is_ci(&self) -> bool {
        self.get("CI").is_some_and(|value| value != "false")
    }

    /// Returns the progress mode for when the command line leaves the choice:
    /// `SANDCRAB_PROGRESS`, else `BUILDKIT_PROGRESS`. One that is unknown is an error only where
    /// it is our own variable.
    pub(super) fn progress(&self) -> Result<Option<Mode>> {
        if let Some(value) = self.text("SANDCRAB_PROGRESS") {
            return match super::choices::parse_mode(&value) {
                Some(mode) => Ok(Some(mode)),
                None => Err(Error::new(format!(
                    "unknown progress mode `{value}` in SANDCRAB_PROGRESS"
                ))
                .kind(Kind::Usage)
                .hint("it is one of auto, tty, plain, quiet and rawjson")),
            };
        }
        Ok(self
            .text("BUILDKIT_PROGRESS")
            .and_then(|value| super::choices::parse_mode(&value)))
    }
}

/// Finds a user's home directory in the text of passwd(5).
fn home_of(passwd: &[u8], uid: u32) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;

    let wanted = uid.to_string();
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let home = *fields.get(5)?;
        (fields[2] == wanted.as_bytes() && home.starts_with(b"/"))
            .then(|| OsString::from_vec(home.to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_found() {
        let flag = Path::new("flag");
        for (variables, wanted) in [
            (&[("HOME", "/h")][..], Some("/h/.local/share/sandcrab")),
            (
                &[("HOME", "/h"), ("XDG_DATA_HOME", "/d")],
                Some("/d/sandcrab"),
            ),
            (
                &[("HOME", "/h"), ("XDG_DATA_HOME", "d")],
                Some("/h/.local/share/sandcrab"),
            ),
            (
                &[("XDG_DATA_HOME", "/d"), ("SANDCRAB_ROOT", "s")],
                Some("s"),
            ),
            (
                &[("HOME", "/h"), ("SANDCRAB_ROOT", "")],
                Some("/h/.local/share/sandcrab"),
            ),
            (&[], None),
        ] {
            let environment = Environment::of(variables);
            assert_eq!(
                environment.store_root(None).ok(),
                wanted.map(PathBuf::from),
                "{variables:?}"
            );
            assert_eq!(
                environment.store_root(Some(flag)).ok().as_deref(),
                Some(flag)
            );
        }
    }

    #[test]
    fn colours() {
        for (variables, on_terminal, elsewhere) in [
            (&[("TERM", "xterm")][..], true, false),
            (&[], false, false),
            (&[("TERM", "dumb")], false, false),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], false, false),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true, false),
            (&[("FORCE_COLOR", "1")], true, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("FORCE_COLOR", "1"), ("NO_COLOR", "1")], false, false),
        ] {
            let environment = Environment::of(variables);
            assert_eq!(environment.colour(true), on_terminal, "{variables:?}");
            assert_eq!(environment.colour(false), elsewhere, "{variables:?}");
        }
    }

    #[test]
    fn progress() {
        let of = |name, value| Environment::of(&[(name, value)]);
        let mode = |e: Environment| e.progress().map_err(|e| e.get_kind());
        assert_eq!(
            mode(of("SANDCRAB_PROGRESS", "plain")),
            Ok(Some(Mode::Plain))
        );
        assert_eq!(
            mode(of("BUILDKIT_PROGRESS", "rawjson")),
            Ok(Some(Mode::RawJson))
        );
        assert_eq!(mode(of("BUILDKIT_PROGRESS", "fancy")), Ok(None));
        assert_eq!(mode(of("SANDCRAB_PROGRESS", "fancy")), Err(Kind::Usage));
    }

    #[test]
    fn homes_come_from_passwd() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n\nbad\nu:x:1000:1000::/home/u:/bin/sh\n\
            none:x:7:7:::\n";
        assert_eq!(home_of(passwd, 1000), Some("/home/u".into()));
        assert_eq!(home_of(passwd, 0), Some("/root".into()));
        assert_eq!(home_of(passwd, 7), None);
        assert_eq!(home_of(passwd, 42), None);
    }
}
