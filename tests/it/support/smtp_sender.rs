//! A mail system that hands a mail over once and takes every end of it: the reply that decides, or none.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::LazyLock,
    time::Duration,
};

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use super::smtp_server_ground::stuffed;

/// Longest wait for a reply: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Made once: each would read all CAs of the system, where `SSL_CERT_FILE` names them.
static CONNECTOR: LazyLock<SslConnector> = LazyLock::new(|| {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.build()
});

/// Hands a mail over by STARTTLS to `host`, whose certificate nobody looks at. The reply to its data, or to the command
/// that was refused; `None` if the peer was gone before. An empty `from` is the null reverse-path.
pub(crate) fn hand_over_once(
    address: SocketAddr,
    host: &str,
    from: &str,
    to: &[impl AsRef<str>],
    mail: &[u8],
) -> Option<String> {
    let socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut clear = BufReader::new(socket);
    let greeting = reply(&mut clear)?;
    if !greeting.starts_with("220") {
        return Some(greeting);
    }
    ask(&mut clear, "EHLO mx.hisp.example")?;
    ask(&mut clear, "STARTTLS")?;
    let stream = CONNECTOR.connect(host, clear.into_inner());
    let mut stream = BufReader::new(stream.ok()?);
    ask(&mut stream, "EHLO mx.hisp.example")?;
    let mut commands = vec![format!("MAIL FROM:<{from}>")];
    commands.extend(to.iter().map(|to| format!("RCPT TO:<{}>", to.as_ref())));
    commands.push("DATA".to_owned());
    for command in commands {
        let reply = ask(&mut stream, &command)?;
        if !reply.starts_with(['2', '3']) {
            return Some(reply);
        }
    }
    stream.get_mut().write_all(&stuffed(mail)).ok()?;
    reply(&mut stream)
}

fn ask(stream: &mut BufReader<impl Read + Write>, command: &str) -> Option<String> {
    let line = format!("{command}\r\n");
    stream.get_mut().write_all(line.as_bytes()).ok()?;
    reply(stream)
}

/// The last line of the next reply.
fn reply(stream: &mut impl BufRead) -> Option<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Some(line);
        }
    }
}
