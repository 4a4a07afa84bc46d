//! How large a mail will be, before anything of it is made (SM-60, LIM-14).

use std::collections::HashSet;

use crate::{
    bridge::destination::DirectPackaging,
    formats::{
        document::{DocumentFacts, DocumentKey},
        mime::base64_lines::encoded_len,
        smime::sealed_len_estimate,
    },
};

/// The document of one DocumentEntry, by place and size. Entries may share a place (SOAP-32, XDM-67).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentSize {
    /// Where it stands in its container.
    pub key: DocumentKey,
    /// Its length in octets.
    pub bytes: u64,
}

impl From<&DocumentFacts> for DocumentSize {
    fn from(facts: &DocumentFacts) -> Self {
        Self {
            key: facts.key,
            bytes: facts.size,
        }
    }
}

/// At most how many octets the sealed mail takes on the wire (SM-60): documents that do not compress, two layers of
/// base64, generous room for headers, certificates and RecipientInfos. For LIM-14, before anything is made. What
/// entries share is once in the package, and attached for each of them.
pub fn estimate_wire_bytes(
    packaging: DirectPackaging,
    metadata_bytes: u64,
    documents: &[DocumentSize],
    recipients: usize,
) -> u64 {
    const ENTRY_BYTES: u64 = 1024;
    // Header and text of the message, the pages of the package; less is needed of the outer header.
    const MESSAGE_BYTES: u64 = 24 * 1024;
    const ADDRESS_BYTES: u64 = 260;
    let mut seen = HashSet::new();
    let files: u64 = documents
        .iter()
        .filter(|document| seen.insert(document.key))
        .map(|document| document.bytes)
        .fold(0, u64::saturating_add);
    let entries = (documents.len() as u64).saturating_mul(ENTRY_BYTES);
    let package = encoded_len(files.saturating_add(metadata_bytes).saturating_add(entries));
    let copies = documents
        .iter()
        .map(|document| encoded_len(document.bytes).saturating_add(ENTRY_BYTES))
        .fold(0, u64::saturating_add);
    let parts = match packaging {
        DirectPackaging::Xdm => package,
        DirectPackaging::XdmAndDocuments => package.saturating_add(copies),
        DirectPackaging::Documents => copies,
    };
    let addresses = (recipients as u64).saturating_mul(ADDRESS_BYTES);
    let entity = parts
        .saturating_add(MESSAGE_BYTES)
        .saturating_add(addresses);
    sealed_len_estimate(entity, recipients)
        .saturating_add(MESSAGE_BYTES)
        .saturating_add(addresses)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            direct_metadata,
            ground::{Ground, policy},
        },
        *,
    };
    use crate::formats::document::{DocumentSource, FactsSink};

    // rule: SM-60, LIM-14
    #[test]
    fn the_estimate_bounds_what_is_made_and_is_not_far_off() {
        let mut ground = Ground::new("");
        // Does not compress: OpenSSL's cipher text of zeros.
        let octets = openssl::symm::encrypt(
            openssl::symm::Cipher::aes_128_ctr(),
            &[7; 16],
            Some(&[9; 16]),
            &vec![0; 3_000_000],
        )
        .unwrap();
        ground.source.documents[0].1 = octets;
        let mut facts = FactsSink::default();
        ground.source.pour(&mut facts).unwrap();
        for (document, facts) in ground.documents.iter_mut().zip(facts.into_facts()) {
            document.1 = facts;
        }
        let sizes: Vec<DocumentSize> = ground
            .documents
            .iter()
            .map(|(_, facts)| DocumentSize::from(facts))
            .collect();
        let metadata_bytes = direct_metadata(&ground.conversion())
            .unwrap()
            .xml()
            .as_str()
            .len();
        for packaging in [
            DirectPackaging::Xdm,
            DirectPackaging::XdmAndDocuments,
            DirectPackaging::Documents,
        ] {
            let mut conversion = ground.conversion();
            let policy = policy(packaging);
            conversion.policy = &policy;
            let entity = ground.write(&conversion).unwrap().len() as u64;
            let least = sealed_len_estimate(entity, 2);
            let estimate = estimate_wire_bytes(packaging, metadata_bytes as u64, &sizes, 2);
            assert!(estimate >= least, "{packaging:?}: {estimate} < {least}");
            assert!(
                estimate <= least + least / 20,
                "{packaging:?}: {estimate} > {least}"
            );
        }
        // A quarter of the room of u64 does not overflow.
        estimate_wire_bytes(
            DirectPackaging::XdmAndDocuments,
            u64::MAX / 8,
            &[1, 2].map(|part| DocumentSize {
                key: DocumentKey::Part(part),
                bytes: u64::MAX / 8,
            }),
            9,
        );
    }

    // rule: LIM-14, XDM-67
    #[test]
    fn what_entries_share_is_once_in_a_package_and_attached_for_each() {
        let shared = DocumentSize {
            key: DocumentKey::Part(1),
            bytes: 1_000_000,
        };
        let estimate =
            |packaging, times| estimate_wire_bytes(packaging, 0, &vec![shared; times], 1);
        assert!(estimate(DirectPackaging::Xdm, 10) < estimate(DirectPackaging::Xdm, 1) + 100_000);
        assert!(
            estimate(DirectPackaging::Documents, 10) > 9 * estimate(DirectPackaging::Documents, 1)
        );
    }
}
