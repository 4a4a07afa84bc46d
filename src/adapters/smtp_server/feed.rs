//! Carries a mail's octets from the session to the flow, over a bounded channel and paid for from the byte budget.

use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    time::{Instant, timeout_at},
};

use crate::flows::{budget::Growth, ports::BodyInterrupted};

/// Chunks that wait for the flow, each of [`super::wire::READ_BYTES`] at the most.
const CHUNKS_IN_FLIGHT: usize = 4;

/// What a mail takes of the byte budget at a time, in octets. What a sender declares is not reserved: it could hold
/// all the room there is without sending a thing.
pub(super) const GROWTH_STEP_BYTES: u64 = 256 * 1024;

type Chunk = Result<Bytes, BodyInterrupted>;

/// The sending end. Dropped before [`Feed::complete`], it tells the flow that the connection broke: the end of the
/// channel alone means a whole mail, and a cut one must never pass for it.
pub(super) struct Feed {
    chunks: mpsc::Sender<Chunk>,
    last_word: Option<OwnedPermit<Chunk>>,
    growth: Growth,
    reserved_bytes: u64,
}

/// Why a chunk did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfed {
    /// The flow wants no more: it has decided.
    Unwanted,
    /// The flow took nothing for too long.
    Stuck,
    /// The byte budget is used up.
    NoRoom,
}

impl Feed {
    /// The two ends of the channel. `growth` adds to a reservation of [`GROWTH_STEP_BYTES`].
    pub(super) fn new(growth: Growth) -> (Self, mpsc::Receiver<Chunk>) {
        // One place is kept for the last word, so that saying it never waits.
        let (chunks, body) = mpsc::channel(CHUNKS_IN_FLIGHT + 1);
        let last_word = chunks.clone().try_reserve_owned().ok();
        let feed = Self {
            chunks,
            last_word,
            growth,
            reserved_bytes: GROWTH_STEP_BYTES,
        };
        (feed, body)
    }

    /// Sends a chunk, after which the mail has `size` octets.
    pub(super) async fn send(
        &mut self,
        chunk: Bytes,
        size: u64,
        deadline: Instant,
    ) -> Result<(), Unfed> {
        while size > self.reserved_bytes {
            // A flow that has answered holds no reservation that could grow.
            if self.chunks.is_closed() {
                return Err(Unfed::Unwanted);
            }
            if !self.growth.try_grow(GROWTH_STEP_BYTES) {
                return Err(Unfed::NoRoom);
            }
            self.reserved_bytes += GROWTH_STEP_BYTES;
        }
        match timeout_at(deadline, self.chunks.send(Ok(chunk))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unfed::Unwanted),
            Err(_) => Err(Unfed::Stuck),
        }
    }

    /// Says that this was the whole mail.
    pub(super) fn complete(mut self) {
        self.last_word = None;
    }

    /// Says that the rest does not come.
    pub(super) fn interrupt(mut self, why: BodyInterrupted) {
        if let Some(last_word) = self.last_word.take() {
            last_word.send(Err(why));
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(last_word) = self.last_word.take() {
            last_word.send(Err(BodyInterrupted::Broken));
        }
    }
}
