//! Writing packages: the MTOM multipart around an envelope, or the envelope alone.

use std::io::{self, Write};

use openssl::sha::sha256;

use super::Packaging;
use crate::formats::{document::hex, ids::SoapMessageId};

/// The right side of our Content-IDs (SOAP-33). The name can never exist (RFC 2606).
const CONTENT_ID_HOST: &str = "xdbridge.invalid";

/// The boundary and the Content-IDs of one package. They follow from the MessageID, which is random and unknown to
/// whoever wrote the documents, so that no document can hold the boundary but by guessing 128 bits.
pub(crate) struct PackageNames {
    token: String,
}

impl PackageNames {
    pub(crate) fn of(message_id: &SoapMessageId) -> Self {
        let mut token = hex(&sha256(message_id.as_str().as_bytes()));
        token.truncate(32);
        Self { token }
    }

    pub(crate) fn boundary(&self) -> String {
        format!("xdb-{}", self.token)
    }

    pub(crate) fn root_id(&self) -> String {
        format!("root.{}@{CONTENT_ID_HOST}", self.token)
    }

    pub(crate) fn document_id(&self, index: usize) -> String {
        format!("doc{}.{}@{CONTENT_ID_HOST}", index + 1, self.token)
    }

    /// The Content-Type of the whole (SOAP-3).
    pub(crate) fn content_type(&self, action: &str) -> String {
        format!(
            "multipart/related; boundary=\"{}\"; type=\"application/xop+xml\"; start=\"<{}>\"; \
             start-info=\"application/soap+xml\"; action=\"{action}\"",
            self.boundary(),
            self.root_id(),
        )
    }

    /// Everything before the envelope (SOAP-4).
    pub(crate) fn write_root_head(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "--{}\r\nContent-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"\r\n\
             Content-Transfer-Encoding: binary\r\nContent-ID: <{}>\r\n\r\n",
            self.boundary(),
            self.root_id(),
        )
    }

    /// Everything between the part before and the octets of the document at `index`.
    pub(crate) fn write_document_head(
        &self,
        index: usize,
        media_type: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        // SOAP-162: nothing received may break out of a header field.
        let is_plain =
            !media_type.is_empty() && media_type.bytes().all(|b| (b' '..=b'~').contains(&b));
        let media_type = if is_plain {
            media_type
        } else {
            "application/octet-stream"
        };
        write!(
            out,
            "\r\n--{}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: binary\r\n\
             Content-ID: <{}>\r\n\r\n",
            self.boundary(),
            self.document_id(index),
        )
    }

    /// The end of the package.
    pub(crate) fn write_end(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "\r\n--{}--\r\n", self.boundary())
    }
}

/// The Content-Type of a message without MTOM (SOAP-5).
pub(crate) fn simple_content_type(action: &str) -> String {
    format!("application/soap+xml; charset=UTF-8; action=\"{action}\"")
}

/// Content-Type and body of an answer without documents, in the packaging of its request (SOAP-10).
pub(crate) fn write_envelope(
    envelope: &str,
    packaging: Packaging,
    action: &str,
    message_id: &SoapMessageId,
) -> (String, Vec<u8>) {
    if packaging != Packaging::Mtom {
        return (simple_content_type(action), envelope.as_bytes().to_vec());
    }
    let package = PackageNames::of(message_id);
    let mut body = Vec::with_capacity(envelope.len() + 512);
    package
        .write_root_head(&mut body)
        .and_then(|()| body.write_all(envelope.as_bytes()))
        .and_then(|()| package.write_end(&mut body))
        .expect("writing into memory cannot fail");
    (package.content_type(action), body)
}
