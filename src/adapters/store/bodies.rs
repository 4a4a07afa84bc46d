//! Bodies until a unit of work adopts them, on either store.
//!
//! A body under 32 KiB stays in memory, sealed, until the unit that adopts it writes it into its row. A larger one is
//! written chunk by chunk to where the store keeps such ([`LargeBodies`]) before its writer is told that it is
//! finished.

use std::{
    collections::HashMap,
    io::{self, Cursor, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    chunks::{CHUNK_BYTES, ChunkReader, ChunkSealer, Protection},
    failure::store_error,
    keys::KeyRing,
};
use crate::{
    flows::{
        fault_points,
        ports::{BodyWriter, StagedBody, StoreError},
    },
    formats::ids::BodyId,
};

/// A body of this size or more does not lie in a row of the table `body`.
const MIN_LARGE_BYTES: usize = 32 * 1024;

/// Gives the sealed octets of a body, and so many of them.
pub(super) type SealedSource = (Box<dyn Read + Send>, u64);

/// Where large bodies lie.
pub(super) trait LargeBodies: Send + Sync {
    /// Begins one with the octets of its header.
    fn begin(&self, id: BodyId, header: &[u8]) -> io::Result<Box<dyn WriteLarge>>;

    /// Opens one that is finished and adopted, or `is_staged`, with the number of its sealed octets; `None` if there is
    /// none.
    fn open(&self, id: BodyId, is_staged: bool) -> io::Result<Option<SealedSource>>;

    /// Removes one, finished or not, which no row of an adopted body speaks of. It may be called from a task, so it
    /// does not wait for long; what it fails to remove is found by the next sweep.
    fn remove(&self, id: BodyId);
}

/// Writes one large body.
pub(super) trait WriteLarge: Send {
    /// Appends a sealed chunk.
    fn write_chunk(&mut self, sealed: &[u8]) -> io::Result<()>;

    /// Makes sure that the body, of `size` octets of content, is durable once a later commit is.
    fn finish(&mut self, size: u64) -> io::Result<()>;
}

/// All bodies that are on disk or on their way there.
pub(super) struct BodyStore {
    large: Arc<dyn LargeBodies>,
    keys: Arc<KeyRing>,
    open: Mutex<HashMap<BodyId, Open>>,
}

/// A body that no committed row speaks of yet.
struct Open {
    stage: Stage,
    /// The sealed octets; `None` for a large body.
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
    pub(super) fn new(large: Arc<dyn LargeBodies>, keys: Arc<KeyRing>) -> Self {
        Self {
            large,
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
            large: None,
            is_finished: false,
        })
    }

    /// Opens a body that lies in memory or where large ones lie; `None` if it is in neither.
    pub(super) fn open(&self, id: BodyId) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let (is_staged, octets) = match self.open_bodies().get(&id) {
            Some(open) => (open.stage != Stage::Writing, open.octets.clone()),
            None => (false, None),
        };
        if let Some(octets) = octets {
            return self.open_octets(id, octets).map(Some);
        }
        let Some((source, length)) = self.large.open(id, is_staged).map_err(store_error)? else {
            return Ok(None);
        };
        let reader = ChunkReader::new(&self.keys, id, source, length)?;
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

    /// Whether no committed row speaks of the body yet, and somebody may still adopt it.
    pub(super) fn is_open(&self, id: BodyId) -> bool {
        self.open_bodies().contains_key(&id)
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
        let is_large = body.octets.is_none();
        open.remove(&id);
        drop(open);
        if is_large {
            self.large.remove(id);
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
    large: Option<Box<dyn WriteLarge>>,
    is_finished: bool,
}

impl Writer {
    fn write_chunk(&mut self, is_last: bool) -> io::Result<()> {
        self.large()?;
        let sealed = self.sealer.seal(&self.buffer, is_last)?;
        if let Some(large) = &mut self.large {
            large.write_chunk(sealed)?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// The large body, begun with the header if it is not there yet.
    fn large(&mut self) -> io::Result<&mut Box<dyn WriteLarge>> {
        if self.large.is_none() {
            let begun = self.store.large.begin(self.id, &self.sealer.header())?;
            self.large = Some(begun);
        }
        self.large
            .as_mut()
            .ok_or_else(|| io::Error::other("the body was not begun"))
    }

    fn finish_in_memory(&mut self) -> io::Result<Option<Bytes>> {
        let mut octets = self.sealer.header().to_vec();
        octets.extend_from_slice(self.sealer.seal(&self.buffer, true)?);
        fault_points::pass("body.write")?;
        fault_points::pass("body.sync")?;
        Ok(Some(octets.into()))
    }

    fn finish_large(&mut self) -> io::Result<Option<Bytes>> {
        self.write_chunk(true)?;
        let size = self.size;
        self.large()?.finish(size)?;
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
        let is_large = self.large.is_some() || self.buffer.len() >= MIN_LARGE_BYTES;
        let octets = if is_large {
            self.finish_large()
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
        if self.large.is_none() {
            self.store.open_bodies().remove(&self.id);
            return;
        }
        self.store.give_up(self.id);
    }
}
