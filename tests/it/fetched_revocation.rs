//! Revocation by what certificates themselves name: lists (cRLDistributionPoints) and OCSP responders, fetched, verified,
//! kept and judged (REV-1 to REV-5). Lists and answers are made by the machine's own openssl; `explain` tells what decided.

use std::{fs, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use openssl::{
    hash::MessageDigest,
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    },
};
use xdbridge::{
    app::pki::{Authority, KeyKind, Profile},
    bridge::{
        exchange::RecipientState,
        trust::{
            self, CertificateCandidate, Doubt, FetchedMaterial, Fetches, Purpose, Revocation,
            Terms, TrustAnchors, Want, WhenUnknown,
        },
    },
    flows::ports::Clock,
    formats::smime::{SigningIdentity, ocsp},
};

use crate::support::{
    bridge::{now, pki},
    crl::crl_of,
    fetch_ground::{FetchGround, alone, anna, harbor_ca, issued, issuer_at, list_at, responder_at},
    folder::TestFolder,
    notices_ground::NoticesGround,
    receiving_ground::{ADA, LETTER, SENDER, Setup, letter, sealed},
    tools::run,
    wait_until,
    web::{Page, Web},
};

fn root() -> &'static Authority {
    &pki().authority
}

/// A responder as `openssl ocsp` is one: for `issuer`, signing as `signer`, with one certificate revoked.
struct Responder<'a> {
    issuer: &'a Authority,
    signer: &'a SigningIdentity,
    known: Vec<(String, bool)>,
    /// What it says of when it knew.
    times: &'a [&'a str],
}

impl<'a> Responder<'a> {
    fn of(issuer: &'a Authority, signer: &'a SigningIdentity) -> Self {
        Self {
            issuer,
            signer,
            known: Vec::new(),
            times: &["-ndays", "1"],
        }
    }

    fn knowing(mut self, certificate: &X509, is_revoked: bool) -> Self {
        let serial = certificate.serial_number().to_bn().unwrap();
        let serial = serial.to_hex_str().unwrap().to_string();
        self.known.push((serial, is_revoked));
        self
    }

    /// The answer to a question.
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let folder = TestFolder::new();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut index = String::new();
        for (serial, is_revoked) in &self.known {
            let (letter, when) = match is_revoked {
                true => ("R", "260101000000Z"),
                false => ("V", ""),
            };
            index += &format!("{letter}\t361231235959Z\t{when}\t{serial}\tunknown\t/CN={serial}\n");
        }
        fs::write(path("index"), index).unwrap();
        fs::write(path("ca"), self.issuer.certificate.to_pem().unwrap()).unwrap();
        fs::write(path("signer"), self.signer.certificate.to_pem().unwrap()).unwrap();
        let key = self.signer.key.private_key_to_pem_pkcs8().unwrap();
        fs::write(path("key"), key).unwrap();
        fs::write(path("question"), question).unwrap();
        let (index, ca, signer, key) = (path("index"), path("ca"), path("signer"), path("key"));
        let (question, answer) = (path("question"), path("answer"));
        let arguments = [
            "ocsp", "-index", &index, "-CA", &ca, "-rsigner", &signer, "-rkey", &key, "-reqin",
            &question, "-respout", &answer,
        ];
        run("openssl", &[&arguments[..], self.times].concat());
        fs::read(answer).unwrap()
    }

    /// The answer about this certificate.
    fn about(&self, certificate: &X509) -> Vec<u8> {
        let question = ocsp::question(certificate, &self.issuer.certificate).unwrap();
        self.answer(&question)
    }
}

/// The CA itself, as a signer of answers.
fn itself(authority: &Authority) -> SigningIdentity {
    SigningIdentity {
        certificate: authority.certificate.clone(),
        key: authority.key.clone(),
        intermediates: Vec::new(),
    }
}

