//! Carries a request's body from the connection to the flow: over a bounded channel, within the message limit, paid
//! for from the byte budget, at a pace that does not starve others.

use actix_web::web;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    time::{Instant, timeout},
};

use super::pace::Pace;
use crate::flows::{budget::Growth, ports::BodyInterrupted};

/// Chunks that wait for the flow. The connection hands over up to 128 KiB at a time.
const CHUNKS_IN_FLIGHT: usize = 4;

/// What a body of undeclared length reserves at a time, in octets.
pub(super) const GROWTH_STEP_BYTES: u64 = 256 * 1024;

type Chunk = Result<Bytes, BodyInterrupted>;

/// The sending end. Dropped before [`Feed::complete`], it tells the flow that the connection broke: the end of the
/// channel alone means a whole body, and a cut one must never pass for it.
pub(super) struct Feed {
    chunks: mpsc::Sender<Chunk>,
    last_word: Option<OwnedPermit<Chunk>>,
}

/// How the body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// All of it is with the flow.
    Complete,
    /// The flow wants no more: it has decided.
    Unwanted,
    /// It ended before its end.
    Interrupted(BodyInterrupted),
}

/// The limits of one body.
pub(super) struct Bounds {
    pub(super) max_bytes: u64,
    pub(super) pace: Pace,
    /// For a body of undeclared length: how it takes room.
    pub(super) growth: Option<Growth>,
    /// What is reserved already, in octets.
    pub(super) reserved_bytes: u64,
}

/// The two ends of the channel.
pub(super) fn channel() -> (Feed, mpsc::Receiver<Chunk>) {
    // One place is kept for the last word, so that saying it never waits.
    let (chunks, body) = mpsc::channel(CHUNKS_IN_FLIGHT + 1);
    let last_word = chunks.clone().try_reserve_owned().ok();
    (Feed { chunks, last_word }, body)
}

impl Feed {
    fn complete(mut self) -> Fed {
        self.last_word = None;
        Fed::Complete
    }

    fn interrupt(mut self, why: BodyInterrupted) -> Fed {
        if let Some(last_word) = self.last_word.take() {
            last_word.send(Err(why));
        }
        Fed::Interrupted(why)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(last_word) = self.last_word.take() {
            last_word.send(Err(BodyInterrupted::Broken));
        }
    }
}

/// Reads `payload` to its end or to the first limit. Adds what it read to `received_bytes`.
pub(super) async fn feed(
    payload: &mut web::Payload,
    feed: Feed,
    mut bounds: Bounds,
    received_bytes: &mut u64,
) -> Fed {
    loop {
        let asked_at = Instant::now();
        let next = tokio::select! {
            next = timeout(bounds.pace.patience(), payload.next()) => next,
            () = feed.chunks.closed() => return Fed::Unwanted,
        };
        let chunk = match next {
            Err(_) => return feed.interrupt(BodyInterrupted::TooSlow),
            Ok(None) => return feed.complete(),
            // A broken chunk encoding and a broken connection are the same to the flow.
            Ok(Some(Err(_))) => return feed.interrupt(BodyInterrupted::Broken),
            Ok(Some(Ok(chunk))) => chunk,
        };
        *received_bytes = received_bytes.saturating_add(chunk.len() as u64);
        bounds.pace.count(asked_at.elapsed(), chunk.len() as u64);
        if let Err(why) = bounds.check(*received_bytes) {
            // A flow that has answered holds no reservation that could grow.
            if feed.chunks.is_closed() {
                return Fed::Unwanted;
            }
            return feed.interrupt(why);
        }
        if feed.chunks.send(Ok(chunk)).await.is_err() {
            return Fed::Unwanted;
        }
    }
}

impl Bounds {
    fn check(&mut self, received: u64) -> Result<(), BodyInterrupted> {
        let max_bytes = self.max_bytes;
        if received > max_bytes {
            return Err(BodyInterrupted::TooLarge { max_bytes });
        }
        let Some(growth) = &self.growth else {
            return Ok(());
        };
        while received > self.reserved_bytes {
            if !growth.try_grow(GROWTH_STEP_BYTES) {
                return Err(BodyInterrupted::NoRoom);
            }
            self.reserved_bytes += GROWTH_STEP_BYTES;
        }
        Ok(())
    }
}
