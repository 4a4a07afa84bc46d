use proptest::prelude::*;

use super::*;
use crate::formats::document::DocumentKey;

fn limits() -> Limits {
    Limits::default()
}

fn mail_of(text: &str) -> String {
    text.replace('\n', "\r\n")
}

const MIXED: &str = "From: \"Okafor, Ngozi\" <ngozi.okafor@direct.elm.example>
To: rui@direct.harbor.example, nobody here,
 Team: ada@direct.harbor.example;
Subject: =?UTF-8?B?UsOpc3Vtw6k=?=
 of care
Date: Sun, 22 Nov 2026 09:05:09 +0100
Message-ID: <1@direct.elm.example>
References: <a@x.example>
 <b@x.example>
Disposition-Notification-To: ngozi.okafor@direct.elm.example
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"outer 1\"

a preamble
--outer 1
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain

hello
--inner
Content-Type: text/html

<p>hello</p>
--inner--
an epilogue
--outer 1
Content-Type: APPLICATION/PDF; name=\"other.pdf\"
Content-Disposition: attachment; filename*0*=UTF-8''R%C3%A9; filename*1=\"port.pdf\";
 creation-date=\"Sat, 21 Nov 2026 10:00:00 -0500\"
Content-Description: =?ISO-8859-1?Q?R=E9sum=E9?=
Content-Language: de, en
Content-ID: <part2@x.example>
Content-Transfer-Encoding: base64

JVBERi0x
--outer 1--
";

// rule: CC-10, CC-11, WR-11, SM-57
#[test]
fn header_and_parts_of_a_mail_are_read() {
    let text = mail_of(MIXED);
    let mail = read(text.as_bytes(), &limits()).unwrap();
    let header = &mail.header;
    assert_eq!(header.from[0].name.as_deref(), Some("Okafor, Ngozi"));
    let to: Vec<String> = header.to.iter().map(|m| m.address.to_string()).collect();
    assert_eq!(
        to,
        ["rui@direct.harbor.example", "ada@direct.harbor.example"]
    );
    assert_eq!(header.subject.as_deref(), Some("Résumé of care"));
    assert_eq!(header.date, "2026-11-22T08:05:09Z".parse().ok());
    assert_eq!(
        header.message_id.as_ref().map(|id| id.as_str()),
        Some("1@direct.elm.example")
    );
    assert_eq!(header.references.len(), 2);
    assert_eq!(header.disposition_notification_to.len(), 1);
    assert_eq!(mail.report(), None);
    let rules: Vec<&str> = mail.findings.iter().map(|f| f.rule).collect();
    assert_eq!(rules, ["ADR-7"]);

    let leaves = mail.leaves();
    let paths: Vec<&str> = leaves.iter().map(|part| part.path.as_str()).collect();
    assert_eq!(paths, ["1.1", "1.2", "2"]);
    assert_eq!(leaves[0].body, b"hello");
    let pdf = leaves[2];
    assert_eq!(pdf.media_type(), "application/pdf");
    assert_eq!(pdf.disposition, Disposition::Attachment);
    assert_eq!(pdf.file_name.as_deref(), Some("Réport.pdf"));
    assert_eq!(pdf.description.as_deref(), Some("Résumé"));
    assert_eq!(pdf.language.as_deref(), Some("de"));
    assert_eq!(pdf.creation_date, "2026-11-21T15:00:00Z".parse().ok());
    assert_eq!(pdf.content_id.as_deref(), Some("part2@x.example"));
    assert_eq!(&*pdf.decoded(100).unwrap(), b"%PDF-1");
    assert_eq!(pdf.facts(DocumentKey::Loose(0), 100).unwrap().size, 6);
    assert!(matches!(
        pdf.facts(DocumentKey::Loose(0), 5),
        Err(DecodeError::TooLarge { max_bytes: 5 })
    ));
    assert!(matches!(pdf.decoded(5), Err(DecodeError::TooLarge { .. })));
    assert_eq!(pdf.beginning(4), b"%PDF");
}

fn file_name_of(fields: &str) -> Option<String> {
    let text = format!("Message-ID: <1@x.example>\r\n{fields}\r\n\r\nx");
    let mail = read(text.as_bytes(), &limits()).unwrap();
    mail.root.file_name
}

