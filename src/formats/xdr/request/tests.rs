//! The reader over whole messages: our examples, what peers do differently, what is refused, and what is hostile.

mod hostile;
mod mtom;
mod packages;

use std::io::Cursor;

use super::*;
use crate::formats::{
    document::DocumentsInMemory,
    limits::Limits,
    soap::{
        FaultCode,
        fault::{SoapVersion, Subcode},
    },
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

/// Example 1 with one replacement, which must take place.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE_1.contains(from), "{from}");
    EXAMPLE_1.replacen(from, to, 1)
}

// rule: SOAP-40, SOAP-42, SOAP-43, SOAP-44, SOAP-80, SOAP-110, SOAP-112, T-10
#[test]
fn a_message_that_is_no_message_gets_a_sender_fault() {
    let cases = [
        // ETT 4a/15a and 4b/15b.
        ("<soap:Header>", "<Header xmlns=''>", "SOAP-40"),
        (
            "<soap:Body>",
            "<b:Body xmlns:b='http://www.w3.org/2005/03/soap-envelope'>",
            "SOAP-40",
        ),
        (
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
            "<!DOCTYPE a>",
            "SOAP-43",
        ),
        ("  <soap:Body>", "<?pi?><soap:Body>", "SOAP-43"),
        ("Referral note", "&xxe;", "SOAP-80"),
        ("20260302141500", "&xxe;", "SOAP-43"),
        ("20260302141500", "\u{0}", "SOAP-80"),
        ("</soap:Envelope>", "</soap:Envelope><a/>", "SOAP-80"),
        ("</soap:Envelope>", "", "SOAP-80"),
        ("</soap:Body>", "</soap:Body><soap:Header/>", "SOAP-40"),
        ("  </soap:Body>", "<a/></soap:Body>", "SOAP-42"),
        (
            "xds:ProvideAndRegisterDocumentSetRequest xmlns:xds=\"urn:ihe:iti:xds-b:2007\"",
            "a",
            "SOAP-42",
        ),
        (
            "urn:direct:addressing\" soap:role",
            "urn:direct\" soap:role",
            "SOAP-110",
        ),
        ("mailto:ngozi", "ngozi", "SOAP-112"),
        (
            "<direct:to>mailto:rui.silva@direct.harbor.example.org</direct:to>",
            "",
            "SOAP-112",
        ),
        (
            "mimeType=\"text/xml\"",
            "mimeType=\"text/xml\" mimeType=\"a\"",
            "SOAP-80",
        ),
        ("xml:lang=\"en-US\"", "q:lang=\"en-US\"", "SOAP-80"),
    ];
    for (from, to, rule) in cases {
        let fault = fault(read_simple(&changed(from, to)));
        assert_eq!(
            (fault.code, fault.http_status()),
            (FaultCode::Sender, 400),
            "{to}"
        );
        assert_eq!(fault.rule, rule, "{to}: {}", fault.reason);
        assert_eq!(fault.packaging, Packaging::SimpleSoap);
    }
}

// rule: SOAP-40
#[test]
fn the_two_bad_envelopes_of_the_test_tool_are_refused() {
    for bad in [
        include_str!("../../../../fixtures/xdr/bad-soap-header.xml"),
        include_str!("../../../../fixtures/xdr/bad-soap-body.xml"),
    ] {
        assert_eq!(fault(read_simple(bad)).rule, "SOAP-40");
    }
    let header = EXAMPLE_1.replace("<soap:Header>", "<h:Header xmlns:h='urn:other'>");
    let header = header.replace("</soap:Header>", "</h:Header>");
    assert_eq!(fault(read_simple(&header)).rule, "SOAP-40");
}

// rule: SOAP-44, SOAP-45, SOAP-81
#[test]
fn another_soap_version_is_told_the_one_that_is_spoken() {
    let soap12 = "http://www.w3.org/2003/05/soap-envelope";
    let other = fault(read_simple(&EXAMPLE_1.replace(soap12, "urn:other")));
    assert_eq!(
        (other.code, other.http_status()),
        (FaultCode::VersionMismatch, 500)
    );
    assert_eq!(other.version, SoapVersion::V12);
    let soap11 = EXAMPLE_1.replace(soap12, "http://schemas.xmlsoap.org/soap/envelope/");
    let old = fault(read_with(
        "text/xml",
        soap11.as_bytes(),
        &Limits::default(),
        &ReadOptions::default(),
    ));
    assert_eq!(
        (old.code, old.version),
        (FaultCode::VersionMismatch, SoapVersion::V11)
    );
    let (content_type, body) = old.write_answer(&"urn:uuid:1".parse().unwrap());
    assert_eq!(content_type, "text/xml; charset=UTF-8");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("<faultcode>soap11:VersionMismatch</faultcode>"));
    assert!(body.contains("SupportedEnvelope qname=\"soap:Envelope\""));
}

