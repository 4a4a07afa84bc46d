//! The writer: one task with a connection of its own. It takes whatever is queued and writes it in one transaction, one
//! statement for each table, all of them sent before the first is answered: a hundred units that come together cost two
//! round trips and one fsync. If one of them is refused, nothing is written, and the batch is halved until the bad one
//! stands alone.

use std::{collections::VecDeque, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt, join_all};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{
    super::{
        audit_chain::{self, Chain, Stored},
        bodies::Adoption,
        exchange_row,
        failure::{Failure, UnitError, failed},
        keys::KeyRing,
        lookup_row,
        outbox_row::{self, Terms, lease_end},
    },
    audit, body,
    connection::{Database, Durability, Link, Values},
    exchange,
    failure::is_deadlock,
    lookup_key,
    outbox::{self, NO_TENURE},
    session::{Shared, Standing},
    state::Queue,
};
use crate::{
    flows::{
        fault_points,
        ports::{Claim, Clock, Reschedule, StoreError},
    },
    formats::ids::{BodyId, ExchangeId},
};

const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// What the writer is asked for, and whom it answers.
pub(super) enum Command {
    Commit(Box<Prepared>, oneshot::Sender<Result<(), StoreError>>),
    /// Cuts off records of this node's chain, a bounded number; answers whether there may be more.
    Prune {
        before: Timestamp,
        answer: oneshot::Sender<Result<bool, StoreError>>,
    },
    Close,
}

/// A unit of work with everything sealed and hashed that can be before its turn comes.
pub(super) struct Prepared {
    pub(super) exchange: Option<PreparedExchange>,
    pub(super) owner: Option<ExchangeId>,
    pub(super) adoption: Adoption,
    pub(super) remove: Vec<BodyId>,
    pub(super) effects: Vec<outbox_row::Row>,
    pub(super) done: Option<Claim>,
    pub(super) under: Option<Claim>,
    pub(super) reschedule: Vec<Reschedule>,
    pub(super) decided_on: Option<lookup_row::Decided>,
    pub(super) audit: Vec<audit_chain::Row>,
}

pub(super) struct PreparedExchange {
    pub(super) is_new: bool,
    pub(super) row: exchange_row::Row,
    pub(super) keys: Vec<lookup_row::Row>,
}

type Unit = (Box<Prepared>, oneshot::Sender<Result<(), StoreError>>);

/// The writer's side of the store.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) link: Option<Link>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: String,
    pub(super) chain: Chain,
    pub(super) queue: Arc<Queue>,
    pub(super) shared: Arc<Shared>,
    pub(super) max_units: usize,
}

/// What a committed transaction leaves to do.
struct Written {
    chain: Chain,
    ready: Vec<Claim>,
    /// Whether effects were written, and whether other nodes may have a share of them.
    rings: bool,
    rings_others: bool,
}

