//! Bodies: where they lie until a unit of work adopts them, and where afterwards.
//!
//! A body under 32 KiB stays in memory, sealed, until the unit that adopts it writes it into its row. A larger one
//! goes to `bodies/xx/<id>`: written under a temporary name, fsynced, renamed, the folder fsynced, all before its
//! writer is told that it is finished. So whatever a committed row speaks of is on disk.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    chunks::{CHUNK_BYTES, ChunkReader, ChunkSealer, Protection},
    data_dir::{new_file, sync_folder},
    keys::KeyRing,
};
use crate::{
    flows::{
        fault_points,
        ports::{BodyWriter, StagedBody, StoreError},
    },
    formats::ids::BodyId,
};

/// A body of this size or more lies in a file.
const MIN_FILE_BYTES: usize = 32 * 1024;
/// What a file is called until it is finished.
const PART_SUFFIX: &str = "part";

/// All bodies that are on disk or on their way there.
pub(super) struct BodyStore {
    folder: PathBuf,
    keys: Arc<KeyRing>,
    open: Mutex<HashMap<BodyId, Open>>,
}

/// A body that no committed row speaks of yet.
struct Open {
    stage: Stage,
    /// The sealed octets; `None` for a body in a file.
    octets: Option<Bytes>,
    size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    Staged,
    /// A unit of work that adopts it is being committed.
    Adopting,
    /// As `Adopting`, and nobody else holds it any more.
    AdoptingUnheld,
}

/// A body as a row keeps it.
pub(super) struct AdoptedBody {
    pub(super) id: BodyId,
    pub(super) size: u64,
    pub(super) octets: Option<Bytes>,
}

/// Bodies that a unit of work adopts. Dropped unsettled, they are as before.
pub(super) struct Adoption {
    store: Arc<BodyStore>,
    pub(super) bodies: Vec<AdoptedBody>,
    is_committed: bool,
}

/// Gives a body up when the last [`StagedBody`] of it is gone.
struct Hold {
    id: BodyId,
    store: Weak<BodyStore>,
}

impl BodyStore {
    pub(super) fn new(folder: PathBuf, keys: Arc<KeyRing>) -> Self {
        Self {
            folder,
            keys,
            open: Mutex::default(),
        }
    }

    /// Begins a body.
    pub(super) fn create(self: &Arc<Self>, protection: Protection) -> Box<dyn BodyWriter> {
        let id = BodyId::random();
        let writing = Open {
            stage: Stage::Writing,
            octets: None,
            size: 0,
        };
        self.open_bodies().insert(id, writing);
        Box::new(Writer {
            sealer: ChunkSealer::new(&self.keys, protection, id),
            store: Arc::clone(self),
            id,
            size: 0,
            buffer: Zeroizing::default(),
            file: None,
            is_finished: false,
        })
    }

    /// Opens a body that lies in memory or in a file; `None` if it is in neither.
    pub(super) fn open(&self, id: BodyId) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let octets = match self.open_bodies().get(&id) {
            Some(open) => open.octets.clone(),
            None => None,
        };
        if let Some(octets) = octets {
            return self.open_octets(id, octets).map(Some);
        }
        let file = match File::open(self.path_of(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(store_error(error)),
        };
        let length = file.metadata().map_err(store_error)?.len();
        let reader = ChunkReader::new(&self.keys, id, file, length)?;
        Ok(Some(Box::new(reader)))
    }

    /// Opens a body from its sealed octets.
    pub(super) fn open_octets(
        &self,
        id: BodyId,
        octets: Bytes,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let length = octets.len() as u64;
        let reader = ChunkReader::new(&self.keys, id, Cursor::new(octets), length)?;
        Ok(Box::new(reader))
    }

