//! The Direct addressing header (soap.md section 9): who sends to whom, with metadata of which level, and what a
//! delivery notification is about. What edges write otherwise than the rules say is read, each with a warning.

#[cfg(test)]
mod tests;

use super::{
    addressing::percent_decode,
    fault::Fault,
    header::{Element, boolean},
};
use crate::formats::{
    finding::Finding,
    ids::{AddressError, DirectAddress},
    limits::Limits,
    xdr::ErrorCode,
    xml::{names, write::XmlWriter},
};

/// The role of the addressBlock (SOAP-111).
const DESTINATION_ROLE: &str = "urn:direct:addressing:destination";

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
    /// Writes the block, without the level, which is a header block of its own (SOAP-111, SOAP-116).
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

/// Reads the Direct header blocks. `is_strict` refuses a role or relay that is not exactly as it must be (SOAP-111).
pub(crate) fn read_direct(
    blocks: &[Element],
    is_strict: bool,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> Result<DirectHeaders, Fault> {
    let block = the_block(blocks)?;
    let metadata_level = read_level(blocks, block, findings);
    let relates_to = read_relates_to(blocks, block, findings);
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
        metadata_level,
        relates_to,
    })
}

/// The one addressBlock. One that only looks like it must not be passed over: the message would go to whomever its
/// metadata names (SOAP-110).
fn the_block(blocks: &[Element]) -> Result<Option<&Element>, Fault> {
    let mut found = None;
    for block in blocks {
        if !block.local.eq_ignore_ascii_case("addressBlock") {
            continue;
        }
        if !block.is(names::DIRECT, "addressBlock") {
            return Err(Fault::sender(
                "SOAP-110",
                "addressBlock must be in the namespace urn:direct:addressing and be written so",
            ));
        }
        if found.replace(block).is_some() {
            return Err(Fault::sender(
                "SOAP-110",
                "there is more than one direct:addressBlock",
            ));
        }
    }
    Ok(found)
}

/// The level that counts: that of a header block of its own, else that in the addressBlock (SOAP-116). Any value but
/// the two is a defect of the metadata, not of the message (SOAP-117).
fn read_level(
    blocks: &[Element],
    block: Option<&Element>,
    findings: &mut Vec<Finding>,
) -> Option<MetadataLevel> {
    const NAME: &str = "direct:metadata-level";
    let own = blocks
        .iter()
        .filter(|block| block.is(names::DIRECT, "metadata-level"));
    let inside = block
        .into_iter()
        .flat_map(|block| block.children(names::DIRECT, "metadata-level"));
    let mut given = own.chain(inside).map(Element::trimmed);
    let value = given.next()?;
    if given.any(|other| other != value) {
        findings.push(Finding::warning(
            "SOAP-116",
            NAME,
            "it is given more than once, with different values; the first header block of its own counts",
        ));
    }
    match value {
        "minimal" => Some(MetadataLevel::Minimal),
        "XDS" => Some(MetadataLevel::Xds),
        other => {
            findings.push(
                Finding::error(
                    "SOAP-117",
                    ErrorCode::XdsRepositoryMetadataError,
                    NAME,
                    "the value must be minimal or XDS",
                )
                .with_value(other),
            );
            None
        }
    }
}

/// What a delivery notification is about, by the precedence of SOAP-118: the attribute in the block, the attribute of
/// a header block of its own, a text child of the block.
fn read_relates_to(
    blocks: &[Element],
    block: Option<&Element>,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let of = |element: &Element| element.attribute("", "relatesTo").map(str::to_owned);
    let inside = |local: &'static str| {
        block
            .into_iter()
            .flat_map(move |block| block.children(names::DIRECT, local))
    };
    let own = blocks
        .iter()
        .filter(|block| block.is(names::DIRECT, "notification"));
    let mut given = inside("notification")
        .filter_map(of)
        .chain(own.filter_map(of))
        .chain(inside("relatesTo").map(|element| element.text.clone()))
        .map(|id| id.trim().to_owned())
        .filter(|id| !id.is_empty());
    let id = given.next()?;
    if given.any(|other| other != id) {
        findings.push(Finding::warning(
            "SOAP-118",
            "direct:notification",
            "relatesTo is given more than once, with different values; the attribute in the addressBlock counts first",
        ));
    }
    Some(id)
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
    Ok(AddressBlock {
        from: read_mailto(sender.trimmed(), "direct:from", findings)?,
        to: read_recipients(block, limits, findings)?,
        relates_to,
        final_delivery: read_final_delivery(block, findings),
    })
}

fn check_role_and_relay(
    block: &Element,
    is_strict: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let is_role = |text: &str| text.trim() == DESTINATION_ROLE;
    let is_relay = |text: &str| boolean(text) == Some(true);
    let must_be = [
        ("role", DESTINATION_ROLE, &is_role as &dyn Fn(&str) -> bool),
        ("relay", "true", &is_relay),
    ];
    for (name, exactly, is_meant) in must_be {
        if block.attribute(names::SOAP12, name) == Some(exactly) {
            continue;
        }
        let text = format!(
            "direct:addressBlock must carry the attribute {name} of the SOAP envelope's namespace with the value {exactly}"
        );
        if is_strict {
            return Err(Fault::sender("SOAP-111", text));
        }
        let given = [names::SOAP12, "", names::WSA, names::DIRECT]
            .into_iter()
            .find_map(|namespace| block.attribute(namespace, name));
        let instead = match given {
            None => "it is absent",
            Some(value) if is_meant(value) => "it is written otherwise",
            Some(_) => "it has another value",
        };
        findings.push(Finding::warning(
            "SOAP-111",
            format!("direct:addressBlock.{name}"),
            format!("{text}; {instead}"),
        ));
    }
    Ok(())
}

