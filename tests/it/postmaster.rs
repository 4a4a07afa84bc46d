//! Mail for whoever runs the bridge: taken sealed or not, kept encrypted, read by a command, bounded in every way.

use std::process::{Command, Stdio};

use xdbridge::{app::config::Config, bridge::exchange::RecipientState, formats::audit::AuditKind};

use crate::support::{
    bridge::{ELM, files_under, pki},
    receiving_ground::{
        ADA, LETTER, ReceivingGround, SENDER, hand_over, letter, sealed, success, understood,
    },
    wait_until,
};

const MARKER: &str = "Ada Quill, born 1931";

fn ground(change: impl FnOnce(&mut Config)) -> ReceivingGround {
    ReceivingGround::configured(|_| success(), change)
}

/// What people write to a postmaster.
fn complaint() -> Vec<u8> {
    format!(
        "From: Rui Silva <{SENDER}>\r\nTo: postmaster@direct.elm.example\r\nSubject: about {MARKER}\r\n\r\n\
         Your certificate has expired, says my system.\r\n.hidden dots\r\n"
    )
    .into_bytes()
}

/// How many mails the postmaster has.
fn kept(ground: &ReceivingGround) -> usize {
    files_under(&ground.bridge.data().join("postmaster")).len()
}

// rule: RX-24, T-32, Q-6, PHI-1, RCV-R1
#[test]
fn a_plain_mail_to_the_postmaster_is_kept_in_cipher_and_answered_by_nobody() {
    let ground = ground(|_| {});
    let alarms = ground.bridge.alarms("postmaster");
    let spellings = [
        "postmaster",
        "Postmaster@direct.elm.example",
        "POSTMASTER@direct.ash.example",
    ];
    for (number, to) in spellings.into_iter().enumerate() {
        let reply = ground.send(SENDER, &[to], &complaint());
        assert!(
            reply.starts_with("250 2.0.0 Ok: queued as "),
            "{to}: {reply}"
        );
        assert_eq!(kept(&ground), number + 1);
    }
    let reply = ground.send("", &["postmaster"], &complaint());
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(ground.bridge.alarms("postmaster"), alarms + 4);
    let elsewhere = ground.send(SENDER, &["postmaster@direct.quay.example"], &complaint());
    assert!(
        elsewhere.starts_with("550 5.7.1 relaying denied"),
        "{elsewhere}"
    );

    ground.bridge.assert_nothing_stored();
    ground.assert_silence();
    for path in files_under(ground.bridge.data()) {
        let octets = std::fs::read(&path).unwrap();
        let found = memchr::memmem::find(&octets, b"Ada Quill");
        assert_eq!(found, None, "{}", path.display());
    }
    let taken = ground.bridge.audit_of(AuditKind::Iti32Import);
    assert_eq!(taken.len(), 4);
    assert_eq!(taken[0].details["recipients"], "postmaster");
    assert_eq!(taken[0].details["from"], SENDER);
    for record in ground.bridge.audit() {
        assert!(!format!("{record:?}").contains("Ada Quill"));
    }
}

// rule: RX-24
#[test]
fn a_mail_to_the_postmaster_and_others_is_served_for_both_or_refused_for_both() {
    let ground = ground(|config| config.receiving.postmaster_max_bytes = 64 * 1024);
    let both = [ADA, "postmaster@direct.elm.example"];
    // In clear it is nothing for Ada, and whoever sent it has to learn that.
    let reply = ground.send(SENDER, &both, &complaint());
    assert!(reply.starts_with("550 5.7.1 S/MIME"), "{reply}");
    assert_eq!(kept(&ground), 0);
    ground.bridge.assert_nothing_stored();

    let text = letter("p1@direct.harbor.example", &both, "");
    let mail = sealed(&text, &[&pki().harbor], &pki().direct_elm);
    let reply = ground.send(SENDER, &both, &mail);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(kept(&ground), 1);
    let exchange = ground.settled();
    assert_eq!(exchange.recipients.len(), 1);
    assert_eq!(exchange.recipients[0].state, RecipientState::Dispatched);
    assert_eq!(understood(&ground.posted()[0]).1, [LETTER]);

    // Too large for the postmaster, and not for Ada.
    let padding = "Please see the attachment.\r\n".repeat(5_000);
    let long = letter("p2@direct.harbor.example", &both, "")
        .replace("Please see the attachment.\r\n", &padding);
    let mail = sealed(&long, &[&pki().harbor], &pki().direct_elm);
    assert!(mail.len() > 64 * 1024);
    let reply = ground.send(SENDER, &both, &mail);
    assert!(reply.starts_with("250"), "{reply}");
    wait_until("Ada has it", || ground.posted().len() == 2);
    assert_eq!(kept(&ground), 1);
}

// rule: RX-24, T-26
#[test]
fn mails_to_the_postmaster_are_bounded_in_size_and_number() {
    let ground = ground(|config| {
        config.receiving.postmaster_max_bytes = 4096;
        config.receiving.postmaster_max_per_day = 2;
    });
    let of = |bytes: usize| {
        let head = "From: x@x.example\r\n\r\n";
        let lines = "0123456789\r\n".repeat(bytes);
        format!("{head}{lines}")[..bytes - 2].to_owned() + "\r\n"
    };
    for bytes in [4097, 40_000, 4_000_000] {
        let reply = ground.send(SENDER, &["postmaster"], of(bytes).as_bytes());
        assert!(reply.starts_with("552 5.3.4"), "{bytes}: {reply}");
    }
    assert_eq!(kept(&ground), 0);
    for _ in 0..2 {
        let reply = ground.send(SENDER, &["postmaster"], of(4096).as_bytes());
        assert!(reply.starts_with("250"), "{reply}");
    }
    let reply = ground.send(SENDER, &["postmaster"], &complaint());
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert_eq!(kept(&ground), 2);
    // Others are served all the same.
    let text = letter("p3@direct.harbor.example", &[ADA], "");
    let reply = ground.deliver(&text, &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
}

// rule: RX-24
#[test]
fn what_swaks_sends_to_the_postmaster_is_kept() {
    let ground = ground(|_| {});
    let output = Command::new("swaks")
        .args([
            "--tls",
            "--server",
            "127.0.0.1",
            "--helo",
            "mx.harbor.example",
        ])
        .args(["--timeout", "20", "--from", SENDER, "--to", "postmaster"])
        .args(["--port", &ground.bridge.smtp_address().port().to_string()])
        .args(["--header", "Subject: hello", "--body", "Is anybody there?"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(kept(&ground), 1);
}

// rule: RX-26, RX-24
#[test]
fn mail_from_our_own_senders_names_does_not_come_from_outside_to_the_postmaster_either() {
    let ground = ground(|_| {});
    let address = ground.bridge.smtp_address();
    let reply = hand_over(address, ELM, &["postmaster"], &complaint());
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    assert_eq!(kept(&ground), 0);
}
