use super::{super::metadata::Code, *};
use crate::formats::metadata::NewEntry;

const CCDA_21: &str = include_str!("../../../fixtures/cda/ccda-2.1.xml");
const CCDA_11: &str = include_str!("../../../fixtures/cda/ccda-1.1.xml");
const NON_XML: &str = include_str!("../../../fixtures/cda/ccda-nonxmlbody.xml");
const C32: &str = include_str!("../../../fixtures/cda/ccd-c32.xml");
const XDS_SD: &str = include_str!("../../../fixtures/cda/xds-sd.xml");
const BROKEN: &str = include_str!("../../../fixtures/cda/not-well-formed.xml");

fn header(text: &str) -> Option<CdaHeader> {
    read(text.as_bytes(), &Limits::default())
}

fn described_by(text: &str, options: &CdaOptions) -> NewEntry {
    let mut entry = NewEntry::default();
    describe(&header(text).unwrap(), options, &mut entry);
    entry
}

fn described(text: &str) -> NewEntry {
    described_by(text, &CdaOptions::default())
}

fn coded(code: Option<&Code>) -> Option<(&str, &str, Option<&str>)> {
    let code = code?;
    Some((&code.code, code.scheme.as_deref()?, code.display.as_deref()))
}

// rule: MD-140
#[test]
fn the_id_is_root_or_root_and_extension() {
    assert_eq!(described(CCDA_21).unique_id, "2.999.7.19.5^T&9");
    assert_eq!(described(CCDA_11).unique_id, "2.999.7.19.11");
    let uuid = "3c4a0f0e-7d3c-4c5b-9f8e-2f1d9f0b7a11";
    assert_eq!(described(C32).unique_id, uuid);
}

// rule: MD-141
#[test]
fn the_title_is_one_line_of_127_characters_at_the_most() {
    let title = described(CCDA_21).title;
    assert_eq!(title.as_deref(), Some("Continuity of care: Ada Quill"));
    assert_eq!(described(CCDA_11).title, None);
    let long = C32.replace("Summary", &"é".repeat(200));
    assert_eq!(described(&long).title.unwrap().chars().count(), 127);
}

// rule: MD-142
#[test]
fn the_creation_time_goes_to_utc_from_its_own_offset_or_the_configured_one() {
    let time = |entry: NewEntry| entry.creation_time.unwrap();
    assert_eq!(time(described(CCDA_21)), "20261122080509");
    assert_eq!(time(described(CCDA_11)), "20261121");
    assert_eq!(time(described(C32)), "20261122080509");
    let options = CdaOptions {
        default_offset_minutes: -300,
        ..CdaOptions::default()
    };
    assert_eq!(time(described_by(C32, &options)), "20261122130509");
}

// rule: MD-143, MD-144, MD-145
#[test]
fn language_confidentiality_and_type_are_copied() {
    let entry = described(CCDA_21);
    assert_eq!(entry.language_code.as_deref(), Some("en-US"));
    let confidentiality = entry.confidentiality_codes.first();
    let restricted = ("R", "2.16.840.1.113883.5.25", Some("restricted"));
    assert_eq!(coded(confidentiality), Some(restricted));
    let display = Some("Summarization of Episode Note");
    let loinc = ("34133-9", "2.16.840.1.113883.6.1", display);
    assert_eq!(coded(entry.type_code.as_ref()), Some(loinc));
    // A null flavour says nothing.
    assert_eq!(described(CCDA_11).confidentiality_codes, []);
    let odd = C32.replace("en-US", "english, I think");
    assert_eq!(described(&odd).language_code, None);
}

// rule: MD-146, MD-157
#[test]
fn class_and_practice_setting_come_from_the_configured_maps() {
    let entry = described(CCDA_21);
    assert_eq!(entry.class_code, entry.type_code);
    assert_eq!(entry.practice_setting_code, None);
    let code = |code: &str| Code {
        code: code.to_owned(),
        scheme: Some("2.999.50".to_owned()),
        display: None,
    };
    let options = CdaOptions {
        class_codes: vec![("34133-9".to_owned(), code("SUMMARY"))],
        practice_setting_codes: vec![("207R00000X".to_owned(), code("MEDICINE"))],
        ..CdaOptions::default()
    };
    let entry = described_by(CCDA_21, &options);
    assert_eq!(entry.class_code.unwrap().code, "SUMMARY");
    assert_eq!(entry.practice_setting_code.unwrap().code, "MEDICINE");
}

