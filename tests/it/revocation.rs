//! Revocation lists from files: who is revoked is never used, in either direction, whatever else holds (certificates.md
//! section 7).

use std::{fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use openssl::{
    hash::MessageDigest,
    sign::Signer,
    x509::{
        X509,
        extension::{BasicConstraints, KeyUsage, SubjectKeyIdentifier},
    },
};
use xdbridge::{
    app::pki::Authority,
    bridge::{
        exchange::{Reason, RecipientState},
        own_domain::OwnDomain,
        trust::{
            self, CertificateCandidate, Demands, Doubt, Purpose, RecentJudgements, Revocation,
            TrustAnchors, WhenUnknown,
        },
    },
    formats::{
        audit::AuditKind,
        smime::{
            SigningIdentity,
            crl::{Crl, CrlFault},
        },
        xdr::response::Status,
    },
};

use crate::support::{
    bridge::{ELM, MEI, RUI, TestBridge, as_tls, assert_plain_success, entries, now, pki, runtime},
    crl::{by_lists_in, crl_of, mei_of, nobody_revoked, place, put},
    folder::TestFolder,
    mailbox::received,
    notices_ground::{Notice, NoticesGround, WITH_EXTENSION},
    openssl_peer::{OpensslPeer, wrapped},
    receiving_ground::{ADA, LETTER, ReceivingGround, SENDER, letter, sealed, success},
    request::TestRequest,
    scripted_smtp::{Act, ScriptedSmtp},
    store::StandingClock,
    wait_until,
};

/// A domain that trusts `root` and goes by these lists.
fn domain(root: &Authority, ders: &[Vec<u8>], when_unknown: WhenUnknown) -> OwnDomain {
    let crls = ders.iter().map(|der| Arc::new(Crl::from_der(der).unwrap()));
    OwnDomain {
        name: "direct.elm.example".parse().unwrap(),
        identities: Vec::new(),
        anchors: TrustAnchors::new([root.certificate.clone()]),
        intermediates: Vec::new(),
        allow_legacy: Vec::new(),
        revocation: Revocation {
            crls: crls.collect(),
            when_unknown,
        },
        demands: Demands::default(),
        fetched: None,
        judged: RecentJudgements::default(),
    }
}

/// The verdict about Mei's certificate: its token, and the fault in words.
fn verdict(own: &OwnDomain, mei: &SigningIdentity) -> Result<(), (Reason, String)> {
    let candidates = [CertificateCandidate {
        der: mei.certificate.to_der().unwrap(),
        origin: "test".to_owned(),
    }];
    let terms = own.terms(&mei.intermediates);
    let address = MEI.parse().unwrap();
    let judged = trust::judge(&candidates, &address, Purpose::Encrypt, &terms, now());
    let fault = judged.verdicts[0].fault.as_ref();
    match judged.refusal {
        None => Ok(()),
        Some(refusal) => {
            // What time may mend is only what no list tells of.
            let words = fault.unwrap().to_string();
            assert_eq!(refusal.is_temporary, words.contains("is not known"));
            Err((refusal.reason, words))
        }
    }
}

fn assert_revoked(own: &OwnDomain, mei: &SigningIdentity) {
    let (token, words) = verdict(own, mei).unwrap_err();
    assert_eq!(token, Reason::CertificateRevoked);
    assert!(words.contains("is revoked by CRL (REV-5)"), "{words}");
}

// rule: REV-1, REV-2, REV-5
#[test]
fn a_revoked_certificate_or_ca_is_refused_whatever_its_reason() {
    let root = Authority::root("root", now()).unwrap();
    let issuing = root.intermediate("issuing", now(), &[]).unwrap();
    let (direct, below) = (mei_of(&root), mei_of(&issuing));
    let soft = |ders: &[Vec<u8>]| domain(&root, ders, WhenUnknown::Soft);
    assert_eq!(verdict(&soft(&[crl_of(&root).der()]), &direct), Ok(()));
    for reason in ["keyCompromise", "certificateHold", "superseded"] {
        let listed = crl_of(&root).with_reason(&direct.certificate, reason).der();
        assert_revoked(&soft(&[listed]), &direct);
    }
    // Taken off a list again: RFC 5280 6.3.3 k.
    let removed = crl_of(&root).with_reason(&direct.certificate, "removeFromCRL");
    assert_eq!(verdict(&soft(&[removed.der()]), &direct), Ok(()));
    // The CA between, revoked by the root.
    let of_root = crl_of(&root).revoking(&issuing.certificate).der();
    assert_revoked(&soft(&[of_root, crl_of(&issuing).der()]), &below);
    // And a leaf of that CA, by the CA's list beside that of the root.
    let of_issuing = crl_of(&issuing).revoking(&below.certificate).der();
    assert_revoked(&soft(&[crl_of(&root).der(), of_issuing]), &below);
}

// rule: REV-2
#[test]
fn a_list_counts_only_by_its_issuers_key_and_only_the_newest_in_force() {
    let root = Authority::root("root", now()).unwrap();
    let namesake = Authority::root("root", now()).unwrap();
    let mei = mei_of(&root);
    let forged = crl_of(&namesake).revoking(&mei.certificate).der();
    let soft = |ders: &[Vec<u8>]| verdict(&domain(&root, ders, WhenUnknown::Soft), &mei);
    assert_eq!(soft(std::slice::from_ref(&forged)), Ok(()));
    // Nor does a namesake's list, though newer, hide that of the issuer.
    let listed = crl_of(&root).revoking(&mei.certificate).hours(-2, 24).der();
    let clean = crl_of(&namesake).der();
    for ders in [[listed.clone(), clean.clone()], [clean, listed.clone()]] {
        assert_revoked(&domain(&root, &ders, WhenUnknown::Soft), &mei);
    }
    // Of two of the same second, the one that revokes counts.
    let clean = crl_of(&root).der();
    let listing = crl_of(&root).revoking(&mei.certificate).der();
    for ders in [[clean.clone(), listing.clone()], [listing, clean]] {
        assert_revoked(&domain(&root, &ders, WhenUnknown::Soft), &mei);
    }
    // Off hold on a newer list; one of the future is not in force.
    let newer = crl_of(&root).der();
    assert_eq!(soft(&[listed.clone(), newer.clone()]), Ok(()));
    let coming = crl_of(&root).revoking(&mei.certificate).hours(2, 24).der();
    assert_eq!(soft(&[newer, coming]), Ok(()));
    // The namesake's list tells nothing under hard either, and a torn signature is none.
    let hard = domain(&root, &[forged], WhenUnknown::Hard);
    assert_eq!(verdict(&hard, &mei).unwrap_err().0, Reason::Untrusted);
    let mut torn = listed;
    *torn.last_mut().unwrap() ^= 1;
    assert_eq!(soft(&[torn]), Ok(()));
}

// rule: REV-4
#[test]
fn a_stale_list_is_tolerated_when_soft_and_not_when_hard_and_still_revokes() {
    let root = Authority::root("root", now()).unwrap();
    let (mei, other) = (mei_of(&root), mei_of(&root));
    let stale = crl_of(&root)
        .revoking(&other.certificate)
        .hours(-50, -1)
        .der();
    let of = |when_unknown| domain(&root, std::slice::from_ref(&stale), when_unknown);
    assert_eq!(verdict(&of(WhenUnknown::Soft), &mei), Ok(()));
    let (token, words) = verdict(&of(WhenUnknown::Hard), &mei).unwrap_err();
    assert_eq!(token, Reason::Untrusted);
    assert!(words.contains("past its nextUpdate"), "{words}");
    assert_revoked(&of(WhenUnknown::Soft), &other);
    assert_revoked(&of(WhenUnknown::Hard), &other);
    let none = domain(&root, &[], WhenUnknown::Hard);
    let (_, words) = verdict(&none, &mei).unwrap_err();
    assert!(words.contains("no CRL of its issuer"), "{words}");
    let fresh = domain(&root, &[crl_of(&root).der()], WhenUnknown::Hard);
    assert_eq!(verdict(&fresh, &mei), Ok(()));
}

// rule: REV-2
#[test]
fn a_ca_that_may_not_sign_lists_revokes_nobody() {
    let root = Authority::root("root", now()).unwrap();
    let mut without = root.clone();
    without.certificate = with_usage(&root, KeyUsage::new().key_cert_sign());
    let mut with = root.clone();
    with.certificate = with_usage(&root, KeyUsage::new().key_cert_sign().crl_sign());
    let mei = mei_of(&without);
    let listed = crl_of(&without).revoking(&mei.certificate).der();
    let of = |root: &Authority| domain(root, std::slice::from_ref(&listed), WhenUnknown::Soft);
    assert_eq!(verdict(&of(&without), &mei), Ok(()));
    // The same key and name, and the bit.
    assert_revoked(&of(&with), &mei);
}

/// The CA's certificate with another keyUsage.
fn with_usage(root: &Authority, usage: &KeyUsage) -> X509 {
    let old = &root.certificate;
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(old.subject_name()).unwrap();
    builder.set_issuer_name(old.subject_name()).unwrap();
    builder.set_serial_number(old.serial_number()).unwrap();
    builder.set_not_before(old.not_before()).unwrap();
    builder.set_not_after(old.not_after()).unwrap();
    builder.set_pubkey(&root.key).unwrap();
    let ca = BasicConstraints::new().critical().ca().build().unwrap();
    builder.append_extension(ca).unwrap();
    builder.append_extension(usage.build().unwrap()).unwrap();
    let key_id = SubjectKeyIdentifier::new();
    let key_id = key_id.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(key_id).unwrap();
    builder.sign(&root.key, MessageDigest::sha256()).unwrap();
    builder.build()
}

// rule: REV-2
#[test]
fn lists_of_a_kind_that_is_not_used_are_told_from_broken_ones() {
    let root = Authority::root("root", now()).unwrap();
    let fault = |line: &str| Crl::from_der(&crl_of(&root).extension(line).der()).err();
    let point = |octets: &str| fault(&format!("2.5.29.28 = critical,DER:{octets}"));
    assert_eq!(
        fault("2.5.29.27 = critical,DER:020101"),
        Some(CrlFault::Delta)
    );
    assert_eq!(point("30038401FF"), Some(CrlFault::Indirect));
    assert_eq!(point("300483020780"), Some(CrlFault::Partition));
    assert_eq!(point("30038501FF"), Some(CrlFault::Partition));
    assert_eq!(
        fault("1.2.3.4 = critical,DER:0500"),
        Some(CrlFault::UnknownExtension)
    );
    assert_eq!(fault("1.2.3.4 = DER:0500"), None);
    let whole = crl_of(&root).der();
    for length in 0..whole.len() {
        let fault = Crl::from_der(&whole[..length]).unwrap_err();
        assert!(!fault.is_of_other_kind(), "{fault}");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(Crl::from_der(&longer).is_err());

    // One for users alone says nothing of CAs, and the other way about.
    let issuing = root.intermediate("issuing", now(), &[]).unwrap();
    let (leaf, below) = (mei_of(&root), mei_of(&issuing));
    for (octets, for_users) in [("30038101FF", true), ("30038201FF", false)] {
        let der = crl_of(&root)
            .revoking(&leaf.certificate)
            .revoking(&issuing.certificate)
            .extension(&format!("2.5.29.28 = critical,DER:{octets}"))
            .der();
        let own = domain(&root, &[der], WhenUnknown::Soft);
        assert_eq!(verdict(&own, &leaf).is_err(), for_users);
        assert_eq!(verdict(&own, &below).is_err(), !for_users);
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84], length.as_slice(), content].concat()
}

/// A list of half a million certificates and those of `revoked`, some 20 MB.
fn huge(issuer: &Authority, revoked: &[&X509]) -> Vec<u8> {
    let time = |time: Timestamp| {
        let text = time.strftime("%Y%m%d%H%M%SZ").to_string();
        tlv(0x18, text.as_bytes())
    };
    let date = time(now());
    let numbers = revoked
        .iter()
        .map(|one| one.serial_number().to_bn().unwrap().to_vec());
    let mut listed = Vec::new();
    let others = (0..500_000u32).map(|number| number.to_be_bytes().repeat(4));
    for number in others.chain(numbers) {
        let number = [&[0], number.as_slice()].concat();
        listed.extend(tlv(0x30, &[tlv(0x02, &number), date.clone()].concat()));
    }
    // ecdsa-with-SHA256
    let algorithm = tlv(0x30, &[6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]);
    let day = jiff::SignedDuration::from_hours(24);
    let body = [
        vec![2, 1, 1],
        algorithm.clone(),
        issuer.certificate.subject_name().to_der().unwrap(),
        time(now()),
        time(now() + day),
        tlv(0x30, &listed),
    ];
    let body = tlv(0x30, &body.concat());
    let mut signer = Signer::new(MessageDigest::sha256(), &issuer.key).unwrap();
    let signature = signer.sign_oneshot_to_vec(&body).unwrap();
    let signature = tlv(0x03, &[&[0], signature.as_slice()].concat());
    tlv(0x30, &[body, algorithm, signature].concat())
}

// rule: REV-2, T-26
#[test]
fn a_list_of_half_a_million_is_indexed_once_and_asked_in_no_time() {
    let root = Authority::root("root", now()).unwrap();
    let (good, bad) = (mei_of(&root), mei_of(&root));
    let der = huge(&root, &[&bad.certificate]);
    assert!(der.len() > 20_000_000, "{}", der.len());
    let begun = std::time::Instant::now();
    let crl = Crl::from_der(&der).unwrap();
    assert_eq!(crl.revoked(), 500_001);
    let read = begun.elapsed();
    let begun = std::time::Instant::now();
    // A linear scan would make this some ten thousand million comparisons.
    for _ in 0..20_000 {
        assert!(!crl.lists(good.certificate.serial_number()));
        assert!(crl.lists(bad.certificate.serial_number()));
    }
    eprintln!(
        "{} octets read in {read:?}, 40,000 look-ups in {:?}",
        der.len(),
        begun.elapsed()
    );
    let own = domain(&root, &[der], WhenUnknown::Hard);
    assert_eq!(verdict(&own, &good), Ok(()));
    assert_revoked(&own, &bad);
}

fn signed_mail(peer: &OpensslPeer, id: &str) -> Vec<u8> {
    let entity = wrapped(&letter(&format!("{id}@direct.harbor.example"), &[ADA], ""));
    let signed = peer.sign(entity, &[&pki().harbor], &["-binary"]);
    peer.enclose(signed, &pki().direct_elm.certificate)
}

// rule: RCV-R6, REV-1, REV-5
#[test]
fn mail_whose_signer_is_revoked_by_crl_file_is_nobodys_from_the_moment_that_the_file_is_there() {
    let folder = TestFolder::new();
    let lists = folder.path().to_owned();
    nobody_revoked(&lists);
    let ground = ReceivingGround::configured(|_| success(), by_lists_in(&lists));
    let peer = OpensslPeer::new();
    let before = signed_mail(&peer, "before");
    assert_eq!(ground.arrives(&[ADA], &before), [LETTER]);
    ground.notices(1);

    let list = crl_of(&pki().authority).revoking(&pki().harbor.certificate);
    put(&ground.bridge, &lists, "list.pem", &list.pem());
    let causes = ground.rejects(SENDER, &[ADA], &signed_mail(&peer, "after"));
    let words =
        "no signer is trusted for the recipient: the certificate itself is revoked by CRL (REV-5)";
    assert!(
        causes.iter().any(|cause| cause.contains(words)),
        "{causes:?}"
    );
    ground.bridge.wait_until_idle();
    assert_eq!(ground.posted().len(), 1);
    assert_eq!(ground.notices_now().len(), 1);
}

// rule: REV-4
#[test]
fn a_stale_list_raises_an_alarm_and_mail_goes_on() {
    let folder = TestFolder::new();
    let stale = crl_of(&pki().authority).hours(-50, -1).pem();
    place(&folder.path().join("list.pem"), &stale);
    let ground = ReceivingGround::configured(|_| success(), by_lists_in(folder.path()));
    wait_until("it is told", || ground.bridge.alarms("crl_stale") == 1);
    let mail = signed_mail(&OpensslPeer::new(), "stale");
    assert_eq!(ground.arrives(&[ADA], &mail), [LETTER]);
    ground.notices(1);
    // The signer, and the notice to the sender.
    for kind in [AuditKind::Recipient, AuditKind::Secure] {
        assert_eq!(doubts(&ground.bridge, kind), ["stale"]);
    }
}

/// What the audit says of revocation in its records of one kind.
fn doubts(bridge: &TestBridge, kind: AuditKind) -> Vec<String> {
    let records = bridge.audit_of(kind).into_iter();
    records
        .map(|mut record| record.details.remove("revocation").unwrap_or_default())
        .collect()
}

// rule: REV-4
#[test]
fn each_use_of_a_certificate_that_a_stale_list_tells_of_is_audited_and_no_other() {
    for (end, word) in [(-1, "stale"), (24, "")] {
        let folder = TestFolder::new();
        let list = crl_of(&pki().authority).hours(-50, end).pem();
        place(&folder.path().join("list.pem"), &list);
        let domains = ["direct.harbor.example"];
        let (bridge, _hop) = TestBridge::beside_a_hop(&domains, by_lists_in(folder.path()));
        assert_plain_success(&bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom()));
        bridge.wait_until_sent();
        for kind in [
            AuditKind::Recipient,
            AuditKind::Secure,
            AuditKind::Iti32Export,
        ] {
            assert_eq!(doubts(&bridge, kind), [word], "{kind:?}");
        }
    }
}

