//! The message on its way into DATA: read from the body store, dot-stuffed, never shortened.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::flows::ports::{StoreError, StoredBody};

/// Octets read from the body store at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for the network.
const CHUNKS_AHEAD: usize = 4;

/// Why the message cannot be sent to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored message cannot be sent: {detail}")]
pub(super) struct BodyFault {
    detail: String,
    /// It will be so at the next attempt, too.
    pub(super) is_damage: bool,
}

impl BodyFault {
    fn damage(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            is_damage: true,
        }
    }
}

impl From<&StoreError> for BodyFault {
    fn from(error: &StoreError) -> Self {
        Self {
            detail: error.to_string(),
            is_damage: !error.is_transient(),
        }
    }
}

impl From<&io::Error> for BodyFault {
    fn from(error: &io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<StoreError>());
        match inner {
            Some(store) => store.into(),
            None => Self {
                detail: error.kind().to_string(),
                is_damage: matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ),
            },
        }
    }
}

/// The chunks of a stored body, read ahead on a blocking thread. Dropped, the reading stops.
pub(super) struct BodyChunks {
    chunks: mpsc::Receiver<Result<Bytes, BodyFault>>,
    is_complete: bool,
}

impl BodyChunks {
    /// Begins to read.
    pub(super) fn read(body: StoredBody) -> Self {
        let (to, chunks) = mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            if let Err(fault) = read_all(&body, &to) {
                // Nobody listens any more when the connection broke first.
                let _ = to.blocking_send(Err(fault));
            }
        });
        Self {
            chunks,
            is_complete: false,
        }
    }

    /// The next chunk; `None` only after the whole body, an empty chunk marking its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        if self.is_complete {
            return Ok(None);
        }
        match self.chunks.recv().await {
            Some(Ok(chunk)) if chunk.is_empty() => {
                self.is_complete = true;
                Ok(None)
            }
            Some(Ok(chunk)) => Ok(Some(chunk)),
            Some(Err(fault)) => Err(fault),
            // The thread went away without saying that it was done: it panicked.
            None => Err(BodyFault {
                detail: "the reader stopped".to_owned(),
                is_damage: false,
            }),
        }
    }
}

fn read_all(
    body: &StoredBody,
    to: &mpsc::Sender<Result<Bytes, BodyFault>>,
) -> Result<(), BodyFault> {
    let mut from = body.open().map_err(|error| BodyFault::from(&error))?;
    let mut total: u64 = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let part = (&mut from).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let length = part.map_err(|error| BodyFault::from(&error))?;
        total += length as u64;
        if length == 0 && total != body.size {
            let detail = format!("{total} octets were read of {}", body.size);
            return Err(BodyFault::damage(detail));
        }
        // The empty chunk tells a whole body from a reader that died.
        if to.blocking_send(Ok(chunk.into())).is_err() || length == 0 {
            return Ok(());
        }
    }
}

/// Where the writer stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    Middle,
    AfterCr,
}

/// Adds a dot to every line that begins with one (RFC 5321 §4.5.2), over chunks cut anywhere. Lets nothing pass that
/// another server could read as the end of the message: bare CR, bare LF (TX-27, threats.md T-15).
pub(super) struct DotStuffing {
    place: Place,
}

impl DotStuffing {
    pub(super) fn new() -> Self {
        Self {
            place: Place::LineStart,
        }
    }

