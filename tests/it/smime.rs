//! What we seal is opened by `openssl cms`, what that makes is opened by us, and what is altered, forged or swollen is
//! refused.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::Command,
};

use jiff::Timestamp;
use openssl::{nid::Nid, x509::X509};
use xdbridge::{
    app::pki::{Authority, KeyKind, Profile},
    formats::{
        limits::Limits,
        smime::{
            ContentCipher, Digest, FrontError, Legacy, Leniency, OpenError, OpenOptions, Opened,
            SealError, SealHeader, SealOptions, SigningIdentity, header::OUTER_SUBJECT,
            is_sealed_for, open, open_from, seal, seal_header,
        },
    },
};

use crate::support::{folder::TestFolder, keys};

const BOUNDARY: &str = "=_signed_5d0c";
const ENTITY: &str = "Content-Type: message/rfc822\r\n\r\nFrom: rui@direct.harbor.example\r\n\
    Subject: results of Ada Quill\r\n\r\nThe results are attached.\r\n";

/// openssl judges chains by the machine's clock, so keys are made around it.
fn now() -> Timestamp {
    use xdbridge::{adapters::clock::SystemClock, flows::ports::Clock};
    SystemClock.now()
}

/// A CA with an intermediate, a sender and recipients.
struct Pki {
    root: Authority,
    issuing: Authority,
    now: Timestamp,
}

impl Pki {
    fn new() -> Self {
        let now = now();
        let root = Authority::root("Harbor Root", now).unwrap();
        let issuing = root.intermediate("Harbor Issuing", now, &[]).unwrap();
        Self { root, issuing, now }
    }

    fn identity(&self, address: &str, key: KeyKind) -> SigningIdentity {
        let mut profile = Profile::address(&address.parse().unwrap(), self.now);
        profile.key = key;
        keys::issue(&self.issuing, &profile)
    }

    fn sender(&self) -> SigningIdentity {
        self.identity("rui@direct.harbor.example", KeyKind::Rsa(2048))
    }

    fn recipient(&self) -> SigningIdentity {
        self.identity("ngozi@direct.quay.example", KeyKind::Rsa(2048))
    }

    fn seal_with(
        &self,
        signers: &[SigningIdentity],
        recipients: &[&SigningIdentity],
        options: &SealOptions,
        entity: &str,
    ) -> Result<Vec<u8>, SealError> {
        let from = "rui@direct.harbor.example".parse().unwrap();
        let to = ["ngozi@direct.quay.example".parse().unwrap()];
        let mut mail = seal_header(&SealHeader {
            from: &from,
            to: &to,
            cc: &[],
            date: self.now,
            message_id: &"1@direct.harbor.example".parse().unwrap(),
            in_reply_to: None,
            references: &[],
            subject: OUTER_SUBJECT,
            cipher: options.cipher,
        })
        .into_bytes();
        let recipients: Vec<X509> = recipients.iter().map(|r| r.certificate.clone()).collect();
        let mut write = |out: &mut dyn Write| out.write_all(entity.as_bytes());
        seal(
            &mut mail,
            signers,
            &recipients,
            options,
            self.now,
            BOUNDARY,
            &mut write,
        )?;
        Ok(mail)
    }

    fn seal(&self, recipient: &SigningIdentity) -> Vec<u8> {
        self.seal_with(
            &[self.sender()],
            &[recipient],
            &SealOptions::default(),
            ENTITY,
        )
        .unwrap()
    }
}

fn open_by(mail: &[u8], identity: &SigningIdentity) -> Result<Opened, OpenError> {
    open(
        mail,
        std::slice::from_ref(identity),
        &OpenOptions::default(),
    )
}

/// What the answer in the session goes by.
fn seen(mail: &[u8], identity: &SigningIdentity) -> Result<(), FrontError> {
    let certificates = [&*identity.certificate];
    is_sealed_for(&mut &*mail, &certificates, &Limits::default())
}

fn is_not_for_us(seen: &Result<(), FrontError>) -> bool {
    matches!(seen, Err(FrontError::Refused(OpenError::NotForUs)))
}

/// A folder with the PEM files that openssl reads.
struct Desk {
    folder: TestFolder,
}

impl Desk {
    fn new() -> Self {
        Self {
            folder: TestFolder::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, octets: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, octets).unwrap();
        path
    }