// rule: REV-4
#[test]
fn a_list_that_is_missing_beside_others_is_told_where_it_is_tolerated() {
    let root = Authority::root("root", now()).unwrap();
    let other = Authority::root("other", now()).unwrap();
    let mei = mei_of(&root);
    let candidates = [CertificateCandidate {
        der: mei.certificate.to_der().unwrap(),
        origin: "test".to_owned(),
    }];
    let doubt = |ders: &[Vec<u8>]| {
        let mut own = domain(&root, ders, WhenUnknown::Soft);
        let anchors = [&root, &other].map(|one| one.certificate.clone());
        own.anchors = TrustAnchors::new(anchors);
        let address = MEI.parse().unwrap();
        let chosen = own.judge(&candidates, &address, Purpose::Encrypt, now());
        chosen.unwrap().doubt
    };
    let stale = crl_of(&root).hours(-50, -1).der();
    assert_eq!(doubt(&[crl_of(&other).der()]), Some(Doubt::Missing));
    assert_eq!(doubt(&[crl_of(&other).der(), stale]), Some(Doubt::Stale));
    assert_eq!(doubt(&[crl_of(&root).der()]), None);
    // Who goes by no lists doubts nothing.
    assert_eq!(doubt(&[]), None);
}

// rule: REV-5, RCV-8, MDN-46
#[test]
fn a_notice_whose_signer_is_revoked_completes_no_recipient() {
    let folder = TestFolder::new();
    let lists = folder.path().to_owned();
    nobody_revoked(&lists);
    let ground = NoticesGround::start_with(by_lists_in(&lists));
    let submitted = ground.submit(&[RUI], false);
    let list = crl_of(&pki().authority).revoking(&pki().harbor.certificate);
    put(&ground.ground.bridge, &lists, "list.pem", &list.pem());
    for disposition in ["processed", "failed", WITH_EXTENSION] {
        let notice = Notice::mdn(&submitted, RUI, disposition).message();
        let mail = sealed(&notice, &[&pki().harbor], &pki().direct_elm);
        assert!(!ground.send(RUI, ELM, &mail));
    }
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);
    assert_eq!(ground.told(&submitted), Vec::<String>::new());
    assert_eq!(ground.errors("mdn_spoof_suspect"), 3);
}

