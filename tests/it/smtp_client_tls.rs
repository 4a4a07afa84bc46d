//! The SMTP client's TLS: what it demands, and that it never falls back.

use std::sync::Arc;

use xdbridge::{
    adapters::{
        pem_files::PemError,
        smtp_client::{SmtpClient, SmtpClientError, config::TlsPolicy},
    },
    flows::ports::{SendMail, SendResult},
};

use crate::support::{
    mail::{BodyEnd, mail_to, stored_body},
    scripted_smtp::{Act, ScriptedSmtp, Transcript},
    smtp_ground::{HOST, SmtpGround, Standing, detail, hosts, words},
    tls::Identity,
};

async fn send(client: &SmtpClient) -> SendResult {
    let body = stored_body("x\r\n", BodyEnd::Whole);
    let mut results = client.send(&mail_to(&["ada@hisp.example"], body)).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Nothing of the mail was said.
fn was_spared(transcript: &Transcript) -> bool {
    transcript.said("MAIL").is_empty() && transcript.unfinished.is_empty()
}

// rule: TX-22, T-16, T-19b
#[tokio::test]
async fn a_host_without_starttls_gets_no_mail_in_clear() {
    for policy in [TlsPolicy::RequireVerified, TlsPolicy::Require] {
        let ground = SmtpGround::new();
        let server = ScriptedSmtp::builder().start().await;
        let result = send(&ground.client_with_tls(server.address(), policy)).await;
        assert!(
            detail(&result).contains("STARTTLS is not offered"),
            "{result:?}"
        );
        assert!(matches!(result, SendResult::Deferred { .. }));
        assert!(was_spared(&server.ended(1).await[0]));
    }
}

// rule: TX-22
#[tokio::test]
async fn clear_text_is_used_only_where_the_domain_allows_it_and_starttls_is_missing() {
    let ground = SmtpGround::new();
    let server = ScriptedSmtp::builder().start().await;
    let result = send(&ground.client_with_tls(server.address(), TlsPolicy::Opportunistic)).await;
    let SendResult::Accepted(receipt) = result else {
        panic!("{result:?}");
    };
    assert_eq!(receipt.tls, "none");

    let refusing = ground.server();
    let refusing =
        refusing.acts(|_, step| (step == "STARTTLS").then(|| Act::Say("454 4.7.0 not now".into())));
    let refusing = refusing.start().await;
    let result = send(&ground.client_with_tls(refusing.address(), TlsPolicy::Opportunistic)).await;
    assert!(matches!(result, SendResult::Deferred { .. }), "{result:?}");
    assert!(was_spared(&refusing.ended(1).await[0]));
}

// rule: TX-22, T-19b
#[tokio::test]
async fn a_certificate_of_another_name_is_refused_unless_any_will_do() {
    let ground = SmtpGround::new();
    let other = ground.ca.issue("mx.other.example");
    let server = ScriptedSmtp::builder().tls(&other).start().await;
    let result = send(&ground.client(server.address())).await;
    assert!(matches!(result, SendResult::Deferred { .. }), "{result:?}");
    assert!(detail(&result).contains("ostname mismatch"), "{result:?}");
    assert!(was_spared(&server.ended(1).await[0]));

    for policy in [TlsPolicy::Require, TlsPolicy::Opportunistic] {
        let result = send(&ground.client_with_tls(server.address(), policy)).await;
        let SendResult::Accepted(receipt) = result else {
            panic!("{result:?}");
        };
        assert!(receipt.tls.ends_with(" not verified"), "{}", receipt.tls);
    }
}

// rule: TX-22
#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused() {
    let ground = SmtpGround::new();
    for stranger in [
        Identity::ca("Another CA").issue(HOST),
        Identity::self_signed(HOST),
    ] {
        let server = ScriptedSmtp::builder().tls(&stranger).start().await;
        let result = send(&ground.client(server.address())).await;
        assert!(
            detail(&result).contains("certificate is not acceptable"),
            "{result:?}"
        );
        assert!(was_spared(&server.ended(1).await[0]));
    }
}

// rule: T-37
#[tokio::test]
async fn certificates_are_judged_by_the_injected_clock() {
    let ground = SmtpGround::new();
    let server = ground.server().start().await;
    let clock = Standing("2096-01-01T00:00:00Z".parse().unwrap());
    let config = ground.config(server.address().port());
    let hosts = Arc::new(hosts(&[server.address()]));
    let client = SmtpClient::new(config, hosts, Arc::new(clock)).unwrap();
    let result = send(&client).await;
    assert!(detail(&result).contains("expired"), "{result:?}");
}

// rule: T-16, TX-24
#[tokio::test]
async fn replies_smuggled_in_before_the_handshake_end_the_session() {
    let ground = SmtpGround::new();
    let server = ground.server().acts(|_, step| {
        let smuggled = "220 2.0.0 go ahead\r\n250-mx.test\r\n250 SIZE 1";
        (step == "STARTTLS").then(|| Act::Say(smuggled.to_owned()))
    });
    let server = server.start().await;
    let result = send(&ground.client(server.address())).await;
    assert!(matches!(result, SendResult::Deferred { .. }), "{result:?}");
    let transcript = &server.ended(1).await[0];
    assert_eq!(
        transcript.said("EHLO").len(),
        1,
        "nothing was said under TLS"
    );
}

// rule: TX-24
#[tokio::test]
async fn what_was_offered_in_clear_is_forgotten_under_tls() {
    let ground = SmtpGround::new();
    let greetings = std::sync::atomic::AtomicU32::new(0);
    let server = ground.server().acts(move |_, step| {
        let is_first = step.starts_with("EHLO")
            && greetings.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        // Somebody between adds a limit that would refuse every mail.
        is_first.then(|| Act::Say("250-mx.test\r\n250-SIZE 1\r\n250 STARTTLS".to_owned()))
    });
    let server = server.start().await;
    assert_eq!(
        words(&[send(&ground.client(server.address())).await]),
        ["accepted"]
    );
}

#[test]
fn a_ca_file_without_certificates_is_a_fault_of_the_settings() {
    let ground = SmtpGround::new();
    let mut config = ground.config(25);
    for (file, is_there) in [("Cargo.toml", true), ("no-such-file.pem", false)] {
        config.ca_files = vec![file.into()];
        let clock = Arc::new(Standing("2026-11-22T00:00:00Z".parse().unwrap()));
        let made = SmtpClient::new(config.clone(), Arc::new(hosts(&[])), clock);
        match made.map(drop) {
            Err(SmtpClientError::CaFile(error)) => {
                assert_eq!(
                    matches!(error.fault, PemError::NoCertificate),
                    is_there,
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
