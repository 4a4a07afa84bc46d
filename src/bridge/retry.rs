//! When a mail that could not be handed over is tried again (smtp.md Q-2).

use std::time::Duration;

use jiff::Timestamp;

/// Waits after the first, second, third ... attempt; the last one repeats.
const WAITS_MINUTES: [u64; 5] = [1, 2, 4, 8, 15];
/// A wait is lengthened or shortened by up to a fifth, so that many mails to one dead peer do not come back at once.
const JITTER_PER_MILLE: u64 = 200;

/// The last attempt begins this long before the end at the latest, so that it has time to come to a result: at the end
/// itself nobody waits any more.
const LAST_ATTEMPT_BEFORE_END: Duration = Duration::from_secs(2 * 60);

/// When to try again after `attempts` failed attempts (1 or more), or `None` when there is no time left for another:
/// what has not left by `end`, the end of the queue's lifetime, has then failed with `smtpExpired`.
///
/// The last attempt falls two minutes before the end, so that the last wait is shortened rather than given away. Waits
/// count from the first attempt, whenever that was, so a mail made late is tried again soon as well. `random` is any
/// number, all of its values alike.
///
/// Deviation: RFC 5321 §4.5.4.1 suggests waits of 30 minutes over 4 to 5 days, which does not fit a sender that waits
/// one hour for the processed notification.
pub fn next_attempt(
    now: Timestamp,
    attempts: u32,
    end: Timestamp,
    random: u64,
) -> Option<Timestamp> {
    let last = end.checked_sub(LAST_ATTEMPT_BEFORE_END).ok()?;
    if now >= last {
        return None;
    }
    let next = now.checked_add(wait(attempts, random)).ok()?;
    Some(next.min(last))
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

    /// The jitter's middle: no change at all.
    const UNCHANGED: u64 = JITTER_PER_MILLE;

    fn accepted() -> Timestamp {
        "2026-11-22T08:00:00Z".parse().unwrap()
    }

    fn minute(minutes: u64) -> Timestamp {
        accepted() + Duration::from_secs(60 * minutes)
    }

    /// The attempts after one at `first_minute`, when all fail at once and waiting ends at minute 50.
    fn minutes_after_acceptance(first_minute: u64, random: u64) -> Vec<f64> {
        let mut times = Vec::new();
        let mut now = minute(first_minute);
        for attempts in 1.. {
            let Some(next) = next_attempt(now, attempts, minute(50), random) else {
                break;
            };
            times.push((next - accepted()).total(jiff::Unit::Minute).unwrap());
            now = next;
        }
        times
    }

    // rule: Q-2
    #[test]
    fn waits_grow_to_fifteen_minutes_and_the_last_attempt_has_two_minutes_left() {
        assert_eq!(
            minutes_after_acceptance(0, UNCHANGED),
            [1.0, 3.0, 7.0, 15.0, 30.0, 45.0, 48.0]
        );
    }

    // rule: Q-2
    #[test]
    fn a_mail_made_late_is_tried_again_as_soon_as_any_other() {
        assert_eq!(
            minutes_after_acceptance(20, UNCHANGED),
            [21.0, 23.0, 27.0, 35.0, 48.0]
        );
    }

    // rule: Q-2
    #[test]
    fn jitter_stays_within_a_fifth_whatever_the_random_number() {
        for random in [0, 1, 399, 400, 401, u64::MAX] {
            let first = minutes_after_acceptance(0, random)[0];
            assert!((0.8..=1.2).contains(&first), "{first}");
        }
        assert_eq!(wait(1, 0), Duration::from_secs(48));
        assert_eq!(wait(1, 2 * JITTER_PER_MILLE), Duration::from_secs(72));
    }

    // rule: Q-2
    #[test]
    fn nothing_is_tried_when_no_time_is_left_for_a_result() {
        for (now, expected) in [(47, Some(minute(48))), (48, None), (50, None), (70, None)] {
            assert_eq!(
                next_attempt(minute(now), 3, minute(50), UNCHANGED),
                expected
            );
        }
        assert_eq!(next_attempt(accepted(), 1, Timestamp::MIN, UNCHANGED), None);
    }

    // rule: Q-2
    #[test]
    fn any_number_of_attempts_has_a_wait() {
        let fifteen = Duration::from_secs(15 * 60);
        assert_eq!(wait(5, UNCHANGED), fifteen);
        assert_eq!(wait(u32::MAX, UNCHANGED), fifteen);
        assert_eq!(wait(0, UNCHANGED), Duration::from_secs(60));
    }
}
