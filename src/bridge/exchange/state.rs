//! The state of an exchange: what the store keeps and [`super::step`] changes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Reason;
use crate::formats::{
    document::DocumentFacts,
    ids::{BodyId, DirectAddress, DomainName, ExchangeId, LegId, MessageId, SoapMessageId},
};

/// What one sender handed over once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The bridge's own id.
    pub id: ExchangeId,
    /// Where it came from, and so which way it crosses.
    pub origin: Origin,
    /// When the bridge took it over.
    pub accepted_at: Timestamp,
    /// When waiting ends.
    pub deadlines: Deadlines,
    /// The recorded body: the XDR request, or the raw mail.
    pub body: BodyId,
    /// Whether the sender asked to be told of final delivery (MDN-3, SOAP-119).
    pub wants_final_delivery: bool,
    /// Whether a trusted, bound `displayed` notice counts as delivery (mdn.md section 8).
    pub displayed_is_delivery: bool,
    /// One mail, or one ITI-41 request, each.
    pub legs: Vec<Leg>,
    /// Every recipient that was named, refused ones included, in the order given.
    pub recipients: Vec<Recipient>,
    /// When the last recipient was settled.
    pub final_at: Option<Timestamp>,
}

/// Where an exchange came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// An ITI-41 request: the exchange crosses from XDR to Direct.
    Xdr {
        /// The partner that submitted it.
        partner: String,
        /// Its wsa:MessageID, if it had one.
        soap_message_id: Option<SoapMessageId>,
        /// SubmissionSet.uniqueId.
        submission_set_unique_id: String,
        /// What tells a resubmission from another message (XDR-50).
        digest: [u8; 32],
        /// The HTTP Content-Type of the recorded body: it holds the MIME boundary.
        content_type: String,
        /// The sender's Direct address.
        from: DirectAddress,
        /// What was learnt of each document at accept.
        documents: Vec<DocumentFacts>,
    },
    /// A Direct message: the exchange crosses from Direct to XDR.
    Direct {
        /// The inner Message-ID, if it had one.
        message_id: Option<MessageId>,
        /// The inner From, once it is verified.
        from: Option<DirectAddress>,
    },
}

/// When waiting ends. All three count from acceptance (mdn.md section 8, "Timers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Certificate look-up, SMTP queue, or posting attempts end (50 min by default).
    pub queue: Timestamp,
    /// A `processed` notice must have come (Tp).
    pub processed: Timestamp,
    /// A `dispatched` notice must have come, where it was asked for (Td).
    pub dispatched: Timestamp,
}

/// One mail or one ITI-41 request, with ids and sealed bytes of its own: made once, repeated byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The bridge's own id.
    pub id: LegId,
    /// Which kind.
    pub kind: LegKind,
}

/// The two kinds of leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegKind {
    /// XDR to Direct: a sealed mail.
    Mail(MailLeg),
    /// Direct to XDR: a post to one endpoint.
    Xdr(XdrLeg),
}

/// A mail to the recipients that name this leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailLeg {
    /// The Message-ID of inner and outer header.
    pub message_id: MessageId,
    /// The sealed bytes, once made.
    pub sealed: Option<SealedMail>,
}

/// Sealed bytes as stored. The outer header holds addresses, so it is kept here, in the encrypted state; the body
/// is ciphertext already and lies in the body store as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMail {
    /// The outer header, with the blank line that ends it.
    pub header: String,
    /// The base64 text of the CMS envelope.
    pub body: BodyId,
    /// Header and body, as sent.
    pub wire_bytes: u64,
}

/// A post to one XDR endpoint for the recipients that name this leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdrLeg {
    /// The wsa:MessageID of every attempt.
    pub soap_message_id: SoapMessageId,
    /// The endpoint's name in the configuration.
    pub endpoint: String,
    /// Whether a post whose answer was lost may be repeated.
    pub idempotent: bool,
    /// How far it got.
    pub state: LegState,
}

