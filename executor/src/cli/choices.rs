//! What `--network`, `--progress` and `--isolation` choose from.
//!
//! Responsible for the words on the command line and for what they mean to the other parts. Must
//! not decide which word applies.

use clap::ValueEnum;

use crate::plan::step::Network;
use crate::progress::Mode;

/// `--network`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum NetworkChoice {
    /// What the step asks for, else the host's network
    Default,
    /// The network of this machine
    Host,
    /// None but the step's own loopback
    None,
}

impl NetworkChoice {
    pub(super) fn network(self) -> Network {
        match self {
            Self::Default | Self::Host => Network::Host,
            Self::None => Network::None,
        }
    }
}

/// `--progress`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ProgressChoice {
    /// A list on a terminal, lines elsewhere
    Auto,
    /// A list that is redrawn in place
    Tty,
    /// One line per event
    Plain,
    /// Errors only
    Quiet,
    /// One JSON object per line
    Rawjson,
}

impl From<ProgressChoice> for Mode {
    fn from(choice: ProgressChoice) -> Self {
        match choice {
            ProgressChoice::Auto => Self::Auto,
            ProgressChoice::Tty => Self::Tty,
            ProgressChoice::Plain => Self::Plain,
            ProgressChoice::Quiet => Self::Quiet,
            ProgressChoice::Rawjson => Self::RawJson,
        }
    }
}

/// Parses the name of a progress mode.
pub(super) fn parse_mode(text: &str) -> Option<Mode> {
    ProgressChoice::from_str(text, false).ok().map(Mode::from)
}

/// `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IsolationChoice {
    /// The best that this machine allows
    Auto,
    /// A range of user ids of your own
    Subids,
    /// Your own user id only; all others are emulated
    Emulated,
    /// This machine's user ids; for root only
    Host,
}
