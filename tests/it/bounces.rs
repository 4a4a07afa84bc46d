//! Unsigned bounces: what our own smarthost says of a mail that it took from us counts, over real sockets and from a real
//! Postfix; whatever anybody else says in clear does not.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use xdbridge::{
    adapters::smtp_server::TlsIn,
    app::config::Config,
    bridge::{
        bounce::BounceHost,
        exchange::{Exchange, Origin, Reason, RecipientState},
    },
    formats::{
        audit::AuditKind,
        ids::{CertificateFingerprint, ExchangeId},
        smime::SigningIdentity,
    },
};

use crate::support::{
    bridge::{ASH, ELM, INTAKE, MEI, RUI, files_under, pki},
    notices_ground::{Notice, NoticesGround, Submitted},
    postfix::{Postfix, free_address},
    receiving_ground::{Setup, hand_over_as, hand_over_from, hand_over_in_clear},
    scripted_smtp::{Act, ScriptedSmtp},
    wait_until,
};

/// What a returned message says and nobody may find on the disk.
const MARKER: &str = "Ada Quill, born 1931";
const NOT_SEALED: &str = "550 5.7.1 S/MIME encryption required";

fn trusts(network: &str, certificate: Option<&SigningIdentity>) -> Vec<BounceHost> {
    let fingerprint = |identity: &SigningIdentity| {
        CertificateFingerprint::of_der(&identity.certificate.to_der().unwrap())
    };
    vec![BounceHost {
        network: network.parse().unwrap(),
        certificate: certificate.map(fingerprint),
        next_hop: None,
    }]
}

fn ground(change: impl FnOnce(&mut Config) + 'static) -> NoticesGround {
    NoticesGround::start_as(Setup {
        change: Box::new(change),
        ..Setup::default()
    })
}

fn with_smarthost() -> NoticesGround {
    ground(|config| config.receiving.trusted_bounce_hosts = trusts("127.0.0.1/32", None))
}

/// A bounce as mail systems write it, in its parts.
struct Bounce {
    head: String,
    report: String,
    returned: String,
    more: String,
}

impl Bounce {
    fn of(submitted: &Submitted, recipient: &str, action: &str, status: &str) -> Self {
        Self {
            head: format!(
                "From: MAILER-DAEMON@mx.harbor.example (Mail Delivery System)\r\nTo: {ELM}\r\n\
                 Subject: Undelivered Mail Returned to Sender\r\nDate: Sun, 22 Nov 2026 07:59:00 +0000\r\n\
                 Message-ID: <{}@mx.harbor.example>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
                 Content-Type: multipart/report; report-type=delivery-status; boundary=\"b/mx\"\r\n",
                ExchangeId::random()
            ),
            report: format!(
                "Reporting-MTA: dns; mx.harbor.example\r\nX-Postfix-Queue-ID: 4B1C\r\n\r\n\
                 Final-Recipient: rfc822; {recipient}\r\nOriginal-Recipient: rfc822;{recipient}\r\n\
                 Action: {action}\r\nStatus: {status}\r\nDiagnostic-Code: smtp; 550 {MARKER}\r\n"
            ),
            returned: format!(
                "Message-ID: <{}>\r\nSubject: {MARKER}\r\n\r\n{MARKER}\r\n",
                submitted.message_id
            ),
            more: String::new(),
        }
    }

    fn mail(&self) -> Vec<u8> {
        let Self {
            head,
            report,
            returned,
            more,
        } = self;
        format!(
            "{head}\r\nThis is a MIME message.\r\n\r\n--b/mx\r\nContent-Type: text/plain\r\n\r\nNot delivered.\r\n\
             --b/mx\r\nContent-Type: message/delivery-status\r\n\r\n{report}\r\n\
             --b/mx\r\nContent-Type: message/rfc822\r\n\r\n{returned}\r\n{more}--b/mx--\r\n"
        )
        .into_bytes()
    }
}

fn failed(submitted: &Submitted, recipient: &str) -> Vec<u8> {
    Bounce::of(submitted, recipient, "failed", "5.1.1").mail()
}

