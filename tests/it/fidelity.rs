//! XDR -> XDM -> XDR, from one envelope to another, gives back what was received (XDR-89): by exclusive canonical XML after dropping white-space-only
//! text and the slots that XDR-82 and XDR-84 added; documents octet by octet.

use std::{collections::HashSet, fmt::Write as _, io::Cursor, path::Path};

use mail_parser::MessageParser;
use proptest::prelude::*;
use xdbridge::{
    bridge::{
        destination::MailPolicy,
        to_direct::{Conversion, write_message},
        to_xdr::{XdrSubmission, submission_from_xdm},
    },
    formats::{
        document::{DocumentKey, DocumentSource, DocumentsInMemory, hex},
        limits::Limits,
        metadata::{Level, Metadata, RECEIVED_URI, equal_metadata},
        soap::REQUEST_ACTION,
        xdm::{Institution, XdmDocuments, XdmPackage, unpack},
        xdr::request::{
            OutgoingDocument, OutgoingRequest, Packaging, ReadOptions, ReceivedRequest, read,
            write_mtom,
        },
        xml::{c14n, kept::KeptXml, names},
    },
};

use crate::support::submission::{TestSubmission, facts_of};

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
        policy: &MailPolicy {
            subject_title: true,
            ..MailPolicy::default()
        },
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

// --- requests ----------------------------------------------------------------------------------

fn read_request(content_type: &str, body: &[u8]) -> (ReceivedRequest, DocumentsInMemory) {
    let mut documents = DocumentsInMemory::default();
    let request = read(
        content_type,
        &mut Cursor::new(body),
        &Limits::default(),
        &ReadOptions::default(),
        &mut documents,
    )
    .unwrap();
    let mut errors = request.findings.iter().filter(|finding| finding.is_error());
    assert_eq!(errors.next(), None);
    (request, documents)
}

/// Through our own writer and reader.
fn write_and_read(
    metadata: &Metadata,
    keys: impl Iterator<Item = DocumentKey>,
    source: &mut DocumentsInMemory,
) -> (ReceivedRequest, DocumentsInMemory) {
    let entries = metadata.document_entries().iter();
    let documents: Vec<_> = entries
        .zip(keys)
        .map(|(entry, key)| OutgoingDocument {
            document_id: entry.id.clone(),
            key,
            mime_type: entry.mime_type.clone().unwrap_or_default(),
        })
        .collect();
    let request = OutgoingRequest {
        message_id: &"urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f80"
            .parse()
            .unwrap(),
        action: REQUEST_ACTION,
        to: "https://direct.harbor.example/xdr",
        address_block: None,
        metadata_level: None,
        metadata: metadata.xml(),
        documents: &documents,
    };
    let mut body = Vec::new();
    write_mtom(&request, source, &mut body).unwrap();
    read_request(&request.content_type(Packaging::Mtom), &body)
}

/// How a peer writes its request.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As we do: the namespaces stand on the metadata's own root.
    Ours,
    /// The envelope declares the prefixes.
    PrefixesInherited,
    /// The envelope makes ebRIM its default namespace.
    DefaultNamespaceInherited,
    /// The same, with CRLF.
    Crlf,
}

const L_DECLARED: &str = " xmlns:l=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\"";
const R_DECLARED: &str = " xmlns:r=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"";
const HAND_MADE_TYPE: &str = "multipart/related; boundary=\"elm-41\"; type=\"application/xop+xml\"; \
    start=\"<root@elm.example>\"; start-info=\"application/soap+xml\"";

