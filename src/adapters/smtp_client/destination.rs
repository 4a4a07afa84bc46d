//! How hard one destination is pressed: connections at the same time, and rest after failures.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Destinations remembered; beyond it those are forgotten that are neither in use nor failing.
const MAX_REMEMBERED: usize = 1000;

/// All destinations: a domain, or a smarthost.
pub(super) struct Destinations {
    connections: usize,
    all: Mutex<HashMap<String, Arc<Destination>>>,
}

/// One destination.
pub(super) struct Destination {
    slots: Semaphore,
    breaker: Mutex<Breaker>,
}

/// Counts attempts in a row that reached nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Destinations {
    /// Each with at most `connections` at the same time.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            connections,
            all: Mutex::default(),
        }
    }

    /// The destination of that name.
    pub(super) fn of(&self, name: &str) -> Arc<Destination> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_REMEMBERED {
            all.retain(|_, known| Arc::strong_count(known) > 1 || known.has_failed());
        }
        let fresh = || {
            Arc::new(Destination {
                slots: Semaphore::new(self.connections),
                breaker: Mutex::default(),
            })
        };
        Arc::clone(all.entry(name.to_owned()).or_insert_with(fresh))
    }
}

impl Destination {
    /// Waits until a connection may be made.
    pub(super) async fn slot(&self) -> SemaphorePermit<'_> {
        let permit = self.slots.acquire().await;
        permit.expect("the semaphore is never closed")
    }

    /// Whether the destination is left alone at `now`.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.with_breaker(|breaker| breaker.is_open(now))
    }

    /// A host answered.
    pub(super) fn reached(&self) {
        self.with_breaker(|breaker| *breaker = Breaker::default());
    }

    /// No host answered.
    pub(super) fn failed(&self, now: Instant, max_failures: u32, pause: Duration) {
        self.with_breaker(|breaker| breaker.fail(now, max_failures, pause));
    }

    fn has_failed(&self) -> bool {
        self.with_breaker(|breaker| breaker.failures > 0)
    }

    fn with_breaker<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        change(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Breaker {
    fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until)
    }

    fn fail(&mut self, now: Instant, max_failures: u32, pause: Duration) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= max_failures {
            self.open_until = now.checked_add(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: Q-5
    #[test]
    fn ten_failures_in_a_row_pause_a_destination_and_one_more_after_the_pause_again() {
        let pause = Duration::from_secs(300);
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            breaker.fail(start, 10, pause);
            assert!(!breaker.is_open(start));
        }
        breaker.fail(start, 10, pause);
        assert!(breaker.is_open(start + pause - Duration::from_secs(1)));
        assert!(!breaker.is_open(start + pause));
        breaker.fail(start + pause, 10, pause);
        assert!(breaker.is_open(start + pause));
    }

    // rule: Q-5
    #[test]
    fn forgetting_destinations_spares_those_that_fail() {
        let all = Destinations::new(5);
        all.of("dead.example")
            .failed(Instant::now(), 1, Duration::from_secs(300));
        for number in 0..2 * MAX_REMEMBERED {
            all.of(&format!("d{number}.example"));
        }
        assert!(all.of("dead.example").is_paused(Instant::now()));
        assert!(all.all.lock().unwrap().len() <= MAX_REMEMBERED + 1);
    }

    // rule: Q-5
    #[tokio::test]
    async fn a_destination_has_as_many_slots_as_connections_are_allowed() {
        let all = Destinations::new(2);
        let destination = all.of("hisp.example");
        let first = destination.slot().await;
        let _second = destination.slot().await;
        assert_eq!(all.of("hisp.example").slots.available_permits(), 0);
        drop(first);
        assert_eq!(destination.slots.available_permits(), 1);
    }
}
