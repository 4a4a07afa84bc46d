//! A small sound XDM medium, entry by entry: what attacks start from.

use super::raw_zip::{RawEntry, build};

/// Where the metadata is.
pub(crate) const METADATA_PATH: &str = "IHE_XDM/SUBSET01/METADATA.XML";
/// Where the document is.
pub(crate) const DOCUMENT_PATH: &str = "IHE_XDM/SUBSET01/DOC00001.XML";
/// The document.
pub(crate) const DOCUMENT: &[u8] = b"<ClinicalDocument xmlns=\"urn:hl7-org:v3\"/>";

/// METADATA.XML with one DocumentEntry; `slots` are added to it.
pub(crate) fn metadata(slots: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <lcm:SubmitObjectsRequest xmlns:lcm=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
         xmlns:rim=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"><rim:RegistryObjectList>\
         <rim:ExtrinsicObject id=\"Document01\" mimeType=\"text/xml\">{slots}</rim:ExtrinsicObject>\
         </rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
    )
}

/// A Slot with one value.
pub(crate) fn slot(name: &str, value: &str) -> String {
    format!(
        "<rim:Slot name=\"{name}\"><rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList></rim:Slot>"
    )
}

/// URI, hash and size of [`DOCUMENT`].
pub(crate) fn good_slots() -> String {
    slots_of(DOCUMENT)
}

/// Those of another document in its place.
pub(crate) fn slots_of(document: &[u8]) -> String {
    use xdbridge::formats::document::hex;
    slot("URI", "DOC00001.XML")
        + &slot("hash", &hex(&openssl::sha::sha1(document)))
        + &slot("size", &document.len().to_string())
}

/// A sound medium.
pub(crate) fn good_entries() -> Vec<RawEntry> {
    vec![
        RawEntry::stored("README.TXT", b"about"),
        RawEntry::stored("INDEX.HTM", b"<html/>"),
        RawEntry::stored("IHE_XDM/", b""),
        RawEntry::stored("IHE_XDM/SUBSET01/", b""),
        RawEntry::file(METADATA_PATH, metadata(&good_slots()).as_bytes()),
        RawEntry::file(DOCUMENT_PATH, DOCUMENT),
    ]
}

/// A sound medium with one more entry.
pub(crate) fn with_entry(entry: RawEntry) -> Vec<u8> {
    let mut entries = good_entries();
    entries.push(entry);
    build(&entries).octets
}

/// A sound medium, its document's entry changed.
pub(crate) fn with_document(change: impl FnOnce(&mut RawEntry)) -> Vec<u8> {
    let mut entries = good_entries();
    change(entries.last_mut().unwrap());
    build(&entries).octets
}
