//! Canaries: strings planted in everything that could name a patient, which must turn up in the recipient's mail and
//! in no file, log line or measure of the bridge (design.md section 2, PHI).

use std::{fs, os::unix::process::ExitStatusExt, path::Path};

use rustix::process::Signal;

use super::support::{
    crossing_ground::{
        Answered, CrossingGround, HISP_DOMAIN, Letter, OWN_DOMAIN, Workshop, address, files_below,
        post_head,
    },
    folder::TestFolder,
    process::BridgeProcess,
    scripted_smtp::Act,
};

const DOCUMENT: &str = "zq7document=kx4";
const TITLE: &str = "zq7title kx4";
const PATIENT_ID: &str = "zq7patient-kx4";
const URI: &str = "zq7uri-kx4.xml";
const SENDER: &str = "zq7sender+kx4";
const RECIPIENT: &str = "zq7recipient+kx4";
/// A recipient whom the next hop refuses, and one whom it puts off: both are quoted in the reply.
const BOUNCED: &str = "zq7bounced+kx4";
const DEFERRED: &str = "zq7deferred+kx4";
/// A value that breaks the metadata's rules, and is quoted in the answer.
const BROKEN_VALUE: &str = "zq7broken kx4";

const ALL: [&str; 9] = [
    DOCUMENT,
    TITLE,
    PATIENT_ID,
    URI,
    SENDER,
    RECIPIENT,
    BOUNCED,
    DEFERRED,
    BROKEN_VALUE,
];

/// What a delivered letter brings to its recipient.
const DELIVERED: [&str; 6] = [DOCUMENT, TITLE, PATIENT_ID, URI, SENDER, RECIPIENT];

/// The forms in which a canary could lie somewhere.
fn forms(canary: &str) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![
        ("plain".to_owned(), canary.as_bytes().to_vec()),
        ("percent-encoded".to_owned(), percent_encoded(canary)),
        ("hexadecimal".to_owned(), hexadecimal(canary)),
        (
            "UTF-16, little end first".to_owned(),
            canary.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        (
            "UTF-16, big end first".to_owned(),
            canary.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ),
    ];
    // Base64 has three looks, by where the string begins; the digits at both ends depend on what is around it.
    for skipped in 0..3 {
        let encoded =
            openssl::base64::encode_block(&[&vec![b' '; skipped], canary.as_bytes()].concat());
        let whole_groups = (skipped + canary.len()) / 3 * 4;
        let first = if skipped == 0 { 0 } else { 4 };
        let digits = encoded.as_bytes()[first..whole_groups].to_vec();
        forms.push((format!("base64 after {skipped}"), digits));
    }
    forms
}

fn percent_encoded(canary: &str) -> Vec<u8> {
    let encoded = canary.bytes().map(|octet| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    });
    encoded.collect::<String>().into_bytes()
}

fn hexadecimal(canary: &str) -> Vec<u8> {
    let digits: String = canary.bytes().map(|octet| format!("{octet:02x}")).collect();
    digits.into_bytes()
}

/// Every canary in `octets`, with its form. Case does not hide one, and neither does a line end of base64.
fn found_in(octets: &[u8]) -> Vec<String> {
    let lower = octets.to_ascii_lowercase();
    let joined: Vec<u8> = lower
        .iter()
        .copied()
        .filter(|octet| !b"\r\n".contains(octet))
        .collect();
    let mut found = Vec::new();
    for canary in ALL {
        for (form, look) in forms(canary) {
            let look = look.to_ascii_lowercase();
            let finder = memchr::memmem::Finder::new(&look);
            if finder.find(&lower).is_some() || finder.find(&joined).is_some() {
                found.push(format!("{canary} ({form})"));
            }
        }
    }
    found
}

/// No file below `folder` holds a canary in its content or its name. Tells how many octets were looked through.
fn assert_clean(folder: &Path) -> usize {
    let mut total = 0;
    for path in files_below(folder) {
        let octets = fs::read(&path).unwrap();
        let found = found_in(&octets);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        let found = found_in(path.to_string_lossy().as_bytes());
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        total += octets.len();
    }
    total
}