/// A certificate of this CA for a responder, charged with it or not.
fn responder(authority: &Authority, is_charged: bool) -> SigningIdentity {
    let key = KeyKind::P256.generate().unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "Responder").unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    let issuer = &authority.certificate;
    builder.set_issuer_name(issuer.subject_name()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(issuer.not_before()).unwrap();
    builder.set_not_after(issuer.not_after()).unwrap();
    let end = BasicConstraints::new().critical().build().unwrap();
    builder.append_extension(end).unwrap();
    let usage = KeyUsage::new().digital_signature().build().unwrap();
    builder.append_extension(usage).unwrap();
    if is_charged {
        let charged = ExtendedKeyUsage::new().other("OCSPSigning").build();
        builder.append_extension(charged.unwrap()).unwrap();
    }
    builder
        .sign(&authority.key, MessageDigest::sha256())
        .unwrap();
    SigningIdentity {
        certificate: builder.build(),
        key,
        intermediates: Vec::new(),
    }
}

const UNKNOWN: &str = "revocation: whether the certificate itself is revoked is not known: no CRL or OCSP answer was to be had: ";

/// Asserts that what lies there tells nothing: tolerated under `soft`, and told; waited for under `hard`.
fn assert_unknown(ground: &mut FetchGround, case: &str, identity: &SigningIdentity, words: &str) {
    ground.config.certificates.domains[0].revocation = WhenUnknown::Soft;
    let told = ground.explain(case, identity);
    assert_eq!(
        told.assert_served(2).as_deref(),
        Some("unavailable"),
        "{case}"
    );
    ground.config.certificates.domains[0].revocation = WhenUnknown::Hard;
    let words = format!("{UNKNOWN}{words}; `revocation = \"hard\"` refuses it (REV-4)");
    ground
        .explain_again(case)
        .assert_refused("untrusted", true, &words);
}

// rule: REV-1, REV-2, REV-5, CERT-13, DISC-9
#[test]
fn a_list_at_its_distribution_point_tells_who_is_revoked_on_the_whole_path() {
    let mut ground = FetchGround::new();
    ground.config.certificates.domains[0].revocation = WhenUnknown::Hard;
    let url = ground.web.url("/crl");
    let [good, revoked] = ["good", "revoked"].map(|case| issued(root(), case, [list_at(&url)]));
    let ca = harbor_ca(&[list_at(&url)]);
    let by_ca = issued(
        &ca,
        "by-ca",
        [
            issuer_at(&ground.web.url("/ca")),
            list_at(&ground.web.url("/crl-of-ca")),
        ],
    );
    ground
        .web
        .put("/ca", Page::Octets(ca.certificate.to_der().unwrap()));
    ground
        .web
        .put("/crl-of-ca", Page::Octets(crl_of(&ca).der()));
    let list = crl_of(root()).revoking(&revoked.certificate);
    ground.web.put("/crl", Page::Octets(list.der()));

    let told = ground.explain("good", &good);
    assert_eq!(told.assert_served(2), None);
    let (question, answer) = told.fetched().remove(0);
    assert_eq!(question, format!("CRL {url}"));
    assert!(
        answer.starts_with("a CRL with 1 entries, in date until "),
        "{answer}"
    );
    let words = "revocation: the certificate itself is revoked by CRL (REV-5)";
    ground
        .explain("revoked", &revoked)
        .assert_refused("certificateRevoked", false, words);
    // The issuer first, then the lists of both, of which one is kept from before in no run.
    let told = ground.explain("by-ca", &by_ca);
    assert_eq!(told.assert_served(3), None);
    assert_eq!(told.fetched().len(), 3);
    let list = crl_of(root()).revoking(&ca.certificate);
    ground.web.put("/crl", Page::Octets(list.der()));
    let words =
        "revocation: a CA's certificate on the path to the trust anchor is revoked by CRL (REV-5)";
    ground
        .explain_again("by-ca")
        .assert_refused("certificateRevoked", false, words);
}

