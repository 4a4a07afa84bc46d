//! What peers of every make seal is taken, and reaches the XDR endpoint octet by octet.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use openssl::base64::encode_block;
use xdbridge::{
    adapters::{certificates::DomainConfig, clock::SystemClock},
    app::{
        config::Config,
        pki::{Authority, KeyKind, Profile},
    },
    flows::ports::Clock,
    formats::{audit::AuditKind, notification::mdn::Disposition, smime::SigningIdentity},
};

use crate::support::{
    bridge::{pki, write_identity},
    keys,
    openssl_peer::{OpensslPeer, mailed, mailed_by, over_smtp, wrapped},
    postfix::Postfix,
    receiving_ground::{ADA, LETTER, ReceivingGround, SENDER, TEAM, letter, success},
    wait_until,
};

const COMPOSE: &str = include_str!("support/compose.py");
/// Somebody at the bridge's other domain.
const ASH_ADA: &str = "ada.quill@direct.ash.example";

/// A letter of its own for each name, and the entity that wraps it.
fn letter_of(name: &str) -> String {
    let id = format!("{}@direct.harbor.example", name.replace([' ', ','], "-"));
    letter(&id, &[ADA], "")
}

/// A certificate for the sender's own address.
fn sender(key: KeyKind) -> SigningIdentity {
    let mut profile = Profile::address(&SENDER.parse().unwrap(), SystemClock.now());
    profile.key = key;
    keys::issue(&pki().authority, &profile)
}

/// A further key of the bridge's domain.
fn own_key(key: KeyKind) -> SigningIdentity {
    let domain = "direct.elm.example".parse().unwrap();
    let mut profile = Profile::domain(&domain, SystemClock.now());
    profile.key = key;
    keys::issue(&pki().authority, &profile)
}

/// Gives the bridge's domain further keys.
fn with_keys(config: &mut Config, keys: &[&SigningIdentity]) {
    let folder = config.soap.server.certificate.parent().unwrap().to_owned();
    let domain: &mut DomainConfig = &mut config.certificates.domains[0];
    for (number, key) in keys.iter().enumerate() {
        let identity = write_identity(&folder, &format!("own{number}"), key);
        domain.identities.push(identity);
    }
}

// rule: SM-3, SM-11, SM-15, SM-24, SM-30, SM-31, SM-32, SM-73, RCV-2, RCV-10, SM-23
#[test]
fn every_form_of_signature_and_envelope_that_openssl_makes_arrives() {
    let (large, middle) = (own_key(KeyKind::Rsa(4096)), own_key(KeyKind::Rsa(3072)));
    let (p256, p384) = (own_key(KeyKind::P256), own_key(KeyKind::P384));
    let ground = ReceivingGround::configured(
        |_| success(),
        |config| with_keys(config, &[&large, &middle, &p256, &p384]),
    );
    let peer = OpensslPeer::new();
    let own = &pki().direct_elm;
    let arrives = |name: &str, signed: &[u8], to: &SigningIdentity, options: &[&str]| {
        let sealed = mailed(&peer.encrypt(signed, &[&to.certificate], options));
        assert_eq!(ground.arrives(&[ADA], &sealed), [LETTER], "{name}");
    };
    let cbc = &["-aes-256-cbc"][..];

    for (name, signer, options) in [
        ("detached", pki().harbor.clone(), &["-md", "sha256"][..]),
        (
            "opaque",
            pki().harbor.clone(),
            &["-md", "sha512", "-nodetach"],
        ),
        (
            "opaque, streamed",
            pki().harbor.clone(),
            &["-md", "sha384", "-nodetach", "-stream"],
        ),
        (
            "key identifier",
            pki().harbor.clone(),
            &["-md", "sha256", "-keyid"],
        ),
        ("P-256", sender(KeyKind::P256), &["-md", "sha256"]),
        (
            "P-384",
            sender(KeyKind::P384),
            &["-md", "sha384", "-nodetach"],
        ),
        ("RSA 3072", sender(KeyKind::Rsa(3072)), &["-md", "sha256"]),
        ("RSA 4096", sender(KeyKind::Rsa(4096)), &["-md", "sha256"]),
    ] {
        let entity = wrapped(&letter_of(name));
        let options = [&["-binary"], options].concat();
        arrives(name, &peer.sign(entity, &[&signer], &options), own, cbc);
    }

    let oaep = ["-keyopt", "rsa_padding_mode:oaep"];
    let oaep_sha256 = [&oaep[..], &["-keyopt", "rsa_oaep_md:sha256"]].concat();
    let agreed = ["-keyopt", "ecdh_kdf_md:sha256", "-aes256-wrap"];
    for (name, to, cipher, options) in [
        ("AES-128", own, "-aes-128-cbc", &[][..]),
        ("AES-192, streamed", own, "-aes-192-cbc", &["-stream"]),
        ("OAEP SHA-1", own, "-aes-128-cbc", &oaep),
        ("OAEP SHA-256", own, "-aes-256-cbc", &oaep_sha256),
        ("AES-128-GCM", own, "-aes-128-gcm", &[]),
        ("AES-256-GCM", own, "-aes-256-gcm", &oaep_sha256),
        ("to a key identifier", own, "-aes-256-cbc", &["-keyid"]),
        ("to RSA 3072", &middle, "-aes-256-cbc", &[]),
        ("to RSA 4096", &large, "-aes-256-cbc", &[]),
        ("to P-256", &p256, "-aes-256-cbc", &agreed),
        ("to P-384", &p384, "-aes-256-cbc", &agreed),
    ] {
        let signed = peer.sign(wrapped(&letter_of(name)), &[&pki().harbor], &["-binary"]);
        arrives(name, &signed, to, &[&[cipher], options].concat());
    }
    assert_eq!(ground.causes(), Vec::<String>::new());
}