// rule: DSN-4, T-21, RT-7, PHI-1
#[test]
fn a_bounce_of_our_smarthost_settles_its_recipient_once_and_is_not_kept() {
    let ground = with_smarthost();
    let submitted = ground.submit(&[RUI, INTAKE], false);
    let send = |from: &str, mail: &[u8]| ground.ground.send(from, &[ELM], mail);
    let delayed = Bounce::of(&submitted, RUI, "delayed", "4.4.7").mail();
    assert!(send("", &delayed).starts_with("250"));
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);

    let bounce = failed(&submitted, RUI);
    let reply = send("", &bounce);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let rui = ground.recipient(&submitted, RUI);
    assert_eq!(rui.state, RecipientState::Bounced);
    assert_eq!(rui.outcome.unwrap().failure, Some(Reason::SmtpRejected));
    assert_eq!(ground.state(&submitted, INTAKE), RecipientState::Relayed);
    assert_eq!(ground.told(&submitted), ["smtpRejected"]);

    // It comes again: the reply to it was lost.
    assert!(send("", &bounce).starts_with("250"));
    assert_eq!(ground.told(&submitted), ["smtpRejected"]);
    // Larger than what is kept in memory.
    let mut large = Bounce::of(&submitted, INTAKE, "failed", "5.1.1");
    large.returned += &format!("{MARKER}\r\n").repeat(10_000);
    // From an address of its own, it is no bounce.
    let reply = send("mailer-daemon@mx.harbor.example", &large.mail());
    assert_eq!(reply.trim_end(), NOT_SEALED);
    assert_eq!(ground.state(&submitted, INTAKE), RecipientState::Relayed);
    let reply = send("", &large.mail());
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(ground.told(&submitted), ["smtpRejected", "smtpRejected"]);
    assert_eq!(
        ground.results(&submitted),
        ["informative", "matched", "suppressed", "matched"]
    );

    assert_eq!(ground.received().count(), 0);
    // One mail left: the submission's own.
    let sent = crate::support::mailbox::received(&ground.ground.mailbox);
    assert_eq!((sent.len(), ground.ground.posted().len()), (1, 0));
    for record in ground.ground.bridge.audit() {
        assert!(!format!("{record:?}").contains(MARKER));
    }
    ground.ground.bridge.wait_until_idle();
    for path in files_under(ground.ground.bridge.data()) {
        let octets = fs::read(&path).unwrap();
        let found = memchr::memmem::find(&octets, b"Ada Quill");
        assert_eq!(found, None, "{}", path.display());
    }
}

/// A name, and what sends a bounce about a submission and gives the reply.
type Attack = (
    &'static str,
    Box<dyn Fn(&NoticesGround, &Submitted) -> String>,
);

fn attack(name: &'static str, mail: impl Fn(&Submitted) -> Vec<u8> + 'static) -> Attack {
    let send = move |ground: &NoticesGround, submitted: &Submitted| {
        ground.ground.send("", &[ELM], &mail(submitted))
    };
    (name, Box::new(send))
}

fn changed(change: impl Fn(&mut Bounce) + 'static) -> impl Fn(&Submitted) -> Vec<u8> {
    move |submitted| {
        let mut bounce = Bounce::of(submitted, RUI, "failed", "5.1.1");
        change(&mut bounce);
        bounce.mail()
    }
}

