//! From settings and environment to a registry client.
//!
//! Responsible for what the commands that talk to registries have in common. Must not talk to
//! one. Invariant: credentials are named here and read by the client, when a registry wants some.

use super::environment::Environment;
use crate::cancel::Cancel;
use crate::config::Settings;
use crate::registry::credentials::CredentialSources;
use crate::registry::{Registry, RegistryOptions};

/// Returns where credentials are.
pub(super) fn sources(settings: &Settings, environment: &Environment) -> CredentialSources {
    let authfile = settings.authfile.clone();
    CredentialSources::from_variables(authfile, environment.uid(), |name| environment.get(name))
}

/// Makes the client of a command.
pub(super) fn client(settings: &Settings, environment: &Environment, cancel: &Cancel) -> Registry {
    Registry::new(RegistryOptions {
        credentials: sources(settings, environment),
        insecure: settings.insecure_registries.clone(),
        cancel: cancel.clone(),
        ..RegistryOptions::default()
    })
}

/// Returns the registry that a user names, `docker.io` if none; `https://` and what follows the
/// host are what browsers add.
pub(super) fn canonical(name: Option<&str>) -> String {
    let name = name.unwrap_or("docker.io");
    let bare = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name);
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io".into(),
        host => host.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_as_users_write_them() {
        for (text, wanted) in [
            (None, "docker.io"),
            (Some("docker.io"), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("https://Quay.io/"), "quay.io"),
        ] {
            assert_eq!(canonical(text), wanted);
        }
    }
}
