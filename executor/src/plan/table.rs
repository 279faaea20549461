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

/// How many things are copied when one is set.
const CHUNK: usize = 32;

/// A list in the order in which its names were first set. A clone shares it; each stage has one of
/// the stage that it stands on, so that copying them would cost the square of their number.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Table<T> {
    /// All are full but the last.
    chunks: Arc<Vec<Arc<Vec<T>>>>,
    /// Places, by name.
    sorted: Arc<Vec<u32>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            chunks: Arc::default(),
            sorted: Arc::default(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.chunks.iter().flat_map(|chunk| chunk.iter());
        f.debug_list().entries(all).finish()
    }
}

impl<T: Named + Clone> Table<T> {
    /// Returns where in `sorted` a name is, or would have to be.
    fn search(&self, name: &str) -> Result<usize, usize> {
        self.sorted
            .binary_search_by(|at| self.at(*at as usize).name().cmp(name))
    }

    /// Returns what is at a place that [`Table::find`] or [`Table::set`] has named.
    pub(super) fn at(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    /// Returns the place of a name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let found = self.search(name).ok()?;
        Some(self.sorted[found] as usize)
    }

    /// Returns what has a name.
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.find(name).map(|at| self.at(at))
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Sets what has its name, and returns the place.
    pub(super) fn set(&mut self, thing: T) -> usize {
        match self.search(thing.name()) {
            Ok(found) => {
                let at = self.sorted[found] as usize;
                let chunk = &mut Arc::make_mut(&mut self.chunks)[at / CHUNK];
                Arc::make_mut(chunk)[at % CHUNK] = thing;
                at
            }
            Err(free) => {
                let at = self.len();
                let number = u32::try_from(at).expect("fewer than 2^32 names");
                let chunks = Arc::make_mut(&mut self.chunks);
                if at.is_multiple_of(CHUNK) {
                    chunks.push(Arc::default());
                }
                Arc::make_mut(&mut chunks[at / CHUNK]).push(thing);
                insert(&mut self.sorted, free, number);
                at
            }
        }
    }

    /// Returns all, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

/// Inserts into a list that others may hold; then without a copy that is moved at once.
fn insert(list: &mut Arc<Vec<u32>>, at: usize, number: u32) {
    if let Some(own) = Arc::get_mut(list) {
        own.insert(at, number);
        return;
    }
    let mut own = Vec::with_capacity(list.len() + 4);
    own.extend_from_slice(&list[..at]);
    own.push(number);
    own.extend_from_slice(&list[at..]);
    *list = Arc::new(own);
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
        let list = |table: &Table<_>| table.iter().copied().collect::<Vec<_>>();
        assert_eq!(list(&table), [("c", 0), ("a", 1), ("b", 0), ("d", 2)]);
        assert_eq!(list(&before), [("c", 0), ("a", 0), ("b", 0)]);
        assert_eq!(table.get("a"), Some(&("a", 1)));
        assert_eq!(table.find("d"), Some(3));
        assert_eq!(before.find("d"), None);
    }

    impl Named for String {
        fn name(&self) -> &str {
            self
        }
    }

    #[test]
    fn many_names_are_found() {
        let mut tables = vec![Table::default()];
        // Each of 7 * i modulo 101, once.
        for i in 0..101 {
            let mut next: Table<String> = tables[i].clone();
            assert_eq!(next.set(format!("{}", 7 * i % 101)), i);
            tables.push(next);
        }
        for (count, table) in tables.iter().enumerate() {
            assert_eq!((table.len(), table.iter().count()), (count, count));
            for i in 0..101 {
                let found = table.find(&format!("{}", 7 * i % 101));
                assert_eq!(found, (i < count).then_some(i));
            }
        }
    }
}
