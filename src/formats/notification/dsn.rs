//! Delivery Status Notifications (RFC 3464; mdn.md section 6).

use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
};

use jiff::Timestamp;

use super::{
    super::{
        ids::{DirectAddress, DomainName, MessageId},
        mime::write::{Boundary, Header, HeaderText, Multipart},
    },
    ReportError,
    fields::{Fields, without_comments},
};

/// Most recipients of one DSN that are looked at.
const MAX_RECIPIENTS: usize = 1_000;

/// A status code (RFC 3463), such as `5.1.1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl StatusCode {
    /// The code `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// 2 success, 4 may pass, 5 for good.
    pub fn class(self) -> u8 {
        self.class
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a status code, such as 5.1.1")]
pub struct NotAStatusCode;

impl FromStr for StatusCode {
    type Err = NotAStatusCode;

    fn from_str(text: &str) -> Result<Self, NotAStatusCode> {
        let number = |part: Option<&str>| {
            let digits = part.filter(|part| (1..=3).contains(&part.len()))?;
            let is_number = digits.bytes().all(|octet| octet.is_ascii_digit());
            is_number.then(|| digits.parse::<u16>().ok()).flatten()
        };
        let mut parts = text.trim().split('.');
        let class = parts.next();
        let (subject, detail) = (number(parts.next()), number(parts.next()));
        match (class, subject, detail, parts.next()) {
            (Some("2"), Some(subject), Some(detail), None) => Ok(Self::new(2, subject, detail)),
            (Some("4"), Some(subject), Some(detail), None) => Ok(Self::new(4, subject, detail)),
            (Some("5"), Some(subject), Some(detail), None) => Ok(Self::new(5, subject, detail)),
            _ => Err(NotAStatusCode),
        }
    }
}

/// What was done about a recipient (RFC 3464 section 2.3.3). Only `Failed` decides anything (DSN-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Not delivered, for good.
    Failed,
    /// Not delivered yet.
    Delayed,
    /// Delivered to a mailbox: less than `dispatched`.
    Delivered,
    /// Handed to a system that tells no more.
    Relayed,
    /// Handed to several.
    Expanded,
}

impl Action {
    fn read(value: &str) -> Option<Self> {
        match without_comments(value).to_ascii_lowercase().as_str() {
            "failed" => Some(Self::Failed),
            "delayed" => Some(Self::Delayed),
            "delivered" => Some(Self::Delivered),
            "relayed" => Some(Self::Relayed),
            "expanded" => Some(Self::Expanded),
            _ => None,
        }
    }
}

/// A received DSN: its report part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedDsn {
    /// The Message-ID that some reporters put into the first block. `None`: the returned header may tell it
    /// ([`returned_message_id`]).
    pub original_message_id: Option<MessageId>,
    /// What it says of whom.
    pub recipients: Vec<DsnRecipient>,
}

/// What a DSN says of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DsnRecipient {
    /// The recipient as the message named it: Original-Recipient, where it is given, before Final-Recipient.
    pub address: DirectAddress,
    /// What was done.
    pub action: Action,
    /// Status, if it is one.
    pub status: Option<StatusCode>,
}

impl ReceivedDsn {
    /// Reads the octets of a `message/delivery-status` part. A block without a usable recipient or action says nothing.
    pub fn read(report: &[u8]) -> Result<Self, ReportError> {
        let blocks = Fields::read_blocks(report)?;
        let id_names = ["X-Original-Message-ID", "Original-Message-ID"];
        let original_message_id = blocks
            .first()
            .and_then(|first| id_names.iter().find_map(|name| first.message_id(name)));
        let recipients = blocks.iter().filter_map(recipient).take(MAX_RECIPIENTS);
        Ok(Self {
            original_message_id,
            recipients: recipients.collect(),
        })
    }
}

fn recipient(block: &Fields) -> Option<DsnRecipient> {
    let named = |name| block.addresses(name).into_iter().next();
    Some(DsnRecipient {
        address: named("Original-Recipient").or_else(|| named("Final-Recipient"))?,
        action: Action::read(block.first("Action")?)?,
        status: block
            .first("Status")
            .and_then(|status| without_comments(status).parse().ok()),
    })
}

/// The Message-ID in the returned header or message, the third part of a DSN or MDN.
pub fn returned_message_id(returned: &[u8]) -> Option<MessageId> {
    let end = memchr::memmem::find(returned, b"\r\n\r\n")
        .or_else(|| memchr::memmem::find(returned, b"\n\n"))
        .unwrap_or(returned.len());
    let header = returned.get(..end)?;
    Fields::read_all(header).ok()?.message_id("Message-ID")
}

/// A DSN of ours about one recipient that a message cannot reach.
#[derive(Clone, Copy, Debug)]
pub struct FailureDsn<'a> {
    /// Who reports: From.
    pub from: &'a DirectAddress,
    /// The sender of the message.
    pub to: &'a DirectAddress,
    /// The recipient that it speaks of.
    pub recipient: &'a DirectAddress,
    /// Its own Message-ID.
    pub message_id: &'a MessageId,
    /// Its Date.
    pub date: Timestamp,
    /// The inner Message-ID of the message.
    pub original_message_id: Option<&'a MessageId>,
    /// The host that reports.
    pub reporting_host: &'a DomainName,
    /// Why; of class 5 (DSN-6).
    pub status: StatusCode,
    /// The reason in words, without patient data.
    pub reason: &'a str,
}