    fn put_identity(&self, name: &str, identity: &SigningIdentity) {
        self.put(
            &format!("{name}.pem"),
            &identity.certificate.to_pem().unwrap(),
        );
        let key = identity.key.private_key_to_pem_pkcs8().unwrap();
        self.put(&format!("{name}.key"), &key);
    }

    fn openssl(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Decrypts and verifies as smime.md section 7 says; gives what was signed.
    fn openssl_opens(
        &self,
        mail: &[u8],
        recipient: &SigningIdentity,
        root: &Authority,
    ) -> Result<Vec<u8>, String> {
        self.put("sealed.eml", mail);
        self.put("root.pem", &root.certificate.to_pem().unwrap());
        self.put_identity("recipient", recipient);
        self.openssl(&[
            "cms",
            "-decrypt",
            "-binary",
            "-in",
            "sealed.eml",
            "-inform",
            "SMIME",
            "-recip",
            "recipient.pem",
            "-inkey",
            "recipient.key",
            "-out",
            "signed.eml",
        ])?;
        self.openssl(&[
            "cms",
            "-verify",
            "-binary",
            "-crlfeol",
            "-in",
            "signed.eml",
            "-inform",
            "SMIME",
            "-CAfile",
            "root.pem",
            "-purpose",
            "smimesign",
            "-out",
            "plain.eml",
        ])?;
        Ok(self.read("plain.eml"))
    }
}

// rule: SM-1, SM-2, SM-10, SM-16, SM-22, SM-24, SM-30, SM-31, SM-32, SM-36, SM-41, SM-50, MR-1
#[test]
fn openssl_decrypts_and_verifies_what_we_seal_in_every_combination() {
    let pki = Pki::new();
    let rsa = pki.sender();
    let p256 = pki.identity("rui@direct.harbor.example", KeyKind::P256);
    let p384 = pki.identity("rui@direct.harbor.example", KeyKind::P384);
    let first = pki.recipient();
    let second = pki.identity("ada@direct.quay.example", KeyKind::Rsa(3072));
    let elliptic = pki.identity("lee@direct.quay.example", KeyKind::P256);
    let larger = pki.identity("kim@direct.quay.example", KeyKind::P384);
    let desk = Desk::new();
    let opens =
        |signers: &[SigningIdentity], recipients: &[&SigningIdentity], options: &SealOptions| {
            let mail = pki.seal_with(signers, recipients, options, ENTITY).unwrap();
            assert!(mail.is_ascii() && mail.ends_with(b"\r\n"));
            for recipient in recipients {
                let plain = desk
                    .openssl_opens(&mail, recipient, &pki.root)
                    .unwrap_or_else(|error| panic!("{options:?}: {error}"));
                assert_eq!(String::from_utf8_lossy(&plain), ENTITY, "{options:?}");
                let opened = open_by(&mail, recipient).unwrap();
                assert_eq!(opened.entity, ENTITY.as_bytes());
                assert_eq!(opened.signers.len(), signers.len());
                assert_eq!(opened.leniency, Leniency::None);
            }
        };
    for cipher in [
        ContentCipher::Aes128Cbc,
        ContentCipher::Aes256Cbc,
        ContentCipher::Aes128Gcm,
        ContentCipher::Aes256Gcm,
    ] {
        for oaep in [false, true] {
            let options = SealOptions {
                cipher,
                oaep,
                ..SealOptions::default()
            };
            opens(std::slice::from_ref(&rsa), &[&first], &options);
            opens(std::slice::from_ref(&p256), &[&first, &elliptic], &options);
        }
    }
    for digest in [Digest::Sha256, Digest::Sha384, Digest::Sha512] {
        let options = SealOptions {
            digest,
            recipient_id_by_ski: true,
            ..SealOptions::default()
        };
        opens(
            &[rsa.clone(), p384.clone()],
            &[&first, &second, &larger],
            &options,
        );
    }
}

// rule: SM-14, SM-15, SM-17, SM-18, SM-19, SM-33, SM-36
#[test]
fn openssl_shows_the_structure_that_the_profile_asks_for() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let recipient = pki.recipient();
    let mail = pki.seal(&recipient);
    desk.openssl_opens(&mail, &recipient, &pki.root).unwrap();
    let show = |file: &str| {
        let output = Command::new("openssl")
            .args([
                "cms", "-cmsout", "-print", "-noout", "-inform", "SMIME", "-in", file,
            ])
            .current_dir(desk.folder.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let envelope = show("sealed.eml");
    for wanted in [
        "d.ktri",
        "d.issuerAndSerialNumber",
        "aes-256-cbc",
        "rsaEncryption",
        "parameter: NULL",
    ] {
        assert!(envelope.contains(wanted), "{wanted} in {envelope}");
    }
    let signature = show("signed.eml");
    for wanted in [
        "eContent: <ABSENT>",
        "d.issuerAndSerialNumber",
        "algorithm: sha256",
        "object: contentType",
        "object: signingTime",
        "UTCTIME",
        "object: messageDigest",
        "object: S/MIME Capabilities",
    ] {
        assert!(signature.contains(wanted), "{wanted} in {signature}");
    }
    assert_eq!(signature.matches("object: signingTime").count(), 1);
    for never in ["des-ede3-cbc", "rc2-cbc", "Harbor Root\n        subject"] {
        assert!(!signature.contains(never), "{never}");
    }
    let signed = String::from_utf8(desk.read("signed.eml")).unwrap();
    assert!(signed.starts_with(
        "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg=sha-256;"
    ));
    // The issuing CA goes along, the root does not.
    let opened = open_by(&mail, &recipient).unwrap();
    assert_eq!(opened.certificates.len(), 2);
    assert!(!opened.certificates.contains(&pki.root.certificate));
    let signing_time = opened.signers.first().unwrap().signing_time.unwrap();
    assert_eq!(signing_time.as_second(), pki.now.as_second());
}

/// Turns the LF of openssl's wrapper into CRLF, as a mail system does (SM-73).
fn over_smtp(mail: &[u8]) -> Vec<u8> {
    String::from_utf8(mail.to_vec())
        .unwrap()
        .replace("\r\n", "\n")
        .replace('\n', "\r\n")
        .into_bytes()
}

// rule: SM-3, SM-11, SM-24, SM-30, SM-37, SM-52, SM-70, SM-73
#[test]
fn we_open_what_openssl_makes() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let sender = pki.sender();
    let (rsa, elliptic) = (
        pki.recipient(),
        pki.identity("lee@direct.quay.example", KeyKind::P256),
    );
    desk.put_identity("sender", &sender);
    desk.put_identity("rsa", &rsa);
    desk.put_identity("ec", &elliptic);
    desk.put("inter.pem", &pki.issuing.certificate.to_pem().unwrap());
    desk.put("entity.eml", ENTITY.as_bytes());
    let sign = |name: &str, more: &[&str]| {
        let base = [
            "cms",
            "-sign",
            "-binary",
            "-in",
            "entity.eml",
            "-signer",
            "sender.pem",
            "-inkey",
            "sender.key",
            "-certfile",
            "inter.pem",
            "-outform",
            "SMIME",
            "-out",
            name,
        ];
        desk.openssl(&[&base, more].concat()).unwrap();
        let wire = over_smtp(&desk.read(name));
        desk.put(name, &wire);
    };
    sign("detached.eml", &["-md", "sha256"]);
    sign("opaque.eml", &["-md", "sha512", "-nodetach"]);
    sign("keyid.eml", &["-md", "sha384", "-keyid"]);
    sign(
        "pss.eml",
        &[
            "-md",
            "sha256",
            "-keyopt",
            "rsa_padding_mode:pss",
            "-keyopt",
            "rsa_pss_saltlen:digest",
        ],
    );
    for signed in ["detached.eml", "opaque.eml", "keyid.eml", "pss.eml"] {
        for (recipient, identity, more) in [
            ("rsa.pem", &rsa, &["-aes-256-cbc"][..]),
            ("rsa.pem", &rsa, &["-aes-192-cbc", "-stream", "-keyid"]),
            (
                "rsa.pem",
                &rsa,
                &[
                    "-aes-256-gcm",
                    "-keyopt",
                    "rsa_padding_mode:oaep",
                    "-keyopt",
                    "rsa_oaep_md:sha256",
                ],
            ),
            (
                "rsa.pem",
                &rsa,
                &["-aes-128-cbc", "-keyopt", "rsa_padding_mode:oaep"],
            ),
            (
                "ec.pem",
                &elliptic,
                &[
                    "-aes-256-cbc",
                    "-keyopt",
                    "ecdh_kdf_md:sha256",
                    "-aes256-wrap",
                ],
            ),
        ] {
            let base = [
                "cms", "-encrypt", "-binary", "-in", signed, "-outform", "SMIME", "-out", "enc.eml",
            ];
            // The recipient comes first: -keyopt belongs to the one named before it.
            let (cipher, options) = more.split_first().unwrap();
            let arguments = [&base[..], &[*cipher, "-recip", recipient], options].concat();
            desk.openssl(&arguments).unwrap();
            let mail = over_smtp(&desk.read("enc.eml"));
            assert!(seen(&mail, identity).is_ok(), "{signed} {more:?}");
            let stranger = seen(&mail, &sender);
            assert!(is_not_for_us(&stranger), "{signed} {more:?}: {stranger:?}");
            let opened = open_by(&mail, identity)
                .unwrap_or_else(|error| panic!("{signed} {more:?}: {error}"));
            assert_eq!(
                String::from_utf8_lossy(&opened.entity),
                ENTITY,
                "{signed} {more:?}"
            );
        }
    }
}

// rule: SM-6, SM-23
#[test]
fn weak_algorithms_are_refused_unless_the_domain_names_them() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let (sender, recipient) = (pki.sender(), pki.recipient());
    let elliptic = pki.identity("lee@direct.quay.example", KeyKind::P256);
    desk.put_identity("sender", &sender);
    desk.put_identity("rsa", &recipient);
    desk.put_identity("ec", &elliptic);
    desk.put("entity.eml", ENTITY.as_bytes());
    let make = |digest: &str, cipher: &str, to: &str| {
        desk.openssl(&[
            "cms",
            "-sign",
            "-binary",
            "-in",
            "entity.eml",
            "-signer",
            "sender.pem",
            "-inkey",
            "sender.key",
            "-md",
            digest,
            "-outform",
            "SMIME",
            "-out",
            "signed.eml",
        ])
        .unwrap();
        desk.put("wire.eml", &over_smtp(&desk.read("signed.eml")));
        desk.openssl(&[
            "cms", "-encrypt", "-binary", "-in", "wire.eml", cipher, "-recip", to, "-outform",
            "SMIME", "-out", "enc.eml",
        ])
        .unwrap();
        over_smtp(&desk.read("enc.eml"))
    };
    let identities = [recipient, elliptic];
    let open_with = |mail: &[u8], allow: &[Legacy]| {
        let options = OpenOptions {
            allow_legacy: allow.to_vec(),
            ..OpenOptions::default()
        };
        open(mail, &identities, &options)
    };
    for (digest, cipher, to, legacy) in [
        ("sha1", "-aes-256-cbc", "rsa.pem", Legacy::Sha1),
        ("sha256", "-des-ede3-cbc", "rsa.pem", Legacy::TripleDes),
        ("sha256", "-aes-256-cbc", "ec.pem", Legacy::Sha1Kdf),
    ] {
        let mail = make(digest, cipher, to);
        assert!(open_with(&mail, &[]).is_err(), "{legacy:?}");
        assert_eq!(open_with(&mail, &[legacy]).unwrap().legacy, [legacy]);
    }
    let never = make("md5", "-aes-256-cbc", "rsa.pem");
    let all = [
        Legacy::Sha1,
        Legacy::TripleDes,
        Legacy::Rsa1024,
        Legacy::Ed25519,
        Legacy::Sha1Kdf,
    ];
    assert!(open_with(&never, &all).is_err());
}

