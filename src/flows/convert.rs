//! One file into another: a request becomes a package or a plain mail, a package a request or a mail. By the code that
//! the bridge carries messages with, and only what it would take.

mod documents;

use std::io::{self, Read, Seek, SeekFrom, Write};

use jiff::Timestamp;
use uuid::Uuid;

use super::inspect::{Content, InspectError, detect, mail};
use crate::{
    bridge::{
        destination::{Destinations, MailPolicy},
        judge::{self, Judgement, Terms},
        partner::Partner,
        routing::Routes,
        to_direct::{self, Conversion, ConversionError},
        to_xdr,
    },
    formats::{
        document::{DocumentFacts, DocumentSource, FactsSink},
        finding::{Finding, refuses},
        ids::{DirectAddress, MessageId, SoapMessageId},
        limits::Limits,
        metadata::{Level, validate::Container},
        mime::read,
        soap::{AddressBlock, MetadataLevel, Packaging, REQUEST_ACTION},
        xdm::{self, Institution, XdmDocuments, XdmError},
        xdr::request::{self, OutgoingDocument, OutgoingRequest, ReadError, ReceivedRequest},
    },
};
use documents::{Counted, RequestDocuments};

/// Where a request in a file says that it goes: the listener of the configuration that `init` writes.
const HOST: &str = "127.0.0.1:8443";

/// What a file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An XDM package.
    Xdm,
    /// An ITI-41 request: MTOM with its HTTP head.
    Xdr,
    /// The mail that carries package or documents, neither signed nor encrypted.
    Mail,
}

