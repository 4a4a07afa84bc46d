//! Each row against a good submission (`fixtures/metadata/full-with-folder.xml`) and against the same with one thing
//! wrong.

use super::{
    super::super::{document::DocumentKey, finding::Severity, limits::Limits, xml::kept::KeptXml},
    *,
};

const GOOD: &str = include_str!("../../../../fixtures/metadata/full-with-folder.xml");
const MINIMAL: &str = include_str!("../../../../fixtures/metadata/minimal-default-namespace.xml");

fn read(text: &str) -> Metadata {
    let limits = Limits::default();
    let xml = KeptXml::read(text.as_bytes(), &limits).unwrap();
    Metadata::read(xml, &limits).unwrap()
}

fn full() -> Context<'static> {
    Context::at(Level::Full)
}

/// The findings of the good submission with `from` replaced by `to`.
fn findings_with(context: &Context<'_>, from: &str, to: &str) -> Vec<Finding> {
    assert!(GOOD.contains(from), "{from} is not in the fixture");
    validate(&read(&GOOD.replacen(from, to, 1)), context)
}

/// Findings as `MD-80 error`.
fn told(findings: &[Finding]) -> Vec<String> {
    let word = |severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    findings
        .iter()
        .map(|finding| format!("{} {}", finding.rule, word(finding.severity)))
        .collect()
}

