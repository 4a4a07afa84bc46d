//! An XDR listener with partners and a flow that the test plays.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use openssl::ssl::SslVersion;
use tokio::runtime::Runtime;
use xdbridge::{
    adapters::{
        clock::SystemClock,
        soap_server::{Parts, SoapListener, SoapServerConfig, SoapServerError, by_certificate},
    },
    app::http_thread::HttpThread,
    bridge::partner::{ClientCertificateConfig, PartnerConfig, Partners},
    flows::{
        budget::ByteBudget,
        ports::{Audit, BodyInterrupted, ServeXdr, StoreError, TlsPeer, XdrAnswer, XdrRequest},
        room::Room,
    },
    formats::{audit::AuditRecord, ids::CertificateFingerprint, limits::Limits},
};

use super::{
    folder::TestFolder,
    room::TestRoom,
    tls::{Client, Connection, HttpAnswer, Identity},
};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const BUDGET_BYTES: u64 = 8 * 1024 * 1024;

pub(crate) type Serving = Pin<Box<dyn Future<Output = XdrAnswer> + Send>>;
pub(crate) type Conduct = Box<dyn Fn(XdrRequest, mpsc::Sender<Seen>) -> Serving + Send + Sync>;

/// A listener with a flow that the test plays and two partners: `elm`, known by its certificate, and `ash`, known by
/// its CA and its name.
pub(crate) struct Ground {
    pub(crate) ca: Identity,
    pub(crate) partner: Identity,
    pub(crate) address: SocketAddr,
    pub(crate) server: Option<HttpThread>,
    pub(crate) budget: ByteBudget,
    pub(crate) room: TestRoom,
    pub(crate) audit: Arc<Notebook>,
    pub(crate) seen: mpsc::Receiver<Seen>,
    pub(crate) runtime: Runtime,
    _folder: TestFolder,
}

/// What a request was when it reached the flow.
pub(crate) struct Seen {
    pub(crate) content_type: String,
    pub(crate) partner: String,
    pub(crate) peer: TlsPeer,
    pub(crate) body: Result<Vec<u8>, BodyInterrupted>,
}

/// The flow that a test plays.
pub(crate) struct Flow {
    pub(crate) conduct: Conduct,
    pub(crate) seen: mpsc::Sender<Seen>,
}

#[derive(Default)]
pub(crate) struct Notebook(pub(crate) Mutex<Vec<AuditRecord>>);

/// The common conduct: collects the body, tells what it saw, answers with the size.
pub(crate) fn collect(request: XdrRequest, seen: mpsc::Sender<Seen>) -> Serving {
    Box::pin(async move {
        let (content_type, peer) = (request.content_type.clone(), request.peer.clone());
        let partner = request.partner.name.clone();
        let body = whole(request).await;
        let size = body.as_ref().map_or(0, Vec::len);
        let _ = seen.send(Seen {
            content_type,
            partner,
            peer,
            body,
        });
        plain(200, &format!("{size} octets"))
    })
}

/// Reads the body to its end, and gives its room back.
pub(crate) async fn whole(mut request: XdrRequest) -> Result<Vec<u8>, BodyInterrupted> {
    let mut body = Vec::new();
    while let Some(chunk) = request.body.recv().await {
        body.extend_from_slice(&chunk?);
    }
    Ok(body)
}

pub(crate) fn plain(status: u16, text: &str) -> XdrAnswer {
    XdrAnswer {
        status,
        content_type: Some("text/plain".to_owned()),
        body: Bytes::from(text.to_owned()),
        retry_after: None,
    }
}

#[async_trait]
impl ServeXdr for Flow {
    async fn serve(&self, request: XdrRequest) -> XdrAnswer {
        (self.conduct)(request, self.seen.clone()).await
    }
}

#[async_trait]
impl Audit for Notebook {
    async fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(record);
        Ok(())
    }
}

impl Ground {
    pub(crate) fn start() -> Self {
        Self::with(|_| {}, |_| {}, collect)
    }

    pub(crate) fn with<F>(
        settings: impl FnOnce(&mut SoapServerConfig),
        limits: impl FnOnce(&mut Limits),
        conduct: F,
    ) -> Self
    where
        F: Fn(XdrRequest, mpsc::Sender<Seen>) -> Serving + Send + Sync + 'static,
    {
        Self::build(&[], settings, limits, Box::new(conduct))
    }

    pub(crate) fn with_client_cas(others: &[&Identity]) -> Self {
        Self::build(others, |_| {}, |_| {}, Box::new(collect))
    }

