//! The node among the nodes: one connection that holds the lock on the node's name, hears what other nodes ring, and looks
//! after the work of nodes that have died.
//!
//! - **A name is one process's.** The lock is an advisory one of the session, so the database frees it the moment the
//!   process is gone, in whatever way, or once its host no longer answers.
//! - **A node is dead** when its lock is free at two looks that lie `node_timeout` apart and at every one between: one
//!   that only lost its connection has it again by then. No clock of any node is asked. What the dead one had leased is
//!   due at once, and bodies that it staged are removed.
//! - **A tenure** is the time for which a node has its name without a break: the node's row says when it began. Leases
//!   are written under a lock on that row, and whoever buries a node removes the row first: so no lease is written
//!   after the dead one's leases were ended, whatever is left of it. The row of a node that comes back begins another.
//! - **Rings** (`NOTIFY`) are sent on this connection after the commit: sent in the transaction itself they would let
//!   commits pass one at a time. A ring that is lost is made up for by the next look.
//! - **Leases** that lapse are compared by the nodes' own clocks, so each look compares the node's clock with the
//!   database's.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    body,
    connection::{ConnectError, Database, Durability, Link},
    failure::told,
    outbox,
};
use crate::flows::ports::Clock;

const CHANNEL: &str = "xdbridge_due";
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
const UNLOCK: &str = "SELECT pg_advisory_unlock($1)";
const RING: &str = "SELECT pg_notify('xdbridge_due', $1)";
const BEAT: &str = "INSERT INTO node (name, started_at, beat_at) VALUES ($1, now(), now()) \
     ON CONFLICT (name) DO UPDATE SET beat_at = now() \
     RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     (extract(epoch FROM started_at) * 1000000)::bigint";
const OTHERS: &str = "SELECT name FROM node WHERE name <> $1";
const FORGET: &str = "DELETE FROM node WHERE name = $1";
/// Between two tries to connect again, or to have the name.
const RETRY: Duration = Duration::from_millis(500);

/// What the session knows of the node's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// The name is ours, and the clock is right.
    Good = 0,
    /// The connection is lost.
    Apart = 1,
    /// Another process has the name.
    NameTaken = 2,
    /// The node's clock differs from the database's by more than it may.
    ClockOff = 3,
}

/// What the store and its session share.
pub(super) struct Shared {
    /// Rung when effects may be due.
    pub(super) due: Arc<Notify>,
    /// Asks the session to ring the other nodes.
    pub(super) ring: Notify,
    standing: AtomicU8,
    /// When the tenure began, in microseconds by the database's clock.
    tenure: AtomicI64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            due: Arc::default(),
            ring: Notify::new(),
            standing: AtomicU8::new(Standing::Apart as u8),
            tenure: AtomicI64::new(0),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Good,
            1 => Standing::Apart,
            2 => Standing::NameTaken,
            _ => Standing::ClockOff,
        }
    }

    /// The standing, and the tenure that leases are written under while it is good.
    pub(super) fn tenure(&self) -> (Standing, i64) {
        let standing = self.standing();
        (standing, self.tenure.load(Ordering::Acquire))
    }

    fn set(&self, standing: Standing) {
        let before = self.standing();
        self.standing.store(standing as u8, Ordering::Release);
        let what = match standing {
            _ if standing == before => return,
            Standing::Good => {
                tracing::info!("the node works on the shared database");
                return;
            }
            Standing::Apart => "the node lost its connection to the shared database",
            Standing::NameTaken => "another process works under this node's name",
            Standing::ClockOff => {
                "this node's clock differs from the database's by more than \
                 store.postgres.max_clock_difference"
            }
        };
        crate::flows::measures::count_alarm("node");
        tracing::error!(alarm = "node", "{what}");
    }
}

/// The session of one node.
pub(super) struct Session {
    pub(super) database: Database,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: String,
    /// Tells this process's rings from those of others.
    pub(super) instance: String,
    pub(super) poll_interval: Duration,
    pub(super) node_timeout: Duration,
    pub(super) max_clock_difference: Duration,
    /// Nodes whose lock was free at every look since then.
    pub(super) silent: HashMap<String, Instant>,
}

