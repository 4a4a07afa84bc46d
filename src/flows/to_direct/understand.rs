//! What the request says: read in one pass on a CPU thread, documents measured and hashed on their way by.

use std::{io::Read, sync::Arc};

use openssl::sha::Sha256;

use super::intake::{self, Received};
use crate::{
    bridge::partner::{Partner, PatientIdMismatch, Profile, Saml},
    flows::ports::{Bodies, StagedBody, StoreError},
    formats::{
        document::{DocumentFacts, FactsSink},
        finding::Finding,
        limits::Limits,
        metadata::{
            Level, Metadata, MetadataError,
            validate::{self, BoundDocument},
        },
        soap::MetadataLevel,
        xdr::{
            ErrorCode,
            request::{self, ReadError, ReadOptions, ReceivedRequest},
        },
        xml::c14n::C14nError,
    },
};

/// A request that could be read. Whether it is accepted is another question: see `findings`.
pub(super) struct Understood {
    /// The recorded body.
    pub(super) body: StagedBody,
    /// Envelope, addressing and documents' places.
    pub(super) request: ReceivedRequest,
    /// The metadata.
    pub(super) metadata: Metadata,
    /// What it claims to be.
    pub(super) level: Level,
    /// What is known of each document that came.
    pub(super) documents: Vec<DocumentFacts>,
    /// Every violated rule, of envelope and metadata.
    pub(super) findings: Vec<Finding>,
    /// What tells a resubmission from another message (XDR-50).
    pub(super) digest: [u8; 32],
}

/// Why a request could not be read.
pub(super) enum NotUnderstood {
    /// The envelope or the package: a SOAP fault or an HTTP status.
    Request(ReadError),
    /// The metadata is no readable XML, though the envelope was; the request is kept for its packaging.
    Metadata(Box<ReceivedRequest>, MetadataError),
    /// The metadata has no canonical form, so that a repetition could not be recognised.
    NoCanonicalForm,
    /// The store failed.
    Store(StoreError),
}

/// Records the body if it is not recorded yet, and reads it.
pub(super) fn understand(
    received: Received,
    content_type: &str,
    partner: &Partner,
    limits: &Limits,
    bodies: &Arc<dyn Bodies>,
) -> Result<Understood, NotUnderstood> {
    let mut facts = FactsSink::default();
    let options = read_options(partner);
    let (body, request) = match received {
        Received::InMemory(octets) => {
            let mut reader: &[u8] = &octets;
            let request = read(content_type, &mut reader, limits, &options, &mut facts)?;
            let body =
                intake::record_small(&octets, bodies.as_ref()).map_err(NotUnderstood::Store)?;
            (body, request)
        }
        Received::Staged(body) => {
            let mut reader = bodies.open(body.id).map_err(NotUnderstood::Store)?;
            let request = read(content_type, &mut *reader, limits, &options, &mut facts)?;
            (body, request)
        }
    };
    let documents = facts.into_facts();
    let metadata = match Metadata::read(request.metadata.clone(), limits) {
        Ok(metadata) => metadata,
        Err(error) => return Err(NotUnderstood::Metadata(Box::new(request), error)),
    };
    let level = metadata.level(request.metadata_level == Some(MetadataLevel::Minimal));
    let bound = bind(&request, &documents);
    let mut findings = request.findings.clone();
    findings.extend(validate::validate(
        &metadata,
        &validate::Context {
            level,
            profile: profile(partner),
            documents: Some(&bound),
            patient_id_mismatch_is_warning: partner.patient_id_mismatch == PatientIdMismatch::Warn,
            max_document_entries: limits.max_document_entries,
            has_recipient: request.address_block.is_some(),
            container: validate::Container::Xdr,
            max_findings: validate::MAX_FINDINGS,
        },
    ));
    findings.extend(source_id(&metadata, partner));
    let digest = digest(&metadata, &bound).map_err(|_| NotUnderstood::NoCanonicalForm)?;
    Ok(Understood {
        body,
        request,
        metadata,
        level,
        documents,
        findings,
        digest,
    })
}

fn read(
    content_type: &str,
    body: &mut dyn Read,
    limits: &Limits,
    options: &ReadOptions,
    facts: &mut FactsSink,
) -> Result<ReceivedRequest, NotUnderstood> {
    request::read(content_type, body, limits, options, facts).map_err(NotUnderstood::Request)
}

/// Each xds:Document with what is known of its octets.
fn bind(request: &ReceivedRequest, documents: &[DocumentFacts]) -> Vec<BoundDocument> {
    request
        .documents
        .iter()
        .filter_map(|part| {
            let facts = documents.iter().find(|facts| facts.key == part.key)?;
            Some(BoundDocument {
                document_id: part.document_id.clone(),
                facts: facts.clone(),
            })
        })
        .collect()
}

/// SHA-256 over the canonical SubmitObjectsRequest and each document's SHA-256 in entry order (XDR-50).
fn digest(metadata: &Metadata, documents: &[BoundDocument]) -> Result<[u8; 32], C14nError> {
    let mut sha = Sha256::new();
    sha.update(&metadata.digest_input()?);
    for entry in metadata.document_entries() {
        if let Some(document) = documents.iter().find(|d| d.document_id == entry.id) {
            sha.update(&document.facts.sha256);
        }
    }
    Ok(sha.finish())
}

/// How this partner's requests are read.
fn read_options(partner: &Partner) -> ReadOptions {
    ReadOptions {
        require_mtom: partner.require_mtom,
        saml_ignored: partner.saml == Saml::Ignored,
        ..ReadOptions::default()
    }
}

fn profile(partner: &Partner) -> validate::Profile {
    match partner.profile {
        Profile::FullStrict => validate::Profile::FullStrict,
        Profile::FullLenient => validate::Profile::FullLenient,
        Profile::Minimal => validate::Profile::Minimal,
    }
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
