//! The SMTP listener, as attackers meet it: every refusal, smuggling, injection, slow and many connections.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use openssl::ssl::{SslStream, SslVersion};
use xdbridge::{
    adapters::smtp_server::SmtpServerConfig, flows::ports::BodyInterrupted,
    formats::audit::AuditKind,
};

use crate::support::{
    smtp_server_ground::{DOMAIN, MAX_MESSAGE_BYTES, MailGround, Peer, codes, collect},
    wait_until,
};

// --- refusals -----------------------------------------------------------------------------------

// rule: RX-3, RX-4, RX-5, RX-21, RX-22, RX-23, RX-24, RX-25, RX-40, TLS-2
#[test]
fn every_refusal_has_its_code_and_leaves_the_session_usable() {
    let ground = MailGround::with(|config| config.max_errors = 1000, collect);
    let mut clear = ground.connect();
    let long = "x".repeat(3000);
    let table = [
        ("EHLO", "501 5.5.4"),
        ("EHLO bad..name", "501 5.5.4"),
        ("EHLO [999.1.1.1]", "501 5.5.4"),
        ("MAIL FROM:<>", "530 5.7.0"),
        ("DATA", "530 5.7.0"),
        ("STARTTLS now", "501 5.5.4"),
        ("AUTH LOGIN", "502 5.5.1"),
        ("GET / HTTP/1.1", "500 5.5.2"),
        ("NOOP", "250 2.0.0"),
    ];
    for (line, code) in table {
        assert_eq!(clear.code(line), code, "{line}");
    }
    let mut peer = ground.connect_tls();
    let noop_513 = format!("NOOP {}", "x".repeat(506));
    let mail_long = format!("MAIL FROM:<{long}@b.example>");
    let table = [
        ("RCPT TO:<a@direct.harbor.example>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("STARTTLS", "503 5.5.1"),
        ("BDAT 3 LAST", "502 5.5.1"),
        ("EXPN staff", "502 5.5.1"),
        ("HELP", "502 5.5.1"),
        ("VRFY ngozi", "252 2.5.0"),
        (&noop_513, "500 5.5.2"),
        (&mail_long, "500 5.5.2"),
        ("NO\tOP", "500 5.5.2"),
        ("NO\rOP", "500 5.5.2"),
        ("NOOP \u{e9}\u{1}", "500 5.5.2"),
        ("MAIL FROM:<a b@c.example>", "501 5.1.7"),
        ("MAIL FROM:a@c.example", "501 5.1.7"),
        ("MAIL FROM:<\u{e9}@c.example>", "553 5.6.7"),
        ("MAIL FROM:<> SIZE=x", "501 5.5.4"),
        ("MAIL FROM:<> AUTH=<>", "555 5.5.4"),
        ("MAIL FROM:<> BODY=BINARYMIME", "555 5.5.4"),
        ("MAIL FROM:<> SIZE=1048577", "552 5.3.4"),
        ("MAIL FROM:<> SIZE=99999999999999999999", "552 5.3.4"),
        ("MAIL FROM:<ngozi@direct.harbor.example>", "550 5.7.1"),
        ("MAIL FROM:<> SIZE=1048576", "250 2.1.0"),
        ("MAIL FROM:<>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<>", "501 5.1.3"),
        ("RCPT TO:<user>", "501 5.1.3"),
        ("RCPT TO:<\"a b\"@direct.harbor.example>", "553 5.1.3"),
        ("RCPT TO:<\u{e9}@direct.harbor.example>", "553 5.6.7"),
        ("RCPT TO:<nobody@direct.harbor.example>", "550 5.1.1"),
        ("RCPT TO:<a@oak.example>", "550 5.7.1"),
        ("DATA", "554 5.5.1"),
        ("RCPT TO:<ngozi@direct.harbor.example>", "250 2.1.5"),
        ("DATA now", "501 5.5.4"),
        ("RSET", "250 2.0.0"),
    ];
    for (line, code) in table {
        assert_eq!(peer.code(line), code, "{line}");
    }
    peer.send("NOOP\nRSET\r\n");
    assert_eq!(
        codes(&peer.reply()),
        "500 5.5.2",
        "LF alone ends no command"
    );
    assert_eq!(codes(&peer.reply()), "250 2.0.0");
    assert_eq!(peer.deliver("mail\r\n.\r\n"), "250 2.0.0");
    assert_eq!(ground.seen().body, Ok(b"mail\r\n".to_vec()));
    assert!(ground.saw_nothing());
}

// rule: RX-9
#[test]
fn too_many_errors_and_too_many_tried_addresses_end_a_session() {
    let ground = MailGround::start();
    let mut peer = ground.connect();
    for _ in 0..10 {
        assert_eq!(peer.code("WHAT"), "500 5.5.2");
    }
    assert_eq!(peer.code("WHAT"), "421 4.7.0");
    assert_eq!(peer.rest(), "");

    let mut peer = ground.connect_tls();
    peer.code("MAIL FROM:<>");
    for _ in 0..100 {
        assert_eq!(
            peer.code(&format!("RCPT TO:<nobody@{DOMAIN}>")),
            "550 5.1.1"
        );
    }
    assert_eq!(
        peer.code(&format!("RCPT TO:<nobody@{DOMAIN}>")),
        "421 4.7.0"
    );
    assert_eq!(peer.rest(), "");
}

// rule: RX-6, RX-27, LIM-9
#[test]
fn a_hundred_and_first_recipient_is_put_off_and_the_hundred_are_served() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    let mut group = "MAIL FROM:<>\r\n".to_owned();
    for number in 0..101 {
        group.push_str(&format!("RCPT TO:<a{number}@{DOMAIN}>\r\n"));
    }
    peer.send(group + "DATA\r\n");
    assert_eq!(codes(&peer.reply()), "250 2.1.0");
    for _ in 0..100 {
        assert_eq!(codes(&peer.reply()), "250 2.1.5");
    }
    assert_eq!(codes(&peer.reply()), "452 4.5.3");
    assert_eq!(codes(&peer.reply()), "354");
    peer.send("mail\r\n.\r\n");
    assert_eq!(codes(&peer.reply()), "250 2.0.0");
    assert_eq!(ground.seen().recipients.len(), 100);
}