// rule: CC-11, T-9
#[test]
fn file_names_are_read_in_every_spelling_of_the_field_and_lose_their_folders() {
    let disposition = "Content-Disposition: attachment; filename=";
    for (fields, expected) in [
        (format!("{disposition}a.xml"), Some("a.xml")),
        (format!("{disposition}\"a b.xml\""), Some("a b.xml")),
        (
            "Content-Disposition: attachment; filename*=UTF-8'en'%C3%A9.xml".to_owned(),
            Some("é.xml"),
        ),
        (
            "Content-Disposition: attachment; filename*=ISO-8859-1''%E9.xml".to_owned(),
            Some("é.xml"),
        ),
        (
            format!("{disposition}\"=?UTF-8?Q?=C3=A9=2Exml?=\""),
            Some("é.xml"),
        ),
        (format!("{disposition}\"é.xml\""), Some("é.xml")),
        (format!("{disposition}\"../../etc/passwd\""), Some("passwd")),
        (
            "Content-Type: a/b; name=\"n.pdf\"".to_owned(),
            Some("n.pdf"),
        ),
        (format!("{disposition}\"..\""), None),
        (format!("{disposition}\"\""), None),
        ("Content-Disposition: attachment".to_owned(), None),
    ] {
        assert_eq!(file_name_of(&fields).as_deref(), expected, "{fields}");
    }
}

fn refused(text: &str, limits: &Limits) -> &'static str {
    read(text.as_bytes(), limits).unwrap_err().rule
}

// rule: T-11
#[test]
fn a_critical_field_that_stands_there_twice_is_refused() {
    for name in [
        "From",
        "to",
        "Cc",
        "Sender",
        "Message-ID",
        "Content-Type",
        "CONTENT-TRANSFER-ENCODING",
        "Content-Disposition",
    ] {
        let text = format!("{name}: a@x.example\r\n{name} : b@x.example\r\n\r\n");
        assert_eq!(refused(&text, &limits()), "T-11", "{name}");
    }
    let inside = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
                  Content-Type: a/b\r\ncontent-type: c/d\r\n\r\nx\r\n--b--\r\n";
    let error = read(inside.as_bytes(), &limits()).unwrap_err();
    assert_eq!((error.rule, error.location.as_str()), ("T-11", "1"));
    assert!(error.to_finding().is_error());
}

// rule: T-11b
#[test]
fn what_two_readers_could_see_differently_is_refused() {
    let of = |boundary: &str, body: &str| {
        format!("Content-Type: multipart/mixed; {boundary}\r\n\r\n{body}")
    };
    for text in [
        of("boundary=b", "--b\r\n\r\none\r\n"),
        of("boundary=b", "no part\r\n--b--\r\n"),
        of(
            "boundary=b",
            "--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
        ),
        of("boundary=b; boundary=c", "--b\r\n\r\none\r\n--b--\r\n"),
        of("x=y", "--b\r\n\r\none\r\n--b--\r\n"),
        of(&format!("boundary={}", "b".repeat(71)), ""),
        of(
            "boundary=b",
            "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n",
        ),
        "no field at all\r\n\r\nbody".to_owned(),
        " folded: at the start\r\n\r\nbody".to_owned(),
        "na me: x\r\n\r\nbody".to_owned(),
    ] {
        assert_eq!(refused(&text, &limits()), "T-11b", "{text}");
    }
}

// rule: LIM-15, T-11
#[test]
fn depth_parts_fields_header_and_lines_are_limited() {
    let limits = limits();
    let mut nested = "Content-Type: text/plain\r\n\r\nx".to_owned();
    for level in 0..limits.max_mime_depth {
        nested = format!(
            "Content-Type: multipart/mixed; boundary=b{level}.\r\n\r\n--b{level}.\r\n{nested}\r\n--b{level}.--"
        );
    }
    assert_eq!(read(nested.as_bytes(), &limits).unwrap().leaves().len(), 1);
    let deeper =
        format!("Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n{nested}\r\n--c--");
    assert_eq!(refused(&deeper, &limits), "LIM-15");
    let many = |count: usize| {
        format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--",
            "--b\r\n\r\n\r\n".repeat(count)
        )
    };
    assert!(read(many(limits.max_mime_parts - 1).as_bytes(), &limits).is_ok());
    assert_eq!(refused(&many(limits.max_mime_parts), &limits), "LIM-15");
    let fields = "A: b\r\n".repeat(limits.max_mime_header_fields + 1);
    assert_eq!(refused(&fields, &limits), "LIM-15");
    let line = format!("A: {}\r\n\r\n", "x".repeat(limits.max_mime_line_bytes));
    assert_eq!(refused(&line, &limits), "LIM-15");
    let block = format!(
        "A: {}\r\n",
        " x\r\n".repeat(limits.max_mime_header_bytes / 4)
    );
    assert_eq!(refused(&block, &limits), "LIM-15");
    let small = Limits {
        max_message_bytes: 3,
        ..limits
    };
    assert_eq!(refused("A: b\r\n", &small), "LIM-1");
}

