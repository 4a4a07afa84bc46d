//! Issuers' certificates that are lacking on the way to an anchor are fetched from where certificates say that they are
//! (AIA caIssuers, TA-7, TA-8): for recipients, as `explain` tells it, and for signers of received mail. What an attacker
//! puts there is refused for what it is.

use std::{fs, path::Path, time::Duration};

use openssl::{
    hash::MessageDigest,
    x509::{X509, X509Builder, extension::BasicConstraints},
};
use xdbridge::{
    app::pki::{Authority, KeyKind, Profile, days},
    formats::smime::SigningIdentity,
};

use crate::support::{
    bridge::{now, pki},
    fetch_ground::{FetchGround, alone, harbor_ca, issued, issuer_at},
    folder::TestFolder,
    receiving_ground::{ADA, LETTER, ReceivingGround, SENDER, Setup, letter, sealed, success},
    tools::run,
    wait_until,
    web::{Page, Web},
};

fn der(certificate: &X509) -> Vec<u8> {
    certificate.to_der().unwrap()
}

fn ca_page(authority: &Authority) -> Page {
    Page::Octets(der(&authority.certificate))
}

/// A certs-only PKCS#7, made by the machine's own openssl.
fn certs_only(certificates: &[&X509]) -> Vec<u8> {
    let folder = TestFolder::new();
    let (pem, out) = (folder.path().join("all.pem"), folder.path().join("all.p7c"));
    let all: Vec<u8> = certificates
        .iter()
        .flat_map(|one| one.to_pem().unwrap())
        .collect();
    fs::write(&pem, all).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = ["crl2pkcs7", "-nocrl", "-outform", "DER"];
    let (pem, made) = (text(&pem), text(&out));
    run(
        "openssl",
        &[&arguments[..], &["-certfile", &pem, "-out", &made]].concat(),
    );
    fs::read(out).unwrap()
}

// rule: TA-7, TA-8, CERT-12, DISC-9
#[test]
fn an_intermediate_that_only_aia_gives_completes_the_path_in_every_form() {
    let ground = FetchGround::new();
    let ca = harbor_ca(&[]);
    let stranger = Authority::root("Other CA", now()).unwrap();
    let both = [&stranger.certificate, &ca.certificate];
    let pem = ca.certificate.to_pem().unwrap();
    for (case, octets, answer) in [
        ("der", der(&ca.certificate), "1 CA certificate"),
        ("p7", certs_only(&both), "2 CA certificates"),
        ("pem", pem, "1 CA certificate"),
    ] {
        let path = format!("/{case}");
        ground.web.put(&path, Page::Octets(octets));
        let url = ground.web.url(&path);
        let told = ground.explain(case, &issued(&ca, case, [issuer_at(&url)]));
        assert_eq!(told.assert_served(3), None);
        let asked = format!("issuer's certificate {url}");
        assert_eq!(told.fetched(), [(asked, answer.to_owned())]);
    }
}

// rule: TA-7, DISC-1
#[test]
fn what_is_configured_or_an_anchor_is_not_fetched_and_nothing_is_when_it_is_switched_off() {
    let mut ground = FetchGround::new();
    let url = ground.web.url("/ca");
    let ca = harbor_ca(&[]);
    ground.web.put("/ca", ca_page(&ca));
    let by_root = issued(&pki().authority, "root", [issuer_at(&url)]);
    ground.explain("root", &by_root).assert_served(2);
    assert!(ground.web.seen().is_empty());

    let lacking = issued(&ca, "off", [issuer_at(&url)]);
    ground.config.fetch.issuers = false;
    let no_path = "path: no path leads to a valid configured trust anchor (TA-4, TA-11)";
    ground
        .explain("off", &lacking)
        .assert_refused("untrusted", false, no_path);
    assert!(ground.web.seen().is_empty());
}

