//! A partner that is held to our schemas (`validate_schema`), and `inspect --schema`: the same judgement (MD-99).

use std::io::Cursor;

use xdbridge::{
    adapters::clock::SystemClock,
    flows::{
        inspect::{InspectOptions, inspect},
        ports::Clock,
    },
    formats::{limits::Limits, soap::MetadataLevel, xdr::response::RegistryResponse},
};

use crate::support::{
    bridge::{ELM, RUI, TestBridge, assert_plain_success, runtime},
    request::{Posted, TestRequest},
};

/// A request at level minimal, which is lenient about all that these tests damage.
fn request() -> TestRequest {
    let mut request = TestRequest::new(ELM, &[RUI]);
    request.level = MetadataLevel::Minimal;
    request
}

/// A SubmissionSet with its Name before its Slots.
fn misordered(posted: Posted) -> Posted {
    let name = "<rim:Name><rim:LocalizedString value=\"Quill\"/></rim:Name>";
    let package = "<rim:RegistryPackage id=\"Set01\">";
    posted.with(package, &format!("{package}{name}"))
}

/// Where each violation of a schema is, as the peer is told.
fn schema_violations(response: &RegistryResponse) -> Vec<(String, String)> {
    let entries = response.errors.iter();
    let told = entries.map(|entry| {
        let location = entry.location.clone().unwrap_or_default();
        (location, entry.context.clone())
    });
    told.collect()
}

fn inspected(posted: &Posted, validate_schema: bool) -> Vec<(String, String)> {
    let mut saved = format!(
        "POST /xdr HTTP/1.1\r\nContent-Type: {}\r\n\r\n",
        posted.content_type
    )
    .into_bytes();
    saved.extend_from_slice(&posted.body);
    let options = InspectOptions {
        level: None,
        validate_schema,
    };
    let mut saved = Cursor::new(saved);
    let found = inspect(&mut saved, options, &Limits::default(), SystemClock.now()).unwrap();
    let errors = found
        .findings
        .into_iter()
        .filter(|finding| finding.is_error());
    errors
        .map(|finding| (finding.rule.to_owned(), finding.location))
        .collect()
}

// rule: MD-99, XDR-5, XDR-34, XDR-122
#[test]
fn a_partner_that_is_held_to_the_schemas_is_told_every_violation_and_others_are_not() {
    let strict =
        TestBridge::start_with(runtime(), &[], std::sync::Arc::new(SystemClock), |config| {
            config.partner[0].validate_schema = true
        });
    let lenient = TestBridge::start(runtime(), &[]);
    assert_plain_success(&strict.submit(&request().mtom()));
    assert_plain_success(&strict.submit(&request().simple()));

    let several = misordered(request().mtom())
        .with(
            "<rim:Slot name=\"creationTime\">",
            "<rim:Slot name=\"creationTime\" colour=\"Quill\">",
        )
        .with(
            " id=\"Link1\"",
            " id=\"Link1\" lid=\"Link1\" owner=\"Quill\"",
        );
    let one = |from: &str, to: &str| request().simple().with(from, to);
    let disposition = "<direct:messageDisposition xmlns:direct=\"urn:direct:addressing\">\
        <direct:recipient>mailto:rui@x.example</direct:recipient>\
        <direct:disposition>success</direct:disposition></direct:messageDisposition>";
    let mut raw = request();
    raw.documents = vec![("text/xml", b"QQ".to_vec())];
    let cases: [(Posted, &[&str]); 4] = [
        (
            several,
            &[
                "rim:RegistryPackage, line ",
                "rim:Slot, line 4 of lcm:SubmitObjectsRequest",
                "rim:Association, line ",
            ],
        ),
        (
            one("<xds:Document id=", "<xds:Document colour=\"Quill\" id="),
            &["ProvideAndRegisterDocumentSetRequest"],
        ),
        (
            one(
                "</xds:ProvideAndRegister",
                "<xds:Colour/></xds:ProvideAndRegister",
            ),
            &["ProvideAndRegisterDocumentSetRequest"],
        ),
        (
            one(
                "<rim:RegistryObjectList>",
                "<rim:RegistryObjectList id=\"list\">",
            ),
            &["rim:RegistryObjectList, line 2"],
        ),
    ];
    for (posted, places) in cases {
        assert_plain_success(&lenient.submit(&posted));
        let violations = schema_violations(&strict.submit(&posted));
        let is_expected = |location: &str| places.iter().any(|place| location.starts_with(place));
        assert!(
            violations.iter().all(|(at, _)| is_expected(at)),
            "{violations:?}"
        );
        for place in places {
            let told = violations
                .iter()
                .find(|(location, _)| location.starts_with(place));
            let (_, context) = told.unwrap_or_else(|| panic!("{place}: {violations:?}"));
            // The value stands apart from our words, for the sender alone.
            let ours = context.split(" (received").next().unwrap();
            assert!(!ours.contains("Quill"), "{context}");
        }
        // The command line judges as the listener does.
        assert_eq!(inspected(&posted, false), []);
        let mut by_inspect = inspected(&posted, true);
        let mut by_server: Vec<_> = violations
            .into_iter()
            .map(|(location, _)| ("MD-99".to_owned(), location))
            .collect();
        by_inspect.sort();
        by_server.sort();
        assert_eq!(by_inspect, by_server);
    }

    // Hash and size in the metadata are not those of what stands there now: that is told as well.
    let raw = raw.simple();
    let text = String::from_utf8(raw.body.clone()).unwrap();
    let start = text.find("<xds:Document").unwrap();
    let content = start + text[start..].find('>').unwrap() + 1;
    let end = text.find("</xds:Document>").unwrap();
    let raw = raw.with(&text[content..end], disposition);
    let places: Vec<String> = inspected(&raw, true)
        .into_iter()
        .map(|(rule, place)| format!("{rule} {place}"))
        .collect();
    assert!(
        places.contains(&"MD-99 Document(Document1)".to_owned()),
        "{places:?}"
    );
}

// rule: MD-99, XDR-34
#[test]
fn a_document_is_never_judged_and_no_more_than_fifty_violations_are_told() {
    let strict =
        TestBridge::start_with(runtime(), &[], std::sync::Arc::new(SystemClock), |config| {
            config.partner[0].validate_schema = true
        });
    let mut request = request();
    let odd = b"<rim:Slot xmlns:rim='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0' colour='red'/>";
    request.documents = vec![("text/xml", odd.to_vec())];
    assert_plain_success(&strict.submit(&request.mtom()));
    let package = "<rim:RegistryPackage id=\"Set01\"";
    let odd: String = (0..200).map(|n| format!(" odd{n}=\"x\"")).collect();
    let many = request.mtom().with(package, &format!("{package}{odd}"));
    let violations = schema_violations(&strict.submit(&many));
    assert_eq!(violations.len(), 50);
}
