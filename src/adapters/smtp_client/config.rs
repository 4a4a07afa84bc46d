//! The settings of the SMTP client.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    bridge::network::Network,
    formats::{ids::DomainName, units::duration_text},
};

/// Outgoing mail: `[smtp.client]`. Durations are texts such as `"90s"` or `"5m"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpClientConfig {
    /// The name that EHLO gives, fully qualified and with a matching PTR record, such as `"bridge.harbor.example"`.
    /// Default: the machine's host name (TX-21).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ehlo_name: Option<String>,
    /// The one next hop of all mail, such as `"relay.harbor.example:587"`; its address may be private. Default: none,
    /// the MX records of each domain decide (TX-1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smarthost: Option<Smarthost>,
    /// The port of hosts that MX records name. Default 25 (TX-7).
    pub port: u16,
    /// What TLS the next hop must offer: `"require-verified"`, `"require"` or `"opportunistic"`. Default
    /// `"require-verified"` (TX-22).
    pub tls: TlsPolicy,
    /// Whether the system's public CAs count for `"require-verified"`. Default true.
    pub public_cas: bool,
    /// PEM files with further CAs that count, such as `["/etc/xdbridge/community-ca.pem"]`. Default: none.
    pub ca_files: Vec<PathBuf>,
    /// Host names that are this bridge itself: an MX record that names one, and all after it, is not used (TX-4).
    /// Default: none; the EHLO name always counts.
    pub own_hosts: Vec<DomainName>,
    /// Networks that MX records may lead to though they are not public, such as `["10.20.0.0/16"]`. Default: none
    /// (TX-6).
    pub permit: Vec<Network>,
    /// Longest wait for a TCP connection. Default `"30s"` (TX-20).
    #[serde(with = "duration_text")]
    pub connect_timeout: Duration,
    /// Longest wait for the greeting. Default `"5m"` (RFC 5321 §4.5.3.2.1).
    #[serde(with = "duration_text")]
    pub greeting_timeout: Duration,
    /// Longest wait for the reply to one command, and for the TLS handshake. Default `"5m"` (RFC 5321 §4.5.3.2.2).
    #[serde(with = "duration_text")]
    pub command_timeout: Duration,
    /// Longest wait for the reply to DATA. Default `"2m"` (RFC 5321 §4.5.3.2.4).
    #[serde(with = "duration_text")]
    pub data_start_timeout: Duration,
    /// Longest wait while one block of the message is written. Default `"3m"` (RFC 5321 §4.5.3.2.5).
    #[serde(with = "duration_text")]
    pub data_block_timeout: Duration,
    /// Longest wait for the reply to the final dot. Default `"10m"` (RFC 5321 §4.5.3.2.6).
    #[serde(with = "duration_text")]
    pub final_dot_timeout: Duration,
    /// Longest time of one attempt over all hosts; what is open then is tried again later. Whoever leases the work
    /// must lease it for longer. Default `"20m"`.
    #[serde(with = "duration_text")]
    pub attempt_timeout: Duration,
    /// Connections to one destination at the same time. Default 5 (Q-5).
    pub max_connections_per_destination: NonZeroUsize,
    /// Attempts in a row that reached no host, after which a destination is left alone. Default 10 (Q-5).
    pub pause_after_failures: NonZeroU32,
    /// How long it is left alone. Default `"5m"` (Q-5).
    #[serde(with = "duration_text")]
    pub pause: Duration,
    /// Recipients of one transaction. Default 100 (TX-8).
    pub max_recipients_per_transaction: NonZeroUsize,
    /// Messages over one connection. Default 50 (TX-32).
    pub max_messages_per_connection: NonZeroU32,
    /// How long an unused connection is kept for the next message. Default `"20s"`; `"0s"` keeps none.
    #[serde(with = "duration_text")]
    pub idle_timeout: Duration,
    /// What differs for one domain, such as `[smtp.client.domains."hisp.example"]`. Default: nothing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub domains: BTreeMap<DomainName, DomainRoute>,
}

/// What differs for one domain: `[smtp.client.domains."hisp.example"]`. A subdomain is a domain of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DomainRoute {
    /// The next hop of this domain's mail. Default: as in `[smtp.client]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smarthost: Option<Smarthost>,
    /// Whether the MX records decide although `[smtp.client]` names a smarthost. Default false.
    pub use_mx: bool,
    /// What TLS the next hop must offer. Default: as in `[smtp.client]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsPolicy>,
}

/// What TLS the next hop must offer (TX-22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsPolicy {
    /// STARTTLS with a certificate of a known CA that names the host.
    #[default]
    RequireVerified,
    /// STARTTLS with any certificate.
    Require,
    /// STARTTLS with any certificate where it is offered, else clear text.
    Opportunistic,
}

impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequireVerified => "require-verified",
            Self::Require => "require",
            Self::Opportunistic => "opportunistic",
        })
    }
}

/// A next hop that the settings name: `host:port`, `address:port` or `[IPv6 address]:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Smarthost {
    host: String,
    port: u16,
}