// rule: REV-6
#[test]
fn an_own_certificate_on_a_list_is_told_at_start_and_raises_an_alarm() {
    let folder = TestFolder::new();
    let list = folder.path().join("list.pem");
    let revoked = crl_of(&pki().authority).revoking(&pki().direct_elm.certificate);
    place(&list, &revoked.pem());
    let (bridge, _hop) = TestBridge::beside_a_hop(&[], by_lists_in(folder.path()));
    wait_until("the alarm is raised", || bridge.alarms("crl") == 1);
    // Off the list and on it again, while it runs.
    let gauge = |value: &str| {
        let line = format!("xdbridge_crl_problems {value}\n");
        wait_until("the gauge says so", || bridge.measures().contains(&line));
    };
    gauge("1");
    place(&list, &crl_of(&pki().authority).pem());
    gauge("0");
    let revoked = crl_of(&pki().authority).revoking(&pki().direct_elm.certificate);
    place(&list, &revoked.pem());
    gauge("1");
    assert_eq!(bridge.alarms("crl"), 2);
}

// rule: REV-5, XDR-32, SND-6
#[test]
fn a_recipient_whose_certificate_is_revoked_is_refused_at_accept_with_its_token() {
    let folder = TestFolder::new();
    let list = crl_of(&pki().authority).revoking(&pki().harbor.certificate);
    fs::write(folder.path().join("list.crl"), list.der()).unwrap();
    let domains = ["direct.harbor.example", "direct.quay.example"];
    let (bridge, hop) = TestBridge::beside_a_hop(&domains, by_lists_in(folder.path()));
    let response = bridge.submit(&TestRequest::new(ELM, &[RUI, MEI]).mtom());
    assert_eq!(response.status, Status::Success);
    let told = entries(&response);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].2.as_str(), told[0].3.as_str()),
        ("certificateRevoked", RUI)
    );
    bridge.wait_until_sent();
    assert_eq!(received(&hop).len(), 1);
    let outcome = bridge.recipient(RUI).outcome.unwrap();
    assert_eq!(outcome.failure, Some(Reason::CertificateRevoked));
}