impl Writer {
    /// Serves `commands` until they end, then closes the connection.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(self.max_units);
        while commands.recv_many(&mut batch, self.max_units).await > 0 {
            let mut units = Vec::with_capacity(batch.len());
            for command in batch.drain(..) {
                match command {
                    Command::Commit(unit, answer) => units.push((unit, answer)),
                    Command::Prune { before, answer } => {
                        let pruned = self.prune(before).await;
                        let _ = answer.send(pruned.map_err(|failure| failure.to_store_error()));
                    }
                    // What is queued is still served; nothing new comes in.
                    Command::Close => commands.close(),
                }
            }
            if !units.is_empty() {
                self.serve(units).await;
            }
        }
    }

    /// Writes the units and answers each.
    async fn serve(&mut self, units: Vec<Unit>) {
        let mut groups = VecDeque::from([units]);
        while let Some(mut group) = groups.pop_front() {
            match self.write(&group).await {
                Ok(written) => self.answer(group, written),
                Err(Trouble::Refused(_) | Trouble::Deadlock(_)) if group.len() > 1 => {
                    let second = group.split_off(group.len() / 2);
                    groups.push_front(second);
                    groups.push_front(group);
                }
                Err(Trouble::Refused(refusal)) => {
                    if let Some((unit, answer)) = group.pop() {
                        // Before the answer: the bodies are staged again by then.
                        drop(unit);
                        let _ = answer.send(Err(refusal));
                    }
                }
                Err(trouble) => {
                    let failure = trouble.into_failure();
                    // The connection may be gone: what else waits is not tried on it one by one.
                    for (unit, answer) in group.into_iter().chain(groups.drain(..).flatten()) {
                        drop(unit);
                        let _ = answer.send(Err(failure.to_store_error()));
                    }
                }
            }
        }
    }

    /// The transaction is committed: memory follows, and everybody is told.
    fn answer(&mut self, group: Vec<Unit>, written: Written) {
        self.chain = written.chain;
        self.queue.extend(written.ready);
        if written.rings {
            self.shared.due.notify_one();
        }
        if written.rings_others {
            self.shared.ring.notify_one();
        }
        for (unit, answer) in group {
            unit.adoption.settle();
            let _ = answer.send(Ok(()));
        }
    }

    /// Writes all units in one transaction, or none.
    async fn write(&mut self, units: &[Unit]) -> Result<Written, Trouble> {
        self.connect().await?;
        let Some(link) = self.link.take() else {
            return Err(Failure::Other("the store is not connected".to_owned()).into());
        };
        let units: Vec<&Prepared> = units.iter().map(|(unit, _)| unit.as_ref()).collect();
        let mut written = self.write_on(&link, &units, self.tenure()).await;
        if matches!(written, Err(Trouble::NoTenure)) {
            // What is written stays due for everybody.
            written = match link.client.batch_execute(ROLLBACK).await {
                Ok(()) => self.write_on(&link, &units, None).await,
                Err(error) => Err(error.into()),
            };
        }
        match written {
            Ok(written) => {
                // The transaction is committed, whatever happens: only a kill means anything here.
                let _ = fault_points::pass("store.after_commit");
                self.link = Some(link);
                Ok(written)
            }
            Err(trouble) => {
                // A connection that cannot roll back is given up, and so is what is known of the chain: whether the
                // commit went through is only known when it is read again.
                if !matches!(trouble, Trouble::Broken(_))
                    && link.client.batch_execute(ROLLBACK).await.is_ok()
                {
                    self.link = Some(link);
                }
                Err(trouble)
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        if self
            .link
            .as_ref()
            .is_some_and(|link| !link.client.is_closed())
        {
            return Ok(());
        }
        let other = |text: String| Failure::Other(text);
        let link = self.database.connect(Durability::Commit, |_| {}).await;
        let link = link.map_err(|error| other(error.to_string()))?;
        self.chain = audit::resume(&link, &self.keys, &self.node)
            .await?
            .ok_or_else(|| other("the audit was written under another key".to_owned()))?;
        self.link = Some(link);
        Ok(())
    }

    /// The tenure under which effects may be leased as they are committed; none while others may take the node for dead,
    /// or its clock is wrong.
    fn tenure(&self) -> Option<i64> {
        let (standing, tenure) = self.shared.tenure();
        (standing == Standing::Good).then_some(tenure)
    }

    async fn write_on(
        &self,
        link: &Link,
        units: &[&Prepared],
        tenure: Option<i64>,
    ) -> Result<Written, Trouble> {
        let now = self.clock.now();
        let rows = Rows::of(self, units, tenure, now)?;
        let mut steps = rows.steps(link).await?;
        link.client.batch_execute(BEGIN).await?;
        let sent = steps.iter_mut().map(|step| step.run(link));
        let answers = join_all(sent).await;
        let mut ids = Vec::new();
        for (step, answer) in steps.iter().zip(answers) {
            ids.extend(step.judge(answer?, &rows, units)?);
        }
        drop(steps);
        let ready = rows.ready(&ids)?;
        fault_points::pass("store.before_commit").map_err(Failure::from)?;
        link.client.batch_execute(COMMIT).await?;
        Ok(Written {
            rings: !rows.effects.is_empty() || !rows.reschedule.is_empty(),
            rings_others: rows.is_left_to_others,
            ready,
            chain: rows.chain,
        })
    }

    async fn prune(&mut self, before: Timestamp) -> Result<bool, Failure> {
        self.connect().await?;
        let Some(link) = self.link.take() else {
            return Err(Failure::Other("the store is not connected".to_owned()));
        };
        let mut chain = self.chain.clone();
        let is_more = prune_on(&link, &self.keys, &mut chain, before).await?;
        self.chain = chain;
        self.link = Some(link);
        Ok(is_more)
    }
}

/// Cuts a chain in a transaction of its own.
pub(super) async fn prune_on(
    link: &Link,
    keys: &KeyRing,
    chain: &mut Chain,
    before: Timestamp,
) -> Result<bool, Failure> {
    let known = chain.clone();
    link.client.batch_execute(BEGIN).await?;
    let is_more = audit::prune(link, chain, before).await?;
    if !chain.is_same(&known) {
        let saved = Saved::of(keys, &known, chain);
        if link.execute(audit::SAVE_ENDS, &saved.values()).await? != 1 {
            return Err(Failure::Other(TORN_CHAIN.to_owned()));
        }
    }
    link.client.batch_execute(COMMIT).await?;
    Ok(is_more)
}

const TORN_CHAIN: &str = "another process writes to the audit under this node's name";

/// Why a transaction was not committed.
enum Trouble {
    /// One of the units cannot be written.
    Refused(StoreError),
    /// The node's tenure ended meanwhile: it may write, but lease nothing.
    NoTenure,
    /// Other transactions were in the way; alone each unit may pass.
    Deadlock(Failure),
    /// Nothing could have been written.
    Broken(Failure),
}

impl Trouble {
    fn into_failure(self) -> Failure {
        match self {
            Self::Refused(refusal) => Failure::Other(refusal.to_string()),
            Self::NoTenure => Failure::Other(NO_TENURE.to_owned()),
            Self::Deadlock(failure) | Self::Broken(failure) => failure,
        }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        if is_deadlock(&error) {
            return Self::Deadlock(error.into());
        }
        UnitError::from(error).into()
    }
}

impl From<UnitError> for Trouble {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Refused(refusal) => Self::Refused(refusal),
            UnitError::Broken(failure) => Self::Broken(failure),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}

/// The ends of a chain as they are saved, and what they must have been.
struct Saved<'a> {
    chain: &'a Chain,
    known: &'a Chain,
    first_previous: &'a [u8],
    last_hash: &'a [u8],
    key_id: Vec<u8>,
    mac: Vec<u8>,
}

