//! Limits, bounded memory, and mutated messages.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;
use crate::formats::document::DocumentSink;

/// Gives its octets in pieces of changing length.
pub(super) struct Pieces<'a> {
    pub(super) octets: &'a [u8],
    pub(super) lengths: Vec<usize>,
    pub(super) turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.lengths[self.turn % self.lengths.len()].min(out.len());
        self.turn += 1;
        (&mut self.octets).take(length as u64).read(out)
    }
}

/// Notes the largest piece and the sum.
#[derive(Default)]
struct Measure {
    largest: usize,
    total: u64,
}

impl DocumentSink for Measure {
    fn begin(&mut self, _: DocumentKey) -> io::Result<()> {
        Ok(())
    }
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.largest = self.largest.max(octets.len());
        self.total += octets.len() as u64;
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// rule: SOAP-161, LIM-2, LIM-3
#[test]
fn fifty_megabytes_of_inline_base64_pass_in_small_blocks() {
    const DOCUMENT_BYTES: u64 = 47 * 1024 * 1024;
    let at = EXAMPLE_1.find("PENs").unwrap();
    let end = EXAMPLE_1.find("</xds:Document>").unwrap();
    let text = DOCUMENT_BYTES.div_ceil(3) * 4;
    // Made on the fly: three octets of zero are AAAA.
    let mut body = EXAMPLE_1.as_bytes()[..at]
        .chain(io::repeat(b'A').take(text))
        .chain(&EXAMPLE_1.as_bytes()[end..]);
    let mut measure = Measure::default();
    let request = read(
        SOAP_XML,
        &mut body,
        &Limits::default(),
        &ReadOptions::default(),
        &mut measure,
    )
    .unwrap();
    assert_eq!(request.documents.len(), 1);
    assert_eq!(measure.total, text / 4 * 3);
    assert!(measure.largest <= 64 * 1024, "{}", measure.largest);
}

// rule: SOAP-29, SOAP-161, LIM-3
#[test]
fn text_in_cdata_passes_in_small_blocks_too() {
    let at = EXAMPLE_1.find("PENs").unwrap();
    let end = EXAMPLE_1.find("</xds:Document>").unwrap();
    let text = Limits::default().max_metadata_bytes * 2;
    let mut body = EXAMPLE_1.as_bytes()[..at]
        .chain(&b"AAAA<![CDATA["[..])
        .chain(io::repeat(b'A').take(text))
        .chain(&b"]]>\r\n"[..])
        .chain(&EXAMPLE_1.as_bytes()[end..]);
    let mut measure = Measure::default();
    let (limits, options) = (Limits::default(), ReadOptions::default());
    let request = read(SOAP_XML, &mut body, &limits, &options, &mut measure).unwrap();
    assert_eq!(request.documents.len(), 1);
    assert_eq!(measure.total, text / 4 * 3 + 3);
    assert!(measure.largest <= 64 * 1024, "{}", measure.largest);
}

// rule: SOAP-29, SOAP-80
#[test]
fn sections_references_and_comments_may_share_the_text_of_a_document_however_it_is_cut() {
    let at = EXAMPLE_1.find("PENs").unwrap();
    let end = EXAMPLE_1.find("</xds:Document>").unwrap();
    let with = |text: &str| format!("{}{text}{}", &EXAMPLE_1[..at], &EXAMPLE_1[end..]);
    let good = [
        "QUJD<![CDATA[REVG]]>",
        "<![CDATA[QUJD]]><![CDATA[]]>&#13;<![CDATA[RE]]>VG",
        "<!-- a --><![CDATA[QUJD]]>&#82;E<!-- b -->V<![CDATA[G]]><!-- c -->",
        "QUJD<!-- ]]&gt; -->REV<![CDATA[G\r\n]]>&#10;",
        "&#x51;UJD<!---->RE<![CDATA[V]]>&#71;",
    ];
    for text in good {
        let envelope = with(text);
        for length in [1, 2, 3, 8, 9, 10, 4000] {
            let mut pieces = Pieces {
                octets: envelope.as_bytes(),
                lengths: vec![length],
                turn: 0,
            };
            let mut documents = DocumentsInMemory::default();
            let (limits, options) = (Limits::default(), ReadOptions::default());
            let request = read(SOAP_XML, &mut pieces, &limits, &options, &mut documents).unwrap();
            assert_eq!(rules(&request), ["SOAP-11"], "{text}");
            assert_eq!(documents.documents[0].1, b"ABCDEF", "{text}, {length}");
        }
    }
    for text in ["QUJD<![CDATA[RE]VG]]>", "QUJD]]", "<![CDATA[QUJD]]]]>"] {
        let (request, _) = read_simple(&with(text)).unwrap();
        let bad = [ErrorCode::XdsRepositoryMetadataError];
        assert_eq!(error_codes(&request), bad, "{text}");
    }
    for text in [
        "QUJD<![CDATA[",
        "QUJD<![CDAT[REVG]]>",
        "<![CDATA[QUJD]]>&nbsp;",
        "<![CDATA[QUJD]]&gt;",
    ] {
        let refused = fault(read_simple(&with(text)));
        assert!(["SOAP-80", "SOAP-43"].contains(&refused.rule), "{text}");
    }
}

// rule: LIM-1, LIM-2, LIM-3, LIM-4, LIM-5, LIM-9, SOAP-160
#[test]
fn every_limit_has_its_own_answer() {
    let small = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        read_with(
            SOAP_XML,
            EXAMPLE_1.as_bytes(),
            &limits,
            &ReadOptions::default(),
        )
    };
    assert!(matches!(
        small(|l| l.max_message_bytes = 5_000),
        Err(ReadError::TooLarge { max_bytes: 5_000 })
    ));
    assert_eq!(fault(small(|l| l.max_metadata_bytes = 5_000)).rule, "LIM-3");
    assert_eq!(fault(small(|l| l.max_xml_depth = 6)).rule, "LIM-5");
    assert_eq!(fault(small(|l| l.max_xml_attributes = 3)).rule, "LIM-5");
    assert_eq!(
        fault(small(|l| l.max_xml_attribute_bytes = 40)).rule,
        "LIM-5"
    );
    let out_of_resources = [ErrorCode::XdsRepositoryOutOfResources];
    assert_eq!(
        error_codes(&small(|l| l.max_document_bytes = 88).unwrap().0),
        out_of_resources
    );
    let crowded = changed(
        "</direct:to>",
        "</direct:to><direct:to>mailto:b@hisp.example</direct:to>",
    );
    let limits = Limits {
        max_recipients: 1,
        ..Limits::default()
    };
    let (request, _) = read_with(
        SOAP_XML,
        crowded.as_bytes(),
        &limits,
        &ReadOptions::default(),
    )
    .unwrap();
    assert_eq!(error_codes(&request), out_of_resources);
    assert_eq!(request.address_block.unwrap().to.len(), 1);
}