// rule: TA-7, T-14, DISC-9
#[test]
fn whatever_else_lies_under_the_url_is_told_and_completes_no_path() {
    let mut ground = FetchGround::new();
    // Who announces too much is found out at once; only who is silent takes this long.
    ground.config.fetch.connect_timeout = Duration::from_secs(2);
    ground.config.fetch.timeout = Duration::from_secs(2);
    let ca = harbor_ca(&[]);
    let inner = Web::start();
    inner.put("/ca", ca_page(&ca));
    let web = &ground.web;
    web.put("/moved", Page::Redirect(inner.url("/ca")));
    web.put("/to-file", Page::Redirect("file:///etc/passwd".to_owned()));
    web.put("/large", Page::Announced(1 << 30));
    web.put("/endless", Page::Endless);
    web.put("/silent", Page::Silent);
    web.put("/busy", Page::Status(503));
    web.put("/garbage", Page::Octets(b"<html>".to_vec()));
    let user = issued(&pki().authority, "user", []);
    web.put("/user", Page::Octets(der(&user.certificate)));
    let lacking = "path: no path leads to a valid configured trust anchor, and its issuer's certificate was not to be had: ";
    let address = "is no public address; networks and host:port in fetch.permit are let through (T-14) (TA-7)";
    let redirect = "HTTP 302: a redirect, and none is followed (T-14) (TA-7)";
    let too_large = "the answer is longer than 65536 octets (TA-7)";
    let port = inner.address().port();
    let closed = format!(
        "port {port} is not open to it; 80, 443 and host:port in fetch.permit are (T-14) (TA-7)"
    );
    for (case, url, may_pass, words) in [
        ("loopback", "http://127.0.0.1/ca".to_owned(), false, format!("127.0.0.1 {address}")),
        ("port", inner.url("/ca"), false, closed),
        ("mapped", "http://[::ffff:7f00:1]/ca".to_owned(), false, format!("::ffff:127.0.0.1 {address}")),
        ("private", "http://10.1.2.3/ca".to_owned(), false, format!("10.1.2.3 {address}")),
        ("metadata", "http://169.254.169.254/ca".to_owned(), false, format!("169.254.169.254 {address}")),
        ("file", "file:///etc/passwd".to_owned(), false, "the scheme `file` is not fetched; http and https are (T-14) (TA-7)".to_owned()),
        ("moved", web.url("/moved"), false, redirect.to_owned()),
        ("to-file", web.url("/to-file"), false, redirect.to_owned()),
        ("large", web.url("/large"), false, too_large.to_owned()),
        ("endless", web.url("/endless"), false, too_large.to_owned()),
        ("silent", web.url("/silent"), true, "no whole answer within 2000 ms (TA-7)".to_owned()),
        ("busy", web.url("/busy"), true, "HTTP 503 (TA-7)".to_owned()),
        ("gone", web.url("/gone"), false, "HTTP 404 (TA-7)".to_owned()),
        ("garbage", web.url("/garbage"), false, "no certificate in it; one in DER form, a certs-only PKCS#7, or PEM of either is accepted (TA-8) (TA-7)".to_owned()),
        ("user", web.url("/user"), false, "no CA's certificate in it (TA-9) (TA-7)".to_owned()),
    ] {
        let identity = issued(&ca, case, [issuer_at(&url)]);
        let told = ground.explain(case, &identity);
        told.assert_refused("untrusted", may_pass, &format!("{lacking}{words}"));
        assert_eq!(told.fetched().len(), 1, "{case}");
    }
    assert!(inner.seen().is_empty());
}

// rule: TA-6, T-13g
#[test]
fn a_fetched_ca_that_only_looks_like_the_anchor_ends_no_path() {
    let ground = FetchGround::new();
    let url = ground.web.url("/ca");
    // The same name and another key.
    let forged = Authority::root("Test CA", now()).unwrap();
    ground.web.put("/ca", ca_page(&forged));
    let told = ground.explain("forged", &issued(&forged, "forged", [issuer_at(&url)]));
    let no_path = "path: no path leads to a valid configured trust anchor (TA-4, TA-11)";
    told.assert_refused("untrusted", false, no_path);
}

/// `subject` vouched for by `issuer`, by its name and key.
fn crossed(subject: &Authority, issuer: &Authority, url: &str) -> X509 {
    let own = &subject.certificate;
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(own.serial_number()).unwrap();
    builder.set_subject_name(own.subject_name()).unwrap();
    let issuer_name = issuer.certificate.subject_name();
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_pubkey(&subject.key).unwrap();
    builder.set_not_before(own.not_before()).unwrap();
    builder.set_not_after(own.not_after()).unwrap();
    let is_ca = BasicConstraints::new().critical().ca().build().unwrap();
    builder.append_extension(is_ca).unwrap();
    builder.append_extension(issuer_at(url)).unwrap();
    builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    builder.build()
}

