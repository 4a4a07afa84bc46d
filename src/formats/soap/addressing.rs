//! WS-Addressing 1.0 (soap.md section 5) and the Direct addressing header (section 9), read from header blocks.

use super::{
    ANONYMOUS, NONE,
    fault::{Fault, Subcode},
    header::{Element, boolean, is_for_us},
};
use crate::formats::{
    finding::Finding,
    ids::{DirectAddress, SoapMessageId},
    limits::Limits,
    redacted::Redacted,
    xdr::ErrorCode,
    xml::{names, write::XmlWriter},
};

/// The role of the addressBlock (SOAP-111).
const DESTINATION_ROLE: &str = "urn:direct:addressing:destination";

/// The WS-Addressing headers of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// What is asked for; empty only in an answer whose sender left it out.
    pub action: String,
    /// The id that answers and notifications relate to.
    pub message_id: Option<SoapMessageId>,
    /// Where the answer goes; `None` is the anonymous address.
    pub reply_to: Option<String>,
    /// The endpoint that was meant.
    pub to: Option<String>,
    /// The message that this one answers.
    pub relates_to: Option<String>,
}

/// The `direct:metadata-level` header (SOAP-115).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataLevel {
    /// `minimal`: Direct minimal metadata.
    Minimal,
    /// `XDS`: full metadata.
    Xds,
}

impl MetadataLevel {
    /// The value on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Xds => "XDS",
        }
    }
}

/// The `direct:addressBlock` header: who sends to whom (SOAP-110 to SOAP-121).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    /// `direct:from`.
    pub from: DirectAddress,
    /// `direct:to`, at least one, duplicates collapsed to the first (XDR-69).
    pub to: Vec<DirectAddress>,
    /// `direct:notification/@relatesTo`: the wsa:MessageID of the request that a delivery notification is about.
    pub relates_to: Option<String>,
    /// Whether notifications of final delivery are asked for (SOAP-119).
    pub final_delivery: bool,
}

impl AddressBlock {
    /// Writes the block, and the level as a header block of its own (SOAP-111, SOAP-116).
    pub(crate) fn write(&self, writer: &mut XmlWriter) {
        writer.start(
            "direct:addressBlock",
            &[
                ("xmlns:direct", names::DIRECT),
                ("soap:role", DESTINATION_ROLE),
                ("soap:relay", "true"),
            ],
        );
        writer.leaf("direct:from", &[], &self.from.to_mailto());
        for to in &self.to {
            writer.leaf("direct:to", &[], &to.to_mailto());
        }
        if let Some(relates_to) = &self.relates_to {
            writer.empty("direct:notification", &[("relatesTo", relates_to)]);
        }
        if self.final_delivery {
            writer.leaf("direct:X-DIRECT-FINAL-DESTINATION-DELIVERY", &[], "true");
        }
        writer.end();
    }
}

/// What the Direct header blocks say.
#[derive(Debug, Default)]
pub(crate) struct DirectHeaders {
    pub(crate) address_block: Option<AddressBlock>,
    pub(crate) metadata_level: Option<MetadataLevel>,
    pub(crate) relates_to: Option<String>,
}

/// Reads the WS-Addressing headers of a request (SOAP-60 to SOAP-68).
pub(crate) fn read_addressing(
    blocks: &[Element],
    findings: &mut Vec<Finding>,
) -> Result<Addressing, Fault> {
    let action = single(blocks, "Action")?;
    let message_id = match single(blocks, "MessageID")? {
        Some(block) => Some(block.trimmed().parse::<SoapMessageId>().map_err(|error| {
            invalid_header(
                "SOAP-63",
                format!("wsa:MessageID must be an absolute IRI: {error}"),
            )
        })?),
        None => None,
    };
    if let Some(block) = action {
        if block.text != block.trimmed() {
            findings.push(Finding::warning(
                "SOAP-61",
                "wsa:Action",
                "white space around the Action",
            ));
        }
        let must_understand = block
            .attribute(names::SOAP12, "mustUnderstand")
            .and_then(boolean);
        if must_understand != Some(true) {
            findings.push(Finding::warning(
                "SOAP-60",
                "wsa:Action",
                "the Action must carry soap:mustUnderstand with the value true",
            ));
        }
    }
    single(blocks, "FaultTo")?.map(address_of).transpose()?;
    let reply_to = single(blocks, "ReplyTo")?.map(address_of).transpose()?;
    let relates_to = blocks
        .iter()
        .find(|block| block.is(names::WSA, "RelatesTo"))
        .map(|block| block.trimmed().to_owned());
    Ok(Addressing {
        action: action
            .map(|block| block.trimmed().to_owned())
            .unwrap_or_default(),
        message_id,
        reply_to: reply_to.filter(|address| address != ANONYMOUS),
        to: single(blocks, "To")?.map(|block| block.trimmed().to_owned()),
        relates_to,
    })
}

