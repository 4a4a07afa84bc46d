//! xds:ProvideAndRegisterDocumentSetRequest: the metadata, kept as text, and the documents, poured into a sink.

use std::{collections::HashSet, io};

use super::ReadError;
use crate::formats::{
    base64_blocks::Base64Error,
    document::{DocumentKey, DocumentSink},
    finding::Finding,
    limits::Limits,
    soap::{Fault, addressing::percent_decode, base64::Base64Decoder},
    xdr::ErrorCode,
    xml::{
        chars::is_space,
        kept::KeptXml,
        names,
        pull::{Node, Pull},
    },
};

/// Characters of a received id that a finding's location shows.
const MAX_LOCATION_CHARS: usize = 100;

/// One xds:Document.
pub(super) struct FoundDocument {
    pub(super) id: String,
    pub(super) content: Content,
}

/// Where the octets of a document are.
pub(super) enum Content {
    /// In the envelope; they are in the sink.
    Inline(DocumentKey),
    /// In the part that the Include names.
    Include(Href),
    /// Nowhere; a finding says why. The parts that its Includes name are accounted for by it.
    Unusable(Vec<Href>),
}

/// What an Include names, without `cid:`. It is decoded once, however many parts there are to compare it with.
pub(super) struct Href {
    /// As it is written.
    pub(super) written: String,
    /// Decoded, where that is something else (SOAP-22).
    pub(super) decoded: Option<String>,
}

impl Href {
    fn of(written: &str) -> Self {
        #[cfg(test)]
        DECODED.with(|count| count.set(count.get() + 1));
        Self {
            decoded: percent_decode(written).filter(|decoded| decoded != written),
            written: written.to_owned(),
        }
    }

    /// The Content-IDs that it may mean, the likelier first (SOAP-22).
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.decoded
            .as_deref()
            .into_iter()
            .chain([self.written.as_str()])
    }
}

#[cfg(test)]
thread_local! {
    /// How many hrefs this thread has decoded.
    pub(super) static DECODED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Content {
    /// The same of a document that is refused.
    fn refused(self) -> Self {
        match self {
            Self::Inline(_) => Self::Unusable(Vec::new()),
            Self::Include(href) => Self::Unusable(vec![href]),
            Self::Unusable(hrefs) => Self::Unusable(hrefs),
        }
    }
}

impl FoundDocument {
    pub(super) fn error(&self, rule: &'static str, code: ErrorCode, text: &str) -> Finding {
        Finding::error(rule, code, location(&self.id), text)
    }

    pub(super) fn warning(&self, rule: &'static str, text: &str) -> Finding {
        Finding::warning(rule, location(&self.id), text)
    }
}

fn location(id: &str) -> String {
    format!("Document({})", cut(id))
}

/// A received id, short enough for a location.
pub(super) fn cut(id: &str) -> String {
    id.chars()
        .filter(|c| !c.is_control())
        .take(MAX_LOCATION_CHARS)
        .collect()
}

/// The finding for a document over the limit (LIM-2).
pub(super) fn document_too_large(id: &str, limits: &Limits) -> Finding {
    Finding::error(
        "LIM-2",
        ErrorCode::XdsRepositoryOutOfResources,
        location(id),
        format!(
            "the document is larger than {} octets",
            limits.max_document_bytes
        ),
    )
}

/// One document on its way into the sink, up to the limit; what is beyond is dropped.
pub(super) struct OneDocument<'s> {
    sink: &'s mut dyn DocumentSink,
    left_bytes: u64,
    is_too_large: bool,
}

impl<'s> OneDocument<'s> {
    pub(super) fn begin(
        sink: &'s mut dyn DocumentSink,
        key: DocumentKey,
        max_bytes: u64,
    ) -> io::Result<Self> {
        sink.begin(key)?;
        Ok(Self {
            sink,
            left_bytes: max_bytes,
            is_too_large: false,
        })
    }

    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self.left_bytes.checked_sub(octets.len() as u64) {
            Some(left_bytes) if !self.is_too_large => {
                self.left_bytes = left_bytes;
                self.sink.write(octets)
            }
            _ => {
                self.is_too_large = true;
                Ok(())
            }
        }
    }

    /// Ends it and says whether it was too large.
    pub(super) fn end(self) -> io::Result<bool> {
        self.sink.end()?;
        Ok(self.is_too_large)
    }
}

