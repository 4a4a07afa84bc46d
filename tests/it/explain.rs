//! `xdbridge explain`, as an operator runs it: against BIND for the discovery cases of DNS (certificates.md section 10),
//! and against a server that fails. What it says is what a message's recipient goes through.

use std::fs;

use xdbridge::{
    app::pki::{Authority, Name},
    formats::{ids::CertificateFingerprint, smime::SigningIdentity},
};

use crate::support::{
    asking::{Asking, address, anna, der, domain, expired, fixed, issue},
    bind::{Bind, ZONE, cert_line, raw_line},
    bridge::{now, pki, runtime},
    crl::crl_of,
    dns_server::{DnsServer, Zone},
    keys,
};

/// The records of a zone that is being written, by names without the zone's own.
#[derive(Default)]
struct Records(String);

impl Records {
    fn publish(&mut self, owner: &str, identity: &SigningIdentity) {
        self.0.push_str(&cert_line(owner, &der(identity)));
    }
}

// rule: DISC-1, DISC-2, DISC-3, DISC-9, DNS-1, DNS-3, DNS-6, DNS-7, BIND-2
#[test]
fn each_discovery_case_of_dns_ends_as_the_certificate_discovery_tool_wants_it() {
    let mut zone = Records::default();
    let of_address = |case: &str| issue(&address(&anna(case)));
    let of_domain = |case: &str| issue(&domain(&format!("{case}.{ZONE}")));
    let late_of_address = |case: &str| issue(&expired(address(&anna(case))));
    let late_of_domain = |case: &str| issue(&expired(domain(&format!("{case}.{ZONE}"))));

    // D1: the address's is valid, the domain's is not.
    let d1 = of_address("d1");
    zone.publish("anna.d1", &d1);
    zone.publish("d1", &late_of_domain("d1"));
    // D2: the domain's alone.
    let d2 = of_domain("d2");
    zone.publish("d2", &d2);
    // D5, D6: one that is not valid, alone.
    zone.publish("anna.d5", &late_of_address("d5"));
    zone.publish("d6", &late_of_domain("d6"));
    // D9: a valid one and one that is not in one RRset.
    let d9 = of_address("d9");
    zone.publish("anna.d9", &late_of_address("d9"));
    zone.publish("anna.d9", &d9);
    // D11: nothing. The domain exists.
    zone.0.push_str("d11 IN A 127.0.0.1\n");
    // D14: larger than any datagram that is asked for.
    let mut large = address(&anna("d14"));
    large
        .names
        .extend((0..40).map(|n| Name::Email(format!("alias-of-anna-number-{n}@d14.{ZONE}"))));
    let d14 = issue(&large);
    assert!(der(&d14).len() > 1_300);
    zone.publish("anna.d14", &d14);
    // D17: two that are revoked beside a good one; the domain's is bad, too.
    let d17 = of_address("d17");
    let revoked = [of_address("d17"), of_address("d17")];
    for one in revoked.iter().chain([&d17]) {
        zone.publish("anna.d17", one);
    }
    zone.publish("d17", &late_of_domain("d17"));

    let bind = Bind::serving(&zone.0);
    let mut asking = Asking::at(bind.address());
    let list = asking.folder.path().join("list.pem");
    let crl = revoked.iter().fold(crl_of(&pki().authority), |crl, one| {
        crl.revoking(&one.certificate)
    });
    fs::write(&list, crl.pem()).unwrap();
    asking.config.certificates.domains[0].crls = vec![list];

    let found_at = |name: &str| format!("dns {name}.{ZONE}");
    asking.assert_chosen(&anna("d1"), &d1, &found_at("anna.d1"));
    asking.assert_chosen(&anna("d2"), &d2, &found_at("d2"));
    asking.assert_refused(&anna("d5"), "noCertificate", "validity: expired (CERT-11)");
    asking.assert_refused(&anna("d6"), "noCertificate", "validity: expired (CERT-11)");
    asking.assert_chosen(&anna("d9"), &d9, &found_at("anna.d9"));
    asking.assert_refused(&anna("d11"), "noCertificate", "no source has a certificate");
    asking.assert_chosen(&anna("d14"), &d14, &found_at("anna.d14"));
    asking.assert_chosen(&anna("d17"), &d17, &found_at("anna.d17"));
    let (told, _) = asking.told(&anna("d17"));
    let certificates = told["asked"][1]["certificates"].as_array().unwrap();
    let fell = certificates.iter().filter(|one| {
        one["failed"]["reason"] == "the certificate itself is revoked by CRL (REV-5)"
    });
    assert_eq!((certificates.len(), fell.count()), (3, 2), "{told:#}");
}

