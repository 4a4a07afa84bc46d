//! Sealed mails that are made beforehand, and a peer that sends them: SMTP with STARTTLS, verified.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use openssl::{
    ssl::{SslConnector, SslMethod, SslStream},
    x509::X509,
};
use uuid::Uuid;
use xdbridge::{
    adapters::clock::SystemClock,
    flows::ports::Clock,
    formats::{
        ids::{DirectAddress, MessageId},
        notification::mdn::{Mdn, Notice},
        smime::{self, SealHeader, SealOptions},
    },
};

use super::{
    bridge::Ground,
    documents::{RECIPIENT, SENDER, Sample},
    load::Pattern,
};

/// How long a peer that is told to come again waits.
const COME_AGAIN: Duration = Duration::from_millis(200);

/// A mail as it goes over the wire.
pub(crate) struct SealedMail {
    /// Its header and its body, which is base64 and so has no dot to stuff.
    octets: String,
    header_bytes: usize,
}

impl SealedMail {
    /// What comes after the header.
    pub(crate) fn body(&self) -> &str {
        self.octets.get(self.header_bytes..).unwrap_or_default()
    }

    /// Octets on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.octets.len()
    }
}

/// Seals a mail of its own, from the peer to `to` under `certificate`.
pub(crate) fn seal(
    ground: &Ground,
    sample: &Sample,
    to: &str,
    certificate: &X509,
    wants_final_delivery: bool,
) -> anyhow::Result<SealedMail> {
    let (from, to): (DirectAddress, DirectAddress) = (RECIPIENT.parse()?, to.parse()?);
    let message_id = MessageId::from_uuid(Uuid::new_v4(), from.domain());
    let entity = sample.entity_between(&from, &to, &message_id, wants_final_delivery)?;
    let options = SealOptions::default();
    let now = SystemClock.now();
    let header = smime::seal_header(&SealHeader {
        from: &from,
        to: std::slice::from_ref(&to),
        cc: &[],
        date: now,
        message_id: &message_id,
        in_reply_to: None,
        references: &[],
        subject: smime::OUTER_SUBJECT,
        cipher: options.cipher,
    });
    let header_bytes = header.len();
    let mut octets = header.into_bytes();
    smime::seal(
        &mut octets,
        std::slice::from_ref(&ground.peer),
        std::slice::from_ref(certificate),
        &options,
        now,
        &smime::signature_boundary(&message_id),
        &mut |out| out.write_all(&entity),
    )?;
    Ok(SealedMail {
        octets: String::from_utf8(octets)?,
        header_bytes,
    })
}

/// The entity of a notice like those that the bridge sends about such a mail.
pub(crate) fn notice(notice: Notice<'_>) -> anyhow::Result<Vec<u8>> {
    let (recipient, to): (DirectAddress, DirectAddress) = (SENDER.parse()?, RECIPIENT.parse()?);
    let id = |address: &DirectAddress| MessageId::from_uuid(Uuid::new_v4(), address.domain());
    let (message_id, original) = (id(&recipient), id(&to));
    let mut entity = Vec::new();
    Mdn {
        recipient: &recipient,
        to: &to,
        message_id: &message_id,
        date: SystemClock.now(),
        original_message_id: Some(&original),
        reporting_host: &"bridge.harbor.example".parse()?,
        notice,
    }
    .write(&mut entity)?;
    Ok(entity)
}

/// Sends all `mails` to `to`; each must be answered with `expected`, a code. Who is told to come again does so.
pub(crate) fn send(
    ground: &Ground,
    address: SocketAddr,
    mails: &[SealedMail],
    to: &str,
    pattern: Pattern,
    expected: &str,
) -> anyhow::Result<()> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    connector.set_ca_file(ground.file("ca/ca.pem"))?;
    let connector = connector.build();
    let next = AtomicUsize::new(0);
    let peer = || -> anyhow::Result<()> {
        let mut session: Option<Session> = None;
        let mut used = 0;
        while let Some(mail) = mails.get(next.fetch_add(1, Ordering::Relaxed)) {
            if used == pattern.messages_per_connection
                && let Some(full) = session.take()
            {
                full.quit()?;
                used = 0;
            }
            let mut open = match session.take() {
                Some(open) => open,
                None => Session::open(&connector, address)?,
            };
            loop {
                let reply = open.mail(mail, to)?;
                if reply.starts_with(expected) {
                    break;
                }
                ensure!(reply.starts_with("452"), "answered {reply}");
                thread::sleep(COME_AGAIN);
            }
            session = Some(open);
            used += 1;
        }
        session.map_or(Ok(()), Session::quit)
    };
    thread::scope(|scope| {
        let peers: Vec<_> = (0..pattern.connections)
            .map(|_| scope.spawn(peer))
            .collect();
        peers.into_iter().try_for_each(|peer| {
            peer.join()
                .map_err(|_| anyhow!("a peer panicked"))?
                .context("a peer failed")
        })
    })
}

/// A session under TLS.
struct Session(BufReader<SslStream<TcpStream>>);

impl Session {
    fn open(connector: &SslConnector, address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut clear = BufReader::new(stream);
        expect(&mut clear, "220")?;
        clear.get_mut().write_all(b"EHLO mail.elm.example\r\n")?;
        expect(&mut clear, "250")?;
        clear.get_mut().write_all(b"STARTTLS\r\n")?;
        expect(&mut clear, "220")?;
        let stream = connector.connect("direct.harbor.example", clear.into_inner())?;
        let mut session = BufReader::new(stream);
        session.get_mut().write_all(b"EHLO mail.elm.example\r\n")?;
        expect(&mut session, "250")?;
        Ok(Self(session))
    }

    /// Sends a mail, its commands in one write; gives the reply to its end, or to DATA.
    fn mail(&mut self, mail: &SealedMail, to: &str) -> anyhow::Result<String> {
        let commands = format!("MAIL FROM:<{RECIPIENT}>\r\nRCPT TO:<{to}>\r\nDATA\r\n");
        let stream = &mut self.0;
        stream.get_mut().write_all(commands.as_bytes())?;
        expect(stream, "250")?;
        expect(stream, "250")?;
        let reply = read_reply(stream)?;
        if !reply.starts_with("354") {
            return Ok(reply);
        }
        stream.get_mut().write_all(mail.octets.as_bytes())?;
        stream.get_mut().write_all(b".\r\n")?;
        read_reply(stream)
    }

    fn quit(mut self) -> anyhow::Result<()> {
        self.0.get_mut().write_all(b"QUIT\r\n")?;
        expect(&mut self.0, "221")
    }
}

fn expect<S: Read>(stream: &mut BufReader<S>, code: &str) -> anyhow::Result<()> {
    let reply = read_reply(stream)?;
    ensure!(reply.starts_with(code), "{code} was expected, not {reply}");
    Ok(())
}

/// The last line of the next reply.
fn read_reply<S: Read>(stream: &mut BufReader<S>) -> anyhow::Result<String> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "cut in a reply");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
}
