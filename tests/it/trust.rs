//! Which certificates are used for an address: exact binding, right use, strong enough, and a path that ends at a
//! byte-identical configured anchor.

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1Object, Asn1OctetString},
    hash::MessageDigest,
    x509::{X509, X509Extension, X509Ref},
};
use xdbridge::{
    app::pki::{Authority, KeyKind, KeyPurpose, Name, Profile, days, self_signed},
    bridge::{
        exchange::Reason,
        trust::{
            Binding, CertificateCandidate, Fault, Judgement, PathFault, Purpose, TrustAnchors,
            binds, judge,
        },
    },
    formats::{
        ids::DirectAddress,
        smime::{Legacy, SigningIdentity, policy::KeyFault},
    },
};

const ADDRESS: &str = "ngozi@direct.quay.example";

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn address() -> DirectAddress {
    ADDRESS.parse().unwrap()
}

/// An address-bound certificate with a key that is quick to make.
fn profile() -> Profile {
    let mut profile = Profile::address(&address(), now());
    profile.key = KeyKind::P256;
    profile
}

fn domain_profile() -> Profile {
    let mut profile = Profile::domain(address().domain(), now());
    profile.key = KeyKind::P256;
    profile
}

fn root() -> Authority {
    Authority::root("Quay Root", now()).unwrap()
}

fn candidate(certificate: &X509Ref) -> CertificateCandidate {
    CertificateCandidate {
        der: certificate.to_der().unwrap(),
        origin: "test".to_owned(),
    }
}

/// Judges one or more certificates as recipients'.
fn encrypt(certificates: &[&X509], anchors: &[&X509], intermediates: &[X509]) -> Judgement {
    let candidates: Vec<_> = certificates.iter().map(|one| candidate(one)).collect();
    let anchors = TrustAnchors::new(anchors.iter().map(|one| (*one).clone()));
    judge(
        &candidates,
        &address(),
        Purpose::Encrypt,
        &anchors,
        intermediates,
        &[],
        now(),
    )
}

fn fault(certificate: &X509, anchors: &[&X509], intermediates: &[X509]) -> Fault {
    let judgement = encrypt(&[certificate], anchors, intermediates);
    assert!(judgement.chosen.is_none());
    judgement
        .verdicts
        .into_iter()
        .next()
        .unwrap()
        .fault
        .unwrap()
}

fn issue(root: &Authority, change: impl FnOnce(&mut Profile)) -> SigningIdentity {
    let mut profile = profile();
    change(&mut profile);
    root.issue(&profile).unwrap()
}

// rule: TA-4, TA-7, TA-9, DISC-8
#[test]
fn a_path_leads_over_supplied_intermediates_to_the_first_anchor_met() {
    let root = root();
    let upper = root.intermediate("Quay Upper", now(), &[]).unwrap();
    let lower = upper.intermediate("Quay Lower", now(), &[]).unwrap();
    let end = lower.issue(&profile()).unwrap();
    let between = [lower.certificate.clone(), upper.certificate.clone()];
    let judgement = encrypt(&[&end.certificate], &[&root.certificate], &between);
    let chosen = judgement.chosen.unwrap();
    assert_eq!(chosen.binding, Binding::Address);
    assert_eq!(chosen.path.len(), 4);
    assert_eq!(chosen.path.last(), Some(&root.certificate));
    assert_eq!(judgement.refusal, None);
    // An intermediate may be the anchor; no root above it is asked for.
    let partial = encrypt(&[&end.certificate], &[&upper.certificate], &between);
    assert_eq!(partial.chosen.unwrap().path.len(), 3);
    // Without the intermediates there is no path.
    let missing = encrypt(&[&end.certificate], &[&root.certificate], &[]);
    assert_eq!(missing.refusal, Some(Reason::Untrusted));
    assert_eq!(
        missing.verdicts[0].fault,
        Some(Fault::Path(PathFault::NoPath))
    );
}

// rule: TA-2, TA-5
#[test]
fn no_anchor_trusts_nobody_and_an_end_entity_may_be_its_own_anchor() {
    let end = self_signed(&profile()).unwrap().certificate;
    assert_eq!(fault(&end, &[], &[]), Fault::Path(PathFault::NoAnchors));
    let chosen = encrypt(&[&end], &[&end], &[]).chosen.unwrap();
    assert_eq!(chosen.path, [end]);
    // Still subject to validity.
    let mut expired = profile();
    expired.not_after = days(now(), -1);
    expired.not_before = days(now(), -2);
    let expired = self_signed(&expired).unwrap().certificate;
    assert_eq!(fault(&expired, &[&expired], &[]), Fault::Expired);
}

