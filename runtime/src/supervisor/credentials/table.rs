//! Credentials by number.
//!
//! Responsible for giving equal credentials the same number, which a process carries where the
//! kernel hands it on to children. Must not know where that is. Invariant: a number means the same
//! credentials for as long as the table lives, so there is a limit, and nothing is ever removed.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::io::{Errno, Result};

use super::Credentials;

/// The number of the credentials that the container started with.
pub(crate) const INITIAL: u32 = 0;

/// The most different credentials of one container.
const LIMIT: usize = 65536;

/// All credentials that the processes of a container have had.
#[derive(Debug)]
pub(crate) struct Table {
    by_number: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, u32>,
    is_roots: bool,
}

impl Table {
    /// Makes a table in which [`INITIAL`] is known.
    pub(crate) fn new(initial: Credentials) -> Self {
        let initial = Arc::new(initial);
        Self {
            is_roots: is_roots(&initial),
            numbers: HashMap::from([(Arc::clone(&initial), INITIAL)]),
            by_number: vec![initial],
        }
    }

    /// Says whether no process has ever been another user's or group's than root's.
    pub(crate) fn is_roots(&self) -> bool {
        self.is_roots
    }

    /// Returns the credentials that all processes have, while there are no others.
    pub(crate) fn only(&self) -> Option<&Arc<Credentials>> {
        match self.by_number.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns the credentials of a number that the table gave out.
    pub(crate) fn get(&self, number: u32) -> Option<&Arc<Credentials>> {
        self.by_number.get(usize::try_from(number).ok()?)
    }

    /// Returns the number of credentials. `EAGAIN`, as setuid(2) has it for want of resources,
    /// when there are too many.
    pub(crate) fn number(&mut self, credentials: Credentials) -> Result<u32> {
        if let Some(&number) = self.numbers.get(&credentials) {
            return Ok(number);
        }
        if self.by_number.len() >= LIMIT {
            return Err(Errno::AGAIN);
        }
        let number = u32::try_from(self.by_number.len()).map_err(|_| Errno::AGAIN)?;
        let credentials = Arc::new(credentials);
        self.is_roots &= is_roots(&credentials);
        self.by_number.push(Arc::clone(&credentials));
        self.numbers.insert(credentials, number);
        Ok(number)
    }
}

fn is_roots(credentials: &Credentials) -> bool {
    credentials.euid == 0 && credentials.egid == 0
}
