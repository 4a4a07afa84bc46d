//! Message Disposition Notifications (RFC 8098; mdn.md sections 4 and 5).

use std::io::{self, Write};

use jiff::Timestamp;

use super::{
    super::{
        ids::{DirectAddress, DomainName, MessageId},
        mime::write::{Boundary, Header, HeaderText, Multipart},
    },
    ReportError,
    fields::{Fields, without_comments},
    request::FINAL_DELIVERY,
};

/// What stands after the reporting host in Reporting-UA (MDN-26).
const PRODUCT: &str = "xdbridge";
/// How the notices come about: no person has to do with them (MDN-22).
const MODE: &str = "automatic-action/MDN-sent-automatically";
/// Longest text of the fields Error and Failure, in characters: one line.
const MAX_ERROR_CHARACTERS: usize = 400;

/// What a notice of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The message was decrypted and is trusted; it is not delivered yet.
    Processed,
    /// The message reached its final destination.
    Dispatched {
        /// Whether it answers a valid request for this notice: only then it carries the field that says so (MDN-27).
        is_requested: bool,
    },
    /// The message will not reach its final destination.
    Failed {
        /// Why: a reason of ours, without patient data (MDN-25).
        reason: &'a str,
    },
}

impl Notice<'_> {
    fn disposition(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Dispatched { .. } => "dispatched",
            Self::Failed { .. } => "failed",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Processed => "Processed: Direct message",
            Self::Dispatched { .. } => "Dispatched: Direct message",
            Self::Failed { .. } => "Failed: Direct message",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Processed => {
                "Your message was received and verified. It is on its way to its recipient.\n"
            }
            Self::Dispatched { .. } => {
                "Your message was delivered to the system of its recipient.\n"
            }
            Self::Failed { .. } => {
                "Your message could not be delivered to its recipient.\n\
                 The report below gives the reason.\n"
            }
        }
    }
}

/// A notice about one message for one recipient (MDN-23).
#[derive(Clone, Copy, Debug)]
pub struct Mdn<'a> {
    /// The recipient that it speaks for: From and Final-Recipient.
    pub recipient: &'a DirectAddress,
    /// The sender of the message.
    pub to: &'a DirectAddress,
    /// Its own Message-ID.
    pub message_id: &'a MessageId,
    /// Its Date.
    pub date: Timestamp,
    /// The inner Message-ID of the message; one without is answered all the same (WR-11).
    pub original_message_id: Option<&'a MessageId>,
    /// The host that reports.
    pub reporting_host: &'a DomainName,
    /// What it says.
    pub notice: Notice<'a>,
}

impl Mdn<'_> {
    /// Writes the entity that is signed: the notice wrapped as `message/rfc822` (WR-1, MDN-28), CRLF and 7 bit, the same
    /// octets every time.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"Content-Type: message/rfc822\r\n\r\n")?;
        let original: Vec<&MessageId> = self.original_message_id.into_iter().collect();
        let header = Header::default()
            .addresses("From", std::slice::from_ref(self.recipient))
            .addresses("To", std::slice::from_ref(self.to))
            .text("Subject", &HeaderText::cleaned(self.notice.subject()))
            .date("Date", self.date)
            .message_ids("Message-ID", &[self.message_id])
            .message_ids("In-Reply-To", &original)
            .message_ids("References", &original)
            .constant("MIME-Version", "1.0")
            .constant("Auto-Submitted", "auto-replied");
        let boundary = Boundary::of_message(self.message_id, 0);
        let subtype = "report; report-type=disposition-notification";
        let mut message = Multipart::begin(header, subtype, boundary, out)?;
        message.text_part(self.notice.text())?;
        message.report_part("message/disposition-notification", &self.report())?;
        message.end()
    }

    /// The fields, in the order of RFC 8098 section 3.1 (MDN-21).
    fn report(&self) -> Header {
        let original: Vec<&MessageId> = self.original_message_id.into_iter().collect();
        let mut report = Header::default()
            .field(
                "Reporting-UA",
                &format!("{}; {PRODUCT}", self.reporting_host),
            )
            .field("Final-Recipient", &format!("rfc822; {}", self.recipient))
            .message_ids("Original-Message-ID", &original)
            .field(
                "Disposition",
                &format!("{MODE}; {}", self.notice.disposition()),
            );
        match self.notice {
            Notice::Processed
            | Notice::Dispatched {
                is_requested: false,
            } => {}
            Notice::Dispatched { is_requested: true } => {
                report = report.field(FINAL_DELIVERY, "");
            }
            Notice::Failed { reason } => {
                let line: String = HeaderText::cleaned(reason)
                    .as_str()
                    .chars()
                    .map(|c| if c.is_ascii() { c } else { '?' })
                    .take(MAX_ERROR_CHARACTERS)
                    .collect();
                report = report.field("Failure", &line).field("Error", &line);
            }
        }
        report
    }
}

