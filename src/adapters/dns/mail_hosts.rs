//! The mail hosts of a domain: MX records, else the domain's own addresses.

use std::{collections::HashSet, net::IpAddr};

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{Name, RData, RecordType},
};

use super::{
    absence::{Absence, cause},
    addresses::addresses_of,
    random_number,
};
use crate::{
    flows::ports::{FindMailHosts, MailHost, MailHostError},
    formats::ids::DomainName,
};

/// Hosts tried for one domain (TX-5).
const MAX_HOSTS: usize = 5;

/// Finds mail hosts in the DNS.
pub struct DnsMailHosts {
    resolver: TokioResolver,
    own_hosts: HashSet<String>,
}

/// One MX record, as far as it matters here. `host` is `None` for the root, the target of a null MX.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MxRecord {
    preference: u16,
    host: Option<String>,
}

impl DnsMailHosts {
    /// Asks through `resolver`. `own_hosts` are the names of this bridge itself, in any case, with or without a
    /// trailing dot (TX-4).
    pub fn new(resolver: TokioResolver, own_hosts: impl IntoIterator<Item = String>) -> Self {
        let own_hosts = own_hosts.into_iter().map(|name| bare_name(&name)).collect();
        Self {
            resolver,
            own_hosts,
        }
    }

    async fn mx_records(&self, domain: &DomainName) -> Result<Vec<MxRecord>, MailHostError> {
        let found = self
            .resolver
            .lookup(absolute(domain)?, RecordType::MX)
            .await;
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(error) => {
                return match Absence::of(&error) {
                    Absence::NoSuchName => Err(MailHostError::NoSuchDomain),
                    Absence::NoData => Ok(Vec::new()),
                    Absence::Unknown => Err(transient(&error)),
                };
            }
        };
        // The resolver followed a CNAME at the domain; that record stands among the answers, too.
        let records = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::MX(mx) => Some(MxRecord {
                    preference: mx.preference,
                    host: (!mx.exchange.is_root()).then(|| bare_name(&mx.exchange.to_ascii())),
                }),
                _ => None,
            });
        Ok(records.collect())
    }

    /// The addresses of a name. None at all is no error.
    async fn addresses_of(&self, name: Name) -> Result<Vec<IpAddr>, MailHostError> {
        let found = addresses_of(&self.resolver, name).await;
        found.map_err(|error| transient(&error))
    }
}

#[async_trait]
impl FindMailHosts for DnsMailHosts {
    async fn hosts(&self, domain: &DomainName) -> Result<Vec<MailHost>, MailHostError> {
        let records = self.mx_records(domain).await?;
        let names = choose(domain, records, &self.own_hosts, random_number)?;
        let mut hosts = Vec::new();
        let mut unanswered = None;
        for name in names {
            match self.addresses_of(absolute(&name)?).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => hosts.push(MailHost { name, addresses }),
                Err(error) => unanswered = Some(error),
            }
        }
        match unanswered {
            _ if !hosts.is_empty() => Ok(hosts),
            Some(error) => Err(error),
            None => Err(MailHostError::NoAddress),
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, MailHostError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        // Not made absolute: an operator may give a name of the local search list.
        let name = Name::from_utf8(host).map_err(|_| MailHostError::NoAddress)?;
        let addresses = self.addresses_of(name).await?;
        if addresses.is_empty() {
            return Err(MailHostError::NoAddress);
        }
        Ok(addresses)
    }
}