/// What is changed in the good submission, and the finding that it gives at level full under the strict profile.
const WRONG: &[(&str, &str, &str)] = &[
    // The label of the SubmissionSet gone.
    (
        r#"classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd""#,
        r#"classificationNode="urn:other""#,
        "MD-80 error",
    ),
    (
        r#"classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2""#,
        r#"classificationNode="urn:other""#,
        "MD-81 error",
    ),
    (r#"id="c02""#, r#"id="c01""#, "MD-82 error"),
    (
        r#"id="c02" classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a" classifiedObject="Document01""#,
        r#"id="c02" classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a" classifiedObject="Document02""#,
        "MD-83 error",
    ),
    (
        r#"registryObject="Document01" value="PT"#,
        r#"value="PT"#,
        "MD-83 error",
    ),
    (
        r#"classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2" classifiedObject="Folder01""#,
        r#"classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2" classifiedObject="nobody""#,
        "MD-83 error",
    ),
    (
        "7edca82f-054d-47f2-a032-9b2a5b5186c1",
        "34268e47-fdf5-41a6-ba33-82133c465248",
        "MD-86 error",
    ),
    (r#" mimeType="text/xml""#, "", "MD-87 error"),
    (r#" mimeType="text/xml""#, r#" mimeType=" ""#, "MD-87 error"),
    (
        r#"nodeRepresentation="57133-1""#,
        r#"nodeRepresentation="""#,
        "MD-2 error",
    ),
    (
        "<rim:Value>2.16.840.1.113883.6.1</rim:Value>",
        "<rim:Value>a</rim:Value><rim:Value>b</rim:Value>",
        "MD-2 error",
    ),
    (
        r#"name="authorPerson""#,
        r#"name="authorRole""#,
        "MD-3 error",
    ),
    (
        "<rim:Value>881^Okafor^Ngozi^^^Dr",
        "<rim:Value>^Silva</rim:Value><rim:Value>881^Okafor^Ngozi^^^Dr",
        "MD-3 error",
    ),
    (
        r#"name="authorSpecialty""#,
        r#"name="authorSpeciality""#,
        "MD-3 warning",
    ),
    (
        r#"<rim:Slot name="legalAuthenticator"><rim:ValueList><rim:Value>881^Okafor^Ngozi</rim:Value></rim:ValueList></rim:Slot>"#,
        "<rim:VersionInfo/><rim:Slot name=\"legalAuthenticator\"><rim:ValueList><rim:Value>881^Okafor^Ngozi</rim:Value></rim:ValueList></rim:Slot>",
        "XDR-5 error",
    ),
    (
        "</rim:RegistryObjectList>",
        "</rim:RegistryObjectList><rim:RegistryObjectList/>",
        "MD-99 error",
    ),
    (
        "</rim:RegistryObjectList>",
        r#"<rim:Service id="s1"/></rim:RegistryObjectList>"#,
        "MD-99 error",
    ),
    (
        "<rim:Value>en-US</rim:Value>",
        "<rim:Value/>",
        "MD-1 warning",
    ),
    (
        r#"value="XDSDocumentEntry.patientId""#,
        r#"value="patientId""#,
        "MD-4 warning",
    ),
    (r#" id="c02""#, "", "XDR-6 warning"),
    // Attributes.
    (
        r#"<rim:Slot name="creationTime">"#,
        r#"<rim:Slot name="urn:other">"#,
        "MD-94 error",
    ),
    (
        "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
        "urn:uuid:00000000-0000-4000-8000-000000000000",
        "MD-94 error",
    ),
    (
        "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
        "urn:uuid:00000000-0000-4000-8000-000000000000",
        "MD-84 warning",
    ),
    (
        r#"classificationScheme="urn:uuid:f0306f51-975f-434e-a61c-c59651d33983""#,
        r#"classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a""#,
        "MD-84 error",
    ),
    (
        r#"<rim:Slot name="languageCode">"#,
        r#"<rim:Slot name="creationTime">"#,
        "MD-85 error",
    ),
    (
        "<rim:Value>en-US</rim:Value>",
        "<rim:Value>en-US</rim:Value><rim:Value>de</rim:Value>",
        "MD-85 error",
    ),
    (
        r#"name="urn:example:ward""#,
        r#"name="ward""#,
        "MD-8 warning",
    ),
    // Data types.
    ("20260302141500", "20260230", "MD-40 error"),
    ("20260302141500", "20260302141500.5", "MD-40 error"),
    ("20260302141500", "20260302141500+0100", "MD-40 error"),
    (
        "MRN-42^^^&amp;2.999.10.2&amp;ISO</rim:Value>",
        "MRN-42^^^&amp;2.999.10.2</rim:Value>",
        "MD-41 error",
    ),
    (
        "881^Okafor^Ngozi^^^Dr^^^&amp;2.999.20.1&amp;ISO",
        "^^Ngozi",
        "MD-43 error",
    ),
    (
        "Elm Street Clinic^^^^^^^^^2.999.20",
        "Elm Street Clinic^^^^^^^^^local",
        "MD-44 error",
    ),
    (
        "<rim:Value>^^Internet^ngozi.okafor@",
        "<rim:Value>^^Internet^Ngozi &lt;ngozi.okafor@direct.elm.example.org></rim:Value><rim:Value>^^Internet^x@",
        "MD-45 warning",
    ),
    (
        "<rim:Value>^^Internet^ngozi.okafor@direct.elm.example.org",
        "<rim:Value>ngozi.okafor",
        "MD-45 error",
    ),
    (
        "||^^Internet^intake@",
        "|||||^^Internet^intake@",
        "XDR-61 error",
    ),
    (
        "||^^Internet^intake@",
        "||^^internet^intake@",
        "XDR-61 warning",
    ),
    (
        "urn:ihe:iti:xds:2013:order</rim:Value>",
        "</rim:Value>",
        "MD-48 error",
    ),
    (
        "<rim:Value>2.999.77</rim:Value>",
        "<rim:Value>repository</rim:Value>",
        "MD-49 error",
    ),
    (
        r#"id="urn:uuid:2b3c4d5e-6f70-4b8c-9d0e-1f2a3b4c5d6e""#,
        r#"id="urn:uuid:2b3c""#,
        "MD-50 error",
    ),
    (
        r#"id="urn:uuid:2b3c4d5e-6f70-4b8c-9d0e-1f2a3b4c5d6e""#,
        r#"id="urn:uuid:2B3C4D5E-6f70-4b8c-9d0e-1f2a3b4c5d6e""#,
        "MD-50 warning",
    ),
    (
        r#"value="2.999.30.1001^A77""#,
        "value=\"2.999.30.1001&#10;A77\"",
        "MD-51 error",
    ),
    (
        r#"value="2.999.20""#,
        r#"value="ngozi@elm.example.org""#,
        "MD-52 error",
    ),
    (
        r#"value="2.999.20""#,
        r#"value="urn:oid:2.999.20""#,
        "MD-52 warning",
    ),
    (
        "8174d57a3e3e09a7ac98777341a58d3b9d3d6aba",
        "8174d57a",
        "MD-53 error",
    ),
    (
        "<rim:Value>89</rim:Value>",
        "<rim:Value>89 octets</rim:Value>",
        "MD-54 error",
    ),
    (
        "<rim:Value>en-US</rim:Value>",
        "<rim:Value>English_US</rim:Value>",
        "MD-55 error",
    ),
    (
        r#"mimeType="text/xml""#,
        r#"mimeType="text""#,
        "MD-56 error",
    ),
    (
        r#"mimeType="text/xml""#,
        r#"mimeType="text/xml; charset=UTF-8""#,
        "MD-56 warning",
    ),
    ("PID-8|F", "PID-19|F", "MD-57 error"),
    ("PID-8|F", "PID-7|19610715", "MD-57 error"),
    (
        "PID-3|MRN-42^^^&amp;2.999.10.2&amp;ISO",
        "PID-3|MRN-42",
        "MD-57 error",
    ),
    (
        r#"home="urn:oid:2.999.88""#,
        r#"home="2.999.88""#,
        "MD-9 error",
    ),
    (
        r#"home="urn:oid:2.999.88""#,
        r#"status="urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated""#,
        "MD-9 warning",
    ),
    (
        "PID-5|Quill^Ada^M",
        r"PID-5|Quill^Ada^\H\M",
        "MD-58 warning",
    ),
    (
        "<rim:Value>89</rim:Value>",
        "<rim:Value> 89\n</rim:Value>",
        "XDR-64 warning",
    ),
    (
        "<rim:Value>20260302134500</rim:Value>",
        "<rim:Value>20260301</rim:Value>",
        "MD-61 error",
    ),
    // References.
    (r#" sourceObject="Folder01""#, "", "MD-30 error"),
    (
        "AssociationType:RPLC",
        "AssociationType:other",
        "MD-97 error",
    ),
    (
        "urn:ihe:iti:2007:AssociationType:RPLC",
        "RPLC",
        "MD-36 warning",
    ),
    (
        r#"targetObject="Folder01""#,
        r#"targetObject="Folder09""#,
        "MD-90 error",
    ),
    (
        r#"targetObject="urn:uuid:99999999-0000-4000-8000-000000000001""#,
        r#"targetObject="Set01""#,
        "MD-35 error",
    ),
    (
        r#"targetObject="urn:uuid:99999999-0000-4000-8000-000000000001""#,
        r#"targetObject="Document02""#,
        "MD-35 error",
    ),
    (
        r#"sourceObject="Document02""#,
        r#"sourceObject="Folder01""#,
        "MD-34 error",
    ),
    (
        "<rim:Value>Original</rim:Value>",
        "<rim:Value>Reference</rim:Value>",
        "MD-89 error",
    ),
    (
        "<rim:Value>Original</rim:Value>",
        "<rim:Value>original</rim:Value>",
        "MD-89 error",
    ),
    (
        r#"sourceObject="Set01" targetObject="Document01""#,
        r#"sourceObject="Set01" targetObject="Document02""#,
        "MD-88 error",
    ),
    (
        r#"sourceObject="Set01" targetObject="Folder01""#,
        r#"sourceObject="Set01" targetObject="Link04""#,
        "MD-91 error",
    ),
    (
        r#"value="2.999.30.1002""#,
        r#"value="2.999.30.2001""#,
        "MD-93 error",
    ),
    (
        r#"value="PT-7731^^^&amp;2.999.10.1&amp;ISO""#,
        r#"value="PT-7732^^^&amp;2.999.10.1&amp;ISO""#,
        "MD-92 error",
    ),
];

// rule: MD-1, MD-2, MD-3, MD-4, MD-7, MD-8, MD-9, MD-30, MD-34, MD-35, MD-36, MD-40, MD-41, MD-42, MD-43, MD-44
// rule: MD-45, MD-48, MD-49, MD-50, MD-51, MD-52, MD-53, MD-54, MD-55, MD-56, MD-57, MD-58, MD-61, MD-80, MD-81
// rule: MD-82, MD-83, MD-84, MD-85, MD-86, MD-87, MD-88, MD-89, MD-90, MD-91, MD-92, MD-93, MD-94, MD-95, MD-97
// rule: MD-99, XDR-5, XDR-6, XDR-10, XDR-61, XDR-63, XDR-64, XDR-67, XDR-140
#[test]
fn one_thing_wrong_gives_the_finding_of_its_rule() {
    assert_eq!(
        validate(&read(GOOD), &full()),
        [],
        "the fixture itself is good"
    );
    let missed: Vec<String> = WRONG
        .iter()
        .filter_map(|(from, to, expected)| {
            let told = told(&findings_with(&full(), from, to));
            let is_told = told.iter().any(|one| one == expected);
            (!is_told).then(|| format!("{expected} for {to}: {told:?}"))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Rows that other tests of this file show.
const SHOWN_ELSEWHERE: [&str; 10] = [
    "MD-98", "XDR-7", "LIM-4", "MD-21", "MD-23", "XDR-12", "XDR-24", "XDR-25", "XDR-21", "XDR-22",
];

// rule: XDR-140
#[test]
fn every_row_of_the_table_is_shown_by_a_wrong_example() {
    for rule in rules() {
        let is_shown = WRONG
            .iter()
            .any(|(_, _, told)| told.split(' ').next() == Some(rule.id));
        assert!(
            is_shown || SHOWN_ELSEWHERE.contains(&rule.id),
            "{}",
            rule.id
        );
    }
}

#[test]
fn every_rule_has_an_id_once_and_says_what_it_asks() {
    let mut ids: Vec<_> = rules().map(|rule| rule.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert!(rules().all(|rule| !rule.asks.is_empty() && !rule.levels.is_empty()));
}

// rule: MD-94, XDR-20
#[test]
fn each_required_attribute_is_missed_at_its_level_and_at_no_other() {
    use attributes::{ATTRIBUTES, Form, Optionality};
    for attribute in ATTRIBUTES {
        // A slot or a scheme of another name: the attribute is gone. Those that are XML attributes have other tests.
        let gone = match attribute.form {
            Form::Slot(name) => GOOD.replace(&format!("name=\"{name}\""), "name=\"urn:gone\""),
            Form::Code(scheme) | Form::Author(scheme) | Form::Identifier(scheme, _) => {
                GOOD.replace(scheme, "urn:uuid:00000000-0000-4000-8000-000000000000")
            }
            Form::Name | Form::Description | Form::Xml(_) => continue,
        };
        let metadata = read(&gone);
        for (level, column) in [
            (Level::Full, attribute.full),
            (Level::Limited, attribute.limited),
            (Level::Minimal, attribute.minimal),
        ] {
            let findings = validate(&metadata, &Context::at(level));
            let suffix = format!(".{}", attribute.name);
            let missed = findings.iter().find(|finding| {
                finding.rule == "MD-94"
                    && finding.location.starts_with(attribute.object.as_str())
                    && finding.location.ends_with(&suffix)
            });
            let is_required = column == Optionality::Required;
            assert_eq!(
                missed.is_some(),
                is_required,
                "{} at {level:?}",
                attribute.name
            );
            if let Some(finding) = missed {
                // On receipt, minimal insists on very little (MD-23).
                let insists = level != Level::Minimal || attribute.is_indispensable();
                assert_eq!(
                    finding.is_error(),
                    insists,
                    "{} at {level:?}",
                    attribute.name
                );
            }
        }
    }
}

// rule: MD-22
#[test]
fn the_lenient_profile_warns_of_missing_attributes_but_for_what_is_indispensable() {
    let lenient = Context {
        profile: Profile::FullLenient,
        ..full()
    };
    let no_time = findings_with(&lenient, r#"name="creationTime""#, r#"name="urn:other""#);
    assert_eq!(told(&no_time), ["MD-94 warning"]);
    let no_source = findings_with(
        &lenient,
        "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
        "urn:other",
    );
    assert!(told(&no_source).contains(&"MD-94 error".to_owned()));
    let minimal = Context {
        profile: Profile::Minimal,
        ..full()
    };
    let no_time = findings_with(&minimal, r#"name="creationTime""#, r#"name="urn:other""#);
    assert_eq!(told(&no_time), [] as [&str; 0]);
}

// rule: MD-20, MD-23
#[test]
fn minimal_metadata_needs_a_recipient_and_little_else() {
    let told_of = |text: &str, has_recipient| {
        let context = Context {
            has_recipient,
            ..Context::at(Level::Minimal)
        };
        let findings = validate(&read(text), &context);
        findings
            .into_iter()
            .filter(Finding::is_error)
            .map(|f| f.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(told_of(MINIMAL, false), [] as [&str; 0]);
    let without = MINIMAL.replace("intendedRecipient", "urn:other");
    assert_eq!(told_of(&without, true), [] as [&str; 0]);
    assert_eq!(told_of(&without, false), ["MD-23"]);
}

// rule: MD-98, XDR-7
#[test]
fn long_titles_and_values_are_refused_by_the_strict_profile_only() {
    let title = "é".repeat(129);
    let value = "x".repeat(257);
    let text = GOOD
        .replacen(
            "value=\"Referral note é\"",
            &format!("value=\"{title}\""),
            1,
        )
        .replacen("<rim:Value>Ward 4", &format!("<rim:Value>{value}"), 1);
    assert_eq!(
        told(&validate(&read(&text), &full())),
        ["MD-98 error", "XDR-7 error"]
    );
    let lenient = Context {
        profile: Profile::FullLenient,
        ..full()
    };
    assert_eq!(
        told(&validate(&read(&text), &lenient)),
        ["MD-98 warning", "XDR-7 warning"]
    );
}

// rule: LIM-4
#[test]
fn more_entries_than_the_limit_are_refused() {
    let context = Context {
        max_document_entries: 1,
        ..full()
    };
    let findings = validate(&read(GOOD), &context);
    assert_eq!(told(&findings), ["LIM-4 error"]);
    assert_eq!(
        findings[0].code,
        Some(ErrorCode::XdsRepositoryOutOfResources)
    );
}

// rule: MD-21, XDR-83
#[test]
fn one_limited_label_makes_the_submission_limited() {
    let node = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85";
    let label = format!(
        r#"<rim:Classification id="lm" classificationNode="{node}" classifiedObject="Document01"/></rim:RegistryObjectList>"#
    );
    let metadata = read(&GOOD.replacen("</rim:RegistryObjectList>", &label, 1));
    assert_eq!(metadata.level(false), Level::Limited);
    assert_eq!(metadata.level(true), Level::Minimal);
    assert_eq!(read(GOOD).level(false), Level::Full);
    let findings = validate(&metadata, &Context::at(Level::Limited));
    // The set, the second entry and the folder have none.
    assert_eq!(told(&findings), ["MD-21 warning"; 3]);
}

fn documents() -> Vec<BoundDocument> {
    let document = |id: &str, size, sha1: &str| BoundDocument {
        document_id: id.to_owned(),
        facts: DocumentFacts {
            key: DocumentKey::Inline(0),
            size,
            sha1: std::array::from_fn(|at| {
                u8::from_str_radix(&sha1[at * 2..at * 2 + 2], 16).unwrap()
            }),
            sha256: [0; 32],
        },
    };
    let zeros = "0".repeat(40);
    vec![
        document("Document01", 89, "8174d57a3e3e09a7ac98777341a58d3b9d3d6aba"),
        document("Document02", 7, &zeros),
    ]
}

fn codes_with(documents: &[BoundDocument]) -> Vec<(&'static str, String)> {
    let context = Context {
        documents: Some(documents),
        ..full()
    };
    validate(&read(GOOD), &context)
        .into_iter()
        .map(|finding| (finding.rule, finding.code.unwrap().to_string()))
        .collect()
}

// rule: XDR-8, XDR-21, XDR-22, XDR-23, XDR-24, XDR-25, MD-96
#[test]
fn documents_must_be_the_ones_that_the_metadata_describes() {
    let good = documents();
    assert_eq!(codes_with(&good), []);
    let mut other = good.clone();
    other[0].facts.sha1[0] ^= 1;
    other[0].facts.size = 90;
    let metadata_error = "XDSRepositoryMetadataError".to_owned();
    assert_eq!(
        codes_with(&other),
        [
            ("XDR-21", metadata_error.clone()),
            ("XDR-22", metadata_error)
        ]
    );
    assert_eq!(
        codes_with(&good[..1]),
        [("XDR-24", "XDSMissingDocument".to_owned())]
    );
    let mut more = good.clone();
    more.push(good[1].clone());
    assert_eq!(
        codes_with(&more),
        [("XDR-25", "XDSMissingDocumentMetadata".to_owned())]
    );
    let mut other_case = good;
    other_case[1].document_id = "document02".to_owned();
    assert_eq!(codes_with(&other_case).len(), 2);
}

// rule: XDR-12
#[test]
fn a_submission_without_any_document_is_refused() {
    let start = GOOD.find("<rim:ExtrinsicObject").unwrap();
    let end = GOOD.rfind("</rim:ExtrinsicObject>").unwrap() + "</rim:ExtrinsicObject>".len();
    let text = GOOD.replacen(&GOOD[start..end], "", 1);
    let context = Context {
        documents: Some(&[]),
        ..full()
    };
    let findings = validate(&read(&text), &context);
    let found = findings
        .iter()
        .find(|finding| finding.rule == "XDR-12")
        .unwrap();
    assert_eq!(found.code, Some(ErrorCode::XdsRepositoryError));
}

// rule: MD-92
#[test]
fn differing_patients_name_both_objects_but_never_the_ids() {
    let from = r#"value="PT-7731^^^&amp;2.999.10.1&amp;ISO""#;
    let to = r#"value="PT-7732^^^&amp;2.999.10.1&amp;ISO""#;
    let findings = findings_with(&full(), from, to);
    assert_eq!(findings[0].code, Some(ErrorCode::XdsPatientIdDoesNotMatch));
    assert!(findings[0].text.contains("SubmissionSet(Set01)"));
    assert!(findings[0].text.contains("DocumentEntry(Document01)"));
    assert!(
        findings
            .iter()
            .all(|finding| !format!("{finding:?}").contains("PT-77"))
    );
    let warns = Context {
        patient_id_mismatch_is_warning: true,
        ..full()
    };
    assert_eq!(told(&findings_with(&warns, from, to)), ["MD-92 warning"]);
    // Delimiters at the end do not count.
    let trailing = r#"value="PT-7731^^^&amp;2.999.10.1&amp;ISO^^""#;
    assert_eq!(
        told(&findings_with(&full(), from, trailing)),
        [] as [&str; 0]
    );
}

// rule: XDM-21, XDM-22
#[test]
fn an_xdm_package_must_give_hash_size_and_uri() {
    let context = Context {
        container: Container::Xdm,
        ..Context::at(Level::Full)
    };
    let findings = validate(&read(GOOD), &context);
    let locations: Vec<_> = findings
        .iter()
        .map(|finding| finding.location.as_str())
        .collect();
    // The first entry has hash and size.
    assert_eq!(
        locations,
        [
            "DocumentEntry(Document01).URI",
            "DocumentEntry(Document02).hash",
            "DocumentEntry(Document02).size",
            "DocumentEntry(Document02).URI",
        ]
    );
}

// rule: XDR-34, XDR-141
#[test]
fn findings_are_capped_and_no_error_hides_behind_warnings() {
    let text = GOOD
        .replace(r#"value="XDSDocumentEntry."#, r#"value="X."#)
        .replace(
            "</rim:RegistryObjectList>",
            "</rim:RegistryObjectList><rim:RegistryObjectList/>",
        );
    let text = text.replace(r#"value="2.999.30.1002""#, r#"value="2.999.30.2001""#);
    let context = Context {
        max_findings: 3,
        ..full()
    };
    let findings = validate(&read(&text), &context);
    assert_eq!(findings.len(), 3);
    let errors = findings.iter().filter(|finding| finding.is_error());
    assert_eq!(
        errors.map(|finding| finding.rule).collect::<Vec<_>>(),
        ["MD-99", "MD-93"]
    );
}

// rule: MD-31, MD-32, MD-33, MD-37, XDR-11, XDR-27, XDR-28, XDR-29
#[test]
fn folders_relationships_extra_slots_and_references_elsewhere_are_no_error() {
    let metadata = read(GOOD);
    assert_eq!(metadata.folders().len(), 1);
    assert!(
        metadata
            .associations()
            .iter()
            .any(Association::is_relationship)
    );
    assert!(GOOD.contains("<rim:Value>Reference</rim:Value>"));
    assert_eq!(validate(&metadata, &full()), []);
}