// rule: SM-30, SM-55, RX-5, SM-57, SM-11, SM-12
#[test]
fn old_names_missing_parameters_and_base64_in_one_line_are_read() {
    let ground = ReceivingGround::configured(
        |_| success(),
        |config| {
            let server = config.smtp.server.as_mut().unwrap();
            server.max_text_line_bytes = 100_000;
        },
    );
    let peer = OpensslPeer::new();
    let to = &pki().direct_elm.certificate;
    let sealed = |name: &str| peer.seal(wrapped(&letter_of(name)), &[&pki().harbor], to);
    let with_type = |name: &str, content_type: &str| {
        let mail = String::from_utf8(sealed(name)).unwrap();
        let (header, body) = mail.split_once("\r\n\r\n").unwrap();
        let kept: Vec<&str> = header
            .split("\r\n")
            .filter(|line| !line.starts_with("Content-Type") && !line.starts_with(['\t', ' ']))
            .collect();
        format!("{}\r\n{content_type}\r\n\r\n{body}", kept.join("\r\n"))
    };
    for (name, content_type) in [
        (
            "old name",
            "Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data; name=smime.p7m",
        ),
        (
            "no smime-type",
            "Content-Type: application/pkcs7-mime; name=\"SMIME.P7M\"",
        ),
        ("bare", "content-type : Application/PKCS7-MIME"),
        (
            "wrong smime-type",
            "Content-Type: application/pkcs7-mime;\r\n\tsmime-type=\"signed-data\"",
        ),
    ] {
        let mail = with_type(name, content_type);
        assert_eq!(ground.arrives(&[ADA], mail.as_bytes()), [LETTER], "{name}");
    }

    let mail = String::from_utf8(sealed("one line")).unwrap();
    let (header, body) = mail.split_once("\r\n\r\n").unwrap();
    let line = body.replace("\r\n", "");
    assert!(line.len() > 2_000, "longer than SMTP's own limit");
    let mail = format!("{header}\r\n\r\n{line}\r\n");
    assert_eq!(ground.arrives(&[ADA], mail.as_bytes()), [LETTER]);

    // Inside, the signature under its old name and an unquoted protocol.
    let signed = peer.sign(
        wrapped(&letter_of("inside")),
        &[&pki().harbor],
        &["-binary"],
    );
    let signed = String::from_utf8(signed).unwrap();
    let old = signed
        .replace(
            "\"application/x-pkcs7-signature\"",
            "\"application/pkcs7-signature\"",
        )
        .replace(
            "\"application/pkcs7-signature\"",
            "application/x-pkcs7-signature",
        )
        .replace(
            "application/pkcs7-signature",
            "application/x-pkcs7-signature",
        );
    assert!(
        old.contains("protocol=application/x-pkcs7-signature"),
        "{old}"
    );
    assert_eq!(ground.arrives(&[ADA], &peer.enclose(old, to)), [LETTER]);
}

