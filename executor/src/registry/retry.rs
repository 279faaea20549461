//! When to try again, and after how long.
//!
//! Responsible for telling transient failures from final ones and for the waiting between
//! attempts: exponential backoff with full jitter, or what the registry asks for. Must not know
//! what is attempted. Invariant: the number of attempts without progress is bounded.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::error::Error;

/// How often and how patiently to try again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Attempts in a row that may fail before the failure is final; at least 1.
    pub attempts: u32,
    /// Upper bound of the first wait; each further one doubles it.
    pub base: Duration,
    /// Upper bound of every wait that we choose.
    pub ceiling: Duration,
    /// The longest wait that a registry may ask for (`Retry-After`); beyond it the failure is
    /// final.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            base: Duration::from_millis(500),
            ceiling: Duration::from_secs(15),
            patience: Duration::from_secs(120),
        }
    }
}

/// Why an attempt did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt would end the same way.
    Final(Error),
    /// Another attempt may work.
    Transient {
        /// What went wrong.
        error: Error,
        /// How long the registry asks to wait.
        after: Option<Duration>,
    },
}

impl Failure {
    /// A failure that may pass by itself.
    pub(crate) fn transient(error: Error) -> Self {
        Self::Transient { error, after: None }
    }

    /// Returns the error, whichever way it is meant.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Final(error) | Self::Transient { error, .. } => error,
        }
    }

    /// Changes the error and keeps whether it is final.
    pub(crate) fn map(self, change: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Final(error) => Self::Final(change(error)),
            Self::Transient { error, after } => Self::Transient {
                error: change(error),
                after,
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// The state of one series of attempts.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    policy: &'a RetryPolicy,
    failed: u32,
}

impl<'a> Backoff<'a> {
    /// Starts a series.
    pub(crate) fn new(policy: &'a RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Forgets earlier failures, since the last attempt got somewhere.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Decides about a failed attempt: how long to wait before the next.
    ///
    /// # Errors
    /// The failure's error, when there is to be no further attempt.
    pub(crate) fn next(&mut self, failure: Failure) -> Result<(Duration, Error), Error> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Transient { error, after } => (error, after),
        };
        self.failed += 1;
        if self.failed >= self.policy.attempts {
            let attempts = self.failed;
            return Err(if attempts > 1 {
                error.during(format!("gave up after {attempts} attempts"))
            } else {
                error
            });
        }
        match after {
            Some(after) if after > self.policy.patience => {
                let seconds = after.as_secs();
                Err(error.hint(format!("the registry asks to wait {seconds} s; try later")))
            }
            Some(after) => Ok((after, error)),
            None => Ok((self.jittered(), error)),
        }
    }

    /// Waits as [`Self::next`] says, after telling `note` why.
    pub(crate) async fn pause(
        &mut self,
        failure: Failure,
        note: impl Fn(&str),
    ) -> Result<(), Error> {
        let (wait, error) = self.next(failure)?;
        note(&format!(
            "{}; next attempt in {:.1} s\n",
            error.chain(),
            wait.as_secs_f64()
        ));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// A random part of the current bound, so that clients that failed together do not return
    /// together.
    fn jittered(&self) -> Duration {
        let doubled = self
            .policy
            .base
            .saturating_mul(1 << (self.failed - 1).min(16));
        let bound = doubled.min(self.policy.ceiling);
        let random = RandomState::new().build_hasher().finish();
        bound.mul_f64(0.5 + (random >> 11) as f64 / (1u64 << 53) as f64 / 2.0)
    }
}

/// Reads `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(
        at.duration_since(jiff::Timestamp::now())
            .try_into()
            .unwrap_or(Duration::ZERO),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient(after: Option<u64>) -> Failure {
        Failure::Transient {
            error: Error::new("busy"),
            after: after.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_grow_within_bounds_and_end() {
        let policy = RetryPolicy {
            attempts: 4,
            base: Duration::from_millis(100),
            ceiling: Duration::from_millis(250),
            ..RetryPolicy::default()
        };
        let mut backoff = Backoff::new(&policy);
        for bound in [100, 200, 250] {
            let (wait, _) = backoff.next(transient(None)).expect("another attempt");
            let bound = Duration::from_millis(bound);
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} {bound:?}");
        }
        let error = backoff.next(transient(None)).expect_err("the end");
        assert_eq!(error.chain(), "gave up after 4 attempts: busy");
    }

    #[test]
    fn progress_starts_the_count_again() {
        let policy = RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        };
        let mut backoff = Backoff::new(&policy);
        for _ in 0..10 {
            backoff.next(transient(None)).expect("another attempt");
            backoff.progressed();
        }
    }

    #[test]
    fn the_registry_decides_the_wait_within_patience() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(&policy);
        let (wait, _) = backoff.next(transient(Some(7))).expect("another attempt");
        assert_eq!(wait, Duration::from_secs(7));
        assert!(backoff.next(transient(Some(100_000))).is_err());
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        let header = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("header value"));
            retry_after(&headers)
        };
        assert_eq!(header("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            header("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        assert!(header("Fri, 01 Jan 2100 00:00:00 GMT").is_some_and(|d| d.as_secs() > 1 << 30));
        assert_eq!(header("soon"), None);
    }
}
