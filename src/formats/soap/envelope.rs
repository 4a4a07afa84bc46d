//! The envelope around a message: its version, its header, and the borders of its body (soap.md sections 4 to 6).

use super::{
    fault::{Fault, FaultCode, SoapVersion},
    header::{Element, boolean, is_for_us, read_blocks},
};
use crate::formats::{
    finding::Finding,
    xdr::ErrorCode,
    xml::{
        chars::is_blank,
        kept::KeptXml,
        names,
        pull::{Node, Pull, XmlError},
    },
};

/// Why the head of an envelope is refused: by a fault, or because it could not be read at all.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// To be answered.
    Fault(Box<Fault>),
    /// The octets did not come.
    Io(std::io::Error),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<XmlError> for Refusal {
    fn from(error: XmlError) -> Self {
        match error {
            XmlError::Io(error) => Self::Io(error),
            refused => Self::Fault(Box::new(Fault::from(&refused))),
        }
    }
}

/// An envelope before its body.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The header blocks; those that come before a defect are there when it is found, so that its answer can relate to
    /// the message.
    pub(crate) blocks: Vec<Element>,
    /// Whether envelope and header are held to the schemas (MD-99): the text of the header is kept for them.
    pub(crate) is_strict: bool,
    /// soap:Header as a document of its own, where it is kept.
    pub(crate) text: Option<KeptXml>,
    /// What is wrong with the envelope itself, where it is held to the schemas.
    pub(crate) findings: Vec<Finding>,
}

impl Head {
    /// SOAP 1.2 part 1, 5.1 and 5.3: its elements carry attributes of other namespaces alone.
    fn check_attributes(&mut self, pull: &Pull<'_>, element: &str) {
        let is_known = |namespace: &str| !namespace.is_empty() && namespace != names::SOAP12;
        if self.is_strict && !pull.attributes().all(|(namespace, ..)| is_known(namespace)) {
            self.findings.push(Finding::error(
                "MD-99",
                ErrorCode::XdsRepositoryError,
                element,
                "an attribute that is not known here; those of other namespaces are accepted",
            ));
        }
    }
}

/// Reads up to the start tag of soap:Body. `accepts_soap11`: for reading answers, where a peer may say in SOAP 1.1 that
/// it cannot speak 1.2.
pub(crate) fn read_head(
    pull: &mut Pull<'_>,
    accepts_soap11: bool,
    head: &mut Head,
) -> Result<(), Refusal> {
    pull.next()?;
    continue_head(pull, accepts_soap11, head)
}

/// As [`read_head`], when the root's start tag was read already.
pub(crate) fn continue_head(
    pull: &mut Pull<'_>,
    accepts_soap11: bool,
    head: &mut Head,
) -> Result<(), Refusal> {
    if pull.local() != "Envelope" {
        return Err(Fault::sender("SOAP-40", "the root element must be soap:Envelope").into());
    }
    let soap = pull.namespace().to_owned();
    let mismatch = match soap.as_str() {
        names::SOAP12 => None,
        names::SOAP11 if accepts_soap11 => None,
        names::SOAP11 => Some(Fault {
            version: SoapVersion::V11,
            ..version_mismatch("SOAP-45", "SOAP 1.2 is required (ITI TF-2 Appendix V)")
        }),
        _ => Some(version_mismatch(
            "SOAP-44",
            "the envelope must be one of SOAP 1.2",
        )),
    };
    match mismatch {
        None => {
            head.check_attributes(pull, "soap:Envelope");
            read_to_body(pull, &soap, head)
        }
        Some(fault) => {
            // Whatever else is wrong with it: it is looked through only for the id that the fault relates to.
            let _ = read_to_body(pull, &soap, head);
            Err(fault.into())
        }
    }
}

