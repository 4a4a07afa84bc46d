//! What a file holds and whether the bridge would take it: read-only, by the code that the listeners run.

pub(super) mod mail;
mod notice;
mod secured;

pub use notice::{InspectedNotice, NoticeRecipient};

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use jiff::Timestamp;

use crate::{
    bridge::{
        destination::Destinations,
        judge::{self, Judgement, Terms},
        partner::Partner,
        routing::Routes,
    },
    formats::{
        document::{DocumentFacts, FactsSink},
        finding::{self, Finding, Severity},
        ids::DirectAddress,
        limits::Limits,
        metadata::{Level, Metadata, MetadataError, validate::Container},
        smime::Look,
        soap::{Fault, Packaging, media_type::MediaType, saved::SavedHeader},
        xdm::{self, XdmError, XdmPackage},
        xdr::{
            request::{self, ReadError, ReceivedRequest},
            response::{self, Answer, RegistryResponse},
        },
        xml::{
            kept::{read_through, root_name},
            names,
            pull::XmlError,
        },
    },
};

/// Octets at the beginning that tell what the file is.
const HEAD_BYTES: u64 = 64 * 1024;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ITI-41 request, or what was saved of one.
    XdrRequest,
    /// An XDM package.
    Xdm,
    /// A mail that is neither signed nor sealed.
    Mail,
    /// A message disposition notification, neither signed nor sealed.
    Mdn,
    /// A delivery status notification, neither signed nor sealed.
    Dsn,
    /// A mail, or a CMS alone, that is signed or sealed.
    Smime,
    /// The answer to an ITI-41 request.
    RegistryResponse,
    /// METADATA.XML of a package.
    Metadata,
}

impl Kind {
    /// The word for it in what `inspect` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::XdrRequest => "xdr-request",
            Self::Xdm => "xdm",
            Self::Mail => "mail",
            Self::Mdn => "mdn",
            Self::Dsn => "dsn",
            Self::Smime => "smime",
            Self::RegistryResponse => "registry-response",
            Self::Metadata => "metadata",
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What it is.
    pub kind: Kind,
    /// By which level its metadata was judged; `None` where there is none, or where the sets of a package differ.
    pub level: Option<Level>,
    /// How a request is packaged.
    pub packaging: Option<Packaging>,
    /// The sender that it names.
    pub from: Option<DirectAddress>,
    /// The recipients that it names, each once.
    pub recipients: Vec<DirectAddress>,
    /// Its submissions: one of a request, one for each set of a package.
    pub submissions: Vec<InspectedSubmission>,
    /// The wsa:MessageID that a delivery notification is about.
    pub notification_relates_to: Option<String>,
    /// What an MDN or DSN says.
    pub notice: Option<InspectedNotice>,
    /// How an S/MIME mail is secured.
    pub secured: Option<Look>,
    /// Every violated rule.
    pub findings: Vec<Finding>,
    /// Whether an answer says that the submission was not taken, with or without an error.
    pub is_failure: bool,
}

impl Inspection {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            level: None,
            packaging: None,
            from: None,
            recipients: Vec::new(),
            submissions: Vec::new(),
            notification_relates_to: None,
            notice: None,
            secured: None,
            findings: Vec::new(),
            is_failure: false,
        }
    }

    /// Whether the bridge would take it.
    pub fn is_accepted(&self) -> bool {
        !self.is_failure && !finding::refuses(&self.findings)
    }
}

/// One submission and the documents that came with it.
#[derive(Clone, Debug)]
pub struct InspectedSubmission {
    /// Its metadata.
    pub metadata: Metadata,
    /// The id of each document's DocumentEntry, and what is known of its octets.
    pub documents: Vec<(String, DocumentFacts)>,
}

/// Why a file is not inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is of no kind that is known, or it is damaged.
    #[error("not readable as ITI-41, XDM, mail, METADATA.XML or RegistryResponse: {text}")]
    Unreadable {
        /// What is wrong; no received value in it.
        text: String,
    },
    /// It is meant to be a request, and is no whole message: the listener refuses it by a fault or an HTTP status.
    #[error("not readable as an ITI-41 request, by rule {rule}: {text}")]
    Damaged {
        /// The rule that the listener refuses it by.
        rule: &'static str,
        /// What is wrong; no received value in it.
        text: String,
    },
    /// The file failed.
    #[error("the file could not be read")]
    Io(#[from] io::Error),
}