// rule: SOAP-46, SOAP-47, SOAP-82, SOAP-148
#[test]
fn a_mandatory_header_that_is_not_understood_stops_everything_else() {
    let security = format!(
        "<s:Security xmlns:s='{}' soap:mustUnderstand='1'><s:X/></s:Security></soap:Header>",
        crate::formats::xml::names::WSSE
    );
    // The Action is wrong too, and the body is not even XML: neither is looked at.
    let text = changed("</soap:Header>", &security)
        .replace("Set-b<", "Set-c<")
        .replace("</xds:Doc", "<");
    let refused = fault(read_simple(&text));
    assert_eq!(
        (refused.code, refused.http_status()),
        (FaultCode::MustUnderstand, 500)
    );
    assert_eq!(refused.not_understood.len(), 1);
    let (_, answer) = refused.write_answer(&"urn:uuid:1".parse().unwrap());
    assert!(
        String::from_utf8(answer)
            .unwrap()
            .contains("NotUnderstood qname=\"nu:Security\"")
    );
    let lenient = ReadOptions {
        saml_ignored: true,
        ..ReadOptions::default()
    };
    let text = changed("</soap:Header>", &security);
    let (request, _) = read_with(SOAP_XML, text.as_bytes(), &Limits::default(), &lenient).unwrap();
    assert!(rules(&request).contains(&"SOAP-148"));
    // For somebody else, or not mandatory: passed over.
    for attributes in [
        "soap:mustUnderstand='true' soap:role='urn:other'",
        "soap:mustUnderstand=' 0 '",
        "",
    ] {
        let header = format!("<x:Y xmlns:x='urn:x' {attributes}/></soap:Header>");
        assert!(
            read_simple(&changed("</soap:Header>", &header)).is_ok(),
            "{attributes}"
        );
    }
    let header = "<x:Y xmlns:x='urn:x' soap:mustUnderstand='yes'/></soap:Header>";
    assert_eq!(
        fault(read_simple(&changed("</soap:Header>", header))).rule,
        "SOAP-46"
    );
}

// rule: SOAP-41, SOAP-60, SOAP-63, SOAP-67, SOAP-68, SOAP-83, SOAP-84, SOAP-85, SOAP-87
#[test]
fn addressing_faults_have_their_subcodes_and_name_the_request() {
    use Subcode as S;
    let action = "<wsa:Action soap:mustUnderstand=\"true\">urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b</wsa:Action>";
    let twice = format!("{action}{action}");
    let anonymous = "http://www.w3.org/2005/08/addressing/anonymous";
    let cases: [(&str, &str, &[Subcode]); 5] = [
        (action, "", &[S::MessageAddressingHeaderRequired]),
        (
            "Set-b</wsa:Action>",
            "Set-c</wsa:Action>",
            &[S::ActionNotSupported],
        ),
        (
            action,
            &twice,
            &[S::InvalidAddressingHeader, S::InvalidCardinality],
        ),
        (
            anonymous,
            "",
            &[S::InvalidAddressingHeader, S::MissingAddressInEpr],
        ),
        (
            anonymous,
            "https://elm.example/async",
            &[S::InvalidAddressingHeader, S::OnlyAnonymousAddressSupported],
        ),
    ];
    for (from, to, subcodes) in cases {
        let fault = fault(read_simple(&changed(from, to)));
        assert_eq!(fault.subcodes, subcodes, "{to}");
        assert_eq!(fault.http_status(), 400);
        let (content_type, answer) = fault.write_answer(&"urn:uuid:1".parse().unwrap());
        assert!(content_type.starts_with("application/soap+xml"));
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains(
            "<wsa:RelatesTo>urn:uuid:3c4d5e6f-7081-4c9d-8e0f-2a3b4c5d6e7f</wsa:RelatesTo>"
        ));
        assert!(answer.contains("http://www.w3.org/2005/08/addressing/fault"));
        roxmltree::Document::parse(&answer).unwrap();
    }
    let none = read_simple(
        &changed("<soap:Header>", "<soap:Header><!--")
            .replace("</soap:Header>", "--></soap:Header>"),
    );
    assert_eq!(fault(none).subcodes, [S::MessageAddressingHeaderRequired]);
}

