//! A disk whose free space the test says.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use xdbridge::flows::{
    ports::{FreeRoom, MeasureRoom, StoreError},
    room::{Room, RoomConfig, RoomWatch},
};

/// A watch over a disk that is empty at first.
pub(crate) struct TestRoom {
    disk: Arc<Disk>,
    watch: Arc<RoomWatch>,
}

struct Disk(AtomicU64);

impl TestRoom {
    pub(crate) fn new() -> Self {
        let disk = Arc::new(Disk(AtomicU64::new(u64::MAX)));
        let watch = RoomWatch::new(disk.clone(), RoomConfig::default());
        Self { disk, watch }
    }

    pub(crate) fn room(&self) -> Room {
        self.watch.room()
    }

    /// Leaves so many octets, and has the watch look.
    pub(crate) async fn leave(&self, bytes: u64) {
        self.disk.0.store(bytes, Ordering::Relaxed);
        self.watch.look().await;
    }
}

#[async_trait]
impl MeasureRoom for Disk {
    async fn free(&self) -> io::Result<FreeRoom> {
        let bytes = self.0.load(Ordering::Relaxed);
        let inodes = None;
        Ok(FreeRoom { bytes, inodes })
    }

    async fn body_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}
