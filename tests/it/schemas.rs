//! Our schemas (`schemas/`): they take every example and everything that we emit, they refuse every example that lacks
//! something or has it in the wrong place, and our own validator judges as xmllint does.

use std::{fs, io::Cursor, path::Path};

use xdbridge::{
    adapters::clock::SystemClock,
    bridge::{
        destination::MailPolicy,
        to_direct::{Conversion, write_message},
    },
    flows::ports::Clock,
    formats::{
        finding::Severity,
        ids::SoapMessageId,
        metadata::Level,
        soap::{
            Fault, Packaging,
            fault::{FaultCode, Subcode},
        },
        xdm::Institution,
        xdr::{
            ErrorCode,
            response::{RegistryError, RegistryResponse, Status, write_answer},
        },
        xml::schema,
    },
};

use crate::support::{
    bridge::{ELM, INTAKE, RUI, TestBridge, UNKNOWN, pki, runtime},
    mailbox::{opened, received, unpacked},
    mutations::{self, Kind, Mutation},
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    submission::TestSubmission,
    xmllint::{objections, valid},
};

const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
const WSA: &str = "http://www.w3.org/2005/08/addressing";

/// Children that may be left out though no other of their name is there. What is repeated may lose one of several
/// everywhere.
const OPTIONAL: [(&str, &str); 36] = [
    ("SubmitObjectsRequest", "RequestSlotList"),
    ("ProvideAndRegisterDocumentSetRequest", "Document"),
    // One registry object must be there, of whichever kind.
    ("RegistryObjectList", "ExtrinsicObject"),
    ("RegistryObjectList", "RegistryPackage"),
    ("RegistryObjectList", "Association"),
    ("RegistryObjectList", "Classification"),
    ("ExtrinsicObject", "Slot"),
    ("ExtrinsicObject", "Name"),
    ("ExtrinsicObject", "Description"),
    ("ExtrinsicObject", "VersionInfo"),
    ("ExtrinsicObject", "Classification"),
    ("ExtrinsicObject", "ExternalIdentifier"),
    ("ExtrinsicObject", "ContentVersionInfo"),
    ("RegistryPackage", "Slot"),
    ("RegistryPackage", "Name"),
    ("RegistryPackage", "Description"),
    ("RegistryPackage", "Classification"),
    ("RegistryPackage", "ExternalIdentifier"),
    ("Association", "Slot"),
    ("Classification", "Slot"),
    ("Classification", "Name"),
    ("ExternalIdentifier", "Name"),
    ("Name", "LocalizedString"),
    ("Description", "LocalizedString"),
    ("RegistryResponse", "RegistryErrorList"),
    ("addressBlock", "notification"),
    ("messageDisposition", "reasonForFailure"),
    // All header blocks but wsa:Action.
    ("Header", "MessageID"),
    ("Header", "ReplyTo"),
    ("Header", "To"),
    ("Header", "RelatesTo"),
    ("Header", "addressBlock"),
    ("Header", "metadata-level"),
    ("Code", "Subcode"),
    ("Fault", "Detail"),
    ("Detail", "rule"),
];

/// Attributes that may be left out.
const OPTIONAL_ATTRIBUTES: [(&str, &str); 16] = [
    ("ExtrinsicObject", "objectType"),
    ("RegistryPackage", "objectType"),
    ("Association", "objectType"),
    ("Classification", "objectType"),
    ("Classification", "classificationScheme"),
    ("Classification", "classificationNode"),
    ("Classification", "nodeRepresentation"),
    ("ExternalIdentifier", "objectType"),
    ("LocalizedString", "lang"),
    ("LocalizedString", "charset"),
    ("RegistryErrorList", "highestSeverity"),
    ("RegistryError", "severity"),
    ("RegistryError", "location"),
    ("Action", "mustUnderstand"),
    ("MessageID", "mustUnderstand"),
    ("To", "mustUnderstand"),
];

/// Where children may come in any order.
const ANY_ORDER: [&str; 2] = ["RegistryObjectList", "Header"];