// rule: NHIN-20, SOAP-60, SOAP-61
#[test]
fn both_synchronous_actions_are_served() {
    let nhin = changed("urn:ihe:iti:2007:Provide", " urn:ihe:iti:xdr:2007:Provide");
    let (request, _) = read_simple(&nhin.replacen(" soap:mustUnderstand=\"true\"", "", 1)).unwrap();
    assert_eq!(
        request.addressing.action,
        "urn:ihe:iti:xdr:2007:ProvideAndRegisterDocumentSet-b"
    );
    assert_eq!(rules(&request), ["SOAP-61", "SOAP-60", "SOAP-11"]);
}

// rule: SOAP-86
#[test]
fn an_action_that_disagrees_with_the_body_is_refused() {
    let response = include_str!("../../../../docs/spec/examples/05-response-failure.xml");
    let fault = fault(read_simple(&response.replace("bResponse", "b")));
    assert_eq!(
        fault.subcodes,
        [Subcode::InvalidAddressingHeader, Subcode::ActionMismatch]
    );
}

// rule: SOAP-29, SOAP-117, XDR-25, SOAP-24, SOAP-92
#[test]
fn what_is_wrong_with_documents_is_a_finding_and_no_fault() {
    use ErrorCode as E;
    let document = "<xds:Document id=\"urn:uuid:0f4a6c1e-2d3b-4c5d-8e6f-7a8b9c0d1e2f\">";
    let include = "<xop:Include xmlns:xop='http://www.w3.org/2004/08/xop/include' href=";
    let other_namespace = "<Include xmlns='urn:other' href='cid:a'/>";
    let cases = [
        (">PENs", ">P.Ns".to_owned(), E::XdsRepositoryMetadataError),
        ("Pgo=<", "Pgo<".to_owned(), E::XdsRepositoryMetadataError),
        (">XDS<", ">xds<".to_owned(), E::XdsRepositoryMetadataError),
        (
            document,
            "<xds:Document>".to_owned(),
            E::XdsMissingDocumentMetadata,
        ),
        (
            document,
            format!("{document}{include}'cid:a'/>"),
            E::XdsRepositoryError,
        ),
        (
            document,
            format!("{document}{include}'http://a/'/></xds:Document><xds:Document id='b'>"),
            E::XdsRepositoryError,
        ),
        (
            document,
            format!("{document}{include}'cid:a'/></xds:Document><xds:Document id='b'>"),
            E::XdsMissingDocument,
        ),
        (
            document,
            format!("{document}{other_namespace}</xds:Document><xds:Document id='b'>"),
            E::XdsRepositoryError,
        ),
        (
            "</xds:Document>",
            format!("</xds:Document>{document}</xds:Document>"),
            E::XdsRepositoryMetadataError,
        ),
    ];
    for (from, to, code) in cases {
        let (request, _) = read_simple(&changed(from, &to)).unwrap();
        assert_eq!(error_codes(&request), [code], "{to}");
    }
}

// rule: SOAP-63, SOAP-64, XDR-141
#[test]
fn a_request_without_message_id_or_reply_to_is_read_and_told() {
    for (local, rule) in [("MessageID", "SOAP-63"), ("ReplyTo", "SOAP-64")] {
        let start = EXAMPLE_1.find(&format!("<wsa:{local}")).unwrap();
        let close = format!("</wsa:{local}>");
        let end = EXAMPLE_1.find(&close).unwrap() + close.len();
        let text = format!("{}{}", &EXAMPLE_1[..start], &EXAMPLE_1[end..]);
        let (request, _) = read_simple(&text).unwrap();
        assert_eq!(rules(&request), [rule, "SOAP-11"]);
        assert_eq!(request.addressing.reply_to, None);
    }
}

