//! The SMTP client against a server that does what the test says.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use xdbridge::{
    adapters::smtp_client::config::{SmtpClientConfig, TlsPolicy},
    bridge::exchange::Reason,
    flows::ports::{MailHostError, SendMail, SendResult},
};

use crate::support::{
    mail::{BodyEnd, FixedHosts, HEADER, mail_to, stored_body},
    scripted_smtp::{Act, ScriptedSmtp},
    smtp_ground::{HOST, SmtpGround, client, detail, hosts, is_refused_for, words},
};

const ADA: &str = "ada@hisp.example";
const BEN: &str = "ben@hisp.example";
const CLEO: &str = "cleo@hisp.example";

fn whole(text: &str) -> xdbridge::flows::ports::StoredBody {
    stored_body(text, BodyEnd::Whole)
}

// rule: TX-8, TX-21, TX-22, TX-24, TX-27, TX-32
#[tokio::test]
async fn a_mail_crosses_octet_by_octet_under_verified_tls() {
    let ground = SmtpGround::new();
    let server = ground.server().offers("SIZE 100000").start().await;
    let mail = mail_to(&[ADA], whole(".dot\r\nline\r\n..two\r\nlast\r\n"));

    let results = ground.client(server.address()).send(&mail).await;

    let SendResult::Accepted(receipt) = &results[0] else {
        panic!("{results:?}");
    };
    assert_eq!(receipt.reply, "250 2.0.0 queued as 1");
    assert!(receipt.peer.starts_with("mx.hisp.example [127.0.0.1]:"));
    assert!(receipt.tls.starts_with("TLSv1.") && receipt.tls.ends_with(" verified"));
    let transcript = &server.ended(1).await[0];
    let size = HEADER.len() + mail.body.size as usize;
    let expected = [
        "EHLO bridge.clinic.example",
        "STARTTLS",
        "EHLO bridge.clinic.example",
        &format!("MAIL FROM:<ada.quill@direct.clinic.example> SIZE={size}"),
        "RCPT TO:<ada@hisp.example>",
        "DATA",
        "QUIT",
    ];
    assert_eq!(transcript.commands, expected);
    let wire = format!("{HEADER}..dot\r\nline\r\n...two\r\nlast\r\n.\r\n");
    assert_eq!(transcript.messages, [wire.into_bytes()]);
}

// rule: TX-27
#[tokio::test]
async fn a_large_mail_is_streamed_and_arrives_whole() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let body = ".line of base64 that begins with a dot\r\n".repeat(60_000);
    let mail = mail_to(&[ADA], whole(&body));
    let results = ground.client(server.address()).send(&mail).await;
    assert_eq!(words(&results), ["accepted"]);
    let transcript = &server.ended(1).await[0];
    let expected = format!("{HEADER}{}.\r\n", body.replace(".line", "..line"));
    assert!(
        transcript.messages == [expected.into_bytes()],
        "the message differs"
    );
}

#[tokio::test]
async fn a_notice_goes_out_with_the_null_reverse_path() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let mut mail = mail_to(&[ADA], whole("x\r\n"));
    mail.envelope_from = None;
    let results = ground.client(server.address()).send(&mail).await;
    assert_eq!(words(&results), ["accepted"]);
    assert_eq!(server.ended(1).await[0].said("MAIL"), ["MAIL FROM:<>"]);
}

// rule: TX-28, Q-3
#[tokio::test]
async fn each_recipient_has_the_fate_that_its_own_reply_gives() {
    let ground = SmtpGround::new();
    let server = ground.server().acts(|_, step| match step {
        "RCPT TO:<ben@hisp.example>" => Act::say("450 4.2.0 greylisted"),
        "RCPT TO:<cleo@hisp.example>" => Act::say("550 5.1.1 no such user"),
        _ => None,
    });
    let server = server.start().await;
    let mail = mail_to(&[BEN, ADA, CLEO], whole("x\r\n"));
    let results = ground.client(server.address()).send(&mail).await;
    assert_eq!(words(&results), ["deferred", "accepted", "smtpRejected"]);
    assert!(detail(&results[2]).ends_with(": 550 5.1.1 no such user"));
    assert_eq!(server.ended(1).await[0].messages.len(), 1);
}

