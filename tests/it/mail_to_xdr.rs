//! Mail to ITI-41 (xdr.md section 8, metadata.md sections 7 and 9): what is planned for one endpoint, and that nothing
//! is lost on the way there and back.

use std::{
    fs,
    io::{Cursor, Read as _},
    path::Path,
};

use proptest::prelude::*;
use xdbridge::{
    bridge::{
        destination::MailPolicy,
        exchange::Reason,
        partner::PatientIdMismatch,
        to_direct::{Conversion, write_plain_message},
        to_xdr::{
            EndpointPolicy, Incoming, Plan, PlannedRequest, plan,
            policy::{ConfiguredCode, LooseParts, MissingMetadata},
        },
    },
    formats::{
        document::{DocumentsInMemory, hex},
        ids::DirectAddress,
        limits::Limits,
        metadata::{DocumentEntry, Level, Metadata, equal_metadata},
        mime::read::{Mail, read},
        soap::{MetadataLevel, REQUEST_ACTION},
        xdm::Institution,
        xdr::request::{Packaging, ReadOptions, read as read_request, read_file, write_mtom},
    },
};

use crate::support::{
    raw_zip::{RawEntry, build},
    submission::TestSubmission,
};

const CCDA: &str = include_str!("../../fixtures/cda/ccda-2.1.xml");
const DIGEST: [u8; 32] = [7; 32];

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/mail/{name}.eml"));
    fs::read_to_string(path).unwrap()
}

/// A mail with this subject, these further header lines and this body with its MIME header.
fn mail_with(header: &str, body: &str) -> String {
    format!(
        "From: \"Okafor, Ngozi\" <ngozi.okafor@direct.elm.example>\nTo: rui.silva@direct.harbor.example\n\
         Date: Sun, 22 Nov 2026 09:05:09 +0100\nMessage-ID: <1@direct.elm.example>\n{header}{body}"
    )
}

fn mixed(parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--b\n{part}\n")).collect();
    mail_with(
        "Subject: Summary\n",
        &format!("Content-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n"),
    )
}

fn attachment(content_type: &str, content: &str) -> String {
    format!("Content-Type: {content_type}\nContent-Disposition: attachment\n\n{content}")
}

fn planned_for(text: &str, policy: &EndpointPolicy, recipients: &[DirectAddress]) -> Plan {
    let limits = Limits::default();
    let mail = read(text.as_bytes(), &limits).unwrap();
    plan_of(&mail, policy, recipients, &DIGEST, &limits)
}

fn plan_of(
    mail: &Mail<'_>,
    policy: &EndpointPolicy,
    recipients: &[DirectAddress],
    digest: &[u8; 32],
    limits: &Limits,
) -> Plan {
    plan(&Incoming {
        mail,
        from: &"ngozi.okafor@direct.elm.example".parse().unwrap(),
        recipients,
        endpoint: "harbor",
        policy,
        source_id: &"2.999.40.1".parse().unwrap(),
        received_at: "2026-11-23T00:00:00Z".parse().unwrap(),
        digest,
        limits,
    })
}

fn rui() -> Vec<DirectAddress> {
    vec!["rui.silva@direct.harbor.example".parse().unwrap()]
}

fn planned(text: &str) -> Plan {
    planned_for(text, &EndpointPolicy::default(), &rui())
}

fn planned_by(text: &str, policy: &EndpointPolicy) -> Plan {
    planned_for(text, policy, &rui())
}

/// The only request of a plan without a failure.
fn only(plan: Plan) -> PlannedRequest {
    assert_eq!(plan.failure, None, "{:?}", plan.findings);
    let [request] = <[PlannedRequest; 1]>::try_from(plan.requests).unwrap();
    request
}

fn entries(request: &PlannedRequest) -> &[DocumentEntry] {
    request.metadata.document_entries()
}

fn rules(plan: &Plan) -> Vec<&str> {
    plan.findings.iter().map(|finding| finding.rule).collect()
}

/// The request as a server receives it: metadata and documents.
fn posted(request: &PlannedRequest, text: &str) -> (Metadata, Vec<Vec<u8>>) {
    let limits = Limits::default();
    let mail = read(text.as_bytes(), &limits).unwrap();
    let outgoing = request.request("https://harbor.example/xdr", REQUEST_ACTION);
    let mut octets = Vec::new();
    let mut source = request.documents(&mail, &limits);
    write_mtom(&outgoing, &mut *source, &mut octets).unwrap();
    let mut documents = DocumentsInMemory::default();
    let received = read_request(
        &outgoing.content_type(Packaging::Mtom),
        &mut Cursor::new(octets),
        &limits,
        &ReadOptions::default(),
        &mut documents,
    )
    .unwrap();
    assert_eq!(
        received.address_block.as_ref(),
        Some(&request.address_block)
    );
    assert_eq!(received.metadata_level, Some(request.level));
    let of_parts = received.documents.iter();
    let octets = of_parts
        .map(|part| documents.find(part.key).unwrap().to_vec())
        .collect();
    (Metadata::read(received.metadata, &limits).unwrap(), octets)
}

// --- minimal metadata --------------------------------------------------------------------------

// rule: MD-110, MD-113, MD-114, MD-116, MD-123, MD-124, XDR-106, CC-8, DIR-5
#[test]
fn each_attachment_becomes_a_document_entry_and_the_text_goes() {
    let text = fixture("documents");
    let request = only(planned(&text));
    let [ccda, pdf] = entries(&request) else {
        panic!("two documents were attached");
    };
    assert_eq!(ccda.mime_type.as_deref(), Some("text/xml"));
    assert_eq!(ccda.title.as_deref(), Some("Continuity of care: Ada Quill"));
    assert_eq!(pdf.mime_type.as_deref(), Some("application/pdf"));
    assert_eq!(pdf.title.as_deref(), Some("Résumé of the visit"));
    assert_eq!(pdf.language_code.as_deref(), Some("fr"));
    let format = pdf.format_code.as_ref().unwrap();
    assert_eq!(format.code, "urn:ihe:iti:xds:2017:mimeTypeSufficient");
    assert_eq!(format.scheme.as_deref(), Some("1.3.6.1.4.1.19376.1.2.3"));
    let (metadata, documents) = posted(&request, &text);
    assert_eq!(documents[0], CCDA.as_bytes());
    for (entry, octets) in metadata.document_entries().iter().zip(&documents) {
        assert_eq!(entry.size, Some(octets.len().to_string()));
        assert_eq!(entry.hash, Some(hex(&openssl::sha::sha1(octets))));
    }
}

// rule: MD-114, CC-11
#[test]
fn the_title_is_the_description_else_the_file_name_else_absent() {
    let part = |more: &str| format!("Content-Type: application/pdf\n{more}\n%PDF-1.4");
    for (more, expected) in [
        (
            "Content-Description: A letter\nContent-Disposition: attachment; filename=x.pdf\n",
            Some("A letter"),
        ),
        (
            "Content-Disposition: attachment; filename=\"../x.pdf\"\n",
            Some("x.pdf"),
        ),
        ("Content-Disposition: attachment\n", None),
    ] {
        let request = only(planned(&mixed(&[&part(more)])));
        assert_eq!(entries(&request)[0].title.as_deref(), expected);
    }
    let names = only(planned(&fixture("names-of-the-field")));
    let titles: Vec<_> = entries(&names).iter().map(|e| e.title.as_deref()).collect();
    assert_eq!(titles, [Some("é.pdf"), Some("é.pdf"), Some("last.pdf")]);
}

