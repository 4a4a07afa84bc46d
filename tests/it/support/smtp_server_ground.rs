//! An SMTP listener with a flow that the test plays, and peers of any conduct.

use std::{
    future::Future,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion};
use tokio::runtime::Runtime;
use xdbridge::{
    adapters::{
        clock::SystemClock,
        smtp_server::{SmtpListener, SmtpParts, SmtpServer, SmtpServerConfig, SmtpServerError},
    },
    flows::{
        budget::ByteBudget,
        ports::{
            Audit, BodyInterrupted, MailAnswer, MailRecipient, MailTransaction, RecipientAnswer,
            ServeMail, SmtpPeer, StoreError,
        },
        room::Room,
    },
    formats::{
        audit::AuditRecord,
        ids::{DirectAddress, DomainName},
        limits::Limits,
    },
};

use super::{
    folder::TestFolder,
    room::TestRoom,
    smtp_ground::HOST,
    tls::{Identity, connect_plain},
};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const BUDGET_BYTES: u64 = 64 * 1024 * 1024;
/// `limits.max_message_bytes` of the ground.
pub(crate) const MAX_MESSAGE_BYTES: u64 = 1024 * 1024;
/// The domain that is served.
pub(crate) const DOMAIN: &str = "direct.harbor.example";

pub(crate) type Serving = Pin<Box<dyn Future<Output = MailAnswer> + Send>>;
type Conduct = Box<dyn Fn(MailTransaction, mpsc::Sender<Seen>) -> Serving + Send + Sync>;

/// A listener at work.
pub(crate) struct MailGround {
    pub(crate) ca: Identity,
    pub(crate) address: SocketAddr,
    pub(crate) server: Option<SmtpServer>,
    pub(crate) budget: ByteBudget,
    pub(crate) room: TestRoom,
    pub(crate) audit: Arc<MailNotebook>,
    pub(crate) seen: mpsc::Receiver<Seen>,
    pub(crate) config: SmtpServerConfig,
    pub(crate) runtime: Runtime,
    pub(crate) folder: TestFolder,
}

/// What a mail was when it reached the flow.
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) trace: String,
    pub(crate) from: Option<DirectAddress>,
    pub(crate) recipients: Vec<MailRecipient>,
    pub(crate) peer: SmtpPeer,
    pub(crate) body: Result<Vec<u8>, BodyInterrupted>,
}

struct Flow {
    conduct: Conduct,
    seen: mpsc::Sender<Seen>,
}

#[derive(Default)]
pub(crate) struct MailNotebook(pub(crate) Mutex<Vec<AuditRecord>>);

/// The common conduct: collects the mail, tells what it saw, accepts.
pub(crate) fn collect(mut transaction: MailTransaction, seen: mpsc::Sender<Seen>) -> Serving {
    Box::pin(async move {
        let body = whole(&mut transaction).await;
        let answer = match body {
            Ok(_) => MailAnswer::Accepted,
            Err(_) => MailAnswer::UNAVAILABLE,
        };
        let _ = seen.send(Seen {
            id: transaction.id,
            trace: transaction.trace,
            from: transaction.envelope_from,
            recipients: transaction.recipients,
            peer: transaction.peer,
            body,
        });
        answer
    })
}

/// Reads the mail to its end.
pub(crate) async fn whole(transaction: &mut MailTransaction) -> Result<Vec<u8>, BodyInterrupted> {
    let mut body = Vec::new();
    while let Some(chunk) = transaction.body.recv().await {
        body.extend_from_slice(&chunk?);
    }
    Ok(body)
}

#[async_trait]
impl ServeMail for Flow {
    fn serves(&self, domain: &DomainName) -> bool {
        domain.as_str() == DOMAIN
    }

    async fn recipient(&self, address: &DirectAddress) -> RecipientAnswer {
        match address.local() {
            "nobody" => RecipientAnswer::Unknown,
            "keyless" => RecipientAnswer::Unconfigured,
            "later" => RecipientAnswer::Unavailable,
            _ => RecipientAnswer::Served,
        }
    }

