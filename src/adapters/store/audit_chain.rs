//! The audit's rows, each hashed together with the one before it, so that a row that is changed, removed or put in is
//! noticed (T-34, PHI-5).
//!
//! The hash of a row is SHA-256 over the hash before it and every column of the row, the sealed details included.
//! `audit_chain` says under a keyed hash where the chain begins (what its retention ended is cut off there) and where
//! it ends, so rows cut from an end are noticed too. Each node has a chain of its own.

use jiff::Timestamp;
use openssl::{error::ErrorStack, sha::Sha256};
use uuid::Uuid;

use super::{failure::failed, keys::KeyRing};
use crate::{
    flows::ports::StoreError,
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::ExchangeId,
    },
};

/// Rows read at once.
pub(super) const PAGE: i64 = 1_000;
const UNKNOWN_KEY: &str = "its end was written under a key that store.key_files does not name";
const NO_ENDS: &str = "the row that says where the chain ends is missing";
const ENDS_CHANGED: &str = "the row that says where the chain ends was changed";
/// What stands for the hash before the first row ever.
const NO_HASH: [u8; 32] = [0; 32];

/// What a check of the whole audit gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainVerdict {
    /// Every row is as it was written, and none is missing.
    Intact {
        /// How many there are.
        records: u64,
    },
    /// Something was changed, removed or put in.
    Broken {
        /// On which node's chain.
        node: String,
        /// The first row that does not fit.
        sequence: i64,
        /// What does not fit.
        what: &'static str,
    },
}

/// A record as its row has it, but for its place in the chain.
pub(super) struct Row {
    at: i64,
    kind: String,
    outcome: i64,
    exchange: Option<ExchangeId>,
    details: zeroize::Zeroizing<Vec<u8>>,
}