// rule: RX-1
#[test]
fn who_talks_before_the_greeting_is_sent_away() {
    let ground = MailGround::with(
        |config| config.greeting_delay = Duration::from_secs(20),
        collect,
    );
    let mut peer = ground.connect_silent();
    peer.send("EHLO mx.elm.example\r\n");
    assert_eq!(codes(&peer.reply()), "554 5.5.1");
    assert_eq!(peer.rest(), "");
}

// --- smuggling and injection --------------------------------------------------------------------

/// What some servers take for the end of a mail.
const FALSE_ENDS: [&str; 12] = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\r",
    "\r\r\n.\n",
    "\n\n.\r\n",
    "\r\n.\r\r\n",
    "\n\r.\r\n",
    "\r\n\0.\r\n",
    "\n.\r",
];

// rule: RX-41, RX-42, RX-46, T-15
#[test]
fn no_smuggled_mail_passes_behind_any_false_end_and_the_mail_around_it_is_refused() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    for end in FALSE_ENDS {
        let smuggled = format!(
            "first{end}MAIL FROM:<x@direct.elm.example>\r\nRCPT TO:<ngozi@{DOMAIN}>\r\nDATA\r\nevil\r\n.\r\n"
        );
        let code = peer.deliver(&smuggled);
        let expected = if end.contains('\0') {
            "554 5.6.0"
        } else {
            "550 5.6.0"
        };
        assert_eq!(code, expected, "{end:?}");
        assert_eq!(
            ground.seen().body,
            Err(BodyInterrupted::Malformed),
            "{end:?}"
        );
        assert_eq!(peer.code("NOOP"), "250 2.0.0", "one reply, {end:?}");
    }
    assert!(ground.saw_nothing());
    let records = ground.audited();
    assert_eq!(records.len(), FALSE_ENDS.len());
    let alerts = records
        .iter()
        .filter(|r| r.kind == AuditKind::SecurityAlert);
    assert_eq!(alerts.count(), FALSE_ENDS.len() - 1, "NUL smuggles nothing");
}

// rule: RX-5
#[test]
fn a_line_of_a_thousand_octets_is_taken_and_a_longer_one_refused_whole() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    let longest = "x".repeat(998);
    assert_eq!(peer.deliver(format!("{longest}\r\n.\r\n")), "250 2.0.0");
    assert_eq!(
        ground.seen().body,
        Ok(format!("{longest}\r\n").into_bytes())
    );
    assert_eq!(
        peer.deliver(format!("{longest}y\r\nmore\r\n.\r\n")),
        "554 5.6.0"
    );
    assert_eq!(ground.seen().body, Err(BodyInterrupted::Malformed));
}

// rule: RX-10, RX-45, T-16
#[test]
fn commands_in_clear_behind_starttls_are_never_executed() {
    let ground = MailGround::start();
    let mut peer = ground.connect();
    peer.ask("EHLO mx.elm.example");
    peer.send("STARTTLS\r\nRSET\r\n");
    assert_eq!(peer.rest(), "", "neither is answered");
    let records = ground.audited();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].kind, AuditKind::SecurityAlert);
    assert_eq!(
        records[0].details["reason"],
        "octets in clear behind STARTTLS"
    );

    // A little later they fail the handshake.
    let mut peer = ground.connect();
    peer.ask("EHLO mx.elm.example");
    assert_eq!(peer.code("STARTTLS"), "220 2.0.0");
    peer.send("EHLO evil.example\r\nMAIL FROM:<>\r\n");
    assert!(
        !peer.lossy_rest().contains("250"),
        "TLS-4: no way back to clear text"
    );
}

