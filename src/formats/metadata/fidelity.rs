//! What "the metadata passed unchanged" means (XDR-89): equality in exclusive canonical form, without the white space
//! between elements and without what the bridge itself adds on the way (XDR-82, XDR-84).

use super::{
    super::{
        limits::Limits,
        xml::{c14n, kept::KeptXml, start_tag_at},
    },
    Metadata, MetadataError,
};

/// The slot in which a received URI is kept while the package's own URI takes its place (XDR-82).
pub const RECEIVED_URI: &str = "urn:xdbridge:2026:receivedURI";

/// Whether two forms of one submission's metadata are equal. What one of them lacks and the bridge may have added to
/// the other does not count: `hash`, `size` and `URI` of a DocumentEntry, and the SubmissionSet's intendedRecipient
/// and author. What is no readable metadata equals nothing.
pub fn equal_metadata(one: &KeptXml, other: &KeptXml) -> bool {
    let compared = || -> Option<bool> {
        let one = read(one)?;
        let other = read(other)?;
        let bare_one = without_additions(&one, &other).ok()?;
        let bare_other = without_additions(&other, &one).ok()?;
        Some(canonical(bare_one.xml())? == canonical(bare_other.xml())?)
    };
    compared().unwrap_or(false)
}

fn read(xml: &KeptXml) -> Option<Metadata> {
    // Both were read before, under the limits of their source; what the bridge added may pass them.
    let limits = Limits {
        max_metadata_bytes: u64::MAX,
        ..Limits::default()
    };
    Metadata::read(xml.clone(), &limits).ok()
}

/// `metadata` without what the bridge may have added to it since it was like `before`.
fn without_additions(metadata: &Metadata, before: &Metadata) -> Result<Metadata, MetadataError> {
    let mut edit = metadata.edit();
    for (entry, earlier) in metadata
        .document_entries()
        .iter()
        .zip(before.document_entries())
    {
        if entry.slot(RECEIVED_URI).is_some() && earlier.slot(RECEIVED_URI).is_none() {
            edit.remove_slot(&entry.id, "URI");
            edit.rename_slot(&entry.id, RECEIVED_URI, "URI");
        } else if earlier.slot("URI").is_none() {
            edit.remove_slot(&entry.id, "URI");
        }
        for name in ["hash", "size"] {
            if earlier.slot(name).is_none() {
                edit.remove_slot(&entry.id, name);
            }
        }
    }
    if let (Some(set), Some(earlier)) = (metadata.submission_set(), before.submission_set()) {
        if earlier.slot("intendedRecipient").is_none() {
            edit.remove_slot(&set.id, "intendedRecipient");
        }
        if earlier.authors.is_empty() {
            edit.remove_added_authors(&set.id);
        }
    }
    edit.finish()
}

/// The canonical form without white space between elements.
fn canonical(xml: &KeptXml) -> Option<String> {
    let octets = c14n::exclusive(xml).ok()?;
    let text = String::from_utf8(octets).ok()?;
    let mut dense = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(markup) = text.get(at..).and_then(|rest| rest.find('<')) {
        let between = text.get(at..at + markup)?;
        // Canonical form writes a carriage return as a reference.
        if !between.replace("&#xD;", "").trim_ascii().is_empty() {
            dense.push_str(between);
        }
        let start = at + markup;
        let rest = text.get(start..)?;
        at = if rest.starts_with("</") || rest.starts_with("<?") {
            start + rest.find('>')? + 1
        } else {
            start_tag_at(&text, start)?.end
        };
        dense.push_str(text.get(start..at)?);
    }
    Some(dense)
}
