//! The codes of xdr.md section 5: each that this bridge emits, brought about by a request over TLS; and why it never
//! emits the others. A code that is new to the standard or to us has to be decided here.

use std::collections::BTreeSet;

use xdbridge::{
    app::config::Config,
    bridge::{partner::Partial, routing::RouteConfig},
    formats::{
        finding::{Finding, Severity},
        xdr::{
            ErrorCode,
            request::Packaging,
            response::{RegistryError, RegistryResponse, Status},
        },
    },
};

use crate::support::{
    bridge::{ASH, ELM, RUI, TestBridge, UNKNOWN, UNTRUSTED, entries, registry_response},
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    soap_answer::SoapAnswer,
};

/// What becomes of a code.
#[derive(Debug, PartialEq, Eq)]
enum Conduct {
    /// A request of the table below brings it about.
    Posted,
    /// As a Warning, where a destination loses what the metadata says (`packaging = "documents"`).
    Lossy,
    /// Only when something of our own fails, after a request was understood.
    Broken,
    /// It is read from partners and never emitted.
    Never(&'static str),
}

/// Every code, so that a further one must be thought of.
fn conduct(code: &ErrorCode) -> Conduct {
    use Conduct::{Broken, Lossy, Never, Posted};
    use ErrorCode as C;
    match code {
        C::XdsRepositoryMetadataError
        | C::XdsMissingDocument
        | C::XdsMissingDocumentMetadata
        | C::XdsRepositoryDuplicateUniqueIdInMessage
        | C::XdsPatientIdDoesNotMatch
        | C::UnknownRecipient
        | C::UnavailableRecipient
        | C::XdsRepositoryOutOfResources
        | C::XdsRepositoryError => Posted,
        C::XdsRepositoryBusy => Broken,
        C::PartialFolderContentNotProcessed
        | C::PartialAppendContentNotProcessed
        | C::PartialReplaceContentNotProcessed
        | C::PartialTransformNotProcessed
        | C::PartialTransformReplaceNotProcessed
        | C::PartialRelationshipContentNotProcessed
        | C::XdsExtraMetadataNotSaved => Lossy,
        C::XdsRegistryMetadataError
        | C::XdsRegistryError
        | C::XdsRegistryBusy
        | C::XdsRegistryOutOfResources
        | C::XdsRegistryNotAvailable => Never("a Document Recipient uses the Repository variant"),
        C::XdsDuplicateUniqueIdInRegistry
        | C::XdsNonIdenticalHash
        | C::XdsNonIdenticalSize
        | C::XdsRegistryDeprecatedDocumentError => {
            Never("it compares with documents that were registered before; no registry is kept")
        }
        C::XdsUnknownPatientId => Never("no patient is identified here"),
        C::UnresolvedReferenceException => {
            Never("MD-90 lets it be XDSRepositoryMetadataError, which names the reference too")
        }
        C::InvalidDocumentContent => Never("documents are carried and not looked into"),
        C::DocumentQueued => Never("nothing waits for a manual patient match (XDR-33)"),
        C::XdsReplaceFailed => Never("deprecated by the standard"),
        C::Other(_) => Never("codes of our own are not emitted (XDR-46)"),
    }
}

/// Every code that the table of xdr.md section 5 names.
fn codes_of_the_specification() -> BTreeSet<&'static str> {
    let spec = include_str!("../../docs/spec/xdr.md");
    let section = spec
        .split("\n## ")
        .find(|part| part.starts_with("5. "))
        .unwrap();
    let first_columns = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let is_code = |word: &&str| {
        let is_name = word.starts_with(|c: char| c.is_ascii_uppercase());
        word.len() > 10 && is_name && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    first_columns
        .flat_map(|column| column.split([' ', ',', '/', '=']))
        .filter(is_code)
        .collect()
}

/// A value without an address, to which no route leads, and one that a route leads to [`RUI`].
const UNROUTED: &str = "Harbor Hospital^^^^^^^^^2.999.40";
const ROUTED: &str = "Quay Hospital^^^^^^^^^2.999.41";

fn ground(change: impl FnOnce(&mut Config)) -> (TestBridge, ScriptedSmtp) {
    TestBridge::beside_a_hop(&["direct.harbor.example"], |config| {
        config.route = vec![RouteConfig {
            organisation: "2.999.41".to_owned(),
            authority: None,
            address: RUI.to_owned(),
        }];
        change(config);
    })
}

/// Without an addressBlock, for these values of intendedRecipient.
fn to_values(values: &[&str]) -> TestRequest {
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.intended_recipients = values.iter().map(ToString::to_string).collect();
    request
}

/// A request, and the entries that it is answered with: severity, code, location.
type Row = (&'static str, Posted, Vec<(Severity, &'static str, String)>);

