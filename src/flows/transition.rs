//! Events in, new state and effects out, in one transaction.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    bridge::exchange::{Event, EventKind, Exchange, LegKind, Origin, step},
    formats::{
        audit::AuditRecord,
        ids::{BodyId, ExchangeId},
    },
};

use super::ports::{Claim, ExchangeWrite, Exchanges, Found, LookupKey, StoreError, UnitOfWork};

/// How often a transition is tried again because another worker changed the exchange meanwhile. Each conflict means
/// that another one went through, and an exchange has fewer effects than this.
const MAX_CONFLICTS: u32 = 10_000;

/// What is written together with a transition.
#[derive(Debug, Default)]
pub struct Extras {
    /// The effect that the transition completes.
    pub done: Option<Claim>,
    /// The claim that the transition is a step of: see [`UnitOfWork::under`].
    pub under: Option<Claim>,
    /// Bodies that the exchange owns from now on, if its new state names them. A sealed mail that came too late for its
    /// leg is not named, and is swept.
    pub adopt: Vec<BodyId>,
    /// What was known of a key when the events were decided on: see [`UnitOfWork::decided_on`].
    pub decided_on: Option<Found>,
    /// What the audit learns.
    pub audit: Vec<AuditRecord>,
}

/// Loads the exchange, steps it through `events`, and commits the new state, its effects and `extras` as one unit of
/// work. Events are facts: when another worker was faster, they are applied to what it left.
pub async fn apply(
    store: &Arc<dyn Exchanges>,
    id: ExchangeId,
    events: &[Event],
    extras: Extras,
) -> Result<Exchange, StoreError> {
    apply_telling(store, id, events, extras, &|_, _| Vec::new()).await
}

/// The same, with further audit records that `tell` makes of what the exchange was before and is after.
pub async fn apply_telling(
    store: &Arc<dyn Exchanges>,
    id: ExchangeId,
    events: &[Event],
    extras: Extras,
    tell: &(dyn Fn(&Exchange, &Exchange) -> Vec<AuditRecord> + Sync),
) -> Result<Exchange, StoreError> {
    let mut conflicts = 0;
    loop {
        let Some(loaded) = store.load(id).await? else {
            return Err(StoreError::Failed(
                format!("exchange {id} is not in the store").into(),
            ));
        };
        let mut exchange = loaded.exchange.clone();
        let mut effects = Vec::new();
        for event in events {
            let (next, more) = step(&exchange, event);
            exchange = next;
            effects.extend(more);
        }
        let mut audit = extras.audit.clone();
        audit.extend(tell(&loaded.exchange, &exchange));
        let unit = UnitOfWork {
            exchange: Some(ExchangeWrite::Update {
                exchange: exchange.clone(),
                version: loaded.version,
                keys: new_keys(&loaded.exchange, &exchange),
            }),
            adopt: extras
                .adopt
                .iter()
                .copied()
                .filter(|body| exchange.bodies().contains(body))
                .collect(),
            effects: effects.into_iter().map(|effect| (id, effect)).collect(),
            done: extras.done.clone(),
            under: extras.under.clone(),
            decided_on: extras.decided_on.clone(),
            audit,
            ..UnitOfWork::default()
        };
        match store.commit(unit).await {
            Ok(()) => return Ok(exchange),
            Err(StoreError::Conflict { .. }) if conflicts < MAX_CONFLICTS => conflicts += 1,
            Err(StoreError::Conflict { .. }) => {
                return Err(StoreError::Failed("the exchange never stood still".into()));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Puts aside a claimed attempt of an exchange that an operator holds, until it is released.
pub async fn withhold(
    store: &Arc<dyn Exchanges>,
    claim: &Claim,
    at: Timestamp,
) -> Result<(), StoreError> {
    let kind = EventKind::Withheld {
        effect: claim.effect.clone(),
    };
    let extras = Extras {
        done: Some(claim.clone()),
        ..Extras::default()
    };
    apply(store, claim.exchange, &[Event { at, kind }], extras).await?;
    Ok(())
}

/// What `after` is found by and `before` was not: notices about its new mails, answers to its new posts, and the mail
/// itself, should it come again.
fn new_keys(before: &Exchange, after: &Exchange) -> Vec<LookupKey> {
    let of_legs = after.legs_since(before).map(|leg| match &leg.kind {
        LegKind::Mail(mail) => LookupKey::MessageId(mail.message_id.as_str().to_owned()),
        LegKind::Xdr(post) => LookupKey::Post {
            endpoint: post.endpoint.clone(),
            id: post.soap_message_id.as_str().to_owned(),
        },
    });
    let received = |exchange: &Exchange| match &exchange.origin {
        Origin::Direct {
            message_id,
            digest: Some(digest),
            ..
        } => Some(LookupKey::of_received(message_id.as_ref(), digest)),
        Origin::Direct { .. } | Origin::Xdr { .. } => None,
    };
    let of_mail = received(after).filter(|_| received(before).is_none());
    of_legs.chain(of_mail).collect()
}