/// Reads the element whose start tag was read last, to its end.
pub(super) fn read(
    pull: &mut Pull<'_>,
    limits: &Limits,
    sink: &mut dyn DocumentSink,
    findings: &mut Vec<Finding>,
    found: &mut Vec<FoundDocument>,
) -> Result<KeptXml, ReadError> {
    let mut metadata = None;
    let mut documents = Documents {
        limits,
        sink,
        findings,
        found,
        inline: 0,
        ids: HashSet::new(),
    };
    if has_other_attributes(pull, &[]) {
        documents.warn("an attribute is ignored; the request element has none");
    }
    pull.watch();
    loop {
        match pull.next()? {
            Node::Start if pull.is(names::LCM, "SubmitObjectsRequest") => {
                if metadata.is_some() {
                    return Err(misshapen("there is more than one lcm:SubmitObjectsRequest"));
                }
                if !documents.found.is_empty() {
                    documents.warn("lcm:SubmitObjectsRequest must come before the documents");
                }
                pull.keep();
                pull.skip()?;
                metadata = Some(KeptXml::from_checked(pull.take_kept()?));
            }
            Node::Start if pull.is(names::XDS, "Document") => {
                // Document text is not to be recorded.
                pull.unwatch();
                documents.read(pull)?;
                if metadata.is_none() {
                    pull.watch();
                }
            }
            Node::Start => {
                documents.warn(
                    "an element other than lcm:SubmitObjectsRequest and xds:Document is ignored",
                );
                pull.skip()?;
            }
            Node::Text if pull.text().bytes().all(is_space) => {}
            Node::Text => return Err(misshapen("text between its elements")),
            Node::End | Node::Eof => break,
        }
    }
    pull.unwatch();
    metadata.ok_or_else(|| misshapen("lcm:SubmitObjectsRequest is missing"))
}

/// Whether the start tag read last has an attribute beyond `known` and those that XML Schema allows everywhere.
fn has_other_attributes(pull: &Pull<'_>, known: &[&str]) -> bool {
    pull.attributes().any(|(namespace, local, _)| {
        namespace != names::XSI && !(namespace.is_empty() && known.contains(&local))
    })
}

/// XDR-2.
fn misshapen(what: &str) -> ReadError {
    Fault::sender(
        "XDR-2",
        format!("xds:ProvideAndRegisterDocumentSetRequest: {what}"),
    )
    .into()
}

struct Documents<'s, 'r> {
    limits: &'r Limits,
    sink: &'s mut dyn DocumentSink,
    findings: &'r mut Vec<Finding>,
    found: &'r mut Vec<FoundDocument>,
    inline: u32,
    ids: HashSet<String>,
}

impl Documents<'_, '_> {
    fn warn(&mut self, text: &str) {
        let is_known = self
            .findings
            .iter()
            .any(|finding| finding.rule == "XDR-2" && finding.text == text);
        if !is_known {
            self.findings.push(Finding::warning(
                "XDR-2",
                "ProvideAndRegisterDocumentSetRequest",
                text,
            ));
        }
    }

    /// Reads one xds:Document, whose start tag was read last.
    fn read(&mut self, pull: &mut Pull<'_>) -> Result<(), ReadError> {
        if self.found.len() >= self.limits.max_document_entries {
            if self.found.len() == self.limits.max_document_entries {
                self.findings.push(Finding::error(
                    "LIM-4",
                    ErrorCode::XdsRepositoryOutOfResources,
                    "ProvideAndRegisterDocumentSetRequest",
                    format!(
                        "there are more than {} documents",
                        self.limits.max_document_entries
                    ),
                ));
                self.found.push(FoundDocument {
                    id: String::new(),
                    content: Content::Unusable(Vec::new()),
                });
            }
            return self.pass_over(pull);
        }
        let id = pull.attribute("", "id").unwrap_or_default();
        if has_other_attributes(pull, &["id"]) {
            self.warn("an attribute of xds:Document other than id is ignored");
        }
        let mut content = self.read_content(pull, &id)?;
        if id.is_empty() {
            content = content.refused();
            self.findings.push(Finding::error(
                "XDR-25",
                ErrorCode::XdsMissingDocumentMetadata,
                "Document",
                "xds:Document needs the id of its ExtrinsicObject",
            ));
        } else if !self.ids.insert(id.clone()) {
            content = content.refused();
            self.findings.push(Finding::error(
                "XDR-8",
                ErrorCode::XdsRepositoryMetadataError,
                location(&id),
                "two xds:Document elements have this id",
            ));
        }
        self.found.push(FoundDocument { id, content });
        Ok(())
    }

