//! Everything that we write is valid by our schemas (`schemas/`), with xmllint for a judge, and by our own validator.

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
        metadata::Level,
        soap::Packaging,
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
    envelopes::{envelope, faults, message_id, root_of, spec},
    mailbox::{opened, received, unpacked},
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    submission::TestSubmission,
    xmllint::assert_valid,
};

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
