//! The message around package and documents: header, text, parts (XDR-85 to XDR-87).

use std::io::{self, Write};

use super::{
    Conversion, ConversionError,
    attachments::{AttachmentSink, PlannedAttachment},
    estimate::DocumentSize,
    in_order,
    package::{entry_documents, package},
};
use crate::{
    bridge::destination::DirectPackaging,
    formats::{
        document::DocumentSource,
        mime::write::{Boundary, Header, HeaderText, Multipart},
        smime::{ContentCipher, SealHeader},
    },
};

/// What the Subject must contain (XDM-50, CC-3).
const XDM_PHRASE: &str = "XDM/1.0/DDM";
/// The Subject of a message that carries no XDM.
const PLAIN_SUBJECT: &str = "Documents";
/// What of a title the Subject takes, in characters: with the phrase it stays below the 255 that XDS has for it on the
/// way back (MD-122).
const MAX_TITLE_CHARS: usize = 240;
/// The package's name (XDM-51, CC-2).
const PACKAGE_NAME: &str = "XDM00001.ZIP";
const XDM_TEXT: &str = "This message carries health documents as an IHE XDM package.\n\
    Programs that read XDM open the attached ZIP file as it is. To read it by hand,\n\
    unpack it and open INDEX.HTM.\n";
const DOCUMENTS_TEXT: &str = "This message carries health documents as attachments.\n";
/// Asks for a notice of final delivery (MDN-3).
const FINAL_DELIVERY: &str = "X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true";

/// Writes the entity that is signed: the complete message wrapped as `message/rfc822` (WR-1), CRLF and 7 bit. The
/// documents are poured through once for the package and once for plain copies, as long as they come in metadata
/// order; nothing is held but the zip and a few documents that come too early.
pub fn write_message(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> Result<(), ConversionError> {
    out.write_all(b"Content-Type: message/rfc822\r\n\r\n")?;
    write_plain_message(conversion, documents, out)
}

/// Writes the message alone, as it is before it is wrapped and signed.
pub fn write_plain_message(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> Result<(), ConversionError> {
    if conversion.to.is_empty() {
        return Err(ConversionError::NoRecipient);
    }
    let packaging = conversion.policy.packaging;
    let boundary = Boundary::of_message(conversion.message_id, 0);
    let mut message = Multipart::begin(inner_header(conversion), "mixed", boundary, out)?;
    message.text_part(text(conversion))?;
    if packaging.has_metadata() {
        message = attach_package(conversion, documents, message)?;
    }
    match packaging {
        DirectPackaging::XdmAndDocuments | DirectPackaging::Documents => {
            message = attach_documents(conversion, documents, message)?;
        }
        DirectPackaging::Xdm => {}
    }
    message.end()?;
    Ok(())
}

/// What the outer header repeats from the message inside (WR-3), with the constant Subject (WR-4).
pub fn outer_header_fields<'a>(
    conversion: &Conversion<'a>,
    subject: &'a str,
    cipher: ContentCipher,
) -> SealHeader<'a> {
    SealHeader {
        from: conversion.from,
        to: conversion.to,
        cc: &[],
        date: conversion.date,
        message_id: conversion.message_id,
        in_reply_to: None,
        references: &[],
        subject,
        cipher,
    }
}

/// The inner header: what the receiver relies on (WR-5, WR-11, XDR-85), and the requests for notices, which stand
/// nowhere else (MDN-2, MDN-3, MDN-5).
fn inner_header(conversion: &Conversion<'_>) -> Header {
    let header = Header::default()
        .addresses("From", std::slice::from_ref(conversion.from))
        .addresses("To", conversion.to)
        .text("Subject", &subject(conversion))
        .date("Date", conversion.date)
        .message_ids("Message-ID", &[conversion.message_id])
        .constant("MIME-Version", "1.0")
        .addresses(
            "Disposition-Notification-To",
            std::slice::from_ref(conversion.from),
        );
    if conversion.wants_final_delivery {
        header.constant("Disposition-Notification-Options", FINAL_DELIVERY)
    } else {
        header
    }
}

fn subject(conversion: &Conversion<'_>) -> HeaderText {
    let title = conversion
        .metadata
        .submission_set()
        .and_then(|set| set.title.as_deref())
        .filter(|_| conversion.policy.subject_title)
        .and_then(title_for_subject);
    let text = match (title, conversion.policy.packaging.has_metadata()) {
        (Some(title), false) => title,
        (None, false) => PLAIN_SUBJECT.to_owned(),
        (Some(title), true) => format!("{title} - {XDM_PHRASE}"),
        (None, true) => XDM_PHRASE.to_owned(),
    };
    HeaderText::cleaned(&text)
}

