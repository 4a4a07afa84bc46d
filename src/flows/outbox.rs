//! The workers: due effects are claimed by lease, run, and their results fed back as events.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{error, warn};

use super::ports::{Claim, Clock, Exchanges, StoreError};

/// Longest sleep between two looks at the outbox, should a wake-up be lost.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Sleep after the store could not be asked.
const STORE_FAILED_SLEEP: Duration = Duration::from_secs(1);
/// Longest delay of an effect that could not be run at all.
const LONGEST_DELAY_SECONDS: i64 = 60;

/// Runs one kind of effects, or all of them.
#[async_trait]
pub trait RunEffect: Send + Sync {
    /// Runs the claimed effect and completes it in the unit of work that records its result. An error means that it
    /// could not be run: it stays in the outbox and comes again.
    async fn run(&self, claim: &Claim) -> Result<(), StoreError>;
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
    /// How many run at once.
    pub workers: usize,
    /// How long a claim lasts.
    pub lease: Duration,
    /// How long an effect may run: shorter than the lease, so that it never runs twice at once.
    pub longest_effect: Duration,
}

impl Outbox {
    /// Claims and runs effects until `stop` turns true, then waits for those under way.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.workers));
        while !*stop.borrow() {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                break;
            };
            let free = places.available_permits() + 1;
            let claims = match self.store.claim(self.clock.now(), self.lease, free).await {
                Ok(claims) => claims,
                Err(failure) => {
                    crate::flows::measures::count_alarm("store");
                    error!(
                        alarm = "store",
                        error = &failure as &dyn std::error::Error,
                        "the outbox cannot be read"
                    );
                    drop(place);
                    self.sleep(STORE_FAILED_SLEEP, &mut stop).await;
                    continue;
                }
            };
            drop(place);
            // Fewer than asked for: no more are due now. What is committed from here on rings, and the ring is kept.
            let is_all = claims.len() < free;
            for claim in claims {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    break;
                };
                let outbox = Arc::clone(&self);
                tokio::spawn(async move {
                    outbox.run_one(claim).await;
                    drop(place);
                });
            }
            if is_all {
                let sleep = self.until_next_due().await;
                self.sleep(sleep, &mut stop).await;
            }
        }
        // Every permit back means that every effect under way has ended.
        let all = u32::try_from(self.workers).unwrap_or(u32::MAX);
        let _ = places.acquire_many(all).await;
    }

    async fn run_one(&self, claim: Claim) {
        let failure =
            match tokio::time::timeout(self.longest_effect, self.effects.run(&claim)).await {
                Ok(Ok(())) => return,
                // Another worker completed it after our lease lapsed: its result stands.
                Ok(Err(StoreError::Conflict { .. })) => return,
                Ok(Err(failure)) => failure,
                Err(_) => StoreError::Failed("the effect took longer than its lease".into()),
            };
        warn!(
            exchange.id = %claim.exchange,
            attempts = claim.attempts,
            error = &failure as &dyn std::error::Error,
            "an effect of exchange {} could not be run and comes again", claim.exchange
        );
        let at = self.clock.now() + delay(claim.attempts);
        if let Err(failure) = self.store.give_back(&claim, at).await {
            // The lease lapses by itself.
            warn!(exchange.id = %claim.exchange, error = &failure as &dyn std::error::Error, "a claim could not be given back");
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

fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// 1, 2, 4 … 60 seconds.
fn delay(attempts: u32) -> SignedDuration {
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
