//! The settings of the SMTP listener.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    bridge::network::Network,
    formats::{ids::DomainName, units::duration_text},
};

/// The SMTP listener: `[smtp.server]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpServerConfig {
    /// Address and port to listen on. Default `"0.0.0.0:25"`.
    pub bind: SocketAddr,
    /// The name that the greeting and the trace field give: that of the MX record, such as
    /// `"bridge.harbor.example"`. Default: the machine's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name: Option<DomainName>,
    /// PEM file with the server's certificate, followed by its intermediates. Default `"tls/server.pem"`.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key, readable by its owner alone. Default `"tls/server.key"`.
    pub key: PathBuf,
    /// Whether mail is taken over TLS alone (`"require"`) or in clear too (`"may"`). TLS is 1.2 or later. Default
    /// `"require"` (TLS-2).
    pub tls: TlsIn,
    /// Domains that may send, such as `["direct.elm.example"]`. Trust is decided by S/MIME all the same. Default
    /// none: every domain may (RX-23).
    pub senders: Vec<DomainName>,
    /// Networks of our own hosts, such as `["192.0.2.8/32"]`: they alone may send as a domain that is served here.
    /// Default none (RX-23).
    pub own_hosts: Vec<Network>,
    /// Connections at one time; further ones are sent away with 421. Each holds up to 200 KiB beside its share of
    /// the byte budget. Default 500 (RX-9).
    pub max_connections: usize,
    /// Connections at one time from one IPv4 address or one IPv6 network of 64 bits. Default 10 (RX-9).
    pub max_connections_per_address: usize,
    /// Connections within a minute from one such address. Default 120 (RX-9).
    pub max_sessions_per_minute: u32,
    /// Protocol errors in one session; the next one ends it. Default 10 (RX-9).
    pub max_errors: u32,
    /// How long the reply to a refused recipient waits, from the fourth in a session on. Default `"2s"` (RX-9).
    #[serde(with = "duration_text")]
    pub tarpit_delay: Duration,
    /// How long the greeting waits for peers that talk before it, who are sent away. Default `"0s"`: not at all
    /// (RX-1).
    #[serde(with = "duration_text")]
    pub greeting_delay: Duration,
    /// Longest TLS handshake. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub handshake_timeout: Duration,
    /// Longest wait for a whole command before MAIL; RFC 5321 asks for five minutes, `"60s"` is usual. Default
    /// `"5m"` (RX-8).
    #[serde(with = "duration_text")]
    pub idle_timeout: Duration,
    /// Longest wait for a whole command after MAIL. Default `"5m"` (RX-8).
    #[serde(with = "duration_text")]
    pub command_timeout: Duration,
    /// Longest wait for the next octets of a mail. Default `"3m"` (RX-8).
    #[serde(with = "duration_text")]
    pub data_block_timeout: Duration,
    /// Longest time that one mail may take to arrive. Default `"30m"` (RX-8).
    #[serde(with = "duration_text")]
    pub data_timeout: Duration,
    /// What a sender may wait over a whole mail beyond `min_bytes_per_second`. Default `"60s"` (RX-8).
    #[serde(with = "duration_text")]
    pub data_grace: Duration,
    /// Slowest mail, in octets per second; 0 for no such limit. Default 1024 (RX-8).
    pub min_bytes_per_second: u64,
    /// Longest wait for a peer that does not take our replies. Default `"1m"`.
    #[serde(with = "duration_text")]
    pub reply_timeout: Duration,
    /// Longest wait for a mail to be decided on after its last octet; then 451. Senders wait ten minutes. Default
    /// `"9m"` (RX-47).
    #[serde(with = "duration_text")]
    pub answer_timeout: Duration,
    /// Longest session, whatever it carries; a mail under way may end. Default `"1h"`.
    #[serde(with = "duration_text")]
    pub session_timeout: Duration,
    /// How long a connection that we close is still read from, so that the peer can take our reply. Default `"2s"`.
    #[serde(with = "duration_text")]
    pub close_timeout: Duration,
    /// How long a stop waits for mails under way. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    /// Longest line of a mail, in octets with its line end; beyond it the mail is refused. Default 1000 (RX-5).
    pub max_text_line_bytes: usize,
}

