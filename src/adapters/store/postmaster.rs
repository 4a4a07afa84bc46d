//! Mail for whoever runs this bridge (smtp.md RX-24): a folder of the data directory with one file for each mail, in the
//! form of a body and under the same keys. No database: a command reads and removes them beside a running bridge.
//!
//! A file is written under another name, fsynced, and renamed: what has the name of a mail is a whole mail.
//!
//! What the command does leaves a record beside the mails, which the bridge takes up into its audit: [`super::postmaster_uses`].

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    chunks::{CHUNK_BYTES, ChunkReader, ChunkSealer, Protection},
    config::StoreConfig,
    data_dir::{make_folder, new_file, sync_folder},
    failure::{failed, store_error},
    keys::{KeyFileError, KeyRing},
    postmaster_uses::{self, TAKE_UP_INTERVAL},
};
use crate::{
    flows::{
        fault_points,
        ports::{Audit, Clock, KeepPostmasterMail, NotKept, StoreError},
    },
    formats::{document::hex, ids::BodyId},
};

const FOLDER: &str = "postmaster";
/// What the name of a mail ends in; before it stand the second of its arrival, its id, and a tag of the peer that brought
/// it.
const ENDING: &str = ".mail";
/// What the name of one that is being written ends in.
const PART_ENDING: &str = ".part";
/// The time in which so many mails are kept.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Octets of a peer's tag: two of the peers that one day may bring hardly ever share one.
const TAG_BYTES: usize = 8;
/// A peer that has an IPv6 address has all those of its network.
const PEER_V6_BITS: u32 = 64;

/// Why the mails for the postmaster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum PostmasterError {
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The folder cannot be read or written.
    #[error("the folder {} cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such mail, or it is not as it was written.
    #[error("mail {id} cannot be read")]
    Mail {
        /// Its id.
        id: Uuid,
        /// Why.
        source: StoreError,
    },
}

/// A mail that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMail {
    /// Its id.
    pub id: Uuid,
    /// When it came, to the second.
    pub received_at: Timestamp,
    /// What tells the peer that brought it from others; nothing if it was kept before that was.
    peer_tag: Option<String>,
    path: PathBuf,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostmasterLimits {
    /// Mails in 24 hours.
    pub max_per_day: usize,
    /// Those of them that one peer may bring.
    pub max_per_peer: usize,
    /// How long each is kept.
    pub retention: Duration,
}

/// The folder.
pub struct PostmasterBox {
    pub(super) folder: PathBuf,
    pub(super) keys: KeyRing,
}

/// Adds to the folder.
pub struct PostmasterKeeper(Arc<Keeper>);

struct Keeper {
    mails: PostmasterBox,
    limits: PostmasterLimits,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn Audit>,
    /// Held while one is added, so that the limit counts every one.
    adding: Mutex<()>,
}

/// The folder of a data directory.
pub(super) fn folder_in(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

/// Whether a file of the folder is written to its end.
pub(super) fn is_whole(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| !name.ends_with(PART_ENDING))
}

impl PostmasterBox {
    /// The folder of this data directory, which need not be there yet.
    pub fn new(config: &StoreConfig) -> Result<Self, PostmasterError> {
        Ok(Self {
            folder: folder_in(&config.path),
            keys: KeyRing::read(&config.key_files)?,
        })
    }

    /// Every mail, oldest first.
    pub fn list(&self) -> Result<Vec<KeptMail>, PostmasterError> {
        let mut mails = self.listed().map_err(|source| self.unusable(source))?;
        mails.sort_by_key(|mail| (mail.received_at, mail.id));
        Ok(mails)
    }

    /// The octets of a mail.
    pub fn read(&self, mail: &KeptMail) -> Result<Vec<u8>, PostmasterError> {
        self.opened(mail).map_err(|source| PostmasterError::Mail {
            id: mail.id,
            source,
        })
    }

    /// Removes a mail; one that is gone already is no error.
    pub fn remove(&self, mail: &KeptMail) -> Result<(), PostmasterError> {
        remove(&mail.path)
            .and_then(|()| sync_folder(&self.folder))
            .map_err(|source| self.unusable(source))
    }

    pub(super) fn unusable(&self, source: io::Error) -> PostmasterError {
        PostmasterError::Folder {
            path: self.folder.clone(),
            source,
        }
    }

