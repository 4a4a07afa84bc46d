//! Minimal metadata for the documents of a mail that brought none (MD-110 to MD-126).

use std::io::BufReader;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Incoming, context,
    names::Names,
    parts::{DocumentPart, media_type, place},
};
use crate::formats::{
    cda,
    context::Context,
    document::DocumentFacts,
    finding::Finding,
    ids::DirectAddress,
    metadata::{
        Author, NewEntry, NewSubmission, NewSubmissionSet,
        hl7::{Cx, IntendedRecipient, Xcn, Xtn},
    },
    mime::read::{Mailbox, Part, refusal},
};

/// What XDM wants in a Subject (XDM-50); it is no title.
const XDM_PHRASE: &str = "XDM/1.0/DDM";
/// Longest title of a SubmissionSet, in characters (MD-122).
const MAX_SET_TITLE_CHARS: usize = 255;
/// Longest title of a DocumentEntry, in characters (MD-98).
const MAX_TITLE_CHARS: usize = 127;

/// What each of these parts, whose facts are known, says of itself. Findings tell of what is odd.
pub(super) fn entries(
    incoming: &Incoming<'_>,
    names: &Names,
    parts: &[(DocumentPart<'_>, DocumentFacts)],
    findings: &mut Vec<Finding>,
) -> Vec<NewEntry> {
    parts
        .iter()
        .map(|(found, facts)| entry(incoming, names, found.part, facts, findings))
        .collect()
}

/// Makes a submission of these parts and their entries. An Error among the findings refuses it.
pub(super) fn submission(
    incoming: &Incoming<'_>,
    names: &Names,
    parts: &[(DocumentPart<'_>, DocumentFacts)],
    mut entries: Vec<NewEntry>,
    context: Option<&Context>,
    findings: &mut Vec<Finding>,
) -> NewSubmission {
    part_shared_ids(names, parts, &mut entries);
    if let Some(context) = context {
        context::describe(context, incoming.policy, &mut entries);
        context::add_patient(context, incoming.policy, &mut entries);
    }
    for entry in &mut entries {
        complete(incoming, entry);
    }
    check_patients(incoming, &entries, findings);
    let header = &incoming.mail.header;
    let author = header
        .from
        .iter()
        .chain(&header.sender)
        .find(|mailbox| mailbox.address == *incoming.from);
    let patient_ids: Vec<&String> = entries
        .iter()
        .filter_map(|e| e.patient_id.as_ref())
        .collect();
    let patient_id = match patient_ids.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => Some((*first).clone()),
        _ => None,
    };
    let set = NewSubmissionSet {
        id: names.urn("set", ""),
        unique_id: names.oid("set", "").as_str().to_owned(),
        source_id: incoming.source_id.as_str().to_owned(),
        submission_time: dtm(header.date.unwrap_or(incoming.received_at)),
        patient_id,
        title: header.subject.as_deref().and_then(set_title),
        authors: vec![Author {
            person: author.and_then(author_person),
            telecommunications: vec![Xtn::for_address(incoming.from).to_string()],
            ..Author::default()
        }],
        intended_recipients: incoming
            .recipients
            .iter()
            .map(|address| IntendedRecipient::for_address(address).to_string())
            .collect(),
        content_type_code: context.and_then(|context| context.content_type_code.clone()),
    };
    NewSubmission { set, entries }
}

fn entry(
    incoming: &Incoming<'_>,
    names: &Names,
    part: &Part<'_>,
    facts: &DocumentFacts,
    findings: &mut Vec<Finding>,
) -> NewEntry {
    let (mime_type, is_cda) = media_type(part, findings);
    let title = part.description.as_ref().or(part.file_name.as_ref());
    let mut entry = NewEntry {
        id: names.urn("entry", &part.path),
        association_id: names.urn("association", &part.path),
        unique_id: names.oid("document", &part.path).as_str().to_owned(),
        mime_type,
        hash: facts.hash(),
        size: facts.size,
        title: title.map(|title| title.chars().take(MAX_TITLE_CHARS).collect()),
        creation_time: part.creation_date.map(dtm),
        language_code: part.language.clone().filter(|tag| is_language(tag)),
        ..NewEntry::default()
    };
    if is_cda {
        describe_cda(incoming, part, &mut entry);
    }
    entry
}

/// Adds what every entry has, where neither the document nor the context said it (MD-115, MD-116).
fn complete(incoming: &Incoming<'_>, entry: &mut NewEntry) {
    let sent = incoming.mail.header.date.unwrap_or(incoming.received_at);
    entry.creation_time.get_or_insert_with(|| dtm(sent));
    entry
        .format_code
        .get_or_insert_with(cda::mime_type_sufficient);
}

/// Takes over what a CDA's header says; one that cannot be read is an opaque document (MD-161).
fn describe_cda(incoming: &Incoming<'_>, part: &Part<'_>, entry: &mut NewEntry) {
    let limit = usize::try_from(incoming.limits.max_metadata_bytes).unwrap_or(usize::MAX);
    let beginning = part.beginning(limit);
    if let Some(header) = cda::read(BufReader::new(&*beginning), incoming.limits) {
        cda::describe(&header, &incoming.policy.cda_options(), entry);
    }
}

/// Two parts with one CDA id get ids of their own: uniqueIds may not be shared (MD-112, MD-93).
fn part_shared_ids(
    names: &Names,
    parts: &[(DocumentPart<'_>, DocumentFacts)],
    entries: &mut [NewEntry],
) {
    let ids: Vec<String> = entries
        .iter()
        .map(|entry| entry.unique_id.clone())
        .collect();
    for (entry, (found, _)) in entries.iter_mut().zip(parts) {
        if ids.iter().filter(|id| **id == entry.unique_id).count() > 1 {
            let own = names.oid("document", &found.part.path);
            entry.unique_id = own.as_str().to_owned();
        }
    }
}

/// Documents about different patients are never put into one submission unnoticed (T-7b): ids of one authority differ.
fn check_patients(incoming: &Incoming<'_>, entries: &[NewEntry], findings: &mut Vec<Finding>) {
    let ids: Vec<Cx> = entries
        .iter()
        .filter_map(|entry| entry.source_patient_id.as_deref())
        .map(Cx::read)
        .collect();
    let differ = |one: &Cx| {
        ids.iter()
            .any(|other| one.authority == other.authority && one.id != other.id)
    };
    if ids.iter().any(differ) {
        let text = "the documents are about different patients; each patient needs a mail, or a submission set, of \
                    its own";
        findings.push(if incoming.warns_of_patients() {
            Finding::warning("MD-92", "DocumentEntry.sourcePatientId", text)
        } else {
            refusal("MD-92", "DocumentEntry.sourcePatientId", text)
        });
    }
}

/// A DTM in UTC, to the second.
pub(in crate::bridge) fn dtm(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC)
        .strftime("%Y%m%d%H%M%S")
        .to_string()
}

/// The Subject without the XDM phrase and what joined it (MD-122).
fn set_title(subject: &str) -> Option<String> {
    let bare = subject
        .replace("XDM/1.0/DDM+DICOM-ZIP", "")
        .replace(XDM_PHRASE, "");
    let words: Vec<&str> = bare.split_whitespace().collect();
    let joined = words.join(" ");
    let title = joined.trim_matches(|c: char| c == ' ' || c == '-' || c == '+');
    let title: String = title.chars().take(MAX_SET_TITLE_CHARS).collect();
    (!title.is_empty()).then_some(title)
}

/// A display name as XCN: split only where it is certain what is what (MD-117).
fn author_person(mailbox: &Mailbox) -> Option<String> {
    const CREDENTIALS: [&str; 12] = [
        "md", "do", "rn", "np", "pa", "phd", "dds", "jr", "sr", "ii", "iii", "esq",
    ];
    let name = mailbox.name.as_deref()?;
    if name.parse::<DirectAddress>().is_ok() {
        return None;
    }
    let is_word = |text: &str| {
        text.chars().count() > 1 && text.chars().all(|c| c.is_alphabetic() || "-'".contains(c))
    };
    let xcn = match name
        .split_once(',')
        .map(|(one, two)| (one.trim(), two.trim()))
    {
        Some((family, given))
            if is_word(family)
                && is_word(given)
                && !CREDENTIALS.contains(&given.to_lowercase().as_str()) =>
        {
            Xcn {
                family: family.to_owned(),
                given: given.to_owned(),
                ..Xcn::default()
            }
        }
        _ => Xcn {
            family: name.to_owned(),
            ..Xcn::default()
        },
    };
    let text = xcn.to_string();
    (text.chars().count() <= 256).then_some(text)
}

/// MD-55.
fn is_language(tag: &str) -> bool {
    let is_subtag =
        |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    tag.split('-').all(is_subtag) && tag.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// A part that cannot be decoded, or is too large, refuses the submission: content must not be lost.
pub(super) fn facts(
    incoming: &Incoming<'_>,
    found: &DocumentPart<'_>,
) -> Result<DocumentFacts, Finding> {
    use crate::formats::{document::DocumentKey, mime::read::DecodeError};
    let leaf = u32::try_from(found.leaf).unwrap_or(u32::MAX);
    let max_bytes = incoming.limits.max_document_bytes;
    found
        .part
        .facts(DocumentKey::Loose(leaf), max_bytes)
        .map_err(|error| {
            let rule = match error {
                DecodeError::TooLarge { .. } => "LIM-2",
                _ => "SM-55",
            };
            refusal(rule, place(found.part), error.to_string())
        })
}