impl<'a> Saved<'a> {
    fn of(keys: &KeyRing, known: &'a Chain, chain: &'a Chain) -> Self {
        let key = keys.current();
        Self {
            chain,
            known,
            first_previous: &chain.first_previous,
            last_hash: &chain.last_hash,
            key_id: key.id.to_vec(),
            mac: chain.mac(key).to_vec(),
        }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 9] {
        [
            &self.chain.node,
            &self.chain.first_sequence,
            &self.first_previous,
            &self.chain.last_sequence,
            &self.last_hash,
            &self.key_id,
            &self.mac,
            &self.known.first_sequence,
            &self.known.last_sequence,
        ]
    }
}

/// An effect on its way, with the lease that it gets at once.
struct NewEffect<'a> {
    row: &'a outbox_row::Row,
    leased_until: Option<Timestamp>,
}

/// Everything that a batch writes, by table.
struct Rows<'a> {
    node: &'a str,
    known: &'a Chain,
    chain: Chain,
    keys: &'a KeyRing,
    decided: Vec<&'a lookup_row::Decided>,
    done: Vec<&'a Claim>,
    under: Vec<&'a Claim>,
    reschedule: Vec<&'a Reschedule>,
    inserts: Vec<&'a exchange_row::Row>,
    updates: Vec<&'a exchange_row::Row>,
    lookups: Vec<(ExchangeId, &'a lookup_row::Row)>,
    small: Vec<(&'a super::super::bodies::AdoptedBody, Option<ExchangeId>)>,
    large: Vec<(BodyId, Option<ExchangeId>)>,
    remove: Vec<BodyId>,
    effects: Vec<NewEffect<'a>>,
    /// The tenure that effects are leased under, if any is.
    tenure: Option<i64>,
    is_left_to_others: bool,
    audit: Vec<Stored>,
}

impl<'a> Rows<'a> {
    /// Without a `tenure` no effect is leased.
    fn of(
        writer: &'a Writer,
        units: &[&'a Prepared],
        tenure: Option<i64>,
        now: Timestamp,
    ) -> Result<Self, Trouble> {
        let mut rows = Self {
            node: &writer.node,
            known: &writer.chain,
            chain: writer.chain.clone(),
            keys: &writer.keys,
            decided: Vec::new(),
            done: Vec::new(),
            under: Vec::new(),
            reschedule: Vec::new(),
            inserts: Vec::new(),
            updates: Vec::new(),
            lookups: Vec::new(),
            small: Vec::new(),
            large: Vec::new(),
            remove: Vec::new(),
            effects: Vec::new(),
            tenure: None,
            is_left_to_others: false,
            audit: Vec::new(),
        };
        let mut terms = match tenure {
            Some(_) => writer.queue.terms(),
            None => Terms::default(),
        };
        for unit in units {
            rows.add(unit, now, &mut terms)?;
        }
        let leases = |effect: &NewEffect<'_>| effect.leased_until.is_some();
        rows.tenure = tenure.filter(|_| rows.effects.iter().any(leases));
        Ok(rows)
    }

    fn add(
        &mut self,
        unit: &'a Prepared,
        now: Timestamp,
        terms: &mut Terms,
    ) -> Result<(), Trouble> {
        if let Some(decided) = &unit.decided_on {
            // Of two units about the same key the second must see the first: they cannot be written together.
            if self.hashes().any(|hash| decided.hashes.contains(hash)) {
                return Err(Trouble::Refused(StoreError::Overtaken));
            }
            self.decided.push(decided);
        }
        self.done.extend(&unit.done);
        self.under.extend(&unit.under);
        self.reschedule.extend(&unit.reschedule);
        self.is_left_to_others |= unit.reschedule.iter().any(|to| to.at <= now);
        if let Some(exchange) = &unit.exchange {
            let id = exchange.row.id;
            let written = if exchange.is_new {
                &mut self.inserts
            } else {
                &mut self.updates
            };
            written.push(&exchange.row);
            self.lookups
                .extend(exchange.keys.iter().map(|key| (id, key)));
        }
        for adopted in &unit.adoption.bodies {
            if adopted.octets.is_some() {
                self.small.push((adopted, unit.owner));
            } else {
                self.large.push((adopted.id, unit.owner));
            }
        }
        self.remove.extend(&unit.remove);
        for row in &unit.effects {
            let is_due = row.due <= now;
            let leased_until = (terms.room > 0 && is_due)
                .then(|| lease_end(now, terms.lease))
                .transpose()?;
            terms.room -= usize::from(leased_until.is_some());
            self.is_left_to_others |= is_due && leased_until.is_none();
            self.effects.push(NewEffect { row, leased_until });
        }
        for record in &unit.audit {
            let linked = self.chain.link(self.keys, record);
            let linked = linked.map_err(|error| Trouble::Refused(failed(error)))?;
            self.audit.push(linked);
        }
        Ok(())
    }

    /// The hashes of all keys that units were decided on.
    fn hashes(&self) -> impl Iterator<Item = &'a [u8; 32]> {
        self.decided.iter().flat_map(|decided| &decided.hashes)
    }

    /// Whether no exchange carries a key that the unit decided on it did not know of.
    fn is_known(&self, hash: &[u8], carrier: ExchangeId) -> bool {
        self.decided
            .iter()
            .filter(|decided| decided.hashes.iter().any(|own| own == hash))
            .all(|decided| decided.known.contains(&carrier))
    }

    /// The statements, in the order in which they must come.
    async fn steps(&self, link: &Link) -> Result<Vec<Step<'_>>, Trouble> {
        let mut steps = Unprepared(Vec::new());
        if let Some(tenure) = self.tenure {
            let values: Columns = vec![Box::new(self.node), Box::new(tenure)];
            steps.add(outbox::TENURE, Kind::Tenure, values);
        }
        if !self.decided.is_empty() {
            let mut locks: Vec<i64> = self.hashes().map(lookup_key::lock_of).collect();
            locks.sort_unstable();
            steps.add(lookup_key::LOCK, Kind::Other, vec![Box::new(locks)]);
            let hashes: Vec<&[u8]> = self.hashes().map(<[u8; 32]>::as_slice).collect();
            steps.add(lookup_key::CARRIERS, Kind::Carriers, vec![Box::new(hashes)]);
        }
        if !self.under.is_empty() {
            steps.add(
                outbox::HOLD,
                Kind::Claims(self.under.len()),
                self.claims(&self.under),
            );
        }
        if !self.done.is_empty() {
            steps.add(
                outbox::COMPLETE,
                Kind::Claims(self.done.len()),
                self.claims(&self.done),
            );
        }
        if !self.reschedule.is_empty() {
            let all = || self.reschedule.iter();
            let ids: Vec<i64> = all().map(|to| to.id).collect();
            let of: Vec<uuid::Uuid> = all().map(|to| to.exchange.0).collect();
            let times: Vec<i64> = all().map(|to| to.at.as_microsecond()).collect();
            let values: Columns = vec![Box::new(ids), Box::new(of), Box::new(times)];
            let kind = Kind::Rescheduled(self.reschedule.len());
            steps.add(outbox::RESCHEDULE, kind, values);
        }
        if !self.inserts.is_empty() {
            let kind = Kind::Exchanges(self.inserts.len());
            steps.add(exchange::INSERT, kind, inserted(&self.inserts));
        }
        if !self.updates.is_empty() {
            let kind = Kind::Exchanges(self.updates.len());
            steps.add(exchange::UPDATE, kind, updated(&self.updates));
        }
        if !self.lookups.is_empty() {
            let keys = || self.lookups.iter().map(|(_, key)| key);
            let hashes: Vec<&[u8]> = keys().map(|key| key.hash.as_slice()).collect();
            let any: Vec<&[u8]> = keys().map(|key| key.any_hash.as_slice()).collect();
            let of: Vec<uuid::Uuid> = self.lookups.iter().map(|(id, _)| id.0).collect();
            let values: Columns = vec![Box::new(hashes), Box::new(of), Box::new(any)];
            steps.add(lookup_key::INSERT, Kind::Other, values);
        }
        if !self.small.is_empty() {
            let (mut ids, mut owners) = (Vec::new(), Vec::new());
            let (mut sizes, mut contents) = (Vec::new(), Vec::new());
            for (body, owner) in &self.small {
                ids.push(body.id.0);
                owners.push(owner.map(|id| id.0));
                sizes.push(i64::try_from(body.size).unwrap_or(i64::MAX));
                contents.push(body.octets.as_deref());
            }
            let values: Columns = vec![
                Box::new(ids),
                Box::new(owners),
                Box::new(sizes),
                Box::new(contents),
            ];
            steps.add(body::INSERT, Kind::Other, values);
        }
        if !self.large.is_empty() {
            let ids: Vec<uuid::Uuid> = self.large.iter().map(|(id, _)| id.0).collect();
            let owners: Vec<Option<uuid::Uuid>> =
                self.large.iter().map(|(_, of)| of.map(|id| id.0)).collect();
            let values: Columns = vec![Box::new(ids), Box::new(owners), Box::new(self.node)];
            steps.add(body::ADOPT, Kind::Adopted(self.large.len()), values);
        }
        if !self.remove.is_empty() {
            let ids: Vec<uuid::Uuid> = self.remove.iter().map(|id| id.0).collect();
            steps.add(body::DELETE, Kind::Other, vec![Box::new(ids)]);
        }
        if !self.effects.is_empty() {
            steps.add(outbox::INSERT, Kind::Effects, self.scheduled());
        }
        if !self.audit.is_empty() {
            steps.add(audit::INSERT, Kind::Other, self.recorded());
            let saved = Saved::of(self.keys, self.known, &self.chain);
            let values: Columns = vec![
                Box::new(saved.chain.node.as_str()),
                Box::new(saved.chain.first_sequence),
                Box::new(saved.first_previous),
                Box::new(saved.chain.last_sequence),
                Box::new(saved.last_hash),
                Box::new(saved.key_id),
                Box::new(saved.mac),
                Box::new(saved.known.first_sequence),
                Box::new(saved.known.last_sequence),
            ];
            steps.add(audit::SAVE_ENDS, Kind::Chain, values);
        }
        let mut ready = Vec::with_capacity(steps.0.len());
        for (statement, kind, columns) in steps.0 {
            let statement = link.prepared(statement).await?;
            ready.push(Step {
                statement,
                kind,
                columns,
            });
        }
        Ok(ready)
    }

    fn claims(&self, claims: &[&Claim]) -> Columns<'_> {
        let ids: Vec<i64> = claims.iter().map(|claim| claim.id).collect();
        let attempts: Vec<i32> = claims.iter().map(|claim| outbox::attempts(claim)).collect();
        vec![Box::new(ids), Box::new(attempts), Box::new(self.node)]
    }

    fn scheduled(&self) -> Columns<'_> {
        let effects = || self.effects.iter();
        let next_at = |effect: &NewEffect<'_>| {
            let at = effect.leased_until.unwrap_or(effect.row.due);
            at.as_microsecond()
        };
        let exchanges: Vec<uuid::Uuid> = effects().map(|effect| effect.row.exchange.0).collect();
        let texts: Vec<&str> = effects().map(|effect| effect.row.text.as_str()).collect();
        let times: Vec<i64> = effects().map(next_at).collect();
        let attempts: Vec<i32> = effects()
            .map(|effect| i32::from(effect.leased_until.is_some()))
            .collect();
        let owners: Vec<Option<&str>> = effects()
            .map(|effect| effect.leased_until.map(|_| self.node))
            .collect();
        vec![
            Box::new(exchanges),
            Box::new(texts),
            Box::new(times),
            Box::new(attempts),
            Box::new(owners),
        ]
    }

    fn recorded(&self) -> Columns<'_> {
        let rows = || self.audit.iter();
        vec![
            Box::new(self.node),
            Box::new(rows().map(|row| row.sequence).collect::<Vec<_>>()),
            Box::new(rows().map(|row| row.at).collect::<Vec<_>>()),
            Box::new(rows().map(|row| row.kind.as_str()).collect::<Vec<_>>()),
            Box::new(rows().map(|row| row.outcome).collect::<Vec<_>>()),
            Box::new(rows().map(|row| row.exchange).collect::<Vec<_>>()),
            Box::new(rows().map(|row| row.sealed.as_slice()).collect::<Vec<_>>()),
            Box::new(rows().map(|row| row.hash.as_slice()).collect::<Vec<_>>()),
        ]
    }

    /// The claims of the effects that were leased, given the rows' ids with their exchanges.
    fn ready(&self, ids: &[(i64, uuid::Uuid)]) -> Result<Vec<Claim>, Failure> {
        let mut ids = ids.to_vec();
        // Ids were given in the order of the effects.
        ids.sort_unstable();
        let fits = ids.len() == self.effects.len()
            && ids
                .iter()
                .zip(&self.effects)
                .all(|((_, exchange), effect)| *exchange == effect.row.exchange.0);
        if !fits {
            return Err(Failure::Other(
                "the database gave ids in another order than that of the effects".to_owned(),
            ));
        }
        let leased = ids
            .iter()
            .zip(&self.effects)
            .filter_map(|((id, _), effect)| {
                Some(Claim {
                    id: *id,
                    exchange: effect.row.exchange,
                    effect: effect.row.effect.clone(),
                    attempts: 0,
                    leased_until: effect.leased_until?,
                })
            });
        Ok(leased.collect())
    }
}

