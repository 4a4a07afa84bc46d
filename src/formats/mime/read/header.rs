//! What the bridge needs of a message's header.

use jiff::Timestamp;
use mail_parser::{DateTime, HeaderValue, parsers::MessageStream};

use super::{
    MailError,
    address::{Mailbox, Mailboxes},
    field::{RawHeader, terminated, text},
};
use crate::formats::{finding::Finding, ids::MessageId};

/// The header of a message. Texts and names may tell of a patient: not for logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailHeader {
    /// The authors; a good message has one, or a [`sender`](Self::sender) beside several (WR-11).
    pub from: Vec<Mailbox>,
    /// Who sent it for them.
    pub sender: Option<Mailbox>,
    /// The recipients.
    pub to: Vec<Mailbox>,
    /// Further recipients.
    pub cc: Vec<Mailbox>,
    /// The Subject, decoded, on one line.
    pub subject: Option<String>,
    /// The Date.
    pub date: Option<Timestamp>,
    /// The Message-ID.
    pub message_id: Option<MessageId>,
    /// The message that this one answers: the first id in In-Reply-To.
    pub in_reply_to: Option<MessageId>,
    /// The messages that led to it.
    pub references: Vec<MessageId>,
    /// Auto-Submitted without its parameters, in lower case (RFC 3834).
    pub auto_submitted: Option<String>,
    /// The mailboxes of all Disposition-Notification-To fields (MDN-13).
    pub disposition_notification_to: Vec<Mailbox>,
    /// Disposition-Notification-Options, on one line (MDN-10).
    pub disposition_notification_options: Option<String>,
    /// The content id that X-Direct-Context names, if the field stands there once (CTX-1).
    pub direct_context: Option<String>,
}

impl MailHeader {
    /// Reads the fields. Two of those that say who wrote to whom are refused (T-11); what cannot be read of one is a
    /// Warning.
    pub(super) fn read(
        fields: &RawHeader<'_>,
        findings: &mut Vec<Finding>,
    ) -> Result<Self, MailError> {
        let mut mailboxes = |name: &str| -> Result<Vec<Mailbox>, MailError> {
            let read = fields.only(name, "")?.map(Mailboxes::read);
            let Mailboxes {
                readable,
                unreadable,
            } = read.unwrap_or_default();
            if unreadable > 0 {
                let text = format!(
                    "{unreadable} member(s) of {name} are no address of the form user@domain"
                );
                findings.push(Finding::warning("ADR-7", name, text));
            }
            Ok(readable)
        };
        let from = mailboxes("From")?;
        let sender = mailboxes("Sender")?.into_iter().next();
        let to = mailboxes("To")?;
        let cc = mailboxes("Cc")?;
        let written_id = fields.only("Message-ID", "")?;
        let message_id = written_id.and_then(|value| message_ids(value).into_iter().next());
        if message_id.is_none() {
            let text = "the message has no Message-ID, so that no notice can name it";
            findings.push(Finding::warning("WR-11", "Message-ID", text));
        }
        let date = fields.first("Date").and_then(date);
        if date.is_none() {
            let text = "the message has no readable Date";
            findings.push(Finding::warning("WR-11", "Date", text));
        }
        let mut contexts = fields.all("X-Direct-Context").filter_map(text);
        let direct_context = contexts.next().map(|value| content_id(&value));
        let has_several_contexts = contexts.next().is_some();
        if has_several_contexts {
            let text =
                "the field stands there more than once and is not used; it must stand there once";
            findings.push(Finding::warning("CTX-1", "X-Direct-Context", text));
        }
        let ids = |name| fields.first(name).map(message_ids).unwrap_or_default();
        let requested = fields.all("Disposition-Notification-To");
        Ok(Self {
            from,
            sender,
            to,
            cc,
            subject: fields.first("Subject").and_then(text),
            date,
            message_id,
            in_reply_to: ids("In-Reply-To").into_iter().next(),
            references: ids("References"),
            auto_submitted: fields.first("Auto-Submitted").and_then(text).map(|value| {
                let bare = value.split(';').next().unwrap_or_default();
                bare.trim().to_ascii_lowercase()
            }),
            disposition_notification_to: requested
                .flat_map(|value| Mailboxes::read(value).readable)
                .collect(),
            disposition_notification_options: fields
                .first("Disposition-Notification-Options")
                .and_then(text),
            direct_context: direct_context.filter(|_| !has_several_contexts),
        })
    }
}

/// The ids in angle brackets; a lone word without them is taken as one.
fn message_ids(value: &[u8]) -> Vec<MessageId> {
    let text = String::from_utf8_lossy(value);
    if !text.contains('<') {
        return text.trim().parse().into_iter().collect();
    }
    text.split('<')
        .skip(1)
        .filter_map(|rest| rest.split_once('>'))
        .filter_map(|(id, _)| id.parse().ok())
        .collect()
}

/// A content id without its angle brackets.
pub(super) fn content_id(value: &str) -> String {
    value.trim().trim_matches(['<', '>']).to_owned()
}

/// A date as mail writes it, in whatever zone.
pub(super) fn date(value: &[u8]) -> Option<Timestamp> {
    let terminated = terminated(value);
    match MessageStream::new(&terminated).parse_date() {
        HeaderValue::DateTime(at) => timestamp(&at),
        _ => None,
    }
}

fn timestamp(at: &DateTime) -> Option<Timestamp> {
    at.is_valid()
        .then(|| Timestamp::from_second(at.to_timestamp()).ok())?
}