// rule: TX-28
#[tokio::test]
async fn when_all_recipients_are_refused_no_message_is_sent() {
    let ground = SmtpGround::new();
    let server = ground.server();
    let server = server.acts(|_, step| step.starts_with("RCPT").then(|| Act::Say("550 no".into())));
    let server = server.start().await;
    let mail = mail_to(&[ADA, BEN], whole("x\r\n"));
    let results = ground.client(server.address()).send(&mail).await;
    assert_eq!(words(&results), ["smtpRejected", "smtpRejected"]);
    let transcript = &server.ended(1).await[0];
    assert!(transcript.said("DATA").is_empty());
    assert_eq!(transcript.said("RSET").len(), 1);
}

// rule: TX-28
#[tokio::test]
async fn recipients_that_are_too_many_get_another_transaction_at_once() {
    let ground = SmtpGround::new();
    let taken = std::sync::atomic::AtomicU32::new(0);
    let server = ground.server().acts(move |_, step| {
        use std::sync::atomic::Ordering::SeqCst;
        if step.starts_with("MAIL") {
            taken.store(0, SeqCst);
        }
        let is_third = step.starts_with("RCPT") && taken.fetch_add(1, SeqCst) >= 2;
        is_third.then(|| Act::Say("452 4.5.3 too many recipients".into()))
    });
    let server = server.start().await;
    let names: Vec<String> = (0..5).map(|n| format!("user{n}@hisp.example")).collect();
    let recipients: Vec<&str> = names.iter().map(String::as_str).collect();
    let results = ground
        .client(server.address())
        .send(&mail_to(&recipients, whole("x\r\n")))
        .await;
    assert_eq!(words(&results), ["accepted"; 5]);
    let transcript = &server.ended(1).await[0];
    assert_eq!(transcript.messages.len(), 3);
}

// rule: TX-8
#[tokio::test]
async fn a_transaction_has_a_hundred_recipients_at_most() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let names: Vec<String> = (0..101).map(|n| format!("user{n}@hisp.example")).collect();
    let recipients: Vec<&str> = names.iter().map(String::as_str).collect();
    let results = ground
        .client(server.address())
        .send(&mail_to(&recipients, whole("x\r\n")))
        .await;
    assert_eq!(words(&results), ["accepted"; 101]);
    let transcript = &server.ended(1).await[0];
    let order: Vec<&str> = transcript.commands.iter().map(|line| &line[..4]).collect();
    assert_eq!(order.iter().filter(|verb| **verb == "MAIL").count(), 2);
    let last_rcpt = order.iter().rposition(|verb| *verb == "RCPT").unwrap();
    assert_eq!(order[last_rcpt - 1..], ["MAIL", "RCPT", "DATA", "QUIT"]);
}

/// Two servers on one port: the first acts by the script, the second is plain.
async fn two_servers(
    ground: &SmtpGround,
    script: impl Fn(usize, &str) -> Option<Act> + Send + Sync + 'static,
) -> (ScriptedSmtp, ScriptedSmtp) {
    let first = ground.server().acts(script).start().await;
    let port = first.address().port();
    let second = ground.server().start_at(&format!("127.0.0.2:{port}")).await;
    (first, second)
}

// rule: TX-30
#[tokio::test]
async fn a_421_leaves_the_open_recipients_to_the_next_host() {
    let ground = SmtpGround::new();
    let (first, second) = two_servers(&ground, |_, step| match step {
        "RCPT TO:<ada@hisp.example>" => Act::say("550 5.1.1 no such user"),
        "RCPT TO:<cleo@hisp.example>" => {
            Some(Act::SayAndClose("421 4.3.2 shutting down".to_owned()))
        }
        _ => None,
    })
    .await;
    let config = ground.config(first.address().port());
    let client = client(config, hosts(&[first.address(), second.address()]));
    let results = client
        .send(&mail_to(&[ADA, BEN, CLEO], whole("x\r\n")))
        .await;
    assert_eq!(words(&results), ["smtpRejected", "accepted", "accepted"]);
    assert!(first.ended(1).await[0].said("DATA").is_empty());
    let at_second = &second.ended(1).await[0];
    let expected = ["RCPT TO:<ben@hisp.example>", "RCPT TO:<cleo@hisp.example>"];
    assert_eq!(at_second.said("RCPT"), expected);
}

