//! A counterpart's mailbox, on an SMTP server that was written by others: mailin-embedded (docs/adr/0001). It offers
//! STARTTLS and keeps each message as a file.
//!
//! The server has a thread for each session and cannot be stopped: it ends with the process.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, anyhow};
use mailin_embedded::{
    Handler, Response, Server, SslConfig,
    response::{INTERNAL_ERROR, NO_MAILBOX, OK},
};
use tokio::sync::mpsc;
use tracing::error;

use super::ground::MAIL_HOST;
use crate::formats::ids::DirectAddress;

/// Largest message that is kept, in octets: the demo's own is far smaller.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A message as it was taken.
pub(super) struct Delivery {
    /// MAIL FROM.
    pub(super) from: String,
    /// RCPT TO.
    pub(super) to: Vec<String>,
    /// The message, header and body.
    pub(super) mail: Vec<u8>,
    /// Where it is kept.
    pub(super) file: PathBuf,
}

/// A mailbox that listens.
pub(super) struct Mailbox {
    address: SocketAddr,
    arrived: mpsc::UnboundedReceiver<Delivery>,
}

impl Mailbox {
    /// Listens on loopback for mail to `recipients`, with the certificate and key `tls/mailbox` of `dir`, and keeps what
    /// comes in its folder `mail`.
    pub(super) fn start(dir: &Path, recipients: Vec<DirectAddress>) -> anyhow::Result<Self> {
        let (arrival, arrived) = mpsc::unbounded_channel();
        let session = Session {
            recipients: recipients.into(),
            folder: dir.join("mail"),
            count: Arc::default(),
            arrival,
            open: None,
        };
        let pem = |extension: &str| -> anyhow::Result<String> {
            let path = dir.join("tls/mailbox").with_extension(extension);
            let path = path.into_os_string().into_string();
            path.map_err(|_| anyhow!("the path of the demo's directory is not UTF-8"))
        };
        let tls = SslConfig::SelfSigned {
            cert_path: pem("pem")?,
            key_path: pem("key")?,
        };
        let listener = TcpListener::bind("127.0.0.1:0").context("the mailbox cannot listen")?;
        let address = listener.local_addr()?;
        let mut server = Server::new(session);
        server
            .with_name(MAIL_HOST)
            .with_ssl(tls)
            .map_err(|error| anyhow!("the mailbox's TLS: {error}"))?
            .with_tcp_listener(listener);
        let serve = move || {
            if let Err(error) = server.serve() {
                error!(%error, "the mailbox ended: {error}");
            }
        };
        thread::Builder::new()
            .name("mailbox".to_owned())
            .spawn(serve)?;
        Ok(Self { address, arrived })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> anyhow::Result<Delivery> {
        let arrived = self.arrived.recv().await;
        arrived.context("the mailbox has ended")
    }

    /// What has come beside the messages that were taken.
    pub(super) fn waiting(&self) -> usize {
        self.arrived.len()
    }
}

/// One SMTP session; each connection has a clone.
#[derive(Clone)]
struct Session {
    recipients: Arc<[DirectAddress]>,
    folder: PathBuf,
    count: Arc<AtomicU32>,
    arrival: mpsc::UnboundedSender<Delivery>,
    open: Option<Open>,
}

/// A message on its way in.
#[derive(Clone)]
struct Open {
    from: String,
    to: Vec<String>,
    mail: Vec<u8>,
}

impl Session {
    fn keep(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let file = self.folder.join(format!("{number}.eml"));
        fs::write(&file, &open.mail)?;
        let delivery = Delivery {
            from: open.from,
            to: open.to,
            mail: open.mail,
            file,
        };
        let sent = self.arrival.send(delivery);
        sent.map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Handler for Session {
    fn rcpt(&mut self, to: &str) -> Response {
        let address = to.parse::<DirectAddress>();
        let is_known = address.is_ok_and(|address| self.recipients.contains(&address));
        if is_known { OK } else { NO_MAILBOX }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.open = Some(Open {
            from: from.to_owned(),
            to: to.to_vec(),
            mail: Vec::new(),
        });
        OK
    }

    fn data(&mut self, octets: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(ErrorKind::InvalidInput.into());
        };
        if open.mail.len() + octets.len() > MAX_MESSAGE_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        open.mail.extend_from_slice(octets);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        match self.keep() {
            Ok(()) => OK,
            Err(error) => {
                error!(%error, "the mailbox could not keep a message: {error}");
                INTERNAL_ERROR
            }
        }
    }

    fn mail(&mut self, _: IpAddr, _: &str, _: &str) -> Response {
        self.open = None;
        OK
    }
}