// rule: MD-111, MD-112, MD-121, XDR-109
#[test]
fn ids_are_the_same_whenever_the_same_mail_is_planned_and_others_for_another_mail() {
    let text = fixture("documents");
    let (one, two) = (only(planned(&text)), only(planned(&text)));
    assert_eq!(one.metadata.xml(), two.metadata.xml());
    assert_eq!(one.message_id, two.message_id);

    let namespace = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, b"direct.elm.example");
    let of = |name: &str| uuid::Uuid::new_v5(&namespace, name.as_bytes());
    let id = "documents@direct.elm.example";
    let pdf = &entries(&one)[1];
    assert_eq!(
        pdf.id,
        format!("urn:uuid:{}", of(&format!("entry\n{id}\n3")))
    );
    let document = of(&format!("document\n{id}\n3")).as_u128();
    assert_eq!(pdf.unique_id, Some(format!("2.25.{document}")));
    let set = one.metadata.submission_set().unwrap();
    let own = of(&format!("set\n{id}\n"));
    assert_eq!(set.id, format!("urn:uuid:{own}"));
    assert_eq!(set.unique_id, Some(format!("2.25.{}", own.as_u128())));

    let other = only(planned(&text.replace("Message-ID: <d", "Message-ID: <e")));
    assert_ne!(
        other.metadata.submission_set().unwrap().unique_id,
        set.unique_id
    );
    assert_ne!(other.message_id, one.message_id);

    // Without a Message-ID the digest of what was signed takes its place.
    let nameless = text.replace("Message-ID: ", "X-Nothing: ");
    let limits = Limits::default();
    let mail = read(nameless.as_bytes(), &limits).unwrap();
    let by = |digest| {
        let policy = EndpointPolicy::default();
        only(plan_of(&mail, &policy, &rui(), digest, &limits)).message_id
    };
    assert_eq!(by(&DIGEST), by(&DIGEST));
    assert_ne!(by(&DIGEST), by(&[8; 32]));
}

// rule: MD-112, MD-93, MD-140
#[test]
fn two_parts_with_one_cda_id_get_ids_of_their_own() {
    let part = attachment("text/xml", CCDA);
    let one = only(planned(&mixed(&[&part])));
    assert_eq!(
        entries(&one)[0].unique_id.as_deref(),
        Some("2.999.7.19.5^T&9")
    );
    let two = only(planned(&mixed(&[&part, &part])));
    let ids: Vec<_> = entries(&two)
        .iter()
        .map(|e| e.unique_id.clone().unwrap())
        .collect();
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.starts_with("2.25.")), "{ids:?}");
}

// rule: MD-115, MD-120
#[test]
fn times_are_those_of_the_part_else_of_the_mail_else_of_its_arrival() {
    let text = mixed(&[
        "Content-Type: application/pdf\n\
         Content-Disposition: attachment; creation-date=\"Fri, 20 Nov 2026 23:30:00 -0500\"\n\n%PDF-1",
        &attachment("application/pdf", "%PDF-2"),
    ]);
    let request = only(planned(&text));
    let created: Vec<_> = entries(&request)
        .iter()
        .map(|e| e.creation_time.as_deref())
        .collect();
    assert_eq!(created, [Some("20261121043000"), Some("20261122080509")]);
    let time = |request: &PlannedRequest| {
        let set = request.metadata.submission_set().unwrap();
        set.submission_time.clone().unwrap()
    };
    assert_eq!(time(&request), "20261122080509");
    let undated = only(planned(
        &text.replace("Date: Sun, 22 Nov 2026 09:05:09 +0100", "Date: soon"),
    ));
    assert_eq!(time(&undated), "20261123000000");
}

// rule: MD-117, MD-118, MD-119, MD-122, XDR-107, XDR-62
#[test]
fn the_submission_set_tells_who_sent_it_to_whom() {
    let of = |from: &str, subject: &str| {
        let text = fixture("documents")
            .replace("\"Okafor, Ngozi\"", from)
            .replace("Summary of care", subject);
        let request = only(planned(&text));
        request.metadata.submission_set().unwrap().clone()
    };
    let set = of("\"Okafor, Ngozi\"", "Summary - XDM/1.0/DDM");
    assert_eq!(set.title.as_deref(), Some("Summary"));
    assert_eq!(set.source_id.as_deref(), Some("2.999.40.1"));
    let recipient = "||^^Internet^rui.silva@direct.harbor.example";
    assert_eq!(set.intended_recipients, [recipient]);
    let [author] = set.authors.as_slice() else {
        panic!("the sender is the author");
    };
    let sender = "^^Internet^ngozi.okafor@direct.elm.example";
    assert_eq!(author.telecommunications, [sender]);
    assert_eq!(author.person.as_deref(), Some("^Okafor^Ngozi"));
    for (from, person) in [
        ("Ngozi Okafor", Some("^Ngozi Okafor")),
        ("\"Okafor, MD\"", Some("^Okafor, MD")),
        ("\"Records, Elm Clinic\"", Some("^Records, Elm Clinic")),
        ("\"A^B|C\"", Some("^A\\S\\B\\F\\C")),
        ("", None),
    ] {
        assert_eq!(of(from, "x").authors[0].person.as_deref(), person, "{from}");
    }
    let long = of("", &"word ".repeat(80));
    assert_eq!(long.title.unwrap().chars().count(), 255);
    assert_eq!(of("", "XDM/1.0/DDM").title, None);
}

// rule: MD-124, CC-10
#[test]
fn text_is_a_document_only_where_nothing_else_is_or_the_endpoint_wants_it() {
    let body = "Content-Type: text/plain\n\nhello";
    let pdf = attachment("application/pdf", "%PDF-1");
    let types = |text: &str, policy: &EndpointPolicy| -> Vec<String> {
        let request = only(planned_by(text, policy));
        entries(&request)
            .iter()
            .map(|e| e.mime_type.clone().unwrap())
            .collect()
    };
    let usual = EndpointPolicy::default();
    let with_body = EndpointPolicy {
        body_as_document: true,
        ..EndpointPolicy::default()
    };
    assert_eq!(types(&mixed(&[body, &pdf]), &usual), ["application/pdf"]);
    assert_eq!(
        types(&mixed(&[body, &pdf]), &with_body),
        ["text/plain", "application/pdf"]
    );
    assert_eq!(types(&mixed(&[body, body]), &usual), ["text/plain"]);
    assert_eq!(types(&fixture("text-only"), &usual), ["text/plain"]);
    assert_eq!(types(&fixture("alternative"), &usual), ["text/plain"]);
    let html = mail_with("", "Content-Type: text/html\n\n<p>hello</p>");
    assert_eq!(types(&html, &usual), ["text/html"]);
    let named = "Content-Type: text/plain; name=note.txt\n\nnote";
    let inline = "Content-Type: image/png\n\nPNG";
    let empty = attachment("application/pdf", "");
    assert_eq!(
        types(&mixed(&[body, named, inline, &empty]), &usual),
        ["text/plain", "image/png"]
    );
    let alternative = format!(
        "Content-Type: multipart/alternative; boundary=c\n\n--c\n{body}\n--c\n\
         Content-Type: text/xml\n\n<a/>\n--c--"
    );
    assert_eq!(types(&mixed(&[&alternative]), &usual), ["text/xml"]);
    let forwarded = fixture("message-attached");
    assert_eq!(types(&forwarded, &usual), ["message/rfc822"]);
    let signature = "Content-Type: application/pkcs7-signature; name=smime.p7s\n\nx";
    let report = "Content-Type: message/disposition-notification\n\nDisposition: x";
    assert_eq!(
        types(&mixed(&[body, signature, report]), &usual),
        ["text/plain"]
    );
}

