//! The addresses of a host.

use std::net::IpAddr;

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{Name, RecordType},
};

use super::absence::{Absence, cause};
use crate::flows::ports::{FindAddresses, NoAddresses};

/// Addresses tried for one host (TX-5).
const MAX_ADDRESSES: usize = 4;

/// Finds addresses in the DNS alone: neither the machine's own table of hosts nor its search list counts.
pub struct DnsAddresses {
    resolver: TokioResolver,
}

impl DnsAddresses {
    /// Asks through `resolver`.
    pub fn new(resolver: TokioResolver) -> Self {
        Self { resolver }
    }
}

#[async_trait]
impl FindAddresses for DnsAddresses {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoAddresses> {
        let mut name = Name::from_ascii(host).map_err(|_| NoAddresses::None)?;
        name.set_fqdn(true);
        match addresses_of(&self.resolver, name).await {
            Ok(addresses) if addresses.is_empty() => Err(NoAddresses::None),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(NoAddresses::Transient {
                detail: cause(&error),
            }),
        }
    }
}

/// A and AAAA of a name, alternating. None at all is no error.
pub(super) async fn addresses_of(
    resolver: &TokioResolver,
    name: Name,
) -> Result<Vec<IpAddr>, NetError> {
    let (v4, v6) = tokio::join!(
        resolver.lookup(name.clone(), RecordType::A),
        resolver.lookup(name, RecordType::AAAA),
    );
    let mut unanswered = None;
    let mut families = [Vec::new(), Vec::new()];
    for (family, found) in families.iter_mut().zip([v4, v6]) {
        match found {
            Ok(lookup) => {
                family.extend(
                    lookup
                        .answers()
                        .iter()
                        .filter_map(|record| record.data.ip_addr()),
                );
            }
            Err(error) if Absence::of(&error) == Absence::Unknown => unanswered = Some(error),
            Err(_) => {}
        }
    }
    let [v4, v6] = families;
    let addresses = alternate(&v4, &v6);
    match unanswered {
        Some(error) if addresses.is_empty() => Err(error),
        _ => Ok(addresses),
    }
}

fn alternate(v4: &[IpAddr], v6: &[IpAddr]) -> Vec<IpAddr> {
    let longer = v4.len().max(v6.len());
    let pairs = (0..longer).flat_map(|index| [v6.get(index), v4.get(index)]);
    pairs.flatten().copied().take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: TX-5
    #[test]
    fn address_families_alternate_up_to_four() {
        let v4: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        let v6: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap()];
        let texts: Vec<String> = alternate(&v4, &v6)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]
        );
    }
}