/// A letter with a canary in every place.
fn letter(mut letter: Letter) -> Letter {
    letter.from = address(SENDER, OWN_DOMAIN);
    letter.to = vec![address(RECIPIENT, HISP_DOMAIN)];
    letter.title = TITLE.to_owned();
    letter.patient_id = PATIENT_ID.to_owned();
    letter.uri = URI.to_owned();
    // Repeated, so that it would also lie at the ends of chunks and buffers.
    letter.documents[0] = format!("<note>{}</note>", DOCUMENT.repeat(50)).into_bytes();
    letter
}

fn to(mut letter: Letter, local: &str, domain: &str) -> Letter {
    letter.to = vec![address(local, domain)];
    letter
}

/// A next hop that quotes the recipients whom it does not take.
fn quoting(workshop: &Workshop) -> CrossingGround<'_> {
    workshop.ground_with(|hop| {
        hop.acts(|_, step| {
            let quoted = step.strip_prefix("RCPT TO:")?;
            if quoted.contains(BOUNCED) {
                return Act::say(&format!("550 5.1.1 {quoted}: no such mailbox"));
            }
            if quoted.contains(DEFERRED) {
                return Act::say(&format!("451 4.3.0 {quoted}: try again later"));
            }
            None
        })
    })
}

/// The answer is a refusal that quotes the sender's own value to it.
fn assert_refused_quoting(answered: &Answered, canary: &str) {
    let Answered::Refused(200, text) = answered else {
        panic!("{answered:?}");
    };
    assert!(text.contains(canary), "{text}");
}

/// Looks through what the operators' listener tells, and ends the process.
fn close(bridge: BridgeProcess) {
    for path in ["/metrics", "/readyz", "/healthz"] {
        let text = bridge.operator(path);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert_eq!(found_in(text.as_bytes()), Vec::<String>::new());
    }
    bridge.stop();
}

#[test]
fn the_detector_finds_a_canary_in_every_form() {
    let folder = TestFolder::new();
    let path = folder.path().join("found");
    for canary in ALL {
        for (form, look) in forms(canary) {
            let content = [b"before ".as_slice(), &look, b" after"].concat();
            fs::write(&path, content).unwrap();
            let found = found_in(&fs::read(&path).unwrap());
            assert!(found.contains(&format!("{canary} ({form})")), "{found:?}");
        }
        // The digits that do not depend on what is around are found wherever the string begins.
        for around in ["", "a", "ab", "abc"] {
            let text = format!("{around}{canary}{around}");
            let encoded = openssl::base64::encode_block(text.as_bytes());
            let found = found_in(encoded.as_bytes());
            assert!(found.iter().any(|found| found.starts_with(canary)));
        }
    }
    let denial = std::panic::catch_unwind(|| assert_clean(folder.path()));
    assert!(denial.is_err());
}

// rule: T-30
#[test]
fn what_could_name_a_patient_is_in_the_recipients_mail_and_nowhere_else() {
    let workshop = Workshop::new();
    let ground = quoting(&workshop);
    let bridge = ground.start();
    for letter in [letter(Letter::small()), letter(Letter::large())] {
        assert_eq!(ground.post(&bridge, &letter), Answered::Success);
        // Once more, as after a lost answer.
        assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    }
    for mail in ground.wait_for_messages(2) {
        let found = found_in(&workshop.opened(&mail));
        for canary in DELIVERED {
            assert!(found.contains(&format!("{canary} (plain)")), "{canary}");
        }
        // Only the addresses are outside of the sealed part.
        let outside = found_in(&mail);
        for canary in [DOCUMENT, TITLE, PATIENT_ID, URI] {
            let is_outside = outside.iter().any(|found| found.starts_with(canary));
            assert!(!is_outside, "{outside:?}");
        }
    }

    refused(&ground, &bridge);

    let bounced = to(letter(Letter::small()), BOUNCED, HISP_DOMAIN);
    assert_eq!(ground.post(&bridge, &bounced), Answered::Success);
    bridge.wait_for_line(|line| line.contains("\"refused\":1"));
    let deferred = to(letter(Letter::large()), DEFERRED, HISP_DOMAIN);
    assert_eq!(ground.post(&bridge, &deferred), Answered::Success);
    bridge.wait_for_line(|line| line.contains("\"deferred\":1"));
    close(bridge);

    let passes = assert_all_clean(&ground);
    assert!(passes > 100_000, "only {passes} octets were looked through");
}

