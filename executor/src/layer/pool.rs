//! Work that several threads do, with answers in the order of the questions.
//!
//! Responsible for handing jobs to threads in turn and for collecting what they made of them. Must not
//! know what that is. Invariant: answers come in the order in which jobs were submitted, whichever is
//! ready first; a thread has at most two jobs that wait.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Threads. Job `i` goes to thread `i % n`, so that answers arrive in order by asking them in turn.
pub(super) struct Pool<J, A> {
    workers: Vec<Worker<J, A>>,
    sent: usize,
    received: usize,
}

struct Worker<J, A> {
    jobs: SyncSender<J>,
    done: Receiver<A>,
    thread: JoinHandle<()>,
}

impl<J: Send + 'static, A: Send + 'static> Pool<J, A> {
    /// Starts this many threads, one at least, which all do the same `work`.
    pub(super) fn start(
        name: &str,
        threads: usize,
        work: impl Fn(J) -> A + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let workers = (0..threads.max(1)).map(|_| Worker::start(name, work.clone()));
        Ok(Self {
            workers: workers.collect::<io::Result<_>>()?,
            sent: 0,
            received: 0,
        })
    }

    /// Returns the number of jobs whose answers were not collected.
    pub(super) fn waiting(&self) -> usize {
        self.sent - self.received
    }

    /// Tells whether an answer has to be collected before a job can be submitted.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= 2 * self.workers.len()
    }

    /// Hands a job over.
    pub(super) fn submit(&mut self, job: J) -> io::Result<()> {
        let worker = &self.workers[self.sent % self.workers.len()];
        worker.jobs.send(job).map_err(|_| gone())?;
        self.sent += 1;
        Ok(())
    }

    /// Waits for the answer to the oldest job, of which there is one.
    pub(super) fn collect(&mut self) -> io::Result<A> {
        let worker = &self.workers[self.received % self.workers.len()];
        let answer = worker.done.recv().map_err(|_| gone())?;
        self.received += 1;
        Ok(answer)
    }

    /// Ends the threads, when all answers are collected.
    pub(super) fn stop(self) -> io::Result<()> {
        for worker in self.workers {
            drop(worker.jobs);
            worker.thread.join().map_err(|_| gone())?;
        }
        Ok(())
    }
}

impl<J: Send + 'static, A: Send + 'static> Worker<J, A> {
    fn start(name: &str, work: impl Fn(J) -> A + Send + 'static) -> io::Result<Self> {
        let (jobs, submitted) = sync_channel(2);
        let (answers, done) = sync_channel(2);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for job in submitted {
                    if answers.send(work(job)).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { jobs, done, thread })
    }
}

fn gone() -> io::Error {
    io::Error::other("a compression thread has ended early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn answers_keep_the_order() {
        let mut pool = Pool::start("test", 3, |n: u64| {
            // The first of each round is the slowest.
            std::thread::sleep(Duration::from_millis(3 - n % 3));
            n * n
        })
        .expect("threads");
        let mut answers = Vec::new();
        for n in 0..20 {
            if pool.is_full() {
                answers.push(pool.collect().expect("an answer"));
            }
            pool.submit(n).expect("submitted");
        }
        assert_eq!(pool.waiting(), 6);
        while pool.waiting() > 0 {
            answers.push(pool.collect().expect("an answer"));
        }
        pool.stop().expect("stopped");
        assert_eq!(answers, (0..20).map(|n| n * n).collect::<Vec<_>>());
    }
}