// rule: REV-2, REV-4, T-14, DISC-9
#[test]
fn a_list_that_is_stale_forged_or_not_to_be_had_tells_nothing() {
    let mut ground = FetchGround::new();
    ground.config.fetch.connect_timeout = Duration::from_secs(2);
    ground.config.fetch.timeout = Duration::from_secs(2);
    let other = Authority::root("Other CA", now()).unwrap();
    let namesake = Authority::root("Test CA", now()).unwrap();
    let not_signed = "the CRL is not signed by the certificate's issuer (REV-2)";
    let delta = "is a delta CRL; complete ones are used (REV-2)";
    let malformed = "is not a readable CRL: its DER breaks off or is not understood; an X.509 CRL of version 2 in DER or PEM form is accepted (REV-2)";
    for (case, page, words) in [
        (
            "stale",
            Page::Octets(crl_of(root()).hours(-50, -1).der()),
            "the CRL is past its nextUpdate (REV-2)",
        ),
        (
            "future",
            Page::Octets(crl_of(root()).hours(2, 50).der()),
            "the CRL is of the future (REV-2)",
        ),
        ("other", Page::Octets(crl_of(&other).der()), not_signed),
        (
            "namesake",
            Page::Octets(crl_of(&namesake).der()),
            not_signed,
        ),
        (
            "delta",
            Page::Octets(
                crl_of(root())
                    .extension("2.5.29.27 = critical,DER:020101")
                    .der(),
            ),
            delta,
        ),
        ("garbage", Page::Octets(b"<html>".to_vec()), malformed),
        ("gone", Page::Status(404), "HTTP 404"),
        (
            "moved",
            Page::Redirect("file:///etc/passwd".to_owned()),
            "HTTP 302: a redirect, and none is followed (T-14)",
        ),
        (
            "large",
            Page::Announced(1 << 30),
            "the answer is longer than 10485760 octets",
        ),
        ("silent", Page::Silent, "no whole answer within 2000 ms"),
    ] {
        let path = format!("/{case}");
        ground.web.put(&path, page);
        let identity = issued(root(), case, [list_at(&ground.web.url(&path))]);
        assert_unknown(&mut ground, case, &identity, words);
    }
    let inside = issued(root(), "inside", [list_at("http://10.0.0.1/crl")]);
    let address = "10.0.0.1 is no public address; networks and host:port in fetch.permit are let through (T-14)";
    assert_unknown(&mut ground, "inside", &inside, address);
    // Switched off, nobody is asked, and soft doubts nothing.
    ground.config.certificates.domains[0].revocation = WhenUnknown::Soft;
    ground.config.fetch.revocation = false;
    let told = ground.explain_again("gone");
    assert_eq!(told.assert_served(2), None);
    assert!(told.fetched().is_empty());
}

