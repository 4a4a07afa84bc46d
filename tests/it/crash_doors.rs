//! A mail for the postmaster and a bounce are taken whole or not at all, whatever happens to the bridge, and a command
//! reads the former beside it. These tests need the fault points.
#![cfg(feature = "fault-points")]

use std::{
    fs,
    net::SocketAddr,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::ExitStatusExt,
    },
    path::PathBuf,
    process::{Command, Output},
};

use openssl::{
    ssl::{SslConnector, SslMethod, SslVerifyMode},
    x509::X509,
};
use xdbridge::{
    bridge::exchange::{Exchange, Reason, RecipientState},
    formats::audit::AuditKind,
};

use crate::support::{
    crossing_ground::{
        Answered, CrossingGround, Letter, OWN_DOMAIN, Workshop, files_below, message_id,
    },
    folder::TestFolder,
    process::BridgeProcess,
    receiving_ground::hand_over_by,
    smtp_server_ground::{Peer, stuffed},
    tls::connect_plain,
    wait_until,
};

const SIGKILL: i32 = 9;
const SETTINGS: &str = r#"
[smtp.server]
bind = "127.0.0.1:0"
host_name = "bridge.harbor.example"

[receiving]
trusted_bounce_hosts = [{ network = "127.0.0.1/32" }]
"#;
const SENDER: &str = "rui.silva@hisp.example";
const PLAIN: &[u8] =
    b"From: <rui.silva@hisp.example>\r\nTo: <postmaster@direct.harbor.example>\r\n\
    Subject: \x1b[2JHello\r\n\r\nIs anybody there?\r\n";