// rule: MD-147, MD-160
#[test]
fn the_format_is_known_by_the_template() {
    let format = |text: &str| described(text).format_code.unwrap().code;
    let structured = "urn:hl7-org:sdwg:ccda-structuredBody";
    assert_eq!(format(CCDA_21), format!("{structured}:2.1"));
    assert_eq!(format(CCDA_11), format!("{structured}:1.1"));
    assert_eq!(format(NON_XML), "urn:hl7-org:sdwg:ccda-nonXMLBody:2.1");
    assert_eq!(format(C32), "urn:ihe:pcc:xphr:2007");
    assert_eq!(format(XDS_SD), "urn:ihe:iti:xds-sd:pdf:2008");
    let text = XDS_SD.replace("application/pdf", "text/plain");
    assert_eq!(format(&text), "urn:ihe:iti:xds-sd:text:2008");
    let of = |root: &str| XDS_SD.replace("1.3.6.1.4.1.19376.1.2.20", root);
    let summary = of("1.3.6.1.4.1.19376.1.5.3.1.1.2");
    assert_eq!(format(&summary), "urn:ihe:pcc:xds-ms:2007");
    let extract = of("1.3.6.1.4.1.19376.1.5.3.1.1.5");
    assert_eq!(format(&extract), "urn:ihe:pcc:xphr:2007");
    assert_eq!(format(&of("2.999.1")), MIME_TYPE_SUFFICIENT);
    let code = described(C32).format_code.unwrap();
    assert_eq!(code.scheme.as_deref(), Some("1.3.6.1.4.1.19376.1.2.3"));
}

// rule: MD-148, MD-149, MD-58
#[test]
fn only_ids_with_root_and_extension_count_and_only_known_ones_are_patient_ids() {
    let entry = described(CCDA_21);
    let source = "Q-104\\F\\7^^^&2.999.7.1.2&ISO";
    assert_eq!(entry.source_patient_id.as_deref(), Some(source));
    assert_eq!(entry.patient_id, None);
    let options = CdaOptions {
        patient_id_authorities: vec!["2.999.7.1.3".parse().unwrap()],
        ..CdaOptions::default()
    };
    let known = described_by(CCDA_21, &options);
    assert_eq!(
        known.patient_id.as_deref(),
        Some("998877^^^&2.999.7.1.3&ISO")
    );
    assert_eq!(known.source_patient_id.as_deref(), Some(source));
}

// rule: MD-150, MD-58
#[test]
fn demographics_are_escaped_hl7_values() {
    assert_eq!(
        described(CCDA_21).source_patient_info,
        [
            "PID-3|Q-104\\F\\7^^^&2.999.7.1.2&ISO~998877^^^&2.999.7.1.3&ISO",
            "PID-5|Quill\\S\\Smith^Ada^May^II^Dr.",
            "PID-7|19610704",
            "PID-8|F",
            "PID-11|12 Elm \\T\\ Oak Row^Flat 3^Harbor^ME^04000^US",
        ]
    );
    assert_eq!(
        described(CCDA_11).source_patient_info,
        [
            "PID-3|Q-104^^^&2.999.7.1.2&ISO",
            "PID-5|Ada Quill",
            "PID-7|1961",
            "PID-8|O",
        ]
    );
    let unknown = CCDA_21.replace("code=\"F\"", "code=\"X\"");
    let info = described(&unknown).source_patient_info;
    assert!(info.contains(&"PID-8|U".to_owned()));
}