// rule: RX-10
#[test]
fn what_was_said_in_clear_does_not_count_under_tls() {
    let ground = MailGround::start();
    let mut peer = ground.handshake(None, None).unwrap();
    assert_eq!(
        peer.code("MAIL FROM:<>"),
        "503 5.5.1",
        "EHLO has to be said again"
    );
    let lines = peer.ask("EHLO mx.elm.example");
    assert!(!lines.contains("STARTTLS"), "{lines}");
}

// rule: RX-45
#[test]
fn data_behind_data_and_a_greeting_with_more_behind_it_end_the_session() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    peer.send(format!(
        "MAIL FROM:<>\r\nRCPT TO:<nobody@{DOMAIN}>\r\nDATA\r\nRSET\r\nMAIL FROM:<>\r\n"
    ));
    let replies: Vec<String> = (0..3).map(|_| codes(&peer.reply())).collect();
    assert_eq!(replies, ["250 2.1.0", "550 5.1.1", "503 5.5.1"]);
    assert_eq!(peer.rest(), "");
    let mut peer = ground.connect_tls();
    peer.send("EHLO x.example\r\nMAIL FROM:<>\r\n");
    assert_eq!(codes(&peer.reply()), "503 5.5.1");
    assert_eq!(peer.rest(), "");
}

// rule: TLS-1, TLS-4, T-19b
#[test]
fn tls_before_1_2_is_refused_and_audited() {
    let ground = MailGround::start();
    assert!(ground.handshake(Some(SslVersion::TLS1_1), None).is_err());
    wait_until("the failed handshake is audited", || {
        let records = ground.audited();
        let reason = records
            .first()
            .and_then(|r| r.details.get("reason").cloned());
        reason.is_some_and(|reason| reason.starts_with("the handshake failed"))
    });
}

// --- sizes --------------------------------------------------------------------------------------

// rule: RX-44
#[test]
fn a_mail_without_an_end_is_cut_off_at_twice_the_limit() {
    let ground = MailGround::start();
    let mut peer = ground.connect_tls();
    peer.envelope();
    let line = [vec![b'x'; 998], b"\r\n".to_vec()].concat();
    // The listener may hang up while we send; that it does is what is wanted.
    let sent = (0..MAX_MESSAGE_BYTES * 4 / 1000)
        .take_while(|_| peer.stream.write_all(&line).is_ok())
        .count();
    assert!((sent as u64) < MAX_MESSAGE_BYTES * 4 / 1000 || peer.reply().starts_with("421 4.7.0"));
    let max_bytes = MAX_MESSAGE_BYTES;
    assert_eq!(
        ground.seen().body,
        Err(BodyInterrupted::TooLarge { max_bytes })
    );
    wait_until("its room is free again", || ground.budget.in_flight() == 0);
}

// --- slow and many connections ------------------------------------------------------------------

fn hurried(config: &mut SmtpServerConfig) {
    let soon = Duration::from_millis(300);
    config.handshake_timeout = soon;
    config.idle_timeout = soon;
    config.command_timeout = soon;
    config.data_block_timeout = soon;
}

// rule: RX-8, T-26
#[test]
fn a_peer_that_falls_silent_is_left_at_every_step() {
    let ground = MailGround::with(hurried, collect);
    let mut idle = ground.connect();
    assert_eq!(codes(&idle.reply()), "421 4.4.2", "after the greeting");
    assert_eq!(idle.rest(), "");
    let mut half = ground.connect();
    half.send("EHLO mx.el");
    assert_eq!(codes(&half.reply()), "421 4.4.2", "in a command");
    let mut handshake = ground.connect();
    handshake.ask("EHLO mx.elm.example");
    handshake.ask("STARTTLS");
    assert_eq!(handshake.rest(), "", "in the handshake");
    let mut mail = ground.connect_tls();
    mail.code("MAIL FROM:<>");
    assert_eq!(codes(&mail.reply()), "421 4.4.2", "after MAIL");
    let mut data = ground.connect_tls();
    data.envelope();
    data.send("half a line");
    assert_eq!(codes(&data.reply()), "421 4.4.2", "in the data");
    assert_eq!(ground.seen().body, Err(BodyInterrupted::TooSlow));
}