fn table() -> Vec<Row> {
    use Severity::{Error, Warning};
    let good = || TestRequest::new(ELM, &[RUI]);
    let mut twice = good();
    twice.documents.push(("text/plain", b"other".to_vec()));
    let (one, other) = (
        format!("{}.1\"", twice.unique_id),
        format!("{}.2\"", twice.unique_id),
    );
    let mut empty = good();
    empty.documents.clear();
    let mut crowd = good();
    crowd.to = (0..6)
        .map(|n| format!("r{n}@direct.harbor.example"))
        .collect();
    let set = |attribute: &str| format!("SubmissionSet(Set01).{attribute}");
    let entry = |attribute: &str| format!("DocumentEntry(Document1).{attribute}");
    let any = String::new;
    let (unrouted, routed) = (UNROUTED, ROUTED);
    vec![
        (
            "a wrong time",
            good().mtom().with("20260302141500", "soon"),
            vec![(Error, "XDSRepositoryMetadataError", entry("creationTime"))],
        ),
        (
            "another level",
            good().simple().with(">XDS<", ">full<"),
            vec![(
                Error,
                "XDSRepositoryMetadataError",
                "direct:metadata-level".to_owned(),
            )],
        ),
        (
            "a symbolic id of nothing",
            good()
                .mtom()
                .with("targetObject=\"Document1\"", "targetObject=\"Document7\""),
            vec![(Error, "XDSRepositoryMetadataError", any())],
        ),
        (
            "no document for an entry, no entry for a document",
            good().simple().with(
                "<xds:Document id=\"Document1\"",
                "<xds:Document id=\"Document9\"",
            ),
            vec![
                (Error, "XDSMissingDocument", any()),
                (Error, "XDSMissingDocumentMetadata", any()),
            ],
        ),
        (
            "an Include of nothing",
            good().mtom().with("href=\"cid:", "href=\"cid:no-"),
            vec![
                (Error, "XDSMissingDocument", any()),
                (Error, "XDSMissingDocumentMetadata", any()),
            ],
        ),
        (
            "an Include of http",
            good().mtom().with("href=\"cid:", "href=\"http://"),
            vec![
                (
                    Error,
                    "XDSRepositoryError",
                    "Document(Document1)".to_owned(),
                ),
                // The part that nothing names now.
                (Error, "XDSMissingDocumentMetadata", any()),
            ],
        ),
        (
            "one uniqueId twice",
            twice.simple().with(&other, &one),
            vec![(Error, "XDSRepositoryDuplicateUniqueIdInMessage", any())],
        ),
        (
            "two patients",
            good().mtom().with("PT-7731", "PT-8842"),
            vec![(Error, "XDSPatientIdDoesNotMatch", any())],
        ),
        (
            "no document at all",
            empty.mtom(),
            vec![(Error, "XDSRepositoryError", any())],
        ),
        (
            "another's sender",
            TestRequest::new(ASH, &[RUI]).mtom(),
            vec![(Error, "XDSRepositoryError", any())],
        ),
        (
            "another's sourceId",
            good()
                .simple()
                .with("value=\"2.999.20\"", "value=\"2.999.21\""),
            vec![(Error, "XDSRepositoryError", set("sourceId"))],
        ),
        (
            "too many recipients",
            crowd.mtom(),
            vec![(Error, "XDSRepositoryOutOfResources", "direct:to".to_owned())],
        ),
        (
            "nobody to be found",
            TestRequest::new(ELM, &[UNKNOWN, UNTRUSTED]).mtom(),
            vec![
                (Error, "UnavailableRecipient", UNKNOWN.to_owned()),
                (Error, "UnavailableRecipient", UNTRUSTED.to_owned()),
            ],
        ),
        (
            "one of two to be found",
            TestRequest::new(ELM, &[UNKNOWN, RUI]).simple(),
            vec![(Warning, "UnavailableRecipient", UNKNOWN.to_owned())],
        ),
        (
            "no address",
            to_values(&[unrouted]).mtom(),
            vec![(Error, "UnknownRecipient", UNROUTED.to_owned())],
        ),
        (
            "no address beside one",
            to_values(&[unrouted, routed]).mtom(),
            vec![(Warning, "UnknownRecipient", UNROUTED.to_owned())],
        ),
    ]
}

