//! Has this mail come before? (DST-6, T-22.) By inner Message-ID and signed content, or by what it is where it has
//! no Message-ID, recipient by recipient.

use super::ToXdr;
use crate::{
    bridge::exchange::{Exchange, Origin},
    flows::ports::{LookupKey, StoreError},
    formats::ids::{DirectAddress, ExchangeId},
};

/// What earlier exchanges have of a mail.
pub(super) struct Earlier {
    /// All exchanges that carry its key.
    pub(super) found: Vec<ExchangeId>,
    /// The exchanges that hold it, each with those of its recipients who get it again.
    pub(super) repeated: Vec<(ExchangeId, Vec<DirectAddress>)>,
    /// Whether another mail had the same Message-ID.
    pub(super) is_id_taken: bool,
}

impl Earlier {
    /// Whether an earlier exchange serves `address` with this mail.
    pub(super) fn holds(&self, address: &DirectAddress) -> bool {
        let mut repeated = self.repeated.iter();
        repeated.any(|(_, recipients)| recipients.contains(address))
    }
}

impl ToXdr {
    /// Looks for the mail with this key and digest among those that were opened, other than `own`.
    pub(super) async fn earlier(
        &self,
        own: ExchangeId,
        key: &LookupKey,
        digest: &[u8; 32],
        recipients: &[DirectAddress],
    ) -> Result<Earlier, StoreError> {
        let found = self.store.find(key).await?;
        let mut earlier = Earlier {
            found: found.clone(),
            repeated: Vec::new(),
            is_id_taken: false,
        };
        for id in found {
            let Some(found) = self.store.load(id).await? else {
                continue;
            };
            if id == own {
                continue;
            }
            if !has_content(&found.exchange, digest) {
                earlier.is_id_taken = true;
                continue;
            }
            let served: Vec<DirectAddress> = recipients
                .iter()
                .filter(|address| is_promised(&found.exchange, address) && !earlier.holds(address))
                .cloned()
                .collect();
            if !served.is_empty() {
                earlier.repeated.push((id, served));
            }
        }
        Ok(earlier)
    }
}

fn has_content(exchange: &Exchange, digest: &[u8; 32]) -> bool {
    matches!(&exchange.origin, Origin::Direct { digest: Some(own), .. } if own == digest)
}

fn is_promised(exchange: &Exchange, address: &DirectAddress) -> bool {
    let recipient = exchange.recipient(address);
    recipient.is_some_and(|recipient| recipient.mdns.is_due)
}
