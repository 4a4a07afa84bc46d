//! What becomes of one mail at one endpoint: the ITI-41 requests, decided without reading or writing anything else
//! (XDR-100 to XDR-109, MD-124, MD-125).

use std::{fmt, io::Cursor, sync::Arc};

use jiff::Timestamp;

use super::{
    XdrSubmission,
    context::{self, MailContext},
    documents::{PackageDocuments, PartDocuments, entry_key},
    fill::settle,
    names::Names,
    parts::{self, DocumentPart},
    plain,
    policy::{EndpointPolicy, LooseParts},
    submission_from_xdm,
};
use crate::{
    bridge::{exchange::Reason, judge::level_from_xdm, partner::PatientIdMismatch},
    formats::{
        document::{DocumentFacts, DocumentSource},
        finding::{Finding, refuses},
        ids::{DirectAddress, Oid, SoapMessageId},
        limits::Limits,
        metadata::{
            Metadata,
            validate::{BoundDocument, Container, Context, validate},
        },
        mime::read::{Mail, Part, Sniffed, refusal, sniff},
        soap::{AddressBlock, MetadataLevel},
        xdm::{self, XdmError, XdmSet},
        xdr::request::{OutgoingDocument, OutgoingRequest},
    },
};

/// A verified mail, and the endpoint that it is for.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'m> {
    /// The mail as it was before it was sealed.
    pub mail: &'m Mail<'m>,
    /// Its sender: the From or Sender whose binding to a signer was verified (XDR-107).
    pub from: &'m DirectAddress,
    /// Its recipients that map to this endpoint and trust the sender, in the order of the envelope (XDR-107, XDR-108).
    pub recipients: &'m [DirectAddress],
    /// The endpoint's name in the configuration.
    pub endpoint: &'m str,
    /// What the endpoint takes.
    pub policy: &'m EndpointPolicy,
    /// The OID of the sender's domain as a source (MD-119).
    pub source_id: &'m Oid,
    /// When it came: for a mail without a date.
    pub received_at: Timestamp,
    /// SHA-256 of the signed entity.
    pub digest: &'m [u8; 32],
    /// Limits on what comes from outside.
    pub limits: &'m Limits,
}

impl Incoming<'_> {
    pub(super) fn warns_of_patients(&self) -> bool {
        self.policy.patient_id_mismatch == PatientIdMismatch::Warn
    }

    fn context(&self, metadata: &Metadata, container: Container) -> Context<'static> {
        Context {
            patient_id_mismatch_is_warning: self.warns_of_patients(),
            max_document_entries: self.limits.max_document_entries,
            container,
            ..Context::at(level_from_xdm(metadata, self.limits))
        }
    }
}

/// What is to be posted for one mail.
#[derive(Debug, Default)]
pub struct Plan {
    /// The requests: one for each submission set, and one for what came without metadata.
    pub requests: Vec<PlannedRequest>,
    /// Why some or all of the mail is not posted. Whatever the requests come to, the sender is told of a failure
    /// (XDR-102).
    pub failure: Option<Reason>,
    /// Every violated rule and every tolerated deviation.
    pub findings: Vec<Finding>,
}

/// One request, ready to be written.
#[derive(Debug)]
pub struct PlannedRequest {
    /// Its wsa:MessageID, the same whenever the same mail is planned again (XDR-109).
    pub message_id: SoapMessageId,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its metadata-level (XDR-104).
    pub level: MetadataLevel,
    /// From and to (XDR-107).
    pub address_block: AddressBlock,
    /// Its documents, under the keys that [`PlannedRequest::documents`] pours them.
    pub outgoing: Vec<OutgoingDocument>,
    /// Size and digests of each, in the same order.
    pub facts: Vec<DocumentFacts>,
    origin: Origin,
}

/// Where the documents are.
#[derive(Debug)]
enum Origin {
    /// Leaves of the mail.
    Leaves(Vec<usize>),
    /// A submission set in this package.
    Package(Package, Box<XdmSet>),
}

/// The octets of a package, decoded once for all that is planned from it.
#[derive(Clone)]
struct Package(Arc<Vec<u8>>);

impl fmt::Debug for Package {
    /// Documents are nothing to print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Package({} octets)", self.0.len())
    }
}

impl PlannedRequest {
    /// The request as it is written to the endpoint at `to`.
    pub fn request<'a>(&'a self, to: &'a str, action: &'a str) -> OutgoingRequest<'a> {
        OutgoingRequest {
            message_id: &self.message_id,
            action,
            to,
            address_block: Some(&self.address_block),
            metadata_level: Some(self.level),
            metadata: self.metadata.xml(),
            documents: &self.outgoing,
        }
    }

    /// The documents, poured from the mail that was planned.
    pub fn documents<'m>(
        &'m self,
        mail: &'m Mail<'m>,
        limits: &'m Limits,
    ) -> Box<dyn DocumentSource + 'm> {
        match &self.origin {
            Origin::Leaves(indices) => {
                let leaves = mail.leaves();
                let parts = indices.iter().filter_map(|index| leaves.get(*index));
                Box::new(PartDocuments {
                    parts: parts.copied().collect(),
                })
            }
            Origin::Package(package, set) => Box::new(PackageDocuments {
                package: &package.0,
                set,
                limits,
            }),
        }
    }
}

