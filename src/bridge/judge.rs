//! Whether a submission is taken, as far as the message itself tells: its documents are tied to its metadata, the
//! metadata is judged by its level, and sender and recipients are named. The listener and `inspect` both ask here, so
//! that they never differ.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{
    destination::Destinations,
    partner::{Partner, PatientIdMismatch, Saml},
    routing::{self, Recipients, Routes},
    to_direct::{self, DocumentSize, estimate_wire_bytes},
};
use crate::formats::{
    document::DocumentFacts,
    finding::{Finding, Findings, MAX_FINDINGS, refuses},
    ids::DirectAddress,
    limits::Limits,
    metadata::{
        Level, Metadata, MetadataError, SubmissionSet,
        hl7::IntendedRecipient,
        validate::{self, BoundDocument, Container},
    },
    soap::MetadataLevel,
    xdm::XdmSet,
    xdr::{
        ErrorCode,
        request::{ReadOptions, ReceivedRequest},
    },
};

/// What a submission is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Whose submission it is: its policies.
    pub partner: &'a Partner,
    /// Limits on what comes from outside.
    pub limits: &'a Limits,
    /// Where values go that are no address.
    pub routes: &'a Routes,
    /// How each destination gets its documents: what the mails would weigh, and what they lose.
    pub destinations: &'a Destinations,
    /// A level to judge by instead of the one that the message claims; for the command line.
    pub level: Option<Level>,
    /// A sender instead of the one that the message names; for the command line.
    pub from: Option<&'a DirectAddress>,
    /// Recipients instead of those that the message names, unless empty; for the command line.
    pub to: &'a [DirectAddress],
    /// The present; `None` where times are not held against the clock (MD-62).
    pub now: Option<Timestamp>,
}

/// A submission and what was found.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The metadata.
    pub metadata: Metadata,
    /// By which level it was judged.
    pub level: Level,
    /// Each `xds:Document` with what is known of its octets.
    pub documents: Vec<BoundDocument>,
    /// The sender, where one is named.
    pub from: Option<DirectAddress>,
    /// Whom it goes to, where anybody is named.
    pub recipients: Option<Recipients>,
    /// Every violated rule, of envelope, metadata, sender and recipients.
    pub findings: Vec<Finding>,
}

/// How the requests of `partner` are read.
pub fn read_options(partner: &Partner) -> ReadOptions {
    ReadOptions {
        require_mtom: partner.require_mtom,
        saml_ignored: partner.saml == Saml::Ignored,
        shared_parts: partner.shared_parts,
        strict_address_block: partner.strict_address_block,
        validate_schema: partner.validate_schema,
    }
}

/// Judges a request; `facts` are those of the documents that came with it. `container` is what its metadata came in:
/// metadata alone may be that of a package.
pub fn judge(
    request: &ReceivedRequest,
    facts: &[DocumentFacts],
    container: Container,
    terms: &Terms<'_>,
) -> Result<Judgement, MetadataError> {
    let metadata = Metadata::read(request.metadata.clone(), terms.limits)?;
    let claimed = || match container {
        Container::Xdr => metadata.level(request.metadata_level == Some(MetadataLevel::Minimal)),
        Container::Xdm => level_from_xdm(&metadata, terms.limits),
    };
    let shared = context(terms.level.unwrap_or_else(claimed), container, terms);
    let level = shared.effective_level();
    let documents = bind(request, facts);
    let mut findings = Findings::up_to(MAX_FINDINGS);
    findings.extend(request.findings.iter().cloned());
    let context = validate::Context {
        documents: request.packaging.has_documents().then_some(&*documents),
        unusable_documents: &request.unusable_documents,
        has_recipient: shared.has_recipient || request.address_block.is_some(),
        ..shared
    };
    validate::collect(&metadata, &context, &mut findings);
    findings.extend(source_id(&metadata, terms.partner));
    if terms.partner.validate_schema {
        findings.extend(schema_violations(&request.findings));
        findings.extend(metadata.schema_violations(MAX_FINDINGS)?);
    }
    let mut judgement = Judgement {
        metadata,
        level,
        documents,
        from: None,
        recipients: None,
        findings: Vec::new(),
    };
    let mut further = judgement.address(request, terms);
    // The mail of a package names its sender and recipients.
    if container == Container::Xdr {
        findings.extend(judgement.disagreement(request, terms));
        further.retain(|finding| !is_told_already(finding, findings.told()));
        findings.extend(further);
    }
    findings.extend(stray_notification(request));
    findings.extend(judgement.too_large(terms));
    // What is refused loses nothing on its way.
    if !findings.refuses() {
        findings.extend(judgement.losses(terms));
    }
    judgement.findings = findings.finish();
    Ok(judgement)
}

