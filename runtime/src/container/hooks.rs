//! Hooks that run in the runtime's own namespaces.
//!
//! Responsible for which lists run at which point and with which state. Must not run them itself.

use super::Container;
use crate::error::Result;
use crate::hooks;
use crate::spec::{Hook, Spec};
use crate::state::Status;

impl Container<'_> {
    /// Runs hooks of the runtime's namespaces. `name` is the list's.
    pub(super) fn run_hooks(&self, name: &str, list: &[Hook], status: Status) -> Result<()> {
        if list.is_empty() {
            return Ok(());
        }
        let bundle = Some(self.record.bundle.as_path());
        hooks::run(list, &self.document(status)?, bundle).map_err(|error| error.within(name))
    }

    /// Runs the hooks of a container that is gone; what fails is said and changes nothing
    /// (config.md, "poststop").
    pub(super) fn run_last_hooks(&self, spec: &Spec, warn: &mut dyn FnMut(String)) {
        let Some(hooks) = &spec.hooks else {
            return;
        };
        for hook in &hooks.poststop {
            let run = self.document(Status::Stopped);
            let list = std::slice::from_ref(hook);
            let bundle = Some(self.record.bundle.as_path());
            let run = run.and_then(|state| hooks::run(list, &state, bundle));
            if let Err(error) = run {
                warn(describe(&error.within("poststop")));
            }
        }
    }
}

/// An error with its cause, on one line.
pub(super) fn describe(error: &crate::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
