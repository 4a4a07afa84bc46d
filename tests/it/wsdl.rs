//! The WSDL carries the types of `schemas/` and nothing else, so that the two cannot drift apart.

use std::{fmt::Write as _, fs, path::Path};

/// The schemas that the messages of the service are made of, each after those that it names.
const TYPES: [&str; 5] = ["xml.xsd", "rim.xsd", "rs.xsd", "lcm.xsd", "xds.xsd"];

/// What stands between the tags of wsdl:types: each file without its XML declaration and its references to other files,
/// indented.
fn types() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut types = String::new();
    for name in TYPES {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let (_, schema) = text.split_once("?>\n").unwrap();
        for line in schema.lines() {
            let line = match line.split_once(" schemaLocation=\"") {
                Some((before, rest)) => format!("{before}{}", rest.split_once('"').unwrap().1),
                None => line.to_owned(),
            };
            let indent = if line.is_empty() { "" } else { "    " };
            writeln!(types, "{indent}{line}").unwrap();
        }
    }
    types
}

// rule: SOAP-2
#[test]
fn the_types_of_the_wsdl_are_the_schemas() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wsdl/xdr.wsdl");
    let wsdl = fs::read_to_string(&path).unwrap();
    let (before, rest) = wsdl.split_once("  <wsdl:types>\n").unwrap();
    let (_, after) = rest.split_once("  </wsdl:types>").unwrap();
    let expected = format!("{before}  <wsdl:types>\n{}  </wsdl:types>{after}", types());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(
        wsdl == expected,
        "wsdl/xdr.wsdl is out of date; run this test once with UPDATE_EXPECT=1 and look at the diff"
    );
    assert!(!wsdl.contains("schemaLocation"), "the WSDL stands alone");
}
