//! The Direct addressBlock as edges write it, over TLS: what is read leniently leads to the same mail, what says nothing
//! sure is a fault, and a partner can be held to the letter. Each form by itself is in `formats::soap::address_block`.

use xdbridge::{app::config::Config, bridge::exchange::Exchange};

use crate::support::{
    bridge::{ELM, INTAKE, MEI, RUI, TestBridge, assert_plain_success, entries, pki},
    crossing_ground::{Answered, Letter, Workshop},
    mailbox::{opened, received},
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    soap_answer::SoapAnswer,
};

const EXACT: &str = " soap:role=\"urn:direct:addressing:destination\" soap:relay=\"true\"";
const RUI_TO: &str = "<direct:to>mailto:rui.silva@direct.harbor.example</direct:to>";

fn ground(change: impl FnOnce(&mut Config)) -> (TestBridge, ScriptedSmtp) {
    TestBridge::beside_a_hop(&["direct.harbor.example", "direct.quay.example"], change)
}

fn addresses(exchange: &Exchange) -> Vec<String> {
    let recipients = exchange.recipients.iter();
    recipients
        .map(|recipient| recipient.address.to_string())
        .collect()
}

/// Role and relay as the field writes them, and whether that is to the letter.
const ROLES: [(&str, bool); 8] = [
    (EXACT, true),
    (
        " soap:relay=\"true\" soap:role=\"urn:direct:addressing:destination\"",
        true,
    ),
    ("", false),
    (
        " role=\"urn:direct:addressing:destination\" relay=\"true\"",
        false,
    ),
    (
        " wsa:role=\"urn:direct:addressing:destination\" wsa:relay=\"true\"",
        false,
    ),
    (
        " direct:role=\"urn:direct:addressing:destination\" direct:relay=\"true\"",
        false,
    ),
    (
        " soap:role=\"urn:direct:addressing:destination\" soap:relay=\"1\"",
        false,
    ),
    (" soap:role=\"urn:other\" soap:relay=\"false\"", false),
];

// rule: SOAP-111
#[test]
fn role_and_relay_matter_only_to_a_strict_partner() {
    for is_strict in [false, true] {
        let (bridge, _server) = ground(|config| config.partner[0].strict_address_block = is_strict);
        let mut taken = 0;
        for (written, is_exact) in ROLES {
            let request = TestRequest::new(ELM, &[RUI]);
            for posted in [request.mtom(), request.simple()] {
                let http = bridge.post(&posted.with(EXACT, written));
                if is_exact || !is_strict {
                    assert_plain_success(&crate::support::bridge::registry_response(&http));
                } else {
                    assert_eq!(SoapAnswer::of(&http).fault().rule, "SOAP-111", "{written}");
                }
            }
            taken += usize::from(is_exact || !is_strict);
        }
        assert_eq!(bridge.exchanges().len(), taken);
    }
}

// rule: SOAP-114, SOAP-116, SOAP-121, XDR-69, SOAP-115
#[test]
fn recipients_are_found_however_an_edge_lists_them() {
    let (bridge, server) = ground(|_| {});
    let to = |text: &str| format!("<direct:to>{text}</direct:to>");
    let both = [RUI, INTAKE].as_slice();
    for (written, expected) in [
        (to(&format!("mailto:{RUI}")), [RUI].as_slice()),
        (to(&format!("MAILTO:{RUI}")), &[RUI]),
        (to(&format!("\n   mailto:{RUI}\n")), &[RUI]),
        (to("mailto:rui%2Esilva%40direct.harbor.example"), &[RUI]),
        (to(&format!("mailto:{RUI}?subject=For%20you, too")), &[RUI]),
        (to(&format!("mailto:{RUI},mailto:{INTAKE}")), both),
        (to(&format!("mailto:{RUI}; {INTAKE};")), both),
        (
            to(&format!("mailto:{RUI}")) + &to(&format!("mailto:{INTAKE}")),
            both,
        ),
        (
            to(&format!("mailto:{RUI}")) + &to("mailto:rui.silva@DIRECT.Harbor.Example"),
            &[RUI],
        ),
        (
            format!("<direct:copy>mailto:{MEI}</direct:copy>") + &to(&format!("mailto:{RUI}")),
            &[RUI],
        ),
        (
            to(&format!("mailto:{RUI}")) + "<direct:metadata-level>minimal</direct:metadata-level>",
            &[RUI],
        ),
    ] {
        let posted = TestRequest::new(ELM, &[RUI])
            .simple()
            .with(RUI_TO, &written);
        assert_plain_success(&bridge.submit(&posted));
        let exchanges = bridge.exchanges();
        assert_eq!(addresses(exchanges.last().unwrap()), expected, "{written}");
    }
    bridge.wait_until_sent();
    // The case that was received stays on the wire, and the first of two equal ones is kept.
    let mails = received(&server);
    assert_eq!(mails.len(), 11);
    assert!(mails.iter().all(|mail| mail.recipients[0] == RUI));
}