/// Requests that are refused, each for another reason.
fn refused(ground: &CrossingGround<'_>, bridge: &BridgeProcess) {
    let mut broken = letter(Letter::small());
    for field in ["20260302141500", "20260302142000"] {
        let change = (field.to_owned(), BROKEN_VALUE.to_owned());
        broken.replaced.push(change);
    }
    let answered = ground.post(bridge, &broken);
    assert_refused_quoting(&answered, BROKEN_VALUE);

    let unknown = to(letter(Letter::small()), RECIPIENT, "nowhere.example");
    let answered = ground.post(bridge, &unknown);
    assert_refused_quoting(&answered, RECIPIENT);

    let mut foreign = letter(Letter::large());
    foreign.from = address(SENDER, "elsewhere.example");
    let answered = ground.post(bridge, &foreign);
    assert!(
        matches!(answered, Answered::Refused(200, _)),
        "{answered:?}"
    );

    // Cut short, of another kind, without an end, and to a place that is not there.
    let (content_type, body) = letter(Letter::small()).request();
    let half = &body[..body.len() / 2];
    let xml = format!("<{TITLE}><a b='{PATIENT_ID}'>{DOCUMENT}");
    for (path, content_type, body) in [
        ("/xdr", content_type.as_str(), half),
        ("/xdr", "application/soap+xml", xml.as_bytes()),
        ("/xdr", "text/plain", body.as_slice()),
        (
            "/xdr/zq7patient-kx4?title=zq7title%20kx4",
            "text/plain",
            b"".as_slice(),
        ),
    ] {
        let answered = ground.post_octets(bridge, path, content_type, body);
        assert!(matches!(answered, Answered::Refused(..)), "{answered:?}");
    }
    // A sender that goes away in the middle.
    let mut connection = ground.connect(bridge).unwrap();
    let head = post_head("/xdr", &content_type, body.len());
    connection.send(head).unwrap();
    connection.send(half).unwrap();
    connection.break_off();
}

/// The bridge's data, its folder for temporary files, and its log.
fn assert_all_clean(ground: &CrossingGround<'_>) -> usize {
    let log = fs::read(ground.path().join("log")).unwrap();
    assert_eq!(found_in(&log), Vec::<String>::new(), "in the log");
    assert!(!log.is_empty());
    assert_clean(&ground.path().join("data")) + assert_clean(&ground.path().join("tmp")) + log.len()
}

#[cfg(feature = "fault-points")]
// rule: T-30
#[test]
fn a_killed_bridge_leaves_nothing_readable_behind() {
    const SIGKILL: i32 = 9;
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let points = [
        "accept.body_received",
        "body.write@1",
        "body.sync@1",
        "accept.decided",
        "accept.before_answer",
        "deliver.sealed",
        "body.sync@2",
        "deliver.before_send",
        "smtp.before_final_dot",
        "deliver.sent",
    ];
    for point in points {
        for letter in [letter(Letter::small()), letter(Letter::large())] {
            let mut bridge = ground.start_with(&format!("{point}=kill"));
            ground.post(&bridge, &letter);
            assert_eq!(bridge.ended().signal(), Some(SIGKILL), "{point}");
            assert_all_clean(&ground);
        }
    }
    let count = ground.arrived().len();
    let bridge = ground.start();
    assert_eq!(
        ground.post(&bridge, &letter(Letter::large())),
        Answered::Success
    );
    ground.wait_for_messages(count + 1);
    close(bridge);
    assert_all_clean(&ground);
}

// rule: T-30
#[test]
fn a_bridge_that_crashes_leaves_no_core() {
    let workshop = Workshop::new();
    // Of a SIGSEGV that was sent and not caused, the language's own handler makes nothing.
    for signal in [Signal::ABORT, Signal::QUIT] {
        let ground = workshop.ground();
        let mut bridge = ground.start();
        let limits = fs::read_to_string(format!("/proc/{}/limits", bridge.pid())).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{limits}");
        bridge.signal(signal);
        let status = bridge.ended();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        assert!(!status.core_dumped());
    }
}
