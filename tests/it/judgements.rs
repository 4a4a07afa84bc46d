//! A certificate that was judged a moment ago is not judged again, and never serves longer than it should.

use jiff::{SignedDuration, Timestamp};
use openssl::x509::X509;
use xdbridge::{
    app::pki::{Authority, Profile},
    bridge::{
        exchange::Reason,
        own_domain::OwnDomain,
        trust::{
            CertificateCandidate, Demands, Purpose, Question, RecentJudgements, Refusal,
            Revocation, TrustAnchors,
        },
    },
    formats::ids::DirectAddress,
};

const RUI: &str = "rui.moreau@direct.quay.example";

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

fn rui() -> DirectAddress {
    RUI.parse().unwrap()
}

/// A domain that trusts `authority`.
fn trusting(authority: &Authority) -> OwnDomain {
    OwnDomain {
        name: "direct.harbor.example".parse().unwrap(),
        identities: Vec::new(),
        anchors: TrustAnchors::new([authority.certificate.clone()]),
        intermediates: Vec::new(),
        allow_legacy: Vec::new(),
        revocation: Revocation::default(),
        demands: Demands::default(),
        fetched: None,
        judged: RecentJudgements::default(),
    }
}

/// Rui's certificate, which expires 30 seconds after the start.
fn candidates(authority: &Authority) -> Vec<CertificateCandidate> {
    let mut profile = Profile::address(&rui(), start());
    profile.not_after = start() + seconds(30);
    let identity = authority.issue(&profile).unwrap();
    vec![CertificateCandidate {
        der: identity.certificate.to_der().unwrap(),
        origin: "test".to_owned(),
    }]
}

// rule: CERT-11
#[test]
fn a_judgement_stands_for_a_moment_and_not_beyond_the_certificates_end() {
    let authority = Authority::root("harbor CA", start()).unwrap();
    let (domain, candidates) = (trusting(&authority), candidates(&authority));
    let stands = |now, purpose| {
        domain
            .judged
            .find(Question::of(&candidates, &[], &rui(), purpose), now)
            .is_some()
    };
    let judge = |now| domain.judge(&candidates, &rui(), Purpose::Encrypt, now);
    assert!(!stands(start(), Purpose::Encrypt));
    let first = judge(start()).unwrap();
    assert!(stands(start() + seconds(29), Purpose::Encrypt));
    assert!(!stands(start() + seconds(29), Purpose::Verify));
    let second = judge(start() + seconds(29)).unwrap();
    assert_eq!(first.certificate, second.certificate);

    // It expires within the minute for which it would stand otherwise, and no clock that is set back revives it.
    assert!(!stands(start() + seconds(30), Purpose::Encrypt));
    assert!(!stands(start() - seconds(1), Purpose::Encrypt));
    let late = judge(start() + seconds(31));
    assert_eq!(late.unwrap_err().reason, Reason::NoCertificate);
}

#[test]
fn a_judgement_ends_after_a_minute() {
    let authority = Authority::root("harbor CA", start()).unwrap();
    let domain = trusting(&authority);
    let identity = authority.issue(&Profile::address(&rui(), start())).unwrap();
    let candidates = [CertificateCandidate {
        der: identity.certificate.to_der().unwrap(),
        origin: "test".to_owned(),
    }];
    domain
        .judge(&candidates, &rui(), Purpose::Encrypt, start())
        .unwrap();
    let question = Question::of(&candidates, &[], &rui(), Purpose::Encrypt);
    let find = |now| domain.judged.find(question, now);
    assert!(find(start() + seconds(59)).is_some());
    assert!(find(start() + seconds(60)).is_none());
}

// rule: BIND-1, TA-4
#[test]
fn a_judgement_serves_no_other_address_and_no_other_anchors() {
    let authority = Authority::root("harbor CA", start()).unwrap();
    let other = Authority::root("other CA", start()).unwrap();
    let (domain, candidates) = (trusting(&authority), candidates(&authority));
    domain
        .judge(&candidates, &rui(), Purpose::Encrypt, start())
        .unwrap();
    let ada: DirectAddress = "ada.quill@direct.quay.example".parse().unwrap();
    let for_another = domain.judge(&candidates, &ada, Purpose::Encrypt, start());
    assert_eq!(for_another.unwrap_err().reason, Reason::NoCertificate);

    // As after a reload: the same domain with other anchors.
    let mut reloaded = domain.clone();
    reloaded.anchors = TrustAnchors::new([other.certificate.clone()]);
    let now_untrusted = reloaded.judge(&candidates, &rui(), Purpose::Encrypt, start());
    assert_eq!(now_untrusted.unwrap_err().reason, Reason::Untrusted);

    let mut forged = candidates.clone();
    if let Some(octet) = forged[0].der.last_mut() {
        *octet ^= 1;
    }
    assert!(
        domain
            .judge(&forged, &rui(), Purpose::Encrypt, start())
            .is_err()
    );
}

// rule: TA-7, RCV-7
#[test]
fn a_judgement_by_what_one_message_brought_is_none_for_a_message_that_brings_something_else() {
    let root = Authority::root("harbor CA", start()).unwrap();
    let issuing = root.intermediate("issuing CA", start(), &[]).unwrap();
    let (domain, candidates) = (trusting(&root), candidates(&issuing));
    let judge = |brought: &[X509]| {
        let judgement = domain.examine(&candidates, brought, &rui(), Purpose::Verify, start());
        judgement.chosen.ok_or(judgement.refusal)
    };
    let path = |brought| judge(brought).unwrap().path.len();
    let brought = [issuing.certificate.clone()];
    assert_eq!((path(&brought), path(&brought)), (3, 3));
    let is_kept = |brought: &[X509]| {
        let question = Question::of(&candidates, brought, &rui(), Purpose::Verify);
        domain.judged.find(question, start()).is_some()
    };
    assert!(is_kept(&brought));
    for other in [&[][..], std::slice::from_ref(&root.certificate)] {
        assert!(!is_kept(other));
        assert_eq!(
            judge(other).unwrap_err(),
            Some(Refusal::from(Reason::Untrusted))
        );
    }
}
