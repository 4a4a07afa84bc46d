//! Reading an MTOM package: the root part, the parts that its Includes name, and which Document each one is.

use std::{
    collections::{HashMap, HashSet},
    io::BufRead,
};

use super::{
    DocumentPart, ReadError,
    body::{self, Content, FoundDocument, Href, OneDocument},
    read::{Envelope, Reading, Wire, from_io, is_known_charset},
};
use crate::formats::{
    base64_blocks::Base64Error,
    document::DocumentKey,
    finding::Finding,
    soap::{
        Fault,
        media_type::MediaType,
        multipart::{Multipart, PartHeader, bare_content_id, malformed},
        transfer::{Decoded, TransferDecoder, undecodable},
    },
    xdr::ErrorCode,
};

/// Characters that a boundary may have (RFC 2046 §5.1.1); longer ones are taken with a warning.
const USUAL_BOUNDARY_BYTES: usize = 70;

/// One part that is not the root.
pub(super) struct SeenPart {
    key: DocumentKey,
    content_id: Option<String>,
}

impl Reading<'_> {
    /// A package: multipart/related with the envelope as its root part.
    pub(super) fn read_package(
        &mut self,
        media: &MediaType,
        wire: &mut Wire<'_>,
    ) -> Result<Envelope, ReadError> {
        let Some(boundary) = media.parameter("boundary") else {
            return Err(
                Fault::sender("SOAP-3", "multipart/related needs a boundary parameter").into(),
            );
        };
        self.check_package_head(media, boundary);
        let start = media.parameter("start").map(bare_content_id);
        let mut package = Multipart::open(wire, boundary, self.limits).map_err(from_io)?;
        let mut content_ids = HashSet::new();
        let mut parts = Vec::new();
        let mut envelope = None;
        let mut wanted = None;
        let mut root_id = None;
        let mut has_bare_ids = false;
        for index in 0u32.. {
            let Some(header) = package.next_part().map_err(from_io)? else {
                break;
            };
            if let Some(id) = &header.content_id
                && !content_ids.insert(id.clone())
            {
                return Err(Fault::sender("SOAP-31", "two parts have one Content-ID").into());
            }
            has_bare_ids |= header.has_bare_content_id;
            let is_root = match start {
                Some(start) => header.content_id.as_deref() == Some(start),
                None => index == 0,
            };
            if is_root {
                root_id = header.content_id.clone();
                envelope = Some(self.read_root(&header, &mut package)?);
                wanted = Some(self.named_parts());
                continue;
            }
            let key = DocumentKey::Part(index);
            let is_wanted = match (&header.content_id, &wanted) {
                (None, _) => false,
                // The root has not come yet: every part may be a document.
                (Some(_), None) => true,
                (Some(id), Some(wanted)) => wanted.contains(id),
            };
            if is_wanted {
                self.read_part(key, &header, &mut package)?;
            }
            parts.push(SeenPart {
                key,
                content_id: header.content_id,
            });
        }
        if has_bare_ids {
            self.warn(
                "SOAP-21",
                "multipart/related",
                "a Content-ID should stand in angle brackets",
            );
        }
        if package.has_bare_lf() {
            self.warn(
                "SOAP-30",
                "multipart/related",
                "lines in the headers of parts end in LF alone; it should be CRLF",
            );
        }
        if package.lacks_final_delimiter() {
            self.warn(
                "SOAP-30",
                "multipart/related",
                "the closing boundary lacks its final --, which should be there",
            );
        }
        let Some(envelope) = envelope else {
            return Err(Fault::sender(
                "SOAP-20",
                "root part not found; the start parameter must be the Content-ID of a part",
            )
            .into());
        };
        self.bind(&parts, root_id.as_deref());
        Ok(envelope)
    }

    /// Every Content-ID that an Include may mean.
    fn named_parts(&self) -> HashSet<String> {
        let hrefs = self
            .found
            .iter()
            .filter_map(|document| match &document.content {
                Content::Include(href) => Some(href),
                Content::Inline(_) | Content::Unusable(_) => None,
            });
        hrefs.flat_map(Href::names).map(str::to_owned).collect()
    }

    fn read_root(
        &mut self,
        header: &PartHeader,
        package: &mut Multipart<'_>,
    ) -> Result<Envelope, ReadError> {
        let media = header.content_type.as_deref().and_then(MediaType::parse);
        self.check_root_head(header, media.as_ref());
        let charset = media.as_ref().and_then(|media| media.parameter("charset"));
        if !charset.is_none_or(is_known_charset) {
            return Err(ReadError::UnsupportedMediaType);
        }
        match decoder(header)? {
            TransferDecoder::Identity => self.read_envelope(Box::new(package), charset),
            decoder => {
                let decoded = Box::new(Decoded::new(package, decoder));
                self.read_envelope(decoded, charset)
            }
        }
    }

    /// What the Content-Type of the whole should say, and does not (SOAP-3).
    fn check_package_head(&mut self, media: &MediaType, boundary: &str) {
        let is = |name: &str, wanted: &str| {
            let value = media.parameter(name).unwrap_or_default();
            // `action` may sit behind a semicolon.
            let essence = value.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case(wanted)
        };
        let mut warn = |text| self.warn("SOAP-3", "Content-Type", text);
        if !is("type", "application/xop+xml") {
            warn("the type parameter should be application/xop+xml");
        }
        if !is("start-info", "application/soap+xml") {
            warn("the start-info parameter should be application/soap+xml");
        }
        if media.parameter("start").is_none() {
            warn("the start parameter is missing, the first part is the root; it should be there");
        }
        if boundary.len() > USUAL_BOUNDARY_BYTES {
            self.warn(
                "SOAP-30",
                "Content-Type",
                "the boundary has more than 70 characters",
            );
        }
    }

    /// What the header of the root part should say, and does not (SOAP-4).
    fn check_root_head(&mut self, header: &PartHeader, media: Option<&MediaType>) {
        let mut warn = |text| self.warn("SOAP-4", "root part", text);
        if media.is_none_or(|media| media.essence() != "application/xop+xml") {
            warn("its Content-Type should be application/xop+xml");
        } else if media
            .and_then(|media| media.parameter("type"))
            .and_then(MediaType::parse)
            .is_none_or(|inner| inner.essence() != "application/soap+xml")
        {
            warn("the type parameter of its Content-Type should be application/soap+xml");
        }
        let encoding = header.transfer_encoding.as_deref().unwrap_or_default();
        if !encoding.trim().eq_ignore_ascii_case("binary") {
            warn("its Content-Transfer-Encoding should be binary");
        }
    }

    fn read_part(
        &mut self,
        key: DocumentKey,
        header: &PartHeader,
        package: &mut Multipart<'_>,
    ) -> Result<(), ReadError> {
        let mut decoder = decoder(header)?;
        let mut document = OneDocument::begin(self.sink, key, self.limits.max_document_bytes)
            .map_err(ReadError::Sink)?;
        loop {
            let octets = package.fill_buf().map_err(from_io)?;
            if octets.is_empty() {
                break;
            }
            let amount = octets.len();
            decoder
                .feed(octets, &mut |piece| document.write(piece))
                .map_err(from_decoder)?;
            package.consume(amount);
        }
        decoder
            .finish(&mut |piece| document.write(piece))
            .map_err(from_decoder)?;
        if document.end().map_err(ReadError::Sink)? {
            self.too_large.insert(key);
        }
        Ok(())
    }

    /// A document that something is wrong with came all the same: nobody is to be told that it is missing.
    fn leave_out(&mut self, document: FoundDocument) {
        if !document.id.is_empty() {
            self.unusable.push(document.id);
        }
    }

    /// Ties every Document to its octets (SOAP-22, SOAP-24, SOAP-28, SOAP-32, LIM-2).
    pub(super) fn bind(&mut self, parts: &[SeenPart], root_id: Option<&str>) {
        let by_id: HashMap<&str, DocumentKey> = parts
            .iter()
            .filter_map(|part| part.content_id.as_deref().map(|id| (id, part.key)))
            .collect();
        let part_of = |href: &Href| href.names().find_map(|name| by_id.get_key_value(name));
        let mut used = HashSet::new();
        // Parts of documents that something else is wrong with.
        let mut of_refused = HashSet::new();
        for document in std::mem::take(&mut self.found) {
            let key = match &document.content {
                Content::Inline(key) => *key,
                Content::Unusable(hrefs) => {
                    of_refused.extend(hrefs.iter().filter_map(part_of).map(|(_, key)| *key));
                    self.leave_out(document);
                    continue;
                }
                Content::Include(href) => {
                    let Some((name, key)) = part_of(href) else {
                        let is_root = href.names().any(|name| root_id == Some(name));
                        self.findings.push(if is_root {
                            document.error(
                                "T-10c",
                                ErrorCode::XdsRepositoryError,
                                "xop:Include names the root part",
                            )
                        } else {
                            document.error(
                                "SOAP-24",
                                ErrorCode::XdsMissingDocument,
                                "xop:Include names no part of the package",
                            )
                        });
                        self.leave_out(document);
                        continue;
                    };
                    if !used.insert(*key) && !self.options.shared_parts {
                        self.findings.push(document.error(
                            "SOAP-32",
                            ErrorCode::XdsRepositoryError,
                            "several documents name one part; each should have its own",
                        ));
                        self.leave_out(document);
                        continue;
                    }
                    if self.too_large.contains(key) {
                        let finding = body::document_too_large(&document.id, self.limits);
                        self.findings.push(finding);
                        self.leave_out(document);
                        continue;
                    }
                    if href.decoded.is_some() && *name == href.written {
                        self.findings.push(document.warning(
                            "SOAP-22",
                            "the href is a Content-ID as it stands; it should be percent-encoded",
                        ));
                    }
                    *key
                }
            };
            self.documents.push(DocumentPart {
                document_id: document.id,
                key,
            });
        }
        for part in parts {
            match &part.content_id {
                None => self.warn(
                    "SOAP-28",
                    "multipart/related",
                    "a part without Content-ID is ignored; each should have one",
                ),
                Some(id) if !used.contains(&part.key) && !of_refused.contains(&part.key) => {
                    self.findings.push(Finding::error(
                        "SOAP-28",
                        ErrorCode::XdsMissingDocumentMetadata,
                        format!("part {}", body::cut(id)),
                        "no xop:Include names this part",
                    ))
                }
                Some(_) => {}
            }
        }
    }
}

fn decoder(header: &PartHeader) -> Result<TransferDecoder, ReadError> {
    TransferDecoder::of(header.transfer_encoding.as_deref()).ok_or_else(|| {
        from_io(malformed(
            "SOAP-26",
            "a Content-Transfer-Encoding other than binary, 8bit, 7bit, base64, quoted-printable",
        ))
    })
}

fn from_decoder(error: Base64Error) -> ReadError {
    match error {
        Base64Error::NotBase64 => from_io(undecodable()),
        Base64Error::Sink(error) => ReadError::Sink(error),
    }
}
