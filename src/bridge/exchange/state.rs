//! The state of an exchange: what the store keeps and [`super::step()`] changes.

use std::{fmt, net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{super::destination::MailPolicy, Effect, MdnToSend, Reason};
use crate::formats::{
    document::DocumentFacts,
    ids::{BodyId, DirectAddress, DomainName, ExchangeId, LegId, MessageId, SoapMessageId},
    metadata::Level,
};

/// What one sender handed over once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The bridge's own id.
    pub id: ExchangeId,
    /// Where it came from, and so which way it crosses.
    pub origin: Origin,
    /// Whether `Accepted` was fed. Nothing happens to an exchange before.
    pub is_begun: bool,
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
    /// While an operator holds it.
    #[serde(default)]
    pub hold: Option<Hold>,
}

/// An operator holds an exchange: nothing of it is handed on. Look-ups, opening and sealing go on, since nothing leaves
/// by them; so do notices to its sender, and the deadlines, which tell the sender in time what was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Attempts that became due meanwhile: they are made when it is released.
    pub withheld: Vec<Effect>,
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
        /// The level that its metadata was judged by.
        level: Level,
        /// What was learnt of each document at accept.
        documents: Vec<DocumentFacts>,
    },
    /// A Direct message: the exchange crosses from Direct to XDR.
    Direct {
        /// The mail as it was received, in octets.
        wire_bytes: u64,
        /// MAIL FROM; `None` for the null reverse-path.
        envelope_from: Option<DirectAddress>,
        /// The inner Message-ID, if it had one.
        message_id: Option<MessageId>,
        /// The inner From, once it is verified.
        from: Option<DirectAddress>,
        /// SHA-256 over the signed content, once it is verified: what tells the same mail from another one with its
        /// Message-ID, or without any (DST-6).
        digest: Option<[u8; 32]>,
        /// The certificate (DER) of the verified signer: MDNs may be encrypted to it where no other is found (MDN-28).
        signer: Option<Vec<u8>>,
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
    /// How long the bodies are kept after the last recipient was settled.
    pub body_retention: Duration,
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
    /// How the mail is made, the same for all its recipients: as it was decided when the leg was.
    #[serde(default)]
    pub policy: MailPolicy,
    /// The sealed bytes, once made: they never change, whoever leaves the leg (SND-6).
    pub sealed: Option<SealedMail>,
}

/// Sealed bytes as stored. The outer header holds addresses, so it is kept here, in the encrypted state; the body
/// is ciphertext already and lies in the body store as it is. `Debug` hides the header.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMail {
    /// The outer header, with the blank line that ends it.
    pub header: String,
    /// The base64 text of the CMS envelope.
    pub body: BodyId,
    /// Header and body, as sent.
    pub wire_bytes: u64,
}

impl fmt::Debug for SealedMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedMail")
            .field("header_bytes", &self.header.len())
            .field("body", &self.body)
            .field("wire_bytes", &self.wire_bytes)
            .finish()
    }
}

/// A post to one XDR endpoint for the recipients that name this leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdrLeg {
    /// The wsa:MessageID of every attempt.
    pub soap_message_id: SoapMessageId,
    /// The request as it is posted by every attempt.
    pub request: PreparedRequest,
    /// The endpoint's name in the configuration.
    pub endpoint: String,
    /// Whether a post whose answer was lost may be repeated.
    pub idempotent: bool,
    /// Whether the endpoint reports delivery by a disposition of its own, after its Success (COR-5).
    pub final_by_disposition: bool,
    /// How far it got.
    pub state: LegState,
    /// Whether the answer to some post was lost: its content may have been stored.
    pub answer_lost: bool,
    /// Why it ended, where its state alone does not say.
    pub reason: Option<Reason>,
    /// The endpoint's last errorCode, where it is one that is known: notices name it beside the reason.
    #[serde(default)]
    pub error_code: Option<String>,
    /// What the endpoint said of single recipients. It goes before `state`.
    pub answers: Vec<RecipientAnswer>,
}

/// An ITI-41 request as stored: made once, when its mail was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRequest {
    /// Its octets.
    pub body: BodyId,
    /// Its Content-Type, which holds the MIME boundary.
    pub content_type: String,
    /// How many octets it has.
    pub wire_bytes: u64,
}

/// What an endpoint said of one recipient of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientAnswer {
    /// Whom it speaks of.
    pub recipient: DirectAddress,
    /// Delivered or not.
    pub success: bool,
}

