//! XML that takes a reader apart, or fills its memory.

use super::{Expected::Fault, Siege, letter, replaced, simple};

// rule: T-10, SOAP-43, LIM-5, SOAP-80, SOAP-160
#[test]
fn hostile_xml_is_refused_by_a_fault_and_bounded_memory() {
    let siege = Siege::begin();
    let bomb: String = (1..12)
        .map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10)))
        .collect();
    let attributes: String = (0..100_000).map(|n| format!(" a{n}=\"x\"")).collect();
    let namespaces: String = (0..100_000)
        .map(|n| format!(" xmlns:n{n}=\"urn:{n}\""))
        .collect();
    let on_elements: String = (0..1_000)
        .map(|n| {
            let declared: String = (0..100)
                .map(|m| format!(" xmlns:n{m}=\"urn:{n}.{m}\""))
                .collect();
            format!("<x{declared}/>")
        })
        .collect();
    let prefix = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let doctype = |inside: &str| format!("{prefix}<!DOCTYPE a {inside}>");
    let header = |inside: &str| format!("<soap:Header>{inside}");
    let title = "Referral for Ada Quill";
    for (what, from, to, expected) in [
        ("DTD", prefix, doctype(""), Fault("SOAP-43")),
        ("external DTD", prefix, doctype("SYSTEM \"http://127.0.0.1:9/x.dtd\""), Fault("SOAP-43")),
        ("entity bomb", prefix, doctype(&format!("[<!ENTITY e0 \"lol\">{bomb}]")), Fault("SOAP-43")),
        ("parameter entity", prefix, doctype("[<!ENTITY % p SYSTEM \"file:///etc/passwd\">%p;]"), Fault("SOAP-43")),
        ("entity", title, "&e11;".to_owned(), Fault("SOAP-80")),
        ("depth in the header", "<soap:Header>", header(&"<x>".repeat(100_000)), Fault("LIM-5")),
        ("depth in the metadata", "<rim:RegistryObjectList>", "<x>".repeat(100_000), Fault("LIM-5")),
        ("attributes", "<soap:Header>", header(&format!("<x{attributes}/>")), Fault("LIM-5")),
        ("attributes in the metadata", "<rim:RegistryObjectList>", format!("<rim:RegistryObjectList{attributes}>"), Fault("LIM-5")),
        ("namespaces", "<soap:Header>", header(&format!("<x{namespaces}/>")), Fault("LIM-5")),
        ("header blocks", "<soap:Header>", header(&on_elements), Fault("LIM-5")),
        ("one attribute", "<soap:Header>", header(&format!("<x a=\"{}\"/>", "x".repeat(1_000_000))), Fault("LIM-5")),
        ("a header without end", "<soap:Header>", header(&"<x xmlns=\"urn:x\">y</x>".repeat(1_000_000)), Fault("LIM-5")),
        ("a comment without end", "<soap:Header>", header(&format!("<!--{}-->", "x".repeat(9_000_000))), Fault("LIM-3")),
        ("NUL", title, "a\0b".to_owned(), Fault("SOAP-80")),
        ("a reference to NUL", title, "a&#0;b".to_owned(), Fault("SOAP-80")),
        ("XInclude", "<soap:Body>", "<soap:Body><xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>".to_owned(), Fault("SOAP-42")),
    ] {
        let (content_type, body) = letter();
        let body = replaced(&body, from, &to);
        siege.post(&content_type, body.as_bytes(), &expected, &format!("{what}, MTOM"));
        let body = simple(|text| replaced(&text, from, &to));
        siege.post("application/soap+xml", body.as_bytes(), &expected, &format!("{what}, simple"));
    }
    let (content_type, body) = letter();
    let at = body.find(title).unwrap();
    let broken = [
        &body.as_bytes()[..at],
        b"\xff\xfe\xc3\x28",
        &body.as_bytes()[at..],
    ]
    .concat();
    siege.post(&content_type, &broken, &Fault("SOAP-80"), "no UTF-8");
    siege.end();
}
