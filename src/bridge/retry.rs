//! When a mail that could not be handed over is tried again (smtp.md Q-2).

use std::time::Duration;

use jiff::Timestamp;

/// Waits after the first, second, third ... attempt; the last one repeats.
const WAITS_MINUTES: [u64; 5] = [1, 2, 4, 8, 15];
/// A wait is lengthened or shortened by up to a fifth, so that many mails to one dead peer do not come back at once.
const JITTER_PER_MILLE: u64 = 200;

/// When to try again after `attempts` failed attempts (1 or more), or `None` once `lifetime` since `accepted_at` is
/// over: the mail has then failed with `smtpExpired`.
///
/// The last attempt falls on the end of the lifetime itself, so that no part of it is given away. `random` is any
/// number, all of its values alike.
///
/// Deviation: RFC 5321 §4.5.4.1 suggests waits of 30 minutes over 4 to 5 days, which does not fit a sender that waits
/// one hour for the processed notification.
pub fn next_attempt(
    accepted_at: Timestamp,
    now: Timestamp,
    attempts: u32,
    lifetime: Duration,
    random: u64,
) -> Option<Timestamp> {
    let end = accepted_at.checked_add(lifetime).ok()?;
    if now >= end {
        return None;
    }
    let next = now.checked_add(wait(attempts, random)).ok()?;
    Some(next.min(end))
}

/// How many attempts an exchange of this age has had, by the schedule: what [`next_attempt`] asks for. So no count has
/// to be kept.
pub fn attempts_at_age(age: Duration) -> u32 {
    let mut end = Duration::ZERO;
    for (attempts, minutes) in (1..).zip(WAITS_MINUTES) {
        // The jitter may have shortened every wait so far by a fifth.
        end += Duration::from_millis(minutes * 60 * (1000 - JITTER_PER_MILLE));
        if age < end {
            return attempts;
        }
    }
    u32::try_from(WAITS_MINUTES.len()).unwrap_or(u32::MAX)
}

fn wait(attempts: u32, random: u64) -> Duration {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let [.., longest] = WAITS_MINUTES;
    let minutes = WAITS_MINUTES.get(index).copied().unwrap_or(longest);
    let per_mille = 1000 - JITTER_PER_MILLE + random % (2 * JITTER_PER_MILLE + 1);
    Duration::from_millis(minutes * 60 * per_mille)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(50 * 60);
    /// The jitter's middle: no change at all.
    const UNCHANGED: u64 = JITTER_PER_MILLE;

    fn accepted() -> Timestamp {
        "2026-11-22T08:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_schedule_tells_the_number_of_attempts_from_the_age() {
        let attempts = |minutes: u64| attempts_at_age(Duration::from_secs(minutes * 60));
        assert_eq!(
            [0, 1, 3, 7, 15, 30, 49].map(attempts),
            [1, 2, 3, 4, 5, 5, 5]
        );
    }

    fn minutes_after_acceptance(random: u64) -> Vec<f64> {
        let mut times = Vec::new();
        let mut now = accepted();
        for attempts in 1.. {
            let Some(next) = next_attempt(accepted(), now, attempts, LIFETIME, random) else {
                break;
            };
            times.push((next - accepted()).total(jiff::Unit::Minute).unwrap());
            now = next;
        }
        times
    }

    // rule: Q-2
    #[test]
    fn waits_grow_to_fifteen_minutes_and_the_last_attempt_ends_the_lifetime() {
        assert_eq!(
            minutes_after_acceptance(UNCHANGED),
            [1.0, 3.0, 7.0, 15.0, 30.0, 45.0, 50.0]
        );
    }

    // rule: Q-2
    #[test]
    fn jitter_stays_within_a_fifth_whatever_the_random_number() {
        for random in [0, 1, 399, 400, 401, u64::MAX] {
            let first = minutes_after_acceptance(random)[0];
            assert!((0.8..=1.2).contains(&first), "{first}");
        }
        assert_eq!(wait(1, 0), Duration::from_secs(48));
        assert_eq!(wait(1, 2 * JITTER_PER_MILLE), Duration::from_secs(72));
    }

    // rule: Q-2
    #[test]
    fn nothing_is_tried_once_the_lifetime_is_over() {
        let end = accepted().checked_add(LIFETIME).unwrap();
        assert_eq!(next_attempt(accepted(), end, 3, LIFETIME, 7), None);
    }
}
