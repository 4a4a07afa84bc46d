//! The limits on what comes from outside (threats.md, LIM-1 to LIM-17). Every value is a setting of `[limits]`.

use serde::{Deserialize, Serialize};

/// Limits on received messages: `[limits]`. Sizes are octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// One message on the wire, HTTP request body or SMTP DATA. Default 64 MiB (LIM-1).
    pub max_message_bytes: u64,
    /// One document, decoded. Default 50 MiB (LIM-2).
    pub max_document_bytes: u64,
    /// SOAP root part or METADATA.XML, document text not counted. Default 8 MiB (LIM-3).
    pub max_metadata_bytes: u64,
    /// DocumentEntries in one submission. Default 100 (LIM-4).
    pub max_document_entries: usize,
    /// Depth of XML elements. Default 128 (LIM-5).
    pub max_xml_depth: usize,
    /// Attributes of one XML element. Default 256 (LIM-5).
    pub max_xml_attributes: usize,
    /// One XML attribute value. Default 64 KiB (LIM-5).
    pub max_xml_attribute_bytes: usize,
    /// Parts of one MTOM package. Default 500 (LIM-6).
    pub max_mtom_parts: usize,
    /// Header block of one MTOM part. Default 16 KiB (LIM-7).
    pub max_part_header_bytes: usize,
    /// Head of one HTTP request. Default 64 KiB (LIM-8).
    pub max_http_head_bytes: usize,
    /// Recipients of one exchange. Default 100 (LIM-9).
    pub max_recipients: usize,
    /// Entries of one zip. Default 1,000 (LIM-10).
    pub max_zip_entries: usize,
    /// One zip member, unpacked. Default 50 MiB (LIM-11).
    pub max_zip_member_bytes: u64,
    /// All zip members together, unpacked. Default 100 MiB (LIM-11).
    pub max_zip_total_bytes: u64,
    /// Inflation ratio of one zip member, judged beyond 1 MiB. Default 100 (LIM-12).
    pub max_zip_ratio: u64,
    /// Directory depth in a zip. Default 16 (LIM-13).
    pub max_zip_depth: usize,
    /// One sealed mail on the wire, as estimated at accept. Default 64 MiB (LIM-14).
    pub max_sealed_bytes: u64,
    /// Depth of nested MIME parts. Default 16 (LIM-15).
    pub max_mime_depth: usize,
    /// MIME parts of one mail. Default 500 (LIM-15).
    pub max_mime_parts: usize,
    /// Header block of a mail or of one of its parts. Default 256 KiB (LIM-15).
    pub max_mime_header_bytes: usize,
    /// Fields in one such header. Default 1,000 (LIM-15).
    pub max_mime_header_fields: usize,
    /// One line of such a header. Default 64 KiB (LIM-15).
    pub max_mime_line_bytes: usize,
    /// RecipientInfos of one CMS envelope. Default 64 (LIM-16).
    pub max_recipient_infos: usize,
    /// SignerInfos of one CMS signature. Default 16 (LIM-16).
    pub max_signer_infos: usize,
    /// Certificates in one CMS signature. Default 50 (LIM-16).
    pub max_cms_certificates: usize,
    /// Modulus of an RSA key that is worked with, in bits. Default 8192 (LIM-16).
    pub max_rsa_bits: u32,
    /// Octets in flight over all exchanges; beyond it the listeners push back. Default 512 MiB (LIM-17).
    pub max_bytes_in_flight: u64,
}

const KIB: usize = 1024;
const MIB: u64 = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 * MIB,
            max_document_bytes: 50 * MIB,
            max_metadata_bytes: 8 * MIB,
            max_document_entries: 100,
            max_xml_depth: 128,
            max_xml_attributes: 256,
            max_xml_attribute_bytes: 64 * KIB,
            max_mtom_parts: 500,
            max_part_header_bytes: 16 * KIB,
            max_http_head_bytes: 64 * KIB,
            max_recipients: 100,
            max_zip_entries: 1_000,
            max_zip_member_bytes: 50 * MIB,
            max_zip_total_bytes: 100 * MIB,
            max_zip_ratio: 100,
            max_zip_depth: 16,
            max_sealed_bytes: 64 * MIB,
            max_mime_depth: 16,
            max_mime_parts: 500,
            max_mime_header_bytes: 256 * KIB,
            max_mime_header_fields: 1_000,
            max_mime_line_bytes: 64 * KIB,
            max_recipient_infos: 64,
            max_signer_infos: 16,
            max_cms_certificates: 50,
            max_rsa_bits: 8192,
            max_bytes_in_flight: 512 * MIB,
        }
    }
}
