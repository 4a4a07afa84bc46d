//! The XDR system that mail is posted to: ITI-41 over mutual TLS, every request read to its end, forgotten and answered
//! Success, as a process of its own. [`super::sink::Sink`] is its face in the bench.

use std::{
    io::{BufRead, BufReader, Read, Write, copy, sink},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::{Context, ensure};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream, SslVerifyMode};

use super::{
    bridge::Ground,
    sink::{Sink, tell},
};

/// The argument that makes a bench an endpoint.
pub(crate) const ROLE: &str = "--be-the-endpoint";

const SUCCESS: &str = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>\
     <rs:RegistryResponse xmlns:rs=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\" \
     status=\"urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success\"/></s:Body></s:Envelope>";

/// Starts this program once more, as the endpoint of the bridge of `ground`.
pub(crate) fn start_for(ground: &Ground) -> anyhow::Result<Sink> {
    let files = ["tls/trial-ehr.pem", "tls/trial-ehr.key", "ca/ca.pem"];
    Sink::start_as(ROLE, &files.map(|name| ground.file(name)))
}

/// Runs the endpoint: its address on the first line of standard output, then a line with the octets of the body for
/// each request.
pub(crate) fn run(certificate: &Path, key: &Path, client_ca: &Path) -> anyhow::Result<()> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate_chain_file(certificate)?;
    acceptor.set_private_key_file(key, SslFiletype::PEM)?;
    acceptor.set_ca_file(client_ca)?;
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    acceptor.set_session_id_context(b"xdbridge bench")?;
    let acceptor = Arc::new(acceptor.build());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tell(&listener.local_addr()?.to_string())?;
    for stream in listener.incoming() {
        let (stream, acceptor) = (stream?, Arc::clone(&acceptor));
        thread::spawn(move || {
            if let Err(error) = serve(stream, &acceptor) {
                eprintln!("endpoint: {error:#}");
            }
        });
    }
    Ok(())
}

fn serve(stream: TcpStream, acceptor: &SslAcceptor) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 * 1024, acceptor.accept(stream)?);
    loop {
        // A client may leave between two requests, in whatever way it likes.
        if stream.fill_buf().map_or(0, <[u8]>::len) == 0 {
            return Ok(());
        }
        let bytes = request(&mut stream)?;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{SUCCESS}",
            SUCCESS.len()
        );
        tell(&bytes.to_string())?;
        stream.get_mut().write_all(answer.as_bytes())?;
    }
}

/// Reads a request to its end; gives the octets of its body.
fn request(stream: &mut BufReader<SslStream<TcpStream>>) -> anyhow::Result<u64> {
    let mut line = String::new();
    let mut next = |stream: &mut BufReader<_>| -> anyhow::Result<String> {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "cut in a request");
        Ok(line.trim_end().to_ascii_lowercase())
    };
    let mut length = None;
    loop {
        let field = next(stream)?;
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = Some(value.trim().parse()?);
        }
    }
    if let Some(length) = length {
        ensure!(skip(stream, length)?, "cut in a body");
        return Ok(length);
    }
    let mut bytes = 0;
    loop {
        let length = u64::from_str_radix(&next(stream)?, 16).context("no size of a chunk")?;
        ensure!(skip(stream, length + 2)?, "cut in a chunk");
        if length == 0 {
            return Ok(bytes);
        }
        bytes += length;
    }
}

fn skip(stream: &mut impl Read, bytes: u64) -> std::io::Result<bool> {
    Ok(copy(&mut stream.by_ref().take(bytes), &mut sink())? == bytes)
}
