//! Places for each of many keys, such as one decision at a time for each submission, or a few hand-overs at a time for
//! each domain.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A semaphore for each key that is in use; keys that nobody uses take no room.
#[derive(Debug)]
pub struct KeyedPlaces<K> {
    places: usize,
    keys: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

/// One place; dropped, it is free again.
pub struct KeyedPlace<K: Eq + Hash> {
    keys: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
    key: K,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K> Clone for KeyedPlaces<K> {
    fn clone(&self) -> Self {
        Self {
            places: self.places,
            keys: Arc::clone(&self.keys),
        }
    }
}

impl<K: Eq + Hash + Clone> KeyedPlaces<K> {
    /// `places` for each key.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            keys: Arc::default(),
        }
    }

    /// Waits for a place of `key`.
    pub async fn enter(&self, key: &K) -> KeyedPlace<K> {
        let (semaphore, mut place) = self.before(key);
        place.permit = semaphore.acquire_owned().await.ok();
        place
    }

    /// A place of `key`, if one is free now.
    pub fn try_enter(&self, key: &K) -> Option<KeyedPlace<K>> {
        let (semaphore, mut place) = self.before(key);
        place.permit = Some(semaphore.try_acquire_owned().ok()?);
        Some(place)
    }

    /// Wakes everybody who waits for a place, without giving one.
    pub fn close(&self) {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.values().for_each(|semaphore| semaphore.close());
    }

    /// The semaphore of `key`, and a place that is not taken yet.
    fn before(&self, key: &K) -> (Arc<Semaphore>, KeyedPlace<K>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Semaphore::new(self.places));
        let semaphore = Arc::clone(keys.entry(key.clone()).or_insert_with(fresh));
        let place = KeyedPlace {
            keys: Arc::clone(&self.keys),
            key: key.clone(),
            permit: None,
        };
        (semaphore, place)
    }
}

impl<K: Eq + Hash> Drop for KeyedPlace<K> {
    fn drop(&mut self) {
        self.permit = None;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own reference is the last one: nobody holds or waits for a place.
        if keys
            .get(&self.key)
            .is_some_and(|semaphore| Arc::strong_count(semaphore) == 1)
        {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_whose_places_are_taken_holds_up_itself_and_no_other() {
        let places = KeyedPlaces::new(1);
        let first = places.enter(&1).await;
        let _other = places.enter(&2).await;
        let second = tokio::spawn({
            let places = places.clone();
            async move { places.enter(&1).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        assert!(!places.keys.lock().unwrap().contains_key(&1));
    }
}
