use proptest::prelude::*;

use super::*;

const WHOLE: &str = "version: 1.1
id: <2142848@direct.elm.example>
patient-id: 2.999.7.1.2:Q-104|7;
\t2.999.7.1.3:99:88
Type: Radiology/Report
purpose: treatment
patient: givenName=Ada; surname=Quill^Smith; middleName=May; dateOfBirth=1961-07-04;
 gender=f; streetAddress=12 Elm & Oak Row; localityName=Harbor;
 stateOrProvinceName=ME; postalCode=04000; country=US; telephoneNumber=555-0100;
 socialSecurityNumber=000-00-0000; directAddress=ada@direct.quill.example
encapsulation: hl7v2
creation-time: 20261121173000.1234-0500
format-code: dt-org:dsm:adt-en:1.0
type-code: 2.16.840.1.113883.6.1:18748-4
content-type-code: 2.16.840.1.113883.6.1:79429-7
";

fn context(text: &str) -> Context {
    read(text.as_bytes()).unwrap()
}

/// A context of these elements beside those that it must have.
fn with(elements: &str) -> Result<Context, ContextFault> {
    read(format!("version: 1.1\nid: 1\n{elements}\n").as_bytes())
}

fn elements_of(faults: &[ContextFault]) -> Vec<&str> {
    faults.iter().map(|fault| fault.element).collect()
}

// rule: CTX-2, CTX-6, MD-57, MD-58
#[test]
fn every_element_is_read_in_lines_and_folds_of_either_line_end() {
    for text in [
        WHOLE.to_owned(),
        WHOLE.replace('\n', "\r\n"),
        format!("\u{FEFF}\n{WHOLE}\n \n"),
        WHOLE.replace("1.1\n", "\n 1.0\n"),
    ] {
        let context = context(&text);
        let ids: Vec<String> = context.patient_ids.iter().map(Cx::to_string).collect();
        assert_eq!(
            ids,
            ["Q-104\\F\\7^^^&2.999.7.1.2&ISO", "99:88^^^&2.999.7.1.3&ISO"]
        );
        assert_eq!(context.kind.as_deref(), Some("radiology/report"));
        assert_eq!(
            context.source_patient_info(),
            [
                "PID-3|Q-104\\F\\7^^^&2.999.7.1.2&ISO~99:88^^^&2.999.7.1.3&ISO",
                "PID-5|Quill\\S\\Smith^Ada^May",
                "PID-7|19610704",
                "PID-8|F",
                "PID-11|12 Elm \\T\\ Oak Row^^Harbor^ME^04000^US",
            ]
        );
        assert_eq!(context.creation_time(0).as_deref(), Some("20261121223000"));
        let format = context.format_code.unwrap();
        assert_eq!(format.code, "urn:dt-org:dsm:adt-en:1.0");
        assert_eq!(format.scheme.as_deref(), Some("1.3.6.1.4.1.19376.1.2.3"));
        let kind = context.type_code.unwrap();
        assert_eq!(kind.code, "18748-4");
        assert_eq!(kind.scheme.as_deref(), Some("2.16.840.1.113883.6.1"));
        assert_eq!(context.content_type_code.unwrap().code, "79429-7");
        assert_eq!(context.oddities, []);
    }
}

// rule: CTX-2, CTX-6
#[test]
fn what_is_not_said_is_not_made_up() {
    let bare = with("").unwrap();
    assert_eq!(bare.patient_ids, []);
    assert_eq!(bare.source_patient_info(), [""; 0]);
    assert_eq!(bare.creation_time(0), None);
    assert!(bare.kind.is_none() && bare.format_code.is_none() && bare.type_code.is_none());
    let named = with("patient: surname=Quill; gender=; dateOfBirth=").unwrap();
    assert_eq!(named.source_patient_info(), ["PID-5|Quill"]);
    assert_eq!(named.patient_ids, []);
    let nobody = with("patient: telephoneNumber=555-0100").unwrap();
    assert_eq!(nobody.source_patient_info(), [""; 0]);
    let local = with("creation-time: 202611211730").unwrap();
    assert_eq!(local.creation_time(-300).as_deref(), Some("202611212230"));
}

