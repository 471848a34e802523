//! Retry: how often, how long between, and what the registry says about it.

use std::time::Duration;

use crossdock_storage::{LayerEvent, LayerWatch};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::error::{Error, Result};

/// Waits longer than this are not waited, whatever `Retry-After` says.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How failed requests are tried again: exponential back-off with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many times after the first.
    pub retries: u32,
    /// The upper bound of the first wait; doubled for each further one.
    pub base: Duration,
    /// The upper bound of any wait that the registry did not ask for.
    pub cap: Duration,
    /// A wait that is always the same, in the place of the back-off.
    pub delay: Option<Duration>,
}

impl Default for RetryPolicy {
    /// Three retries, after up to 1, 2 and 4 s.
    fn default() -> Self {
        Self { retries: 3, base: Duration::from_secs(1), cap: Duration::from_secs(30), delay: None }
    }
}

impl RetryPolicy {
    /// The upper bound of the wait before retry `retry`, counted from 1.
    fn bound(self, retry: u32) -> Duration {
        self.base.saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX)).min(self.cap)
    }
}

/// The attempts of one operation. [`Attempts::failed`] waits before the next, or gives the error back.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    watch: Option<LayerWatch>,
    failures: u32,
}

impl Attempts {
    pub(crate) const fn new(policy: RetryPolicy) -> Self {
        Self { policy, watch: None, failures: 0 }
    }

    /// Attempts whose retries are told to a layer's line.
    pub(crate) fn watched(policy: RetryPolicy, watch: &LayerWatch) -> Self {
        Self { policy, watch: Some(watch.clone()), failures: 0 }
    }

    /// The attempt under way, counted from 1.
    pub(crate) const fn number(&self) -> u32 {
        self.failures + 1
    }

    /// Attempts until one works, or no other makes sense.
    ///
    /// # Errors
    /// That of the last attempt.
    pub(crate) async fn run<T, F>(mut self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            match attempt().await {
                Ok(result) => return Ok(result),
                Err(error) => self.failed(error).await?,
            }
        }
    }

    /// Takes note of a failed attempt: waits where another one makes sense.
    ///
    /// # Errors
    /// `error` itself where it does not.
    pub(crate) async fn failed(&mut self, error: Error) -> Result<()> {
        self.failed_with(error, None).await
    }

    /// The same, and says what comes next.
    pub(crate) async fn failed_with(&mut self, error: Error, next: Option<String>) -> Result<()> {
        if !error.is_transient() || self.failures >= self.policy.retries {
            return Err(error);
        }
        self.failures += 1;
        let wait = match error.retry_after() {
            Some(asked) => asked.min(MAX_RETRY_AFTER),
            None => match self.policy.delay {
                Some(delay) => delay,
                None => self.policy.bound(self.failures).mul_f64(fastrand::f64()),
            },
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let reason = next.map_or_else(|| error.to_string(), |next| format!("{error}; {next}"));
        match &self.watch {
            // The display of the layer says it, and once is enough.
            Some(watch) => {
                tracing::debug!(attempt = self.number(), wait_ms, reason, "trying again");
                watch.event(LayerEvent::Retry { attempt: self.number(), reason, wait_ms });
            }
            None => tracing::warn!(attempt = self.number(), wait_ms, reason, "trying again"),
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Forgets the failures: something was achieved since.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Reads a `Retry-After` header: seconds, or an HTTP date (RFC 9110, section 10.2.3), which is taken relative to `now`.
pub(crate) fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn unavailable(retry_after: Option<Duration>) -> Error {
        Error::Status {
            what: "PATCH https://r.example/".to_owned(),
            status: 503,
            detail: String::new(),
            transient: true,
            retry_after,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_bounded_by_doubling_bounds() {
        let policy = RetryPolicy { retries: 8, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(policy);
        for bound in [1, 2, 4, 8, 16, 30, 30, 30] {
            let before = Instant::now();
            attempts.failed(unavailable(None)).await.unwrap();
            assert!(before.elapsed() <= Duration::from_millis(bound * 1000 + 2), "{:?}", before.elapsed());
        }
        assert!(attempts.failed(unavailable(None)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_registry_may_name_the_wait_up_to_five_minutes() {
        let policy = RetryPolicy::default();
        let mut attempts = Attempts::new(policy);
        for (asked, waited) in [(7, 7), (299, 299), (86_400, 300)] {
            let before = Instant::now();
            attempts.failed(unavailable(Some(Duration::from_secs(asked)))).await.unwrap();
            assert_eq!(before.elapsed().as_secs(), waited);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_delay_is_what_is_waited_unless_the_registry_says_otherwise() {
        let policy = RetryPolicy { delay: Some(Duration::from_secs(2)), ..RetryPolicy::default() };
        let mut attempts = Attempts::new(policy);
        for (asked, waited) in [(None, 2), (Some(Duration::from_secs(9)), 9), (None, 2)] {
            let before = Instant::now();
            attempts.failed(unavailable(asked)).await.unwrap();
            assert_eq!(before.elapsed().as_secs(), waited);
        }
    }

    #[tokio::test]
    async fn what_will_not_pass_is_not_tried_again() {
        let policy = RetryPolicy::default();
        let error = Error::Schema1 { image: "x".to_owned() };
        assert!(Attempts::new(policy).failed(error).await.is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
