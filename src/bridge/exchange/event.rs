//! What can happen to an exchange, and what must be done about it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LegKind, Reason, SealedMail};
use crate::formats::ids::{DirectAddress, DomainName, LegId};

/// Something happened. Time is part of it: nothing in the bridge's decisions reads a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    // --- XDR to Direct -------------------------------------------------------------------------
    /// The submission was accepted: the exchange, as built, begins its life.
    Accepted,
    /// A late look-up found a trusted certificate (DER); the recipient gets the leg given.
    CertificateFound {
        /// Whose.
        recipient: DirectAddress,
        /// The certificate in DER form.
        certificate: Vec<u8>,
        /// The new leg that will serve it.
        leg: super::Leg,
    },
    /// A look-up or a check at sending time ended in a refusal.
    RecipientRefused {
        /// Whose.
        recipient: DirectAddress,
        /// Why.
        reason: Reason,
    },
    /// A leg's bytes are made and stored.
    LegSealed {
        /// Which.
        leg: LegId,
        /// The stored bytes.
        sealed: SealedMail,
    },
    /// A leg cannot be made at all: `tooLarge`, `conversionFailed`, `internal`.
    LegFailed {
        /// Which.
        leg: LegId,
        /// Why.
        reason: Reason,
    },
    /// The next hop answered 250 for this recipient.
    SmtpAccepted {
        /// Whom.
        recipient: DirectAddress,
    },
    /// The next hop refused this recipient for good, or the queue's own check did.
    SmtpRefused {
        /// Whom.
        recipient: DirectAddress,
        /// `smtpRejected`, `tooLarge`, `unknownRecipient` or `badAddress`.
        reason: Reason,
    },
    /// The attempt for this domain failed for now; the next one is due at the time given.
    SmtpDeferred {
        /// Which leg.
        leg: LegId,
        /// The recipients' domain.
        domain: DomainName,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// A trusted notice about this recipient.
    Notice {
        /// Whom it speaks for.
        recipient: DirectAddress,
        /// What it says.
        disposition: Disposition,
    },
    /// A trusted DSN with Action `failed`, or a bounce under DSN-4.
    DsnFailed {
        /// Whom it speaks of.
        recipient: DirectAddress,
    },
    /// An operator ended the delivery to this recipient.
    OperatorFailed {
        /// Whom.
        recipient: DirectAddress,
    },
    // --- Direct to XDR -------------------------------------------------------------------------
    /// The mail was decrypted, verified and trusted for these recipients; the legs are known.
    Opened {
        /// The verified sender.
        from: DirectAddress,
        /// The posts to make, with the recipients each serves.
        legs: Vec<(super::Leg, Vec<DirectAddress>)>,
    },
    /// The content cannot be converted for the endpoint: `conversionFailed` or `tooLarge`.
    ConversionFailed {
        /// Why.
        reason: Reason,
    },
    /// A post ended.
    Posted {
        /// Which leg.
        leg: LegId,
        /// How.
        result: PostResult,
    },
    /// A deferred response, or an edge's own disposition (COR-5), closed a leg.
    DeferredAnswer {
        /// Which leg.
        leg: LegId,
        /// Success or not.
        success: bool,
    },
    // --- both ----------------------------------------------------------------------------------
    /// The queue lifetime ended: look-ups, SMTP attempts and posts stop here.
    DeadlineQueue,
    /// Tp passed.
    DeadlineTp,
    /// Td passed.
    DeadlineTd,
}

/// What an MDN says (mdn.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Disposition {
    /// Decrypted and trusted by the receiving system.
    Processed,
    /// Delivered.
    Dispatched {
        /// Whether it carries the field X-DIRECT-FINAL-DESTINATION-DELIVERY (MDN-27).
        final_delivery: bool,
    },
    /// Shown to a person.
    Displayed,
    /// `failed`, `denied`, or any type with the modifier `error`.
    Failed,
    /// `deleted` and whatever else: informative.
    Other,
}

/// How one post to an XDR endpoint ended (the rows of mdn.md section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostResult {
    /// RegistryResponse Success, with or without warnings.
    Success,
    /// Refused for good: a permanent code, a Sender fault, another 4xx, or TLS trust.
    Refused,
    /// Refused for now, or not reached: try again at the time given.
    Unavailable {
        /// When to try again.
        retry_at: Timestamp,
    },
    /// HTTP 202: the response comes later.
    Deferred,
    /// The body was sent and the answer lost, or it was no RegistryResponse.
    AnswerLost {
        /// When to repeat it, if the endpoint is idempotent.
        retry_at: Timestamp,
    },
}

/// Something that must be done for an exchange. The outbox keeps it until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// Look for a certificate that was not found at accept.
    LookUp {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
    },
    /// Package, sign and encrypt a leg.
    Seal {
        /// Which.
        leg: LegId,
    },
    /// Hand a sealed leg to the next hop of one domain.
    Send {
        /// Which.
        leg: LegId,
        /// The recipients' domain.
        domain: DomainName,
    },
    /// Decrypt, verify, trust and convert a recorded mail.
    Open,
    /// Post a leg to its endpoint.
    Post {
        /// Which.
        leg: LegId,
    },
    /// Tell the mail's sender about one recipient, once.
    SendMdn {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
        /// What to say.
        disposition: MdnToSend,
    },
    /// Tell the XDR sender's side one recipient's final outcome, once.
    ReportOutcome {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
    },
    /// Feed [`EventKind::DeadlineQueue`].
    DeadlineQueue,
    /// Feed [`EventKind::DeadlineTp`].
    DeadlineTp,
    /// Feed [`EventKind::DeadlineTd`].
    DeadlineTd,
    /// Remove the bodies: the exchange is final and its retention is over.
    RemoveBodies,
}

/// The MDNs that the bridge writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MdnToSend {
    /// Taken over.
    Processed,
    /// Delivered to the endpoint.
    Dispatched,
    /// Not delivered.
    Failed,
}

/// An effect and when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// What to do.
    pub effect: Effect,
    /// Not before this time.
    pub at: Timestamp,
}

impl Scheduled {
    /// `effect`, due at `at`.
    pub fn new(effect: Effect, at: Timestamp) -> Self {
        Self { effect, at }
    }
}

impl LegKind {
    /// Whether this is a mail.
    pub fn is_mail(&self) -> bool {
        matches!(self, Self::Mail(_))
    }
}