// rule: MD-125, RCV-R7
#[test]
fn a_mail_without_any_document_is_refused() {
    let plan = planned(&fixture("nothing"));
    assert!(plan.requests.is_empty());
    assert_eq!(plan.failure, Some(Reason::ConversionFailed));
    assert_eq!(rules(&plan), ["MD-125"]);
}

// rule: MD-110, CC-9, XDR-141
#[test]
fn a_label_that_the_content_belies_is_corrected_with_a_warning() {
    let plan = planned(&fixture("wrong-labels"));
    assert_eq!(rules(&plan), ["MD-110"; 4]);
    let request = only(plan);
    let types: Vec<_> = entries(&request)
        .iter()
        .map(|e| e.mime_type.as_deref().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "image/png",
            "application/pdf",
            "application/pdf",
            "text/xml"
        ]
    );
    // A special name of the same thing is not wrong, and what nobody knows stays.
    for label in [
        "application/vnd.oasis.opendocument.text",
        "application/x-own",
    ] {
        let plan = planned(&mixed(&[&attachment(label, "PK\x03\x04 no archive")]));
        assert!(!rules(&plan).contains(&"MD-110"), "{label}");
        assert_eq!(entries(&only(plan))[0].mime_type.as_deref(), Some(label));
    }
}

// rule: MD-126, MD-148, MD-159
#[test]
fn patients_are_known_from_cda_and_context_alone_and_related_documents_make_no_association() {
    let pdf = attachment("application/pdf", "%PDF-1");
    let text = mixed(&[&pdf, &attachment("text/xml", CCDA)])
        .replace("Subject: Summary", "Subject: Quill, Ada, born 1961-07-04");
    let policy = EndpointPolicy {
        patient_id_authorities: vec!["2.999.7.1.3".parse().unwrap()],
        ..EndpointPolicy::default()
    };
    let request = only(planned_by(&text, &policy));
    let [pdf, ccda] = entries(&request) else {
        panic!("two documents were attached");
    };
    assert_eq!((&pdf.patient_id, &pdf.source_patient_id), (&None, &None));
    assert_eq!(pdf.source_patient_info, [""; 0]);
    let known = Some("998877^^^&2.999.7.1.3&ISO".to_owned());
    assert_eq!(ccda.patient_id, known);
    let set = request.metadata.submission_set().unwrap();
    assert_eq!(set.patient_id, known);
    assert_eq!(request.metadata.associations().len(), 2);
}

// rule: MD-161
#[test]
fn a_cda_that_cannot_be_read_is_an_opaque_document() {
    let broken = include_str!("../../fixtures/cda/not-well-formed.xml");
    let request = only(planned(&mixed(&[&attachment("application/xml", broken)])));
    let entry = &entries(&request)[0];
    assert_eq!(entry.mime_type.as_deref(), Some("application/xml"));
    assert_eq!(entry.type_code, None);
    assert!(entry.unique_id.as_deref().unwrap().starts_with("2.25."));
}

// rule: T-7b, MD-92
#[test]
fn documents_about_two_patients_are_not_put_into_one_submission_unnoticed() {
    let other = CCDA.replace("Q-104|7", "Q-999").replace("T&amp;9", "T10");
    let text = mixed(&[
        &attachment("text/xml", CCDA),
        &attachment("text/xml", &other),
    ]);
    let plan = planned(&text);
    assert!(plan.requests.is_empty());
    assert_eq!(rules(&plan), ["MD-92"]);
    let policy = EndpointPolicy {
        patient_id_mismatch: PatientIdMismatch::Warn,
        ..EndpointPolicy::default()
    };
    assert_eq!(entries(&only(planned_by(&text, &policy))).len(), 2);
}

// --- context -----------------------------------------------------------------------------------

/// The CDA's patient as its header has it.
const ADA: &str = "patient-id: 2.999.7.1.2:Q-104|7";

/// A part that is a context with these elements.
fn context_part(elements: &str) -> String {
    format!(
        "Content-Type: text/plain\nContent-ID: <c@direct.elm.example>\n\
         Content-Disposition: attachment; filename=metadata.txt\n\nversion: 1.1\nid: 1\n{elements}"
    )
}

/// A mail whose header names the context among these parts.
fn with_context(parts: &[&str]) -> String {
    mixed(parts).replace(
        "Subject:",
        "X-Direct-Context: <c@direct.elm.example>\nSubject:",
    )
}

fn titles(request: &PlannedRequest) -> Vec<Option<&str>> {
    let entries = entries(request).iter();
    entries.map(|entry| entry.title.as_deref()).collect()
}

// rule: CTX-1, CTX-2, CTX-3, CTX-5, CTX-6, MD-115, MD-116, XDR-106
#[test]
fn a_context_fills_the_metadata_of_the_document_and_is_none_itself() {
    let text = fixture("context");
    let policy = EndpointPolicy {
        patient_id_authorities: vec!["2.999.7.1.3".parse().unwrap()],
        ..EndpointPolicy::default()
    };
    let plan = planned_by(&text, &policy);
    assert_eq!(rules(&plan), [""; 0]);
    let (metadata, documents) = posted(&only(plan), &text);
    let [pdf] = metadata.document_entries() else {
        panic!("one document was attached");
    };
    assert!(documents[0].starts_with(b"%PDF"));
    let known = Some("998877^^^&2.999.7.1.3&ISO".to_owned());
    assert_eq!(pdf.patient_id, known);
    let first = Some("Q-104\\F\\7^^^&2.999.7.1.2&ISO".to_owned());
    assert_eq!(pdf.source_patient_id, first);
    assert_eq!(
        pdf.source_patient_info,
        [
            "PID-3|Q-104\\F\\7^^^&2.999.7.1.2&ISO~998877^^^&2.999.7.1.3&ISO",
            "PID-5|Quill^Ada^May",
            "PID-7|19610704",
            "PID-8|F",
            "PID-11|12 Elm \\T\\ Oak Row^^Harbor^ME^04000^US",
        ]
    );
    assert_eq!(pdf.creation_time.as_deref(), Some("20261121223000"));
    assert_eq!(
        pdf.format_code.as_ref().unwrap().code,
        "urn:ihe:rad:PDF:1.0"
    );
    assert_eq!(pdf.type_code.as_ref().unwrap().code, "18748-4");
    assert_eq!(pdf.class_code, pdf.type_code);
    let set = metadata.submission_set().unwrap();
    assert_eq!(set.patient_id, known);
    assert_eq!(set.content_type_code.as_ref().unwrap().code, "18748-4");
    for said in ["000-00-0000", "555-0100", "treatment"] {
        assert!(!metadata.xml().as_str().contains(said), "{said}");
    }
    // An authority that the endpoint does not know gives no patientId.
    let unknown = only(planned(&text));
    assert_eq!(entries(&unknown)[0].patient_id, None);
    // Without the field it is an attachment like others.
    let plain = only(planned(&text.replace("X-Direct-Context", "X-Nothing")));
    assert_eq!(titles(&plain), [Some("metadata.txt"), Some("report.pdf")]);
    assert_eq!(entries(&plain)[1].source_patient_id, None);
}

