//! Compares what arrived, in a package or at the other EHR, with what the first EHR holds: every octet, every hash and
//! size, every value of the metadata, every recipient.

use std::collections::BTreeSet;

use openssl::sha::Sha1;

use crate::formats::{
    document::hex,
    ids::DirectAddress,
    metadata::{Code, DocumentEntry, Metadata, SubmissionSet, equal_metadata, same_id},
};

/// One question about what arrived, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) subject: String,
    /// What shows that it holds.
    pub(super) evidence: String,
    /// What differs; `None` if it holds.
    pub(super) difference: Option<String>,
}

impl Check {
    /// A check with its outcome.
    pub(super) fn of(
        subject: impl Into<String>,
        evidence: impl Into<String>,
        difference: Option<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            evidence: evidence.into(),
            difference,
        }
    }

    #[cfg(test)]
    pub(super) fn held(subject: &str, evidence: &str) -> Self {
        Self::of(subject, evidence, None)
    }

    /// Whether nothing differs.
    pub(super) fn holds(&self) -> bool {
        self.difference.is_none()
    }

    /// Whether `found` is `wanted`; the evidence is the value itself.
    pub(super) fn equal(subject: impl Into<String>, wanted: &str, found: &str) -> Self {
        let difference = (wanted != found).then(|| format!("\"{found}\" in place of \"{wanted}\""));
        Self::of(subject, wanted, difference)
    }

    /// Whether both lists name the same addresses, each as often.
    pub(super) fn same_addresses(
        subject: &str,
        wanted: &[DirectAddress],
        found: &[DirectAddress],
    ) -> Self {
        // Lists, not sets: who got the message twice counts.
        let list = |addresses: &[DirectAddress]| {
            let mut texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.join(", ")
        };
        Self::equal(subject, &list(wanted), &list(found))
    }
}

/// A submission as one side has it.
pub(super) struct Submission {
    /// To whom it was sent, or for whom it was received.
    pub(super) recipients: Vec<DirectAddress>,
    /// Its metadata.
    pub(super) metadata: Metadata,
    /// Each DocumentEntry's id and the octets of its document.
    pub(super) documents: Vec<(String, Vec<u8>)>,
}

/// Every check of `received`, which is for `to`, against `sent`. `uri` is the slot in which it has the URIs that were
/// sent: a package has its own in their place (XDR-82).
pub(super) fn compare(
    sent: &Submission,
    to: &[DirectAddress],
    received: &Submission,
    uri: &str,
) -> Vec<Check> {
    let to = Check::same_addresses("To", to, &received.recipients);
    let mut checks = vec![to];
    checks.push(count(
        "documents",
        sent.documents.len(),
        received.documents.len(),
    ));
    for (number, (id, octets)) in (1..).zip(&sent.documents) {
        checks.extend(document(number, id, octets, received));
    }
    checks.extend(objects(&sent.metadata, &received.metadata));
    checks.push(slots(&sent.metadata, &received.metadata, uri));
    checks.push(values(&sent.metadata, &received.metadata, uri));
    checks.push(canonical_form(&sent.metadata, &received.metadata));
    checks
}

/// A few values by name, sent and received, for people to read.
pub(super) fn shown_values(sent: &Metadata, received: &Metadata, uri: &str) -> Vec<Check> {
    const SHOWN: [&str; 7] = [
        "set title",
        "set uniqueId",
        "set intendedRecipient",
        "document title",
        "document typeCode",
        "document creationTime",
        "document URI",
    ];
    all_values(sent, received, uri)
        .filter(|(name, _, _)| SHOWN.contains(&name.as_str()))
        .map(|(name, sent, received)| Check::equal(name, &sent, &received))
        .collect()
}

fn count(subject: &str, sent: usize, received: usize) -> Check {
    let difference = (sent != received).then(|| format!("{received} in place of {sent}"));
    Check::of(subject, sent.to_string(), difference)
}

