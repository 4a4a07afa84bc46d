//! The first step of accept: the body comes in and is recorded as it came.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::flows::{
    fault_points,
    ports::{Bodies, BodyInterrupted, StagedBody, StoreError},
};

/// A body up to this size is kept in memory and recorded in the CPU job that reads it; a larger one goes to disk as it
/// comes.
const MAX_BYTES_IN_MEMORY: usize = 32 * 1024;

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
