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
    ldap_server::{Conduct, LdapServer},
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

/// Domains whose name servers are silent, with some addresses in each: together more than the outbox has room for where
/// there are two workers.
const SILENT_DOMAINS: usize = 12;
const IN_EACH: usize = 4;

fn silent_address(domain: usize, number: usize) -> String {
    format!("n{number}@direct.silent{domain}.example")
}

fn silent(mut zone: Zone) -> Zone {
    for domain in 0..SILENT_DOMAINS {
        zone = zone.silent(&format!("direct.silent{domain}.example"));
        for number in 0..IN_EACH {
            zone = zone.silent(&silent_address(domain, number).replace('@', "."));
        }
    }
    zone
}

// rule: DISC-5
#[test]
fn domains_whose_name_servers_are_silent_keep_nobody_else_waiting() {
    let good = by_our_ca(&domain_profile());
    let failing = silent(Zone::default().fails(ADDRESS).fails(DOMAIN));
    let ground = Ground::start_with(failing, |config| {
        config.delivery.workers = 2;
        config.delivery.accept_lookup = Duration::from_millis(100);
        config.delivery.background_lookup = NEVER;
        config.discovery.dns_timeout = NEVER;
    });
    let names = (0..SILENT_DOMAINS)
        .flat_map(|domain| (0..IN_EACH).map(move |number| silent_address(domain, number)));
    let names: Vec<String> = names.collect();
    let addresses: Vec<&str> = names.iter().map(String::as_str).collect();
    let accepted = |request: TestRequest| {
        assert_plain_success(&ground.bridge.submit(&request.mtom()));
    };
    accepted(TestRequest::new(ELM, &addresses));
    // One more who has to wait, of a domain that will answer.
    accepted(TestRequest::new(ELM, &[UNKNOWN]));
    let asked = || -> usize {
        let names = names.iter();
        names
            .map(|name| ground.dns.asked(&name.replace('@', ".")))
            .sum()
    };
    let at_accept = asked();
    ground
        .dns
        .replace(silent(Zone::default().cert(DOMAIN, &der(&good))));
    ground.advance(5);
    wait_until("look-ups are under way", || asked() > at_accept);

    // Neither who is looked up in the background nor who is found at once waits for them.
    ground.assert_delivered_to(UNKNOWN, &good);
    accepted(TestRequest::new(ELM, &[RUI]));
    wait_until("the other mail is handed over", || {
        received(&ground.hop).len() == 2
    });
    assert_eq!(received(&ground.hop)[1].recipients, [RUI]);
    let exchanges = ground.bridge.exchanges();
    let recipients = exchanges.iter().flat_map(|exchange| &exchange.recipients);
    let waiting = recipients.filter(|recipient| recipient.outcome.is_none());
    let silent = waiting.filter(|recipient| recipient.address.to_string().contains("silent"));
    assert_eq!(silent.count(), SILENT_DOMAINS * IN_EACH);
}

// rule: LDAP-1, LDAP-6, DISC-1, OB-S1
#[test]
fn a_recipient_that_the_dns_does_not_have_is_found_by_ldap_and_the_audit_says_where() {
    let of_address = by_our_ca(&address_profile());
    let of_runtime = runtime();
    let served = vec![(UNKNOWN.to_owned(), der(&of_address))];
    let directory = of_runtime.block_on(LdapServer::start(Conduct::Serves(served)));
    let zone = Zone::default()
        .ldap(DOMAIN, 0, directory.port(), "ldap.fjord.example")
        .a("ldap.fjord.example", "127.0.0.1");
    let ground = Ground::start_with(zone, by_ldap);
    assert_plain_success(
        &ground
            .bridge
            .submit(&TestRequest::new(ELM, &[UNKNOWN]).mtom()),
    );
    ground.assert_delivered_to(UNKNOWN, &of_address);
    let origin = format!(
        "ldap ldap.fjord.example:{} (mail={UNKNOWN})",
        directory.port()
    );
    assert_eq!(ground.origins(UNKNOWN), [origin]);
    let measures = ground.bridge.measures();
    let line =
        "xdbridge_ldap_queries_total{name=\"address\",answer=\"certificates\",from=\"servers\"} ";
    assert!(measures.contains(line), "{line}");
}

fn by_ldap(config: &mut Config) {
    config.discovery.ldap = true;
    config.discovery.ldap_connect_timeout = Duration::from_secs(60);
    config.discovery.ldap_timeout = Duration::from_secs(60);
    config.discovery.ldap_permit = vec!["127.0.0.0/8".parse().unwrap()];
}

// rule: LDAP-2, DISC-3, DISC-5
#[test]
fn a_silent_ldap_server_makes_its_own_domains_recipients_wait_and_no_other() {
    let of_runtime = runtime();
    let directory = of_runtime.block_on(LdapServer::start(Conduct::Silent));
    let zone = |zone: Zone| {
        zone.ldap(DOMAIN, 0, directory.port(), "ldap.fjord.example")
            .a("ldap.fjord.example", "127.0.0.1")
    };
    let ground = Ground::start_with(zone(Zone::default()), |config| {
        by_ldap(config);
        config.discovery.ldap_timeout = NEVER;
        config.delivery.accept_lookup = Duration::from_secs(2);
        config.delivery.background_lookup = NEVER;
    });
    let submit = |to: &str| ground.bridge.submit(&TestRequest::new(ELM, &[to]).mtom());
    assert_plain_success(&submit(UNKNOWN));
    ground.advance(5);
    wait_until("the server is asked", || directory.connections() > 0);
    assert_plain_success(&submit(RUI));
    ground.assert_delivered_to(RUI, &pki().harbor);
    let exchanges = ground.bridge.exchanges();
    let waiting = &exchanges[0].recipients[0];
    assert_eq!(waiting.address.to_string(), UNKNOWN);
    assert_eq!(waiting.state, RecipientState::Queued);
    assert_eq!(waiting.outcome, None);
}
