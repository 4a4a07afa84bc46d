//! The byte budget: how many octets of messages may be in flight at once (LIM-17). What does not fit is pushed back
//! to the sender before it is read (HTTP 503, SMTP 452).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Octets in one permit: the semaphore counts in 32 bits.
const BYTES_IN_PERMIT: u64 = 1024;

/// A bounded number of octets, shared by all listeners.
#[derive(Clone)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    permits: u64,
}

/// Octets taken from the budget; dropped, they are free again.
pub struct Reservation {
    permit: Arc<Mutex<OwnedSemaphorePermit>>,
}

/// Adds to a reservation that somebody else holds: a body of undeclared length takes its room as it comes.
pub struct Growth {
    budget: ByteBudget,
    permit: Weak<Mutex<OwnedSemaphorePermit>>,
}

impl ByteBudget {
    /// A budget of `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        let permits = max_bytes.div_ceil(BYTES_IN_PERMIT).min(u64::from(u32::MAX));
        let free = usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(free.min(Semaphore::MAX_PERMITS))),
            permits,
        }
    }

    /// Takes `bytes` now, or says that there is no room.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let permits = u32::try_from(bytes.div_ceil(BYTES_IN_PERMIT)).ok()?;
        let permit = Arc::clone(&self.free)
            .try_acquire_many_owned(permits)
            .ok()?;
        Some(Reservation::new(permit))
    }

    /// Waits until there is room for `bytes`. A message larger than the whole budget waits for all of it.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let permits = bytes.div_ceil(BYTES_IN_PERMIT).min(self.permits);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free)
            .acquire_many_owned(permits)
            .await
            .expect("the semaphore is never closed");
        Reservation::new(permit)
    }

    /// Octets taken now.
    pub fn in_flight(&self) -> u64 {
        (self.permits - self.free.available_permits() as u64) * BYTES_IN_PERMIT
    }
}

impl Reservation {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit: Arc::new(Mutex::new(permit)),
        }
    }

    /// Octets that this reservation holds.
    pub fn bytes(&self) -> u64 {
        lock(&self.permit).num_permits() as u64 * BYTES_IN_PERMIT
    }

    /// Adds what `other` holds.
    pub fn merge(&mut self, other: Self) {
        if let Some(permit) = other.take() {
            lock(&self.permit).merge(permit);
        }
    }

    /// All that it holds: what a growth adds afterwards is freed with the reservation itself.
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        let mut held = lock(&self.permit);
        let all = held.num_permits();
        held.split(all)
    }

    /// Lets the one who reads the body add to this reservation of `budget`.
    pub fn growth(&self, budget: &ByteBudget) -> Growth {
        Growth {
            budget: budget.clone(),
            permit: Arc::downgrade(&self.permit),
        }
    }
}

impl Growth {
    /// Takes `bytes` more now. `false` when there is no room, or when nobody holds the reservation any more.
    pub fn try_grow(&self, bytes: u64) -> bool {
        let Some(held) = self.permit.upgrade() else {
            return false;
        };
        let Some(more) = self.budget.try_reserve(bytes) else {
            return false;
        };
        if let Some(permit) = more.take() {
            lock(&held).merge(permit);
        }
        true
    }
}

/// A panic elsewhere cannot leave a permit half merged, so a poisoned lock is as good as any.
fn lock(permit: &Mutex<OwnedSemaphorePermit>) -> MutexGuard<'_, OwnedSemaphorePermit> {
    permit.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_something_is_dropped() {
        let budget = ByteBudget::new(10 * 1024);
        let first = budget.try_reserve(8 * 1024).unwrap();
        assert!(budget.try_reserve(4 * 1024).is_none());
        assert_eq!(budget.in_flight(), 8 * 1024);
        drop(first);
        assert!(budget.try_reserve(4 * 1024).is_some());
    }

    // rule: LIM-17
    #[test]
    fn a_reservation_grows_within_the_budget_and_frees_all_of_it() {
        let budget = ByteBudget::new(10 * 1024);
        let held = budget.try_reserve(2 * 1024).unwrap();
        let growth = held.growth(&budget);
        assert!(growth.try_grow(6 * 1024));
        assert_eq!(held.bytes(), 8 * 1024);
        assert!(!growth.try_grow(4 * 1024), "only 2 KiB are left");
        drop(held);
        assert_eq!(budget.in_flight(), 0);
        assert!(!growth.try_grow(1024), "nobody holds it any more");
        assert_eq!(budget.in_flight(), 0);
    }

    #[test]
    fn a_merged_reservation_keeps_the_octets_of_both() {
        let budget = ByteBudget::new(10 * 1024);
        let mut first = budget.try_reserve(2 * 1024).unwrap();
        first.merge(budget.try_reserve(3 * 1024).unwrap());
        assert_eq!(first.bytes(), 5 * 1024);
        assert_eq!(budget.in_flight(), 5 * 1024);
    }
}