/// Judges one submission set of a package; who sends it and to whom, its mail says.
pub fn judge_set(set: &XdmSet, terms: &Terms<'_>) -> Judgement {
    let level = terms
        .level
        .unwrap_or_else(|| level_from_xdm(&set.metadata, terms.limits));
    let documents: Vec<BoundDocument> = set
        .documents
        .iter()
        .map(|document| BoundDocument {
            document_id: document.entry_id.clone(),
            facts: document.facts.clone(),
        })
        .collect();
    let mut findings = Findings::up_to(MAX_FINDINGS);
    findings.extend(set.findings.iter().cloned());
    let context = validate::Context {
        // What is wrong with the files was found when they were read.
        documents: (!set.is_refused()).then_some(&*documents),
        ..context(level, Container::Xdm, terms)
    };
    validate::collect(&set.metadata, &context, &mut findings);
    if terms.partner.validate_schema {
        // Its metadata was read before: what is no tree is no set.
        let violations = set.metadata.schema_violations(MAX_FINDINGS);
        findings.extend(violations.unwrap_or_default());
    }
    let (from, recipients, _) = match set.metadata.submission_set() {
        Some(found) => addresses(found, terms.from, terms.to, terms),
        None => (None, None, Vec::new()),
    };
    let mut judgement = Judgement {
        metadata: set.metadata.clone(),
        level,
        documents,
        from,
        recipients,
        findings: Vec::new(),
    };
    if !findings.refuses() {
        findings.extend(judgement.losses(terms));
    }
    judgement.findings = findings.finish();
    judgement
}

fn context<'a>(level: Level, container: Container, terms: &Terms<'_>) -> validate::Context<'a> {
    validate::Context {
        level,
        profile: terms.partner.profile,
        documents: None,
        unusable_documents: &[],
        patient_id_mismatch_is_warning: terms.partner.patient_id_mismatch
            == PatientIdMismatch::Warn,
        max_document_entries: terms.limits.max_document_entries,
        // A package is addressed by its mail.
        has_recipient: container == Container::Xdm || !terms.to.is_empty(),
        container,
        now: terms.now,
        max_findings: MAX_FINDINGS,
    }
}

impl Judgement {
    /// Finds sender and recipients; what is wrong with them is the answer.
    fn address(&mut self, request: &ReceivedRequest, terms: &Terms<'_>) -> Vec<Finding> {
        let Some(set) = self.metadata.submission_set() else {
            return Vec::new();
        };
        let block = request.address_block.as_ref();
        let from = terms.from.or(block.map(|block| &block.from));
        let to = match (terms.to, block) {
            ([], Some(block)) => &block.to,
            (given, _) => given,
        };
        let (from, recipients, findings) = addresses(set, from, to, terms);
        self.from = from;
        self.recipients = recipients;
        findings
    }

    /// The addressBlock routes; metadata that names somebody else is content, and kept as it is (SOAP-120).
    fn disagreement(&self, request: &ReceivedRequest, terms: &Terms<'_>) -> Vec<Finding> {
        let (Some(block), Some(set)) = (&request.address_block, self.metadata.submission_set())
        else {
            return Vec::new();
        };
        let warning = |attribute: &str, text: &str| {
            Finding::warning(
                "SOAP-120",
                format!("SubmissionSet({}).{attribute}", set.id),
                text,
            )
        };
        let mut findings = Vec::new();
        if routing::sender(None, set).is_ok_and(|author| author != block.from) {
            findings.push(warning(
                "author",
                "the first author with an address is not direct:from, which is the sender; they should be the same",
            ));
        }
        let max_recipients = terms.limits.max_recipients;
        let is_other = match routing::recipients(&[], set, terms.routes, max_recipients) {
            Ok(named) => {
                let (named, to): (HashSet<_>, HashSet<_>) =
                    (named.addresses.iter().collect(), block.to.iter().collect());
                named != to
            }
            // More than there may be are others than those of the block.
            Err(errors) => errors.iter().any(|error| error.rule == "LIM-9"),
        };
        if is_other {
            findings.push(warning(
                "intendedRecipient",
                "the addresses are not those of direct:to, who are the recipients; they should be the same",
            ));
        }
        findings
    }

