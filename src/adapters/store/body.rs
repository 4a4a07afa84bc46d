//! The table `body`: which bodies are adopted, by whom, and the octets of the small ones.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::{SqliteConnection, SqlitePool};

use super::{
    bodies::AdoptedBody,
    failure::{UnitError, read_failed},
    row_id::RowId,
};
use crate::{
    flows::ports::StoreError,
    formats::ids::{BodyId, ExchangeId},
};

pub(super) const INSERT: &str =
    "INSERT INTO body (id, exchange, size, content) VALUES ($1, $2, $3, $4)";
pub(super) const CONTENT: &str = "SELECT content FROM body WHERE id = $1";
pub(super) const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM body WHERE id = $1)";
pub(super) const DELETE: &str = "DELETE FROM body WHERE id = $1 RETURNING content IS NULL";
pub(super) const OF_EXCHANGE: &str = "SELECT id FROM body WHERE exchange = $1";

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    body: &AdoptedBody,
    exchange: Option<ExchangeId>,
) -> Result<(), UnitError> {
    sqlx::query(INSERT)
        .bind(RowId(body.id.0))
        .bind(exchange.map(|id| RowId(id.0)))
        .bind(i64::try_from(body.size).unwrap_or(i64::MAX))
        .bind(body.octets.as_ref().map(|octets| octets.to_vec()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes a row; true if a file is to be unlinked after the commit. One that is gone already is no error: the effect
/// that removes bodies may run twice.
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    id: BodyId,
) -> Result<bool, sqlx::Error> {
    let is_in_file: Option<bool> = sqlx::query_scalar(DELETE)
        .bind(RowId(id.0))
        .fetch_optional(connection)
        .await?;
    Ok(is_in_file.unwrap_or(false))
}

pub(super) async fn of_exchange(
    connection: &mut SqliteConnection,
    exchange: ExchangeId,
) -> Result<Vec<BodyId>, sqlx::Error> {
    let ids: Vec<RowId> = sqlx::query_scalar(OF_EXCHANGE)
        .bind(RowId(exchange.0))
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().map(|id| BodyId(id.0)).collect())
}

/// The sealed octets of a small adopted body.
pub(super) async fn content(pool: &SqlitePool, id: BodyId) -> Result<Bytes, StoreError> {
    let damaged = |what| StoreError::DamagedBody { body: id, what };
    let row: Option<Option<Vec<u8>>> = sqlx::query_scalar(CONTENT)
        .bind(RowId(id.0))
        .fetch_optional(pool)
        .await
        .map_err(read_failed)?;
    match row {
        Some(Some(octets)) => Ok(octets.into()),
        Some(None) => Err(damaged("its file is missing")),
        None => Err(damaged("there is no such body")),
    }
}

/// Those of `ids` that are adopted.
pub(super) async fn adopted(
    pool: &SqlitePool,
    ids: Vec<BodyId>,
) -> Result<HashSet<BodyId>, sqlx::Error> {
    let mut adopted = HashSet::new();
    for id in ids {
        let exists: bool = sqlx::query_scalar(EXISTS)
            .bind(RowId(id.0))
            .fetch_one(pool)
            .await?;
        if exists {
            adopted.insert(id);
        }
    }
    Ok(adopted)
}
