//! What can happen to an exchange, and what must be done about it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Leg, NextHop, PreparedRequest, Reason, SealedMail};
use crate::formats::ids::{DirectAddress, DomainName, LegId, MessageId, SoapMessageId};

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
    // --- both directions -----------------------------------------------------------------------
    /// The message was accepted: the exchange, as built, begins its life. Fed once, in the unit of work that
    /// records the exchange.
    Accepted,
    /// The recipient will not be served. XDR to Direct: a late look-up, or the check of its certificate before
    /// sealing or sending, ended in a refusal. Direct to XDR: trust failed for it (no MDN then, DST-2).
    RecipientRefused {
        /// Whose.
        recipient: DirectAddress,
        /// Why.
        reason: Reason,
    },
    /// Whether the certificate of the recipient, or the signer of the mail, may be trusted is not known now: a revocation
    /// list is missing or stale, and must be there (REV-4). It is asked again; what of it is settled by the deadline has
    /// the reason given.
    TrustUndecided {
        /// Whose.
        recipient: DirectAddress,
        /// What is to be reported if no list comes by the deadline.
        reason: Reason,
    },
    /// A leg cannot be made at all: `tooLarge`, `conversionFailed`, `internal`.
    LegFailed {
        /// Which.
        leg: LegId,
        /// Why.
        reason: Reason,
    },
    /// An operator ended the delivery to this recipient.
    OperatorFailed {
        /// Whom.
        recipient: DirectAddress,
    },
    /// An operator holds the exchange: nothing of it is handed on from now on. What is under way goes to its end.
    OperatorHeld,
    /// An operator lets the exchange go on: what was withheld is due now.
    OperatorReleased,
    /// An attempt became due while the exchange is held.
    Withheld {
        /// The attempt: [`Effect::Send`] or [`Effect::Post`].
        effect: Effect,
    },
    /// [`super::Deadlines::queue`] passed: look-ups, SMTP attempts and posts stop here.
    DeadlineQueue,
    // --- XDR to Direct -------------------------------------------------------------------------
    /// A late look-up found a trusted certificate (DER); the recipient gets the leg given.
    CertificateFound {
        /// Whose.
        recipient: DirectAddress,
        /// The certificate in DER form.
        certificate: Vec<u8>,
        /// The new leg that will serve it.
        leg: Leg,
    },
    /// A late look-up did not come to an end; the next one is due at the time given.
    LookUpDeferred {
        /// Whose.
        recipient: DirectAddress,
        /// What is to be reported if nothing better is known by the deadline, such as `untrusted`.
        reason: Reason,
        /// Which look-up it was: that of [`Effect::LookUp`].
        attempt: u32,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// A leg's bytes are made and stored. The first that are taken are the leg's for good (SND-6). If the new
    /// exchange does not name them, they came second, or a recipient left the leg meanwhile, so that it is sealed
    /// again: the caller drops them.
    LegSealed {
        /// Which.
        leg: LegId,
        /// For whom: exactly the recipients in its To.
        recipients: Vec<DirectAddress>,
        /// The stored bytes.
        sealed: SealedMail,
    },
    /// The next hop answered 250 for this recipient.
    SmtpAccepted {
        /// Whom.
        recipient: DirectAddress,
        /// Who that is, unless it is this bridge itself.
        by: Option<NextHop>,
    },
    /// The next hop refused this recipient for good, or the queue's own check did, or a bounce came that counts
    /// under DSN-4.
    SmtpRefused {
        /// Whom.
        recipient: DirectAddress,
        /// `smtpRejected`, `tooLarge`, `unknownRecipient` or `badAddress`.
        reason: Reason,
    },
    /// The attempt for this domain failed for now, whatever an earlier one was undecided about; the next one is due at
    /// the time given.
    SmtpDeferred {
        /// Which leg.
        leg: LegId,
        /// The recipients' domain.
        domain: DomainName,
        /// Which attempt it was: that of [`Effect::Send`].
        attempt: u32,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// A trusted notice about this recipient (mdn.md section 5, "Anti-spoof").
    Notice {
        /// Whom it speaks for.
        recipient: DirectAddress,
        /// What it says.
        disposition: Disposition,
    },
    /// A trusted DSN with Action `failed`.
    DsnFailed {
        /// Whom it speaks of.
        recipient: DirectAddress,
    },
    /// Tp passed.
    DeadlineTp,
    /// Td passed.
    DeadlineTd,
    /// The bytes of a status submission are made and stored. The first are its bytes for good (STS-3); if the new
    /// exchange does not name them, they came second: the caller drops them.
    StatusMade {
        /// Position of the recipient whom it is about.
        recipient: usize,
        /// Its wsa:MessageID.
        soap_message_id: SoapMessageId,
        /// The stored bytes.
        request: PreparedRequest,
    },
    /// An attempt to hand a status submission to its partner ended.
    StatusPosted {
        /// Position of the recipient whom it is about.
        recipient: usize,
        /// Which attempt it was: that of [`Effect::PostStatus`].
        attempt: u32,
        /// How.
        result: StatusResult,
    },
    // --- Direct to XDR -------------------------------------------------------------------------
    /// The mail was decrypted, verified and trusted; from here on it is a promise.
    Opened(Opening),
    /// The mail needs no delivery: it was a notice, or a repetition of a mail that another exchange serves. No
    /// MDN answers it (LOOP-1).
    Absorbed,
    /// The same mail came again for these recipients (DST-6): the MDNs are sent again, nothing is posted.
    MailRepeated {
        /// For whom.
        recipients: Vec<DirectAddress>,
    },
    /// An MDN's bytes are made and stored. The first are the notice's for good; if the new exchange does not name them,
    /// they came second: the caller drops them.
    MdnSealed {
        /// For whom it speaks.
        recipient: DirectAddress,
        /// What it says.
        disposition: MdnToSend,
        /// The stored bytes.
        sealed: SealedMail,
    },
    /// An MDN was handed to the next hop, or given up (LOOP-2).
    MdnDone {
        /// For whom it speaks.
        recipient: DirectAddress,
        /// What it says.
        disposition: MdnToSend,
    },
    /// A post is about to leave. Recorded before its first octet where the endpoint is not idempotent: a leg
    /// found in this state after a crash may have been stored.
    PostStarted {
        /// Which leg.
        leg: LegId,
    },
    /// A post ended.
    Posted {
        /// Which leg.
        leg: LegId,
        /// Which attempt it was: that of [`Effect::Post`].
        attempt: u32,
        /// How.
        result: PostResult,
        /// The endpoint's errorCode that decided, where it is one that is known.
        code: Option<String>,
    },
    /// The deferred response to a post arrived. `Deferred` and `AnswerLost` make no sense here and change nothing.
    DeferredAnswer {
        /// Which leg.
        leg: LegId,
        /// What it says.
        result: PostResult,
    },
    /// An endpoint with `final_by_disposition` reported what became of one recipient (COR-5).
    EdgeDisposition {
        /// Which leg.
        leg: LegId,
        /// Whom it speaks of.
        recipient: DirectAddress,
        /// Delivered or not.
        success: bool,
    },
}

/// What opening a mail gave. A recipient of the exchange that is named neither in `legs` nor in `failed` is not
/// trusted: it is refused in silence (DST-2, RCV-R6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The inner From, bound to the signer.
    pub from: DirectAddress,
    /// The inner Message-ID, if there is one.
    pub message_id: Option<MessageId>,
    /// What tells it from another mail with its Message-ID, or without any (DST-6).
    pub digest: [u8; 32],
    /// The signer's certificate (DER).
    pub signer: Vec<u8>,
    /// Whether the sender asked to be told of final delivery, in a valid form (MDN-10).
    pub wants_final_delivery: bool,
    /// The posts to make, with the recipients that each serves.
    pub legs: Vec<(Leg, Vec<DirectAddress>)>,
    /// Trusted recipients that cannot be served all the same: `unknownRecipient`, `conversionFailed`, `tooLarge`.
    pub failed: Vec<(DirectAddress, Reason)>,
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
    /// PartialSuccess, from a lax peer.
    Partial {
        /// The recipients in error; none named means that the errors belong to no one recipient.
        failed: Vec<DirectAddress>,
    },
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

/// How one attempt to hand over a status submission ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusResult {
    /// The partner has it.
    Taken,
    /// The partner refused it for good.
    Refused,
    /// Whether the partner has it is not known, or it was not reached: try again at the time given.
    Unknown {
        /// When to try again.
        retry_at: Timestamp,
        /// Whether the request left whole, so that the partner may have it.
        may_have_arrived: bool,
    },
}