/// Seals a message whose inside is `signed`, which stands for a multipart/signed that was tampered with.
fn encrypt_by_openssl(desk: &Desk, signed: &[u8], recipient: &SigningIdentity) -> Vec<u8> {
    desk.put("inside.eml", signed);
    desk.put_identity("recipient", recipient);
    desk.openssl(&[
        "cms",
        "-encrypt",
        "-binary",
        "-in",
        "inside.eml",
        "-aes-256-cbc",
        "-recip",
        "recipient.pem",
        "-outform",
        "SMIME",
        "-out",
        "outside.eml",
    ])
    .unwrap();
    over_smtp(&desk.read("outside.eml"))
}

// rule: SM-20, SM-22, T-5
#[test]
fn a_changed_octet_of_content_or_signature_is_refused() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let recipient = pki.recipient();
    let mail = pki.seal(&recipient);
    desk.openssl_opens(&mail, &recipient, &pki.root).unwrap();
    let signed = String::from_utf8(desk.read("signed.eml")).unwrap();
    let untouched = encrypt_by_openssl(&desk, signed.as_bytes(), &recipient);
    assert!(open_by(&untouched, &recipient).is_ok());
    for (what, tampered) in [
        ("content", signed.replace("Ada Quill", "Ada Quell")),
        ("header", signed.replace("From: rui@", "From: eve@")),
    ] {
        assert_ne!(tampered, signed, "{what}");
        let mail = encrypt_by_openssl(&desk, tampered.as_bytes(), &recipient);
        let refused = open_by(&mail, &recipient).err().unwrap();
        assert!(
            matches!(refused, OpenError::NoValidSignature(_)),
            "{what}: {refused}"
        );
    }
    let unsigned = encrypt_by_openssl(&desk, ENTITY.as_bytes(), &recipient);
    assert!(matches!(
        open_by(&unsigned, &recipient),
        Err(OpenError::NotSigned)
    ));
}