// rule: TA-4, TA-6, T-13g
#[test]
fn a_leaf_or_a_ca_that_copies_the_anchors_name_and_key_id_is_refused() {
    let root = root();
    let key_id = root
        .certificate
        .subject_key_id()
        .unwrap()
        .as_slice()
        .to_vec();
    // An extension's value is the DER octet string inside its own octet string.
    let inner = [&[4, u8::try_from(key_id.len()).unwrap()], key_id.as_slice()].concat();
    let forged_id = || {
        let kind = Asn1Object::from_str("2.5.29.14").unwrap();
        let value = Asn1OctetString::new_from_bytes(&inner).unwrap();
        X509Extension::new_from_der(&kind, false, &value).unwrap()
    };
    let mut forged = profile();
    forged.common_name = "Quay Root".to_owned();
    forged.with_key_id = false;
    forged.extensions = vec![forged_id()];
    let forged = self_signed(&forged).unwrap().certificate;
    assert_eq!(
        forged.subject_key_id().unwrap().as_slice(),
        root.certificate.subject_key_id().unwrap().as_slice()
    );
    assert_eq!(
        fault(&forged, &[&root.certificate], &[]),
        Fault::Path(PathFault::NoPath)
    );
    // A whole forged CA of the same name, offered as an intermediate.
    let double = Authority::root("Quay Root", now()).unwrap();
    let end = double.issue(&profile()).unwrap().certificate;
    let offered = [double.certificate.clone()];
    assert_eq!(
        fault(&end, &[&root.certificate], &offered),
        Fault::Path(PathFault::NoPath)
    );
    // And it hides no right path, in whatever order it comes.
    let honest = root.issue(&profile()).unwrap().certificate;
    let both = encrypt(
        &[&honest],
        &[&double.certificate, &root.certificate],
        &offered,
    );
    assert_eq!(both.chosen.unwrap().path.last(), Some(&root.certificate));
}

// rule: TA-9, CERT-6, T-13h
#[test]
fn an_end_entity_that_issues_and_a_ca_that_is_offered_as_end_entity_are_refused() {
    let root = root();
    let middle = issue(&root, |_| {});
    let posing = Authority::root("x", now()).map(|mut authority| {
        authority.certificate = middle.certificate.clone();
        authority.key = middle.key.clone();
        authority
    });
    let end = posing.unwrap().issue(&profile()).unwrap().certificate;
    let offered = [middle.certificate];
    assert_eq!(
        fault(&end, &[&root.certificate], &offered),
        Fault::Path(PathFault::NoPath)
    );
    assert_eq!(
        fault(&root.certificate, &[&root.certificate], &[]),
        Fault::NotEndEntity
    );
}

// rule: TA-9
#[test]
fn name_constraints_of_a_ca_are_kept() {
    let root = root();
    // permittedSubtrees with one rfc822Name and one dNSName (RFC 5280 §4.2.1.10).
    let constrained = |host: &str| {
        let name = |tag: u8| {
            let general = [&[tag, u8::try_from(host.len()).unwrap()], host.as_bytes()].concat();
            [
                &[0x30, u8::try_from(general.len()).unwrap()],
                general.as_slice(),
            ]
            .concat()
        };
        let trees = [name(0x81), name(0x82)].concat();
        let permitted = [
            &[0xA0, u8::try_from(trees.len()).unwrap()],
            trees.as_slice(),
        ]
        .concat();
        let der = [
            &[0x30, u8::try_from(permitted.len()).unwrap()],
            permitted.as_slice(),
        ]
        .concat();
        let kind = Asn1Object::from_str("2.5.29.30").unwrap();
        let value = Asn1OctetString::new_from_bytes(&der).unwrap();
        let extension = X509Extension::new_from_der(&kind, true, &value).unwrap();
        root.intermediate("Quay Constrained", now(), &[extension])
            .unwrap()
    };
    let fitting = constrained("direct.quay.example");
    let end = fitting.issue(&profile()).unwrap();
    assert!(
        encrypt(
            &[&end.certificate],
            &[&root.certificate],
            &end.intermediates
        )
        .chosen
        .is_some()
    );
    let foreign = constrained("direct.harbor.example");
    let end = foreign.issue(&profile()).unwrap();
    assert!(matches!(
        fault(&end.certificate, &[&root.certificate], &end.intermediates),
        Fault::Path(PathFault::Invalid(_))
    ));
}

// rule: CERT-15
#[test]
fn an_unknown_critical_extension_is_refused() {
    let root = root();
    let end = issue(&root, |profile| {
        let kind = Asn1Object::from_str("2.999.7").unwrap();
        let value = Asn1OctetString::new_from_bytes(&[5, 0]).unwrap();
        let unknown = X509Extension::new_from_der(&kind, true, &value).unwrap();
        profile.extensions = vec![unknown];
    });
    assert!(matches!(
        fault(&end.certificate, &[&root.certificate], &[]),
        Fault::Path(PathFault::Invalid(_))
    ));
}