/// Something that must be done for an exchange. The outbox keeps it until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// Look for a certificate that was not found at accept.
    LookUp {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
        /// 1 for the first one after acceptance.
        attempt: u32,
    },
    /// Package, sign and encrypt a leg.
    Seal {
        /// Which.
        leg: LegId,
    },
    /// Hand a sealed leg to the next hop of one domain, for its recipients that are still queued. An attempt is
    /// over before [`super::Deadlines::queue`], so that "not sent" is definite.
    Send {
        /// Which.
        leg: LegId,
        /// The recipients' domain.
        domain: DomainName,
        /// 1 for the first one.
        attempt: u32,
    },
    /// Decrypt, verify, trust and convert a recorded mail.
    Open,
    /// Post a leg to its endpoint. A leg found in [`super::LegState::Posting`] was under way when a process died:
    /// the answer is lost.
    Post {
        /// Which.
        leg: LegId,
        /// The endpoint's name: posts to a slow one wait apart from all others.
        endpoint: String,
        /// 1 for the first one.
        attempt: u32,
    },
    /// Tell the mail's sender about one recipient, once.
    SendMdn {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
        /// What to say.
        disposition: MdnToSend,
        /// The domain of the mail's sender: notices to a slow next hop wait apart from all others.
        domain: DomainName,
        /// When it is dropped, if no next hop has taken it by then (LOOP-2).
        until: Timestamp,
    },
    /// Tell the XDR sender's side one recipient's final outcome, once.
    ReportOutcome {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
    },
    /// Hand the status submission about one recipient to its partner.
    PostStatus {
        /// Position in [`super::Exchange::recipients`].
        recipient: usize,
        /// The partner's name: what goes to a slow one waits apart from all others.
        partner: String,
        /// 1 for the first one.
        attempt: u32,
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