// rule: REV-3, REV-5, DISC-9
#[test]
fn an_answer_of_the_issuer_or_of_a_charged_responder_counts_and_no_other() {
    let mut ground = FetchGround::new();
    let url = |case: &str| ground.web.url(&format!("/{case}"));
    let cases = [
        "good",
        "revoked",
        "charged",
        "unknown",
        "uncharged",
        "stranger",
        "other",
        "unsigned",
        "sorry",
        "bare",
    ];
    let [
        good,
        revoked,
        charged,
        unknown,
        uncharged,
        stranger,
        other,
        unsigned,
        sorry,
        bare,
    ] = cases.map(|case| issued(root(), case, [responder_at(&url(case))]));
    let own = itself(root());
    let (with_leave, without) = (responder(root(), true), responder(root(), false));
    let other_ca = Authority::root("Test CA", now()).unwrap();
    let foreign = responder(&other_ca, true);
    let put =
        |case: &str, octets: Vec<u8>| ground.web.put(&format!("/{case}"), Page::Octets(octets));
    let of = |signer, one: &SigningIdentity, is_revoked| {
        let responder = Responder::of(root(), signer).knowing(&one.certificate, is_revoked);
        responder.about(&one.certificate)
    };
    put("good", of(&own, &good, false));
    put("revoked", of(&own, &revoked, true));
    put("charged", of(&with_leave, &charged, false));
    put(
        "unknown",
        Responder::of(root(), &own).about(&unknown.certificate),
    );
    put("uncharged", of(&without, &uncharged, false));
    put("stranger", of(&foreign, &stranger, false));
    // An answer that is good, about somebody else.
    put("other", of(&own, &good, false));
    // The issuer's own answer need not bring its certificate, so the signature comes last.
    let bare_of = |one: &SigningIdentity| {
        let mut responder = Responder::of(root(), &own).knowing(&one.certificate, false);
        responder.times = &["-ndays", "1", "-resp_no_certs"];
        responder.about(&one.certificate)
    };
    put("bare", bare_of(&bare));
    let mut broken = bare_of(&unsigned);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    put("unsigned", broken);
    // tryLater, as RFC 6960 §4.2.1 writes it.
    put("sorry", vec![0x30, 0x03, 0x0A, 0x01, 0x03]);

    ground.config.certificates.domains[0].revocation = WhenUnknown::Hard;
    assert_eq!(ground.explain("good", &good).assert_served(2), None);
    for (case, identity) in [("charged", &charged), ("bare", &bare)] {
        assert_eq!(
            ground.explain(case, identity).assert_served(2),
            None,
            "{case}"
        );
    }
    let words = "revocation: the certificate itself is revoked by OCSP (REV-5)";
    ground
        .explain("revoked", &revoked)
        .assert_refused("certificateRevoked", false, words);
    // No outage: the responder of her own issuer does not know her.
    ground.config.certificates.domains[0].revocation = WhenUnknown::Soft;
    let words = format!(
        "{UNKNOWN}the responder does not know the certificate (REV-3); `revocation = \"soft\"` refuses it, too (REV-4)"
    );
    ground
        .explain("unknown", &unknown)
        .assert_refused("untrusted", true, &words);
    let not_signed = "it is signed neither by the certificate's issuer nor by a responder that has its issuer's certificate for OCSPSigning (REV-3)";
    let about_others =
        "it says nothing about the certificate: another one, or another issuer's (REV-3)";
    for (case, identity, words) in [
        ("uncharged", &uncharged, not_signed),
        ("stranger", &stranger, not_signed),
        ("other", &other, about_others),
        ("unsigned", &unsigned, not_signed),
        ("sorry", &sorry, "the responder gives no answer: tryLater"),
    ] {
        assert_unknown(&mut ground, case, identity, words);
    }
}

// rule: REV-1
#[test]
fn the_list_goes_first_and_a_responder_or_a_second_list_stands_in_when_it_gives_nothing() {
    let mut ground = FetchGround::new();
    ground.config.certificates.domains[0].revocation = WhenUnknown::Hard;
    let web = &ground.web;
    let points = [list_at(&web.url("/gone")), responder_at(&web.url("/ocsp"))];
    let one = issued(root(), "one", points);
    let own = itself(root());
    let responder = Responder::of(root(), &own).knowing(&one.certificate, false);
    web.put("/ocsp", Page::Octets(responder.about(&one.certificate)));
    let told = ground.explain("one", &one);
    assert_eq!(told.assert_served(2), None);
    let asked: Vec<String> = told
        .fetched()
        .into_iter()
        .map(|(question, _)| question)
        .collect();
    let web = &ground.web;
    let expected = [
        format!("CRL {}", web.url("/gone")),
        format!("OCSP {}", web.url("/ocsp")),
    ];
    assert_eq!(asked, expected);
    web.put("/gone", Page::Octets(crl_of(root()).der()));
    let told = ground.explain_again("one");
    assert_eq!(told.assert_served(2), None);
    assert_eq!(told.fetched().len(), 1);
}

