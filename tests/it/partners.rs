//! Who may submit, and what: whatever is refused is refused in the words that the standard has for it, is audited
//! where it concerns security, and leaves nothing behind.

use xdbridge::{
    bridge::partner::{ClientCertificateConfig, Saml},
    formats::{
        audit::{AuditKind, AuditOutcome},
        finding::Severity::Error,
        ids::CertificateFingerprint,
        soap::{MetadataLevel, fault::FaultCode},
        xdr::response::Status,
    },
};

use crate::support::{
    bridge::{
        ASH, ELM, RUI, TestBridge, assert_plain_success, entries, fault, pki, registry_response,
        runtime,
    },
    request::TestRequest,
    scripted_smtp::ScriptedSmtp,
};

/// A bridge whose next hop must not be asked for anything, and that next hop.
fn ground() -> (TestBridge, ScriptedSmtp) {
    let runtime = runtime();
    let server = runtime.block_on(ScriptedSmtp::builder().start());
    let bridge = TestBridge::start(runtime, &[("direct.harbor.example", server.address())]);
    (bridge, server)
}

fn assert_no_trace(bridge: &TestBridge, server: &ScriptedSmtp) {
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}

/// A document that goes to a file of the body store, should it be kept.
fn large() -> Vec<(&'static str, Vec<u8>)> {
    vec![("application/pdf", vec![b'x'; 200_000])]
}

// rule: XDR-66
#[test]
fn a_partner_that_submits_with_another_partners_sender_is_refused_and_reported() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ASH, &[RUI]);
    for documents in [request.documents.clone(), large()] {
        request.documents = documents;
        let response = bridge.submit(&request.mtom());
        assert_eq!(response.status, Status::Failure);
        let expected = (
            Error,
            "XDSRepositoryError".into(),
            "senderUnauthorised".into(),
            String::new(),
        );
        assert_eq!(entries(&response), [expected]);
    }
    let alerts = bridge.audit_of(AuditKind::SecurityAlert);
    assert_eq!(alerts.len(), 2);
    for alert in alerts {
        assert_eq!(alert.outcome, AuditOutcome::Serious);
        assert_eq!(alert.details["partner"], "elm");
        assert_eq!(alert.details["source"], ASH);
        assert_eq!(alert.details["reason"], "senderUnauthorised");
        let own = CertificateFingerprint::of_der(&pki().elm.certificate.to_der().unwrap());
        assert_eq!(alert.details["certificate"], own.to_string());
    }
    assert_no_trace(&bridge, &server);

    // The very same request is good enough from the partner whose sender it is.
    let answer = bridge.post_as(Some(&pki().ash), &request.mtom()).unwrap();
    assert_plain_success(&registry_response(&answer));
    assert_eq!(bridge.exchanges().len(), 1);
}

// rule: XDR-66, XDR-65
#[test]
fn a_sender_in_the_metadata_is_held_to_the_same_rule() {
    let (bridge, server) = ground();
    // Without an addressBlock the author of the set is the sender: elm's, posted by ash.
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.intended_recipients = vec![format!("||^^Internet^{RUI}")];
    let answer = bridge.post_as(Some(&pki().ash), &request.mtom()).unwrap();
    let response = registry_response(&answer);
    assert_eq!(entries(&response)[0].2, "senderUnauthorised");
    assert_eq!(bridge.audit_of(AuditKind::SecurityAlert).len(), 1);
    assert_no_trace(&bridge, &server);
}

// rule: XDR-66, SOAP-95
#[test]
fn a_certificate_of_the_ca_that_belongs_to_no_partner_gets_403_and_a_record() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[RUI]);
    request.documents = large();
    let answer = bridge
        .post_as(Some(&pki().stranger), &request.mtom())
        .unwrap();
    assert_eq!(answer.status, 403);
    let alerts = bridge.audit_of(AuditKind::SecurityAlert);
    assert_eq!(alerts.len(), 1);
    let stranger = CertificateFingerprint::of_der(&pki().stranger.certificate.to_der().unwrap());
    assert_eq!(alerts[0].details["certificate"], stranger.to_string());
    assert_no_trace(&bridge, &server);
}

// rule: NHIN-11
#[test]
fn without_a_certificate_there_is_no_connection() {
    let (bridge, server) = ground();
    let request = TestRequest::new(ELM, &[RUI]);
    bridge.post_as(None, &request.mtom()).unwrap_err();
    assert_no_trace(&bridge, &server);
}

const SECURITY: &str = "<soap:Header><wsse:Security soap:mustUnderstand=\"true\" \
    xmlns:wsse=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\"/>";

// rule: SOAP-148, SOAP-46, SOAP-82
#[test]
fn a_security_header_that_must_be_understood_is_a_fault_unless_the_partner_says_otherwise() {
    let runtime = runtime();
    let server = runtime.block_on(ScriptedSmtp::builder().start());
    let next_hops = [("direct.harbor.example", server.address())];
    let clock = std::sync::Arc::new(xdbridge::adapters::clock::SystemClock);
    let bridge = TestBridge::start_with(runtime, &next_hops, clock, |config| {
        config.partner[1].saml = Saml::Ignored;
    });
    let request = TestRequest::new(ELM, &[RUI]).simple();
    let request = request.with("<soap:Header>", SECURITY);
    let answer = bridge.post(&request);
    assert_eq!(answer.status, 500);
    assert_eq!(fault(&answer).code, Some(FaultCode::MustUnderstand));
    assert_no_trace(&bridge, &server);

    let request = TestRequest::new(ASH, &[RUI]).simple();
    let request = request.with("<soap:Header>", SECURITY);
    let answer = bridge.post_as(Some(&pki().ash), &request).unwrap();
    assert_plain_success(&registry_response(&answer));
    assert_eq!(bridge.exchanges().len(), 1);
}

