//! How slow a mail may come (RX-8): each wait for the next octets, all waits against what has arrived, and the whole
//! mail have their limits, so that a sender cannot hold a session with one octet a minute.

use std::time::Duration;

use super::settings::SmtpServerConfig;

/// The waits of one mail so far.
pub(super) struct Pace {
    block_timeout: Duration,
    grace: Duration,
    whole: Duration,
    min_bytes_per_second: u64,
    waited: Duration,
    received: u64,
}

impl Pace {
    pub(super) fn new(config: &SmtpServerConfig) -> Self {
        Self {
            block_timeout: config.data_block_timeout,
            grace: config.data_grace,
            whole: config.data_timeout,
            min_bytes_per_second: config.min_bytes_per_second,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    /// The longest that the next octets may take, `elapsed` after the mail began.
    pub(super) fn patience(&self, elapsed: Duration) -> Duration {
        let left = self.whole.saturating_sub(elapsed);
        let patience = self.block_timeout.min(left);
        // Zero turns the minimum rate off.
        let Some(seconds) = self.received.checked_div(self.min_bytes_per_second) else {
            return patience;
        };
        let earned = self.grace.saturating_add(Duration::from_secs(seconds));
        patience.min(earned.saturating_sub(self.waited))
    }

    /// Counts one wait and what it brought.
    pub(super) fn count(&mut self, waited: Duration, received: usize) {
        self.waited = self.waited.saturating_add(waited);
        self.received = self.received.saturating_add(received as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(min_bytes_per_second: u64) -> Pace {
        Pace::new(&SmtpServerConfig {
            data_block_timeout: 5 * SECOND,
            data_grace: 10 * SECOND,
            data_timeout: 100 * SECOND,
            min_bytes_per_second,
            ..SmtpServerConfig::default()
        })
    }

    // rule: RX-8
    #[test]
    fn a_trickle_uses_up_its_grace_though_every_octet_is_in_time() {
        let mut pace = pace(100);
        for _ in 0..3 {
            pace.count(3 * SECOND, 1);
        }
        assert_eq!(pace.patience(9 * SECOND), SECOND);
        pace.count(3 * SECOND, 1);
        assert_eq!(pace.patience(12 * SECOND), Duration::ZERO);
    }

    // rule: RX-8
    #[test]
    fn a_mail_at_the_minimum_rate_ends_with_the_time_of_the_whole() {
        let mut pace = pace(100);
        for second in 0..95 {
            assert_eq!(pace.patience(second * SECOND), 5 * SECOND);
            pace.count(SECOND, 100);
        }
        assert_eq!(pace.patience(98 * SECOND), 2 * SECOND);
        assert_eq!(pace.patience(100 * SECOND), Duration::ZERO);
    }

    #[test]
    fn without_a_minimum_rate_only_the_single_wait_and_the_whole_count() {
        let mut pace = pace(0);
        pace.count(90 * SECOND, 1);
        assert_eq!(pace.patience(90 * SECOND), 5 * SECOND);
    }
}
