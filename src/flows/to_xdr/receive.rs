//! Receive: a mail comes in, is found to be sealed for us, and is recorded; only then it is answered 250.

use std::{fmt::Display, io::Read, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use openssl::x509::X509Ref;
use tracing::{error, info};

use super::{
    ToXdr,
    bounce::Bounced,
    inline::{Inline, NOT_ACCEPTED, Refusal},
};
use crate::{
    bridge::{
        bounce::{self, Bouncer, NotABounce},
        exchange::{Event, EventKind, Exchange, Origin, Recipient, step},
        notice::Notice,
        own_domain::OwnDomain,
        trust,
    },
    flows::{
        cpu::Urgency,
        fault_points,
        intake::{self, IntakeError, Received, record_small, store_error},
        measures,
        ports::{
            Bodies, ExchangeWrite, MailAnswer, MailRecipient, MailTransaction, RecipientAnswer,
            ServeMail, SmtpPeer, StagedBody, StoreError, UnitOfWork,
        },
        settings::RcptVerify,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, DomainName, ExchangeId},
        limits::Limits,
        mime::read,
        smime::{self, FrontError, OpenError, SigningIdentity},
    },
};

/// What the audit calls this bridge as the peer of its own mail (MR-5).
pub(super) const THIS_BRIDGE: &str = "this bridge";
/// What it keeps of TLS where nothing leaves the process.
pub(super) const IN_PROCESS: &str = "in process";

/// The mail is no S/MIME envelope (RCV-R1).
const NOT_ENCRYPTED: MailAnswer = MailAnswer::Refused {
    code: 550,
    enhanced: "5.7.1",
    text: "S/MIME encryption required",
};
/// It was here, or elsewhere, too often (LOOP-3).
const ROUTING_LOOP: MailAnswer = MailAnswer::Refused {
    code: 554,
    enhanced: "5.4.6",
    text: "too many hops",
};
/// It is one in a form that nobody can read.
const NOT_READABLE: MailAnswer = MailAnswer::Refused {
    code: 554,
    enhanced: "5.6.0",
    text: "the S/MIME envelope cannot be read",
};
/// It is sealed for somebody else (RCV-R2).
const NOT_FOR_US: MailAnswer = MailAnswer::Refused {
    code: 550,
    enhanced: "5.7.5",
    text: "not encrypted to a certificate of this system",
};

#[async_trait]
impl ServeMail for ToXdr {
    fn serves(&self, domain: &DomainName) -> bool {
        self.own_domains.find(domain).is_some()
    }

    async fn recipient(&self, address: &DirectAddress) -> RecipientAnswer {
        let Some(own) = self.own_domains.find(address.domain()) else {
            return RecipientAnswer::Unknown;
        };
        // The answer hangs on the domain alone: it tells nobody who is there (RX-26, T-19).
        if self.receiving.rcpt_verify == RcptVerify::Late {
            return match own.identities.as_slice() {
                [] => RecipientAnswer::Unconfigured,
                _ => RecipientAnswer::Served,
            };
        }
        // Who submits by XDR gets notices here (RCV-8), also where no endpoint takes mail for it.
        let is_sender = || self.partners.iter().any(|one| one.may_send_as(address));
        if self.endpoints.find(address).is_none() && !is_sender() {
            return RecipientAnswer::Unknown;
        }
        let opens =
            |identity: &SigningIdentity| trust::binds(&identity.certificate, address).is_some();
        if own.identities.iter().any(opens) {
            RecipientAnswer::Served
        } else {
            RecipientAnswer::Unconfigured
        }
    }

    async fn serve(&self, transaction: MailTransaction) -> MailAnswer {
        let recipients: Vec<DirectAddress> = transaction
            .recipients
            .iter()
            .filter_map(|recipient| match recipient {
                MailRecipient::Address { address, .. } => Some(address.clone()),
                MailRecipient::Postmaster => None,
            })
            .collect();
        let envelope = Envelope {
            id: transaction.id,
            from: transaction.envelope_from,
            is_for_postmaster: recipients.len() < transaction.recipients.len(),
            recipients,
            peer: Peer::Smtp(transaction.peer),
        };
        // Held until the answer is made: the octets are in flight until then.
        let _reservation = transaction.reservation;
        let start = transaction.trace.into_bytes();
        if envelope.recipients.is_empty() {
            return self
                .for_postmaster(&envelope, start, transaction.body)
                .await;
        }
        let received = intake::receive(start, transaction.body, Arc::clone(&self.bodies)).await;
        let received = match received {
            Ok(received) => received,
            // The listener answers by itself.
            Err(IntakeError::Interrupted(_)) => return MailAnswer::UNAVAILABLE,
            Err(IntakeError::Store(failure)) => return cannot_store(&failure),
        };
        match self.accept(&envelope, received).await {
            Ok(answer) => answer,
            Err(failure) => cannot_store(&failure),
        }
    }
}

