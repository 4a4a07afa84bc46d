//! What operators ask for: they look at exchanges, and try again, hold, release or end one. Each deed is one unit of
//! work with its audit record; what makes no sense in the state that the exchange is in is refused with the reason.
//! Partners look, too, at what they submitted; to them, whatever is not theirs is not there.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::{error, info};

use super::ports::{
    Asker, Clock, Done, ExchangeFilter, ExchangeWrite, Exchanges, ListOrder, LookupKey, MAX_PAGE,
    NotDone, Order, OrderId, Outstanding, Page, PageEnd, ReadAudit, Reschedule, ServeOperators,
    StoreError, Told, UnitOfWork, VersionedExchange,
};
use crate::{
    bridge::{
        exchange::{Event, EventKind, Exchange, InOutbox, NotNow, Origin, Scheduled, step},
        overview::{Overview, Summary},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, ExchangeId},
    },
};

/// Exchanges of a page, where nobody says how many.
const DEFAULT_PAGE: usize = 50;
/// Most exchanges that are looked at for one page: what the store cannot filter is filtered here. A page that ends by it
/// says where the next one begins, like every other.
const MAX_LOOKED_AT: usize = 20_000;
/// How many of them the store gives at once.
const LOOK_AT_ONCE: usize = 500;
/// Most exchanges of one id that a partner's own are looked for among: some senders use one wsa:MessageID for all that
/// they send (NHIN-54), and each exchange has an id of its own.
const MAX_OF_ONE_ID: usize = 1_000;
/// How often a deed is decided anew because a worker changed the exchange meanwhile.
const MAX_CONFLICTS: u32 = 1_000;