/// Whether the request is one that is served here (SOAP-60, SOAP-87).
pub(crate) fn check_request(addressing: &Addressing, actions: &[&str]) -> Result<(), Fault> {
    if addressing.action.is_empty() {
        return Err(Fault::sender("SOAP-60", "wsa:Action is required")
            .with_subcodes(&[Subcode::MessageAddressingHeaderRequired]));
    }
    if !actions.contains(&addressing.action.as_str()) {
        let mut fault = Fault::sender("SOAP-84", "the wsa:Action is not supported")
            .with_subcodes(&[Subcode::ActionNotSupported]);
        fault.problem_action = Some(Box::new(Redacted::new(addressing.action.clone())));
        return Err(fault);
    }
    match addressing.reply_to.as_deref() {
        None | Some(NONE) => Ok(()),
        Some(_) => Err(
            Fault::sender("SOAP-87", "wsa:ReplyTo must be the anonymous address").with_subcodes(&[
                Subcode::InvalidAddressingHeader,
                Subcode::OnlyAnonymousAddressSupported,
            ]),
        ),
    }
}

/// The one header of that name that is meant for us.
fn single<'b>(blocks: &'b [Element], local: &str) -> Result<Option<&'b Element>, Fault> {
    let mut found = blocks
        .iter()
        .filter(|block| block.is(names::WSA, local) && is_for_us(block));
    let first = found.next();
    if found.next().is_some() {
        return Err(
            Fault::sender("SOAP-68", format!("there is more than one wsa:{local}")).with_subcodes(
                &[
                    Subcode::InvalidAddressingHeader,
                    Subcode::InvalidCardinality,
                ],
            ),
        );
    }
    Ok(first)
}

/// The Address of an endpoint reference.
fn address_of(block: &Element) -> Result<String, Fault> {
    let address = block
        .children(names::WSA, "Address")
        .next()
        .map(Element::trimmed);
    match address {
        Some(address) if !address.is_empty() => Ok(address.to_owned()),
        _ => Err(
            Fault::sender("SOAP-68", format!("wsa:{} has no wsa:Address", block.local))
                .with_subcodes(&[
                    Subcode::InvalidAddressingHeader,
                    Subcode::MissingAddressInEpr,
                ]),
        ),
    }
}

fn invalid_header(rule: &'static str, reason: String) -> Fault {
    Fault::sender(rule, reason).with_subcodes(&[Subcode::InvalidAddressingHeader])
}

