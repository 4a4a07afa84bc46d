//! The XDR listener: HTTP over mutual TLS, on threads of its own. It knows who asks, holds every limit of the
//! transport, and hands each `POST /xdr` to the port [`ServeXdr`]; what a message means is not its business.
//! Follows soap.md sections 2, 7 and 8, nhin.md section 6, threats.md LIM-1, LIM-8 and LIM-17.

mod answer;
mod body;
mod pace;
mod settings;
mod tls;
mod watch;
mod wsdl;

use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_tls::accept::openssl::TlsStream;
use actix_web::{
    App, HttpServer,
    dev::{Extensions, Server},
    rt::net::TcpStream,
    web::{self, Data},
};
use openssl::ssl::SslAcceptorBuilder;
use tokio::runtime::Handle;
use tracing::warn;

use self::watch::Watch;

pub use self::{settings::SoapServerConfig, tls::TlsError};
use crate::{
    adapters::http_tls::{CurrentTls, NewTls},
    bridge::partner::{Partner, Partners},
    flows::{
        budget::ByteBudget,
        ports::{Audit, Clock, ServeXdr, TlsPeer},
        room::Room,
    },
    formats::limits::Limits,
};

/// Tells which partner a TLS peer is. Asked for every request, not once for each connection.
pub type Identify = Arc<dyn Fn(&TlsPeer) -> Option<Arc<Partner>> + Send + Sync>;

/// Knows each peer by its certificate and the chain that the handshake verified above it.
pub fn by_certificate(partners: Arc<Partners>) -> Identify {
    Arc::new(move |peer| {
        let certificate = peer.certificate_der.as_deref()?;
        partners.identify(certificate, &peer.issuers_der)
    })
}

/// What the listener works with.
pub struct Parts {
    /// Serves each `POST /xdr`.
    pub xdr: Arc<dyn ServeXdr>,
    /// Where `xdr` and `audit` run.
    pub flows: Handle,
    /// Which partner a peer is.
    pub identify: Identify,
    /// Records peers that are no partner's.
    pub audit: Arc<dyn Audit>,
    /// Pays for bodies.
    pub budget: ByteBudget,
    /// Whether anything may be accepted at all.
    pub room: Room,
    /// The time of audit records.
    pub clock: Arc<dyn Clock>,
}

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SoapServerError {
    /// The address is taken, or not ours.
    #[error("soap.server.bind: cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A listener that is bound and not yet served: connections wait in the system's queue.
pub struct SoapListener {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: SslAcceptorBuilder,
    certificates: SoapCertificates,
    config: SoapServerConfig,
    shared: Data<Shared>,
}

/// What a running listener shows, and whom it lets in.
#[derive(Clone)]
pub struct SoapCertificates {
    current: CurrentTls,
    config: SoapServerConfig,
}

impl SoapCertificates {
    /// Reads the certificate, its key and the clients' CAs anew. That changes nothing yet.
    pub fn read(&self) -> Result<NewTls, TlsError> {
        tls::acceptor(&self.config).map(NewTls::of)
    }

    /// Takes these for the handshakes to come.
    pub fn replace(&self, new: NewTls) {
        self.current.replace(new);
    }
}

/// What every worker needs.
struct Shared {
    config: SoapServerConfig,
    max_message_bytes: u64,
    max_http_head_bytes: usize,
    parts: Parts,
}

impl SoapListener {
    /// Reads the certificates and binds the address.
    pub fn bind(
        config: &SoapServerConfig,
        limits: &Limits,
        parts: Parts,
    ) -> Result<Self, SoapServerError> {
        let current = CurrentTls::of(NewTls::of(tls::acceptor(config)?));
        let mut acceptor = tls::acceptor(config)?;
        current.lead(&mut acceptor);
        let bind_error = |source| SoapServerError::Bind {
            address: config.bind,
            source,
        };
        let listener = TcpListener::bind(config.bind).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Self {
            listener,
            address,
            acceptor,
            certificates: SoapCertificates {
                current,
                config: config.clone(),
            },
            config: config.clone(),
            shared: Data::new(Shared {
                config: config.clone(),
                max_message_bytes: limits.max_message_bytes,
                max_http_head_bytes: limits.max_http_head_bytes,
                parts,
            }),
        })
    }

    /// The address that it is bound to, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificates, to be read anew while it is served.
    pub fn certificates(&self) -> SoapCertificates {
        self.certificates.clone()
    }

    /// The server, to be awaited in an actix system. It ends when its handle is stopped; a graceful stop finishes
    /// the requests that are running and closes idle connections at once.
    pub fn into_server(self) -> io::Result<Server> {
        let Self {
            listener,
            acceptor,
            config,
            shared,
            ..
        } = self;
        let workers = config.workers.max(1);
        let connections = config.max_connections.div_ceil(workers).max(1);
        let longest_pause = config.keep_alive.saturating_add(config.head_timeout);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .default_service(web::to(answer::answer))
        })
        .workers(workers)
        .max_connections(connections)
        // By default 256 half-made handshakes would keep out everybody else.
        .max_connection_rate(connections)
        .tls_handshake_timeout(config.handshake_timeout)
        .client_request_timeout(config.head_timeout)
        .client_disconnect_timeout(config.close_timeout)
        .keep_alive(config.keep_alive)
        .shutdown_timeout(config.drain_timeout.as_secs())
        .tcp_nodelay(true)
        .disable_signals()
        .on_connect(move |connection, extensions| {
            greet(connection, extensions, longest_pause);
        })
        .listen_openssl(listener, acceptor)?
        .run();
        Ok(server)
    }
}

/// Puts what is known of a new connection where the handler finds it, and watches it.
fn greet(connection: &dyn Any, extensions: &mut Extensions, longest_pause: Duration) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else {
        return;
    };
    let address = stream.get_ref().peer_addr();
    let address = address.map_or_else(|_| String::new(), |address| address.to_string());
    extensions.insert(tls::peer_of(stream.ssl(), address));
    match Watch::start(stream.get_ref(), longest_pause) {
        Ok(watch) => {
            extensions.insert(watch);
        }
        // Out of file descriptors, most likely: served all the same, under the timeouts of actix alone.
        Err(error) => warn!(%error, "a connection cannot be watched: {error}"),
    }
}
