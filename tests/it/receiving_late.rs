//! `receiving.rcpt_verify = "late"`: who is there is told to those who are trusted, and to nobody in the session.

use xdbridge::{
    adapters::certificates::DomainConfig,
    app::config::Config,
    bridge::exchange::{Exchange, Reason, RecipientState},
    flows::settings::RcptVerify,
    formats::{audit::AuditKind, notification::mdn::Disposition},
};

use crate::support::{
    bridge::{pki, write_identity},
    keys,
    receiving_ground::{ADA, ReceivingGround, SENDER, TEAM, letter, sealed, success, understood},
    wait_until,
};

/// Nobody's address.
const NOBODY: &str = "nobody@direct.elm.example";

/// A bridge where Ada alone is known.
fn where_ada_alone_is(change: impl FnOnce(&mut Config)) -> ReceivingGround {
    ReceivingGround::configured(
        |_| success(),
        |config| {
            config.endpoint[0].serves = vec![ADA.to_owned()];
            for partner in &mut config.partner {
                partner.send_as = vec!["x@direct.ash.example".to_owned()];
            }
            config.receiving.rcpt_verify = RcptVerify::Late;
            change(config);
        },
    )
}

// rule: RX-26, T-19
#[test]
fn every_address_of_a_served_domain_gets_the_same_replies() {
    let ground = where_ada_alone_is(|_| {});
    let plain = letter("l1@direct.harbor.example", &[ADA], "");
    let for_others = sealed(&plain, &[&pki().harbor], &pki().mei);
    for to in [ADA, NOBODY, TEAM, "o'hara+x@direct.elm.example"] {
        let reply = ground.send(SENDER, &[to], plain.as_bytes());
        assert!(reply.starts_with("550 5.7.1 S/MIME"), "{to}: {reply}");
        let reply = ground.send(SENDER, &[to], &for_others);
        assert!(reply.starts_with("550 5.7.5"), "{to}: {reply}");
    }
    let elsewhere = ["x@direct.quay.example"];
    let reply = ground.send(SENDER, &elsewhere, &for_others);
    assert!(reply.starts_with("550 5.7.1 relaying denied"), "{reply}");
    ground.bridge.assert_nothing_stored();

    // By default the session tells.
    let ground = where_ada_alone_is(|config| config.receiving.rcpt_verify = RcptVerify::Session);
    let reply = ground.send(SENDER, &[NOBODY], &for_others);
    assert!(reply.starts_with("550 5.1.1"), "{reply}");
}

// rule: RX-26, RT-2
#[test]
fn a_trusted_sender_is_told_of_the_address_that_nobody_has_and_the_others_are_served() {
    let ground = where_ada_alone_is(|_| {});
    let both = [NOBODY, ADA];
    let reply = ground.deliver(&letter("l2@direct.harbor.example", &both, ""), &both);
    assert!(reply.starts_with("250"), "{reply}");
    let exchange = ground.settled();
    let nobody = exchange.recipient(&NOBODY.parse().unwrap()).unwrap();
    let outcome = nobody.outcome.as_ref().unwrap();
    assert_eq!(outcome.failure, Some(Reason::UnknownRecipient));
    let posted = ground.posted();
    assert_eq!(posted.len(), 1);
    let block = understood(&posted[0]).0.address_block.unwrap();
    assert_eq!(block.to, [ADA.parse().unwrap()]);
    let notices = ground.notices(3);
    let failed: Vec<_> = notices
        .iter()
        .filter(|notice| notice.report.disposition == Some(Disposition::Failed))
        .collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].from, NOBODY);
    let text = String::from_utf8_lossy(&failed[0].entity);
    assert!(text.contains("Error: unknownRecipient: "), "{text}");
}

// rule: RX-26, DST-2
#[test]
fn a_sender_who_is_not_trusted_learns_nothing_of_either() {
    let ground = where_ada_alone_is(|_| {});
    for to in [ADA, NOBODY] {
        let letter = letter("l3@direct.harbor.example", &[to], "");
        let mail = sealed(&letter, &[&pki().mei], &pki().direct_elm);
        let reply = ground.send(SENDER, &[to], &mail);
        assert!(reply.starts_with("250"), "{to}: {reply}");
    }
    wait_until("both are looked at", || {
        let exchanges = ground.bridge.exchanges();
        exchanges.len() == 2 && exchanges.iter().all(Exchange::is_final)
    });
    for exchange in ground.bridge.exchanges() {
        assert_eq!(exchange.recipients[0].state, RecipientState::Rejected);
    }
    ground.assert_silence();
}

// rule: RX-26, MDN-28
#[test]
fn where_single_addresses_have_keys_a_mail_must_be_sealed_for_one_of_them_and_nobody_speaks_for_nobody()
 {
    let ada = {
        let now = crate::support::bridge::now();
        let profile = xdbridge::app::pki::Profile::address(&ADA.parse().unwrap(), now);
        keys::issue(&pki().authority, &profile)
    };
    let ground = where_ada_alone_is(|config| {
        let folder = config.soap.server.certificate.parent().unwrap().to_owned();
        let elm: &mut DomainConfig = &mut config.certificates.domains[0];
        assert_eq!(elm.name.as_str(), "direct.elm.example");
        elm.identities = vec![write_identity(&folder, "ada", &ada)];
    });
    let letter = letter("l4@direct.harbor.example", &[NOBODY], "");
    let reply = ground.send(
        SENDER,
        &[NOBODY],
        &sealed(&letter, &[&pki().harbor], &pki().direct_elm),
    );
    assert!(reply.starts_with("550 5.7.5"), "{reply}");
    let reply = ground.send(SENDER, &[NOBODY], &sealed(&letter, &[&pki().harbor], &ada));
    assert!(reply.starts_with("250"), "{reply}");
    let exchange = ground.settled();
    let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
    assert_eq!(outcome.failure, Some(Reason::UnknownRecipient));
    // No key signs for an address that nobody has: nothing is told, and nobody is woken for it.
    let before = ground.bridge.alarms("no_key");
    ground.assert_silence();
    assert_eq!(ground.bridge.alarms("no_key"), before);
    assert!(!ground.bridge.audit_of(AuditKind::MdnOut).is_empty());
}
