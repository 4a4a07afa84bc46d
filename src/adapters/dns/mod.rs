//! Questions to the DNS, by hickory-resolver: which hosts take the mail of a domain (RFC 5321 §5.1, RFC 7505), which
//! certificates are published for an address (RFC 4398), which LDAP servers a domain has (RFC 2782), and where a host
//! lies.

mod absence;
mod addresses;
mod cert;
pub mod config;
mod ldap_servers;
mod mail_hosts;
mod zone;

pub use addresses::DnsAddresses;
pub use cert::{CertQuestions, DnsCertificates};
pub use ldap_servers::DnsLdapServers;
pub use mail_hosts::DnsMailHosts;
pub use zone::CertRecord;

use std::net::SocketAddr;

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf,
};
use uuid::Uuid;

use config::DnsConfig;

/// The resolver of the process, with its cache: made once, shared by all who ask.
///
/// # Errors
/// The machine's own resolver settings are asked for and cannot be read.
pub fn resolver(config: &DnsConfig) -> Result<TokioResolver, NetError> {
    let (servers, options) = settings(config)?;
    build(servers, options)
}

/// Whom to ask, and how.
fn settings(config: &DnsConfig) -> Result<(ResolverConfig, ResolverOpts), NetError> {
    let (servers, mut options) = if config.servers.is_empty() {
        system_conf::read_system_conf()?
    } else {
        let servers = config.servers.iter().map(|server| {
            // TCP is for answers that UDP cut off.
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let servers = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        (servers, ResolverOpts::default())
    };
    options.timeout = config.timeout;
    options.attempts = config.attempts.into();
    // Random letter case makes a forged answer harder to guess (threats.md T-17); some old servers choke on it, so
    // ports and ids, which are random anyway, carry the load.
    options.case_randomization = false;
    Ok((servers, options))
}

fn build(servers: ResolverConfig, options: ResolverOpts) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(servers, provider);
    *builder.options_mut() = options;
    builder.build()
}

/// Where each server takes questions by TCP.
fn tcp_addresses(servers: &ResolverConfig) -> Vec<SocketAddr> {
    servers
        .name_servers()
        .iter()
        .filter_map(|server| {
            let mut connections = server.connections.iter();
            let tcp = connections.find(|one| matches!(one.protocol, ProtocolConfig::Tcp))?;
            Some(SocketAddr::new(server.ip, tcp.port))
        })
        .collect()
}

/// What orders equals.
fn random_number() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}
