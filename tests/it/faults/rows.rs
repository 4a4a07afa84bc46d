//! The table of soap.md section 6: what is written otherwise in a good request, and the fault that it gets.

use super::SOAP12;

pub(super) const REQUEST: &str =
    "xds:ProvideAndRegisterDocumentSetRequest xmlns:xds=\"urn:ihe:iti:xds-b:2007\"";
pub(super) const ANSWER: &str =
    "rs:RegistryResponse xmlns:rs=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\"";
pub(super) const ACTION: &str = "<wsa:Action soap:mustUnderstand=\"true\">urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b</wsa:Action>";
pub(super) const REPLY_TO: &str =
    "<wsa:Address>http://www.w3.org/2005/08/addressing/anonymous</wsa:Address>";
pub(super) const SECURITY: &str = "<soap:Header><wsse:Security soap:mustUnderstand=\"true\" xmlns:wsse=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\"/>";
pub(super) const UNKNOWN_BLOCKS: &str = "<soap:Header><zq7value xmlns=\"urn:example:a\" soap:mustUnderstand=\"1\"/><b soap:mustUnderstand=\" true \"/>";

/// One wrong request and the fault that it gets.
pub(super) struct Row {
    /// The rows of section 6 that it shows.
    pub(super) shows: &'static [&'static str],
    /// What is written otherwise.
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) status: u16,
    pub(super) code: &'static str,
    /// Local names; all are of WS-Addressing.
    pub(super) subcodes: &'static [&'static str],
    /// The rule that the Detail names.
    pub(super) rule: &'static str,
    /// Whether the MessageID could be read.
    pub(super) is_related: bool,
}

const fn sender(
    shows: &'static [&'static str],
    from: &'static str,
    to: &'static str,
    subcodes: &'static [&'static str],
    rule: &'static str,
) -> Row {
    Row {
        shows,
        from,
        to,
        status: 400,
        code: "Sender",
        subcodes,
        rule,
        is_related: true,
    }
}

pub(super) const INVALID: &str = "InvalidAddressingHeader";

pub(super) const ROWS: [Row; 27] = [
    sender(&["SOAP-80"], "</soap:Body>", "</soap:Bod>", &[], "SOAP-80"),
    sender(
        &["SOAP-80"],
        "</soap:Body>",
        "<zq7value/></soap:Body>",
        &[],
        "SOAP-42",
    ),
    sender(
        &["SOAP-80"],
        "</soap:Envelope>",
        "<zq7value/></soap:Envelope>",
        &[],
        "SOAP-40",
    ),
    sender(
        &["SOAP-80"],
        "<soap:Body>",
        "<b:Body xmlns:b=\"http://www.w3.org/2005/03/soap-envelope\">",
        &[],
        "SOAP-40",
    ),
    sender(
        &["SOAP-80"],
        "</soap:Header>",
        "<zq7value></soap:Header>",
        &[],
        "SOAP-80",
    ),
    sender(
        &["SOAP-80"],
        "</soap:Header>",
        "&zq7value;</soap:Header>",
        &[],
        "SOAP-43",
    ),
    sender(
        &["SOAP-80"],
        "</soap:Header>",
        "</soap:Header>zq7value",
        &[],
        "SOAP-40",
    ),
    sender(&["SOAP-80"], REQUEST, "zq7value", &[], "SOAP-42"),
    Row {
        is_related: false,
        ..sender(
            &["SOAP-80"],
            "<soap:Envelope",
            "<!DOCTYPE a [<!ENTITY zq7value SYSTEM \"file:///etc/passwd\">]><soap:Envelope",
            &[],
            "SOAP-43",
        )
    },
    Row {
        is_related: false,
        ..sender(&["SOAP-80"], "<soap:Header>", "<Header>", &[], "SOAP-40")
    },
    Row {
        status: 500,
        code: "VersionMismatch",
        ..sender(&["SOAP-81"], SOAP12, "urn:zq7value", &[], "SOAP-44")
    },
    Row {
        status: 500,
        code: "MustUnderstand",
        ..sender(
            &["SOAP-82"],
            "<soap:Header>",
            UNKNOWN_BLOCKS,
            &[],
            "SOAP-82",
        )
    },
    sender(
        &["SOAP-83"],
        ACTION,
        "",
        &["MessageAddressingHeaderRequired"],
        "SOAP-60",
    ),
    sender(
        &["SOAP-84"],
        "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b<",
        "urn:zq7value<",
        &["ActionNotSupported"],
        "SOAP-84",
    ),
    sender(
        &["SOAP-85"],
        "<wsa:To ",
        "<wsa:To>urn:zq7value</wsa:To><wsa:To ",
        &[INVALID, "InvalidCardinality"],
        "SOAP-68",
    ),
    sender(
        &["SOAP-85"],
        ACTION,
        "<wsa:Action>urn:zq7value</wsa:Action><wsa:Action>urn:b</wsa:Action>",
        &[INVALID, "InvalidCardinality"],
        "SOAP-68",
    ),
    sender(
        &["SOAP-85"],
        "<wsa:ReplyTo>",
        "<wsa:ReplyTo/><wsa:ReplyTo>",
        &[INVALID, "InvalidCardinality"],
        "SOAP-68",
    ),
    sender(
        &["SOAP-85"],
        "</soap:Header>",
        "<wsa:MessageID>urn:zq7value</wsa:MessageID></soap:Header>",
        &[INVALID, "InvalidCardinality"],
        "SOAP-68",
    ),
    sender(
        &["SOAP-85"],
        REPLY_TO,
        "<wsa:Addres>urn:zq7value</wsa:Addres>",
        &[INVALID, "MissingAddressInEPR"],
        "SOAP-68",
    ),
    sender(
        &["SOAP-85"],
        "</soap:Header>",
        "<wsa:From>zq7value</wsa:From></soap:Header>",
        &[INVALID, "MissingAddressInEPR"],
        "SOAP-68",
    ),
    Row {
        is_related: false,
        ..sender(
            &["SOAP-85"],
            "urn:uuid:",
            "no IRI zq7value:",
            &[INVALID],
            "SOAP-63",
        )
    },
    sender(
        &["SOAP-86"],
        REQUEST,
        ANSWER,
        &[INVALID, "ActionMismatch"],
        "SOAP-86",
    ),
    sender(
        &["SOAP-87"],
        REPLY_TO,
        "<wsa:Address>https://zq7value.example/</wsa:Address>",
        &[INVALID, "OnlyAnonymousAddressSupported"],
        "SOAP-87",
    ),
    // Until SAML is built, a security header that must be understood is one that is not (SOAP-148).
    Row {
        status: 500,
        code: "MustUnderstand",
        ..sender(&["SOAP-88"], "<soap:Header>", SECURITY, &[], "SOAP-82")
    },
    sender(
        &["SOAP-89"],
        "<direct:from>mailto:",
        "<direct:from>mailto:zq7value@",
        &[],
        "SOAP-112",
    ),
    sender(
        &["SOAP-89"],
        "xmlns:direct=\"urn:direct:addressing\" soap:role",
        "xmlns:direct=\"urn:zq7value\" soap:role",
        &[],
        "SOAP-110",
    ),
    sender(&["SOAP-89"], "<direct:to>", "<direct:t>", &[], "SOAP-80"),
];