/// What a received notice says (mdn.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// `processed`.
    Processed,
    /// `dispatched`.
    Dispatched,
    /// `displayed`.
    Displayed,
    /// `failed`, `failure`, `denied`, or any type with the modifier `error` (SRC-3).
    Failed,
    /// `deleted` and whatever else: informative.
    Other,
}

impl Disposition {
    /// Reads `action-mode/sending-mode; type/modifier,modifier`, spaces, case and comments aside (MDN-22, MDN-43).
    /// Without the modes it is understood as well.
    fn read(value: &str) -> Option<Self> {
        let value = without_comments(value).to_ascii_lowercase();
        let kind = value.rsplit_once(';').map_or(&*value, |(_, kind)| kind);
        let (kind, modifiers) = kind.split_once('/').unwrap_or((kind, ""));
        let is_error = modifiers.split(',').any(|word| word.trim() == "error");
        match kind.trim() {
            "" => None,
            _ if is_error => Some(Self::Failed),
            "failed" | "failure" | "denied" | "error" => Some(Self::Failed),
            "processed" => Some(Self::Processed),
            "dispatched" => Some(Self::Dispatched),
            "displayed" => Some(Self::Displayed),
            _ => Some(Self::Other),
        }
    }
}

/// A received notice: its report part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedMdn {
    /// Whom it speaks for. Empty where the field is missing or unusable: the signer, or From, has to do (MDN-51).
    pub final_recipients: Vec<DirectAddress>,
    /// Original-Message-ID. `None`: In-Reply-To or References may tell it (MDN-50).
    pub original_message_id: Option<MessageId>,
    /// What it says; `None` where nothing can be made of it (MDN-44).
    pub disposition: Option<Disposition>,
    /// Whether it carries the field of final delivery, with whatever value (MDN-27).
    pub is_final_delivery: bool,
}