    /// Passes over a document without counting its text towards the metadata.
    fn pass_over(&mut self, pull: &mut Pull<'_>) -> Result<(), ReadError> {
        let outside = pull.depth().saturating_sub(1);
        while pull.depth() > outside {
            pull.drain_text(|_| Ok::<(), ReadError>(()))??;
            pull.next()?;
        }
        Ok(())
    }

    fn read_content(&mut self, pull: &mut Pull<'_>, id: &str) -> Result<Content, ReadError> {
        let mut text = InlineText::new(
            DocumentKey::Inline(self.inline),
            self.limits.max_document_bytes,
        );
        let mut includes: Vec<Href> = Vec::new();
        let mut has_space = false;
        let mut problem = None;
        loop {
            pull.drain_text(|raw| {
                has_space |= raw.first().is_some_and(|b| is_space(*b));
                text.feed(raw, self.sink)
            })??;
            pull.watch();
            let node = pull.next()?;
            match node {
                Node::Text => text.feed(pull.text().as_bytes(), self.sink)?,
                Node::Start if pull.is(names::XOP, "Include") => {
                    let href = pull.attribute("", "href");
                    if !includes.is_empty() {
                        problem = Some(("SOAP-23", "xop:Include must stand alone"));
                    }
                    match href.as_deref().and_then(strip_cid) {
                        // There are not more parts that it could name.
                        Some(_) if includes.len() >= self.limits.max_mtom_parts => {}
                        Some(content_id) => includes.push(Href::of(content_id)),
                        None => {
                            problem =
                                Some(("SOAP-24", "xop:Include needs an href that begins with cid:"))
                        }
                    }
                    pull.unwatch();
                    pull.skip()?;
                }
                Node::Start
                    if pull.is(names::DIRECT, "messageDisposition") && !text.has_begun() =>
                {
                    pull.keep();
                    pull.skip()?;
                    let raw = pull.take_kept()?;
                    self.findings.push(Finding::warning(
                        "XDR-122",
                        location(id),
                        "a messageDisposition stands in the document as XML; it should be base64",
                    ));
                    text.take_plain(raw.as_bytes(), self.sink)?;
                }
                Node::Start => {
                    problem = Some((
                        "SOAP-24",
                        "xds:Document must hold base64 or one xop:Include",
                    ));
                    pull.unwatch();
                    pull.skip()?;
                }
                Node::End | Node::Eof => break,
            }
            pull.unwatch();
        }
        pull.unwatch();
        if !includes.is_empty() && text.has_begun() {
            problem = Some(("SOAP-23", "xop:Include must stand alone"));
        }
        if text.has_stray {
            problem = Some((
                "SOAP-24",
                "text beside the XML of a messageDisposition, which must stand alone",
            ));
        }
        let has_text = text.has_begun();
        // An element without content is a document without octets.
        let outcome = if has_text || includes.is_empty() && problem.is_none() {
            self.inline += 1;
            text.end(self.sink)?
        } else {
            Outcome::Whole
        };
        match outcome {
            Outcome::Whole => {}
            Outcome::NotBase64 => {
                self.findings.push(Finding::error(
                    "SOAP-29",
                    ErrorCode::XdsRepositoryMetadataError,
                    location(id),
                    "the text of the document is not base64 with valid padding",
                ));
                return Ok(Content::Unusable(includes));
            }
            Outcome::TooLarge => {
                self.findings.push(document_too_large(id, self.limits));
                return Ok(Content::Unusable(includes));
            }
        }
        if let Some((rule, what)) = problem {
            self.findings.push(Finding::error(
                rule,
                ErrorCode::XdsRepositoryError,
                location(id),
                what,
            ));
            return Ok(Content::Unusable(includes));
        }
        if !includes.is_empty() && has_space {
            self.findings.push(Finding::warning(
                "SOAP-23",
                location(id),
                "white space around xop:Include, which should stand alone",
            ));
        }
        Ok(match includes.pop() {
            Some(href) => Content::Include(href),
            None => Content::Inline(DocumentKey::Inline(self.inline.saturating_sub(1))),
        })
    }
}