// rule: CERT-11, TA-11
#[test]
fn validity_counts_with_five_minutes_of_tolerance_at_its_start_alone() {
    let root = root();
    let at = |seconds: i64| Timestamp::from_second(now().as_second() + seconds).unwrap();
    let usable = |not_before, not_after| {
        let end = issue(&root, |profile| {
            profile.not_before = not_before;
            profile.not_after = not_after;
        });
        let judgement = encrypt(&[&end.certificate], &[&root.certificate], &[]);
        judgement.verdicts.into_iter().next().unwrap().fault
    };
    assert_eq!(usable(at(299), at(900)), None);
    assert_eq!(usable(at(301), at(900)), Some(Fault::NotYetValid));
    assert_eq!(usable(at(-900), at(0)), None);
    assert_eq!(usable(at(-900), at(-1)), Some(Fault::Expired));
    // An anchor past its end ends all paths to it.
    let old = Authority::root("Quay Old", days(now(), -3651)).unwrap();
    let end = old.issue(&profile()).unwrap();
    assert_eq!(
        fault(&end.certificate, &[&old.certificate], &[]),
        Fault::Path(PathFault::NoPath)
    );
}

// rule: BIND-1, BIND-2, BIND-3, BIND-5, CERT-2, CERT-3, CERT-4, CERT-5, ADR-5
#[test]
fn a_certificate_is_bound_by_exactly_the_address_or_exactly_the_domain() {
    let root = root();
    let binding = |names: &[Name], common_name: &str, subject_email: Option<&str>| {
        let end = issue(&root, |profile| {
            profile.names = names.to_vec();
            profile.common_name = common_name.to_owned();
            profile.subject_email = subject_email.map(str::to_owned);
        });
        binds(&end.certificate, &address())
    };
    let email = |text: &str| Name::Email(text.to_owned());
    let dns = |text: &str| Name::Dns(text.to_owned());
    let other = "ada@direct.quay.example";
    assert_eq!(
        binding(&[email("NGOZI@Direct.Quay.Example")], "x", None),
        Some(Binding::Address)
    );
    assert_eq!(
        binding(&[dns("DIRECT.quay.example")], "x", None),
        Some(Binding::Domain)
    );
    assert_eq!(binding(&[email(other)], "x", None), None);
    assert_eq!(
        binding(&[email(other), dns("direct.quay.example")], "x", None),
        Some(Binding::Domain)
    );
    assert_eq!(binding(&[dns("quay.example")], "x", None), None);
    assert_eq!(binding(&[dns("*.quay.example")], "x", None), None);
    assert_eq!(binding(&[dns("a.direct.quay.example")], "x", None), None);
    assert_eq!(binding(&[], ADDRESS, Some(ADDRESS)), None);
    assert_eq!(binding(&[email(ADDRESS)], "x", Some(other)), None);
    assert_eq!(
        binding(&[email(ADDRESS)], "x", Some(ADDRESS)),
        Some(Binding::Address)
    );
}

// rule: BIND-2, DISC-2, DISC-9, DNS-7
#[test]
fn the_narrower_binding_wins_then_the_later_start_and_garbage_spoils_nothing() {
    let root = root();
    let domain = root.issue(&domain_profile()).unwrap().certificate;
    let older = issue(&root, |profile| profile.not_before = days(now(), -9)).certificate;
    let newer = issue(&root, |_| {}).certificate;
    let mut candidates: Vec<_> = [&domain, &older, &newer].map(|one| candidate(one)).into();
    candidates.push(CertificateCandidate {
        der: vec![0x30, 0x03, 1],
        origin: "test".to_owned(),
    });
    let anchors = TrustAnchors::new([root.certificate.clone()]);
    let judge_all = |candidates: &[CertificateCandidate]| {
        judge(
            candidates,
            &address(),
            Purpose::Encrypt,
            &anchors,
            &[],
            &[],
            now(),
        )
    };
    let judgement = judge_all(&candidates);
    assert_eq!(judgement.chosen.unwrap().index, 2);
    let faults: Vec<_> = judgement
        .verdicts
        .into_iter()
        .map(|verdict| verdict.fault)
        .collect();
    assert_eq!(faults, [None, None, None, Some(Fault::Unreadable)]);
    // Alike in all but the serial number: the lower one.
    let with_serial = |serial| issue(&root, |profile| profile.serial = Some(serial)).certificate;
    let pair = [with_serial(300), with_serial(20)];
    let candidates: Vec<_> = pair.iter().map(|one| candidate(one)).collect();
    assert_eq!(judge_all(&candidates).chosen.unwrap().index, 1);
}

