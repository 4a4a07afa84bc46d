//! WS-Addressing 1.0 (soap.md section 5), read from header blocks.

pub(crate) use super::address_block::{DirectHeaders, read_direct};
use super::{
    ANONYMOUS, NONE,
    fault::{Fault, Subcode},
    header::{Element, boolean, is_for_us},
};
use crate::formats::{finding::Finding, ids::SoapMessageId, redacted::Redacted, xml::names};

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

impl Addressing {
    /// Whether its sender wants no answer, neither a RegistryResponse nor a fault (SOAP-70).
    pub fn wants_no_answer(&self) -> bool {
        self.reply_to.as_deref() == Some(NONE)
    }
}

/// What an answer needs to know of a request, however early it ends (SOAP-67, SOAP-70).
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) message_id: Option<SoapMessageId>,
    pub(crate) wants_no_answer: bool,
}

impl Origin {
    /// Looks into the header blocks that could be read. Nothing is judged here.
    pub(crate) fn of(blocks: &[Element]) -> Self {
        let first = |local| blocks.iter().find(|block| block.is(names::WSA, local));
        Self {
            message_id: first("MessageID").and_then(|block| block.trimmed().parse().ok()),
            wants_no_answer: first("ReplyTo")
                .is_some_and(|block| address_of(block).is_ok_and(|address| address == NONE)),
        }
    }
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
    single(blocks, "From")?.map(address_of).transpose()?;
    let fault_to = single(blocks, "FaultTo")?.map(address_of).transpose()?;
    if fault_to.is_some_and(|address| address != ANONYMOUS && address != NONE) {
        findings.push(Finding::warning(
            "SOAP-66",
            "wsa:FaultTo",
            "faults are answered on the same connection, not to another address",
        ));
    }
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

/// What a request should carry and can do without (SOAP-63, SOAP-64).
pub(crate) fn tell_missing(blocks: &[Element], findings: &mut Vec<Finding>) {
    for (rule, local, text) in [
        (
            "SOAP-63",
            "MessageID",
            "it is missing, so that the answer relates to no message; it is required where an answer is expected",
        ),
        (
            "SOAP-64",
            "ReplyTo",
            "it is missing, which means the anonymous address; it should be written",
        ),
    ] {
        if !blocks.iter().any(|block| block.is(names::WSA, local)) {
            findings.push(Finding::warning(rule, format!("wsa:{local}"), text));
        }
    }
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
