use super::{super::embedded, *};

const REQUEST: &str =
    include_str!("../../../../../docs/spec/examples/IHE_XDM/SUBSET01/METADATA.XML");

fn violations(text: &str) -> Vec<Violation> {
    let document = roxmltree::Document::parse(text).unwrap();
    embedded().check(document.root_element(), 50)
}

fn steps(text: &str) -> u64 {
    let document = roxmltree::Document::parse(text).unwrap();
    let schemas = embedded();
    let mut check = Check {
        schemas,
        violations: Vec::new(),
        max: 50,
        steps: 0,
    };
    let root = document.root_element();
    check.element(root, check.declared(root).unwrap(), 0);
    check.steps
}

fn package(inside: &str) -> String {
    format!(
        "<r:RegistryObjectList xmlns:r='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0'>\
         <r:RegistryPackage id='p'>{inside}</r:RegistryPackage></r:RegistryObjectList>"
    )
}

const SLOT: &str = "<r:Slot name='s'><r:ValueList><r:Value>v</r:Value></r:ValueList></r:Slot>";

// rule: MD-99, XDR-5, XDR-6, XDR-7
#[test]
fn every_violation_tells_its_element_its_line_and_what_would_be_accepted() {
    assert_eq!(violations(REQUEST), []);
    let long = "x".repeat(257);
    let text = package(&format!(
        "\n<r:Name/>\n{SLOT}\n<r:Patient>Quill</r:Patient>\n\
         <r:ExternalIdentifier id='e' registryObject='p' value='{long}'/>\n\
         <r:Classification id='c' classifiedObject='p' colour='Quill'>stray Quill</r:Classification>"
    ));
    let told: Vec<(String, u32, String)> = violations(&text)
        .into_iter()
        .map(|each| (each.element, each.line, each.text))
        .collect();
    let expected = [
        (
            "rim:RegistryPackage",
            3,
            "rim:Slot may not stand at this place",
        ),
        (
            "rim:RegistryPackage",
            4,
            "an element that is not known here; accepted: rim:Description",
        ),
        (
            "rim:ExternalIdentifier",
            5,
            "value must be at most 256 characters, not 257",
        ),
        (
            "rim:ExternalIdentifier",
            5,
            "needs the attribute identificationScheme",
        ),
        (
            "rim:RegistryPackage",
            6,
            "rim:Classification may not stand at this place",
        ),
        (
            "rim:Classification",
            6,
            "an attribute that is not known here; accepted: id, lid",
        ),
        (
            "rim:Classification",
            6,
            "holds text where only elements are accepted",
        ),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((element, line, text), expected) in told.iter().zip(expected) {
        assert_eq!(
            (element.as_str(), *line),
            (expected.0, expected.1),
            "{text}"
        );
        assert!(text.contains(expected.2), "{text}");
        assert!(!text.contains("Quill") && !text.contains("xxx"), "{text}");
    }
    assert!(!format!("{:?}", violations(&text)).contains("Quill"));
}

// rule: XDR-34
#[test]
fn no_more_is_told_than_was_asked_for() {
    let text = package(&"<r:Slot/>".repeat(10_000));
    assert_eq!(violations(&text).len(), 50);
    assert!(steps(&text) < 1_000, "it goes on beyond what it tells");
}

// rule: LIM-5
#[test]
fn the_steps_grow_with_the_size_and_no_faster() {
    let with = |count: usize| {
        let slots = SLOT.repeat(count);
        let classification =
            format!("<r:Classification id='c' classifiedObject='p'>{SLOT}</r:Classification>");
        steps(&package(&(slots + &classification.repeat(count))))
    };
    let (small, large) = (with(1_000), with(10_000));
    assert!(large <= 10 * small, "{small} steps became {large}");
    let attributes = |count: usize| {
        let all: String = (0..count).map(|n| format!(" a{n}='v'")).collect();
        steps(&package(&format!("<r:Slot{all}/>")))
    };
    // Each is a violation: what is beyond the cap is passed over.
    assert!(attributes(10_000) <= 11 * attributes(1_000));
}

// rule: LIM-5
#[test]
fn depth_ends_at_its_limit_and_a_huge_value_is_told_by_its_length() {
    let nested = |depth: usize| {
        let open = "<r:Classification id='c' classifiedObject='p'>".repeat(depth);
        package(&(open + &"</r:Classification>".repeat(depth)))
    };
    assert_eq!(violations(&nested(126)), []);
    assert!(violations(&nested(600))[0].text.contains("nested deeper"));
    let huge = "x".repeat(64 * 1024);
    let told = violations(&package(&format!(
        "<r:Slot name='{huge}'>{}</r:Slot>",
        "<r:ValueList><r:Value/></r:ValueList>"
    )));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].text.contains("not 65536"), "{}", told[0].text);
}
