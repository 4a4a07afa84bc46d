use super::*;
use crate::formats::{document::FactsSink, xdr::request::read_file, xml::kept::KeptXml};

const FULL: &str = include_str!("../../../docs/spec/examples/01-request-full-inline.xml");
const MINIMAL: &str =
    include_str!("../../../docs/spec/examples/02-request-direct-minimal-mtom.http");
const NOTIFICATION: &str =
    include_str!("../../../docs/spec/examples/03-request-delivery-notification.xml");
const PACKAGED: &str = include_str!("../../../docs/spec/examples/IHE_XDM/SUBSET01/METADATA.XML");

fn judged_by(text: &str, terms: &Terms<'_>) -> Judgement {
    let mut facts = FactsSink::default();
    let options = read_options(terms.partner);
    let mut file = text.as_bytes();
    let request = read_file(&mut file, terms.limits, &options, &mut facts).unwrap();
    judge(&request, &facts.into_facts(), Container::Xdr, terms).unwrap()
}

fn judged(text: &str, limits: &Limits, from: Option<&DirectAddress>) -> Judgement {
    let terms = Terms {
        partner: &Partner::default(),
        limits,
        routes: &Routes::default(),
        destinations: &Destinations::default(),
        level: None,
        from,
        to: &[],
        now: None,
    };
    judged_by(text, &terms)
}

fn errors(judgement: &Judgement) -> Vec<&str> {
    let findings = judgement.findings.iter();
    findings.filter(|f| f.is_error()).map(|f| f.rule).collect()
}

// rule: MD-22
#[test]
fn a_partner_whose_submissions_count_as_minimal_has_them_treated_so_in_every_respect() {
    let limits = Limits::default();
    let partner = Partner {
        profile: validate::Profile::Minimal,
        ..Partner::default()
    };
    let terms = Terms {
        partner: &partner,
        limits: &limits,
        routes: &Routes::default(),
        destinations: &Destinations::default(),
        level: None,
        from: None,
        to: &[],
        now: None,
    };
    assert_eq!(judged_by(FULL, &terms).level, Level::Minimal);
    assert_eq!(judged(FULL, &limits, None).level, Level::Full);
}

// rule: XDR-60, XDR-65
#[test]
fn sender_and_recipients_come_from_the_block_and_can_be_replaced() {
    let limits = Limits::default();
    let found = judged(MINIMAL, &limits, None);
    assert_eq!(errors(&found), [""; 0]);
    assert_eq!(found.recipients.unwrap().addresses.len(), 2);
    let other: DirectAddress = "ada.quill@direct.elm.example".parse().unwrap();
    assert_eq!(judged(MINIMAL, &limits, Some(&other)).from, Some(other));
}

// rule: XDR-34, XDR-60, XDR-65
#[test]
fn a_missing_sender_and_missing_recipients_are_told_together() {
    let cut = |text: &str, from: &str, to: &str| {
        let start = text.find(from).unwrap();
        let end = start + text[start..].find(to).unwrap() + to.len();
        format!("{}{}", &text[..start], &text[end..])
    };
    let text = cut(FULL, "<direct:addressBlock", "</direct:addressBlock>");
    let text = text
        .replace("authorTelecommunication", "authorRole")
        .replace("^^Internet^ngozi.okafor@direct.elm.example.org", "Nurse")
        .replace("\"intendedRecipient\"", "\"urn:example:nobody\"");
    let found = judged(&text, &Limits::default(), None);
    assert_eq!(errors(&found), ["XDR-65", "XDR-60"]);
    assert!(found.from.is_none() && found.recipients.is_none());
}

/// The full example without its addressBlock.
fn without_block() -> String {
    let (start, end) = ("<direct:addressBlock", "</direct:addressBlock>");
    let from = FULL.find(start).unwrap();
    let to = FULL.find(end).unwrap() + end.len();
    format!("{}{}", &FULL[..from], &FULL[to..])
}

// rule: XDR-34, XDR-60, XDR-65, ADR-7, LIM-14
#[test]
fn what_is_wrong_with_metadata_sender_recipients_and_size_is_told_at_once() {
    let text = without_block()
        .replace("\"creationTime\"", "\"urn:example:time\"")
        .replace("authorTelecommunication", "authorRole")
        .replace("^^Internet^ngozi.okafor@direct.elm.example.org", "Nurse")
        .replace(
            "^^Internet^rui.silva@direct.harbor.example.org",
            "^^Internet^rui",
        );
    let limits = Limits {
        max_sealed_bytes: 10_000,
        ..Limits::default()
    };
    let found = judged(&text, &limits, None);
    assert_eq!(errors(&found), ["MD-94", "XDR-65", "XDR-60"]);
    let text = FULL.replace("\"creationTime\"", "\"urn:example:time\"");
    assert_eq!(errors(&judged(&text, &limits, None)), ["MD-94", "LIM-14"]);
}

