//! Envelopes as XML: those of the specification's examples, and answers of ours in either packaging.

use std::{fs, path::Path};

use xdbridge::formats::{
    ids::SoapMessageId,
    soap::{
        Fault, Packaging,
        fault::{FaultCode, Subcode},
    },
};

/// A file of `docs/spec/examples`.
pub(crate) fn spec(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spec/examples");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// The root part of an MTOM package, with base64 where an xop:Include stood, and the Includes.
pub(crate) fn root_of(package: &str) -> (String, Vec<String>) {
    let start = package.find("<?xml").unwrap();
    let mut root = package[start..package.find("</soap:Envelope>").unwrap()].to_owned();
    root.push_str("</soap:Envelope>\n");
    let mut includes = Vec::new();
    while let Some(at) = root.find("<xop:Include") {
        let end = at + root[at..].find("/>").unwrap() + 2;
        includes.push(root[at..end].to_owned());
        root.replace_range(at..end, "QUJD");
    }
    (root, includes)
}

/// An id for answers.
pub(crate) fn message_id() -> SoapMessageId {
    "urn:uuid:71829304-b5c6-4ad7-9e21-6e7f8091a2b3"
        .parse()
        .unwrap()
}

/// An answer in either packaging, as XML.
pub(crate) fn envelope(answer: (String, Vec<u8>)) -> String {
    let (content_type, body) = answer;
    let text = String::from_utf8(body).unwrap();
    if content_type.starts_with("multipart/") {
        root_of(&text).0
    } else {
        text
    }
}

/// Faults of every code and subcode, in both packagings.
pub(crate) fn faults() -> Vec<String> {
    let subcodes: [&'static [Subcode]; 9] = [
        &[],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::InvalidCardinality,
        ],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::MissingAddressInEpr,
        ],
        &[Subcode::InvalidAddressingHeader, Subcode::ActionMismatch],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::OnlyAnonymousAddressSupported,
        ],
        &[
            Subcode::InvalidAddressingHeader,
            Subcode::DuplicateMessageId,
        ],
        &[Subcode::MessageAddressingHeaderRequired],
        &[Subcode::ActionNotSupported],
        &[Subcode::InvalidSecurity],
    ];
    let mut all: Vec<Fault> = subcodes
        .into_iter()
        .map(|subcodes| Fault::sender("SOAP-80", "what & why").with_subcodes(subcodes))
        .collect();
    for code in [FaultCode::VersionMismatch, FaultCode::MustUnderstand] {
        all.push(Fault::new(code, "SOAP-81", "what & why"));
    }
    all.push(Fault::receiver("what & why"));
    for fault in &mut all {
        if fault.code == FaultCode::MustUnderstand {
            fault.not_understood = vec![
                ("urn:example:a".to_owned(), "b".to_owned()),
                (String::new(), "c".to_owned()),
            ];
        }
    }
    let both = all.into_iter().flat_map(|fault| {
        [Packaging::SimpleSoap, Packaging::Mtom].map(|packaging| Fault {
            packaging,
            relates_to: Some(message_id()),
            ..fault.clone()
        })
    });
    both.map(|fault| envelope(fault.write_answer(&message_id())))
        .collect()
}