/// A certificate of the tests' CA, judged by what was fetched.
struct Judged {
    identity: SigningIdentity,
    fetched: FetchedMaterial,
    want: Want,
}

impl Judged {
    fn new() -> Self {
        let url = "http://ca.example/crl";
        Self {
            identity: issued(root(), "kept", [list_at(url)]),
            fetched: FetchedMaterial::new(Fetches {
                issuers: true,
                revocation: true,
            }),
            want: Want::Crl {
                url: url.to_owned(),
                issuer: root().certificate.clone(),
            },
        }
    }

    /// Whether it is used at that time, with what doubt, and whether something is wanted.
    fn at(&self, at: Timestamp) -> (Option<Option<Doubt>>, bool) {
        let anchors = TrustAnchors::new([root().certificate.clone()]);
        let terms = Terms {
            anchors: &anchors,
            intermediates: &[],
            allow_legacy: &[],
            revocation: Some(&Revocation::default()),
            demands: None,
            fetched: Some(&self.fetched),
        };
        let candidates = [CertificateCandidate {
            der: self.identity.certificate.to_der().unwrap(),
            origin: "test".to_owned(),
        }];
        let address = anna("kept").parse().unwrap();
        let judged = trust::judge(&candidates, &address, Purpose::Encrypt, &terms, at);
        let is_wanted = !judged.wants.is_empty();
        (judged.chosen.map(|chosen| chosen.doubt), is_wanted)
    }
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

// rule: REV-4
#[test]
fn soft_tolerates_a_day_of_what_cannot_be_had_and_not_more() {
    let judged = Judged::new();
    let start = now();
    let unavailable = Some(Some(Doubt::Unavailable));
    assert_eq!(judged.at(start), (unavailable, true));
    judged.fetched.fail(&judged.want, "no answer", true, start);
    assert_eq!(judged.at(start), (unavailable, false));
    judged
        .fetched
        .fail(&judged.want, "no answer", true, start + hours(20));
    assert_eq!(judged.at(start + hours(23)), (unavailable, true));
    assert_eq!(judged.at(start + hours(24)), (None, true));
    // A list in date makes up for all of it, and is gone by for a day after its end.
    let list = crl_of(root()).hours(-1, 48).der();
    judged
        .fetched
        .put(&judged.want, &list, start + hours(25))
        .unwrap();
    assert_eq!(judged.at(start + hours(25)), (Some(None), false));
    assert_eq!(judged.at(start + hours(27)), (Some(None), true));
    judged
        .fetched
        .fail(&judged.want, "no answer", true, start + hours(27));
    assert_eq!(judged.at(start + hours(27)), (Some(None), false));
    assert_eq!(judged.at(start + hours(49)).0, Some(Some(Doubt::Stale)));
    assert_eq!(judged.at(start + hours(73)).0, None);
}

// rule: REV-2, REV-3
#[test]
fn an_older_list_or_answer_never_takes_the_place_of_a_newer_one() {
    let judged = Judged::new();
    let at = now();
    let revoking = crl_of(root())
        .number(9)
        .revoking(&judged.identity.certificate);
    judged
        .fetched
        .put(&judged.want, &revoking.der(), at)
        .unwrap();
    let before = crl_of(root()).number(8);
    for older in [before.der(), crl_of(root()).hours(-3, 24).der()] {
        let put = judged.fetched.put(&judged.want, &older, at);
        assert_eq!(
            put.unwrap_err(),
            "the CRL is older than the one that was fetched before (REV-2)"
        );
        assert_eq!(judged.at(at).0, None);
    }
    // What is revoked stays so when its list is out of date.
    assert_eq!(judged.at(at + hours(30)).0, None);

    let own = itself(root());
    let certificate = judged.identity.certificate.clone();
    let want = Want::Ocsp {
        url: "http://ca.example/ocsp".to_owned(),
        certificate: certificate.clone(),
        issuer: root().certificate.clone(),
    };
    let good = Responder::of(root(), &own)
        .knowing(&certificate, false)
        .about(&certificate);
    let answered = Timestamp::from_second(now().as_second()).unwrap();
    // The tool writes whole seconds: the next one is another.
    wait_until("the next second begins", || {
        now() > answered + SignedDuration::from_secs(1)
    });
    let revoked = Responder::of(root(), &own)
        .knowing(&certificate, true)
        .about(&certificate);
    judged.fetched.put(&want, &revoked, now()).unwrap();
    let replayed = judged.fetched.put(&want, &good, now());
    assert_eq!(
        replayed.unwrap_err(),
        "the OCSP answer is older than the one that was fetched before (REV-3)"
    );
    // The tool promises the next one within a day.
    let replayed = judged.fetched.put(&want, &revoked, now() + hours(25));
    assert_eq!(
        replayed.unwrap_err(),
        "the OCSP answer is past its nextUpdate (REV-3)"
    );
}

/// A signer of the sender's domain that names a list.
fn signer(url: &str) -> SigningIdentity {
    let mut profile = Profile::domain(&"direct.harbor.example".parse().unwrap(), now());
    profile.key = KeyKind::P256;
    profile.extensions.push(list_at(url));
    alone(root().issue(&profile).unwrap())
}

// rule: REV-4, RCV-R6, DST-2
#[test]
fn mail_waits_under_hard_for_the_list_that_its_signer_names_and_a_revoked_signer_is_nobodys() {
    for is_revoked in [false, true] {
        let web = Web::start();
        web.put("/crl", Page::Status(503));
        let signer = signer(&web.url("/crl"));
        let place = web.address().to_string().parse().unwrap();
        let setup = Setup {
            change: Box::new(move |config| {
                config.fetch.permit = [place].into_iter().collect();
                config.certificates.domains[0].revocation = WhenUnknown::Hard;
            }),
            ..Setup::default()
        };
        let notices = NoticesGround::start_as(setup);
        let (ground, start) = (&notices.ground, notices.clock.now());
        let letter = letter("waits@direct.harbor.example", &[ADA], "");
        let mail = sealed(&letter, &[&signer], &pki().direct_elm);
        let reply = ground.send(SENDER, &[ADA], &mail);
        assert!(reply.starts_with("250"), "{reply}");
        wait_until("the mail waits", || {
            ground.bridge.recipient(ADA).reason.is_some()
        });
        assert!(ground.bridge.alarms("revocation_unknown") > 0);
        let list = crl_of(root());
        let list = match is_revoked {
            true => list.revoking(&signer.certificate),
            false => list,
        };
        web.put("/crl", Page::Octets(list.der()));
        notices.clock.set(start + Duration::from_secs(3 * 60));
        ground.bridge.store().due_changed().notify_one();
        if is_revoked {
            wait_until("the recipient is settled", || {
                ground.bridge.recipient(ADA).outcome.is_some()
            });
            assert_eq!(ground.bridge.recipient(ADA).state, RecipientState::Rejected);
            let causes = ground.causes();
            let words = "is revoked by CRL (REV-5)";
            assert!(
                causes.iter().any(|cause| cause.contains(words)),
                "{causes:?}"
            );
        } else {
            assert_eq!(ground.next_posted(0), [LETTER]);
        }
    }
}

#[test]
fn what_is_posted_to_a_responder_is_a_question_about_the_certificate() {
    let mut ground = FetchGround::new();
    ground.config.certificates.domains[0].revocation = WhenUnknown::Hard;
    let one = issued(root(), "asked", [responder_at(&ground.web.url("/ocsp"))]);
    let certificate = one.certificate.clone();
    let answering = move |question: &[u8]| {
        let own = itself(root());
        Responder::of(root(), &own)
            .knowing(&certificate, false)
            .answer(question)
    };
    ground.web.put("/ocsp", Page::Made(Arc::new(answering)));
    assert_eq!(ground.explain("asked", &one).assert_served(2), None);
}
