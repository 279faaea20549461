//! Credentials by number.
//!
//! Responsible for giving equal credentials the same number, which a process carries where the
//! kernel hands it on to children. Must not know where that is. Invariant: a number means the same
//! credentials for as long as the table lives, so nothing is ever removed, and there are limits to how
//! many there are and to what their lists of groups take.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustix::io::{Errno, Result};

use super::{Credentials, GROUPS};

/// The number of the credentials that the container started with.
pub(crate) const INITIAL: u32 = 0;

/// The most different credentials of one container.
const LIMIT: usize = 65536;

/// The most bytes that all different lists of groups of one container take: those of the longest lists
/// that 64 processes can have. The kernel charges them to who sets them; here the job has them.
pub(crate) const GROUP_BYTES: usize = 64 * GROUPS * size_of::<u32>();

/// What a list takes besides its groups, at least.
const OVERHEAD: usize = 64;

/// All credentials that the processes of a container have had.
#[derive(Debug)]
pub(crate) struct Table {
    by_number: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, u32>,
    /// Each list of groups once.
    lists: HashSet<Arc<[u32]>>,
    group_bytes: usize,
    is_roots: bool,
}

impl Table {
    /// Makes a table in which [`INITIAL`] is known.
    pub(crate) fn new(initial: Credentials) -> Self {
        let initial = Arc::new(initial);
        Self {
            is_roots: is_roots(&initial),
            numbers: HashMap::from([(Arc::clone(&initial), INITIAL)]),
            lists: HashSet::from([Arc::clone(&initial.groups)]),
            // The step's user has them whatever they take.
            group_bytes: 0,
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
    /// when there are too many, or their groups take too much.
    pub(crate) fn number(&mut self, mut credentials: Credentials) -> Result<u32> {
        if let Some(&number) = self.numbers.get(&credentials) {
            return Ok(number);
        }
        if self.by_number.len() >= LIMIT {
            return Err(Errno::AGAIN);
        }
        let number = u32::try_from(self.by_number.len()).map_err(|_| Errno::AGAIN)?;
        credentials.groups = self.share(credentials.groups)?;
        let credentials = Arc::new(credentials);
        self.is_roots &= is_roots(&credentials);
        self.by_number.push(Arc::clone(&credentials));
        self.numbers.insert(credentials, number);
        Ok(number)
    }

    /// Returns a list of groups that is kept but once.
    fn share(&mut self, groups: Arc<[u32]>) -> Result<Arc<[u32]>> {
        if let Some(known) = self.lists.get(&groups) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.group_bytes + size_of_val(&*groups) + OVERHEAD;
        if bytes > GROUP_BYTES {
            return Err(Errno::AGAIN);
        }
        self.group_bytes = bytes;
        self.lists.insert(Arc::clone(&groups));
        Ok(groups)
    }
}

fn is_roots(credentials: &Credentials) -> bool {
    credentials.euid == 0 && credentials.egid == 0
}