// rule: SM-54
#[test]
fn line_ends_that_a_peer_lost_are_mended_and_told() {
    let (pki, desk) = (Pki::new(), Desk::new());
    let recipient = pki.recipient();
    let mail = pki.seal(&recipient);
    desk.openssl_opens(&mail, &recipient, &pki.root).unwrap();
    let signed = String::from_utf8(desk.read("signed.eml")).unwrap();
    let end = format!("\r\n--{BOUNDARY}\r\nContent-Type: application/pkcs7");
    for (changed, leniency) in [
        (signed.replace("\r\n", "\n"), Leniency::LineEnds),
        (
            signed.replacen(&end, &format!("\r\n{end}"), 1),
            Leniency::LineEndRemoved,
        ),
        (
            signed.replacen(&format!("\r\n{end}"), &end, 1),
            Leniency::LineEndAdded,
        ),
    ] {
        assert_ne!(changed, signed);
        let mail = encrypt_by_openssl(&desk, changed.as_bytes(), &recipient);
        let opened = open_by(&mail, &recipient).unwrap();
        assert_eq!(opened.leniency, leniency);
        assert_eq!(opened.entity, ENTITY.as_bytes());
    }
}

// rule: SM-37, SM-38, SM-39, RCV-2, T-13
#[test]
fn mail_that_is_not_for_us_or_was_altered_on_its_way_is_refused_alike() {
    let pki = Pki::new();
    let (recipient, stranger) = (pki.recipient(), pki.recipient());
    let mail = pki.seal(&recipient);
    assert!(matches!(
        open_by(&mail, &stranger),
        Err(OpenError::NotForUs)
    ));
    // A key that is not the one of its certificate: the wrapped key opens to garbage.
    let wrong_key = SigningIdentity {
        key: stranger.key.clone(),
        ..recipient.clone()
    };
    assert!(matches!(
        open_by(&mail, &wrong_key),
        Err(OpenError::Undecryptable | OpenError::NotSigned)
    ));
    assert!(matches!(
        open_by(ENTITY.as_bytes(), &recipient),
        Err(OpenError::NotEncrypted)
    ));
    for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes256Gcm] {
        let options = SealOptions {
            cipher,
            ..SealOptions::default()
        };
        let mail = pki
            .seal_with(&[pki.sender()], &[&recipient], &options, ENTITY)
            .unwrap();
        let at = mail.len() - 200;
        let mut flipped = mail.clone();
        flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
        assert!(open_by(&flipped, &recipient).is_err(), "{cipher:?}");
    }
}

