//! Addresses of git repositories, as Dockerfiles and the command line write them.
//!
//! Responsible for both forms, `remote#ref:directory` and `remote?ref=…&subdir=…`, for scp's
//! `user@host:path`, and for telling them from other sources. Must not do I/O. Invariant: a remote
//! never begins with `-`, nor does its host or a reference, so that git takes none for an option.

use url::Url;

use crate::error::{Error, Result};
use crate::redact;

/// A repository, and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitUrl {
    /// What git is given: a URL, or scp's form.
    pub remote: String,
    /// A branch, a tag, a full name such as `refs/pull/1/head`, or a commit.
    pub reference: Option<String>,
    /// The directory that is wanted.
    pub subdir: Option<String>,
    /// The commit that `reference` has to be, or the beginning of it.
    pub checksum: Option<String>,
    /// Whether `.git` is wanted, too.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are; they are by default.
    pub submodules: Option<bool>,
}

/// Schemes that name a repository whatever comes after; http and https need a path in `.git`.
const SCHEMES: [&str; 3] = ["ssh", "git", "git+ssh"];

impl GitUrl {
    /// Parses an address; `None` when it names no repository.
    ///
    /// # Errors
    /// When it does name one, but its parts contradict each other or are unknown.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if let Some(remote) = scp_remote(text) {
            let (remote, fragment) = remote.split_once('#').unwrap_or((remote, ""));
            return Self::new(remote, None, fragment, text).map(Some);
        }
        let Ok(url) = Url::parse(text) else {
            return Ok(None);
        };
        let known = match url.scheme() {
            "http" | "https" => url.path().ends_with(".git"),
            scheme => SCHEMES.contains(&scheme),
        };
        if !known {
            return Ok(None);
        }
        let mut remote = url.clone();
        remote.set_fragment(None);
        remote.set_query(None);
        let fragment = url.fragment().unwrap_or_default();
        Self::new(remote.as_str(), url.query(), fragment, text).map(Some)
    }

    /// Parses what the command line calls a context: as [`Self::parse`], and `github.com/` without
    /// a scheme.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn parse_context(text: &str) -> Result<Option<Self>> {
        match text.strip_prefix("github.com/") {
            Some(_) => {
                let (path, rest) = text.split_at(text.find(['#', '?']).unwrap_or(text.len()));
                let path = path.strip_suffix(".git").unwrap_or(path);
                Self::parse(&format!("https://{path}.git{rest}"))
            }
            None => Self::parse(text),
        }
    }

    fn new(remote: &str, query: Option<&str>, fragment: &str, whole: &str) -> Result<Self> {
        let whole = redact::text(whole);
        let error = |why: String| Error::new(format!("invalid git address `{whole}`: {why}"));
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut found = Self {
            remote: remote.to_owned(),
            reference: filled(reference),
            subdir: filled(subdir.trim_matches('/')),
            ..Self::default()
        };
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (key, value) in pairs {
            found.add(&key, &value).map_err(error)?;
        }
        // What is asked for by commit alone needs no other name.
        if found.reference.is_none() {
            found.reference.clone_from(&found.checksum);
        }
        if found.reference.as_ref().is_some_and(|r| r.starts_with('-')) {
            return Err(error("a reference can't begin with `-`".into()));
        }
        if remote.contains("//-") || remote.contains("@-") || remote.starts_with('-') {
            return Err(error("a host can't begin with `-`".into()));
        }
        Ok(found)
    }

    /// Takes one part of a query.
    fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        let place = match key {
            "ref" | "tag" | "branch" => &mut self.reference,
            "subdir" => &mut self.subdir,
            "commit" | "checksum" => &mut self.checksum,
            "keep-git-dir" | "submodules" => {
                let wanted = match value {
                    "" | "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(format!("`{key}` is `true` or `false`, not `{value}`")),
                };
                let place = match key {
                    "submodules" => &mut self.submodules,
                    _ => &mut self.keep_git_dir,
                };
                *place = Some(wanted);
                return Ok(());
            }
            _ => {
                return Err(format!(
                    "unknown `{key}`: use ref, tag, branch, commit, subdir, checksum, \
                     keep-git-dir or submodules"
                ));
            }
        };
        if value.is_empty() {
            return Err(format!("`{key}` is empty"));
        }
        let value = match key {
            "tag" => format!("refs/tags/{value}"),
            "branch" => format!("refs/heads/{value}"),
            "subdir" => value.trim_matches('/').to_owned(),
            _ => value.to_owned(),
        };
        if place.as_ref().is_some_and(|known| *known != value) {
            return Err(format!("`{key}` contradicts what is said before it"));
        }
        *place = Some(value);
        Ok(())
    }

    /// Returns the remote for messages, without a password.
    pub fn shown(&self) -> String {
        redact::text(&self.remote)
    }

    /// Returns the remote's host.
    pub fn host(&self) -> Option<String> {
        match Url::parse(&self.remote) {
            Ok(url) => url.host_str().map(str::to_owned),
            Err(_) => {
                let (host, _) = self.remote.split_once(':')?;
                Some(host.rsplit('@').next().unwrap_or(host).to_owned())
            }
        }
    }

    /// Returns the remote's port, if it names one that is not its scheme's own.
    pub fn port(&self) -> Option<u16> {
        Url::parse(&self.remote).ok()?.port()
    }

    /// Tells whether the remote is reached by ssh.
    pub fn is_ssh(&self) -> bool {
        match Url::parse(&self.remote) {
            Ok(url) => matches!(url.scheme(), "ssh" | "git+ssh"),
            Err(_) => true,
        }
    }
}

