//! The stream below lettre's connection.
//!
//! lettre writes commands and parses replies. What it lacks lies here: it has no way to send a message in chunks and
//! then *not* end it, so the session holds a second handle on the stream, writes the message itself, and cuts the
//! stream when a message must not end. lettre also keeps what it read before a TLS handshake and takes it for replies
//! made under TLS, has no bound on a line without an end, and fails on a reply that is not UTF-8; this stream hands
//! out one line at a time, counts, and replaces octets outside US-ASCII.

use std::{
    fmt, io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use openssl::{ssl::Ssl, x509::X509VerifyResult};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_openssl::SslStream;

/// Octets of replies that are read between two writes; longer ones end the connection.
const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Octets read from the socket at once. Replies are short.
const READ_BYTES: usize = 4096;

/// A greeting and an answer to EHLO for lettre, whose only constructor wants to read both by itself. The real ones are
/// then read by the session, each under its own timeout and with the peer's extensions in sight.
const PRIMER: &[u8] = b"220 primer\r\n250 primer\r\n";

/// A handle on the stream; all clones share it.
#[derive(Clone)]
pub(super) struct Wire {
    peer: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    stream: Stream,
    /// Read from the socket and not yet handed out.
    held: Vec<u8>,
    is_priming: bool,
    reply_bytes: usize,
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    Cut,
}

/// What a handshake brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub(super) version: String,
    /// Its OpenSSL name.
    pub(super) cipher: String,
    /// Whether the certificate leads to a known CA and names the host.
    pub(super) is_verified: bool,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartTlsError {
    /// The peer, or somebody between, sent octets in clear after the reply to STARTTLS (RFC 3207 §4.2; CVE-2011-0411
    /// the other way round).
    #[error("octets in clear after the reply to STARTTLS")]
    Injected,
    /// The certificate was refused.
    #[error("the certificate is not acceptable: {0}")]
    Certificate(&'static str),
    /// Anything else in the handshake.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
}

impl Wire {
    /// A stream that serves the primer until [`Self::begin`].
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        let shared = Shared {
            stream: Stream::Clear(stream),
            held: PRIMER.to_vec(),
            is_priming: true,
            reply_bytes: 0,
        };
        Self {
            peer,
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// From now on reads and writes reach the peer.
    pub(super) fn begin(&self) {
        let mut shared = self.lock();
        shared.is_priming = false;
        shared.held.clear();
    }

    /// Ends the connection at once: nothing more is written, no final dot, no QUIT.
    pub(super) fn cut(&self) {
        self.lock().stream = Stream::Cut;
    }

    /// Makes the TLS handshake.
    pub(super) async fn start_tls(&self, ssl: Ssl) -> Result<TlsFacts, StartTlsError> {
        let clear = {
            let mut shared = self.lock();
            if !shared.held.is_empty() {
                shared.stream = Stream::Cut;
                return Err(StartTlsError::Injected);
            }
            match mem::replace(&mut shared.stream, Stream::Cut) {
                Stream::Clear(clear) => clear,
                Stream::Tls(_) | Stream::Cut => {
                    return Err(StartTlsError::Handshake("no stream in clear".to_owned()));
                }
            }
        };
        let handshake = |error: &dyn fmt::Display| StartTlsError::Handshake(error.to_string());
        let mut tls = SslStream::new(ssl, clear).map_err(|error| handshake(&error))?;
        if let Err(error) = Pin::new(&mut tls).connect().await {
            let verdict = tls.ssl().verify_result();
            return Err(if verdict == X509VerifyResult::OK {
                handshake(&error)
            } else {
                StartTlsError::Certificate(verdict.error_string())
            });
        }
        let ssl = tls.ssl();
        let facts = TlsFacts {
            version: ssl.version_str().to_owned(),
            cipher: ssl
                .current_cipher()
                .map_or("?", |cipher| cipher.name())
                .to_owned(),
            is_verified: ssl.verify_result() == X509VerifyResult::OK,
        };
        self.lock().stream = Stream::Tls(Box::new(tls));
        Ok(facts)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing in here panics half-way through a change.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Fills `held` from the socket. At the end of the stream it stays empty.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut octets = [0; READ_BYTES];
        let mut chunk = ReadBuf::new(&mut octets);
        ready!(match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_read(context, &mut chunk),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, &mut chunk),
            Stream::Cut => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        })?;
        let as_ascii = |octet: &u8| if octet.is_ascii() { *octet } else { b'?' };
        self.held.extend(chunk.filled().iter().map(as_ascii));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        if shared.held.is_empty() {
            ready!(shared.poll_fill(context))?;
        }
        // One line at the most: what follows stays here, where `start_tls` sees it.
        let line = shared.held.iter().position(|octet| *octet == b'\n');
        let length = line
            .map_or(shared.held.len(), |end| end + 1)
            .min(buffer.remaining());
        shared.reply_bytes += length;
        if shared.reply_bytes > MAX_REPLY_BYTES {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the reply is too long");
            return Poll::Ready(Err(error));
        }
        for octet in shared.held.drain(..length) {
            buffer.put_slice(&[octet]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.lock();
        if shared.is_priming {
            return Poll::Ready(Ok(octets.len()));
        }
        shared.reply_bytes = 0;
        match &mut shared.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_write(context, octets),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, octets),
            Stream::Cut => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().stream {
            Stream::Clear(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Stream::Cut => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().stream {
            Stream::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Stream::Cut => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.peer)
    }
}
