//! Packages: what toolkits do differently, and what is refused.

use super::*;
use crate::formats::ids::SoapMessageId;

const FOUR_WAYS: &[u8] = include_bytes!("../../../../../fixtures/xdr/mtom-four-ways.mime");
const CONTENT_TYPE: &str = "multipart/related; boundary=b; type=\"application/xop+xml\"; start=\"<root@x>\"; start-info=\"application/soap+xml\"";

/// An envelope whose documents are `documents`, the inside of the request after its metadata.
pub(super) fn envelope(documents: &str) -> String {
    let start = EXAMPLE_2.find("<?xml").unwrap();
    let end = EXAMPLE_2.find("</soap:Envelope>").unwrap() + "</soap:Envelope>".len();
    let from = EXAMPLE_2.find("<xds:Document ").unwrap();
    let to = EXAMPLE_2.find("</xds:Document>").unwrap() + "</xds:Document>".len();
    format!(
        "{}{documents}{}",
        &EXAMPLE_2[start..from],
        &EXAMPLE_2[to..end]
    )
}

pub(super) fn include(id: &str, href: &str) -> String {
    format!(
        "<xds:Document id='{id}'><xop:Include xmlns:xop='http://www.w3.org/2004/08/xop/include' href='{href}'/></xds:Document>"
    )
}

