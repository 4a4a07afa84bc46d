//! Documents in the order of their DocumentEntries, though a container gives them in its own order and entries may
//! share one.

use std::{collections::BTreeMap, io};

use super::{ConversionError, estimate::DocumentSize};
use crate::formats::document::{DocumentKey, DocumentSink, DocumentSource};

/// What may be held of documents that come before their turn; for the rest the source is asked again.
const MAX_HELD_BYTES: u64 = 8 * 1024 * 1024;

/// Pours the `wanted` documents one after the other, each under [`DocumentKey::Loose`] with its index. A source that
/// gives them in order is asked once.
pub(super) fn pour(
    source: &mut dyn DocumentSource,
    wanted: &[DocumentSize],
    sink: &mut dyn DocumentSink,
) -> Result<(), ConversionError> {
    let mut round = Round {
        wanted,
        next: 0,
        held: BTreeMap::new(),
        open: Open::Nothing,
        sink,
    };
    while round.next < wanted.len() {
        let before = round.next;
        source.pour(&mut round)?;
        if round.next == before {
            return Err(ConversionError::DocumentMissing { number: before + 1 });
        }
    }
    Ok(())
}

struct Round<'a> {
    wanted: &'a [DocumentSize],
    /// The entry whose turn it is.
    next: usize,
    /// Documents that came too early, by entry.
    held: BTreeMap<usize, Vec<u8>>,
    open: Open,
    sink: &'a mut dyn DocumentSink,
}

/// The document that is being poured.
enum Open {
    /// It is not wanted now.
    Nothing,
    /// Its turn has come.
    Passing,
    /// It is kept for this entry.
    Holding(usize, Vec<u8>),
}

impl Round<'_> {
    /// The entry for which this document can be held: all from the one whose turn it is up to that one fit together,
    /// so that what is held does.
    fn entry_to_hold(&self, key: DocumentKey) -> Option<usize> {
        let mut bytes = 0u64;
        for (index, wanted) in self.wanted.iter().enumerate().skip(self.next) {
            bytes = bytes.saturating_add(wanted.bytes);
            if bytes > MAX_HELD_BYTES {
                return None;
            }
            if wanted.key == key && !self.held.contains_key(&index) {
                return Some(index);
            }
        }
        None
    }

    fn begin_next(&mut self) -> io::Result<()> {
        let index = u32::try_from(self.next).map_err(io::Error::other)?;
        self.sink.begin(DocumentKey::Loose(index))
    }

    fn end_next(&mut self) -> io::Result<()> {
        self.next += 1;
        self.sink.end()
    }
}

impl DocumentSink for Round<'_> {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.open = Open::Nothing;
        if self
            .wanted
            .get(self.next)
            .is_some_and(|next| next.key == key)
        {
            self.begin_next()?;
            self.open = Open::Passing;
        } else if let Some(index) = self.entry_to_hold(key) {
            self.open = Open::Holding(index, Vec::new());
        }
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Open::Nothing => Ok(()),
            Open::Passing => self.sink.write(octets),
            Open::Holding(index, held) => {
                held.extend_from_slice(octets);
                let most = self.wanted.get(*index).map_or(0, |wanted| wanted.bytes);
                if held.len() as u64 > most {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a document is longer than it was before",
                    ));
                }
                Ok(())
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Holding(index, held) => {
                self.held.insert(index, held);
            }
            Open::Passing => {
                self.end_next()?;
                while let Some(held) = self.held.remove(&self.next) {
                    self.begin_next()?;
                    self.sink.write(&held)?;
                    self.end_next()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::document::DocumentsInMemory;
    use proptest::prelude::*;

    /// Counts how often it is asked.
    struct Counted {
        documents: DocumentsInMemory,
        times: usize,
    }

    impl DocumentSource for Counted {
        fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
            self.times += 1;
            self.documents.pour(sink)
        }
    }

    fn source(documents: &[(u32, Vec<u8>)]) -> Counted {
        let documents = documents
            .iter()
            .map(|(part, octets)| (DocumentKey::Part(*part), octets.clone()));
        Counted {
            documents: DocumentsInMemory {
                documents: documents.collect(),
            },
            times: 0,
        }
    }

    /// The size of each wanted part, by what the source has.
    fn wanted(source: &Counted, parts: &[u32]) -> Vec<DocumentSize> {
        let size = |part: &u32| {
            let key = DocumentKey::Part(*part);
            let bytes = source.documents.find(key).map_or(0, <[u8]>::len) as u64;
            DocumentSize { key, bytes }
        };
        parts.iter().map(size).collect()
    }

    proptest! {
        // rule: XDR-86, XDR-87, SOAP-32
        #[test]
        fn any_order_and_any_sharing_come_out_in_the_order_of_the_entries(
            given in Just((0u32..6).collect::<Vec<_>>()).prop_shuffle(),
            parts in proptest::collection::vec(0u32..6, 0..12),
        ) {
            let documents: Vec<_> = given
                .iter()
                .map(|part| (*part, vec![*part as u8; 10 + *part as usize]))
                .collect();
            let mut source = source(&documents);
            let wanted = wanted(&source, &parts);
            let mut poured = DocumentsInMemory::default();
            pour(&mut source, &wanted, &mut poured).unwrap();
            let expected: Vec<_> = (0..)
                .zip(&parts)
                .map(|(index, part)| {
                    (DocumentKey::Loose(index), vec![*part as u8; 10 + *part as usize])
                })
                .collect();
            prop_assert_eq!(poured.documents, expected);
        }
    }

    #[test]
    fn a_source_in_order_is_asked_once_and_large_documents_are_not_held() {
        let large = vec![7; usize::try_from(MAX_HELD_BYTES).unwrap() + 1];
        let documents = [(1, large.clone()), (2, vec![2; 9]), (3, vec![3; 9])];
        for (parts, times) in [
            ([1, 2, 3], 1),
            // Small ones wait in memory for a large one that comes before them.
            ([2, 3, 1], 2),
            ([3, 2, 1], 2),
        ] {
            let mut source = source(&documents);
            let wanted = wanted(&source, &parts);
            pour(&mut source, &wanted, &mut DocumentsInMemory::default()).unwrap();
            assert_eq!(source.times, times, "{parts:?}");
        }
    }

    #[test]
    fn a_document_that_does_not_come_is_named() {
        let mut source = source(&[(1, vec![1])]);
        let wanted = wanted(&source, &[1, 9]);
        let error = pour(&mut source, &wanted, &mut DocumentsInMemory::default()).unwrap_err();
        assert!(matches!(
            error,
            ConversionError::DocumentMissing { number: 2 }
        ));
    }
}
