//! The sealed aggregate of an exchange, with what lists are cut and sorted by.

use jiff::Timestamp;
use uuid::Uuid;

use super::{failure::failed, keys::KeyRing};
use crate::{
    bridge::exchange::{Exchange, Origin},
    flows::ports::{StoreError, VersionedExchange},
    formats::ids::ExchangeId,
};

/// Most exchanges that one list gives.
pub(super) const MAX_LIST: usize = 10_000;

/// An exchange as its row has it.
pub(super) struct Row {
    pub(super) id: ExchangeId,
    pub(super) version: i64,
    pub(super) partner: Option<String>,
    pub(super) accepted_at: i64,
    pub(super) is_final: bool,
    pub(super) final_at: Option<i64>,
    pub(super) sealed: Vec<u8>,
}

impl Row {
    /// Seals `exchange` as this version.
    pub(super) fn seal(
        keys: &KeyRing,
        exchange: &Exchange,
        version: u64,
    ) -> Result<Self, StoreError> {
        let version = i64::try_from(version).map_err(failed)?;
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(exchange).map_err(failed)?);
        let sealed = keys
            .seal(&context(exchange.id, version), &plain)
            .map_err(failed)?;
        let partner = match &exchange.origin {
            Origin::Xdr { partner, .. } => Some(partner.clone()),
            Origin::Direct { .. } => None,
        };
        Ok(Self {
            id: exchange.id,
            version,
            partner,
            accepted_at: exchange.accepted_at.as_microsecond(),
            is_final: exchange.is_final(),
            final_at: exchange.final_at.map(Timestamp::as_microsecond),
            sealed,
        })
    }

    /// Octets of the sealed aggregate.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.sealed.len()
    }
}

/// Opens the aggregate of exchange `id` as this version.
pub(super) fn unseal(
    keys: &KeyRing,
    id: Uuid,
    version: i64,
    sealed: &[u8],
) -> Result<VersionedExchange, StoreError> {
    let plain = keys
        .unseal(&context(ExchangeId(id), version), sealed)
        .map_err(failed)?;
    // A serde error may quote what it could not read, and that may name a person: only its place is told.
    let exchange = serde_json::from_slice(&plain).map_err(|error| {
        failed(format!(
            "exchange {id} is not of this release's form (column {})",
            error.column()
        ))
    })?;
    let version = u64::try_from(version).map_err(failed)?;
    Ok(VersionedExchange { exchange, version })
}

fn context(id: ExchangeId, version: i64) -> Vec<u8> {
    let mut context = b"exchange".to_vec();
    context.extend_from_slice(id.0.as_bytes());
    context.extend_from_slice(&version.to_be_bytes());
    context
}