fn spec(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spec/examples");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// The root part of an MTOM package, with base64 where an xop:Include stood, and the Includes.
fn root_of(package: &str) -> (String, Vec<String>) {
    let start = package.find("<?xml").unwrap();
    let mut root = package[start..package.find("</soap:Envelope>").unwrap()].to_owned();
    root.push_str("</soap:Envelope>\n");
    let mut includes = Vec::new();
    while let Some(at) = root.find("<xop:Include") {
        let end = at + root[at..].find("/>").unwrap() + 2;
        includes.push(root[at..end].to_owned());
        root.replace_range(at..end, "QUJD");
    }
    (root, includes)
}

/// An envelope whole, its header alone, and what is in its body alone.
fn with_parts(envelope: String) -> [String; 3] {
    let document = roxmltree::Document::parse(&envelope).unwrap();
    let child = |of: roxmltree::Node<'_, '_>, name: &str| {
        let found = of.children().find(|node| node.has_tag_name((SOAP, name)));
        found.unwrap().range()
    };
    let root = document.root_element();
    let header = &envelope[child(root, "Header")];
    let declared = format!("<soap:Header xmlns:soap=\"{SOAP}\" xmlns:wsa=\"{WSA}\"");
    let header = header.replacen("<soap:Header", &declared, 1);
    let body = root.last_element_child().unwrap();
    let payload = &envelope[body.first_element_child().unwrap().range()];
    let payload = match payload.strip_prefix("<soap:Fault") {
        Some(rest) => format!(
            "<soap:Fault xmlns:soap=\"{SOAP}\" xmlns:wsa=\"{WSA}\" xmlns:wsse=\"urn:example:wsse\"{rest}"
        ),
        None => payload.to_owned(),
    };
    let parts = [header, payload];
    let [header, payload] = parts;
    [envelope, header, payload]
}

/// Every example of the specification, whole and in parts, and one fault.
fn examples() -> Vec<String> {
    let (mtom, includes) = root_of(&spec("02-request-direct-minimal-mtom.http"));
    assert_eq!(includes.len(), 1);
    let notification = spec("03-request-delivery-notification.xml");
    let encoded = notification
        .split("<xds:Document id=\"Document01\">")
        .nth(1);
    let encoded = encoded.unwrap().split('<').next().unwrap();
    let disposition = openssl::base64::decode_block(encoded).unwrap();
    let fault = faults().remove(1);
    let envelopes = [
        spec("01-request-full-inline.xml"),
        mtom,
        notification,
        spec("04-response-success-with-warning.xml"),
        spec("05-response-failure.xml"),
        fault,
    ];
    let mut all: Vec<String> = envelopes.into_iter().flat_map(with_parts).collect();
    all.extend(includes);
    all.push(spec("IHE_XDM/SUBSET01/METADATA.XML"));
    all.push(String::from_utf8(disposition).unwrap());
    all
}

fn ours_takes(document: &str) -> bool {
    let document = roxmltree::Document::parse(document).unwrap();
    let schemas = schema::embedded();
    schemas.check(document.root_element(), 1).is_empty()
}

fn assert_valid(documents: &[String]) {
    for (document, is_valid) in documents.iter().zip(valid(documents)) {
        assert!(is_valid, "{}\n{document}", objections(document));
        assert!(ours_takes(document), "{document}");
    }
}

/// Whether the document stays valid: `None` where the lists above say nothing.
fn expected(mutation: &Mutation) -> Option<bool> {
    let parent = mutation.parent.as_str();
    let what = mutation
        .what
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    match mutation.kind {
        Kind::ChildRemoved => {
            Some(mutation.is_one_of_several || OPTIONAL.contains(&(parent, what)))
        }
        Kind::ChildrenSwapped => Some(ANY_ORDER.contains(&parent)),
        Kind::AttributeRemoved => Some(OPTIONAL_ATTRIBUTES.contains(&(parent, what))),
        _ => None,
    }
}

// rule: XDR-2, XDR-3, XDR-5, XDR-6, XDR-40, XDR-43, XDR-44, XDR-120, SOAP-40, SOAP-42, SOAP-60, SOAP-111, SOAP-112
#[test]
fn an_example_that_lacks_a_required_child_or_attribute_or_has_two_children_swapped_is_invalid() {
    let examples = examples();
    assert_valid(&examples);
    let mutations: Vec<Mutation> = examples
        .iter()
        .flat_map(|example| mutations::all(example))
        .filter(|mutation| expected(mutation).is_some())
        .collect();
    let texts: Vec<String> = mutations.iter().map(|each| each.text.clone()).collect();
    let mut refused = 0;
    let mut wrong = Vec::new();
    for (mutation, is_valid) in mutations.iter().zip(valid(&texts)) {
        refused += usize::from(!is_valid);
        if Some(is_valid) != expected(mutation) {
            let what = (mutation.kind, &mutation.parent, &mutation.what, is_valid);
            wrong.push(format!("{what:?}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused > 500, "only {refused} are refused");
}

/// Where xmllint is not followed. White space around a QName collapses (XML Schema part 2, 3.2.18), though not in
/// libxml2. A URI is any text by XSD 1.1; libxml2 goes by the grammar of RFC 3986, and symbolic ids need not.
fn may_differ(mutation: &Mutation) -> bool {
    let uris = ["Action", "Address", "MessageID", "RelatesTo", "To"];
    match mutation.kind {
        Kind::Blank => mutation.parent == "Value",
        Kind::TextReplaced => uris.contains(&mutation.parent.as_str()),
        _ => false,
    }
}

// rule: MD-99, XDR-5, XDR-7
#[test]
fn our_validator_judges_every_damaged_example_as_xmllint_does() {
    let mutations: Vec<Mutation> = examples()
        .iter()
        .flat_map(|example| mutations::all(example))
        .collect();
    let texts: Vec<String> = mutations.iter().map(|each| each.text.clone()).collect();
    let mut wrong = Vec::new();
    let mut refused = 0;
    for (mutation, is_valid) in mutations.iter().zip(valid(&texts)) {
        refused += usize::from(!is_valid);
        if ours_takes(&mutation.text) != is_valid && !may_differ(mutation) {
            let what = (mutation.kind, &mutation.parent, &mutation.what);
            wrong.push(format!("xmllint: {is_valid}, {what:?}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused > 2_500 && refused < mutations.len(), "{refused}");
}

#[test]
fn the_schemas_name_one_another_by_file_and_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut embedded: Vec<&str> = schema::FILES.iter().map(|(name, _)| *name).collect();
    embedded.push("all.xsd");
    embedded.sort_unstable();
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        for location in text.split("schemaLocation=\"").skip(1) {
            let location = location.split('"').next().unwrap();
            assert!(folder.join(location).is_file(), "{name}: {location}");
            assert!(!location.contains('/'), "{name}: {location}");
        }
        files.push(name);
    }
    files.sort_unstable();
    assert_eq!(files, embedded);
}

fn message_id() -> SoapMessageId {
    "urn:uuid:71829304-b5c6-4ad7-9e21-6e7f8091a2b3"
        .parse()
        .unwrap()
}

/// An answer in either packaging, as XML.
fn envelope(answer: (String, Vec<u8>)) -> String {
    let (content_type, body) = answer;
    let text = String::from_utf8(body).unwrap();
    if content_type.starts_with("multipart/") {
        root_of(&text).0
    } else {
        text
    }
}

/// Faults of every code and subcode, in both packagings.
fn faults() -> Vec<String> {
    let subcodes: [&'static [Subcode]; 9] = [
        &[],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::InvalidCardinality,
        ],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::MissingAddressInEpr,
        ],
        &[Subcode::InvalidAddressingHeader, Subcode::ActionMismatch],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::OnlyAnonymousAddressSupported,
        ],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::DuplicateMessageId,
        ],
        &[Subcode::MessageAddressingHeaderRequired],
        &[Subcode::ActionNotSupported],
        &[Subcode::InvalidSecurity],
    ];
    let mut all: Vec<Fault> = subcodes
        .into_iter()
        .map(|subcodes| Fault::sender("SOAP-80", "what & why").with_subcodes(subcodes))
        .collect();
    for code in [FaultCode::VersionMismatch, FaultCode::MustUnderstand] {
        all.push(Fault::new(code, "SOAP-81", "what & why"));
    }
    all.push(Fault::receiver("what & why"));
    for fault in &mut all {
        if fault.code == FaultCode::MustUnderstand {
            fault.not_understood = vec![
                ("urn:example:a".to_owned(), "b".to_owned()),
                (String::new(), "c".to_owned()),
            ];
        }
    }
    let both = all.into_iter().flat_map(|fault| {
        [Packaging::SimpleSoap, Packaging::Mtom].map(|packaging| Fault {
            packaging,
            relates_to: Some(message_id()),
            ..fault.clone()
        })
    });
    both.map(|fault| envelope(fault.write_answer(&message_id())))
        .collect()
}

// rule: SOAP-80, SOAP-81, SOAP-82, SOAP-83, SOAP-84, SOAP-85, SOAP-86, SOAP-87, SOAP-88, SOAP-90
#[test]
fn every_fault_that_we_write_is_valid() {
    let faults = faults();
    assert_eq!(faults.len(), 24);
    assert_valid(&faults);
}

// rule: XDR-40, XDR-41, XDR-42, XDR-43, XDR-44
#[test]
fn every_kind_of_answer_that_we_write_is_valid() {
    let entry = |severity, location: Option<&str>| RegistryError {
        code: ErrorCode::XdsRepositoryMetadataError,
        severity,
        context: "DocumentEntry(<Document01>).hash: \"what\" & why".to_owned(),
        location: location.map(str::to_owned),
    };
    let (error, warning) = (Severity::Error, Severity::Warning);
    let responses = [
        RegistryResponse::success(),
        RegistryResponse::from_errors(vec![entry(warning, Some(RUI))]),
        RegistryResponse::from_errors(vec![entry(error, None), entry(warning, Some(""))]),
        RegistryResponse {
            status: Status::Failure,
            request_id: Some("urn:example:request".to_owned()),
            errors: vec![],
        },
    ];
    let mut written = Vec::new();
    for response in &responses {
        for packaging in [Packaging::SimpleSoap, Packaging::Mtom] {
            for relates_to in [None, Some(&message_id())] {
                let answer = write_answer(response, packaging, relates_to, &message_id());
                written.push(envelope(answer));
            }
        }
    }
    assert_valid(&written);
}

// rule: SOAP-3, SOAP-29, SOAP-110, SOAP-111, SOAP-112, SOAP-115, SOAP-119
#[test]
fn the_requests_that_we_write_are_valid_in_either_packaging() {
    let mut request = TestRequest::new(ELM, &[RUI, INTAKE]);
    request.final_delivery = true;
    request.documents.push(("application/pdf", vec![0; 100]));
    let text = |posted: Posted| String::from_utf8(posted.body).unwrap();
    let (root, mut documents) = root_of(&text(request.mtom()));
    assert_eq!(documents.len(), 2);
    documents.push(root);
    documents.push(text(request.simple()));
    assert_valid(&documents);
}

/// METADATA.XML of the package in the mail that we make of this metadata.
fn packaged(metadata: &str, level: Level) -> String {
    let mut submission = TestSubmission::with_invented_documents(metadata);
    let from = ELM.parse().unwrap();
    let to = [RUI.parse().unwrap()];
    let conversion = Conversion {
        metadata: &submission.metadata,
        documents: &submission.entry_documents,
        level,
        from: &from,
        to: &to,
        message_id: &"1@direct.elm.example".parse().unwrap(),
        date: SystemClock.now(),
        policy: &MailPolicy {
            subject_title: true,
            ..MailPolicy::default()
        },
        wants_final_delivery: false,
        institution: &Institution::default(),
    };
    let mut entity = Vec::new();
    write_message(&conversion, &mut submission.documents, &mut entity).unwrap();
    metadata_of(&unpacked(&entity).zip)
}

fn metadata_of(zip: &[u8]) -> String {
    let mut zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    let mut names = zip.file_names().map(|name| name.unwrap().into_owned());
    let name = names.find(|name| name.ends_with("METADATA.XML")).unwrap();
    drop(names);
    std::io::read_to_string(zip.by_name(&name).unwrap()).unwrap()
}

fn submit_objects_request(example: &str) -> String {
    let start = example.find("<lcm:SubmitObjectsRequest").unwrap();
    let end = example.find("</lcm:SubmitObjectsRequest>").unwrap();
    format!("{}</lcm:SubmitObjectsRequest>", &example[start..end])
}

/// The metadata without its elements of this name that are direct children of registry objects.
fn without(metadata: &str, name: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let document = roxmltree::Document::parse(metadata).unwrap();
    let objects = document.descendants().filter(|node| {
        matches!(
            node.tag_name().name(),
            "ExtrinsicObject" | "RegistryPackage"
        )
    });
    let mut ranges: Vec<_> = objects
        .flat_map(|object| object.children())
        .filter(|node| node.tag_name().name() == name && is_meant(&metadata[node.range()]))
        .map(|node| node.range())
        .collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
    let mut left = metadata.to_owned();
    for range in ranges {
        left.replace_range(range, "");
    }
    left
}

// rule: XDR-5, XDR-82, XDR-84, XDM-20
#[test]
fn the_metadata_of_each_package_that_we_make_is_valid_however_little_was_received() {
    let full = submit_objects_request(&spec("01-request-full-inline.xml"));
    let minimal = submit_objects_request(&spec("02-request-direct-minimal-mtom.http"));
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/metadata/full-with-folder.xml");
    let with_folder = fs::read_to_string(folder).unwrap();
    let no_slots = without(&full, "Slot", |_| true);
    let no_names = without(&no_slots, "Name", |_| true);
    let no_author = |text: &str| without(text, "Classification", |one| one.contains("author"));
    let least = no_author(&without(&minimal, "Slot", |_| true));
    let only_identifiers = without(&least, "Classification", |one| {
        !one.contains("classificationNode")
    });
    let documents = [
        packaged(&full, Level::Full),
        packaged(&no_slots, Level::Minimal),
        packaged(&no_names, Level::Minimal),
        packaged(&no_author(&no_names), Level::Minimal),
        packaged(&minimal, Level::Minimal),
        packaged(&least, Level::Minimal),
        packaged(&only_identifiers, Level::Minimal),
        packaged(&with_folder, Level::Full),
    ];
    for document in &documents {
        for added in ["\"URI\"", "\"hash\"", "\"size\""] {
            assert!(document.contains(added), "{added} is missing: {document}");
        }
    }
    assert_valid(&documents);
}

// rule: XDR-30, XDR-32, XDR-40, SOAP-92, SOAP-93
#[test]
fn what_a_running_bridge_answers_and_sends_is_valid() {
    let runtime = runtime();
    let identity = crate::support::bridge::as_tls(&pki().mail_host);
    let server = runtime.block_on(ScriptedSmtp::builder().tls(&identity).start());
    let bridge = TestBridge::start(runtime, &[("direct.harbor.example", server.address())]);
    let mut documents = Vec::new();
    let mut answered = |posted: Posted, expected: &str| {
        let answer = bridge.post(&posted);
        let content_type = answer.header("content-type").unwrap().to_owned();
        let text = envelope((content_type, answer.body));
        assert!(text.contains(expected), "{expected}: {text}");
        documents.push(text);
    };
    let both = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    for make in [TestRequest::mtom, TestRequest::simple] {
        answered(
            make(&TestRequest::new(ELM, &[RUI])),
            "ResponseStatusType:Success",
        );
        answered(make(&both), "ErrorSeverityType:Warning");
        answered(
            make(&TestRequest::new(ELM, &[UNKNOWN])),
            "ResponseStatusType:Failure",
        );
        let request = || make(&TestRequest::new(ELM, &[RUI]));
        answered(
            request().with("20260302142000", "yesterday"),
            "XDSRepositoryMetadataError",
        );
        answered(
            request().with(
                "<soap:Header>",
                "<soap:Header><x xmlns=\"urn:x\" soap:mustUnderstand=\"1\"/>",
            ),
            "soap:NotUnderstood",
        );
        answered(
            request().with(
                "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b<",
                "urn:example<",
            ),
            "wsa:ProblemAction",
        );
        answered(
            request().with("2003/05/soap-envelope", "2003/05/other"),
            "soap:Upgrade",
        );
        answered(
            request().with("</soap:Body>", "</soap:Body><x/>"),
            "soap:Fault",
        );
    }
    bridge.wait_until_sent();
    let mails = received(&server);
    assert!(mails.len() >= 3, "{} mails", mails.len());
    for mail in mails {
        documents.push(metadata_of(&opened(&mail.message, &pki().harbor).zip));
    }
    assert_valid(&documents);
}
