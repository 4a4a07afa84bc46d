//! XDR -> XDM -> XDR gives back what was received (XDR-89): by exclusive canonical XML after dropping white-space-only
//! text and the slots that XDR-82 and XDR-84 added; documents octet by octet.

use std::{collections::HashSet, fmt::Write as _, io::Cursor, path::Path};

use mail_parser::MessageParser;
use proptest::prelude::*;
use xdbridge::{
    bridge::{
        to_direct::{Conversion, DirectPackaging, write_message},
        to_xdr::{XdrSubmission, submission_from_xdm},
    },
    formats::{
        document::{DocumentKey, DocumentSource, DocumentsInMemory, hex},
        limits::Limits,
        metadata::{Level, Metadata, RECEIVED_URI, equal_metadata},
        xdm::{Institution, XdmDocuments, XdmPackage, unpack},
        xml::{c14n, kept::KeptXml},
    },
};

use crate::support::submission::TestSubmission;

const RIM: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0";
const AUTHOR_SCHEME: &str = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";

/// What came out at the far end.
struct Crossed {
    package: XdmPackage,
    submission: XdrSubmission,
    documents: DocumentsInMemory,
}

/// Packs, wraps into mail, reads the mail with another's parser, unpacks, and makes a Submission again.
fn cross(submission: &mut TestSubmission, level: Level) -> Crossed {
    let from = "ngozi.okafor@direct.elm.example".parse().unwrap();
    let to = ["rui.silva@direct.harbor.example".parse().unwrap()];
    let conversion = Conversion {
        metadata: &submission.metadata,
        documents: &submission.entry_documents,
        level,
        from: &from,
        to: &to,
        message_id: &"1@direct.elm.example".parse().unwrap(),
        date: "2026-11-22T08:05:09Z".parse().unwrap(),
        packaging: DirectPackaging::Xdm,
        subject_title: true,
        wants_final_delivery: true,
        institution: &Institution::default(),
    };
    let mut entity = Vec::new();
    write_message(&conversion, &mut submission.documents, &mut entity).unwrap();
    let inner = entity
        .strip_prefix(b"Content-Type: message/rfc822\r\n\r\n")
        .unwrap();
    let mail = MessageParser::default().parse(inner).unwrap();
    let zip = mail.attachment(0).unwrap().contents().to_vec();

    let limits = Limits::default();
    let package = unpack(Cursor::new(&zip), &limits).unwrap();
    assert_eq!(package.findings, []);
    let [set] = package.sets.as_slice() else {
        panic!("one set was packed");
    };
    let submission = submission_from_xdm(set).unwrap();
    let mut documents = DocumentsInMemory::default();
    XdmDocuments::open(Cursor::new(&zip), set, &limits)
        .unwrap()
        .pour(&mut documents)
        .unwrap();
    Crossed {
        package,
        submission,
        documents,
    }
}

/// What the bridge was allowed to add to this submission.
struct Additions {
    /// Ids of objects and names of their slots.
    slots: HashSet<(String, &'static str)>,
    author_of: Option<String>,
}

impl Additions {
    fn to(metadata: &Metadata, level: Level) -> Self {
        let mut slots = HashSet::new();
        for entry in metadata.document_entries() {
            if entry.hash.is_none() {
                slots.insert((entry.id.clone(), "hash"));
            }
            if entry.size.is_none() {
                slots.insert((entry.id.clone(), "size"));
            }
        }
        let mut author_of = None;
        if let (Level::Minimal, Some(set)) = (level, metadata.submission_set()) {
            if set.intended_recipients.is_empty() {
                slots.insert((set.id.clone(), "intendedRecipient"));
            }
            author_of = set.authors.is_empty().then(|| set.id.clone());
        }
        Self { slots, author_of }
    }

