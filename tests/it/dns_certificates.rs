//! CERT records, asked of a name server on loopback that answers, cuts off, fails and stays silent (certificates.md
//! section 4).

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use xdbridge::{
    adapters::dns::{CertQuestions, DnsCertificates, config::DnsConfig},
    flows::ports::{FindCertificates, Lookup},
    formats::ids::DirectAddress,
};

use crate::support::{
    bridge::pki,
    dns_server::{By, DnsServer, TTL, Zone},
    store::{StandingClock, time},
};

const ADDRESS: &str = "rui.silva.direct.harbor.example";
const DOMAIN: &str = "direct.harbor.example";

struct Ground {
    server: DnsServer,
    clock: Arc<StandingClock>,
    addresses: DnsCertificates,
    domains: DnsCertificates,
}

impl Ground {
    /// With a server that knows `zone`. Only what is never answered is waited for in vain, and not for long.
    async fn start(zone: Zone) -> Self {
        Self::start_with(zone, Duration::from_secs(60)).await
    }

    async fn start_with(zone: Zone, timeout: Duration) -> Self {
        let server = DnsServer::start(zone).await;
        let servers = vec![server.address];
        Self::of(server, servers, timeout)
    }

    fn of(server: DnsServer, servers: Vec<std::net::SocketAddr>, timeout: Duration) -> Self {
        let config = DnsConfig {
            servers,
            timeout,
            attempts: 0,
        };
        let clock = StandingClock::at(time(0));
        let questions = Arc::new(CertQuestions::new(&config, clock.clone()).unwrap());
        Self {
            server,
            clock,
            addresses: DnsCertificates::of_addresses(questions.clone()),
            domains: DnsCertificates::of_domains(questions),
        }
    }

    async fn of_address(&self) -> Lookup {
        self.addresses.find(&rui()).await
    }

    async fn of_domain(&self) -> Lookup {
        self.domains.find(&rui()).await
    }
}

fn rui() -> DirectAddress {
    "rui.silva@direct.harbor.example".parse().unwrap()
}

/// A certificate that is as large as they are: with a second one no answer fits into a datagram.
fn certificate() -> Vec<u8> {
    pki().harbor.certificate.to_der().unwrap()
}

fn other_certificate() -> Vec<u8> {
    pki().mei.certificate.to_der().unwrap()
}

/// What was found, and what is told of it.
fn told(lookup: &Lookup) -> (Vec<Vec<u8>>, String, bool) {
    let found = lookup.candidates.iter().map(|found| found.der.clone());
    let [step] = lookup.steps.as_slice() else {
        panic!("{} steps", lookup.steps.len());
    };
    (found.collect(), step.answer.clone(), lookup.is_transient)
}

fn sorted(mut certificates: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    certificates.sort();
    certificates
}

// rule: DNS-1, DNS-3
#[tokio::test]
async fn the_name_of_the_address_and_that_of_the_domain_are_asked_for_apart() {
    let zone = Zone::default()
        .cert(ADDRESS, b"of the address")
        .cert(DOMAIN, b"of the domain");
    let ground = Ground::start(zone).await;
    let found = ground.of_address().await;
    assert_eq!(found.candidates[0].der, b"of the address");
    assert_eq!(found.candidates[0].origin, format!("dns {ADDRESS}"));
    assert_eq!(found.steps[0].question, format!("DNS CERT {ADDRESS}."));
    assert_eq!(ground.server.asked(DOMAIN), 0);
    let found = ground.of_domain().await;
    assert_eq!(found.candidates[0].der, b"of the domain");
    assert_eq!(found.candidates[0].origin, format!("dns {DOMAIN}"));
    assert!(!found.is_last, "another source may be asked");
}

