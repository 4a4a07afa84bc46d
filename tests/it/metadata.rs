//! Document Sharing metadata over fixtures: read, edited in place, compared, and mutated.

use std::{fmt::Write, fs, path::Path};

use proptest::prelude::*;
use xdbridge::formats::{
    finding::{Finding, refuses},
    ids::DirectAddress,
    limits::Limits,
    metadata::{
        Author, Code, Level, Metadata, Slot, equal_metadata,
        validate::{Container, Context, validate},
    },
    xml::kept::KeptXml,
};

const FOLDER: &str = "fixtures/metadata";

/// A document of its own: the standalone form of what example `name` carries in its SOAP body.
fn spec_example(name: &str) -> String {
    let text = fs::read_to_string(Path::new("docs/spec/examples").join(name)).unwrap();
    let end = "</lcm:SubmitObjectsRequest>";
    let from = text.find("<lcm:SubmitObjectsRequest").unwrap();
    let to = text.find(end).unwrap() + end.len();
    text[from..to].to_owned()
}

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(name)).unwrap()
}

/// Every sample with its name, and the level and container at which it is judged.
fn samples() -> Vec<(&'static str, String, Level, Container)> {
    use {Container::*, Level::*};
    vec![
        (
            "example-01",
            spec_example("01-request-full-inline.xml"),
            Full,
            Xdr,
        ),
        (
            "example-02",
            spec_example("02-request-direct-minimal-mtom.http"),
            Minimal,
            Xdr,
        ),
        (
            "example-03",
            spec_example("03-request-delivery-notification.xml"),
            Minimal,
            Xdr,
        ),
        (
            "example-xdm",
            spec_example("IHE_XDM/SUBSET01/METADATA.XML"),
            Limited,
            Xdm,
        ),
        (
            "full-with-folder",
            fixture("full-with-folder.xml"),
            Full,
            Xdr,
        ),
        (
            "minimal-default-namespace",
            fixture("minimal-default-namespace.xml"),
            Minimal,
            Xdr,
        ),
        (
            "structure-broken",
            fixture("structure-broken.xml"),
            Full,
            Xdr,
        ),
    ]
}

fn read(text: &str) -> Metadata {
    let limits = Limits::default();
    Metadata::read(KeptXml::read(text.as_bytes(), &limits).unwrap(), &limits).unwrap()
}

fn judge(metadata: &Metadata, level: Level, container: Container) -> Vec<Finding> {
    let context = Context {
        container,
        ..Context::at(level)
    };
    validate(metadata, &context)
}

/// One fact a line; what is absent is left out.
#[derive(Default)]
struct Reading(String);

impl Reading {
    fn object(&mut self, kind: &str, id: &str) {
        writeln!(self.0, "{kind} {id}").unwrap();
    }

    fn one(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            writeln!(self.0, "  {name}: {value:?}").unwrap();
        }
    }

    fn all(&mut self, name: &str, values: &[String]) {
        for value in values {
            self.one(name, Some(value));
        }
    }

    fn code(&mut self, name: &str, code: Option<&Code>) {
        if let Some(code) = code {
            writeln!(self.0, "  {name}: {code:?}").unwrap();
        }
    }

    fn authors(&mut self, authors: &[Author]) {
        for author in authors {
            writeln!(self.0, "  author: {author:?}").unwrap();
        }
    }

    fn limited(&mut self, is_limited: bool) {
        if is_limited {
            self.0.push_str("  limitedMetadata\n");
        }
    }

    fn slots(&mut self, slots: &[Slot]) {
        let names: Vec<_> = slots.iter().map(|slot| slot.name.as_str()).collect();
        writeln!(self.0, "  slots: {}", names.join(" ")).unwrap();
    }
}

