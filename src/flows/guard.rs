//! Guards our own network against URLs of others (threats.md T-14): the host is looked up by ourselves, each address is
//! judged, and the connection goes to one of those that passed, however the name changes meanwhile.

use std::{net::SocketAddr, sync::Arc};

use super::ports::{FindAddresses, NoAddresses};
use crate::bridge::fetch_target::{FetchHost, FetchPermits, FetchTarget, TargetFault};

/// Judges URLs.
#[derive(Clone)]
pub struct Guard {
    hosts: Arc<dyn FindAddresses>,
    permits: FetchPermits,
}

/// A URL that may be asked, at one of these addresses and no other.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The URL.
    pub target: FetchTarget,
    /// Where to connect, in the order to try: one at least. The DNS must not be asked again.
    pub addresses: Vec<SocketAddr>,
}

/// Why a URL is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// For what it is, or where it leads.
    #[error(transparent)]
    Target(#[from] TargetFault),
    /// For lack of an address.
    #[error(transparent)]
    Host(#[from] NoAddresses),
}

impl NotAdmitted {
    /// Whether it may be another thing later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Host(NoAddresses::Transient { .. }))
    }
}

impl Guard {
    /// Looks up names by `hosts`, and lets through what is public or permitted.
    pub fn new(hosts: Arc<dyn FindAddresses>, permits: FetchPermits) -> Self {
        Self { hosts, permits }
    }

    /// Judges `url` and the addresses that it leads to now.
    pub async fn admit(&self, url: &str) -> Result<Admitted, NotAdmitted> {
        let target: FetchTarget = url.parse()?;
        let found = match target.host() {
            FetchHost::Address(address) => vec![address],
            FetchHost::Name(name) => self.hosts.addresses(name).await?,
        };
        let addresses = self.permits.admit(&target, &found)?;
        Ok(Admitted { target, addresses })
    }
}
