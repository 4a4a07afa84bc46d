//! Hostile requests of a partner against the real program over TLS: each gets a clear answer, nothing of it is kept or
//! sent, and the memory of the process stays within a bound that is stated here.

use std::{fs, sync::LazyLock};

use super::support::{
    crossing_ground::{
        Answered, CrossingGround, Letter, OWN_DOMAIN, Workshop, files_below, post_head,
    },
    process::BridgeProcess,
};

/// The most memory that the process may ever have had, in MiB. It took 30 to 54 in a build without optimization and with
/// a trace of everything; the largest message alone may have 64, and goes to disk as it comes.
const MAX_RESIDENT_MIB: u64 = 112;

/// Keys and a configuration, made once.
static WORKSHOP: LazyLock<Workshop> = LazyLock::new(Workshop::new);

/// What a request is answered with.
#[derive(Debug)]
enum Expected {
    /// A Sender fault by this rule.
    Fault(&'static str),
    /// Failure with an entry of this code.
    Failure(&'static str),
}
use Expected::{Failure, Fault};

/// A bridge under attack.
struct Siege<'a> {
    ground: CrossingGround<'a>,
    bridge: BridgeProcess,
    files: usize,
}

impl Siege<'_> {
    fn begin() -> Self {
        let ground = WORKSHOP.ground();
        let bridge = ground.start();
        let files = files_below(&ground.path().join("data")).len();
        Self {
            ground,
            bridge,
            files,
        }
    }

    fn post(&self, content_type: &str, body: &[u8], expected: &Expected, what: &str) {
        let answered = self
            .ground
            .post_octets(&self.bridge, "/xdr", content_type, body);
        let Answered::Refused(status, text) = answered else {
            panic!("{what}: {answered:?}");
        };
        let shown: String = text.chars().take(2_000).collect();
        match expected {
            Fault(rule) => {
                assert_eq!(status, 400, "{what}: {shown}");
                assert!(text.contains(&format!(">{rule}</rule>")), "{what}: {shown}");
                assert!(text.contains(">soap:Sender<"), "{what}: {shown}");
            }
            Failure(code) => {
                assert_eq!(status, 200, "{what}: {shown}");
                assert!(
                    text.contains("ResponseStatusType:Failure"),
                    "{what}: {shown}"
                );
                assert!(
                    text.contains(&format!("errorCode=\"{code}\"")),
                    "{what}: {shown}"
                );
            }
        }
        // However many things are wrong with it, the answer has its bounds.
        assert!(text.len() < 200_000, "{what}: {}", text.len());
    }

    /// Posts octets over a connection of their own and gives everything that comes back, until it is closed.
    fn exchange(&self, octets: &[u8]) -> String {
        let mut connection = self.ground.connect(&self.bridge).unwrap();
        let _ = connection.send(octets);
        let answered = connection.rest().unwrap_or_default();
        String::from_utf8(answered).unwrap()
    }

    /// The most memory so far, in MiB.
    fn peak_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.bridge.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// Nothing is kept and nothing was sent; the memory is within its bound; and the bridge serves on.
    fn end(self) {
        let peak = self.peak_mib();
        assert!(peak < MAX_RESIDENT_MIB, "{peak} MiB");
        assert_eq!(
            files_below(&self.ground.path().join("data")).len(),
            self.files
        );
        assert!(self.ground.sink.transcripts().is_empty());
        let log = self.bridge.log_text();
        assert!(!log.contains("panicked"), "a request panicked");

        assert_eq!(
            self.ground.post(&self.bridge, &Letter::small()),
            Answered::Success
        );
        self.ground.wait_for_messages(1);
        let Self { ground, bridge, .. } = self;
        bridge.stop();
        assert_eq!(ground.exchanges().len(), 1, "the good one alone");
    }
}

/// The MTOM request of a letter as text: its documents are texts too.
fn letter() -> (String, String) {
    let (content_type, body) = Letter::small().request();
    (content_type, String::from_utf8(body).unwrap())
}

