//! What PostgreSQL's errors mean.

use tokio_postgres::error::SqlState;

use super::super::failure::{Failure, UnitError, failed};
use crate::flows::ports::StoreError;

/// Classes of SQLSTATE for which the values of one unit are to blame: data exception, integrity constraint violation,
/// program limit exceeded (postgresql.org/docs/15/errcodes-appendix.html).
const CLASSES_OF_BAD_VALUES: [&str; 3] = ["22", "23", "54"];

impl From<tokio_postgres::Error> for UnitError {
    fn from(error: tokio_postgres::Error) -> Self {
        let is_bad_value = error.code().is_some_and(|state| {
            let class = state.code().get(..2).unwrap_or_default();
            CLASSES_OF_BAD_VALUES.contains(&class)
        });
        match Failure::from(error) {
            Failure::Other(text) if is_bad_value => Self::Refused(failed(text)),
            failure => Self::Broken(failure),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::DISK_FULL) {
            return Self::NoSpace;
        }
        Self::Other(told(&error))
    }
}

/// The store failed by `error`; no space left is told apart.
pub(super) fn read_failed(error: tokio_postgres::Error) -> StoreError {
    Failure::from(error).to_store_error()
}

/// Whether two transactions waited for one another: each may succeed alone.
pub(super) fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
        || error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

/// The error in words, without the detail of the database, which quotes values.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} (SQLSTATE {})", told.message(), told.code().code()),
        None => {
            let source = std::error::Error::source(error);
            source.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"))
        }
    }
}
