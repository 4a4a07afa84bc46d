//! TLS of the HTTP listeners, whose certificates change while they run: handshakes to come take the new ones, and no
//! connection is broken off.

use std::sync::{Arc, PoisonError, RwLock};

use openssl::{
    error::ErrorStack,
    ssl::{AlpnError, ClientHelloResponse, SslAcceptorBuilder, SslAlert, SslContext},
};
use tracing::error;

/// What handshakes to come are made with. Clones share it.
#[derive(Clone)]
pub struct CurrentTls(Arc<RwLock<SslContext>>);

/// What is to be current from now on.
pub struct NewTls(SslContext);

impl NewTls {
    /// From what has been read.
    pub fn of(mut acceptor: SslAcceptorBuilder) -> Self {
        // The HTTP server would set this on the acceptor that it is given; it is a setting of the current one.
        acceptor.set_alpn_select_callback(|_, offered| {
            const HTTP_1_1: &[u8] = b"http/1.1";
            const LISTED: &[u8] = b"\x08http/1.1";
            let is_offered = offered
                .windows(LISTED.len())
                .any(|protocol| protocol == LISTED);
            is_offered.then_some(HTTP_1_1).ok_or(AlpnError::NOACK)
        });
        Self(acceptor.build().into_context())
    }
}

impl CurrentTls {
    /// Handshakes are made with `new`.
    pub fn of(NewTls(new): NewTls) -> Self {
        Self(Arc::new(RwLock::new(new)))
    }

    /// Handshakes are made with `new` from now on.
    pub fn replace(&self, NewTls(new): NewTls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Makes `acceptor` take the current certificates for each handshake. What it has beside them, such as protocol
    /// versions, options and whether clients are asked for a certificate, stays its own, so it is built like the current
    /// one.
    pub fn lead(&self, acceptor: &mut SslAcceptorBuilder) {
        let current = self.clone();
        acceptor.set_client_hello_callback(move |ssl, alert| {
            let context = current
                .0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            ssl.set_ssl_context(&context)
                .inspect_err(|error: &ErrorStack| {
                    *alert = SslAlert::INTERNAL_ERROR;
                    error!(%error, "a handshake cannot be given its certificate: {error}");
                })?;
            Ok(ClientHelloResponse::SUCCESS)
        });
    }
}