// rule: RX-5
#[test]
fn a_line_beyond_the_setting_is_refused_in_the_session() {
    let ground = ReceivingGround::start(|_| success());
    let to = &pki().direct_elm.certificate;
    let sealed = OpensslPeer::new().seal(wrapped(&letter_of("long")), &[&pki().harbor], to);
    let mail = String::from_utf8(sealed).unwrap();
    let (header, body) = mail.split_once("\r\n\r\n").unwrap();
    let mail = format!("{header}\r\n\r\n{}\r\n", body.replace("\r\n", ""));
    let reply = ground.send(SENDER, &[ADA], mail.as_bytes());
    assert!(reply.starts_with("554 5.6.0"), "{reply}");
    ground.bridge.assert_nothing_stored();
}

// rule: WR-1, WR-2, WR-9, SM-70, SM-54
#[test]
fn messages_wrapped_in_every_way_or_not_at_all_are_unwrapped() {
    let ground = ReceivingGround::start(|_| success());
    let peer = OpensslPeer::new();
    let to = &pki().direct_elm.certificate;
    let arrives = |name: &str, entity: &str| {
        let mail = peer.seal(entity, &[&pki().harbor], to);
        assert_eq!(ground.arrives(&[ADA], &mail), [LETTER], "{name}");
    };
    arrives("7bit", &wrapped(&letter_of("7bit")));
    let with_encoding = |encoding: &str| {
        format!("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
    };
    let umlauts = letter_of("8bit").replace("Please", "Grüße aus Köln. Please");
    arrives("8bit", &(with_encoding("8bit") + &umlauts));
    let octets = encode_block(letter_of("base64").as_bytes());
    let lines: Vec<&str> = octets
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    arrives(
        "base64",
        &(with_encoding("base64") + &lines.join("\r\n") + "\r\n"),
    );
    let quoted = letter_of("quoted")
        .replace('=', "=3D")
        .replace("see the", "s=65e =\r\nthe");
    arrives(
        "quoted-printable",
        &(with_encoding("quoted-printable") + &quoted),
    );

    // Line feeds alone at the source; openssl makes them CRLF before it signs.
    let entity = wrapped(&letter_of("LF")).replace("\r\n", "\n");
    let signed = peer.sign(entity, &[&pki().harbor], &["-md", "sha256"]);
    assert_eq!(ground.arrives(&[ADA], &peer.enclose(signed, to)), [LETTER]);

    // Nothing wrapped: the outer header is the message's.
    let whole = letter_of("unwrapped");
    let content = &whole[whole.find("Content-Type: multipart/mixed").unwrap()..];
    for options in [&["-binary"][..], &["-binary", "-nodetach"]] {
        let signed = peer.sign(content, &[&pki().harbor], options);
        assert_eq!(ground.arrives(&[ADA], &peer.enclose(signed, to)), [LETTER]);
    }
}

// rule: SM-22, RCV-7
#[test]
fn one_good_signer_of_two_is_enough_and_the_other_is_told_to_the_audit() {
    let ground = ReceivingGround::start(|_| success());
    let peer = OpensslPeer::new();
    let to = &pki().direct_elm.certificate;
    let strangers = Authority::root("Strangers", SystemClock.now()).unwrap();
    let profile = Profile::address(&SENDER.parse().unwrap(), SystemClock.now());
    let stranger = strangers.issue(&profile).unwrap();
    for (name, signers) in [
        ("stranger first", [&stranger, &pki().harbor]),
        ("stranger last", [&pki().harbor, &stranger]),
    ] {
        let mail = peer.seal(wrapped(&letter_of(name)), &signers, to);
        assert_eq!(ground.arrives(&[ADA], &mail), [LETTER], "{name}");
    }
    // A second signer whose certificate is not sent along cannot be verified.
    let good = peer.put("good.pem", pki().harbor.certificate.to_pem().unwrap());
    let entity = wrapped(&letter_of("only one certificate"));
    let options = ["-binary", "-nocerts", "-certfile", &good];
    let signed = peer.sign(entity, &[&pki().harbor, &stranger], &options);
    assert_eq!(ground.arrives(&[ADA], &peer.enclose(signed, to)), [LETTER]);
    let records = ground.bridge.audit_of(AuditKind::Secure);
    let mut faults = records
        .iter()
        .filter_map(|record| record.details.get("failed-signer"));
    assert!(faults.any(|fault| fault.contains("SM-16")), "{records:?}");
}

// rule: RCV-3, MR-1, MR-4
#[test]
fn recipients_of_two_own_domains_are_both_served_with_the_key_of_either() {
    let ground = ReceivingGround::configured(
        |_| success(),
        |config| {
            config.endpoint[0]
                .serves
                .push("direct.ash.example".to_owned())
        },
    );
    let ash = &pki().direct_ash.certificate;
    let peer = OpensslPeer::new();
    let elm = &pki().direct_elm.certificate;
    for (number, recipients) in [vec![elm], vec![ash], vec![elm, ash]].iter().enumerate() {
        let id = format!("both{number}@direct.harbor.example");
        let both = [ADA, ASH_ADA];
        let entity = wrapped(&letter(&id, &both, ""));
        let signed = peer.sign(entity, &[&pki().harbor], &["-binary"]);
        let sealed = peer.encrypt(signed, recipients, &["-aes-256-cbc"]);
        let mail = mailed_by(SENDER, &both, &sealed);
        assert_eq!(ground.arrives(&both, &mail), [LETTER]);
    }
    let notices = ground.notices(6);
    for to in [ADA, ASH_ADA] {
        assert_eq!(notices.iter().filter(|notice| notice.from == to).count(), 3);
    }
}

/// Runs the Python mail program.
fn python(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("python3")
        .args(["-c", COMPOSE])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output.stdout
}

// rule: RCV-1, RCV-2, RCV-10, CC-11, SM-70, MDN-12, WR-1
#[test]
fn a_real_relay_brings_what_python_composes_and_openssl_seals() {
    let ground = ReceivingGround::start(|_| success());
    let address = ground.bridge.smtp_address();
    let postfix = Postfix::relaying(&pki().mail_host, "direct.elm.example", address);
    let port = postfix.address().port().to_string();
    let peer = OpensslPeer::new();
    let first: Vec<u8> = [
        &b"%PDF-1.4\n"[..],
        &(0..=255).cycle().take(100_000).collect::<Vec<u8>>(),
    ]
    .concat();
    let second = b"%PDF-1.4\r\n.\r\n..\rFrom \n\0".to_vec();
    let files = [
        peer.put("first.pdf", &first),
        peer.put("second.pdf", &second),
    ];
    let id = "python@direct.harbor.example";
    let entity = python(&["compose", id, SENDER, ADA, &files[0], &files[1]], b"");
    for (number, options) in [&["-binary"][..], &["-binary", "-nodetach"]]
        .iter()
        .enumerate()
    {
        // Another octet makes it another mail, under another Message-ID.
        let entity = String::from_utf8(entity.clone())
            .unwrap()
            .replace("python@", &format!("python{number}@"));
        let signed = peer.sign(entity, &[&pki().harbor], options);
        let mail = peer.enclose(signed, &pki().direct_elm.certificate);
        python(&["send", &port, SENDER, ADA], &mail);
        let documents = ground.next_posted(number);
        assert!(
            documents == [first.clone(), second.clone()],
            "the documents differ"
        );
    }
    wait_until("Postfix has our 250", || {
        postfix
            .log()
            .matches("status=sent (250 2.0.0 Ok: queued as ")
            .count()
            == 2
    });
    for notice in ground.notices(2) {
        assert_eq!(notice.report.disposition, Some(Disposition::Processed));
    }
}

// rule: RCV-1, RX-2
#[test]
fn what_swaks_sends_arrives() {
    let ground = ReceivingGround::start(|_| success());
    let peer = OpensslPeer::new();
    let to = &pki().direct_elm.certificate;
    let mail = peer.seal(
        wrapped(&letter("s@direct.harbor.example", &[ADA, TEAM], "")),
        &[&pki().harbor],
        to,
    );
    let file = peer.put("mail.eml", &mail);
    let output = Command::new("swaks")
        .args([
            "--tls",
            "--server",
            "127.0.0.1",
            "--helo",
            "mx.harbor.example",
            "--timeout",
            "20",
        ])
        .args(["--port", &ground.bridge.smtp_address().port().to_string()])
        .args(["--from", SENDER, "--to", &format!("{ADA},{TEAM}")])
        .args(["--data", &format!("@{file}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(ground.next_posted(0), [LETTER]);
    ground.notices(2);
    assert_eq!(over_smtp(&mail), mail);
}
