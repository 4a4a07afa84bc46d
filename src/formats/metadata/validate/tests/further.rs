//! What no single row shows: how levels, profiles and rows work together.

use super::{super::super::Association, *};

const MINIMAL: &str =
    include_str!("../../../../../fixtures/metadata/minimal-default-namespace.xml");

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
fn findings_are_capped_and_the_cap_says_so() {
    let text = GOOD
        .replace(r#"value="XDSDocumentEntry."#, r#"value="X."#)
        .replace(r#"value="2.999.30.1002""#, r#"value="2.999.30.2001""#);
    let context = Context {
        max_findings: 2,
        ..full()
    };
    let findings = validate(&read(&text), &context);
    assert_eq!(
        told(&findings),
        ["MD-4 warning", "MD-93 error", "XDR-34 warning"]
    );
    assert!(
        findings[2]
            .text
            .starts_with("0 more errors and 3 more warnings")
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
