//! `sandcrab doctor`: what this machine and user can do.

use crate::config::Settings;
use crate::error::Result;

/// The command line of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Returns the report.
pub(super) fn run(_args: &Args, _settings: &Settings) -> Result<String> {
    Ok(String::new())
}