// rule: DNS-6
#[tokio::test]
async fn an_answer_that_no_datagram_holds_comes_by_tcp() {
    let zone = Zone::default()
        .cert(ADDRESS, &certificate())
        .cert(ADDRESS, &other_certificate());
    let ground = Ground::start(zone).await;
    let (found, answer, _) = told(&ground.of_address().await);
    assert_eq!(found, sorted(vec![certificate(), other_certificate()]));
    assert_eq!(answer, "2 certificates");
    let asked = ground.server.asked_by(ADDRESS);
    assert!(asked.starts_with(&[By::Udp, By::Tcp]), "{asked:?}");
}

// rule: DNS-7, DNS-8
#[tokio::test]
async fn a_record_of_any_length_and_kind_does_not_spoil_the_good_one_beside_it() {
    for (rdata, skipped) in [
        (vec![], "1 with fewer than 6 octets"),
        (vec![0], "1 with fewer than 6 octets"),
        (vec![0, 1, 0, 0, 0], "1 with fewer than 6 octets"),
        (
            b"\x00\x04\x00\x00\x00http://pki.harbor.example/rui.cer".to_vec(),
            "1 of type IPKIX (a URL, which is not followed)",
        ),
        (
            vec![0, 3, 0, 0, 0, 0x99],
            "1 of type PGP (no X.509 certificate)",
        ),
        (vec![0xfe, 0xff, 0, 0, 0, 1], "1 of type 65279 (not known)"),
    ] {
        // In a datagram, and by TCP, where the resolver says nothing of a message that it cannot decode.
        for large in [false, true] {
            let mut zone = Zone::default()
                .cert_rdata(ADDRESS, rdata.clone())
                .cert(ADDRESS, &certificate());
            let mut expected = vec![certificate()];
            if large {
                zone = zone.cert(ADDRESS, &other_certificate());
                expected.push(other_certificate());
            }
            let ground = Ground::start(zone).await;
            let (found, answer, is_transient) = told(&ground.of_address().await);
            assert_eq!(found, sorted(expected), "{rdata:?}, large: {large}");
            assert!(
                answer.ends_with(&format!("; skipped: {skipped}")),
                "{answer}"
            );
            assert!(!is_transient);
        }
    }
}

// rule: DNS-7
#[tokio::test]
async fn garbage_of_many_records_comes_along_with_the_good_one_and_is_for_the_checks() {
    let mut zone = Zone::default();
    for number in 0..1_000u16 {
        zone = zone.cert(ADDRESS, &number.to_be_bytes());
    }
    let ground = Ground::start(zone.cert(ADDRESS, &certificate())).await;
    let (found, answer, _) = told(&ground.of_address().await);
    assert_eq!(found.len(), 1_001);
    assert!(found.contains(&certificate()));
    assert_eq!(answer, "1001 certificates");
}

// rule: DISC-3, DNS-3
#[tokio::test]
async fn what_is_not_there_is_told_from_what_nobody_can_tell() {
    let zone = Zone::default().empty(ADDRESS).fails(DOMAIN);
    let ground = Ground::start(zone).await;
    let nothing = |answer: &str| (Vec::new(), answer.to_owned(), false);
    let found = told(&ground.of_address().await);
    assert_eq!(found, nothing("NODATA: no CERT record"));
    let (_, answer, is_transient) = told(&ground.of_domain().await);
    assert!(is_transient, "{answer}");
    assert!(answer.starts_with("no answer: response code"), "{answer}");

    let ground = Ground::start(Zone::default()).await;
    let found = told(&ground.of_domain().await);
    assert_eq!(found, nothing("NXDOMAIN: no such name"));
}