// rule: DSN-4, T-8, T-11, T-20, RCV-R1
#[test]
fn a_bounce_that_is_anything_else_than_that_changes_nothing_and_is_refused() {
    let ground = with_smarthost();
    let elsewhere = |to: &'static str| {
        move |ground: &NoticesGround, submitted: &Submitted| {
            ground.ground.send("", &[to], &failed(submitted, RUI))
        }
    };
    let nested = |depth: usize| {
        let mut part = "Content-Type: text/plain\r\n\r\nx\r\n".to_owned();
        for level in 0..depth {
            part = format!(
                "Content-Type: multipart/mixed; boundary=n{level}\r\n\r\n--n{level}\r\n{part}\r\n--n{level}--\r\n"
            );
        }
        format!("--b/mx\r\n{part}\r\n")
    };
    let attacks: Vec<Attack> = vec![
        attack("a mail that nobody knows", |_| {
            let unknown = Submitted {
                exchange: ExchangeId::random(),
                soap_message_id: String::new(),
                message_id: "nobody-knows@direct.elm.example".to_owned(),
            };
            failed(&unknown, RUI)
        }),
        attack("a recipient that did not get it", |one| failed(one, MEI)),
        ("another of our senders", Box::new(elsewhere(ASH))),
        attack("no bounce at all", |_| {
            b"From: x@x.example\r\n\r\nhello\r\n".to_vec()
        }),
        attack("an MDN", |one| {
            Notice::mdn(one, RUI, "failed").message().into_bytes()
        }),
        attack(
            "an attachment",
            changed(|bounce| {
                bounce.more = "--b/mx\r\nContent-Type: application/zip\r\n\r\nPK\r\n".to_owned();
            }),
        ),
        attack(
            "multiparts in multiparts",
            changed(move |bounce| bounce.more = nested(200)),
        ),
        attack(
            "ten thousand parts",
            changed(|bounce| bounce.more = "--b/mx\r\n\r\nx\r\n".repeat(10_000)),
        ),
        attack(
            "ten thousand recipients",
            changed(|bounce| {
                bounce.report =
                    "Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\n\r\n".repeat(10_000);
            }),
        ),
        attack(
            "a report without end",
            changed(|bounce| bounce.report += &format!("X: {}\r\n", "x".repeat(900)).repeat(100)),
        ),
        attack(
            "no recipient",
            changed(|bounce| {
                bounce.report = "Reporting-MTA: dns; mx.harbor.example\r\n".to_owned()
            }),
        ),
        attack(
            "a boundary inside itself",
            changed(|bounce| bounce.head = bounce.head.replace("b/mx", "b/mx2")),
        ),
    ];
    let submitted = ground.submit(&[RUI], false);
    for (name, send) in &attacks {
        let suspects = ground.errors("bounce_suspect: ");
        let began = Instant::now();
        let reply = send(&ground, &submitted);
        assert_eq!(reply.trim_end(), NOT_SEALED, "{name}");
        // Quadratic work would take minutes.
        assert!(began.elapsed() < Duration::from_secs(60), "{name}");
        assert_eq!(ground.errors("bounce_suspect: "), suspects + 1, "{name}");
        assert_eq!(
            ground.state(&submitted, RUI),
            RecipientState::Relayed,
            "{name}"
        );
    }
    assert_eq!(ground.told(&submitted), Vec::<String>::new());
    assert_eq!(ground.received().count(), 0);

    let endless =
        changed(|bounce| bounce.head += &format!("X: {}\r\n", "x".repeat(900)).repeat(1000));
    let reply = ground.ground.send("", &[ELM], &endless(&submitted));
    assert!(reply.starts_with("554 5.6.0"), "{reply}");
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);

    // Processed: somebody who may say so said that it arrived.
    ground.reply(&Notice::mdn(&submitted, RUI, "processed").message());
    let reply = ground.ground.send("", &[ELM], &failed(&submitted, RUI));
    assert_eq!(reply.trim_end(), NOT_SEALED);
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Processed);
    assert_eq!(ground.told(&submitted), ["success"]);
    assert!(ground.errors("bounce_suspect: the recipient is not RELAYED") > 0);
}

// rule: DSN-4, T-20
#[test]
fn a_bounce_counts_from_the_named_host_over_tls_alone() {
    // By default nobody's does, nor another host's.
    for hosts in [Vec::new(), trusts("192.0.2.8/32", None)] {
        let ground = ground(move |config| config.receiving.trusted_bounce_hosts = hosts);
        let submitted = ground.submit(&[RUI], false);
        let reply = ground.ground.send("", &[ELM], &failed(&submitted, RUI));
        assert_eq!(reply.trim_end(), NOT_SEALED);
        assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);
        assert_eq!(ground.errors("bounce_suspect: "), 0);
    }
    let ground = ground(|config| {
        config.receiving.trusted_bounce_hosts = trusts("127.0.0.1/32", Some(&pki().mail_host));
        config.smtp.server.as_mut().unwrap().tls = TlsIn::May;
    });
    let submitted = ground.submit(&[RUI], false);
    let bounce = failed(&submitted, RUI);
    let address = ground.ground.bridge.smtp_address();
    let refused = [
        ("in clear", hand_over_in_clear(address, "", &[ELM], &bounce)),
        (
            "without a certificate",
            ground.ground.send("", &[ELM], &bounce),
        ),
        (
            "with another certificate",
            hand_over_as(&pki().stranger, address, "", &[ELM], &bounce),
        ),
    ];
    for (name, reply) in refused {
        assert_eq!(reply.trim_end(), NOT_SEALED, "{name}");
        assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);
    }
    let reply = hand_over_as(&pki().mail_host, address, "", &[ELM], &bounce);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Bounced);
}

