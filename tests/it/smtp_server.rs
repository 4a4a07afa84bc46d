//! The SMTP listener, as well-meaning peers meet it: what reaches the flow, what is answered, how it is stopped.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use openssl::ssl::SslVersion;
use proptest::prelude::*;
use tokio::sync::Notify;
use xdbridge::{
    adapters::smtp_server::{SmtpServerError, TlsIn},
    flows::ports::{BodyInterrupted, MailAnswer, MailRecipient, OriginalRecipient},
    formats::{
        audit::{AuditKind, AuditOutcome},
        ids::CertificateFingerprint,
    },
};

use crate::support::{
    folder::TestFolder,
    smtp_server_ground::{
        BUDGET_BYTES, DOMAIN, MAX_MESSAGE_BYTES, MailGround, bind_error, codes, collect, stuffed,
        whole, written_by,
    },
    tls::Identity,
    wait_until,
};

const MAIL: &[u8] = b"From: ada.quill@direct.elm.example\r\nSubject: -\r\n\r\n.one\r\n..two\r\n";

// --- what reaches the flow ----------------------------------------------------------------------

// rule: RX-11, RX-20, RX-43, RX-47, TLS-1, TLS-3
#[test]
fn a_mail_reaches_the_flow_octet_by_octet_with_envelope_and_peer() {
    let ground = MailGround::start();
    let client = ground.ca.issue("mx.elm.example");
    for (newest, identity, version) in [
        (SslVersion::TLS1_2, None, "TLSv1.2"),
        (SslVersion::TLS1_3, Some(&client), "TLSv1.3"),
    ] {
        let mut peer = ground.handshake(Some(newest), identity).unwrap();
        peer.ask("EHLO mx.elm.example");
        peer.envelope();
        peer.send(stuffed(MAIL));
        let reply = peer.reply();

        let seen = ground.seen();
        assert_eq!(reply, format!("250 2.0.0 Ok: queued as {}\r\n", seen.id));
        assert_eq!(seen.body, Ok(MAIL.to_vec()));
        assert_eq!(
            seen.from.unwrap().to_string(),
            "ada.quill@direct.elm.example"
        );
        let ngozi = format!("ngozi@{DOMAIN}").parse().unwrap();
        let to = MailRecipient::Address {
            address: ngozi,
            original: None,
        };
        assert_eq!(seen.recipients, [to]);
        let tls = seen.peer.tls.unwrap();
        assert_eq!(tls.version, version);
        assert!(tls.cipher.contains("GCM") || tls.cipher.contains("CHACHA20"));
        let fingerprint = identity
            .map(|client| CertificateFingerprint::of_der(&client.certificate.to_der().unwrap()));
        assert_eq!(tls.certificate, fingerprint);
        assert!(seen.peer.address.ip().is_loopback());
        let trace = format!(
            "Received: from mx.elm.example ([127.0.0.1])\r\n\tby bridge.harbor.example with ESMTPS\r\n\tid {}\r\n\t\
             for <ngozi@{DOMAIN}>;\r\n\t",
            seen.id
        );
        assert!(seen.trace.starts_with(&trace), "{}", seen.trace);
        assert!(seen.trace.ends_with(" +0000\r\n"), "{}", seen.trace);
        assert!(peer.ask("QUIT").starts_with("221 2.0.0 "));
        assert_eq!(peer.rest(), "");
    }
    assert_eq!(ground.budget.in_flight(), 0, "all of it is free again");
    assert_eq!(
        ground.audited().len(),
        0,
        "what is accepted, the flow audits"
    );
}