// rule: SM-4, SM-51, SM-52, SM-56, SND-4, SND-5, LIM-16
#[test]
fn what_must_not_be_sealed_is_refused_before_anything_leaves() {
    let pki = Pki::new();
    let (sender, recipient) = (pki.sender(), pki.recipient());
    let signers = [sender];
    let weak = pki.identity("old@direct.quay.example", KeyKind::Rsa(1024));
    let odd = pki.identity("odd@direct.quay.example", KeyKind::Curve(Nid::SECP224R1));
    let options = SealOptions::default();
    let refuse = |signers: &[SigningIdentity], to: &[&SigningIdentity], entity: &str| {
        pki.seal_with(signers, to, &options, entity).unwrap_err()
    };
    assert!(matches!(
        refuse(&[], &[&recipient], ENTITY),
        SealError::NoSigner
    ));
    assert!(matches!(
        refuse(&signers, &[], ENTITY),
        SealError::NoRecipient
    ));
    for unfit in [&weak, &odd] {
        assert!(matches!(
            refuse(&signers, &[&recipient, unfit], ENTITY),
            SealError::RecipientKey { index: 1, .. }
        ));
    }
    assert!(matches!(
        refuse(&[weak], &[&recipient], ENTITY),
        SealError::SignerKey { index: 0, .. }
    ));
    for entity in [
        "A: 1\r\n\r\nbare\nfeed\r\n",
        "A: 1\r\n\r\nna\u{ef}ve\r\n",
        "\nA: 1",
    ] {
        assert!(matches!(
            refuse(&signers, &[&recipient], entity),
            SealError::NotCanonical
        ));
    }
    let one = SealOptions {
        max_recipient_infos: 1,
        ..SealOptions::default()
    };
    let twice = pki.seal_with(&signers, &[&recipient, &recipient], &one, ENTITY);
    assert!(twice.is_ok(), "doubles count once (MR-1)");
    let two = pki.seal_with(&signers, &[&recipient, &pki.recipient()], &one, ENTITY);
    assert!(matches!(
        two,
        Err(SealError::TooManyRecipients { count: 2, limit: 1 })
    ));
}