// rule: CERT-7, CERT-8
#[test]
fn single_use_certificates_serve_their_purpose_alone() {
    let root = root();
    let anchors = TrustAnchors::new([root.certificate.clone()]);
    for (made_for, encrypts, signs) in [
        (KeyPurpose::Mail, true, true),
        (KeyPurpose::MailSigning, false, true),
        (KeyPurpose::MailEncryption, true, false),
        (KeyPurpose::Tls, false, false),
    ] {
        let end = issue(&root, |profile| profile.purpose = made_for).certificate;
        let candidates = [candidate(&end)];
        let usable = |purpose| {
            let judgement = judge(&candidates, &address(), purpose, &anchors, &[], &[], now());
            let fault = &judgement.verdicts[0].fault;
            assert!(fault.is_none() || *fault == Some(Fault::Usage));
            judgement.chosen.is_some()
        };
        assert_eq!(usable(Purpose::Encrypt), encrypts, "{made_for:?}");
        assert_eq!(usable(Purpose::Verify), signs, "{made_for:?}");
    }
}

// rule: CERT-9, CERT-10, SM-4, SM-6
#[test]
fn weak_keys_and_signatures_are_refused_unless_named_and_never_encrypted_to() {
    let root = root();
    let anchors = TrustAnchors::new([root.certificate.clone()]);
    let short = issue(&root, |profile| profile.key = KeyKind::Rsa(1024)).certificate;
    let sha1 = issue(&root, |profile| profile.digest = MessageDigest::sha1()).certificate;
    let judged = |certificate: &X509, purpose, allow: &[Legacy]| {
        let candidates = [candidate(certificate)];
        let judgement = judge(
            &candidates,
            &address(),
            purpose,
            &anchors,
            &[],
            allow,
            now(),
        );
        judgement.verdicts.into_iter().next().unwrap().fault
    };
    let too_short = Some(Fault::Key(KeyFault::RsaTooShort { bits: 1024 }));
    assert_eq!(judged(&short, Purpose::Verify, &[]), too_short);
    assert_eq!(judged(&short, Purpose::Verify, &[Legacy::Rsa1024]), None);
    assert_eq!(
        judged(&short, Purpose::Encrypt, &[Legacy::Rsa1024]),
        too_short
    );
    assert_eq!(judged(&sha1, Purpose::Verify, &[]), Some(Fault::Signature));
    assert_eq!(judged(&sha1, Purpose::Verify, &[Legacy::Sha1]), None);
}

// rule: DISC-3, DISC-9, RT-5, RT-6
#[test]
fn the_token_weighs_all_candidates() {
    let (root, foreign) = (root(), Authority::root("Foreign", now()).unwrap());
    let expired = issue(&root, |profile| {
        profile.not_before = days(now(), -9);
        profile.not_after = days(now(), -1);
    })
    .certificate;
    let unbound = issue(&root, |profile| profile.names = Vec::new()).certificate;
    let untrusted = foreign.issue(&profile()).unwrap().certificate;
    let anchors: &[&X509] = &[&root.certificate];
    let refusal = |certificates: &[&X509]| encrypt(certificates, anchors, &[]).refusal;
    assert_eq!(refusal(&[]), Some(Reason::NoCertificate));
    assert_eq!(refusal(&[&expired, &unbound]), Some(Reason::NoCertificate));
    assert_eq!(
        refusal(&[&expired, &untrusted, &unbound]),
        Some(Reason::Untrusted)
    );
    let good = root.issue(&profile()).unwrap().certificate;
    assert_eq!(refusal(&[&expired, &untrusted, &good]), None);
}

// rule: TA-7
#[test]
fn a_path_has_five_issuers_at_most_and_a_heap_of_namesakes_is_given_up() {
    let root = root();
    let mut authority = root.clone();
    let mut chain = Vec::new();
    for depth in 1..=5 {
        authority = authority
            .intermediate(&format!("Quay {depth}"), now(), &[])
            .unwrap();
        chain.push(authority.certificate.clone());
        let end = authority.issue(&profile()).unwrap().certificate;
        let is_found = encrypt(&[&end], &[&root.certificate], &chain)
            .chosen
            .is_some();
        // The root is an issuer too.
        assert_eq!(is_found, depth < 5, "{depth}");
    }
    let namesakes: Vec<X509> = (0..50)
        .map(|_| Authority::root("Namesake", now()).unwrap().certificate)
        .collect();
    let last = Authority::root("Namesake", now()).unwrap();
    let end = last.issue(&profile()).unwrap().certificate;
    assert_eq!(
        fault(&end, &[&root.certificate], &namesakes),
        Fault::Path(PathFault::GivenUp)
    );
}