fn inserted<'a>(rows: &[&'a exchange_row::Row]) -> Columns<'a> {
    let all = || rows.iter();
    vec![
        Box::new(all().map(|row| row.id.0).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.version).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.partner.as_deref()).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.accepted_at).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.is_final).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.final_at).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.sealed.as_slice()).collect::<Vec<_>>()),
    ]
}

fn updated<'a>(rows: &[&'a exchange_row::Row]) -> Columns<'a> {
    let all = || rows.iter();
    vec![
        Box::new(all().map(|row| row.id.0).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.version).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.is_final).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.final_at).collect::<Vec<_>>()),
        Box::new(all().map(|row| row.sealed.as_slice()).collect::<Vec<_>>()),
    ]
}

/// The values of a statement, each one for all rows.
type Columns<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

/// Statements before they are prepared.
struct Unprepared<'a>(Vec<(&'static str, Kind, Columns<'a>)>);

impl<'a> Unprepared<'a> {
    fn add(&mut self, statement: &'static str, kind: Kind, columns: Columns<'a>) {
        self.0.push((statement, kind, columns));
    }
}

/// What the answer to a statement must be.
#[derive(Clone, Copy)]
enum Kind {
    /// Rows tell who carries the keys that were decided on.
    Carriers,
    /// The node still has the tenure that it leases under.
    Tenure,
    /// So many claims were still ours.
    Claims(usize),
    /// So many effects still waited.
    Rescheduled(usize),
    /// So many exchanges were written.
    Exchanges(usize),
    /// So many staged bodies were there.
    Adopted(usize),
    /// Rows give their ids.
    Effects,
    /// The chain was as we know it.
    Chain,
    Other,
}

