//! Registry credentials: where they are kept and which one fits.
//!
//! Responsible for looking a registry's credential up in Docker's and the containers tools' files
//! and helper programs, and for saving and erasing one there. Must not talk to registries, and
//! must not read the environment: [`CredentialSources`] is filled in by the caller. Invariant: no
//! secret appears in a `Debug` or `Display` text or in an error.

mod auth_file;
mod helper;
mod keychain;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

pub use auth_file::{Erased, Saved, erase, save};
pub use keychain::find_origin;
pub(crate) use keychain::{Found, Keychain};

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Tells whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the secret; the caller must not show it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What one can show to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password or an access token.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, which the registry's token service exchanges (OAuth 2).
    IdentityToken(Secret),
    /// A bearer token, sent as it is.
    RegistryToken(Secret),
}

/// A file with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is an error that it does not exist.
    pub required: bool,
}

/// Where to look for credentials, most important first.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// Content of `DOCKER_AUTH_CONFIG`: a config document; looked into before the files.
    pub inline: Option<Secret>,
    /// The files.
    pub files: Vec<AuthFile>,
    /// Where `login` and `logout` write.
    pub target: Option<PathBuf>,
    /// `PATH` for the `docker-credential-*` programs; `None` means the process's own.
    pub helper_path: Option<OsString>,
}

impl CredentialSources {
    /// Works out the sources from environment variables, which `variable` reads; `authfile` is an
    /// explicit choice and excludes all others. `uid` is the caller's user id.
    ///
    /// Order: `DOCKER_AUTH_CONFIG`, `$REGISTRY_AUTH_FILE`, Docker's `config.json`, the containers
    /// tools' `auth.json` (containers-auth.json(5)). `login` writes to the first of these that is
    /// a file, so that what it saves is what is found.
    pub fn from_variables(
        authfile: Option<PathBuf>,
        uid: u32,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let variable = |name: &str| variable(name).filter(|v| !v.is_empty());
        let helper_path = variable("PATH");
        if let Some(path) = authfile {
            return Self {
                inline: None,
                target: Some(path.clone()),
                files: vec![AuthFile {
                    path,
                    required: true,
                }],
                helper_path,
            };
        }
        let home = variable("HOME").map(PathBuf::from);
        let in_home = |below: &str| home.as_ref().map(|h| h.join(below));
        let docker = match variable("DOCKER_CONFIG") {
            Some(dir) => Some(PathBuf::from(dir).join("config.json")),
            None => in_home(".docker/config.json"),
        };
        let mut paths: Vec<PathBuf> = Vec::new();
        let chosen = variable("REGISTRY_AUTH_FILE").map(PathBuf::from);
        let excludes_defaults = chosen.is_some();
        paths.extend(chosen);
        paths.extend(docker);
        if !excludes_defaults {
            paths.push(match variable("XDG_RUNTIME_DIR") {
                Some(dir) => PathBuf::from(dir).join("containers/auth.json"),
                None => PathBuf::from(format!("/run/containers/{uid}/auth.json")),
            });
            paths.extend(match variable("XDG_CONFIG_HOME") {
                Some(dir) => Some(PathBuf::from(dir).join("containers/auth.json")),
                None => in_home(".config/containers/auth.json"),
            });
        }
        Self {
            inline: variable("DOCKER_AUTH_CONFIG")
                .map(|v| Secret::new(v.to_string_lossy().into_owned())),
            target: paths.first().cloned(),
            files: paths
                .into_iter()
                .map(|path| AuthFile {
                    path,
                    required: false,
                })
                .collect(),
            helper_path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(authfile: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
        let sources = CredentialSources::from_variables(authfile.map(PathBuf::from), 7, |name| {
            let (_, value) = variables.iter().find(|(n, _)| *n == name)?;
            Some(OsString::from(value))
        });
        let files = sources.files.iter().map(|f| f.path.display().to_string());
        let inline = sources.inline.iter().map(|_| "inline".to_owned());
        inline.chain(files).collect()
    }

    #[test]
    fn follows_the_variables_that_docker_and_podman_know() {
        assert_eq!(
            sources(None, &[("HOME", "/h")]),
            [
                "/h/.docker/config.json",
                "/run/containers/7/auth.json",
                "/h/.config/containers/auth.json"
            ]
        );
        assert_eq!(
            sources(
                None,
                &[
                    ("HOME", "/h"),
                    ("DOCKER_CONFIG", "/d"),
                    ("XDG_RUNTIME_DIR", "/r"),
                    ("XDG_CONFIG_HOME", "/c"),
                    ("DOCKER_AUTH_CONFIG", "{}"),
                ]
            ),
            [
                "inline",
                "/d/config.json",
                "/r/containers/auth.json",
                "/c/containers/auth.json"
            ]
        );
        assert_eq!(
            sources(None, &[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")]),
            ["/a.json", "/h/.docker/config.json"]
        );
        assert_eq!(
            sources(Some("/x"), &[("HOME", "/h"), ("DOCKER_AUTH_CONFIG", "{}")]),
            ["/x"]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential::Password {
            username: "me".into(),
            password: Secret::new("hunter2"),
        };
        let sources = CredentialSources {
            inline: Some(Secret::new("hunter2")),
            ..CredentialSources::default()
        };
        let text = format!("{credential:?} {sources:?}");
        assert!(text.contains("me") && !text.contains("hunter2"), "{text}");
    }
}