/// A package of parts, each a header and its octets, with CRLF and boundary `b`.
fn package(parts: &[(&str, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(header, body)| format!("--b\r\n{header}\r\n\r\n{body}\r\n"))
        .collect();
    format!("{parts}--b--\r\n")
}

const ROOT: &str = "Content-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"\r\n\
                    Content-Transfer-Encoding: binary\r\nContent-ID: <root@x>";

fn read_parts(parts: &[(&str, &str)]) -> Outcome {
    read_with(
        CONTENT_TYPE,
        package(parts).as_bytes(),
        &Limits::default(),
        &ReadOptions::default(),
    )
}

// rule: SOAP-20, SOAP-21, SOAP-22, SOAP-25, SOAP-26, XDR-9
#[test]
fn parts_before_the_root_inline_text_and_every_transfer_encoding_mix() {
    let (request, documents) = read_saved(FOUR_WAYS).unwrap();
    assert!(
        !crate::formats::finding::refuses(&request.findings),
        "{:?}",
        request.findings
    );
    let read: Vec<(&str, DocumentKey, &[u8])> = request
        .documents
        .iter()
        .map(|d| {
            (
                d.document_id.as_str(),
                d.key,
                documents.find(d.key).unwrap(),
            )
        })
        .collect();
    let expected: [(&str, DocumentKey, &[u8]); 4] = [
        (
            "Document01",
            DocumentKey::Part(0),
            b"first, before the root\n",
        ),
        (
            "Document02",
            DocumentKey::Inline(0),
            b"second, in the envelope\n",
        ),
        ("Document03", DocumentKey::Part(2), b"third, in base64\n"),
        (
            "Document04",
            DocumentKey::Part(3),
            "fourth, in quoted-printable: \u{fc}\n".as_bytes(),
        ),
    ];
    assert_eq!(read, expected);
}

// rule: SOAP-30
#[test]
fn line_ends_and_the_last_boundary_may_differ_and_octets_stay_exact() {
    let body = envelope(&include("Document01", "cid:d@x"));
    let document = "\r\n--bb\r\nline\n--\r\n";
    let whole = package(&[(ROOT, &body), ("Content-ID: <d@x>", document)]);
    let mixed = format!(
        "\n--b\n{}\n\n{body}\n--b  \nContent-ID:\n\t<d@x>\n\n{document}\n--b--",
        ROOT.replace('\r', "")
    );
    let without_dashes = whole.replace("--b--\r\n", "--b\r\n");
    let cut_at_boundary = whole.replace("--b--\r\n", "--b");
    for (text, expected) in [
        (&whole, &[][..]),
        (&mixed, &["SOAP-30"][..]),
        (&without_dashes, &["SOAP-30"][..]),
        (&cut_at_boundary, &["SOAP-30"][..]),
    ] {
        let (request, documents) = read_with(
            CONTENT_TYPE,
            text.as_bytes(),
            &Limits::default(),
            &ReadOptions::default(),
        )
        .unwrap();
        assert_eq!(
            documents.find(DocumentKey::Part(1)).unwrap(),
            document.as_bytes()
        );
        assert_eq!(rules(&request), expected);
    }
    // A stream that ends inside a part is never taken for a whole document.
    let cut = &whole[..whole.len() - 12];
    let outcome = read_with(
        CONTENT_TYPE,
        cut.as_bytes(),
        &Limits::default(),
        &ReadOptions::default(),
    );
    assert_eq!(fault(outcome).rule, "SOAP-30");
}

// rule: SOAP-22
#[test]
fn an_href_is_decoded_first_and_compared_as_it_stands_second() {
    let cases: [(&str, &str, &[&str]); 5] = [
        ("cid:0.urn%3auuid%3A1@x", "0.urn:uuid:1@x", &[]),
        ("cid:a%40x", "a@x", &[]),
        ("cid:a%2540x", "a%40x", &[]),
        ("CID:a%40x", "a%40x", &["SOAP-22"]),
        ("cid:a+b@x", "a+b@x", &[]),
    ];
    for (href, id, expected) in cases {
        let header = format!("content-id: <{id}>");
        let outcome = read_parts(&[
            (ROOT, &envelope(&include("Document01", href))),
            (&header, "x"),
        ]);
        assert_eq!(rules(&outcome.unwrap().0), expected, "{href}");
    }
    let other_case = read_parts(&[
        (ROOT, &envelope(&include("Document01", "cid:a@x"))),
        ("Content-ID: <A@x>", "x"),
    ]);
    let (request, _) = other_case.unwrap();
    assert_eq!(
        error_codes(&request),
        [
            ErrorCode::XdsMissingDocument,
            ErrorCode::XdsMissingDocumentMetadata
        ]
    );
}

// rule: SOAP-28, SOAP-32, T-10c
#[test]
fn each_part_belongs_to_one_document() {
    let shared = format!(
        "{}{}",
        include("Document01", "cid:d@x"),
        include("Document02", "cid:d@x")
    );
    let parts = [
        (ROOT, &*envelope(&shared)),
        ("Content-ID: <d@x>", "x"),
        ("Content-Type: a/b", "nobody's"),
    ];
    let (request, _) = read_parts(&parts).unwrap();
    assert_eq!(rules(&request), ["SOAP-32", "SOAP-28"]);
    assert_eq!(error_codes(&request), [ErrorCode::XdsRepositoryError]);
    let lenient = ReadOptions {
        shared_parts: true,
        ..ReadOptions::default()
    };
    let text = package(&parts);
    let (request, _) =
        read_with(CONTENT_TYPE, text.as_bytes(), &Limits::default(), &lenient).unwrap();
    let read: Vec<_> = request
        .documents
        .iter()
        .map(|d| (&*d.document_id, d.key))
        .collect();
    assert_eq!(
        read,
        [
            ("Document01", DocumentKey::Part(1)),
            ("Document02", DocumentKey::Part(1))
        ]
    );
    let (request, _) =
        read_parts(&[(ROOT, &envelope(&include("Document01", "cid:root@x")))]).unwrap();
    assert_eq!(rules(&request), ["T-10c"]);
    let (request, _) = read_parts(&[
        (ROOT, &envelope(&include("Document01", "cid:d@x"))),
        ("Content-ID: <d@x>", "x"),
        ("Content-ID: <e@x>", "y"),
    ])
    .unwrap();
    assert_eq!(
        error_codes(&request),
        [ErrorCode::XdsMissingDocumentMetadata]
    );
}

// rule: LIM-2, SOAP-23, SOAP-24, SOAP-28
#[test]
fn a_document_that_is_refused_came_and_its_parts_are_accounted_for() {
    let xop = "xmlns:xop='http://www.w3.org/2004/08/xop/include'";
    let two = format!(
        "<xds:Document id='Document01'><xop:Include {xop} href='cid:d@x'/><xop:Include {xop} href='cid:e@x'/></xds:Document>"
    );
    let limits = Limits {
        max_document_bytes: 3,
        ..Limits::default()
    };
    for (documents, rule) in [
        (two, "SOAP-23"),
        (
            include("Document01", "cid:d@x") + &include("Document02", "cid:e@x"),
            "LIM-2",
        ),
        (
            include("Document01", "cid:no@x") + &include("Document02", "cid:d@x"),
            "SOAP-24",
        ),
    ] {
        let body = envelope(&documents);
        let parts = [
            (ROOT, &*body),
            (
                "Content-ID: <d@x>",
                if rule == "LIM-2" { "four" } else { "d" },
            ),
            ("Content-ID: <e@x>", "e"),
        ];
        let octets = package(&parts[..if rule == "SOAP-24" { 2 } else { 3 }]);
        let options = ReadOptions::default();
        let (request, _) = read_with(CONTENT_TYPE, octets.as_bytes(), &limits, &options).unwrap();
        assert_eq!(rules(&request), [rule]);
        assert_eq!(request.findings[0].location, "Document(Document01)");
        assert_eq!(request.unusable_documents, ["Document01"]);
        let usable = request.documents.iter().map(|d| d.document_id.as_str());
        let others = if rule == "SOAP-23" {
            vec![]
        } else {
            vec!["Document02"]
        };
        assert_eq!(usable.collect::<Vec<_>>(), others);
    }
}

// rule: SOAP-22
#[test]
fn an_href_is_decoded_once_however_many_parts_there_are() {
    let id = |number: usize| format!("{number}.urn%3Auuid%3A1@x");
    let documents: String = (0..100)
        .map(|n| include(&id(n), &format!("cid:{}", id(n))))
        .collect();
    let body = envelope(&documents);
    let headers: Vec<String> = (0..480)
        .map(|n| format!("Content-ID: <{n}.urn:uuid:1@x>"))
        .collect();
    let mut parts = vec![(ROOT, body.as_str())];
    parts.extend(headers.iter().map(|header| (header.as_str(), "x")));
    let before = body::DECODED.get();
    let (request, _) = read_parts(&parts).unwrap();
    assert_eq!(body::DECODED.get() - before, 100);
    assert_eq!(request.documents.len(), 100);
    // The other parts belong to nobody.
    assert_eq!(error_codes(&request).len(), 380);
}

// rule: SOAP-3, SOAP-4, SOAP-23, SOAP-30, XDR-141
#[test]
fn what_a_package_says_less_or_otherwise_is_told() {
    let body = envelope(&include("Document01", "cid:d@x"));
    let spaced = body.replace("<xop:Include", " \n<xop:Include");
    let long = "b".repeat(71);
    let whole = package(&[(ROOT, &body), ("Content-ID: <d@x>", "x")]);
    let with_root = |root: &str| package(&[(root, &body), ("Content-ID: <d@x>", "x")]);
    let cases: [(String, String, &[&str]); 8] = [
        (CONTENT_TYPE.into(), whole.clone(), &[]),
        (
            CONTENT_TYPE.replace("application/soap", "text/"),
            whole.clone(),
            &["SOAP-3"],
        ),
        (
            CONTENT_TYPE.replace("type=\"application/xop+xml\"", "type=\"text/xml\""),
            whole.clone(),
            &["SOAP-3"],
        ),
        (
            "multipart/related; boundary=b".into(),
            whole.clone(),
            &["SOAP-3"; 3],
        ),
        (
            CONTENT_TYPE.into(),
            with_root("Content-ID: <root@x>\r\nContent-Type: text/xml"),
            &["SOAP-4"; 2],
        ),
        (
            CONTENT_TYPE.into(),
            with_root(&ROOT.replace("application/soap+xml", "text/xml")),
            &["SOAP-4"],
        ),
        (
            CONTENT_TYPE.into(),
            package(&[(ROOT, &spaced), ("Content-ID: <d@x>", "x")]),
            &["SOAP-23"],
        ),
        (
            CONTENT_TYPE.replace("boundary=b", &format!("boundary={long}")),
            whole.replace("--b", &format!("--{long}")),
            &["SOAP-30"],
        ),
    ];
    for (content_type, text, expected) in cases {
        let (limits, options) = (Limits::default(), ReadOptions::default());
        let (request, _) = read_with(&content_type, text.as_bytes(), &limits, &options).unwrap();
        assert_eq!(rules(&request), expected, "{content_type}");
        assert_eq!(request.documents.len(), 1);
    }
}

// rule: SOAP-3, SOAP-20, SOAP-26, SOAP-31, SOAP-80, LIM-6, LIM-7, T-11
#[test]
fn a_package_that_is_not_one_gets_a_sender_fault() {
    let body = envelope(&include("Document01", "cid:d@x"));
    let long = format!("X: {}", "a".repeat(17_000));
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("Content-ID: <other@x>", &body)], "SOAP-20"),
        (
            &[
                (ROOT, &body),
                ("Content-ID: <d@x>", ""),
                ("Content-ID: <d@x>", ""),
            ],
            "SOAP-31",
        ),
        (
            &[
                (ROOT, &body),
                ("Content-ID: <d@x>\r\nContent-ID: <e@x>", ""),
            ],
            "T-11",
        ),
        (
            &[
                (ROOT, &body),
                ("Content-ID: <d@x>\r\nContent-Transfer-Encoding: x-z", ""),
            ],
            "SOAP-26",
        ),
        (
            &[
                (ROOT, &body),
                (
                    "Content-ID: <d@x>\r\nContent-Transfer-Encoding: base64",
                    "?",
                ),
            ],
            "SOAP-26",
        ),
        (&[(&long, &body)], "LIM-7"),
    ];
    for (parts, rule) in cases {
        let fault = fault(read_parts(parts));
        assert_eq!((fault.rule, fault.packaging), (rule, Packaging::Mtom));
    }
    // No part at all.
    assert_eq!(fault(read_parts(&[])).rule, "SOAP-20");
    let many = vec![("A: b", ""); 501];
    assert_eq!(fault(read_parts(&many)).rule, "LIM-6");
    let bare = "multipart/related; type=\"application/xop+xml\"";
    assert_eq!(
        fault(read_with(
            bare,
            b"",
            &Limits::default(),
            &ReadOptions::default()
        ))
        .rule,
        "SOAP-3"
    );
    // A fault that comes after the envelope relates to the request.
    let late = fault(read_parts(cases[1].0));
    assert_eq!(
        late.relates_to.unwrap().as_str(),
        "urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f80"
    );
}