/// A row.
pub(super) struct Stored {
    pub(super) node: String,
    pub(super) sequence: i64,
    pub(super) at: i64,
    pub(super) kind: String,
    pub(super) outcome: i64,
    pub(super) exchange: Option<Uuid>,
    pub(super) sealed: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

/// Where a chain begins and ends, as its row in `audit_chain` has it.
pub(super) struct Ends {
    pub(super) first_sequence: i64,
    pub(super) first_previous: Vec<u8>,
    pub(super) last_sequence: i64,
    pub(super) last_hash: Vec<u8>,
    pub(super) key_id: Vec<u8>,
    pub(super) mac: Vec<u8>,
}

/// Where the chain of one node begins and ends.
#[derive(Clone)]
pub(super) struct Chain {
    pub(super) node: String,
    pub(super) first_sequence: i64,
    pub(super) first_previous: [u8; 32],
    pub(super) last_sequence: i64,
    pub(super) last_hash: [u8; 32],
}

impl Row {
    pub(super) fn of(record: &AuditRecord) -> Result<Self, StoreError> {
        Ok(Self {
            at: record.at.as_microsecond(),
            kind: kind_text(record.kind)?,
            outcome: outcome_number(record.outcome),
            exchange: record.exchange,
            details: serde_json::to_vec(&record.details).map_err(failed)?.into(),
        })
    }
}

impl Chain {
    /// A chain without rows.
    fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            first_sequence: 1,
            first_previous: NO_HASH,
            last_sequence: 0,
            last_hash: NO_HASH,
        }
    }

    /// The chain of `node` as it was saved. `Err(what)` if it is not as it was written.
    pub(super) fn of(keys: &KeyRing, node: &str, ends: Option<Ends>) -> Result<Self, &'static str> {
        let ends = ends.ok_or(NO_ENDS)?;
        let (Ok(first_previous), Ok(last_hash)) =
            (ends.first_previous.try_into(), ends.last_hash.try_into())
        else {
            return Err(ENDS_CHANGED);
        };
        let chain = Self {
            node: node.to_owned(),
            first_sequence: ends.first_sequence,
            first_previous,
            last_sequence: ends.last_sequence,
            last_hash,
        };
        let key = keys.find(&ends.key_id).ok_or(UNKNOWN_KEY)?;
        let expected = chain.mac(key);
        let is_ours = ends.mac.len() == expected.len() && openssl::memcmp::eq(&ends.mac, &expected);
        is_ours.then_some(chain).ok_or(ENDS_CHANGED)
    }

    /// The chain to go on with at start, whose last row there is has the number `last`; `None` if it was written under
    /// a key that is not known. A chain that was tampered with is gone on with too, since the bridge must keep
    /// recording; the break stays for the check to find, and is alarmed.
    pub(super) fn resume(
        keys: &KeyRing,
        node: &str,
        ends: Option<Ends>,
        last: Option<i64>,
    ) -> Option<Self> {
        let last = last.unwrap_or(0);
        let what = match Self::of(keys, node, ends) {
            Ok(chain) if chain.last_sequence >= last => return Some(chain),
            Ok(mut chain) => {
                crate::flows::measures::count_alarm("audit");
                tracing::error!(
                    alarm = "audit",
                    "rows were added to the audit by somebody else"
                );
                // Their numbers are taken; their hashes do not fit, and so the break stays.
                chain.last_sequence = last;
                return Some(chain);
            }
            Err(UNKNOWN_KEY) => return None,
            Err(what) => what,
        };
        let mut chain = Self::new(node);
        if what == NO_ENDS && last == 0 {
            return Some(chain);
        }
        crate::flows::measures::count_alarm("audit");
        tracing::error!(alarm = "audit", "the audit chain is broken: {what}");
        // It begins before its first row now, so the break stays: nothing up to here can be vouched for.
        chain.first_sequence = 0;
        chain.last_sequence = last + 1;
        Some(chain)
    }

    /// Seals a record and makes it the chain's end.
    pub(super) fn link(&mut self, keys: &KeyRing, row: &Row) -> Result<Stored, ErrorStack> {
        let sequence = self.last_sequence + 1;
        let mut stored = Stored {
            node: self.node.clone(),
            sequence,
            at: row.at,
            kind: row.kind.clone(),
            outcome: row.outcome,
            exchange: row.exchange.map(|id| id.0),
            sealed: keys.seal(&context(&self.node, sequence), &row.details)?,
            hash: Vec::new(),
        };
        self.last_hash = hash_of(&self.last_hash, &stored);
        self.last_sequence = sequence;
        stored.hash = self.last_hash.to_vec();
        Ok(stored)
    }

    /// Cuts off those of `rows`, the first of the chain, that are from before `before`: the number up to which they go,
    /// and whether all of them did. `None` if none is so old.
    pub(super) fn cut(&mut self, rows: &[Stored], before: Timestamp) -> Option<(i64, bool)> {
        let before = before.as_microsecond();
        let old = rows.iter().take_while(|row| row.at < before).count();
        let last = rows.get(old.checked_sub(1)?)?;
        self.first_previous = last.hash.as_slice().try_into().ok()?;
        self.first_sequence = last.sequence + 1;
        Some((last.sequence, old == rows.len()))
    }

    /// Whether nothing was added or cut off since.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.last_sequence == other.last_sequence && self.first_sequence == other.first_sequence
    }

    /// What vouches for both ends, under `key`.
    pub(super) fn mac(&self, key: &super::keys::Key) -> [u8; 32] {
        key.chain.of(&[
            self.node.as_bytes(),
            &self.first_sequence.to_be_bytes(),
            &self.first_previous,
            &self.last_sequence.to_be_bytes(),
            &self.last_hash,
        ])
    }
}

/// Checks the rows of one chain, one after the other. Every row is opened too, since details of another row, or written
/// without our keys, would not open.
pub(super) struct Check {
    chain: Chain,
    previous: [u8; 32],
    sequence: i64,
}