// rule: TX-29
#[tokio::test]
async fn a_lost_final_reply_defers_and_no_other_host_gets_the_mail() {
    let ground = SmtpGround::new();
    let (first, second) =
        two_servers(&ground, |_, step| (step == "END").then_some(Act::Close)).await;
    let config = ground.config(first.address().port());
    let client = client(config, hosts(&[first.address(), second.address()]));
    let results = client.send(&mail_to(&[ADA, BEN], whole("x\r\n"))).await;
    assert_eq!(words(&results), ["deferred", "deferred"]);
    assert!(
        detail(&results[0]).contains("after the final dot"),
        "{results:?}"
    );
    assert_eq!(first.ended(1).await[0].messages.len(), 1);
    assert!(second.transcripts().is_empty());
}

// rule: TX-28
#[tokio::test]
async fn the_reply_to_the_final_dot_counts_for_all_that_were_taken() {
    for (reply, word) in [
        ("451 4.3.0 later", "deferred"),
        ("554 5.6.0 no", "smtpRejected"),
        ("552 5.3.4 too big", "tooLarge"),
        ("421 4.3.2 stopping", "deferred"),
        ("354 what", "deferred"),
    ] {
        let ground = SmtpGround::new();
        let server = ground.server();
        let server = server.acts(move |_, step| (step == "END").then(|| Act::Say(reply.into())));
        let server = server.start().await;
        let results = ground
            .client(server.address())
            .send(&mail_to(&[ADA, BEN], whole("x\r\n")))
            .await;
        assert_eq!(words(&results), [word, word], "{reply}");
    }
}

// rule: Q-3
#[tokio::test]
async fn replies_to_mail_and_data_count_for_everybody() {
    for (step, reply, word) in [
        ("MAIL", "550 5.7.1 not you", "smtpRejected"),
        ("MAIL", "552 5.3.4 too big", "tooLarge"),
        ("MAIL", "451 4.3.1 full", "deferred"),
        ("DATA", "554 5.5.1 no", "smtpRejected"),
        ("DATA", "451 4.3.0 later", "deferred"),
        ("DATA", "250 ready?", "deferred"),
    ] {
        let ground = SmtpGround::new();
        let server = ground.server();
        let server = server.acts(move |_, at| at.starts_with(step).then(|| Act::Say(reply.into())));
        let server = server.start().await;
        let results = ground
            .client(server.address())
            .send(&mail_to(&[ADA, BEN], whole("x\r\n")))
            .await;
        assert_eq!(words(&results), [word, word], "{step}: {reply}");
    }
}

#[tokio::test]
async fn a_body_that_fails_midway_never_ends_as_a_message() {
    let long = "a line of the message\r\n".repeat(10_000);
    for (end, word) in [
        (BodyEnd::Short, "internal"),
        (BodyEnd::Error(std::io::ErrorKind::InvalidData), "internal"),
        (BodyEnd::Error(std::io::ErrorKind::Other), "deferred"),
    ] {
        let ground = SmtpGround::new();
        let (first, second) = two_servers(&ground, |_, _| None).await;
        let config = ground.config(first.address().port());
        let client = client(config, hosts(&[first.address(), second.address()]));
        let results = client
            .send(&mail_to(&[ADA], stored_body(long.as_str(), end)))
            .await;
        assert_eq!(words(&results), [word], "{end:?}");
        let transcript = &first.ended(1).await[0];
        assert_eq!(transcript.said("DATA").len(), 1);
        assert!(
            transcript.messages.is_empty(),
            "a shortened message was ended"
        );
        assert!(!transcript.unfinished.is_empty());
        assert!(
            second.transcripts().is_empty(),
            "no other host can mend our own body"
        );
    }
}

// rule: TX-27, T-15
#[tokio::test]
async fn a_body_that_could_end_early_elsewhere_never_ends_as_a_message() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let body = "good\r\n\n.\nMAIL FROM:<mallory@evil.example>\r\n";
    let results = ground
        .client(server.address())
        .send(&mail_to(&[ADA], whole(body)))
        .await;
    assert!(is_refused_for(&results[0], Reason::Internal), "{results:?}");
    assert!(server.ended(1).await[0].messages.is_empty());
}

