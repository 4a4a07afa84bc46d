//! The workers: due effects are claimed by lease, run, and their results fed back as events.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};
use tracing::{error, warn};

use super::{
    keyed::KeyedPlaces,
    measures,
    ports::{Claim, Clock, Exchanges, StoreError},
};
use crate::{bridge::exchange::Effect, formats::ids::DomainName};

/// Longest sleep between two looks at the outbox, should a wake-up be lost.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Sleep after the store could not be asked.
const STORE_FAILED_SLEEP: Duration = Duration::from_secs(1);
/// Longest delay of an effect that could not be run at all.
const LONGEST_DELAY_SECONDS: i64 = 60;
/// Claims that wait for a place, for each place.
const CLAIMS_FOR_EACH_PLACE: usize = 16;
/// Hand-overs and posts at once to one destination, and no more than half of all hand-overs: a slow one takes no more
/// places than these.
const AT_ONCE_TO_ONE_DESTINATION: usize = 8;
/// Claims that wait here for one destination; what is more goes back to the outbox for a while, so that a slow one does
/// not fill the room of all others.
const CLAIMS_TO_ONE_DESTINATION: usize = 256;
/// From this failed run of one effect on, an operator must look at it.
const ALARMING_ATTEMPTS: u32 = 5;

/// Runs one kind of effects, or all of them.
#[async_trait]
pub trait RunEffect: Send + Sync {
    /// Runs the claimed effect and completes it in the unit of work that records its result. An error means that it
    /// could not be run: it stays in the outbox and comes again.
    async fn run(&self, claim: &Claim) -> Result<(), StoreError>;

    /// Does what comes before a hand-over and waits for others than the next hop, such as a look-up: it takes none of the
    /// places that hand-overs have. An error means as much as one of [`Self::run`].
    async fn prepare(&self, _claim: &Claim) -> Result<Prepared, StoreError> {
        Ok(Prepared::Ready)
    }
}

/// What is to be done with an effect that was prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// It is run.
    Ready,
    /// Nothing: its claim is settled.
    Settled,
}

/// The outbox's workers.
pub struct Outbox {
    /// Where effects wait.
    pub store: Arc<dyn Exchanges>,
    /// Runs them.
    pub effects: Arc<dyn RunEffect>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Rung whenever effects were committed.
    pub wake: Arc<Notify>,
    /// How many run at once, posts aside, which have places by endpoint or partner, and look-ups, which have places of their
    /// own ([`super::look_ups`]). A quarter is kept for everything but hand-overs, which may take long: deadlines, seals and
    /// reports never wait for a slow next hop.
    pub workers: usize,
    /// How long a claim lasts.
    pub lease: Duration,
    /// How long an effect may run: shorter than the lease, so that it never runs twice at once.
    pub longest_effect: Duration,
}

/// The places that effects run in.
struct Places {
    claims: Arc<Semaphore>,
    sends: Semaphore,
    others: Semaphore,
    waiting: KeyedPlaces<Destination>,
    destinations: KeyedPlaces<Destination>,
}

/// Where an effect leads out of the bridge. Whether it is slow, its own effects alone feel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Destination {
    /// The next hop of a domain's mail.
    Domain(DomainName),
    /// An XDR endpoint, by its name. The configuration has so few that they share no other bound.
    Endpoint(String),
    /// The status endpoint of a partner, by the partner's name. Of those there are few as well.
    Partner(String),
}

impl Destination {
    /// `None` for what the bridge does by itself.
    fn of(effect: &Effect) -> Option<Self> {
        match effect {
            Effect::Send { domain, .. } | Effect::SendMdn { domain, .. } => {
                Some(Self::Domain(domain.clone()))
            }
            Effect::Post { endpoint, .. } => Some(Self::Endpoint(endpoint.clone())),
            Effect::PostStatus { partner, .. } => Some(Self::Partner(partner.clone())),
            Effect::LookUp { .. }
            | Effect::Seal { .. }
            | Effect::Open
            | Effect::ReportOutcome { .. }
            | Effect::DeadlineQueue
            | Effect::DeadlineTp
            | Effect::DeadlineTd
            | Effect::RemoveBodies => None,
        }
    }
}

