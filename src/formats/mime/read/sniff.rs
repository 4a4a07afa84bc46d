//! What octets are, by their beginning (MD-110).

/// How many octets at the beginning are looked at.
pub const SNIFFED_OCTETS: usize = 4 * 1024;

/// What a document's octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// PDF.
    Pdf,
    /// A CDA document, by the name of its root element.
    Cda,
    /// A zip archive.
    Zip,
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// TIFF.
    Tiff,
    /// A DICOM file.
    Dicom,
}

impl Sniffed {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Cda => "text/xml",
            Self::Zip => "application/zip",
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Tiff => "image/tiff",
            Self::Dicom => "application/dicom",
        }
    }
}

/// Looks at the beginning of a document.
pub fn sniff(beginning: &[u8]) -> Option<Sniffed> {
    const SIGNATURES: [(&[u8], Sniffed); 8] = [
        (b"%PDF-", Sniffed::Pdf),
        (b"PK\x03\x04", Sniffed::Zip),
        (b"PK\x05\x06", Sniffed::Zip),
        (b"\xff\xd8\xff", Sniffed::Jpeg),
        (b"\x89PNG\r\n\x1a\n", Sniffed::Png),
        (b"II*\0", Sniffed::Tiff),
        (b"MM\0*", Sniffed::Tiff),
        (b"II\x2b\0", Sniffed::Tiff),
    ];
    let found = SIGNATURES
        .iter()
        .find(|(signature, _)| beginning.starts_with(signature));
    if let Some((_, sniffed)) = found {
        return Some(*sniffed);
    }
    // A DICOM file begins with 128 octets of anything (DICOM PS3.10 §7.1).
    if beginning.get(128..132) == Some(b"DICM") {
        return Some(Sniffed::Dicom);
    }
    is_cda(beginning).then_some(Sniffed::Cda)
}

/// Whether the beginning is that of XML whose root element may be a ClinicalDocument. The XML reader decides (MD-161).
fn is_cda(beginning: &[u8]) -> bool {
    let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
    text.trim_ascii_start().starts_with(b"<")
        && (memchr::memmem::find(text, b"ClinicalDocument").is_some()
            && memchr::memmem::find(text, b"urn:hl7-org:v3").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: MD-110, CC-9
    #[test]
    fn documents_are_known_by_their_beginning() {
        let mut dicom = vec![0; 128];
        dicom.extend_from_slice(b"DICM");
        let cda = b"<?xml version='1.0'?>\n<ClinicalDocument xmlns='urn:hl7-org:v3'>";
        let cases: [(&[u8], Option<Sniffed>); 9] = [
            (b"%PDF-1.7\n", Some(Sniffed::Pdf)),
            (b"PK\x03\x04rest", Some(Sniffed::Zip)),
            (b"\xff\xd8\xff\xe0", Some(Sniffed::Jpeg)),
            (b"\x89PNG\r\n\x1a\n", Some(Sniffed::Png)),
            (b"MM\0*", Some(Sniffed::Tiff)),
            (&dicom, Some(Sniffed::Dicom)),
            (cda, Some(Sniffed::Cda)),
            (b"<a>no document</a>", None),
            (b"", None),
        ];
        for (octets, expected) in cases {
            assert_eq!(sniff(octets), expected);
        }
    }
}
