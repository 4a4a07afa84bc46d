//! Mail hosts, asked of a name server on loopback.

use std::time::Duration;

use xdbridge::{
    adapters::dns::{DnsMailHosts, config::DnsConfig, resolver},
    flows::ports::{FindMailHosts, MailHost, MailHostError},
};

use crate::support::dns_server::{DnsServer, Zone};

async fn hosts_in(zone: Zone, own_hosts: &[&str]) -> Result<Vec<MailHost>, MailHostError> {
    let server = DnsServer::start(zone).await;
    let finder = finder(&server, own_hosts);
    finder.hosts(&"hisp.example".parse().unwrap()).await
}

fn finder(server: &DnsServer, own_hosts: &[&str]) -> DnsMailHosts {
    let config = DnsConfig {
        servers: vec![server.address],
        timeout: Duration::from_secs(2),
        attempts: 1,
    };
    let own_hosts = own_hosts.iter().map(ToString::to_string);
    DnsMailHosts::new(resolver(&config).unwrap(), own_hosts)
}

fn host(name: &str, addresses: &[&str]) -> MailHost {
    MailHost {
        name: name.parse().unwrap(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

// rule: TX-4, TX-5
#[tokio::test]
async fn mx_hosts_come_by_preference_with_both_kinds_of_addresses() {
    let zone = Zone::default()
        .mx("hisp.example", 20, "backup.hisp.example")
        .mx("hisp.example", 10, "mx.hisp.example")
        .mx("hisp.example", 5, "gone.hisp.example")
        .a("mx.hisp.example", "192.0.2.1")
        .aaaa("mx.hisp.example", "2001:db8::1")
        .cname("backup.hisp.example", "other.hisp.example")
        .a("other.hisp.example", "192.0.2.2");
    let expected = [
        host("mx.hisp.example", &["2001:db8::1", "192.0.2.1"]),
        host("backup.hisp.example", &["192.0.2.2"]),
    ];
    assert_eq!(hosts_in(zone, &[]).await.unwrap(), expected);
}

// rule: TX-2
#[tokio::test]
async fn a_domain_without_mx_records_is_its_own_host_through_an_alias_too() {
    let plain = Zone::default().a("hisp.example", "192.0.2.3");
    let expected = [host("hisp.example", &["192.0.2.3"])];
    assert_eq!(hosts_in(plain, &[]).await.unwrap(), expected);

    let alias = Zone::default()
        .cname("hisp.example", "hosted.example")
        .mx("hosted.example", 10, "mx.hosted.example")
        .a("mx.hosted.example", "192.0.2.4");
    let expected = [host("mx.hosted.example", &["192.0.2.4"])];
    assert_eq!(hosts_in(alias, &[]).await.unwrap(), expected);
}

// rule: TX-3
#[tokio::test]
async fn a_null_mx_is_believed_although_the_domain_has_an_address() {
    let zone = Zone::default()
        .mx("hisp.example", 0, "")
        .a("hisp.example", "192.0.2.5");
    assert_eq!(hosts_in(zone, &[]).await, Err(MailHostError::NullMx));
}

// rule: TX-2
#[tokio::test]
async fn an_unknown_domain_is_told_from_one_that_nobody_can_answer_for() {
    let unknown = hosts_in(Zone::default(), &[]).await;
    assert_eq!(unknown, Err(MailHostError::NoSuchDomain));
    let failing = hosts_in(Zone::default().fails("hisp.example"), &[]).await;
    assert!(failing.unwrap_err().is_transient());
    let host_fails = Zone::default()
        .mx("hisp.example", 10, "mx.hisp.example")
        .fails("mx.hisp.example");
    assert!(hosts_in(host_fails, &[]).await.unwrap_err().is_transient());
    let no_address = Zone::default().mx("hisp.example", 10, "gone.hisp.example");
    assert_eq!(
        hosts_in(no_address, &[]).await,
        Err(MailHostError::NoAddress)
    );
}

// rule: TX-4
#[tokio::test]
async fn a_loop_back_to_ourselves_is_seen() {
    let zone = Zone::default()
        .mx("hisp.example", 10, "bridge.clinic.example")
        .mx("hisp.example", 20, "mx.hisp.example")
        .a("mx.hisp.example", "192.0.2.6");
    let found = hosts_in(zone, &["bridge.clinic.example"]).await;
    assert_eq!(found, Err(MailHostError::Loop));
}

// rule: TX-5
#[tokio::test]
async fn a_smarthost_is_found_by_name_or_taken_as_an_address() {
    let server = DnsServer::start(Zone::default().a("relay.clinic.example", "10.0.0.7")).await;
    let finder = finder(&server, &[]);
    let found = finder.addresses("relay.clinic.example").await.unwrap();
    assert_eq!(found, ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(finder.addresses("::1").await.unwrap().len(), 1);
    let unknown = finder.addresses("nowhere.clinic.example").await;
    assert_eq!(unknown, Err(MailHostError::NoAddress));
}
