//! What SIGHUP reads anew for the HTTP listeners: whom they show themselves as, whom they let in, which tokens they know.

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use rustix::process::Signal;

use super::support::{
    crossing_ground::{Answered, CrossingGround, Letter, Workshop},
    process::BridgeProcess,
    tls::{Identity, connect_plain},
};

/// The certificate that a listener shows, and what it answers, if it lets the client in.
struct Met {
    shown: Vec<u8>,
    answer: Option<String>,
}

fn meet(address: SocketAddr, client: Option<&Identity>, head: &str) -> Met {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    if let Some(client) = client {
        connector.set_certificate(&client.certificate).unwrap();
        connector.set_private_key(&client.key).unwrap();
    }
    let stream = connector
        .build()
        .connect("localhost", connect_plain(address));
    let mut stream = stream.unwrap();
    let shown = stream.ssl().peer_certificate().unwrap().to_der().unwrap();
    let request = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        // A connection that is broken off behind the answer takes nothing of it back.
        let _ = stream.read_to_end(&mut answer);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Met {
        shown,
        answer: answer.starts_with("HTTP/1.1 ").then_some(answer),
    }
}

fn hang_up(bridge: &BridgeProcess) {
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| line.contains("were read anew"));
}

// rule: T-24
#[test]
fn sighup_has_submitters_shown_a_new_certificate_and_lets_new_ones_in() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let bridge = ground.start();
    let clinics = Identity::ca("New clinics CA");
    let clinic = clinics.issue("gateway.clinic.example");
    let ask = || meet(bridge.xdr(), Some(&clinic), "GET /xdr?wsdl HTTP/1.1");
    let before = ask();
    assert_eq!(before.answer, None);

    let ca_file = ground.path().join("tls/clients.pem");
    let known = fs::read(&ca_file).unwrap();
    let both = [known, clinics.certificate_pem()].concat();
    fs::write(&ca_file, both).unwrap();
    let renewed = Identity::ca("Renewed CA").issue("bridge.harbor.example");
    let tls = ground.path().join("tls");
    let (_, key) = renewed.write(&tls, "server");
    let kept = fs::read(&key).unwrap();

    // One file that cannot be read, and nothing changes.
    fs::write(&key, "none").unwrap();
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| {
        line.contains("nothing was reloaded") && line.contains("soap.server.key")
    });
    let unchanged = ask();
    assert_eq!((unchanged.shown, unchanged.answer), (before.shown, None));

    fs::write(&key, kept).unwrap();
    hang_up(&bridge);
    let after = ask();
    assert_eq!(after.shown, renewed.certificate.to_der().unwrap());
    let answer = after.answer.unwrap();
    // By TLS, that is; it is no partner.
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    // Whose CA is no longer named is refused again.
    fs::write(&ca_file, Identity::ca("Another CA").certificate_pem()).unwrap();
    hang_up(&bridge);
    assert_eq!(ask().answer, None);
    bridge.stop();
}

/// Protects the operators' listener by TLS and a token, and gives the trial partner one of its own.
fn protect(ground: &CrossingGround<'_>) {
    let path = ground.path().join("xdbridge.toml");
    let mut settings: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let partner = settings["partner"][0]["name"].clone();
    let operator = settings["operator"].as_table_mut().unwrap();
    for (setting, file) in [
        ("certificate", "tls/operator.pem"),
        ("key", "tls/operator.key"),
        ("token_file", "operator.token"),
    ] {
        operator.insert(setting.to_owned(), file.into());
    }
    let token = toml::Table::from_iter([
        ("partner".to_owned(), partner),
        ("file".to_owned(), "partner.token".into()),
    ]);
    operator.insert("partner_tokens".to_owned(), vec![token].into());
    fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
}

fn write_token(folder: &Path, name: &str, token: &str) {
    use std::os::unix::fs::PermissionsExt;

    let path = folder.join(name);
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

// rule: T-35
#[test]
fn sighup_has_operators_shown_a_new_certificate_and_asked_for_new_tokens() {
    const OLD: &str = "the-first-token-of-the-operators";
    const NEW: &str = "another-token-that-they-have-now";
    const PARTNER: &str = "a-token-that-the-partner-may-use";
    let workshop = Workshop::new();
    let ground = workshop.ground();
    protect(&ground);
    let folder = ground.path();
    let authority = Identity::ca("Operators CA");
    let identities = [0, 1].map(|_| authority.issue("bridge.harbor.example"));
    identities[0].write(&folder.join("tls"), "operator");
    write_token(&folder, "operator.token", OLD);
    write_token(&folder, "partner.token", OLD);
    let refused = ground.start_with("");
    assert!(!refused.is_listening(), "two equal tokens");
    write_token(&folder, "partner.token", PARTNER);

    let bridge = ground.start();
    let status = |token: &str| {
        let head = format!("GET /api/v1/exchanges HTTP/1.1\r\nAuthorization: Bearer {token}");
        let met = meet(bridge.operator_address(), None, &head);
        let status = met.answer.unwrap().split(' ').nth(1).unwrap().to_owned();
        (status, met.shown)
    };
    let shown = |identity: usize| identities[identity].certificate.to_der().unwrap();
    let ok = |identity: usize| ("200".to_owned(), shown(identity));
    let refused = |identity: usize| ("401".to_owned(), shown(identity));
    assert_eq!(status(OLD), ok(0));
    assert_eq!(status(PARTNER), ok(0));
    assert_eq!(status(NEW), refused(0));

    identities[1].write(&folder.join("tls"), "operator");
    write_token(&folder, "operator.token", "weak");
    bridge.signal(Signal::HUP);
    bridge.wait_for_line(|line| {
        line.contains("nothing was reloaded") && line.contains("operator.token_file")
    });
    assert_eq!(status(OLD), ok(0));

    write_token(&folder, "operator.token", NEW);
    hang_up(&bridge);
    assert_eq!(status(NEW), ok(1));
    assert_eq!(status(PARTNER), ok(1));
    assert_eq!(status(OLD), refused(1));
    // What goes by XDR is not touched by it.
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    bridge.stop();
}