fn describe(metadata: &Metadata, findings: &[Finding]) -> String {
    let mut reading = Reading::default();
    for set in metadata.submission_sets() {
        reading.object("SubmissionSet", &set.id);
        reading.one("uniqueId", set.unique_id.as_ref());
        reading.one("sourceId", set.source_id.as_ref());
        reading.one("submissionTime", set.submission_time.as_ref());
        reading.one("patientId", set.patient_id.as_ref());
        reading.one("title", set.title.as_ref());
        reading.one("comments", set.comments.as_ref());
        reading.code("contentTypeCode", set.content_type_code.as_ref());
        reading.all("intendedRecipient", &set.intended_recipients);
        reading.authors(&set.authors);
        reading.limited(set.is_limited);
        reading.slots(set.slots());
    }
    for entry in metadata.document_entries() {
        reading.object("DocumentEntry", &entry.id);
        for (name, value) in [
            ("mimeType", &entry.mime_type),
            ("uniqueId", &entry.unique_id),
            ("patientId", &entry.patient_id),
            ("sourcePatientId", &entry.source_patient_id),
            ("creationTime", &entry.creation_time),
            ("languageCode", &entry.language_code),
            ("serviceStartTime", &entry.service_start_time),
            ("serviceStopTime", &entry.service_stop_time),
            ("hash", &entry.hash),
            ("size", &entry.size),
            ("URI", &entry.uri),
            ("title", &entry.title),
            ("comments", &entry.comments),
            ("legalAuthenticator", &entry.legal_authenticator),
            ("repositoryUniqueId", &entry.repository_unique_id),
            ("homeCommunityId", &entry.home_community_id),
        ] {
            reading.one(name, value.as_ref());
        }
        for (name, code) in [
            ("classCode", &entry.class_code),
            ("typeCode", &entry.type_code),
            ("formatCode", &entry.format_code),
            (
                "healthcareFacilityTypeCode",
                &entry.healthcare_facility_type_code,
            ),
            ("practiceSettingCode", &entry.practice_setting_code),
        ] {
            reading.code(name, code.as_ref());
        }
        for code in &entry.confidentiality_codes {
            reading.code("confidentialityCode", Some(code));
        }
        for code in &entry.event_codes {
            reading.code("eventCodeList", Some(code));
        }
        reading.all("sourcePatientInfo", &entry.source_patient_info);
        reading.all("referenceIdList", &entry.reference_ids);
        reading.authors(&entry.authors);
        reading.limited(entry.is_limited);
        reading.slots(entry.slots());
    }
    for folder in metadata.folders() {
        reading.object("Folder", &folder.id);
        reading.one("uniqueId", folder.unique_id.as_ref());
        reading.one("patientId", folder.patient_id.as_ref());
        reading.one("title", folder.title.as_ref());
        reading.one("lastUpdateTime", folder.last_update_time.as_ref());
        for code in &folder.codes {
            reading.code("codeList", Some(code));
        }
    }
    for link in metadata.associations() {
        reading.object("Association", &link.id);
        let text = format!("{} -> {}", link.source, link.target);
        reading.one(&link.kind, Some(&text));
        reading.one("SubmissionSetStatus", link.submission_set_status.as_ref());
    }
    for finding in findings {
        let severity = if finding.is_error() {
            "error"
        } else {
            "warning"
        };
        let code = finding.code.as_ref().map(ToString::to_string);
        writeln!(
            reading.0,
            "{severity} {} {} {}: {}",
            finding.rule,
            code.unwrap_or_default(),
            finding.location,
            finding.text
        )
        .unwrap();
    }
    reading.0
}

// rule: MD-1, MD-2, MD-3, MD-4, MD-5, MD-6, MD-7, MD-36, MD-52, MD-80, MD-81, MD-82, MD-88, MD-91
// rule: XDR-4, XDR-5, XDR-11, XDR-64, XDR-67, XDM-20, XDM-24
#[test]
fn every_sample_reads_as_expected() {
    for (name, text, level, container) in samples() {
        let metadata = read(&text);
        let findings = judge(&metadata, level, container);
        let reading = describe(&metadata, &findings);
        let path = Path::new(FOLDER).join(format!("{name}.expected"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &reading).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap_or_default(),
            reading,
            "{name}"
        );
    }
}

// rule: XDR-20, MD-20, MD-21, MD-23
#[test]
fn the_digests_own_examples_are_accepted_at_their_level() {
    for (name, text, level, container) in samples() {
        let metadata = read(&text);
        if level != Level::Minimal {
            assert_eq!(metadata.level(false), level, "{name}");
        }
        let is_good = name != "structure-broken";
        assert_eq!(
            !refuses(&judge(&metadata, level, container)),
            is_good,
            "{name}"
        );
    }
}