// rule: DISC-3
#[tokio::test]
async fn silence_is_no_absence() {
    let short = Duration::from_secs(1);
    let ground = Ground::start_with(Zone::default().silent(ADDRESS), short).await;
    let (found, answer, is_transient) = told(&ground.of_address().await);
    assert_eq!((found.len(), is_transient), (0, true));
    assert_eq!(answer, "no answer: no answer in time");
    // The server may see the last question later than the time-out.
    for way in [By::Udp, By::Tcp] {
        while !ground.server.asked_by(ADDRESS).contains(&way) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

// rule: DNS-6
#[tokio::test]
async fn a_server_whose_datagrams_do_not_arrive_is_asked_by_tcp() {
    let zone = Zone::default()
        .silent_by_udp(ADDRESS)
        .cert(ADDRESS, &certificate());
    let ground = Ground::start(zone).await;
    let (found, answer, _) = told(&ground.of_address().await);
    assert_eq!(found, [certificate()], "{answer}");
}

// rule: DISC-3
#[tokio::test]
async fn a_server_that_fails_does_not_hide_another_one() {
    let failing = DnsServer::start(Zone::default().fails(ADDRESS)).await;
    let good = DnsServer::start(Zone::default().cert(ADDRESS, &certificate())).await;
    let servers = vec![failing.address, good.address];
    let ground = Ground::of(good, servers, Duration::from_secs(60));
    let (found, answer, _) = told(&ground.of_address().await);
    assert_eq!(found, [certificate()], "{answer}");
}

// rule: DNS-4
#[tokio::test]
async fn an_alias_leads_to_the_records_of_another_name() {
    let zone = Zone::default()
        .cname(ADDRESS, "rui.hosted.example")
        .cert("rui.hosted.example", &certificate());
    let ground = Ground::start(zone).await;
    let (found, ..) = told(&ground.of_address().await);
    assert_eq!(found, [certificate()]);
}

// rule: DNS-2
#[tokio::test]
async fn a_local_part_that_makes_no_name_is_not_asked_for_and_its_domain_is() {
    let ground = Ground::start(Zone::default().cert(DOMAIN, b"of the domain")).await;
    let long = format!("{}@{DOMAIN}", "x".repeat(64));
    let long: DirectAddress = long.parse().unwrap();
    let (found, answer, is_transient) = told(&ground.addresses.find(&long).await);
    assert_eq!((found.len(), is_transient), (0, false));
    assert!(answer.starts_with("not asked: "), "{answer}");
    let (found, ..) = told(&ground.domains.find(&long).await);
    assert_eq!(found, [b"of the domain".to_vec()]);
}

// rule: DISC-6
#[tokio::test]
async fn an_answer_is_remembered_for_its_time_and_a_failure_is_not() {
    let ground = Ground::start(Zone::default().fails(DOMAIN).cert(ADDRESS, b"first")).await;
    let seconds = |seconds: u32| time(0) + SignedDuration::from_secs(seconds.into());
    assert_eq!(ground.of_address().await.candidates[0].der, b"first");
    assert!(ground.of_domain().await.is_transient);

    ground
        .server
        .replace(Zone::default().cert(ADDRESS, b"second"));
    let asked = ground.server.asked(ADDRESS);
    ground.clock.set(seconds(TTL - 1));
    let (found, answer, _) = told(&ground.of_address().await);
    assert_eq!(found, [b"first".to_vec()]);
    assert_eq!(answer, "1 certificate (from the cache)");
    assert_eq!(ground.server.asked(ADDRESS), asked);
    ground.clock.set(seconds(TTL));
    assert_eq!(ground.of_address().await.candidates[0].der, b"second");

    // The server knows by now that the domain has none, and that is remembered as well.
    let (_, answer, is_transient) = told(&ground.of_domain().await);
    assert_eq!(
        (answer.as_str(), is_transient),
        ("NXDOMAIN: no such name", false)
    );
    let asked = ground.server.asked(DOMAIN);
    let (_, answer, _) = told(&ground.of_domain().await);
    assert_eq!(answer, "NXDOMAIN: no such name (from the cache)");
    assert_eq!(ground.server.asked(DOMAIN), asked);
    ground.clock.set(seconds(2 * TTL));
    ground.of_domain().await;
    assert!(ground.server.asked(DOMAIN) > asked);
}
