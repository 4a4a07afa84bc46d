//! What goes wrong below the port, and what a flow is told of it.

use std::io;

use crate::{flows::ports::StoreError, formats::ids::ExchangeId};

/// Why a unit was not written.
pub(super) enum UnitError {
    /// It cannot be: the others of its transaction are not touched.
    Refused(StoreError),
    /// The transaction broke: none of its units is written.
    Broken(Failure),
}

/// Why a whole transaction failed: told to each of its units.
#[derive(Clone)]
pub(super) enum Failure {
    NoSpace,
    Other(String),
}

impl UnitError {
    pub(super) fn conflict(exchange: ExchangeId) -> Self {
        Self::Refused(StoreError::Conflict { exchange })
    }

    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Broken(failure) => failure.to_store_error(),
        }
    }
}

impl From<Failure> for UnitError {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match store_error(error) {
            StoreError::NoSpace => Self::NoSpace,
            other => Self::Other(other.to_string()),
        }
    }
}

impl Failure {
    pub(super) fn to_store_error(&self) -> StoreError {
        match self {
            Self::NoSpace => StoreError::NoSpace,
            Self::Other(text) => failed(text.clone()),
        }
    }
}

/// The store failed.
pub(super) fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Failed(error.into())
}

/// The store was closed before this call.
pub(super) fn closed() -> StoreError {
    failed("the store is closed")
}

/// What a failed read or write means to a flow.
pub(super) fn store_error(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
        _ => match error.downcast::<StoreError>() {
            Ok(store) => store,
            Err(error) => StoreError::Failed(Box::new(error)),
        },
    }
}