// rule: DNS-2, DNS-4, DNS-7, DNS-9, BIND-3, CERT-2, CERT-5, T-3
#[test]
fn what_a_zone_may_hold_besides_is_used_or_refused_for_what_it_is() {
    let mut zone = Records::default();
    let rogue = keys::issue(
        &Authority::root("Other CA", now()).unwrap(),
        &address(&anna("rogue")),
    );
    zone.publish("anna.rogue", &rogue);
    // Somebody else's certificate under her name.
    zone.publish(
        "anna.other",
        &issue(&address(&format!("bert@other.{ZONE}"))),
    );
    // A CA's own certificate, as material for paths.
    let intermediate = pki()
        .authority
        .intermediate("Harbor CA", now(), &[])
        .unwrap();
    zone.0.push_str(&cert_line(
        "ca",
        &intermediate.certificate.to_der().unwrap(),
    ));
    // One record for everybody.
    let everybody = issue(&domain(&format!("wild.{ZONE}")));
    zone.publish("*.wild", &everybody);
    zone.publish("wild", &everybody);
    // An alias, to a name of the same zone.
    let alias = issue(&address(&anna("alias")));
    zone.publish("hosted", &alias);
    zone.0.push_str("anna.alias IN CNAME hosted\n");
    // Garbage of any length that a zone file can hold, other types, and the good one.
    let good = issue(&address(&anna("heap")));
    zone.publish("anna.heap", &good);
    for length in [1, 2, 3, 90] {
        zone.0.push_str(&raw_line(
            "anna.heap",
            &[&[0, 1, 0, 0, 0][..], &vec![0x30; length]].concat(),
        ));
    }
    zone.0.push_str("anna.heap IN CERT PGP 0 0 mQ==\n");
    zone.0
        .push_str("anna.heap IN CERT IPKIX 0 0 aHR0cDovL2E=\n");

    let bind = Bind::serving(&zone.0);
    let asking = Asking::at(bind.address());
    let found_at = |name: &str| format!("dns {name}.{ZONE}");
    let no_path = "path: no path leads to a valid configured trust anchor (TA-4, TA-11)";
    asking.assert_refused(&anna("rogue"), "untrusted", no_path);
    asking.assert_refused(
        &anna("other"),
        "noCertificate",
        "binding: not bound to the address",
    );
    asking.assert_refused(
        &anna("ca"),
        "noCertificate",
        "end-entity: a CA's certificate",
    );
    asking.assert_chosen(&anna("wild"), &everybody, &found_at("anna.wild"));
    asking.assert_chosen(&anna("alias"), &alias, &found_at("anna.alias"));
    asking.assert_chosen(&anna("heap"), &good, &found_at("anna.heap"));
    let (told, _) = asking.told(&anna("heap"));
    assert_eq!(
        told["asked"][1]["steps"][0]["answer"],
        "5 certificates; skipped: 1 of type PGP (no X.509 certificate), 1 of type IPKIX (a URL, which is not followed)"
    );
    assert!(!bind.log().is_empty());
}

