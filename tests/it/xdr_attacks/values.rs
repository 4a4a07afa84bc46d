//! Values that are too many, too long, untrue, or made to break out of the field that they are put into.

use super::{
    Expected::{Failure, Fault},
    Siege, WORKSHOP, letter, replaced, simple,
};
use crate::support::crossing_ground::{Answered, Letter, OWN_DOMAIN};

// rule: SOAP-29, XDR-21, XDR-22, LIM-4, LIM-9, T-11e, SOAP-162, SOAP-112, XDR-34
#[test]
fn hostile_values_are_refused_and_never_get_into_a_mail() {
    let siege = Siege::begin();
    let to = "<direct:to>mailto:rui.silva@hisp.example</direct:to>";
    let into_to = |text: &str| format!("<direct:to>mailto:{text}</direct:to>");
    let many_apart: String = (0..10_000)
        .map(|n| into_to(&format!("r{n}@hisp.example")))
        .collect();
    let joined: Vec<String> = (0..2_000).map(|n| format!("r{n}@hisp.example")).collect();
    let entry = "<rim:ExtrinsicObject ";
    let entries: String = (0..10_000)
        .map(|n| format!("<rim:ExtrinsicObject id=\"e{n}\" mimeType=\"text/xml\" objectType=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\"/>"))
        .collect();
    let digest = openssl::hash::hash(
        openssl::hash::MessageDigest::sha1(),
        &Letter::small().documents[0],
    );
    let digest = xdbridge::formats::document::hex(&digest.unwrap());
    let size = format!(
        "<rim:Value>{}</rim:Value>",
        Letter::small().documents[0].len()
    );
    let base64 = openssl::base64::encode_block(&Letter::small().documents[0]);
    for (what, from, to, expected) in [
        (
            "bad base64",
            base64.as_str(),
            "!!!!".to_owned(),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "base64 cut short",
            &base64,
            base64[..base64.len() - 1].to_owned(),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "wrong hash",
            &digest,
            "0".repeat(40),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "wrong size",
            &size,
            "<rim:Value>1</rim:Value>".to_owned(),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "a size without end",
            &size,
            format!("<rim:Value>{}</rim:Value>", "9".repeat(100_000)),
            Failure("XDSRepositoryMetadataError"),
        ),
        (
            "CR LF in an address",
            to,
            into_to("rui&#13;&#10;Bcc: x@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "CR LF before an address",
            to,
            into_to("&#13;&#10;.&#13;&#10;rui@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "CR LF percent-encoded",
            to,
            into_to("rui%0D%0ABcc%3Ax@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "NUL percent-encoded",
            to,
            into_to("rui%00@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "a path that ends",
            to,
            into_to("rui&gt;@hisp.example"),
            Fault("SOAP-112"),
        ),
        (
            "10,000 direct:to",
            to,
            many_apart,
            Failure("XDSRepositoryOutOfResources"),
        ),
        (
            "2,000 addresses in one direct:to",
            to,
            into_to(&joined.join(",")),
            Failure("XDSRepositoryOutOfResources"),
        ),
        (
            "10,000 DocumentEntries",
            entry,
            format!("{entries}{entry}"),
            Failure("XDSRepositoryOutOfResources"),
        ),
    ] {
        let body = simple(|text| replaced(&text, from, &to));
        siege.post("application/soap+xml", body.as_bytes(), &expected, what);
    }
    // 10,000 recipients in the metadata, good and bad, where they count: without an addressBlock.
    for (value, code) in [
        (
            "||^^Internet^r{n}@hisp.example",
            "XDSRepositoryOutOfResources",
        ),
        ("Nobody {n}", "XDSRepositoryOutOfResources"),
        ("||^^Internet^no address {n}", "XDSRepositoryOutOfResources"),
        // This is no XTN, of which the first 50 are told.
        ("||^^Fax^{n}", "XDSRepositoryMetadataError"),
    ] {
        let values: String = (0..10_000)
            .map(|n| {
                format!(
                    "<rim:Value>{}</rim:Value>",
                    value.replace("{n}", &n.to_string())
                )
            })
            .collect();
        let slot = format!(
            "<rim:Slot name=\"intendedRecipient\"><rim:ValueList>{values}</rim:ValueList></rim:Slot>"
        );
        let body = simple(|text| {
            let start = text.find("<direct:addressBlock").unwrap();
            let end = text.find("</direct:addressBlock>").unwrap() + "</direct:addressBlock>".len();
            let text = replaced(&text, &text[start..end], "");
            let start = text.find("<rim:Slot name=\"intendedRecipient\"");
            let text = match start {
                Some(start) => {
                    let end =
                        start + text[start..].find("</rim:Slot>").unwrap() + "</rim:Slot>".len();
                    replaced(&text, &text[start..end], "")
                }
                None => text,
            };
            let text = text.replace("direct.elm.example.org", OWN_DOMAIN);
            let submission_time = "<rim:Slot name=\"submissionTime\">";
            replaced(&text, submission_time, &format!("{slot}{submission_time}"))
        });
        let expected = Failure(code);
        siege.post("application/soap+xml", body.as_bytes(), &expected, value);
    }
    siege.end();
}

// rule: XDR-21
#[test]
fn a_hash_in_upper_case_is_the_same_hash() {
    let ground = WORKSHOP.ground();
    let bridge = ground.start();
    let (content_type, body) = letter();
    let digest = openssl::hash::hash(
        openssl::hash::MessageDigest::sha1(),
        &Letter::small().documents[0],
    );
    let digest = xdbridge::formats::document::hex(&digest.unwrap());
    let body = replaced(&body, &digest, &digest.to_uppercase());
    let answered = ground.post_octets(&bridge, "/xdr", &content_type, body.as_bytes());
    assert_eq!(answered, Answered::Success);
    ground.wait_for_messages(1);
    bridge.stop();
}