    /// The metadata without them and without white-space-only text, in canonical form.
    fn taken_off(&self, metadata: &Metadata) -> String {
        let text = metadata.xml().as_str();
        let document = roxmltree::Document::parse(text).unwrap();
        let mut cuts: Vec<_> = document
            .descendants()
            .filter(|node| {
                let parent = node.parent().and_then(|parent| parent.attribute("id"));
                if node.is_text() {
                    return node.text().unwrap_or_default().trim().is_empty();
                }
                let is_slot = node.has_tag_name((RIM, "Slot"))
                    && self.slots.iter().any(|(id, name)| {
                        parent == Some(id) && node.attribute("name") == Some(name)
                    });
                let is_author = node.attribute("classificationScheme") == Some(AUTHOR_SCHEME)
                    && parent.is_some()
                    && parent == self.author_of.as_deref();
                is_slot || is_author
            })
            .map(|node| node.range())
            .collect();
        cuts.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        let mut kept = String::new();
        let mut done = 0;
        for cut in cuts {
            if cut.start >= done {
                kept.push_str(&text[done..cut.start]);
                done = cut.end;
            }
        }
        kept.push_str(&text[done..]);
        String::from_utf8(c14n::exclusive(&KeptXml::from_checked(kept)).unwrap()).unwrap()
    }
}

/// Crosses and compares everything.
fn assert_comes_back(mut submission: TestSubmission, level: Level) {
    let crossed = cross(&mut submission, level);
    let set = &crossed.package.sets[0];

    // In between, the package has what XDM asks for.
    for (entry, (_, facts)) in set
        .metadata
        .document_entries()
        .iter()
        .zip(&submission.entry_documents)
    {
        assert!(entry.uri.as_ref().unwrap().starts_with("DOC"));
        assert!(
            entry
                .hash
                .as_ref()
                .unwrap()
                .eq_ignore_ascii_case(&facts.hash())
        );
        assert_eq!(entry.size.as_ref().unwrap().parse(), Ok(facts.size));
    }

    let additions = Additions::to(&submission.metadata, level);
    assert_eq!(
        additions.taken_off(&crossed.submission.metadata),
        additions.taken_off(&submission.metadata)
    );
    assert!(equal_metadata(
        crossed.submission.metadata.xml(),
        submission.metadata.xml()
    ));
    let sent = &submission.documents.documents;
    assert_eq!(crossed.submission.documents.len(), sent.len());
    for ((id, facts), ((sent_id, _), (_, octets))) in crossed
        .submission
        .documents
        .iter()
        .zip(submission.entry_documents.iter().zip(sent))
    {
        assert_eq!(id, sent_id);
        assert_eq!(crossed.documents.find(facts.key).unwrap(), octets);
        assert!(matches!(facts.key, DocumentKey::ZipMember(_)));
    }
}

// --- generated submissions ---------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Entry {
    octets: Vec<u8>,
    media_type: &'static str,
    title: Option<String>,
    hash: Option<bool>,
    has_size: bool,
    uri: Option<Vec<String>>,
    received_before: u8,
    extra: Vec<(String, Vec<String>)>,
    quote: char,
    has_empty_parts: bool,
    slots_last_first: bool,
}

/// Any text that XML can hold, often awkward.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9 ]{1,20}",
        "[\\p{L}\\p{N}\\p{P}\\p{S} &<>'\"\\]]{1,30}",
        Just("Ngozi \u{1F600} Ọkáfọ̀ \t]]> \r\n x".to_owned()),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let uri = prop_oneof![
        Just(vec!["DOC1.XML".to_owned()]),
        Just(vec![
            "1|http://repo.example/".to_owned(),
            "2|doc".to_owned()
        ]),
        Just(vec![]),
        text().prop_map(|text| vec![text]),
    ];
    let extra = (
        "urn:[a-z]{2,8}:[a-z:]{1,10}",
        proptest::collection::vec(text(), 0..3),
    );
    (
        (
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                Just(b"<a/>".repeat(20_000)),
            ],
            prop::sample::select(vec![
                "text/xml",
                "application/pdf",
                "application/dicom",
                "multipart/related",
                "x/y",
            ]),
            proptest::option::of(text()),
            proptest::option::of(any::<bool>()),
            any::<bool>(),
        ),
        (
            proptest::option::of(uri),
            0u8..3,
            proptest::collection::vec(extra, 0..3),
            prop::sample::select(vec!['"', '\'']),
            any::<bool>(),
            any::<bool>(),
        ),
    )
        .prop_map(
            |(
                (octets, media_type, title, hash, has_size),
                (uri, received_before, extra, quote, has_empty_parts, slots_last_first),
            )| Entry {
                octets,
                media_type,
                title,
                hash,
                has_size,
                uri,
                received_before,
                extra,
                quote,
                has_empty_parts,
                slots_last_first,
            },
        )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\r' => escaped.push_str("&#13;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn slot(quote: char, name: &str, values: &[String]) -> String {
    let values: String = values
        .iter()
        .map(|value| format!("<r:Value>{}</r:Value>", escaped(value)))
        .collect();
    format!(
        "<r:Slot  name ={quote}{}{quote} >\n<r:ValueList>{values}</r:ValueList></r:Slot>",
        escaped(name)
    )
}

