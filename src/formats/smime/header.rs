//! The outer header of a sealed mail: what a mail system needs for the way, and nothing of what is inside (WR-3,
//! WR-4).

use jiff::{Timestamp, tz::TimeZone};

use super::policy::ContentCipher;
use crate::formats::ids::{DirectAddress, MessageId};

/// The outer Subject: it is not protected by S/MIME, so it says nothing (WR-4).
pub const OUTER_SUBJECT: &str = "Encrypted message";

/// The fields that the outer header repeats from the message inside (WR-3). Bcc is never among them.
#[derive(Clone, Copy, Debug)]
pub struct SealHeader<'a> {
    /// The sender.
    pub from: &'a DirectAddress,
    /// The recipients of this very mail.
    pub to: &'a [DirectAddress],
    /// Further recipients of this very mail.
    pub cc: &'a [DirectAddress],
    /// The time of the message inside.
    pub date: Timestamp,
    /// The same Message-ID as inside.
    pub message_id: &'a MessageId,
    /// The message that this one answers.
    pub in_reply_to: Option<&'a MessageId>,
    /// The messages that led to it.
    pub references: &'a [MessageId],
    /// Subject; an empty one leaves the field out (WR-4).
    pub subject: &'a str,
    /// Decides `smime-type`.
    pub cipher: ContentCipher,
}

/// Writes the outer header with the blank line that ends it, CRLF (SM-30, SM-31, SM-58). Lists are folded after each
/// member, so that lines stay short (RFC 5322 §2.1.1).
pub fn seal_header(fields: &SealHeader<'_>) -> String {
    let mut text = format!("From: {}\r\n", fields.from);
    push_list(
        &mut text,
        "To",
        fields.to.iter().map(ToString::to_string),
        ",",
    );
    push_list(
        &mut text,
        "Cc",
        fields.cc.iter().map(ToString::to_string),
        ",",
    );
    let date = fields.date.to_zoned(TimeZone::UTC);
    text += &format!("Date: {}\r\n", date.strftime("%a, %d %b %Y %H:%M:%S +0000"));
    text += &format!("Message-ID: <{}>\r\n", fields.message_id);
    if let Some(id) = fields.in_reply_to {
        text += &format!("In-Reply-To: <{id}>\r\n");
    }
    let references = fields.references.iter().map(|id| format!("<{id}>"));
    push_list(&mut text, "References", references, "");
    if !fields.subject.is_empty() {
        text += &format!("Subject: {}\r\n", fields.subject);
    }
    text += "MIME-Version: 1.0\r\n";
    text += &format!(
        "Content-Type: application/pkcs7-mime; smime-type={};\r\n name=smime.p7m\r\n",
        fields.cipher.smime_type()
    );
    text += "Content-Transfer-Encoding: base64\r\n";
    text += "Content-Disposition: attachment; filename=smime.p7m\r\n\r\n";
    text
}

fn push_list(
    text: &mut String,
    name: &str,
    members: impl Iterator<Item = String>,
    separator: &str,
) {
    let members: Vec<String> = members.collect();
    if !members.is_empty() {
        let joined = members.join(&format!("{separator}\r\n "));
        text.push_str(&format!("{name}: {joined}\r\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: WR-3, WR-4, SM-30, SM-58
    #[test]
    fn the_seal_header_holds_routing_fields_and_a_constant_subject() {
        let from = "rui@direct.harbor.example".parse().unwrap();
        let to = [
            "a@direct.quay.example".parse().unwrap(),
            "b@direct.quay.example".parse().unwrap(),
        ];
        let id = "1@direct.harbor.example".parse().unwrap();
        let header = seal_header(&SealHeader {
            from: &from,
            to: &to,
            cc: &[],
            date: "2026-11-22T08:05:09Z".parse().unwrap(),
            message_id: &id,
            in_reply_to: None,
            references: &[],
            subject: OUTER_SUBJECT,
            cipher: ContentCipher::default(),
        });
        assert_eq!(
            header,
            "From: rui@direct.harbor.example\r\n\
             To: a@direct.quay.example,\r\n b@direct.quay.example\r\n\
             Date: Sun, 22 Nov 2026 08:05:09 +0000\r\n\
             Message-ID: <1@direct.harbor.example>\r\n\
             Subject: Encrypted message\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: application/pkcs7-mime; smime-type=enveloped-data;\r\n name=smime.p7m\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=smime.p7m\r\n\r\n"
        );
    }

    // rule: WR-4, SM-31
    #[test]
    fn an_empty_subject_is_left_out_and_gcm_names_its_own_type() {
        let from = "rui@direct.harbor.example".parse().unwrap();
        let id: MessageId = "1@direct.harbor.example".parse().unwrap();
        let header = seal_header(&SealHeader {
            from: &from,
            to: std::slice::from_ref(&from),
            cc: &[],
            date: Timestamp::UNIX_EPOCH,
            message_id: &id,
            in_reply_to: Some(&id),
            references: std::slice::from_ref(&id),
            subject: "",
            cipher: ContentCipher::Aes256Gcm,
        });
        assert!(!header.contains("Subject"));
        assert!(header.contains("smime-type=authEnveloped-data"));
        assert!(header.contains("References: <1@direct.harbor.example>\r\n"));
    }
}
