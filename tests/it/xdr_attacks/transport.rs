//! HTTP that lies about its length, comes too slowly, or hides a second request.

use std::fs;

use super::{Siege, WORKSHOP, letter};
use crate::support::crossing_ground::{OWN_DOMAIN, post_head};

// rule: LIM-1, LIM-7, SOAP-7, SOAP-9, SOAP-160, SOAP-163
#[test]
fn hostile_transport_is_refused_before_it_costs_much() {
    let siege = Siege::begin();
    let (content_type, body) = letter();
    let head = |fields: &str| {
        format!(
            "POST /xdr HTTP/1.1\r\nHost: {OWN_DOMAIN}\r\nContent-Type: {content_type}\r\n{fields}\r\n\r\n"
        )
    };
    let told = siege.exchange(head("Content-Length: 1073741824").as_bytes());
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    let told =
        siege.exchange((head("Content-Length: 4\r\nContent-Encoding: gzip") + "body").as_bytes());
    assert!(told.starts_with("HTTP/1.1 415 "), "{told}");

    // The header of a part that has no end, by chunks: the answer comes at the limit of one message.
    let mut connection = siege.ground.connect(&siege.bridge).unwrap();
    connection.send(head("Transfer-Encoding: chunked")).unwrap();
    let boundary = body.lines().next().unwrap();
    let start = format!("{boundary}\r\nContent-ID: <x>\r\nX-Long: ");
    let chunk = |octets: &str| format!("{:x}\r\n{octets}\r\n", octets.len());
    connection.send(chunk(&start)).unwrap();
    let block = chunk(&"x".repeat(1_000_000));
    // It answers long before the end of what it was promised.
    for _ in 0..68 {
        if connection.send(&block).is_err() {
            break;
        }
    }
    assert_eq!(connection.answer().unwrap().status, 413);

    // One request that two readers would take for two (CL.TE, TE.CL and their kin): refused, and nothing after it is.
    let hidden = "GET /xdr?wsdl HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked",
            hidden.len() + 5
        ),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {}",
            hidden.len() + 5
        ),
        format!("Content-Length: 5\r\nContent-Length: {}", hidden.len() + 5),
        "Content-Length: 5, 5".to_owned(),
        "Content-Length: +5".to_owned(),
        "Content-Length: 0x5".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding:\u{b}chunked".to_owned(),
        " Transfer-Encoding: chunked".to_owned(),
    ] {
        let told = siege.exchange(format!("{}0\r\n\r\n{hidden}", head(&fields)).as_bytes());
        assert!(told.starts_with("HTTP/1.1 400 "), "{fields:?}: {told}");
        assert_eq!(told.matches("HTTP/1.1").count(), 1, "{fields:?}: {told}");
    }
    siege.end();
}

// rule: LIM-1
#[test]
fn a_body_that_comes_too_slowly_is_given_up() {
    let ground = WORKSHOP.ground();
    let path = ground.path().join("xdbridge.toml");
    let text = fs::read_to_string(&path).unwrap();
    let server = text.find("[soap.server]\n").unwrap() + "[soap.server]\n".len();
    let limits = "chunk_timeout = \"100ms\"\n";
    fs::write(
        &path,
        format!("{}{limits}{}", &text[..server], &text[server..]),
    )
    .unwrap();
    let bridge = ground.start();
    let (content_type, body) = letter();
    let mut connection = ground.connect(&bridge).unwrap();
    connection
        .send(post_head("/xdr", &content_type, body.len()))
        .unwrap();
    connection.send(&body[..body.len() / 2]).unwrap();
    assert_eq!(connection.answer().unwrap().status, 408);
    assert_eq!(connection.rest().unwrap(), b"");
    bridge.stop();
    assert!(ground.exchanges().is_empty());
}