// rule: SOAP-110, SOAP-112, SOAP-89, XDR-67
#[test]
fn a_block_that_names_nobody_for_sure_is_a_fault_and_sends_nothing() {
    let (bridge, server) = ground(|_| {});
    let from = format!("<direct:from>mailto:{ELM}</direct:from>");
    let block = format!(
        "<direct:addressBlock xmlns:direct=\"urn:direct:addressing\"{EXACT}>{from}{RUI_TO}</direct:addressBlock>"
    );
    let other_block = block.replace("urn:direct:addressing\" soap", "urn:direct\" soap");
    let bare_to = format!("<direct:to>{RUI}</direct:to>");
    let display_name = format!("<direct:to>mailto:Rui &lt;{RUI}&gt;</direct:to>");
    let foreign_to = RUI_TO
        .replace("<direct:to", "<d:to xmlns:d=\"urn:d\"")
        .replace("</direct:", "</d:");
    for (what, written, instead, rule) in [
        ("another namespace", &block, &other_block, "SOAP-110"),
        (
            "other letters",
            &block,
            &block.replace("addressBlock", "AddressBlock"),
            "SOAP-110",
        ),
        ("two blocks", &block, &block.repeat(2), "SOAP-110"),
        ("no from", &from, &String::new(), "SOAP-112"),
        ("two senders", &from, &from.repeat(2), "SOAP-112"),
        (
            "from without mailto",
            &from,
            &from.replace("mailto:", ""),
            "SOAP-112",
        ),
        ("a bad sender", &from, &from.replace('@', "@@"), "SOAP-112"),
        ("no to", &RUI_TO.to_owned(), &String::new(), "SOAP-112"),
        (
            "an empty to",
            &RUI_TO.to_owned(),
            &"<direct:to/>".to_owned(),
            "SOAP-112",
        ),
        (
            "to of another namespace",
            &RUI_TO.to_owned(),
            &foreign_to,
            "SOAP-112",
        ),
        (
            "to without mailto",
            &RUI_TO.to_owned(),
            &bare_to,
            "SOAP-112",
        ),
        (
            "a display name",
            &RUI_TO.to_owned(),
            &display_name,
            "SOAP-112",
        ),
        (
            "one bad among good ones",
            &RUI_TO.to_owned(),
            &format!("{RUI_TO}<direct:to>mailto:nobody</direct:to>"),
            "SOAP-112",
        ),
    ] {
        let request = TestRequest::new(ELM, &[RUI]);
        for posted in [request.mtom(), request.simple()] {
            let answer = SoapAnswer::of(&bridge.post(&posted.with(written, instead)));
            assert_eq!(answer.status, 400, "{what}");
            let fault = answer.fault();
            assert_eq!(fault.rule, rule, "{what}");
            assert!(
                !fault.reason.contains("silva") && !fault.reason.contains("okafor"),
                "{what}"
            );
            assert_eq!(answer.addressing("RelatesTo"), request.message_id.as_str());
        }
    }
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}

fn level(own: Option<&str>, inside: Option<&str>) -> Posted {
    let leaf = |value: &str| {
        format!(
            "<direct:metadata-level xmlns:direct=\"urn:direct:addressing\">{value}</direct:metadata-level>"
        )
    };
    let posted = TestRequest::new(ELM, &[RUI]).simple();
    let posted = posted.with(&leaf("XDS"), &own.map(leaf).unwrap_or_default());
    let inside = inside.map(leaf).unwrap_or_default();
    // What only full metadata must have is missing: the level shows in the verdict.
    let posted = posted.with(
        "</direct:addressBlock>",
        &format!("{inside}</direct:addressBlock>"),
    );
    let language = "<rim:Slot name=\"languageCode\">";
    posted.with(language, "<rim:Slot name=\"urn:example:other\">")
}