/// What to make, and of what that the file does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What to make.
    pub target: Target,
    /// The sender, instead of the one that the file names.
    pub from: Option<&'a DirectAddress>,
    /// The recipients, instead of those that the file names.
    pub recipients: &'a [DirectAddress],
    /// The time: a mail has a date.
    pub now: Timestamp,
    /// Of what the message's id is made.
    pub id: Uuid,
    /// How a mail is made.
    pub policy: &'a MailPolicy,
    /// Who makes a package.
    pub institution: &'a Institution,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Converted {
    /// How many documents it carries.
    pub documents: usize,
    /// Warnings about what it was made of.
    pub findings: Vec<Finding>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The file cannot be read.
    #[error(transparent)]
    Input(#[from] InspectError),
    /// What it holds is not turned into that.
    #[error("{what}; {instead}")]
    NotConvertible {
        /// What it holds.
        what: &'static str,
        /// What would be accepted.
        instead: &'static str,
    },
    /// The bridge would not take it.
    #[error("the bridge would refuse it")]
    Refused {
        /// Every violated rule.
        findings: Vec<Finding>,
    },
    /// It could not be made.
    #[error(transparent)]
    Conversion(#[from] ConversionError),
    /// The result could not be written, or the file not be read again.
    #[error("the result could not be written")]
    Io(#[from] io::Error),
}

/// Converts `file` into `out`.
pub fn convert<R: Read + Seek>(
    file: &mut R,
    order: &Order<'_>,
    limits: &Limits,
    out: &mut dyn Write,
) -> Result<Converted, ConvertError> {
    let partner = Partner::default();
    let routes = Routes::default();
    // A package of its own loses nothing; only a mail has a packaging.
    let destinations = match order.target {
        Target::Mail => Destinations::all_alike(order.policy.clone()),
        Target::Xdm | Target::Xdr => Destinations::default(),
    };
    let terms = Terms {
        partner: &partner,
        limits,
        routes: &routes,
        destinations: &destinations,
        level: None,
        from: order.from,
        to: order.recipients,
        now: None,
    };
    match (detect(file, limits)?, order.target) {
        (Content::Message, Target::Xdm | Target::Mail) => from_request(file, order, &terms, out),
        (Content::Zip, Target::Xdr | Target::Mail) => from_package(file, order, &terms, out),
        (Content::Message, Target::Xdr) => Err(ConvertError::NotConvertible {
            what: "the file holds no package",
            instead: "--to xdr takes an XDM package",
        }),
        (Content::Mail, Target::Xdr | Target::Xdm) => from_mail(file, order, limits, out),
        (Content::Mail, Target::Mail) => Err(ConvertError::NotConvertible {
            what: "the file is a mail already",
            instead: "a mail becomes an ITI-41 request by --to xdr, a package by --to xdm",
        }),
        (Content::SecuredMail | Content::Cms, _) => Err(ConvertError::NotConvertible {
            what: "the file is S/MIME",
            instead: "convert takes mail that is neither signed nor sealed",
        }),
        (Content::Zip, Target::Xdm) => Err(ConvertError::NotConvertible {
            what: "the file is a package already",
            instead: "--to xdm takes an ITI-41 request",
        }),
    }
}

fn from_request<R: Read + Seek>(
    file: &mut R,
    order: &Order<'_>,
    terms: &Terms<'_>,
    out: &mut dyn Write,
) -> Result<Converted, ConvertError> {
    let mut sink = FactsSink::default();
    let options = judge::read_options(terms.partner);
    let request =
        request::read_file(file, terms.limits, &options, &mut sink).map_err(unreadable)?;
    if request.packaging == Packaging::BareSubmission {
        return Err(ConvertError::NotConvertible {
            what: "a SubmitObjectsRequest alone has no documents",
            instead: "give the whole request",
        });
    }
    let judgement = judged(&request, &sink.into_facts(), terms)?;
    let (Some(from), Some(recipients)) = (&judgement.from, &judgement.recipients) else {
        let findings = judgement.findings;
        return Err(ConvertError::Refused { findings });
    };
    let documents: Vec<(String, DocumentFacts)> = judgement
        .documents
        .iter()
        .map(|document| (document.document_id.clone(), document.facts.clone()))
        .collect();
    let message_id = MessageId::from_uuid(order.id, from.domain());
    let conversion = Conversion {
        metadata: &judgement.metadata,
        documents: &documents,
        level: judgement.level,
        from,
        to: &recipients.addresses,
        message_id: &message_id,
        date: order.now,
        policy: order.policy,
        wants_final_delivery: request
            .address_block
            .as_ref()
            .is_some_and(|block| block.final_delivery),
        institution: order.institution,
    };
    let mut source = RequestDocuments {
        file,
        limits: terms.limits,
        options,
    };
    match order.target {
        Target::Mail => to_direct::write_plain_message(&conversion, &mut source, out)?,
        _ => out.write_all(&to_direct::package(&conversion, &mut source)?)?,
    }
    let mut findings = judgement.findings;
    findings.extend(recipients.refused_values());
    Ok(Converted {
        documents: documents.len(),
        findings,
    })
}

fn judged(
    request: &ReceivedRequest,
    facts: &[DocumentFacts],
    terms: &Terms<'_>,
) -> Result<Judgement, ConvertError> {
    let judgement = judge::judge(request, facts, Container::Xdr, terms)
        .map_err(|error| unreadable_text(error.to_string()))?;
    if refuses(&judgement.findings) {
        let findings = judgement.findings;
        return Err(ConvertError::Refused { findings });
    }
    Ok(judgement)
}

fn unreadable(error: ReadError) -> ConvertError {
    match error {
        ReadError::Io(error) | ReadError::Sink(error) => InspectError::Io(error).into(),
        ReadError::Fault(fault) => unreadable_text(fault.reason),
        other => unreadable_text(other.to_string()),
    }
}

fn unreadable_text(text: String) -> ConvertError {
    InspectError::Unreadable { text }.into()
}

fn from_package<R: Read + Seek>(
    file: &mut R,
    order: &Order<'_>,
    terms: &Terms<'_>,
    out: &mut dyn Write,
) -> Result<Converted, ConvertError> {
    let package = xdm::unpack(&mut *file, terms.limits).map_err(|error| match error {
        XdmError::Io(error) => InspectError::Io(error).into(),
        error @ (XdmError::NotZip { .. } | XdmError::NotXdm) => unreadable_text(error.to_string()),
        error => ConvertError::Refused {
            findings: vec![error.to_finding()],
        },
    })?;
    let set = match package.sets.as_slice() {
        [only] => only,
        [] => {
            let findings = package.findings;
            return Err(ConvertError::Refused { findings });
        }
        _ => {
            return Err(ConvertError::NotConvertible {
                what: "the package holds several submission sets",
                instead: "one request or mail carries one",
            });
        }
    };
    let judgement = judge::judge_set(set, terms);
    let mut findings = package.findings;
    findings.extend(judgement.findings);
    if refuses(&findings) {
        return Err(ConvertError::Refused { findings });
    }
    let submission = to_xdr::submission_from_xdm(set)?;
    if let Some(recipients) = &judgement.recipients {
        findings.extend(recipients.refused_values());
    }
    let recipients = judgement.recipients.map(|found| found.addresses);
    let addresses = judgement.from.zip(recipients);
    file.seek(SeekFrom::Start(0))?;
    let mut files = XdmDocuments::open(file, set, terms.limits)
        .map_err(|error| unreadable_text(error.to_string()))?;
    if order.target == Target::Mail {
        let Some((from, to)) = &addresses else {
            return Err(ConvertError::NotConvertible {
                what: "the package does not name both a sender and a recipient",
                instead: "give them by --from and --recipient",
            });
        };
        let conversion = Conversion {
            metadata: &submission.metadata,
            documents: &submission.documents,
            level: judgement.level,
            from,
            to,
            message_id: &MessageId::from_uuid(order.id, from.domain()),
            date: order.now,
            policy: order.policy,
            wants_final_delivery: false,
            institution: order.institution,
        };
        to_direct::write_plain_message(&conversion, &mut files, out)?;
    } else {
        let block = addresses.map(|(from, to)| AddressBlock {
            from,
            to,
            relates_to: None,
            final_delivery: false,
        });
        let level = match judgement.level {
            Level::Full => MetadataLevel::Xds,
            Level::Limited | Level::Minimal => MetadataLevel::Minimal,
        };
        let request = OutgoingRequest {
            message_id: &SoapMessageId::from_uuid(order.id),
            action: REQUEST_ACTION,
            to: &format!("https://{HOST}/xdr"),
            address_block: block.as_ref(),
            metadata_level: Some(level),
            metadata: submission.metadata.xml(),
            documents: &outgoing(&submission),
        };
        write_request(&request, &mut files, out)?;
    }
    Ok(Converted {
        documents: submission.documents.len(),
        findings,
    })
}

/// The request that would be posted for a mail, or the package that carries the same.
fn from_mail<R: Read + Seek>(
    file: &mut R,
    order: &Order<'_>,
    limits: &Limits,
    out: &mut dyn Write,
) -> Result<Converted, ConvertError> {
    let octets = mail::octets_of(file, limits)?;
    let read = read::read(&octets, limits).map_err(|error| ConvertError::Refused {
        findings: vec![error.to_finding()],
    })?;
    let (named_from, named_to) = mail::addresses(&read);
    let from = order.from.cloned().or(named_from);
    let to = match order.recipients {
        [] => named_to,
        given => given.to_vec(),
    };
    let Some(from) = from.filter(|_| !to.is_empty()) else {
        return Err(ConvertError::NotConvertible {
            what: "the mail does not name both a sender and a recipient",
            instead: "give them by --from and --recipient",
        });
    };
    let plan = mail::planned(&read, &octets, &from, &to, limits);
    let findings = plan.findings;
    if plan.failure.is_some() {
        return Err(ConvertError::Refused { findings });
    }
    let planned = match plan.requests.as_slice() {
        [only] => only,
        [] => {
            return Err(ConvertError::NotConvertible {
                what: "the mail is a notice",
                instead: "inspect tells what it says",
            });
        }
        _ => {
            return Err(ConvertError::NotConvertible {
                what: "the mail holds several submissions",
                instead: "one ITI-41 request or package carries one",
            });
        }
    };
    if order.target == Target::Xdm {
        let documents: Vec<(String, DocumentFacts)> = planned
            .outgoing
            .iter()
            .zip(&planned.facts)
            .map(|(document, facts)| {
                let key = document.key;
                (
                    document.document_id.clone(),
                    DocumentFacts {
                        key,
                        ..facts.clone()
                    },
                )
            })
            .collect();
        let conversion = Conversion {
            metadata: &planned.metadata,
            documents: &documents,
            level: match planned.level {
                MetadataLevel::Xds => Level::Full,
                MetadataLevel::Minimal => Level::Minimal,
            },
            from: &from,
            to: &to,
            message_id: &MessageId::from_uuid(order.id, from.domain()),
            date: order.now,
            policy: order.policy,
            wants_final_delivery: false,
            institution: order.institution,
        };
        let mut source = planned.documents(&read, limits);
        out.write_all(&to_direct::package(&conversion, &mut *source)?)?;
        return Ok(Converted {
            documents: documents.len(),
            findings,
        });
    }
    let to = format!("https://{HOST}/xdr");
    let request = planned.request(&to, REQUEST_ACTION);
    write_request(&request, &mut *planned.documents(&read, limits), out)?;
    Ok(Converted {
        documents: planned.outgoing.len(),
        findings,
    })
}

/// The documents of a request, in metadata order.
fn outgoing(submission: &to_xdr::XdrSubmission) -> Vec<OutgoingDocument> {
    let entries = submission.metadata.document_entries();
    let documents = submission.documents.iter();
    documents
        .map(|(id, facts)| {
            let entry = entries.iter().find(|entry| entry.id == *id);
            let mime_type = entry.and_then(|entry| entry.mime_type.clone());
            OutgoingDocument {
                document_id: id.clone(),
                key: facts.key,
                mime_type: mime_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            }
        })
        .collect()
}

/// Writes the request with its HTTP head. It is written twice, once to learn its length.
fn write_request(
    request: &OutgoingRequest<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> Result<(), ConvertError> {
    let mut counted = Counted::default();
    request::write_mtom(request, documents, &mut counted)?;
    write!(
        out,
        "POST /xdr HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        request.content_type(Packaging::Mtom),
        counted.bytes
    )?;
    request::write_mtom(request, documents, out)?;
    Ok(())
}