    fn addresses(&self) -> &[DirectAddress] {
        match &self.recipients {
            Some(recipients) => &recipients.addresses,
            None => &[],
        }
    }

    /// What does not reach some of the recipients (XDR-27 to XDR-29).
    fn losses(&self, terms: &Terms<'_>) -> Vec<Finding> {
        let packagings = terms.destinations.packagings_of(self.addresses());
        if packagings.iter().all(|packaging| packaging.has_metadata()) {
            return Vec::new();
        }
        to_direct::losses(&self.metadata, MAX_FINDINGS)
    }

    /// What would not fit into one mail (LIM-14).
    fn too_large(&self, terms: &Terms<'_>) -> Option<Finding> {
        let documents: Vec<DocumentSize> = self
            .documents
            .iter()
            .map(|document| DocumentSize::from(&document.facts))
            .collect();
        let recipients = self.addresses();
        let metadata_bytes = self.metadata.xml().as_str().len() as u64;
        // One submission, one answer: the largest of the mails decides.
        let wire_bytes = terms
            .destinations
            .packagings_of(recipients)
            .into_iter()
            .map(|packaging| {
                estimate_wire_bytes(packaging, metadata_bytes, &documents, recipients.len())
            })
            .max()?;
        let max_bytes = terms.limits.max_sealed_bytes;
        (wire_bytes > max_bytes).then(|| {
            Finding::error(
                "LIM-14",
                ErrorCode::XdsRepositoryOutOfResources,
                "Submission.Document",
                format!(
                    "the mail would have some {wire_bytes} octets; at most {max_bytes} are accepted"
                ),
            )
        })
    }
}

/// Whether a finding about sender or recipients says in other words what a rule of metadata has refused: each defect is
/// told once.
fn is_told_already(finding: &Finding, told: &[Finding]) -> bool {
    let is_refused = |rule, attribute| {
        let mut errors = told.iter().filter(|told| told.is_error());
        errors.any(|told| {
            told.rule == rule
                && told.location.starts_with("SubmissionSet(")
                && told.location.ends_with(attribute)
        })
    };
    match (finding.rule, &finding.value) {
        ("XDR-60", None) => is_refused("MD-23", ".intendedRecipient"),
        ("XDR-60", Some(value)) => {
            let is_malformed = || IntendedRecipient::read(value.expose()).check().is_err();
            is_refused("XDR-61", ".intendedRecipient") && is_malformed()
        }
        ("XDR-65" | "ADR-7", _) => is_refused("MD-45", ".author.authorTelecommunication"),
        _ => false,
    }
}

type Addressed = (Option<DirectAddress>, Option<Recipients>, Vec<Finding>);

fn addresses(
    set: &SubmissionSet,
    from: Option<&DirectAddress>,
    to: &[DirectAddress],
    terms: &Terms<'_>,
) -> Addressed {
    let mut findings = Vec::new();
    let sender = routing::sender(from, set)
        .map_err(|finding| findings.push(finding))
        .ok();
    let recipients = routing::recipients(to, set, terms.routes, terms.limits.max_recipients)
        .map_err(|errors| findings.extend(errors))
        .ok();
    if let Some(recipients) = &recipients {
        findings.extend(recipients.findings.clone());
    }
    (sender, recipients, findings)
}

/// A delivery notification is about an earlier message of ours and never goes out as mail (XDR-125). Nothing is sent to
/// XDR endpoints yet, so there is none that it could be about.
fn stray_notification(request: &ReceivedRequest) -> Option<Finding> {
    // A disposition as XML is known for what it is though nothing says what it is about.
    let is_disposition =
        || request.documents.len() == 1 && request.findings.iter().any(|f| f.rule == "XDR-122");
    (request.notification_relates_to.is_some() || is_disposition()).then(|| {
        Finding::error(
            "XDR-125",
            ErrorCode::XdsRepositoryError,
            "",
            "relatesTo unknown: a delivery notification must be about a message that was delivered to the same partner",
        )
    })
}

