//! What SQLite's errors mean.

pub(super) use super::super::failure::{Failure, UnitError, failed};
use crate::{flows::ports::StoreError, formats::ids::ExchangeId};

/// SQLITE_FULL (sqlite.org/rescode.html): no space is left.
const SQLITE_FULL: i32 = 13;
/// SQLITE_TOOBIG.
const SQLITE_TOOBIG: i32 = 18;
/// SQLITE_CONSTRAINT.
const SQLITE_CONSTRAINT: i32 = 19;
/// SQLITE_CONSTRAINT_PRIMARYKEY.
const SQLITE_CONSTRAINT_PRIMARYKEY: i32 = 1555;
/// SQLITE_CONSTRAINT_UNIQUE.
const SQLITE_CONSTRAINT_UNIQUE: i32 = 2067;

pub(super) fn conflict_if_unique(error: rusqlite::Error, exchange: ExchangeId) -> UnitError {
    match extended_code(&error) {
        Some(SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE) => {
            UnitError::conflict(exchange)
        }
        _ => error.into(),
    }
}

impl From<rusqlite::Error> for UnitError {
    fn from(error: rusqlite::Error) -> Self {
        match primary_code(&error) {
            // The values of one unit are to blame; SQLite has undone the one statement.
            Some(SQLITE_CONSTRAINT | SQLITE_TOOBIG) => Self::Refused(failed(error)),
            _ => Self::Broken(error.into()),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            _ if primary_code(&error) == Some(SQLITE_FULL) => Self::NoSpace,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// The store failed by `error`; no space left is told apart.
pub(super) fn read_failed(error: rusqlite::Error) -> StoreError {
    Failure::from(error).to_store_error()
}

/// The primary result code: the low octet of the extended one.
fn primary_code(error: &rusqlite::Error) -> Option<i32> {
    extended_code(error).map(|code| code & 0xff)
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