fn strip_cid(href: &str) -> Option<&str> {
    let (scheme, rest) = href.trim().split_once(':')?;
    (scheme.eq_ignore_ascii_case("cid") && !rest.is_empty()).then_some(rest)
}

/// Base64 text of a document, decoded as it comes. The sink hears of it with the first character that counts.
struct InlineText {
    key: DocumentKey,
    max_bytes: u64,
    decoder: Option<Base64Decoder>,
    size: u64,
    outcome: Outcome,
    /// Octets came that were no base64 from the beginning.
    is_plain: bool,
    /// Text followed them.
    has_stray: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Whole,
    NotBase64,
    TooLarge,
}

impl InlineText {
    fn new(key: DocumentKey, max_bytes: u64) -> Self {
        Self {
            key,
            max_bytes,
            decoder: None,
            size: 0,
            outcome: Outcome::Whole,
            is_plain: false,
            has_stray: false,
        }
    }

    fn has_begun(&self) -> bool {
        self.decoder.is_some()
    }

    fn feed(&mut self, text: &[u8], sink: &mut dyn DocumentSink) -> Result<(), ReadError> {
        if self.decoder.is_none() || self.is_plain {
            if text.iter().all(|b| is_space(*b)) {
                return Ok(());
            }
            if self.is_plain {
                self.has_stray = true;
                return Ok(());
            }
            sink.begin(self.key).map_err(ReadError::Sink)?;
        }
        let mut decoder = self.decoder.take().unwrap_or_else(Base64Decoder::new);
        let fed = if self.outcome == Outcome::Whole {
            decoder.feed(text, &mut |octets| self.pass(octets, sink))
        } else {
            Ok(())
        };
        self.decoder = Some(decoder);
        self.note(fed)
    }

    /// Octets that are not base64.
    fn take_plain(&mut self, octets: &[u8], sink: &mut dyn DocumentSink) -> Result<(), ReadError> {
        sink.begin(self.key).map_err(ReadError::Sink)?;
        self.decoder = Some(Base64Decoder::new());
        self.is_plain = true;
        self.pass(octets, sink).map_err(ReadError::Sink)
    }

    fn end(mut self, sink: &mut dyn DocumentSink) -> Result<Outcome, ReadError> {
        match self.decoder.take() {
            Some(decoder) if self.outcome == Outcome::Whole => {
                let finished = decoder.finish(&mut |octets| self.pass(octets, sink));
                self.note(finished)?;
            }
            Some(_) => {}
            None => sink.begin(self.key).map_err(ReadError::Sink)?,
        }
        sink.end().map_err(ReadError::Sink)?;
        Ok(self.outcome)
    }

    fn pass(&mut self, octets: &[u8], sink: &mut dyn DocumentSink) -> io::Result<()> {
        self.size += octets.len() as u64;
        if self.size > self.max_bytes {
            self.outcome = Outcome::TooLarge;
            return Ok(());
        }
        sink.write(octets)
    }

    fn note(&mut self, result: Result<(), Base64Error>) -> Result<(), ReadError> {
        match result {
            Ok(()) => Ok(()),
            Err(Base64Error::NotBase64) => {
                self.outcome = Outcome::NotBase64;
                Ok(())
            }
            Err(Base64Error::Sink(error)) => Err(ReadError::Sink(error)),
        }
    }
}
