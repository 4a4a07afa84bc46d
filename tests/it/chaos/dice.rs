//! Choices by a seed: the same seed makes the same choices, whatever the machine makes of their timing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A stream of choices (SplitMix64).
pub(super) struct Dice(AtomicU64);

impl Dice {
    /// The stream `number` of a seed.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let first = Self(AtomicU64::new(seed ^ number.rotate_left(32)));
        Self(AtomicU64::new(first.next()))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A time in milliseconds from `least` to below `most`.
    pub(super) fn millis(&self, least: usize, most: usize) -> Duration {
        Duration::from_millis(u64::try_from(least + self.below(most - least)).unwrap())
    }

    /// Another order.
    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