    /// Appends `chunk` to `out`.
    pub(super) fn encode(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BodyFault> {
        if !chunk.is_ascii() {
            return Err(BodyFault::damage("an octet that is not 7 bit"));
        }
        if memchr::memchr(0, chunk).is_some() {
            return Err(BodyFault::damage("a NUL octet"));
        }
        if self.is_plain(chunk) {
            out.extend_from_slice(chunk);
            self.place = match chunk {
                [.., b'\r'] => Place::AfterCr,
                [.., b'\n'] => Place::LineStart,
                [] => self.place,
                _ => Place::Middle,
            };
            return Ok(());
        }
        out.reserve(chunk.len() + chunk.len() / 32);
        let mut rest = chunk;
        while let Some((first, after_first)) = rest.split_first() {
            if self.place == Place::AfterCr {
                if *first != b'\n' {
                    return Err(BodyFault::damage("a bare CR"));
                }
                out.push(b'\n');
                self.place = Place::LineStart;
                rest = after_first;
                continue;
            }
            if self.place == Place::LineStart && *first == b'.' {
                out.push(b'.');
            }
            // The rest of the line goes as a whole: nearly all of a message is in here.
            let line = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (line, end) = rest.split_at(line);
            out.extend_from_slice(line);
            self.place = match end.split_first() {
                None => Place::Middle,
                Some((b'\r', after_cr)) => {
                    out.push(b'\r');
                    rest = after_cr;
                    Place::AfterCr
                }
                Some(_) => return Err(BodyFault::damage("a bare LF")),
            };
            if end.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Whether `chunk` goes out as it is: no dot begins a line, and CR and LF come together alone. Sealed mail is so, and
    /// octets without a branch for each are looked at many at once.
    fn is_plain(&self, chunk: &[u8]) -> bool {
        let begins_well = match chunk.first() {
            Some(b'\n') => self.place == Place::AfterCr,
            Some(b'.') => self.place == Place::Middle,
            _ => self.place != Place::AfterCr,
        };
        let pairs = chunk.iter().zip(chunk.iter().skip(1));
        let lone = pairs.fold(0, |lone, (before, at)| {
            lone | (u8::from(*before == b'\r') ^ u8::from(*at == b'\n'))
        });
        begins_well && lone == 0 && memchr::memmem::find(chunk, b"\n.").is_none()
    }

    /// What must follow the message: the end of its last line if that is missing, then the final dot.
    pub(super) fn end(self) -> Result<&'static [u8], BodyFault> {
        match self.place {
            Place::LineStart => Ok(b".\r\n"),
            Place::Middle => Ok(b"\r\n.\r\n"),
            Place::AfterCr => Err(BodyFault::damage("a bare CR")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(chunks: &[&[u8]]) -> Result<Vec<u8>, BodyFault> {
        let mut stuffing = DotStuffing::new();
        let mut out = Vec::new();
        for chunk in chunks {
            stuffing.encode(chunk, &mut out)?;
        }
        out.extend_from_slice(stuffing.end()?);
        Ok(out)
    }

    // rule: TX-27
    #[test]
    fn dots_are_doubled_wherever_the_chunks_are_cut() {
        let message = b".first\r\n..\r\n.\r\na.b\r\n\r\n.last\r\n";
        let expected = b"..first\r\n...\r\n..\r\na.b\r\n\r\n..last\r\n.\r\n";
        for cut in 0..=message.len() {
            let (left, right) = message.split_at(cut);
            assert_eq!(stuffed(&[left, right]).unwrap(), expected, "cut at {cut}");
        }
    }

    // rule: TX-27
    #[test]
    fn a_last_line_without_an_end_gets_one_before_the_final_dot() {
        assert_eq!(stuffed(&[b"a"]).unwrap(), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[]).unwrap(), b".\r\n");
    }

    // rule: TX-27
    #[test]
    fn nothing_that_could_end_the_message_early_is_let_through() {
        for message in ["a\n.\r\nb", "a\r.\rb", "a\r\n.\nb", "\n", "a\r", "a\0", "ä"] {
            assert!(
                stuffed(&[message.as_bytes()]).unwrap_err().is_damage,
                "{message:?}"
            );
        }
    }

    proptest! {
        // rule: TX-27
        #[test]
        fn what_is_stuffed_unstuffs_to_the_same_message(
            lines in proptest::collection::vec("[.a-z]{0,4}", 0..8),
            cut in 0usize..40,
        ) {
            let message: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (left, right) = message.split_at(cut.min(message.len()));
            let wire = stuffed(&[left.as_bytes(), right.as_bytes()]).unwrap();
            let wire = String::from_utf8(wire).unwrap();
            let (data, rest) = wire.split_once("\r\n.\r\n").unwrap_or(("", ""));
            prop_assert!(rest.is_empty());
            let unstuffed: String = data
                .split_inclusive("\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line))
                .collect();
            prop_assert_eq!(unstuffed.trim_end_matches("\r\n"), message.trim_end_matches("\r\n"));
        }
    }
}