/// Reads the Direct header blocks (SOAP-110 to SOAP-121). `is_strict` also asks for role and relay (SOAP-111).
pub(crate) fn read_direct(
    blocks: &[Element],
    is_strict: bool,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> Result<DirectHeaders, Fault> {
    if blocks
        .iter()
        .any(|block| block.local == "addressBlock" && block.namespace != names::DIRECT)
    {
        return Err(Fault::sender(
            "SOAP-110",
            "addressBlock must be in the namespace urn:direct:addressing",
        ));
    }
    let mut found = blocks
        .iter()
        .filter(|block| block.is(names::DIRECT, "addressBlock"));
    let block = found.next();
    if found.next().is_some() {
        return Err(Fault::sender(
            "SOAP-110",
            "there is more than one direct:addressBlock",
        ));
    }
    let own = |local: &str| {
        blocks
            .iter()
            .find(|candidate| candidate.is(names::DIRECT, local))
    };
    let inside = |local| block.and_then(|block| block.children(names::DIRECT, local).next());
    let level = own("metadata-level").or_else(|| inside("metadata-level"));
    let relates_to = inside("notification")
        .and_then(|element| element.attribute("", "relatesTo"))
        .or_else(|| own("notification").and_then(|element| element.attribute("", "relatesTo")))
        .or_else(|| inside("relatesTo").map(Element::trimmed))
        .map(|id| id.trim().to_owned())
        .filter(|id| !id.is_empty());
    let address_block = match block {
        Some(block) => Some(read_block(
            block,
            relates_to.clone(),
            is_strict,
            limits,
            findings,
        )?),
        None => None,
    };
    Ok(DirectHeaders {
        address_block,
        metadata_level: level.and_then(|element| read_level(element, findings)),
        relates_to,
    })
}

/// SOAP-117: any other value is a defect of the metadata, not of the message.
fn read_level(element: &Element, findings: &mut Vec<Finding>) -> Option<MetadataLevel> {
    match element.trimmed() {
        "minimal" => Some(MetadataLevel::Minimal),
        "XDS" => Some(MetadataLevel::Xds),
        other => {
            findings.push(
                Finding::error(
                    "SOAP-117",
                    ErrorCode::XdsRepositoryMetadataError,
                    "direct:metadata-level",
                    "the value must be minimal or XDS",
                )
                .with_value(other),
            );
            None
        }
    }
}

fn read_block(
    block: &Element,
    relates_to: Option<String>,
    is_strict: bool,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> Result<AddressBlock, Fault> {
    check_role_and_relay(block, is_strict, findings)?;
    let mut from = block.children(names::DIRECT, "from");
    let (Some(sender), None) = (from.next(), from.next()) else {
        return Err(Fault::sender(
            "SOAP-112",
            "direct:addressBlock needs exactly one direct:from",
        ));
    };
    let sender = read_mailto(sender.trimmed(), "direct:from")?;
    let mut to: Vec<DirectAddress> = Vec::new();
    let mut is_crowded = false;
    for element in block.children(names::DIRECT, "to") {
        let mut pieces = element
            .trimmed()
            .split([',', ';'])
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .peekable();
        let Some(first) = pieces.next() else {
            return Err(Fault::sender("SOAP-112", "a direct:to is empty"));
        };
        if pieces.peek().is_some() {
            findings.push(Finding::warning(
                "SOAP-114",
                "direct:to",
                "several addresses in one direct:to; each should have its own",
            ));
        }
        let addresses = std::iter::once(read_mailto(first, "direct:to"))
            // Only the first of a joined list needs the scheme.
            .chain(
                pieces.map(|piece| read_address(strip_scheme(piece).unwrap_or(piece), "direct:to")),
            );
        for address in addresses {
            let address = address?;
            if to.contains(&address) {
                continue;
            }
            if to.len() == limits.max_recipients {
                is_crowded = true;
                break;
            }
            to.push(address);
        }
    }
    if is_crowded {
        findings.push(Finding::error(
            "LIM-9",
            ErrorCode::XdsRepositoryOutOfResources,
            "direct:to",
            format!("there are more than {} recipients", limits.max_recipients),
        ));
    }
    if to.is_empty() {
        return Err(Fault::sender(
            "SOAP-112",
            "direct:addressBlock needs at least one direct:to",
        ));
    }
    Ok(AddressBlock {
        from: sender,
        to,
        relates_to,
        final_delivery: read_final_delivery(block, findings),
    })
}

fn check_role_and_relay(
    block: &Element,
    is_strict: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let role = block.attribute(names::SOAP12, "role").map(str::trim);
    let relay = block.attribute(names::SOAP12, "relay").and_then(boolean);
    if role == Some(DESTINATION_ROLE) && relay == Some(true) {
        return Ok(());
    }
    let text = "direct:addressBlock must carry soap:role urn:direct:addressing:destination and soap:relay true";
    if is_strict {
        return Err(Fault::sender("SOAP-111", text));
    }
    findings.push(Finding::warning("SOAP-111", "direct:addressBlock", text));
    Ok(())
}

/// SOAP-119: anything but `true` is told, and the message goes on without it.
fn read_final_delivery(block: &Element, findings: &mut Vec<Finding>) -> bool {
    let Some(element) = block
        .children(names::DIRECT, "X-DIRECT-FINAL-DESTINATION-DELIVERY")
        .next()
    else {
        return false;
    };
    if element.trimmed() == "true" {
        return true;
    }
    findings.push(
        Finding::warning(
            "SOAP-119",
            "direct:X-DIRECT-FINAL-DESTINATION-DELIVERY",
            "the value must be true; the request for notifications is ignored",
        )
        .with_value(element.trimmed()),
    );
    false
}

/// A `mailto:` URI with one address (SOAP-112, RFC 6068).
fn read_mailto(text: &str, element: &str) -> Result<DirectAddress, Fault> {
    match strip_scheme(text) {
        Some(rest) => read_address(rest, element),
        None => Err(Fault::sender(
            "SOAP-112",
            format!("{element} must be a mailto: URI"),
        )),
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("mailto").then_some(rest)
}

fn read_address(text: &str, element: &str) -> Result<DirectAddress, Fault> {
    // RFC 6068 header fields after `?` are none of our business (SOAP-114).
    let path = text.split_once('?').map_or(text, |(path, _)| path);
    let invalid = |why: &str| {
        Fault::sender(
            "SOAP-112",
            format!("{element} is not a usable address: {why}"),
        )
    };
    let path = percent_decode(path).ok_or_else(|| invalid("its percent-encoding is wrong"))?;
    path.parse()
        .map_err(|error: crate::formats::ids::AddressError| invalid(&error.to_string()))
}

/// Percent-decoding (RFC 3986 §2.1). `None` if it is wrong, or the outcome is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            octets.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        octets.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(octets).ok()
}