// rule: DISC-3, DISC-4, MR-5
#[test]
fn a_server_that_fails_leaves_it_open_and_files_and_our_own_keys_ask_nobody() {
    let runtime = runtime();
    let zone = Zone::default()
        .fails("anna.fails.hisp.example")
        .fails("fails.hisp.example");
    let server = runtime.block_on(DnsServer::start(zone));
    let mut asking = Asking::at(server.address);
    let (told, is_served) = asking.told(&anna("fails"));
    assert!(!is_served);
    assert_eq!(told["refusal"]["reason"], "noCertificate");
    assert_eq!(told["refusal"]["may_pass"], true);
    assert_eq!(told["refusal"]["decided_by"], "a source did not answer");

    let by_hand = issue(&address(&anna("pinned")));
    let file = asking.folder.path().join("pinned.pem");
    fs::write(&file, by_hand.certificate.to_pem().unwrap()).unwrap();
    asking.config.certificates.recipients = vec![file.clone()];
    let origin = format!("file {}", file.display());
    asking.assert_chosen(&anna("pinned"), &by_hand, &origin);
    assert_eq!(server.asked("anna.pinned.hisp.example"), 0);

    let own = "own certificate of direct.elm.example";
    asking.assert_chosen("ada@direct.elm.example", &pki().direct_elm, own);
    assert_eq!(server.asked("ada.direct.elm.example"), 0);

    // Switched off, nobody is asked at all.
    asking.config.discovery.dns = false;
    asking.config.discovery.ldap = false;
    asking.assert_refused(&anna("off"), "noCertificate", "no source has a certificate");
    for name in ["anna.off.hisp.example", "_ldap._tcp.off.hisp.example"] {
        assert_eq!(server.asked(name), 0);
    }
}