// rule: RX-10, RX-20, RX-24, RX-28
#[test]
fn one_session_carries_several_mails_each_with_its_own_envelope() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    assert_eq!(peer.deliver("first\r\n.\r\n"), "250 2.0.0");
    assert_eq!(peer.code("DATA"), "503 5.5.1", "the first envelope is over");
    assert_eq!(peer.code("MAIL FROM:<>"), "250 2.1.0");
    assert_eq!(peer.code("RCPT TO:<postmaster>"), "250 2.1.5");
    let original = format!("RCPT TO:<ngozi@{DOMAIN}> NOTIFY=FAILURE ORCPT=rfc822;old@x.example");
    assert_eq!(peer.code(&original), "250 2.1.5");
    assert!(peer.ask("DATA").starts_with("354 "));
    peer.send(".\r\n");
    assert_eq!(codes(&peer.reply()), "250 2.0.0");

    assert_eq!(ground.seen().body, Ok(b"first\r\n".to_vec()));
    let second = ground.seen();
    assert_eq!((second.from, second.body), (None, Ok(Vec::new())));
    assert_eq!(second.recipients[0], MailRecipient::Postmaster);
    let MailRecipient::Address { original, .. } = &second.recipients[1] else {
        panic!("{:?}", second.recipients);
    };
    assert_eq!(
        *original,
        Some(OriginalRecipient("old@x.example".to_owned()))
    );
    assert!(!second.trace.contains("for <"), "{}", second.trace);
}

// rule: RX-45
#[test]
fn a_pipelined_group_is_answered_in_order_and_mixed_recipients_each_by_its_own() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    peer.send(format!(
        "RSET\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<nobody@{DOMAIN}>\r\nRCPT TO:<later@{DOMAIN}>\r\n\
         RCPT TO:<keyless@{DOMAIN}>\r\nRCPT TO:<a@oak.example>\r\nRCPT TO:<ngozi@{DOMAIN}>\r\nDATA\r\n"
    ));
    let replies: Vec<String> = (0..8).map(|_| codes(&peer.reply())).collect();
    assert_eq!(
        replies,
        [
            "250 2.0.0",
            "250 2.1.0",
            "550 5.1.1",
            "451 4.3.0",
            "451 4.3.5",
            "550 5.7.1",
            "250 2.1.5",
            "354"
        ]
    );
    peer.send("mail\r\n.\r\nNOOP\r\nQUIT\r\n");
    let replies: Vec<String> = (0..3).map(|_| codes(&peer.reply())).collect();
    assert_eq!(replies, ["250 2.0.0", "250 2.0.0", "221 2.0.0"]);
    assert_eq!(ground.seen().recipients.len(), 1);
    let records = ground.audited();
    assert_eq!(
        records.len(),
        1,
        "refused recipients are told once a session"
    );
    assert_eq!(records[0].kind, AuditKind::SecurityAlert);
    assert_eq!(
        records[0].details["reason"],
        "refused 0 senders and 2 recipients"
    );
    assert_eq!(records[0].details["helo"], "mx.elm.example");
}

// rule: RX-45, RX-43
#[test]
fn a_whole_session_is_understood_wherever_its_octets_are_cut() {
    let ground = MailGround::start();
    let commands =
        format!("MAIL FROM:<a@direct.elm.example>\r\nRCPT TO:<ngozi@{DOMAIN}>\r\nDATA\r\n");
    let data = "..a\r\n.\r\nNOOP\r\n";
    let mut peer = ground.connect_tls();
    let mut check = |pieces: [&str; 4]| {
        for piece in &pieces[..2] {
            peer.send(piece);
        }
        let replies: Vec<String> = (0..3).map(|_| codes(&peer.reply())).collect();
        assert_eq!(replies, ["250 2.1.0", "250 2.1.5", "354"], "{pieces:?}");
        for piece in &pieces[2..] {
            peer.send(piece);
        }
        let replies: Vec<String> = (0..2).map(|_| codes(&peer.reply())).collect();
        assert_eq!(replies, ["250 2.0.0", "250 2.0.0"], "{pieces:?}");
        assert_eq!(ground.seen().body, Ok(b".a\r\n".to_vec()), "{pieces:?}");
    };
    for cut in 1..commands.len() {
        let (first, second) = commands.split_at(cut);
        let (third, fourth) = data.split_at(cut % (data.len() - 1) + 1);
        check([first, second, third, fourth]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    // rule: RX-43, RX-46
    #[test]
    fn every_mail_arrives_octet_by_octet_over_the_wire(
        lines in prop::collection::vec(
            prop::collection::vec(prop::sample::select(b"..ab \x80\xff".to_vec()), 0..998),
            0..40,
        ),
        cuts in prop::collection::vec(1_usize..2000, 1..40),
    ) {
        let ground = MailGround::start();
        let mail: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b"\r\n"].concat()).collect();
        let sent = stuffed(&mail);
        let mut peer = ground.connect_tls();
        peer.envelope();
        let mut rest = &sent[..];
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            peer.send(piece);
            rest = after;
        }
        peer.send(rest);
        prop_assert_eq!(codes(&peer.reply()), "250 2.0.0");
        prop_assert_eq!(ground.seen().body, Ok(mail));
    }
}

