//! An XDR system that mail was posted to says later what became of it: by a deferred response (mdn.md section 9, the rows
//! about 202) or by a disposition of its own (COR-5). What it says closes the leg that it is about, if it comes from the
//! partner that speaks for the leg's endpoint; anything else changes nothing and is audited.
//!
//! A leg and its keys are recorded before its first octet leaves, so there is nothing to hold for a row that is not there
//! yet (COR-6): what overtakes our own record of the post's end finds a leg that is open.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{error, info};
use uuid::Uuid;

use super::{
    measures,
    ports::{Clock, Exchanges, LookupKey, StoreError, UnitOfWork, VersionedExchange},
    transition::{self, Extras},
};
use crate::{
    bridge::{
        endpoint::{XdrEndpoint, XdrEndpoints},
        exchange::{Event, EventKind, Exchange},
        post::{self, PostTerms},
        retry,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, LegId},
        limits::Limits,
        xdr::{disposition::MessageDisposition, response::Answer},
    },
};

/// Takes what endpoints say later.
pub struct EdgeReports {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Exchanges, outbox, audit.
    pub store: Arc<dyn Exchanges>,
    /// The XDR systems that mail is posted to, and who speaks for each.
    pub endpoints: Arc<XdrEndpoints>,
    /// Limits on what comes from outside.
    pub limits: Arc<Limits>,
}

/// What a report came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flows) enum Reported {
    /// It is about a leg of the partner's, whether it changed anything or came late or twice.
    Known,
    /// It is about nothing that this partner may speak of.
    Unknown,
}

/// A leg, and the exchange that it belongs to.
struct Found {
    exchange: Exchange,
    leg: LegId,
}

impl EdgeReports {
    /// Whether the partner speaks for some endpoint, so that answers may come from it.
    pub(in crate::flows) fn is_speaker(&self, partner: &str) -> bool {
        self.spoken_for(partner).next().is_some()
    }

    /// Takes a disposition about the request that bore `relates_to`.
    pub(in crate::flows) async fn disposition(
        &self,
        partner: &str,
        relates_to: &str,
        disposition: &MessageDisposition,
    ) -> Result<Reported, StoreError> {
        let at = self.clock.now();
        let word = if disposition.is_success {
            "success"
        } else {
            "failure"
        };
        let record = |outcome| {
            let reason = disposition.reason.as_deref().unwrap_or_default();
            reported(at, outcome, partner, relates_to)
                .with("recipient", disposition.recipient.to_string())
                .with("disposition", word)
                .with("reason", reason)
        };
        let recipient = &disposition.recipient;
        let is_served = |found: &Found| {
            let mut served = found.exchange.recipients_of(found.leg);
            served.any(|one| one.address == *recipient)
        };
        let found = self.find(partner, relates_to).await?.filter(is_served);
        let Some(found) = found else {
            self.foreign(at, partner, relates_to).await?;
            return Ok(Reported::Unknown);
        };
        let kind = EventKind::EdgeDisposition {
            leg: found.leg,
            recipient: recipient.clone(),
            success: disposition.is_success,
        };
        self.feed(at, &found, kind, &record).await?;
        Ok(Reported::Known)
    }

    /// Takes a deferred response to the request that bore `relates_to`. One that is about nothing is recorded: its
    /// sender is answered as always (SOAP-131).
    pub(in crate::flows) async fn response(
        &self,
        partner: &str,
        relates_to: &str,
        answer: &Answer,
    ) -> Result<Reported, StoreError> {
        let at = self.clock.now();
        let Some(found) = self.find(partner, relates_to).await? else {
            if !self.foreign(at, partner, relates_to).await? {
                let record = reported(at, AuditOutcome::Minor, partner, relates_to)
                    .with("error", "relatesTo unknown");
                self.record(record).await?;
            }
            info!(
                partner,
                "a deferred response of partner {partner} is about no request of ours"
            );
            return Ok(Reported::Unknown);
        };
        let exchange = &found.exchange;
        let recipients: Vec<DirectAddress> = exchange
            .recipients_of(found.leg)
            .map(|recipient| recipient.address.clone())
            .collect();
        let post = exchange.leg(found.leg).and_then(|leg| leg.as_xdr());
        let end = exchange.deadlines.queue;
        let random = Uuid::new_v4().as_u64_pair().0;
        let verdict = post::judge_answer(
            answer,
            &PostTerms {
                recipients: &recipients,
                was_answer_lost: post.is_some_and(|post| post.answer_lost),
                retry_at: retry::next_attempt(at, 1, end, random).unwrap_or(end),
                limits: &self.limits,
            },
        );
        let code = verdict.code.as_ref().map_or("", |code| code.known_name());
        let record = |outcome| {
            reported(at, outcome, partner, relates_to)
                .with("cause", verdict.cause)
                .with("code", code)
        };
        let kind = EventKind::DeferredAnswer {
            leg: found.leg,
            result: verdict.result.clone(),
        };
        self.feed(at, &found, kind, &record).await?;
        Ok(Reported::Known)
    }