    fn listed(&self) -> io::Result<Vec<KeptMail>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            // Nothing came yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut mails = Vec::new();
        for entry in entries {
            mails.extend(KeptMail::named(&entry?.path()));
        }
        Ok(mails)
    }

    fn opened(&self, mail: &KeptMail) -> Result<Vec<u8>, StoreError> {
        self.read_sealed(BodyId(mail.id), &mail.path)
    }

    pub(super) fn read_sealed(&self, id: BodyId, path: &Path) -> Result<Vec<u8>, StoreError> {
        let file = File::open(path).map_err(store_error)?;
        let length = file.metadata().map_err(store_error)?.len();
        let mut reader = ChunkReader::new(&self.keys, id, file, length)?;
        let mut octets = Vec::new();
        reader.read_to_end(&mut octets).map_err(store_error)?;
        Ok(octets)
    }

    fn add(&self, octets: &[u8], tag: &str, now: Timestamp) -> io::Result<()> {
        let id = BodyId::random();
        let name = format!("{:012}-{}.{tag}", now.as_second().max(0), id.0);
        self.write_sealed(id, octets, &name, ENDING)
    }

    /// Writes a file whose name ends in `ending` once it is whole. It belongs to whom the folder does, whoever writes it.
    pub(super) fn write_sealed(
        &self,
        id: BodyId,
        octets: &[u8],
        name: &str,
        ending: &str,
    ) -> io::Result<()> {
        let part = self.folder.join(format!("{name}{ending}{PART_ENDING}"));
        let mut file = new_file(true).open(&part)?;
        let (folder, own) = (fs::metadata(&self.folder)?, file.metadata()?);
        if own.uid() != folder.uid() {
            fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
        }
        let mut sealer = ChunkSealer::new(&self.keys, Protection::Encrypted, id);
        file.write_all(&sealer.header())?;
        let mut chunks = octets.chunks(CHUNK_BYTES).peekable();
        while let Some(chunk) = chunks.next() {
            file.write_all(sealer.seal(chunk, chunks.peek().is_none())?)?;
        }
        file.sync_all()?;
        fault_points::pass("postmaster.written")?;
        fs::rename(&part, self.folder.join(format!("{name}{ending}")))?;
        sync_folder(&self.folder)
    }
}

impl KeptMail {
    /// The mail of this file name, if it is one.
    fn named(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
        let (second, rest) = name.split_once('-')?;
        let (id, tag) = rest.split_once('.').unzip();
        Some(Self {
            id: id.unwrap_or(rest).parse().ok()?,
            received_at: Timestamp::from_second(second.parse().ok()?).ok()?,
            peer_tag: tag.map(str::to_owned),
            path: path.to_owned(),
        })
    }
}

impl PostmasterKeeper {
    /// Makes the folder where it is missing. What is over its retention goes at once, and at every `sweep_interval`; what
    /// the command did goes to `audit`.
    pub fn open(
        config: &StoreConfig,
        limits: PostmasterLimits,
        clock: Arc<dyn Clock>,
        audit: Arc<dyn Audit>,
    ) -> Result<Self, PostmasterError> {
        let mails = PostmasterBox::new(config)?;
        make_folder(&mails.folder, true).map_err(|source| mails.unusable(source))?;
        let keeper = Arc::new(Keeper {
            mails,
            limits,
            clock,
            audit,
            adding: Mutex::default(),
        });
        tokio::spawn(sweep_every(config.sweep_interval, Arc::downgrade(&keeper)));
        tokio::spawn(take_up_uses(Arc::downgrade(&keeper)));
        Ok(Self(keeper))
    }
}

impl Keeper {
    /// Removes what is over its retention, and what a process that died had begun to write.
    fn sweep(&self) -> io::Result<()> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep_locked(self.clock.now())
    }

    fn sweep_locked(&self, now: Timestamp) -> io::Result<()> {
        for entry in fs::read_dir(&self.mails.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            // What a command writes at this moment is not ours to remove.
            let is_part = name.is_some_and(|name| name.ends_with(PART_ENDING))
                && !postmaster_uses::may_be_begun(&path, now);
            let is_over = || {
                KeptMail::named(&path)
                    .is_some_and(|mail| is_older(mail.received_at, now, self.limits.retention))
            };
            if is_part || is_over() {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// What recognises the peer again, and does not tell who it is.
    fn tag_of(&self, peer: IpAddr) -> String {
        let network = match peer.to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => {
                let mask = u128::MAX << (u128::BITS - PEER_V6_BITS);
                (u128::from(address) & mask).to_be_bytes().to_vec()
            }
        };
        let hash = self.mails.keys.current().other.derive("postmaster peer");
        hex(&hash.of(&[&network])[..TAG_BYTES])
    }

    fn keep_now(&self, octets: &[u8], peer: IpAddr) -> Result<(), NotKept> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let stored = |error| NotKept::Store(store_error(error));
        self.sweep_locked(now).map_err(stored)?;
        let mails = self.mails.listed().map_err(stored)?;
        let is_of_today = |mail: &&KeptMail| !is_older(mail.received_at, now, DAY);
        let today: Vec<&KeptMail> = mails.iter().filter(is_of_today).collect();
        if today.len() >= self.limits.max_per_day {
            return Err(NotKept::Full);
        }
        let tag = self.tag_of(peer);
        let is_its = |mail: &&&KeptMail| mail.peer_tag.as_ref() == Some(&tag);
        if today.iter().filter(is_its).count() >= self.limits.max_per_peer {
            return Err(NotKept::FullForPeer);
        }
        self.mails.add(octets, &tag, now).map_err(stored)
    }
}

