//! The settings of the XDR listener.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::formats::units::duration_text;

/// The XDR listener: `[soap.server]`. It always speaks TLS 1.2 or later and always asks for a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoapServerConfig {
    /// Address and port to listen on. Default `"0.0.0.0:8443"`.
    pub bind: SocketAddr,
    /// PEM file with the server's certificate, followed by its intermediates. Default `"tls/server.pem"`.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key, readable by its owner alone. Default `"tls/server.key"`.
    pub key: PathBuf,
    /// PEM files of the certificates that a client's chain may end in: a CA, or a partner's self-signed
    /// certificate. Whom a chain belongs to is said by the partners. Default `["tls/clients.pem"]`.
    pub client_cas: Vec<PathBuf>,
    /// Threads for TLS and HTTP. Messages are worked on elsewhere. Default 2.
    pub workers: usize,
    /// Connections at one time, over all workers; further ones wait in the system's queue. Each may buffer up to
    /// 256 KiB beside its share of the byte budget. Default 512.
    pub max_connections: usize,
    /// Longest TLS handshake. Default `"5s"`.
    #[serde(with = "duration_text")]
    pub handshake_timeout: Duration,
    /// Longest wait for the head of a connection's first request, such as `"10s"`; then 408. Default `"10s"`.
    #[serde(with = "duration_text")]
    pub head_timeout: Duration,
    /// Longest wait for the next octets of a body; then 408 and the connection is closed. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub chunk_timeout: Duration,
    /// What a sender may wait over a whole body beyond `min_bytes_per_second`. Default `"20s"`.
    #[serde(with = "duration_text")]
    pub body_grace: Duration,
    /// Slowest body, in octets per second; 0 for no such limit. Time in which we do not read does not count.
    /// Default 1024.
    pub min_bytes_per_second: u64,
    /// How long a connection without a request stays open. A next request's head must be complete, and an answer be
    /// taken, within this and `head_timeout` together. Default `"60s"`.
    #[serde(with = "duration_text")]
    pub keep_alive: Duration,
    /// How long a connection that we close is still read from, so that the peer can take our answer. Default
    /// `"2s"`.
    #[serde(with = "duration_text")]
    pub close_timeout: Duration,
    /// How long a stop waits for running requests, in whole seconds. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    /// What a sender is asked to wait when the byte budget is used up (Retry-After). Default `"10s"`.
    #[serde(with = "duration_text")]
    pub retry_after: Duration,
}

impl Default for SoapServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            certificate: PathBuf::from("tls/server.pem"),
            key: PathBuf::from("tls/server.key"),
            client_cas: vec![PathBuf::from("tls/clients.pem")],
            workers: 2,
            max_connections: 512,
            handshake_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            chunk_timeout: Duration::from_secs(30),
            body_grace: Duration::from_secs(20),
            min_bytes_per_second: 1024,
            keep_alive: Duration::from_secs(60),
            close_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(30),
            retry_after: Duration::from_secs(10),
        }
    }
}
