//! Whose mail is this, and which of its recipients may have it? (direct.md section 7, RCV-5 to RCV-7.) Asked of a mail
//! that was decrypted and whose signature holds, before anything of its content is used.

use std::{cell::RefCell, sync::Arc};

use jiff::Timestamp;
use openssl::x509::X509;

use super::{
    own_domain::OwnDomain,
    trust::{Binding, CertificateCandidate, Doubt, Fault, Purpose, Verdict, Wants},
};
use crate::formats::{
    ids::{DirectAddress, MessageId},
    mime::read::MailHeader,
    notification::request::FinalDelivery,
    smime::{Legacy, Opened},
};

/// What the mail transaction said.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// MAIL FROM; `None` is the null reverse-path.
    pub from: Option<&'a DirectAddress>,
    /// RCPT TO, as far as we serve them.
    pub recipients: &'a [DirectAddress],
}

/// Why a mail is nobody's. For audit and log alone: the peer learns nothing of it (T-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The signed header names no single author.
    #[error("the signed header has no single From, nor a Sender beside several (WR-11)")]
    NoSender,
    /// The envelope says another sender than the signed header.
    #[error("the envelope's sender is neither From nor Sender of the signed header (WR-7)")]
    OtherEnvelopeSender,
}

/// Why one recipient does not get a mail. For audit and log alone, like [`Rejected`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// The signed header names other recipients: redirected, or forwarded behind the sender's back.
    #[error("the signed header does not name the recipient (WR-6, T-13c)")]
    NotNamed,
    /// Its domain is not served any more.
    #[error("the recipient's domain is not served")]
    NotServed,
    /// No signer is bound to the sender.
    #[error("no signer's certificate is bound to the sender (RCV-R5)")]
    NotBound,
    /// The best signer fell at this check.
    #[error("no signer is trusted for the recipient: {0} (RCV-R6)")]
    Signer(Fault),
    /// The mail was opened by weak algorithms that the recipient's domain does not take.
    #[error("a weak algorithm was used that the recipient's domain does not take (SM-6)")]
    Weak,
}

impl NotTrusted {
    /// Whether a revocation list that comes may still mend it (REV-4).
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Signer(fault) if fault.is_temporary())
    }
}

/// The signer that a recipient's domain trusts.
#[derive(Clone)]
pub struct TrustedSigner {
    /// Its certificate.
    pub certificate: X509,
    /// How it is bound to the sender.
    pub binding: Binding,
    /// What the revocation lists do not tell of it (REV-4).
    pub doubt: Option<Doubt>,
}

/// What was decided about a mail.
pub struct Trusted {
    /// The sender: the author of the signed header.
    pub sender: DirectAddress,
    /// Its Message-ID.
    pub message_id: Option<MessageId>,
    /// What it asks for about final delivery.
    pub final_delivery: FinalDelivery,
    /// The verdict about each recipient of the envelope, in their order.
    pub recipients: Vec<(DirectAddress, Result<TrustedSigner, NotTrusted>)>,
    /// What might be fetched, so that more is known of the signers.
    pub wants: Wants,
}

impl Trusted {
    /// The recipients that may have it.
    pub fn welcome(&self) -> impl Iterator<Item = &DirectAddress> {
        let trusted = self
            .recipients
            .iter()
            .filter(|(_, verdict)| verdict.is_ok());
        trusted.map(|(address, _)| address)
    }

    /// The recipients of whom it cannot be said yet, with the cause (REV-4).
    pub fn undecided(&self) -> impl Iterator<Item = (&DirectAddress, &NotTrusted)> {
        let verdicts = self.recipients.iter();
        let refused =
            verdicts.filter_map(|(address, verdict)| Some((address, verdict.as_ref().err()?)));
        refused.filter(|(_, cause)| cause.is_temporary())
    }

    /// The signer that the first of them trusts.
    pub fn signer(&self) -> Option<&TrustedSigner> {
        let mut verdicts = self.recipients.iter();
        verdicts.find_map(|(_, verdict)| verdict.as_ref().ok())
    }
}

/// Decides about a mail. `header` is that of the signed message; a recipient's domain is looked up by `domain_of`.
///
/// One signer is enough that is valid, bound to the sender and trusted by the recipient's domain, whatever the others
/// are (RCV-7).
pub fn judge(
    opened: &Opened,
    header: &MailHeader,
    envelope: &Envelope<'_>,
    domain_of: &dyn Fn(&DirectAddress) -> Option<Arc<OwnDomain>>,
    now: Timestamp,
) -> Result<Trusted, Rejected> {
    let sender = sender(header).ok_or(Rejected::NoSender)?;
    check_envelope_sender(header, envelope.from)?;
    let judge = Judge {
        opened,
        sender: &sender,
        candidates: candidates(opened),
        now,
        wants: RefCell::default(),
    };
    let recipients = envelope
        .recipients
        .iter()
        .map(|recipient| {
            let verdict = judge.recipient(header, recipient, domain_of);
            (recipient.clone(), verdict)
        })
        .collect();
    Ok(Trusted {
        message_id: header.message_id.clone(),
        final_delivery: header
            .disposition_notification_options
            .as_deref()
            .map_or(FinalDelivery::NotRequested, FinalDelivery::read),
        recipients,
        wants: judge.wants.take(),
        sender: sender.clone(),
    })
}