#[test]
fn it_refuses_what_it_cannot_answer() {
    let asking = Asking::at(([127, 0, 0, 1], 9).into());
    for arguments in [
        &["anna"][..],
        &["anna@d1.hisp.example", "--from", "direct.fjord.example"],
    ] {
        let output = asking.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

// rule: DISC-9
#[test]
fn people_are_told_each_question_each_certificate_each_check_and_the_end() {
    let of_address = issue(&expired(address(&anna("told"))));
    let of_domain = issue(&domain(&format!("told.{ZONE}")));
    let rogue = keys::issue(
        &Authority::root("Other CA", now()).unwrap(),
        &domain(&format!("rogue.{ZONE}")),
    );
    let zone = Zone::default()
        .cert("anna.told.hisp.example", &der(&of_address))
        .cert("told.hisp.example", &der(&of_domain))
        .cert("rogue.hisp.example", &der(&rogue))
        .cert_rdata("rogue.hisp.example", vec![0, 4, 0, 0, 0, b'h'])
        .cert("rogue.hisp.example", b"\x30\x00");
    let runtime = runtime();
    let server = runtime.block_on(DnsServer::start(zone));
    let asking = Asking::at(server.address);
    let ca = ("the CA", &pki().authority.certificate);
    // Certificates of one second may begin alike: each text knows its own alone.
    let named = [
        ("the address's", &of_address.certificate),
        ("the domain's", &of_domain.certificate),
        ca,
    ];
    assert_eq!(
        fixed(&asking.text(&anna("told")), &named),
        "anna@told.hisp.example at <now>\n\
         \n\
         For mail from direct.elm.example:\n\
         ? certificate files\n  no certificate\n\
         ? DNS CERT anna.told.hisp.example.\n  1 certificate\n  \
           certificate 1 from dns anna.told.hisp.example\n    \
             SHA-256   <SHA-256 of the address's>\n    \
             subject   CN=anna@told.hisp.example\n    \
             issuer    CN=Test CA\n    \
             serial    <serial of the address's>\n    \
             valid     <start of the address's> to <end of the address's>\n    \
             names     rfc822Name anna@told.hisp.example\n    \
             passed    readable, end-entity\n    \
             FAILED    validity: expired (CERT-11)\n\
         ? DNS CERT told.hisp.example.\n  1 certificate\n  \
           certificate 2 from dns told.hisp.example\n    \
             SHA-256   <SHA-256 of the domain's>\n    \
             subject   CN=told.hisp.example\n    \
             issuer    CN=Test CA\n    \
             serial    <serial of the domain's>\n    \
             valid     <start of the domain's> to <end of the domain's>\n    \
             names     dNSName told.hisp.example\n    \
             passed    readable, end-entity, validity, binding (domain), usage, strength, path, revocation, demands\n    \
             CHOSEN\n\
         = <SHA-256 of the domain's> from dns told.hisp.example\n  \
           bound by domain\n  \
           path      itself  <SHA-256 of the domain's> CN=told.hisp.example\n  \
           path      anchor  <SHA-256 of the CA> CN=Test CA\n"
    );
    let garbage = CertificateFingerprint::of_der(b"\x30\x00").to_string();
    assert_eq!(
        fixed(
            &asking.text(&anna("rogue")),
            &[("the rogue", &rogue.certificate), ca]
        ),
        format!(
            "anna@rogue.hisp.example at <now>\n\
             \n\
             For mail from direct.elm.example:\n\
             ? certificate files\n  no certificate\n\
             ? DNS CERT anna.rogue.hisp.example.\n  NXDOMAIN: no such name\n\
             ? DNS CERT rogue.hisp.example.\n  \
               2 certificates; skipped: 1 of type IPKIX (a URL, which is not followed)\n  \
               certificate 1 from dns rogue.hisp.example\n    \
                 SHA-256   {garbage}\n    \
                 2 octets, no certificate\n    \
                 FAILED    readable: not a readable X.509 certificate in DER form (CERT-1)\n  \
               certificate 2 from dns rogue.hisp.example\n    \
                 SHA-256   <SHA-256 of the rogue>\n    \
                 subject   CN=rogue.hisp.example\n    \
                 issuer    CN=Other CA\n    \
                 serial    <serial of the rogue>\n    \
                 valid     <start of the rogue> to <end of the rogue>\n    \
                 names     dNSName rogue.hisp.example\n    \
                 passed    readable, end-entity, validity, binding (domain), usage, strength\n    \
                 FAILED    path: no path leads to a valid configured trust anchor (TA-4, TA-11)\n\
             ? DNS SRV _ldap._tcp.rogue.hisp.example.\n  NXDOMAIN: no such name\n\
             ? DNS SRV _ldap._tcp.rogue.hisp.example.\n  NXDOMAIN: no such name (from the cache)\n\
             = untrusted: {}\n  \
               decided by dns rogue.hisp.example <SHA-256 of the rogue>: path: no path leads to a valid configured trust anchor (TA-4, TA-11)\n",
            xdbridge::bridge::exchange::Reason::Untrusted.sentence()
        )
    );
}

// rule: DNS-5, DNS-9, OB-R5, DISC-1
#[test]
fn what_cert_zone_prints_serves_whoever_looks_for_our_addresses() {
    // H1, H2: one address with a certificate of its own, and the domain's for everybody else.
    let quay = format!("quay.{ZONE}");
    let odd = format!("o'hara+mail.x@{quay}");
    let (of_address, of_domain) = (issue(&address(&odd)), issue(&domain(&quay)));
    let gone = issue(&expired(domain(&quay)));
    let mut signs = domain(&quay);
    signs.purpose = xdbridge::app::pki::KeyPurpose::MailSigning;
    let signs = issue(&signs);

    let nobody = ([127, 0, 0, 1], 9).into();
    let own = Asking::at(nobody).owning(
        &quay,
        &[
            ("address", &of_address),
            ("domain", &of_domain),
            ("gone", &gone),
            ("signs", &signs),
        ],
    );
    let records = own.cert(&["zone"]);
    assert_eq!(records.matches(" IN CERT PKIX ").count(), 2, "{records}");
    for why in ["it has expired", "nobody may encrypt to it"] {
        assert!(
            records.contains(&format!("; not published: {why}\n")),
            "{records}"
        );
    }

    let bind = Bind::serving(&records);
    let asking = Asking::at(bind.address());
    let origin = format!("dns o'hara+mail.x.{quay}");
    asking.assert_chosen(&odd, &of_address, &origin);
    asking.assert_chosen(&format!("anna@{quay}"), &of_domain, &format!("dns {quay}"));
}