// rule: REV-1, REV-5, SND-6
#[test]
fn a_recipient_who_is_revoked_between_accept_and_sending_gets_nothing() {
    let runtime = runtime();
    let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
    let busy =
        builder.acts(|_, step| (step == "END").then(|| Act::Say("451 4.3.0 try again".to_owned())));
    let hop = runtime.block_on(busy.start());
    let start = Timestamp::from_second(now().as_second()).unwrap();
    let clock = StandingClock::at(start);
    let folder = TestFolder::new();
    let hops = [("direct.harbor.example", hop.address())];
    nobody_revoked(folder.path());
    let bridge = TestBridge::start_with(runtime, &hops, clock.clone(), by_lists_in(folder.path()));
    assert_plain_success(&bridge.submit(&TestRequest::new(ELM, &[RUI]).mtom()));
    wait_until("the first attempt was recorded", || {
        bridge.audit_of(AuditKind::Iti32Export).len() == 1
    });
    let list = crl_of(&pki().authority).revoking(&pki().harbor.certificate);
    put(&bridge, folder.path(), "list.crl", &list.der());
    clock.set(start + Duration::from_secs(120));
    bridge.store().due_changed().notify_one();
    wait_until("the recipient is settled", || {
        bridge.recipient(RUI).outcome.is_some()
    });
    let recipient = bridge.recipient(RUI);
    assert_eq!(recipient.state, RecipientState::Rejected);
    let outcome = recipient.outcome.unwrap();
    assert_eq!(outcome.failure, Some(Reason::CertificateRevoked));
    bridge.wait_until_idle();
    assert_eq!(hop.transcripts().len(), 1);
}
