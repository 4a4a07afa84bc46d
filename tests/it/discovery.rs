//! Recipients whose certificates no file has: found in the DNS, waited for, or refused (certificates.md section 3).

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use xdbridge::{
    app::{
        config::Config,
        pki::{Authority, Profile, days},
    },
    bridge::exchange::{Reason, RecipientState},
    flows::ports::Clock,
    formats::{audit::AuditKind, smime::SigningIdentity, xdr::response::Status},
};

use crate::support::{
    bridge::{
        ELM, RUI, TestBridge, UNKNOWN, as_tls, assert_plain_success, entries, now, pki, runtime,
    },
    dns_server::{DnsServer, Zone},
    keys,
    mailbox::{opened, received},
    request::TestRequest,
    scripted_smtp::ScriptedSmtp,
    store::StandingClock,
    wait_until,
};

/// The domain of [`UNKNOWN`], whom no file has.
const DOMAIN: &str = "direct.fjord.example";
const ADDRESS: &str = "omar.haddad.direct.fjord.example";
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

struct Ground {
    dns: DnsServer,
    bridge: TestBridge,
    hop: ScriptedSmtp,
    clock: Arc<StandingClock>,
}

impl Ground {
    fn start(zone: Zone) -> Self {
        Self::start_with(zone, |_| {})
    }

    fn start_with(zone: Zone, change: impl FnOnce(&mut Config)) -> Self {
        let runtime = runtime();
        let dns = runtime.block_on(DnsServer::start(zone));
        let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
        let hop = runtime.block_on(builder.start());
        let next_hops = [
            (DOMAIN, hop.address()),
            ("direct.harbor.example", hop.address()),
        ];
        let clock = StandingClock::at(now());
        let bridge = TestBridge::start_with(runtime, &next_hops, clock.clone(), |config| {
            config.discovery.dns = true;
            config.dns.servers = vec![dns.address];
            // Nobody's answer comes too late on a slow machine.
            config.delivery.accept_lookup = Duration::from_secs(60);
            config.delivery.background_lookup = Duration::from_secs(60);
            config.discovery.dns_timeout = Duration::from_secs(60);
            change(config);
        });
        Self {
            dns,
            bridge,
            hop,
            clock,
        }
    }

    fn advance(&self, minutes: i64) {
        let at = self.clock.now() + SignedDuration::from_mins(minutes);
        self.clock.set(at);
        self.bridge.store().due_changed().notify_one();
    }

    /// Where the audit says that the certificate of `address` was found.
    fn origins(&self, address: &str) -> Vec<String> {
        let records = self.bridge.audit_of(AuditKind::Recipient);
        let of_address = records.iter().filter(|record| {
            let detail = |name: &str| record.details.get(name).map(String::as_str);
            detail("recipient") == Some(address)
        });
        let origins = of_address.filter_map(|record| record.details.get("origin"));
        origins.cloned().collect()
    }

    fn assert_delivered_to(&self, address: &str, identity: &SigningIdentity) {
        wait_until("the mail is handed over", || {
            !received(&self.hop).is_empty()
        });
        let mails = received(&self.hop);
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].recipients, [address]);
        assert_eq!(opened(&mails[0].message, identity).to, [address]);
    }
}

fn domain_profile() -> Profile {
    Profile::domain(&DOMAIN.parse().unwrap(), now())
}

fn address_profile() -> Profile {
    Profile::address(&UNKNOWN.parse().unwrap(), now())
}

fn der(identity: &SigningIdentity) -> Vec<u8> {
    identity.certificate.to_der().unwrap()
}

fn by_our_ca(profile: &Profile) -> SigningIdentity {
    keys::issue(&pki().authority, profile)
}

fn expired(mut profile: Profile) -> Profile {
    profile.not_before = days(now(), -30);
    profile.not_after = days(now(), -1);
    profile
}

// rule: DISC-1, DNS-3, BIND-2
#[test]
fn a_recipient_that_no_file_has_is_found_in_the_dns_and_the_audit_says_where() {
    let of_domain = by_our_ca(&domain_profile());
    let of_address = by_our_ca(&address_profile());
    let zone = Zone::default().cert(DOMAIN, &der(&of_domain));
    let ground = Ground::start(zone.clone());
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    ground.assert_delivered_to(UNKNOWN, &of_domain);
    assert_eq!(ground.origins(UNKNOWN), [format!("dns {DOMAIN}")]);

    // What is published for the address goes before, and the domain is not even asked for.
    let ground = Ground::start(zone.cert(ADDRESS, &der(&of_address)));
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    ground.assert_delivered_to(UNKNOWN, &of_address);
    assert_eq!(ground.origins(UNKNOWN), [format!("dns {ADDRESS}")]);
    assert_eq!(ground.dns.asked(DOMAIN), 0);
    let measures = ground.bridge.measures();
    for line in [
        "xdbridge_certificate_searches_total{result=\"found\"} ",
        "xdbridge_cert_queries_total{name=\"address\",answer=\"certificates\",from=\"servers\"} ",
        "xdbridge_cert_queries_total{name=\"address\",answer=\"none\",from=\"servers\"} ",
    ] {
        assert!(measures.contains(line), "{line}");
    }
}

