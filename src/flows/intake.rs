//! The first step of accept: the body comes in and is recorded as it came.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::flows::{
    fault_points,
    ports::{Bodies, BodyInterrupted, StagedBody, StoreError, StoredBody},
};

/// A body up to this size is kept in memory and recorded in the CPU job that reads it; a larger one goes to disk as it
/// comes.
const MAX_BYTES_IN_MEMORY: usize = 32 * 1024;
/// Octets of a stored body that are copied at once.
const COPY_BYTES: usize = 64 * 1024;

/// A body that came in whole.
pub(in crate::flows) enum Received {
    /// Small: not recorded yet.
    InMemory(Bytes),
    /// Recorded, and not yet adopted by an exchange.
    Staged(StagedBody),
}

/// Why no body came in.
#[derive(Debug, thiserror::Error)]
pub(in crate::flows) enum IntakeError {
    /// The sender's side of it.
    #[error(transparent)]
    Interrupted(#[from] BodyInterrupted),
    /// Our side of it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the body from the listener, behind what it has put in front of it. A body that does not end well leaves nothing
/// behind.
pub(in crate::flows) async fn receive(
    mut start: Vec<u8>,
    mut chunks: mpsc::Receiver<Result<Bytes, BodyInterrupted>>,
    bodies: Arc<dyn Bodies>,
) -> Result<Received, IntakeError> {
    while let Some(chunk) = chunks.recv().await {
        start.extend_from_slice(&chunk?);
        if start.len() > MAX_BYTES_IN_MEMORY {
            // Disk writes block: they get a thread of their own until the body ends.
            let recording =
                tokio::task::spawn_blocking(move || record(start, chunks, bodies.as_ref()));
            return recording
                .await
                .map_err(|_| worker_gone())?
                .map(Received::Staged);
        }
    }
    fault_points::pass("accept.body_received").map_err(store_error)?;
    Ok(Received::InMemory(start.into()))
}

fn record(
    start: Vec<u8>,
    mut chunks: mpsc::Receiver<Result<Bytes, BodyInterrupted>>,
    bodies: &dyn Bodies,
) -> Result<StagedBody, IntakeError> {
    let mut writer = bodies.create_encrypted()?;
    writer.write_all(&start).map_err(store_error)?;
    drop(start);
    while let Some(chunk) = chunks.blocking_recv() {
        writer.write_all(&chunk?).map_err(store_error)?;
    }
    fault_points::pass("accept.body_received").map_err(store_error)?;
    Ok(writer.finish()?)
}

/// Why a stored body cannot be recorded once more.
#[derive(Debug, thiserror::Error)]
pub(in crate::flows) enum CopyError {
    /// It cannot be read to its end.
    #[error("the stored body cannot be read")]
    Source(#[source] StoreError),
    /// The copy cannot be written.
    #[error("the copy of the stored body cannot be written")]
    Copy(#[source] StoreError),
}

/// Takes a body that is stored already as one that comes in, behind `start`: it becomes another's, who may keep it
/// longer. A body that cannot be read to its end leaves nothing behind.
pub(in crate::flows) async fn copy(
    start: Vec<u8>,
    body: StoredBody,
    bodies: Arc<dyn Bodies>,
) -> Result<Received, CopyError> {
    let copying = tokio::task::spawn_blocking(move || copy_now(start, &body, bodies.as_ref()));
    let gone = |_| CopyError::Copy(StoreError::Failed("the copying thread is gone".into()));
    copying.await.map_err(gone)?
}

fn copy_now(
    mut start: Vec<u8>,
    body: &StoredBody,
    bodies: &dyn Bodies,
) -> Result<Received, CopyError> {
    let mut from = body.open().map_err(CopyError::Source)?;
    let unreadable = |error| CopyError::Source(store_error(error));
    let unwritable = |error| CopyError::Copy(store_error(error));
    let is_small = start.len() as u64 + body.size <= MAX_BYTES_IN_MEMORY as u64;
    if is_small {
        let bytes = from.read_to_end(&mut start).map_err(unreadable)?;
        check_length(body, bytes as u64)?;
        return Ok(Received::InMemory(start.into()));
    }
    let mut writer = bodies.create_encrypted().map_err(CopyError::Copy)?;
    writer.write_all(&start).map_err(unwritable)?;
    let mut chunk = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        let length = from.read(&mut chunk).map_err(unreadable)?;
        let Some(octets) = chunk.get(..length).filter(|octets| !octets.is_empty()) else {
            break;
        };
        writer.write_all(octets).map_err(unwritable)?;
        total += octets.len() as u64;
    }
    check_length(body, total)?;
    Ok(Received::Staged(writer.finish().map_err(CopyError::Copy)?))
}

/// A reader that ends early must not make a shorter mail.
fn check_length(body: &StoredBody, bytes: u64) -> Result<(), CopyError> {
    if bytes == body.size {
        return Ok(());
    }
    Err(CopyError::Source(StoreError::DamagedBody {
        body: body.id,
        what: "it has another length than it was stored with",
    }))
}

/// Records a body that is held in memory.
pub(in crate::flows) fn record_small(
    octets: &[u8],
    bodies: &dyn Bodies,
) -> Result<StagedBody, StoreError> {
    let mut writer = bodies.create_encrypted()?;
    writer.write_all(octets).map_err(store_error)?;
    writer.finish()
}

/// What a failed write to the store means.
pub(in crate::flows) fn store_error(error: std::io::Error) -> StoreError {
    match error.downcast::<StoreError>() {
        Ok(store) => store,
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => StoreError::NoSpace,
        Err(error) => StoreError::Failed(Box::new(error)),
    }
}

fn worker_gone() -> IntakeError {
    IntakeError::Store(StoreError::Failed(
        "the thread that recorded the body is gone".into(),
    ))
}