/// How far an ITI-41 leg got (mdn.md section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LegState {
    /// The mail is recorded.
    Received,
    /// Decrypted and trusted: from here on a promise. A post is due, none is under way.
    Opened,
    /// A post is under way.
    Posting,
    /// The endpoint answered 202, or Success without finality (COR-5); the rest comes later.
    AwaitingDeferred,
    /// The answer was lost, and nothing cleared it up: the endpoint is not idempotent, or time ran out.
    InDoubt,
    /// The endpoint answered Success.
    Delivered,
    /// The endpoint refused, or the content cannot be converted.
    Refused,
    /// The endpoint could not be reached until the deadline.
    Expired,
}

impl LegState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Opened,
        Self::Posting,
        Self::AwaitingDeferred,
        Self::InDoubt,
        Self::Delivered,
        Self::Refused,
        Self::Expired,
    ];

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
    /// Why it failed; while it is open, the last reason that a look-up gave.
    pub reason: Option<Reason>,
    /// The legs that carry the message to it: one mail, or one post for each submission set.
    pub legs: Vec<LegId>,
    /// The certificate (DER) found and trusted at accept; checked again before sealing.
    pub certificate: Option<Vec<u8>>,
    /// The one final decision, once it is made.
    pub outcome: Option<Outcome>,
    /// Direct to XDR: how far its MDNs are.
    pub mdns: MdnProgress,
    /// XDR to Direct: the status submission that tells its outcome, once it is made (STS-3).
    #[serde(default)]
    pub status: Option<StatusReport>,
    /// XDR to Direct: who took the mail for it. Unknown where nothing left this bridge (MR-5), and of a mail that was
    /// recorded before this was.
    #[serde(default)]
    pub taken_by: Option<NextHop>,
}

/// A host that took a mail from us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// Its name, as it was looked for: that of the MX record, or the smarthost's, which may be an address.
    pub host: String,
    /// Where it took the mail.
    pub address: IpAddr,
}

/// A status submission: the ITI-41 request that tells the partner what became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The wsa:MessageID of every attempt.
    pub soap_message_id: SoapMessageId,
    /// The request as it is posted by every attempt.
    pub request: PreparedRequest,
    /// When it is given up.
    pub until: Timestamp,
    /// Whether the answer to some attempt was lost: the partner may have it.
    pub answer_lost: bool,
    /// How it ended; `None` while the partner's receipt of it is unknown.
    pub end: Option<StatusEnd>,
}

/// How a status submission ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StatusEnd {
    /// The partner has it.
    Taken,
    /// The partner refused it for good: a dead letter.
    Refused,
    /// The partner did not say that it has it, in all the time there was: a dead letter.
    Expired,
}

/// How far the MDNs to the sender of a mail are, for one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdnProgress {
    /// Whether the recipient is trusted, so that MDNs speak for it.
    pub is_due: bool,
    /// Whether `processed` left (or was given up): the final one may follow (DST-5).
    pub processed_done: bool,
    /// When they were sent again because the mail came again, within one day (LOOP-4).
    pub repeated_at: Vec<Timestamp>,
    /// Their bytes, once made: whoever gets a notice twice gets the same one (MDN-15).
    #[serde(default)]
    pub sealed: Vec<SealedMdn>,
}

impl MdnProgress {
    /// The bytes of the notice that says `disposition`, if they are made.
    pub fn sealed(&self, disposition: MdnToSend) -> Option<&SealedMail> {
        let mut made = self.sealed.iter();
        made.find(|mdn| mdn.disposition == disposition)
            .map(|mdn| &mdn.mail)
    }
}

/// An MDN as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMdn {
    /// What it says.
    pub disposition: MdnToSend,
    /// Its bytes.
    pub mail: SealedMail,
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

impl Recipient {
    /// A recipient that will be served by `legs`; without one, its certificate is still looked for.
    pub fn queued(address: DirectAddress, legs: Vec<LegId>, certificate: Option<Vec<u8>>) -> Self {
        Self {
            address,
            state: RecipientState::Queued,
            reason: None,
            legs,
            certificate,
            outcome: None,
            mdns: MdnProgress::default(),
            status: None,
            taken_by: None,
        }
    }

    /// A recipient that was refused when the message was accepted.
    pub fn refused(address: DirectAddress, reason: Reason) -> Self {
        Self {
            state: RecipientState::Rejected,
            reason: Some(reason),
            ..Self::queued(address, Vec::new(), None)
        }
    }
}