// rule: SOAP-111, SOAP-114, SOAP-116, SOAP-118, SOAP-119, XDR-69
#[test]
fn what_edges_write_differently_in_the_address_block_is_read_with_a_warning() {
    let text = changed("soap:role=", "role=")
        .replace("mailto:rui.silva@direct", "MAILTO:Rui%2Esilva@direct")
        .replace("org</direct:to>", "org?subject=x; b@hisp.example,mailto:B@HISP.example</direct:to><direct:relatesTo> urn:x </direct:relatesTo><direct:other/><direct:metadata-level>minimal</direct:metadata-level><direct:X-DIRECT-FINAL-DESTINATION-DELIVERY>yes</direct:X-DIRECT-FINAL-DESTINATION-DELIVERY>");
    let (request, _) = read_simple(&text).unwrap();
    let block = request.address_block.as_ref().unwrap();
    let to: Vec<String> = block.to.iter().map(ToString::to_string).collect();
    assert_eq!(
        to,
        ["Rui.silva@direct.harbor.example.org", "b@hisp.example"]
    );
    assert_eq!(block.relates_to.as_deref(), Some("urn:x"));
    assert!(!block.final_delivery);
    // The header block of its own wins.
    assert_eq!(request.metadata_level, Some(MetadataLevel::Xds));
    assert_eq!(
        rules(&request),
        [
            "SOAP-116", "SOAP-111", "SOAP-114", "SOAP-114", "SOAP-119", "SOAP-11"
        ]
    );
    let strict = ReadOptions {
        strict_address_block: true,
        ..ReadOptions::default()
    };
    let refused = fault(read_with(
        SOAP_XML,
        text.as_bytes(),
        &Limits::default(),
        &strict,
    ));
    assert_eq!(refused.rule, "SOAP-111");
    let wanted = "</direct:to><direct:X-DIRECT-FINAL-DESTINATION-DELIVERY>true</direct:X-DIRECT-FINAL-DESTINATION-DELIVERY>";
    let (request, _) = read_simple(&changed("</direct:to>", wanted)).unwrap();
    assert!(request.address_block.unwrap().final_delivery);
}

// rule: SOAP-113, SOAP-121
#[test]
fn a_request_without_address_block_is_legal() {
    let from = EXAMPLE_1.find("<direct:addressBlock").unwrap();
    let to = EXAMPLE_1.find("</soap:Header>").unwrap();
    let (request, _) = read_simple(&format!("{}{}", &EXAMPLE_1[..from], &EXAMPLE_1[to..])).unwrap();
    assert_eq!(request.address_block, None);
    assert_eq!(request.metadata_level, None);
}

// rule: XDR-122
#[test]
fn a_disposition_as_plain_xml_is_read() {
    let at = EXAMPLE_3.find("PGRp").unwrap();
    let end = EXAMPLE_3.find("</xds:Document>").unwrap();
    let plain = "<d:messageDisposition xmlns:d='urn:direct:addressing'><d:disposition>success</d:disposition></d:messageDisposition>";
    let (request, documents) = read_simple(&format!(
        "{} {plain} {}",
        &EXAMPLE_3[..at],
        &EXAMPLE_3[end..]
    ))
    .unwrap();
    assert_eq!(
        documents.find(request.documents[0].key).unwrap(),
        plain.as_bytes()
    );
    assert_eq!(rules(&request), ["XDR-122", "SOAP-11"]);

    // Text beside it is neither XML nor the base64 of the same octets.
    let beside = format!("{} {plain}QUJD{}", &EXAMPLE_3[..at], &EXAMPLE_3[end..]);
    let (request, _) = read_simple(&beside).unwrap();
    assert_eq!(rules(&request), ["XDR-122", "SOAP-24", "SOAP-11"]);
    assert_eq!(request.documents, []);
}

// rule: XDR-2, XDR-89
#[test]
fn namespaces_from_outside_go_with_the_metadata_and_files_may_hold_parts_of_a_request() {
    let rim = " xmlns:rim=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"";
    let text = changed(rim, "").replace(
        "<soap:Body>",
        &format!("<soap:Body{rim} xmlns:unused='urn:u'>"),
    );
    let (request, _) = read_simple(&text).unwrap();
    let kept = request.metadata.as_str();
    assert!(
        kept.starts_with(&format!("<lcm:SubmitObjectsRequest{rim}")),
        "{}",
        &kept[..200]
    );
    assert!(!kept.contains("unused"));
    roxmltree::Document::parse(kept).unwrap();

    let (alone, documents) = read_saved(kept.as_bytes()).unwrap();
    assert_eq!(
        (alone.packaging, alone.metadata.as_str()),
        (Packaging::BareSubmission, kept)
    );
    assert!(documents.documents.is_empty());
    let from = text.find("<xds:Prov").unwrap();
    let to = text.find("</soap:Body>").unwrap();
    let body = text[from..to].replacen(" xmlns:xds", &format!("{rim} xmlns:xds"), 1);
    let (body, documents) = read_saved(body.as_bytes()).unwrap();
    assert_eq!(
        (body.packaging, body.metadata),
        (Packaging::BareBody, request.metadata)
    );
    assert_eq!(documents.documents[0].1.len(), 89);
    assert_eq!(
        read_saved(EXAMPLE_1.as_bytes()).unwrap().0.packaging,
        Packaging::BareEnvelope
    );
    assert_eq!(fault(read_saved(b"%PDF-1.4")).rule, "SOAP-80");
}