/// Where `edited` differs from `text`: the parts that are left of `text`, and what stands between them.
fn assert_only_inserted(text: &str, edited: &str, inserted: &[&str]) {
    let mut rest = edited.to_owned();
    for piece in inserted {
        let at = rest.find(piece).unwrap_or_else(|| panic!("no {piece}"));
        rest.replace_range(at..at + piece.len(), "");
    }
    assert_eq!(rest, text);
}

// rule: XDR-5, XDR-82, XDR-89
#[test]
fn a_new_slot_stands_after_the_last_one_and_nothing_else_changes() {
    let metadata = read(&fixture("full-with-folder.xml"));
    let edited = metadata
        .edit()
        .set_slot("Document01", "URI", &["DOC00001.XML"])
        .set_slot("Document02", "hash", &["<&\"é>"])
        .finish()
        .unwrap();
    let list =
        |value: &str| format!("<rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList>");
    let slot = |name: &str, value: &str| {
        format!(
            "\n      <rim:Slot name=\"{name}\">{}</rim:Slot>",
            list(value)
        )
    };
    assert_only_inserted(
        metadata.xml().as_str(),
        edited.xml().as_str(),
        &[
            &slot("URI", "DOC00001.XML"),
            &slot("hash", "&lt;&amp;&quot;é&gt;"),
        ],
    );
    let [first, second] = edited.document_entries() else {
        panic!("two entries went in");
    };
    assert_eq!(first.uri.as_deref(), Some("DOC00001.XML"));
    assert_eq!(first.slots().last().unwrap().name, "URI");
    assert_eq!(second.hash.as_deref(), Some("<&\"é>"));
    assert!(
        judge(&edited, Level::Full, Container::Xdr)
            .iter()
            .all(|f| f.rule == "MD-53")
    );
}

// rule: XDR-89
#[test]
fn a_slot_that_is_there_gets_other_values_in_its_place() {
    let text = fixture("minimal-default-namespace.xml");
    let metadata = read(&text);
    let id = metadata.document_entries()[0].id.clone();
    let edited = metadata
        .edit()
        .set_slot(&id.to_uppercase(), "urn:example:note", &["one", "two"])
        .set_slot(
            "SubmissionSet01",
            "intendedRecipient",
            &["||^^Internet^a@b.example"],
        )
        .finish()
        .unwrap();
    // The prefix is that of the slot, its other attribute stays.
    assert!(edited.xml().as_str().contains(
        "<r:Slot slotType=\"x\" name='urn:example:note'><r:ValueList><r:Value>one</r:Value>\
         <r:Value>two</r:Value></r:ValueList></r:Slot>"
    ));
    assert!(edited.xml().as_str().contains(
        "<Slot name='intendedRecipient'><ValueList><Value>||^^Internet^a@b.example</Value></ValueList></Slot>"
    ));
    let back = edited
        .edit()
        .set_slot(&id, "urn:example:note", &["a < b & c > d"])
        .set_slot(
            "SubmissionSet01",
            "intendedRecipient",
            &[
                "\n\t\t\t\t\t||^^Internet^rui.silva@direct.harbor.example.org\n\t\t\t\t",
                "|^Silva^Rui|^^Internet^Rui <rui@harbor.example.org>",
            ],
        )
        .finish()
        .unwrap();
    assert!(equal_metadata(metadata.xml(), back.xml()));
}

// rule: XDR-84, XDR-62
#[test]
fn sender_and_recipients_are_written_where_a_submission_set_has_none() {
    let text = fixture("minimal-default-namespace.xml");
    let bare = read(&text)
        .edit()
        .remove_slot("SubmissionSet01", "intendedRecipient")
        .finish()
        .unwrap();
    assert!(
        bare.submission_set()
            .unwrap()
            .intended_recipients
            .is_empty()
    );
    let address = |text: &str| text.parse::<DirectAddress>().unwrap();
    let edited = bare
        .edit()
        .add_intended_recipient(&address("rui@harbor.example.org"))
        .add_intended_recipient(&address("intake@harbor.example.org"))
        .add_submission_set_author_telecommunication(&address("ngozi@elm.example.org"))
        .finish()
        .unwrap();
    let set = edited.submission_set().unwrap();
    assert_eq!(
        set.intended_recipients,
        [
            "||^^Internet^rui@harbor.example.org",
            "||^^Internet^intake@harbor.example.org"
        ]
    );
    assert_eq!(
        set.authors[0].telecommunications,
        ["^^Internet^ngozi@elm.example.org"]
    );
    let told = judge(&edited, Level::Minimal, Container::Xdr);
    assert!(
        !told.iter().any(|f| f.rule == "XDR-5" || f.rule == "MD-83"),
        "{told:?}"
    );
    // What was added does not count, whichever way it is compared.
    assert!(equal_metadata(bare.xml(), edited.xml()));
    assert!(equal_metadata(edited.xml(), bare.xml()));
}

