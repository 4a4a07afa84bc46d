//! How slow a body may come. Two limits: each wait for the next octets, and the waits of a whole body against what
//! has arrived, so that a sender cannot hold a connection with one octet a minute.

use std::time::Duration;

use super::settings::SoapServerConfig;

/// The waits of one body so far.
pub(super) struct Pace {
    chunk_timeout: Duration,
    grace: Duration,
    min_bytes_per_second: u64,
    waited: Duration,
    received: u64,
}

impl Pace {
    pub(super) fn new(config: &SoapServerConfig) -> Self {
        Self {
            chunk_timeout: config.chunk_timeout,
            grace: config.body_grace,
            min_bytes_per_second: config.min_bytes_per_second,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    /// The longest that the next octets may take.
    pub(super) fn patience(&self) -> Duration {
        // Zero turns the minimum rate off.
        let Some(seconds) = self.received.checked_div(self.min_bytes_per_second) else {
            return self.chunk_timeout;
        };
        let earned = self.grace.saturating_add(Duration::from_secs(seconds));
        self.chunk_timeout.min(earned.saturating_sub(self.waited))
    }

    /// Counts one wait and what it brought.
    pub(super) fn count(&mut self, waited: Duration, received: u64) {
        self.waited = self.waited.saturating_add(waited);
        self.received = self.received.saturating_add(received);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(min_bytes_per_second: u64) -> Pace {
        Pace::new(&SoapServerConfig {
            chunk_timeout: 5 * SECOND,
            body_grace: 10 * SECOND,
            min_bytes_per_second,
            ..SoapServerConfig::default()
        })
    }

    // rule: SOAP-160
    #[test]
    fn a_trickle_uses_up_its_grace_though_every_octet_is_in_time() {
        let mut pace = pace(100);
        for _ in 0..3 {
            pace.count(3 * SECOND, 1);
        }
        assert_eq!(pace.patience(), SECOND);
        pace.count(3 * SECOND, 1);
        assert_eq!(pace.patience(), Duration::ZERO);
    }

    #[test]
    fn a_body_at_the_minimum_rate_never_runs_out() {
        let mut pace = pace(100);
        for _ in 0..10_000 {
            pace.count(SECOND, 100);
            assert_eq!(pace.patience(), 5 * SECOND);
        }
    }

    #[test]
    fn without_a_minimum_rate_only_the_single_wait_counts() {
        let mut pace = pace(0);
        pace.count(Duration::from_secs(86_400), 1);
        assert_eq!(pace.patience(), 5 * SECOND);
    }
}