#[tokio::test]
async fn a_body_that_cannot_be_opened_is_not_even_announced() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let mail = mail_to(&[ADA], stored_body("x\r\n", BodyEnd::Unopenable));
    let results = ground.client(server.address()).send(&mail).await;
    assert!(is_refused_for(&results[0], Reason::Internal), "{results:?}");
    assert!(server.ended(1).await[0].said("DATA").is_empty());
}

// rule: TX-25
#[tokio::test]
async fn a_mail_over_the_size_limit_is_refused_before_it_is_sent() {
    let body = "0123456789\r\n";
    let exact = HEADER.len() + body.len();
    for (limit, word) in [
        (exact, "accepted"),
        (exact - 1, "tooLarge"),
        (0, "accepted"),
    ] {
        let ground = SmtpGround::new();
        let server = ground
            .server()
            .offers(&format!("SIZE {limit}"))
            .start()
            .await;
        let results = ground
            .client(server.address())
            .send(&mail_to(&[ADA], whole(body)))
            .await;
        assert_eq!(words(&results), [word], "{limit}");
        let transcript = &server.ended(1).await[0];
        assert_eq!(transcript.said("MAIL").is_empty(), word == "tooLarge");
    }
}

// rule: TX-25
#[tokio::test]
async fn a_peer_that_refuses_in_the_middle_of_the_message_is_understood() {
    let ground = SmtpGround::new();
    let server = ground.server().acts(|_, step| {
        (step == "MESSAGE").then(|| Act::SayAndClose("552 5.3.4 message too big".to_owned()))
    });
    let server = server.start().await;
    let body = "a line of the message\r\n".repeat(1_000_000);
    let results = ground
        .client(server.address())
        .send(&mail_to(&[ADA], whole(&body)))
        .await;
    // The reply may be lost in the reset of the connection; accepted it is never.
    let word = &words(&results)[0];
    assert!(
        ["tooLarge", "deferred"].contains(&word.as_str()),
        "{results:?}"
    );
}

// rule: TX-2, TX-3, TX-4, RT-2
#[tokio::test]
async fn a_domain_without_a_mail_host_is_refused_for_good_and_a_silent_dns_is_not() {
    for (error, word) in [
        (MailHostError::NoSuchDomain, "unknownRecipient"),
        (MailHostError::NullMx, "unknownRecipient"),
        (MailHostError::Loop, "unknownRecipient"),
        (MailHostError::NoAddress, "unknownRecipient"),
        (
            MailHostError::Transient {
                detail: "SERVFAIL".into(),
            },
            "deferred",
        ),
    ] {
        let ground = SmtpGround::new();
        let client = client(ground.config(25), FixedHosts(Err(error.clone())));
        let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
        assert_eq!(words(&results), [word], "{error}");
    }
}

// rule: TX-6, T-14
#[tokio::test]
async fn an_mx_record_into_a_private_network_is_not_followed() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let mut config = ground.config(server.address().port());
    config.permit.clear();
    let client = client(config, hosts(&[server.address()]));
    let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
    assert!(
        is_refused_for(&results[0], Reason::PolicyRefused),
        "{results:?}"
    );
    assert!(server.transcripts().is_empty());
}

// rule: TX-1
#[tokio::test]
async fn a_smarthost_takes_the_mail_of_all_domains_even_in_a_private_network() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let mut config = ground.config(25);
    config.permit.clear();
    config.smarthost = Some(server.address().to_string().parse().unwrap());
    let client = client(config, FixedHosts(Err(MailHostError::NoSuchDomain)));
    let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
    assert_eq!(words(&results), ["accepted"], "{results:?}");
}

// rule: Q-3
#[tokio::test]
async fn a_host_that_will_not_greet_is_passed_over() {
    for (step, reply) in [
        ("GREETING", "554 5.3.2 no service"),
        ("EHLO", "550 5.7.1 go away"),
    ] {
        let ground = SmtpGround::new();
        let script = move |_, at: &str| at.starts_with(step).then(|| Act::Say(reply.into()));
        let (first, second) = two_servers(&ground, script).await;
        let config = ground.config(first.address().port());
        let client = client(config, hosts(&[first.address(), second.address()]));
        let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
        assert_eq!(words(&results), ["accepted"], "{step}");
    }
}

