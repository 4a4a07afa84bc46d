//! Bounce: an unsigned DSN of a host that `trusted_bounce_hosts` names (mdn.md DSN-4). It settles the recipient that it is
//! about and is not kept: what it returns may name a patient.

use tracing::{info, warn};

use super::{
    ToXdr,
    notice::{count, record, taken, told},
    receive::{Envelope, Peer, described},
};
use crate::{
    bridge::{
        bounce::{self, Bounce, Bouncer, NotABounce},
        exchange::{Event, EventKind, Exchange},
        notice::{Notice, Statement},
    },
    flows::{
        fault_points,
        intake::store_error,
        ports::{StoreError, UnitOfWork},
        transition::{self, Extras},
    },
    formats::audit::{AuditKind, AuditOutcome, AuditRecord},
};

/// What became of a bounce.
pub(super) enum Bounced {
    /// It did what it could, and is done with.
    Taken,
    /// It overtook our own record of the hand-over: it is to be sent again.
    TooEarly,
    /// It is a mail like any other, and not sealed.
    Refused(NotABounce),
}

impl ToXdr {
    /// Who hands over an unsigned bounce, if it may count: a host that is named, over TLS, with a null reverse-path as
    /// every DSN has it (RFC 3464 section 2).
    pub(super) fn bouncer(&self, envelope: &Envelope) -> Option<Bouncer<'_>> {
        let Peer::Smtp(peer) = &envelope.peer else {
            return None;
        };
        if envelope.from.is_some() {
            return None;
        }
        let tls = peer.tls.as_ref()?;
        let hosts = &self.receiving.trusted_bounce_hosts;
        Bouncer::of(hosts, peer.address.ip(), tls.certificate.as_ref())
    }

    /// Feeds a bounce to the exchange that it is about. Whatever is repeated after a crash finds its work done.
    pub(super) async fn take_bounce(
        &self,
        envelope: &Envelope,
        bouncer: &Bouncer<'_>,
        notice: &Notice,
    ) -> Result<Bounced, StoreError> {
        let Some((exchange, leg)) = self.noticed(notice).await? else {
            count("unmatched");
            return Ok(Bounced::Refused(NotABounce::Unknown));
        };
        let (mut is_taken, mut is_early) = (false, false);
        let mut refusals = Vec::new();
        for statement in &notice.statements {
            match bounce::judge(statement, &exchange, leg, &envelope.recipients, bouncer) {
                Ok(Bounce::Decides(reason)) => {
                    is_taken = true;
                    let recipient = statement.recipient.clone();
                    let kind = EventKind::SmtpRefused { recipient, reason };
                    self.bounced(envelope, notice, statement, &exchange, Some(kind))
                        .await?;
                }
                Ok(Bounce::Idle) => {
                    is_taken = true;
                    self.bounced(envelope, notice, statement, &exchange, None)
                        .await?;
                }
                Ok(Bounce::TooEarly) => is_early = true,
                Err(refusal) => refusals.push((statement, refusal)),
            }
        }
        if is_taken {
            fault_points::pass("bounce.taken").map_err(store_error)?;
        }
        if is_early {
            return Ok(Bounced::TooEarly);
        }
        if let Some((_, refusal)) = refusals.first()
            && !is_taken
        {
            count("suspect");
            warn!(exchange.id = %exchange.id, "an unsigned bounce about exchange {} changes nothing: {refusal}", exchange.id);
            return Ok(Bounced::Refused(*refusal));
        }
        self.audit_refusals(envelope, notice, &exchange, refusals)
            .await?;
        Ok(Bounced::Taken)
    }

    /// Records what a bounce says of one recipient, with what it decides.
    async fn bounced(
        &self,
        envelope: &Envelope,
        notice: &Notice,
        statement: &Statement,
        exchange: &Exchange,
        kind: Option<EventKind>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let events: Vec<Event> = kind.into_iter().map(|kind| Event { at, kind }).collect();
        let tell = |before: &Exchange, after: &Exchange| {
            let taken = taken(before, after, statement);
            let record = told(at, notice, statement, after, taken);
            vec![described(record, envelope).with("signer", "none, a trusted bounce host")]
        };
        let extras = Extras::default();
        let id = exchange.id;
        let after = transition::apply_telling(&self.store, id, &events, extras, &tell).await?;
        let result = taken(exchange, &after, statement).word();
        count(result);
        let domain = statement.recipient.domain();
        info!(exchange.id = %id, domain = %domain, result, "a bounce about exchange {id} says {}: {result}", statement.says.word());
        Ok(())
    }

    /// What a bounce that was taken says besides, of recipients that it has no word about.
    async fn audit_refusals(
        &self,
        envelope: &Envelope,
        notice: &Notice,
        exchange: &Exchange,
        refusals: Vec<(&Statement, NotABounce)>,
    ) -> Result<(), StoreError> {
        if refusals.is_empty() {
            return Ok(());
        }
        let at = self.clock.now();
        let audit = refusals.into_iter().map(|(statement, refusal)| {
            count("suspect");
            let (kind, outcome) = (AuditKind::SecurityAlert, AuditOutcome::Serious);
            let record: AuditRecord = record(at, kind, outcome, notice, statement);
            described(record, envelope)
                .of(exchange.id)
                .with("error", format!("bounce_suspect: {refusal}"))
        });
        let unit = UnitOfWork {
            audit: audit.collect(),
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await
    }
}
