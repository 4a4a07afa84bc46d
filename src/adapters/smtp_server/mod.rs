//! The SMTP listener: mail from anybody on the Internet, over STARTTLS. It holds every limit of the transport and
//! hands each mail to the port [`ServeMail`]; what a mail means is not its business. Follows smtp.md sections 1 to 6,
//! threats.md LIM-1, LIM-9 and LIM-17; ADR 0001 says why it is our own.
//!
//! One task a session, one more a mail while the flow serves it. `session` decides what each command is answered
//! with and `data` where a mail ends, both without a socket; `connection` and `message` do the reading and
//! writing.

mod account;
mod command;
mod connection;
mod data;
mod doors;
mod feed;
mod line;
mod message;
mod pace;
mod reply;
mod session;
mod settings;
mod tls;
mod trace;
mod wire;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lettre::transport::smtp::extension::ClientId;
use openssl::ssl::SslAcceptor;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error, warn};

use self::{doors::Doors, reply::Reply, session::Rules};

pub use self::{
    settings::{SmtpServerConfig, TlsIn},
    tls::SmtpTlsError,
};
use crate::{
    flows::{
        budget::ByteBudget,
        measures,
        ports::{Audit, Clock, ServeMail},
        room::Room,
    },
    formats::limits::Limits,
};

/// How long nothing is accepted after the system refused a connection: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the listener works with.
pub struct SmtpParts {
    /// Serves each mail.
    pub mail: Arc<dyn ServeMail>,
    /// Records what is refused.
    pub audit: Arc<dyn Audit>,
    /// Pays for mails.
    pub budget: ByteBudget,
    /// Whether anything may be accepted at all.
    pub room: Room,
    /// The time of trace fields and audit records.
    pub clock: Arc<dyn Clock>,
}

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SmtpServerError {
    /// The address is taken, or not ours.
    #[error("smtp.server.bind: cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] SmtpTlsError),
}

/// A listener that is bound and not yet served: connections wait in the system's queue.
pub struct SmtpListener {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A listener at work. [`SmtpServer::stop`] drains it; dropped, it breaks every session off.
pub struct SmtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// A certificate that was read and can be used.
pub struct NewCertificate(SslAcceptor);

/// What every session needs.
struct Shared {
    config: SmtpServerConfig,
    rules: Arc<Rules>,
    parts: SmtpParts,
    doors: Arc<Doors>,
    acceptor: Mutex<SslAcceptor>,
}

impl Shared {
    fn acceptor(&self) -> SslAcceptor {
        // A clone is another handle on the same context.
        let acceptor = self.acceptor.lock();
        acceptor.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SmtpListener {
    /// Reads the certificate and binds the address.
    pub fn bind(
        config: &SmtpServerConfig,
        limits: &Limits,
        parts: SmtpParts,
    ) -> Result<Self, SmtpServerError> {
        let acceptor = tls::acceptor(config)?;
        let bind_error = |source| SmtpServerError::Bind {
            address: config.bind,
            source,
        };
        let listener = TcpListener::bind(config.bind).map_err(bind_error)?;
        listener.set_nonblocking(true).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let host = match &config.host_name {
            Some(name) => name.to_string(),
            None => ClientId::default().to_string(),
        };
        let rules = Rules {
            host,
            tls: config.tls,
            senders: config.senders.clone(),
            max_errors: config.max_errors,
            max_message_bytes: limits.max_message_bytes,
            max_recipients: limits.max_recipients,
        };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(Shared {
                config: config.clone(),
                rules: Arc::new(rules),
                parts,
                doors: Arc::new(Doors::new(config)),
                acceptor: Mutex::new(acceptor),
            }),
        })
    }

    /// The address that it is bound to, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to serve, on the tokio runtime that it is called in.
    pub fn serve(self) -> io::Result<SmtpServer> {
        let Self {
            listener,
            address,
            shared,
        } = self;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (stop, stopping) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), stopping));
        Ok(SmtpServer {
            address,
            shared,
            stop,
            accepting,
        })
    }
}

impl SmtpServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the certificate and its key anew. That changes nothing yet.
    pub fn read_certificate(&self) -> Result<NewCertificate, SmtpTlsError> {
        tls::acceptor(&self.shared.config).map(NewCertificate)
    }

    /// Shows this certificate in the handshakes to come.
    pub fn use_certificate(&self, NewCertificate(acceptor): NewCertificate) {
        let mut current = self
            .shared
            .acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = acceptor;
    }

    /// Takes no more connections, sends idle sessions away with 421, and lets mails under way end: no longer than
    /// `drain_timeout`.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if (&mut self.accepting).await.is_err() {
            error!(alarm = "panic", "the SMTP listener ended early");
        }
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    let stopping = stop.clone();
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            Some(ended) = sessions.join_next() => tell_panic(&ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => welcome(socket, peer, &shared, &stopping, &mut sessions),
                Err(error) => {
                    warn!(%error, "no SMTP connection can be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = timeout(shared.config.drain_timeout, async {
        while let Some(ended) = sessions.join_next().await {
            tell_panic(&ended);
        }
    });
    if drained.await.is_err() {
        warn!(
            sessions = sessions.len(),
            "SMTP sessions that are under way are broken off"
        );
    }
}

/// Returns once the listener stops, or is dropped.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|is_stopping| *is_stopping).await;
}

fn tell_panic(ended: &Result<(), tokio::task::JoinError>) {
    if ended.is_err() {
        error!(alarm = "panic", "an SMTP session panicked");
        measures::count_alarm("panic");
    }
}

fn welcome(
    socket: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<bool>,
    sessions: &mut JoinSet<()>,
) {
    // Only a matter of speed.
    let _ = socket.set_nodelay(true);
    match shared.doors.admit(peer.ip(), Instant::now()) {
        Ok(place) => {
            let session = connection::serve(socket, peer, place, Arc::clone(shared), stop.clone());
            sessions.spawn(session);
        }
        Err(full) => {
            let limit = full.word();
            metrics::counter!(measures::SMTP_CONNECTIONS_REFUSED, "limit" => limit).increment(1);
            debug!(peer.ip = %peer.ip(), limit, "an SMTP connection was sent away: {limit}");
            let mut words = Vec::new();
            Reply::new(421, "4.7.0", "too many connections, try again later").write(&mut words);
            // Whoever cannot even take one line at once goes without.
            let _ = socket.try_write(&words);
        }
    }
}
