//! What the peer answers, and what it means.

use std::fmt;

use lettre::transport::smtp::{Error, response::Response};

use crate::bridge::exchange::Reason;

/// Characters of a reply that are kept (audit.md PHI-3, smtp.md TX-31).
const MAX_TEXT_CHARS: usize = 256;

/// One reply, its text cut and without control characters: the peer's words are not trusted, and only the audit
/// may keep them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    code: u16,
    text: String,
}

/// Why a command brought no positive reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The peer said no.
    Reply(Reply),
    /// The connection is gone, too slow, or speaks no SMTP.
    Lost(String),
}

impl Reply {
    fn new(code: u16, text: &str) -> Self {
        Self {
            code,
            text: clean(text),
        }
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// The peer closes the connection (RFC 5321 §4.2.3): 421 may come at any time (TX-30).
    pub(super) fn is_closing(&self) -> bool {
        self.code == 421
    }

    pub(super) fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }

    /// Whether the peer takes no more recipients in this transaction, which says nothing against this one (TX-28).
    /// RFC 5321 §4.5.3.1.10 asks to read the old 552 alike; without an enhanced code, a 452 counts only behind
    /// recipients that were taken, as it may also mean a full disk.
    pub(super) fn is_too_many_recipients(&self, accepted_before: usize) -> bool {
        match (self.code, self.enhanced()) {
            (452 | 552, Some(enhanced)) => enhanced.ends_with(".5.3"),
            (452, None) => accepted_before > 0,
            _ => false,
        }
    }

    /// Why a permanent reply refuses the message or its recipient (mdn.md RT-7, RT-11).
    pub(super) fn reason(&self) -> Reason {
        match (self.code, self.enhanced()) {
            (_, Some("5.3.4")) | (552, None) => Reason::TooLarge,
            _ => Reason::SmtpRejected,
        }
    }

    /// The enhanced status code (RFC 3463 §2), if the text begins with one of this reply's class.
    fn enhanced(&self) -> Option<&str> {
        let word = self.text.split(' ').next()?;
        let mut parts = word.split('.');
        let class = parts.next()?;
        let is_number = |part: Option<&str>| {
            part.is_some_and(|p| {
                (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit())
            })
        };
        let is_code = is_number(parts.next()) && is_number(parts.next()) && parts.next().is_none();
        (is_code && class == (self.code / 100).to_string()).then_some(word)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl From<&Response> for Reply {
    fn from(response: &Response) -> Self {
        let lines: Vec<&str> = response.message().collect();
        Self::new(response.code().into(), &lines.join(" "))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        match error.status() {
            Some(code) => Self::Reply(Reply::new(code.into(), &source.unwrap_or_default())),
            None if error.is_response() => Self::Lost("the reply is incomplete".to_owned()),
            None => Self::Lost(clean(&source.unwrap_or_else(|| error.to_string()))),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(reply) => reply.fmt(f),
            Self::Lost(what) => f.write_str(what),
        }
    }
}

/// Cuts the text and puts spaces in the place of control characters.
pub(super) fn clean(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_TEXT_CHARS).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: TX-31, PHI-3
    #[test]
    fn a_reply_is_cut_and_loses_its_control_characters() {
        let reply = Reply::new(550, &format!("no\x1b[2J\r\n{}", "x".repeat(9000)));
        assert_eq!(reply.to_string().chars().count(), MAX_TEXT_CHARS + 4);
        assert!(reply.to_string().starts_with("550 no [2J  xxx"));
    }

    // rule: TX-28
    #[test]
    fn too_many_recipients_is_told_from_a_full_disk() {
        let reply = |code, text| Reply::new(code, text);
        assert!(reply(452, "4.5.3 too many").is_too_many_recipients(0));
        assert!(reply(552, "5.5.3 too many").is_too_many_recipients(3));
        assert!(reply(452, "too many").is_too_many_recipients(1));
        assert!(!reply(452, "too many").is_too_many_recipients(0));
        assert!(!reply(452, "4.3.1 disk full").is_too_many_recipients(1));
        assert!(!reply(451, "4.5.3 odd").is_too_many_recipients(1));
    }

    #[test]
    fn a_size_refusal_has_its_own_reason() {
        assert_eq!(Reply::new(552, "5.3.4 too big").reason(), Reason::TooLarge);
        assert_eq!(Reply::new(552, "too big").reason(), Reason::TooLarge);
        assert_eq!(
            Reply::new(552, "5.2.2 mailbox full").reason(),
            Reason::SmtpRejected
        );
        assert_eq!(
            Reply::new(550, "5.1.1 unknown").reason(),
            Reason::SmtpRejected
        );
        assert_eq!(Reply::new(554, "").reason(), Reason::SmtpRejected);
    }
}
