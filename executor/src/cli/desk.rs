//! What commands that work in the store have around them.
//!
//! Responsible for the order in which a command starts: the spawner while there is one thread,
//! then the signals, then the display; and for the end: the display is finished before anything
//! else is printed, and the session leaves nothing behind. Must not do a command's work.

use std::path::PathBuf;

use runtime::identity::{self, Choice};
use runtime::spawner::Spawner;

use super::environment::Environment;
use super::signals::{self, Listener};
use super::{IsolationChoice, streams};
use crate::build::jobs::{self, MeasureTask, RemoveTask, Reply, Task};
use crate::build::worker::Worker;
use crate::cancel::Cancel;
use crate::config::Settings;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::progress::event::Sender;
use crate::progress::{self, Mode};
use crate::store::Store;
use crate::store::lock::Session;
use crate::store::measure::Size;

/// A command that has started.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) settings: Settings,
    pub(super) cancel: Cancel,
    listener: Listener,
    spawner: Option<Spawner>,
    isolation: IsolationChoice,
}

impl Desk {
    /// Starts a command that may need jobs; the process has one thread still.
    pub(super) fn start(settings: Settings, isolation: IsolationChoice) -> Result<Self> {
        let spawner = Spawner::start(jobs::handle).op("start spawner")?;
        let cancel = Cancel::new();
        let listener = signals::listen(cancel.clone())?;
        Ok(Self {
            settings,
            cancel,
            listener,
            spawner: Some(spawner),
            isolation,
        })
    }

    /// Opens the store.
    pub(super) fn store(&self) -> Result<Store> {
        Store::open(&self.settings.root)
    }

    /// Takes the way to the jobs, under the identity that was asked for.
    pub(super) fn worker(&mut self) -> Result<Worker> {
        let choice = match self.isolation {
            IsolationChoice::Auto => Choice::Auto,
            IsolationChoice::Subids => Choice::Subids,
            IsolationChoice::Emulated => Choice::Emulated,
            IsolationChoice::Host => Choice::Host,
        };
        let plan = identity::detect(choice).map_err(|e| {
            Error::new("choose ids for the sandbox")
                .source(e)
                .hint("`sandcrab doctor` tells what this machine allows")
        })?;
        let spawner = self
            .spawner
            .take()
            .ok_or_else(|| Error::new("the spawner is in use").kind(Kind::Internal))?;
        Worker::new(spawner, &plan, self.cancel.clone())
    }

    /// Runs `work` under a display, which is finished when this returns; `title` says what is
    /// done (`Building`).
    pub(super) fn show<T>(
        &self,
        title: &'static str,
        mode: Mode,
        environment: &Environment,
        work: impl FnOnce(&Sender) -> T,
    ) -> Result<T> {
        let spool = self.settings.temp_dir.clone();
        let out = streams::progress_output(title, environment, spool);
        let (sender, renderer) = progress::start(mode, out).op("start display")?;
        self.listener.restores(&renderer);
        let result = work(&sender);
        drop(sender);
        renderer.join();
        Ok(result)
    }
}

/// Removes trees that belong to other ids.
pub(super) fn remove(worker: &Worker, paths: &[PathBuf]) -> Result<()> {
    let task = Task::Remove(RemoveTask {
        paths: paths.to_vec(),
    });
    worker.submit_always(&task).map(drop)
}

/// Measures trees that belong to other ids.
pub(super) fn measure(worker: &Worker, paths: &[PathBuf]) -> Result<Vec<Size>> {
    let task = Task::Measure(MeasureTask {
        paths: paths.to_vec(),
    });
    match worker.submit(&task, &[])? {
        Reply::Measured(sizes) => Ok(sizes),
        _ => Err(Error::new("unexpected reply to measuring").kind(Kind::Internal)),
    }
}

/// Ends a session: what it did not finish goes, also after a failure or a cancellation.
pub(super) fn clear(session: &Session, worker: &Worker) -> Result<()> {
    session.clear(&|paths| remove(worker, paths))
}
