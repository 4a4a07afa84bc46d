//! Certificates from LDAP servers on loopback: what is remembered, what is asked once, and which server is asked next
//! (certificates.md section 5).

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use xdbridge::{
    adapters::{
        dns::{self, DnsAddresses, DnsLdapServers, config::DnsConfig},
        ldap::{LdapCertificates, LdapQuestions, LdapSettings},
    },
    flows::ports::{FindCertificates, Lookup},
    formats::ids::DirectAddress,
};

use crate::support::{
    dns_server::{DnsServer, TTL, Zone},
    ldap_server::{Conduct, LdapServer},
    store::{StandingClock, time},
};

const DOMAIN: &str = "direct.harbor.example";
const ADDRESS: &str = "rui.silva@direct.harbor.example";
const SERVICE: &str = "_ldap._tcp.direct.harbor.example";

struct Ground {
    dns: DnsServer,
    clock: Arc<StandingClock>,
    addresses: LdapCertificates,
    domains: LdapCertificates,
}

impl Ground {
    async fn start(zone: Zone) -> Self {
        Self::start_with(zone, Duration::from_secs(60)).await
    }

    async fn start_with(zone: Zone, timeout: Duration) -> Self {
        let dns = DnsServer::start(zone).await;
        let config = DnsConfig {
            servers: vec![dns.address],
            timeout: Duration::from_secs(60),
            attempts: 0,
        };
        let settings = LdapSettings {
            connect_timeout: Duration::from_secs(60),
            timeout,
            permit: vec!["127.0.0.0/8".parse().unwrap()],
        };
        let clock = StandingClock::at(time(0));
        let servers = Arc::new(DnsLdapServers::new(&config).unwrap());
        let hosts = Arc::new(DnsAddresses::new(dns::resolver(&config).unwrap()));
        let questions = LdapQuestions::new(servers, hosts, settings, clock.clone());
        let questions = Arc::new(questions);
        Self {
            dns,
            clock,
            addresses: LdapCertificates::of_addresses(questions.clone()),
            domains: LdapCertificates::of_domains(questions),
        }
    }

    async fn of_address(&self) -> Lookup {
        self.addresses.find(&rui()).await
    }

    async fn of_domain(&self) -> Lookup {
        self.domains.find(&rui()).await
    }

    fn set(&self, seconds: u32) {
        self.clock
            .set(time(0) + SignedDuration::from_secs(seconds.into()));
    }
}

fn rui() -> DirectAddress {
    // Written as people write it: names are compared without case.
    "Rui.Silva@Direct.Harbor.Example".parse().unwrap()
}

/// The servers in their order, each of a priority of its own.
fn zone(servers: &[&LdapServer]) -> Zone {
    let zone = Zone::default().a("ldap.harbor.example", "127.0.0.1");
    (0u16..)
        .zip(servers)
        .fold(zone, |zone, (priority, server)| {
            zone.ldap(DOMAIN, priority, server.port(), "ldap.harbor.example")
        })
}

async fn serving(values: &[(&str, &[u8])]) -> LdapServer {
    let values = values
        .iter()
        .map(|(mail, value)| ((*mail).to_owned(), value.to_vec()));
    LdapServer::start(Conduct::Serves(values.collect())).await
}

fn found(lookup: &Lookup) -> Vec<&[u8]> {
    let candidates = lookup.candidates.iter();
    candidates
        .map(|candidate| candidate.der.as_slice())
        .collect()
}

fn last_answer(lookup: &Lookup) -> &str {
    lookup.steps.last().unwrap().answer.as_str()
}

// rule: LDAP-6, LDAP-7, DISC-6
#[tokio::test]
async fn address_and_domain_are_looked_for_apart_and_both_answers_are_remembered() {
    let server = serving(&[(ADDRESS, b"of the address"), (DOMAIN, b"of the domain")]).await;
    let ground = Ground::start(zone(&[&server])).await;
    let lookup = ground.of_address().await;
    assert_eq!(found(&lookup), [b"of the address"]);
    assert_eq!(
        lookup.candidates[0].origin,
        format!(
            "ldap ldap.harbor.example:{} (mail={ADDRESS})",
            server.port()
        )
    );
    assert!(!lookup.is_transient && !lookup.is_last);
    assert_eq!(found(&ground.of_domain().await), [b"of the domain"]);
    assert_eq!(server.connections(), 2);
    assert_eq!(ground.dns.asked(SERVICE), 1);

    ground.set(TTL - 1);
    let lookup = ground.of_address().await;
    assert_eq!(found(&lookup), [b"of the address"]);
    assert_eq!(
        last_answer(&lookup),
        "1 entry, 1 certificate (from the cache)"
    );
    assert_eq!(server.connections(), 2);
    ground.set(TTL);
    assert_eq!(found(&ground.of_address().await), [b"of the address"]);
    assert_eq!((server.connections(), ground.dns.asked(SERVICE)), (3, 2));
}

