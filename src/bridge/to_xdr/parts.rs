//! Which parts of a mail are documents (MD-124, CC-8, CC-10), and of what type (MD-110, CC-9).

use crate::formats::{
    finding::Finding,
    mime::read::{Disposition, Mail, Part, SNIFFED_OCTETS, Sniffed, sniff},
};

/// One part that is a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct DocumentPart<'m> {
    pub(super) part: &'m Part<'m>,
    /// Which of the mail's leaves it is, from 0.
    pub(super) leaf: usize,
}

/// What the leaves of a mail are.
#[derive(Debug, Default)]
pub(super) struct Sorted<'m> {
    /// Attachments, named parts, and what is no text to be read with the message.
    pub(super) documents: Vec<DocumentPart<'m>>,
    /// The text of the message: in each place the form that is to be taken.
    pub(super) bodies: Vec<DocumentPart<'m>>,
}

/// Sorts the leaves of `mail`. MDN and DSN parts, signatures and empty parts are neither. `is_passed_over` names leaves
/// that were dealt with already.
pub(super) fn sort<'m>(mail: &'m Mail<'m>, is_passed_over: impl Fn(usize) -> bool) -> Sorted<'m> {
    let leaves = mail.leaves();
    let index_of = |part: &Part<'_>| leaves.iter().position(|leaf| leaf.path == part.path);
    let mut sorted = Sorted::default();
    let mut taken = Vec::new();
    walk(&mail.root, &mut taken);
    for part in taken {
        let Some(leaf) = index_of(part).filter(|leaf| !is_passed_over(*leaf)) else {
            continue;
        };
        if is_never_a_document(part) || is_empty(part) {
            continue;
        }
        let found = DocumentPart { part, leaf };
        if is_body(part) {
            sorted.bodies.push(found);
        } else {
            sorted.documents.push(found);
        }
    }
    sorted
}

/// The leaves in wire order, one for each multipart/alternative: document-typed ones, else text/plain, else the first.
fn walk<'m>(part: &'m Part<'m>, taken: &mut Vec<&'m Part<'m>>) {
    if !part.is_multipart() {
        taken.push(part);
        return;
    }
    let mut inside = Vec::new();
    for child in &part.children {
        walk(child, &mut inside);
    }
    if part.media_type() != "multipart/alternative" {
        taken.append(&mut inside);
        return;
    }
    let documents: Vec<&Part<'_>> = inside
        .iter()
        .copied()
        .filter(|leaf| !is_body(leaf) && !is_never_a_document(leaf) && !is_empty(leaf))
        .collect();
    if !documents.is_empty() {
        taken.extend(documents);
        return;
    }
    let plain = inside.iter().find(|leaf| leaf.media_type() == "text/plain");
    taken.extend(plain.or(inside.first()));
}

/// Whether it is text to be read with the message.
fn is_body(part: &Part<'_>) -> bool {
    part.disposition == Disposition::Inline
        && part.file_name.is_none()
        && matches!(part.media_type(), "text/plain" | "text/html")
}

fn is_never_a_document(part: &Part<'_>) -> bool {
    matches!(
        part.media_type(),
        "message/disposition-notification"
            | "message/global-disposition-notification"
            | "message/delivery-status"
            | "message/global-delivery-status"
            | "application/pkcs7-signature"
            | "application/x-pkcs7-signature"
    )
}

/// Whether nothing is in it; text that is white space alone is nothing.
fn is_empty(part: &Part<'_>) -> bool {
    let beginning = part.beginning(SNIFFED_OCTETS);
    // What cannot be decoded at all is no empty part: it must be told.
    if beginning.is_empty() {
        return part.decode(&mut |_| Ok(())).is_ok();
    }
    is_body(part)
        && beginning.len() < SNIFFED_OCTETS
        && beginning.iter().all(u8::is_ascii_whitespace)
}

/// The media type of a document: as its part says, unless that says nothing or is evidently wrong; and whether its
/// octets look like CDA. A wrong label is a Warning.
pub(super) fn media_type(part: &Part<'_>, findings: &mut Vec<Finding>) -> (String, bool) {
    let sniffed = sniff(&part.beginning(SNIFFED_OCTETS));
    let is_cda = sniffed == Some(Sniffed::Cda);
    let declared = part
        .declared_type()
        .filter(|kind| *kind != "application/octet-stream" && *kind != "binary/octet-stream");
    let media_type = match (declared, sniffed) {
        (None, Some(found)) => found.media_type().to_owned(),
        // Without Content-Type a part is text/plain; what is malformed, or has a name, is not known.
        (None, None) if part.declared_type().is_none() && !part.has_malformed_type => {
            "text/plain".to_owned()
        }
        (None, None) => "application/octet-stream".to_owned(),
        (Some(label), Some(found)) if is_wrong(label, found) => {
            let text = format!(
                "the Content-Type does not fit the content; it should be {}",
                found.media_type()
            );
            findings.push(Finding::warning("MD-110", place(part), text));
            found.media_type().to_owned()
        }
        (Some(label), _) => label.to_owned(),
    };
    (media_type, is_cda)
}

/// Whether a label cannot be true of what was found: another of the types that are known by their beginning, or text
/// for what is none. A special name of the same thing, such as that of an office document for a zip, stays.
fn is_wrong(label: &str, found: Sniffed) -> bool {
    const KNOWN: [&str; 10] = [
        "application/pdf",
        "application/zip",
        "application/x-zip-compressed",
        "image/jpeg",
        "image/png",
        "image/tiff",
        "application/dicom",
        "text/plain",
        "text/html",
        "image/gif",
    ];
    let fits = match found {
        Sniffed::Zip => matches!(label, "application/zip" | "application/x-zip-compressed"),
        Sniffed::Cda => label.ends_with("xml"),
        other => label == other.media_type(),
    };
    let is_text_of_binary = found != Sniffed::Cda && label.starts_with("text/");
    !fits && (KNOWN.contains(&label) || is_text_of_binary)
}

/// The place of a finding.
pub(super) fn place(part: &Part<'_>) -> String {
    format!("part {}", part.path)
}