// rule: SOAP-7, SOAP-8
#[test]
fn other_content_types_and_charsets_are_unsupported() {
    for content_type in [
        "",
        "text/plain",
        "application/xml",
        "application/soap+xml; charset=latin1",
        "multipart/form-data; boundary=b",
    ] {
        let outcome = read_with(
            content_type,
            EXAMPLE_1.as_bytes(),
            &Limits::default(),
            &ReadOptions::default(),
        );
        assert!(
            matches!(outcome, Err(ReadError::UnsupportedMediaType)),
            "{content_type}"
        );
    }
}

// rule: SOAP-11
#[test]
fn a_partner_can_be_held_to_mtom() {
    let strict = ReadOptions {
        require_mtom: true,
        ..ReadOptions::default()
    };
    let refused = fault(read_with(
        SOAP_XML,
        EXAMPLE_1.as_bytes(),
        &Limits::default(),
        &strict,
    ));
    assert_eq!(refused.rule, "SOAP-11");
    assert!(refused.relates_to.is_some());
}

// rule: SOAP-10, SOAP-93
#[test]
fn a_fault_takes_the_packaging_of_its_request() {
    let fault = fault(read_parts(&[(ROOT, "<a/>")]));
    let id: SoapMessageId = "urn:uuid:9".parse().unwrap();
    let (content_type, body) = fault.write_answer(&id);
    assert!(content_type.starts_with("multipart/related"));
    let answer = crate::formats::xdr::response::read(
        &content_type,
        &mut Cursor::new(body),
        &Limits::default(),
    );
    let crate::formats::xdr::response::Answer::Fault(received) = answer.unwrap().answer else {
        panic!("a fault")
    };
    assert_eq!(received.code, Some(FaultCode::Sender));
    assert!(!received.is_transient());
}