/// The hosts to try, best first: sorted by preference, equals in random order, without those that are no host names,
/// and ending before ourselves (TX-2 to TX-5). `random` gives any number, all alike.
fn choose(
    domain: &DomainName,
    mut records: Vec<MxRecord>,
    own_hosts: &HashSet<String>,
    random: impl Fn() -> u64,
) -> Result<Vec<DomainName>, MailHostError> {
    match records.as_slice() {
        // The implicit MX.
        [] => return Ok(vec![domain.clone()]),
        // RFC 7505 §3: one record with a root target; the addresses of the domain do not count then.
        [MxRecord { host: None, .. }] => return Err(MailHostError::NullMx),
        _ => {}
    }
    let is_own = |record: &MxRecord| {
        let host = record.host.as_ref();
        host.is_some_and(|host| own_hosts.contains(host))
    };
    let own_preference = records
        .iter()
        .filter(|r| is_own(r))
        .map(|r| r.preference)
        .min();
    if let Some(limit) = own_preference {
        records.retain(|record| record.preference < limit);
    }
    records.sort_by_cached_key(|record| (record.preference, random()));
    let mut names: Vec<DomainName> = Vec::new();
    for host in records.into_iter().filter_map(|record| record.host) {
        // An IP literal is no domain name (TX-5).
        if let Ok(name) = host.parse::<DomainName>()
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names.truncate(MAX_HOSTS);
    match own_preference {
        _ if !names.is_empty() => Ok(names),
        Some(_) => Err(MailHostError::Loop),
        None => Err(MailHostError::NoAddress),
    }
}

fn bare_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The name with its final dot: no search list may lengthen it.
fn absolute(name: &DomainName) -> Result<Name, MailHostError> {
    let mut name = Name::from_ascii(name.as_str()).map_err(|_| MailHostError::NoSuchDomain)?;
    name.set_fqdn(true);
    Ok(name)
}

fn transient(error: &NetError) -> MailHostError {
    MailHostError::Transient {
        detail: cause(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mx(preference: u16, host: &str) -> MxRecord {
        MxRecord {
            preference,
            host: (!host.is_empty()).then(|| host.to_owned()),
        }
    }

    fn chosen(records: Vec<MxRecord>, own: &[&str]) -> Result<Vec<String>, MailHostError> {
        let own = own.iter().map(|name| bare_name(name)).collect();
        let names = choose(&"hisp.example".parse().unwrap(), records, &own, || 0)?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    // rule: TX-2
    #[test]
    fn a_domain_without_mx_records_is_its_own_mail_host() {
        assert_eq!(chosen(vec![], &[]).unwrap(), ["hisp.example"]);
    }

    // rule: TX-3
    #[test]
    fn a_null_mx_alone_refuses_mail_and_among_others_is_passed_over() {
        assert_eq!(chosen(vec![mx(0, "")], &[]), Err(MailHostError::NullMx));
        let beside = vec![mx(0, ""), mx(10, "mx.example.net")];
        assert_eq!(chosen(beside, &[]).unwrap(), ["mx.example.net"]);
    }

    // rule: TX-4
    #[test]
    fn hosts_come_by_preference_and_end_before_ourselves() {
        let records = vec![
            mx(20, "backup.example.net"),
            mx(10, "mx.example.net"),
            mx(30, "bridge.example.org"),
            mx(30, "beside.example.net"),
            mx(40, "last.example.net"),
        ];
        let names = chosen(records.clone(), &["Bridge.Example.ORG."]).unwrap();
        assert_eq!(names, ["mx.example.net", "backup.example.net"]);
        assert_eq!(
            chosen(records, &["mx.example.net"]),
            Err(MailHostError::Loop)
        );
    }

    // rule: TX-4
    #[test]
    fn hosts_of_equal_preference_come_in_the_order_that_chance_gives() {
        let records = vec![mx(10, "a.example.net"), mx(10, "b.example.net")];
        let first_with = |numbers: [u64; 2]| {
            let next = std::cell::Cell::new(0);
            let random = || {
                next.set(next.get() + 1);
                numbers[next.get() - 1]
            };
            let domain = "hisp.example".parse().unwrap();
            choose(&domain, records.clone(), &HashSet::new(), random).unwrap()[0].to_string()
        };
        assert_eq!(first_with([1, 2]), "a.example.net");
        assert_eq!(first_with([2, 1]), "b.example.net");
    }

    // rule: TX-5
    #[test]
    fn address_literals_are_passed_over_and_five_hosts_are_enough() {
        let literal = vec![mx(1, "192.0.2.7"), mx(2, "mx.example.net")];
        assert_eq!(chosen(literal, &[]).unwrap(), ["mx.example.net"]);
        assert_eq!(
            chosen(vec![mx(1, "192.0.2.7")], &[]),
            Err(MailHostError::NoAddress)
        );
        let many = (0..40)
            .map(|n| mx(n, &format!("mx{n}.example.net")))
            .collect();
        assert_eq!(chosen(many, &[]).unwrap().len(), MAX_HOSTS);
    }
}