/// Plans what is posted for `incoming`. A report is never a document: nothing is posted for it, and nothing is wrong
/// (XDR-112).
pub fn plan(incoming: &Incoming<'_>) -> Plan {
    let mut planner = Planner {
        incoming,
        names: Names::of(
            incoming.from.domain(),
            incoming.mail.header.message_id.as_ref(),
            incoming.digest,
        ),
        plan: Plan::default(),
        packages: Vec::new(),
        packaged: Vec::new(),
        context: None,
    };
    if incoming.mail.report().is_none() {
        planner.plan.findings.clone_from(&incoming.mail.findings);
        planner.plan_packages();
        planner.context = context::find(incoming.mail, &mut planner.plan.findings);
        planner.plan_parts();
    }
    planner.plan
}

struct Planner<'m> {
    incoming: &'m Incoming<'m>,
    names: Names,
    plan: Plan,
    /// The leaves that are packages.
    packages: Vec<usize>,
    /// Size and SHA-1 of every document that a package holds.
    packaged: Vec<(u64, [u8; 20])>,
    /// What the mail says of documents that come without metadata.
    context: Option<MailContext>,
}

/// Whether the octets of a zip, in which names stand as they are, hold the name of XDM's directory in any case.
fn names_a_package(octets: &[u8]) -> bool {
    const NAME: &[u8] = b"IHE_XDM";
    let mut windows = octets.windows(NAME.len());
    windows.any(|window| window.eq_ignore_ascii_case(NAME))
}

impl<'m> Planner<'m> {
    /// Every part whose octets are a zip is looked into, whatever it is called (XDR-100, CC-5, XDM-52).
    fn plan_packages(&mut self) {
        for (leaf, part) in self.incoming.mail.leaves().into_iter().enumerate() {
            if sniff(&part.beginning(4)) == Some(Sniffed::Zip) {
                self.plan_package(leaf, part);
            }
        }
        if self.packages.is_empty() && self.incoming.policy.xdm_required {
            let text = "the destination takes documents only in an XDM package";
            self.fail(Reason::ConversionFailed, refusal("DIR-8", "message", text));
        }
    }

    fn plan_package(&mut self, leaf: usize, part: &Part<'_>) {
        let place = parts::place(part);
        let limits = self.incoming.limits;
        let octets = match part.decoded(limits.max_message_bytes) {
            Ok(octets) => octets,
            // It is told with the document that it then is.
            Err(_) => return,
        };
        let package = match xdm::unpack(Cursor::new(&*octets), limits) {
            Ok(package) => package,
            Err(XdmError::NotXdm) => return,
            // A zip of a kind that is not read may be a document; a package that hides in one is none (T-8).
            Err(XdmError::NotZip { .. }) if !names_a_package(&octets) => return,
            Err(error) => {
                self.packages.push(leaf);
                let reason = if error.is_too_large() {
                    Reason::TooLarge
                } else {
                    Reason::ConversionFailed
                };
                self.fail(reason, at(&place, error.to_finding()));
                return;
            }
        };
        let octets = Package(Arc::new(octets.into_owned()));
        self.packages.push(leaf);
        if package.has_errors() {
            self.plan.failure.get_or_insert(Reason::ConversionFailed);
        }
        let findings = package.findings.into_iter();
        self.plan.findings.extend(findings.map(|f| at(&place, f)));
        let is_one = package.sets.len() == 1;
        for (number, set) in (1..).zip(package.sets) {
            let place = if is_one {
                place.clone()
            } else {
                format!("{place}, set {number}")
            };
            let documents = set.documents.iter();
            self.packaged
                .extend(documents.map(|found| (found.facts.size, found.facts.sha1)));
            let leg = format!("{} {number}", part.path);
            self.plan_set(octets.clone(), set, &leg, &place);
        }
    }