impl ReceivedMdn {
    /// Reads the octets of a `message/disposition-notification` part.
    pub fn read(report: &[u8]) -> Result<Self, ReportError> {
        let fields = Fields::read_all(report)?;
        Ok(Self {
            final_recipients: fields.addresses("Final-Recipient"),
            original_message_id: fields.message_id("Original-Message-ID"),
            disposition: fields.first("Disposition").and_then(Disposition::read),
            is_final_delivery: fields.first(FINAL_DELIVERY).is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    fn written(notice: Notice<'_>, original: Option<&str>) -> String {
        let original = original.map(|id| id.parse().unwrap());
        let mdn = Mdn {
            recipient: &address("intake@direct.harbor.example"),
            to: &address("ngozi.okafor@direct.elm.example"),
            message_id: &"n1@gw.harbor.example".parse().unwrap(),
            date: "2026-03-02T14:15:00Z".parse().unwrap(),
            original_message_id: original.as_ref(),
            reporting_host: &"gw.harbor.example".parse().unwrap(),
            notice,
        };
        let mut out = Vec::new();
        mdn.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn report_of(message: &str) -> &str {
        let start = message.find("Reporting-UA").unwrap();
        let end = start + message[start..].find("\r\n--").unwrap();
        &message[start..end]
    }

    // rule: MDN-6, MDN-20, MDN-21, MDN-22, MDN-24, MDN-26, MDN-29, WR-1
    #[test]
    fn a_notice_has_the_form_that_its_readers_expect() {
        let message = written(Notice::Processed, Some("m7@direct.elm.example"));
        let boundary = Boundary::of_message(&"n1@gw.harbor.example".parse().unwrap(), 0);
        let expected = format!(
            "Content-Type: message/rfc822\r\n\r\n\
             From: intake@direct.harbor.example\r\n\
             To: ngozi.okafor@direct.elm.example\r\n\
             Subject: Processed: Direct message\r\n\
             Date: Mon, 02 Mar 2026 14:15:00 +0000\r\n\
             Message-ID: <n1@gw.harbor.example>\r\n\
             In-Reply-To: <m7@direct.elm.example>\r\n\
             References: <m7@direct.elm.example>\r\n\
             MIME-Version: 1.0\r\n\
             Auto-Submitted: auto-replied\r\n\
             Content-Type: multipart/report; report-type=disposition-notification;\r\n boundary=\"{b}\"\r\n\r\n\
             --{b}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\n\
             Your message was received and verified. It is on its way to its recipient.\r\n\
             --{b}\r\n\
             Content-Type: message/disposition-notification\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\n\
             Reporting-UA: gw.harbor.example; xdbridge\r\n\
             Final-Recipient: rfc822; intake@direct.harbor.example\r\n\
             Original-Message-ID: <m7@direct.elm.example>\r\n\
             Disposition: automatic-action/MDN-sent-automatically; processed\r\n\
             --{b}--\r\n",
            b = boundary.as_str()
        );
        assert_eq!(message, expected);
    }

    // rule: MDN-25, MDN-27, WR-11
    #[test]
    fn dispatched_says_what_was_asked_for_and_failed_says_why() {
        let asked = written(Notice::Dispatched { is_requested: true }, None);
        assert!(report_of(&asked).ends_with("dispatched\r\nX-DIRECT-FINAL-DESTINATION-DELIVERY:"));
        assert!(!asked.contains("Original-Message-ID") && !asked.contains("In-Reply-To"));
        let unasked = written(
            Notice::Dispatched {
                is_requested: false,
            },
            None,
        );
        assert!(!unasked.contains("X-DIRECT"));
        let reason = "xdrRefused: the XDR endpoint refused\r\nDisposition: x; processed (é)";
        let failed = written(Notice::Failed { reason }, Some("m7@direct.elm.example"));
        let line = "xdrRefused: the XDR endpoint refused Disposition: x; processed (?)";
        assert!(
            report_of(&failed).ends_with(&format!("; failed\r\nFailure: {line}\r\nError: {line}")),
            "{failed}"
        );
    }

    // rule: MDN-23, MDN-27
    #[test]
    fn what_is_written_reads_back() {
        for (notice, disposition, is_final_delivery) in [
            (Notice::Processed, Disposition::Processed, false),
            (
                Notice::Dispatched { is_requested: true },
                Disposition::Dispatched,
                true,
            ),
            (
                Notice::Dispatched {
                    is_requested: false,
                },
                Disposition::Dispatched,
                false,
            ),
            (
                Notice::Failed { reason: "other: x" },
                Disposition::Failed,
                false,
            ),
        ] {
            let message = written(notice, Some("m7@direct.elm.example"));
            let read = ReceivedMdn::read(report_of(&message).as_bytes()).unwrap();
            let expected = ReceivedMdn {
                final_recipients: vec![address("intake@direct.harbor.example")],
                original_message_id: Some("m7@direct.elm.example".parse().unwrap()),
                disposition: Some(disposition),
                is_final_delivery,
            };
            assert_eq!(read, expected);
        }
    }

    fn disposition_of(value: &str) -> Option<Disposition> {
        let report = format!("Disposition: {value}\n");
        ReceivedMdn::read(report.as_bytes()).unwrap().disposition
    }

    // rule: MDN-22, MDN-43, MDN-44, SRC-3
    #[test]
    fn dispositions_are_read_in_every_form_that_is_seen() {
        use Disposition::{Dispatched, Displayed, Failed, Other, Processed};
        for (value, expected) in [
            (
                "automatic-action/MDN-sent-automatically;processed",
                Some(Processed),
            ),
            (
                "Automatic-Action / MDN-Sent-Automatically ;  PROCESSED ",
                Some(Processed),
            ),
            (
                "automatic-action/MDN-sent-automatically; dispatched (to the EHR)",
                Some(Dispatched),
            ),
            (
                "manual-action/MDN-sent-manually; displayed",
                Some(Displayed),
            ),
            (
                "automatic-action/MDN-sent-automatically; failed",
                Some(Failed),
            ),
            (
                "automatic-action/MDN-sent-automatically; failure",
                Some(Failed),
            ),
            (
                "automatic-action/MDN-sent-automatically; denied",
                Some(Failed),
            ),
            (
                "automatic-action/MDN-sent-automatically; processed/error",
                Some(Failed),
            ),
            (
                "automatic-action/MDN-sent-automatically; processed / Warning , Error",
                Some(Failed),
            ),
            (
                "automatic-action/MDN-sent-automatically; processed/warning",
                Some(Processed),
            ),
            ("manual-action/MDN-sent-manually; deleted", Some(Other)),
            ("processed", Some(Processed)),
            ("automatic-action/MDN-sent-automatically;", None),
            ("", None),
        ] {
            assert_eq!(disposition_of(value), expected, "{value}");
        }
        assert_eq!(ReceivedMdn::read(b"").unwrap().disposition, None);
    }

    // rule: MDN-50, MDN-51
    #[test]
    fn missing_fields_are_missing_and_several_recipients_are_each_taken() {
        let report = b"Original-Message-ID: m7@direct.elm.example\n\
            Final-Recipient: rfc822; a@harbor.example\n\
            Final-Recipient: x400; /c=us/\n\
            final-recipient: RFC822; B@harbor.example\n\
            Final-Recipient: rfc822; A@HARBOR.example\n";
        let read = ReceivedMdn::read(report).unwrap();
        assert_eq!(
            read.final_recipients,
            [address("a@harbor.example"), address("b@harbor.example")]
        );
        assert_eq!(
            read.original_message_id,
            Some("m7@direct.elm.example".parse().unwrap())
        );
        let nothing = ReceivedMdn::read(b"x").unwrap();
        assert!(nothing.final_recipients.is_empty() && nothing.original_message_id.is_none());
    }
}
