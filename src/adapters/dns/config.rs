//! The settings of DNS look-ups.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::formats::units::duration_text;

/// DNS look-ups: `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// Name servers to ask, with their ports, such as `["192.0.2.53:53"]`. Default: those of the system
    /// (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
    /// Longest wait for one answer. Default `"5s"`.
    #[serde(with = "duration_text")]
    pub timeout: Duration,
    /// How often a question is repeated when no answer comes. Default 2.
    pub attempts: u8,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}