/// A request by hand: `metadata` takes what it does not declare from the envelope.
fn hand_made(declared: &str, metadata: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    let (soap, wsa, xds, xop) = (names::SOAP12, names::WSA, names::XDS, names::XOP);
    let mut body = format!(
        "--elm-41\r\nContent-ID: <root@elm.example>\r\nContent-Type: application/xop+xml; charset=UTF-8; \
         type=\"application/soap+xml\"\r\n\r\n<s:Envelope xmlns:s='{soap}' xmlns:a='{wsa}' xmlns:x='{xds}'\
         {declared}><s:Header><a:Action s:mustUnderstand='1'>{REQUEST_ACTION}</a:Action>\
         <a:MessageID>urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f81</a:MessageID></s:Header><s:Body>\
         <x:ProvideAndRegisterDocumentSetRequest>{metadata}"
    );
    for number in 1..=documents.len() {
        let _ = write!(
            body,
            "<x:Document id='Document{number:02}'><i:Include xmlns:i='{xop}' href='cid:d{number}@elm.example'/>\
             </x:Document>"
        );
    }
    body.push_str("</x:ProvideAndRegisterDocumentSetRequest></s:Body></s:Envelope>");
    let mut body = body.into_bytes();
    for (number, octets) in (1..).zip(documents) {
        body.extend(
            format!(
                "\r\n--elm-41\r\nContent-ID: <d{number}@elm.example>\r\n\
                 Content-Transfer-Encoding: binary\r\n\r\n"
            )
            .bytes(),
        );
        body.extend(octets);
    }
    body.extend(b"\r\n--elm-41--\r\n");
    body
}

/// Sends `xml` and its documents in that form: what is received, and what was meant as a document of its own.
fn receive(form: Form, xml: &str, documents: &[Vec<u8>]) -> (TestSubmission, KeptXml) {
    let bare = xml.replacen(L_DECLARED, "", 1).replacen(R_DECLARED, "", 1);
    let (declared, bare) = match form {
        Form::Ours | Form::PrefixesInherited => (R_DECLARED.to_owned(), bare),
        Form::DefaultNamespaceInherited | Form::Crlf => (
            R_DECLARED.replacen("xmlns:r", "xmlns", 1),
            bare.replace("<r:", "<").replace("</r:", "</"),
        ),
    };
    let declared = declared + L_DECLARED;
    let alone = bare.replacen(
        "<l:SubmitObjectsRequest",
        &format!("<l:SubmitObjectsRequest{declared}"),
        1,
    );
    let meant = KeptXml::read(alone.as_bytes(), &Limits::default()).unwrap();
    let (request, received) = match form {
        Form::Ours => {
            let metadata = Metadata::read(meant.clone(), &Limits::default()).unwrap();
            let mut source = DocumentsInMemory {
                documents: (1..)
                    .map(DocumentKey::Part)
                    .zip(documents.to_vec())
                    .collect(),
            };
            write_and_read(&metadata, (1..).map(DocumentKey::Part), &mut source)
        }
        Form::PrefixesInherited | Form::DefaultNamespaceInherited => {
            read_request(HAND_MADE_TYPE, &hand_made(&declared, &bare, documents))
        }
        Form::Crlf => {
            let bare = bare.replace('\n', "\r\n");
            read_request(HAND_MADE_TYPE, &hand_made(&declared, &bare, documents))
        }
    };
    let facts = facts_of(&received);
    let entry_documents = request.documents.iter().map(|document| {
        let found = facts.iter().find(|facts| facts.key == document.key);
        (document.document_id.clone(), found.unwrap().clone())
    });
    let submission = TestSubmission {
        metadata: Metadata::read(request.metadata.clone(), &Limits::default())
            .unwrap_or_else(|error| panic!("{error}: {}", request.metadata.as_str())),
        entry_documents: entry_documents.collect(),
        documents: received,
    };
    (submission, meant)
}