impl Leg {
    /// A mail leg that is not sealed yet.
    pub fn mail(id: LegId, message_id: MessageId, policy: MailPolicy) -> Self {
        Self {
            id,
            kind: LegKind::Mail(MailLeg {
                message_id,
                policy,
                sealed: None,
            }),
        }
    }

    /// What it is if it is a mail.
    pub fn as_mail(&self) -> Option<&MailLeg> {
        match &self.kind {
            LegKind::Mail(mail) => Some(mail),
            LegKind::Xdr(_) => None,
        }
    }

    /// What it is if it is a post.
    pub fn as_xdr(&self) -> Option<&XdrLeg> {
        match &self.kind {
            LegKind::Xdr(post) => Some(post),
            LegKind::Mail(_) => None,
        }
    }
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
        self.leg(id).and_then(Leg::as_mail)
    }

    /// The recipients that this leg serves.
    pub fn recipients_of(&self, leg: LegId) -> impl Iterator<Item = &Recipient> {
        self.recipients
            .iter()
            .filter(move |recipient| recipient.legs.contains(&leg))
    }

    /// The recipients of a leg that still wait for the next hop. Those that wait when it is sealed are the ones that
    /// its To names and its envelope serves; those that wait later are the ones that an attempt is made for.
    pub fn queued_recipients_of(&self, leg: LegId) -> impl Iterator<Item = &Recipient> {
        self.recipients_of(leg)
            .filter(|recipient| recipient.state == RecipientState::Queued)
    }

    /// The legs that `earlier`, an earlier state of this exchange, did not have: their ids are new keys.
    pub fn legs_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a Leg> {
        self.legs.iter().filter(|leg| earlier.leg(leg.id).is_none())
    }

    /// Every body that the exchange owns: what it was received as, and what was made of it.
    pub fn bodies(&self) -> Vec<BodyId> {
        let of_legs = self.legs.iter().filter_map(|leg| match &leg.kind {
            LegKind::Mail(mail) => mail.sealed.as_ref().map(|sealed| sealed.body),
            LegKind::Xdr(post) => Some(post.request.body),
        });
        let mdns = self.recipients.iter().flat_map(|recipient| {
            let sealed = recipient.mdns.sealed.iter();
            sealed.map(|mdn| mdn.mail.body)
        });
        let reports = self.recipients.iter().filter_map(|recipient| {
            let report = recipient.status.as_ref()?;
            Some(report.request.body)
        });
        std::iter::once(self.body)
            .chain(of_legs)
            .chain(mdns)
            .chain(reports)
            .collect()
    }

    /// The status submissions that are still under way.
    pub fn open_reports(&self) -> impl Iterator<Item = &StatusReport> {
        self.recipients
            .iter()
            .filter_map(|recipient| recipient.status.as_ref())
            .filter(|report| report.end.is_none())
    }

    /// The domains of the recipients of a leg that still wait for the next hop, each once.
    pub fn queued_domains_of(&self, leg: LegId) -> Vec<DomainName> {
        let mut domains: Vec<DomainName> = self
            .queued_recipients_of(leg)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_that_was_recorded_before_its_next_hop_was_is_read() {
        let mut recipient = Recipient::queued(
            "ada.quill@harbor.example".parse().unwrap(),
            Vec::new(),
            None,
        );
        recipient.state = RecipientState::Relayed;
        let mut record = serde_json::to_value(&recipient).unwrap();
        assert!(record.as_object_mut().unwrap().remove("taken_by").is_some());
        assert_eq!(
            serde_json::from_value::<Recipient>(record).unwrap(),
            recipient
        );
        recipient.taken_by = Some(NextHop {
            host: "mx.harbor.example".to_owned(),
            address: "2001:db8::25".parse().unwrap(),
        });
        let record = serde_json::to_vec(&recipient).unwrap();
        assert_eq!(
            serde_json::from_slice::<Recipient>(&record).unwrap(),
            recipient
        );
    }

    #[test]
    fn the_debug_text_of_sealed_mail_names_nobody() {
        let mail = SealedMail {
            header: "To: ada.quill@harbor.example\r\n\r\n".into(),
            body: BodyId::random(),
            wire_bytes: 7,
        };
        let text = format!("{mail:?}");
        assert!(!text.contains("ada.quill"), "{text}");
        assert!(text.contains("wire_bytes: 7"), "{text}");
    }
}
