//! Mail that attacks its reader: CMS that is all parts, and zips that are not what they say. None is posted, none costs
//! more than its limit.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use openssl::{
    base64::{decode_block, encode_block},
    bn::{BigNum, MsbOption},
    pkey::PKey,
    rsa::Rsa,
    x509::X509,
};
use xdbridge::{
    adapters::clock::SystemClock,
    app::pki::Profile,
    bridge::exchange::Exchange,
    flows::ports::Clock,
    formats::{
        audit::AuditKind,
        notification::mdn::Disposition,
        smime::{OpenError, OpenOptions, open},
    },
};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::support::{
    bridge::{config, pki},
    folder::TestFolder,
    medium::{
        DOCUMENT_PATH, METADATA_PATH, good_entries, metadata, slots_of, with_document, with_entry,
    },
    openssl_peer::{OpensslPeer, mailed, wrapped},
    process::BridgeProcess,
    raw_zip::{RawEntry, build},
    receiving_ground::{
        ADA, ReceivingGround, SENDER, hand_over, letter, receive, sealed, success, with_package,
    },
    wait_until,
};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xA0;
const CONTEXT_1: u8 = 0xA1;
const SIGNED_DATA: u8 = 2;
const ENVELOPED_DATA: u8 = 3;
/// What may be added to the memory of the idle bridge by a bomb, beside four times its size: what every mail takes.
const SLACK_MIB: u64 = 16;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84], length.as_slice(), content].concat()
}

/// A ContentInfo of one of the PKCS #7 kinds.
fn content_info(kind: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let oid = [6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, kind];
    let body = tlv(CONTEXT_0, &tlv(SEQUENCE, &parts.concat()));
    tlv(SEQUENCE, &[&oid, body.as_slice()].concat())
}

fn version() -> Vec<u8> {
    vec![2, 1, 0]
}

/// An EnvelopedData with this many RecipientInfos, none of which any library can read.
fn recipients_bomb(count: usize) -> Vec<u8> {
    let recipient = tlv(SEQUENCE, &[0xDF; 100]);
    let oid = [6, 1, 0x2A];
    let content = [&oid[..], &tlv(SEQUENCE, &oid)].concat();
    let recipients = tlv(SET, &recipient.repeat(count));
    content_info(
        ENVELOPED_DATA,
        &[version(), recipients, tlv(SEQUENCE, &content)],
    )
}

/// A SignedData with this many certificates, none of which any library can read.
fn certificates_bomb(count: usize) -> Vec<u8> {
    let certificate = tlv(SEQUENCE, &[0xDF; 100]);
    content_info(
        SIGNED_DATA,
        &[
            version(),
            tlv(SET, &tlv(SEQUENCE, &[])),
            tlv(SEQUENCE, &[]),
            tlv(CONTEXT_0, &certificate.repeat(count)),
            tlv(SET, &tlv(SEQUENCE, &[])),
        ],
    )
}

/// A list of attributes, each with the same values.
fn attributes(tag: u8, count: usize, values: &[u8]) -> Vec<u8> {
    let attribute = [&[6, 1, 0x2A], tlv(SET, values).as_slice()].concat();
    tlv(tag, &tlv(SEQUENCE, &attribute).repeat(count))
}

/// A SignedData with one signer, who has these attributes, and these lists before him.
fn signed_bomb(lists: &[u8], attributes: &[u8]) -> Vec<u8> {
    let empty = tlv(SEQUENCE, &[]);
    let signer = [&version(), &empty, &empty, attributes, &empty].concat();
    content_info(
        SIGNED_DATA,
        &[
            version(),
            tlv(SET, &empty),
            empty,
            lists.to_vec(),
            tlv(SET, &tlv(SEQUENCE, &signer)),
        ],
    )
}

/// What is in an element, its tag and length taken off.
fn content(der: &[u8]) -> &[u8] {
    let first = usize::from(der[1]);
    der.get(if first < 0x80 { 2 } else { 2 + (first & 0x7F) }..)
        .unwrap()
}

/// A sound envelope for us, with unprotected attributes after its content.
fn with_unprotected(mail: &[u8], attributes: &[u8]) -> Vec<u8> {
    const OID_OCTETS: usize = 11;
    let text = std::str::from_utf8(mail).unwrap();
    let (_, base64) = text.split_once("\r\n\r\n").unwrap();
    let cms = decode_block(&base64.replace("\r\n", "")).unwrap();
    let body = content(content(&content(&cms)[OID_OCTETS..]));
    content_info(ENVELOPED_DATA, &[body.to_vec(), attributes.to_vec()])
}