// --- sizes and room -----------------------------------------------------------------------------

fn mail_of(bytes: u64) -> Vec<u8> {
    let mut mail = Vec::new();
    while (mail.len() as u64) < bytes {
        let length = (bytes - mail.len() as u64).min(1000);
        // The last line may have room for its end alone.
        let text = usize::try_from(length).unwrap().saturating_sub(2);
        mail.extend(vec![b'x'; text]);
        mail.extend_from_slice(b"\r\n");
    }
    assert_eq!(mail.len() as u64, bytes);
    mail
}

// rule: RX-44, LIM-1
#[test]
fn a_mail_of_the_limit_is_taken_and_one_octet_more_is_not() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    let largest = mail_of(MAX_MESSAGE_BYTES);
    assert_eq!(peer.deliver(stuffed(&largest)), "250 2.0.0");
    assert_eq!(ground.seen().body, Ok(largest));

    assert_eq!(
        peer.deliver(stuffed(&mail_of(MAX_MESSAGE_BYTES + 2))),
        "552 5.3.4"
    );
    let max_bytes = MAX_MESSAGE_BYTES;
    assert_eq!(
        ground.seen().body,
        Err(BodyInterrupted::TooLarge { max_bytes })
    );
    assert_eq!(
        peer.deliver("small\r\n.\r\n"),
        "250 2.0.0",
        "the session goes on"
    );
    let record = &ground.audited()[0];
    assert_eq!(record.kind, AuditKind::Iti32Import);
    assert_eq!(record.outcome, AuditOutcome::Serious);
    assert!(record.details["smtp-reply"].starts_with("552 5.3.4 "));
    assert_eq!(record.details["from"], "ada.quill@direct.elm.example");
    assert_eq!(record.details["recipients"], format!("ngozi@{DOMAIN}"));
}

// rule: LIM-17, RX-21
#[test]
fn without_room_in_the_byte_budget_a_mail_is_put_off_at_mail_at_data_and_on_its_way() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    let most = ground
        .budget
        .try_reserve(BUDGET_BYTES - 300 * 1024)
        .unwrap();
    assert_eq!(peer.code("MAIL FROM:<> SIZE=1000000"), "452 4.3.1");
    assert_eq!(peer.deliver(stuffed(&mail_of(900_000))), "452 4.3.1");
    assert_eq!(ground.seen().body, Err(BodyInterrupted::NoRoom));
    let mut rest = None;
    wait_until("the interrupted mail's room is free again", || {
        rest = ground.budget.try_reserve(200 * 1024);
        rest.is_some()
    });
    assert_eq!(peer.code("MAIL FROM:<>"), "250 2.1.0");
    assert_eq!(peer.code(&format!("RCPT TO:<ngozi@{DOMAIN}>")), "250 2.1.5");
    assert_eq!(peer.code("DATA"), "452 4.3.1");
    drop((most, rest));
    assert_eq!(peer.deliver(stuffed(&mail_of(900_000))), "250 2.0.0");
    assert_eq!(ground.budget.in_flight(), 0);
}

// rule: LIM-18, RX-21, T-26
#[test]
fn without_room_in_the_store_a_mail_is_put_off_at_mail_and_at_data() {
    let ground = MailGround::start();
    let leave = |bytes| ground.runtime.block_on(ground.room.leave(bytes));
    let mut peer = ground.connect_tls();
    leave(0);
    assert_eq!(peer.code("MAIL FROM:<>"), "452 4.3.1");
    leave(u64::MAX);
    assert_eq!(peer.code("MAIL FROM:<>"), "250 2.1.0");
    assert_eq!(peer.code(&format!("RCPT TO:<ngozi@{DOMAIN}>")), "250 2.1.5");
    leave(0);
    assert_eq!(peer.code("DATA"), "452 4.3.1");
    leave(u64::MAX);
    assert_eq!(peer.deliver("mail\r\n.\r\n"), "250 2.0.0");
    // What is on its way already is taken to its end.
    peer.ask(&format!("MAIL FROM:<>\r\nRCPT TO:<ngozi@{DOMAIN}>"));
    peer.reply();
    assert!(peer.ask("DATA").starts_with("354"));
    leave(0);
    peer.send("mail\r\n.\r\n");
    assert!(peer.reply().starts_with("250 2.0.0"));
}