/// Counts what is written and remembers the largest block.
#[derive(Default)]
struct Counter {
    bytes: u64,
    largest: usize,
}

impl Write for Counter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.bytes += octets.len() as u64;
        self.largest = self.largest.max(octets.len());
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// rule: SM-60, SM-63
#[test]
fn twenty_five_megabytes_pass_through_in_blocks() {
    let pki = Pki::new();
    let recipients = [pki.recipient().certificate];
    let line = format!("{}\r\n", "A".repeat(76));
    let lines = 25_000_000 / line.len();
    let mut out = Counter::default();
    let mut write = |out: &mut dyn Write| {
        out.write_all(b"Content-Type: text/plain\r\n\r\n")?;
        (0..lines).try_for_each(|_| out.write_all(line.as_bytes()))
    };
    let options = SealOptions::default();
    seal(
        &mut out,
        &[pki.sender()],
        &recipients,
        &options,
        pki.now,
        BOUNDARY,
        &mut write,
    )
    .unwrap();
    let entity_bytes = (lines * line.len()) as u64;
    assert!(out.bytes > entity_bytes * 4 / 3);
    assert!(
        out.largest <= 128 * 1024,
        "held {} octets at once",
        out.largest
    );
    let estimate = xdbridge::formats::smime::sealed_len_estimate(entity_bytes, 1);
    assert!(estimate >= out.bytes && estimate < out.bytes + out.bytes / 50);
}

// rule: SM-63
#[test]
fn a_target_that_fails_or_panics_midway_ends_the_seal_with_its_own_error() {
    struct Failing(usize);
    impl Write for Failing {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(octets.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    struct Panicking;
    impl Write for Panicking {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("as planned")
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pki = Pki::new();
    let recipients = [pki.recipient().certificate];
    let signers = [pki.sender()];
    let options = SealOptions::default();
    let mut write = |out: &mut dyn Write| out.write_all("A: 1\r\n".repeat(200_000).as_bytes());
    let full = seal(
        &mut Failing(300_000),
        &signers,
        &recipients,
        &options,
        pki.now,
        BOUNDARY,
        &mut write,
    );
    assert!(
        matches!(full, Err(SealError::Output(error)) if error.kind() == io::ErrorKind::StorageFull)
    );
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = seal(
            &mut Panicking,
            &signers,
            &recipients,
            &options,
            pki.now,
            BOUNDARY,
            &mut write,
        );
    }));
    assert!(panicked.is_err());
    let mut broken = |out: &mut dyn Write| {
        out.write_all(b"A: 1\r\n")?;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let mut out = Counter::default();
    let entity = seal(
        &mut out,
        &signers,
        &recipients,
        &options,
        pki.now,
        BOUNDARY,
        &mut broken,
    );
    assert!(
        matches!(entity, Err(SealError::Entity(error)) if error.kind() == io::ErrorKind::ConnectionReset)
    );
}

/// Gives a mail out in pieces and counts what was taken of it.
struct Counted<'a> {
    mail: &'a [u8],
    piece: usize,
    taken: usize,
}

impl io::Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.piece);
        let read = self.mail.read(&mut into[..most])?;
        self.taken += read;
        Ok(read)
    }
}