// rule: CTX-6, MD-146, MD-157
#[test]
fn the_type_of_a_context_becomes_a_code_only_where_the_configuration_gives_one() {
    let pdf = attachment("application/pdf", "%PDF-1");
    let text = with_context(&[&context_part("type: Laboratory/result"), &pdf]);
    assert_eq!(entries(&only(planned(&text)))[0].type_code, None);
    let code = |code: &str| ConfiguredCode {
        code: code.to_owned(),
        scheme: "2.999.5".to_owned(),
        display: String::new(),
    };
    let map = |from: &str, to: &str| [(from.to_owned(), code(to))].into();
    let policy = EndpointPolicy {
        context_type_codes: map("laboratory/result", "lab"),
        class_codes: map("lab", "results"),
        practice_setting_codes: map("lab", "pathology"),
        ..EndpointPolicy::default()
    };
    let request = only(planned_by(&text, &policy));
    let entry = &entries(&request)[0];
    let own = |found: &Option<xdbridge::formats::metadata::Code>| found.clone().unwrap().code;
    assert_eq!(own(&entry.type_code), "lab");
    assert_eq!(own(&entry.class_code), "results");
    assert_eq!(own(&entry.practice_setting_code), "pathology");
    // A code that the context brings goes before the configuration.
    let coded = with_context(&[
        &context_part("type: laboratory/result\ntype-code: 2.999.6:own"),
        &pdf,
    ]);
    let request = only(planned_by(&coded, &policy));
    assert_eq!(own(&entries(&request)[0].type_code), "own");
}

// rule: CTX-6
#[test]
fn of_several_documents_each_gets_the_patient_and_none_the_description() {
    let pdf = attachment("application/pdf", "%PDF-1");
    let other = attachment("application/pdf", "%PDF-2");
    let context = context_part(&format!(
        "{ADA}\ntype-code: 2.999.6:own\nformat-code: ihe:rad:PDF:1.0\ncreation-time: 2025"
    ));
    let request = only(planned(&with_context(&[&pdf, &context, &other])));
    assert_eq!(entries(&request).len(), 2);
    for entry in entries(&request) {
        let id = entry.source_patient_id.as_deref();
        assert_eq!(id, Some("Q-104\\F\\7^^^&2.999.7.1.2&ISO"));
        assert_eq!(entry.type_code, None);
        assert_eq!(entry.creation_time.as_deref(), Some("20261122080509"));
        let format = &entry.format_code.as_ref().unwrap().code;
        assert_eq!(format, "urn:ihe:iti:xds:2017:mimeTypeSufficient");
    }
}

