//! Runs the stages of a build: each when those it needs are done, in parallel where they allow.
//!
//! Responsible for order, for the number of steps that run at once, and for stopping the others
//! when one fails. Must not know what a stage does. Invariant: the error that is reported is the
//! first that happened, not a cancellation that it caused.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use crate::cancel::{Cancel, Cause};
use crate::error::{Error, Kind, Result};
use crate::plan::step::{StageHead, StageIndex};

/// What became of the stages that have begun; `None` for one that is at work.
struct Board<T> {
    /// A result is `None` when the stage failed.
    stages: Mutex<BTreeMap<StageIndex, Option<Option<T>>>>,
    changed: Condvar,
}

impl<T: Clone> Board<T> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StageIndex, Option<Option<T>>>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a stage begins; `false` when it has begun before.
    fn claim(&self, stage: StageIndex) -> bool {
        match self.lock().entry(stage) {
            btree_map::Entry::Occupied(_) => false,
            btree_map::Entry::Vacant(free) => {
                free.insert(None);
                true
            }
        }
    }

    fn post(&self, stage: StageIndex, result: Option<T>) {
        self.lock().insert(stage, Some(result));
        self.changed.notify_all();
    }

    fn wait(&self, stage: StageIndex) -> Option<T> {
        let mut stages = self.lock();
        loop {
            if let Some(Some(result)) = stages.get(&stage) {
                return result.clone();
            }
            stages = self
                .changed
                .wait(stages)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A stage's view of the stages before it.
pub struct Earlier<'a, T> {
    crew: &'a Crew<'a, T>,
    /// The stage whose view it is.
    index: StageIndex,
    /// Starts one of the spare stages, by its place among them.
    start: &'a (dyn Fn(usize) + Sync),
}

impl<T: Clone> Earlier<'_, T> {
    /// Begins an earlier stage unless it has begun: one that turned out to be needed only now.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it is not an earlier one.
    pub fn begin(&self, stage: StageIndex) -> Result<()> {
        let crew = self.crew;
        let known = |heads: &[StageHead]| heads.iter().position(|head| head.index == stage);
        if stage < self.index && known(crew.stages).is_some() {
            return Ok(());
        }
        let Some(found) = known(crew.spare).filter(|_| stage < self.index) else {
            return Err(Error::new(format!("stage {stage} is not built")).kind(Kind::Internal));
        };
        if crew.board.claim(stage) {
            (self.start)(found);
        }
        Ok(())
    }

    /// Waits for an earlier stage and returns its result.
    ///
    /// # Errors
    /// The cancellation, when that stage failed; [`Kind::Internal`] when it is not an earlier one.
    pub fn result(&self, stage: StageIndex) -> Result<T> {
        self.begin(stage)?;
        self.crew.board.wait(stage).ok_or_else(|| {
            let cancelled = self.crew.cancel.check().err();
            cancelled.unwrap_or_else(|| Error::new(format!("stage {stage} failed")))
        })
    }
}

impl<T> fmt::Debug for Earlier<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Earlier").finish_non_exhaustive()
    }
}

/// What all stages of a build share.
struct Crew<'a, T> {
    stages: &'a [StageHead],
    spare: &'a [StageHead],
    work: &'a (dyn Fn(&StageHead, &Earlier<'_, T>) -> Result<T> + Sync),
    board: Board<T>,
    failure: Mutex<Option<Error>>,
    cancel: &'a Cancel,
}

impl<T: Clone + Send> Crew<'_, T> {
    /// Runs a stage in this thread.
    fn run(&self, head: &StageHead, start: &(dyn Fn(usize) + Sync)) -> Option<T> {
        let earlier = Earlier {
            crew: self,
            index: head.index,
            start,
        };
        let result = match self
            .cancel
            .check()
            .and_then(|()| (self.work)(head, &earlier))
        {
            Ok(result) => Some(result),
            Err(error) => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                if failure.is_none() {
                    *failure = Some(error);
                    drop(failure);
                    self.cancel.raise(Cause::Failure);
                }
                None
            }
        };
        self.board.post(head.index, result.clone());
        result
    }
}

