//! A client that gSOAP generates of the WSDL that a running bridge serves: C code of others, which shares nothing with
//! ours, submits by MTOM over mutual TLS and reads our answer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use openssl::sha::sha256;
use xdbridge::formats::document::hex;

use crate::support::{
    bridge::{ELM, INTAKE, RUI, TestBridge, as_tls, as_tls_ca, pki, runtime},
    folder::TestFolder,
    mailbox::{opened, received},
    scripted_smtp::ScriptedSmtp,
    soap_ground::every_octet,
    tls::Client,
};

const SOURCE: &str = include_str!("support/gsoap/client.c");
const DIRECT: &str = include_str!("support/gsoap/direct.h");
/// Names for the namespaces, which the source uses.
const TYPEMAP: &str = "xds = \"urn:ihe:iti:xds-b:2007\"\n\
    rim = \"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"\n\
    rs = \"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\"\n\
    lcm = \"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\"\n";

/// What the bridge serves, by a connection of a partner.
fn served_wsdl(bridge: &TestBridge) -> String {
    let client = Client {
        ca: &as_tls_ca(),
        identity: Some(&as_tls(&pki().elm)),
        newest: None,
    };
    let mut connection = client.connect(bridge.xdr()).unwrap();
    let head = format!("GET /xdr?wsdl HTTP/1.1\r\nHost: {}\r\n\r\n", host(bridge));
    connection.send(head).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

fn host(bridge: &TestBridge) -> String {
    format!("localhost:{}", bridge.xdr().port())
}

/// Runs a tool that must be content.
fn run(folder: &Path, tool: &str, arguments: &[&str]) {
    let output = Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{tool} of the packages gsoap, libgsoap-dev, gcc: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {said}");
}

/// The client of this WSDL. It is compiled once for each WSDL and source; the port does not count.
fn client(bridge: &TestBridge) -> PathBuf {
    let wsdl = served_wsdl(bridge);
    assert!(wsdl.contains(&format!("https://{}/xdr", host(bridge))));
    let lasting = wsdl.replace(&host(bridge), "localhost");
    let key = hex(&sha256(
        [&lasting, SOURCE, DIRECT, TYPEMAP].concat().as_bytes(),
    ));
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gsoap-client-{key}"));
    if built.is_file() {
        return built;
    }
    let folder = TestFolder::new();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("xdr.wsdl", &wsdl);
    write("typemap.dat", TYPEMAP);
    write("client.c", SOURCE);
    run(
        folder.path(),
        "wsdl2h",
        &["-c", "-t", "typemap.dat", "-o", "xdr.h", "xdr.wsdl"],
    );
    let header = fs::read_to_string(folder.path().join("xdr.h")).unwrap();
    // The WSDL says that WS-Addressing is used; its header blocks come with gSOAP.
    write(
        "service.h",
        &format!("#import \"wsa5.h\"\n{DIRECT}{header}"),
    );
    let import = "-I/usr/share/gsoap/import";
    run(
        folder.path(),
        "soapcpp2",
        &["-C", "-c", "-L", "-x", import, "service.h"],
    );
    let maps = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let map = maps
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "nsmap"));
    fs::rename(map.unwrap(), folder.path().join("service.nsmap")).unwrap();
    let sources = ["client.c", "soapC.c", "soapClient.c"];
    let libraries = ["-lgsoapssl", "-lssl", "-lcrypto"];
    let options = ["-O0", "-w", "-DWITH_OPENSSL", "-I.", "-o", "client"];
    run(
        folder.path(),
        "gcc",
        &[&options[..], &sources, &libraries].concat(),
    );
    // Another process may be at the same: the last one wins, with the same program.
    let beside = built.with_extension(std::process::id().to_string());
    fs::copy(folder.path().join("client"), &beside).unwrap();
    fs::rename(&beside, &built).unwrap();
    built
}