/// The level of metadata from a package, which has no header to claim one: limited where it is labelled, full where it
/// has everything that this takes, else minimal (XDR-104).
pub fn level_from_xdm(metadata: &Metadata, limits: &Limits) -> Level {
    let claimed = metadata.level(false);
    let context = validate::Context {
        max_document_entries: limits.max_document_entries,
        ..validate::Context::at(claimed)
    };
    if claimed == Level::Full && refuses(&validate::validate(metadata, &context)) {
        Level::Minimal
    } else {
        claimed
    }
}

/// Each xds:Document with what is known of its octets.
fn bind(request: &ReceivedRequest, facts: &[DocumentFacts]) -> Vec<BoundDocument> {
    request
        .documents
        .iter()
        .filter_map(|part| {
            let facts = facts.iter().find(|facts| facts.key == part.key)?;
            Some(BoundDocument {
                document_id: part.document_id.clone(),
                facts: facts.clone(),
            })
        })
        .collect()
}

/// What the reader tolerated around the metadata and in a document, though the schemas do not allow it (MD-99).
fn schema_violations(tolerated: &[Finding]) -> Vec<Finding> {
    let is_of_schema = |finding: &&Finding| matches!(finding.rule, "XDR-2" | "XDR-122");
    let tolerated = tolerated.iter().filter(is_of_schema);
    tolerated
        .filter(|finding| !finding.is_error())
        .map(|finding| {
            let code = ErrorCode::XdsRepositoryMetadataError;
            Finding::error("MD-99", code, &finding.location, &finding.text)
        })
        .collect()
}

