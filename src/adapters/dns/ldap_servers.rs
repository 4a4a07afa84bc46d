//! The LDAP servers of a domain: its SRV records (RFC 2782).

use std::cmp::Reverse;

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{Name, RData, RecordType, rdata::SRV},
};

use super::{
    absence::{Absence, cause, negative_ttl},
    build,
    config::DnsConfig,
    random_number, settings,
};
use crate::{
    flows::ports::{FindLdapServers, LdapServer, LdapServers},
    formats::ids::DomainName,
};

/// Servers tried for one domain (LDAP-2).
const MAX_SERVERS: usize = 5;
/// What the service is called (RFC 4520 §3.1, RFC 2782).
const SERVICE: [&str; 2] = ["_ldap", "_tcp"];
/// The port of LDAP; an SRV record may name another one, but none of those that other services have (T-14).
const LDAP_PORT: u16 = 389;
const FIRST_FREE_PORT: u16 = 1024;

/// Finds LDAP servers in the DNS.
pub struct DnsLdapServers {
    resolver: TokioResolver,
}

impl DnsLdapServers {
    /// Asks as `config` says.
    ///
    /// # Errors
    /// The machine's own resolver settings are asked for and cannot be read.
    pub fn new(config: &DnsConfig) -> Result<Self, NetError> {
        let (servers, mut options) = settings(config)?;
        // Answers are kept by who asks, by the one clock (DISC-6).
        options.cache_size = 0;
        let resolver = build(servers, options)?;
        Ok(Self { resolver })
    }
}

#[async_trait]
impl FindLdapServers for DnsLdapServers {
    async fn servers(&self, domain: &DomainName) -> Result<LdapServers, String> {
        let none = |told: &str, ttl| LdapServers {
            servers: Vec::new(),
            told: told.to_owned(),
            ttl,
        };
        let Ok(name) = service_name(domain) else {
            return Ok(none("not asked: the name is too long (RFC 1035)", None));
        };
        let lookup = match self.resolver.lookup(name, RecordType::SRV).await {
            Ok(lookup) => lookup,
            Err(error) => {
                return match Absence::of(&error) {
                    Absence::NoSuchName => Ok(none("NXDOMAIN: no such name", negative_ttl(&error))),
                    Absence::NoData => Ok(none("NODATA: no SRV record", negative_ttl(&error))),
                    Absence::Unknown => Err(cause(&error)),
                };
            }
        };
        // The resolver followed aliases; those records stand among the answers, too.
        let records = lookup.answers().iter();
        let ttl = records.clone().map(|record| record.ttl).min();
        let found = records.filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv.clone()),
            _ => None,
        });
        let (servers, told) = order(found.collect(), random_number);
        Ok(LdapServers { servers, told, ttl })
    }
}

fn service_name(domain: &DomainName) -> Result<Name, ()> {
    let labels = SERVICE.into_iter().chain(domain.as_str().split('.'));
    Name::from_labels(labels.map(str::as_bytes)).map_err(|_| ())
}

/// The servers to try, in order, and what is told of them: those of the lowest priority first, and among equals those of
/// the highest weight (LDAP-1), what is equal in both in random order. `random` gives any number, all alike.
fn order(mut records: Vec<SRV>, random: impl Fn() -> u64) -> (Vec<LdapServer>, String) {
    records.sort_by_cached_key(|record| (record.priority, Reverse(record.weight), random()));
    let (mut servers, mut told) = (Vec::new(), Vec::new());
    let count = records.len();
    for record in &records {
        if record.target.is_root() {
            told.push("`.`: the service is not offered".to_owned());
            continue;
        }
        let host = record.target.to_ascii();
        let host = host.trim_end_matches('.');
        let SRV {
            priority,
            weight,
            port,
            ..
        } = record;
        let line = format!("{host}:{port} (priority {priority}, weight {weight})");
        let may_be_asked = *port == LDAP_PORT || *port >= FIRST_FREE_PORT;
        match host.parse::<DomainName>() {
            Ok(_) if !may_be_asked => {
                told.push(format!(
                    "{line}: not asked, since the port is another service's (T-14)"
                ));
            }
            Ok(host) => {
                servers.push(LdapServer { host, port: *port });
                told.push(line);
            }
            Err(_) => told.push(format!("{line}: not asked, since it is no host name")),
        }
        if servers.len() == MAX_SERVERS {
            break;
        }
    }
    if told.len() < count {
        told.push(format!("{} more, which are not asked", count - told.len()));
    }
    (servers, told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> SRV {
        SRV::new(priority, weight, port, Name::from_ascii(target).unwrap())
    }

    fn ordered(records: Vec<SRV>) -> (Vec<String>, String) {
        let (servers, told) = order(records, || 0);
        let servers = servers
            .iter()
            .map(|one| format!("{}:{}", one.host, one.port));
        (servers.collect(), told)
    }

    // rule: LDAP-1
    #[test]
    fn servers_come_by_priority_and_then_by_falling_weight() {
        let (servers, told) = ordered(vec![
            srv(1, 900, 389, "late.hisp.example."),
            srv(0, 0, 389, "light.hisp.example."),
            srv(0, 100, 10_389, "heavy.hisp.example."),
        ]);
        let expected = [
            "heavy.hisp.example:10389",
            "light.hisp.example:389",
            "late.hisp.example:389",
        ];
        assert_eq!(servers, expected);
        assert!(told.starts_with("heavy.hisp.example:10389 (priority 0, weight 100); "));
        let first_with = |numbers: [u64; 2]| {
            let next = std::cell::Cell::new(0);
            let random = || {
                next.set(next.get() + 1);
                numbers[next.get() - 1]
            };
            let records = vec![srv(0, 0, 389, "a.example."), srv(0, 0, 389, "b.example.")];
            order(records, random).0[0].host.to_string()
        };
        assert_eq!(first_with([1, 2]), "a.example");
        assert_eq!(first_with([2, 1]), "b.example");
    }

    // rule: LDAP-1, T-14
    #[test]
    fn a_service_that_is_not_offered_and_a_port_of_another_service_are_not_asked() {
        let (servers, told) = ordered(vec![srv(0, 0, 0, ".")]);
        assert!(servers.is_empty());
        assert_eq!(told, "`.`: the service is not offered");
        for port in [25, 80, 443, 636, 1023] {
            let (servers, told) = ordered(vec![srv(0, 0, port, "a.example.")]);
            assert!(
                servers.is_empty() && told.contains("another service's"),
                "{told}"
            );
        }
        let (servers, _) = ordered(vec![srv(0, 0, 1_024, "a.example.")]);
        assert_eq!(servers, ["a.example:1024"]);
    }

    // rule: LDAP-2
    #[test]
    fn five_servers_are_enough() {
        let many = (0..40).map(|n| srv(n, 0, 389, &format!("l{n}.example.")));
        let (servers, told) = ordered(many.collect());
        assert_eq!(servers.len(), MAX_SERVERS);
        assert!(told.ends_with("; 35 more, which are not asked"), "{told}");
    }
}
