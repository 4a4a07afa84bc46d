//! What was answered lately, kept as long as it stands (DISC-6). What a certificate is worth is asked anew at each use.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

/// Longest time that something is kept, whatever its TTL.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
/// Longest time that it is remembered that there is nothing, whatever the zone's SOA says.
const LONGEST_ABSENCE: SignedDuration = SignedDuration::from_mins(10);
/// Names that are kept.
const MAX_NAMES: usize = 1_000;
/// Octets of certificates that are kept.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What a cache keeps: cheap to clone.
pub trait Answered: Clone {
    /// Octets of certificates in it.
    fn bytes(&self) -> usize;

    /// Whether it says that there is nothing.
    fn is_absence(&self) -> bool;
}

/// Answers by name.
pub struct AnswerCache<T>(Mutex<Kept<T>>);

impl<T> Default for AnswerCache<T> {
    fn default() -> Self {
        Self(Mutex::new(Kept {
            by_name: HashMap::new(),
            bytes: 0,
        }))
    }
}

struct Kept<T> {
    by_name: HashMap<String, Standing<T>>,
    bytes: usize,
}

struct Standing<T> {
    answer: T,
    from: Timestamp,
    until: Timestamp,
}

impl<T: Answered> AnswerCache<T> {
    /// What is known of `name` at `now`.
    pub fn find(&self, name: &str, now: Timestamp) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = kept.by_name.get(name)?;
        // A clock that was set back makes nothing stand longer.
        let stands = standing.from <= now && now < standing.until;
        stands.then(|| standing.answer.clone())
    }

    /// Keeps `answer` for as long as it may be kept: `ttl` seconds, within bounds. An answer without a time is not kept.
    pub fn keep(&self, name: String, answer: &T, ttl: Option<u32>, now: Timestamp) {
        let longest = if answer.is_absence() {
            LONGEST_ABSENCE
        } else {
            LONGEST
        };
        let seconds = i64::from(ttl.unwrap_or_default());
        let stands = SignedDuration::from_secs(seconds).min(longest);
        let Ok(until) = now.checked_add(stands) else {
            return;
        };
        let bytes = answer.bytes();
        if stands.is_zero() || bytes > MAX_BYTES {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&name);
        kept.make_room(bytes, now);
        kept.bytes += bytes;
        let standing = Standing {
            answer: answer.clone(),
            from: now,
            until,
        };
        kept.by_name.insert(name, standing);
    }
}

impl<T: Answered> Kept<T> {
    fn remove(&mut self, name: &str) {
        if let Some(standing) = self.by_name.remove(name) {
            self.bytes -= standing.answer.bytes();
        }
    }

    /// Forgets what is over, and then, if that is not enough, what ends first.
    fn make_room(&mut self, wanted: usize, now: Timestamp) {
        let has_room = |kept: &Self| {
            kept.by_name.len() < MAX_NAMES && kept.bytes.saturating_add(wanted) <= MAX_BYTES
        };
        if has_room(self) {
            return;
        }
        self.by_name.retain(|_, standing| now < standing.until);
        let left = self.by_name.values();
        self.bytes = left.map(|standing| standing.answer.bytes()).sum();
        while !has_room(self) {
            let standing = self.by_name.iter();
            let first = standing.min_by_key(|(_, standing)| standing.until);
            let Some(name) = first.map(|(name, _)| name.clone()) else {
                return;
            };
            self.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Known {
        Nothing,
        Octets(usize),
    }

    impl Answered for Known {
        fn bytes(&self) -> usize {
            match self {
                Self::Nothing => 0,
                Self::Octets(octets) => *octets,
            }
        }

        fn is_absence(&self) -> bool {
            *self == Self::Nothing
        }
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// The last second, counted from when it was kept, at which it is found.
    fn stands(known: &Known, ttl: u32) -> i64 {
        let cache = AnswerCache::default();
        cache.keep("a.".to_owned(), known, Some(ttl), time(0));
        let found = |at: &i64| cache.find("a.", time(*at)).is_some();
        (-1..=100_000).filter(found).max().unwrap_or(-1)
    }

    // rule: DISC-6
    #[test]
    fn an_answer_stands_for_its_ttl_and_for_an_hour_or_ten_minutes_at_most() {
        let some = Known::Octets(1);
        assert_eq!(stands(&some, 60), 59);
        assert_eq!(stands(&some, 86_400), 3_599);
        assert_eq!(stands(&Known::Nothing, 60), 59);
        assert_eq!(stands(&Known::Nothing, 86_400), 599);
        assert_eq!(stands(&some, 0), -1, "a TTL of 0 is for this use only");
        let cache = AnswerCache::default();
        cache.keep("a.".to_owned(), &Known::Nothing, None, time(0));
        assert_eq!(cache.find("a.", time(0)), None, "nobody said how long");
    }

    // rule: DISC-6
    #[test]
    fn names_and_octets_are_bounded_and_what_ends_first_goes_first() {
        let cache = AnswerCache::default();
        for index in 0..MAX_NAMES {
            let ttl = 100 + u32::try_from(index).unwrap();
            cache.keep(format!("n{index}."), &Known::Octets(1), Some(ttl), time(0));
        }
        cache.keep("new.".to_owned(), &Known::Octets(1), Some(50), time(0));
        assert_eq!(cache.find("n0.", time(0)), None);
        assert!(cache.find("n1.", time(0)).is_some());
        assert!(cache.find("new.", time(0)).is_some());
        let kept = cache.0.lock().unwrap();
        assert_eq!((kept.by_name.len(), kept.bytes), (MAX_NAMES, MAX_NAMES));
        drop(kept);

        // A name twice is kept once.
        cache.keep("new.".to_owned(), &Known::Octets(9), Some(50), time(0));
        assert_eq!(cache.0.lock().unwrap().bytes, MAX_NAMES + 8);

        let half = Known::Octets(MAX_BYTES / 2);
        for name in ["x.", "y."] {
            cache.keep(name.to_owned(), &half, Some(3_000), time(0));
        }
        let kept = cache.0.lock().unwrap();
        assert_eq!((kept.by_name.len(), kept.bytes), (2, MAX_BYTES));
        drop(kept);
        let too_much = Known::Octets(MAX_BYTES + 1);
        cache.keep("z.".to_owned(), &too_much, Some(3_000), time(0));
        assert_eq!(cache.find("z.", time(0)), None);
        assert!(cache.find("x.", time(0)).is_some());
    }
}