// rule: DSN-4, T-20
#[test]
fn a_bounce_counts_from_the_host_that_took_the_mail_and_from_no_other_that_is_named() {
    let with = |networks: &[&str]| {
        let hosts = networks.iter().flat_map(|network| trusts(network, None));
        let hosts = hosts.collect();
        ground(move |config| config.receiving.trusted_bounce_hosts = hosts)
    };
    let ground = with(&["127.0.0.1/32", "127.0.0.2/32"]);
    let submitted = ground.submit(&[RUI], false);
    let taken_by = ground.recipient(&submitted, RUI).taken_by.unwrap();
    assert_eq!(taken_by.address, IpAddr::from(Ipv4Addr::LOCALHOST));
    let bounce = failed(&submitted, RUI);
    let address = ground.ground.bridge.smtp_address();
    let other = IpAddr::from([127, 0, 0, 2]);
    let reply = hand_over_from(other, address, "", &[ELM], &bounce);
    assert_eq!(reply.trim_end(), NOT_SEALED);
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);
    assert_eq!(
        ground.errors("bounce_suspect: the mail for the recipient was not taken by the host"),
        1
    );
    assert_eq!(ground.told(&submitted), Vec::<String>::new());
    let reply = ground.ground.send("", &[ELM], &bounce);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Bounced);

    // A smarthost with both addresses.
    let ground = with(&["127.0.0.0/30"]);
    let submitted = ground.submit(&[RUI], false);
    let address = ground.ground.bridge.smtp_address();
    let bounce = failed(&submitted, RUI);
    let reply = hand_over_from(other, address, "", &[ELM], &bounce);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Bounced);
}

// rule: DSN-4
#[test]
fn a_bounce_that_is_faster_than_our_own_record_is_put_off() {
    let ground = NoticesGround::start_as(Setup {
        change: Box::new(|config| {
            config.receiving.trusted_bounce_hosts = trusts("127.0.0.1/32", None);
        }),
        mailbox: ScriptedSmtp::builder().acts(|_, step| {
            let is_rcpt = step.starts_with("RCPT");
            is_rcpt.then(|| Act::Say("450 4.2.0 later".to_owned()))
        }),
        ..Setup::default()
    });
    let submitted = ground.submit_until(&[RUI], |exchange| {
        let legs = &exchange.legs;
        legs.iter()
            .any(|leg| leg.as_mail().is_some_and(|mail| mail.sealed.is_some()))
    });
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Queued);
    let reply = ground.ground.send("", &[ELM], &failed(&submitted, RUI));
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Queued);
}

// rule: DSN-1, DSN-4
#[test]
fn what_a_real_postfix_returns_to_us_settles_the_recipient() {
    let bridge: SocketAddr = free_address();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Beyond the smarthost nobody is known.
    let beyond = ScriptedSmtp::builder()
        .tls(&crate::support::bridge::as_tls(&pki().mail_host))
        .acts(|_, step| {
            let is_rcpt = step.starts_with("RCPT");
            is_rcpt.then(|| Act::Say("550 5.1.1 no such user".to_owned()))
        });
    let beyond = runtime.block_on(beyond.start());
    let routes = [
        ("direct.harbor.example", beyond.address()),
        ("direct.elm.example", bridge),
    ];
    let postfix = Postfix::smarthost(&pki().mail_host, &routes);
    let hop = postfix.address();
    let ground = ground(move |config| {
        config.receiving.trusted_bounce_hosts = trusts("127.0.0.1/32", None);
        config.smtp.server.as_mut().unwrap().bind = bridge;
        let domain = "direct.harbor.example".parse().unwrap();
        let route = config.smtp.client.domains.get_mut(&domain).unwrap();
        route.smarthost = Some(hop.to_string().parse().unwrap());
    });
    let submitted = ground.submit_until(&[RUI], |exchange| {
        exchange.recipients[0].state != RecipientState::Queued
    });
    wait_until("the bounce comes", || {
        ground.state(&submitted, RUI) != RecipientState::Relayed
    });
    let rui = ground.recipient(&submitted, RUI);
    assert_eq!(rui.state, RecipientState::Bounced, "{}", postfix.log());
    assert_eq!(rui.outcome.unwrap().failure, Some(Reason::SmtpRejected));
    assert_eq!(ground.told(&submitted), ["smtpRejected"]);
    let taken = ground.ground.bridge.audit_of(AuditKind::MdnIn);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].details["disposition"], "DSN failed");
    let exchanges: Vec<Exchange> = ground.ground.bridge.exchanges();
    assert!(
        exchanges
            .iter()
            .all(|one| matches!(one.origin, Origin::Xdr { .. }))
    );
}
