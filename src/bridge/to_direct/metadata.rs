//! The metadata as the package carries it: the received XML, edited (XDR-82 to XDR-84).

use super::{Conversion, ConversionError, package::entry_documents};
use crate::formats::metadata::{Level, Metadata, RECEIVED_URI};

/// What a slot named [`RECEIVED_URI`] gets appended if it was received itself, so that it comes back as well.
pub(in crate::bridge) const RECEIVED_AGAIN: char = '~';

/// The metadata as the package carries it: the received XML, edited. Each DocumentEntry gets a `URI`, and `hash` and
/// `size` where they are absent; a received `URI` waits in [`RECEIVED_URI`] (XDR-82). At level minimal the
/// SubmissionSet gets the recipients and the sender where it names none (XDR-84). Labels stay as they are;
/// to minimal metadata the destination may have them added (XDR-83).
pub fn direct_metadata(conversion: &Conversion<'_>) -> Result<Metadata, ConversionError> {
    let metadata = conversion.metadata;
    let mut edit = metadata.edit();
    let documents = entry_documents(conversion)?;
    for document in &documents {
        let (entry, facts) = (document.entry, document.facts);
        let received = entry.slots().iter().map(|slot| slot.name.as_str());
        for name in received.filter(|name| is_received_uri(name)) {
            edit.rename_slot(&entry.id, name, &format!("{name}{RECEIVED_AGAIN}"));
        }
        edit.rename_slot(&entry.id, "URI", RECEIVED_URI);
        edit.set_slot(&entry.id, "URI", &[&document.file_name]);
        if entry.hash.is_none() {
            edit.set_slot(&entry.id, "hash", &[&facts.hash()]);
        }
        if entry.size.is_none() {
            edit.set_slot(&entry.id, "size", &[&facts.size.to_string()]);
        }
    }
    if let (Level::Minimal, Some(set)) = (conversion.level, metadata.submission_set()) {
        if set.intended_recipients.is_empty() {
            for recipient in conversion.to {
                edit.add_intended_recipient(recipient);
            }
        }
        if set.authors.is_empty() {
            edit.add_submission_set_author_telecommunication(conversion.from);
        }
        if conversion.policy.add_limited_label {
            edit.add_limited_labels();
        }
    }
    let edited = edit.finish()?;
    // A wrong URI would show a person the wrong document: look once more.
    let uris = edited
        .document_entries()
        .iter()
        .map(|entry| entry.uri.as_deref());
    let planned = documents
        .iter()
        .map(|document| Some(document.file_name.as_str()));
    match (1..)
        .zip(uris.zip(planned))
        .find(|(_, (uri, planned))| uri != planned)
    {
        Some((number, _)) => Err(ConversionError::UriNotSet { number }),
        None => Ok(edited),
    }
}

/// Whether a slot is [`RECEIVED_URI`], with or without [`RECEIVED_AGAIN`] behind it.
pub(in crate::bridge) fn is_received_uri(name: &str) -> bool {
    name.trim_end_matches(RECEIVED_AGAIN) == RECEIVED_URI
}

#[cfg(test)]
mod tests {
    use super::{super::ground::Ground, *};
    use crate::bridge::destination::MailPolicy;

    // rule: XDR-84
    #[test]
    fn only_minimal_metadata_gets_recipients_and_author_and_only_where_it_has_none() {
        let ground = Ground::new("");
        let mut conversion = ground.conversion();
        let full = direct_metadata(&conversion).unwrap();
        assert!(
            full.submission_set()
                .unwrap()
                .intended_recipients
                .is_empty()
        );
        assert!(full.submission_set().unwrap().authors.is_empty());
        conversion.level = Level::Minimal;
        let minimal = direct_metadata(&conversion).unwrap();
        let set = minimal.submission_set().unwrap();
        assert_eq!(
            set.intended_recipients,
            [
                "||^^Internet^rui@direct.harbor.example",
                "||^^Internet^intake@direct.harbor.example"
            ]
        );
        assert_eq!(
            set.authors[0].telecommunications,
            ["^^Internet^Ngozi@direct.elm.example"]
        );
        let named = Ground::new(
            "<Slot name=\"intendedRecipient\"><ValueList><Value>Org</Value></ValueList></Slot>",
        );
        let mut conversion = named.conversion();
        conversion.level = Level::Minimal;
        let kept = direct_metadata(&conversion).unwrap();
        assert_eq!(kept.submission_set().unwrap().intended_recipients, ["Org"]);
    }

    // rule: XDR-82
    #[test]
    fn an_entry_that_cannot_get_its_own_uri_stops_the_conversion() {
        // Only the first bearer of the id would get a URI.
        let ground = Ground::new(
            "</RegistryPackage><ExtrinsicObject id=\"Doc1\"/><RegistryPackage id=\"Set2\">",
        );
        let error = direct_metadata(&ground.conversion()).unwrap_err();
        assert!(matches!(error, ConversionError::UriNotSet { number: 3 }));
        assert!(!error.is_transient());
    }

    // rule: XDR-82, XDM-15, XDM-21, XDM-22
    #[test]
    fn every_entry_gets_uri_hash_and_size_after_its_last_slot() {
        let ground = Ground::new("");
        let metadata = direct_metadata(&ground.conversion()).unwrap();
        let [first, second] = metadata.document_entries() else {
            panic!("two entries");
        };
        assert_eq!(first.uri.as_deref(), Some("DOC00001.XML"));
        assert_eq!(second.uri.as_deref(), Some("DOC00002.PDF"));
        assert_eq!(second.size.as_deref(), Some("8"));
        assert_eq!(second.hash, Some(ground.documents[1].1.hash()));
        // Slots come before the Name (XDR-5).
        let text = metadata.xml().as_str();
        assert!(text.find("DOC00001.XML").unwrap() < text.find("Summary: A").unwrap());
    }

    // rule: XDR-83
    #[test]
    fn labels_are_added_to_minimal_metadata_alone_and_only_where_the_destination_wants_them() {
        let ground = Ground::new("");
        let wanted = MailPolicy {
            add_limited_label: true,
            ..MailPolicy::default()
        };
        let labelled = |level, policy| {
            let conversion = Conversion {
                level,
                policy,
                ..ground.conversion()
            };
            let metadata = direct_metadata(&conversion).unwrap();
            let entries = metadata.document_entries().iter();
            let mut labels: Vec<bool> = entries.map(|entry| entry.is_limited).collect();
            labels.push(metadata.submission_set().unwrap().is_limited);
            labels
        };
        assert_eq!(labelled(Level::Minimal, &wanted), [true; 3]);
        assert_eq!(labelled(Level::Full, &wanted), [false; 3]);
        let default = MailPolicy::default();
        assert_eq!(labelled(Level::Minimal, &default), [false; 3]);
    }

    // rule: XDR-82, XDM-67
    #[test]
    fn entries_that_share_a_document_name_one_file() {
        let mut ground = Ground::new("");
        ground.documents[1].1 = ground.documents[0].1.clone();
        let metadata = direct_metadata(&ground.conversion()).unwrap();
        for entry in metadata.document_entries() {
            assert_eq!(entry.uri.as_deref(), Some("DOC00001.XML"));
            assert_eq!(entry.size.as_deref(), Some("4"));
        }
    }
}
