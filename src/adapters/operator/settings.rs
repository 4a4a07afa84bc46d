//! The settings of the operators' listener.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::formats::units::duration_text;

/// The operators' listener: `[operator]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorConfig {
    /// Address and port to listen on. One that is not loopback needs the three files below. Default
    /// `"127.0.0.1:9480"`.
    pub bind: SocketAddr,
    /// PEM file with the server's certificate and its intermediates, such as `"tls/operator.pem"`. Default none:
    /// plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key, readable by its owner alone. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// File with the token that must be sent as `Authorization: Bearer ..`, at least 32 characters, readable by its
    /// owner alone. `/healthz` and `/readyz` are answered without it; `/api/v1/exchanges` never is. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Tokens by which partners ask at `/api/v1/exchanges` for what they submitted, such as
    /// `[{ partner = "harbor", file = "harbor.token" }]`; each of at least 32 characters, in a file of its own that its
    /// owner alone may read. Default: none.
    pub partner_tokens: Vec<PartnerTokenConfig>,
    /// Longest wait for one part's answer to `/readyz`. Default `"5s"`.
    #[serde(with = "duration_text")]
    pub readiness_timeout: Duration,
}

/// The token of a partner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerTokenConfig {
    /// The partner's name.
    pub partner: String,
    /// The file that holds the token.
    pub file: PathBuf,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 9480)),
            certificate: None,
            key: None,
            token_file: None,
            partner_tokens: Vec::new(),
            readiness_timeout: Duration::from_secs(5),
        }
    }
}
