//! Questions to the DNS, by hickory-resolver: which hosts take the mail of a domain (RFC 5321 §5.1, RFC 7505).

pub mod config;
mod mail_hosts;

pub use mail_hosts::DnsMailHosts;

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};

use config::DnsConfig;

/// The resolver of the process, with its cache: made once, shared by all who ask.
///
/// # Errors
/// The machine's own resolver settings are asked for and cannot be read.
pub fn resolver(config: &DnsConfig) -> Result<TokioResolver, NetError> {
    let mut builder = if config.servers.is_empty() {
        TokioResolver::builder_tokio()?
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
        TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = config.timeout;
    options.attempts = config.attempts.into();
    // Random letter case makes a forged answer harder to guess (threats.md T-17); some old servers choke on it, so
    // ports and ids, which are random anyway, carry the load.
    options.case_randomization = false;
    builder.build()
}
