//! Packages of any content, cut anywhere: documents come out octet by octet.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    hostile::Pieces,
    mtom::{envelope, include},
    *,
};
use crate::formats::soap::REQUEST_ACTION;

/// A piece of a document that a reader of boundaries may stumble over.
#[derive(Clone, Debug)]
enum Piece {
    /// So many octets of this value.
    Run(u8, usize),
    Octets(Vec<u8>),
    /// One of the near misses.
    NearMiss(usize),
    /// The beginning of the delimiter, cut here.
    Prefix(Index),
}

fn piece() -> impl Strategy<Value = Piece> {
    // Around the window of the reader, and far below it.
    let lengths = prop_oneof![0usize..300, 65_400usize..65_600, 130_900usize..131_200];
    prop_oneof![
        2 => (any::<u8>(), lengths).prop_map(|(octet, length)| Piece::Run(octet, length)),
        1 => vec(any::<u8>(), 0..80).prop_map(Piece::Octets),
        3 => (0usize..12).prop_map(Piece::NearMiss),
        2 => any::<Index>().prop_map(Piece::Prefix),
    ]
}

fn document(pieces: &[Piece], boundary: &str) -> Vec<u8> {
    let delimiter = format!("\r\n--{boundary}");
    let mut document = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Run(octet, length) => document.resize(document.len() + length, *octet),
            Piece::Octets(octets) => document.extend_from_slice(octets),
            Piece::NearMiss(which) => {
                let near = [
                    format!("{delimiter}x\r\n"),
                    format!("{delimiter}-\r\n"),
                    format!("{delimiter}--x\r\n"),
                    format!("{delimiter} \t x"),
                    format!("{delimiter}\r"),
                    format!("\r--{boundary}\r\n"),
                    format!("\r\n-{boundary}\r\n"),
                    format!("\r\n --{boundary}--\r\n"),
                    format!("{delimiter}{}\r\n", " ".repeat(300)),
                    "\r\n--".to_owned(),
                    "\r".to_owned(),
                    "\r\n".to_owned(),
                ];
                document.extend_from_slice(near[*which].as_bytes());
            }
            Piece::Prefix(at) => {
                document.extend_from_slice(&delimiter.as_bytes()[..at.index(delimiter.len())]);
            }
        }
    }
    document
}

/// Whether a line of it is a boundary, told in the simplest way. No writer may choose that boundary for it.
fn holds(document: &[u8], boundary: &str) -> bool {
    let next = format!("--{boundary}").into_bytes();
    let last = format!("--{boundary}--").into_bytes();
    document.split(|octet| *octet == b'\n').any(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let kept = line
            .iter()
            .rposition(|octet| !matches!(octet, b' ' | b'\t'));
        let text = &line[..kept.map_or(0, |at| at + 1)];
        (text == next || text == last) && line.len() - text.len() <= 256
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // rule: SOAP-20, SOAP-30, SOAP-161
    #[test]
    fn parts_of_any_content_around_the_window_come_out_octet_by_octet(
        boundary in "[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]",
        contents in vec(vec(piece(), 0..7), 1..4),
        root_at in any::<Index>(),
        is_lf in any::<bool>(),
        lengths in vec(prop_oneof![1usize..20, 1usize..70_000, 65_530usize..65_540], 1..12),
    ) {
        let documents: Vec<Vec<u8>> = contents.iter().map(|pieces| document(pieces, &boundary)).collect();
        for document in &documents {
            prop_assume!(!holds(document, &boundary));
            // The CR before an LF that begins a boundary belongs to the boundary.
            prop_assume!(!is_lf || !document.ends_with(b"\r"));
        }
        let line_end = if is_lf { "\n" } else { "\r\n" };
        let ids: Vec<String> = (0..documents.len()).map(|number| format!("d{number}@x")).collect();
        let includes: String = ids.iter().map(|id| include(id, &format!("cid:{id}"))).collect();
        let mut parts: Vec<(&str, Vec<u8>)> = ids.iter().map(String::as_str).zip(documents.clone()).collect();
        parts.insert(root_at.index(parts.len() + 1), ("root@x", envelope(&includes).into_bytes()));
        let mut body = Vec::new();
        for (id, content) in &parts {
            body.extend_from_slice(format!("--{boundary}{line_end}Content-ID: <{id}>{line_end}{line_end}").as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(line_end.as_bytes());
        }
        body.extend_from_slice(format!("--{boundary}--{line_end}").as_bytes());
        let content_type = format!("multipart/related; start=\"<root@x>\"; boundary=\"{boundary}\"");

        let mut read_documents = DocumentsInMemory::default();
        let mut pieces = Pieces { octets: &body, lengths, turn: 0 };
        let request = read(&content_type, &mut pieces, &Limits::default(), &ReadOptions::default(), &mut read_documents);
        let request = request.unwrap();
        prop_assert_eq!(request.documents.len(), documents.len());
        for (part, document) in request.documents.iter().zip(&documents) {
            prop_assert!(read_documents.find(part.key) == Some(document), "{}", part.document_id);
        }
    }

    // rule: SOAP-10, SOAP-25, SOAP-29, XDR-9
    #[test]
    fn what_is_written_in_either_packaging_is_read_octet_by_octet(
        contents in vec(vec(piece(), 0..5), 0..4),
        is_mtom in any::<bool>(),
        lengths in vec(1usize..70_000, 1..8),
    ) {
        let (request, _) = read_simple(EXAMPLE_1).unwrap();
        let mut source = DocumentsInMemory::default();
        let mut outgoing = Vec::new();
        for (number, pieces) in (0u32..).zip(&contents) {
            let key = DocumentKey::Loose(number);
            source.documents.push((key, document(pieces, "xdb-")));
            let document_id = format!("Document{number}");
            outgoing.push(OutgoingDocument { document_id, key, mime_type: "text/plain".to_owned() });
        }
        let message_id = "urn:uuid:78".parse().unwrap();
        let out = OutgoingRequest {
            message_id: &message_id,
            action: REQUEST_ACTION,
            to: "https://edge.example/xdr",
            address_block: request.address_block.as_ref(),
            metadata_level: request.metadata_level,
            metadata: &request.metadata,
            documents: &outgoing,
        };
        let packaging = if is_mtom { Packaging::Mtom } else { Packaging::SimpleSoap };
        let mut body = Vec::new();
        match packaging {
            Packaging::Mtom => write_mtom(&out, &mut source, &mut body).unwrap(),
            _ => write_simple(&out, &mut source, &mut body).unwrap(),
        }
        let mut read_documents = DocumentsInMemory::default();
        let mut pieces = Pieces { octets: &body, lengths, turn: 0 };
        let content_type = out.content_type(packaging);
        let again = read(&content_type, &mut pieces, &Limits::default(), &ReadOptions::default(), &mut read_documents);
        let again = again.unwrap();
        prop_assert_eq!(again.packaging, packaging);
        prop_assert_eq!(again.metadata, request.metadata);
        prop_assert_eq!(again.documents.len(), outgoing.len());
        for (part, sent) in again.documents.iter().zip(&outgoing) {
            prop_assert_eq!(&part.document_id, &sent.document_id);
            prop_assert!(read_documents.find(part.key) == source.find(sent.key), "{}", part.document_id);
        }
    }
}