#[async_trait]
impl KeepPostmasterMail for PostmasterKeeper {
    async fn keep(&self, mail: Vec<u8>, peer: IpAddr) -> Result<(), NotKept> {
        let keeper = Arc::clone(&self.0);
        // Disk writes block.
        let keeping = tokio::task::spawn_blocking(move || keeper.keep_now(&mail, peer));
        keeping.await.unwrap_or_else(|_| {
            Err(NotKept::Store(failed(
                "the thread that kept a mail is gone",
            )))
        })
    }
}

fn is_older(at: Timestamp, now: Timestamp, age: Duration) -> bool {
    now.duration_since(at).unsigned_abs() > age && now > at
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn sweep_every(interval: Duration, keeper: Weak<Keeper>) {
    loop {
        let Some(open) = keeper.upgrade() else { return };
        let swept = tokio::task::spawn_blocking(move || open.sweep()).await;
        if !matches!(swept, Ok(Ok(()))) {
            tracing::warn!("the mails for the postmaster could not be swept; it is tried again");
        }
        tokio::time::sleep(interval).await;
    }
}

async fn take_up_uses(keeper: Weak<Keeper>) {
    loop {
        let Some(open) = keeper.upgrade() else { return };
        if let Err(failure) = postmaster_uses::take_up(&open.mails, &*open.audit).await {
            tracing::warn!(
                error = &failure as &dyn std::error::Error,
                "who read the postmaster's mail could not be audited; it is tried again"
            );
        }
        drop(open);
        tokio::time::sleep(TAKE_UP_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::create_key_file;

    struct At(Mutex<Timestamp>);

    impl At {
        fn set(&self, second: i64) {
            *self.0.lock().unwrap() = Timestamp::from_second(second).unwrap();
        }
    }

    impl Clock for At {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    const START: i64 = 1_790_000_000;
    const DAY_SECONDS: i64 = 24 * 60 * 60;
    const MARKER: &str = "Ada Quill needs help";

    struct Ground {
        folder: PathBuf,
        config: StoreConfig,
        clock: Arc<At>,
        keeper: PostmasterKeeper,
        runtime: tokio::runtime::Runtime,
    }

    impl Ground {
        fn new() -> Self {
            Self::with(2, 2)
        }

        fn with(max_per_day: usize, max_per_peer: usize) -> Self {
            let folder = std::env::temp_dir().join(format!("xdbridge-{}", Uuid::new_v4()));
            fs::create_dir(&folder).unwrap();
            let key = folder.join("key");
            create_key_file(&key).unwrap();
            let config = StoreConfig {
                path: folder.join("data"),
                key_files: vec![key],
                ..StoreConfig::default()
            };
            let clock = Arc::new(At(Mutex::new(Timestamp::from_second(START).unwrap())));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let limits = PostmasterLimits {
                max_per_day,
                max_per_peer,
                retention: Duration::from_secs(3 * 24 * 60 * 60),
            };
            let opening = async {
                PostmasterKeeper::open(&config, limits, clock.clone(), Arc::new(Nowhere)).unwrap()
            };
            let keeper = runtime.block_on(opening);
            Self {
                folder,
                config,
                clock,
                keeper,
                runtime,
            }
        }

        fn keep(&self, text: &str) -> Result<(), NotKept> {
            self.keep_of("192.0.2.1", text)
        }

        fn keep_of(&self, peer: &str, text: &str) -> Result<(), NotKept> {
            let peer = peer.parse().unwrap();
            self.runtime.block_on(self.keeper.keep(text.into(), peer))
        }

        fn mails(&self) -> Vec<String> {
            let mails = PostmasterBox::new(&self.config).unwrap();
            let all = mails.list().unwrap().into_iter();
            all.map(|mail| String::from_utf8(mails.read(&mail).unwrap()).unwrap())
                .collect()
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    /// An audit that is never asked here.
    struct Nowhere;

    #[async_trait]
    impl Audit for Nowhere {
        async fn record(
            &self,
            record: crate::formats::audit::AuditRecord,
        ) -> Result<(), StoreError> {
            panic!("{record:?}");
        }
    }

    // rule: RX-24, T-32, Q-6
    #[test]
    fn a_mail_is_read_as_it_was_kept_and_lies_on_the_disk_in_cipher() {
        let ground = Ground::new();
        let long = format!("Subject: {MARKER}\r\n\r\n{}", "x".repeat(2 * CHUNK_BYTES));
        ground.keep(&long).unwrap();
        ground.keep(MARKER).unwrap();
        let mut mails = ground.mails();
        mails.sort_by_key(String::len);
        assert_eq!(mails, [MARKER, &long]);
        let mails = PostmasterBox::new(&ground.config).unwrap();
        for mail in mails.list().unwrap() {
            use std::os::unix::fs::PermissionsExt;
            let octets = fs::read(&mail.path).unwrap();
            assert!(memchr::memmem::find(&octets, MARKER.as_bytes()).is_none());
            let mode = fs::metadata(&mail.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            mails.remove(&mail).unwrap();
            mails.remove(&mail).unwrap();
            assert!(mails.read(&mail).is_err());
        }
        assert_eq!(ground.mails(), Vec::<String>::new());
    }

    // rule: T-32
    #[test]
    fn a_mail_that_was_changed_or_exchanged_on_the_disk_is_not_read() {
        let ground = Ground::new();
        ground.keep("one").unwrap();
        ground.keep("two").unwrap();
        let mails = PostmasterBox::new(&ground.config).unwrap();
        let [one, two] = &mails.list().unwrap()[..] else {
            panic!("two are kept");
        };
        fs::rename(&one.path, &two.path).unwrap();
        assert!(mails.read(two).is_err());
        let mut octets = fs::read(&two.path).unwrap();
        *octets.last_mut().unwrap() ^= 1;
        fs::write(&two.path, octets).unwrap();
        assert!(mails.read(two).is_err());
    }

    // rule: RX-24, T-26
    #[test]
    fn so_many_are_kept_a_day_and_each_goes_after_its_retention() {
        let ground = Ground::new();
        ground.keep("one").unwrap();
        ground.keep("two").unwrap();
        assert!(matches!(ground.keep("three"), Err(NotKept::Full)));
        ground.clock.set(START + DAY_SECONDS + 1);
        ground.keep("three").unwrap();
        assert_eq!(ground.mails().len(), 3);
        ground.clock.set(START + 3 * DAY_SECONDS + 1);
        ground.keeper.0.sweep().unwrap();
        assert_eq!(ground.mails(), ["three"]);
        // A clock that was set back counts what lies in the future, and removes nothing.
        ground.clock.set(START);
        ground.keep("four").unwrap();
        assert!(matches!(ground.keep("five"), Err(NotKept::Full)));
    }

    // rule: RX-24, T-26
    #[test]
    fn one_peer_brings_so_many_a_day_and_leaves_room_for_the_others() {
        let ground = Ground::with(5, 2);
        let keep = |peer: &str| ground.keep_of(peer, "one");
        // One that was kept by an earlier build counts for nobody.
        let old = ground
            .config
            .path
            .join(FOLDER)
            .join(format!("{START:012}-{}{ENDING}", Uuid::new_v4()));
        fs::write(&old, "").unwrap();
        for peer in ["192.0.2.1", "::ffff:192.0.2.1"] {
            keep(peer).unwrap();
        }
        assert!(matches!(keep("192.0.2.1"), Err(NotKept::FullForPeer)));
        // All addresses of one IPv6 network are one peer's.
        keep("2001:db8:0:1::1").unwrap();
        keep("2001:db8:0:1:ffff::2").unwrap();
        assert!(matches!(keep("2001:db8:0:2::1"), Err(NotKept::Full)));
        fs::remove_file(&old).unwrap();
        assert!(matches!(keep("2001:db8:0:1::3"), Err(NotKept::FullForPeer)));
        keep("2001:db8:0:2::1").unwrap();
        ground.clock.set(START + DAY_SECONDS + 1);
        keep("192.0.2.1").unwrap();
        let names = fs::read_dir(ground.config.path.join(FOLDER)).unwrap();
        for name in names {
            let name = name.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains("192.0.2.1"), "{name}");
        }
    }

    // rule: RX-24, RX-48
    #[test]
    fn what_a_process_that_died_had_begun_to_write_is_no_mail_and_goes() {
        let ground = Ground::new();
        let part = ground.config.path.join(FOLDER).join("000000000001-x.part");
        fs::write(&part, "half").unwrap();
        let stray = ground.config.path.join(FOLDER).join("README");
        fs::write(&stray, "a file of somebody else's").unwrap();
        assert_eq!(ground.mails(), Vec::<String>::new());
        ground.keep("one").unwrap();
        assert_eq!(ground.mails(), ["one"]);
        assert!(!part.exists() && stray.exists());
    }
}
