//! What signals do to a running bridge: SIGTERM drains it, SIGHUP reads its certificates anew.

use std::{
    fs,
    net::TcpStream,
    sync::{Mutex, mpsc},
    time::Duration,
};

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use rustix::process::Signal;
use xdbridge::bridge::exchange::RecipientState;

use super::support::{
    crl::{crl_of, place},
    crossing_ground::{Answered, CrossingGround, Letter, Workshop, address, post_head},
    process::{BridgeProcess, run},
    scripted_smtp::Act,
    smtp_server_ground::Peer,
    tls::{Connection, Identity, connect_plain},
};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn sigterm_lets_a_request_under_way_be_answered_and_delivered() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let mut bridge = ground.start();
    let (content_type, body) = Letter::large().request();
    let mut connection = ground.connect(&bridge).unwrap();
    let (first, rest) = body.split_at(body.len() / 2);
    connection
        .send(post_head("/xdr", &content_type, body.len()))
        .unwrap();
    connection.send(first).unwrap();
    let idle = "xdbridge_bytes_in_flight 0\n";
    bridge.wait_for_measures(|measures| !measures.contains(idle));

    bridge.signal(Signal::TERM);
    bridge.wait_for_line(|line| line.contains("draining"));
    connection.send(rest).unwrap();
    let answer = connection.answer().unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("ResponseStatusType:Success"), "{text}");
    assert_eq!(bridge.ended().code(), Some(0));

    // What was not sent before the end is sent after the next start.
    let bridge = ground.start();
    ground.wait_for_messages(1);
    bridge.stop();
    let exchanges = ground.exchanges();
    assert_eq!(exchanges.len(), 1);
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Relayed);
    }
    assert_eq!(ground.arrived().len(), 1);
}

#[test]
fn sigterm_lets_a_delivery_under_way_end() {
    let workshop = Workshop::new();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let ground = workshop.ground_with(|hop| {
        hop.acts(move |_, step| {
            if step == "END" {
                // The reply to the final dot waits until the test says so.
                let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            }
            None::<Act>
        })
    });
    let mut bridge = ground.start();
    assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
    ground.wait_for_messages(1);
    bridge.signal(Signal::TERM);
    bridge.wait_for_line(|line| line.contains("draining"));
    assert!(bridge.is_alive());
    release.send(()).unwrap();
    assert_eq!(bridge.ended().code(), Some(0));
    let exchanges = ground.exchanges();
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Relayed);
    }
    assert_eq!(ground.arrived().len(), 1);
}

#[test]
fn sighup_makes_a_new_certificate_of_a_recipient_known() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let bridge = ground.start();
    let letter = || {
        let mut letter = Letter::small();
        letter.to = vec![address("intake", "second.example")];
        letter
    };
    let answered = ground.post(&bridge, &letter());
    let Answered::Refused(200, text) = answered else {
        panic!("{answered:?}");
    };
    assert!(text.contains("noCertificate"), "{text}");

    let second = workshop.issue_for("second.example");
    let path = ground.path().join("peers/second.pem");
    fs::write(path, second.certificate.to_pem().unwrap()).unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("were read anew"));
    assert_eq!(ground.post(&bridge, &letter()), Answered::Success);
    ground.wait_for_messages(1);

    // A reload that fails changes nothing.
    fs::write(
        ground.path().join("peers/second.pem"),
        "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("nothing was reloaded"));
    assert_eq!(ground.post(&bridge, &letter()), Answered::Success);
    ground.wait_for_messages(2);
    bridge.stop();
}

/// Takes mail for the postmaster, which needs no endpoint.
const RECEIVES_MAIL: &str = "\n[smtp.server]\nbind = \"127.0.0.1:0\"\ntls = \"may\"\n\
     host_name = \"bridge.harbor.example\"\ncertificate = \"tls/server.pem\"\nkey = \"tls/server.key\"\n";

/// A submission and a mail that are sent by half.
struct UnderWay {
    submission: Connection<SslStream<TcpStream>>,
    rest: Vec<u8>,
    mail: Peer<TcpStream>,
}

impl UnderWay {
    fn begin(ground: &CrossingGround<'_>, bridge: &BridgeProcess) -> Self {
        let (content_type, mut body) = Letter::large().request();
        let rest = body.split_off(body.len() / 2);
        let mut submission = ground.connect(bridge).unwrap();
        let length = body.len() + rest.len();
        submission
            .send(post_head("/xdr", &content_type, length))
            .unwrap();
        submission.send(body).unwrap();

        let mut mail = greeted(bridge);
        for command in [
            "MAIL FROM:<rui.silva@hisp.example>",
            "RCPT TO:<postmaster>",
            "DATA",
        ] {
            let reply = mail.ask(command);
            assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
        }
        mail.send("Subject: Is anybody there?\r\n\r\nThe first half, ");
        Self {
            submission,
            rest,
            mail,
        }
    }