    async fn serve(&self, transaction: MailTransaction) -> MailAnswer {
        (self.conduct)(transaction, self.seen.clone()).await
    }
}

#[async_trait]
impl Audit for MailNotebook {
    async fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(record);
        Ok(())
    }
}

impl MailGround {
    pub(crate) fn start() -> Self {
        Self::with(|_| {}, collect)
    }

    pub(crate) fn with<F>(settings: impl FnOnce(&mut SmtpServerConfig), conduct: F) -> Self
    where
        F: Fn(MailTransaction, mpsc::Sender<Seen>) -> Serving + Send + Sync + 'static,
    {
        let folder = TestFolder::new();
        let ca = Identity::ca("Test CA");
        let mut config = written_by(&ca, &folder);
        settings(&mut config);
        let limits = Limits {
            max_message_bytes: MAX_MESSAGE_BYTES,
            ..Limits::default()
        };
        let runtime = Runtime::new().unwrap();
        let (tell, seen) = mpsc::channel();
        let audit = Arc::new(MailNotebook::default());
        let budget = ByteBudget::new(BUDGET_BYTES);
        let room = TestRoom::new();
        let parts = SmtpParts {
            mail: Arc::new(Flow {
                conduct: Box::new(conduct),
                seen: tell,
            }),
            audit: audit.clone(),
            budget: budget.clone(),
            room: room.room(),
            clock: Arc::new(SystemClock),
        };
        let listener = SmtpListener::bind(&config, &limits, parts).unwrap();
        let address = listener.address();
        let server = runtime.block_on(async { listener.serve() }).unwrap();
        assert_eq!(server.address(), address);
        Self {
            ca,
            address,
            server: Some(server),
            budget,
            room,
            audit,
            seen,
            config,
            runtime,
            folder,
        }
    }

    /// A peer in clear, greeted.
    pub(crate) fn connect(&self) -> Peer<TcpStream> {
        let mut peer = self.connect_silent();
        assert_eq!(peer.reply(), "220 bridge.harbor.example ESMTP\r\n");
        peer
    }

    /// A peer in clear that has not read the greeting.
    pub(crate) fn connect_silent(&self) -> Peer<TcpStream> {
        Peer {
            stream: connect_plain(self.address),
        }
    }

    /// A peer of another server.
    pub(crate) fn peer_of(&self, address: SocketAddr) -> Peer<TcpStream> {
        Peer {
            stream: connect_plain(address),
        }
    }

    /// A peer under TLS that has said EHLO.
    pub(crate) fn connect_tls(&self) -> Peer<SslStream<TcpStream>> {
        let mut peer = self.handshake(None, None).unwrap();
        assert!(peer.ask("EHLO mx.elm.example").starts_with("250-"));
        peer
    }

    /// A peer under TLS of the given version at the newest, with a certificate or none.
    pub(crate) fn handshake(
        &self,
        newest: Option<SslVersion>,
        identity: Option<&Identity>,
    ) -> Result<Peer<SslStream<TcpStream>>, String> {
        let mut peer = self.connect();
        assert!(peer.ask("EHLO mx.elm.example").contains("250 STARTTLS\r\n"));
        assert!(peer.ask("STARTTLS").starts_with("220 2.0.0 "));
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        let ca = self.ca.certificate.clone();
        connector.cert_store_mut().add_cert(ca).unwrap();
        connector.set_verify(SslVerifyMode::PEER);
        // Old versions are off by default on this side too: a test that offers one means the server's refusal.
        connector.set_security_level(0);
        connector.set_min_proto_version(None).unwrap();
        connector.set_max_proto_version(newest).unwrap();
        if let Some(identity) = identity {
            connector.set_certificate(&identity.certificate).unwrap();
            connector.set_private_key(&identity.key).unwrap();
        }
        let stream = connector.build().connect("localhost", peer.stream);
        stream
            .map(|stream| Peer { stream })
            .map_err(|error| error.to_string())
    }

    /// The next mail that reached the flow.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn saw_nothing(&self) -> bool {
        self.seen.try_recv().is_err()
    }

    pub(crate) fn audited(&self) -> Vec<AuditRecord> {
        self.audit.0.lock().unwrap().clone()
    }

    /// Stops the listener and waits until it has.
    pub(crate) fn stop(&mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(server.stop());
    }
}