/// How far an ITI-41 leg got (mdn.md section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LegState {
    /// The mail is recorded.
    Received,
    /// Decrypted and trusted: from here on a promise.
    Opened,
    /// A post is under way or will be repeated.
    Posting,
    /// The endpoint answered 202; its response comes later.
    AwaitingDeferred,
    /// The answer was lost and the endpoint is not idempotent.
    InDoubt,
    /// The endpoint answered Success.
    Delivered,
    /// The endpoint refused, or the content cannot be converted.
    Refused,
    /// The endpoint could not be reached until the deadline.
    Expired,
}

impl LegState {
    /// Whether nothing can change it any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::InDoubt | Self::Delivered | Self::Refused | Self::Expired
        )
    }
}

/// One recipient of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub address: DirectAddress,
    /// How far it got, in the direction XDR to Direct. A recipient of the other direction follows its legs' states
    /// and stays `Queued` until they are final.
    pub state: RecipientState,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// The legs that carry the message to it: one mail, or one post for each submission set.
    pub legs: Vec<LegId>,
    /// The certificate (DER) found and trusted at accept; checked again before sealing.
    pub certificate: Option<Vec<u8>>,
    /// The one final decision, once it is made.
    pub outcome: Option<Outcome>,
}

/// The states of mdn.md section 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecipientState {
    /// No certificate, untrusted, bad address, or policy.
    Rejected,
    /// Accepted; waiting for a certificate, for sealing, or for the next hop.
    Queued,
    /// The next hop answered 250.
    Relayed,
    /// A `processed` notice came.
    Processed,
    /// A `dispatched` notice (or a `displayed` one that counts) came.
    Dispatched,
    /// The next hop refused, the queue lifetime ended, or a local failure after acceptance.
    Bounced,
    /// The receiving system reported failure.
    Nacked,
    /// No `processed` by Tp.
    ExpiredP,
    /// `processed`, but no `dispatched` by Td.
    ExpiredD,
}

impl RecipientState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Rejected,
        Self::Queued,
        Self::Relayed,
        Self::Processed,
        Self::Dispatched,
        Self::Bounced,
        Self::Nacked,
        Self::ExpiredP,
        Self::ExpiredD,
    ];

    /// Whether it is settled. `Processed` settles only a message whose sender did not ask for final delivery.
    pub fn is_final(self, wants_final_delivery: bool) -> bool {
        match self {
            Self::Queued | Self::Relayed => false,
            Self::Processed => !wants_final_delivery,
            Self::Rejected
            | Self::Dispatched
            | Self::Bounced
            | Self::Nacked
            | Self::ExpiredP
            | Self::ExpiredD => true,
        }
    }

    /// Whether it means that the recipient has the message.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Processed | Self::Dispatched)
    }
}

/// The final decision about one recipient. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When it was decided.
    pub at: Timestamp,
    /// `None` is success.
    pub failure: Option<Reason>,
}

impl Exchange {
    /// Whether every recipient is settled.
    pub fn is_final(&self) -> bool {
        self.final_at.is_some()
    }

    /// The leg with this id.
    pub fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    /// The mail leg with this id.
    pub fn mail_leg(&self, id: LegId) -> Option<&MailLeg> {
        self.leg(id).and_then(|leg| match &leg.kind {
            LegKind::Mail(mail) => Some(mail),
            LegKind::Xdr(_) => None,
        })
    }

    /// The recipients that this leg serves.
    pub fn recipients_of(&self, leg: LegId) -> impl Iterator<Item = &Recipient> {
        self.recipients
            .iter()
            .filter(move |recipient| recipient.legs.contains(&leg))
    }

    /// The domains of the recipients of a leg that still wait for the next hop, each once.
    pub fn queued_domains_of(&self, leg: LegId) -> Vec<DomainName> {
        let mut domains: Vec<DomainName> = self
            .recipients_of(leg)
            .filter(|recipient| recipient.state == RecipientState::Queued)
            .map(|recipient| recipient.address.domain().clone())
            .collect();
        domains.sort();
        domains.dedup();
        domains
    }

    /// The recipient with this address.
    pub fn recipient(&self, address: &DirectAddress) -> Option<&Recipient> {
        self.recipients
            .iter()
            .find(|recipient| recipient.address == *address)
    }
}