/// What the transaction said.
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) from: Option<DirectAddress>,
    pub(super) recipients: Vec<DirectAddress>,
    /// Whether it is for the postmaster, too.
    pub(super) is_for_postmaster: bool,
    pub(super) peer: Peer,
}

/// Who hands a mail over.
pub(super) enum Peer {
    /// Another mail system.
    Smtp(SmtpPeer),
    /// This bridge itself (MR-5).
    ThisBridge,
}

impl ToXdr {
    /// Takes a mail that has come in whole, or refuses it.
    pub(super) async fn accept(
        &self,
        envelope: &Envelope,
        received: Received,
    ) -> Result<MailAnswer, StoreError> {
        let identities = identities(&self.domains_of(&envelope.recipients));
        let (bodies, limits) = (Arc::clone(&self.bodies), Arc::clone(&self.limits));
        let bouncer = self.bouncer(envelope);
        let may_bounce = bouncer.is_some();
        let looking = self.cpu.run(Urgency::PeerWaits, move || {
            look(received, &identities, may_bounce, &bodies, &limits)
        });
        let staged = match looking.await {
            Ok(Ok(Looked::Sealed(staged))) => staged,
            Ok(Ok(Looked::Bounce(notice))) => {
                return self.answer_bounce(envelope, bouncer, &notice).await;
            }
            Ok(Err(NotTaken::Refused(cause, answer))) => {
                return self.refuse(envelope, &cause, answer).await;
            }
            Ok(Err(NotTaken::Store(failure))) => return Err(failure),
            Err(panicked) => {
                error!(
                    alarm = "panic",
                    error = &panicked as &dyn std::error::Error,
                    "looking at a received mail panicked"
                );
                measures::count_alarm("panic");
                return Ok(NOT_READABLE);
            }
        };
        if let Inline::Refuse(refusal) = self.verify_inline(envelope, &staged).await? {
            return self.refuse_uniformly(envelope, refusal).await;
        }
        // Before the exchange: a failure is answered 451, and the mail that then comes again must not be a second one. The
        // postmaster may get two copies.
        self.copy_for_postmaster(envelope, &staged).await?;
        fault_points::pass("receive.before_record").map_err(store_error)?;
        let exchange = self.record(envelope, &staged).await?;
        // The exchange is ours from the commit on, whatever happens: only a kill means anything here.
        let _ = fault_points::pass("receive.before_answer");
        info!(
            exchange.id = %exchange,
            size_bytes = staged.size,
            recipients = envelope.recipients.len(),
            "received a mail as exchange {exchange}"
        );
        Ok(MailAnswer::Accepted)
    }