// rule: DISC-1, DNS-7, T-3
#[test]
fn what_does_not_serve_gives_way_to_the_good_one_beside_it_and_to_that_of_the_domain() {
    let other = Authority::root("Other CA", now()).unwrap();
    let rogue = keys::issue(&other, &address_profile());
    let late = by_our_ca(&expired(address_profile()));
    let good = by_our_ca(&domain_profile());
    let bad = Zone::default()
        .cert(ADDRESS, &der(&rogue))
        .cert(ADDRESS, &der(&late))
        .cert(ADDRESS, b"\x30\x03garbage");
    let of_address = by_our_ca(&address_profile());
    let beside = bad.clone().cert(ADDRESS, &der(&of_address));
    let ground = Ground::start(beside);
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    ground.assert_delivered_to(UNKNOWN, &of_address);

    let ground = Ground::start(bad.clone().cert(DOMAIN, &der(&good)));
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    ground.assert_delivered_to(UNKNOWN, &good);

    // Nothing else is there: the token weighs all that was found.
    let ground = Ground::start(bad);
    let response = ground
        .bridge
        .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom());
    assert_eq!(response.status, Status::Failure);
    assert_eq!(entries(&response)[0].2, "untrusted");
    assert!(ground.hop.transcripts().is_empty());
}

// rule: DISC-3
#[test]
fn who_is_not_there_for_sure_is_refused_at_once() {
    let ground = Ground::start(Zone::default().empty(DOMAIN));
    let response = ground
        .bridge
        .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom());
    assert_eq!(response.status, Status::Failure);
    assert_eq!(entries(&response)[0].2, "noCertificate");
    assert!(ground.dns.asked(ADDRESS) > 0 && ground.dns.asked(DOMAIN) > 0);
    ground.bridge.assert_nothing_stored();
}

// rule: DISC-3, DISC-5
#[test]
fn a_recipient_waits_for_servers_that_fail_and_is_served_once_they_answer() {
    let good = by_our_ca(&domain_profile());
    let ground = Ground::start(Zone::default().fails(ADDRESS).fails(DOMAIN));
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    let waiting = || {
        let recipient = ground.bridge.recipient(UNKNOWN);
        assert_eq!(recipient.state, RecipientState::Queued);
        assert_eq!(recipient.reason, Some(Reason::NoCertificate));
        assert_eq!(recipient.outcome, None);
    };
    waiting();
    // Another attempt in vain; the next one comes later.
    let is_due_later = || {
        let now = ground.clock.now();
        ground.bridge.next_due().is_some_and(|due| now < due)
    };
    wait_until("another attempt is due", is_due_later);
    let asked = ground.dns.asked(DOMAIN);
    ground.advance(5);
    wait_until("it was asked again", || ground.dns.asked(DOMAIN) > asked);
    wait_until("another attempt is due", is_due_later);
    waiting();

    ground
        .dns
        .replace(Zone::default().cert(DOMAIN, &der(&good)));
    ground.advance(5);
    ground.assert_delivered_to(UNKNOWN, &good);
    assert_eq!(ground.origins(UNKNOWN), [format!("dns {DOMAIN}")]);
}

// rule: DISC-3, DISC-5
#[test]
fn when_no_server_has_answered_in_time_the_recipient_is_told_as_failed() {
    let ground = Ground::start(Zone::default().fails(ADDRESS).fails(DOMAIN));
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    // Past timers.queue_lifetime, and before any notice could be missed.
    ground.advance(55);
    wait_until("the recipient is settled", || {
        ground.bridge.recipient(UNKNOWN).outcome.is_some()
    });
    let outcome = ground.bridge.recipient(UNKNOWN).outcome.unwrap();
    assert_eq!(outcome.failure, Some(Reason::NoCertificate));
}

// rule: DISC-4, MR-5
#[test]
fn files_go_before_the_dns() {
    let published = keys::issue(
        &pki().authority,
        &Profile::address(&RUI.parse().unwrap(), now()),
    );
    let zone = Zone::default().cert("rui.silva.direct.harbor.example", &der(&published));
    let ground = Ground::start(zone);
    assert_plain_success(&ground.bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom()));
    ground.assert_delivered_to(RUI, &pki().harbor);
    assert_eq!(ground.dns.asked("rui.silva.direct.harbor.example"), 0);
}

// rule: DISC-5
#[test]
fn a_domain_whose_name_servers_are_silent_keeps_nobody_else_waiting() {
    // More than the workers have places for work of their own.
    let names: Vec<String> = (0..90).map(|n| format!("n{n}@{DOMAIN}")).collect();
    let mut zone = Zone::default().silent(DOMAIN);
    for number in 0..90 {
        zone = zone.silent(&format!("n{number}.{DOMAIN}"));
    }
    let ground = Ground::start_with(zone, |config| {
        config.delivery.accept_lookup = Duration::from_millis(100);
        config.delivery.background_lookup = NEVER;
        config.discovery.dns_timeout = NEVER;
    });
    let addresses: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &addresses).mtom()),
    );
    let asked = || {
        (0..90)
            .map(|n| ground.dns.asked(&format!("n{n}.{DOMAIN}")))
            .sum::<usize>()
    };
    let at_accept = asked();
    ground.advance(5);
    wait_until("look-ups are under way", || asked() > at_accept);

    assert_plain_success(&ground.bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom()));
    ground.assert_delivered_to(RUI, &pki().harbor);
    let waiting = |exchange: &xdbridge::bridge::exchange::Exchange| {
        let recipients = exchange.recipients.iter();
        recipients
            .filter(|recipient| recipient.outcome.is_none())
            .count()
    };
    let silent = &ground.bridge.exchanges()[0];
    assert_eq!(waiting(silent), 90);
}