// rule: MD-151, MD-152
#[test]
fn authors_are_persons_or_devices_with_their_organisation_or_the_custodian() {
    let authors = described(CCDA_21).authors;
    let [doctor, device] = authors.as_slice() else {
        panic!("two authors were written: {authors:?}");
    };
    assert_eq!(
        doctor.person.as_deref(),
        Some("1999999999^Okafor^Ngozi^^^^^^&2.16.840.1.113883.4.6&ISO")
    );
    assert_eq!(doctor.institutions, ["Elm Street Clinic^^^^^^^^^2.999.7.4"]);
    assert_eq!(doctor.roles, ["Primary care physician"]);
    assert_eq!(doctor.specialties, ["Internal Medicine"]);
    let mail = "^^Internet^ngozi.okafor@direct.elm.example";
    assert_eq!(doctor.telecommunications, [mail]);
    assert_eq!(device.person.as_deref(), Some("^Elm EHR 4"));
    let custodian = "Elm Records Office^^^^^&2.999.7.4&ISO^^^^main";
    assert_eq!(device.institutions, [custodian]);
    let alone = &described(CCDA_11).authors[0];
    assert_eq!(alone.person.as_deref(), Some("a1^^^^^^^^&2.999.7.8&ISO"));
    assert_eq!(alone.institutions, [custodian]);
}

// rule: MD-153
#[test]
fn the_legal_authenticator_is_an_xcn() {
    let expected = "1999999998^Silva^Rui^^^Dr.^^^&2.16.840.1.113883.4.6&ISO";
    let authenticator = described(CCDA_21).legal_authenticator;
    assert_eq!(authenticator.as_deref(), Some(expected));
}

// rule: MD-154, MD-61
#[test]
fn service_times_come_from_the_event_else_from_the_encounter() {
    let times = |text: &str| {
        let entry = described(text);
        (entry.service_start_time, entry.service_stop_time)
    };
    let some = |start: &str, stop: &str| (Some(start.to_owned()), Some(stop.to_owned()));
    assert_eq!(times(CCDA_21), some("20261120", "202611220900"));
    assert_eq!(times(CCDA_11), some("202611201530", "202611201530"));
    assert_eq!(times(C32), (None, None));
    let backwards = CCDA_21.replace("<low value=\"20261120\"/>", "<low value=\"20261201\"/>");
    assert_eq!(times(&backwards), (None, None));
}

// rule: MD-155, MD-156, MD-158, MD-48
#[test]
fn events_facility_and_references_are_taken_over() {
    let entry = described(CCDA_21);
    let event = (
        "185349003",
        "2.16.840.1.113883.6.96",
        Some("Encounter for check up"),
    );
    assert_eq!(coded(entry.event_codes.first()), Some(event));
    let facility = entry.healthcare_facility_type_code.as_ref();
    let site = (
        "35971002",
        "2.16.840.1.113883.6.96",
        Some("Ambulatory care site"),
    );
    assert_eq!(coded(facility), Some(site));
    assert_eq!(
        entry.reference_ids,
        [
            "E7^^^&2.999.7.20&ISO^urn:ihe:iti:xds:2015:encounterId",
            "ORD-1^^^&2.999.7.30&ISO^urn:ihe:iti:xds:2013:order",
        ]
    );
}

// rule: MD-161, CC-7, T-10
#[test]
fn what_is_no_readable_cda_is_opaque_and_a_broken_stylesheet_does_no_harm() {
    assert!(header(CCDA_21).is_some());
    assert!(header(&format!("\u{feff}{C32}")).is_some());
    for text in [
        BROKEN,
        "",
        "no XML",
        "<ClinicalDocument/>",
        "<a xmlns='urn:hl7-org:v3'/>",
        "<!DOCTYPE a [<!ENTITY e 'x'>]><ClinicalDocument xmlns='urn:hl7-org:v3'/>",
        &format!(
            "<ClinicalDocument xmlns='urn:hl7-org:v3'>{}</ClinicalDocument>",
            "<id/>".repeat(30_000)
        ),
        &format!(
            "<ClinicalDocument xmlns='urn:hl7-org:v3'>{}",
            "<id>".repeat(1_000)
        ),
    ] {
        let beginning: String = text.chars().take(60).collect();
        assert!(header(text).is_none(), "{beginning}");
    }
    // The body is the document's own affair.
    let cut = CCDA_21.find("<section>").unwrap();
    assert!(header(&CCDA_21[..cut]).is_some());
}
