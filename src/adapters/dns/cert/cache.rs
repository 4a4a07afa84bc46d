//! Answers that were given lately, as long as they stand (DISC-6). What a certificate is worth is asked anew at each use.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::records::{Answer, Known};

/// Longest time that records are kept, whatever their TTL.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
/// Longest time that it is remembered that there are none, whatever the zone's SOA says.
const LONGEST_ABSENCE: SignedDuration = SignedDuration::from_mins(10);
/// Names that are kept.
const MAX_NAMES: usize = 1_000;
/// Octets of certificates that are kept.
const MAX_BYTES: usize = 8 * 1024 * 1024;

#[derive(Default)]
pub(super) struct CertCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_name: HashMap<String, Standing>,
    bytes: usize,
}

struct Standing {
    known: Known,
    from: Timestamp,
    until: Timestamp,
}

impl CertCache {
    /// What is known of `name` at `now`.
    pub(super) fn find(&self, name: &str, now: Timestamp) -> Option<Known> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = kept.by_name.get(name)?;
        // A clock that was set back makes nothing stand longer.
        let stands = standing.from <= now && now < standing.until;
        stands.then(|| standing.known.clone())
    }

    /// Keeps `answer` for as long as it may be kept. An answer without a time is not kept.
    pub(super) fn keep(&self, name: String, answer: &Answer, now: Timestamp) {
        let longest = match answer.known {
            Known::Records(_) => LONGEST,
            Known::NoSuchName | Known::NoRecord => LONGEST_ABSENCE,
        };
        let seconds = i64::from(answer.ttl.unwrap_or_default());
        let stands = SignedDuration::from_secs(seconds).min(longest);
        let Ok(until) = now.checked_add(stands) else {
            return;
        };
        let bytes = bytes(&answer.known);
        if stands.is_zero() || bytes > MAX_BYTES {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&name);
        kept.make_room(bytes, now);
        kept.bytes += bytes;
        let standing = Standing {
            known: answer.known.clone(),
            from: now,
            until,
        };
        kept.by_name.insert(name, standing);
    }
}

impl Kept {
    fn remove(&mut self, name: &str) {
        if let Some(standing) = self.by_name.remove(name) {
            self.bytes -= bytes(&standing.known);
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
        self.bytes = left.map(|standing| bytes(&standing.known)).sum();
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

fn bytes(known: &Known) -> usize {
    known.certificates().iter().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::records::CertRecords;
    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn records(octets: usize) -> Known {
        let mut records = CertRecords::default();
        records.take(1, vec![0x30; octets]);
        Known::Records(Arc::new(records))
    }

    fn answer(known: Known, ttl: u32) -> Answer {
        let ttl = Some(ttl);
        Answer { known, ttl }
    }

    /// The last second, counted from when it was kept, at which it is found.
    fn stands(known: Known, ttl: u32) -> i64 {
        let cache = CertCache::default();
        cache.keep("a.".to_owned(), &answer(known, ttl), time(0));
        let found = |at: &i64| cache.find("a.", time(*at)).is_some();
        (-1..=100_000).filter(found).max().unwrap_or(-1)
    }

    // rule: DISC-6
    #[test]
    fn an_answer_stands_for_its_ttl_and_for_an_hour_or_ten_minutes_at_most() {
        assert_eq!(stands(records(1), 60), 59);
        assert_eq!(stands(records(1), 86_400), 3_599);
        assert_eq!(stands(Known::NoRecord, 60), 59);
        assert_eq!(stands(Known::NoSuchName, 86_400), 599);
        assert_eq!(stands(records(1), 0), -1, "a TTL of 0 is for this use only");
        let cache = CertCache::default();
        let unknown = Answer {
            known: Known::NoSuchName,
            ttl: None,
        };
        cache.keep("a.".to_owned(), &unknown, time(0));
        assert_eq!(cache.find("a.", time(0)), None, "nobody said how long");
    }

    // rule: DISC-6
    #[test]
    fn names_and_octets_are_bounded_and_what_ends_first_goes_first() {
        let cache = CertCache::default();
        for index in 0..MAX_NAMES {
            let ttl = 100 + u32::try_from(index).unwrap();
            cache.keep(format!("n{index}."), &answer(records(1), ttl), time(0));
        }
        cache.keep("new.".to_owned(), &answer(records(1), 50), time(0));
        assert_eq!(cache.find("n0.", time(0)), None);
        assert!(cache.find("n1.", time(0)).is_some());
        assert!(cache.find("new.", time(0)).is_some());
        let kept = cache.0.lock().unwrap();
        assert_eq!((kept.by_name.len(), kept.bytes), (MAX_NAMES, MAX_NAMES));
        drop(kept);

        // A name twice is kept once.
        cache.keep("new.".to_owned(), &answer(records(9), 50), time(0));
        assert_eq!(cache.0.lock().unwrap().bytes, MAX_NAMES + 8);

        let half = answer(records(MAX_BYTES / 2), 3_000);
        for name in ["x.", "y."] {
            cache.keep(name.to_owned(), &half, time(0));
        }
        let kept = cache.0.lock().unwrap();
        assert_eq!((kept.by_name.len(), kept.bytes), (2, MAX_BYTES));
        drop(kept);
        let too_much = answer(records(MAX_BYTES + 1), 3_000);
        cache.keep("z.".to_owned(), &too_much, time(0));
        assert_eq!(cache.find("z.", time(0)), None);
        assert!(cache.find("x.", time(0)).is_some());
    }
}
