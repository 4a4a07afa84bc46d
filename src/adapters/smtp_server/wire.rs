//! The connection below a session: octets in, replies out, in clear or under TLS. Both buffers are bounded: what is
//! read by [`READ_BYTES`], what is written because replies leave before more is read.

use std::{io, mem, pin::Pin, time::Duration};

use openssl::ssl::{Ssl, SslRef};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_openssl::SslStream;

use super::reply::Reply;

/// Octets read at once.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// Octets that are read and dropped while a connection closes, so that our last reply is not lost with them.
const MAX_LINGER_BYTES: usize = 256 * 1024;

/// One connection.
pub(super) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    replies: Vec<u8>,
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    /// The handshake failed.
    Gone,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Clear(stream),
            buffer: vec![0; READ_BYTES],
            from: 0,
            to: 0,
            replies: Vec::new(),
        }
    }

    /// What was read and not yet used.
    pub(super) fn held(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }

    /// Takes octets off the front of [`Self::held`].
    pub(super) fn used(&mut self, octets: usize) {
        self.from = self.from.saturating_add(octets).min(self.to);
    }

    /// Reads more, once all that was held is used. At the end of the stream it fails.
    pub(super) async fn fill(&mut self) -> io::Result<()> {
        let read = match &mut self.stream {
            Stream::Clear(stream) => stream.read(&mut self.buffer).await?,
            Stream::Tls(stream) => stream.read(&mut self.buffer).await?,
            Stream::Gone => 0,
        };
        self.from = 0;
        self.to = read;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Puts a reply behind those that wait.
    pub(super) fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.replies);
    }

    /// Sends the replies that wait.
    pub(super) async fn flush(&mut self, patience: Duration) -> io::Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let replies = mem::take(&mut self.replies);
        let send = async {
            match &mut self.stream {
                Stream::Clear(stream) => {
                    stream.write_all(&replies).await?;
                    stream.flush().await
                }
                Stream::Tls(stream) => {
                    stream.write_all(&replies).await?;
                    stream.flush().await
                }
                Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        timeout(patience, send)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Makes the handshake. Whatever was held is gone: nothing in clear reaches the session under TLS (RX-10).
    pub(super) async fn start_tls(&mut self, ssl: Ssl, deadline: Instant) -> io::Result<&SslRef> {
        self.from = 0;
        self.to = 0;
        let Stream::Clear(clear) = mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut tls = SslStream::new(ssl, clear).map_err(io::Error::other)?;
        timeout_at(deadline, Pin::new(&mut tls).accept())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?;
        self.stream = Stream::Tls(Box::new(tls));
        match &self.stream {
            Stream::Tls(tls) => Ok(tls.ssl()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends what waits and says that nothing follows; reads for `linger` what the peer still sends, or a reset would
    /// take our last reply from it.
    pub(super) async fn close(mut self, patience: Duration, linger: Duration) {
        if self.flush(patience).await.is_err() {
            return;
        }
        let farewell = async {
            match &mut self.stream {
                Stream::Clear(stream) => stream.shutdown().await,
                Stream::Tls(stream) => stream.shutdown().await,
                Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
            }?;
            let mut dropped = 0;
            while dropped < MAX_LINGER_BYTES {
                self.fill().await?;
                dropped += self.held().len();
            }
            io::Result::Ok(())
        };
        // However it ends, the connection is over.
        let _ = timeout(linger, farewell).await;
    }
}