/// The same request as a simple envelope.
fn simple(change: impl Fn(String) -> String) -> String {
    let (_, body) = letter();
    let start = body.find("<?xml").unwrap();
    let end = body.find("</soap:Envelope>").unwrap() + "</soap:Envelope>".len();
    let mut envelope = body[start..end].to_owned();
    for document in Letter::small().documents {
        let include = envelope.find("<xop:Include").unwrap();
        let stop = include + envelope[include..].find("/>").unwrap() + 2;
        let text = openssl::base64::encode_block(&document);
        envelope.replace_range(include..stop, &text);
    }
    change(envelope)
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "nothing to replace: {from}");
    text.replacen(from, to, 1)
}

// rule: T-10, SOAP-43, LIM-5, SOAP-80, SOAP-160
#[test]
fn hostile_xml_is_refused_by_a_fault_and_bounded_memory() {
    let siege = Siege::begin();
    let bomb: String = (1..12)
        .map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10)))
        .collect();
    let attributes: String = (0..100_000).map(|n| format!(" a{n}=\"x\"")).collect();
    let namespaces: String = (0..100_000)
        .map(|n| format!(" xmlns:n{n}=\"urn:{n}\""))
        .collect();
    let on_elements: String = (0..1_000)
        .map(|n| {
            let declared: String = (0..100)
                .map(|m| format!(" xmlns:n{m}=\"urn:{n}.{m}\""))
                .collect();
            format!("<x{declared}/>")
        })
        .collect();
    let prefix = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let doctype = |inside: &str| format!("{prefix}<!DOCTYPE a {inside}>");
    let header = |inside: &str| format!("<soap:Header>{inside}");
    let title = "Referral for Ada Quill";
    for (what, from, to, expected) in [
        ("DTD", prefix, doctype(""), Fault("SOAP-43")),
        ("external DTD", prefix, doctype("SYSTEM \"http://127.0.0.1:9/x.dtd\""), Fault("SOAP-43")),
        ("entity bomb", prefix, doctype(&format!("[<!ENTITY e0 \"lol\">{bomb}]")), Fault("SOAP-43")),
        ("parameter entity", prefix, doctype("[<!ENTITY % p SYSTEM \"file:///etc/passwd\">%p;]"), Fault("SOAP-43")),
        ("entity", title, "&e11;".to_owned(), Fault("SOAP-80")),
        ("depth in the header", "<soap:Header>", header(&"<x>".repeat(100_000)), Fault("LIM-5")),
        ("depth in the metadata", "<rim:RegistryObjectList>", "<x>".repeat(100_000), Fault("LIM-5")),
        ("attributes", "<soap:Header>", header(&format!("<x{attributes}/>")), Fault("LIM-5")),
        ("attributes in the metadata", "<rim:RegistryObjectList>", format!("<rim:RegistryObjectList{attributes}>"), Fault("LIM-5")),
        ("namespaces", "<soap:Header>", header(&format!("<x{namespaces}/>")), Fault("LIM-5")),
        ("header blocks", "<soap:Header>", header(&on_elements), Fault("LIM-5")),
        ("one attribute", "<soap:Header>", header(&format!("<x a=\"{}\"/>", "x".repeat(1_000_000))), Fault("LIM-5")),
        ("a header without end", "<soap:Header>", header(&"<x xmlns=\"urn:x\">y</x>".repeat(1_000_000)), Fault("LIM-5")),
        ("a comment without end", "<soap:Header>", header(&format!("<!--{}-->", "x".repeat(9_000_000))), Fault("LIM-3")),
        ("NUL", title, "a\0b".to_owned(), Fault("SOAP-80")),
        ("a reference to NUL", title, "a&#0;b".to_owned(), Fault("SOAP-80")),
        ("XInclude", "<soap:Body>", "<soap:Body><xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>".to_owned(), Fault("SOAP-42")),
    ] {
        let (content_type, body) = letter();
        let body = replaced(&body, from, &to);
        siege.post(&content_type, body.as_bytes(), &expected, &format!("{what}, MTOM"));
        let body = simple(|text| replaced(&text, from, &to));
        siege.post("application/soap+xml", body.as_bytes(), &expected, &format!("{what}, simple"));
    }
    let (content_type, body) = letter();
    let at = body.find(title).unwrap();
    let broken = [
        &body.as_bytes()[..at],
        b"\xff\xfe\xc3\x28",
        &body.as_bytes()[at..],
    ]
    .concat();
    siege.post(&content_type, &broken, &Fault("SOAP-80"), "no UTF-8");
    siege.end();
}

