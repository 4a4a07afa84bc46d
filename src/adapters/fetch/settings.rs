//! The settings of fetches.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{bridge::fetch_target::FetchPermits, formats::units::duration_text};

/// What is fetched from URLs that others wrote, into certificates above all: `[fetch]`. Only http and https, only public
/// addresses, no redirect, no proxy (threats.md T-14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// Whether issuers' certificates are fetched that are lacking on the path to an anchor, from where certificates say that
    /// they are (AIA caIssuers). Default true (TA-7).
    pub issuers: bool,
    /// Whether revocation lists and OCSP answers are fetched from where certificates say that they are, when
    /// `certificates.domains.crls` has none that tells. Default true (REV-1).
    pub revocation: bool,
    /// What is fetched although its address is not public, or its port neither 80 nor 443: networks, such as
    /// `"10.20.0.0/16"`, at those two ports, and `host:port`, such as `"crl.harbor.example:8080"`, wherever that name
    /// leads. Default none.
    pub permit: FetchPermits,
    /// Whether the system's public CAs count for https. Default true.
    pub public_cas: bool,
    /// PEM files with further CAs that count for https, such as `["/etc/xdbridge/community-ca.pem"]`. Default none.
    pub ca_files: Vec<PathBuf>,
    /// Longest wait for a connection, its TLS handshake included. Default `"10s"` (TA-7).
    #[serde(with = "duration_text")]
    pub connect_timeout: Duration,
    /// Longest time of one fetch, from the look-up of the host's name to the last octet. Whoever waits for it may allow
    /// less. Default `"20s"` (TA-7).
    #[serde(with = "duration_text")]
    pub timeout: Duration,
    /// Fetches at one time, over all hosts; further ones fail for the moment. Default 16.
    pub max_at_once: usize,
    /// Fetches at one time from one host and port. Default 4.
    pub max_at_once_per_host: usize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            issuers: true,
            revocation: true,
            permit: FetchPermits::default(),
            public_cas: true,
            ca_files: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(20),
            max_at_once: 16,
            max_at_once_per_host: 4,
        }
    }
}

impl FetchConfig {
    /// What is wrong with the values: key and what would be accepted.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut problem =
            |key: &str, accepted: &str| problems.push(format!("fetch.{key}: {accepted}"));
        if self.connect_timeout.is_zero() {
            problem("connect_timeout", "longer than 0s");
        }
        if self.timeout < self.connect_timeout {
            problem("timeout", "at least fetch.connect_timeout");
        }
        if self.max_at_once == 0 {
            problem("max_at_once", "1 or more");
        }
        if self.max_at_once_per_host == 0 {
            problem("max_at_once_per_host", "1 or more");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_value_is_told() {
        assert_eq!(FetchConfig::default().problems(), Vec::<String>::new());
        let config: FetchConfig =
            toml::from_str("connect_timeout = \"0s\"\nmax_at_once = 0\nmax_at_once_per_host = 0\n")
                .unwrap();
        assert_eq!(config.problems().len(), 3);
        let config: FetchConfig = toml::from_str("timeout = \"5s\"").unwrap();
        assert_eq!(
            config.problems(),
            ["fetch.timeout: at least fetch.connect_timeout"]
        );
        for wrong in [
            "permit = [\"0.0.0.0/0\"]",
            "permit = [\"host\"]",
            "permitt = []",
        ] {
            assert!(toml::from_str::<FetchConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
