//! The room that the store has left: disk space, inodes, octets of bodies (T-26, LIM-18 to LIM-20). While a budget is
//! used up the listeners push back before they read anything (HTTP 503, SMTP 452) and `/readyz` is red; what was
//! accepted goes on, which the room that is left is for. A budget that was used up must recover by a tenth before
//! anything is accepted again, so that the bridge does not flap.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::{
    measures,
    ports::{FreeRoom, MeasureRoom, Readiness},
};
use crate::formats::units::duration_text;

/// The part of a budget by which it must recover.
const RECOVERY_PART: u64 = 10;

/// When the store counts as full: `[store.room]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomConfig {
    /// Octets that must be free on the file system of `store.path`; below it nothing is accepted. Default 1 GiB: what
    /// may be in flight by `limits.max_bytes_in_flight`, once as it came and once as it is sent (LIM-18).
    pub min_free_bytes: u64,
    /// Inodes that must be free there: each body of 32 KiB or more takes one. Not asked where the file system does not
    /// count them. Default 10000 (LIM-19).
    pub min_free_inodes: u64,
    /// Octets of all bodies that may be kept; above it nothing is accepted. With PostgreSQL it is the one that tells of
    /// the database's disk in advance, and counts the bodies of all nodes. Default none: no limit (LIM-20).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// How often all this is measured. Default `"10s"`.
    #[serde(with = "duration_text")]
    pub interval: Duration,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            min_free_bytes: 1024 * 1024 * 1024,
            min_free_inodes: 10_000,
            max_body_bytes: None,
            interval: Duration::from_secs(10),
        }
    }
}

impl RoomConfig {
    /// Everything that is wrong with the values: key and what would be accepted.
    pub fn problems(&self) -> Vec<String> {
        let hour = Duration::from_secs(60 * 60);
        let is_sound = (Duration::from_millis(100)..=hour).contains(&self.interval);
        let problem = "store.room.interval: \"100ms\" to \"1h\"".to_owned();
        if is_sound { Vec::new() } else { vec![problem] }
    }
}

/// What may be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Budget {
    Disk,
    Inodes,
    Bodies,
}

impl Budget {
    const ALL: [Self; 3] = [Self::Disk, Self::Inodes, Self::Bodies];

    fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Inodes => "inodes",
            Self::Bodies => "bodies",
        }
    }

    fn trouble(self) -> &'static str {
        match self {
            Self::Disk => "less is free than store.room.min_free_bytes: nothing is accepted",
            Self::Inodes => "less are free than store.room.min_free_inodes: nothing is accepted",
            Self::Bodies => "more are kept than store.room.max_body_bytes: nothing is accepted",
        }
    }
}

/// What the listeners ask before they take anything. All clones tell the same.
#[derive(Clone, Default)]
pub struct Room {
    short: Arc<[AtomicBool; 3]>,
}

impl Room {
    /// Whether no budget is used up.
    pub fn is_left(&self) -> bool {
        !self.short.iter().any(|short| short.load(Ordering::Relaxed))
    }

    fn is_short(&self, budget: Budget) -> bool {
        self.short[budget as usize].load(Ordering::Relaxed)
    }

    /// True if it was otherwise before.
    fn set(&self, budget: Budget, is_short: bool) -> bool {
        self.short[budget as usize].swap(is_short, Ordering::Relaxed) != is_short
    }
}

/// Measures the room and judges it.
pub struct RoomWatch {
    room: Room,
    source: Arc<dyn MeasureRoom>,
    config: RoomConfig,
    /// Whether the last measurement failed, so that it is alarmed once.
    is_blind: AtomicBool,
}

impl RoomWatch {
    /// A watch over `source`. Until its first look there is room.
    pub fn new(source: Arc<dyn MeasureRoom>, config: RoomConfig) -> Arc<Self> {
        Arc::new(Self {
            room: Room::default(),
            source,
            config,
            is_blind: AtomicBool::new(false),
        })
    }

    /// What the listeners ask.
    pub fn room(&self) -> Room {
        self.room.clone()
    }

    /// Looks again and again, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
            tokio::time::sleep(self.config.interval).await;
        }
    }

    /// What `/readyz` asks: each budget by its name. Each measures anew.
    pub fn parts(self: &Arc<Self>) -> impl Iterator<Item = Arc<dyn Readiness>> {
        Budget::ALL.into_iter().map(|budget| {
            let watch = Arc::clone(self);
            Arc::new(Part { watch, budget }) as Arc<dyn Readiness>
        })
    }

    /// Measures everything once. What cannot be measured stays as it was judged last.
    pub async fn look(&self) {
        // The database tells by itself of its own trouble.
        let _ = self.look_at_bodies().await;
        let _ = self.look_at_disk().await;
    }

    async fn look_at_disk(&self) -> Result<(), &'static str> {
        let free = match self.source.free().await {
            Ok(free) => free,
            Err(error) => {
                if !self.is_blind.swap(true, Ordering::Relaxed) {
                    measures::count_alarm("room");
                    error!(alarm = "room", %error, "the room of the data directory cannot be measured: {error}");
                }
                return Err("the room of the data directory cannot be measured");
            }
        };
        self.is_blind.store(false, Ordering::Relaxed);
        let FreeRoom { bytes, inodes } = free;
        metrics::gauge!(measures::FREE_BYTES).set(bytes as f64);
        self.judge(Budget::Disk, bytes, |was_short| {
            bytes < at_least(self.config.min_free_bytes, was_short)
        });
        if let Some(inodes) = inodes {
            metrics::gauge!(measures::FREE_INODES).set(inodes as f64);
            self.judge(Budget::Inodes, inodes, |was_short| {
                inodes < at_least(self.config.min_free_inodes, was_short)
            });
        }
        Ok(())
    }

    async fn look_at_bodies(&self) -> Result<(), &'static str> {
        let Some(most) = self.config.max_body_bytes else {
            return Ok(());
        };
        let kept = self.source.body_bytes().await;
        let kept = kept.map_err(|_| "the octets of the bodies cannot be told")?;
        metrics::gauge!(measures::BODY_BYTES).set(kept as f64);
        self.judge(Budget::Bodies, kept, |was_short| {
            kept > at_most(most, was_short)
        });
        Ok(())
    }

    fn judge(&self, budget: Budget, measured: u64, is_short: impl FnOnce(bool) -> bool) {
        let is_short = is_short(self.room.is_short(budget));
        let name = budget.name();
        metrics::gauge!(measures::ROOM_SHORT, "budget" => name).set(f64::from(u8::from(is_short)));
        if !self.room.set(budget, is_short) {
            return;
        }
        if is_short {
            measures::count_alarm("room");
            let trouble = budget.trouble();
            error!(alarm = "room", budget = name, measured, "{name}: {trouble}");
        } else {
            info!(budget = name, measured, "{name}: there is room again");
        }
    }
}

