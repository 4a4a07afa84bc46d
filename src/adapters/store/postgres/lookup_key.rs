//! The table `lookup_key`: keyed hashes of the ids that exchanges are found by.

use super::{
    super::{
        keys::KeyRing,
        lookup_row::{Reach, hashes},
    },
    connection::Pool,
};
use crate::{
    flows::ports::{LookupKey, StoreError},
    formats::ids::ExchangeId,
};

/// Keys that an exchange has already stay as they are.
pub(super) const INSERT: &str = "INSERT INTO lookup_key (hash, exchange, any_hash) \
     SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::bytea[]) ON CONFLICT DO NOTHING";
pub(super) const FIND: &str = "SELECT exchange.id FROM lookup_key \
     JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.hash = $1 ORDER BY exchange.accepted_at, exchange.id";
/// An id that a sender chose may be one constant for all that it ever sends (NHIN-54): the index gives some of them,
/// and none of the others is looked at.
pub(super) const FIND_SOME: &str = "SELECT exchange.id FROM \
     (SELECT exchange FROM lookup_key WHERE hash = $1 LIMIT 16) AS found \
     JOIN exchange ON exchange.id = found.exchange ORDER BY exchange.accepted_at, exchange.id";
/// Whoever decides about the same waits here until the other's unit is committed or refused. The numbers come sorted,
/// so no two transactions wait for one another.
pub(super) const LOCK: &str =
    "SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS number";
/// A statement of its own, so that it sees what was committed while the lock was waited for.
pub(super) const CARRIERS: &str =
    "SELECT hash, exchange FROM lookup_key WHERE hash = ANY ($1::bytea[])";
pub(super) const FIND_ANY: &str = "SELECT DISTINCT exchange.id, exchange.accepted_at \
     FROM lookup_key JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.any_hash = $1 ORDER BY exchange.accepted_at, exchange.id";

/// The number of the lock that stands for a key's hash.
pub(super) fn lock_of(hash: &[u8; 32]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The exchanges that carry `key`, hashed under whatever key was current then; oldest first.
pub(super) async fn find(
    pool: &Pool,
    keys: &KeyRing,
    key: &LookupKey,
) -> Result<Vec<ExchangeId>, StoreError> {
    let statement = match Reach::of(key) {
        Reach::Any => FIND_ANY,
        Reach::Some => FIND_SOME,
        Reach::All => FIND,
    };
    let mut found = Vec::new();
    for hash in hashes(keys, key) {
        for row in pool.query(statement, &[&hash.as_slice()]).await? {
            let id = ExchangeId(row.get(0));
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}