// rule: DISC-6, LDAP-1
#[tokio::test]
async fn that_there_is_no_entry_or_no_server_is_remembered_for_ten_minutes_at_most() {
    let server = serving(&[]).await;
    let ground = Ground::start(zone(&[&server])).await;
    for seconds in [0, 599] {
        ground.set(seconds);
        let lookup = ground.of_address().await;
        assert!(found(&lookup).is_empty() && !lookup.is_transient);
    }
    assert_eq!(server.connections(), 1);
    ground.set(600);
    ground.of_address().await;
    assert_eq!(server.connections(), 2);

    let ground = Ground::start(Zone::default().empty(SERVICE)).await;
    for seconds in [0, TTL - 1] {
        ground.set(seconds);
        let lookup = ground.of_address().await;
        assert!(!lookup.is_transient);
        assert!(last_answer(&lookup).starts_with("NODATA: no SRV record"));
    }
    assert_eq!(ground.dns.asked(SERVICE), 1);
    ground.set(TTL);
    ground.of_address().await;
    assert_eq!(ground.dns.asked(SERVICE), 2);
}

// rule: LDAP-2, DISC-3
#[tokio::test]
async fn whatever_a_server_does_the_next_one_is_asked() {
    for conduct in [
        Conduct::Closes,
        Conduct::Garbage,
        Conduct::Deep,
        Conduct::Endless,
        Conduct::Floods,
        Conduct::References,
        Conduct::Refers,
        Conduct::OtherId,
        Conduct::NoBases,
        Conduct::RefusesBind,
        Conduct::Busy,
    ] {
        let bad = LdapServer::start(conduct.clone()).await;
        let good = serving(&[(ADDRESS, b"good")]).await;
        let ground = Ground::start(zone(&[&bad, &good])).await;
        let lookup = ground.of_address().await;
        assert_eq!(found(&lookup), [b"good"], "{conduct:?}");
        assert!(!lookup.is_transient);
        assert_eq!(bad.connections(), 1);
    }
    for conduct in [Conduct::Silent, Conduct::SilentAtSearch, Conduct::Trickles] {
        let bad = LdapServer::start(conduct).await;
        let good = serving(&[(ADDRESS, b"good")]).await;
        let ground = Ground::start_with(zone(&[&bad, &good]), Duration::from_secs(5)).await;
        assert_eq!(found(&ground.of_address().await), [b"good"]);
    }
}

// rule: DISC-3, DISC-6
#[tokio::test]
async fn servers_that_fail_leave_it_open_and_are_asked_again_in_half_a_minute() {
    let busy = LdapServer::start(Conduct::Busy).await;
    let ground = Ground::start(zone(&[&busy])).await;
    for seconds in [0, 29] {
        ground.set(seconds);
        for lookup in [ground.of_address().await, ground.of_domain().await] {
            assert!(found(&lookup).is_empty() && lookup.is_transient);
        }
        assert_eq!(busy.connections(), 1);
    }
    let good = serving(&[(ADDRESS, b"good")]).await;
    ground.dns.replace(zone(&[&good]));
    ground.set(TTL);
    assert_eq!(found(&ground.of_address().await), [b"good"]);

    let ground = Ground::start(Zone::default().fails(SERVICE)).await;
    let lookup = ground.of_address().await;
    assert!(lookup.is_transient);
    assert!(last_answer(&lookup).starts_with("no answer: response code"));
}

// rule: LDAP-2
#[tokio::test]
async fn equal_questions_at_the_same_time_are_one() {
    let server = serving(&[(ADDRESS, b"good")]).await;
    let ground = Ground::start(zone(&[&server])).await;
    let lookups = futures_util::future::join_all((0..20).map(|_| ground.of_address())).await;
    assert!(lookups.iter().all(|lookup| found(lookup) == [b"good"]));
    assert_eq!((server.connections(), ground.dns.asked(SERVICE)), (1, 1));
}

// rule: T-14
#[tokio::test]
async fn a_port_of_another_service_is_never_connected_to() {
    let zone = Zone::default().a("ldap.harbor.example", "127.0.0.1").ldap(
        DOMAIN,
        0,
        25,
        "ldap.harbor.example",
    );
    let ground = Ground::start(zone).await;
    let lookup = ground.of_address().await;
    assert!(found(&lookup).is_empty() && !lookup.is_transient);
    assert_eq!(ground.dns.asked("ldap.harbor.example"), 0);
    assert!(last_answer(&lookup).contains("another service's (T-14)"));
}
