//! What a hostile submission leaves in mails, logs and measures.

use super::WORKSHOP;
use crate::support::crossing_ground::{Answered, Letter};

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