impl Entry {
    fn write(&self, number: usize, xml: &mut String) {
        let mut slots: Vec<(String, Vec<String>)> = Vec::new();
        if let Some(uri) = &self.uri {
            slots.push(("URI".into(), uri.clone()));
        }
        for again in 0..self.received_before {
            let name = format!("{RECEIVED_URI}{}", "~".repeat(again.into()));
            slots.push((name, vec![format!("earlier{again}.xml")]));
        }
        if let Some(is_upper) = self.hash {
            let hash = hex(&openssl::sha::sha1(&self.octets));
            let hash = if is_upper { hash.to_uppercase() } else { hash };
            slots.push(("hash".into(), vec![hash]));
        }
        if self.has_size {
            slots.push(("size".into(), vec![self.octets.len().to_string()]));
        }
        for (name, values) in &self.extra {
            if !slots.iter().any(|(taken, _)| taken == name) {
                slots.push((name.clone(), values.clone()));
            }
        }
        if self.slots_last_first {
            slots.reverse();
        }
        let _ = write!(
            xml,
            "<r:ExtrinsicObject id=\"Document{number:02}\" mimeType=\"{}\" status='x' xmlns:e=\"urn:extra\" e:a=\"1\">",
            self.media_type
        );
        for (name, values) in slots {
            xml.push_str("\n    ");
            xml.push_str(&slot(self.quote, &name, &values));
        }
        if let Some(title) = &self.title {
            let _ = write!(
                xml,
                "<r:Name><r:LocalizedString value=\"{}\"/></r:Name>",
                escaped(title)
            );
        }
        if self.has_empty_parts {
            xml.push_str("<r:Description/><!-- a comment --><r:VersionInfo versionName=\"1.0\"/>");
        }
        let _ = writeln!(
            xml,
            "<r:Classification id=\"cl{number}\" classificationScheme=\"urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d\" \
             classifiedObject=\"Document{number:02}\" nodeRepresentation=\"\"/></r:ExtrinsicObject>"
        );
    }
}