    fn end(mut self) {
        self.submission.send(self.rest).unwrap();
        let answer = self.submission.answer().unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains("ResponseStatusType:Success"), "{text}");
        self.mail.send("and the second.\r\n.\r\n");
        let reply = self.mail.reply();
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }
}

/// A peer that has said EHLO in clear.
fn greeted(bridge: &BridgeProcess) -> Peer<TcpStream> {
    let line = bridge.wait_for_line(|line| line.contains("\"smtp\":\"127.0.0.1:"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = line["smtp"].as_str().unwrap().parse().unwrap();
    let mut peer = Peer {
        stream: connect_plain(address),
    };
    peer.reply();
    peer.ask("EHLO mx.hisp.example");
    peer
}

/// The certificate that the SMTP listener shows.
fn shown(bridge: &BridgeProcess) -> Vec<u8> {
    let mut peer = greeted(bridge);
    assert!(peer.ask("STARTTLS").starts_with("220"));
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let stream = connector
        .build()
        .connect("bridge.harbor.example", peer.stream);
    let certificate = stream.unwrap().ssl().peer_certificate().unwrap();
    certificate.to_der().unwrap()
}

fn mails_to_the_postmaster(ground: &CrossingGround<'_>) -> usize {
    let config = ground.path().join("xdbridge.toml");
    let config = config.to_str().unwrap();
    let list = run(&["postmaster", "list", "--json", "--config", config]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    list.as_array().unwrap().len()
}

// rule: T-24, RX-47
#[test]
fn sighup_breaks_off_no_submission_and_no_mail_that_is_under_way() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    ground.add_settings(RECEIVES_MAIL);
    let bridge = ground.start();
    let under_way = UnderWay::begin(&ground, &bridge);
    for _ in 0..3 {
        bridge.signal(Signal::HUP);
    }
    bridge.wait_for_line(|line| line.contains("were read anew"));
    under_way.end();
    ground.wait_for_messages(1);
    assert_eq!(mails_to_the_postmaster(&ground), 1);
    bridge.stop();
}

#[test]
fn sighup_has_mail_shown_a_new_certificate_unless_anything_cannot_be_read() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    ground.add_settings(RECEIVES_MAIL);
    let bridge = ground.start();
    let before = shown(&bridge);
    let renewed = Identity::ca("Renewed CA").issue("bridge.harbor.example");
    renewed.write(&ground.path().join("tls"), "server");
    let broken = ground.path().join("peers/broken.pem");
    fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("nothing was reloaded"));
    assert_eq!(shown(&bridge), before);
    fs::remove_file(broken).unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("were read anew"));
    assert_eq!(shown(&bridge), renewed.certificate.to_der().unwrap());
    bridge.stop();
}

// rule: T-24, RX-47, RX-48
#[test]
fn sigterm_lets_a_submission_and_a_mail_under_way_end_and_loses_neither() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    ground.add_settings(RECEIVES_MAIL);
    let mut bridge = ground.start();
    let under_way = UnderWay::begin(&ground, &bridge);
    // A reload between does not undo it.
    bridge.signal(Signal::TERM);
    bridge.wait_for_line(|line| line.contains("draining"));
    bridge.signal(Signal::HUP);
    under_way.end();
    assert_eq!(bridge.ended().code(), Some(0));
    assert_eq!(mails_to_the_postmaster(&ground), 1);
    let bridge = ground.start();
    ground.wait_for_messages(1);
    bridge.stop();
    assert_eq!(ground.arrived().len(), 1);
}

// rule: REV-1, REV-2, REV-5
#[test]
fn sighup_reads_revocation_lists_and_a_broken_one_leaves_the_last_in_force() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let list = ground.go_by_crls().join("list.pem");
    let authority = workshop.hisp_authority();
    place(&list, &crl_of(authority).pem());
    let bridge = ground.start();
    bridge.wait_for_measures(|measures| measures.contains("xdbridge_crl_days_left"));
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);

    let hisp = workshop.hisp_certificate();
    place(&list, &crl_of(authority).revoking(hisp).pem());
    // Not looked at yet.
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("were read anew"));
    let assert_revoked = || {
        let answered = ground.post(&bridge, &Letter::small());
        let Answered::Refused(200, text) = answered else {
            panic!("{answered:?}");
        };
        assert!(text.contains("certificateRevoked"), "{text}");
    };
    assert_revoked();

    fs::remove_file(&list).unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| {
        line.contains("nothing was reloaded") && line.contains("holds no file whose name ends in")
    });
    assert_revoked();
    bridge.stop();
}