// rule: CTX-7, CTX-6
#[test]
fn what_a_document_says_of_itself_goes_before_the_context() {
    let alone = only(planned(&mixed(&[&attachment("text/xml", CCDA)])));
    let context = context_part(&format!(
        "{ADA}\npatient: surname=Quill; gender=O; country=FR\ntype-code: 2.999.6:own\n\
         format-code: ihe:rad:PDF:1.0\ncreation-time: 2025\ncontent-type-code: 2.999.6:set"
    ));
    let both = only(planned(&with_context(&[
        &context,
        &attachment("text/xml", CCDA),
    ])));
    let (alone, both_entry) = (&entries(&alone)[0], &entries(&both)[0]);
    assert_eq!(alone.source_patient_id, both_entry.source_patient_id);
    assert_eq!(alone.source_patient_info, both_entry.source_patient_info);
    assert_eq!(alone.creation_time, both_entry.creation_time);
    assert_eq!(alone.type_code, both_entry.type_code);
    assert_eq!(alone.format_code, both_entry.format_code);
    let set = both.metadata.submission_set().unwrap();
    assert_eq!(set.content_type_code.as_ref().unwrap().code, "set");

    // What the header lacks is filled, if an id or name and day of birth show that it is the same patient.
    let id = r#"<id root="2.999.7.1.2" extension="Q-104|7"/>"#;
    let nameless = CCDA.replace("birthTime", "deathTime");
    let unidentified = CCDA
        .replace(id, "")
        .replace(r#"<id root="2.999.7.1.3" extension="998877"/>"#, "");
    let born = "patient: surname=QUILL^smith; dateOfBirth=1961-07-04";
    for (cda, elements, is_filled) in [
        (nameless.as_str(), format!("{ADA}\n{born}"), true),
        (&nameless, born.to_owned(), false),
        (&unidentified, format!("{ADA}\n{born}"), true),
        (&unidentified, ADA.to_owned(), false),
        (CCDA, format!("patient-id: 2.999.7.1.9:5\n{born}"), true),
    ] {
        let part = context_part(&elements);
        let plan = planned(&with_context(&[&part, &attachment("text/xml", cda)]));
        assert_eq!(rules(&plan), [""; 0], "{elements}");
        let request = only(plan);
        let [entry] = entries(&request) else {
            panic!("one document was attached");
        };
        let has = |field: &str| {
            let mut info = entry.source_patient_info.iter();
            info.any(|value| value.starts_with(field))
        };
        let is_whole = entry.source_patient_id.is_some() && has("PID-3|") && has("PID-7|");
        assert_eq!(is_whole, is_filled, "{elements}");
    }
}

// rule: CTX-6, MD-92, CTX-3
#[test]
fn a_context_gives_no_patient_id_that_would_refuse_the_submission() {
    let policy = EndpointPolicy {
        patient_id_authorities: ["2.999.7.1.9", "2.999.7.1.3"]
            .map(|oid| oid.parse().unwrap())
            .into(),
        ..EndpointPolicy::default()
    };
    let pdf = attachment("application/pdf", "%PDF-1");
    let ccda = attachment("text/xml", CCDA);
    let own = Some("998877^^^&2.999.7.1.3&ISO".to_owned());
    for (ids, of_pdf) in [
        ("patient-id: 2.999.7.1.9:5", None),
        ("patient-id: 2.999.7.1.9:5; 2.999.7.1.3:998877", own.clone()),
    ] {
        let context = context_part(ids);
        let plan = planned_by(&with_context(&[&context, &pdf, &ccda]), &policy);
        assert_eq!(rules(&plan), [""; 0], "{ids}");
        let request = only(plan);
        let given: Vec<_> = entries(&request)
            .iter()
            .map(|entry| entry.patient_id.clone())
            .collect();
        assert_eq!(given, [of_pdf, own.clone()], "{ids}");
        let set = request.metadata.submission_set().unwrap();
        assert_eq!(set.patient_id, own, "{ids}");
    }
}

// rule: CTX-7, CTX-5, MD-126
#[test]
fn a_context_of_another_patient_is_not_used_for_any_document_and_stays_an_attachment() {
    let ccda = attachment("text/xml", CCDA);
    let pdf = attachment("application/pdf", "%PDF-1");
    for elements in [
        "patient-id: 2.999.7.1.2:Q-999",
        "patient-id: 2.999.7.1.9:5\npatient: surname=Silva",
        "patient: surname=Quill^Smith; dateOfBirth=1971-07-04",
        &format!("{ADA}; 2.999.7.1.3:998878"),
    ] {
        let context = context_part(&format!("{elements}\ncontent-type-code: 2.999.6:set"));
        let text = with_context(&[&pdf, &context, &ccda]);
        let plan = planned(&text);
        assert_eq!(rules(&plan), ["CTX-5"], "{elements}");
        assert!(plan.findings.iter().all(|finding| !finding.is_error()));
        let request = only(plan);
        let alone = only(planned(&mixed(&[&pdf, &context, &ccda])));
        let own = |request: &PlannedRequest| {
            let of_entry = |entry: &DocumentEntry| {
                (
                    entry.title.clone(),
                    entry.source_patient_id.clone(),
                    entry.source_patient_info.clone(),
                )
            };
            let mut all: Vec<_> = entries(request).iter().map(of_entry).collect();
            all.sort();
            all
        };
        assert_eq!(own(&request), own(&alone), "{elements}");
        let set = request.metadata.submission_set().unwrap();
        assert_eq!(set.content_type_code, None);
        let (_, documents) = posted(&request, &text);
        assert_eq!(documents.len(), 3);
    }
}

// rule: CTX-1, CTX-3, CTX-4, CTX-5
#[test]
fn a_context_that_cannot_be_used_is_a_warning_and_its_part_an_attachment() {
    let pdf = attachment("application/pdf", "%PDF-1");
    let good = context_part(ADA);
    let of = |part: &str| with_context(&[part, &pdf]);
    let long = context_part(&"x: y\n".repeat(200));
    let large = context_part(&format!("x: {}", "y".repeat(64 * 1024)));
    for (text, rule) in [
        (fixture("context-unreadable"), "CTX-2"),
        (of(&good.replace("1.1", "2.0")), "CTX-2"),
        (of(&long), "CTX-4"),
        (of(&large), "CTX-4"),
        (of(&good.replace("text/plain", "text/csv")), "CTX-1"),
        (of(&good.replace("<c@", "<d@")), "CTX-1"),
        (
            of(&good).replace(
                "Subject:",
                "X-Direct-Context: <c@direct.elm.example>\nSubject:",
            ),
            "CTX-1",
        ),
    ] {
        let plan = planned(&text);
        assert_eq!(rules(&plan), [rule]);
        assert!(!plan.findings[0].is_error());
        let request = only(plan);
        assert_eq!(titles(&request)[0], Some("metadata.txt"));
        assert_eq!(entries(&request).len(), 2);
        assert_eq!(entries(&request)[1].source_patient_id, None);
    }
    // Two parts of one id: nobody knows which is meant.
    let plan = planned(&with_context(&[&good, &good, &pdf]));
    assert_eq!(rules(&plan), ["CTX-1"]);
    assert_eq!(entries(&only(plan)).len(), 3);
    // What is odd in it is told, and the rest used.
    let odd = planned(&of(&context_part(&format!(
        "{ADA}\npurpose: curiosity\nx: y"
    ))));
    assert_eq!(rules(&odd), ["CTX-4", "CTX-2"]);
    assert_eq!(odd.findings[1].location, "part 1: purpose");
    assert_eq!(entries(&only(odd)).len(), 1);
    // One that cannot be decoded refuses the mail like every document.
    let broken = good.replace(
        "Content-Type: text/plain",
        "Content-Type: text/plain\nContent-Transfer-Encoding: base64",
    );
    assert_eq!(rules(&planned(&of(&broken))), ["SM-55"]);
}

// rule: CTX-5, CTX-3, XDR-101
#[test]
fn a_context_without_a_document_that_it_could_be_about_is_a_document() {
    let context = context_part(ADA);
    let text = "Content-Type: text/plain\n\nhello";
    let with_text = only(planned(&with_context(&[text, &context])));
    assert_eq!(titles(&with_text), [None]);
    assert!(entries(&with_text)[0].source_patient_id.is_some());

    let alone = planned(&with_context(&[&context]));
    assert_eq!(rules(&alone), ["CTX-5"]);
    let alone = only(alone);
    assert_eq!(titles(&alone), [Some("metadata.txt")]);
    assert_eq!(entries(&alone)[0].source_patient_id, None);

    // Beside a package it is loose, as it was before there were contexts.
    let package = fixture("xdm");
    let boundary = package
        .split("boundary=")
        .nth(1)
        .and_then(|rest| rest.split(['\r', '\n', ';']).next())
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let beside = package
        .replace(
            "Subject:",
            "X-Direct-Context: <c@direct.elm.example>\nSubject:",
        )
        .replacen(
            &format!("--{boundary}--"),
            &format!("--{boundary}\n{context}\n--{boundary}--"),
            1,
        );
    let plan = planned(&beside);
    assert!(rules(&plan).ends_with(&["CTX-5", "XDR-101"]));
    assert_eq!(plan.requests.len(), 2);
}

// --- packages ----------------------------------------------------------------------------------

// rule: XDR-100, CC-5, XDM-51
#[test]
fn a_package_is_known_by_its_content_and_another_zip_is_a_document() {
    for name in ["xdm", "xdm-by-content"] {
        let text = fixture(name);
        let request = only(planned(&text));
        assert_eq!(entries(&request).len(), 2, "{name}");
        let (_, documents) = posted(&request, &text);
        assert_eq!(documents.len(), 2);
    }
    let zip = only(planned(&fixture("zip-that-is-no-xdm")));
    assert_eq!(
        entries(&zip)[0].mime_type.as_deref(),
        Some("application/zip")
    );
}

// rule: XDR-101, CC-4
#[test]
fn attachments_beside_a_package_are_sent_refused_or_dropped_as_the_endpoint_wants() {
    let text = fixture("xdm-beside-other-documents");
    let by = |loose_parts| {
        let policy = EndpointPolicy {
            loose_parts,
            ..EndpointPolicy::default()
        };
        planned_by(&text, &policy)
    };
    let sent = by(LooseParts::Send);
    assert_eq!((sent.failure, sent.requests.len()), (None, 2));
    assert!(rules(&sent).contains(&"XDR-101"));
    let (_, documents) = posted(&sent.requests[1], &text);
    assert!(documents[0].starts_with(b"%PDF-1.4"));
    assert_ne!(sent.requests[0].message_id, sent.requests[1].message_id);
    let dropped = by(LooseParts::Drop);
    assert_eq!((dropped.failure, dropped.requests.len()), (None, 1));
    assert!(rules(&dropped).contains(&"XDR-101"));
    let refused = by(LooseParts::Refuse);
    assert_eq!(refused.failure, Some(Reason::ConversionFailed));
    assert!(refused.requests.is_empty());
}

// rule: XDR-102, XDM-52, XDM-5
#[test]
fn each_submission_set_is_a_request_of_its_own() {
    let plan = planned(&fixture("xdm-two-sets"));
    assert_eq!(
        (plan.failure, plan.requests.len()),
        (None, 2),
        "{:?}",
        plan.findings
    );
    assert_ne!(plan.requests[0].message_id, plan.requests[1].message_id);
}

/// METADATA.XML of a medium of the field, which says of whom its submission set and its document are.
fn metadata_about(set: &str, document: &str) -> Vec<u8> {
    let zip = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/xdm/two-sets.zip");
    let mut medium = zip::ZipArchive::new(fs::File::open(zip).unwrap()).unwrap();
    let mut file = medium.by_name("IHE_XDM/SUBSET01/METADATA.XML").unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    for (end, object, scheme, kind, id) in [
        (
            "</rim:ExtrinsicObject>",
            "Document01",
            "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427",
            "XDSDocumentEntry",
            document,
        ),
        (
            "</rim:RegistryPackage>",
            "Set",
            "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
            "XDSSubmissionSet",
            set,
        ),
    ] {
        let patient = format!(
            "<rim:ExternalIdentifier id=\"{object}-patient\" registryObject=\"{object}\" \
             identificationScheme=\"{scheme}\" value=\"{id}^^^&amp;2.999.7.1.3&amp;ISO\"><rim:Name>\
             <rim:LocalizedString value=\"{kind}.patientId\"/></rim:Name></rim:ExternalIdentifier>{end}"
        );
        assert!(text.contains(end));
        text = text.replace(end, &patient);
    }
    text.into_bytes()
}

/// A package as a part of a mail, whose sets say of whom they and their documents are.
fn package_about(sets: &[(&str, &str)]) -> String {
    let letter = b"%PDF-1.4\n% The same letter for both sets of this medium.";
    let mut entries = vec![
        RawEntry::stored("README.TXT", b"about"),
        RawEntry::stored("INDEX.HTM", b"<html/>"),
    ];
    for (number, (set, document)) in (1..).zip(sets) {
        let folder = format!("IHE_XDM/SUBSET0{number}");
        let text = String::from_utf8(metadata_about(set, document)).unwrap();
        let text = text
            .replace("../../COMMON/LETTER.PDF", "LETTER.PDF")
            .replace(
                "47508af93d2038284d3d6bc8110e47ee7d32c4bc",
                &hex(&openssl::sha::sha1(letter)),
            )
            .replace(
                "<rim:Value>52</rim:Value>",
                &format!("<rim:Value>{}</rim:Value>", letter.len()),
            )
            .replace(
                "value=\"2.999.9.1\"",
                &format!("value=\"2.999.9.{number}\""),
            );
        entries.push(RawEntry::file(
            &format!("{folder}/METADATA.XML"),
            text.as_bytes(),
        ));
        entries.push(RawEntry::file(&format!("{folder}/LETTER.PDF"), letter));
    }
    let zip = openssl::base64::encode_block(&build(&entries).octets);
    attachment("application/zip\nContent-Transfer-Encoding: base64", &zip)
}

/// Every order of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1).into_iter();
    shorter
        .flat_map(|order| {
            (0..count).map(move |at| {
                let mut order = order.clone();
                order.insert(at, count - 1);
                order
            })
        })
        .collect()
}