/// What the listener asks of its peers: `smtp.server.tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsIn {
    /// No mail without TLS.
    #[default]
    Require,
    /// TLS is offered.
    May,
}

impl Default for SmtpServerConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 25)),
            host_name: None,
            certificate: PathBuf::from("tls/server.pem"),
            key: PathBuf::from("tls/server.key"),
            tls: TlsIn::Require,
            senders: Vec::new(),
            own_hosts: Vec::new(),
            max_connections: 500,
            max_connections_per_address: 10,
            max_sessions_per_minute: 120,
            max_errors: 10,
            tarpit_delay: Duration::from_secs(2),
            greeting_delay: Duration::ZERO,
            handshake_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5 * 60),
            command_timeout: Duration::from_secs(5 * 60),
            data_block_timeout: Duration::from_secs(3 * 60),
            data_timeout: Duration::from_secs(30 * 60),
            data_grace: Duration::from_secs(60),
            min_bytes_per_second: 1024,
            reply_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(9 * 60),
            session_timeout: Duration::from_secs(60 * 60),
            close_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(30),
            max_text_line_bytes: 1000,
        }
    }
}

/// The shortest line limit that every mail can keep (RFC 5322 §2.1.1 recommends 78 and a line end).
const MIN_TEXT_LINE_BYTES: usize = 80;

impl SmtpServerConfig {
    /// What is wrong with the values: key and what would be accepted.
    pub fn problems(&self) -> Vec<String> {
        let counts = [
            ("max_connections", self.max_connections, 1),
            (
                "max_connections_per_address",
                self.max_connections_per_address,
                1,
            ),
            (
                "max_sessions_per_minute",
                usize::try_from(self.max_sessions_per_minute).unwrap_or(usize::MAX),
                1,
            ),
            (
                "max_text_line_bytes",
                self.max_text_line_bytes,
                MIN_TEXT_LINE_BYTES,
            ),
        ];
        let counts = counts.into_iter().filter(|(_, value, least)| value < least);
        let counts = counts.map(|(key, _, least)| format!("smtp.server.{key}: {least} or more"));
        let waits = [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            ("command_timeout", self.command_timeout),
            ("data_block_timeout", self.data_block_timeout),
            ("data_timeout", self.data_timeout),
            ("data_grace", self.data_grace),
            ("reply_timeout", self.reply_timeout),
            ("answer_timeout", self.answer_timeout),
            ("session_timeout", self.session_timeout),
        ];
        let waits = waits.into_iter().filter(|(_, wait)| wait.is_zero());
        let waits = waits.map(|(key, _)| format!("smtp.server.{key}: more than \"0s\""));
        counts.chain(waits).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_what_they_print() {
        let config = SmtpServerConfig {
            host_name: Some("bridge.harbor.example".parse().unwrap()),
            senders: vec!["direct.elm.example".parse().unwrap()],
            own_hosts: vec!["192.0.2.8/32".parse().unwrap()],
            tls: TlsIn::May,
            ..SmtpServerConfig::default()
        };
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<SmtpServerConfig>(&text).unwrap(), config);
    }

    #[test]
    fn the_defaults_are_usable_and_what_could_serve_nobody_is_told() {
        assert_eq!(SmtpServerConfig::default().problems(), Vec::<String>::new());
        let useless = SmtpServerConfig {
            max_connections: 0,
            max_text_line_bytes: 40,
            idle_timeout: Duration::ZERO,
            ..SmtpServerConfig::default()
        };
        assert_eq!(
            useless.problems(),
            [
                "smtp.server.max_connections: 1 or more",
                "smtp.server.max_text_line_bytes: 80 or more",
                "smtp.server.idle_timeout: more than \"0s\"",
            ]
        );
    }
}
