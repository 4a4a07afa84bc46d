//! Look-ups that are under way in the background. They wait for name servers and directories of strangers, who may be
//! silent: whoever is keeps the look-ups of others neither waiting nor out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keyed::{KeyedPlace, KeyedPlaces};
use crate::{bridge::discovery::Search, formats::ids::DomainName};

/// Look-ups at once.
const AT_ONCE: usize = 256;
/// Of these, look-ups at once in domains that have not answered lately.
const AT_ONCE_IN_SILENT_DOMAINS: usize = 64;
/// Look-ups at once for recipients in one domain.
const AT_ONCE_IN_ONE_DOMAIN: usize = 8;
/// How long nobody has answered where a domain counts as silent.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// How long a domain counts as silent that has not answered.
const SILENT_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Silent domains that are remembered; of more, those that were silent longest ago are forgotten.
const MAX_SILENT: usize = 10_000;

/// The places that look-ups run in, and who was silent.
pub struct LookUps {
    all: Arc<Semaphore>,
    in_silent: Arc<Semaphore>,
    domains: KeyedPlaces<DomainName>,
    silent: Mutex<HashMap<DomainName, Timestamp>>,
}

/// A place; dropped, it is free again.
pub struct LookUpPlace {
    _all: OwnedSemaphorePermit,
    _in_silent: Option<OwnedSemaphorePermit>,
}

impl Default for LookUps {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            in_silent: Arc::new(Semaphore::new(AT_ONCE_IN_SILENT_DOMAINS)),
            domains: KeyedPlaces::new(AT_ONCE_IN_ONE_DOMAIN),
            silent: Mutex::default(),
        }
    }
}

impl LookUps {
    /// A place for a recipient in `domain`, if one is free now.
    pub fn try_enter(
        &self,
        domain: &DomainName,
        now: Timestamp,
    ) -> Option<(LookUpPlace, KeyedPlace<DomainName>)> {
        let of_domain = self.domains.try_enter(domain)?;
        Some((self.try_enter_among_all(domain, now)?, of_domain))
    }

    /// A place for who has one of the domain's already, if one is free now.
    pub fn try_enter_among_all(&self, domain: &DomainName, now: Timestamp) -> Option<LookUpPlace> {
        let place = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        let in_silent = match self.is_silent(domain, now) {
            true => Some(place(&self.in_silent)?),
            false => None,
        };
        Some(LookUpPlace {
            _all: place(&self.all)?,
            _in_silent: in_silent,
        })
    }

    /// Takes note of how a search in `domain` has ended, which took so long.
    pub fn tell(&self, domain: &DomainName, search: &Search, took: Duration, now: Timestamp) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if !search.is_transient() {
            silent.remove(domain);
            return;
        }
        // A server that fails at once keeps nobody waiting.
        if !search.is_cut_off() && took < SILENT_AFTER {
            return;
        }
        if silent.len() >= MAX_SILENT && !silent.contains_key(domain) {
            silent.retain(|_, since| is_lately(*since, now));
            let since = silent.iter().min_by_key(|(_, since)| **since);
            let first = since.map(|(domain, _)| domain.clone());
            if silent.len() >= MAX_SILENT
                && let Some(first) = first
            {
                silent.remove(&first);
            }
        }
        silent.insert(domain.clone(), now);
    }

    fn is_silent(&self, domain: &DomainName, now: Timestamp) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let since = silent.get(domain);
        since.is_some_and(|since| is_lately(*since, now))
    }
}

fn is_lately(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) < SILENT_FOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{discovery::Lookup, trust::Judgement};

    fn domain(number: usize) -> DomainName {
        format!("d{number}.example").parse().unwrap()
    }

    fn time(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap()
    }

    fn cut_off() -> Search {
        let mut search = Search::default();
        search.end_without_answer("DNS CERT a.", Duration::from_secs(8));
        search
    }

    fn failed() -> Search {
        let mut search = Search::default();
        let lookup = Lookup {
            is_transient: true,
            ..Lookup::default()
        };
        search.take(lookup, Judgement::of_nothing());
        search
    }

    // rule: DISC-5
    #[test]
    fn silent_domains_leave_places_for_others_and_one_domain_for_other_domains() {
        let look_ups = LookUps::default();
        let cut_off = cut_off();
        for number in 0..100 {
            look_ups.tell(&domain(number), &cut_off, Duration::ZERO, time(0));
        }
        // One that fails at once is not silent.
        let failed = failed();
        look_ups.tell(&domain(200), &failed, Duration::ZERO, time(0));
        look_ups.tell(&domain(201), &failed, SILENT_AFTER, time(0));
        assert!(!look_ups.is_silent(&domain(200), time(0)));
        assert!(look_ups.is_silent(&domain(201), time(0)));
        let enter = |number, minutes| look_ups.try_enter(&domain(number), time(minutes));
        let of_silent: Vec<_> = (0..100).filter_map(|number| enter(number, 9)).collect();
        assert_eq!(of_silent.len(), AT_ONCE_IN_SILENT_DOMAINS);
        let of_one: Vec<_> = (0..20).filter_map(|_| enter(200, 9)).collect();
        assert_eq!(of_one.len(), AT_ONCE_IN_ONE_DOMAIN);
        let rest: Vec<_> = (300..1_000).filter_map(|number| enter(number, 9)).collect();
        assert_eq!(of_silent.len() + of_one.len() + rest.len(), AT_ONCE);
        drop(rest);

        // Whoever answers, or was silent long ago, is like any other.
        assert!(enter(99, 9).is_none());
        look_ups.tell(&domain(99), &Search::default(), SILENT_AFTER, time(9));
        assert!(enter(99, 9).is_some());
        assert!(enter(98, 10).is_some());
    }

    #[test]
    fn silent_domains_are_remembered_within_bounds() {
        let look_ups = LookUps::default();
        for number in 0..=MAX_SILENT {
            let seconds = i64::try_from(number / 100).unwrap();
            let now = time(0) + SignedDuration::from_secs(seconds);
            look_ups.tell(&domain(number), &cut_off(), Duration::ZERO, now);
        }
        assert_eq!(look_ups.silent.lock().unwrap().len(), MAX_SILENT);
        assert!(look_ups.is_silent(&domain(MAX_SILENT), time(2)));
        let last = domain(MAX_SILENT + 1);
        look_ups.tell(&last, &cut_off(), Duration::ZERO, time(60));
        assert_eq!(look_ups.silent.lock().unwrap().len(), 1);
    }
}
