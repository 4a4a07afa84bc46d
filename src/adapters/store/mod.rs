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
mod postmaster;
mod sqlite;

pub use self::{
    audit_chain::ChainVerdict,
    config::StoreConfig,
    data_dir::DataDirError,
    keys::{KeyFileError, create_key_file, new_key_text},
    postmaster::{KeptMail, PostmasterBox, PostmasterError, PostmasterKeeper, PostmasterLimits},
    sqlite::{SqliteStore, StoreOpenError},
};
