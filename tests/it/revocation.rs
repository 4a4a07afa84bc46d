//! Revocation lists from files: who is revoked is never used, in either direction, whatever else holds (certificates.md
//! section 7).

use std::{fs, path::Path, sync::Arc, time::Duration};

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
    adapters::certificates::{CertificateFiles, CertificatesConfig, DomainConfig},
    app::{
        config::Config,
        pki::{Authority, KeyKind, Profile},
    },
    bridge::{
        exchange::{Reason, RecipientState},
        own_domain::OwnDomain,
        trust::{
            self, CertificateCandidate, Purpose, RecentJudgements, Revocation, TrustAnchors,
            WhenUnknown,
        },
    },
    flows::ports::OwnDomains,
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
    crl::crl_of,
    folder::TestFolder,
    mailbox::received,
    openssl_peer::{OpensslPeer, wrapped},
    receiving_ground::{ADA, LETTER, ReceivingGround, SENDER, letter, success},
    request::TestRequest,
    scripted_smtp::{Act, ScriptedSmtp},
    store::StandingClock,
    wait_until,
};

const REFRESH: Duration = Duration::from_millis(20);

fn mei_of(authority: &Authority) -> SigningIdentity {
    let mut profile = Profile::address(&MEI.parse().unwrap(), now());
    profile.key = KeyKind::P256;
    authority.issue(&profile).unwrap()
}

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
        Some(token) => Err((token, fault.unwrap().to_string())),
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

/// A domain's certificate files with the root as its anchor and the folder's lists.
fn files(root: &Authority, folder: &Path) -> CertificatesConfig {
    let anchor = folder.join("anchor.pem");
    fs::write(&anchor, root.certificate.to_pem().unwrap()).unwrap();
    let crls = folder.join("crls");
    fs::create_dir_all(&crls).unwrap();
    CertificatesConfig {
        domains: vec![DomainConfig {
            name: "direct.elm.example".parse().unwrap(),
            identities: Vec::new(),
            anchors: vec![anchor],
            intermediates: Vec::new(),
            allow_legacy: Vec::new(),
            crls: vec![crls],
            revocation: WhenUnknown::Soft,
        }],
        ..CertificatesConfig::default()
    }
}

// rule: REV-2
#[test]
fn lists_that_cannot_be_read_or_that_nobody_known_has_signed_are_told_by_file() {
    let root = Authority::root("root", now()).unwrap();
    let namesake = Authority::root("root", now()).unwrap();
    let folder = TestFolder::new();
    let config = files(&root, folder.path());
    let put = |name: &str, octets: &[u8]| {
        fs::write(config.domains[0].crls[0].join(name), octets).unwrap()
    };
    let problems = || {
        let problems = CertificateFiles::load(config.clone(), now())
            .err()
            .unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let two = [crl_of(&root).pem(), crl_of(&root).hours(-9, 9).pem()].concat();
    put("a.pem", &two);
    put("b.crl", &crl_of(&root).der());
    assert_eq!(problems(), Vec::<String>::new());
    // A delta beside its complete list is no fault, and told.
    put(
        "c.crl",
        &crl_of(&root)
            .extension("2.5.29.27 = critical,DER:020101")
            .der(),
    );
    let loaded = CertificateFiles::load(config.clone(), now()).unwrap();
    let warnings = loaded.warnings();
    assert!(
        warnings[0].contains("c.crl: is a delta CRL"),
        "{warnings:?}"
    );
    assert_eq!(loaded.crls().len(), 3);

    put("d.crl", &crl_of(&namesake).der());
    put(
        "e.pem",
        b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n",
    );
    put("f.pem", root.certificate.to_pem().unwrap().as_slice());
    let told = problems();
    assert_eq!(told.len(), 3, "{told:?}");
    for (problem, words) in told.iter().zip([
        "d.crl: a CRL is signed by none of the domain's anchors",
        "e.pem: is not a readable CRL",
        "f.pem: holds no CRL",
    ]) {
        assert!(problem.contains(words), "{problem}");
    }
}

// rule: REV-1, REV-5
#[test]
fn files_are_read_anew_when_they_change_and_what_is_gone_or_broken_leaves_the_last_in_force() {
    let root = Authority::root("root", now()).unwrap();
    let mei = mei_of(&root);
    let folder = TestFolder::new();
    let config = files(&root, folder.path());
    let list = config.domains[0].crls[0].join("list.crl");
    let loaded = CertificateFiles::load(config.clone(), now()).unwrap();
    let name = "direct.elm.example".parse().unwrap();
    let candidates = [CertificateCandidate {
        der: mei.certificate.to_der().unwrap(),
        origin: "test".to_owned(),
    }];
    // By the domain's own judgement, which remembers: no memory may outlive the list that it was made by.
    let judged = || {
        let own = OwnDomains::find(&loaded, &name).unwrap();
        let address = MEI.parse().unwrap();
        own.judge(&candidates, &address, Purpose::Encrypt, now())
            .map(|_| ())
    };
    let refresh = || {
        loaded
            .refresh_crls(now())
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let none = Vec::<String>::new();
    assert_eq!(judged(), Ok(()));
    fs::write(
        &list,
        crl_of(&root).revoking(&mei.certificate).hours(-3, 24).der(),
    )
    .unwrap();
    assert_eq!(judged(), Ok(()));
    assert_eq!(refresh(), none);
    assert_eq!(judged(), Err(Reason::CertificateRevoked));

    fs::write(&list, b"half a fi").unwrap();
    assert_eq!(refresh().len(), 1);
    assert_eq!(judged(), Err(Reason::CertificateRevoked));
    fs::remove_file(&list).unwrap();
    assert_eq!(refresh(), none);
    assert_eq!(judged(), Err(Reason::CertificateRevoked));
    // Under another name, and newer: off the list.
    fs::write(list.with_file_name("newer.crl"), crl_of(&root).der()).unwrap();
    assert_eq!(refresh(), none);
    assert_eq!(loaded.crls().len(), 1);
    assert_eq!(judged(), Ok(()));
    fs::write(
        &list,
        crl_of(&root).revoking(&mei.certificate).hours(0, 24).der(),
    )
    .unwrap();
    loaded.reload(now()).unwrap();
    assert_eq!(judged(), Err(Reason::CertificateRevoked));
}

/// Sets the folder of lists of the domain that the tests' bridge sends and receives for.
fn by_lists_in(folder: &Path) -> impl FnOnce(&mut Config) {
    let folder = folder.to_owned();
    move |config| {
        config.certificates.crl_refresh = REFRESH;
        config.certificates.domains[0].crls = vec![folder];
    }
}

/// Puts a list into the folder at one stroke, and waits until the bridge goes by it.
fn put(bridge: &TestBridge, folder: &Path, name: &str, octets: &[u8]) {
    let path = folder.join(name);
    fs::write(path.with_extension("new"), octets).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    let measure = format!("xdbridge_crl_days_left{{file=\"{}\"}}", path.display());
    wait_until("the list is in use", || {
        bridge.measures().contains(&measure)
    });
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
    let lists = folder.path().to_owned();
    let ground = ReceivingGround::configured(|_| success(), by_lists_in(&lists));
    assert_eq!(ground.bridge.alarms("crl_stale"), 0);
    let stale = crl_of(&pki().authority).hours(-50, -1).pem();
    put(&ground.bridge, &lists, "list.pem", &stale);
    wait_until("it is told", || ground.bridge.alarms("crl_stale") == 1);
    let mail = signed_mail(&OpensslPeer::new(), "stale");
    assert_eq!(ground.arrives(&[ADA], &mail), [LETTER]);
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