/// Crosses, sends on, and compares everything.
fn assert_comes_back(mut submission: TestSubmission, level: Level) {
    let mut crossed = cross(&mut submission, level);
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

    // And so at the far end, in another envelope.
    let keys: Vec<_> = crossed
        .submission
        .documents
        .iter()
        .map(|(_, facts)| facts.key)
        .collect();
    let (request, received) = write_and_read(
        &crossed.submission.metadata,
        keys.into_iter(),
        &mut crossed.documents,
    );
    assert!(equal_metadata(&request.metadata, submission.metadata.xml()));
    assert_eq!(request.documents.len(), sent.len());
    for (document, ((sent_id, _), (_, octets))) in request
        .documents
        .iter()
        .zip(submission.entry_documents.iter().zip(sent))
    {
        assert_eq!(&document.document_id, sent_id);
        assert_eq!(received.find(document.key).unwrap(), octets);
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
    has_reference_before: bool,
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
            any::<bool>(),
        ),
    )
        .prop_map(
            |(
                (octets, media_type, title, hash, has_size),
                (
                    uri,
                    received_before,
                    extra,
                    quote,
                    has_empty_parts,
                    slots_last_first,
                    has_reference_before,
                ),
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
                has_reference_before,
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
        .map(|value| {
            // Either way of writing it means the same, as long as CDATA can hold it.
            let is_cdata = quote == '\'' && !value.contains(['\r', ']']);
            let text = if is_cdata {
                format!("<![CDATA[{value}]]>")
            } else {
                escaped(value)
            };
            format!("<r:Value>{text}</r:Value>")
        })
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
        if self.has_reference_before {
            let _ = write!(xml, "<r:ObjectRef id=\"Document{number:02}\"/>");
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

    // rule: SOAP-3, SOAP-4, XDR-80, XDR-82, XDR-83, XDR-84, XDR-89, XDR-103, T-7b
    #[test]
    fn every_generated_submission_comes_back_as_it_was(
        entries in proptest::collection::vec(entry(), 1..=20),
        folders in 0usize..3,
        set_title in proptest::option::of(text()),
        has_recipient in any::<bool>(),
        level in prop::sample::select(vec![Level::Full, Level::Limited, Level::Minimal]),
        form in prop::sample::select(vec![
            Form::Ours,
            Form::PrefixesInherited,
            Form::DefaultNamespaceInherited,
            Form::Crlf,
        ]),
    ) {
        let xml = request(&entries, folders, set_title.as_deref(), has_recipient);
        let documents: Vec<_> = entries.into_iter().map(|entry| entry.octets).collect();
        let (submission, meant) = receive(form, &xml, &documents);
        assert!(equal_metadata(submission.metadata.xml(), &meant));
        let received: Vec<_> = submission.documents.documents.iter().map(|(_, octets)| octets).collect();
        assert_eq!(received, documents.iter().collect::<Vec<_>>());
        assert_comes_back(submission, level);
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
    let mut passed_over = Vec::new();
    for file in files {
        let Some(request) = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| submit_objects_request(&text))
        else {
            continue;
        };
        if is_whole(&request) {
            for level in [Level::Full, Level::Minimal] {
                assert_comes_back(TestSubmission::with_invented_documents(&request), level);
            }
        } else {
            passed_over.push(file.strip_prefix(root).unwrap().display().to_string());
        }
    }
    assert_eq!(passed_over, PASSED_OVER);
}

/// What is refused before it is packed, and so has no way back.
const PASSED_OVER: [&str; 1] = ["fixtures/metadata/structure-broken.xml"];

/// Whether the metadata has DocumentEntries with an id of their own and no slot twice.
fn is_whole(request: &str) -> bool {
    let limits = Limits::default();
    let kept = KeptXml::read(request.as_bytes(), &limits).unwrap();
    let metadata = Metadata::read(kept, &limits).unwrap();
    let mut ids = HashSet::new();
    !metadata.document_entries().is_empty()
        && metadata.document_entries().iter().all(|entry| {
            !entry.id.is_empty()
                && ids.insert(entry.id.to_lowercase())
                && ["URI", "hash", "size"].iter().all(|name| {
                    entry
                        .slots()
                        .iter()
                        .filter(|slot| slot.name == *name)
                        .count()
                        < 2
                })
        })
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