/// Lets the client submit, with this submissionTime and, unless there are none, these addresses in a block: the
/// sender's, then the recipients'.
fn submit(
    client: &Path,
    bridge: &TestBridge,
    documents: &[Vec<u8>; 2],
    time: &str,
    addresses: &[&str],
) -> Output {
    let folder = TestFolder::new();
    let write = |name: &str, octets: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, octets).unwrap();
        path
    };
    let ca = write("ca.pem", &as_tls_ca().certificate_pem());
    let elm = as_tls(&pki().elm);
    let identity = write("elm.pem", &[elm.certificate_pem(), elm.key_pem()].concat());
    let [one, two] =
        [("one", &documents[0]), ("two", &documents[1])].map(|(name, octets)| write(name, octets));
    Command::new(client)
        .arg(format!("https://{}/xdr", host(bridge)))
        .args([ca, identity, one, two])
        .arg(time)
        .args(addresses)
        .output()
        .unwrap()
}

/// The value of a line that the client printed.
fn said<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(first, _)| *first == word)
        .map(|(_, rest)| rest)
        .collect()
}

/// What the client says of a status.
fn status(word: &str) -> String {
    format!("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:{word}")
}

// rule: SOAP-2, SOAP-3, SOAP-10, SOAP-25, SOAP-64, SOAP-67, SOAP-80, SOAP-93, SOAP-110, SOAP-111, SOAP-112, SOAP-113
// rule: SOAP-115, SOAP-120, XDR-40, XDR-41, XDR-42, XDR-44
#[test]
fn a_client_generated_from_our_wsdl_submits_by_mtom_and_reads_success_failure_and_fault() {
    let runtime = runtime();
    let server = runtime.block_on(
        ScriptedSmtp::builder()
            .tls(&as_tls(&pki().mail_host))
            .start(),
    );
    let hops = [("direct.harbor.example", server.address())];
    let bridge = TestBridge::start(runtime, &hops);
    let client = client(&bridge);
    let documents = [
        b"<ClinicalDocument xmlns=\"urn:hl7-org:v3\"/>\r\n".to_vec(),
        every_octet(70_000),
    ];
    let time = "20260302142000";
    let answered = |time: &str, addresses: &[&str], expected: &[(&str, &str)]| {
        let output = submit(&client, &bridge, &documents, time, addresses);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        for word in ["status", "error", "fault"] {
            let expected = expected.iter().filter(|(which, _)| *which == word);
            let expected: Vec<&str> = expected.map(|(_, what)| *what).collect();
            assert_eq!(said(&text, word), expected, "{text}{told}");
        }
        // It knows the answer for that of its request.
        assert_eq!(said(&text, "relates"), said(&text, "message"), "{text}");
        text
    };

    // The metadata alone says who sends to whom; then the block does, which names another recipient.
    answered(time, &[], &[("status", &status("Success"))]);
    let mailto = |address: &str| format!("mailto:{address}");
    let (from, to) = (mailto(ELM), mailto(INTAKE));
    answered(time, &[&from, &to], &[("status", &status("Success"))]);
    bridge.wait_until_sent();
    let mut mails = received(&server);
    mails.sort_by_key(|mail| mail.recipients != [RUI]);
    let [one, other] = mails.as_slice() else {
        panic!("{} mails", mails.len());
    };
    assert_eq!(one.recipients, [RUI]);
    assert_eq!(other.recipients, [INTAKE]);
    for mail in [one, other] {
        assert_eq!(opened(&mail.message, &pki().harbor).documents, documents);
    }

    let failure = [
        ("status", &*status("Failure")),
        ("error", "XDSRepositoryMetadataError"),
    ];
    answered("yesterday", &[], &failure);
    let text = answered(time, &[ELM, &to], &[("fault", "SOAP-ENV:Sender")]);
    assert_eq!(said(&text, "reason"), ["direct:from must be a mailto: URI"]);
    assert_eq!(bridge.exchanges().len(), 2);
}
