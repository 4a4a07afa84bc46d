//! Where mail for whoever runs this bridge goes.

use async_trait::async_trait;

use super::StoreError;

/// Keeps mail for whoever runs this bridge (RX-24), so many a day, until an operator removes it or its retention is over.
#[async_trait]
pub trait KeepPostmasterMail: Send + Sync {
    /// Keeps one mail, encrypted at rest. Returns once it is durable.
    async fn keep(&self, mail: Vec<u8>) -> Result<(), NotKept>;
}

/// Why a mail is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// As many as one day may bring are there.
    #[error("as many mails for the postmaster as one day may bring are kept already")]
    Full,
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}