/// The lock that stands for a node's name.
fn lock_of(node: &str) -> i64 {
    let mut hash = openssl::sha::Sha256::new();
    hash.update(b"xdbridge node ");
    hash.update(node.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = hash.finish();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Session {
    /// A connection that has the node's name. `None` if another process has it for longer than `node_timeout`: that is
    /// what the session of a host that is gone may last.
    pub(super) async fn begin(&mut self) -> Result<Option<Link>, ConnectError> {
        let link = self.connect().await?;
        let end = Instant::now() + self.node_timeout;
        loop {
            let refused = |error| ConnectError::Refused { what: told(&error) };
            if self.try_name(&link).await.map_err(refused)? {
                return Ok(Some(link));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn connect(&self) -> Result<Link, ConnectError> {
        let (due, instance) = (Arc::clone(&self.shared.due), self.instance.clone());
        let hear = move |notification: tokio_postgres::Notification| {
            if notification.payload() != instance {
                due.notify_one();
            }
        };
        // Of what it writes, nothing is needed after a crash of the database.
        self.database.connect(Durability::LaterCommit, hear).await
    }

    /// Takes the node's name; false if another process has it.
    async fn try_name(&self, link: &Link) -> Result<bool, tokio_postgres::Error> {
        if !try_lock(link, &self.node).await? {
            return Ok(false);
        }
        // Removed and written anew: whatever leases under the tenure before has to end first, and a beat has not.
        link.execute(FORGET, &[&self.node]).await?;
        self.beat(link).await?;
        link.client
            .batch_execute(&format!("LISTEN {CHANNEL}"))
            .await?;
        Ok(true)
    }

    /// Stands for the node until it is aborted.
    pub(super) async fn run(mut self, link: Link) {
        let mut link = Some(link);
        loop {
            let ended = match &link {
                Some(link) => self.look_after(link).await,
                None => self.stand_again(&mut link).await,
            };
            if let Err(what) = ended {
                link = None;
                self.silent.clear();
                if self.shared.standing() != Standing::NameTaken {
                    self.shared.set(Standing::Apart);
                }
                tracing::debug!(what, "the node's session ended");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn stand_again(&self, link: &mut Option<Link>) -> Result<(), String> {
        let fresh = self.connect().await.map_err(|error| error.to_string())?;
        if self.try_name(&fresh).await.map_err(|error| told(&error))? {
            *link = Some(fresh);
            // Whatever was rung meanwhile was not heard.
            self.shared.due.notify_one();
            return Ok(());
        }
        self.shared.set(Standing::NameTaken);
        Err("another process has the name".to_owned())
    }

    /// Rings, beats and looks until the connection ends.
    async fn look_after(&mut self, link: &Link) -> Result<(), String> {
        let mut next = tokio::time::interval(self.poll_interval);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                _ = next.tick() => self.look(link).await,
                () = self.shared.ring.notified() => {
                    link.execute(RING, &[&self.instance]).await.map(|_| ())
                }
            };
            done.map_err(|error| told(&error))?;
        }
    }

    async fn look(&mut self, link: &Link) -> Result<(), tokio_postgres::Error> {
        self.beat(link).await?;
        let others = link.query(OTHERS, &[&self.node]).await?;
        let others: Vec<String> = others.iter().map(|row| row.get(0)).collect();
        self.silent.retain(|name, _| others.contains(name));
        for other in others {
            if !try_lock(link, &other).await? {
                self.silent.remove(&other);
                continue;
            }
            let since = *self
                .silent
                .entry(other.clone())
                .or_insert_with(Instant::now);
            if since.elapsed() >= self.node_timeout {
                // Under its lock: should it start at this moment, it waits.
                self.bury(link, &other).await?;
                self.silent.remove(&other);
            }
            unlock(link, &other).await?;
        }
        // The safety net for rings that were lost.
        self.shared.due.notify_one();
        Ok(())
    }

    /// Says that the node is at work, and compares the clocks.
    async fn beat(&self, link: &Link) -> Result<(), tokio_postgres::Error> {
        let asked = self.clock.now();
        let row = link.query_opt(BEAT, &[&self.node]).await?;
        let answered = self.clock.now();
        if let Some(row) = &row {
            // Before the standing: whoever finds that good has this tenure.
            self.shared.tenure.store(row.get(1), Ordering::Release);
        }
        let database = row.and_then(|row| Timestamp::from_microsecond(row.get(0)).ok());
        // The database's clock was read at some moment between the two.
        let is_right = database.is_some_and(|there| {
            let allowed = self.max_clock_difference;
            let earliest = asked.checked_sub(allowed).unwrap_or(Timestamp::MIN);
            let latest = answered.checked_add(allowed).unwrap_or(Timestamp::MAX);
            earliest <= there && there <= latest
        });
        self.shared.set(if is_right {
            Standing::Good
        } else {
            Standing::ClockOff
        });
        Ok(())
    }

    /// Takes over what a dead node left.
    async fn bury(&self, link: &Link, node: &str) -> Result<(), tokio_postgres::Error> {
        let now = self.clock.now().as_microsecond();
        // All at once: whoever claims its work finds nothing else of it. First the end of its tenure, which waits for
        // what is left of it to lease or not: no lease comes after those that are ended here.
        link.client.batch_execute("BEGIN").await?;
        link.execute(FORGET, &[&node]).await?;
        let leases = link.execute(outbox::RELEASE_ALL, &[&node, &now]).await?;
        let bodies = link.execute(body::GIVE_UP_ALL, &[&node]).await?;
        link.client.batch_execute("COMMIT").await?;
        crate::flows::measures::count_alarm("node");
        tracing::warn!(
            alarm = "node",
            node,
            leases,
            bodies,
            "node {node} is gone: what it had begun is taken over"
        );
        self.shared.ring.notify_one();
        Ok(())
    }
}

pub(super) async fn try_lock(link: &Link, node: &str) -> Result<bool, tokio_postgres::Error> {
    let row = link.query_opt(TRY_LOCK, &[&lock_of(node)]).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

pub(super) async fn unlock(link: &Link, node: &str) -> Result<(), tokio_postgres::Error> {
    link.query_opt(UNLOCK, &[&lock_of(node)]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_lock_of_its_own_in_every_release() {
        assert_ne!(lock_of("node-a"), lock_of("node-b"));
        assert_eq!(lock_of("node-a"), lock_of("node-a"));
    }
}
