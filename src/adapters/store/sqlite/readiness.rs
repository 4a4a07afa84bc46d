//! Whether the store can do its work: what `/readyz` asks.

use async_trait::async_trait;

use super::SqliteStore;
use crate::{
    flows::ports::{Exchanges, Readiness, StoreError, UnitOfWork},
    formats::ids::ExchangeId,
};

#[async_trait]
impl Readiness for SqliteStore {
    fn part(&self) -> &'static str {
        "store"
    }

    /// Asks the writer for an empty transaction and a reader for an exchange that there is not: both must answer.
    async fn check(&self) -> Result<(), &'static str> {
        self.commit(UnitOfWork::default())
            .await
            .map_err(|failure| match failure {
                StoreError::NoSpace => "no space is left for the store",
                _ => "the store cannot be written",
            })?;
        self.load(ExchangeId(uuid::Uuid::nil()))
            .await
            .map_err(|_| "the store cannot be read")?;
        Ok(())
    }
}
