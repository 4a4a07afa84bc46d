//! Grounds for tests over a store: where it lies, what time it is, what is put into it.

use std::{
    io::{Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use xdbridge::{
    adapters::store::{SqliteStore, StoreConfig, create_key_file},
    bridge::exchange::{Deadlines, Effect, Exchange, Origin, Recipient, RecipientState, Scheduled},
    flows::ports::{
        Bodies, Claim, Clock, ExchangeWrite, LookupKey, StagedBody, StoreError, UnitOfWork,
    },
    formats::ids::{BodyId, ExchangeId},
};

use super::folder::TestFolder;

/// A clock that stands still until it is moved.
pub(crate) struct StandingClock(Mutex<Timestamp>);

impl StandingClock {
    pub(crate) fn new() -> Arc<Self> {
        Self::at(time(0))
    }

    pub(crate) fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new(now)))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap() = now;
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now += by;
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// So many seconds after the test grounds' beginning of time.
pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

/// A data directory and keys for the store on SQLite, and the time there.
pub(crate) struct SqliteGround {
    pub(crate) folder: TestFolder,
    pub(crate) clock: Arc<StandingClock>,
    pub(crate) config: StoreConfig,
}

impl SqliteGround {
    pub(crate) fn new() -> Self {
        let folder = TestFolder::new();
        let key = folder.path().join("store.key");
        create_key_file(&key).unwrap();
        let config = StoreConfig {
            path: folder.path().join("data"),
            key_files: vec![key],
            ..StoreConfig::default()
        };
        Self {
            folder,
            clock: StandingClock::new(),
            config,
        }
    }

    pub(crate) async fn open(&self) -> Arc<SqliteStore> {
        SqliteStore::open(&self.config, self.clock.clone(), "node-a")
            .await
            .unwrap()
    }

    /// Every file of the data directory.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.config.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    pub(crate) fn body_files(&self) -> Vec<PathBuf> {
        let bodies = self.config.path.join("bodies");
        let all = self.files().into_iter();
        all.filter(|path| path.starts_with(&bodies)).collect()
    }
}

/// An open exchange of `partner` with one recipient, accepted at `at`.
pub(crate) fn exchange(partner: &str, at: Timestamp) -> Exchange {
    Exchange {
        id: ExchangeId::random(),
        origin: Origin::Xdr {
            partner: partner.to_owned(),
            soap_message_id: None,
            submission_set_unique_id: "2.999.1".to_owned(),
            digest: [3; 32],
            content_type: "multipart/related".to_owned(),
            from: "ngozi.okafor@clinic.example".parse().unwrap(),
            level: xdbridge::formats::metadata::Level::Full,
            documents: Vec::new(),
        },
        accepted_at: at,
        deadlines: Deadlines {
            queue: at + Duration::from_secs(3000),
            processed: at + Duration::from_secs(3600),
            dispatched: at + Duration::from_secs(7200),
            body_retention: Duration::from_secs(86_400),
        },
        body: BodyId::random(),
        wants_final_delivery: false,
        displayed_is_delivery: true,
        legs: Vec::new(),
        recipients: vec![Recipient {
            address: "ada.quill@hisp.example".parse().unwrap(),
            state: RecipientState::Queued,
            reason: None,
            legs: Vec::new(),
            certificate: None,
            outcome: None,
            mdns: Default::default(),
            status: None,
            taken_by: None,
        }],
        is_begun: true,
        final_at: None,
        hold: None,
    }
}

/// A unit that records `exchange` under `keys`.
pub(crate) fn insert(exchange: &Exchange, keys: Vec<LookupKey>) -> UnitOfWork {
    UnitOfWork {
        exchange: Some(ExchangeWrite::Insert {
            exchange: exchange.clone(),
            keys,
        }),
        ..UnitOfWork::default()
    }
}

/// A unit that replaces `version` of `exchange`.
pub(crate) fn update(exchange: &Exchange, version: u64) -> UnitOfWork {
    UnitOfWork {
        exchange: Some(ExchangeWrite::Update {
            exchange: exchange.clone(),
            version,
            keys: Vec::new(),
        }),
        ..UnitOfWork::default()
    }
}

/// A unit that completes `claim`.
pub(crate) fn done(claim: &Claim) -> UnitOfWork {
    UnitOfWork {
        done: Some(claim.clone()),
        ..UnitOfWork::default()
    }
}

/// The effect `LookUp` for the recipient at `position`, due at `at`.
pub(crate) fn look_up(
    exchange: &Exchange,
    position: usize,
    at: Timestamp,
) -> (ExchangeId, Scheduled) {
    let effect = Effect::LookUp {
        recipient: position,
        attempt: 1,
    };
    (exchange.id, Scheduled::new(effect, at))
}

/// Stages a body. Sealed: as ciphertext is kept.
pub(crate) async fn stage<B>(store: &Arc<B>, content: Vec<u8>, is_sealed: bool) -> StagedBody
where
    B: Bodies + ?Sized + 'static,
{
    let store = Arc::clone(store);
    let staging = tokio::task::spawn_blocking(move || {
        let mut writer = if is_sealed {
            store.create_sealed().unwrap()
        } else {
            store.create_encrypted().unwrap()
        };
        for part in content.chunks(7_001) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap()
    });
    staging.await.unwrap()
}

/// Reads a body to its end.
pub(crate) async fn read<B>(store: &Arc<B>, id: BodyId) -> Result<Vec<u8>, StoreError>
where
    B: Bodies + ?Sized + 'static,
{
    let store = Arc::clone(store);
    let reading = tokio::task::spawn_blocking(move || {
        let mut content = Vec::new();
        match store.open(id)?.read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(error) => Err(error.downcast::<StoreError>().unwrap()),
        }
    });
    reading.await.unwrap()
}

/// `length` octets that do not repeat soon.
pub(crate) fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}