// rule: CC-6, CC-5, XDR-101, MD-124
#[test]
fn parts_are_found_in_whatever_order_they_stand() {
    let parts = [
        "Content-Type: text/plain\n\nPlease see the attachments.".to_owned(),
        attachment("text/xml", CCDA),
        attachment("application/pdf", "%PDF-1"),
        package_about(&[("P1", "P1")]),
    ];
    let types = |request: &PlannedRequest| -> Vec<String> {
        let types = entries(request).iter().map(|entry| entry.mime_type.clone());
        types.map(Option::unwrap).collect()
    };
    for (count, all) in [(3, 6), (4, 24)] {
        let orders = orders(count);
        assert_eq!(orders.len(), all);
        for order in orders {
            let chosen: Vec<&str> = order.iter().map(|part| parts[*part].as_str()).collect();
            let plan = planned(&mixed(&chosen));
            assert_eq!(plan.failure, None, "{order:?}: {:?}", plan.findings);
            let mut requests = plan.requests.iter();
            if count == 4 {
                assert_eq!(
                    types(requests.next().unwrap()),
                    ["application/pdf"],
                    "{order:?}"
                );
            }
            let documents = order.iter().filter_map(|part| match part {
                1 => Some("text/xml"),
                2 => Some("application/pdf"),
                _ => None,
            });
            let documents: Vec<&str> = documents.collect();
            assert_eq!(types(requests.next().unwrap()), documents, "{order:?}");
            assert!(requests.next().is_none(), "{order:?}");
        }
    }
}

// rule: MD-92, T-7b, XDR-102
#[test]
fn sets_about_different_patients_go_apart_and_a_set_about_two_is_refused_unless_set_otherwise() {
    let plan = planned(&mixed(&[&package_about(&[("P1", "P1"), ("P2", "P2")])]));
    assert_eq!(plan.failure, None, "{:?}", plan.findings);
    assert!(!rules(&plan).contains(&"MD-92"), "{:?}", plan.findings);
    let patients: Vec<_> = plan
        .requests
        .iter()
        .map(|request| {
            let set = request.metadata.submission_set().unwrap();
            let [entry] = entries(request) else {
                panic!("each set has one document");
            };
            (
                set.patient_id.clone().unwrap(),
                entry.patient_id.clone().unwrap(),
            )
        })
        .collect();
    let id = |id: &str| format!("{id}^^^&2.999.7.1.3&ISO");
    assert_eq!(patients, [(id("P1"), id("P1")), (id("P2"), id("P2"))]);

    // One such set refuses the message: its sender is told once, and never that half of it arrived.
    let mixed_up = mixed(&[&package_about(&[("P1", "P1"), ("P2", "P3")])]);
    let plan = planned(&mixed_up);
    assert_eq!(plan.failure, Some(Reason::ConversionFailed));
    let told: Vec<_> = plan
        .findings
        .iter()
        .filter(|found| found.rule == "MD-92")
        .collect();
    assert!(
        matches!(&told[..], [found] if found.is_error() && found.location.contains("set 2")),
        "{told:?}"
    );
    let policy = EndpointPolicy {
        patient_id_mismatch: PatientIdMismatch::Warn,
        ..EndpointPolicy::default()
    };
    let plan = planned_by(&mixed_up, &policy);
    assert_eq!((plan.failure, plan.requests.len()), (None, 2));
    assert!(rules(&plan).contains(&"MD-92"), "{:?}", plan.findings);
}