// rule: TA-7, T-13h
#[test]
fn cross_signed_loops_and_long_chains_end_after_few_fetches() {
    let ground = FetchGround::new();
    let web = &ground.web;
    // Each of two CAs vouches for the other, and for nobody who is trusted.
    let [a, b] = ["Loop A", "Loop B"].map(|name| Authority::root(name, now()).unwrap());
    // What certifies A is fetched from the URL in her certificate, what certifies B from that in A's.
    let a_by_b = crossed(&a, &b, &web.url("/b-by-a"));
    let b_by_a = crossed(&b, &a, &web.url("/a-by-b"));
    web.put("/a-by-b", Page::Octets(der(&a_by_b)));
    web.put("/b-by-a", Page::Octets(der(&b_by_a)));
    let told = ground.explain(
        "loop",
        &issued(&a, "loop", [issuer_at(&web.url("/a-by-b"))]),
    );
    let no_path = "path: no path leads to a valid configured trust anchor (TA-4, TA-11)";
    told.assert_refused("untrusted", false, no_path);
    assert_eq!(told.fetched().len(), 2);

    // A chain of twenty, each with its issuer's URL.
    let mut chain = vec![pki().authority.clone()];
    for level in 1..=20 {
        let above = chain.last().unwrap();
        let url = web.url(&format!("/level-{}", level - 1));
        let next = above.intermediate(&format!("Level {level}"), now(), &[issuer_at(&url)]);
        chain.push(next.unwrap());
    }
    for (level, ca) in chain.iter().enumerate() {
        web.put(&format!("/level-{level}"), ca_page(ca));
    }
    for (level, is_served) in [(4, true), (5, false), (20, false)] {
        let case = format!("chain{level}");
        let url = web.url(&format!("/level-{level}"));
        let told = ground.explain(&case, &issued(&chain[level], &case, [issuer_at(&url)]));
        if is_served {
            // Four below the anchor, which is not fetched, the anchor, and her own.
            told.assert_served(6);
            assert_eq!(told.fetched().len(), 4);
        } else {
            let too_long = "path: no path of at most 5 issuers leads to a valid configured trust anchor (TA-7)";
            told.assert_refused("untrusted", false, too_long);
            assert_eq!(told.fetched().len(), 5, "{case}");
        }
    }
}

/// A signer of the sender's domain whose mail brings no intermediate.
fn signer(ca: &Authority, url: &str) -> SigningIdentity {
    let mut profile = Profile::domain(&"direct.harbor.example".parse().unwrap(), now());
    profile.key = KeyKind::P256;
    // Later than any other of the domain.
    profile.not_before = days(now(), 0);
    profile.extensions.push(issuer_at(url));
    alone(ca.issue(&profile).unwrap())
}

fn receiving(web: &Web, inline_verify: bool) -> ReceivingGround {
    let place = web.address().to_string().parse().unwrap();
    let setup = Setup {
        change: Box::new(move |config| {
            config.fetch.permit = [place].into_iter().collect();
            config.receiving.inline_verify = inline_verify;
        }),
        ..Setup::default()
    };
    ReceivingGround::start_as(|_| success(), setup)
}

// rule: TA-7, RCV-7
#[test]
fn a_signer_whose_issuer_only_aia_gives_is_trusted_and_the_issuer_is_fetched_once() {
    for inline_verify in [false, true] {
        let web = Web::start();
        let ca = harbor_ca(&[]);
        web.put("/ca", ca_page(&ca));
        let signer = signer(&ca, &web.url("/ca"));
        let ground = receiving(&web, inline_verify);
        for (before, id) in ["first", "second"].into_iter().enumerate() {
            let letter = letter(&format!("{id}@direct.harbor.example"), &[ADA], "");
            let mail = sealed(&letter, &[&signer], &pki().direct_elm);
            let reply = ground.send(SENDER, &[ADA], &mail);
            assert!(reply.starts_with("250"), "{reply}");
            assert_eq!(ground.next_posted(before), [LETTER]);
        }
        assert_eq!(web.seen(), ["/ca"]);
    }
}

// rule: TA-7, RCV-R6, DST-2
#[test]
fn mail_waits_for_an_issuer_that_is_busy_and_is_nobodys_when_there_is_none() {
    for (page, waits) in [(Page::Status(503), true), (Page::Status(404), false)] {
        let web = Web::start();
        let ca = harbor_ca(&[]);
        web.put("/ca", page);
        let ground = receiving(&web, false);
        let letter = letter("waits@direct.harbor.example", &[ADA], "");
        let mail = sealed(&letter, &[&signer(&ca, &web.url("/ca"))], &pki().direct_elm);
        let reply = ground.send(SENDER, &[ADA], &mail);
        assert!(reply.starts_with("250"), "{reply}");
        if waits {
            wait_until("the mail waits", || {
                ground.bridge.recipient(ADA).reason.is_some()
            });
            assert_eq!(ground.bridge.recipient(ADA).outcome, None);
        } else {
            wait_until("the recipient is settled", || {
                ground.bridge.recipient(ADA).outcome.is_some()
            });
            let causes = ground.causes();
            let words = "its issuer's certificate was not to be had: HTTP 404 (TA-7)";
            assert!(
                causes.iter().any(|cause| cause.contains(words)),
                "{causes:?}"
            );
        }
        assert!(ground.posted().is_empty());
    }
}