// rule: SOAP-40, SOAP-80
#[test]
fn an_envelope_with_a_header_or_body_of_another_namespace_is_a_fault() {
    let (bridge, server) = ground();
    let header = include_bytes!("../../fixtures/xdr/bad-soap-header.xml");
    let body = include_bytes!("../../fixtures/xdr/bad-soap-body.xml");
    for envelope in [header.as_slice(), body] {
        let posted = crate::support::request::Posted {
            content_type: "application/soap+xml; charset=UTF-8".to_owned(),
            body: envelope.to_vec(),
        };
        let answer = bridge.post(&posted);
        assert_eq!(answer.status, 400);
        assert_eq!(fault(&answer).code, Some(FaultCode::Sender));
    }
    assert_no_trace(&bridge, &server);
}

// rule: XDR-21, XDR-22, XDR-34, SOAP-92
#[test]
fn wrong_metadata_is_a_failure_that_names_every_violated_rule() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[RUI]);
    request.documents.extend(large());
    request.documents.extend(large());
    let hash = xdbridge::formats::document::hex(&openssl::sha::sha1(&request.documents[0].1));
    let posted = request.simple();
    let posted = posted.with(&hash, &"0".repeat(40));
    let posted = posted.with("<rim:Value>200000<", "<rim:Value>199999<");
    let response = bridge.submit(&posted);
    assert_eq!(response.status, Status::Failure);
    let codes: Vec<_> = entries(&response)
        .into_iter()
        .map(|(severity, code, _, _)| (severity, code))
        .collect();
    let metadata_error = (Error, "XDSRepositoryMetadataError".to_owned());
    assert_eq!(codes, [metadata_error.clone(), metadata_error]);

    // A document that the metadata does not know of, and an entry without its document.
    let posted = TestRequest::new(ELM, &[RUI]).simple();
    let posted = posted.with(
        "<xds:Document id=\"Document1\"",
        "<xds:Document id=\"Document9\"",
    );
    let response = bridge.submit(&posted);
    let mut codes: Vec<_> = entries(&response)
        .into_iter()
        .map(|entry| entry.1)
        .collect();
    codes.sort();
    assert_eq!(codes, ["XDSMissingDocument", "XDSMissingDocumentMetadata"]);
    assert_no_trace(&bridge, &server);
    assert_eq!(bridge.audit_of(AuditKind::Iti41Import).len(), 2);
}

// rule: XDR-60, XDR-65
#[test]
fn a_submission_without_sender_or_recipient_is_refused_in_words_that_say_so() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.level = MetadataLevel::Xds;
    request.intended_recipients = Vec::new();
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Failure);
    let error = &response.errors[0];
    assert_eq!(error.code.to_string(), "XDSRepositoryMetadataError");
    assert!(error.context.contains("no recipient"), "{}", error.context);

    request.intended_recipients = vec![format!("||^^Internet^{RUI}")];
    let posted = request.simple();
    let telecom = "<rim:Slot name=\"authorTelecommunication\"><rim:ValueList><rim:Value>\
        ^^Internet^ngozi.okafor@direct.elm.example</rim:Value></rim:ValueList></rim:Slot>";
    let response = bridge.submit(&posted.with(telecom, ""));
    assert_eq!(response.status, Status::Failure);
    let error = &response.errors[0];
    assert_eq!(error.code.to_string(), "XDSRepositoryMetadataError");
    assert!(error.context.contains("no sender"), "{}", error.context);
    assert_no_trace(&bridge, &server);
}

// rule: XDR-26
#[test]
fn a_partner_bound_to_its_source_ids_may_not_use_another() {
    let runtime = runtime();
    let server = runtime.block_on(ScriptedSmtp::builder().start());
    let next_hops = [("direct.harbor.example", server.address())];
    let clock = std::sync::Arc::new(xdbridge::adapters::clock::SystemClock);
    let bridge = TestBridge::start_with(runtime, &next_hops, clock, |config| {
        config.partner[0].source_ids = vec!["2.999.21".to_owned()];
        config.partner[1].source_ids = vec!["2.999.20".to_owned()];
    });
    let response = bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom());
    assert_eq!(response.status, Status::Failure);
    assert_eq!(entries(&response)[0].1, "XDSRepositoryError");
    assert_no_trace(&bridge, &server);
    let posted = TestRequest::new(ASH, &[RUI]).mtom();
    let answer = bridge.post_as(Some(&pki().ash), &posted).unwrap();
    assert_plain_success(&registry_response(&answer));
}

// rule: XDR-66
#[test]
fn a_partner_named_by_ca_and_name_is_that_partner_and_no_other_certificate_of_the_ca_is() {
    let runtime = runtime();
    let server = runtime.block_on(ScriptedSmtp::builder().start());
    let next_hops = [("direct.harbor.example", server.address())];
    let clock = std::sync::Arc::new(xdbridge::adapters::clock::SystemClock);
    let bridge = TestBridge::start_with(runtime, &next_hops, clock, |config| {
        let ca = CertificateFingerprint::of_der(&pki().authority.certificate.to_der().unwrap());
        config.partner[0].certificates = vec![ClientCertificateConfig {
            issuer_sha256: Some(ca.to_string()),
            san: Some("ehr.stranger.example".to_owned()),
            ..ClientCertificateConfig::default()
        }];
    });
    let posted = TestRequest::new(ELM, &[RUI]).mtom();
    let answer = bridge.post(&posted);
    assert_eq!(
        answer.status, 403,
        "elm's own certificate is not named any more"
    );
    assert_no_trace(&bridge, &server);
    let answer = bridge.post_as(Some(&pki().stranger), &posted).unwrap();
    assert_plain_success(&registry_response(&answer));
}
