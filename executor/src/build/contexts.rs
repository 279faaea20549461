//! Named contexts: the files that `--build-context` puts in the place of stages and images.
//!
//! Responsible for opening each when a step first needs it, once. Must not know what is copied of
//! them. Invariant: all steps of a build see one and the same commit, archive or directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::sources::Known;
use crate::context::access::Access;
use crate::context::location::Location;
use crate::context::{self, Context, Origin};
use crate::error::{Error, Kind, Result};
use crate::plan::contexts::{Layout, NamedContext};
use crate::progress::event::Sender;
use crate::store::lock::Session;

/// Files that were opened, and what is known of them from earlier builds.
#[derive(Debug)]
pub(super) struct Opened {
    /// The files.
    pub(super) context: Context,
    /// Their digests.
    pub(super) known: Known,
}

type Slot = Arc<Mutex<Option<Arc<Opened>>>>;

/// Opens named contexts; usable from any thread.
#[derive(Debug)]
pub struct Contexts<'a> {
    given: &'a BTreeMap<String, NamedContext>,
    session: &'a Session,
    progress: &'a Sender,
    access: &'a Access,
    opened: Mutex<HashMap<String, Slot>>,
}

impl<'a> Contexts<'a> {
    /// Takes the contexts by the names that the plan has for them.
    pub fn new(
        given: &'a BTreeMap<String, NamedContext>,
        session: &'a Session,
        progress: &'a Sender,
        access: &'a Access,
    ) -> Self {
        Self {
            given,
            session,
            progress,
            access,
            opened: Mutex::default(),
        }
    }

    /// Returns the layout that a name stands for, if it is one.
    pub(super) fn layout(&self, name: &str) -> Option<&'a Layout> {
        match self.given.get(name)? {
            NamedContext::Layout(layout) => Some(layout),
            NamedContext::Files(_) | NamedContext::Image(_) => None,
        }
    }

    /// Returns the files that a name stands for.
    ///
    /// # Errors
    /// Those of [`context::open_files`], each time again.
    pub(super) fn files(&self, name: &str) -> Result<Arc<Opened>> {
        let Some(NamedContext::Files(location)) = self.given.get(name) else {
            return Err(Error::new(format!("context `{name}` has no files")).kind(Kind::Internal));
        };
        let slot = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(opened.entry(name.to_owned()).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*slot {
            return Ok(Arc::clone(opened));
        }
        let vertex = self
            .progress
            .start(format!("[internal] load context {name}"));
        let tmp = self.session.scratch().dir();
        let context = match context::open_files(location, self.access, tmp) {
            Ok(context) => context,
            Err(error) => {
                let error = error.during(format!("open context `{name}`"));
                vertex.fail(&error);
                return Err(error);
            }
        };
        vertex.done();
        let identity = identity(location);
        let opened = Arc::new(Opened {
            context,
            known: Known(self.session.cache().stats(identity.as_bytes())),
        });
        *slot = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Returns what the opened ones were fetched from.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let origins = opened.values().filter_map(|slot| {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.as_ref()?.context.origin().cloned()
        });
        origins.collect()
    }

    /// Keeps the digests of the files that were read for later builds.
    pub(super) fn save(&self) -> Result<()> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in opened.values() {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(opened) = &*slot
                && !opened.context.is_private()
            {
                opened.known.save()?;
            }
        }
        Ok(())
    }
}

/// Names a context in the cache of file digests.
pub fn identity(location: &Location) -> String {
    match location {
        Location::Directory(path) => {
            let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            full.display().to_string()
        }
        Location::Stdin | Location::Url(_) | Location::Git(_) => "-".into(),
    }
}