impl InspectError {
    fn unreadable(text: impl Into<String>) -> Self {
        Self::Unreadable { text: text.into() }
    }
}

/// What a file is by its first octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// SOAP or XML, with or without a head, or an MTOM package.
    Message,
    /// A zip archive.
    Zip,
    /// A mail, or a notice.
    Mail,
    /// A mail that is signed or sealed.
    SecuredMail,
    /// What looks like DER: a CMS that no mail is around.
    Cms,
}

/// Tells by content what the file is, and goes back to its beginning.
pub(super) fn detect<R: Read + Seek>(
    file: &mut R,
    limits: &Limits,
) -> Result<Content, InspectError> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    file.rewind()?;
    if head.starts_with(b"PK") {
        return Ok(Content::Zip);
    }
    // DER: a SEQUENCE of a length in one to four octets, or of indefinite length.
    if matches!(head.as_slice(), [0x30, 0x80..=0x84, ..]) {
        return Ok(Content::Cms);
    }
    if let Some(header) = SavedHeader::find(&head) {
        return Ok(match &header.media {
            _ if header.is_http => Content::Message,
            Some(media) => content_of(media),
            None => Content::Mail,
        });
    }
    if head.trim_ascii_start().starts_with(b"--") {
        return Ok(Content::Message);
    }
    match root_name(&head, limits) {
        Some((namespace, local)) if is_known_root(&namespace, &local) => Ok(Content::Message),
        Some(_) => Err(InspectError::unreadable(
            "XML with another root element than soap:Envelope, xds:ProvideAndRegisterDocumentSetRequest, \
             lcm:SubmitObjectsRequest or rs:RegistryResponse",
        )),
        None => Err(InspectError::unreadable("neither XML, MIME nor zip")),
    }
}

/// What a message with this Content-Type is.
fn content_of(media: &MediaType) -> Content {
    match media.essence() {
        "multipart/related" if is_soap(media.parameter("type").unwrap_or_default()) => {
            Content::Message
        }
        "application/soap+xml" | "application/xop+xml" | "text/xml" | "application/xml" => {
            Content::Message
        }
        "application/pkcs7-mime" | "application/x-pkcs7-mime" | "multipart/signed" => {
            Content::SecuredMail
        }
        _ => Content::Mail,
    }
}

/// Whether the type of a package's root part is that of a SOAP message. Some leave it out.
fn is_soap(root_type: &str) -> bool {
    [
        "",
        "application/xop+xml",
        "application/soap+xml",
        "text/xml",
    ]
    .iter()
    .any(|known| root_type.eq_ignore_ascii_case(known))
}

/// Whether a file with this root element is looked at. An envelope of any namespace is one, though perhaps a bad one.
fn is_known_root(namespace: &str, local: &str) -> bool {
    matches!(
        (namespace, local),
        (_, "Envelope")
            | (names::XDS, "ProvideAndRegisterDocumentSetRequest")
            | (names::LCM, "SubmitObjectsRequest")
            | (names::RS, "RegistryResponse")
    )
}

/// How a file is to be judged, where the command line says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InspectOptions {
    /// A level instead of the one that the message claims.
    pub level: Option<Level>,
    /// Whether our schemas judge as well (MD-99).
    pub validate_schema: bool,
}

/// Inspects a file at the time `now`.
pub fn inspect<R: Read + Seek>(
    file: &mut R,
    options: InspectOptions,
    limits: &Limits,
    now: Timestamp,
) -> Result<Inspection, InspectError> {
    let partner = Partner {
        validate_schema: options.validate_schema,
        ..Partner::default()
    };
    let routes = Routes::default();
    let destinations = Destinations::default();
    let terms = Terms {
        partner: &partner,
        limits,
        routes: &routes,
        destinations: &destinations,
        level: options.level,
        from: None,
        to: &[],
        now: Some(now),
    };
    match detect(file, limits)? {
        Content::Zip => inspect_package(file, &terms),
        Content::Mail => mail::inspect_mail(file, limits),
        Content::SecuredMail => secured::inspect_mail(file, limits),
        Content::Cms => secured::inspect_cms(file, limits),
        Content::Message => inspect_message(file, &terms),
    }
}

