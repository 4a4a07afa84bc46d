//! One attempt to post a stored request: it streams from the store, the same octets every time.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    intake::store_error,
    ports::{Bodies, PostReport, PostXdr, StoreError, XdrPost},
};
use crate::{bridge::exchange::PreparedRequest, formats::ids::BodyId};

/// Octets in one piece of a request on its way out.
const CHUNK_BYTES: usize = 64 * 1024;
/// Pieces that wait for the connection.
const CHUNKS_AHEAD: usize = 2;

/// Posts `request` to `endpoint`; the attempt is over at `deadline`. `None` if the stored request is damaged: what the
/// endpoint got was cut short by ourselves.
pub(super) async fn attempt(
    posts: &Arc<dyn PostXdr>,
    bodies: &Arc<dyn Bodies>,
    endpoint: &str,
    request: &PreparedRequest,
    deadline: Timestamp,
) -> Option<PostReport> {
    let (chunks, body) = mpsc::channel(CHUNKS_AHEAD);
    let (bodies, id) = (Arc::clone(bodies), request.body);
    let pouring = tokio::task::spawn_blocking(move || pour(bodies.as_ref(), id, &chunks));
    let post = XdrPost {
        endpoint: endpoint.to_owned(),
        content_type: request.content_type.clone(),
        deadline,
        body,
    };
    let report = posts.post(post).await;
    match pouring.await {
        Ok(Err(StoreError::DamagedBody { .. })) => None,
        _ => Some(report),
    }
}

/// Reads the stored request into the channel, until it ends or nobody wants more.
fn pour(
    bodies: &dyn Bodies,
    id: BodyId,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), StoreError> {
    let failed = |failure: StoreError| {
        let broken = io::Error::other("the stored request cannot be read");
        // The connection may be gone already.
        let _ = chunks.blocking_send(Err(broken));
        Err(failure)
    };
    let mut body = match bodies.open(id) {
        Ok(body) => body,
        Err(failure) => return failed(failure),
    };
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        match body.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(amount) => {
                chunk.truncate(amount);
                if chunks.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return failed(store_error(error)),
        }
    }
}