/// The least that must be free.
fn at_least(min: u64, was_short: bool) -> u64 {
    let more = if was_short { min / RECOVERY_PART } else { 0 };
    min.saturating_add(more)
}

/// The most that may be kept.
fn at_most(max: u64, was_short: bool) -> u64 {
    max - if was_short { max / RECOVERY_PART } else { 0 }
}

struct Part {
    watch: Arc<RoomWatch>,
    budget: Budget,
}

#[async_trait]
impl Readiness for Part {
    fn part(&self) -> &'static str {
        self.budget.name()
    }

    async fn check(&self) -> Result<(), &'static str> {
        match self.budget {
            Budget::Disk | Budget::Inodes => self.watch.look_at_disk().await?,
            Budget::Bodies => self.watch.look_at_bodies().await?,
        }
        if self.watch.room.is_short(self.budget) {
            return Err(self.budget.trouble());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;
    use crate::flows::ports::StoreError;

    struct Disk(Mutex<io::Result<(u64, Option<u64>, u64)>>);

    impl Disk {
        fn now(&self) -> io::Result<(u64, Option<u64>, u64)> {
            match &*self.0.lock().unwrap() {
                Ok(measured) => Ok(*measured),
                Err(error) => Err(error.kind().into()),
            }
        }
    }

    #[async_trait]
    impl MeasureRoom for Disk {
        async fn free(&self) -> io::Result<FreeRoom> {
            let (bytes, inodes, _) = self.now()?;
            Ok(FreeRoom { bytes, inodes })
        }

        async fn body_bytes(&self) -> Result<u64, StoreError> {
            let measured = self.now();
            measured
                .map(|(_, _, bodies)| bodies)
                .map_err(|error| StoreError::Failed(error.into()))
        }
    }

    async fn red(watch: &Arc<RoomWatch>) -> Vec<&'static str> {
        let mut red = Vec::new();
        for part in watch.parts() {
            if part.check().await.is_err() {
                red.push(part.part());
            }
        }
        red
    }

    // rule: LIM-18, LIM-19, LIM-20, T-26
    #[tokio::test]
    async fn each_budget_is_used_up_below_its_threshold_and_recovers_a_tenth_beyond() {
        let disk = Arc::new(Disk(Mutex::new(Ok((1000, Some(100), 0)))));
        let config = RoomConfig {
            min_free_bytes: 1000,
            min_free_inodes: 100,
            max_body_bytes: Some(5000),
            ..RoomConfig::default()
        };
        let watch = RoomWatch::new(disk.clone(), config);
        for (measured, expected) in [
            ((1000, Some(100), 5000), &[][..]),
            ((999, Some(100), 5000), &["disk"]),
            ((1099, Some(100), 5000), &["disk"]),
            ((1100, Some(100), 5000), &[]),
            ((1000, Some(99), 5000), &["inodes"]),
            ((999, Some(109), 5001), &["disk", "inodes", "bodies"]),
            ((2000, Some(110), 4501), &["bodies"]),
            ((2000, None, 4500), &[]),
            ((2000, Some(0), 0), &["inodes"]),
        ] {
            *disk.0.lock().unwrap() = Ok(measured);
            watch.look().await;
            assert_eq!(watch.room().is_left(), expected.is_empty(), "{measured:?}");
            assert_eq!(red(&watch).await, expected, "{measured:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_measured_is_not_ready_and_stays_as_it_was_judged() {
        let disk = Arc::new(Disk(Mutex::new(Ok((0, None, 0)))));
        let watch = RoomWatch::new(disk.clone(), RoomConfig::default());
        watch.look().await;
        assert!(!watch.room().is_left());
        *disk.0.lock().unwrap() = Err(io::ErrorKind::NotFound.into());
        watch.look().await;
        assert!(!watch.room().is_left());
        assert_eq!(red(&watch).await, ["disk", "inodes"]);
    }

    // rule: LIM-18
    #[tokio::test]
    async fn a_shortage_is_alarmed_once_and_told_in_fixed_words() {
        let disk = Arc::new(Disk(Mutex::new(Ok((0, None, 0)))));
        let watch = RoomWatch::new(disk, RoomConfig::default());
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let told = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            futures_util::FutureExt::now_or_never(watch.look()).unwrap();
            futures_util::FutureExt::now_or_never(watch.look()).unwrap();
        });
        let text = told.render();
        for line in [
            "xdbridge_alarms_total{alarm=\"room\"} 1",
            "xdbridge_room_short{budget=\"disk\"} 1",
            "xdbridge_store_free_bytes 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