/// Octets, hash and size of one document. The hash is computed from the octets that arrived.
fn document(number: usize, id: &str, sent: &[u8], received: &Submission) -> Vec<Check> {
    let subject = |what: &str| format!("document {number} {what}");
    let arrived = received
        .documents
        .iter()
        .find(|(received_id, _)| same_id(received_id, id));
    let Some((_, arrived)) = arrived else {
        return vec![Check::of(
            subject("octets"),
            "",
            Some("it did not arrive".to_owned()),
        )];
    };
    let entry = entry_of(&received.metadata, id);
    let told = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
    let hash = told(entry.and_then(|entry| entry.hash.as_ref())).to_ascii_lowercase();
    let size = told(entry.and_then(|entry| entry.size.as_ref()));
    vec![
        Check::of(
            subject("octets"),
            format!("all {} are equal", sent.len()),
            first_difference(sent, arrived),
        ),
        Check::equal(subject("SHA-1"), &sha1(arrived), &hash),
        Check::equal(subject("size"), &arrived.len().to_string(), &size),
    ]
}

fn sha1(octets: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(octets);
    hex(&sha1.finish())
}

fn first_difference(sent: &[u8], arrived: &[u8]) -> Option<String> {
    if let Some(at) = sent
        .iter()
        .zip(arrived)
        .position(|(one, other)| one != other)
    {
        return Some(format!("octet {} differs", at + 1));
    }
    (sent.len() != arrived.len())
        .then(|| format!("{} octets in place of {}", arrived.len(), sent.len()))
}

fn entry_of<'a>(metadata: &'a Metadata, id: &str) -> Option<&'a DocumentEntry> {
    let mut entries = metadata.document_entries().iter();
    entries.find(|entry| same_id(&entry.id, id))
}

fn objects(sent: &Metadata, received: &Metadata) -> Vec<Check> {
    let numbers = |metadata: &Metadata| {
        format!(
            "{} submission set, {} document entries, {} folders, {} associations",
            metadata.submission_sets().len(),
            metadata.document_entries().len(),
            metadata.folders().len(),
            metadata.associations().len(),
        )
    };
    let ids = |metadata: &Metadata| -> BTreeSet<String> {
        let entries = metadata.document_entries().iter().map(|entry| &entry.id);
        let sets = metadata.submission_sets().iter().map(|set| &set.id);
        let folders = metadata.folders().iter().map(|folder| &folder.id);
        entries.chain(sets).chain(folders).cloned().collect()
    };
    let lost = ids(sent).difference(&ids(received)).count();
    let difference = (lost > 0).then(|| format!("{lost} are not there by their ids"));
    vec![
        Check::equal("metadata objects", &numbers(sent), &numbers(received)),
        Check::of(
            "entryUUIDs",
            format!("{} equal", ids(sent).len()),
            difference,
        ),
    ]
}

/// Every slot that was sent is there with its values; what the bridge adds does not count (XDR-82).
fn slots(sent: &Metadata, received: &Metadata, uri: &str) -> Check {
    let mut compared = 0;
    let mut lost = Vec::new();
    let mut look = |object: &str, name: &str, values: &[String], found: Option<&[String]>| {
        compared += 1;
        if found != Some(values) {
            lost.push(format!("{object} {name}"));
        }
    };
    for entry in sent.document_entries() {
        let other = entry_of(received, &entry.id);
        for slot in entry.slots() {
            // In a package the URI names the file there; the one that was sent waits beside it.
            let name = match slot.name.as_str() {
                "URI" => uri,
                name => name,
            };
            let found = other.and_then(|entry| entry.slot(name));
            look("document", &slot.name, &slot.values, found);
        }
    }
    if let (Some(set), other) = (sent.submission_set(), received.submission_set()) {
        for slot in set.slots() {
            let found = other.and_then(|set| set.slot(&slot.name));
            look("set", &slot.name, &slot.values, found);
        }
    }
    let difference = (!lost.is_empty()).then(|| format!("lost or changed: {}", lost.join(", ")));
    Check::of("slots", format!("{compared} equal"), difference)
}