/// Tells whether a reference is a whole commit's name.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns a text that has scp's form, `user@host:path`.
fn scp_remote(text: &str) -> Option<&str> {
    let (before, path) = text.split_once(':')?;
    let (user, host) = before.split_once('@')?;
    let is_word = |t: &str| {
        let mut bytes = t.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    (is_word(user) && is_word(host) && !path.is_empty() && !path.starts_with("//")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitUrl {
        GitUrl::parse_context(text).expect(text).expect(text)
    }

    #[test]
    fn both_forms() {
        let some = |text: &str| Some(text.to_owned());
        let base = GitUrl {
            remote: "https://h/r.git".into(),
            ..GitUrl::default()
        };
        let with = |change: &dyn Fn(&mut GitUrl)| {
            let mut url = base.clone();
            change(&mut url);
            url
        };
        let commit = "0123456789012345678901234567890123456789";
        for (rest, expected) in [
            ("", base.clone()),
            ("#", base.clone()),
            ("#v1", with(&|u| u.reference = some("v1"))),
            ("#:sub/dir/", with(&|u| u.subdir = some("sub/dir"))),
            (
                "#v1:sub",
                with(&|u| {
                    u.reference = some("v1");
                    u.subdir = some("sub");
                }),
            ),
            ("?ref=v1", with(&|u| u.reference = some("v1"))),
            ("?tag=v1", with(&|u| u.reference = some("refs/tags/v1"))),
            (
                "?branch=b%2Fc",
                with(&|u| u.reference = some("refs/heads/b/c")),
            ),
            (
                &format!("?commit={commit}&submodules=false"),
                with(&|u| {
                    u.reference = some(commit);
                    u.checksum = some(commit);
                    u.submodules = Some(false);
                }),
            ),
            (
                "?ref=v1&checksum=0123456&subdir=/s&keep-git-dir=1",
                with(&|u| {
                    u.reference = some("v1");
                    u.checksum = some("0123456");
                    u.subdir = some("s");
                    u.keep_git_dir = Some(true);
                }),
            ),
            (
                "?ref=v1#v1:s",
                with(&|u| {
                    u.reference = some("v1");
                    u.subdir = some("s");
                }),
            ),
        ] {
            assert_eq!(
                parsed(&format!("https://h/r.git{rest}")),
                expected,
                "{rest}"
            );
        }
    }

    #[test]
    fn remotes() {
        for (text, remote, host, ssh) in [
            (
                "git@h.example:a/b.git",
                "git@h.example:a/b.git",
                "h.example",
                true,
            ),
            ("git@h:a/b#v1:s", "git@h:a/b", "h", true),
            ("ssh://git@h:22/a/b", "ssh://git@h:22/a/b", "h", true),
            ("git://h/a", "git://h/a", "h", false),
            ("http://u:p@h:80/a.git", "http://u:p@h/a.git", "h", false),
            (
                "github.com/a/b",
                "https://github.com/a/b.git",
                "github.com",
                false,
            ),
            (
                "github.com/a/b.git#x",
                "https://github.com/a/b.git",
                "github.com",
                false,
            ),
        ] {
            let url = parsed(text);
            assert_eq!(url.remote, remote, "{text}");
            assert_eq!(url.host().as_deref(), Some(host), "{text}");
            assert_eq!(url.is_ssh(), ssh, "{text}");
        }
        assert_eq!(parsed("http://u:p@h/a.git").shown(), "http://h/a.git");
    }

    #[test]
    fn others_are_no_repositories() {
        for text in [
            "a/b",
            "./r.git",
            "/r.git",
            "https://h/r",
            "https://h/r.git.tar",
            "https://h/x?y=r.git",
            "file:///r.git",
            "C:/x",
            "a@b",
            "",
        ] {
            assert_eq!(GitUrl::parse(text).expect(text), None, "{text}");
        }
    }

    #[test]
    fn contradictions_and_options_are_refused() {
        for (text, why) in [
            ("https://h/r.git?ref=a#b", "contradicts"),
            ("https://h/r.git?tag=a&branch=a", "contradicts"),
            ("https://h/r.git?x=1", "unknown `x`"),
            ("https://h/r.git?ref=", "`ref` is empty"),
            ("https://h/r.git?submodules=maybe", "`true` or `false`"),
            ("https://h/r.git#--upload-pack=x", "can't begin with `-`"),
            ("ssh://-oProxyCommand=x/r", "can't begin with `-`"),
            ("ssh://u@-oProxyCommand=x/r", "can't begin with `-`"),
        ] {
            let error = GitUrl::parse(text).expect_err(text);
            assert!(error.chain().contains(why), "{text}: {}", error.chain());
        }
    }
}