/// A title without what would change how a Subject reads: line breaks and controls, marks that turn the direction of
/// writing, and the phrase, which says that a package is attached (XDR-87). `None` if nothing is left.
fn title_for_subject(title: &str) -> Option<String> {
    let is_mark = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let bare: String = title.chars().filter(|c| !is_mark(*c)).collect();
    let mut cleaned = HeaderText::cleaned(&bare).as_str().to_owned();
    // Taken off twice or more often: what is left on both sides may form it again.
    while cleaned.contains(XDM_PHRASE) {
        cleaned = cleaned.replace(XDM_PHRASE, " ");
        cleaned = HeaderText::cleaned(&cleaned).as_str().to_owned();
    }
    let cut: String = cleaned.chars().take(MAX_TITLE_CHARS).collect();
    let cut = cut.trim_end();
    cut.contains(|c: char| c.is_alphanumeric())
        .then(|| cut.to_owned())
}

/// What the reader sees first: fixed, and never of the submission.
fn text<'a>(conversion: &Conversion<'a>) -> &'a str {
    let policy = conversion.policy;
    match (policy.body_text.as_str(), policy.packaging.has_metadata()) {
        ("", true) => XDM_TEXT,
        ("", false) => DOCUMENTS_TEXT,
        (text, _) => text,
    }
}

fn attach_package<W: Write>(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    message: Multipart<W>,
) -> Result<Multipart<W>, ConversionError> {
    let zip = package(conversion, documents)?;
    let media_type = "application/zip".parse().map_err(io::Error::other)?;
    let name = PACKAGE_NAME.parse().map_err(io::Error::other)?;
    let mut attachment = message.attachment(&media_type, &name)?;
    attachment.write_all(&zip)?;
    Ok(attachment.finish()?)
}

fn attach_documents<W: Write>(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    message: Multipart<W>,
) -> Result<Multipart<W>, ConversionError> {
    let entries = entry_documents(conversion)?;
    let wanted: Vec<DocumentSize> = entries
        .iter()
        .map(|document| DocumentSize::from(document.facts))
        .collect();
    let described = entries.iter().map(|document| {
        (
            document.entry.title.as_deref(),
            document.entry.mime_type.as_deref().unwrap_or_default(),
        )
    });
    let mut sink = AttachmentSink::new(message, PlannedAttachment::plan(described));
    in_order::pour(documents, &wanted, &mut sink)?;
    sink.finish()
}

#[cfg(test)]
mod tests {
    use super::{
        super::ground::{Ground, policy},
        *,
    };
    use crate::{
        bridge::{destination::MailPolicy, exchange::Reason},
        formats::smime::seal_header,
    };
    use mail_parser::{Message, MessageParser, MimeHeaders as _};

