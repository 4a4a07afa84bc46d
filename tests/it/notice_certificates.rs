//! What a notice to the sender of a mail is sealed to, where no file has the sender's certificate (MDN-28).

use std::time::Duration;

use jiff::SignedDuration;
use xdbridge::{
    app::pki::{KeyPurpose, Profile},
    flows::ports::Clock,
    formats::audit::AuditKind,
};

use crate::support::{
    bridge::{now, pki, runtime},
    dns_server::{DnsServer, Zone},
    keys,
    receiving_ground::{
        ADA, FINAL_DELIVERY, ReceivingGround, SENDER, Setup, letter, sealed, success,
    },
    store::StandingClock,
    wait_until,
};

const DOMAIN: &str = "direct.harbor.example";

// rule: MDN-28, DISC-1, DISC-3, LOOP-2
#[test]
fn a_notice_waits_for_name_servers_that_fail_and_is_sealed_to_what_they_tell_then() {
    let of_dns = runtime();
    let address = SENDER.replace('@', ".");
    let failing = Zone::default().fails(&address).fails(DOMAIN);
    let dns = of_dns.block_on(DnsServer::start(failing));
    let servers = vec![dns.address];
    let clock = StandingClock::at(now());
    let setup = Setup {
        clock: clock.clone(),
        change: Box::new(move |config| {
            config.certificates.recipients.clear();
            config.discovery.dns = true;
            config.discovery.dns_timeout = Duration::from_secs(60);
            config.dns.servers = servers;
        }),
        ..Setup::default()
    };
    let ground = ReceivingGround::start_as(|_| success(), setup);
    // Nobody may encrypt to the certificate that comes with the mail.
    let signs_only = keys::issue(
        &pki().authority,
        &Profile {
            purpose: KeyPurpose::MailSigning,
            ..Profile::domain(&DOMAIN.parse().unwrap(), now())
        },
    );
    let letter = letter("waits@direct.harbor.example", &[ADA], FINAL_DELIVERY);
    let mail = sealed(&letter, &[&signs_only], &pki().direct_elm);
    let reply = ground.send(SENDER, &[ADA], &mail);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    wait_until("the domain's certificate was asked for", || {
        dns.asked(DOMAIN) > 0
    });
    assert!(
        ground.bridge.audit_of(AuditKind::MdnOut).is_empty(),
        "none is dropped"
    );

    let published = pki().harbor.certificate.to_der().unwrap();
    dns.replace(Zone::default().cert(DOMAIN, &published));
    let told = || ground.notices_now().len() == 2;
    wait_until("the sender is told", || {
        // What is further away is the lapse of a lease, or a deadline.
        let soon = clock.now() + SignedDuration::from_mins(30);
        if let Some(due) = ground.bridge.next_due().filter(|due| *due < soon) {
            clock.set(due.max(clock.now()));
            ground.bridge.store().due_changed().notify_one();
        }
        told()
    });
}
