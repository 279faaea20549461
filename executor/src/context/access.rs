//! What of the caller's is used where files are fetched.
//!
//! Responsible for which secret goes to which host, by BuildKit's names, and for the ssh agent. Must not
//! fetch. Invariant: what is for one host is given for no other, and nothing here is part of anything's
//! `Debug` form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::git::{GitOptions, GitUrl};
use super::http::FetchOptions;
use crate::cancel::Cancel;

/// Secrets that are for servers, and an ssh agent.
#[derive(Clone, Default)]
pub struct Access {
    secrets: BTreeMap<String, String>,
    /// Socket of the ssh agent.
    pub ssh_agent: Option<PathBuf>,
    /// The caller's file of known hosts; ssh's own choice without it.
    pub known_hosts: Option<PathBuf>,
    /// Leave `.git` in contexts that are repositories.
    pub keep_git_dir: bool,
    /// Ends transfers.
    pub cancel: Cancel,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("secrets", &self.secrets.keys())
            .field("ssh_agent", &self.ssh_agent)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Takes those of the caller's secrets that are meant for servers.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let secrets = secrets.into_iter().filter_map(|(id, value)| {
            let meant = id.starts_with("GIT_AUTH_") || id.starts_with("HTTP_AUTH_");
            let value = std::str::from_utf8(value).ok().filter(|_| meant)?;
            Some((
                id.to_owned(),
                value.trim_end_matches(['\r', '\n']).to_owned(),
            ))
        });
        Self {
            secrets: secrets.collect(),
            ..Self::default()
        }
    }

    /// Returns how a repository is fetched.
    pub fn git(&self, url: &GitUrl) -> GitOptions {
        GitOptions {
            keep_git_dir: url.keep_git_dir.unwrap_or(self.keep_git_dir),
            ssh_agent: self.ssh_agent.clone(),
            known_hosts: self.known_hosts.clone(),
            authorization: self.git_header(url),
            cancel: self.cancel.clone(),
        }
    }

    /// Returns how a URL is fetched.
    pub fn http(&self, url: &str) -> FetchOptions {
        FetchOptions {
            authorization: self.http_header(url),
            ..FetchOptions::default()
        }
    }

    /// As BuildKit's `source/git`: what names the host first, and of these the whole header.
    fn git_header(&self, url: &GitUrl) -> Option<String> {
        let url = Url::parse(&url.remote).ok()?;
        let host = url
            .host_str()
            .filter(|_| url.scheme().starts_with("http"))?;
        let with_port = url.port().map(|port| format!(".{host}:{port}"));
        let places = with_port.into_iter();
        places
            .chain([format!(".{host}"), String::new()])
            .find_map(|place| {
                let secret = |name: &str| self.secrets.get(&format!("{name}{place}"));
                if let Some(header) = secret("GIT_AUTH_HEADER") {
                    return Some(header.clone());
                }
                let token = secret("GIT_AUTH_TOKEN")?;
                let pair = STANDARD.encode(format!("x-access-token:{token}"));
                Some(format!("basic {pair}"))
            })
    }

    /// As BuildKit's `source/http`, where a token wins.
    fn http_header(&self, url: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        let secret = |name: &str| self.secrets.get(&format!("{name}_{host}"));
        match secret("HTTP_AUTH_TOKEN") {
            Some(token) => Some(format!("Bearer {token}")),
            None => secret("HTTP_AUTH_HEADER").cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(secrets: &[(&str, &str)]) -> Access {
        Access::new(secrets.iter().map(|(id, value)| (*id, value.as_bytes())))
    }

    #[test]
    fn repositories() {
        let token = |text: &str| format!("basic {}", STANDARD.encode(text));
        let all = [
            ("GIT_AUTH_HEADER.h", "host's header\n"),
            ("GIT_AUTH_TOKEN.h", "host's token"),
            ("GIT_AUTH_HEADER", "header"),
            ("GIT_AUTH_TOKEN", "token\n"),
        ];
        let of = |secrets: &[(&str, &str)], url: &str| {
            let url = GitUrl::parse(url).expect("valid").expect("git");
            access(secrets).git(&url).authorization
        };
        let url = "https://h/r.git";
        assert_eq!(of(&all, url).as_deref(), Some("host's header"));
        let expected = token("x-access-token:host's token");
        assert_eq!(of(&all[1..], url), Some(expected.clone()));
        assert_eq!(of(&all[1..], "http://h:81/r.git"), Some(expected));
        assert_eq!(of(&all[2..], url).as_deref(), Some("header"));
        assert_eq!(of(&all[3..], url), Some(token("x-access-token:token")));
        assert_eq!(of(&all[..2], "https://other/r.git"), None);
        let port = [("GIT_AUTH_TOKEN.h:81", "81")];
        assert_eq!(
            of(&port, "http://h:81/r.git"),
            Some(token("x-access-token:81"))
        );
        assert_eq!(of(&port, url), None);
        for remote in ["git@h:r", "ssh://h/r", "git://h/r"] {
            assert_eq!(of(&all, remote), None, "{remote}");
        }
    }

    #[test]
    fn urls() {
        let all = [
            ("HTTP_AUTH_TOKEN_h", "token\n"),
            ("HTTP_AUTH_HEADER_h", "header"),
            ("HTTP_AUTH_TOKEN_::1", "six"),
        ];
        let of = |secrets: &[(&str, &str)], url: &str| access(secrets).http(url).authorization;
        assert_eq!(of(&all, "https://h:81/f").as_deref(), Some("Bearer token"));
        assert_eq!(of(&all[1..], "https://h/f").as_deref(), Some("header"));
        assert_eq!(of(&all, "http://[::1]:8/f").as_deref(), Some("Bearer six"));
        assert_eq!(of(&all, "https://other/f"), None);
    }

    #[test]
    fn no_value_is_shown() {
        let access = access(&[("GIT_AUTH_TOKEN", "hunter2"), ("other", "x")]);
        let text = format!("{access:?}");
        assert!(
            text.contains("GIT_AUTH_TOKEN") && !text.contains("other"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