// rule: SOAP-8
#[test]
fn utf16_with_a_byte_order_mark_is_read() {
    let text = format!("\u{feff}{EXAMPLE_1}").replace("UTF-8\"?>", "UTF-16\"?>");
    let units = || text.encode_utf16();
    let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    let utf8 = format!("\u{feff}{EXAMPLE_1}").into_bytes();
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("; charset=utf-16", &big, &["SOAP-11"]),
        ("; charset=\"UTF-16LE\"", &little, &["SOAP-11"]),
        ("", &little, &["SOAP-11"]),
        ("; charset=utf-8", &big, &["SOAP-8", "SOAP-11"]),
        ("; charset=utf-16", &utf8, &["SOAP-8", "SOAP-11"]),
        ("; charset=utf-8", &utf8, &["SOAP-11"]),
    ];
    for (charset, octets, expected) in cases {
        let content_type = format!("application/soap+xml{charset}");
        let (limits, options) = (Limits::default(), ReadOptions::default());
        let (request, documents) = read_with(&content_type, octets, &limits, &options).unwrap();
        assert_eq!(documents.documents[0].1.len(), 89);
        assert_eq!(request.metadata, read_simple(EXAMPLE_1).unwrap().0.metadata);
        assert_eq!(rules(&request), expected, "{charset}");
    }
}

