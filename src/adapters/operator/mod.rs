//! The operators' listener: whether the process lives (`/healthz`), whether it can work (`/readyz`), what it measures
//! (`/metrics`), and how exchanges stand (`/api/v1/exchanges`), for those who have a token. On loopback it speaks plain HTTP
//! by default; on any other address only TLS, and only to those who know the token (T-35).

mod answer;
mod api;
mod measured;
mod settings;
mod tls;
mod tokens;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::Server,
    web::{self, Data},
};
use openssl::ssl::SslAcceptorBuilder;
use tokio::{runtime::Handle, task::AbortHandle, time};

use self::tokens::{CurrentTokens, Tokens};
pub use self::{
    measured::{Measured, MeasuredError},
    settings::{OperatorConfig, PartnerTokenConfig},
    tls::{OperatorFileError, strong_token},
};
use crate::{
    adapters::http_tls::{CurrentTls, NewTls},
    flows::{
        budget::ByteBudget,
        ports::{Readiness, ServeOperators},
    },
};

/// How often histograms are folded, so that they take no more room when nobody asks for them.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// Operators and their tools are few.
const MAX_CONNECTIONS: usize = 64;

/// How long a stop waits for an answer that is on its way.
const DRAIN_SECONDS: u64 = 2;

/// What the listener works with.
pub struct OperatorParts {
    /// What `/readyz` asks.
    pub readiness: Vec<Arc<dyn Readiness>>,
    /// What `/api/v1/exchanges` asks.
    pub operators: Arc<dyn ServeOperators>,
    /// What `/metrics` shows.
    pub measured: Measured,
    /// The byte budget, whose use is measured.
    pub budget: ByteBudget,
    /// Where the questions of `/readyz` and `/api/v1` run.
    pub flows: Handle,
}

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Others could reach it, and it would tell them everything.
    #[error(
        "operator.bind: {address} can be reached from outside; what would be accepted: a loopback address, or \
         operator.certificate, operator.key and operator.token_file beside it"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// One of the two files that belong together is missing.
    #[error("operator.certificate and operator.key belong together: set both or none")]
    HalfIdentity,
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] OperatorFileError),
    /// Two files hold the same token.
    #[error(
        "operator.partner_tokens: {} holds the token of another file too; what would be accepted: a token of its own \
         for each partner and for the operators",
        path.display()
    )]
    SharedToken {
        /// The file.
        path: PathBuf,
    },
    /// The address is taken, or not ours.
    #[error("operator.bind: cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A listener that is bound and not yet served.
pub struct OperatorListener {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<SslAcceptorBuilder>,
    files: OperatorFiles,
    shared: Data<Shared>,
}

/// What a running listener has from files: the certificate that it shows, and the tokens that it knows.
#[derive(Clone)]
pub struct OperatorFiles {
    config: OperatorConfig,
    /// None where it is plain HTTP.
    tls: Option<CurrentTls>,
    tokens: CurrentTokens,
}

/// The same, read anew.
pub struct NewOperatorFiles {
    tls: Option<NewTls>,
    tokens: Tokens,
}

impl OperatorFiles {
    fn of(config: &OperatorConfig) -> Result<Self, OperatorError> {
        let NewOperatorFiles { tls, tokens } = NewOperatorFiles::read(config)?;
        Ok(Self {
            config: config.clone(),
            tls: tls.map(CurrentTls::of),
            tokens: CurrentTokens::of(tokens),
        })
    }

    /// Reads them anew. That changes nothing yet.
    pub fn read(&self) -> Result<NewOperatorFiles, OperatorError> {
        NewOperatorFiles::read(&self.config)
    }

    /// Takes these for the connections and the requests to come.
    pub fn replace(&self, new: NewOperatorFiles) {
        self.tokens.replace(new.tokens);
        if let (Some(current), Some(new)) = (&self.tls, new.tls) {
            current.replace(new);
        }
    }
}

impl NewOperatorFiles {
    fn read(config: &OperatorConfig) -> Result<Self, OperatorError> {
        Ok(Self {
            tls: acceptor(config)?.map(NewTls::of),
            tokens: Tokens::read(config)?,
        })
    }
}

/// What handshakes are made with, if there are any.
fn acceptor(config: &OperatorConfig) -> Result<Option<SslAcceptorBuilder>, OperatorError> {
    match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => Ok(Some(tls::acceptor(certificate, key)?)),
        (None, None) => Ok(None),
        _ => Err(OperatorError::HalfIdentity),
    }
}

/// What the one worker needs.
struct Shared {
    tokens: CurrentTokens,
    readiness_timeout: Duration,
    parts: OperatorParts,
    upkeep: AbortHandle,
}

impl OperatorListener {
    /// Checks that the listener is protected as its address demands, reads its files and binds it.
    pub fn bind(config: &OperatorConfig, parts: OperatorParts) -> Result<Self, OperatorError> {
        if config.certificate.is_some() != config.key.is_some() {
            return Err(OperatorError::HalfIdentity);
        }
        let is_protected = config.certificate.is_some() && config.token_file.is_some();
        if !config.bind.ip().is_loopback() && !is_protected {
            return Err(OperatorError::Unprotected {
                address: config.bind,
            });
        }
        let files = OperatorFiles::of(config)?;
        let mut acceptor = acceptor(config)?;
        if let (Some(current), Some(acceptor)) = (&files.tls, &mut acceptor) {
            current.lead(acceptor);
        }
        let bind_error = |source| OperatorError::Bind {
            address: config.bind,
            source,
        };
        let listener = TcpListener::bind(config.bind).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let upkeep = keep_up(&parts);
        Ok(Self {
            listener,
            address,
            acceptor,
            shared: Data::new(Shared {
                tokens: files.tokens.clone(),
                readiness_timeout: config.readiness_timeout,
                parts,
                upkeep,
            }),
            files,
        })
    }

    /// The address that it is bound to, with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has from files, to be read anew while it is served.
    pub fn files(&self) -> OperatorFiles {
        self.files.clone()
    }

    /// The server, to be awaited in an actix system. It ends when its handle is stopped.
    pub fn into_server(self) -> io::Result<Server> {
        let Self {
            listener,
            acceptor,
            shared,
            ..
        } = self;
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .default_service(web::to(answer::answer))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .shutdown_timeout(DRAIN_SECONDS)
        .disable_signals();
        let server = match acceptor {
            Some(acceptor) => server.listen_openssl(listener, acceptor)?,
            None => server.listen(listener)?,
        };
        Ok(server.run())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn keep_up(parts: &OperatorParts) -> AbortHandle {
    let measured = parts.measured.clone();
    let upkeep = async move {
        let mut period = time::interval(UPKEEP_PERIOD);
        loop {
            period.tick().await;
            measured.keep_up();
        }
    };
    parts.flows.spawn(upkeep).abort_handle()
}