// rule: XDR-21, XDR-24, XDR-25, XDR-26, XDR-32, XDR-42, XDR-43, XDR-44, XDR-60, XDR-65, XDR-66, XDR-142, MD-90, MD-92, SOAP-24, SOAP-91, SOAP-117, LIM-9
#[test]
fn every_code_that_is_emitted_is_brought_about_by_a_request() {
    let (bridge, server) = ground(|config| {
        config.limits.max_recipients = 5;
        config.partner[0].source_ids = vec!["2.999.20".to_owned()];
    });
    let mut emitted = BTreeSet::new();
    let mut accepted = 0;
    for (what, posted, expected) in table() {
        let http = bridge.post(&posted);
        assert_eq!(http.status, 200, "{what}");
        let envelope = SoapAnswer::of(&http).envelope;
        let response = registry_response(&http);
        let found: Vec<_> = response
            .errors
            .iter()
            .map(|entry| {
                (
                    entry.severity,
                    entry.code.as_str(),
                    entry.location.clone().unwrap_or_default(),
                )
            })
            .collect();
        for (severity, code, location) in &expected {
            let is_there = found.iter().any(|entry| {
                entry.0 == *severity
                    && entry.1 == *code
                    && (location.is_empty() || entry.2 == *location)
            });
            assert!(
                is_there,
                "{what}: {code} at {location:?} is not in {found:?}"
            );
        }
        let codes = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        let found_codes = codes(found.iter().map(|entry| entry.1).collect());
        assert_eq!(
            found_codes,
            codes(expected.iter().map(|entry| entry.1).collect()),
            "{what}"
        );
        emitted.extend(found_codes);

        let is_refused = expected.iter().any(|entry| entry.0 == Severity::Error);
        accepted += usize::from(!is_refused);
        assert_eq!(
            response.status,
            if is_refused {
                Status::Failure
            } else {
                Status::Success
            },
            "{what}"
        );
        let worst = if is_refused { "Error" } else { "Warning" };
        assert!(
            envelope.contains(&format!(
                "highestSeverity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:{worst}\""
            )),
            "{what}"
        );
        for entry in &response.errors {
            let length = entry.context.chars().count();
            assert!(
                (1..=256).contains(&length) && !entry.context.contains(['\r', '\n']),
                "{what}"
            );
            if matches!(
                entry.code,
                ErrorCode::UnknownRecipient | ErrorCode::UnavailableRecipient
            ) {
                let (token, sentence) = entry.context.split_once(": ").unwrap();
                assert!(
                    token.chars().all(char::is_alphanumeric) && sentence.len() > 10,
                    "{what}"
                );
            }
        }
    }
    bridge.wait_until_sent();
    assert_eq!(
        bridge.exchanges().len(),
        accepted,
        "what is refused leaves nothing"
    );
    assert_eq!(crate::support::mailbox::received(&server).len(), accepted);

    emitted.extend(codes_of_a_broken_store(&bridge));
    assert_eq!(bridge.exchanges().len(), accepted + 2);

    for code in codes_of_the_specification() {
        let parsed: ErrorCode = code.parse().unwrap();
        let is_posted = matches!(conduct(&parsed), Conduct::Posted | Conduct::Broken);
        assert_eq!(
            emitted.contains(code),
            is_posted,
            "{code}: {:?}",
            conduct(&parsed)
        );
    }
}

/// The codes that good requests are answered with while nothing can be recorded. Mended, the bridge takes them.
fn codes_of_a_broken_store(bridge: &TestBridge) -> BTreeSet<String> {
    let before = bridge.exchanges().len();
    let mut codes = BTreeSet::new();
    for packaging in [Packaging::Mtom, Packaging::SimpleSoap] {
        let request = TestRequest::new(ELM, &[RUI]);
        let posted = match packaging {
            Packaging::Mtom => request.mtom(),
            _ => request.simple(),
        };
        bridge.break_store();
        let http = bridge.post(&posted);
        let response = registry_response(&http);
        assert_eq!(response.status, Status::Failure);
        assert!(response.is_transient(), "the sender may come again");
        let [entry] = response.errors.as_slice() else {
            panic!("{} entries", response.errors.len());
        };
        assert_eq!((entry.severity, &entry.location), (Severity::Error, &None));
        codes.insert(entry.code.to_string());
        let answer = SoapAnswer::of(&http);
        assert_eq!(answer.packaging, Some(packaging));
        assert_eq!(answer.addressing("RelatesTo"), request.message_id.as_str());
        bridge.mend_store();
        assert_eq!(bridge.submit(&posted).status, Status::Success);
    }
    assert_eq!(bridge.exchanges().len(), before + 2, "each was taken once");
    codes
}