    pub(crate) fn build(
        other_cas: &[&Identity],
        settings: impl FnOnce(&mut SoapServerConfig),
        limits: impl FnOnce(&mut Limits),
        conduct: Conduct,
    ) -> Self {
        let folder = TestFolder::new();
        let ca = Identity::ca("Test CA");
        let partner = ca.issue("gateway.elm.example");
        let mut config = written_by(&ca, folder.path());
        for (number, other) in other_cas.iter().enumerate() {
            let (certificate, _) = other.write(folder.path(), &format!("other-{number}"));
            config.client_cas.push(certificate);
        }
        settings(&mut config);
        let mut bounds = Limits::default();
        limits(&mut bounds);

        let runtime = Runtime::new().unwrap();
        let (tell, seen) = mpsc::channel();
        let audit = Arc::new(Notebook::default());
        let budget = ByteBudget::new(BUDGET_BYTES);
        let room = TestRoom::new();
        let partners = Partners::read(&[
            known_as(
                "elm",
                ClientCertificateConfig {
                    sha256: Some(fingerprint(&partner).to_string()),
                    ..ClientCertificateConfig::default()
                },
            ),
            known_as(
                "ash",
                ClientCertificateConfig {
                    issuer_sha256: Some(fingerprint(&ca).to_string()),
                    san: Some("ehr.ash.example".to_owned()),
                    ..ClientCertificateConfig::default()
                },
            ),
        ]);
        let parts = Parts {
            xdr: Arc::new(Flow {
                conduct,
                seen: tell,
            }),
            flows: runtime.handle().clone(),
            identify: by_certificate(Arc::new(partners.unwrap())),
            audit: audit.clone(),
            budget: budget.clone(),
            room: room.room(),
            clock: Arc::new(SystemClock),
        };
        let listener = SoapListener::bind(&config, &bounds, parts).unwrap();
        let address = listener.address();
        let server = HttpThread::start("soap-http", move || listener.into_server()).unwrap();
        Self {
            ca,
            partner,
            address,
            server: Some(server),
            budget,
            room,
            audit,
            seen,
            runtime,
            _folder: folder,
        }
    }

    pub(crate) fn client<'a>(&'a self, identity: Option<&'a Identity>) -> Client<'a> {
        Client {
            ca: &self.ca,
            identity,
            newest: None,
        }
    }

    /// The partner's connection.
    pub(crate) fn connect(&self) -> Connection {
        self.client(Some(&self.partner))
            .connect(self.address)
            .unwrap()
    }

    pub(crate) fn partner_speaking(&self, newest: SslVersion) -> Connection {
        let client = Client {
            newest: Some(newest),
            ..self.client(Some(&self.partner))
        };
        client.connect(self.address).unwrap()
    }

    /// One well-behaved request.
    pub(crate) fn post(&self, body: &[u8]) -> HttpAnswer {
        let mut connection = self.connect();
        connection.send(post_head(body.len())).unwrap();
        connection.send(body).unwrap();
        connection.answer().unwrap()
    }

    /// The next request that reached the flow.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn saw_nothing(&self) -> bool {
        self.seen.try_recv().is_err()
    }
}

pub(crate) fn known_as(name: &str, certificate: ClientCertificateConfig) -> PartnerConfig {
    PartnerConfig {
        name: name.to_owned(),
        certificates: vec![certificate],
        send_as: vec![format!("direct.{name}.example")],
        ..PartnerConfig::default()
    }
}

pub(crate) fn fingerprint(identity: &Identity) -> CertificateFingerprint {
    CertificateFingerprint::of_der(&identity.certificate.to_der().unwrap())
}

/// Settings with files that fit, all by one CA.
pub(crate) fn written_by(ca: &Identity, folder: &Path) -> SoapServerConfig {
    let (certificate, key) = ca.issue("localhost").write(folder, "server");
    let (clients, _) = ca.write(folder, "clients");
    SoapServerConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        certificate,
        key,
        client_cas: vec![clients],
        ..SoapServerConfig::default()
    }
}

pub(crate) fn bind_error(config: &SoapServerConfig) -> SoapServerError {
    let runtime = Runtime::new().unwrap();
    let (tell, _) = mpsc::channel();
    let parts = Parts {
        xdr: Arc::new(Flow {
            conduct: Box::new(collect),
            seen: tell,
        }),
        flows: runtime.handle().clone(),
        identify: Arc::new(|_| None),
        audit: Arc::new(Notebook::default()),
        budget: ByteBudget::new(BUDGET_BYTES),
        room: Room::default(),
        clock: Arc::new(SystemClock),
    };
    SoapListener::bind(config, &Limits::default(), parts)
        .err()
        .unwrap()
}

pub(crate) fn post_head(length: usize) -> String {
    format!(
        "POST /xdr HTTP/1.1\r\nHost: localhost\r\nContent-Type: Multipart/Related; boundary=\"b 1\"\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

pub(crate) fn chunked_head() -> String {
    "POST /xdr HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
}

pub(crate) fn as_chunk(octets: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", octets.len()).into_bytes();
    chunk.extend_from_slice(octets);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// `length` octets, all values among them, line ends and NUL too, with no short period.
pub(crate) fn every_octet(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}
