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

fn strict_bridge() -> TestBridge {
    TestBridge::start_with(runtime(), &[], std::sync::Arc::new(SystemClock), |config| {
        config.partner[0].validate_schema = true
    })
}

/// What was posted, and where the schemas are violated in it.
type Case = (Posted, &'static [&'static str]);

/// The strict bridge tells each violation at its place and no other, `inspect --schema` tells the same, and whoever is
/// not held to the schemas hears of nothing.
fn assert_only_strict(cases: &[Case]) {
    let (strict, lenient) = (strict_bridge(), TestBridge::start(runtime(), &[]));
    for (posted, places) in cases {
        assert_plain_success(&lenient.submit(posted));
        let violations = schema_violations(&strict.submit(posted));
        let is_expected = |location: &str| places.iter().any(|place| location.starts_with(place));
        assert!(
            violations.iter().all(|(at, _)| is_expected(at)),
            "{violations:?}"
        );
        for place in *places {
            let told = violations
                .iter()
                .find(|(location, _)| location.starts_with(place));
            let (_, context) = told.unwrap_or_else(|| panic!("{place}: {violations:?}"));
            // The value stands apart from our words, for the sender alone.
            let ours = context.split(" (received").next().unwrap();
            assert!(!ours.contains("Quill"), "{context}");
        }
        // The command line judges as the listener does.
        assert_eq!(inspected(posted, false), []);
        let mut by_inspect = inspected(posted, true);
        let mut by_server: Vec<_> = violations
            .into_iter()
            .map(|(location, _)| ("MD-99".to_owned(), location))
            .collect();
        by_inspect.sort();
        by_server.sort();
        assert_eq!(by_inspect, by_server);
    }
}

// rule: MD-99, XDR-5, XDR-34
#[test]
fn a_partner_that_is_held_to_the_schemas_is_told_every_violation_and_others_are_not() {
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
    assert_only_strict(&[
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
    ]);
}

// rule: MD-99, SOAP-40, SOAP-64, SOAP-111, SOAP-112, SOAP-114, SOAP-115, SOAP-116, SOAP-118, SOAP-121
#[test]
fn envelope_and_header_blocks_of_such_a_partner_are_held_to_the_schemas_too() {
    let mtom = |from: &str, to: &str| request().mtom().with(from, to);
    let from = format!("<direct:from>mailto:{ELM}</direct:from>");
    let to = format!("<direct:to>mailto:{RUI}</direct:to>");
    const BLOCK: &str = "direct:addressBlock, line 1 of soap:Header";
    let several = mtom(" soap:relay=\"true\"", " relay=\"true\"")
        .with(&to, &format!("{to}<direct:colour>Quill</direct:colour>"))
        .with(
            "<wsa:Address>",
            "<wsa:Colour>Quill</wsa:Colour><wsa:Address>",
        );
    assert_only_strict(&[
        (several, &[BLOCK, "wsa:ReplyTo, line 1 of soap:Header"]),
        // Recipients before the sender.
        (mtom(&from, "").with(&to, &format!("{to}{from}")), &[BLOCK]),
        (
            mtom(&to, &format!("<direct:to>mailto:{RUI},{RUI}</direct:to>")),
            &["direct:to, line 1"],
        ),
        (
            mtom(
                &to,
                &format!("<direct:to>mailto:{RUI}?subject=Quill</direct:to>"),
            ),
            &["direct:to, line 1"],
        ),
        (
            mtom(
                "<direct:metadata-level ",
                "<direct:metadata-level colour=\"Quill\" ",
            ),
            &["direct:metadata-level, line 1"],
        ),
        (
            mtom("<soap:Header>", "<soap:Header colour=\"Quill\">"),
            &["soap:Header, line 1"],
        ),
        (
            request()
                .simple()
                .with("<soap:Body>", "<soap:Body colour=\"Quill\">"),
            &["soap:Body"],
        ),
        (
            mtom(
                "<soap:Envelope ",
                "<soap:Envelope soap:encodingStyle=\"urn:x\" ",
            ),
            &["soap:Envelope"],
        ),
    ]);
}

// rule: MD-99, SOAP-47, SOAP-113
#[test]
fn what_the_schemas_leave_free_in_an_envelope_is_free_for_such_a_partner() {
    let strict = strict_bridge();
    assert_plain_success(&strict.submit(&request().simple()));
    let free = request()
        .mtom()
        .with(
            "<soap:Header>",
            "<soap:Header><x xmlns=\"urn:x\" colour=\"red\"><y/>text</x><!-- and a remark -->",
        )
        .with(
            "<soap:Body>",
            "<soap:Body xmlns:u=\"urn:u\" u:Id=\"signed\">",
        );
    assert_plain_success(&strict.submit(&free));
    let mut alone = request();
    alone.from = None;
    alone.intended_recipients = vec![format!("||^^Internet^{RUI}")];
    assert_plain_success(&strict.submit(&alone.mtom()));
}

// rule: MD-99, XDR-122
#[test]
fn a_disposition_that_stands_in_its_document_as_xml_is_taken_but_not_from_such_a_partner() {
    let disposition = "<direct:messageDisposition xmlns:direct=\"urn:direct:addressing\">\
        <direct:recipient>mailto:rui@x.example</direct:recipient>\
        <direct:disposition>success</direct:disposition></direct:messageDisposition>";
    let mut raw = request();
    // Hash and size are those of what stands there in the end. Alone it would be a delivery notification (XDR-125).
    raw.documents = vec![
        ("text/xml", disposition.as_bytes().to_vec()),
        ("application/pdf", vec![0; 10]),
    ];
    let raw = raw.simple();
    let text = String::from_utf8(raw.body.clone()).unwrap();
    let start = text.find("<xds:Document").unwrap();
    let content = start + text[start..].find('>').unwrap() + 1;
    let end = text.find("</xds:Document>").unwrap();
    let raw = raw.with(&text[content..end], disposition);
    assert_only_strict(&[(raw, &["Document(Document1)"])]);
}

// rule: MD-99, XDR-34
#[test]
fn a_document_is_never_judged_and_no_more_than_fifty_violations_are_told() {
    let strict = strict_bridge();
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
