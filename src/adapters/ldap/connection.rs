//! One session with one server, within bounds whatever it sends (LDAP-10).

use std::{io, net::SocketAddr, time::Duration};

use futures_util::future::select_ok;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::formats::ldap::{
    self, Entry, FrameError, MAX_HEAD_BYTES, Malformed, Message, Response, ResultCode, Search,
};

/// Most entries of one search.
pub(super) const MAX_ENTRIES: usize = 50;
/// Most octets that are read of one server.
const MAX_BYTES: usize = 1024 * 1024;
/// Most references of one search that are passed over.
const MAX_REFERENCES: usize = 50;

/// An open session.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    /// The id of the request that was made last.
    id: u32,
    bytes_left: usize,
    timeout: Duration,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// References to other servers, which are not followed.
    pub(super) references: usize,
    /// Whether the server has more than it may send.
    pub(super) is_cut_short: bool,
}

/// Why a server is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerFault {
    #[error("cannot be connected to ({})", .0.kind())]
    Connect(#[source] io::Error),
    #[error("has not taken the connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("has not answered within {0:?}")]
    Timeout(Duration),
    #[error("closed the connection")]
    Closed,
    #[error("the connection broke off ({})", .0.kind())]
    Io(#[source] io::Error),
    #[error("sent {0}")]
    Malformed(#[from] Malformed),
    #[error("sent more than {MAX_BYTES} octets (LDAP-10)")]
    TooLong,
    #[error("sent more than the {MAX_ENTRIES} entries that it was asked for (LDAP-10)")]
    TooManyEntries,
    #[error("sent more than {MAX_REFERENCES} references (LDAP-10)")]
    TooManyReferences,
    #[error("sent something that is no answer to the question")]
    OtherAnswer,
    #[error("refused the anonymous bind: {0}")]
    Bind(ResultCode),
    #[error("refused the search: {0}")]
    Search(ResultCode),
    #[error("names another server, which is not followed (LDAP-10)")]
    Referral,
}

impl From<FrameError> for ServerFault {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Malformed(malformed) => Self::Malformed(malformed),
            FrameError::TooLong { .. } => Self::TooLong,
        }
    }
}

impl Connection {
    /// Connects to the first of `addresses` that takes the connection, and binds anonymously (LDAP-4). Each answer is
    /// waited for no longer than `timeout`, all its messages together.
    pub(super) async fn open(
        addresses: &[SocketAddr],
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self, ServerFault> {
        let connects = addresses
            .iter()
            .map(|address| Box::pin(TcpStream::connect(*address)));
        let connecting = tokio::time::timeout(connect_timeout, select_ok(connects)).await;
        let (stream, _) = connecting
            .map_err(|_| ServerFault::ConnectTimeout(connect_timeout))?
            .map_err(ServerFault::Connect)?;
        let mut connection = Self {
            stream: BufReader::new(stream),
            id: 0,
            bytes_left: MAX_BYTES,
            timeout,
        };
        connection.within(Self::bind).await?;
        Ok(connection)
    }

    /// Searches.
    pub(super) async fn search(&mut self, search: &Search<'_>) -> Result<Found, ServerFault> {
        self.within(async |connection| connection.ask(search).await)
            .await
    }

    /// Says good-bye, without waiting for anything.
    pub(super) async fn close(mut self) {
        let id = self.id + 1;
        let _ = self
            .within(async |connection| connection.send(&ldap::unbind(id)).await)
            .await;
    }

    async fn within<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut Self) -> Result<T, ServerFault>,
    ) -> Result<T, ServerFault> {
        let limit = self.timeout;
        match tokio::time::timeout(limit, ask(self)).await {
            Ok(answer) => answer,
            Err(_) => Err(ServerFault::Timeout(limit)),
        }
    }

    async fn bind(&mut self) -> Result<(), ServerFault> {
        self.id += 1;
        self.send(&ldap::bind(self.id)).await?;
        match self.next().await? {
            Response::Bound(ResultCode::SUCCESS) => Ok(()),
            Response::Bound(ResultCode::REFERRAL) => Err(ServerFault::Referral),
            Response::Bound(code) => Err(ServerFault::Bind(code)),
            _ => Err(ServerFault::OtherAnswer),
        }
    }

    async fn ask(&mut self, search: &Search<'_>) -> Result<Found, ServerFault> {
        self.id += 1;
        self.send(&ldap::search(self.id, search)).await?;
        let mut found = Found::default();
        loop {
            match self.next().await? {
                Response::Entry(_) if found.entries.len() == MAX_ENTRIES => {
                    return Err(ServerFault::TooManyEntries);
                }
                Response::Entry(entry) => found.entries.push(entry),
                Response::Reference if found.references == MAX_REFERENCES => {
                    return Err(ServerFault::TooManyReferences);
                }
                Response::Reference => found.references += 1,
                Response::Done(ResultCode::SUCCESS | ResultCode::NO_SUCH_OBJECT) => {
                    return Ok(found);
                }
                Response::Done(ResultCode::SIZE_LIMIT_EXCEEDED) if !found.entries.is_empty() => {
                    found.is_cut_short = true;
                    return Ok(found);
                }
                Response::Done(ResultCode::REFERRAL) => return Err(ServerFault::Referral),
                Response::Done(code) => return Err(ServerFault::Search(code)),
                Response::Bound(_) | Response::Other => return Err(ServerFault::OtherAnswer),
            }
        }
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), ServerFault> {
        let written = self.stream.write_all(message).await;
        written.map_err(ServerFault::Io)
    }

    /// The next message, which must answer the request that was made last.
    async fn next(&mut self) -> Result<Response, ServerFault> {
        let mut octets = Vec::with_capacity(MAX_HEAD_BYTES);
        let length = loop {
            if let Some(length) = ldap::frame_bytes(&octets, self.bytes_left)? {
                break length;
            }
            octets.push(self.stream.read_u8().await.map_err(lost)?);
        };
        let head = octets.len();
        octets.resize(length, 0);
        let rest = octets.get_mut(head..).unwrap_or_default();
        self.stream.read_exact(rest).await.map_err(lost)?;
        self.bytes_left -= length;
        let Message { id, response } = ldap::read(&octets)?;
        if id != self.id {
            return Err(match response {
                // A notice that the session ends (RFC 4511 §4.4.1).
                Response::Other if id == 0 => ServerFault::Closed,
                _ => ServerFault::OtherAnswer,
            });
        }
        Ok(response)
    }
}

fn lost(error: io::Error) -> ServerFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => ServerFault::Closed,
        _ => ServerFault::Io(error),
    }
}