// rule: SOAP-10, SOAP-33, SOAP-64, SOAP-111, SOAP-116, XDR-2
#[test]
fn what_is_written_reads_back_in_either_packaging() {
    let (request, mut documents) = read_saved(FOUR_WAYS).unwrap();
    let message_id = "urn:uuid:77".parse().unwrap();
    let outgoing: Vec<OutgoingDocument> = request
        .documents
        .iter()
        .map(|d| OutgoingDocument {
            document_id: d.document_id.clone(),
            key: d.key,
            mime_type: "text/plain".to_owned(),
        })
        .collect();
    let out = OutgoingRequest {
        message_id: &message_id,
        action: crate::formats::soap::REQUEST_ACTION,
        to: "https://edge.example/xdr?a=1&b=2",
        address_block: request.address_block.as_ref(),
        metadata_level: Some(MetadataLevel::Minimal),
        metadata: &request.metadata,
        documents: &outgoing,
    };
    let strict = ReadOptions {
        strict_address_block: true,
        ..ReadOptions::default()
    };
    for packaging in [Packaging::Mtom, Packaging::SimpleSoap] {
        let mut body = Vec::new();
        match packaging {
            Packaging::Mtom => write_mtom(&out, &mut documents, &mut body).unwrap(),
            _ => write_simple(&out, &mut documents, &mut body).unwrap(),
        }
        let (again, read_documents) = read_with(
            &out.content_type(packaging),
            &body,
            &Limits::default(),
            &strict,
        )
        .unwrap();
        assert_eq!(again.packaging, packaging);
        assert_eq!(again.metadata, request.metadata);
        assert_eq!(again.address_block, request.address_block);
        assert_eq!(again.addressing.to.as_deref(), Some(out.to));
        assert_eq!(again.documents.len(), 4);
        for written in &request.documents {
            let read = again
                .documents
                .iter()
                .find(|d| d.document_id == written.document_id)
                .unwrap();
            assert_eq!(read_documents.find(read.key), documents.find(written.key));
        }
        assert!(
            again
                .findings
                .iter()
                .all(|finding| finding.rule == "SOAP-11"),
            "{:?}",
            again.findings
        );
    }
    // Two documents of the same octets are two parts: the peer may not want one for both (SOAP-32).
    let twins = [
        outgoing[0].clone(),
        OutgoingDocument {
            document_id: "Twin".into(),
            ..outgoing[0].clone()
        },
    ];
    let twice = OutgoingRequest {
        documents: &twins,
        ..out.clone()
    };
    for packaging in [Packaging::Mtom, Packaging::SimpleSoap] {
        let mut body = Vec::new();
        match packaging {
            Packaging::Mtom => write_mtom(&twice, &mut documents, &mut body).unwrap(),
            _ => write_simple(&twice, &mut documents, &mut body).unwrap(),
        }
        let content_type = twice.content_type(packaging);
        let (again, octets) = read_with(&content_type, &body, &Limits::default(), &strict).unwrap();
        assert_eq!((again.documents.len(), octets.documents.len()), (2, 2));
        assert_eq!(octets.documents[0].1, octets.documents[1].1);
    }
    // A source that lacks a document must not leave a request behind that looks whole.
    documents.documents.pop();
    assert!(write_mtom(&out, &mut documents, &mut Vec::new()).is_err());
}
