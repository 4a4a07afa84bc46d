//! What the SMTP listener hands mail to.

use std::{fmt, net::SocketAddr};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::BodyInterrupted;
use crate::{
    flows::budget::Reservation,
    formats::ids::{CertificateFingerprint, DirectAddress, DomainName},
};

/// What the SMTP listener hands mail to. The listener does SMTP only: the mail arrives in chunks over a bounded
/// channel, dots unstuffed, already within the message limit and paid for from the byte budget.
#[async_trait]
pub trait ServeMail: Send + Sync {
    /// Whether `domain` is one of ours: no other is relayed to, and none of them comes from outside (RX-23, RX-24).
    fn serves(&self, domain: &DomainName) -> bool;

    /// Whether mail to `address`, in a domain that is served, is taken now.
    async fn recipient(&self, address: &DirectAddress) -> RecipientAnswer;

    /// Takes one mail to its end. The final reply waits for it: [`MailAnswer::Accepted`] says that the mail is
    /// durable. What is accepted is audited in the transaction that records it; what is refused, by the listener.
    async fn serve(&self, transaction: MailTransaction) -> MailAnswer;
}

/// The answer to one RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientAnswer {
    /// 250 2.1.5.
    Served,
    /// There is no such address, or none that has a route and a key: 550 5.1.1.
    Unknown,
    /// Our configuration lacks what the address needs: 451 4.3.5.
    Unconfigured,
    /// It cannot be known now: 451 4.3.0.
    Unavailable,
}

/// One mail, from its envelope to the last octet of its data.
pub struct MailTransaction {
    /// The queue id: in the trace field, in the final reply, in the audit. 32 hexadecimal digits.
    pub id: String,
    /// The `Received` field that belongs in front of the mail, with its line end (RX-11). It is not part of `body`.
    pub trace: String,
    /// MAIL FROM; `None` for `<>`, as notices have it (RX-20).
    pub envelope_from: Option<DirectAddress>,
    /// RCPT TO, each once: at least one.
    pub recipients: Vec<MailRecipient>,
    /// Who sends.
    pub peer: SmtpPeer,
    /// The mail: complete only when the channel ends without an error. After an error the listener answers by itself,
    /// and what [`ServeMail::serve`] answers reaches nobody.
    pub body: mpsc::Receiver<Result<Bytes, BodyInterrupted>>,
    /// The octets that the mail takes: it grows with the mail. To be held until the mail is durable; dropped before the
    /// body has ended, it leaves no room to grow, and the mail is put off with 452.
    pub reservation: Reservation,
}

/// Who a mail is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailRecipient {
    /// An address that [`ServeMail::recipient`] said is served.
    Address {
        /// The address.
        address: DirectAddress,
        /// The address that the sender first wrote to, as ORCPT gives it (RFC 3461 §4.2): what a notice names as
        /// Original-Recipient.
        original: Option<OriginalRecipient>,
    },
    /// Whoever runs this bridge, with or without one of our domains (RFC 5321 §4.5.1).
    Postmaster,
}

/// An address as a peer wrote it, decoded and not otherwise judged. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct OriginalRecipient(pub String);

impl fmt::Debug for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OriginalRecipient(…)")
    }
}

/// Who speaks SMTP to us, as far as the connection and its greeting tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpPeer {
    /// Its network address.
    pub address: SocketAddr,
    /// What it gave in EHLO or HELO: a domain name or an address literal in its form, and not otherwise judged (RX-3).
    pub helo: String,
    /// The TLS connection; `None` where clear text is allowed and used.
    pub tls: Option<SmtpTls>,
}

/// What a handshake of the SMTP listener brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpTls {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// Its OpenSSL name.
    pub cipher: String,
    /// The client certificate's fingerprint, where one was given. Nobody vouches for it: it is for the audit (TLS-3).
    pub certificate: Option<CertificateFingerprint>,
}

/// The final answer to one mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailAnswer {
    /// 250: the mail is durable and ours from now on (RX-47, RX-48).
    Accepted,
    /// Refused for good.
    Refused {
        /// 5xx.
        code: u16,
        /// Its enhanced code (RFC 3463), such as `5.7.1`.
        enhanced: &'static str,
        /// For people, in fixed words: nothing of the mail.
        text: &'static str,
    },
    /// Refused for now: the sender tries again.
    Deferred {
        /// 4xx.
        code: u16,
        /// Its enhanced code, such as `4.3.1`.
        enhanced: &'static str,
        /// For people, in fixed words: nothing of the mail.
        text: &'static str,
    },
}

impl MailAnswer {
    /// The disk is full, or a budget is used up (LIM-17 to LIM-20).
    pub const NO_ROOM: Self = Self::Deferred {
        code: 452,
        enhanced: "4.3.1",
        text: "no room for this mail now, try again later",
    };

    /// The store or the keys cannot be reached.
    pub const UNAVAILABLE: Self = Self::Deferred {
        code: 451,
        enhanced: "4.3.0",
        text: "this mail cannot be taken now, try again later",
    };
}