    fn inner(entity: &str) -> Message<'_> {
        let (wrap, inner) = entity.split_once("\r\n\r\n").unwrap();
        assert_eq!(wrap, "Content-Type: message/rfc822");
        MessageParser::default().parse(inner).unwrap()
    }

    const TITLE: &str = "<Name><LocalizedString value=\"Réferral\r\nBcc: x@y.example\"/></Name>";

    // rule: WR-1, WR-11, XDR-85, MDN-1, MDN-2, MDN-3, MDN-4, MDN-5, XDM-50, CC-3
    #[test]
    fn the_inner_header_says_everything_and_asks_for_notices() {
        let ground = Ground::new(TITLE);
        let mut conversion = ground.conversion();
        conversion.wants_final_delivery = true;
        let entity = ground.write(&conversion).unwrap();
        let header = entity.split("\r\n\r\n").nth(1).unwrap();
        let boundary = Boundary::of_message(&ground.message_id, 0);
        assert_eq!(
            header,
            format!(
                "From: Ngozi@direct.elm.example\r\n\
                 To: rui@direct.harbor.example,\r\n intake@direct.harbor.example\r\n\
                 Subject: XDM/1.0/DDM\r\n\
                 Date: Sun, 22 Nov 2026 08:05:09 +0000\r\n\
                 Message-ID: <7@direct.elm.example>\r\n\
                 MIME-Version: 1.0\r\n\
                 Disposition-Notification-To: Ngozi@direct.elm.example\r\n\
                 Disposition-Notification-Options: \
                 X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true\r\n\
                 Content-Type: multipart/mixed;\r\n boundary=\"{}\"",
                boundary.as_str()
            )
        );
        assert!(
            !ground
                .write(&ground.conversion())
                .unwrap()
                .contains("FINAL-DESTINATION")
        );
    }

    // rule: XDR-85, XDM-50, CC-3, SOAP-162, T-11e
    #[test]
    fn a_title_enters_the_subject_only_on_request_and_brings_no_field_with_it() {
        let ground = Ground::new(TITLE);
        let mut conversion = ground.conversion();
        let titled = MailPolicy {
            subject_title: true,
            ..MailPolicy::default()
        };
        conversion.policy = &titled;
        let entity = ground.write(&conversion).unwrap();
        // The phrase stands in clear even beside an encoded title.
        assert!(entity.contains("XDM/1.0/DDM\r\n"));
        assert!(!entity.contains("\r\nBcc:"));
        let message = inner(&entity);
        assert_eq!(
            message.subject(),
            Some("Réferral Bcc: x@y.example - XDM/1.0/DDM")
        );
    }

    // rule: XDR-85, XDR-87, XDM-50
    #[test]
    fn a_title_brings_neither_the_phrase_nor_marks_nor_endless_text_into_the_subject() {
        for (title, cleaned) in [
            ("Referral", Some("Referral")),
            (" \u{202e}Re\r\nferral\0 ", Some("Re ferral")),
            ("A XDM/1.0/DDM B", Some("A B")),
            ("XDM/1.XDM/1.0/DDM0/DDM x", Some("XDM/1. 0/DDM x")),
            ("XDM/1.0/DDM - ", None),
            ("", None),
        ] {
            assert_eq!(title_for_subject(title).as_deref(), cleaned, "{title:?}");
        }
        let long = title_for_subject(&"é ".repeat(400)).unwrap();
        assert!((238..=MAX_TITLE_CHARS).contains(&long.chars().count()));
    }

    // rule: XDR-86, XDM-51, XDM-52, CC-2
    #[test]
    fn a_package_message_holds_a_text_and_the_zip_and_nothing_else() {
        let ground = Ground::new("");
        let entity = ground.write(&ground.conversion()).unwrap();
        let message = inner(&entity);
        assert_eq!(
            (message.text_body_count(), message.attachment_count()),
            (1, 1)
        );
        let zip = message.attachment(0).unwrap();
        assert_eq!(zip.attachment_name(), Some("XDM00001.ZIP"));
        let kind = zip.content_type().unwrap();
        assert_eq!((kind.ctype(), kind.subtype()), ("application", Some("zip")));
        assert!(zip.contents().starts_with(b"PK\x03\x04"));
    }

    // rule: XDR-86, XDR-87, CC-4
    #[test]
    fn the_other_packagings_carry_the_documents_in_clear_names() {
        let ground = Ground::new("");
        let cases = [
            (
                DirectPackaging::XdmAndDocuments,
                "\"xdm+documents\"",
                1,
                "XDM/1.0/DDM",
            ),
            (DirectPackaging::Documents, "\"documents\"", 0, "Documents"),
        ];
        for (packaging, setting, first, subject) in cases {
            assert_eq!(serde_json::to_string(&packaging).unwrap(), setting);
            let mut conversion = ground.conversion();
            let policy = policy(packaging);
            conversion.policy = &policy;
            let entity = ground.write(&conversion).unwrap();
            let message = inner(&entity);
            assert_eq!(message.subject(), Some(subject));
            assert_eq!(message.attachment_count(), first + 2);
            let found: Vec<_> = (first..first + 2)
                .map(|part| {
                    let part = message.attachment(u32::try_from(part).unwrap()).unwrap();
                    (part.attachment_name().unwrap(), part.contents())
                })
                .collect();
            assert_eq!(
                found,
                [
                    ("Summary_A.xml", b"<a/>".as_slice()),
                    ("document2.pdf", b"%PDF-1.7")
                ]
            );
        }
    }

    // rule: XDR-82, WR-11
    #[test]
    fn a_missing_document_or_recipient_is_an_error_and_final() {
        let mut ground = Ground::new("");
        ground.documents.remove(0);
        let error = ground.write(&ground.conversion()).unwrap_err();
        assert!(matches!(
            error,
            ConversionError::DocumentMissing { number: 1 }
        ));
        assert_eq!(
            (error.is_transient(), error.reason()),
            (false, Reason::ConversionFailed)
        );

        let mut ground = Ground::new("");
        ground.source.documents.remove(1);
        for packaging in [DirectPackaging::Xdm, DirectPackaging::Documents] {
            let mut conversion = ground.conversion();
            let policy = policy(packaging);
            conversion.policy = &policy;
            assert!(!ground.write(&conversion).unwrap_err().is_transient());
        }
        ground.to.clear();
        let error = ground.write(&ground.conversion()).unwrap_err();
        assert!(matches!(error, ConversionError::NoRecipient));
    }

    // rule: XDR-81, SND-6
    #[test]
    fn the_same_leg_makes_the_same_octets() {
        let ground = Ground::new(TITLE);
        let make = || ground.write(&ground.conversion()).unwrap();
        assert_eq!(make(), make());
    }

    // rule: WR-3, WR-4, T-2
    #[test]
    fn the_outer_header_repeats_routing_fields_only() {
        let ground = Ground::new(TITLE);
        let mut conversion = ground.conversion();
        let titled = MailPolicy {
            subject_title: true,
            ..MailPolicy::default()
        };
        conversion.policy = &titled;
        let fields =
            outer_header_fields(&conversion, "Encrypted message", ContentCipher::default());
        let header = seal_header(&fields);
        assert!(header.contains("Subject: Encrypted message\r\n"));
        assert!(header.contains("Message-ID: <7@direct.elm.example>\r\n"));
        assert!(!header.contains("ferral") && !header.contains("Disposition-Notification"));
    }
}
