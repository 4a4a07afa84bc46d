//! The reader over whole messages: our examples, what peers do differently, what is refused, and what is hostile.

use std::io::{self, Cursor, Read};

use super::*;
use crate::formats::{
    document::{DocumentSink, DocumentsInMemory},
    limits::Limits,
    soap::FaultCode,
    xdr::ErrorCode,
};

const EXAMPLE_1: &str = include_str!("../../../../docs/spec/examples/01-request-full-inline.xml");
const EXAMPLE_2: &str =
    include_str!("../../../../docs/spec/examples/02-request-direct-minimal-mtom.http");
const EXAMPLE_3: &str =
    include_str!("../../../../docs/spec/examples/03-request-delivery-notification.xml");
const SOAP_XML: &str = "application/soap+xml; charset=UTF-8";

type Outcome = Result<(ReceivedRequest, DocumentsInMemory), ReadError>;

fn read_with(content_type: &str, body: &[u8], limits: &Limits, options: &ReadOptions) -> Outcome {
    let mut documents = DocumentsInMemory::default();
    let request = read(
        content_type,
        &mut Cursor::new(body),
        limits,
        options,
        &mut documents,
    )?;
    Ok((request, documents))
}

fn read_simple(envelope: &str) -> Outcome {
    read_with(
        SOAP_XML,
        envelope.as_bytes(),
        &Limits::default(),
        &ReadOptions::default(),
    )
}

fn read_saved(file: &[u8]) -> Outcome {
    let mut documents = DocumentsInMemory::default();
    let mut file = Cursor::new(file);
    let request = read_file(
        &mut file,
        &Limits::default(),
        &ReadOptions::default(),
        &mut documents,
    )?;
    Ok((request, documents))
}

fn fault(outcome: Outcome) -> Fault {
    match outcome {
        Err(ReadError::Fault(fault)) => *fault,
        other => panic!("no fault but {other:?}"),
    }
}

fn rules(request: &ReceivedRequest) -> Vec<&str> {
    request
        .findings
        .iter()
        .map(|finding| finding.rule)
        .collect()
}

fn error_codes(request: &ReceivedRequest) -> Vec<ErrorCode> {
    request
        .findings
        .iter()
        .filter(|f| f.is_error())
        .filter_map(|f| f.code.clone())
        .collect()
}

// rule: SOAP-11, SOAP-25, SOAP-29, SOAP-110, SOAP-112, SOAP-115
#[test]
fn a_simple_soap_request_with_inline_base64_is_read() {
    let (request, documents) = read_simple(EXAMPLE_1).unwrap();
    assert_eq!(request.packaging, Packaging::SimpleSoap);
    assert_eq!(
        request.addressing.message_id.as_ref().unwrap().as_str(),
        "urn:uuid:3c4d5e6f-7081-4c9d-8e0f-2a3b4c5d6e7f"
    );
    let block = request.address_block.as_ref().unwrap();
    assert_eq!(
        block.from.to_string(),
        "ngozi.okafor@direct.elm.example.org"
    );
    assert_eq!(block.to.len(), 1);
    assert_eq!(request.metadata_level, Some(MetadataLevel::Xds));
    assert_eq!(rules(&request), ["SOAP-11"]);
    let [part] = request.documents.as_slice() else {
        panic!("one document")
    };
    assert_eq!(
        part.document_id,
        "urn:uuid:0f4a6c1e-2d3b-4c5d-8e6f-7a8b9c0d1e2f"
    );
    let octets = documents.find(part.key).unwrap();
    assert_eq!(octets.len(), 89);
    assert!(octets.starts_with(b"<ClinicalDocument"));
}

// rule: XDR-89
#[test]
fn the_metadata_is_the_text_that_was_received() {
    let (request, _) = read_simple(EXAMPLE_1).unwrap();
    let start = EXAMPLE_1.find("<lcm:SubmitObjectsRequest").unwrap();
    let end = EXAMPLE_1.find("</lcm:SubmitObjectsRequest>").unwrap();
    assert_eq!(
        request.metadata.as_str(),
        &EXAMPLE_1[start..end + "</lcm:SubmitObjectsRequest>".len()]
    );
}

// rule: SOAP-3, SOAP-4, SOAP-20, SOAP-22, SOAP-23, SOAP-26
#[test]
fn an_mtom_request_is_read_from_its_saved_http_message() {
    let (request, documents) = read_saved(EXAMPLE_2.as_bytes()).unwrap();
    assert_eq!(request.packaging, Packaging::Mtom);
    assert_eq!(request.metadata_level, Some(MetadataLevel::Minimal));
    assert_eq!(request.address_block.as_ref().unwrap().to.len(), 2);
    assert!(request.findings.is_empty(), "{:?}", request.findings);
    let [part] = request.documents.as_slice() else {
        panic!("one document")
    };
    assert_eq!(
        (part.document_id.as_str(), part.key),
        ("Document01", DocumentKey::Part(1))
    );
    assert_eq!(
        documents.find(part.key).unwrap(),
        b"%PDF-1.4 sample payload\n"
    );
}

// rule: SOAP-118
#[test]
fn a_delivery_notification_says_what_it_is_about() {
    let (request, documents) = read_simple(EXAMPLE_3).unwrap();
    let about = "urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f80";
    assert_eq!(request.notification_relates_to.as_deref(), Some(about));
    assert_eq!(
        request.address_block.unwrap().relates_to.as_deref(),
        Some(about)
    );
    assert!(
        documents.documents[0]
            .1
            .starts_with(b"<direct:messageDisposition")
    );
}
