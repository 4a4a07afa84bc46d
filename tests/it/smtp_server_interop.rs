//! The SMTP listener and senders that we did not write, and our own.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use xdbridge::{
    adapters::smtp_client::config::SmtpClientConfig,
    flows::ports::{MailAnswer, SendMail, SendResult},
};

use crate::support::{
    bridge::pki,
    mail::{BodyEnd, HEADER, mail_to, stored_body},
    postfix::Postfix,
    smtp_ground::{client, hosts, words},
    smtp_server_ground::{DOMAIN, MailGround, collect, stuffed, whole},
    wait_until,
};

/// A mail with what relays like to change: leading dots, 8-bit octets, the longest line, white space at line ends.
fn awkward_mail() -> Vec<u8> {
    let mut mail = b"From: ada.quill@direct.elm.example\r\n\
        To: ngozi@direct.harbor.example\r\n\
        Date: Sun, 22 Nov 2026 06:00:00 +0000\r\n\
        Message-ID: <1@direct.elm.example>\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: 8bit\r\n\r\n\
        .\r\n..\r\n.one dot\r\n...three\r\nK\xc3\xb6ln \xff\r\ntrailing \t \r\n\r\n"
        .to_vec();
    mail.extend(vec![b'x'; 998]);
    mail.extend_from_slice(b"\r\n.last\r\n");
    mail
}

// rule: RX-43, RX-46, RX-47, TLS-1
#[test]
fn a_real_relay_hands_its_mail_over_octet_by_octet() {
    let ground = MailGround::start();
    let postfix = Postfix::relaying(&pki().mail_host, DOMAIN, ground.address);
    let mut peer = ground.peer_of(postfix.address());
    assert!(peer.reply().starts_with("220 "));
    peer.ask("EHLO client.elm.example");
    let mail = awkward_mail();
    // Its own reply to DATA tells that it queued the mail, not that we have it.
    assert_eq!(peer.deliver(stuffed(&mail)), "250 2.0.0");
    let seen = ground.seen();
    let body = seen.body.unwrap();
    assert!(body.ends_with(&mail), "{}", String::from_utf8_lossy(&body));
    assert!(body.starts_with(b"Received: from client.elm.example"));
    assert_eq!(
        seen.from.unwrap().to_string(),
        "ada.quill@direct.elm.example"
    );
    assert_eq!(seen.peer.helo, "mx.harbor.example");
    assert!(seen.peer.tls.is_some());
}

// rule: RX-48
#[test]
fn a_real_relay_keeps_a_mail_that_is_put_off_and_brings_none_twice_that_is_taken() {
    let ground = MailGround::with(
        |_| {},
        |mut transaction, seen| match transaction.recipients.len() {
            // With two recipients there is no room.
            2 => Box::pin(async move {
                let _ = whole(&mut transaction).await;
                drop(seen);
                MailAnswer::NO_ROOM
            }),
            _ => collect(transaction, seen),
        },
    );
    let postfix = Postfix::relaying(&pki().mail_host, DOMAIN, ground.address);
    let mut peer = ground.peer_of(postfix.address());
    peer.reply();
    peer.ask("EHLO client.elm.example");
    peer.code("MAIL FROM:<ada.quill@direct.elm.example>");
    peer.code(&format!("RCPT TO:<ngozi@{DOMAIN}>"));
    peer.code(&format!("RCPT TO:<rui@{DOMAIN}>"));
    peer.ask("DATA");
    peer.send("put off\r\n.\r\n");
    assert!(peer.reply().starts_with("250 "));
    wait_until("Postfix defers the mail", || {
        postfix.log().contains("452 4.3.1") && postfix.log().contains("status=deferred")
    });
    assert_eq!(peer.deliver("taken\r\n.\r\n"), "250 2.0.0");
    assert!(ground.seen().body.unwrap().ends_with(b"taken\r\n"));
    wait_until("Postfix has seen our 250", || {
        postfix
            .log()
            .contains("status=sent (250 2.0.0 Ok: queued as ")
    });
    assert!(ground.saw_nothing());
}

