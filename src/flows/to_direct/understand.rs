//! What the request says: read in one pass on a CPU thread, documents measured and hashed on their way by.

use std::{io::Read, sync::Arc};

use openssl::sha::Sha256;

use super::readings::{DocumentDigests, FactsAndDocuments, Reading};
use crate::{
    bridge::{
        judge::{self, Judgement, Terms},
        routing::Recipients,
    },
    flows::{
        intake::{self, Received},
        ports::{Bodies, StagedBody, StoreError},
    },
    formats::{
        document::{DocumentFacts, DocumentsInMemory},
        finding::Finding,
        ids::DirectAddress,
        limits::Limits,
        metadata::{
            Level, Metadata, MetadataError,
            validate::{BoundDocument, Container},
        },
        xdr::{
            disposition::{MAX_BYTES as MAX_DISPOSITION_BYTES, MessageDisposition},
            request::{self, ReadError, ReadOptions, ReceivedRequest},
            response::{self, ReceivedAnswer},
        },
        xml::c14n::C14nError,
    },
};

/// The rule by which a message with another Action than a request's is refused.
const OTHER_ACTION: &str = "SOAP-84";

/// A request that could be read. Whether it is accepted is another question: see `findings`.
pub(super) struct Understood {
    /// The recorded body.
    pub(super) body: StagedBody,
    /// The request as it was read, kept for its seal.
    pub(super) reading: Arc<Reading>,
    /// What it claims to be.
    pub(super) level: Level,
    /// What is known of each document that came.
    pub(super) documents: Vec<DocumentFacts>,
    /// The sender, where one is named.
    pub(super) from: Option<DirectAddress>,
    /// Whom it goes to, where anybody is named.
    pub(super) recipients: Option<Recipients>,
    /// Every violated rule, of envelope, metadata, sender and recipients.
    pub(super) findings: Vec<Finding>,
    /// What tells a resubmission from another message (XDR-50).
    pub(super) digest: [u8; 32],
    /// What it says if it is a delivery notification, which is no submission (XDR-125).
    pub(super) notification: Option<Notification>,
}

/// A delivery notification from an edge.
pub(super) struct Notification {
    /// The request that it is about, if it says so.
    pub(super) relates_to: Option<String>,
    /// Its one document, if that is a disposition.
    pub(super) disposition: Option<MessageDisposition>,
}

/// Why a request could not be read.
pub(super) enum NotUnderstood {
    /// The envelope or the package: a SOAP fault or an HTTP status.
    Request(ReadError),
    /// The metadata is no readable XML, though the envelope was; the request is kept for its packaging.
    Metadata(Box<ReceivedRequest>, MetadataError),
    /// The metadata has no canonical form, so that a repetition could not be recognised.
    NoCanonicalForm(Box<ReceivedRequest>),
    /// It is no request but the answer to one, which comes later than the connection lasted (SOAP-130); and what is
    /// wrong with it as a request.
    Answer(Box<ReceivedAnswer>, ReadError),
    /// The store failed.
    Store(StoreError),
}

