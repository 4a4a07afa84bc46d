//! The store: exchanges, their outbox, bodies and the audit. What a row holds, and how it is sealed, hashed and chained,
//! is the same wherever it lies.

mod audit_chain;
mod bodies;
mod chunks;
mod config;
mod data_dir;
mod exchange_row;
mod failure;
mod keys;
mod lookup_row;
mod outbox_row;
mod postgres;
mod postmaster;
mod postmaster_uses;
mod room;
mod sqlite;

pub use self::{
    audit_chain::ChainVerdict,
    config::{DatabaseTls, PostgresConfig, StoreConfig, StoreKind},
    data_dir::DataDirError,
    keys::{KeyFileError, create_key_file, new_key_text},
    postgres::{ConnectError, PostgresOpenError, PostgresStore},
    postmaster::{KeptMail, PostmasterBox, PostmasterError, PostmasterKeeper, PostmasterLimits},
    postmaster_uses::PostmasterAction,
    sqlite::{BackedUp, BackupError, SqliteStore, StoreOpenError, back_up},
};

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    flows::ports::{
        Audit, Bodies, Clock, Exchanges, MeasureRoom, ReadAudit, Readiness, StoreError,
    },
    formats::{audit::AuditRecord, ids::ExchangeId, keyed_hash::KeyedHash},
};

/// The store of a node, wherever it lies.
#[async_trait]
pub trait Store: Exchanges + Bodies + Audit + ReadAudit + Readiness + MeasureRoom {
    /// Writes what is queued and closes the store. Every later call fails.
    async fn close(&self);

    /// Removes what is over its retention, and bodies that nobody adopted. The store does it by itself at every
    /// `sweep_interval`.
    async fn sweep(&self) -> Result<(), StoreError>;

    /// Checks the audit from end to end: whether a record was changed, removed or put in.
    async fn verify_audit_chain(&self) -> Result<ChainVerdict, StoreError>;

    /// A page of this node's audit records with their numbers: those after number `after`, in their order. That
    /// `reader` read them is recorded first (PHI-4).
    async fn read_audit(
        &self,
        reader: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, AuditRecord)>, StoreError>;

    /// A keyed hash for `purpose`, such as opaque patient identifiers. It changes when the first key file does.
    fn keyed_hash(&self, purpose: &str) -> KeyedHash;
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The one on SQLite.
    #[error(transparent)]
    Sqlite(#[from] StoreOpenError),
    /// The one on PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PostgresOpenError),
}

/// Opens the store that `config` names, as the node `node`.
pub async fn open(
    config: &StoreConfig,
    clock: Arc<dyn Clock>,
    node: &str,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match config.kind {
        StoreKind::Sqlite => SqliteStore::open(config, clock, node).await?,
        StoreKind::Postgres => PostgresStore::open(config, clock, node).await?,
    })
}

#[async_trait]
impl Store for SqliteStore {
    async fn close(&self) {
        Self::close(self).await;
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        Self::sweep(self).await
    }

    async fn verify_audit_chain(&self) -> Result<ChainVerdict, StoreError> {
        Self::verify_audit_chain(self).await
    }

    async fn read_audit(
        &self,
        reader: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, AuditRecord)>, StoreError> {
        Self::read_audit(self, reader, after, limit).await
    }

    fn keyed_hash(&self, purpose: &str) -> KeyedHash {
        Self::keyed_hash(self, purpose)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn close(&self) {
        Self::close(self).await;
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        Self::sweep(self).await
    }

    async fn verify_audit_chain(&self) -> Result<ChainVerdict, StoreError> {
        Self::verify_audit_chain(self).await
    }

    async fn read_audit(
        &self,
        reader: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, AuditRecord)>, StoreError> {
        Self::read_audit(self, reader, after, limit).await
    }

    fn keyed_hash(&self, purpose: &str) -> KeyedHash {
        Self::keyed_hash(self, purpose)
    }
}

#[async_trait]
impl ReadAudit for SqliteStore {
    async fn read_audit_of(
        &self,
        reader: &str,
        exchange: ExchangeId,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        Self::read_audit_of(self, reader, exchange).await
    }
}

#[async_trait]
impl ReadAudit for PostgresStore {
    async fn read_audit_of(
        &self,
        reader: &str,
        exchange: ExchangeId,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        Self::read_audit_of(self, reader, exchange).await
    }
}