    /// One submission set, one request (XDR-102).
    fn plan_set(&mut self, package: Package, set: XdmSet, leg: &str, place: &str) {
        let mut findings = set.findings.clone();
        let documents: Vec<BoundDocument> = set
            .documents
            .iter()
            .map(|found| BoundDocument {
                document_id: found.entry_id.clone(),
                facts: found.facts.clone(),
            })
            .collect();
        if !set.is_refused() {
            let context = Context {
                documents: Some(&documents),
                ..self.incoming.context(&set.metadata, Container::Xdm)
            };
            findings.extend(validate(&set.metadata, &context));
        }
        let submission = if refuses(&findings) {
            None
        } else {
            match submission_from_xdm(&set) {
                Ok(submission) => Some(submission),
                Err(error) => {
                    findings.push(refusal("XDR-103", "METADATA.XML", error.to_string()));
                    None
                }
            }
        };
        self.plan
            .findings
            .extend(findings.into_iter().map(|finding| at(place, finding)));
        match submission {
            None => {
                self.plan.failure.get_or_insert(Reason::ConversionFailed);
            }
            Some(submission) => {
                self.request(
                    submission,
                    Origin::Package(package, Box::new(set)),
                    leg,
                    place,
                );
            }
        }
    }

    /// The documents that came without metadata: all of them, or what lies beside a package (XDR-101, XDR-106).
    fn plan_parts(&mut self) {
        let mail = self.incoming.mail;
        let packages = std::mem::take(&mut self.packages);
        let of_context = self.context.as_ref().map(|found| found.leaf);
        let sorted = parts::sort(mail, |leaf| {
            packages.contains(&leaf) || of_context == Some(leaf)
        });
        let policy = self.incoming.policy;
        let has_package = !packages.is_empty();
        let mut chosen = sorted.documents;
        if !has_package {
            if policy.xdm_required {
                return;
            }
            if policy.body_as_document {
                chosen.extend(sorted.bodies);
                chosen.sort_by_key(|found| found.leaf);
            } else if chosen.is_empty() {
                chosen.extend(sorted.bodies.into_iter().take(1));
            }
            if chosen.is_empty() && self.context.is_none() {
                let text =
                    "the message holds no document: no attachment, and no text; it must have one";
                self.fail(Reason::ConversionFailed, refusal("MD-125", "message", text));
                return;
            }
        }
        let Some(mut parts) = self.with_facts(chosen) else {
            return;
        };
        if parts.is_empty() && self.context.is_some() {
            let why = "there is no document that it could be about; it should lie beside one";
            let Some(unused) = self.context_as_document(why) else {
                return;
            };
            parts = unused;
        }
        if parts.is_empty() || (has_package && !self.may_send_loose(parts.len())) {
            return;
        }
        self.plan_plain(parts);
    }