#[test]
fn an_object_without_content_is_opened_for_what_is_added() {
    let text = fixture("full-with-folder.xml");
    let metadata = read(&text);
    let edited = metadata
        .edit()
        .set_slot("Link03", "urn:a", &["b"])
        .finish()
        .unwrap();
    assert!(edited.xml().as_str().contains(
        "targetObject=\"Folder01\"><rim:Slot name=\"urn:a\"><rim:ValueList><rim:Value>b</rim:Value>\
         </rim:ValueList></rim:Slot></rim:Association>"
    ));
    let back = edited
        .edit()
        .remove_slot("Link03", "urn:a")
        .finish()
        .unwrap();
    assert!(equal_metadata(metadata.xml(), back.xml()));
}

#[test]
fn an_edit_that_cannot_be_made_is_an_error_and_no_silence() {
    let metadata = read(&fixture("full-with-folder.xml"));
    assert!(
        metadata
            .edit()
            .set_slot("nobody", "a", &["b"])
            .finish()
            .is_err()
    );
    assert!(
        metadata
            .edit()
            .set_slot("Document01", "a", &["\u{1}"])
            .finish()
            .is_err()
    );
    let no_set = read(&fixture("structure-broken.xml"));
    let address = "rui@harbor.example.org".parse::<DirectAddress>().unwrap();
    assert!(no_set.submission_sets().is_empty());
    assert!(
        no_set
            .edit()
            .add_intended_recipient(&address)
            .finish()
            .is_err()
    );
}

// rule: XDR-50, XDR-89
#[test]
fn metadata_is_equal_to_itself_in_other_clothes_and_to_nothing_else() {
    let text = fixture("full-with-folder.xml");
    let other = read(&text);
    let clothes = text
        .replace("<rim:", "<x:")
        .replace("</rim:", "</x:")
        .replace("xmlns:rim", "xmlns:x")
        .replace("\n      <", "<");
    // Another prefix is another canonical form: prefixes are kept too.
    assert!(!equal_metadata(other.xml(), read(&clothes).xml()));
    // But whoever writes a submission again with other prefixes submits the same (XDR-50).
    assert_eq!(other.digest_input(), read(&clothes).digest_input());
    let dense = text.replace("\n      <", "<").replace("é", "&#xE9;");
    assert!(equal_metadata(other.xml(), read(&dense).xml()));
    for (from, to) in [
        ("Ward 4", "Ward 5"),
        ("urn:example:ward", "urn:example:room"),
        ("Document02", "Document03"),
        (
            "<rim:Value>Reference</rim:Value>",
            "<rim:Value>Reference </rim:Value>",
        ),
        ("<rim:Description/>", ""),
    ] {
        let changed = read(&text.replace(from, to));
        assert!(!equal_metadata(other.xml(), changed.xml()), "{from}");
        assert_ne!(other.digest_input(), changed.digest_input(), "{from}");
    }
}

// rule: XDR-82, XDR-89
#[test]
fn what_xdm_adds_does_not_count_and_a_kept_uri_stands_for_the_received_one() {
    let text = fixture("full-with-folder.xml");
    let received = read(&text)
        .edit()
        .set_slot("Document01", "URI", &["a/b.xml"])
        .finish()
        .unwrap();
    let mut edit = received.edit();
    edit.rename_slot("Document01", "URI", "urn:xdbridge:2026:receivedURI");
    edit.set_slot("Document01", "URI", &["DOC00001.XML"]);
    edit.set_slot("Document02", "URI", &["DOC00002.PDF"]);
    edit.set_slot(
        "Document02",
        "hash",
        &["0000000000000000000000000000000000000000"],
    );
    edit.set_slot("Document02", "size", &["7"]);
    let packed = edit.finish().unwrap();
    assert!(equal_metadata(received.xml(), packed.xml()));
    // A hash that was there counts.
    let other = packed
        .edit()
        .set_slot("Document01", "size", &["90"])
        .finish()
        .unwrap();
    assert!(!equal_metadata(received.xml(), other.xml()));
}

