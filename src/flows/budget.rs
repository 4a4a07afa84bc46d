//! The byte budget: how many octets of messages may be in flight at once (LIM-17). What does not fit is pushed back
//! to the sender before it is read (HTTP 503, SMTP 452).

use std::sync::Arc;

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
    permit: OwnedSemaphorePermit,
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
        Some(Reservation { permit })
    }

    /// Waits until there is room for `bytes`. A message larger than the whole budget waits for all of it.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let permits = bytes.div_ceil(BYTES_IN_PERMIT).min(self.permits);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free)
            .acquire_many_owned(permits)
            .await
            .expect("the semaphore is never closed");
        Reservation { permit }
    }

    /// Octets taken now.
    pub fn in_flight(&self) -> u64 {
        (self.permits - self.free.available_permits() as u64) * BYTES_IN_PERMIT
    }
}

impl Reservation {
    /// Octets that this reservation holds.
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * BYTES_IN_PERMIT
    }

    /// Adds what `other` holds.
    pub fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }
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
}