    fn spoken_for(&self, partner: &str) -> impl Iterator<Item = &XdrEndpoint> {
        let all = self.endpoints.all().iter();
        all.filter(move |endpoint| endpoint.partner.as_deref() == Some(partner))
    }

    /// The leg under this id that went to an endpoint which the partner speaks for.
    async fn find(&self, partner: &str, relates_to: &str) -> Result<Option<Found>, StoreError> {
        for endpoint in self.spoken_for(partner) {
            if let Some(found) = self.find_at(endpoint, relates_to).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find_at(
        &self,
        endpoint: &XdrEndpoint,
        relates_to: &str,
    ) -> Result<Option<Found>, StoreError> {
        let key = LookupKey::Post {
            endpoint: endpoint.name.clone(),
            id: relates_to.to_owned(),
        };
        for id in self.store.find(&key).await? {
            let Some(VersionedExchange { exchange, .. }) = self.store.load(id).await? else {
                continue;
            };
            let leg = exchange.legs.iter().find(|leg| {
                leg.as_xdr().is_some_and(|post| {
                    post.endpoint == endpoint.name && post.soap_message_id.as_str() == relates_to
                })
            });
            if let Some(leg) = leg.map(|leg| leg.id) {
                return Ok(Some(Found { exchange, leg }));
            }
        }
        Ok(None)
    }

    /// Whether the id is that of a request which the partner may not speak of. That is a security event.
    async fn foreign(
        &self,
        at: Timestamp,
        partner: &str,
        relates_to: &str,
    ) -> Result<bool, StoreError> {
        for endpoint in self.endpoints.all() {
            let Some(found) = self.find_at(endpoint, relates_to).await? else {
                continue;
            };
            error!(alarm = "foreign_report", exchange.id = %found.exchange.id, partner, endpoint = endpoint.name.as_str(), "partner {partner} reported on a recipient or a request that is not its own; nothing was changed");
            measures::count_alarm("foreign_report");
            let record = AuditRecord::new(at, AuditKind::SecurityAlert, AuditOutcome::Serious)
                .of(found.exchange.id)
                .with("partner", partner)
                .with("endpoint", &endpoint.name)
                .with("relates-to", relates_to)
                .with(
                    "error",
                    "a report from another partner, or of another recipient",
                );
            self.record(record).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Tells the exchange; the record says whether that changed anything.
    async fn feed(
        &self,
        at: Timestamp,
        found: &Found,
        kind: EventKind,
        record: &(dyn Fn(AuditOutcome) -> AuditRecord + Sync),
    ) -> Result<(), StoreError> {
        let tell = |before: &Exchange, after: &Exchange| {
            let (outcome, result) = if before == after {
                (AuditOutcome::Minor, "suppressed")
            } else {
                (AuditOutcome::Success, "matched")
            };
            vec![record(outcome).of(after.id).with("result", result)]
        };
        let id = found.exchange.id;
        let events = [Event { at, kind }];
        transition::apply_telling(&self.store, id, &events, Extras::default(), &tell).await?;
        info!(exchange.id = %id, "an endpoint reported on exchange {id}");
        Ok(())
    }

    async fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
        let unit = UnitOfWork {
            audit: vec![record],
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await
    }
}

/// What the audit keeps of a report, whatever it came to.
fn reported(at: Timestamp, outcome: AuditOutcome, partner: &str, relates_to: &str) -> AuditRecord {
    AuditRecord::new(at, AuditKind::Iti41Import, outcome)
        .with("partner", partner)
        .with("relates-to", relates_to)
}
