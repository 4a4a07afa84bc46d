//! Whether a document of an XDM package is itself an XDM package (LIM-13). Zips inside are not opened: what is looked at is
//! the directory at the document's end, as the document passes by.

use memchr::memmem;

use super::directory::{CENTRAL_SIGNATURE, END_BYTES, END_SIGNATURE, LOCAL_SIGNATURE};

/// Octets of an entry of the central directory before its name (APPNOTE 4.3.12).
const CENTRAL_BYTES: usize = 46;
/// What both signatures that are looked for begin with.
const SIGNATURE_START: &[u8] = b"PK";
const SIGNATURE_BYTES: usize = 4;

/// Takes the octets of one document. It keeps no more than one entry of a directory and what is taken at once.
#[derive(Debug, Default)]
pub(super) struct NestedPackage {
    /// What is not looked at yet; it begins at `offset`.
    rest: Vec<u8>,
    offset: u64,
    is_zip: Option<bool>,
    /// Where the next entry of the directory at hand must begin, or its end record.
    next_at: u64,
    /// Whether the directory at hand has a METADATA.XML in its place.
    has_metadata: bool,
    /// Where the end record after it says that the zip ends.
    end_at: Option<u64>,
}

impl NestedPackage {
    pub(super) fn write(&mut self, octets: &[u8]) {
        if self.is_zip == Some(false) {
            self.offset += octets.len() as u64;
            return;
        }
        self.rest.extend_from_slice(octets);
        if self.is_zip.is_none() && self.rest.len() >= SIGNATURE_BYTES {
            self.is_zip = Some(self.rest.starts_with(LOCAL_SIGNATURE));
        }
        if self.is_zip == Some(true) {
            let done = self.look();
            self.rest.drain(..done);
            self.offset += done as u64;
        }
    }

    /// Whether it was an XDM package, with the directory that a reader of zips takes: the last one, which ends with the
    /// document.
    pub(super) fn is_package(&self) -> bool {
        let length = self.offset + self.rest.len() as u64;
        self.has_metadata && self.end_at == Some(length)
    }

    /// Looks at what is whole, and gives the length of what was looked at.
    fn look(&mut self) -> usize {
        let mut at = 0;
        while let Some(found) =
            memmem::find(self.rest.get(at..).unwrap_or_default(), SIGNATURE_START)
        {
            at += found;
            let Some(rest) = self
                .rest
                .get(at..)
                .filter(|rest| rest.len() >= SIGNATURE_BYTES)
            else {
                return at;
            };
            let here = self.offset + at as u64;
            at += if rest.starts_with(CENTRAL_SIGNATURE) {
                let Some((length, name)) = central_entry(rest) else {
                    return at;
                };
                let is_next = here == self.next_at;
                self.has_metadata = is_next && self.has_metadata || is_metadata(name);
                self.end_at = None;
                self.next_at = here + length as u64;
                // What lies in its fields is no entry. What only looks like one may reach over those that are.
                if is_next { length } else { SIGNATURE_BYTES }
            } else if rest.starts_with(END_SIGNATURE) && here == self.next_at {
                let Some(comment) = u16_at(rest, END_BYTES as usize - 2) else {
                    return at;
                };
                self.end_at = Some(here + END_BYTES + comment as u64);
                END_BYTES as usize
            } else {
                SIGNATURE_START.len()
            };
        }
        // A signature may begin with the last octet.
        self.rest.len().saturating_sub(1).max(at)
    }
}

/// The length of the entry that the octets begin with, and its name; nothing if it is not whole.
fn central_entry(octets: &[u8]) -> Option<(usize, &[u8])> {
    let name = u16_at(octets, 28)?;
    let further = u16_at(octets, 30)? + u16_at(octets, 32)?;
    let length = CENTRAL_BYTES + name + further;
    let entry = octets.get(..length)?;
    Some((length, entry.get(CENTRAL_BYTES..CENTRAL_BYTES + name)?))
}

fn u16_at(octets: &[u8], at: usize) -> Option<usize> {
    let field: [u8; 2] = octets.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(field)))
}

/// Whether it is the name of the METADATA.XML of a submission set, as broken as the field writes it (XDM-13, XDM-41).
fn is_metadata(name: &[u8]) -> bool {
    let segments = name.split(|octet| matches!(octet, b'/' | b'\\'));
    let segments: Vec<&[u8]> = segments
        .filter(|segment| !segment.is_empty() && *segment != b".")
        .collect();
    let ([top, _, file] | [_, top, _, file]) = segments.as_slice() else {
        return false;
    };
    top.eq_ignore_ascii_case(b"IHE_XDM") && file.eq_ignore_ascii_case(b"METADATA.XML")
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zipped(files: &[(&str, &[u8])], comment: &str) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.set_comment(comment).unwrap();
        for (name, octets) in files {
            writer.start_file(*name, options).unwrap();
            writer.write_all(octets).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn is_package(octets: &[u8], at_once: usize) -> bool {
        let mut nested = NestedPackage::default();
        octets.chunks(at_once).for_each(|part| nested.write(part));
        nested.is_package()
    }

    const METADATA: &str = "IHE_XDM/SUBSET01/METADATA.XML";

    // rule: LIM-13, XDM-13
    #[test]
    fn a_package_is_known_by_its_directory_however_its_octets_come() {
        for name in [
            METADATA,
            "ihe_xdm/set/metadata.xml",
            "folder\\IHE_XDM\\SUBSET01\\METADATA.XML",
            "./IHE_XDM/SUBSET01/METADATA.XML",
        ] {
            for comment in ["", "a comment that says PK"] {
                let files: [(&str, &[u8]); 3] = [("a", b"PKPK"), (name, b"<a/>"), ("b", b"")];
                let octets = zipped(&files, comment);
                for at_once in [1, 7, 64, octets.len()] {
                    assert!(is_package(&octets, at_once), "{name} by {at_once}");
                }
            }
        }
    }

    // rule: LIM-13, XDR-100
    #[test]
    fn what_is_no_package_is_none() {
        let package = zipped(&[(METADATA, b"<a/>")], "");
        for (name, octets) in [
            (
                "a zip",
                zipped(&[("a", b"x"), ("METADATA.XML", b"<a/>")], ""),
            ),
            (
                "a zip with a package in it",
                zipped(&[("XDM00001.ZIP", &package)], ""),
            ),
            ("an empty zip", zipped(&[], "")),
            ("more after its end", [&package[..], b"x"].concat()),
            ("not its whole", package[..package.len() - 1].to_vec()),
            ("something before it", [b"x", &package[..]].concat()),
            ("nothing", Vec::new()),
            ("two octets", b"PK".to_vec()),
        ] {
            for at_once in [1, 7, 4096] {
                assert!(!is_package(&octets, at_once), "{name} by {at_once}");
            }
        }
    }

    // rule: LIM-13, T-8
    #[test]
    fn a_directory_without_end_keeps_no_more_than_one_entry() {
        let mut nested = NestedPackage::default();
        nested.write(&zipped(&[("a", b"x")], ""));
        let mut entry = CENTRAL_SIGNATURE.to_vec();
        entry.resize(CENTRAL_BYTES, 0xff);
        entry.resize(CENTRAL_BYTES + 3 * usize::from(u16::MAX), b'x');
        for _ in 0..10 {
            for part in entry.chunks(1_000) {
                nested.write(part);
                assert!(nested.rest.len() <= entry.len());
            }
        }
        assert!(!nested.is_package());
    }
}