fn read_to_body(pull: &mut Pull<'_>, soap: &str, head: &mut Head) -> Result<(), Refusal> {
    let mut has_header = false;
    if head.is_strict {
        pull.watch();
    }
    loop {
        match pull.next()? {
            Node::Start if pull.is(soap, "Header") && !has_header => {
                has_header = true;
                let is_read = |namespace: &str| matches!(namespace, names::WSA | names::DIRECT);
                if head.is_strict {
                    pull.keep();
                }
                read_blocks(pull, is_read, &mut head.blocks)?;
                if head.is_strict {
                    head.text = Some(KeptXml::from_checked(pull.take_kept()?));
                }
            }
            Node::Start if pull.is(soap, "Body") => {
                pull.unwatch();
                head.check_attributes(pull, "soap:Body");
                return Ok(());
            }
            Node::Start => {
                return Err(Fault::sender(
                    "SOAP-40",
                    "soap:Envelope may hold one soap:Header, then one soap:Body, in the namespace of the envelope",
                )
                .into());
            }
            Node::Text if is_blank(pull.text()) => {}
            Node::Text => return Err(stray_text().into()),
            Node::End | Node::Eof => {
                return Err(Fault::sender("SOAP-40", "soap:Envelope has no soap:Body").into());
            }
        }
    }
}

/// Reads to the start tag of the only child of soap:Body.
pub(crate) fn enter_body(pull: &mut Pull<'_>) -> Result<(), Refusal> {
    loop {
        match pull.next()? {
            Node::Start => return Ok(()),
            Node::Text if is_blank(pull.text()) => {}
            Node::Text => return Err(stray_text().into()),
            Node::End | Node::Eof => {
                return Err(
                    Fault::sender("SOAP-42", "soap:Body must have one child element").into(),
                );
            }
        }
    }
}

/// Reads from the end of the body's child to the end of the document.
pub(crate) fn finish(pull: &mut Pull<'_>) -> Result<(), Refusal> {
    loop {
        match pull.next()? {
            Node::Start if pull.depth() > 2 => {
                return Err(
                    Fault::sender("SOAP-42", "soap:Body must have one child element").into(),
                );
            }
            Node::Start => {
                return Err(Fault::sender("SOAP-40", "nothing may follow soap:Body").into());
            }
            Node::Text if is_blank(pull.text()) => {}
            Node::Text => return Err(stray_text().into()),
            Node::End => {}
            Node::Eof => return Ok(()),
        }
    }
}

/// Faults on mandatory header blocks that are not understood here (SOAP-46, SOAP-47, SOAP-148).
pub(crate) fn check_must_understand(
    blocks: &[Element],
    saml_ignored: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let mut not_understood = Vec::new();
    for block in blocks {
        let must_understand = match block.attribute(names::SOAP12, "mustUnderstand") {
            None => false,
            Some(text) => boolean(text).ok_or_else(|| {
                Fault::sender("SOAP-46", "soap:mustUnderstand must be true, false, 1 or 0")
            })?,
        };
        let is_security = block.is(names::WSSE, "Security");
        if must_understand
            && is_for_us(block)
            && !(is_understood(block) || is_security && saml_ignored)
        {
            not_understood.push((block.namespace.clone(), block.local.clone()));
        } else if is_security {
            findings.push(Finding::warning(
                "SOAP-148",
                "wsse:Security",
                "the security header was not looked at; there should be none",
            ));
        }
    }
    if not_understood.is_empty() {
        return Ok(());
    }
    let mut fault = Fault::new(
        FaultCode::MustUnderstand,
        "SOAP-82",
        "a mandatory header block is not understood",
    );
    fault.not_understood = not_understood;
    Err(fault)
}

/// The header blocks that have a meaning here.
fn is_understood(block: &Element) -> bool {
    /// WS-Addressing 1.0 core §3.
    const WSA: [&str; 7] = [
        "To",
        "From",
        "ReplyTo",
        "FaultTo",
        "Action",
        "MessageID",
        "RelatesTo",
    ];
    const DIRECT: [&str; 3] = ["addressBlock", "metadata-level", "notification"];
    /// ITI-80's community block, which means nothing for ITI-41 (SOAP-47).
    const COMMUNITY: &str = "urn:ihe:iti:xdr:2014";
    let local = block.local.as_str();
    match block.namespace.as_str() {
        names::WSA => WSA.contains(&local),
        names::DIRECT => DIRECT.contains(&local),
        COMMUNITY => local == "homeCommunityBlock",
        _ => false,
    }
}

fn version_mismatch(rule: &'static str, reason: &str) -> Fault {
    Fault::new(FaultCode::VersionMismatch, rule, reason)
}

fn stray_text() -> Fault {
    Fault::sender("SOAP-40", "text between the elements of the envelope")
}