/// Runs a stage in a thread of its own.
fn start<'scope, 'env, T: Clone + Send>(
    scope: &'scope Scope<'scope, 'env>,
    crew: &'env Crew<'env, T>,
    head: &'env StageHead,
) {
    scope.spawn(move || work(scope, crew, head));
}

/// Runs a stage in this thread, and those that it turns out to need in others.
fn work<'scope, 'env, T: Clone + Send>(
    scope: &'scope Scope<'scope, 'env>,
    crew: &'env Crew<'env, T>,
    head: &'env StageHead,
) -> Option<T> {
    crew.run(head, &|spare| start(scope, crew, &crew.spare[spare]))
}

/// Runs `work` for each stage, which come ordered so that each follows those it needs, and
/// returns the last one's result. Those of `spare` run when another asks for them.
///
/// # Errors
/// The first error of any stage; the cancellation when that came first.
pub fn run<T: Clone + Send>(
    stages: &[StageHead],
    spare: &[StageHead],
    cancel: &Cancel,
    work_on: impl Fn(&StageHead, &Earlier<'_, T>) -> Result<T> + Sync,
) -> Result<T> {
    let (last, others) = stages
        .split_last()
        .ok_or_else(|| Error::new("the build has no stages").kind(Kind::Internal))?;
    let crew = Crew {
        stages,
        spare,
        work: &work_on,
        board: Board {
            stages: Mutex::new(BTreeMap::new()),
            changed: Condvar::new(),
        },
        failure: Mutex::new(None),
        cancel,
    };
    let result = std::thread::scope(|scope| {
        for head in others {
            start(scope, &crew, head);
        }
        work(scope, &crew, last)
    });
    let failure = (crew.failure.into_inner()).unwrap_or_else(PoisonError::into_inner);
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
        let sum = run(&stages, &[], &Cancel::new(), |stage, earlier| {
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
        let result = run(&stages, &[], &cancel, |stage, earlier| {
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
        let result = run(&stages, &[], &Cancel::new(), |stage, earlier| {
            if stage.index == 0 {
                earlier.result(1)
            } else {
                Ok(())
            }
        });
        assert_eq!(result.expect_err("an error").get_kind(), Kind::Internal);
    }

    #[test]
    fn a_spare_stage_runs_once_when_it_is_asked_for() {
        let stages = [stage(3, &[]), stage(5, &[3])];
        let spare = [stage(0, &[]), stage(1, &[0]), stage(2, &[]), stage(4, &[])];
        let begun = Mutex::new(Vec::new());
        let result = run(&stages, &spare, &Cancel::new(), |stage, earlier| {
            begun.lock().expect("lock").push(stage.index);
            let mut needed = stage.needs.clone();
            if stage.index >= 3 {
                needed.push(1);
            }
            let results = needed.iter().map(|s| earlier.result(*s));
            Ok(1 + results.sum::<Result<usize>>()?)
        });
        // 5 needs 3 and 1, 3 needs 1, 1 needs 0.
        assert_eq!(result.expect("built"), 1 + 3 + 2);
        let mut begun = begun.into_inner().expect("lock");
        begun.sort_unstable();
        assert_eq!(begun, [0, 1, 3, 5]);
    }

    #[test]
    fn a_later_spare_stage_is_not_begun() {
        let result = run(
            &[stage(1, &[])],
            &[stage(2, &[])],
            &Cancel::new(),
            |_, earlier| earlier.result(2),
        );
        let result: Result<()> = result;
        assert_eq!(result.expect_err("an error").get_kind(), Kind::Internal);
    }

    #[test]
    fn places_are_given_back() {
        let places = Places::new(1);
        drop(places.take());
        drop(places.take());
    }
}