/// Whether a signer of the mail may speak for `speaker`, as the domain of `recipient` sees it: valid, bound to `speaker`
/// and trusted, whatever From says (MDN-46). The signed header must name `recipient`, as for any mail (WR-6). What might
/// be fetched, so that more is known, is added to `wants`.
pub fn vouch(
    opened: &Opened,
    header: &MailHeader,
    recipient: &DirectAddress,
    speaker: &DirectAddress,
    domain_of: &dyn Fn(&DirectAddress) -> Option<Arc<OwnDomain>>,
    now: Timestamp,
    wants: &mut Wants,
) -> Result<TrustedSigner, NotTrusted> {
    let judge = Judge {
        opened,
        sender: speaker,
        candidates: candidates(opened),
        now,
        wants: RefCell::default(),
    };
    let vouched = judge.recipient(header, recipient, domain_of);
    wants.extend(judge.wants.into_inner());
    vouched
}

/// The one author, or who sent it for several (WR-11).
fn sender(header: &MailHeader) -> Option<DirectAddress> {
    match (header.from.as_slice(), &header.sender) {
        ([author], _) => Some(author.address.clone()),
        ([_, ..], Some(sender)) => Some(sender.address.clone()),
        _ => None,
    }
}

/// An envelope without a sender is that of a notice, and says nothing (WR-7).
fn check_envelope_sender(
    header: &MailHeader,
    envelope_from: Option<&DirectAddress>,
) -> Result<(), Rejected> {
    let Some(envelope_from) = envelope_from else {
        return Ok(());
    };
    let mut authors = header.from.iter().chain(&header.sender);
    if authors.any(|author| author.address == *envelope_from) {
        Ok(())
    } else {
        Err(Rejected::OtherEnvelopeSender)
    }
}

/// The certificates of those whose signature holds.
fn candidates(opened: &Opened) -> Vec<CertificateCandidate> {
    let signers = opened.signers.iter();
    signers
        .map(|signer| CertificateCandidate {
            // One that has no DER form is unreadable, and judged so.
            der: signer.certificate.to_der().unwrap_or_default(),
            origin: "signer".to_owned(),
        })
        .collect()
}

struct Judge<'a> {
    opened: &'a Opened,
    /// Whom the signer must be bound to.
    sender: &'a DirectAddress,
    candidates: Vec<CertificateCandidate>,
    now: Timestamp,
    wants: RefCell<Wants>,
}

impl Judge<'_> {
    fn recipient(
        &self,
        header: &MailHeader,
        recipient: &DirectAddress,
        domain_of: &dyn Fn(&DirectAddress) -> Option<Arc<OwnDomain>>,
    ) -> Result<TrustedSigner, NotTrusted> {
        let mut named = header.to.iter().chain(&header.cc);
        if !named.any(|mailbox| mailbox.address == *recipient) {
            return Err(NotTrusted::NotNamed);
        }
        let own = domain_of(recipient).ok_or(NotTrusted::NotServed)?;
        if !is_tolerated(&self.opened.legacy_of_envelope, &own) {
            return Err(NotTrusted::Weak);
        }
        // What the domain does not take of a signer's algorithms, it does not take of the signer.
        let signers = self.opened.signers.iter().zip(&self.candidates);
        let candidates: Vec<CertificateCandidate> = signers
            .filter(|(signer, _)| is_tolerated(&signer.legacy, &own))
            .map(|(_, candidate)| candidate.clone())
            .collect();
        if candidates.is_empty() && !self.candidates.is_empty() {
            return Err(NotTrusted::Weak);
        }
        let mut judgement = own.examine(
            &candidates,
            &self.opened.certificates,
            self.sender,
            Purpose::Verify,
            self.now,
        );
        let wants = std::mem::take(&mut judgement.wants);
        self.wants.borrow_mut().extend(wants);
        match judgement.chosen {
            Some(chosen) => Ok(TrustedSigner {
                certificate: chosen.certificate,
                binding: chosen.binding,
                doubt: chosen.doubt,
            }),
            None => Err(tell(&judgement.verdicts)),
        }
    }
}

/// The fault of the signer that came furthest tells most: of one that may still be trusted, before all.
fn tell(verdicts: &[Verdict]) -> NotTrusted {
    let mut faults = verdicts.iter().filter_map(|verdict| verdict.fault.as_ref());
    if let Some(fault) = faults.find(|fault| fault.is_temporary()) {
        return NotTrusted::Signer(fault.clone());
    }
    let bound = verdicts.iter().find(|verdict| verdict.binding.is_some());
    let fault = bound
        .or(verdicts.first())
        .and_then(|verdict| verdict.fault.clone());
    match fault {
        None | Some(Fault::NotBound) => NotTrusted::NotBound,
        Some(fault) => NotTrusted::Signer(fault),
    }
}

fn is_tolerated(used: &[Legacy], own: &OwnDomain) -> bool {
    used.iter().all(|weak| own.allow_legacy.contains(weak))
}