fn values(sent: &Metadata, received: &Metadata, uri: &str) -> Check {
    let mut compared = 0;
    let mut differing = Vec::new();
    for (name, one, other) in all_values(sent, received, uri) {
        compared += 1;
        if !Check::equal(&name, &one, &other).holds() {
            differing.push(name);
        }
    }
    let difference = (!differing.is_empty()).then(|| format!("differ: {}", differing.join(", ")));
    Check::of("attributes", format!("{compared} equal"), difference)
}

fn canonical_form(sent: &Metadata, received: &Metadata) -> Check {
    let is_equal = equal_metadata(sent.xml(), received.xml());
    let difference = (!is_equal).then(|| "the XML differs in its canonical form".to_owned());
    Check::of("metadata", "equal as exclusive canonical XML", difference)
}

/// Each attribute by name, as it was sent and as it was received.
fn all_values(
    sent: &Metadata,
    received: &Metadata,
    uri: &str,
) -> impl Iterator<Item = (String, String, String)> {
    let mut all = Vec::new();
    let mut add = |object: &str, one: Vec<(&str, String)>, other: Vec<(&str, String)>| {
        for (index, (name, value)) in one.into_iter().enumerate() {
            let found = other.get(index).map(|(_, found)| found.clone());
            let found = found.unwrap_or_else(|| "none".to_owned());
            all.push((format!("{object} {name}"), value, found));
        }
    };
    if let Some(set) = sent.submission_set() {
        let other = received.submission_set().map(set_values);
        add("set", set_values(set), other.unwrap_or_default());
    }
    for entry in sent.document_entries() {
        let other = entry_of(received, &entry.id).map(|entry| {
            let uri = entry.slot(uri).map(|values| values.concat());
            entry_values(entry, uri.or_else(|| entry.uri.clone()))
        });
        let one = entry_values(entry, entry.uri.clone());
        add("document", one, other.unwrap_or_default());
    }
    all.into_iter()
}

fn set_values(set: &SubmissionSet) -> Vec<(&'static str, String)> {
    vec![
        ("title", text(&set.title)),
        ("uniqueId", text(&set.unique_id)),
        ("sourceId", text(&set.source_id)),
        ("submissionTime", text(&set.submission_time)),
        ("patientId", text(&set.patient_id)),
        ("comments", text(&set.comments)),
        ("contentTypeCode", code(set.content_type_code.as_ref())),
        ("intendedRecipient", set.intended_recipients.join(" ; ")),
        ("author", format!("{:?}", set.authors)),
    ]
}

fn entry_values(entry: &DocumentEntry, uri: Option<String>) -> Vec<(&'static str, String)> {
    let codes = |codes: &[Code]| -> String {
        let texts: Vec<String> = codes.iter().map(|one| code(Some(one))).collect();
        texts.join(" ; ")
    };
    let facility = entry.healthcare_facility_type_code.as_ref();
    vec![
        ("title", text(&entry.title)),
        ("uniqueId", text(&entry.unique_id)),
        ("mimeType", text(&entry.mime_type)),
        ("objectType", text(&entry.object_type)),
        ("typeCode", code(entry.type_code.as_ref())),
        ("classCode", code(entry.class_code.as_ref())),
        ("formatCode", code(entry.format_code.as_ref())),
        ("patientId", text(&entry.patient_id)),
        ("sourcePatientId", text(&entry.source_patient_id)),
        ("sourcePatientInfo", entry.source_patient_info.join(" ; ")),
        ("creationTime", text(&entry.creation_time)),
        ("serviceStartTime", text(&entry.service_start_time)),
        ("serviceStopTime", text(&entry.service_stop_time)),
        ("languageCode", text(&entry.language_code)),
        ("confidentialityCode", codes(&entry.confidentiality_codes)),
        ("healthcareFacilityTypeCode", code(facility)),
        (
            "practiceSettingCode",
            code(entry.practice_setting_code.as_ref()),
        ),
        ("eventCodeList", codes(&entry.event_codes)),
        ("hash", text(&entry.hash)),
        ("size", text(&entry.size)),
        ("URI", text(&uri)),
        ("comments", text(&entry.comments)),
        ("author", format!("{:?}", entry.authors)),
    ]
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "none".to_owned())
}