// rule: RCV-R2, SM-25, SM-55
#[test]
fn whether_a_mail_is_for_us_is_told_while_it_is_read_once() {
    let pki = Pki::new();
    let (recipient, stranger) = (pki.recipient(), pki.recipient());
    let entity = format!("{ENTITY}{}", "Nothing new. \r\n".repeat(100_000));
    let mail = pki
        .seal_with(
            &[pki.sender()],
            &[&recipient],
            &SealOptions::default(),
            &entity,
        )
        .unwrap();
    let look = |mail: &[u8], piece: usize, identity: &SigningIdentity| {
        let mut counted = Counted {
            mail,
            piece,
            taken: 0,
        };
        let certificates = [&*stranger.certificate, &*identity.certificate];
        let seen = is_sealed_for(&mut counted, &certificates[1..], &Limits::default());
        (seen, counted.taken)
    };
    for piece in [1000, 100_000] {
        let (seen, taken) = look(&mail, piece, &recipient);
        assert!(seen.is_ok(), "{seen:?}");
        assert_eq!(taken, mail.len(), "to its end, once");
        let (seen, taken) = look(&mail, piece, &stranger);
        assert!(is_not_for_us(&seen), "{seen:?}");
        assert!(taken <= 64 * 1024, "no further than it must: {taken}");
    }
    // Cut anywhere it is not whole, whatever the length that is left.
    let front = (0..12_000).step_by(61);
    let end = (mail.len() - 400..mail.len() - 4).step_by(7);
    for length in front.chain(end) {
        let (seen, _) = look(&mail[..length], 5000, &recipient);
        assert!(
            matches!(seen, Err(FrontError::Refused(_))),
            "{length} octets: {seen:?}"
        );
    }
    let more = [&mail, b"AAAA".as_slice()].concat();
    assert!(look(&more, 5000, &recipient).0.is_err());
    // What cannot be read is told apart from what is refused.
    let broken = io::Read::chain(&mail[..1_000_000], Broken);
    let certificates = [&*recipient.certificate];
    let seen = is_sealed_for(&mut { broken }, &certificates, &Limits::default());
    assert!(matches!(seen, Err(FrontError::Read(_))), "{seen:?}");
}

struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

// rule: SM-63, SM-38
#[test]
fn a_mail_is_opened_while_it_is_read_once() {
    let pki = Pki::new();
    let recipient = pki.recipient();
    let entity = format!("{ENTITY}{}", "Nothing new. \r\n".repeat(100_000));
    let options = SealOptions::default();
    let mail = pki
        .seal_with(&[pki.sender()], &[&recipient], &options, &entity)
        .unwrap();
    let open_in_pieces = |mail: &[u8], piece| {
        let mut counted = Counted {
            mail,
            piece,
            taken: 0,
        };
        let identities = std::slice::from_ref(&recipient);
        let opened = open_from(&mut counted, 0, identities, &OpenOptions::default());
        (opened, counted.taken)
    };
    for piece in [1000, 100_000] {
        let (opened, taken) = open_in_pieces(&mail, piece);
        let opened = opened.unwrap();
        assert!(opened.entity == entity.as_bytes());
        assert_eq!(opened.sha256, openssl::sha::sha256(entity.as_bytes()));
        assert!(mail.starts_with(&opened.outer_header));
        assert!(opened.outer_header.ends_with(b"\r\n\r\n"));
        assert_eq!(taken, mail.len(), "to its end, once");
    }
    // What is cut is refused, however much of it could be decrypted.
    for length in (2000..mail.len() - 4)
        .step_by(190_001)
        .chain([mail.len() - 10])
    {
        let (opened, _) = open_in_pieces(&mail[..length], 5000);
        let refused = opened.map(|opened| opened.entity.len());
        assert!(
            matches!(refused, Err(OpenError::Malformed(_))),
            "{length} octets: {refused:?}"
        );
    }
    // What cannot be read is told apart from what is refused.
    let broken = io::Read::chain(&mail[..1_000_000], Broken);
    let opened = open_from(broken, 0, &[recipient], &OpenOptions::default());
    assert!(matches!(opened.err(), Some(OpenError::Read(_))));
}