/// A partner may be bound to the sourceIds of its own systems (XDR-26).
fn source_id(metadata: &Metadata, partner: &Partner) -> Option<Finding> {
    let set = metadata.submission_set()?;
    let source_id = set.source_id.as_deref()?;
    (!partner.may_use_source_id(source_id)).then(|| {
        Finding::error(
            "XDR-26",
            ErrorCode::XdsRepositoryError,
            format!("SubmissionSet({}).sourceId", set.id),
            "this client may not submit under this sourceId; the bridge's operator lists those that it may use",
        )
        .with_value(source_id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{document::FactsSink, xdr::request::read_file, xml::kept::KeptXml};

    const FULL: &str = include_str!("../../docs/spec/examples/01-request-full-inline.xml");
    const MINIMAL: &str =
        include_str!("../../docs/spec/examples/02-request-direct-minimal-mtom.http");
    const NOTIFICATION: &str =
        include_str!("../../docs/spec/examples/03-request-delivery-notification.xml");
    const PACKAGED: &str = include_str!("../../docs/spec/examples/IHE_XDM/SUBSET01/METADATA.XML");

    fn judged_by(text: &str, terms: &Terms<'_>) -> Judgement {
        let mut facts = FactsSink::default();
        let options = read_options(terms.partner);
        let mut file = text.as_bytes();
        let request = read_file(&mut file, terms.limits, &options, &mut facts).unwrap();
        judge(&request, &facts.into_facts(), Container::Xdr, terms).unwrap()
    }

    fn judged(text: &str, limits: &Limits, from: Option<&DirectAddress>) -> Judgement {
        let terms = Terms {
            partner: &Partner::default(),
            limits,
            routes: &Routes::default(),
            destinations: &Destinations::default(),
            level: None,
            from,
            to: &[],
            now: None,
        };
        judged_by(text, &terms)
    }

    fn errors(judgement: &Judgement) -> Vec<&str> {
        let findings = judgement.findings.iter();
        findings.filter(|f| f.is_error()).map(|f| f.rule).collect()
    }

    // rule: MD-22
    #[test]
    fn a_partner_whose_submissions_count_as_minimal_has_them_treated_so_in_every_respect() {
        let limits = Limits::default();
        let partner = Partner {
            profile: validate::Profile::Minimal,
            ..Partner::default()
        };
        let terms = Terms {
            partner: &partner,
            limits: &limits,
            routes: &Routes::default(),
            destinations: &Destinations::default(),
            level: None,
            from: None,
            to: &[],
            now: None,
        };
        assert_eq!(judged_by(FULL, &terms).level, Level::Minimal);
        assert_eq!(judged(FULL, &limits, None).level, Level::Full);
    }

    // rule: XDR-60, XDR-65
    #[test]
    fn sender_and_recipients_come_from_the_block_and_can_be_replaced() {
        let limits = Limits::default();
        let found = judged(MINIMAL, &limits, None);
        assert_eq!(errors(&found), [""; 0]);
        assert_eq!(found.recipients.unwrap().addresses.len(), 2);
        let other: DirectAddress = "ada.quill@direct.elm.example".parse().unwrap();
        assert_eq!(judged(MINIMAL, &limits, Some(&other)).from, Some(other));
    }

    // rule: XDR-34, XDR-60, XDR-65
    #[test]
    fn a_missing_sender_and_missing_recipients_are_told_together() {
        let cut = |text: &str, from: &str, to: &str| {
            let start = text.find(from).unwrap();
            let end = start + text[start..].find(to).unwrap() + to.len();
            format!("{}{}", &text[..start], &text[end..])
        };
        let text = cut(FULL, "<direct:addressBlock", "</direct:addressBlock>");
        let text = text
            .replace("authorTelecommunication", "authorRole")
            .replace("^^Internet^ngozi.okafor@direct.elm.example.org", "Nurse")
            .replace("\"intendedRecipient\"", "\"urn:example:nobody\"");
        let found = judged(&text, &Limits::default(), None);
        assert_eq!(errors(&found), ["XDR-65", "XDR-60"]);
        assert!(found.from.is_none() && found.recipients.is_none());
    }

    /// The full example without its addressBlock.
    fn without_block() -> String {
        let (start, end) = ("<direct:addressBlock", "</direct:addressBlock>");
        let from = FULL.find(start).unwrap();
        let to = FULL.find(end).unwrap() + end.len();
        format!("{}{}", &FULL[..from], &FULL[to..])
    }

    // rule: XDR-34, XDR-60, XDR-65, ADR-7, LIM-14
    #[test]
    fn what_is_wrong_with_metadata_sender_recipients_and_size_is_told_at_once() {
        let text = without_block()
            .replace("\"creationTime\"", "\"urn:example:time\"")
            .replace("authorTelecommunication", "authorRole")
            .replace("^^Internet^ngozi.okafor@direct.elm.example.org", "Nurse")
            .replace(
                "^^Internet^rui.silva@direct.harbor.example.org",
                "^^Internet^rui",
            );
        let limits = Limits {
            max_sealed_bytes: 10_000,
            ..Limits::default()
        };
        let found = judged(&text, &limits, None);
        assert_eq!(errors(&found), ["MD-94", "XDR-65", "XDR-60"]);
        let text = FULL.replace("\"creationTime\"", "\"urn:example:time\"");
        assert_eq!(errors(&judged(&text, &limits, None)), ["MD-94", "LIM-14"]);
    }

    // rule: XDR-34
    #[test]
    fn what_a_rule_of_metadata_refuses_is_not_told_of_sender_and_recipients_again() {
        let limits = Limits::default();
        let text = without_block()
            .replace("^^Internet^ngozi.okafor@direct.elm.example.org", "ngozi")
            .replace("^^Internet^rui.silva@direct.harbor.example.org", "rui");
        assert_eq!(errors(&judged(&text, &limits, None)), ["MD-45", "XDR-61"]);
        let text = without_block().replace("\"intendedRecipient\"", "\"urn:example:nobody\"");
        let partner = Partner {
            profile: validate::Profile::Minimal,
            ..Partner::default()
        };
        let terms = Terms {
            partner: &partner,
            limits: &limits,
            routes: &Routes::default(),
            destinations: &Destinations::default(),
            level: None,
            from: None,
            to: &[],
            now: None,
        };
        assert_eq!(errors(&judged_by(&text, &terms)), ["MD-23"]);
    }

    // rule: SOAP-66, SOAP-120, XDR-141
    #[test]
    fn a_block_that_names_others_and_an_address_for_faults_are_told_and_change_nothing() {
        let text = FULL
            .replace("<direct:from>mailto:ngozi", "<direct:from>mailto:ada")
            .replace("<direct:to>mailto:rui", "<direct:to>mailto:ada")
            .replace(
                "<wsa:To ",
                "<wsa:FaultTo><wsa:Address>https://elm.example/faults</wsa:Address></wsa:FaultTo><wsa:To ",
            );
        let found = judged(&text, &Limits::default(), None);
        let told: Vec<(&str, &str)> = found
            .findings
            .iter()
            .map(|finding| (finding.rule, finding.location.rsplit('.').next().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                ("SOAP-66", "wsa:FaultTo"),
                ("SOAP-11", "Content-Type"),
                ("SOAP-120", "author"),
                ("SOAP-120", "intendedRecipient"),
            ]
        );
        assert!(!refuses(&found.findings));
        let to = found.recipients.unwrap().addresses;
        assert_eq!(to, ["ada.silva@direct.harbor.example.org".parse().unwrap()]);
        assert_eq!(found.from, "ada.okafor@direct.elm.example.org".parse().ok());
    }

    // rule: XDR-125
    #[test]
    fn a_delivery_notification_about_nothing_of_ours_is_refused() {
        let found = judged(NOTIFICATION, &Limits::default(), None);
        assert_eq!(errors(&found), ["XDR-125"]);

        let start = NOTIFICATION.find("<direct:notification").unwrap();
        let end = start + NOTIFICATION[start..].find("/>").unwrap() + "/>".len();
        let text = format!("{}{}", &NOTIFICATION[..start], &NOTIFICATION[end..]);
        assert_eq!(errors(&judged(&text, &Limits::default(), None)), [""; 0]);
        let at = text.find("PGRp").unwrap();
        let end = text.find("</xds:Document>").unwrap();
        let xml = "<d:messageDisposition xmlns:d='urn:direct:addressing'/>";
        let text = format!("{}{xml}{}", &text[..at], &text[end..]);
        assert_eq!(
            errors(&judged(&text, &Limits::default(), None)),
            ["XDR-125"]
        );
    }

    // rule: SOAP-24, SOAP-29, XDR-24, XDR-25
    #[test]
    fn a_document_that_cannot_be_used_is_not_also_told_to_be_missing() {
        let limits = Limits::default();
        let id = "<xds:Document id=\"urn:uuid:0f4a6c1e-2d3b-4c5d-8e6f-7a8b9c0d1e2f\">";
        for (from, to, expected) in [
            (">PENs", ">P.Ns", &["SOAP-29"][..]),
            ("Pgo=<", "<x/><", &["SOAP-24"]),
            // What belongs to nothing is told whatever else is wrong with it; and then its entry has none.
            (
                &format!("{id}PENs"),
                "<xds:Document id=\"other\">P.Ns",
                &["SOAP-29", "XDR-24", "XDR-25"],
            ),
        ] {
            assert!(FULL.contains(from), "{from}");
            let found = judged(&FULL.replace(from, to), &limits, None);
            assert_eq!(errors(&found), expected);
        }
    }

    // rule: LIM-14
    #[test]
    fn what_would_not_fit_into_one_mail_is_refused() {
        let limits = Limits {
            max_sealed_bytes: 10_000,
            ..Limits::default()
        };
        assert_eq!(errors(&judged(MINIMAL, &limits, None)), ["LIM-14"]);
    }

    // rule: XDR-104
    #[test]
    fn packaged_metadata_is_full_limited_or_minimal_by_what_it_holds() {
        let limits = Limits::default();
        let read = |text: &str| {
            let start = text.find("<lcm:SubmitObjectsRequest").unwrap();
            let end = "</lcm:SubmitObjectsRequest>";
            let stop = text.find(end).unwrap() + end.len();
            let kept = KeptXml::read(&text.as_bytes()[start..stop], &limits).unwrap();
            level_from_xdm(&Metadata::read(kept, &limits).unwrap(), &limits)
        };
        assert_eq!(read(FULL), Level::Full);
        assert_eq!(read(PACKAGED), Level::Limited);
        assert_eq!(read(MINIMAL), Level::Minimal);
    }
}