// rule: XDM-40, XDM-43, XDR-102
#[test]
fn a_set_that_does_not_hold_what_it_says_is_not_posted() {
    let plan = planned(&fixture("xdm-wrong-hash"));
    assert!(plan.requests.is_empty());
    assert_eq!(plan.failure, Some(Reason::ConversionFailed));
    assert!(rules(&plan).contains(&"XDM-40"));
}

// rule: XDR-104, XDR-107, XDR-108
#[test]
fn a_request_says_its_level_and_the_recipients_of_its_endpoint_alone() {
    let recipients: Vec<DirectAddress> = [
        "rui.silva@direct.harbor.example",
        "ada@direct.harbor.example",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    let policy = EndpointPolicy::default();
    let request = only(planned_for(&fixture("documents"), &policy, &recipients));
    assert_eq!(request.level, MetadataLevel::Minimal);
    assert_eq!(request.address_block.to, recipients);
    let from = request.address_block.from.to_string();
    assert_eq!(from, "ngozi.okafor@direct.elm.example");
    let set = request.metadata.submission_set().unwrap();
    assert_eq!(set.intended_recipients.len(), 2);
}

// rule: XDR-112, MDN-14
#[test]
fn nothing_is_posted_for_a_report() {
    let text = mail_with(
        "",
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nseen\n--b\nContent-Type: message/disposition-notification\n\n\
         Disposition: x\n--b\nContent-Type: application/pdf; name=x.pdf\n\n%PDF-1\n--b--\n",
    );
    let plan = planned(&text);
    assert!(plan.requests.is_empty());
    assert_eq!((plan.failure, plan.findings.len()), (None, 0));
}

// --- policy ------------------------------------------------------------------------------------

fn code(code: &str) -> Option<ConfiguredCode> {
    Some(ConfiguredCode {
        code: code.to_owned(),
        scheme: "2.999.60".to_owned(),
        display: code.to_lowercase(),
    })
}

fn filling() -> EndpointPolicy {
    let mut policy = EndpointPolicy {
        needs_full_metadata: true,
        missing_metadata: MissingMetadata::Fill,
        patient_id_authorities: vec!["2.999.7.1.3".parse().unwrap()],
        ..EndpointPolicy::default()
    };
    policy.defaults.class_code = code("CLASS");
    policy.defaults.type_code = code("TYPE");
    policy.defaults.healthcare_facility_type_code = code("FACILITY");
    policy.defaults.practice_setting_code = code("PRACTICE");
    policy
}

// rule: XDR-105, XDR-113
#[test]
fn what_is_less_than_an_endpoint_needs_is_sent_or_refused_as_its_policy_says() {
    let text = fixture("documents");
    let mut policy = EndpointPolicy {
        needs_full_metadata: true,
        ..EndpointPolicy::default()
    };
    assert_eq!(
        only(planned_by(&text, &policy)).level,
        MetadataLevel::Minimal
    );
    policy.missing_metadata = MissingMetadata::Refuse;
    let refused = planned_by(&text, &policy);
    assert!(refused.requests.is_empty());
    assert_eq!(refused.failure, Some(Reason::ConversionFailed));
    assert_eq!(rules(&refused), ["XDR-105"]);
}

// rule: MD-170, MD-171, MD-172, MD-173, MD-174, MD-175, MD-177, XDR-104, XDR-105
#[test]
fn configured_constants_fill_what_is_missing_and_only_that() {
    let plain = CCDA
        .replace("<languageCode code=\"en-US\"/>", "")
        .replace("<code code=\"35971002\"", "<code code2=\"35971002\"");
    let text = mixed(&[&attachment("text/xml", &plain)]);
    let plan = planned_by(&text, &filling());
    let told = rules(&plan);
    for rule in ["MD-172", "MD-173", "MD-175"] {
        assert!(told.contains(&rule), "{told:?}");
    }
    assert!(
        !told.contains(&"MD-170") && !told.contains(&"MD-171"),
        "{told:?}"
    );
    let request = only(plan);
    assert_eq!(request.level, MetadataLevel::Xds);
    let entry = &entries(&request)[0];
    assert_eq!(entry.language_code.as_deref(), Some("en-US"));
    // What was received stays: it is never lowered.
    assert_eq!(entry.confidentiality_codes[0].code, "R");
    assert_eq!(entry.type_code.as_ref().unwrap().code, "34133-9");
    assert_eq!(
        entry.healthcare_facility_type_code.as_ref().unwrap().code,
        "FACILITY"
    );
    assert_eq!(
        entry.practice_setting_code.as_ref().unwrap().code,
        "PRACTICE"
    );
    let set = request.metadata.submission_set().unwrap();
    assert_eq!(set.content_type_code.as_ref().unwrap().code, "34133-9");

    let bare = plain
        .replace("<code code=\"34133-9\"", "<code code2=\"34133-9\"")
        .replace("<confidentialityCode code=", "<confidentialityCode code2=");
    let plan = planned_by(&mixed(&[&attachment("text/xml", &bare)]), &filling());
    let request = only(plan);
    let entry = &entries(&request)[0];
    assert_eq!(entry.class_code.as_ref().unwrap().code, "CLASS");
    assert_eq!(entry.type_code.as_ref().unwrap().code, "TYPE");
    assert_eq!(entry.confidentiality_codes[0].code, "N");
    let set = request.metadata.submission_set().unwrap();
    assert_eq!(set.content_type_code.as_ref().unwrap().code, "TYPE");
}

// rule: MD-176, MD-177
#[test]
fn patient_ids_are_never_filled_in() {
    let text = mixed(&[&attachment("application/pdf", "%PDF-1")]);
    let plan = planned_by(&text, &filling());
    assert!(plan.requests.is_empty());
    assert_eq!(plan.failure, Some(Reason::ConversionFailed));
    let missing = plan.findings.iter().filter(|finding| finding.is_error());
    let places: Vec<&str> = missing.map(|finding| finding.location.as_str()).collect();
    assert!(
        places.iter().any(|place| place.ends_with("patientId")),
        "{places:?}"
    );
}

// rule: MD-174, MD-177
#[test]
fn limited_metadata_of_a_package_is_filled_and_loses_its_labels() {
    let mut submission = submission_in("docs/spec/examples/01-request-full-inline.xml");
    let whole = submission.metadata.xml().as_str().to_owned();
    let id = &submission.metadata.document_entries()[0].id;
    let limited = format!(
        "<rim:Classification id=\"limited\" classificationNode=\"urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85\" \
         classifiedObject=\"{id}\"/>"
    );
    let text = whole.replacen("</rim:ExtrinsicObject>", "</rim:ExtrinsicObject>\n", 1);
    let at = text.find("</rim:ExtrinsicObject>\n").unwrap() + "</rim:ExtrinsicObject>\n".len();
    let text = format!("{}{limited}{}", &text[..at], &text[at..]);
    let start = text.find("<rim:Slot name=\"creationTime\"").unwrap();
    let end = start + text[start..].find("</rim:Slot>").unwrap() + "</rim:Slot>".len();
    let text = format!("{}{}", &text[..start], &text[end..]);
    submission.metadata = Metadata::read(
        xdbridge::formats::xml::kept::KeptXml::from_checked(text),
        &Limits::default(),
    )
    .unwrap();
    let mail = mail_of(&mut submission, Level::Limited, "xdm");
    let plain = planned(&mail);
    assert_eq!(plain.requests[0].level, MetadataLevel::Minimal);
    let plan = planned_by(&mail, &filling());
    assert!(rules(&plan).contains(&"MD-174"), "{:?}", plan.findings);
    let request = only(plan);
    assert_eq!(request.level, MetadataLevel::Xds);
    assert!(!entries(&request)[0].is_limited);
    assert_eq!(
        entries(&request)[0].creation_time.as_deref(),
        Some("20261122080509")
    );
}

// rule: DIR-8
#[test]
fn an_endpoint_may_require_a_package_or_a_type_of_document() {
    let xdm = EndpointPolicy {
        xdm_required: true,
        ..EndpointPolicy::default()
    };
    let plan = planned_by(&fixture("documents"), &xdm);
    assert_eq!((plan.requests.len(), rules(&plan)), (0, vec!["DIR-8"]));
    assert_eq!(plan.failure, Some(Reason::ConversionFailed));
    only(planned_by(&fixture("xdm"), &xdm));
    let of_type = |kind: &str| EndpointPolicy {
        required_types: vec![kind.to_owned()],
        ..EndpointPolicy::default()
    };
    only(planned_by(&fixture("documents"), &of_type("text/xml")));
    let template = "urn:hl7-org:sdwg:ccda-structuredBody:2.1";
    only(planned_by(&fixture("documents"), &of_type(template)));
    let plan = planned_by(&fixture("documents"), &of_type("image/png"));
    assert_eq!((plan.requests.len(), rules(&plan)), (0, vec!["DIR-8"]));
}

// rule: LIM-2, SM-55, LIM-4
#[test]
fn documents_that_are_too_large_too_many_or_broken_refuse_the_message() {
    let plan = planned(&fixture("broken-base64"));
    assert_eq!(plan.failure, Some(Reason::ConversionFailed));
    assert_eq!(rules(&plan), ["SM-55"]);
    let text = fixture("one-line-base64");
    only(planned(&text));
    let small = Limits {
        max_document_bytes: 1000,
        ..Limits::default()
    };
    let mail = read(text.as_bytes(), &small).unwrap();
    let plan = plan_of(&mail, &EndpointPolicy::default(), &rui(), &DIGEST, &small);
    assert_eq!(plan.failure, Some(Reason::TooLarge));
    let part = attachment("application/pdf", "%PDF-1");
    let many = mixed(&vec![part.as_str(); 101]);
    let plan = planned(&many);
    assert!(plan.requests.is_empty());
    assert!(rules(&plan).contains(&"LIM-4"), "{:?}", rules(&plan));
}

// --- there and back ----------------------------------------------------------------------------

/// The submission of a request in a file.
fn submission_in(path: &str) -> TestSubmission {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut documents = DocumentsInMemory::default();
    let request = read_file(
        &mut fs::File::open(path).unwrap(),
        &Limits::default(),
        &ReadOptions::default(),
        &mut documents,
    )
    .unwrap();
    let metadata = Metadata::read(request.metadata.clone(), &Limits::default()).unwrap();
    let of_entry = |entry: &DocumentEntry| {
        let mut parts = request.documents.iter();
        let part = parts.find(|part| part.document_id == entry.id).unwrap();
        documents.find(part.key).unwrap().to_vec()
    };
    let octets = metadata.document_entries().iter().map(of_entry).collect();
    TestSubmission::new(request.metadata.as_str(), octets)
}

fn octets_of(submission: &TestSubmission) -> Vec<Vec<u8>> {
    let documents = submission.documents.documents.iter();
    documents.map(|(_, octets)| octets.clone()).collect()
}

/// The mail that the bridge writes of a submission.
fn mail_of(submission: &mut TestSubmission, level: Level, packaging: &str) -> String {
    let policy: MailPolicy = toml::from_str(&format!("packaging = \"{packaging}\"")).unwrap();
    let conversion = Conversion {
        metadata: &submission.metadata,
        documents: &submission.entry_documents,
        level,
        from: &"ngozi.okafor@direct.elm.example".parse().unwrap(),
        to: &rui(),
        message_id: &"9@direct.elm.example".parse().unwrap(),
        date: "2026-11-22T08:05:09Z".parse().unwrap(),
        policy: &policy,
        wants_final_delivery: false,
        institution: &Institution::default(),
    };
    let mut octets = Vec::new();
    write_plain_message(&conversion, &mut submission.documents, &mut octets).unwrap();
    String::from_utf8(octets).unwrap()
}

// rule: XDR-89, XDR-103, XDR-101, XDR-86, XDR-87, XDR-104
#[test]
fn a_submission_that_went_by_mail_comes_back_as_it_was() {
    for (example, level) in [
        (
            "docs/spec/examples/01-request-full-inline.xml",
            MetadataLevel::Xds,
        ),
        (
            "docs/spec/examples/02-request-direct-minimal-mtom.http",
            MetadataLevel::Minimal,
        ),
        ("fixtures/xdr/mtom-four-ways.mime", MetadataLevel::Minimal),
    ] {
        let mut submission = submission_in(example);
        let by = match level {
            MetadataLevel::Xds => Level::Full,
            MetadataLevel::Minimal => Level::Minimal,
        };
        for packaging in ["xdm", "xdm+documents"] {
            let text = mail_of(&mut submission, by, packaging);
            let request = only(planned(&text));
            assert_eq!(request.level, level, "{example}");
            let (metadata, documents) = posted(&request, &text);
            assert!(
                equal_metadata(submission.metadata.xml(), metadata.xml()),
                "{example}"
            );
            let expected = octets_of(&submission);
            assert_eq!(documents, expected, "{example}, {packaging}");
        }
        let text = mail_of(&mut submission, by, "documents");
        let (_, documents) = posted(&only(planned(&text)), &text);
        assert_eq!(documents, octets_of(&submission), "{example}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // rule: T-11, T-8
    #[test]
    fn no_mail_makes_the_plan_panic_and_every_refusal_is_told(
        name in prop::sample::select(vec!["documents", "xdm", "xdm-beside-other-documents", "alternative", "context", "context-of-another-patient"]),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut octets = fixture(name).into_bytes();
        let start = at.index(octets.len());
        let end = (start + with.len()).min(octets.len());
        octets.splice(start..end, with);
        if cut.index(4) == 0 {
            octets.truncate(cut.index(octets.len()));
        }
        let limits = Limits::default();
        if let Ok(mail) = read(&octets, &limits) {
            let plan = plan_of(&mail, &EndpointPolicy::default(), &rui(), &DIGEST, &limits);
            let has_error = plan.findings.iter().any(|finding| finding.is_error());
            prop_assert_eq!(plan.failure.is_some(), has_error);
            for request in &plan.requests {
                let mut documents = DocumentsInMemory::default();
                request.documents(&mail, &limits).pour(&mut documents).unwrap();
                prop_assert_eq!(documents.documents.len(), request.outgoing.len());
            }
        }
    }
}