fn inspect_message<R: Read + Seek>(
    file: &mut R,
    terms: &Terms<'_>,
) -> Result<Inspection, InspectError> {
    let mut facts = FactsSink::default();
    let options = judge::read_options(terms.partner);
    let error = match request::read_file(file, terms.limits, &options, &mut facts) {
        Ok(request) => return Ok(inspect_request(&request, &facts.into_facts(), terms)),
        Err(error) => error,
    };
    file.seek(SeekFrom::Start(0))?;
    match response::read_file(file, terms.limits) {
        Ok(received) => Ok(inspect_answer(&received.answer)),
        Err(_) => {
            check_whole(file, terms.limits)?;
            refused_request(error)
        }
    }
}

/// What is refused for its beginning may still be damaged further on: XML is read to its end. (Packages are read in
/// order, their damage shows first.)
fn check_whole<R: Read + Seek>(file: &mut R, limits: &Limits) -> Result<(), InspectError> {
    file.rewind()?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let skipped = SavedHeader::find(&head).map_or(0, |header| header.length);
    let start = head.get(skipped..).unwrap_or_default();
    if root_name(start, limits).is_none() {
        return Ok(());
    }
    file.seek(SeekFrom::Start(skipped as u64))?;
    match read_through(&mut BufReader::new(file), limits) {
        Err(XmlError::Refused {
            rule: "SOAP-80",
            text,
        }) => Err(InspectError::unreadable(text)),
        Err(XmlError::Io(error)) => Err(InspectError::Io(error)),
        Ok(()) | Err(XmlError::Refused { .. }) => Ok(()),
    }
}

fn inspect_request(
    request: &ReceivedRequest,
    facts: &[DocumentFacts],
    terms: &Terms<'_>,
) -> Inspection {
    let container = container_of(request, terms.limits);
    let mut inspection = match container {
        Container::Xdr => Inspection {
            packaging: Some(request.packaging),
            ..Inspection::of(Kind::XdrRequest)
        },
        Container::Xdm => Inspection::of(Kind::Metadata),
    };
    inspection
        .notification_relates_to
        .clone_from(&request.notification_relates_to);
    match judge::judge(request, facts, container, terms) {
        Ok(judgement) => inspection.add(judgement, ""),
        Err(error) => {
            inspection.findings.clone_from(&request.findings);
            inspection.findings.push(unreadable_metadata(&error));
        }
    }
    inspection
}

/// A SubmitObjectsRequest alone is that of a package if its entries say where the package has their files: by relative
/// URIs (XDM-21). The URI of a repository is absolute.
fn container_of(request: &ReceivedRequest, limits: &Limits) -> Container {
    if request.packaging.has_documents() {
        return Container::Xdr;
    }
    let names_files = Metadata::read(request.metadata.clone(), limits).is_ok_and(|metadata| {
        let entries = metadata.document_entries().iter();
        let mut uris = entries.filter_map(|entry| entry.uri.as_deref());
        uris.any(|uri| !uri.contains(':'))
    });
    if names_files {
        Container::Xdm
    } else {
        Container::Xdr
    }
}

/// As the listener answers metadata that it cannot read.
fn unreadable_metadata(error: &MetadataError) -> Finding {
    let rule = match error {
        MetadataError::Limit(_) => "LIM-5",
        _ => "XDR-2",
    };
    let code = error.code();
    Finding::error(rule, code, "", error.to_string())
}