// rule: XDR-46
#[test]
fn every_code_of_the_specification_is_known_and_decided() {
    let codes = codes_of_the_specification();
    assert!(codes.len() > 30, "{codes:?}");
    for code in codes {
        let parsed: ErrorCode = code.parse().unwrap();
        assert!(!matches!(parsed, ErrorCode::Other(_)), "{code}");
        if let Conduct::Never(reason) = conduct(&parsed) {
            assert!(reason.len() > 10, "{code}");
        }
    }
}

// rule: XDR-27, XDR-28, XDR-29, XDR-142
#[test]
fn what_a_destination_loses_is_told_by_a_warning_of_its_own_code() {
    for code in codes_of_the_specification() {
        let code: ErrorCode = code.parse().unwrap();
        let finding =
            Finding::warning("XDR-28", "Association(a)", "it is lost").with_code(code.clone());
        let response = RegistryResponse::from_findings(&[finding]);
        assert_eq!(response.status, Status::Success);
        if conduct(&code) == Conduct::Lossy {
            let expected = (
                Severity::Warning,
                code.to_string(),
                "Association(a)".to_owned(),
            );
            let found = entries(&response);
            assert_eq!(
                (found[0].0, found[0].1.clone(), found[0].3.clone()),
                expected
            );
        }
    }
}

// rule: XDR-32, XDR-34, XDR-44
#[test]
fn texts_of_an_answer_are_bounded_and_on_one_line_whatever_was_received() {
    let long = "x\r\n\0".repeat(500);
    let finding = Finding::error(
        "XDR-21",
        ErrorCode::XdsRepositoryMetadataError,
        "a\r\nb",
        "wrong",
    )
    .with_value(&long);
    let refused = Finding::error(
        "XDR-60",
        ErrorCode::UnknownRecipient,
        "",
        "unknownRecipient: no",
    )
    .with_value(&long);
    let recipient = RegistryError {
        code: ErrorCode::UnknownRecipient,
        severity: Severity::Warning,
        context: "badAddress: no".to_owned(),
        location: Some(long),
    };
    let mut errors = RegistryResponse::from_findings(&[finding, refused]).errors;
    errors.extend(RegistryResponse::from_errors(vec![recipient]).errors);
    assert_eq!(errors.len(), 3);
    for entry in errors {
        for text in [entry.context, entry.location.unwrap()] {
            assert!(
                text.chars().count() <= 256 && !text.contains(char::is_control),
                "{text:?}"
            );
        }
    }
}

// rule: XDR-34
#[test]
fn a_sender_learns_that_there_were_more_errors_than_an_answer_tells() {
    let (bridge, _server) = ground(|_| {});
    let values: Vec<String> = (0..80).map(|number| format!("||^^Fax^{number}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let response = bridge.submit(&to_values(&values).mtom());
    assert_eq!(response.status, Status::Failure);
    let of_recipients = |entry: &&RegistryError| entry.code == ErrorCode::UnknownRecipient;
    let others = response.errors.len() - response.errors.iter().filter(of_recipients).count();
    assert_eq!(others, 51);
    let more = |entry: &RegistryError| entry.context.contains("30 more errors ");
    assert!(response.errors.iter().any(more));
}

// rule: XDR-32, XDR-30
#[test]
fn an_atomic_partner_is_refused_for_a_value_that_no_route_leads_to() {
    let (bridge, server) = ground(|config| config.partner[0].partial = Partial::Atomic);
    let response = bridge.submit(&to_values(&[UNROUTED, ROUTED]).mtom());
    assert_eq!(response.status, Status::Failure);
    let expected = (
        Severity::Error,
        "UnknownRecipient".to_owned(),
        "unknownRecipient".to_owned(),
        UNROUTED.to_owned(),
    );
    assert_eq!(entries(&response), [expected]);
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}