// --- the flow's word ----------------------------------------------------------------------------

// rule: RX-47, RX-49
#[test]
fn the_final_reply_is_the_flows_and_comes_only_after_its_decision() {
    let decide = Arc::new(Notify::new());
    let decision = Arc::clone(&decide);
    let ground = MailGround::with(
        |_| {},
        move |mut transaction, seen| {
            let decision = Arc::clone(&decision);
            Box::pin(async move {
                let body = whole(&mut transaction).await.unwrap();
                drop(seen);
                decision.notified().await;
                match body.first() {
                    Some(b'a') => MailAnswer::Accepted,
                    Some(b'r') => MailAnswer::Refused {
                        code: 550,
                        enhanced: "5.7.1",
                        text: "S/MIME encryption required",
                    },
                    Some(b'n') => MailAnswer::NO_ROOM,
                    // An answer that contradicts itself.
                    _ => MailAnswer::Deferred {
                        code: 250,
                        enhanced: "2.0.0",
                        text: "",
                    },
                }
            })
        },
    );
    let mut peer = ground.connect_tls();
    for (mail, code) in [
        ("a", "250 2.0.0"),
        ("r", "550 5.7.1"),
        ("n", "452 4.3.1"),
        ("x", "451 4.3.0"),
    ] {
        peer.envelope();
        peer.send(format!("{mail}\r\n.\r\n"));
        peer.stream.get_ref().set_nonblocking(true).unwrap();
        let early = std::io::Read::read(&mut peer.stream, &mut [0; 8]);
        assert!(early.is_err(), "nothing is answered before the decision");
        peer.stream.get_ref().set_nonblocking(false).unwrap();
        decide.notify_one();
        assert_eq!(codes(&peer.reply()), code);
    }
    let outcomes: Vec<AuditOutcome> = ground.audited().iter().map(|r| r.outcome).collect();
    use AuditOutcome::{Minor, Serious};
    assert_eq!(outcomes, [Serious, Minor, Minor]);
}

// rule: RX-47
#[test]
fn a_flow_that_decides_early_panics_or_never_answers_leaves_the_session_whole() {
    let ground = MailGround::with(
        |config| config.answer_timeout = Duration::from_millis(300),
        |transaction, seen| match transaction.envelope_from.as_ref().map(|from| from.local()) {
            Some("early") => Box::pin(async {
                MailAnswer::Refused {
                    code: 550,
                    enhanced: "5.7.1",
                    text: "no",
                }
            }),
            Some("hasty") => Box::pin(async { MailAnswer::Accepted }),
            Some("panic") => Box::pin(async { panic!("as told") }),
            Some("never") => Box::pin(async move {
                let _held = transaction;
                std::future::pending().await
            }),
            _ => collect(transaction, seen),
        },
    );
    let mut peer = ground.connect_tls();
    for (local, code) in [
        ("early", "550 5.7.1"),
        ("hasty", "451 4.3.0"),
        ("panic", "451 4.3.0"),
        ("never", "451 4.3.0"),
        ("other", "250 2.0.0"),
    ] {
        // More than the channel holds, so that the session notices that nobody reads.
        let size = if local == "never" { 100 } else { 900_000 };
        peer.code(&format!("MAIL FROM:<{local}@direct.elm.example>"));
        peer.code(&format!("RCPT TO:<ngozi@{DOMAIN}>"));
        assert!(peer.ask("DATA").starts_with("354 "));
        peer.send(stuffed(&mail_of(size)));
        assert_eq!(codes(&peer.reply()), code, "{local}");
    }
}

// rule: RX-48
#[test]
fn a_connection_that_breaks_in_the_data_gives_the_flow_no_whole_mail() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    peer.envelope();
    peer.send("half a mail\r\n.\r");
    drop(peer);
    assert_eq!(ground.seen().body, Err(BodyInterrupted::Broken));
}