// rule: SM-55
#[test]
fn encrypted_content_is_read_however_its_octet_string_is_cut() {
    // aes256-CBC; behind it are the vector and the content.
    const CIPHER: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2A];
    const VECTOR_BYTES: usize = 2 + 16;
    let pki = Pki::new();
    let recipient = pki.recipient();
    let mail = String::from_utf8(pki.seal(&recipient)).unwrap();
    let (header, body) = mail.split_once("\r\n\r\n").unwrap();
    let cms = openssl::base64::decode_block(&body.replace("\r\n", "")).unwrap();
    let mut windows = cms.windows(CIPHER.len());
    let cipher = windows.position(|found| found == CIPHER).unwrap();
    let at = cipher + CIPHER.len() + VECTOR_BYTES + 2;
    assert_eq!(cms[at - 2..=at], [0xA0, 0x80, 0x04]);
    // The tag and, by its form, the length of the first piece.
    let head = match cms[at + 1] {
        long @ 0x81.. => 2 + usize::from(long & 0x7F),
        _ => 2,
    };
    let length = cms[at + head - (head - 2).max(1)..at + head]
        .iter()
        .fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    let (piece, rest) = cms[at + head..].split_at(length);
    let (first, second) = piece.split_at(7);
    let part = |tag, octets: &[u8]| {
        let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], octets].concat()
    };
    let open_with = |pieces: Vec<u8>| {
        let cms = [&cms[..at], &pieces, rest].concat();
        let body = openssl::base64::encode_block(&cms);
        open_by(format!("{header}\r\n\r\n{body}\r\n").as_bytes(), &recipient)
    };
    let two = [part(0x04, first), part(0x04, second)].concat();
    let none = [part(0x04, &[]), part(0x04, piece)].concat();
    let nested = part(0x24, &two);
    let marked = [&[0x24, 0x80][..], &two, &[0, 0]].concat();
    for pieces in [part(0x04, piece), two.clone(), none, nested, marked] {
        assert_eq!(open_with(pieces).unwrap().entity, ENTITY.as_bytes());
    }
    // Nothing but octets is content, and all of it is needed.
    for pieces in [part(0x0C, piece), part(0x04, first), part(0x24, piece)] {
        assert!(open_with(pieces).is_err());
    }
    let deep = (0..100).fold(part(0x04, piece), |inside, _| part(0x24, &inside));
    assert!(matches!(
        open_with(deep).err(),
        Some(OpenError::Malformed(_))
    ));
}

// rule: LIM-16
#[test]
fn recipient_infos_without_end_are_refused_before_they_fill_memory() {
    // SEQUENCE, id-envelopedData, [0], SEQUENCE, version, and a SET that goes on for a GiB.
    let front = [
        0x30, 0x80, 0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 3, 0xA0, 0x80, 0x30,
        0x80, 0x02, 1, 0, 0x31, 0x84, 0x40, 0, 0, 0,
    ];
    let header =
        b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    let pki = Pki::new();
    let recipient = pki.recipient();
    let certificates = [&*recipient.certificate];
    // Members of 50 octets; one member of nearly a GiB.
    for (member, most) in [(&[][..], 64), (&[0x30, 0x84, 0x3F, 0, 0, 0][..], 1 << 20)] {
        let mail = [header.as_slice(), &front, member].concat();
        let mut endless = io::Read::chain(mail.as_slice(), io::repeat(0x30));
        let seen = is_sealed_for(&mut endless, &certificates, &Limits::default());
        assert!(
            matches!(&seen, Err(FrontError::Refused(OpenError::TooMany { limit, .. })) if *limit == most),
            "{seen:?}"
        );
    }
}

// rule: T-13b
#[test]
fn mutated_mails_are_refused_or_read_but_never_panic() {
    use proptest::{prelude::*, test_runner::TestRunner};
    let pki = Pki::new();
    let recipient = pki.recipient();
    let mail = pki.seal(&recipient);
    let body_at = mail.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let cms = {
        let text: Vec<u8> = mail[body_at..]
            .iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        base64_simd::STANDARD.decode_to_vec(text).unwrap()
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 400,
        ..ProptestConfig::default()
    });
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    runner
        .run(
            &(changes, any::<prop::sample::Index>(), any::<bool>()),
            |(changes, cut, in_cms)| {
                // Half of them below the base64, so that the CMS itself is hit.
                let mut octets = if in_cms { cms.clone() } else { mail.clone() };
                for (at, value) in changes {
                    let at = at.index(octets.len());
                    octets[at] = value;
                }
                if cut.index(4) == 0 {
                    octets.truncate(cut.index(octets.len()));
                }
                let mail = if in_cms {
                    let mut mail = mail[..body_at].to_vec();
                    mail.extend_from_slice(
                        base64_simd::STANDARD.encode_to_string(&octets).as_bytes(),
                    );
                    mail
                } else {
                    octets
                };
                if let Ok(opened) = open_by(&mail, &recipient) {
                    prop_assert_eq!(opened.entity, ENTITY.as_bytes());
                    prop_assert!(seen(&mail, &recipient).is_ok());
                }
                Ok(())
            },
        )
        .unwrap();
}