/// The use case, with everything that it needs of the world.
pub struct Operators {
    /// Exchanges, outbox, audit.
    pub store: Arc<dyn Exchanges>,
    /// What the audit has of an exchange.
    pub audit: Arc<dyn ReadAudit>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl ServeOperators for Operators {
    async fn serve(&self, asker: &Asker, order: Order) -> Result<Told, NotDone> {
        let is_a_deed = !matches!(order, Order::List(_) | Order::Show { .. });
        if is_a_deed && matches!(asker, Asker::Partner { .. }) {
            let text = "only operators do something to an exchange".to_owned();
            return Err(NotDone::BadOrder { text });
        }
        match order {
            Order::List(list) => self.list(asker, list).await.map(Told::Page),
            Order::Show { id } => {
                let shown = self.show(asker, &id).await?;
                Ok(Told::Exchange(Box::new(shown)))
            }
            Order::Retry { id } => self.act(asker, &id, &Deed::Retry).await,
            Order::Hold { id, reason } => {
                let reason = reason.map(String::from);
                self.act(asker, &id, &Deed::Hold { reason }).await
            }
            Order::Release { id } => self.act(asker, &id, &Deed::Release).await,
            Order::Fail {
                id,
                reason,
                recipients,
            } => {
                let reason = String::from(reason);
                let deed = Deed::Fail { reason, recipients };
                self.act(asker, &id, &deed).await
            }
        }
    }
}

/// What is done to an exchange.
enum Deed {
    Retry,
    Hold {
        reason: Option<String>,
    },
    Release,
    Fail {
        reason: String,
        recipients: Vec<DirectAddress>,
    },
}

/// What a deed comes to.
struct Plan {
    events: Vec<EventKind>,
    reschedule: Vec<Reschedule>,
    done: Done,
}

impl Operators {
    async fn list(&self, asker: &Asker, mut order: ListOrder) -> Result<Page, NotDone> {
        let record = self.record(asker, "list", AuditOutcome::Success);
        let unit = UnitOfWork {
            audit: vec![record.with("filter", described(&order))],
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await.map_err(store_failed)?;

        if let Asker::Partner { name, .. } = asker {
            let asked_for = order.partner.replace(name.clone());
            if asked_for.is_some_and(|other| other != *name) {
                return Ok(Page {
                    exchanges: Vec::new(),
                    next: None,
                });
            }
        }
        let limit = match order.limit {
            0 => DEFAULT_PAGE,
            limit => limit.min(MAX_PAGE),
        };
        let mut exchanges = Vec::new();
        let mut after = order.after;
        let mut looked_at = 0;
        loop {
            let filter = ExchangeFilter {
                partner: order.partner.clone(),
                is_final: order.is_final,
                accepted_before: after.map(|end| end.accepted_at),
                before_id: after.map(|end| end.id),
                limit: LOOK_AT_ONCE,
            };
            let some = self.store.list(&filter).await.map_err(store_failed)?;
            let is_last = some.len() < LOOK_AT_ONCE;
            for exchange in some {
                if order
                    .since
                    .is_some_and(|since| exchange.accepted_at < since)
                {
                    return Ok(Page {
                        exchanges,
                        next: None,
                    });
                }
                let summary = Summary::of(&exchange);
                if fits(&summary, &order) {
                    if exchanges.len() == limit {
                        return Ok(Page {
                            exchanges,
                            next: after,
                        });
                    }
                    exchanges.push(summary);
                }
                after = Some(PageEnd {
                    accepted_at: exchange.accepted_at,
                    id: exchange.id,
                });
            }
            looked_at += LOOK_AT_ONCE;
            if is_last {
                return Ok(Page {
                    exchanges,
                    next: None,
                });
            }
            if looked_at >= MAX_LOOKED_AT {
                return Ok(Page {
                    exchanges,
                    next: after,
                });
            }
        }
    }

    async fn show(&self, asker: &Asker, id: &OrderId) -> Result<Overview, NotDone> {
        let id = self.find(asker, id).await?;
        let reader = format!("exchange show, {asker}");
        let audit = self.audit.read_audit_of(&reader, id).await;
        let audit = audit.map_err(store_failed)?;
        let outbox = self.store.outstanding(id).await.map_err(store_failed)?;
        let loaded = self.load(id).await?;
        let overview = Overview::of(&loaded.exchange, &seen(&outbox), &audit);
        Ok(match asker {
            Asker::Partner { .. } => overview.for_partner(),
            Asker::Local(_) | Asker::TokenOperator { .. } => overview,
        })
    }

    async fn act(&self, asker: &Asker, id: &OrderId, deed: &Deed) -> Result<Told, NotDone> {
        let id = self.find(asker, id).await?;
        for _ in 0..MAX_CONFLICTS {
            let loaded = self.load(id).await?;
            let outbox = self.store.outstanding(id).await.map_err(store_failed)?;
            let now = self.clock.now();
            let plan = match deed.plan(&loaded.exchange, &outbox, now) {
                Ok(plan) => plan,
                Err(refusal) => return Err(self.refuse(asker, id, deed, &refusal).await),
            };
            let unit = self.unit(asker, deed, &loaded, &plan, now);
            match self.store.commit(unit).await {
                Ok(()) => {
                    let what = deed.name();
                    info!(exchange.id = %id, %asker, deed = what, is_changed = plan.done.is_changed, "an operator's {what} of exchange {id}: {}", plan.done.text);
                    return Ok(Told::Done(plan.done));
                }
                // A worker was faster: what it left is looked at anew.
                Err(StoreError::Conflict { .. }) => {}
                Err(failure) => return Err(store_failed(failure)),
            }
        }
        Err(store_failed(StoreError::Failed(
            "the exchange never stood still".into(),
        )))
    }

    fn unit(
        &self,
        asker: &Asker,
        deed: &Deed,
        loaded: &VersionedExchange,
        plan: &Plan,
        now: Timestamp,
    ) -> UnitOfWork {
        let id = loaded.exchange.id;
        let (exchange, effects) = stepped(&loaded.exchange, &plan.events, now);
        let mut record = self.record(asker, deed.name(), AuditOutcome::Success);
        record = record.of(id).with("result", &plan.done.text);
        if let Some(reason) = deed.reason() {
            record = record.with("reason", reason);
        }
        if !plan.done.ended.is_empty() {
            let ended = plan.done.ended.iter().map(ToString::to_string);
            record = record.with("recipients", ended.collect::<Vec<_>>().join(" "));
        }
        UnitOfWork {
            exchange: (!plan.events.is_empty()).then(|| ExchangeWrite::Update {
                exchange,
                version: loaded.version,
                keys: Vec::new(),
            }),
            effects: effects.into_iter().map(|effect| (id, effect)).collect(),
            reschedule: plan.reschedule.clone(),
            audit: vec![record],
            ..UnitOfWork::default()
        }
    }

    /// What was asked for and refused is audited, too.
    async fn refuse(
        &self,
        asker: &Asker,
        id: ExchangeId,
        deed: &Deed,
        refusal: &NotNow,
    ) -> NotDone {
        let record = self.record(asker, deed.name(), AuditOutcome::Minor);
        let mut record = record.of(id).with("error", refusal.to_string());
        if let Some(reason) = deed.reason() {
            record = record.with("reason", reason);
        }
        let unit = UnitOfWork {
            audit: vec![record],
            ..UnitOfWork::default()
        };
        match self.store.commit(unit).await {
            Ok(()) => NotDone::NotNow {
                text: refusal.to_string(),
            },
            Err(failure) => store_failed(failure),
        }
    }

    /// The one exchange of this id that `asker` may know of.
    async fn find(&self, asker: &Asker, id: &OrderId) -> Result<ExchangeId, NotDone> {
        let key = LookupKey::Any(id.as_str().to_owned());
        let mut found = self.store.find(&key).await.map_err(store_failed)?;
        if let Asker::Partner { name, .. } = asker {
            found = self.only_of(name, found, asker).await?;
        }
        match found.as_slice() {
            [] => Err(NotDone::Unknown),
            [id] => Ok(*id),
            _ => Err(NotDone::Several { ids: found }),
        }
    }

    /// Those of `found` that partner `name` submitted. Whether others have the id must not be told by
    /// what this costs: an id that leads to none of its own is audited the same way, whoever has it.
    async fn only_of(
        &self,
        name: &str,
        found: Vec<ExchangeId>,
        asker: &Asker,
    ) -> Result<Vec<ExchangeId>, NotDone> {
        let mut own = Vec::new();
        for id in found.into_iter().take(MAX_OF_ONE_ID) {
            let loaded = self.store.load(id).await.map_err(store_failed)?;
            let is_own = loaded.is_some_and(|loaded| {
                matches!(&loaded.exchange.origin, Origin::Xdr { partner, .. } if partner == name)
            });
            if is_own {
                own.push(id);
            }
        }
        if own.is_empty() {
            let record = self.record(asker, "show", AuditOutcome::Minor);
            let unit = UnitOfWork {
                audit: vec![record.with("error", "nothing of this partner's has the id")],
                ..UnitOfWork::default()
            };
            self.store.commit(unit).await.map_err(store_failed)?;
        }
        Ok(own)
    }

    async fn load(&self, id: ExchangeId) -> Result<VersionedExchange, NotDone> {
        let loaded = self.store.load(id).await.map_err(store_failed)?;
        loaded.ok_or(NotDone::Unknown)
    }

    fn record(&self, asker: &Asker, what: &str, outcome: AuditOutcome) -> AuditRecord {
        AuditRecord::new(self.clock.now(), AuditKind::Operator, outcome)
            .with("operator", asker.to_string())
            .with("deed", what)
    }
}

impl Deed {
    fn name(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Hold { .. } => "hold",
            Self::Release => "release",
            Self::Fail { .. } => "fail",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Fail { reason, .. } => Some(reason),
            Self::Hold { reason } => reason.as_deref(),
            Self::Retry | Self::Release => None,
        }
    }