// --- stopping and reloading ---------------------------------------------------------------------

#[test]
fn a_stop_sends_idle_sessions_away_and_lets_a_mail_under_way_end() {
    let mut ground = MailGround::start();
    let mut idle = ground.connect();
    let mut sending = ground.connect_tls();
    sending.envelope();
    sending.send("first half\r\n");
    let server = ground.server.take().unwrap();
    let stopped = ground.runtime.spawn(server.stop());
    assert_eq!(codes(&idle.reply()), "421 4.3.2");
    assert_eq!(idle.rest(), "");
    sending.send("second half\r\n.\r\n");
    assert_eq!(codes(&sending.reply()), "250 2.0.0");
    assert_eq!(codes(&sending.reply()), "421 4.3.2");
    assert_eq!(
        ground.seen().body,
        Ok(b"first half\r\nsecond half\r\n".to_vec())
    );
    drop((idle, sending));
    ground.runtime.block_on(stopped).unwrap();
    assert!(std::net::TcpStream::connect(ground.address).is_err());
}

#[test]
fn a_stop_waits_no_longer_than_it_may() {
    let mut ground = MailGround::with(
        |config| config.drain_timeout = Duration::from_millis(200),
        collect,
    );
    let mut peer = ground.connect_tls();
    peer.envelope();
    ground.stop();
    assert_eq!(ground.seen().body, Err(BodyInterrupted::Broken));
    assert_eq!(peer.rest(), "");
}

// rule: TLS-1
#[test]
fn a_new_certificate_is_used_after_a_reload_and_an_unusable_one_is_not() {
    let ground = MailGround::start();
    let server = ground.server.as_ref().unwrap();
    let shown = || {
        let peer = ground.handshake(None, None)?;
        let certificate = peer.stream.ssl().peer_certificate().unwrap();
        Ok::<_, String>(certificate.to_der().unwrap())
    };
    let before = shown().unwrap();
    fs::write(&ground.config.certificate, "nothing").unwrap();
    assert!(server.read_certificate().is_err());
    assert_eq!(shown().unwrap(), before);
    let renewed = ground.ca.issue("localhost");
    renewed.write(ground.folder.path(), "server");
    let read = server.read_certificate().unwrap();
    assert_eq!(shown().unwrap(), before, "not used yet");
    server.use_certificate(read);
    assert_eq!(shown().unwrap(), renewed.certificate.to_der().unwrap());
}

// rule: T-31
#[test]
fn a_listener_without_a_usable_certificate_does_not_start() {
    let (ca, folder) = (Identity::ca("Test CA"), TestFolder::new());
    let config = written_by(&ca, &folder);
    let mut missing = config.clone();
    missing.certificate = folder.path().join("none.pem");
    let error = bind_error(&missing);
    let place = format!(
        "smtp.server.certificate: {} cannot be read: ",
        missing.certificate.display()
    );
    assert!(error.to_string().starts_with(&place), "{error}");
    let mut other = config.clone();
    other.key = ca.issue("other.example").write(folder.path(), "other").1;
    let error = bind_error(&other).to_string();
    assert!(
        error.starts_with("smtp.server.key: ")
            && error.contains("is not the key of the certificate"),
        "{error}"
    );
    fs::set_permissions(&config.key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = bind_error(&config).to_string();
    assert!(
        error.starts_with("smtp.server.key: ") && error.contains("has mode 0640"),
        "{error}"
    );
    fs::set_permissions(&config.key, fs::Permissions::from_mode(0o600)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = config;
    busy.bind = taken.local_addr().unwrap();
    assert!(matches!(bind_error(&busy), SmtpServerError::Bind { .. }));
}

// rule: TLS-2
#[test]
fn where_clear_text_is_allowed_mail_is_taken_without_tls() {
    let ground = MailGround::with(|config| config.tls = TlsIn::May, collect);
    let mut peer = ground.connect();
    peer.ask("HELO mx.elm.example");
    assert_eq!(peer.deliver("mail\r\n.\r\n"), "250 2.0.0");
    let seen = ground.seen();
    assert_eq!(seen.peer.tls, None);
    assert!(seen.trace.contains(" with SMTP\r\n"));
}