impl Check {
    pub(super) fn new(chain: Chain) -> Self {
        Self {
            previous: chain.first_previous,
            sequence: chain.first_sequence,
            chain,
        }
    }

    /// The next row; `Err` gives the first number that does not fit, and why.
    pub(super) fn row(&mut self, keys: &KeyRing, row: &Stored) -> Result<(), (i64, &'static str)> {
        let sequence = self.sequence;
        if row.sequence != sequence {
            return Err((sequence, "a row is missing here"));
        }
        let expected = hash_of(&self.previous, row);
        if row.hash != expected {
            return Err((sequence, "the row was changed, or one before it"));
        }
        let context = context(&self.chain.node, sequence);
        if keys.unseal(&context, &row.sealed).is_err() {
            return Err((sequence, "the details do not open"));
        }
        self.previous = expected;
        self.sequence += 1;
        Ok(())
    }

    /// There are no more rows: how many there were.
    pub(super) fn end(self) -> Result<u64, (i64, &'static str)> {
        let Self {
            chain,
            previous,
            sequence,
        } = self;
        if chain.last_sequence != sequence - 1 || chain.last_hash != previous {
            return Err((sequence, "rows are missing from the end, or added to it"));
        }
        Ok((sequence - chain.first_sequence).unsigned_abs())
    }
}

/// The record that a row holds.
pub(super) fn unseal(keys: &KeyRing, row: &Stored) -> Result<AuditRecord, StoreError> {
    let plain = keys
        .unseal(&context(&row.node, row.sequence), &row.sealed)
        .map_err(failed)?;
    let sequence = row.sequence;
    let foreign = || {
        failed(format!(
            "audit row {sequence} is not of this release's form"
        ))
    };
    Ok(AuditRecord {
        at: Timestamp::from_microsecond(row.at).map_err(failed)?,
        kind: serde_json::from_value(row.kind.as_str().into()).map_err(|_| foreign())?,
        outcome: outcome_of(row.outcome).ok_or_else(foreign)?,
        exchange: row.exchange.map(ExchangeId),
        details: serde_json::from_slice(&plain).map_err(|_| foreign())?,
    })
}

fn hash_of(previous: &[u8; 32], row: &Stored) -> [u8; 32] {
    let mut hash = Sha256::new();
    let exchange = row.exchange.map(Uuid::into_bytes);
    let exchange = exchange
        .as_ref()
        .map_or(&[][..], |octets| octets.as_slice());
    for column in [
        previous.as_slice(),
        row.node.as_bytes(),
        &row.sequence.to_be_bytes(),
        &row.at.to_be_bytes(),
        row.kind.as_bytes(),
        &row.outcome.to_be_bytes(),
        exchange,
        &row.sealed,
    ] {
        // The length first, so that no octet can pass from one column to the next.
        hash.update(&(column.len() as u64).to_be_bytes());
        hash.update(column);
    }
    hash.finish()
}

fn context(node: &str, sequence: i64) -> Vec<u8> {
    let mut context = b"audit".to_vec();
    context.extend_from_slice(&sequence.to_be_bytes());
    context.extend_from_slice(node.as_bytes());
    context
}

fn kind_text(kind: AuditKind) -> Result<String, StoreError> {
    match serde_json::to_value(kind).map_err(failed)? {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(failed("an audit kind is written as a text")),
    }
}

/// DICOM PS3.15 A.5, EventOutcomeIndicator.
fn outcome_number(outcome: AuditOutcome) -> i64 {
    match outcome {
        AuditOutcome::Success => 0,
        AuditOutcome::Minor => 4,
        AuditOutcome::Serious => 8,
        AuditOutcome::Major => 12,
    }
}

fn outcome_of(number: i64) -> Option<AuditOutcome> {
    match number {
        0 => Some(AuditOutcome::Success),
        4 => Some(AuditOutcome::Minor),
        8 => Some(AuditOutcome::Serious),
        12 => Some(AuditOutcome::Major),
        _ => None,
    }
}