// rule: XDR-34
#[test]
fn what_a_rule_of_metadata_refuses_is_not_told_of_sender_and_recipients_again() {
    let limits = Limits::default();
    let text = without_block()
        .replace("^^Internet^ngozi.okafor@direct.elm.example.org", "ngozi")
        .replace("^^Internet^rui.silva@direct.harbor.example.org", "rui");
    assert_eq!(errors(&judged(&text, &limits, None)), ["MD-45", "XDR-61"]);
    let text = without_block().replace("\"intendedRecipient\"", "\"urn:example:nobody\"");
    let partner = Partner {
        profile: validate::Profile::Minimal,
        ..Partner::default()
    };
    let terms = Terms {
        partner: &partner,
        limits: &limits,
        routes: &Routes::default(),
        destinations: &Destinations::default(),
        level: None,
        from: None,
        to: &[],
        now: None,
    };
    assert_eq!(errors(&judged_by(&text, &terms)), ["MD-23"]);
}

// rule: SOAP-66, SOAP-120, XDR-141
#[test]
fn a_block_that_names_others_and_an_address_for_faults_are_told_and_change_nothing() {
    let text = FULL
        .replace("<direct:from>mailto:ngozi", "<direct:from>mailto:ada")
        .replace("<direct:to>mailto:rui", "<direct:to>mailto:ada")
        .replace(
            "<wsa:To ",
            "<wsa:FaultTo><wsa:Address>https://elm.example/faults</wsa:Address></wsa:FaultTo><wsa:To ",
        );
    let found = judged(&text, &Limits::default(), None);
    let told: Vec<(&str, &str)> = found
        .findings
        .iter()
        .map(|finding| (finding.rule, finding.location.rsplit('.').next().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("SOAP-66", "wsa:FaultTo"),
            ("SOAP-11", "Content-Type"),
            ("SOAP-120", "author"),
            ("SOAP-120", "intendedRecipient"),
        ]
    );
    assert!(!refuses(&found.findings));
    let to = found.recipients.unwrap().addresses;
    assert_eq!(to, ["ada.silva@direct.harbor.example.org".parse().unwrap()]);
    assert_eq!(found.from, "ada.okafor@direct.elm.example.org".parse().ok());
}

// rule: XDR-125
#[test]
fn a_delivery_notification_about_nothing_of_ours_is_refused() {
    let found = judged(NOTIFICATION, &Limits::default(), None);
    assert_eq!(errors(&found), ["XDR-125"]);

    let start = NOTIFICATION.find("<direct:notification").unwrap();
    let end = start + NOTIFICATION[start..].find("/>").unwrap() + "/>".len();
    let text = format!("{}{}", &NOTIFICATION[..start], &NOTIFICATION[end..]);
    assert_eq!(errors(&judged(&text, &Limits::default(), None)), [""; 0]);
    let at = text.find("PGRp").unwrap();
    let end = text.find("</xds:Document>").unwrap();
    let xml = "<d:messageDisposition xmlns:d='urn:direct:addressing'/>";
    let text = format!("{}{xml}{}", &text[..at], &text[end..]);
    assert_eq!(
        errors(&judged(&text, &Limits::default(), None)),
        ["XDR-125"]
    );
}

// rule: SOAP-24, SOAP-29, XDR-24, XDR-25
#[test]
fn a_document_that_cannot_be_used_is_not_also_told_to_be_missing() {
    let limits = Limits::default();
    let id = "<xds:Document id=\"urn:uuid:0f4a6c1e-2d3b-4c5d-8e6f-7a8b9c0d1e2f\">";
    for (from, to, expected) in [
        (">PENs", ">P.Ns", &["SOAP-29"][..]),
        ("Pgo=<", "<x/><", &["SOAP-24"]),
        // What belongs to nothing is told whatever else is wrong with it; and then its entry has none.
        (
            &format!("{id}PENs"),
            "<xds:Document id=\"other\">P.Ns",
            &["SOAP-29", "XDR-24", "XDR-25"],
        ),
    ] {
        assert!(FULL.contains(from), "{from}");
        let found = judged(&FULL.replace(from, to), &limits, None);
        assert_eq!(errors(&found), expected);
    }
}

// rule: LIM-14
#[test]
fn what_would_not_fit_into_one_mail_is_refused() {
    let limits = Limits {
        max_sealed_bytes: 10_000,
        ..Limits::default()
    };
    assert_eq!(errors(&judged(MINIMAL, &limits, None)), ["LIM-14"]);
}

// rule: XDR-104
#[test]
fn packaged_metadata_is_full_limited_or_minimal_by_what_it_holds() {
    let limits = Limits::default();
    let read = |text: &str| {
        let start = text.find("<lcm:SubmitObjectsRequest").unwrap();
        let end = "</lcm:SubmitObjectsRequest>";
        let stop = text.find(end).unwrap() + end.len();
        let kept = KeptXml::read(&text.as_bytes()[start..stop], &limits).unwrap();
        level_from_xdm(&Metadata::read(kept, &limits).unwrap(), &limits)
    };
    assert_eq!(read(FULL), Level::Full);
    assert_eq!(read(PACKAGED), Level::Limited);
    assert_eq!(read(MINIMAL), Level::Minimal);
}
