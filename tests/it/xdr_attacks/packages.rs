//! MTOM packages whose parts and Includes do not fit together.

use super::{
    Expected::{Failure, Fault},
    Siege, letter,
};

/// A package with another href in its first Include, and further parts.
fn package(body: &str, href: &str, more: &str) -> String {
    let start = body.find("href=\"").unwrap() + "href=\"".len();
    let end = start + body[start..].find('"').unwrap();
    let mut body = body.to_owned();
    body.replace_range(start..end, href);
    let last = body.rfind("\r\n--").unwrap();
    body.insert_str(last, more);
    body
}

// rule: T-10c, SOAP-24, SOAP-28, SOAP-31, SOAP-32, SOAP-80, LIM-6, LIM-7
#[test]
fn hostile_packages_are_refused_each_by_its_rule() {
    let siege = Siege::begin();
    let (content_type, body) = letter();
    let boundary = body.lines().next().unwrap().to_owned();
    let id_of = |name: &str| {
        let start = body.find(&format!("Content-ID: <{name}")).unwrap() + "Content-ID: <".len();
        let end = start + body[start..].find('>').unwrap();
        body[start..end].to_owned()
    };
    let (root, first, second) = (id_of("root."), id_of("doc1."), id_of("doc2."));
    let part = |id: &str| format!("\r\n{boundary}\r\nContent-ID: <{id}>\r\n\r\nx");
    let many: String = (0..501).map(|n| part(&format!("p{n}"))).collect();
    let long_head = format!(
        "\r\n{boundary}\r\nX-Long: {}\r\n\r\nx",
        "x".repeat(1_000_000)
    );
    let nested = format!(
        "\r\n{boundary}\r\nContent-ID: <nest>\r\nContent-Type: multipart/related; boundary=n\r\n\r\n{}",
        "--n\r\nContent-Type: multipart/related; boundary=n\r\n\r\n".repeat(10_000)
    );
    let cid = |id: &str| format!("cid:{id}");
    for (what, body, expected) in [
        (
            "duplicate Content-ID",
            package(&body, &cid(&first), &part(&first)),
            Fault("SOAP-31"),
        ),
        (
            "the root's Content-ID again",
            package(&body, &cid(&first), &part(&root)),
            Fault("SOAP-31"),
        ),
        (
            "two Includes to one part",
            package(&body, &cid(&second), ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to http",
            package(&body, "http://127.0.0.1:9/x", ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to a file",
            package(&body, "file:///etc/passwd", ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to nothing",
            package(&body, "", ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "Include to a missing part",
            package(&body, "cid:missing@example", ""),
            Failure("XDSMissingDocument"),
        ),
        (
            "Include to the root",
            package(&body, &cid(&root), ""),
            Failure("XDSRepositoryError"),
        ),
        (
            "part without Include",
            package(&body, &cid(&first), &part("stray@example")),
            Failure("XDSMissingDocumentMetadata"),
        ),
        (
            "501 parts",
            package(&body, &cid(&first), &many),
            Fault("LIM-6"),
        ),
        (
            "a part's header of 1 MB",
            package(&body, &cid(&first), &long_head),
            Fault("LIM-7"),
        ),
        (
            "packages within packages",
            package(&body, &cid(&first), &nested),
            Failure("XDSMissingDocumentMetadata"),
        ),
        (
            "cut short",
            body[..body.len() / 2].to_owned(),
            Fault("SOAP-30"),
        ),
    ] {
        siege.post(&content_type, body.as_bytes(), &expected, what);
    }
    siege.end();
}