#[test]
fn a_body_that_breaks_and_a_sink_that_fails_are_told_apart() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "peer went away",
            ))
        }
    }
    struct Full;
    impl DocumentSink for Full {
        fn begin(&mut self, _: DocumentKey) -> io::Result<()> {
            Ok(())
        }
        fn write(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn end(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (limits, options) = (Limits::default(), ReadOptions::default());
    for (content_type, text) in [
        (SOAP_XML, EXAMPLE_1),
        (
            "multipart/related; boundary=\"gw-boundary-7f3a91\"",
            EXAMPLE_2,
        ),
    ] {
        for length in [0, 700, 3_000] {
            let mut body = text.as_bytes()[..length].chain(Broken);
            let outcome = read(
                content_type,
                &mut body,
                &limits,
                &options,
                &mut Measure::default(),
            );
            let Err(ReadError::Io(error)) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(error.to_string(), "peer went away");
        }
        let outcome = read(
            content_type,
            &mut text.as_bytes(),
            &limits,
            &options,
            &mut Full,
        );
        let Err(ReadError::Sink(error)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Ok((request, documents)) => {
            format!("{request:?} {:?} {documents:?}", request.metadata.as_str())
        }
        Err(error) => format!("{error:?}"),
    }
}

fn read_pieces(octets: &[u8], lengths: Vec<usize>) -> Outcome {
    let mut documents = DocumentsInMemory::default();
    let mut pieces = Pieces {
        octets,
        lengths,
        turn: 0,
    };
    let request = read_file(
        &mut pieces,
        &Limits::default(),
        &ReadOptions::default(),
        &mut documents,
    )?;
    Ok((request, documents))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_cut_of_the_stream_does_not_show(lengths in proptest::collection::vec(1usize..400, 1..20)) {
        for text in [EXAMPLE_1.as_bytes(), EXAMPLE_2.as_bytes()] {
            let whole = summary(&read_pieces(text, vec![usize::MAX]));
            // The reader over a file takes its head in one piece, the one over the wire does not.
            prop_assert_eq!(&summary(&read_pieces(text, lengths.clone())), &whole);
        }
        let at = EXAMPLE_2.find("\r\n\r\n").unwrap() + 4;
        let content_type = "multipart/related; type=\"application/xop+xml\"; boundary=\"gw-boundary-7f3a91\"";
        let mut documents = DocumentsInMemory::default();
        let mut pieces = Pieces { octets: &EXAMPLE_2.as_bytes()[at..], lengths, turn: 0 };
        let request = read(content_type, &mut pieces, &Limits::default(), &ReadOptions::default(), &mut documents).unwrap();
        prop_assert!(request.findings.iter().all(|f| f.rule == "SOAP-3"));
        prop_assert_eq!(documents.documents[0].1.as_slice(), b"%PDF-1.4 sample payload\n");
    }

    // rule: T-10, XDR-89
    #[test]
    fn mutated_messages_never_panic_and_what_is_kept_is_well_formed(
        which in 0usize..3,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..4, any::<u8>(), 0usize..60), 1..6),
    ) {
        const MARKUP: &[u8] = b"<>&;/!?'\"=:- \n\0]x";
        let mut octets = [EXAMPLE_1, EXAMPLE_2, EXAMPLE_3][which].as_bytes().to_vec();
        for (index, kind, byte, length) in edits {
            let at = index.index(octets.len());
            let end = (at + length).min(octets.len());
            match kind {
                0 => octets[at] = MARKUP[usize::from(byte) % MARKUP.len()],
                1 => octets.insert(at, byte),
                2 => { octets.drain(at..end); }
                _ => {
                    let piece = octets[at..end].to_vec();
                    octets.splice(at..at, piece);
                }
            }
        }
        if let Ok((request, documents)) = read_saved(&octets) {
            let kept = roxmltree::Document::parse(request.metadata.as_str());
            prop_assert!(kept.is_ok(), "{:?}", kept.err());
            for document in &request.documents {
                prop_assert!(documents.find(document.key).is_some());
            }
        }
    }
}
