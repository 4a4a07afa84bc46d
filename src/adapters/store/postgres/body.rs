//! The tables `body` and `body_chunk`: which bodies there are, by whom they are staged or adopted, and their octets.
//!
//! A small body is one value of its row. A large one is written chunk by chunk as it comes, each chunk a row. Those
//! writes do not wait for the disk: the log of the database has one order, so once the unit of work that adopts the body
//! is durable, everything that was written before it is. Should the database lose its last, unsynced writes, the row
//! that says that the body is finished was the last of them: without it the body cannot be adopted.

use std::{
    io::{self, Cursor, Read},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{
    super::{
        bodies::{LargeBodies, SealedSource, WriteLarge},
        chunks::{CHUNK_BYTES, HEADER_BYTES},
        failure::failed,
    },
    connection::{Pool, Values},
};
use crate::{
    flows::{fault_points, ports::StoreError},
    formats::ids::BodyId,
};

pub(super) const INSERT: &str = "INSERT INTO body (id, exchange, size, content, sealed_bytes) \
     SELECT id, exchange, size, content, octet_length(content) \
     FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[]) \
     AS new (id, exchange, size, content)";
pub(super) const ADOPT: &str = "UPDATE body SET exchange = adopted.exchange, staged_by = NULL \
     FROM unnest($1::uuid[], $2::uuid[]) AS adopted (id, exchange) \
     WHERE body.id = adopted.id AND body.staged_by IS NOT DISTINCT FROM $3 AND body.sealed_bytes IS NOT NULL";
pub(super) const DELETE: &str = "DELETE FROM body WHERE id = ANY($1) AND staged_by IS NULL";
pub(super) const STAGE: &str = "INSERT INTO body (id, staged_by) VALUES ($1, $2)";
pub(super) const INSERT_CHUNK: &str =
    "INSERT INTO body_chunk (body, position, content) VALUES ($1, $2, $3)";
pub(super) const FINISH: &str = "UPDATE body SET size = $2, sealed_bytes = $3 \
     WHERE id = $1 AND staged_by = $4";
pub(super) const OPEN: &str = "SELECT content, sealed_bytes FROM body \
     WHERE id = $1 AND sealed_bytes IS NOT NULL AND (staged_by IS NULL OR $2)";
pub(super) const CHUNK: &str = "SELECT content FROM body_chunk WHERE body = $1 AND position = $2";
pub(super) const SUM: &str = "SELECT coalesce(sum(size), 0)::bigint FROM body";
pub(super) const GIVE_UP: &str = "DELETE FROM body WHERE id = $1 AND staged_by = $2";
pub(super) const STAGED: &str = "SELECT id FROM body WHERE staged_by = $1";
pub(super) const GIVE_UP_ALL: &str = "DELETE FROM body WHERE staged_by = $1";

/// Bodies in rows. Calls block until the database has answered, but for [`LargeBodies::remove`].
pub(super) struct BodyRows {
    pub(super) pool: Arc<Pool>,
    /// Where the answers are waited for.
    pub(super) runtime: Handle,
    /// Who stages.
    pub(super) node: Arc<str>,
}

impl LargeBodies for BodyRows {
    fn begin(&self, id: BodyId, header: &[u8]) -> io::Result<Box<dyn WriteLarge>> {
        let values: Values<'_> = &[&id.0, &&*self.node];
        self.runtime
            .block_on(self.pool.execute(STAGE, values))
            .map_err(io_error)?;
        let mut first = Vec::with_capacity(HEADER_BYTES + CHUNK_BYTES);
        first.extend_from_slice(header);
        Ok(Box::new(Writer {
            pool: Arc::clone(&self.pool),
            runtime: self.runtime.clone(),
            node: Arc::clone(&self.node),
            id,
            next_position: 0,
            sealed_bytes: header.len() as u64,
            header: first,
        }))
    }

    fn open(&self, id: BodyId, is_staged: bool) -> io::Result<Option<SealedSource>> {
        let values: Values<'_> = &[&id.0, &is_staged];
        let found = self.runtime.block_on(self.pool.query_opt(OPEN, values));
        let Some(row) = found.map_err(io_error)? else {
            return Ok(None);
        };
        let length = u64::try_from(row.get::<_, i64>(1)).map_err(io::Error::other)?;
        if let Some(content) = row.get::<_, Option<Vec<u8>>>(0) {
            return Ok(Some((Box::new(Cursor::new(content)), length)));
        }
        let source = Source {
            pool: Arc::clone(&self.pool),
            runtime: self.runtime.clone(),
            id,
            next_position: 0,
            chunk: Cursor::default(),
        };
        Ok(Some((Box::new(source), length)))
    }

    fn remove(&self, id: BodyId) {
        let (pool, node) = (Arc::clone(&self.pool), Arc::clone(&self.node));
        self.runtime.spawn(async move {
            if let Err(error) = pool.execute(GIVE_UP, &[&id.0, &&*node]).await
                && !pool.is_closed()
            {
                // It is found again by the next sweep.
                tracing::warn!(%error, "a body could not be removed");
            }
        });
    }
}

impl BodyRows {
    /// The large bodies that this node has staged, finished or not, and not adopted.
    pub(super) async fn staged(&self) -> Result<Vec<BodyId>, StoreError> {
        let rows = self.pool.query(STAGED, &[&&*self.node]).await?;
        Ok(rows.iter().map(|row| BodyId(row.get(0))).collect())
    }

    pub(super) async fn give_up(&self, id: BodyId) -> Result<(), StoreError> {
        self.pool.execute(GIVE_UP, &[&id.0, &&*self.node]).await?;
        Ok(())
    }
}

struct Writer {
    pool: Arc<Pool>,
    runtime: Handle,
    node: Arc<str>,
    id: BodyId,
    next_position: i32,
    sealed_bytes: u64,
    /// What goes before the first chunk, in its row.
    header: Vec<u8>,
}

impl WriteLarge for Writer {
    fn write_chunk(&mut self, sealed: &[u8]) -> io::Result<()> {
        let mut first = std::mem::take(&mut self.header);
        let content = if first.is_empty() {
            sealed
        } else {
            first.extend_from_slice(sealed);
            first.as_slice()
        };
        let values: Values<'_> = &[&self.id.0, &self.next_position, &content];
        self.runtime
            .block_on(self.pool.execute(INSERT_CHUNK, values))
            .map_err(io_error)?;
        self.next_position += 1;
        self.sealed_bytes += sealed.len() as u64;
        fault_points::pass("body.write")
    }

    fn finish(&mut self, size: u64) -> io::Result<()> {
        let size = i64::try_from(size).map_err(io::Error::other)?;
        let sealed_bytes = i64::try_from(self.sealed_bytes).map_err(io::Error::other)?;
        let values: Values<'_> = &[&self.id.0, &size, &sealed_bytes, &&*self.node];
        let finished = self.runtime.block_on(self.pool.execute(FINISH, values));
        if finished.map_err(io_error)? != 1 {
            return Err(io_error(failed(
                "the database lost a body while it was written",
            )));
        }
        fault_points::pass("body.sync")
    }
}

/// Reads the chunks of one body, each when its turn comes. A missing one ends it early, and so its last chunk does not
/// open.
struct Source {
    pool: Arc<Pool>,
    runtime: Handle,
    id: BodyId,
    next_position: i32,
    chunk: Cursor<Vec<u8>>,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let values: Values<'_> = &[&self.id.0, &self.next_position];
            let next = self.runtime.block_on(self.pool.query_opt(CHUNK, values));
            match next.map_err(io_error)? {
                Some(row) => self.chunk = Cursor::new(row.get(0)),
                None => return Ok(0),
            }
            self.next_position += 1;
        }
    }
}

fn io_error(error: StoreError) -> io::Error {
    io::Error::other(error)
}