impl FailureDsn<'_> {
    /// Writes the entity that is signed: the notice wrapped as `message/rfc822` (WR-1), CRLF and 7 bit.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"Content-Type: message/rfc822\r\n\r\n")?;
        let original: Vec<&MessageId> = self.original_message_id.into_iter().collect();
        let header = Header::default()
            .addresses("From", std::slice::from_ref(self.from))
            .addresses("To", std::slice::from_ref(self.to))
            .constant("Subject", "Undeliverable: Direct message")
            .date("Date", self.date)
            .message_ids("Message-ID", &[self.message_id])
            .message_ids("In-Reply-To", &original)
            .message_ids("References", &original)
            .constant("MIME-Version", "1.0")
            .constant("Auto-Submitted", "auto-replied");
        let boundary = Boundary::of_message(self.message_id, 0);
        let subtype = "report; report-type=delivery-status";
        let mut message = Multipart::begin(header, subtype, boundary, out)?;
        message.text_part(
            "Your message could not be delivered to its recipient.\n\
             The report below gives the reason.\n",
        )?;
        message.report_part("message/delivery-status", &self.report())?;
        message.end()
    }

    fn report(&self) -> Header {
        let original: Vec<&MessageId> = self.original_message_id.into_iter().collect();
        let reason: String = HeaderText::cleaned(self.reason)
            .as_str()
            .chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect();
        Header::default()
            .field("Reporting-MTA", &format!("dns; {}", self.reporting_host))
            .message_ids("X-Original-Message-ID", &original)
            .blank_line()
            .field("Final-Recipient", &format!("rfc822; {}", self.recipient))
            .constant("Action", "failed")
            .field("Status", &self.status.to_string())
            .field("Diagnostic-Code", &format!("x-xdbridge; {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    const BOUNCE: &[u8] = b"Reporting-MTA: dns; mx.harbor.example\r\n\
        X-Original-Message-ID: <m7@direct.elm.example>\r\n\
        \r\n\
        Original-Recipient: rfc822;Intake@direct.harbor.example\r\n\
        Final-Recipient: rfc822; box-17@store.harbor.example\r\n\
        Action: failed (for good)\r\n\
        Status: 5.2.2 (mailbox full)\r\n\
        Diagnostic-Code: smtp; 552 5.2.2 Over quota\r\n\
        \r\n\
        Final-Recipient: rfc822; rui.silva@direct.harbor.example\r\n\
        ACTION: Delivered\r\n\
        Status: 2.0.0\r\n\
        \r\n\
        Final-Recipient: rfc822; nobody\r\n\
        Action: failed\r\n\
        Status: 5.1.1\r\n";

    // rule: DSN-1, DSN-2
    #[test]
    fn a_dsn_tells_of_each_recipient_what_was_done() {
        let dsn = ReceivedDsn::read(BOUNCE).unwrap();
        assert_eq!(
            dsn.original_message_id,
            Some("m7@direct.elm.example".parse().unwrap())
        );
        let told: Vec<_> = dsn
            .recipients
            .iter()
            .map(|r| (r.address.to_string(), r.action, r.status))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "Intake@direct.harbor.example".to_owned(),
                    Action::Failed,
                    Some(StatusCode::new(5, 2, 2))
                ),
                (
                    "rui.silva@direct.harbor.example".to_owned(),
                    Action::Delivered,
                    Some(StatusCode::new(2, 0, 0))
                ),
            ]
        );
    }

    #[test]
    fn a_status_is_three_numbers_of_a_known_class() {
        for text in ["5.1.1", "4.4.7", "2.0.0", " 5.7.5 "] {
            let status: StatusCode = text.parse().unwrap();
            assert_eq!(status.to_string(), text.trim());
        }
        for text in [
            "", "5", "5.1", "3.1.1", "5.1.1.1", "5.x.1", "5.1111.1", "5..1",
        ] {
            assert_eq!(text.parse::<StatusCode>(), Err(NotAStatusCode), "{text}");
        }
    }

    #[test]
    fn the_returned_header_tells_the_message_id() {
        let returned = b"Received: x\r\nMessage-id :\r\n <m7@direct.elm.example>\r\n\r\nMessage-ID: <no@x.example>\r\n";
        assert_eq!(
            returned_message_id(returned),
            Some("m7@direct.elm.example".parse().unwrap())
        );
        assert_eq!(
            returned_message_id(b"Subject: x\n\nMessage-ID: <no@x.example>"),
            None
        );
    }

    // rule: DSN-1, DSN-6
    #[test]
    fn what_is_written_reads_back() {
        let recipient = address("intake@direct.harbor.example");
        let original: MessageId = "m7@direct.elm.example".parse().unwrap();
        let dsn = FailureDsn {
            from: &address("postmaster@direct.harbor.example"),
            to: &address("ngozi.okafor@direct.elm.example"),
            recipient: &recipient,
            message_id: &"n1@gw.harbor.example".parse().unwrap(),
            date: "2026-03-02T14:15:00Z".parse().unwrap(),
            original_message_id: Some(&original),
            reporting_host: &"gw.harbor.example".parse().unwrap(),
            status: StatusCode::new(5, 4, 7),
            reason: "xdrUnavailable: the XDR endpoint\r\n\r\ncould not be reached",
        };
        let mut message = Vec::new();
        dsn.write(&mut message).unwrap();
        let message = String::from_utf8(message).unwrap();
        let start = message.find("Reporting-MTA").unwrap();
        let end = start + message[start..].find("\r\n--").unwrap();
        let read = ReceivedDsn::read(&message.as_bytes()[start..end]).unwrap();
        assert_eq!(read.original_message_id, Some(original));
        assert_eq!(
            read.recipients,
            [DsnRecipient {
                address: recipient,
                action: Action::Failed,
                status: Some(StatusCode::new(5, 4, 7)),
            }]
        );
        assert!(message.contains("multipart/report; report-type=delivery-status;\r\n"));
        assert!(message.contains("x-xdbridge; xdrUnavailable: the XDR endpoint could not"));
    }
}