// rule: RX-8
#[test]
fn a_command_must_be_whole_in_time_however_often_an_octet_of_it_comes() {
    let ground = MailGround::with(hurried, collect);
    let mut peer = ground.connect();
    peer.stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut said = Vec::new();
    // Each wait for a reply paces the next octet; only a test that fails goes on for long.
    for _ in 0..900 {
        if peer.stream.write_all(b"x").is_err() || said.len() >= 9 {
            break;
        }
        let mut octets = [0; 64];
        match peer.stream.read(&mut octets) {
            Ok(length) => said.extend_from_slice(&octets[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    assert!(said.starts_with(b"421 4.4.2"), "{said:?}");
}

// rule: RX-8
#[test]
fn a_mail_below_the_minimum_rate_and_one_that_takes_too_long_are_left() {
    let rate = MailGround::with(
        |config| config.data_grace = Duration::from_millis(200),
        collect,
    );
    let whole = MailGround::with(
        |config| config.data_timeout = Duration::from_millis(200),
        collect,
    );
    for ground in [rate, whole] {
        let mut peer = ground.connect_tls();
        peer.envelope();
        peer.send("a few octets\r\n");
        assert_eq!(codes(&peer.reply()), "421 4.4.2");
        assert_eq!(ground.seen().body, Err(BodyInterrupted::TooSlow));
    }
}

// rule: RX-8, RX-9
#[test]
fn a_session_that_is_never_idle_ends_all_the_same() {
    let ground = MailGround::with(
        |config| config.session_timeout = Duration::from_millis(300),
        collect,
    );
    let mut peer = ground.connect();
    let mut replies = (0..1_000_000).map(|_| peer.code("NOOP"));
    assert_eq!(
        replies.find(|code| code != "250 2.0.0").unwrap(),
        "421 4.4.2"
    );
    // Nor does it help never to wait for an answer.
    let mut peer = ground.connect();
    let mut reader = peer.stream.try_clone().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = reader.read_to_end(&mut said);
        said
    });
    let group = "NOOP\r\n".repeat(1000);
    while peer.stream.write_all(group.as_bytes()).is_ok() {}
    drop(peer);
    let said = String::from_utf8(said.join().unwrap()).unwrap();
    assert!(said.starts_with("250 2.0.0 "), "{}", said.len());
}

// rule: RX-9
#[test]
fn connections_beyond_the_limits_are_sent_away_and_come_in_when_others_end() {
    let limits: [fn(&mut SmtpServerConfig); 3] = [
        |config| config.max_connections = 3,
        |config| config.max_connections_per_address = 3,
        |config| config.max_sessions_per_minute = 3,
    ];
    for set in limits {
        let ground = MailGround::with(set, collect);
        let mut held: Vec<Peer<TcpStream>> = (0..3).map(|_| ground.connect()).collect();
        let mut excess = ground.connect_silent();
        assert_eq!(codes(&excess.reply()), "421 4.7.0");
        assert_eq!(excess.rest(), "");
        assert_eq!(held[0].code("QUIT"), "221 2.0.0");
        assert_eq!(held[0].rest(), "");
        held.remove(0);
        if ground.config.max_sessions_per_minute > 3 {
            wait_until("the place is free again", || {
                ground.connect_silent().reply().starts_with("220 ")
            });
        }
        assert_eq!(held[0].code("NOOP"), "250 2.0.0", "the others stay");
    }
}

// rule: T-26, RX-9
#[test]
fn five_hundred_idle_and_slow_connections_do_not_keep_a_sender_out() {
    let ground = MailGround::with(
        |config| {
            config.max_connections = 600;
            config.max_connections_per_address = 600;
        },
        collect,
    );
    let mut silent: Vec<Peer<TcpStream>> = (0..250).map(|_| ground.connect_silent()).collect();
    let mut half: Vec<Peer<TcpStream>> = (0..200).map(|_| ground.connect()).collect();
    for peer in &mut half {
        peer.send("NO");
    }
    let mut sending: Vec<Peer<SslStream<TcpStream>>> =
        (0..50).map(|_| ground.connect_tls()).collect();
    for peer in &mut sending {
        peer.envelope();
        peer.send("slow");
    }

    for number in 0..10 {
        let mut peer = ground.connect_tls();
        assert_eq!(peer.deliver(format!("{number}\r\n.\r\n")), "250 2.0.0");
        assert_eq!(ground.seen().body, Ok(format!("{number}\r\n").into_bytes()));
    }

    // All of them were there all the time.
    for peer in &mut silent {
        assert!(peer.reply().starts_with("220 "));
    }
    for peer in &mut half {
        peer.send("OP\r\n");
        assert_eq!(codes(&peer.reply()), "250 2.0.0");
    }
    for peer in &mut sending {
        peer.send("ly\r\n.\r\n");
        assert_eq!(codes(&peer.reply()), "250 2.0.0");
        assert_eq!(ground.seen().body, Ok(b"slowly\r\n".to_vec()));
    }
}
