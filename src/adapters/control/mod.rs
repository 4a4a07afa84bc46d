//! The control socket: HTTP over a Unix socket, on which operators of this host ask the running bridge for exchanges and
//! do something to them (`xdbridge exchange`). Who asks is told by the kernel (SO_PEERCRED); only the bridge's own user
//! and root are served (T-35).

mod client;
mod settings;

use std::{
    any::Any,
    fs, io,
    os::{
        linux::fs::MetadataExt,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::{Extensions, Server},
    http::{KeepAlive, Method, StatusCode, header},
    rt::net::UnixStream as Connection,
    web::{self, Data},
};
use futures_util::StreamExt;
use tokio::{runtime::Handle, time::timeout};
use tracing::warn;

pub use self::{
    client::{Asked, ask},
    settings::ControlConfig,
};
use crate::flows::ports::{Asker, NotDone, Operator, Order, ServeOperators};

/// The one thing that can be asked for, by POST with an [`Order`] in JSON.
const PATH: &str = "/v1/exchange";
/// Mode of the socket: its owner may connect.
const SOCKET_MODE: u32 = 0o600;
/// Bits of a directory's mode by which others could put a socket of their own in place of ours.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const ROOT: u32 = 0;

/// Largest order, in octets. The longest that makes sense has an id, a reason and some hundred addresses.
const MAX_ORDER_BYTES: usize = 64 * 1024;
/// Longest wait for the head of a request, and for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for what is done.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Operators are few.
const MAX_CONNECTIONS: usize = 16;
/// How long a stop waits for an answer that is on its way.
const DRAIN_SECONDS: u64 = 2;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Others could put their socket in place of ours.
    #[error(
        "control.socket: {} may be written by others (mode {mode:03o}, owner {owner}); what would be accepted: a \
         directory of the bridge's user or of root, to which nobody else may write",
        path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whose it is.
        owner: u32,
    },
    /// Somebody answers there.
    #[error("control.socket: another process listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("control.socket: {} is there and no socket; it is left as it is", path.display())]
    NoSocket {
        /// What.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("control.socket: cannot listen on {}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that is bound and not yet served.
pub struct ControlListener {
    listener: UnixListener,
    shared: Data<Shared>,
}

/// The socket's place in the file system: given back when it is dropped.
pub struct ControlPath(PathBuf);

impl Drop for ControlPath {
    fn drop(&mut self) {
        // What is left is replaced at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

struct Shared {
    operators: Arc<dyn ServeOperators>,
    flows: Handle,
    /// The bridge's user.
    user: u32,
}

impl ControlListener {
    /// Binds the socket at `path`. One that a bridge left behind which is no more is replaced.
    pub fn bind(
        path: &Path,
        operators: Arc<dyn ServeOperators>,
        flows: Handle,
    ) -> Result<(Self, ControlPath), ControlError> {
        let failed = |source| ControlError::Bind {
            path: path.to_owned(),
            source,
        };
        let user = rustix::process::geteuid().as_raw();
        check_directory(path, user)?;
        clear_the_way(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let place = ControlPath(path.to_owned());
        // Until here the umask decides who may connect; whoever did is asked who they are all the same.
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        let shared = Data::new(Shared {
            operators,
            flows,
            user,
        });
        Ok((Self { listener, shared }, place))
    }

    /// The server, to be awaited in an actix system. It ends when its handle is stopped.
    pub fn into_server(self) -> io::Result<Server> {
        let Self { listener, shared } = self;
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .default_service(web::to(answer))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        // One order for each connection: nobody holds a place between two.
        .keep_alive(KeepAlive::Disabled)
        .client_request_timeout(REQUEST_TIMEOUT)
        .client_disconnect_timeout(REQUEST_TIMEOUT)
        .shutdown_timeout(DRAIN_SECONDS)
        .on_connect(remember_who)
        .disable_signals();
        Ok(server.listen_uds(listener)?.run())
    }
}

fn check_directory(path: &Path, user: u32) -> Result<(), ControlError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let metadata = fs::metadata(directory).map_err(|source| ControlError::Bind {
        path: path.to_owned(),
        source,
    })?;
    let (mode, owner) = (metadata.permissions().mode() & 0o777, metadata.st_uid());
    if mode & WRITABLE_BY_OTHERS != 0 || ![user, ROOT].contains(&owner) {
        return Err(ControlError::Exposed {
            path: directory.to_owned(),
            mode,
            owner,
        });
    }
    Ok(())
}

fn clear_the_way(path: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Bind {
        path: path.to_owned(),
        source,
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let path = path.to_owned();
    if !found.file_type().is_socket() {
        return Err(ControlError::NoSocket { path });
    }
    match UnixStream::connect(&path) {
        Ok(_) => Err(ControlError::InUse { path }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Keeps with the connection whom the kernel says it is from.
fn remember_who(connection: &dyn Any, data: &mut Extensions) {
    let credentials = connection
        .downcast_ref::<Connection>()
        .and_then(|connection| connection.peer_cred().ok());
    if let Some(credentials) = credentials {
        data.insert(Operator {
            uid: credentials.uid(),
            pid: credentials.pid(),
        });
    }
}

/// Answers every request of the socket.
async fn answer(request: HttpRequest, body: web::Payload, shared: Data<Shared>) -> HttpResponse {
    let operator = request.conn_data::<Operator>().copied();
    let Some(operator) = operator.filter(|one| [shared.user, ROOT].contains(&one.uid)) else {
        let uid = operator.map(|one| one.uid);
        warn!(operator.uid = uid, "somebody else tried the control socket");
        return text(
            StatusCode::FORBIDDEN,
            "only the bridge's user and root are served",
        );
    };
    if request.path() != PATH {
        return HttpResponse::NotFound().finish();
    }
    if *request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed()
            .insert_header((header::ALLOW, "POST"))
            .finish();
    }
    let octets = match timeout(REQUEST_TIMEOUT, whole(body)).await {
        Ok(Ok(octets)) => octets,
        Ok(Err(refused)) => return refused,
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the order came too slowly"),
    };
    let order = match serde_json::from_slice::<Order>(&octets) {
        Ok(order) => order,
        Err(error) => {
            let text = error.to_string();
            return refusal(&NotDone::BadOrder { text });
        }
    };
    let operators = Arc::clone(&shared.operators);
    // A task of its own: what is begun is not broken off when the operator hangs up.
    let doing = shared
        .flows
        .spawn(async move { operators.serve(&Asker::Local(operator), order).await });
    match timeout(ANSWER_TIMEOUT, doing).await {
        Ok(Ok(Ok(told))) => HttpResponse::Ok().json(told),
        Ok(Ok(Err(refused))) => refusal(&refused),
        Ok(Err(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, "the order panicked"),
        Err(_) => text(
            StatusCode::GATEWAY_TIMEOUT,
            "it takes longer than a minute; whether it was done `exchange show` tells",
        ),
    }
}

/// The whole body, if it is not too large.
async fn whole(mut body: web::Payload) -> Result<Vec<u8>, HttpResponse> {
    let mut octets = Vec::new();
    while let Some(chunk) = body.next().await {
        let Ok(chunk) = chunk else {
            return Err(text(StatusCode::BAD_REQUEST, "the order broke off"));
        };
        if octets.len() + chunk.len() > MAX_ORDER_BYTES {
            let answer = text(StatusCode::PAYLOAD_TOO_LARGE, "an order has at most 64 KiB");
            return Err(answer);
        }
        octets.extend_from_slice(&chunk);
    }
    Ok(octets)
}

fn refusal(refused: &NotDone) -> HttpResponse {
    let status = match refused {
        NotDone::BadOrder { .. } => StatusCode::BAD_REQUEST,
        NotDone::Unknown => StatusCode::NOT_FOUND,
        NotDone::Several { .. } | NotDone::NotNow { .. } => StatusCode::CONFLICT,
        NotDone::Store => StatusCode::SERVICE_UNAVAILABLE,
    };
    HttpResponse::build(status).json(refused)
}

fn text(status: StatusCode, text: &'static str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(text)
}