// rule: Q-3
#[tokio::test]
async fn only_when_every_host_refuses_to_greet_is_it_for_good() {
    let ground = SmtpGround::new();
    let refuse = |_: usize, step: &str| (step == "GREETING").then(|| Act::Say("554 no".into()));
    let first = ground.server().acts(refuse).start().await;
    let port = first.address().port();
    let second = ground
        .server()
        .acts(refuse)
        .start_at(&format!("127.0.0.2:{port}"))
        .await;
    let both = client(
        ground.config(port),
        hosts(&[first.address(), second.address()]),
    );
    let results = both.send(&mail_to(&[ADA], whole("x\r\n"))).await;
    assert_eq!(words(&results), ["smtpRejected"]);
    let nobody = format!("127.0.0.3:{port}").parse().unwrap();
    let one_is_down = client(ground.config(port), hosts(&[nobody, first.address()]));
    let results = one_is_down.send(&mail_to(&[ADA], whole("x\r\n"))).await;
    assert_eq!(words(&results), ["deferred"]);
}

// rule: TX-20
#[tokio::test]
async fn a_peer_that_falls_silent_is_left_after_the_timeout_of_that_step() {
    for step in ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END"] {
        let ground = SmtpGround::new();
        let server = ground.server();
        let server = server.acts(move |_, at| at.starts_with(step).then_some(Act::Hush));
        let server = server.start().await;
        let mut config = ground.config(server.address().port());
        let short = Duration::from_millis(100);
        match step {
            "GREETING" => config.greeting_timeout = short,
            "DATA" => config.data_start_timeout = short,
            "END" => config.final_dot_timeout = short,
            _ => config.command_timeout = short,
        }
        let client = client(config, hosts(&[server.address()]));
        let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
        assert_eq!(words(&results), ["deferred"], "{step}");
        assert!(
            detail(&results[0]).contains("no reply within 100ms"),
            "{step}: {results:?}"
        );
    }
}

#[tokio::test]
async fn an_attempt_ends_when_its_time_is_over_and_keeps_what_was_settled() {
    let ground = SmtpGround::new();
    let server = ground.server().acts(|_, step| match step {
        "RCPT TO:<ada@hisp.example>" => Act::say("550 5.1.1 no such user"),
        "RCPT TO:<ben@hisp.example>" => Some(Act::Hush),
        _ => None,
    });
    let server = server.start().await;
    let mut config = ground.config(server.address().port());
    config.attempt_timeout = Duration::from_millis(700);
    let client = client(config, hosts(&[server.address()]));
    let results = client.send(&mail_to(&[ADA, BEN], whole("x\r\n"))).await;
    assert_eq!(words(&results)[1], "deferred");
    assert!(detail(&results[1]).contains("700ms"), "{results:?}");
}

// rule: TX-31, PHI-3
#[tokio::test]
async fn replies_are_untrusted_text() {
    let ground = SmtpGround::new();
    let long = format!(
        "550-5.1.1 \x1b[31m\u{e9}t\u{e9}\r\n550 5.1.1 {}",
        "x".repeat(900)
    );
    let server = ground.server();
    let server =
        server.acts(move |_, step| step.starts_with("RCPT").then(|| Act::Say(long.clone())));
    let server = server.start().await;
    let results = ground
        .client(server.address())
        .send(&mail_to(&[ADA], whole("x\r\n")))
        .await;
    assert_eq!(words(&results), ["smtpRejected"]);
    let text = detail(&results[0]);
    assert!(text.contains("5.1.1"), "{text}");
    assert!(
        text.chars().count() <= 256 && !text.chars().any(char::is_control),
        "{text}"
    );
}

// rule: TX-31
#[tokio::test]
async fn a_reply_without_an_end_ends_the_connection() {
    for endless in ["x".repeat(1_000_000), "220-more\r\n".repeat(100_000)] {
        let ground = SmtpGround::new();
        let server = ground.server();
        let server =
            server.acts(move |_, step| (step == "GREETING").then(|| Act::Say(endless.clone())));
        let server = server.start().await;
        let results = ground
            .client(server.address())
            .send(&mail_to(&[ADA], whole("x\r\n")))
            .await;
        assert_eq!(words(&results), ["deferred"], "{results:?}");
    }
}