// rule: SOAP-115, SOAP-116, SOAP-117, XDR-20
#[test]
fn the_level_is_taken_beside_the_block_before_inside_it() {
    let (bridge, _server) = ground(|_| {});
    for (own, inside, is_minimal) in [
        (Some("minimal"), None, true),
        (None, Some("minimal"), true),
        (Some("minimal"), Some("XDS"), true),
        (Some(" minimal\n"), None, true),
        (Some("XDS"), Some("minimal"), false),
        (Some("XDS"), None, false),
        (None, None, false),
    ] {
        let response = bridge.submit(&level(own, inside));
        assert_eq!(
            response.is_success(),
            is_minimal,
            "{own:?} {inside:?} {:?}",
            entries(&response)
        );
    }
    for (own, inside) in [
        (Some("Minimal"), None),
        (Some("full"), Some("minimal")),
        (None, Some("xds")),
        (Some(""), None),
    ] {
        let response = bridge.submit(&level(own, inside));
        let told = response.errors.iter().any(|entry| {
            entry.code.as_str() == "XDSRepositoryMetadataError"
                && entry.location.as_deref() == Some("direct:metadata-level")
        });
        assert!(told && !response.is_success(), "{own:?} {inside:?}");
    }
}

// rule: SOAP-118, XDR-125
#[test]
fn a_notification_about_nothing_is_refused_in_each_of_its_forms() {
    let (bridge, server) = ground(|_| {});
    let notification =
        "<direct:notification xmlns:direct=\"urn:direct:addressing\" relatesTo=\"urn:uuid:1\"/>";
    let text = "<direct:relatesTo>urn:uuid:1</direct:relatesTo>";
    for (before, inserted) in [
        ("</direct:addressBlock>", notification),
        ("</soap:Header>", notification),
        ("</direct:addressBlock>", text),
    ] {
        let posted = TestRequest::new(ELM, &[RUI])
            .mtom()
            .with(before, &format!("{inserted}{before}"));
        let response = bridge.submit(&posted);
        assert!(!response.is_success());
        let entry = &response.errors[0];
        assert_eq!(entry.code.as_str(), "XDSRepositoryError");
        assert!(
            entry.context.contains("relatesTo unknown"),
            "{}",
            entry.context
        );
    }
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}

// rule: SOAP-120, XDR-60, XDR-80, T-7c
#[test]
fn the_block_routes_and_metadata_that_names_others_is_carried_as_it_is() {
    let (bridge, server) = ground(|_| {});
    let mut request = TestRequest::new("second.sender@direct.elm.example", &[RUI]);
    request.intended_recipients = vec![format!("||^^Internet^{MEI}")];
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    let mails = received(&server);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipients, [RUI]);
    let unpacked = opened(&mails[0].message, &pki().harbor);
    assert_eq!(unpacked.from, "second.sender@direct.elm.example");
    assert_eq!(unpacked.to, [RUI]);
    let set = unpacked.submission.metadata.submission_set().unwrap();
    assert_eq!(set.intended_recipients, request.intended_recipients);
    assert_eq!(
        set.authors[0].telecommunications,
        ["^^Internet^ngozi.okafor@direct.elm.example"]
    );
}

// rule: SOAP-119, SOAP-120, XDR-141
#[test]
fn a_bad_wish_for_final_delivery_is_an_error_in_the_log_and_the_message_goes_on() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let bridge = ground.start();
    for (value, options) in [("yes", 0), ("true", 1)] {
        let (content_type, body) = Letter::small().request();
        let wish = format!(
            "<direct:X-DIRECT-FINAL-DESTINATION-DELIVERY>{value}</direct:X-DIRECT-FINAL-DESTINATION-DELIVERY></direct:addressBlock>"
        );
        let body = String::from_utf8(body)
            .unwrap()
            .replace("</direct:addressBlock>", &wish);
        let answered = ground.post_octets(&bridge, "/xdr", &content_type, body.as_bytes());
        assert_eq!(answered, Answered::Success);
        let mails = ground.wait_for_messages(1 + options);
        let opened = workshop.opened(mails.last().unwrap());
        let text = String::from_utf8_lossy(&opened).into_owned();
        assert_eq!(
            text.matches("Disposition-Notification-Options:").count(),
            options,
            "{value}"
        );
    }
    let log = bridge.log_text();
    let told: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("\"rule\":\"SOAP-119\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["level"], "ERROR");
    assert_eq!(told[0]["partner"], "trial-ehr");
    // Each tolerated deviation is in the line about its exchange.
    let accepted = bridge.wait_for_line(|line| line.contains("accepted exchange"));
    let accepted: serde_json::Value = serde_json::from_str(&accepted).unwrap();
    let warnings = accepted["warnings"].as_str().unwrap();
    assert!(
        warnings.contains("SOAP-119") && warnings.contains("SOAP-120"),
        "{warnings}"
    );
    bridge.stop();
}