/// Every address of every direct:to, each once (XDR-69), at most as many as an exchange may have (LIM-9).
fn read_recipients(
    block: &Element,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> Result<Vec<DirectAddress>, Fault> {
    let mut to: Vec<DirectAddress> = Vec::new();
    for element in block.children(names::DIRECT, "to") {
        let joined = split_joined(element.trimmed());
        let Some((first, others)) = joined.split_first() else {
            return Err(Fault::sender("SOAP-112", "a direct:to is empty"));
        };
        if !others.is_empty() {
            warn_once(
                findings,
                "direct:to",
                "several addresses in one direct:to; each should have its own",
            );
        }
        // Only the first of a joined list needs the scheme.
        let others = others
            .iter()
            .map(|piece| strip_scheme(piece).unwrap_or(piece));
        let first = std::iter::once((*first, true));
        for (piece, has_scheme) in first.chain(others.map(|piece| (piece, false))) {
            let address = match has_scheme {
                true => read_mailto(piece, "direct:to", findings)?,
                false => read_address(piece, "direct:to", findings)?,
            };
            if to.contains(&address) {
                continue;
            }
            if to.len() == limits.max_recipients {
                findings.push(Finding::error(
                    "LIM-9",
                    ErrorCode::XdsRepositoryOutOfResources,
                    "direct:to",
                    format!("there are more than {} recipients", limits.max_recipients),
                ));
                return Ok(to);
            }
            to.push(address);
        }
    }
    if to.is_empty() {
        return Err(Fault::sender(
            "SOAP-112",
            "direct:addressBlock needs at least one direct:to",
        ));
    }
    Ok(to)
}

/// The pieces of a list that an edge joined by `,` or `;` (SOAP-114). After a `?` they may also stand in the header
/// fields of that one URI (RFC 6068 §2); but whatever could be an address is one, so that no recipient is lost.
fn split_joined(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut is_in_fields = false;
    for piece in text.split([',', ';']).map(str::trim) {
        if piece.is_empty() || is_in_fields && !piece.contains('@') {
            continue;
        }
        is_in_fields = piece.contains('?');
        pieces.push(piece);
    }
    pieces
}

/// SOAP-119: anything but `true` is told, and the message goes on without it.
fn read_final_delivery(block: &Element, findings: &mut Vec<Finding>) -> bool {
    const LOCAL: &str = "X-DIRECT-FINAL-DESTINATION-DELIVERY";
    let Some(element) = block.children(names::DIRECT, LOCAL).next() else {
        return false;
    };
    if element.trimmed() == "true" && element.children.is_empty() {
        return true;
    }
    findings.push(
        Finding::warning(
            "SOAP-119",
            format!("direct:{LOCAL}"),
            "the value must be true; the request for notifications is ignored",
        )
        .with_value(element.trimmed()),
    );
    false
}

/// A `mailto:` URI with one address (SOAP-112, RFC 6068).
fn read_mailto(
    text: &str,
    element: &str,
    findings: &mut Vec<Finding>,
) -> Result<DirectAddress, Fault> {
    match strip_scheme(text) {
        Some(rest) => read_address(rest, element, findings),
        None => Err(Fault::sender(
            "SOAP-112",
            format!("{element} must be a mailto: URI"),
        )),
    }
}

/// The address of a `mailto:` URI with one address, written as kindly as in an addressBlock. `None`: it is none.
pub(crate) fn mailto(text: &str) -> Option<DirectAddress> {
    read_mailto(text, "", &mut Vec::new()).ok()
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("mailto").then_some(rest)
}

fn read_address(
    text: &str,
    element: &str,
    findings: &mut Vec<Finding>,
) -> Result<DirectAddress, Fault> {
    let path = match text.split_once('?') {
        Some((path, _)) => {
            warn_once(
                findings,
                element,
                "the header fields of a mailto: URI are ignored; only its address counts",
            );
            path
        }
        None => text,
    };
    let invalid = |why: &str| {
        Fault::sender(
            "SOAP-112",
            format!("{element} is not a usable address: {why}"),
        )
    };
    let path = percent_decode(path).ok_or_else(|| invalid("its percent-encoding is wrong"))?;
    path.parse()
        .map_err(|error: AddressError| invalid(&error.to_string()))
}

/// A tolerated deviation that a message may show many times.
fn warn_once(findings: &mut Vec<Finding>, location: &str, text: &str) {
    let is_known = findings
        .iter()
        .any(|finding| finding.location == location && finding.text == text);
    if !is_known {
        findings.push(Finding::warning("SOAP-114", location, text));
    }
}