// rule: CTX-5, CTX-2
#[test]
fn what_is_no_context_or_no_whole_identity_is_refused_as_a_whole() {
    let long = "x".repeat(257);
    for (text, element) in [
        ("", "version"),
        ("id: 1\n", "version"),
        ("version: 2.0\nid: 1\n", "version"),
        ("version: 1.1\n", "id"),
        ("version: 1.1\nid:\n", "id"),
        ("version: 1.1\nid: 1\nid: 1\n", "id"),
        ("version: 1.1\nid: 1\nTYPE: a/b\ntype: a/b\n", "type"),
        ("version: 1.1\nid: 1\nno element\n", ""),
        (" folded: at the start\nversion: 1.1\nid: 1\n", ""),
        ("version: 1.1\nid: 1\nna me: x\n", ""),
        ("version: 1.1\nid: 1\n: x\n", ""),
        ("version: 1.1\nid: 1\n\npatient-id: 2.999.1:1\n", ""),
        ("version: 1.1\nid: 1\r2\n", ""),
        ("version: 1.1\nid: 1\u{FFFE}\n", ""),
    ] {
        assert_eq!(
            read(text.as_bytes()).unwrap_err().element,
            element,
            "{text}"
        );
    }
    for element in [
        "patient-id: Elm:1",
        "patient-id: 2.999.1",
        "patient-id: 2.999.1:",
        "patient-id: 2.999.1:a b",
        "patient-id: 2.999.1:\u{e9}",
        "patient-id: 2.999.1:1;; 2.999.2:2",
        "patient-id: 2.999.1:1; 2.999.1:2",
        "patient-id: 2.999.1:1; 2.999.2",
        &format!("patient-id: 2.999.1:{long}"),
        "patient: Ada Quill",
        "patient: surname=Quill; surname=Quill",
        "patient: surname=Quill; SURNAME=Silva",
        "patient: dateOfBirth=4 July 1961",
        "patient: dateOfBirth=1961-02-30",
        "patient: dateOfBirth=1961-07",
        &format!("patient: surname={long}"),
    ] {
        let fault = with(element).unwrap_err();
        assert_eq!(fault.rule, "CTX-2", "{element}");
        let name = element.split(':').next().unwrap();
        assert_eq!(fault.element, name, "{element}");
    }
    assert_eq!(read(b"version: 1.1\nid: \xe9\n").unwrap_err().rule, "CTX-2");
}

// rule: CTX-5
#[test]
fn other_elements_that_cannot_be_read_are_left_out_and_told_once_each() {
    let context = with(
        "purpose: curiosity\nencapsulation: fhir\ntype: error/notification\ncreation-time: 20210416080510.1245-4000\n\
         format-code: PDF\ntype-code: loinc:18748-4\ncontent-type-code: 2.999.5\n\
         patient: surname=Quill; gender=seven; shoeSize=38; hatSize=7",
    )
    .unwrap();
    assert_eq!(
        elements_of(&context.oddities),
        [
            "patient",
            "patient",
            "type",
            "purpose",
            "encapsulation",
            "creation-time",
            "format-code",
            "type-code",
            "content-type-code"
        ]
    );
    assert_eq!(context.creation_time(0), None);
    assert!(context.format_code.is_none() && context.type_code.is_none());
    assert_eq!(context.content_type_code, None);
    // A word that is new may still be known to the configuration.
    assert_eq!(context.kind.as_deref(), Some("error/notification"));
    assert_eq!(context.source_patient_info(), ["PID-5|Quill"]);
    let odd = with("type: report\npurpose:\n").unwrap();
    assert_eq!(elements_of(&odd.oddities), ["purpose", "type"]);
    assert_eq!(odd.kind, None);
}