/// One statement of a batch.
struct Step<'a> {
    statement: Statement,
    kind: Kind,
    columns: Columns<'a>,
}

/// How many rows a statement wrote, or what they say.
enum Answer {
    Count(u64),
    Rows(Vec<Row>),
}

impl Step<'_> {
    fn run<'s>(
        &'s mut self,
        link: &'s Link,
    ) -> BoxFuture<'s, Result<Answer, tokio_postgres::Error>> {
        async move {
            let values: Vec<&(dyn ToSql + Sync)> = self
                .columns
                .iter()
                .map(|column| column.as_ref() as &(dyn ToSql + Sync))
                .collect();
            let values: Values<'_> = &values;
            if matches!(self.kind, Kind::Effects | Kind::Carriers) {
                let rows = link.client.query(&self.statement, values).await?;
                return Ok(Answer::Rows(rows));
            }
            let count = link.client.execute(&self.statement, values).await?;
            Ok(Answer::Count(count))
        }
        .boxed()
    }

    /// Whether the answer is what it must be. Of one unit alone the refusal is told; of several it only matters that
    /// there is one.
    fn judge(
        &self,
        answer: Answer,
        batch: &Rows<'_>,
        units: &[&Prepared],
    ) -> Result<Vec<(i64, uuid::Uuid)>, Trouble> {
        let count = match answer {
            Answer::Rows(rows) if matches!(self.kind, Kind::Carriers) => {
                let mut rows = rows.iter();
                if rows.all(|row| batch.is_known(row.get(0), ExchangeId(row.get(1)))) {
                    return Ok(Vec::new());
                }
                return Err(Trouble::Refused(StoreError::Overtaken));
            }
            Answer::Rows(rows) => {
                return Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect());
            }
            Answer::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        let refusal = match self.kind {
            Kind::Tenure if count != 1 => return Err(Trouble::NoTenure),
            Kind::Claims(expected) if count != expected => StoreError::LeaseLost,
            Kind::Rescheduled(expected) if count != expected => {
                let to = units.iter().find_map(|unit| unit.reschedule.first());
                let exchange = to.map_or(ExchangeId(uuid::Uuid::nil()), |to| to.exchange);
                StoreError::Conflict { exchange }
            }
            Kind::Exchanges(expected) if count != expected => {
                let written = units.iter().find_map(|unit| unit.exchange.as_ref());
                let exchange = written.map_or(ExchangeId(uuid::Uuid::nil()), |write| write.row.id);
                StoreError::Conflict { exchange }
            }
            Kind::Adopted(expected) if count != expected => {
                let adopted = units.iter().flat_map(|unit| &unit.adoption.bodies);
                let large = adopted.into_iter().find(|body| body.octets.is_none());
                StoreError::DamagedBody {
                    body: large.map_or(BodyId(uuid::Uuid::nil()), |body| body.id),
                    what: "it is no longer staged: the database lost it, or another node gave it up",
                }
            }
            Kind::Chain if count != 1 => {
                return Err(Failure::Other(TORN_CHAIN.to_owned()).into());
            }
            _ => return Ok(Vec::new()),
        };
        Err(Trouble::Refused(refusal))
    }
}
