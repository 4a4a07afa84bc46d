//! Reads a mail message whose signature was verified (RFC 5322, RFC 2045 to 2049, RFC 2183, RFC 2231): its header, and
//! its parts as slices of the octets that were signed. Nothing is decoded before it is asked for, so that a mail of
//! 64 MiB takes its own octets and little more.
//!
//! Whatever two readers could see differently is refused (T-11, T-11b): a critical field twice, a multipart without its
//! final delimiter, a boundary inside itself. The structure is found here; single field values are read by mail-parser.

mod address;
mod field;
mod header;
mod part;
mod sniff;
mod transfer;
mod tree;

use std::borrow::Cow;

pub use address::Mailbox;
pub use header::MailHeader;
pub use part::{Disposition, Part};
pub use sniff::{SNIFFED_OCTETS, Sniffed, sniff};
pub(in crate::formats) use transfer::Base64Lines;
pub use transfer::{DecodeError, TransferEncoding};

use super::super::{
    finding::{Finding, Severity},
    limits::Limits,
};
use field::RawHeader;

/// Why a message is not read at all. No received value in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {text}")]
pub struct MailError {
    /// The rule in docs/spec.
    pub rule: &'static str,
    /// The path of the part, empty for the message itself.
    pub location: String,
    /// What is wrong and what would be accepted.
    pub text: &'static str,
}

impl MailError {
    fn new(rule: &'static str, location: &str, text: &'static str) -> Self {
        Self {
            rule,
            location: location.to_owned(),
            text,
        }
    }

    /// The same as a finding that refuses the message.
    pub fn to_finding(&self) -> Finding {
        refusal(self.rule, &self.location, self.text)
    }
}

/// A finding that refuses a mail; no XDS code belongs to it.
pub(crate) fn refusal(
    rule: &'static str,
    location: impl Into<String>,
    text: impl Into<String>,
) -> Finding {
    Finding {
        severity: Severity::Error,
        ..Finding::warning(rule, location, text)
    }
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Mail<'a> {
    /// Its header.
    pub header: MailHeader,
    /// Its outermost part, whose path is empty if it is a multipart and `1` if it is not.
    pub root: Part<'a>,
    /// What was tolerated, each a Warning.
    pub findings: Vec<Finding>,
}

/// What kind of report a message is, if it is one (RFC 6522). Reports are never documents (XDR-112).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A message disposition notification (RFC 8098).
    Disposition,
    /// A delivery status notification (RFC 3464).
    DeliveryStatus,
}

impl Mail<'_> {
    /// Whether the message is an MDN or a DSN: a multipart/report of that type, whatever stands in its parts.
    pub fn report(&self) -> Option<Report> {
        if self.root.media_type() != "multipart/report" {
            return None;
        }
        let kind = self.root.parameter("report-type")?;
        if kind.eq_ignore_ascii_case("disposition-notification") {
            Some(Report::Disposition)
        } else if kind.eq_ignore_ascii_case("delivery-status") {
            Some(Report::DeliveryStatus)
        } else {
            None
        }
    }

    /// Every part that is no multipart, in wire order.
    pub fn leaves(&self) -> Vec<&Part<'_>> {
        let mut leaves = Vec::new();
        self.root.collect_leaves(&mut leaves);
        leaves
    }

    /// The part with this path.
    pub fn part(&self, path: &str) -> Option<&Part<'_>> {
        self.leaves().into_iter().find(|part| part.path == path)
    }
}

/// Reads a whole message: header, blank line, body.
pub fn read<'a>(message: &'a [u8], limits: &Limits) -> Result<Mail<'a>, MailError> {
    let fields = RawHeader::read(message, limits, "")?;
    mail(&fields, message, limits)
}

/// Reads a message that was signed without being wrapped (WR-2): the outer header, which nobody signed, is that of the
/// message, and `entity` is its content.
pub fn read_unwrapped<'a>(
    outer_header: &[u8],
    entity: &'a [u8],
    limits: &Limits,
) -> Result<Mail<'a>, MailError> {
    let fields = RawHeader::read(outer_header, limits, "")?;
    let mut mail = mail(&fields, entity, limits)?;
    if mail.header.direct_context.take().is_some() {
        let text = "the field stands in a header that was not signed and is not used; the message must be wrapped";
        let finding = Finding::warning("CTX-3", "X-Direct-Context", text);
        mail.findings.push(finding);
    }
    Ok(mail)
}

fn mail<'a>(
    fields: &RawHeader<'_>,
    entity: &'a [u8],
    limits: &Limits,
) -> Result<Mail<'a>, MailError> {
    if entity.len() as u64 > limits.max_message_bytes {
        let text = "the message is larger than the limit";
        return Err(MailError::new("LIM-1", "", text));
    }
    let mut findings = Vec::new();
    let header = MailHeader::read(fields, &mut findings)?;
    let root = tree::read(entity, limits, &mut findings)?;
    Ok(Mail {
        header,
        root,
        findings,
    })
}

/// The message that a signed entity wraps (WR-1), its transfer encoding taken away: 7bit, 8bit and binary as they are,
/// base64 and quoted-printable because peers write them (WR-9). `None` if the entity is no `message/rfc822` (WR-2).
pub fn wrapped_message<'a>(
    entity: &'a [u8],
    limits: &Limits,
) -> Result<Option<Cow<'a, [u8]>>, MailError> {
    let fields = RawHeader::read(entity, limits, "")?;
    let part = Part::read(&fields, entity, String::new())?;
    if !matches!(part.media_type(), "message/rfc822" | "message/global") {
        return Ok(None);
    }
    let message = part.decoded(limits.max_message_bytes).map_err(|error| {
        let rule = match error {
            DecodeError::TooLarge { .. } => "LIM-1",
            _ => "WR-9",
        };
        MailError::new(
            rule,
            "",
            "the wrapped message cannot be decoded; 7bit, 8bit, binary, base64 and quoted-printable are read",
        )
    })?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests;
