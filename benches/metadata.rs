//! From an ITI-41 request to metadata that is read and judged: `cargo bench --bench metadata`.
//!
//! The documents are a few octets each, so that metadata is nearly all there is. Octets a second are those of the whole
//! request; items a second are documents, so that a thousandth of a millisecond over them is the cost of one.

use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use xdbridge::formats::{
    document::FactsSink,
    finding::{MAX_FINDINGS, refuses},
    limits::Limits,
    metadata::{
        Level, Metadata,
        validate::{BoundDocument, Context, validate},
    },
    xdr::request::{self, ReadOptions, ReceivedRequest},
};

/// Full metadata of one document in a folder, from which requests of many are made.
const SAMPLE: &str = include_str!("../fixtures/metadata/full-with-folder.xml");
const CONTENT_TYPE: &str = "multipart/related; boundary=b; type=\"application/xop+xml\"; start=\"<root>\"; \
                            start-info=\"application/soap+xml\"";
/// Documents of one request.
const COUNTS: [usize; 3] = [1, 10, 100];

fn main() {
    divan::main();
}

/// What stands from `start` to the end of `end` in the sample.
fn piece(start: &str, end: &str) -> &'static str {
    let from = SAMPLE.find(start).expect("the sample has it");
    let rest = &SAMPLE[from..];
    let length = rest.find(end).expect("and its end") + end.len();
    &rest[..length]
}

/// The body of a request with so many documents, each of full metadata.
fn body(count: usize) -> String {
    let entry = piece("<rim:ExtrinsicObject", "</rim:ExtrinsicObject>")
        .replace("\"hash\"", "\"urn:example:hash\"")
        .replace("\"size\"", "\"urn:example:size\"");
    let set = piece("<rim:RegistryPackage", "</rim:RegistryPackage>");
    let mut metadata = set.to_owned();
    let (mut documents, mut parts) = (String::new(), String::new());
    for number in 0..count {
        let id = format!("Document{number:03}");
        let own = entry
            .replace("Document01", &id)
            .replace(" id=\"c", &format!(" id=\"c{number:03}"))
            .replace(" id=\"e", &format!(" id=\"e{number:03}"))
            .replace("1001^A77", &format!("1001^A{number}"));
        metadata.push_str(&own);
        metadata.push_str(&format!(
            "<rim:Association id=\"Link{number:03}\" \
             associationType=\"urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember\" sourceObject=\"Set01\" \
             targetObject=\"{id}\"><rim:Slot name=\"SubmissionSetStatus\"><rim:ValueList>\
             <rim:Value>Original</rim:Value></rim:ValueList></rim:Slot></rim:Association>"
        ));
        documents.push_str(&format!(
            "<xds:Document id=\"{id}\"><xop:Include xmlns:xop=\"http://www.w3.org/2004/08/xop/include\" \
             href=\"cid:{number}\"/></xds:Document>"
        ));
        parts.push_str(&format!(
            "\r\n--b\r\nContent-Type: text/xml\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <{number}>\r\n\r\n\
             <note>{number}</note>"
        ));
    }
    format!(
        "--b\r\nContent-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"\r\n\
         Content-Transfer-Encoding: binary\r\nContent-ID: <root>\r\n\r\n\
         <soap:Envelope xmlns:soap=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:wsa=\"http://www.w3.org/2005/08/addressing\"><soap:Header>\
         <wsa:Action soap:mustUnderstand=\"true\">urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b</wsa:Action>\
         <wsa:MessageID>urn:uuid:3c4d5e6f-7081-4c9d-8e0f-2a3b4c5d6e7f</wsa:MessageID></soap:Header><soap:Body>\
         <xds:ProvideAndRegisterDocumentSetRequest xmlns:xds=\"urn:ihe:iti:xds-b:2007\">\
         <lcm:SubmitObjectsRequest xmlns:lcm=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
         xmlns:rim=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"><rim:RegistryObjectList>{metadata}\
         </rim:RegistryObjectList></lcm:SubmitObjectsRequest>{documents}\
         </xds:ProvideAndRegisterDocumentSetRequest></soap:Body></soap:Envelope>{parts}\r\n--b--\r\n"
    )
}

fn read(body: &str, limits: &Limits) -> (ReceivedRequest, Vec<BoundDocument>) {
    read_by(&ReadOptions::default(), body, limits)
}

fn read_by(
    options: &ReadOptions,
    body: &str,
    limits: &Limits,
) -> (ReceivedRequest, Vec<BoundDocument>) {
    let mut facts = FactsSink::default();
    let mut octets = body.as_bytes();
    let request = request::read(CONTENT_TYPE, &mut octets, limits, options, &mut facts)
        .expect("our own request is readable");
    let facts = facts.into_facts();
    let bound = request.documents.iter().filter_map(|part| {
        Some(BoundDocument {
            document_id: part.document_id.clone(),
            facts: facts.iter().find(|facts| facts.key == part.key)?.clone(),
        })
    });
    let bound = bound.collect();
    (request, bound)
}

fn judge(metadata: &Metadata, documents: &[BoundDocument]) {
    let context = Context {
        documents: Some(documents),
        ..Context::at(Level::Full)
    };
    let findings = validate(metadata, &context);
    assert!(!refuses(&findings), "our own request is good: {findings:?}");
}

/// All of it: package, envelope, metadata, judgement.
#[divan::bench(args = COUNTS)]
fn request_to_judgement(bencher: Bencher<'_, '_>, count: usize) {
    let body = body(count);
    let limits = Limits::default();
    bencher
        .counter(BytesCount::new(body.len()))
        .counter(ItemsCount::new(count))
        .bench(|| {
            let (request, documents) = read(&body, &limits);
            let metadata =
                Metadata::read(request.metadata, &limits).expect("our own metadata is readable");
            judge(&metadata, &documents);
        });
}

/// All of it for a partner that is held to the schemas: header and metadata are judged by them as well.
#[divan::bench(args = COUNTS)]
fn request_to_strict_judgement(bencher: Bencher<'_, '_>, count: usize) {
    let body = body(count);
    let limits = Limits::default();
    let strict = ReadOptions {
        validate_schema: true,
        ..ReadOptions::default()
    };
    bencher
        .counter(BytesCount::new(body.len()))
        .counter(ItemsCount::new(count))
        .bench(|| {
            let (request, documents) = read_by(&strict, &body, &limits);
            assert!(!refuses(&request.findings), "our own header is good");
            let metadata =
                Metadata::read(request.metadata, &limits).expect("our own metadata is readable");
            judge(&metadata, &documents);
            let violations = metadata.schema_violations(MAX_FINDINGS);
            assert!(
                violations.expect("it was read").is_empty(),
                "and by the schemas"
            );
        });
}

/// The judgement alone, of metadata that was read before.
#[divan::bench(args = COUNTS)]
fn judgement(bencher: Bencher<'_, '_>, count: usize) {
    let limits = Limits::default();
    let (request, documents) = read(&body(count), &limits);
    let metadata = Metadata::read(request.metadata, &limits).expect("our own metadata is readable");
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| judge(&metadata, &documents));
}