    /// Size and digests of each, copies of what a package holds left out. `None` if one cannot be had: then the mail is
    /// refused.
    fn with_facts<'p>(
        &mut self,
        chosen: Vec<DocumentPart<'p>>,
    ) -> Option<Vec<(DocumentPart<'p>, DocumentFacts)>> {
        let mut parts = Vec::new();
        for found in chosen {
            match plain::facts(self.incoming, &found) {
                Ok(facts) if self.packaged.contains(&(facts.size, facts.sha1)) => {}
                Ok(facts) => parts.push((found, facts)),
                Err(finding) => {
                    let reason = if finding.rule == "LIM-2" {
                        Reason::TooLarge
                    } else {
                        Reason::ConversionFailed
                    };
                    self.fail(reason, finding);
                    return None;
                }
            }
        }
        Some(parts)
    }

    /// Gives the context up: what is not used stays the attachment that it is, so that nothing is lost (CTX-5).
    fn context_as_document(&mut self, why: &str) -> Option<Vec<(DocumentPart<'m>, DocumentFacts)>> {
        let Some(MailContext { leaf, .. }) = self.context.take() else {
            return Some(Vec::new());
        };
        let part = self.incoming.mail.leaves().get(leaf).copied();
        let found: Vec<DocumentPart<'m>> = part
            .map(|part| DocumentPart { part, leaf })
            .into_iter()
            .collect();
        let place = found.first().map(|found| parts::place(found.part));
        let text = format!("the context is not used, its part is an attachment: {why}");
        let finding = Finding::warning("CTX-5", place.unwrap_or_default(), text);
        self.plan.findings.push(finding);
        self.with_facts(found)
    }

    /// Whether attachments beside a package go as a submission of their own (XDR-101). Where the package could not be
    /// read they may be copies of what is in it: they do not.
    fn may_send_loose(&mut self, count: usize) -> bool {
        if self.plan.failure.is_some() {
            return false;
        }
        let told = |what| {
            format!(
                "{count} attachment(s) beside the XDM package are no copies of its documents: {what}"
            )
        };
        let warning = |what| Finding::warning("XDR-101", "message", told(what));
        match self.incoming.policy.loose_parts {
            LooseParts::Send => {
                let finding = warning("they go as a submission of their own");
                self.plan.findings.push(finding);
                true
            }
            LooseParts::Drop => {
                self.plan.findings.push(warning("they are dropped"));
                false
            }
            LooseParts::Refuse => {
                let text = told("the destination takes the package alone");
                self.plan.requests.clear();
                self.fail(
                    Reason::ConversionFailed,
                    refusal("XDR-101", "message", text),
                );
                false
            }
        }
    }

    fn plan_plain(&mut self, mut parts: Vec<(DocumentPart<'m>, DocumentFacts)>) {
        let mut findings = Vec::new();
        let mut described = plain::entries(self.incoming, &self.names, &parts, &mut findings);
        let is_of_another = self
            .context
            .as_ref()
            .is_some_and(|found| context::is_about_another_patient(&found.context, &described));
        if is_of_another {
            let why = "a document is about another patient; all should be about one";
            let Some(unused) = self.context_as_document(why) else {
                return;
            };
            described.extend(plain::entries(
                self.incoming,
                &self.names,
                &unused,
                &mut findings,
            ));
            parts.extend(unused);
        }
        let context = self.context.as_ref().map(|found| &found.context);
        let submission = plain::submission(
            self.incoming,
            &self.names,
            &parts,
            described,
            context,
            &mut findings,
        );
        let metadata = match Metadata::read(submission.to_xml(), self.incoming.limits) {
            Ok(metadata) => metadata,
            Err(error) => {
                let finding = refusal("MD-110", "message", error.to_string());
                self.fail(Reason::ConversionFailed, finding);
                return;
            }
        };
        findings.extend(validate(
            &metadata,
            &self.incoming.context(&metadata, Container::Xdr),
        ));
        let is_refused = refuses(&findings);
        let too_many = findings.iter().any(|f| f.is_error() && f.rule == "LIM-4");
        self.plan.findings.extend(findings);
        if is_refused {
            let reason = if too_many {
                Reason::TooLarge
            } else {
                Reason::ConversionFailed
            };
            self.plan.failure.get_or_insert(reason);
            return;
        }
        let ids = submission.entries.into_iter().map(|entry| entry.id);
        let leaves = parts.iter().map(|(found, _)| found.leaf).collect();
        let documents = ids.zip(parts.into_iter().map(|(_, facts)| facts)).collect();
        let submission = XdrSubmission {
            metadata,
            documents,
        };
        self.request(submission, Origin::Leaves(leaves), "plain", "message");
    }

    /// Settles level and content by the endpoint's policy, and adds the request.
    fn request(&mut self, submission: XdrSubmission, origin: Origin, leg: &str, place: &str) {
        let incoming = self.incoming;
        let (settled, mut findings) = settle(submission.metadata, incoming);
        findings.extend(settled.as_ref().and_then(|(metadata, _)| {
            let wanted = &incoming.policy.required_types;
            lacks_required_type(metadata, wanted).then(|| {
                let text = "no document is of a type that the destination requires";
                refusal("DIR-8", "DocumentEntry.mimeType", text)
            })
        }));
        let is_refused = refuses(&findings);
        self.plan
            .findings
            .extend(findings.into_iter().map(|finding| at(place, finding)));
        let Some((metadata, level)) = settled.filter(|_| !is_refused) else {
            self.plan.failure.get_or_insert(Reason::ConversionFailed);
            return;
        };
        let outgoing = (0..).zip(&submission.documents).map(|(index, (id, _))| {
            let entries = metadata.document_entries().iter();
            let entry = entries.into_iter().find(|entry| entry.id == *id);
            let mime_type = entry.and_then(|entry| entry.mime_type.clone());
            OutgoingDocument {
                document_id: id.clone(),
                key: entry_key(index),
                mime_type: mime_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            }
        });
        self.plan.requests.push(PlannedRequest {
            message_id: self.names.soap_message_id(incoming.endpoint, leg),
            outgoing: outgoing.collect(),
            facts: submission
                .documents
                .into_iter()
                .map(|(_, facts)| facts)
                .collect(),
            metadata,
            level,
            address_block: AddressBlock {
                from: incoming.from.clone(),
                to: incoming.recipients.to_vec(),
                relates_to: None,
                final_delivery: false,
            },
            origin,
        });
    }

    fn fail(&mut self, reason: Reason, finding: Finding) {
        self.plan.failure.get_or_insert(reason);
        self.plan.findings.push(finding);
    }
}

fn lacks_required_type(metadata: &Metadata, wanted: &[String]) -> bool {
    let is_wanted = |value: &str| wanted.iter().any(|one| one.eq_ignore_ascii_case(value));
    !wanted.is_empty()
        && !metadata.document_entries().iter().any(|entry| {
            entry.mime_type.as_deref().is_some_and(is_wanted)
                || entry
                    .format_code
                    .as_ref()
                    .is_some_and(|code| is_wanted(&code.code))
        })
}

/// The finding with the place that it was found in before its own.
fn at(place: &str, finding: Finding) -> Finding {
    Finding {
        location: format!("{place}: {}", finding.location),
        ..finding
    }
}