impl Outbox {
    /// Claims and runs effects until `stop` turns true or its sender is gone, then waits for those under way.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let reserved = (self.workers / 4).max(1);
        let sends = self.workers.saturating_sub(reserved).max(1);
        let at_once = (sends / 2).clamp(1, AT_ONCE_TO_ONE_DESTINATION);
        let places = Arc::new(Places {
            claims: Arc::new(Semaphore::new(self.workers.max(1) * CLAIMS_FOR_EACH_PLACE)),
            sends: Semaphore::new(sends),
            others: Semaphore::new(reserved),
            waiting: KeyedPlaces::new(CLAIMS_TO_ONE_DESTINATION),
            destinations: KeyedPlaces::new(at_once),
        });
        // What one effect asks for at once comes without another look at the disk.
        self.store
            .lease_on_commit(self.lease, self.workers.max(1) * CLAIMS_FOR_EACH_PLACE);
        let mut running = JoinSet::new();
        while !is_stopped(&stop) {
            while running.try_join_next().is_some() {}
            let free = places.claims.available_permits().min(self.workers.max(1));
            if free == 0 {
                tokio::select! {
                    _ = running.join_next() => {}
                    _ = stop.changed() => {}
                }
                continue;
            }
            let claims = match self.store.claim(self.clock.now(), self.lease, free).await {
                Ok(claims) => claims,
                Err(failure) => {
                    error!(
                        alarm = "store",
                        error = &failure as &dyn std::error::Error,
                        "the outbox cannot be read"
                    );
                    measures::count_alarm("store");
                    self.sleep(STORE_FAILED_SLEEP, &mut stop).await;
                    continue;
                }
            };
            // Fewer than asked for: no more are due now. What is committed from here on rings, and the ring is kept.
            let is_all = claims.len() < free;
            for claim in claims {
                let Ok(claimed) = Arc::clone(&places.claims).try_acquire_owned() else {
                    break;
                };
                let (outbox, places) = (Arc::clone(&self), Arc::clone(&places));
                match Destination::of(&claim.effect) {
                    // It waits for name servers, and takes no room of those who wait for us.
                    None if matches!(claim.effect, Effect::LookUp { .. }) => {
                        drop(claimed);
                        running.spawn(async move { outbox.run_in_time(&claim, &places).await })
                    }
                    None => running.spawn(async move {
                        outbox.run_by_itself(&claim, &places).await;
                        drop(claimed);
                    }),
                    // It waits in the room of its destination, not in that of all.
                    Some(destination) => {
                        drop(claimed);
                        running.spawn(async move {
                            outbox.run_towards(&destination, &claim, &places).await;
                        })
                    }
                };
            }
            if is_all {
                let sleep = self.until_next_due().await;
                self.sleep(sleep, &mut stop).await;
            }
        }
        self.store.lease_on_commit(self.lease, 0);
        // What only waits for a place is left to the next start; what runs is waited for.
        places.sends.close();
        places.others.close();
        places.destinations.close();
        while running.join_next().await.is_some() {}
    }

    async fn run_by_itself(&self, claim: &Claim, places: &Places) {
        // A closed lane means that the bridge stops.
        if let Ok(_place) = places.others.acquire().await {
            self.run_in_time(claim, places).await;
        }
    }

    async fn run_towards(&self, destination: &Destination, claim: &Claim, places: &Places) {
        let Some(_waiting) = places.waiting.try_enter(destination) else {
            let at = self.clock.now() + delay(claim.attempts);
            return self.give_back(claim, at, places).await;
        };
        let _place = places.destinations.enter(destination).await;
        if places.sends.is_closed() || !self.prepare(claim, places).await {
            return;
        }
        let lane = match destination {
            Destination::Domain(_) => Some(places.sends.acquire().await),
            Destination::Endpoint(_) | Destination::Partner(_) => None,
        };
        // The lane's place is held while it runs. A closed lane means that the bridge stops.
        if !places.sends.is_closed() && !matches!(lane, Some(Err(_))) {
            self.run_in_time(claim, places).await;
        }
    }

    /// Whether the claim is to be run now.
    async fn prepare(&self, claim: &Claim, places: &Places) -> bool {
        let prepare = self.effects.prepare(claim);
        self.in_time(claim, places, prepare).await == Some(Prepared::Ready)
    }

    async fn run_in_time(&self, claim: &Claim, places: &Places) {
        self.in_time(claim, places, self.effects.run(claim)).await;
    }

    /// What comes of `work`; `None`: the claim is no longer ours, or was given back.
    async fn in_time<T>(
        &self,
        claim: &Claim,
        places: &Places,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        // A claim that waited long for its place may lapse while it runs: then it is claimed anew.
        let end = self.clock.now().checked_add(self.longest_effect);
        if !end.is_ok_and(|end| end < claim.leased_until) {
            self.give_back(claim, self.clock.now(), places).await;
            return None;
        }
        let work = AssertUnwindSafe(work).catch_unwind();
        let failure = match tokio::time::timeout(self.longest_effect, work).await {
            Ok(Ok(Ok(done))) => return Some(done),
            // Another worker completed it after our lease lapsed: its result stands.
            Ok(Ok(Err(StoreError::LeaseLost))) => return None,
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_)) => StoreError::Failed("the effect panicked".into()),
            Err(_) => StoreError::Failed("the effect took longer than its lease".into()),
        };
        warn!(
            exchange.id = %claim.exchange,
            attempts = claim.attempts,
            error = &failure as &dyn std::error::Error,
            "an effect of exchange {} could not be run and comes again", claim.exchange
        );
        if claim.attempts >= ALARMING_ATTEMPTS {
            error!(
                alarm = "effect",
                exchange.id = %claim.exchange,
                attempts = claim.attempts,
                "an effect of exchange {} keeps failing", claim.exchange
            );
            measures::count_alarm("effect");
        }
        self.give_back(claim, self.clock.now() + delay(claim.attempts), places)
            .await;
        None
    }

    /// Lets the effect come again at `at`. Where the store cannot be written, that is tried until it can be: otherwise all
    /// that was under way in a short outage would wait for the end of its lease, which is long.
    async fn give_back(&self, claim: &Claim, at: Timestamp, places: &Places) {
        let mut is_told = false;
        loop {
            let failure = match self.store.give_back(claim, at).await {
                Ok(()) | Err(StoreError::LeaseLost) => return,
                Err(failure) => failure,
            };
            if !is_told {
                warn!(
                    exchange.id = %claim.exchange,
                    error = &failure as &dyn std::error::Error,
                    "a claim could not be given back; it is tried again until it can be"
                );
                is_told = true;
            }
            // The next start ends the leases of this one.
            let is_over = places.others.is_closed() || self.clock.now() >= claim.leased_until;
            if is_over {
                return;
            }
            tokio::time::sleep(STORE_FAILED_SLEEP).await;
        }
    }

    async fn until_next_due(&self) -> Duration {
        match self.store.next_due().await {
            Ok(Some(at)) => until(self.clock.now(), at).min(LONGEST_SLEEP),
            Ok(None) => LONGEST_SLEEP,
            Err(_) => STORE_FAILED_SLEEP,
        }
    }

    async fn sleep(&self, duration: Duration, stop: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.wake.notified() => {}
            _ = stop.changed() => {}
        }
    }
}

fn is_stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// When an effect comes again that could not be run: 1, 2, 4 … 60 seconds later.
pub(super) fn delay(attempts: u32) -> SignedDuration {
    let seconds = 1i64.checked_shl(attempts).unwrap_or(LONGEST_DELAY_SECONDS);
    SignedDuration::from_secs(seconds.clamp(1, LONGEST_DELAY_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_that_cannot_be_run_comes_again_ever_later_up_to_a_minute() {
        let seconds: Vec<i64> = (0..9).map(|attempts| delay(attempts).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(delay(u32::MAX).as_secs(), 60);
    }
}