/// Settings with files that fit.
pub(crate) fn written_by(ca: &Identity, folder: &TestFolder) -> SmtpServerConfig {
    let (certificate, key) = ca.issue(HOST).write(folder.path(), "server");
    SmtpServerConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_name: Some("bridge.harbor.example".parse().unwrap()),
        certificate,
        key,
        tarpit_delay: Duration::ZERO,
        close_timeout: Duration::from_millis(500),
        max_sessions_per_minute: 100_000,
        max_connections_per_address: 500,
        ..SmtpServerConfig::default()
    }
}

/// Why a listener does not start.
pub(crate) fn bind_error(config: &SmtpServerConfig) -> SmtpServerError {
    let (tell, _) = mpsc::channel();
    let parts = SmtpParts {
        mail: Arc::new(Flow {
            conduct: Box::new(collect),
            seen: tell,
        }),
        audit: Arc::new(MailNotebook::default()),
        budget: ByteBudget::new(BUDGET_BYTES),
        room: Room::default(),
        clock: Arc::new(SystemClock),
    };
    SmtpListener::bind(config, &Limits::default(), parts)
        .err()
        .unwrap()
}

/// A peer that says exactly what it is told to.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
}

impl<S: Read + Write> Peer<S> {
    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// One reply, all its lines; empty when the connection has ended.
    pub(crate) fn reply(&mut self) -> String {
        let mut reply = Vec::new();
        let mut line_start = 0;
        loop {
            let mut octet = [0];
            // A closed TLS connection without a farewell is an error, and an end all the same.
            match self.stream.read(&mut octet) {
                Ok(1) => reply.push(octet[0]),
                Ok(_) => break,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    panic!("no reply came")
                }
                Err(_) => break,
            }
            if reply.ends_with(b"\r\n") {
                if reply.get(line_start + 3) == Some(&b' ') {
                    break;
                }
                line_start = reply.len();
            }
        }
        String::from_utf8(reply).unwrap()
    }

    /// Sends a line and reads its reply.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// The codes of the reply to a line, such as `250 2.1.0`.
    pub(crate) fn code(&mut self, line: &str) -> String {
        codes(&self.ask(line))
    }

    /// Sends an envelope, up to 354.
    pub(crate) fn envelope(&mut self) {
        assert_eq!(
            self.code("MAIL FROM:<ada.quill@direct.elm.example>"),
            "250 2.1.0"
        );
        assert_eq!(self.code(&format!("RCPT TO:<ngozi@{DOMAIN}>")), "250 2.1.5");
        assert!(self.ask("DATA").starts_with("354 "));
    }

    /// Sends a mail, data and its end as they are, and gives the codes of the final reply.
    pub(crate) fn deliver(&mut self, data: impl AsRef<[u8]>) -> String {
        self.envelope();
        self.send(data);
        codes(&self.reply())
    }

    /// Waits for the end of the connection. What was said before it.
    pub(crate) fn rest(&mut self) -> String {
        String::from_utf8(self.rest_octets()).unwrap()
    }

    /// The same where it may be no text: a TLS alert.
    pub(crate) fn lossy_rest(&mut self) -> String {
        String::from_utf8_lossy(&self.rest_octets()).into_owned()
    }

    fn rest_octets(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let mut piece = [0; 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => rest.extend_from_slice(&piece[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    panic!("the connection stays open")
                }
                Err(_) => break,
            }
        }
        rest
    }
}

/// Code and enhanced code of a reply.
pub(crate) fn codes(reply: &str) -> String {
    let mut words = reply.split(' ');
    let code = words.next().unwrap_or_default();
    match words.next() {
        Some(word) if word.split('.').count() == 3 => format!("{code} {word}"),
        _ => code.chars().take(3).collect(),
    }
}

/// Doubles the dots that begin lines, and ends the mail.
pub(crate) fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for line in mail.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line);
    }
    sent.extend_from_slice(b".\r\n");
    sent
}