/// Elements in elements of indefinite length.
fn nested(depth: usize) -> Vec<u8> {
    nested_in(SEQUENCE, depth)
}

fn nested_sets(depth: usize) -> Vec<u8> {
    nested_in(SET, depth)
}

fn nested_in(tag: u8, depth: usize) -> Vec<u8> {
    [[tag, 0x80].repeat(depth), vec![0; 2 * depth]].concat()
}

fn pkcs7_mime(kind: &str, cms: &[u8]) -> Vec<u8> {
    let header = format!(
        "MIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type={kind}; name=\"smime.p7m\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n"
    );
    [header.into_bytes(), lines(cms)].concat()
}

fn lines(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // In one piece, the encoder's own limit would be near.
    for line in octets.chunks(57) {
        text.extend_from_slice(encode_block(line).as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// A certificate with the serial number and names of the sender's, and a key of 16,384 bits that nobody has.
fn large_key(serial: u32) -> X509 {
    let mut modulus = BigNum::new().unwrap();
    modulus.rand(16_384, MsbOption::ONE, true).unwrap();
    let exponent = BigNum::from_u32(0xFFFF_FFFB).unwrap();
    let key = PKey::from_rsa(Rsa::from_public_components(modulus, exponent).unwrap()).unwrap();
    let authority = &pki().authority;
    let real = authority.issue(&sender(serial)).unwrap().certificate;
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(real.serial_number()).unwrap();
    builder.set_subject_name(real.subject_name()).unwrap();
    builder.set_issuer_name(real.issuer_name()).unwrap();
    builder.set_not_before(real.not_before()).unwrap();
    builder.set_not_after(real.not_after()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .sign(&authority.key, openssl::hash::MessageDigest::sha256())
        .unwrap();
    builder.build()
}

fn sender(serial: u32) -> Profile {
    Profile {
        serial: Some(serial),
        ..Profile::address(&SENDER.parse().unwrap(), SystemClock.now())
    }
}

/// The bombs as mails: what each is, the mail, the code of its reply, its cause in the audit.
fn bombs(peer: &OpensslPeer) -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let own = &pki().direct_elm.certificate;
    let signer = pki().authority.issue(&sender(77)).unwrap();
    let large = peer.put("large.pem", large_key(77).to_pem().unwrap());
    let entity = wrapped(&letter("large@direct.harbor.example", &[ADA], ""));
    let options = ["-binary", "-nocerts", "-certfile", &large];
    let by_large_key = peer.sign(entity, &[&signer], &options);
    let inside = |cms: &[u8]| peer.enclose(pkcs7_mime("signed-data", cms), own);
    let envelope = |cms: &[u8]| mailed(&pkcs7_mime("enveloped-data", cms));
    let value = tlv(4, b"x");
    let attributed = |tag, count, values: &[u8]| {
        let attributes = attributes(tag, count, values);
        inside(&signed_bomb(&[], &attributes))
    };
    let sound = peer.enclose(wrapped(&letter("u@direct.harbor.example", &[ADA], "")), own);
    let many = attributes(CONTEXT_1, 100_000, &value);
    let unprotected = with_unprotected(&sound, &many);
    let crls = tlv(CONTEXT_1, &tlv(SEQUENCE, &[0xDF; 20]).repeat(100_000));
    let large_crl = tlv(CONTEXT_1, &tlv(SEQUENCE, &vec![0xDF; 2 << 20]));
    vec![
        (
            "10^5 signed attributes",
            attributed(CONTEXT_0, 100_000, &value),
            "250 2.0.0",
            "more than 64 attributes (LIM-16)",
        ),
        (
            "10^5 unsigned attributes",
            attributed(CONTEXT_1, 100_000, &value),
            "250 2.0.0",
            "more than 64 attributes (LIM-16)",
        ),
        (
            "10^5 values of one attribute",
            attributed(CONTEXT_0, 1, &value.repeat(100_000)),
            "250 2.0.0",
            "more than 64 values of an attribute (LIM-16)",
        ),
        (
            "a huge value",
            attributed(CONTEXT_1, 1, &tlv(4, &vec![0xDF; 8 << 20])),
            "250 2.0.0",
            "attributes of more than 1048576 octets (LIM-16)",
        ),
        (
            "sets in sets",
            attributed(CONTEXT_0, 1, &nested_sets(100_000)),
            "250 2.0.0",
            "nested too deeply",
        ),
        (
            "10^5 unprotected attributes",
            envelope(&unprotected),
            "250 2.0.0",
            "more than 64 attributes (LIM-16)",
        ),
        (
            "10^5 CRLs",
            inside(&signed_bomb(&crls, &[])),
            "250 2.0.0",
            "more than 50 revocation lists (LIM-16)",
        ),
        (
            "a huge CRL",
            inside(&signed_bomb(&large_crl, &[])),
            "250 2.0.0",
            "revocation lists of more than 1048576 octets (LIM-16)",
        ),
        (
            "10^4 RecipientInfos",
            envelope(&recipients_bomb(10_000)),
            "554 5.6.0",
            "more than 64 RecipientInfos (LIM-16)",
        ),
        (
            "10^5 certificates",
            inside(&certificates_bomb(100_000)),
            "250 2.0.0",
            "more than 50 certificates (LIM-16)",
        ),
        (
            "RSA with 16,384 bits",
            peer.enclose(by_large_key, own),
            "250 2.0.0",
            "SM-4",
        ),
        (
            "nesting",
            envelope(&nested(1_000_000)),
            "554 5.6.0",
            "nested too deeply",
        ),
        (
            "nesting inside",
            inside(&nested(1_000_000)),
            "250 2.0.0",
            "nested too deeply",
        ),
    ]
}

// rule: LIM-16, T-13f, SM-4
#[test]
fn cms_bombs_are_refused_by_counts_that_are_made_before_libcrypto_reads_them() {
    let ground = ReceivingGround::start(|_| success());
    let peer = OpensslPeer::new();
    for (name, mail, code, cause) in bombs(&peer) {
        let before = ground.causes().len();
        let reply = ground.send(SENDER, &[ADA], &mail);
        assert!(reply.starts_with(code), "{name}: {reply}");
        wait_until("the cause is audited", || ground.causes().len() > before);
        ground.bridge.wait_until_idle();
        let causes = ground.causes();
        assert!(
            causes[before..].iter().any(|found| found.contains(cause)),
            "{name}: {causes:?}"
        );
    }
    ground.assert_silence();
    // No library can read the members: had one been asked first, that would be the error. And beneath the limit, where
    // it is asked, it is.
    let opened = |cms: &[u8]| {
        let mail = mailed(&pkcs7_mime("enveloped-data", cms));
        open(&mail, &[], &OpenOptions::default()).err().unwrap()
    };
    assert!(matches!(
        opened(&recipients_bomb(65)),
        OpenError::TooMany { limit: 64, .. }
    ));
    assert!(!matches!(
        opened(&recipients_bomb(64)),
        OpenError::TooMany { .. }
    ));
}

/// The real program, receiving mail.
struct Process {
    bridge: BridgeProcess,
    address: std::net::SocketAddr,
    _folder: TestFolder,
}

impl Process {
    fn start() -> Self {
        let folder = TestFolder::new();
        let mut config = config(folder.path(), &[]);
        receive(&mut config, "https://localhost:1/".to_owned());
        fs::write(folder.path().join("xdbridge.toml"), config.print()).unwrap();
        let bridge = BridgeProcess::start(folder.path(), "");
        assert!(bridge.is_listening(), "{}", bridge.log_text());
        let line = bridge.wait_for_line(|line| line.contains("\"smtp\":\"127.0.0.1:"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self {
            bridge,
            address: line["smtp"].as_str().unwrap().parse().unwrap(),
            _folder: folder,
        }
    }

    fn peak_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.bridge.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// Its CPU time so far, in the hundredths of a second that the kernel counts.
    fn cpu_ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.bridge.pid());
        let stat = fs::read_to_string(path).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Mails that were given up so far.
    fn untrusted(&self) -> usize {
        self.bridge
            .log_text()
            .matches("could not be opened or trusted")
            .count()
    }

    /// Mails of which nothing will be posted, so far.
    fn unposted(&self) -> usize {
        self.bridge
            .log_text()
            .matches(": 0 requests to post")
            .count()
    }
}

// rule: LIM-16, T-26, SM-63
#[test]
fn cms_bombs_cost_little_more_memory_than_their_size() {
    let peer = OpensslPeer::new();
    for (name, mail, code, _) in bombs(&peer) {
        let process = Process::start();
        let (idle, ticks) = (process.peak_mib(), process.cpu_ticks());
        let reply = hand_over(process.address, SENDER, &[ADA], &mail);
        assert!(reply.starts_with(code), "{name}: {reply}");
        if code.starts_with('2') {
            wait_until("the mail is given up", || process.untrusted() == 1);
        }
        let grown = process.peak_mib() - idle;
        let mib = u64::try_from(mail.len()).unwrap() / (1024 * 1024) + 1;
        // Told, and not judged: the time is the machine's too.
        eprintln!(
            "{name}: {} octets, {grown} MiB more, {} ms of CPU",
            mail.len(),
            10 * (process.cpu_ticks() - ticks)
        );
        assert!(
            grown <= 4 * mib + SLACK_MIB,
            "{name}: {grown} MiB for {mib} MiB"
        );
        assert!(!process.bridge.log_text().contains("panicked"), "{name}");
    }
}

/// A message that brings a zip.
fn with_zip(id: &str, zip: &[u8]) -> String {
    let id = format!(
        "{}@direct.harbor.example",
        id.replace([' ', '.', '^', ','], "-")
    );
    with_package(&letter(&id, &[ADA], ""), zip)
}

fn deliver(ground: &ReceivingGround, message: &str) {
    let mail = sealed(message, &[&pki().harbor], &pki().direct_elm);
    let reply = ground.send(SENDER, &[ADA], &mail);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
}

/// The rules in the newest record of what was found in a mail.
fn findings(ground: &ReceivingGround) -> String {
    let mut records = ground.bridge.audit_of(AuditKind::Iti32Import);
    records.retain(|record| record.details.contains_key("findings"));
    let newest = records.pop();
    newest.map_or_else(String::new, |record| record.details["findings"].clone())
}

/// A medium with a hundred thousand empty files more.
fn crowd() -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer
        .start_file("IHE_XDM/SUBSET01/METADATA.XML", options)
        .unwrap();
    writer.write_all(b"<a/>").unwrap();
    for number in 0..100_000 {
        writer.start_file(format!("f{number}"), options).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

// rule: XDM-60, XDM-62, XDM-63, XDM-64, LIM-10, LIM-12, LIM-13, T-8, T-9, RCV-R7, MDN-25
#[test]
fn zips_that_attack_are_told_to_the_audit_and_their_sender_as_failed() {
    let ground = ReceivingGround::start(|_| success());
    let deep = format!("{}x", "d/".repeat(17));
    let crowd_of = |count: usize| {
        let mut entries = good_entries();
        entries.resize(count, RawEntry::stored("x", b""));
        build(&entries).octets
    };
    let document = |change: fn(&mut RawEntry)| with_document(change);
    let ratio = with_document(|entry| *entry = RawEntry::file(DOCUMENT_PATH, &vec![0; 8 << 20]));
    let again = "ihe_xdm/subset01/doc00001.xml";
    let inner = build(&good_entries()).octets;
    let converted = "conversionFailed";
    let attacks = [
        (
            "slip",
            with_entry(RawEntry::file("../../etc/passwd", b"x")),
            "XDM-60",
            converted,
        ),
        ("ratio", ratio, "LIM-12", "tooLarge"),
        ("60000 entries", crowd_of(60_000), "LIM-10", "tooLarge"),
        ("10^5 entries", crowd(), "LIM-10", "tooLarge"),
        (
            "lying size",
            document(|entry| entry.size += 1_000),
            "XDM-62",
            converted,
        ),
        (
            "duplicate",
            with_entry(RawEntry::file(again, b"other")),
            "XDM-63",
            converted,
        ),
        (
            "the same name",
            with_entry(RawEntry::file(DOCUMENT_PATH, b"other")),
            "XDM-41",
            converted,
        ),
        (
            "encrypted",
            document(|entry| entry.flags |= 1),
            "XDM-64",
            converted,
        ),
        (
            "symlink",
            document(|entry| entry.external_attributes = 0o120_777 << 16),
            "XDM-64",
            converted,
        ),
        (
            "a package in a package",
            in_a_package(&inner),
            "LIM-13",
            converted,
        ),
        (
            "deep",
            with_entry(RawEntry::file(&deep, b"x")),
            "LIM-13",
            "tooLarge",
        ),
    ];
    for (number, (name, zip, rule, token)) in attacks.iter().enumerate() {
        deliver(&ground, &with_zip(name, zip));
        wait_until("the mail is settled", || {
            ground.bridge.exchanges().iter().all(Exchange::is_final)
        });
        assert!(ground.posted().is_empty(), "{name} was posted");
        let notices = ground.notices(2 * (number + 1));
        let told: Vec<_> = notices[2 * number..]
            .iter()
            .map(|told| told.report.disposition)
            .collect();
        assert_eq!(
            told,
            [Some(Disposition::Processed), Some(Disposition::Failed)],
            "{name}"
        );
        let text = String::from_utf8_lossy(&notices[2 * number + 1].entity).into_owned();
        assert!(
            text.contains(&format!("Error: {token}: ")),
            "{name}: {text}"
        );
        let found = findings(&ground);
        assert!(
            found.split(' ').any(|found| found == *rule),
            "{name}: {found}"
        );
    }
}

/// A sound medium whose document this is.
fn in_a_package(document: &[u8]) -> Vec<u8> {
    let mut entries = good_entries();
    entries[4] = RawEntry::file(METADATA_PATH, metadata(&slots_of(document)).as_bytes());
    entries[5] = RawEntry::file(DOCUMENT_PATH, document);
    build(&entries).octets
}

// rule: LIM-10, LIM-12, T-8, T-26, XDM-62
#[test]
fn zips_that_attack_cost_little_more_memory_than_their_size() {
    // Of what it would inflate to, nearly nothing may be there at any time.
    let large = RawEntry::file(DOCUMENT_PATH, &vec![0; 64 << 20]);
    let ratio = with_document(|entry| *entry = large.clone());
    let lying = with_document(|entry| {
        *entry = large;
        entry.size = 100;
    });
    for (name, zip) in [("ratio", ratio), ("lying size", lying), ("count", crowd())] {
        let process = Process::start();
        let mail = sealed(&with_zip(name, &zip), &[&pki().harbor], &pki().direct_elm);
        drop(zip);
        let idle = process.peak_mib();
        let reply = hand_over(process.address, SENDER, &[ADA], &mail);
        assert!(reply.starts_with("250 2.0.0"), "{name}: {reply}");
        wait_until("the mail is given up", || process.unposted() == 1);
        let grown = process.peak_mib() - idle;
        let mib = u64::try_from(mail.len()).unwrap() / (1024 * 1024) + 1;
        eprintln!("{name}: {} octets, {grown} MiB more", mail.len());
        assert!(
            grown <= 4 * mib + SLACK_MIB,
            "{name}: {grown} MiB for {mib} MiB"
        );
        assert!(!process.bridge.log_text().contains("panicked"), "{name}");
    }
}

// rule: LIM-13, XDR-100
#[test]
fn a_package_in_a_zip_is_not_opened() {
    let ground = ReceivingGround::start(|_| success());
    let inner = build(&good_entries()).octets;
    let outer = build(&[RawEntry::stored("XDM00001.ZIP", &inner)]).octets;
    deliver(&ground, &with_zip("nested", &outer));
    // It is a document like any other: the octets, and nothing of what is inside.
    assert_eq!(ground.next_posted(0), [outer]);
}

// rule: XDM-13, XDM-40, XDM-41, XDM-52, T-8
#[test]
fn the_broken_packages_of_the_field_are_posted_and_their_faults_told_to_the_audit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/xdm");
    let ground = ReceivingGround::start(|_| success());
    let mut posts = 0;
    for (name, sets) in [
        ("backslashes", 1),
        ("long-names-no-uri", 1),
        ("repacked-on-a-desktop", 1),
        ("written-to-a-pipe", 1),
        ("two-sets", 2),
    ] {
        let zip = fs::read(folder.join(format!("{name}.zip"))).unwrap();
        deliver(&ground, &with_zip(name, &zip));
        posts += sets;
        wait_until("the mail is settled", || {
            ground.bridge.exchanges().iter().all(Exchange::is_final)
        });
        assert_eq!(
            ground.posted().len(),
            posts,
            "{name}: {}",
            findings(&ground)
        );
        ground.bridge.wait_until_idle();
        if sets == 1 {
            let found = findings(&ground);
            assert!(found.contains("XDM-13"), "{name}: {found}");
        }
    }
    let notices = ground.notices(5);
    assert!(
        notices
            .iter()
            .all(|told| told.report.disposition == Some(Disposition::Processed))
    );
    assert!(ground.causes().is_empty());
}