fn code(code: Option<&Code>) -> String {
    let Some(code) = code else {
        return "none".to_owned();
    };
    let scheme = code.scheme.as_deref().unwrap_or("no scheme");
    let display = code.display.as_deref().unwrap_or("no name");
    format!("{} ({display}) of {scheme}", code.code)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        app::demo::ehr::Referral,
        formats::{limits::Limits, metadata::RECEIVED_URI, xml::kept::KeptXml},
    };

    /// A referral, and what comes out of its package if nothing goes wrong.
    fn crossed() -> (Submission, Submission) {
        let from = "ngozi.okafor@direct.elm.example".parse().unwrap();
        let to = ["rui.silva", "referrals"].map(address);
        let sent = Referral::new(from, to.to_vec(), Timestamp::UNIX_EPOCH)
            .unwrap()
            .submission;
        let mut edit = sent.metadata.edit();
        for (number, entry) in (1..).zip(sent.metadata.document_entries()) {
            edit.rename_slot(&entry.id, "URI", RECEIVED_URI);
            edit.set_slot(&entry.id, "URI", &[&format!("DOC{number:05}.XML")]);
        }
        let received = Submission {
            metadata: edit.finish().unwrap(),
            recipients: sent.recipients.iter().rev().cloned().collect(),
            documents: sent.documents.clone(),
        };
        (sent, received)
    }

    fn address(local: &str) -> DirectAddress {
        format!("{local}@direct.harbor.example").parse().unwrap()
    }

    fn differing(sent: &Submission, received: &Submission) -> Vec<String> {
        compare(sent, &sent.recipients, received, RECEIVED_URI)
            .into_iter()
            .filter(|check| !check.holds())
            .map(|check| check.subject)
            .collect()
    }

    /// The received metadata with some of its text replaced.
    fn rewritten(metadata: &Metadata, from: &str, to: &str) -> Metadata {
        let text = metadata.xml().as_str();
        assert!(text.contains(from), "{from}");
        let limits = Limits::default();
        let xml = KeptXml::read(text.replacen(from, to, 1).as_bytes(), &limits).unwrap();
        Metadata::read(xml, &limits).unwrap()
    }

    #[test]
    fn what_arrives_as_it_was_sent_differs_in_nothing() {
        let (sent, received) = crossed();
        assert_eq!(differing(&sent, &received), Vec::<String>::new());
        let shown = shown_values(&sent.metadata, &received.metadata, RECEIVED_URI);
        assert_eq!(shown.len(), 3 + 2 * 4);
        assert!(shown.iter().all(Check::holds));
    }

    // rule: XDR-89
    #[test]
    fn a_request_has_the_uri_where_it_was_and_only_the_recipients_that_it_is_for() {
        let (sent, _) = crossed();
        let one = &sent.recipients[..1];
        let received = Submission {
            metadata: sent.metadata.clone(),
            recipients: one.to_vec(),
            documents: sent.documents.clone(),
        };
        let differing = |to: &[DirectAddress], uri: &str| -> Vec<String> {
            let checks = compare(&sent, to, &received, uri).into_iter();
            let differing = checks.filter(|check| !check.holds());
            differing.map(|check| check.subject).collect()
        };
        assert_eq!(differing(one, "URI"), Vec::<String>::new());
        assert_eq!(differing(&sent.recipients, "URI"), ["To"]);
        assert_eq!(differing(one, RECEIVED_URI), ["slots"]);
    }

    #[test]
    fn one_changed_octet_is_noticed_by_octets_and_hash() {
        let (sent, mut received) = crossed();
        let last = received.documents[1].1.last_mut().unwrap();
        *last ^= 1;
        assert_eq!(
            differing(&sent, &received),
            ["document 2 octets", "document 2 SHA-1"]
        );
    }

    #[test]
    fn a_missing_last_octet_is_noticed_by_size_too() {
        let (sent, mut received) = crossed();
        received.documents[0].1.pop();
        assert_eq!(
            differing(&sent, &received),
            ["document 1 octets", "document 1 SHA-1", "document 1 size"]
        );
    }

    #[test]
    fn a_missing_document_is_noticed() {
        let (sent, mut received) = crossed();
        received.documents.remove(0);
        assert_eq!(
            differing(&sent, &received),
            ["documents", "document 1 octets"]
        );
    }

    #[test]
    fn a_changed_hash_is_noticed() {
        let (sent, mut received) = crossed();
        let hash = sent.metadata.document_entries()[0].hash.clone().unwrap();
        let other = "0".repeat(hash.len());
        received.metadata = rewritten(&received.metadata, &hash, &other);
        let found = differing(&sent, &received);
        assert_eq!(
            found,
            ["document 1 SHA-1", "slots", "attributes", "metadata"]
        );
    }

    #[test]
    fn every_slot_that_is_lost_is_noticed() {
        let (sent, received) = crossed();
        let names = |slots: &[crate::formats::metadata::Slot]| -> Vec<String> {
            slots.iter().map(|slot| slot.name.clone()).collect()
        };
        let set = sent.metadata.submission_set().unwrap();
        let entries = sent.metadata.document_entries();
        let mut objects = vec![(set.id.clone(), names(set.slots()))];
        objects.extend(entries.iter().map(|e| (e.id.clone(), names(e.slots()))));
        let mut tried = 0;
        for (id, names) in objects {
            for name in names {
                let name = if name == "URI" { RECEIVED_URI } else { &name };
                let mut edit = received.metadata.edit();
                edit.remove_slot(&id, name);
                let lacking = Submission {
                    metadata: edit.finish().unwrap(),
                    recipients: received.recipients.clone(),
                    documents: received.documents.clone(),
                };
                let found = differing(&sent, &lacking);
                assert!(found.contains(&"slots".to_owned()), "{name}: {found:?}");
                tried += 1;
            }
        }
        assert_eq!(tried, 21);
    }

    #[test]
    fn a_changed_title_code_or_author_is_noticed() {
        let (sent, received) = crossed();
        for (from, to) in [
            (
                "value=\"Letter of referral\"",
                "value=\"Letter of referra1\"",
            ),
            (
                "nodeRepresentation=\"57133-1\"",
                "nodeRepresentation=\"57133-2\"",
            ),
            ("881^Okafor^Ngozi", "881^Okafor^Ngozl"),
        ] {
            let changed = Submission {
                metadata: rewritten(&received.metadata, from, to),
                recipients: received.recipients.clone(),
                documents: received.documents.clone(),
            };
            assert_eq!(
                differing(&sent, &changed),
                ["attributes", "metadata"],
                "{to}"
            );
        }
    }

    #[test]
    fn a_recipient_that_is_missing_doubled_or_another_is_noticed() {
        let (sent, mut received) = crossed();
        received.recipients = vec![address("referrals")];
        assert_eq!(differing(&sent, &received), ["To"]);
        received.recipients = vec![address("referrals"); 2];
        assert_eq!(differing(&sent, &received), ["To"]);
        received.recipients = ["referrals", "rui.silva", "rui.silva"].map(address).into();
        assert_eq!(differing(&sent, &received), ["To"]);
        received.recipients = ["referrals", "rui.sylva"].map(address).into();
        assert_eq!(differing(&sent, &received), ["To"]);
    }
}
