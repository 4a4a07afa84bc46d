//! Where mail for whoever runs this bridge goes.

use std::net::IpAddr;

use async_trait::async_trait;

use super::StoreError;

/// Keeps mail for whoever runs this bridge (RX-24), so many a day and a peer, until an operator removes it or its retention is over.
#[async_trait]
pub trait KeepPostmasterMail: Send + Sync {
    /// Keeps one mail that `peer` brought, encrypted at rest. Returns once it is durable.
    async fn keep(&self, mail: Vec<u8>, peer: IpAddr) -> Result<(), NotKept>;
}

/// Why a mail is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// As many as one day may bring are there.
    #[error("as many mails for the postmaster as one day may bring are kept already")]
    Full,
    /// As many as one peer may bring a day came from this one.
    #[error("as many mails for the postmaster as one peer may bring a day are kept already")]
    FullForPeer,
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}