/// Why a text names no smarthost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no next hop; write a host and a port, such as \"relay.harbor.example:587\"")]
pub struct SmarthostError {
    text: String,
}

impl Smarthost {
    /// The host name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Smarthost {
    type Err = SmarthostError;

    fn from_str(text: &str) -> Result<Self, SmarthostError> {
        let error = || SmarthostError {
            text: text.to_owned(),
        };
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self {
                host: address.ip().to_string(),
                port: address.port(),
            });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().map_err(|_| error())?;
        let is_host_character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        if port == 0 || host.is_empty() || host.len() > 253 || !host.bytes().all(is_host_character)
        {
            return Err(error());
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl TryFrom<String> for Smarthost {
    type Error = SmarthostError;
    fn try_from(text: String) -> Result<Self, SmarthostError> {
        text.parse()
    }
}

impl From<Smarthost> for String {
    fn from(smarthost: Smarthost) -> Self {
        smarthost.to_string()
    }
}

impl fmt::Display for Smarthost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Default for SmtpClientConfig {
    fn default() -> Self {
        const fn minutes(count: u64) -> Duration {
            Duration::from_secs(60 * count)
        }
        Self {
            ehlo_name: None,
            smarthost: None,
            port: 25,
            tls: TlsPolicy::RequireVerified,
            public_cas: true,
            ca_files: Vec::new(),
            own_hosts: Vec::new(),
            permit: Vec::new(),
            connect_timeout: Duration::from_secs(30),
            greeting_timeout: minutes(5),
            command_timeout: minutes(5),
            data_start_timeout: minutes(2),
            data_block_timeout: minutes(3),
            final_dot_timeout: minutes(10),
            attempt_timeout: minutes(20),
            max_connections_per_destination: const { NonZeroUsize::new(5).expect("5 is not 0") },
            pause_after_failures: const { NonZeroU32::new(10).expect("10 is not 0") },
            pause: minutes(5),
            max_recipients_per_transaction: const { NonZeroUsize::new(100).expect("not 0") },
            max_messages_per_connection: const { NonZeroU32::new(50).expect("50 is not 0") },
            idle_timeout: Duration::from_secs(20),
            domains: BTreeMap::new(),
        }
    }
}

impl SmtpClientConfig {
    /// The smarthost of `domain`, or `None` where its MX records decide.
    pub fn smarthost_of(&self, domain: &DomainName) -> Option<&Smarthost> {
        match self.domains.get(domain) {
            Some(route) if route.use_mx => None,
            Some(route) => route.smarthost.as_ref().or(self.smarthost.as_ref()),
            None => self.smarthost.as_ref(),
        }
    }

    /// What TLS the next hop of `domain` must offer.
    pub fn tls_of(&self, domain: &DomainName) -> TlsPolicy {
        let own = self.domains.get(domain).and_then(|route| route.tls);
        own.unwrap_or(self.tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_what_they_print() {
        let mut config = SmtpClientConfig {
            smarthost: Some("relay.example:587".parse().unwrap()),
            permit: vec!["127.0.0.0/8".parse().unwrap()],
            ..SmtpClientConfig::default()
        };
        let domain = "hisp.example".parse().unwrap();
        let route = DomainRoute {
            smarthost: Some("[::1]:2525".parse().unwrap()),
            use_mx: false,
            tls: Some(TlsPolicy::Require),
        };
        config.domains.insert(domain, route);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<SmtpClientConfig>(&text).unwrap(), config);
    }

    // rule: TX-1
    #[test]
    fn a_domain_may_have_its_own_next_hop_and_its_own_tls_policy() {
        let config: SmtpClientConfig = toml::from_str(
            r#"
            smarthost = "relay.example:587"
            [domains."a.example"]
            use_mx = true
            [domains."b.example"]
            smarthost = "other.example:25"
            tls = "opportunistic"
            "#,
        )
        .unwrap();
        let host = |domain: &str| {
            let found = config.smarthost_of(&domain.parse().unwrap());
            found.map(Smarthost::to_string)
        };
        assert_eq!(host("a.example"), None);
        assert_eq!(host("b.example").as_deref(), Some("other.example:25"));
        assert_eq!(host("c.example").as_deref(), Some("relay.example:587"));
        let b = "b.example".parse().unwrap();
        assert_eq!(config.tls_of(&b), TlsPolicy::Opportunistic);
        let c = "c.example".parse().unwrap();
        assert_eq!(config.tls_of(&c), TlsPolicy::RequireVerified);
    }

    #[test]
    fn a_smarthost_without_a_port_or_with_strange_characters_is_refused() {
        for text in [
            "relay.example",
            "relay.example:0",
            ":25",
            "a b:25",
            "a\r\n:25",
            "a:99999",
        ] {
            assert!(text.parse::<Smarthost>().is_err(), "{text:?}");
        }
        assert!(toml::from_str::<SmtpClientConfig>("relay = \"x\"").is_err());
    }
}