/// Records the body if it is not recorded yet, reads it, and judges it.
pub(super) fn understand(
    received: Received,
    content_type: &str,
    terms: &Terms<'_>,
    bodies: &Arc<dyn Bodies>,
) -> Result<Understood, NotUnderstood> {
    let mut sink = FactsAndDocuments::default();
    let options = judge::read_options(terms.partner);
    let limits = terms.limits;
    let (body, request) = match received {
        Received::InMemory(octets) => {
            let mut reader: &[u8] = &octets;
            sink.documents = Some(DocumentsInMemory::default());
            let request = read(content_type, &mut reader, limits, &options, &mut sink)
                .map_err(|why| or_answer(why, content_type, &mut &*octets, limits))?;
            let body =
                intake::record_small(&octets, bodies.as_ref()).map_err(NotUnderstood::Store)?;
            (body, request)
        }
        Received::Staged(body) => {
            let mut reader = bodies.open(body.id).map_err(NotUnderstood::Store)?;
            let request = read(content_type, &mut *reader, limits, &options, &mut sink);
            let request = request.map_err(|why| match bodies.open(body.id) {
                Ok(mut again) => or_answer(why, content_type, &mut *again, limits),
                Err(failure) => NotUnderstood::Store(failure),
            })?;
            (body, request)
        }
    };
    let (facts, digests) = (sink.facts.into_facts(), sink.digests);
    let notification = if judge::is_notification(&request) {
        let held = sink.documents.as_ref();
        let reading = || bodies.open(body.id).map_err(NotUnderstood::Store);
        let again = |reader: &mut dyn Read| {
            let mut sink = DocumentsInMemory::default();
            let read = request::read(content_type, reader, limits, &options, &mut sink);
            read.map(|_| sink).map_err(NotUnderstood::Request)
        };
        let read = match held {
            // A disposition is small, whatever came with it.
            None if facts
                .iter()
                .all(|facts| facts.size <= MAX_DISPOSITION_BYTES) =>
            {
                Some(again(&mut *reading()?)?)
            }
            _ => None,
        };
        Some(notification(&request, held.or(read.as_ref()), limits))
    } else {
        None
    };
    let judged = match judge::judge(&request, &facts, Container::Xdr, terms) {
        Ok(judged) => judged,
        Err(error) => return Err(NotUnderstood::Metadata(Box::new(request), error)),
    };
    let Judgement {
        metadata,
        level,
        documents,
        from,
        recipients,
        findings,
    } = judged;
    let Ok(digest) = digest(&metadata, &documents, &digests) else {
        return Err(NotUnderstood::NoCanonicalForm(Box::new(request)));
    };
    Ok(Understood {
        body,
        reading: Arc::new(Reading {
            request,
            metadata,
            documents: sink.documents,
        }),
        level,
        documents: facts,
        from,
        recipients,
        findings,
        digest,
        notification,
    })
}

fn notification(
    request: &ReceivedRequest,
    documents: Option<&DocumentsInMemory>,
    limits: &Limits,
) -> Notification {
    let only = documents.and_then(|held| match held.documents.as_slice() {
        [(_, octets)] => Some(octets),
        _ => None,
    });
    let disposition = only.and_then(|octets| MessageDisposition::read(octets, limits).ok());
    Notification {
        relates_to: request.notification_relates_to.clone(),
        disposition,
    }
}

/// What could not be read as a request for its Action alone may be the answer to one of ours.
fn or_answer(
    why: NotUnderstood,
    content_type: &str,
    body: &mut dyn Read,
    limits: &Limits,
) -> NotUnderstood {
    let NotUnderstood::Request(error) = why else {
        return why;
    };
    let is_of_action = matches!(&error, ReadError::Fault(fault) if fault.rule == OTHER_ACTION);
    match is_of_action.then(|| response::read(content_type, body, limits)) {
        Some(Ok(answer)) => NotUnderstood::Answer(Box::new(answer), error),
        _ => NotUnderstood::Request(error),
    }
}

fn read(
    content_type: &str,
    body: &mut dyn Read,
    limits: &Limits,
    options: &ReadOptions,
    sink: &mut FactsAndDocuments,
) -> Result<ReceivedRequest, NotUnderstood> {
    request::read(content_type, body, limits, options, sink).map_err(NotUnderstood::Request)
}

/// SHA-256 over the prefixless SubmitObjectsRequest and each document's SHA-256 in entry order (XDR-50).
fn digest(
    metadata: &Metadata,
    documents: &[BoundDocument],
    digests: &DocumentDigests,
) -> Result<[u8; 32], C14nError> {
    let mut sha = Sha256::new();
    sha.update(&metadata.digest_input()?);
    for entry in metadata.document_entries() {
        let document = documents.iter().find(|d| d.document_id == entry.id);
        if let Some(document) = document.and_then(|d| digests.of(d.facts.key)) {
            sha.update(document);
        }
    }
    Ok(sha.finish())
}