fn smtp_of(bridge: &BridgeProcess) -> SocketAddr {
    let line = bridge.wait_for_line(|line| line.contains("\"smtp\":\"127.0.0.1:"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["smtp"].as_str().unwrap().parse().unwrap()
}

/// Sends a mail over TLS; empty if the bridge was gone before its reply.
fn send(bridge: &BridgeProcess, from: &str, to: &str, mail: &[u8]) -> String {
    let mut clear = Peer {
        stream: connect_plain(smtp_of(bridge)),
    };
    clear.reply();
    clear.ask("EHLO mx.hisp.example");
    clear.ask("STARTTLS");
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let stream = connector.build().connect(OWN_DOMAIN, clear.stream).unwrap();
    let mut peer = Peer { stream };
    for command in [
        "EHLO mx.hisp.example".to_owned(),
        format!("MAIL FROM:<{from}>"),
        format!("RCPT TO:<{to}>"),
        "DATA".to_owned(),
    ] {
        let reply = peer.ask(&command);
        assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
    }
    peer.send(stuffed(mail));
    peer.reply()
}

fn postmaster(ground: &CrossingGround<'_>, arguments: &[&str]) -> Output {
    let config = ground.path().join("xdbridge.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xdbridge"));
    command.arg("postmaster").args(arguments);
    command.arg("--config").arg(config).output().unwrap()
}

fn printed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn listed(ground: &CrossingGround<'_>) -> Vec<serde_json::Value> {
    let text = printed(&postmaster(ground, &["list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    list.as_array().unwrap().clone()
}

// rule: RX-24, RX-48, T-24
#[test]
fn a_mail_for_the_postmaster_is_whole_or_not_there_whenever_the_bridge_is_killed() {
    let workshop = Workshop::new();
    for (point, left) in [("postmaster.written", 0), ("postmaster.kept", 1)] {
        let ground = workshop.ground();
        ground.add_settings(SETTINGS);
        let mut bridge = ground.start_with(&format!("{point}=kill"));
        let reply = send(&bridge, SENDER, "postmaster", PLAIN);
        assert_eq!(reply, "", "{point}");
        assert_eq!(bridge.ended().signal(), Some(SIGKILL), "{point}");
        assert_eq!(listed(&ground).len(), left, "{point}");
        let bridge = ground.start();
        // The sender had no reply and comes again.
        let reply = send(&bridge, SENDER, "postmaster", PLAIN);
        assert!(reply.starts_with("250"), "{point}: {reply}");
        assert_eq!(listed(&ground).len(), left + 1, "{point}");
        bridge.stop();
        let files = files_below(&ground.path().join("data/postmaster"));
        // Records of what the command did wait there too, whole.
        let ends = |ending: &str| {
            let is_so = |path: &&PathBuf| path.to_str().unwrap().ends_with(ending);
            files.iter().filter(is_so).count()
        };
        assert_eq!(ends(".mail"), left + 1, "{point}");
        assert_eq!(ends(".part"), 0, "{point}: half-written");
    }
}

// rule: RX-24, RX-48
#[test]
fn a_disk_that_fails_puts_off_the_mail_for_the_postmaster() {
    let workshop = Workshop::new();
    for (error, code) in [("eio", "451 4.3.0"), ("enospc", "452 4.3.1")] {
        let ground = workshop.ground();
        ground.add_settings(SETTINGS);
        let mut bridge = ground.start_with(&format!("postmaster.written@1={error}"));
        let reply = send(&bridge, SENDER, "postmaster", PLAIN);
        assert!(reply.starts_with(code), "{error}: {reply}");
        assert!(listed(&ground).is_empty(), "{error}");
        let reply = send(&bridge, SENDER, "postmaster", PLAIN);
        assert!(reply.starts_with("250"), "{error}: {reply}");
        assert!(bridge.is_alive());
        assert_eq!(listed(&ground).len(), 1, "{error}");
        bridge.stop();
    }
}

// rule: RX-24, T-11d, PHI-4
#[test]
fn the_postmaster_reads_and_removes_mail_beside_the_running_bridge_and_without_it() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    ground.add_settings(SETTINGS);
    assert!(listed(&ground).is_empty(), "nothing came yet");
    let bridge = ground.start();
    let to = format!("postmaster@{OWN_DOMAIN}");
    let reply = send(&bridge, SENDER, &to, PLAIN);
    assert!(reply.starts_with("250"), "{reply}");
    bridge.wait_for_line(|line| line.contains("there is mail for the postmaster"));
    assert!(!bridge.log_text().contains("Is anybody there"));

    let [mail] = &listed(&ground)[..] else {
        panic!("one mail is kept");
    };
    assert_eq!(mail["from"], SENDER);
    let id = mail["id"].as_str().unwrap();
    let list = printed(&postmaster(&ground, &["list"]));
    assert!(list.contains(id) && list.contains(SENDER), "{list}");
    assert!(!list.contains('\u{1b}'));
    let shown = printed(&postmaster(&ground, &["show", &id[..8]]));
    assert!(shown.starts_with(&format!("Return-Path: <{SENDER}>\nReceived: from ")));
    assert!(
        shown.ends_with("Is anybody there?\n") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let folder = TestFolder::new();
    let file = folder.path().join("mail.eml");
    let out = file.to_str().unwrap();
    printed(&postmaster(&ground, &["show", id, "-o", out]));
    assert!(fs::read(&file).unwrap().ends_with(PLAIN));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A file that is there stays as it is.
    assert_eq!(
        postmaster(&ground, &["show", id, "-o", out]).status.code(),
        Some(1)
    );

    bridge.stop();
    assert_eq!(listed(&ground).len(), 1);
    let unknown = postmaster(&ground, &["remove", id, "ffffffff-0"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(listed(&ground).len(), 1, "all or none");
    printed(&postmaster(&ground, &["remove", id]));
    assert!(listed(&ground).is_empty());
    assert_eq!(postmaster(&ground, &["show", id]).status.code(), Some(1));
    // A bridge takes up what was done beside it, and while there was none.
    let waiting = || {
        let names = fs::read_dir(ground.path().join("data/postmaster")).unwrap();
        names
            .filter(|name| name.as_ref().unwrap().path().extension() == Some("use".as_ref()))
            .count()
    };
    assert!(waiting() > 0);
    let bridge = ground.start();
    wait_until("the uses are audited", || waiting() == 0);
    bridge.stop();
    let mut audit = ground.audit();
    audit.retain(|record| record.kind == AuditKind::PostmasterMail);
    let count = |action: &str| {
        let its = audit
            .iter()
            .filter(|record| record.details["action"] == action);
        assert!(its.clone().all(|record| record.details["mails"] == id));
        its.count()
    };
    assert_eq!(
        (count("listed"), count("read"), count("removed")),
        (4, 3, 1)
    );
    let owner = fs::metadata(ground.path()).unwrap().uid().to_string();
    assert!(audit.iter().all(|record| record.details["uid"] == owner));
    let key = ground.path().join("store.key");
    fs::remove_file(key).unwrap();
    assert_eq!(postmaster(&ground, &["list"]).status.code(), Some(2));
}

// rule: DSN-4, T-24, LOOP-6
#[test]
fn a_kill_between_a_bounces_effect_and_its_reply_repeats_it_harmlessly() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    ground.add_settings(SETTINGS);
    let mut bridge = ground.start_with("bounce.taken=kill");
    let letter = Letter::small();
    assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    let sent = ground.wait_for_messages(1);
    let line = message_id(&sent[0]);
    let id = line.split(['<', '>']).nth(1).unwrap();
    let (rui, ngozi) = (letter.to[0].to_string(), letter.from.to_string());
    let bounce = format!(
        "From: MAILER-DAEMON@relay.harbor.example\r\nTo: <{ngozi}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\n\r\nNot delivered.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; relay.harbor.example\r\n\r\nFinal-Recipient: rfc822; {rui}\r\n\
         Action: failed\r\nStatus: 5.1.1\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{id}>\r\n\r\n--b--\r\n"
    );
    // Put off as long as the hand-over is not recorded.
    wait_until("the bounce is taken", || {
        let reply = send(&bridge, "", &ngozi, bounce.as_bytes());
        assert!(reply.is_empty() || reply.starts_with("451"), "{reply}");
        reply.is_empty()
    });
    assert_eq!(bridge.ended().signal(), Some(SIGKILL));
    let stand = || {
        let exchanges: Vec<Exchange> = ground.exchanges();
        assert_eq!(exchanges.len(), 1);
        exchanges[0].recipient(&letter.to[0]).unwrap().clone()
    };
    let settled = stand();
    assert_eq!(settled.state, RecipientState::Bounced);
    let failure = settled.outcome.as_ref().unwrap().failure;
    assert_eq!(failure, Some(Reason::SmtpRejected));

    let bridge = ground.start();
    let certificate = fs::read(ground.path().join("ca/ca.pem")).unwrap();
    let ca = X509::from_pem(&certificate).unwrap();
    let known = (&ca, OWN_DOMAIN);
    let reply = hand_over_by(known, smtp_of(&bridge), "", &[&ngozi], bounce.as_bytes());
    assert!(reply.starts_with("250"), "{reply}");
    bridge.wait_for_line(|line| line.contains("says DSN failed: suppressed"));
    bridge.stop();
    assert_eq!(stand(), settled);
}
