//! The settings of the SOAP client.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::formats::units::duration_text;

/// Posts to XDR endpoints and to where partners take outcomes: `[soap.client]`. It always speaks TLS 1.2 or later, checks the server's name, and shows a
/// certificate of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoapClientConfig {
    /// PEM file with the certificate that endpoints are shown, followed by its intermediates. Default
    /// `"tls/client.pem"`.
    pub certificate: PathBuf,
    /// PEM file with its private key in PKCS #8, readable by its owner alone. Default `"tls/client.key"`.
    pub key: PathBuf,
    /// PEM files of the CAs that vouch for endpoints; public CAs do not count. Default `["tls/endpoints.pem"]`.
    pub ca_files: Vec<PathBuf>,
    /// Longest wait for a connection, its TLS handshake included. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub connect_timeout: Duration,
    /// Longest time of one post, from connecting to the last octet of the answer. Whoever leases the work must lease it
    /// for longer. Default `"10m"`.
    #[serde(with = "duration_text")]
    pub post_timeout: Duration,
    /// Longest silence of an endpoint that owes us octets. Default `"2m"`.
    #[serde(with = "duration_text")]
    pub read_timeout: Duration,
    /// How long an unused connection to an idempotent endpoint is kept for the next post. An endpoint that is not gets a
    /// new connection for each post: whether one that it just closed took a post, nobody could tell. Default `"20s"`.
    #[serde(with = "duration_text")]
    pub idle_timeout: Duration,
}

impl Default for SoapClientConfig {
    fn default() -> Self {
        Self {
            certificate: "tls/client.pem".into(),
            key: "tls/client.key".into(),
            ca_files: vec!["tls/endpoints.pem".into()],
            connect_timeout: Duration::from_secs(30),
            post_timeout: Duration::from_secs(10 * 60),
            read_timeout: Duration::from_secs(2 * 60),
            idle_timeout: Duration::from_secs(20),
        }
    }
}