// rule: WR-1, WR-2, WR-9
#[test]
fn a_message_is_unwrapped_from_every_transfer_encoding() {
    for (encoding, body) in [
        ("7bit", "Subject: =41\r\n\r\nx"),
        ("8bit", "Subject: =41\r\n\r\nx"),
        ("Binary", "Subject: =41\r\n\r\nx"),
        ("base64", "U3ViamVjdDogPTQxDQoNCng="),
        ("quoted-printable", "Subject:=20=3D41\r\n\r\n=\r\nx"),
    ] {
        let entity = format!(
            "content-type : message/RFC822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}"
        );
        let message = wrapped_message(entity.as_bytes(), &limits()).unwrap();
        assert_eq!(&*message.unwrap(), b"Subject: =41\r\n\r\nx", "{encoding}");
    }
    let plain = b"Content-Type: text/plain\r\n\r\nx";
    assert_eq!(wrapped_message(plain, &limits()).unwrap(), None);
    let unknown = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: zip\r\n\r\nx";
    assert_eq!(
        wrapped_message(unknown, &limits()).unwrap_err().rule,
        "WR-9"
    );
}

// rule: WR-2
#[test]
fn a_message_that_is_not_wrapped_has_the_outer_header() {
    let outer =
        b"From: ada@direct.elm.example\r\nContent-Type: application/pkcs7-mime\r\n\r\nignored";
    let entity = b"Content-Type: text/xml\r\n\r\n<a/>";
    let mail = read_unwrapped(outer, entity, &limits()).unwrap();
    assert_eq!(mail.header.from.len(), 1);
    assert_eq!(mail.root.media_type(), "text/xml");
    assert_eq!(mail.root.body, b"<a/>");
}

// rule: CTX-1, CTX-3
#[test]
fn a_context_is_named_once_and_in_a_header_that_was_signed() {
    let header = "X-DIRECT-CONTEXT:\r\n <c@direct.elm.example>\r\nMessage-ID: <1@x.example>\r\nDate: \
                  Sun, 22 Nov 2026 09:05:09 +0100\r\n";
    let found = |mail: &Mail<'_>| {
        let rules: Vec<&str> = mail.findings.iter().map(|finding| finding.rule).collect();
        (mail.header.direct_context.clone(), rules)
    };
    let signed = format!("{header}\r\nx");
    let mail = read(signed.as_bytes(), &limits()).unwrap();
    let named = Some("c@direct.elm.example".to_owned());
    assert_eq!(found(&mail), (named, vec![]));
    let twice = format!("X-Direct-Context: <d@x.example>\r\n{signed}");
    let mail = read(twice.as_bytes(), &limits()).unwrap();
    assert_eq!(found(&mail), (None, vec!["CTX-1"]));
    let mail = read_unwrapped(header.as_bytes(), b"\r\nx", &limits()).unwrap();
    assert_eq!(found(&mail), (None, vec!["CTX-3"]));
}

// rule: XDR-112
#[test]
fn reports_are_known_by_their_type() {
    for (kind, expected) in [
        ("disposition-notification", Some(Report::Disposition)),
        ("Delivery-Status", Some(Report::DeliveryStatus)),
        ("feedback-report", None),
    ] {
        let text = format!(
            "Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--"
        );
        let mail = read(text.as_bytes(), &limits()).unwrap();
        assert_eq!(mail.report(), expected, "{kind}");
    }
}

proptest! {
    // rule: T-11
    #[test]
    fn no_octets_make_the_reader_panic_or_give_parts_outside_the_message(
        pieces in prop::collection::vec(prop_oneof![
            Just(b"Content-Type: multipart/mixed; boundary=b\r\n".to_vec()),
            Just(b"Content-Type: multipart/mixed; boundary=c\n".to_vec()),
            Just(b"Content-Disposition: attachment; filename*0*=UTF-8''%C3; filename*1=\"\r\n".to_vec()),
            Just(b"From: \"=?UTF-8?B?\xff".to_vec()),
            Just(b"Date: 99 Foo -1 99:99:99 +9999\r\n".to_vec()),
            Just(b"--b".to_vec()),
            Just(b"--b--\r\n".to_vec()),
            Just(b"--c\r\n".to_vec()),
            Just(b"--c--".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"Content-Transfer-Encoding: base64\r\n\r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=".to_vec()),
            prop::collection::vec(any::<u8>(), 0..20),
        ], 0..40)
    ) {
        let message = pieces.concat();
        let _ = wrapped_message(&message, &limits());
        if let Ok(mail) = read(&message, &limits()) {
            for part in mail.leaves() {
                prop_assert!(part.body.len() <= message.len());
                let _ = part.decoded(1 << 20);
                let _ = part.beginning(16);
                prop_assert!(!part.path.is_empty());
            }
        }
    }
}