// rule: TLS-1, RX-2
#[test]
fn swaks_sends_over_starttls_and_is_refused_without() {
    let ground = MailGround::start();
    let mail = "From: ada.quill@direct.elm.example\nSubject: -\n\n.dot\n..dots\nend\n";
    let file = ground.folder.path().join("mail.eml");
    fs::write(&file, mail).unwrap();
    let swaks = |to: &str, more: &[&str]| {
        let output = Command::new("swaks")
            .args([
                "--server",
                "127.0.0.1",
                "--port",
                &ground.address.port().to_string(),
            ])
            .args([
                "--helo",
                "mx.elm.example",
                "--from",
                "ada.quill@direct.elm.example",
            ])
            .args(["--to", &format!("{to}@{DOMAIN}"), "--timeout", "20"])
            .arg("--data")
            .arg(format!("@{}", file.display()))
            .args(more)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    for options in [&["--tls"][..], &["--tls", "--pipeline"]] {
        let (is_sent, said) = swaks("ngozi", options);
        assert!(is_sent, "{said}");
        assert!(said.contains("250 2.0.0 Ok: queued as "), "{said}");
        let body = String::from_utf8(ground.seen().body.unwrap()).unwrap();
        assert!(
            body.contains("\r\n\r\n.dot\r\n..dots\r\nend\r\n"),
            "{body:?}"
        );
    }
    let (is_sent, said) = swaks("ngozi", &[]);
    assert!(!is_sent && said.contains("530 5.7.0"), "{said}");
    let (is_sent, said) = swaks("nobody", &["--tls"]);
    assert!(!is_sent && said.contains("550 5.1.1"), "{said}");
    // What else a sender of no ill will may get wrong; the last of an option counts.
    let ours = format!("ngozi@{DOMAIN}");
    for (case, options, code) in [
        (
            "one of ours comes from outside",
            &["--from", &ours][..],
            "550 5.7.1",
        ),
        (
            "a recipient elsewhere",
            &["--to", "mei@direct.quay.example"],
            "550 5.7.1",
        ),
        (
            "a recipient that is no address",
            &["--to", "ngozi"],
            "501 5.1.3",
        ),
    ] {
        let (is_sent, said) = swaks("ngozi", &[&["--tls"], options].concat());
        assert!(!is_sent && said.contains(code), "{case}: {said}");
    }
    assert!(ground.saw_nothing());
}

// rule: RX-43, TX-22, TX-27
#[test]
fn our_own_sender_delivers_to_our_own_listener() {
    let ground = MailGround::start();
    fs::write(
        ground.folder.path().join("ca.pem"),
        ground.ca.certificate_pem(),
    )
    .unwrap();
    let sender = client(
        SmtpClientConfig {
            ehlo_name: Some("bridge.elm.example".to_owned()),
            port: ground.address.port(),
            public_cas: false,
            ca_files: vec![ground.folder.path().join("ca.pem")],
            permit: vec!["127.0.0.0/8".parse().unwrap()],
            idle_timeout: Duration::ZERO,
            ..SmtpClientConfig::default()
        },
        hosts(&[ground.address]),
    );
    let lines: Vec<u8> = (0..20_000)
        .flat_map(|number| format!(".{number} line\r\n").into_bytes())
        .collect();
    let ngozi = format!("ngozi@{DOMAIN}");
    let nobody = format!("nobody@{DOMAIN}");
    let mail = mail_to(
        &[&ngozi, &nobody],
        stored_body(lines.clone(), BodyEnd::Whole),
    );
    let results: Vec<SendResult> = ground.runtime.block_on(sender.send(&mail));
    assert_eq!(words(&results), ["accepted", "smtpRejected"]);
    let seen = ground.seen();
    assert_eq!(seen.body.unwrap(), [HEADER.as_bytes(), &lines].concat());
    assert_eq!(seen.recipients.len(), 1);
    ground.runtime.block_on(sender.close());
}