/// A change of a text at random places, as hostile as octets can be.
fn mutated(text: String, changes: &[(prop::sample::Index, String, usize)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (at, inserted, removed) in changes {
        let at = at.index(characters.len() + 1);
        let end = (at + removed).min(characters.len());
        characters.splice(at..end, inserted.chars());
    }
    characters.into_iter().collect()
}

fn a_sample() -> impl Strategy<Value = String> {
    prop::sample::select(samples()).prop_map(|(_, text, ..)| text)
}

/// Pieces that mean something to XML, ebRIM or HL7, and some that mean nothing.
fn a_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "<",
            ">",
            "/>",
            "</",
            "\"",
            "'",
            "&",
            "&amp;",
            "&#0;",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "<?",
            "<!DOCTYPE a>",
            "rim:",
            "xmlns=''",
            "urn:uuid:",
            "^",
            "|",
            "\\",
            "&amp;ISO",
            "20260302",
            "<rim:Slot/>",
            "<rim:Classification/>",
            "<rim:ExternalIdentifier/>",
            " id=''",
            "\u{0}",
            "é",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ]
}

proptest! {
    // rule: XDR-34, T-10
    #[test]
    fn mutated_metadata_never_panics_and_its_findings_stay_within_the_cap(
        text in a_sample(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), a_piece(), 0usize..60), 1..6),
        max_findings in 1usize..60,
    ) {
        let limits = Limits::default();
        let text = mutated(text, &changes);
        if let Ok(xml) = KeptXml::read(text.as_bytes(), &limits)
            && let Ok(metadata) = Metadata::read(xml, &limits)
        {
            for level in [Level::Full, Level::Limited, Level::Minimal] {
                for container in [Container::Xdr, Container::Xdm] {
                    let context = Context {
                        container,
                        documents: Some(&[]),
                        max_findings,
                        ..Context::at(level)
                    };
                    let findings = validate(&metadata, &context);
                    // The last one says that there were more.
                    prop_assert!(findings.len() <= max_findings + 1);
                    let is_cut = findings.len() > max_findings;
                    prop_assert_eq!(findings.iter().any(|f| f.rule == "XDR-34"), is_cut);
                    let all = validate(&metadata, &Context { max_findings: usize::MAX, ..context });
                    prop_assert_eq!(refuses(&findings), refuses(&all));
                }
            }
            // Both parsers are of one mind about what is XML.
            prop_assert!(metadata.digest_input().is_ok());
            prop_assert!(equal_metadata(metadata.xml(), metadata.xml()));
            for entry in metadata.document_entries() {
                let edited = metadata.edit().set_slot(&entry.id, "URI", &["a"]).finish().unwrap();
                prop_assert_eq!(edited.document_entries().len(), metadata.document_entries().len());
            }
        }
    }

    // rule: XDR-89
    #[test]
    fn a_slot_that_is_set_and_removed_leaves_no_trace(
        text in a_sample(),
        object in any::<prop::sample::Index>(),
        name in "[a-z:]{1,20}new",
        values in prop::collection::vec("[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{fffe}\u{ffff}]{0,20}", 1..4),
    ) {
        let metadata = read(&text);
        let sets = metadata.submission_sets().iter().map(|set| &set.id);
        let entries = metadata.document_entries().iter().map(|entry| &entry.id);
        let folders = metadata.folders().iter().map(|folder| &folder.id);
        let ids: Vec<&String> = sets.chain(entries).chain(folders).filter(|id| !id.is_empty()).collect();
        let id = ids[object.index(ids.len())];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let edited = metadata.edit().set_slot(id, &name, &values).finish().unwrap();
        prop_assert_ne!(edited.xml(), metadata.xml());
        let sets = edited.submission_sets().iter().filter_map(|set| set.slot(&name));
        let entries = edited.document_entries().iter().filter_map(|entry| entry.slot(&name));
        let folders = edited.folders().iter().filter_map(|folder| folder.slot(&name));
        let found: Vec<&[String]> = sets.chain(entries).chain(folders).collect();
        prop_assert_eq!(found, vec![&values[..]]);
        let back = edited.edit().remove_slot(id, &name).finish().unwrap();
        prop_assert_eq!(back.xml(), metadata.xml());
    }
}
