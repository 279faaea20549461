//! Lists of named things that many hold and few change.
//!
//! Responsible for order, for finding a name without a search of the whole list, and for copies
//! that cost nothing until one of them changes. Must not know what the things are. Invariant: each
//! name is there once, and keeps the place where it was first set.

use std::fmt;
use std::sync::Arc;

/// Something with a name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

/// A list in the order in which its names were first set. A clone shares it; each stage has one of
/// the stage that it stands on, so that copying them would cost the square of their number.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Table<T> {
    list: Arc<Vec<T>>,
    /// Places in `list`, by name.
    sorted: Arc<Vec<u32>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            list: Arc::default(),
            sorted: Arc::default(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter()).finish()
    }
}

impl<T: Named + Clone> Table<T> {
    /// Returns where in `sorted` a name is, or would have to be.
    fn search(&self, name: &str) -> Result<usize, usize> {
        self.sorted
            .binary_search_by(|at| self.list[*at as usize].name().cmp(name))
    }

    /// Returns the place of a name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let found = self.search(name).ok()?;
        Some(self.sorted[found] as usize)
    }

    /// Returns what has a name.
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.find(name).map(|at| &self.list[at])
    }

    /// Sets what has its name, and returns the place.
    pub(super) fn set(&mut self, thing: T) -> usize {
        match self.search(thing.name()) {
            Ok(found) => {
                let at = self.sorted[found] as usize;
                Arc::make_mut(&mut self.list)[at] = thing;
                at
            }
            Err(free) => {
                let at = self.list.len();
                let number = u32::try_from(at).expect("fewer than 2^32 names");
                Arc::make_mut(&mut self.list).push(thing);
                Arc::make_mut(&mut self.sorted).insert(free, number);
                at
            }
        }
    }

    /// Returns all, in order.
    pub(super) fn list(&self) -> &[T] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Named for (&'static str, u8) {
        fn name(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn names_keep_their_places_and_copies_their_values() {
        let mut table = Table::default();
        for name in ["c", "a", "b"] {
            table.set((name, 0));
        }
        let before = table.clone();
        assert_eq!(table.set(("a", 1)), 1);
        assert_eq!(table.set(("d", 2)), 3);
        assert_eq!(table.list(), [("c", 0), ("a", 1), ("b", 0), ("d", 2)]);
        assert_eq!(before.list(), [("c", 0), ("a", 0), ("b", 0)]);
        assert_eq!(table.get("a"), Some(&("a", 1)));
        assert_eq!(table.find("d"), Some(3));
        assert_eq!(before.find("d"), None);
    }
}
