//! The addressBlock in every variant, header block by header block.

use super::*;

const ROLE: &str = "urn:direct:addressing:destination";
const FROM: &str = "mailto:ngozi.okafor@direct.elm.example";
const TO: &str = "mailto:rui.silva@direct.harbor.example";

fn element(local: &str, text: &str) -> Element {
    Element {
        namespace: names::DIRECT.to_owned(),
        local: local.to_owned(),
        text: text.to_owned(),
        ..Element::default()
    }
}

fn with_attributes(mut element: Element, attributes: &[(&str, &str, &str)]) -> Element {
    let owned = attributes.iter().map(|(namespace, local, value)| {
        let [namespace, local, value] = [namespace, local, value].map(|text| (*text).to_owned());
        (namespace, local, value)
    });
    element.attributes = owned.collect();
    element
}

/// A block with role and relay as they must be.
fn block(children: &[(&str, &str)]) -> Element {
    let attributes = [
        (names::SOAP12, "role", ROLE),
        (names::SOAP12, "relay", "true"),
    ];
    let mut block = with_attributes(element("addressBlock", ""), &attributes);
    block.children = children
        .iter()
        .map(|(local, text)| element(local, text))
        .collect();
    block
}

fn read_with(
    blocks: &[Element],
    is_strict: bool,
) -> (Result<DirectHeaders, Fault>, Vec<(&'static str, String)>) {
    let mut findings = Vec::new();
    let read = read_direct(blocks, is_strict, &Limits::default(), &mut findings);
    let rules = findings.iter();
    (read, rules.map(|f| (f.rule, f.location.clone())).collect())
}

fn read(blocks: &[Element]) -> (DirectHeaders, Vec<&'static str>) {
    let (read, findings) = read_with(blocks, false);
    let rules = findings.into_iter().map(|(rule, _)| rule);
    (read.unwrap(), rules.collect())
}

fn addresses(headers: &DirectHeaders) -> Vec<String> {
    let block = headers.address_block.as_ref().unwrap();
    block.to.iter().map(ToString::to_string).collect()
}

// rule: SOAP-111
#[test]
fn role_and_relay_are_tolerated_in_every_form_of_the_field_and_by_no_strict_partner() {
    const SOAP: &str = names::SOAP12;
    for (attributes, warned) in [
        (vec![(SOAP, "role", ROLE), (SOAP, "relay", "true")], vec![]),
        (
            vec![("", "role", ROLE), ("", "relay", "true")],
            vec!["role", "relay"],
        ),
        (
            vec![(names::WSA, "role", ROLE), (SOAP, "relay", "true")],
            vec!["role"],
        ),
        (
            vec![(SOAP, "role", ROLE), (names::DIRECT, "relay", "true")],
            vec!["relay"],
        ),
        (
            vec![(SOAP, "role", ROLE), (SOAP, "relay", "1")],
            vec!["relay"],
        ),
        (
            vec![(SOAP, "role", ROLE), (SOAP, "relay", "false")],
            vec!["relay"],
        ),
        (
            vec![(SOAP, "role", "urn:other"), (SOAP, "relay", "true")],
            vec!["role"],
        ),
        (vec![], vec!["role", "relay"]),
    ] {
        let block = block(&[("from", FROM), ("to", TO)]);
        let block = [with_attributes(block, &attributes)];
        let expected = warned.iter();
        let expected: Vec<_> = expected
            .map(|name| ("SOAP-111", format!("direct:addressBlock.{name}")))
            .collect();
        let (lenient, findings) = read_with(&block, false);
        assert!(lenient.is_ok(), "{attributes:?}");
        assert_eq!(findings, expected, "{attributes:?}");
        let (strict, _) = read_with(&block, true);
        let refused = strict.err().map(|fault| fault.rule);
        assert_eq!(
            refused,
            (!warned.is_empty()).then_some("SOAP-111"),
            "{attributes:?}"
        );
    }
}

// rule: SOAP-110, SOAP-112
#[test]
fn a_block_that_does_not_say_who_sends_to_whom_is_a_fault() {
    let good = || block(&[("from", FROM), ("to", TO)]);
    let elsewhere = |local: &str, namespace: &str| Element {
        namespace: namespace.to_owned(),
        local: local.to_owned(),
        ..good()
    };
    let mut foreign_child = good();
    foreign_child.children[0].namespace = names::WSA.to_owned();
    for (blocks, rule) in [
        (vec![elsewhere("addressBlock", "urn:direct")], "SOAP-110"),
        (vec![elsewhere("addressBlock", "")], "SOAP-110"),
        (vec![elsewhere("AddressBlock", names::DIRECT)], "SOAP-110"),
        (vec![good(), good()], "SOAP-110"),
        (vec![foreign_child], "SOAP-112"),
        (vec![block(&[("to", TO)])], "SOAP-112"),
        (
            vec![block(&[("from", FROM), ("from", FROM), ("to", TO)])],
            "SOAP-112",
        ),
        (vec![block(&[("from", FROM)])], "SOAP-112"),
        (vec![block(&[("from", FROM), ("to", " ")])], "SOAP-112"),
        (vec![block(&[("from", FROM), ("to", ",;")])], "SOAP-112"),
        (
            vec![block(&[("from", FROM), ("to", "rui@harbor.example")])],
            "SOAP-112",
        ),
        (
            vec![block(&[("from", "ngozi@elm.example"), ("to", TO)])],
            "SOAP-112",
        ),
        (
            vec![block(&[("from", FROM), ("to", "https://harbor.example")])],
            "SOAP-112",
        ),
        (
            vec![block(&[("from", FROM), ("to", "mailto:rui")])],
            "SOAP-112",
        ),
        (
            vec![block(&[
                ("from", FROM),
                ("to", "mailto:Rui <rui@harbor.example>"),
            ])],
            "SOAP-112",
        ),
        (
            vec![block(&[
                ("from", FROM),
                ("to", "mailto:rui%0D%0A@harbor.example"),
            ])],
            "SOAP-112",
        ),
        (
            vec![block(&[
                ("from", FROM),
                ("to", "mailto:rui\r\nBcc: x@harbor.example"),
            ])],
            "SOAP-112",
        ),
        (
            vec![block(&[
                ("from", FROM),
                ("to", "mailto:rui%4@harbor.example"),
            ])],
            "SOAP-112",
        ),
        (
            vec![block(&[
                ("from", FROM),
                ("to", "mailto:%ff@harbor.example"),
            ])],
            "SOAP-112",
        ),
    ] {
        let (read, _) = read_with(&blocks, false);
        let fault = read.err().unwrap();
        assert_eq!(fault.rule, rule, "{blocks:?}");
        assert!(!fault.reason.contains("harbor"), "{}", fault.reason);
    }
}

// rule: SOAP-114, XDR-69
#[test]
fn recipients_are_read_however_an_edge_lists_them() {
    for (to, expected, warned) in [
        (
            vec!["mailto:a@b.example", "mailto:c@d.example"],
            "a@b.example c@d.example",
            0,
        ),
        (vec!["MailTo:a@b.example"], "a@b.example", 0),
        (
            vec!["mailto:a@b.example,mailto:c@d.example"],
            "a@b.example c@d.example",
            1,
        ),
        (
            vec!["mailto:a@b.example; c@d.example ;"],
            "a@b.example c@d.example",
            1,
        ),
        (vec!["mailto:a%2Bx@b%2Eexample"], "a+x@b.example", 0),
        (
            vec!["mailto:a@b.example?subject=Hello, you; there"],
            "a@b.example",
            1,
        ),
        (
            vec!["mailto:a@b.example?subject=x,c@d.example"],
            "a@b.example c@d.example",
            2,
        ),
        (
            vec!["mailto:a@b.example", "mailto:a@B.Example"],
            "a@b.example",
            0,
        ),
        (vec!["\n  mailto:a@b.example\n"], "a@b.example", 0),
    ] {
        let mut children = vec![("from", FROM), ("unknown", "x")];
        children.extend(to.iter().map(|text| ("to", *text)));
        let (headers, rules) = read(&[block(&children)]);
        assert_eq!(addresses(&headers).join(" "), expected, "{to:?}");
        assert_eq!(rules, vec!["SOAP-114"; warned], "{to:?}");
    }
}

// rule: LIM-9
#[test]
fn ten_thousand_recipients_end_at_the_limit() {
    let many: Vec<String> = (0..10_000)
        .map(|n| format!("mailto:r{n}@b.example"))
        .collect();
    let mut apart = vec![("from", FROM)];
    apart.extend(many.iter().map(|text| ("to", text.as_str())));
    let joined = many.join(",");
    for children in [apart, vec![("from", FROM), ("to", &joined)]] {
        let (headers, rules) = read(&[block(&children)]);
        assert_eq!(addresses(&headers).len(), Limits::default().max_recipients);
        assert_eq!(rules.last(), Some(&"LIM-9"));
        assert!(rules.len() < 3, "{rules:?}");
    }
    // As often as one likes, as long as it is the same.
    let one = vec![("to", "mailto:a@b.example"); 10_000];
    let (headers, rules) = read(&[block(&[vec![("from", FROM)], one].concat())]);
    assert_eq!((addresses(&headers).len(), rules.len()), (1, 0));
}

// rule: SOAP-115, SOAP-116, SOAP-117
#[test]
fn the_level_of_a_header_block_of_its_own_wins_over_that_inside() {
    use MetadataLevel::{Minimal, Xds};
    for (own, inside, expected, rules) in [
        (None, None, None, vec![]),
        (Some("minimal"), None, Some(Minimal), vec![]),
        (Some(" XDS\n"), None, Some(Xds), vec![]),
        (None, Some("minimal"), Some(Minimal), vec![]),
        (Some("XDS"), Some("XDS"), Some(Xds), vec![]),
        (Some("XDS"), Some("minimal"), Some(Xds), vec!["SOAP-116"]),
        (
            Some("minimal"),
            Some("full"),
            Some(Minimal),
            vec!["SOAP-116"],
        ),
        (
            Some("full"),
            Some("minimal"),
            None,
            vec!["SOAP-116", "SOAP-117"],
        ),
        (Some("xds"), None, None, vec!["SOAP-117"]),
        (Some("Minimal"), None, None, vec!["SOAP-117"]),
        (Some(""), None, None, vec!["SOAP-117"]),
        (None, Some("XDS."), None, vec!["SOAP-117"]),
    ] {
        let mut children = vec![("from", FROM), ("to", TO)];
        children.extend(inside.map(|value| ("metadata-level", value)));
        let mut blocks = vec![block(&children)];
        blocks.extend(own.map(|value| element("metadata-level", value)));
        let (headers, found) = read(&blocks);
        assert_eq!(headers.metadata_level, expected, "{own:?} {inside:?}");
        assert_eq!(found, rules, "{own:?} {inside:?}");
    }
}

// rule: SOAP-118
#[test]
fn what_a_notification_is_about_is_read_in_three_forms_by_their_precedence() {
    let about = |id: Option<&str>| {
        let attribute = id.map(|id| ("", "relatesTo", id));
        with_attributes(element("notification", ""), attribute.as_slice())
    };
    for (inside, own, text, expected, is_warned) in [
        (None, None, None, None, false),
        (Some("urn:a"), None, None, Some("urn:a"), false),
        (None, Some("urn:b"), None, Some("urn:b"), false),
        (None, None, Some(" urn:c "), Some("urn:c"), false),
        (
            Some("urn:a"),
            Some("urn:a"),
            Some("urn:a"),
            Some("urn:a"),
            false,
        ),
        (
            Some("urn:a"),
            Some("urn:b"),
            Some("urn:c"),
            Some("urn:a"),
            true,
        ),
        (None, Some("urn:b"), Some("urn:c"), Some("urn:b"), true),
        (Some(" "), Some("urn:b"), None, Some("urn:b"), false),
    ] {
        let mut block = block(&[("from", FROM), ("to", TO)]);
        block.children.push(about(inside));
        block
            .children
            .extend(text.map(|id| element("relatesTo", id)));
        let (headers, rules) = read(&[about(own), block]);
        assert_eq!(headers.relates_to.as_deref(), expected);
        assert_eq!(
            headers.address_block.unwrap().relates_to.as_deref(),
            expected
        );
        assert_eq!(
            rules.contains(&"SOAP-118"),
            is_warned,
            "{inside:?} {own:?} {text:?}"
        );
    }
}

// rule: SOAP-119, SOAP-121
#[test]
fn only_true_asks_for_notices_of_final_delivery() {
    const WISH: &str = "X-DIRECT-FINAL-DESTINATION-DELIVERY";
    for (value, is_asked) in [
        ("true", true),
        (" true\n", true),
        ("1", false),
        ("TRUE", false),
        ("", false),
    ] {
        let children = [
            ("from", FROM),
            ("to", TO),
            ("Y-OTHER", "true"),
            (WISH, value),
        ];
        let (headers, rules) = read(&[block(&children)]);
        assert_eq!(
            headers.address_block.unwrap().final_delivery,
            is_asked,
            "{value}"
        );
        assert_eq!(rules.contains(&"SOAP-119"), !is_asked, "{value}");
    }
}