/// A package with another href in its first Include, and further parts.
fn package(body: &str, href: &str, more: &str) -> String {
    let start = body.find("href=\"").unwrap() + "href=\"".len();
    let end = start + body[start..].find('"').unwrap();
    let mut body = body.to_owned();
    body.replace_range(start..end, href);
    let last = body.rfind("\r\n--").unwrap();
    body.insert_str(last, more);
    body
}

// rule: T-10c, SOAP-24, SOAP-28, SOAP-31, SOAP-32, SOAP-80, LIM-6, LIM-7
#[test]
fn hostile_packages_are_refused_each_by_its_rule() {
    let siege = Siege::begin();
    let (content_type, body) = letter();
    let boundary = body.lines().next().unwrap().to_owned();
    let id_of = |name: &str| {
        let start = body.find(&format!("Content-ID: <{name}")).unwrap() + "Content-ID: <".len();
        let end = start + body[start..].find('>').unwrap();
        body[start..end].to_owned()
    };
    let (root, first, second) = (id_of("root."), id_of("doc1."), id_of("doc2."));
    let part = |id: &str| format!("\r\n{boundary}\r\nContent-ID: <{id}>\r\n\r\nx");
    let many: String = (0..501).map(|n| part(&format!("p{n}"))).collect();
    let long_head = format!(
        "\r\n{boundary}\r\nX-Long: {}\r\n\r\nx",
        "x".repeat(1_000_000)
    );
    let nested = format!(
        "\r\n{boundary}\r\nContent-ID: <nest>\r\nContent-Type: multipart/related; boundary=n\r\n\r\n{}",
        "--n\r\nContent-Type: multipart/related; boundary=n\r\n\r\n".repeat(10_000)
    );
    let cid = |id: &str| format!("cid:{id}");
    for (what, body, expected) in [
        (
            "duplicate Content-ID",
            package(&body, &cid(&first), &part(&first)),
            Fault("SOAP-31"),
        ),
        (
            "the root's Content-ID again",
            package(&body, &cid(&first), &part(&root)),
            Fault("SOAP-31"),
        ),
        (
            "two Includes to one part",
            package(&body, &cid(&second), ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to http",
            package(&body, "http://127.0.0.1:9/x", ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to a file",
            package(&body, "file:///etc/passwd", ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to nothing",
            package(&body, "", ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to a missing part",
            package(&body, "cid:missing@example", ""),
            Failure("XDSMissingDocument"),
        ),
        (
            "Include to the root",
            package(&body, &cid(&root), ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "part without Include",
            package(&body, &cid(&first), &part("stray@example")),
            Failure("XDSMissingDocumentMetadata"),
        ),
        (
            "501 parts",
            package(&body, &cid(&first), &many),
            Fault("LIM-6"),
        ),
        (
            "a part's header of 1 MB",
            package(&body, &cid(&first), &long_head),
            Fault("LIM-7"),
        ),
        (
            "packages within packages",
            package(&body, &cid(&first), &nested),
            Failure("XDSMissingDocumentMetadata"),
        ),
        (
            "cut short",
            body[..body.len() / 2].to_owned(),
            Fault("SOAP-30"),
        ),
    ] {
        siege.post(&content_type, body.as_bytes(), &expected, what);
    }
    siege.end();
}

// rule: SOAP-29, XDR-21, XDR-22, LIM-4, LIM-9, T-11e, SOAP-162, SOAP-112, XDR-34
#[test]
fn hostile_values_are_refused_and_never_get_into_a_mail() {
    let siege = Siege::begin();
    let to = "<direct:to>mailto:rui.silva@hisp.example</direct:to>";
    let into_to = |text: &str| format!("<direct:to>mailto:{text}</direct:to>");
    let many_apart: String = (0..10_000)
        .map(|n| into_to(&format!("r{n}@hisp.example")))
        .collect();
    let joined: Vec<String> = (0..2_000).map(|n| format!("r{n}@hisp.example")).collect();
    let entry = "<rim:ExtrinsicObject ";
    let entries: String = (0..10_000)
        .map(|n| format!("<rim:ExtrinsicObject id=\"e{n}\" mimeType=\"text/xml\" objectType=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\"/>"))
        .collect();
    let digest = openssl::hash::hash(
        openssl::hash::MessageDigest::sha1(),
        &Letter::small().documents[0],
    );
    let digest = xdbridge::formats::document::hex(&digest.unwrap());
    let size = format!(
        "<rim:Value>{}</rim:Value>",
        Letter::small().documents[0].len()
    );
    let base64 = openssl::base64::encode_block(&Letter::small().documents[0]);
    for (what, from, to, expected) in [
        (
            "bad base64",
            base64.as_str(),
            "!!!!".to_owned(),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "base64 cut short",
            &base64,
            base64[..base64.len() - 1].to_owned(),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "wrong hash",
            &digest,
            "0".repeat(40),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "wrong size",
            &size,
            "<rim:Value>1</rim:Value>".to_owned(),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "a size without end",
            &size,
            format!("<rim:Value>{}</rim:Value>", "9".repeat(100_000)),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "CR LF in an address",
            to,
            into_to("rui&#13;&#10;Bcc: x@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "CR LF before an address",
            to,
            into_to("&#13;&#10;.&#13;&#10;rui@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "CR LF percent-encoded",
            to,
            into_to("rui%0D%0ABcc%3Ax@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "NUL percent-encoded",
            to,
            into_to("rui%00@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "a path that ends",
            to,
            into_to("rui&gt;@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "10,000 direct:to",
            to,
            many_apart,
            Failure("XDSRepositoryOutOfResources"),
        ),
        (
            "2,000 addresses in one direct:to",
            to,
            into_to(&joined.join(",")),
            Failure("XDSRepositoryOutOfResources"),
        ),
        (
            "10,000 DocumentEntries",
            entry,
            format!("{entries}{entry}"),
            Failure("XDSRepositoryOutOfResources"),
        ),
    ] {
        let body = simple(|text| replaced(&text, from, &to));
        siege.post("application/soap+xml", body.as_bytes(), &expected, what);
    }
    // 10,000 recipients in the metadata, good and bad, where they count: without an addressBlock.
    for (value, code) in [
        (
            "||^^Internet^r{n}@hisp.example",
            "XDSRepositoryOutOfResources",
        ),
        ("Nobody {n}", "XDSRepositoryOutOfResources"),
        ("||^^Internet^no address {n}", "XDSRepositoryOutOfResources"),
        // This is no XTN, of which the first 50 are told.
        ("||^^Fax^{n}", "XDSRepositoryMetadataError"),
    ] {
        let values: String = (0..10_000)
            .map(|n| {
                format!(
                    "<rim:Value>{}</rim:Value>",
                    value.replace("{n}", &n.to_string())
                )
            })
            .collect();
        let slot = format!(
            "<rim:Slot name=\"intendedRecipient\"><rim:ValueList>{values}</rim:ValueList></rim:Slot>"
        );
        let body = simple(|text| {
            let start = text.find("<direct:addressBlock").unwrap();
            let end = text.find("</direct:addressBlock>").unwrap() + "</direct:addressBlock>".len();
            let text = replaced(&text, &text[start..end], "");
            let start = text.find("<rim:Slot name=\"intendedRecipient\"");
            let text = match start {
                Some(start) => {
                    let end =
                        start + text[start..].find("</rim:Slot>").unwrap() + "</rim:Slot>".len();
                    replaced(&text, &text[start..end], "")
                }
                None => text,
            };
            let text = text.replace("direct.elm.example.org", OWN_DOMAIN);
            let submission_time = "<rim:Slot name=\"submissionTime\">";
            replaced(&text, submission_time, &format!("{slot}{submission_time}"))
        });
        let expected = Failure(code);
        siege.post("application/soap+xml", body.as_bytes(), &expected, value);
    }
    siege.end();
}

// rule: LIM-1, LIM-7, SOAP-7, SOAP-9, SOAP-160, SOAP-163
#[test]
fn hostile_transport_is_refused_before_it_costs_much() {
    let siege = Siege::begin();
    let (content_type, body) = letter();
    let head = |fields: &str| {
        format!(
            "POST /xdr HTTP/1.1\r\nHost: {OWN_DOMAIN}\r\nContent-Type: {content_type}\r\n{fields}\r\n\r\n"
        )
    };
    let told = siege.exchange(head("Content-Length: 1073741824").as_bytes());
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    let told =
        siege.exchange((head("Content-Length: 4\r\nContent-Encoding: gzip") + "body").as_bytes());
    assert!(told.starts_with("HTTP/1.1 415 "), "{told}");

    // The header of a part that has no end, by chunks: the answer comes at the limit of one message.
    let mut connection = siege.ground.connect(&siege.bridge).unwrap();
    connection.send(head("Transfer-Encoding: chunked")).unwrap();
    let boundary = body.lines().next().unwrap();
    let start = format!("{boundary}\r\nContent-ID: <x>\r\nX-Long: ");
    let chunk = |octets: &str| format!("{:x}\r\n{octets}\r\n", octets.len());
    connection.send(chunk(&start)).unwrap();
    let block = chunk(&"x".repeat(1_000_000));
    // It answers long before the end of what it was promised.
    for _ in 0..68 {
        if connection.send(&block).is_err() {
            break;
        }
    }
    assert_eq!(connection.answer().unwrap().status, 413);

    // One request that two readers would take for two (CL.TE, TE.CL and their kin): refused, and nothing after it is.
    let hidden = "GET /xdr?wsdl HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked",
            hidden.len() + 5
        ),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {}",
            hidden.len() + 5
        ),
        format!("Content-Length: 5\r\nContent-Length: {}", hidden.len() + 5),
        "Content-Length: 5, 5".to_owned(),
        "Content-Length: +5".to_owned(),
        "Content-Length: 0x5".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding:\u{b}chunked".to_owned(),
        " Transfer-Encoding: chunked".to_owned(),
    ] {
        let told = siege.exchange(format!("{}0\r\n\r\n{hidden}", head(&fields)).as_bytes());
        assert!(told.starts_with("HTTP/1.1 400 "), "{fields:?}: {told}");
        assert_eq!(told.matches("HTTP/1.1").count(), 1, "{fields:?}: {told}");
    }
    siege.end();
}

// rule: LIM-1
#[test]
fn a_body_that_comes_too_slowly_is_given_up() {
    let ground = WORKSHOP.ground();
    let path = ground.path().join("xdbridge.toml");
    let text = fs::read_to_string(&path).unwrap();
    let server = text.find("[soap.server]\n").unwrap() + "[soap.server]\n".len();
    let limits = "chunk_timeout = \"100ms\"\n";
    fs::write(
        &path,
        format!("{}{limits}{}", &text[..server], &text[server..]),
    )
    .unwrap();
    let bridge = ground.start();
    let (content_type, body) = letter();
    let mut connection = ground.connect(&bridge).unwrap();
    connection
        .send(post_head("/xdr", &content_type, body.len()))
        .unwrap();
    connection.send(&body[..body.len() / 2]).unwrap();
    assert_eq!(connection.answer().unwrap().status, 408);
    assert_eq!(connection.rest().unwrap(), b"");
    bridge.stop();
    assert!(ground.exchanges().is_empty());
}

// rule: XDR-21
#[test]
fn a_hash_in_upper_case_is_the_same_hash() {
    let ground = WORKSHOP.ground();
    let bridge = ground.start();
    let (content_type, body) = letter();
    let digest = openssl::hash::hash(
        openssl::hash::MessageDigest::sha1(),
        &Letter::small().documents[0],
    );
    let digest = xdbridge::formats::document::hex(&digest.unwrap());
    let body = replaced(&body, &digest, &digest.to_uppercase());
    let answered = ground.post_octets(&bridge, "/xdr", &content_type, body.as_bytes());
    assert_eq!(answered, Answered::Success);
    ground.wait_for_messages(1);
    bridge.stop();
}

// rule: T-11e, SOAP-162, XDR-85
#[test]
fn a_title_of_several_lines_adds_no_field_to_the_mail() {
    // The ground has `subject_title = true`.
    let ground = WORKSHOP.ground();
    let bridge = ground.start();
    let mut letter = Letter::small();
    letter.title =
        "Plan&#13;&#10;Bcc: eve@evil.example&#13;&#10;&#13;&#10;hello&#10;X-Evil: 1".to_owned();
    assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    let mails = ground.wait_for_messages(1);
    bridge.stop();
    let inner = WORKSHOP.opened(&mails[0]);
    for octets in [mails[0].as_slice(), &inner] {
        let text = String::from_utf8_lossy(octets);
        let is_injected = |line: &str| {
            let line = line.to_ascii_lowercase();
            line.starts_with("bcc:") || line.starts_with("x-evil:")
        };
        let found: Vec<&str> = text
            .split(['\r', '\n'])
            .filter(|line| is_injected(line))
            .collect();
        assert_eq!(found, Vec::<&str>::new());
    }
    // It is there, on one line.
    let mail = mail_parser::MessageParser::default();
    let start = inner
        .windows(5)
        .position(|four| four == b"From:" || four == b"Date:" || four == b"MIME-")
        .unwrap();
    let parsed = mail.parse(&inner[start..]).unwrap();
    let subject = parsed.subject().unwrap_or_default().to_owned();
    assert!(
        subject.contains("Plan") && subject.contains("XDM/1.0/DDM"),
        "{subject}"
    );
    for transcript in ground.sink.transcripts() {
        assert_eq!(transcript.said("RCPT").len(), 2, "nobody was added");
    }
}

// rule: XDR-66, T-7, SOAP-163
#[test]
fn a_sender_that_is_not_the_partners_own_raises_an_alarm_that_names_no_person() {
    let ground = WORKSHOP.ground();
    let bridge = ground.start();
    let mut letter = Letter::small();
    letter.from = "zq7sender@elsewhere.example".parse().unwrap();
    let answered = ground.post(&bridge, &letter);
    let Answered::Refused(200, text) = &answered else {
        panic!("{answered:?}");
    };
    assert!(
        text.contains("codeContext=\"senderUnauthorised: "),
        "{text}"
    );
    let line = bridge.wait_for_line(|line| line.contains("sender_unauthorised"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["alarm"], "sender_unauthorised");
    assert_eq!(line["partner"], "trial-ehr");
    assert_eq!(line["domain"], "elsewhere.example");
    bridge.wait_for_measures(|text| {
        text.lines().any(|line| {
            line.starts_with("xdbridge_alarms_total")
                && line.contains("sender_unauthorised")
                && line.ends_with(" 1")
        })
    });
    let log = bridge.log_text();
    for person in ["zq7sender", "rui.silva", "intake@"] {
        assert!(!log.contains(person), "{person}");
    }
    bridge.stop();
    assert!(ground.exchanges().is_empty());
    assert!(ground.sink.transcripts().is_empty());
}