    /// Marks staged bodies as being adopted: all of them or none.
    pub(super) fn begin_adoption(self: &Arc<Self>, ids: &[BodyId]) -> Result<Adoption, StoreError> {
        let mut open = self.open_bodies();
        for id in ids {
            if open.get(id).is_none_or(|body| body.stage != Stage::Staged) {
                return Err(StoreError::DamagedBody {
                    body: *id,
                    what: "it is not staged: never finished, given up, or adopted already",
                });
            }
        }
        let mut bodies = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(body) = open.get_mut(id) {
                body.stage = Stage::Adopting;
                bodies.push(AdoptedBody {
                    id: *id,
                    size: body.size,
                    octets: body.octets.clone(),
                });
            }
        }
        Ok(Adoption {
            store: Arc::clone(self),
            bodies,
            is_committed: false,
        })
    }

    /// Unlinks the files of bodies whose rows are gone.
    pub(super) fn unlink(&self, ids: &[BodyId]) {
        for id in ids {
            self.unlink_path(&self.path_of(*id));
        }
    }

    /// The files that no open body owns: adopted, or left behind.
    pub(super) fn settled_files(&self) -> io::Result<Vec<(Option<BodyId>, PathBuf)>> {
        let mut files = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            for entry in fs::read_dir(folder?.path())? {
                let path = entry?.path();
                let id = path
                    .file_stem()
                    .and_then(|name| name.to_str())
                    .and_then(|name| name.parse().ok())
                    .map(BodyId);
                let is_open = id.is_some_and(|id| self.open_bodies().contains_key(&id));
                if !is_open {
                    let is_part = path.extension().is_some();
                    files.push((id.filter(|_| !is_part), path));
                }
            }
        }
        Ok(files)
    }

    pub(super) fn unlink_path(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // It is found again by the next sweep.
                tracing::warn!(%error, "a body file could not be removed");
            }
            _ => {}
        }
    }

    fn give_up(&self, id: BodyId) {
        let mut open = self.open_bodies();
        let Some(body) = open.get_mut(&id) else {
            return;
        };
        if body.stage == Stage::Adopting {
            body.stage = Stage::AdoptingUnheld;
            return;
        }
        let is_in_file = body.octets.is_none();
        open.remove(&id);
        drop(open);
        if is_in_file {
            self.unlink_path(&self.path_of(id));
        }
    }

    fn end_adoption(&self, id: BodyId, is_committed: bool) {
        let mut open = self.open_bodies();
        let Some(body) = open.get_mut(&id) else {
            return;
        };
        let is_unheld = body.stage == Stage::AdoptingUnheld;
        if is_committed {
            open.remove(&id);
            return;
        }
        body.stage = Stage::Staged;
        drop(open);
        if is_unheld {
            self.give_up(id);
        }
    }

    fn stage(self: &Arc<Self>, id: BodyId, size: u64, octets: Option<Bytes>) -> StagedBody {
        let staged = Open {
            stage: Stage::Staged,
            octets,
            size,
        };
        self.open_bodies().insert(id, staged);
        let store = Arc::downgrade(self);
        StagedBody::held(id, size, Arc::new(Hold { id, store }))
    }

    fn path_of(&self, id: BodyId) -> PathBuf {
        let [first_octet, ..] = *id.0.as_bytes();
        self.folder
            .join(format!("{first_octet:02x}"))
            .join(id.to_string())
    }

    fn open_bodies(&self) -> MutexGuard<'_, HashMap<BodyId, Open>> {
        // Every change of the map is one step: a panic elsewhere leaves it whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Adoption {
    /// The unit is committed: the rows own the bodies now.
    pub(super) fn settle(mut self) {
        self.is_committed = true;
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        for body in &self.bodies {
            self.store.end_adoption(body.id, self.is_committed);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.give_up(self.id);
        }
    }
}

/// Writes one body; dropped before it is finished, it leaves nothing.
struct Writer {
    store: Arc<BodyStore>,
    id: BodyId,
    sealer: ChunkSealer,
    size: u64,
    /// Content of the chunk that is not sealed yet: whether it is the last one is not known before more comes.
    buffer: Zeroizing<Vec<u8>>,
    file: Option<File>,
    is_finished: bool,
}

impl Writer {
    fn part_path(&self) -> PathBuf {
        self.store.path_of(self.id).with_extension(PART_SUFFIX)
    }

    /// The file, begun with the header if it is not there yet.
    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut file = new_file(true).open(self.part_path())?;
            file.write_all(&self.sealer.header())?;
            self.file = Some(file);
        }
        self.file
            .as_mut()
            .ok_or_else(|| io::Error::other("the body file was not opened"))
    }

    fn write_chunk(&mut self, is_last: bool) -> io::Result<()> {
        self.file()?;
        let sealed = self.sealer.seal(&self.buffer, is_last)?;
        if let Some(file) = &mut self.file {
            file.write_all(sealed)?;
        }
        self.buffer.clear();
        fault_points::pass_with_file("body.write", self.file()?)
    }

    fn finish_in_memory(&mut self) -> io::Result<Option<Bytes>> {
        let mut octets = self.sealer.header().to_vec();
        octets.extend_from_slice(self.sealer.seal(&self.buffer, true)?);
        fault_points::pass("body.write")?;
        fault_points::pass("body.sync")?;
        Ok(Some(octets.into()))
    }

    fn finish_in_file(&mut self) -> io::Result<Option<Bytes>> {
        self.write_chunk(true)?;
        let part = self.part_path();
        let path = self.store.path_of(self.id);
        let file = self.file()?;
        file.sync_all()?;
        fault_points::pass_with_file("body.sync", file)?;
        fs::rename(part, &path)?;
        if let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        Ok(None)
    }
}

impl Write for Writer {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if octets.is_empty() {
            return Ok(0);
        }
        if self.buffer.len() == CHUNK_BYTES {
            self.write_chunk(false)?;
        }
        let count = octets.len().min(CHUNK_BYTES - self.buffer.len());
        if self.buffer.capacity() < self.buffer.len() + count {
            self.grow_buffer(count);
        }
        self.buffer.extend_from_slice(&octets[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A chunk cannot be cut before it is full; `finish` makes the body durable.
        Ok(())
    }
}

impl Writer {
    /// Moves the content to a larger buffer and wipes the old one, which a reallocation would leave in the heap.
    fn grow_buffer(&mut self, count: usize) {
        let wanted = (self.buffer.len() + count).next_power_of_two();
        let mut larger = Zeroizing::new(Vec::with_capacity(wanted.min(CHUNK_BYTES)));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }
}

impl BodyWriter for Writer {
    fn finish(mut self: Box<Self>) -> Result<StagedBody, StoreError> {
        let is_in_file = self.file.is_some() || self.buffer.len() >= MIN_FILE_BYTES;
        let octets = if is_in_file {
            self.finish_in_file()
        } else {
            self.finish_in_memory()
        };
        let octets = octets.map_err(store_error)?;
        self.is_finished = true;
        Ok(self.store.stage(self.id, self.size, octets))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        if self.file.is_some() {
            self.store.unlink_path(&self.part_path());
        }
        self.store.give_up(self.id);
    }
}

/// What a failed read or write means to a flow.
pub(super) fn store_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
        _ => match error.downcast::<StoreError>() {
            Ok(store) => store,
            Err(error) => StoreError::Failed(Box::new(error)),
        },
    }
}