    /// The peer gets one answer for whatever it was; the audit has the cause.
    async fn refuse_uniformly(
        &self,
        envelope: &Envelope,
        refusal: Refusal,
    ) -> Result<MailAnswer, StoreError> {
        let verdicts = refusal.verdicts.into_iter();
        let mut audit = vec![refused(envelope, &refusal.cause, self.clock.now())];
        audit.extend(verdicts.map(|record| record.with("queue-id", &envelope.id)));
        let unit = UnitOfWork {
            audit,
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await?;
        measures::count_mail("refused");
        Ok(NOT_ACCEPTED)
    }

    /// The peer gets `answer`; the audit has the cause.
    async fn refuse(
        &self,
        envelope: &Envelope,
        cause: &str,
        answer: MailAnswer,
    ) -> Result<MailAnswer, StoreError> {
        let unit = UnitOfWork {
            audit: vec![refused(envelope, cause, self.clock.now())],
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await?;
        measures::count_mail("refused");
        Ok(answer)
    }

    async fn answer_bounce(
        &self,
        envelope: &Envelope,
        bouncer: Option<Bouncer<'_>>,
        notice: &Notice,
    ) -> Result<MailAnswer, StoreError> {
        let taken = match bouncer {
            Some(bouncer) => self.take_bounce(envelope, &bouncer, notice).await?,
            None => Bounced::Refused(NotABounce::OtherHost),
        };
        match taken {
            Bounced::Taken => {
                measures::count_mail("bounce");
                Ok(MailAnswer::Accepted)
            }
            Bounced::TooEarly => Ok(MailAnswer::UNAVAILABLE),
            Bounced::Refused(cause) => {
                let (cause, answer) = no_bounce(&cause);
                self.refuse(envelope, &cause, answer).await
            }
        }
    }

    /// Writes the exchange with its body, effects and audit row in one transaction.
    async fn record(
        &self,
        envelope: &Envelope,
        staged: &StagedBody,
    ) -> Result<ExchangeId, StoreError> {
        let now = self.clock.now();
        let recipients = envelope.recipients.iter();
        let exchange = Exchange {
            id: ExchangeId::random(),
            origin: Origin::Direct {
                wire_bytes: staged.size,
                envelope_from: envelope.from.clone(),
                message_id: None,
                from: None,
                digest: None,
                signer: None,
            },
            is_begun: false,
            accepted_at: now,
            deadlines: self.timers.deadlines(now),
            body: staged.id,
            wants_final_delivery: false,
            displayed_is_delivery: true,
            legs: Vec::new(),
            recipients: recipients
                .map(|address| Recipient::queued(address.clone(), Vec::new(), None))
                .collect(),
            final_at: None,
            hold: None,
        };
        let id = exchange.id;
        let kind = EventKind::Accepted;
        let (exchange, effects) = step(&exchange, &Event { at: now, kind });
        let audit = vec![imported(envelope, staged.size, now).of(id)];
        let unit = UnitOfWork {
            exchange: Some(ExchangeWrite::Insert {
                exchange,
                keys: Vec::new(),
            }),
            adopt: vec![staged.id],
            effects: effects.into_iter().map(|effect| (id, effect)).collect(),
            audit,
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await?;
        Ok(id)
    }

    /// The served domains of these addresses, each once.
    pub(super) fn domains_of(&self, addresses: &[DirectAddress]) -> Vec<Arc<OwnDomain>> {
        let mut domains: Vec<Arc<OwnDomain>> = Vec::new();
        for address in addresses {
            if let Some(own) = self.own_domains.find(address.domain())
                && domains.iter().all(|other| other.name != own.name)
            {
                domains.push(own);
            }
        }
        domains
    }
}

/// Every key of these domains: a mail may be sealed to any of them.
pub(super) fn identities(domains: &[Arc<OwnDomain>]) -> Vec<SigningIdentity> {
    let all = domains.iter().flat_map(|domain| &domain.identities);
    all.cloned().collect()
}

/// Why a mail is not recorded.
enum NotTaken {
    /// The cause, for the audit, and what the peer is answered.
    Refused(String, MailAnswer),
    Store(StoreError),
}

impl From<FrontError> for NotTaken {
    fn from(error: FrontError) -> Self {
        let refused = |answer| Self::Refused(error.to_string(), answer);
        match error {
            FrontError::Refused(OpenError::NotEncrypted) => refused(NOT_ENCRYPTED),
            FrontError::Refused(OpenError::NotForUs) => refused(NOT_FOR_US),
            FrontError::Refused(_) => refused(NOT_READABLE),
            FrontError::Loop => refused(ROUTING_LOOP),
            FrontError::Read(failure) => Self::Store(store_error(failure)),
        }
    }
}

/// What is no bounce that counts is a mail that is not sealed.
fn no_bounce(cause: &dyn Display) -> (String, MailAnswer) {
    (format!("bounce_suspect: {cause} (DSN-4)"), NOT_ENCRYPTED)
}

/// What a mail is, as far as it can be told before it is recorded.
enum Looked {
    /// Sealed for one of our keys, and in the store.
    Sealed(StagedBody),
    /// A bounce in clear, of a host that may send some. It is not kept.
    Bounce(Notice),
}

/// Whether the mail is sealed for one of `identities`, without a private key's work; what is goes to the store. What is
/// not sealed at all is read as a bounce, if the host `may_bounce`.
fn look(
    received: Received,
    identities: &[SigningIdentity],
    may_bounce: bool,
    bodies: &Arc<dyn Bodies>,
    limits: &Limits,
) -> Result<Looked, NotTaken> {
    let seen = match &received {
        Received::InMemory(octets) => check(&mut &**octets, identities, limits),
        // Read from where it was recorded, and to its end if it is ours: what was torn on its way to disk is not accepted.
        Received::Staged(staged) => {
            let mut body = bodies.open(staged.id).map_err(NotTaken::Store)?;
            check(&mut *body, identities, limits)
        }
    };
    match (seen, received) {
        (Ok(()), Received::Staged(staged)) => Ok(Looked::Sealed(staged)),
        (Ok(()), Received::InMemory(octets)) => record_small(&octets, bodies.as_ref())
            .map(Looked::Sealed)
            .map_err(NotTaken::Store),
        (Err(FrontError::Refused(OpenError::NotEncrypted)), received) if may_bounce => {
            let octets = match received {
                Received::InMemory(octets) => octets,
                Received::Staged(staged) => {
                    read_whole(bodies, &staged).map_err(NotTaken::Store)?.into()
                }
            };
            read_bounce(&octets, limits).map(Looked::Bounce)
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn read_bounce(octets: &[u8], limits: &Limits) -> Result<Notice, NotTaken> {
    let refused = |cause: &dyn Display| {
        let (cause, answer) = no_bounce(cause);
        NotTaken::Refused(cause, answer)
    };
    let mail = read::read(octets, limits).map_err(|error| refused(&error))?;
    bounce::read(&mail).map_err(|error: NotABounce| refused(&error))
}

fn read_whole(bodies: &Arc<dyn Bodies>, staged: &StagedBody) -> Result<Vec<u8>, StoreError> {
    let mut octets = Vec::with_capacity(usize::try_from(staged.size).unwrap_or_default());
    let mut body = bodies.open(staged.id)?;
    body.read_to_end(&mut octets).map_err(store_error)?;
    Ok(octets)
}

/// The refusals in the session (smtp.md section 5).
fn check(
    mail: &mut dyn Read,
    identities: &[SigningIdentity],
    limits: &Limits,
) -> Result<(), FrontError> {
    let certificates: Vec<&X509Ref> = identities.iter().map(|own| &*own.certificate).collect();
    smime::is_sealed_for(mail, &certificates, limits)
}

/// What a store that fails means to the peer; an operator has to look at it.
pub(super) fn cannot_store(failure: &StoreError) -> MailAnswer {
    error!(
        alarm = "store",
        error = failure as &dyn std::error::Error,
        "a received mail cannot be recorded"
    );
    measures::count_alarm("store");
    match failure {
        StoreError::NoSpace => MailAnswer::NO_ROOM,
        _ => MailAnswer::UNAVAILABLE,
    }
}

/// The record of a mail that was taken.
pub(super) fn imported(envelope: &Envelope, wire_bytes: u64, now: Timestamp) -> AuditRecord {
    let record = AuditRecord::new(now, AuditKind::Iti32Import, AuditOutcome::Success);
    described(record, envelope).with("size", wire_bytes.to_string())
}

fn refused(envelope: &Envelope, cause: &str, now: Timestamp) -> AuditRecord {
    let record = AuditRecord::new(now, AuditKind::SecurityAlert, AuditOutcome::Serious);
    described(record, envelope).with("error", cause)
}

/// The record with what is known of the transaction.
pub(super) fn described(record: AuditRecord, envelope: &Envelope) -> AuditRecord {
    let from = envelope.from.as_ref().map(ToString::to_string);
    let record = record
        .with("queue-id", &envelope.id)
        .with("from", from.unwrap_or_default())
        .with("recipients", recipients_of(envelope));
    match &envelope.peer {
        Peer::Smtp(peer) => {
            let tls = peer.tls.as_ref();
            record
                .with("peer", peer.address.to_string())
                .with("helo", &peer.helo)
                .with(
                    "tls",
                    tls.map_or("none".to_owned(), |tls| tls.version.clone()),
                )
        }
        Peer::ThisBridge => record.with("peer", THIS_BRIDGE).with("tls", IN_PROCESS),
    }
}

fn recipients_of(envelope: &Envelope) -> String {
    let addresses = envelope.recipients.iter().map(ToString::to_string);
    let postmaster = envelope.is_for_postmaster.then(|| "postmaster".to_owned());
    let texts: Vec<String> = addresses.chain(postmaster).collect();
    texts.join(" ")
}