    fn plan(
        &self,
        exchange: &Exchange,
        outbox: &[Outstanding],
        now: Timestamp,
    ) -> Result<Plan, NotNow> {
        let seen = seen(outbox);
        let mut plan = Plan {
            events: Vec::new(),
            reschedule: Vec::new(),
            done: Done {
                id: exchange.id,
                is_changed: true,
                text: String::new(),
                hastened: 0,
                under_way: seen.iter().filter(|one| one.is_under_way).count(),
                ended: Vec::new(),
            },
        };
        let to = |index: &usize, at: Option<Timestamp>| {
            let row = outbox.get(*index)?;
            Some(Reschedule {
                exchange: exchange.id,
                id: row.id,
                at: at.unwrap_or(row.due),
            })
        };
        plan.done.text = match self {
            Self::Retry => {
                let now_due = exchange.to_try_now(&seen)?;
                plan.reschedule = now_due
                    .iter()
                    .filter_map(|one| to(one, Some(now)))
                    .collect();
                plan.done.hastened = now_due.len();
                format!("{} attempts that waited are made now", now_due.len())
            }
            Self::Hold { .. } => {
                exchange.may_be_held()?;
                plan.done.is_changed = exchange.hold.is_none();
                plan.events.push(EventKind::OperatorHeld);
                if plan.done.is_changed {
                    "nothing of it is handed on until it is released; its deadlines go on"
                } else {
                    "it was held already"
                }
                .to_owned()
            }
            Self::Release => {
                exchange.may_be_held()?;
                let withheld = exchange.hold.as_ref().map(|hold| hold.withheld.len());
                plan.done.is_changed = withheld.is_some();
                plan.events.push(EventKind::OperatorReleased);
                match withheld {
                    Some(count) => {
                        plan.done.hastened = count;
                        format!("it goes on; {count} attempts that waited for it are made now")
                    }
                    None => "it was not held".to_owned(),
                }
            }
            Self::Fail { recipients, .. } => {
                let (ended, guarded) = exchange.to_end(recipients, &seen)?;
                plan.done.is_changed = !ended.is_empty();
                // They keep their time: the unit is refused if one of them was taken meanwhile.
                plan.reschedule = guarded.iter().filter_map(|one| to(one, None)).collect();
                let events = ended.iter().cloned();
                plan.events = events
                    .map(|recipient| EventKind::OperatorFailed { recipient })
                    .collect();
                let count = ended.len();
                plan.done.ended = ended;
                match count {
                    0 => "it had failed already".to_owned(),
                    _ => format!("the delivery to {count} recipients is ended; the sender is told"),
                }
            }
        };
        if !plan.done.is_changed {
            plan.events.clear();
        }
        Ok(plan)
    }
}

fn stepped(exchange: &Exchange, events: &[EventKind], at: Timestamp) -> (Exchange, Vec<Scheduled>) {
    let mut exchange = exchange.clone();
    let mut effects = Vec::new();
    for kind in events {
        let kind = kind.clone();
        let (next, more) = step(&exchange, &Event { at, kind });
        exchange = next;
        effects.extend(more);
    }
    (exchange, effects)
}

fn seen(outbox: &[Outstanding]) -> Vec<InOutbox<'_>> {
    let all = outbox.iter();
    all.map(|one| InOutbox {
        effect: &one.effect,
        due: one.due,
        is_under_way: one.is_under_way,
    })
    .collect()
}

fn fits(summary: &Summary, order: &ListOrder) -> bool {
    order.state.is_none_or(|state| state == summary.state)
        && order.direction.is_none_or(|way| way == summary.direction)
        && order
            .endpoint
            .as_ref()
            .is_none_or(|name| summary.endpoints.contains(name))
}

/// The filter for the audit: as it was asked for.
fn described(order: &ListOrder) -> String {
    serde_json::to_string(order).unwrap_or_default()
}

/// An operator of the host is told little, since the log tells all.
fn store_failed(failure: StoreError) -> NotDone {
    error!(
        alarm = "store",
        error = &failure as &dyn std::error::Error,
        "an operator's order cannot be served"
    );
    super::measures::count_alarm("store");
    NotDone::Store
}