// rule: CTX-4
#[test]
fn size_lines_and_ids_are_bounded_and_unknown_names_left_out() {
    let odd = with("x-own: 1\nx-own: 2\nX-Other: 3").unwrap();
    let rules: Vec<&str> = odd.oddities.iter().map(|fault| fault.rule).collect();
    assert_eq!(rules, ["CTX-4"]);

    let lines = |count: usize| with(&"x: y\n".repeat(count - 3));
    assert!(lines(MAX_CONTEXT_LINES).is_ok());
    assert_eq!(lines(MAX_CONTEXT_LINES + 1).unwrap_err().rule, "CTX-4");

    let most = usize::try_from(MAX_CONTEXT_BYTES).unwrap();
    let head = "version: 1.1\nid: 1\nx: ";
    let of_bytes =
        |count: usize| read(format!("{head}{}", "y".repeat(count - head.len())).as_bytes());
    assert!(of_bytes(most).is_ok());
    assert_eq!(of_bytes(most + 1).unwrap_err(), TOO_LARGE);

    let ids = |count: usize| {
        let ids: Vec<String> = (0..count).map(|n| format!("2.999.{n}:1")).collect();
        with(&format!("patient-id: {}", ids.join(";")))
    };
    assert_eq!(
        ids(MAX_PATIENT_IDS).unwrap().patient_ids.len(),
        MAX_PATIENT_IDS
    );
    assert_eq!(ids(MAX_PATIENT_IDS + 1).unwrap_err().element, "patient-id");
}

#[test]
fn debug_shows_no_patient() {
    let context = context(WHOLE);
    let shown = format!("{context:?} {:?}", context.patient);
    for word in ["Quill", "104", "1961", "radiology"] {
        assert!(!shown.contains(word), "{shown}");
    }
}

proptest! {
    // rule: CTX-4, CTX-5, MD-41, MD-57
    #[test]
    fn no_octets_make_the_reader_panic_and_what_it_gives_is_in_form(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..12, prop_oneof![
                prop::collection::vec(any::<u8>(), 0..6),
                Just(b"\n".to_vec()),
                Just(b";".to_vec()),
                Just(b"; 2.999.8:7".to_vec()),
                Just(b"\n patient-id: 2.999.1:1\npatient: surname=^~|&\\".to_vec()),
                Just(b"type-code: 2.999:1".to_vec()),
                Just("=\u{e9}\u{FFFD}".as_bytes().to_vec()),
                (1usize..400).prop_map(|count| b"y".repeat(count)),
                (1usize..300).prop_map(|count| b"x: y\n".repeat(count)),
            ]),
            0..8,
        )
    ) {
        let mut octets = WHOLE.as_bytes().to_vec();
        for (at, gone, with) in edits {
            let start = at.index(octets.len() + 1);
            let end = (start + gone).min(octets.len());
            octets.splice(start..end, with);
        }
        if let Ok(context) = read(&octets) {
            prop_assert!(octets.len() as u64 <= MAX_CONTEXT_BYTES);
            let lines = octets.split_inclusive(|octet| *octet == b'\n').count();
            prop_assert!(lines <= MAX_CONTEXT_LINES);
            prop_assert!(context.patient_ids.len() <= MAX_PATIENT_IDS);
            prop_assert!(context.oddities.len() <= 3 * KNOWN.len());
            for id in &context.patient_ids {
                prop_assert!(id.check().is_ok());
                // What is written reads back as the same id.
                prop_assert!(Cx::read(&id.to_string()) == *id);
            }
            for value in context.source_patient_info() {
                prop_assert!(value.chars().count() <= 256);
                prop_assert!(!value.chars().any(char::is_control));
                let (_, content) = value.split_once('|').unwrap();
                prop_assert!(!content.is_empty() && !content.contains('|'));
            }
        }
    }
}
