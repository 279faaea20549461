//! Runs the stages of a build: each when those it needs are done, in parallel where they allow.
//!
//! Responsible for order, for the number of steps that run at once, and for stopping the others
//! when one fails. Must not know what a stage does. Invariant: the error that is reported is the
//! first that happened, not a cancellation that it caused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::cancel::{Cancel, Cause};
use crate::error::{Error, Kind, Result};
use crate::plan::step::{StageHead, StageIndex};

/// The results of the stages that are done; `None` for one that failed.
struct Board<T> {
    results: Mutex<BTreeMap<StageIndex, Option<T>>>,
    changed: Condvar,
}

impl<T: Clone> Board<T> {
    fn post(&self, stage: StageIndex, result: Option<T>) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.insert(stage, result);
        self.changed.notify_all();
    }

    fn wait(&self, stage: StageIndex) -> Option<T> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = results.get(&stage) {
                return result.clone();
            }
            results = self
                .changed
                .wait(results)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A stage's view of the stages before it.
pub struct Earlier<'a, T> {
    board: &'a Board<T>,
    known: &'a [StageHead],
    cancel: &'a Cancel,
}

impl<T: Clone> Earlier<'_, T> {
    /// Waits for an earlier stage and returns its result.
    ///
    /// # Errors
    /// The cancellation, when that stage failed; [`Kind::Internal`] when it is not an earlier one.
    pub fn result(&self, stage: StageIndex) -> Result<T> {
        if !self.known.iter().any(|head| head.index == stage) {
            return Err(Error::new(format!("stage {stage} is not built")).kind(Kind::Internal));
        }
        self.board.wait(stage).ok_or_else(|| {
            let cancelled = self.cancel.check().err();
            cancelled.unwrap_or_else(|| Error::new(format!("stage {stage} failed")))
        })
    }
}

impl<T> fmt::Debug for Earlier<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Earlier").finish_non_exhaustive()
    }
}

/// Runs `work` for each stage, which come ordered so that each follows those it needs, and
/// returns the last one's result.
///
/// # Errors
/// The first error of any stage; the cancellation when that came first.
pub fn run<T: Clone + Send>(
    stages: &[StageHead],
    cancel: &Cancel,
    work: impl Fn(&StageHead, &Earlier<'_, T>) -> Result<T> + Sync,
) -> Result<T> {
    let board = Board {
        results: Mutex::new(BTreeMap::new()),
        changed: Condvar::new(),
    };
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let run_one = |position: usize| {
        let stage = &stages[position];
        let earlier = Earlier {
            board: &board,
            known: &stages[..position],
            cancel,
        };
        let result = match cancel.check().and_then(|()| work(stage, &earlier)) {
            Ok(result) => Some(result),
            Err(error) => {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if failure.is_none() {
                    *failure = Some(error);
                    drop(failure);
                    cancel.raise(Cause::Failure);
                }
                None
            }
        };
        board.post(stage.index, result.clone());
        result
    };
    let last = stages
        .len()
        .checked_sub(1)
        .ok_or_else(|| Error::new("the build has no stages").kind(Kind::Internal))?;
    let result = std::thread::scope(|scope| {
        for position in 0..last {
            let run_one = &run_one;
            scope.spawn(move || run_one(position));
        }
        run_one(last)
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (failure, result) {
        (None, Some(result)) => Ok(result),
        (Some(error), _) => Err(error),
        (None, None) => Err(Error::new("the last stage has no result").kind(Kind::Internal)),
    }
}

/// A number of places, each taken for the time of one step.
#[derive(Debug)]
pub struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A taken place.
#[derive(Debug)]
pub struct Place<'a>(&'a Places);

impl Places {
    /// Makes this many places, at least one.
    pub fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(count.max(1)),
            freed: Condvar::new(),
        }
    }

    /// Waits for a free place and takes it.
    pub fn take(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::platform::Platform;
    use crate::plan::step::Base;

    fn stage(index: StageIndex, needs: &[StageIndex]) -> StageHead {
        StageHead {
            index,
            name: None,
            base: Base::Scratch,
            platform: Platform::host(),
            span: 0..0,
            display: String::new(),
            needs: needs.to_vec(),
            images: Vec::new(),
        }
    }

    #[test]
    fn each_stage_sees_the_results_it_needs() {
        let stages = [stage(0, &[]), stage(1, &[]), stage(3, &[0, 1])];
        let sum = run(&stages, &Cancel::new(), |stage, earlier| {
            let needed: usize = stage
                .needs
                .iter()
                .map(|s| earlier.result(*s).expect("built"))
                .sum();
            Ok(stage.index + 10 + needed)
        });
        assert_eq!(sum.expect("built"), 13 + 10 + 11);
    }

    #[test]
    fn the_first_error_is_reported_and_raises_the_flag() {
        let stages = [stage(0, &[]), stage(1, &[0]), stage(2, &[1])];
        let cancel = Cancel::new();
        let result = run(&stages, &cancel, |stage, earlier| {
            for needed in &stage.needs {
                earlier.result(*needed)?;
            }
            if stage.index == 1 {
                return Err(Error::new("broken"));
            }
            Ok(())
        });
        assert_eq!(result.expect_err("an error").to_string(), "broken");
        assert_eq!(cancel.cause(), Some(Cause::Failure));
    }

    #[test]
    fn a_later_stage_is_not_waited_for() {
        let stages = [stage(0, &[]), stage(1, &[])];
        let result = run(&stages, &Cancel::new(), |stage, earlier| {
            if stage.index == 0 {
                earlier.result(1)
            } else {
                Ok(())
            }
        });
        assert_eq!(result.expect_err("an error").get_kind(), Kind::Internal);
    }

    #[test]
    fn places_are_given_back() {
        let places = Places::new(1);
        drop(places.take());
        drop(places.take());
    }
}
