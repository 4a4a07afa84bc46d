//! The SMTP client against a real Postfix.

use std::time::Duration;

use xdbridge::{
    adapters::smtp_client::config::SmtpClientConfig,
    flows::ports::{SendMail, SendResult},
};

use crate::support::{
    mail::{BodyEnd, FixedHosts, HEADER, mail_to, stored_body},
    postfix::Postfix,
    smtp_ground::{client, detail, words},
};

// rule: TX-22, TX-25, TX-27, TX-28, TX-32
#[tokio::test]
async fn postfix_takes_verified_mail_for_known_mailboxes_and_refuses_the_others_alone() {
    let postfix = Postfix::start("hisp.example", &["lee", "okafor"]);
    let config = SmtpClientConfig {
        ehlo_name: Some("bridge.clinic.example".to_owned()),
        port: postfix.port(),
        public_cas: false,
        ca_files: vec![postfix.ca_file()],
        permit: vec!["127.0.0.1/32".parse().unwrap()],
        idle_timeout: Duration::from_secs(60),
        ..SmtpClientConfig::default()
    };
    let hosts = FixedHosts::of(&[(postfix.host(), postfix.address().ip())]);
    let client = client(config, hosts);
    let recipients = [
        "lee@hisp.example",
        "nobody.here@hisp.example",
        "okafor@hisp.example",
    ];
    let bodies = [
        ".dot\r\nFrom the first\r\n.\r\n..\r\nlast\r\n".to_owned(),
        "a line that begins with nothing special\r\n.but this one does\r\n".repeat(50_000),
    ];
    for body in &bodies {
        let body = stored_body(body.as_str(), BodyEnd::Whole);
        let results = client.send(&mail_to(&recipients, body)).await;
        assert_eq!(
            words(&results),
            ["accepted", "smtpRejected", "accepted"],
            "{results:?}"
        );
        assert!(detail(&results[1]).contains("550 5.1.1"), "{results:?}");
        let SendResult::Accepted(receipt) = &results[0] else {
            panic!("{results:?}");
        };
        assert!(receipt.tls.ends_with(" verified"), "{receipt:?}");
        assert!(receipt.reply.contains("queued as"), "{receipt:?}");
    }
    client.close().await;

    for mailbox in ["lee", "okafor"] {
        let messages = postfix.wait_for(mailbox, bodies.len()).await;
        assert_eq!(messages.len(), bodies.len());
        for body in &bodies {
            let sent = format!("{HEADER}{body}").replace("\r\n", "\n");
            let is_there = messages
                .iter()
                .any(|message| message.ends_with(sent.as_bytes()));
            assert!(is_there, "a message changed on its way to {mailbox}");
        }
    }
    let log = postfix.log();
    assert_eq!(
        log.matches(" connect from ").count(),
        1,
        "one connection serves both: {log}"
    );
}

// rule: TX-22
#[tokio::test]
async fn postfix_under_another_name_gets_nothing() {
    let postfix = Postfix::start("hisp.example", &["lee"]);
    let config = SmtpClientConfig {
        port: postfix.port(),
        public_cas: false,
        ca_files: vec![postfix.ca_file()],
        permit: vec!["127.0.0.1/32".parse().unwrap()],
        ..SmtpClientConfig::default()
    };
    let client = client(
        config,
        FixedHosts::of(&[("mx.other.example", postfix.address().ip())]),
    );
    let mail = mail_to(&["lee@hisp.example"], stored_body("x\r\n", BodyEnd::Whole));
    let results = client.send(&mail).await;
    assert!(
        matches!(results[0], SendResult::Deferred { .. }),
        "{results:?}"
    );
    assert!(postfix.messages("lee").is_empty());
}