/// Settings under which connections wait for the next message.
fn reusing(ground: &SmtpGround, port: u16) -> SmtpClientConfig {
    SmtpClientConfig {
        idle_timeout: Duration::from_secs(60),
        ..ground.config(port)
    }
}

// rule: TX-32
#[tokio::test]
async fn a_connection_carries_several_messages_up_to_its_limit() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let mut config = reusing(&ground, server.address().port());
    config.max_messages_per_connection = NonZeroU32::new(2).unwrap();
    let client = client(config, hosts(&[server.address()]));
    for _ in 0..3 {
        let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
        assert_eq!(words(&results), ["accepted"]);
    }
    client.close().await;
    let transcripts = server.ended(2).await;
    let counts: Vec<usize> = transcripts.iter().map(|t| t.messages.len()).collect();
    assert_eq!(counts, [2, 1]);
    assert!(transcripts.iter().all(|t| t.said("QUIT").len() == 1));
}

#[tokio::test]
async fn a_waiting_connection_that_died_costs_nothing_but_a_new_one() {
    for act in [
        Act::Close,
        Act::SayAndClose("421 4.4.2 idle too long".to_owned()),
    ] {
        let ground = SmtpGround::new();
        let mails = std::sync::atomic::AtomicU32::new(0);
        let server = ground.server().acts(move |_, step| {
            let is_mail = step.starts_with("MAIL");
            let is_second = is_mail && mails.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
            is_second.then(|| act.clone())
        });
        let server = server.start().await;
        let client = client(
            reusing(&ground, server.address().port()),
            hosts(&[server.address()]),
        );
        for _ in 0..2 {
            let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
            assert_eq!(words(&results), ["accepted"], "{results:?}");
        }
        assert_eq!(server.transcripts().len(), 2);
    }
}

// rule: Q-5
#[tokio::test]
async fn a_destination_is_pressed_by_a_bounded_number_of_connections() {
    let ground = SmtpGround::new();
    let now = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let most = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let server = ground.server().acts(move |_, step| {
        use std::sync::atomic::Ordering::SeqCst;
        if step.starts_with("MAIL") {
            highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        } else if step == "END" {
            counted.fetch_sub(1, SeqCst);
        }
        None
    });
    let server = server.start().await;
    let client = Arc::new(ground.client(server.address()));
    let sends = (0..20).map(|_| {
        let client = Arc::clone(&client);
        async move { client.send(&mail_to(&[ADA], whole("x\r\n"))).await }
    });
    let results = futures_util::future::join_all(sends).await;
    assert!(results.iter().all(|result| words(result) == ["accepted"]));
    assert!(most.load(std::sync::atomic::Ordering::SeqCst) <= 5);
    assert_eq!(server.ended(20).await.len(), 20);
}

// rule: Q-5
#[tokio::test]
async fn a_destination_that_is_down_is_left_alone_for_a_while() {
    let ground = SmtpGround::new();
    let server = ground.server().acts(|_, _| Some(Act::Close)).start().await;
    let mut config = ground.config(server.address().port());
    config.pause_after_failures = NonZeroU32::new(3).unwrap();
    let client = client(config, hosts(&[server.address()]));
    for _ in 0..5 {
        let results = client.send(&mail_to(&[ADA], whole("x\r\n"))).await;
        assert_eq!(words(&results), ["deferred"]);
    }
    assert_eq!(server.transcripts().len(), 3);
}

// rule: TX-21
#[tokio::test]
async fn a_server_without_ehlo_is_served_only_where_tls_may_be_missing() {
    let ground = SmtpGround::new();
    let script = |_: usize, step: &str| {
        step.starts_with("EHLO")
            .then(|| Act::Say("502 5.5.1 what".into()))
    };
    let server = ScriptedSmtp::builder().acts(script).start().await;
    let mail = mail_to(&[ADA], whole("x\r\n"));
    let strict = ground.client(server.address()).send(&mail).await;
    assert_eq!(words(&strict), ["smtpRejected"]);
    let lenient = ground.client_with_tls(server.address(), TlsPolicy::Opportunistic);
    assert_eq!(words(&lenient.send(&mail).await), ["accepted"]);
    let transcript = &server.ended(2).await[1];
    assert_eq!(transcript.said("HELO"), ["HELO bridge.clinic.example"]);
    assert_eq!(HOST, "mx.hisp.example");
}
