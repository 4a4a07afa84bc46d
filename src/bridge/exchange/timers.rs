//! How long the bridge waits: the settings behind [`Deadlines`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Deadlines;
use crate::formats::units::duration_text;

/// How long an exchange waits for what: `[timers]`. All but the last count from acceptance (mdn.md section 8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timers {
    /// Certificate look-up, SMTP attempts and posts end after this time, such as `"40m"`. Default `"50m"`: ten
    /// minutes before `processed`, so that "not sent" is definite by then.
    #[serde(with = "duration_text")]
    pub queue_lifetime: Duration,
    /// Tp: the longest wait for a `processed` notice, such as `"45m"`. Default `"60m"`.
    #[serde(with = "duration_text")]
    pub processed: Duration,
    /// Td: the longest wait for a `dispatched` notice where the sender asked for it, such as `"45m"`. Default
    /// `"60m"`; not shorter than `processed`.
    #[serde(with = "duration_text")]
    pub dispatched: Duration,
    /// How long the bodies of an exchange are kept after its last recipient was settled, such as `"1h"`. Default
    /// `"24h"`.
    #[serde(with = "duration_text")]
    pub body_retention: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            queue_lifetime: 50 * MINUTE,
            processed: 60 * MINUTE,
            dispatched: 60 * MINUTE,
            body_retention: 24 * 60 * MINUTE,
        }
    }
}

impl Timers {
    /// The deadlines of an exchange accepted at `accepted_at`.
    pub fn deadlines(&self, accepted_at: Timestamp) -> Deadlines {
        Deadlines {
            queue: after(accepted_at, self.queue_lifetime),
            processed: after(accepted_at, self.processed),
            dispatched: after(accepted_at, self.dispatched),
            body_retention: self.body_retention,
        }
    }

    /// Everything that is wrong with the values: key and what would be accepted.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.queue_lifetime >= self.processed {
            problems.push(
                "timers.queue_lifetime: shorter than timers.processed, so that \"not sent\" is definite by then"
                    .to_owned(),
            );
        }
        if self.dispatched < self.processed {
            problems.push("timers.dispatched: not shorter than timers.processed".to_owned());
        }
        problems
    }
}

/// `time` plus `wait`; a sum beyond the calendar is its end.
pub(super) fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_leave_ten_minutes_between_not_sent_and_not_processed() {
        let timers = Timers::default();
        assert!(timers.problems().is_empty());
        let deadlines = timers.deadlines(Timestamp::UNIX_EPOCH);
        assert_eq!(deadlines.queue.as_second(), 3_000);
        assert_eq!(deadlines.processed.as_second(), 3_600);
        assert_eq!(deadlines.dispatched.as_second(), 3_600);
    }

    #[test]
    fn timers_that_contradict_one_another_are_named() {
        let timers = Timers {
            queue_lifetime: Duration::from_secs(7_200),
            dispatched: Duration::from_secs(60),
            ..Timers::default()
        };
        let problems = timers.problems();
        assert!(problems[0].starts_with("timers.queue_lifetime: "));
        assert!(problems[1].starts_with("timers.dispatched: "));
    }
}
