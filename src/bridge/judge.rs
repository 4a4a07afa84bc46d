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

/// The rule of a delivery notification that is about nothing known.
pub const STRAY_NOTIFICATION: &str = "XDR-125";

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

/// Whether a request is a delivery notification: one that is about an earlier message of ours, and never goes out as
/// mail (XDR-125).
pub fn is_notification(request: &ReceivedRequest) -> bool {
    // A disposition as XML is known for what it is though nothing says what it is about.
    let is_disposition =
        || request.documents.len() == 1 && request.findings.iter().any(|f| f.rule == "XDR-122");
    request.notification_relates_to.is_some() || is_disposition()
}

/// A delivery notification is refused unless it is known to be about a message of ours: the message itself does not tell.
fn stray_notification(request: &ReceivedRequest) -> Option<Finding> {
    is_notification(request).then(|| {
        Finding::error(
            STRAY_NOTIFICATION,
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
mod tests;