/// A whole SubmitObjectsRequest with folders, associations and labels beside their objects.
fn request(
    entries: &[Entry],
    folders: usize,
    set_title: Option<&str>,
    has_recipient: bool,
) -> String {
    let mut xml = String::from(
        "\n<l:SubmitObjectsRequest xmlns:l=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
         xmlns:r=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\" id=\"req\" comment=\"&#xE9;\">\
         <r:RegistryObjectList>",
    );
    for (number, entry) in (1..).zip(entries) {
        entry.write(number, &mut xml);
    }
    let label = |xml: &mut String, object: &str, node: &str| {
        let _ = write!(
            xml,
            "<r:Classification id=\"l-{object}\" classifiedObject=\"{object}\" classificationNode=\"{node}\"/>"
        );
    };
    let _ = write!(
        xml,
        "<r:RegistryPackage id=\"Set\">{}",
        slot('"', "submissionTime", &["20261122080509".into()])
    );
    if has_recipient {
        let value = "|Okafor^Ngozi|^^Internet^a@direct.quay.example".to_owned();
        xml.push_str(&slot('\'', "intendedRecipient", &[value]));
    }
    if let Some(title) = set_title {
        let _ = write!(
            xml,
            "<r:Name><r:LocalizedString value=\"{}\"/></r:Name>",
            escaped(title)
        );
    }
    xml.push_str("</r:RegistryPackage>");
    label(
        &mut xml,
        "Set",
        "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd",
    );
    for folder in 0..folders {
        let id = format!("Folder{folder}");
        let _ = write!(xml, "<r:RegistryPackage id=\"{id}\"/>");
        label(
            &mut xml,
            &id,
            "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2",
        );
        let _ = write!(
            xml,
            "<r:Association id=\"f{folder}\" associationType=\"urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember\" \
             sourceObject=\"{id}\" targetObject=\"Document01\"/>"
        );
    }
    for number in 1..=entries.len() {
        let _ = write!(
            xml,
            "<r:Association id=\"a{number}\" associationType=\"urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember\" \
             sourceObject=\"Set\" targetObject=\"Document{number:02}\">{}</r:Association>",
            slot('"', "SubmissionSetStatus", &["Original".into()])
        );
    }
    xml.push_str(
        "<r:ObjectRef id=\"ref\"/></r:RegistryObjectList></l:SubmitObjectsRequest>\n<!-- end -->",
    );
    xml
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    // rule: XDR-80, XDR-82, XDR-83, XDR-84, XDR-89, XDR-103, T-7b
    #[test]
    fn every_generated_submission_comes_back_as_it_was(
        entries in proptest::collection::vec(entry(), 1..=20),
        folders in 0usize..3,
        set_title in proptest::option::of(text()),
        has_recipient in any::<bool>(),
        level in prop::sample::select(vec![Level::Full, Level::Limited, Level::Minimal]),
    ) {
        let xml = request(&entries, folders, set_title.as_deref(), has_recipient);
        let documents = entries.into_iter().map(|entry| entry.octets).collect();
        assert_comes_back(TestSubmission::new(&xml, documents), level);
    }
}

// --- fixtures ----------------------------------------------------------------------------------

// rule: XDR-89
#[test]
fn every_metadata_file_of_the_project_comes_back_as_it_was() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["docs/spec/examples", "fixtures"] {
        find_files(&root.join(folder), &mut files);
    }
    let mut crossed = 0;
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let Some(request) = submit_objects_request(&text) else {
            continue;
        };
        let limits = Limits::default();
        let Ok(kept) = KeptXml::read(request.as_bytes(), &limits) else {
            continue;
        };
        // Fixtures of broken metadata are refused before they are packed.
        let Ok(metadata) = Metadata::read(kept, &limits) else {
            continue;
        };
        let mut ids = HashSet::new();
        let is_whole = metadata.document_entries().iter().all(|entry| {
            !entry.id.is_empty()
                && ids.insert(entry.id.to_lowercase())
                && ["URI", "hash", "size"]
                    .iter()
                    .all(|name| entry.slots.iter().filter(|slot| slot.name == *name).count() < 2)
        });
        if is_whole && !metadata.document_entries().is_empty() {
            for level in [Level::Full, Level::Minimal] {
                assert_comes_back(TestSubmission::with_invented_documents(&request), level);
            }
            crossed += 1;
        }
    }
    assert!(crossed >= 3, "only {crossed} files were found");
}

fn find_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    let Ok(listing) = std::fs::read_dir(folder) else {
        return;
    };
    for path in listing.map(|item| item.unwrap().path()) {
        if path.is_dir() {
            find_files(&path, files);
        } else {
            files.push(path);
        }
    }
    files.sort();
}

/// The lcm:SubmitObjectsRequest in a text that may be a whole HTTP message, as a document of its own.
fn submit_objects_request(text: &str) -> Option<String> {
    let name_at = text.find("SubmitObjectsRequest")?;
    let start = text[..name_at].rfind('<')?;
    let written_name = &text[start + 1..name_at + "SubmitObjectsRequest".len()];
    let end_tag = format!("</{written_name}>");
    let end = text.find(&end_tag)? + end_tag.len();
    let alone = &text[start..end];
    roxmltree::Document::parse(alone)
        .is_ok()
        .then(|| alone.to_owned())
}
