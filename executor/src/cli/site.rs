//! What a command that takes its time has around it: signals, progress, the store.
//!
//! Responsible for setting these up in the one order that works: the spawner, where there is one,
//! is forked first; then signals are blocked; only then is there a second thread. Must not know
//! what the command does. Invariant: when the user interrupted a command, that is what its error
//! says, whatever else went wrong on the way out.

use super::environment::Environment;
use super::signals::{self, Listener};
use super::{registries, streams};
use crate::cancel::{Cancel, Cause};
use crate::config::Settings;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::event::Sender;
use crate::progress::{self, Mode};
use crate::registry::Registry;
use crate::store::Store;
use crate::store::lock::Session;

/// See the module.
#[derive(Debug)]
pub(super) struct Site<'a> {
    environment: &'a Environment,
    settings: Settings,
    cancel: Cancel,
    listener: Listener,
}

impl<'a> Site<'a> {
    /// Starts to listen to signals; a spawner has to be there already.
    pub(super) fn open(environment: &'a Environment, settings: Settings) -> Result<Self> {
        let cancel = Cancel::new();
        let listener = signals::listen(cancel.clone())?;
        Ok(Self {
            environment,
            settings,
            cancel,
            listener,
        })
    }

    /// Returns the settings.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the flag that a signal raises.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Opens the store.
    pub(super) fn session(&self) -> Result<Session> {
        Store::open(&self.settings.root)?.session()
    }

    /// Makes the client for registries; nothing is read or sent before it is used.
    pub(super) fn registry(&self) -> Registry {
        registries::client(&self.settings, self.environment, &self.cancel)
    }

    /// Does `work`, called `title` (`Building`), while its progress is shown; returns when all of
    /// it has been seen.
    ///
    /// # Errors
    /// Those of `work`; [`Kind::Interrupted`] in their place after a signal.
    pub(super) fn show<T>(
        &self,
        title: &'static str,
        mode: Mode,
        work: impl FnOnce(&Sender) -> Result<T>,
    ) -> Result<T> {
        let output = streams::progress_output(title, self.environment, self.environment.temp_dir());
        let (sender, renderer) = progress::start(mode, output).op("start progress display")?;
        self.listener.restores(&renderer);
        let result = work(&sender);
        drop(sender);
        renderer.join();
        result.map_err(|error| self.attribute(error))
    }

    /// Puts the signal in place of what it caused.
    fn attribute(&self, error: Error) -> Error {
        match self.cancel.cause() {
            Some(Cause::Signal(signal)) => {
                Error::new("interrupted").kind(Kind::Interrupted(signal))
            }
            _ => error,
        }
    }
}
