//! `sandcrab logout`: forgets a credential.
//!
//! Responsible for erasing where `login` saves, and for telling when the registry's credential is
//! still found elsewhere. Must not talk to the registry: its tokens end by themselves.

use super::environment::Environment;
use super::registries;
use crate::config::Settings;
use crate::error::{Error, Kind, Result};
use crate::registry::credentials::{Erased, erase, find_origin};

/// The command line of `logout`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Registry to log out from [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    server: Option<String>,

    /// File with credentials, in the format of docker's config.json
    #[arg(long, value_name = "FILE")]
    pub(super) authfile: Option<std::path::PathBuf>,
}

/// Logs out and returns what to tell the user.
///
/// # Errors
/// When the file or the helper program can't be used.
pub(super) fn run(args: &Args, settings: &Settings, environment: &Environment) -> Result<String> {
    let registry = registries::canonical(args.server.as_deref());
    let mut settings = settings.clone();
    if args.authfile.is_some() {
        settings.authfile.clone_from(&args.authfile);
    }
    let sources = registries::sources(&settings, environment);
    let target = sources.target.clone().ok_or_else(|| {
        Error::new("no credentials: there is no home directory").kind(Kind::Usage)
    })?;
    let mut told = match erase(&target, &registry, sources.helper_path.as_deref())? {
        Erased::Credential => format!("logged out from {registry}\n"),
        Erased::Nothing => format!("not logged in to {registry}\n"),
    };
    if let Some(origin) = find_origin(&sources, &registry)? {
        told.push_str(&format!(
            "warning: {origin} still has credentials for {registry}\n"
        ));
    }
    Ok(told)
}
