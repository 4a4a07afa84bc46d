//! What peers' notices make of a submission: over real sockets, from the MDN or DSN that a peer seals and sends to the
//! recipient's state, its one outcome, and the audit.

use std::time::Duration;

use openssl::{
    cms::{CMSOptions, CmsContentInfo},
    stack::Stack,
    symm::Cipher,
};
use xdbridge::{
    adapters::clock::SystemClock,
    app::pki::{Authority, Profile},
    bridge::exchange::{Exchange, Reason, RecipientState},
    flows::ports::Clock,
    formats::{audit::AuditKind, smime::SigningIdentity},
};

use crate::support::{
    bridge::{ASH, ELM, INTAKE, MEI, RUI, pki},
    notices_ground::{Notice, NoticesGround, Submitted, WITH_EXTENSION},
    receiving_ground::{sealed, sealed_entity},
    wait_until,
};

/// What stands of a recipient: its state, and its outcome if it has one, as it is told.
type Stand = (RecipientState, Option<&'static str>);

/// What comes of a submission, in turn.
enum Comes {
    Mdn(&'static str),
    Dsn(&'static str, &'static str),
}

/// A row of the table "State pair" of mdn.md section 8: what comes, then what stands of it with the option off and on,
/// before any deadline and after all of them.
struct Row {
    comes: &'static [Comes],
    off: (Stand, Stand),
    on: (Stand, Stand),
}

fn rows() -> Vec<Row> {
    use Comes::{Dsn, Mdn};
    use RecipientState::{Dispatched, ExpiredD, ExpiredP, Nacked, Processed, Relayed};
    const DONE: Option<&str> = Some("success");
    let settled = |state, outcome| ((state, outcome), (state, outcome));
    let dispatched = || settled(Dispatched, DONE);
    let processed = || settled(Processed, DONE);
    let waits = || ((Processed, None), (ExpiredD, Some("timeoutDispatched")));
    let failed = || settled(Nacked, Some("mdnFailed"));
    let row = |comes, off, on| Row { comes, off, on };
    vec![
        row(&[Mdn("processed")], processed(), waits()),
        row(
            &[Mdn("processed"), Mdn(WITH_EXTENSION)],
            processed(),
            dispatched(),
        ),
        row(&[Mdn(WITH_EXTENSION)], dispatched(), dispatched()),
        row(&[Mdn("displayed")], dispatched(), dispatched()),
        row(
            &[Mdn("processed"), Mdn("displayed")],
            processed(),
            dispatched(),
        ),
        row(&[Mdn("processed"), Mdn("dispatched")], processed(), waits()),
        row(&[Mdn("dispatched")], processed(), waits()),
        row(&[Mdn("processed"), Mdn("failed")], processed(), failed()),
        row(&[Mdn("failed")], failed(), failed()),
        row(&[Mdn("denied")], failed(), failed()),
        row(&[Mdn("processed/error")], failed(), failed()),
        row(
            &[Dsn("failed", "5.1.1")],
            settled(Nacked, Some("dsnFailed")),
            settled(Nacked, Some("dsnFailed")),
        ),
        row(
            &[Mdn("deleted"), Dsn("delivered", "2.0.0")],
            ((Relayed, None), (ExpiredP, Some("timeoutProcessed"))),
            ((Relayed, None), (ExpiredP, Some("timeoutProcessed"))),
        ),
        row(
            &[],
            ((Relayed, None), (ExpiredP, Some("timeoutProcessed"))),
            ((Relayed, None), (ExpiredP, Some("timeoutProcessed"))),
        ),
        // The first decisive one stands (LOOP-6).
        row(&[Mdn("failed"), Mdn(WITH_EXTENSION)], failed(), failed()),
    ]
}

// rule: RCV-8, SRC-2, SRC-3, SRC-5, SRC-7, DSN-2, DSN-3, MDN-27, LOOP-6, RT-9, RT-10
#[test]
fn every_row_of_the_state_pair_table_is_what_the_sender_is_told_with_the_option_off_and_on() {
    let ground = NoticesGround::start();
    let mut waiting = Vec::new();
    for (number, row) in rows().into_iter().enumerate() {
        for (is_on, (now, last)) in [(false, row.off), (true, row.on)] {
            let submitted = ground.submit(&[RUI], is_on);
            for comes in row.comes {
                let notice = match comes {
                    Comes::Mdn(disposition) => Notice::mdn(&submitted, RUI, disposition),
                    Comes::Dsn(action, status) => Notice::dsn(&submitted, RUI, action, status),
                };
                ground.reply(&notice.message());
            }
            let name = format!("row {number}, option {is_on}");
            assert_eq!(ground.state(&submitted, RUI), now.0, "{name}");
            assert_eq!(ground.told(&submitted), Vec::from_iter(now.1), "{name}");
            waiting.push((name, submitted, last));
        }
    }
    ground.clock.advance(Duration::from_secs(61 * 60));
    ground.ground.bridge.store().due_changed().notify_one();
    wait_until("all are settled", || {
        ground.submissions().iter().all(Exchange::is_final)
    });
    for (name, submitted, (state, outcome)) in waiting {
        assert_eq!(ground.state(&submitted, RUI), state, "{name}");
        wait_until("it is told", || !ground.told(&submitted).is_empty());
        assert_eq!(ground.told(&submitted), Vec::from_iter(outcome), "{name}");
    }
    assert!(ground.ground.posted().is_empty());
}

// rule: MDN-40, MDN-41, MDN-42, MDN-43, MDN-45, MDN-46, MDN-47, MDN-49, MDN-50, MDN-51
#[test]
fn every_variant_of_a_notice_that_is_seen_in_the_field_is_understood() {
    let ground = NoticesGround::start();
    let id_line =
        |submitted: &Submitted| format!("Original-Message-ID: <{}>\r\n", submitted.message_id);
    let recipient_line = format!("Final-Recipient: rfc822; {RUI}\r\n");
    type Change<'a> = &'a dyn Fn(Notice, &Submitted) -> Notice;
    let variants: [(&str, Change<'_>); 9] = [
        ("field names in lower case", &|notice, _| {
            notice
                .with("Final-Recipient", "final-recipient")
                .with("Original-Message-ID", "original-message-id")
                .with("Disposition", "disposition")
        }),
        ("white space before the colon", &|notice, _| {
            notice
                .with("Final-Recipient:", "Final-Recipient :")
                .with("Disposition:", "Disposition\t:")
        }),
        ("blank and folded lines", &|notice, _| {
            notice
                .with("rfc822; ", "rfc822;\r\n ")
                .with("Disposition: ", "\r\n\r\nDisposition:\r\n ")
        }),
        ("spaces and case in the disposition", &|notice, _| {
            notice.with(
                "automatic-action/MDN-sent-automatically; processed",
                "Automatic-Action / mdn-sent-Automatically ;  Processed ",
            )
        }),
        ("an id without brackets", &|notice, submitted| {
            let bare = format!("Original-Message-ID: {}\r\n", submitted.message_id);
            notice.with(&id_line(submitted), &bare)
        }),
        ("an id in In-Reply-To alone", &|notice, submitted| {
            let header = format!("In-Reply-To: <{}>\r\n", submitted.message_id);
            let notice = notice.with(&id_line(submitted), "");
            Notice { header, ..notice }
        }),
        ("an id in References alone", &|notice, submitted| {
            let header = format!("References: <x@x.example> <{}>\r\n", submitted.message_id);
            let notice = notice.with(&id_line(submitted), "");
            Notice { header, ..notice }
        }),
        ("no Final-Recipient: From", &|notice, _| {
            notice.with(&recipient_line, "")
        }),
        ("another From", &|notice, _| Notice {
            from: "notices@hisp.example".to_owned(),
            ..notice
        }),
    ];
    for (name, change) in variants {
        let submitted = ground.submit(&[RUI], false);
        let notice = change(Notice::mdn(&submitted, RUI, "processed"), &submitted);
        let mail = sealed(&notice.message(), &[&pki().harbor], &pki().direct_elm);
        assert!(ground.send(&notice.from, ELM, &mail), "{name}");
        assert_eq!(
            ground.state(&submitted, RUI),
            RecipientState::Processed,
            "{name}"
        );
        assert_eq!(ground.results(&submitted), ["matched"], "{name}");
    }

    let submitted = ground.submit(&[RUI, INTAKE], false);
    let both = format!("Final-Recipient: rfc822; {RUI}\r\nFinal-Recipient: rfc822; {INTAKE}\r\n");
    let notice = Notice::mdn(&submitted, RUI, "processed").with(&recipient_line, &both);
    // The null reverse-path, and a wrapper in other letters.
    let entity = format!(
        "content-type:   Message/RFC822 \r\n\r\n{}",
        notice.message()
    );
    let mail = sealed_entity(&entity, &[&pki().harbor], &pki().direct_elm.certificate);
    assert!(ground.send("", ELM, &mail));
    for recipient in [RUI, INTAKE] {
        assert_eq!(
            ground.state(&submitted, recipient),
            RecipientState::Processed
        );
    }

    // Nobody is named, but the certificate that verified says who it is.
    let submitted = ground.submit(&[MEI], false);
    let notice = Notice::mdn(&submitted, RUI, "processed").with(&recipient_line, "");
    let notice = Notice {
        from: "notices@hisp.example".to_owned(),
        ..notice
    };
    let mail = sealed(&notice.message(), &[&pki().mei], &pki().direct_elm);
    assert!(ground.send(&notice.from, ELM, &mail));
    assert_eq!(ground.state(&submitted, MEI), RecipientState::Processed);
}

// rule: MDN-44, MDN-48, RCV-8, MDN-14, LOOP-1, XDR-112
#[test]
fn a_notice_that_says_nothing_decisive_changes_nothing_and_is_never_answered() {
    let ground = NoticesGround::start();
    let submitted = ground.submit(&[RUI], false);
    let line = "Disposition: automatic-action/MDN-sent-automatically; processed\r\n";
    ground.reply(
        &Notice::mdn(&submitted, RUI, "processed")
            .with(line, "")
            .message(),
    );
    assert!(ground.error("mdn_unmatched: ").unwrap().details["error"].contains("MDN-44"));
    let delivered = Notice::dsn(&submitted, RUI, "delivered", "2.0.0");
    ground.reply(&delivered.message());
    let delayed = Notice::dsn(&submitted, RUI, "delayed", "4.4.7");
    ground.reply(&delayed.message());
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Relayed);
    assert_eq!(ground.results(&submitted), ["informative", "informative"]);
    assert_eq!(ground.told(&submitted), Vec::<String>::new());
    // One mail left: the submission's own.
    let sent = crate::support::mailbox::received(&ground.ground.mailbox);
    assert_eq!((sent.len(), ground.ground.posted().len()), (1, 0));
}

/// The entity encrypted by nobody's signature.
fn encrypted_unsigned(message: &str) -> Vec<u8> {
    let entity = format!("Content-Type: message/rfc822\r\n\r\n{message}");
    let mut to = Stack::new().unwrap();
    to.push(pki().direct_elm.certificate.clone()).unwrap();
    let cms = CmsContentInfo::encrypt(
        &to,
        entity.as_bytes(),
        Cipher::aes_256_cbc(),
        CMSOptions::BINARY,
    )
    .unwrap();
    let der = openssl::base64::encode_block(&cms.to_der().unwrap());
    let lines: Vec<&str> = der
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "From: <{RUI}>\r\nTo: <{ELM}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        lines.join("\r\n")
    )
    .into_bytes()
}

/// A certificate for the recipient's domain by a CA that nobody trusts.
fn untrusted_harbor() -> SigningIdentity {
    let now = SystemClock.now();
    let other = Authority::root("Nobody's CA", now).unwrap();
    let domain = "direct.harbor.example".parse().unwrap();
    other.issue(&Profile::domain(&domain, now)).unwrap()
}

// rule: T-20, MDN-46, DSN-4, RT-10
#[test]
fn a_forged_notice_changes_nothing_and_is_audited() {
    let ground = NoticesGround::start();
    let submitted = ground.submit(&[RUI, MEI], false);
    let elm = &pki().direct_elm;
    let failed = Notice::mdn(&submitted, RUI, "failed");
    let unknown = Submitted {
        message_id: "nobody-knows@direct.elm.example".to_owned(),
        ..submitted.clone()
    };
    let by_mei = Notice {
        from: MEI.to_owned(),
        ..failed.clone()
    };
    let for_intake = Notice::mdn(&submitted, INTAKE, "failed");
    let dsn = Notice {
        from: MEI.to_owned(),
        ..Notice::dsn(&submitted, RUI, "failed", "5.1.1")
    };
    let to_ash = Notice {
        to: ASH.to_owned(),
        ..failed.clone()
    };
    let (harbor, mei) = (&pki().harbor, &pki().mei);
    let stranger = untrusted_harbor();
    let forged = |notice: &Notice, signer, to| sealed(&notice.message(), &[signer], to);
    let suspect = "mdn_spoof_suspect";
    let cases = [
        (
            "another HISP's valid signer",
            MEI,
            ELM,
            forged(&by_mei, mei, elm),
            true,
            suspect,
        ),
        (
            "the same under the recipient's From",
            RUI,
            ELM,
            forged(&failed, mei, elm),
            false,
            suspect,
        ),
        (
            "the same with a DSN",
            MEI,
            ELM,
            forged(&dsn, mei, elm),
            true,
            suspect,
        ),
        (
            "the right signer for one who did not get it",
            RUI,
            ELM,
            forged(&for_intake, harbor, elm),
            true,
            suspect,
        ),
        (
            "the recipient's domain by a CA that nobody trusts",
            RUI,
            ELM,
            forged(&failed, &stranger, elm),
            false,
            suspect,
        ),
        (
            "trusted by another domain than the sender's",
            RUI,
            ASH,
            forged(&to_ash, harbor, &pki().direct_ash),
            true,
            suspect,
        ),
        (
            "an id that nobody knows",
            RUI,
            ELM,
            forged(&Notice::mdn(&unknown, RUI, "failed"), harbor, elm),
            true,
            "mdn_unmatched",
        ),
    ];
    for (name, from, to, mail, is_absorbed, error) in cases {
        let before = ground.errors(error);
        assert_eq!(ground.send(from, to, &mail), is_absorbed, "{name}");
        assert_eq!(ground.errors(error), before + 1, "{name}");
        for recipient in [RUI, MEI] {
            assert_eq!(
                ground.state(&submitted, recipient),
                RecipientState::Relayed,
                "{name}"
            );
        }
    }
    let alerts = ground.ground.bridge.audit_of(AuditKind::SecurityAlert);
    assert!(
        alerts
            .iter()
            .any(|record| record.details.get("about") == Some(&submitted.exchange.to_string()))
    );

    // Unsigned, and unencrypted.
    assert!(!ground.send(RUI, ELM, &encrypted_unsigned(&failed.message())));
    let plain = ground.ground.send("", &[ELM], failed.message().as_bytes());
    assert!(plain.starts_with("550 5.7.1"), "{plain}");
    assert_eq!(ground.results(&submitted), Vec::<String>::new());
    assert_eq!(ground.told(&submitted), Vec::<String>::new());

    // The true ones still count, each for its own recipient.
    ground.reply(&Notice::mdn(&submitted, RUI, "processed").message());
    assert_eq!(ground.state(&submitted, RUI), RecipientState::Processed);
    assert_eq!(ground.state(&submitted, MEI), RecipientState::Relayed);
    assert_eq!(ground.told(&submitted), ["success"]);
}

// rule: T-21, LOOP-6, SRC-5, LOOP-5
#[test]
fn a_notice_that_is_repeated_or_comes_late_changes_nothing_and_is_audited() {
    let ground = NoticesGround::start();
    let first = ground.submit(&[RUI], false);
    let second = ground.submit(&[RUI], false);
    let processed = Notice::mdn(&first, RUI, "processed").message();
    let mail = sealed(&processed, &[&pki().harbor], &pki().direct_elm);
    for _ in 0..3 {
        assert!(ground.send(RUI, ELM, &mail));
    }
    ground.reply(&Notice::mdn(&first, RUI, "failed").message());
    let results = ["matched", "suppressed", "suppressed", "late_negative"];
    assert_eq!(ground.results(&first), results);
    assert_eq!(ground.told(&first), ["success"]);
    assert_eq!(ground.state(&first, RUI), RecipientState::Processed);
    // The notice of one submission says nothing of another one.
    assert_eq!(ground.state(&second, RUI), RecipientState::Relayed);
    ground.reply(&Notice::mdn(&second, RUI, "failed").message());
    ground.reply(&Notice::mdn(&second, RUI, WITH_EXTENSION).message());
    assert_eq!(ground.results(&second), ["matched", "suppressed"]);
    let outcome = ground.recipient(&second, RUI).outcome.unwrap();
    assert_eq!(outcome.failure, Some(Reason::MdnFailed));
    assert_eq!(ground.told(&second), ["mdnFailed"]);
}

// rule: T-24, LOOP-6
#[cfg(feature = "fault-points")]
#[test]
fn a_kill_between_a_notices_effect_and_its_own_end_repeats_it_harmlessly() {
    use std::{fs, io::Write, os::unix::process::ExitStatusExt};

    use openssl::x509::X509;
    use xdbridge::{bridge::exchange::Origin, formats::ids::ExchangeId};

    use crate::support::{
        crossing_ground::{Answered, Letter, Workshop, message_id},
        receiving_ground::hand_over_by,
    };

    let workshop = Workshop::new();
    let ground = workshop.ground();
    let mut config = fs::File::options()
        .append(true)
        .open(ground.path().join("xdbridge.toml"))
        .unwrap();
    // No endpoint takes mail for the sender: notices come all the same.
    let more = r#"
[smtp.server]
bind = "127.0.0.1:0"
host_name = "bridge.harbor.example"

[soap.client]
certificate = "tls/trial-ehr.pem"
key = "tls/trial-ehr.key"
ca_files = ["ca/ca.pem"]

[sources]
gateway_oid = "2.999.1"

[[endpoint]]
name = "elsewhere"
url = "https://127.0.0.1:1/xdr"
serves = ["care.team@direct.harbor.example"]
"#;
    config.write_all(more.as_bytes()).unwrap();
    let mut bridge = ground.start_with("notice.taken=kill");
    assert!(bridge.is_listening(), "{}", bridge.log_text());
    let letter = Letter::small();
    assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    let sent = ground.wait_for_messages(1);
    let line = message_id(&sent[0]);
    let id = line.split(['<', '>']).nth(1).unwrap();

    let (rui, ngozi) = (letter.to[0].to_string(), letter.from.to_string());
    let submitted = Submitted {
        exchange: ExchangeId::random(),
        soap_message_id: letter.message_id.to_string(),
        message_id: id.to_owned(),
    };
    let notice = Notice {
        from: rui.clone(),
        to: ngozi.clone(),
        ..Notice::mdn(&submitted, &rui, "processed")
    };
    let certificate = |name: &str| {
        let pem = fs::read(ground.path().join(name)).unwrap();
        X509::from_pem(&pem).unwrap()
    };
    let entity = format!("Content-Type: message/rfc822\r\n\r\n{}", notice.message());
    let mail = sealed_entity(
        &entity,
        &[workshop.hisp()],
        &certificate("direct/domain.pem"),
    );
    let log = bridge.wait_for_line(|line| line.contains("listening for mail"));
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    let address = log["smtp"].as_str().unwrap().parse().unwrap();
    let known = (&certificate("ca/ca.pem"), "direct.harbor.example");
    let reply = hand_over_by(known, address, &rui, &[&ngozi], &mail);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(bridge.ended().signal(), Some(9));

    let stand = || {
        let all = ground.exchanges();
        let (submitted, received): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|one| matches!(one.origin, Origin::Xdr { .. }));
        let recipient = submitted[0].recipient(&letter.to[0]).unwrap().clone();
        assert_eq!((submitted.len(), received.len()), (1, 1));
        (recipient, received[0].is_final())
    };
    let (settled, is_absorbed) = stand();
    assert_eq!(settled.state, RecipientState::Processed);
    assert!(settled.outcome.is_some() && !is_absorbed);

    let bridge = ground.start();
    bridge.wait_for_line(|line| line.contains("says processed: suppressed"));
    bridge.stop();
    assert_eq!(stand(), (settled, true));
}

crate::support::stores::on_postgresql_too! {
    a_notice_that_is_repeated_or_comes_late_changes_nothing_and_is_audited,
}