/// A request that the listener answers with a fault is refused, unless it is no whole message at all.
fn refused_request(error: ReadError) -> Result<Inspection, InspectError> {
    let (rule, text) = match error {
        ReadError::Fault(fault) if is_damaged(&fault) => {
            let (rule, text) = (fault.rule, fault.reason);
            return Err(InspectError::Damaged { rule, text });
        }
        ReadError::Fault(fault) => (fault.rule, fault.reason),
        ReadError::TooLarge { .. } => ("LIM-1", error.to_string()),
        ReadError::UnsupportedMediaType => {
            let text = error.to_string();
            return Err(InspectError::Damaged {
                rule: "SOAP-7",
                text,
            });
        }
        ReadError::Io(error) | ReadError::Sink(error) => return Err(InspectError::Io(error)),
    };
    let mut inspection = Inspection::of(Kind::XdrRequest);
    inspection.findings.push(Finding {
        rule,
        severity: Severity::Error,
        code: None,
        location: String::new(),
        text,
        value: None,
    });
    Ok(inspection)
}

/// Whether it is the form of the package or of the XML that is broken.
fn is_damaged(fault: &Fault) -> bool {
    matches!(fault.rule, "SOAP-3" | "SOAP-26" | "SOAP-30" | "SOAP-80")
}

fn inspect_answer(answer: &Answer) -> Inspection {
    let mut inspection = Inspection::of(Kind::RegistryResponse);
    match answer {
        Answer::Response(response) => {
            inspection.is_failure = !response.is_success();
            inspection.findings = told(response);
        }
        Answer::Fault(fault) => {
            inspection.is_failure = true;
            inspection.findings.push(Finding {
                rule: "SOAP-94",
                severity: Severity::Error,
                code: None,
                location: String::new(),
                text: format!("a SOAP fault: {}", fault.reason.expose()),
                value: None,
            });
        }
    }
    inspection
}

/// The entries of an answer, whose texts are its contents.
fn told(response: &RegistryResponse) -> Vec<Finding> {
    let entries = response.errors.iter();
    entries
        .map(|entry| Finding {
            rule: "XDR-44",
            severity: entry.severity,
            code: Some(entry.code.clone()),
            location: entry.location.clone().unwrap_or_default(),
            text: entry.context.clone(),
            value: None,
        })
        .collect()
}

fn inspect_package<R: Read + Seek>(
    file: &mut R,
    terms: &Terms<'_>,
) -> Result<Inspection, InspectError> {
    let mut inspection = Inspection::of(Kind::Xdm);
    let XdmPackage { sets, findings } = match xdm::unpack(file, terms.limits) {
        Ok(package) => package,
        Err(XdmError::Io(error)) => return Err(InspectError::Io(error)),
        Err(error @ (XdmError::NotZip { .. } | XdmError::NotXdm)) => {
            return Err(InspectError::unreadable(error.to_string()));
        }
        Err(error) => {
            inspection.findings.push(error.to_finding());
            return Ok(inspection);
        }
    };
    inspection.findings = findings;
    let is_one = sets.len() == 1;
    for (number, set) in (1..).zip(&sets) {
        let place = if is_one {
            String::new()
        } else {
            format!("set {number}: ")
        };
        inspection.add(judge::judge_set(set, terms), &place);
    }
    Ok(inspection)
}

impl Inspection {
    /// Takes over one submission; `place` goes before the places of its findings.
    fn add(&mut self, judgement: Judgement, place: &str) {
        let is_first = self.submissions.is_empty();
        if is_first {
            self.level = Some(judgement.level);
            self.from = judgement.from;
        } else {
            self.level = self.level.filter(|level| *level == judgement.level);
            self.from = self
                .from
                .take()
                .filter(|from| judgement.from.as_ref() == Some(from));
        }
        let is_refused = finding::refuses(&judgement.findings);
        let findings = judgement.findings.into_iter().map(|finding| Finding {
            location: format!("{place}{}", finding.location),
            ..finding
        });
        self.findings.extend(findings);
        if let Some(recipients) = judgement.recipients {
            // Recipients are decided once the submission itself is good.
            if !is_refused {
                let refused = recipients.refused_values().into_iter();
                self.findings.extend(refused.map(|finding| Finding {
                    location: format!("{place}{}", finding.location),
                    ..finding
                }));
            }
            for address in recipients.addresses {
                if !self.recipients.contains(&address) {
                    self.recipients.push(address);
                }
            }
        }
        let documents = judgement.documents.into_iter();
        self.submissions.push(InspectedSubmission {
            metadata: judgement.metadata,
            documents: documents.map(|d| (d.document_id, d.facts)).collect(),
        });
    }
}
