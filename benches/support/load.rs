//! The load: an XDR client over mutual TLS that keeps its connections for a number of messages.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, anyhow, ensure};
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslStream};

use super::{bridge::Ground, documents::Sample};

/// How the messages come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// Messages over one connection.
    pub(crate) messages_per_connection: usize,
}

/// Submits `messages` of `sample`; each must be answered Success.
pub(crate) fn submit(
    ground: &Ground,
    address: SocketAddr,
    sample: &Sample,
    messages: usize,
    pattern: Pattern,
) -> anyhow::Result<()> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    connector.set_ca_file(ground.file("ca/ca.pem"))?;
    connector.set_certificate_chain_file(ground.file("tls/trial-ehr.pem"))?;
    connector.set_private_key_file(ground.file("tls/trial-ehr.key"), SslFiletype::PEM)?;
    let connector = connector.build();
    let next = AtomicUsize::new(0);
    let client = || -> anyhow::Result<()> {
        let mut connection = None;
        let mut used = 0;
        while next.fetch_add(1, Ordering::Relaxed) < messages {
            let (content_type, body) = sample.request()?;
            if used == pattern.messages_per_connection {
                (connection, used) = (None, 0);
            }
            let open = match connection.take() {
                Some(open) => open,
                None => connect(&connector, address)?,
            };
            connection = Some(post(open, &content_type, &body)?);
            used += 1;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..pattern.connections)
            .map(|_| scope.spawn(client))
            .collect();
        clients.into_iter().try_for_each(|client| {
            client
                .join()
                .map_err(|_| anyhow!("a client panicked"))?
                .context("a client failed")
        })
    })
}

type Connection = BufReader<SslStream<TcpStream>>;

fn connect(connector: &SslConnector, address: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(
        connector.connect("direct.harbor.example", stream)?,
    ))
}

fn post(mut connection: Connection, content_type: &str, body: &[u8]) -> anyhow::Result<Connection> {
    let content_type = content_type.replace("\r\n", "");
    let head = format!(
        "POST /xdr HTTP/1.1\r\nHost: direct.harbor.example\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let stream = connection.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;

    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.clone();
    let mut length = 0;
    loop {
        line.clear();
        ensure!(connection.read_line(&mut line)? > 0, "cut in the head");
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let is_success = answer.contains("ResponseStatusType:Success");
    ensure!(is_success, "not answered Success: {status}{answer}");
    Ok(connection)
}
