//! Which hosts and addresses a mail is tried at, in which order (smtp.md section 7).

use std::net::{IpAddr, SocketAddr};

use super::{
    Rest,
    config::{Smarthost, SmtpClientConfig, TlsPolicy},
    session::Target,
};
use crate::{
    bridge::{exchange::Reason, network::may_connect},
    flows::ports::{FindMailHosts, MailHostError},
    formats::ids::DomainName,
};

/// The addresses of a smarthost. The settings name it, so that it may lie in a private network.
pub(super) async fn to_smarthost(
    hosts: &dyn FindMailHosts,
    smarthost: &Smarthost,
    policy: TlsPolicy,
) -> Result<Vec<Target>, Rest> {
    let host = smarthost.host();
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        // Whatever is wrong with our own settings may be mended within the lifetime of the mail.
        Err(_) => hosts
            .addresses(host)
            .await
            .map_err(|error| Rest::Deferred(format!("smarthost {host}: {error}")))?,
    };
    let target = |address| Target {
        host: host.to_owned(),
        address: SocketAddr::new(address, smarthost.port()),
        policy,
    };
    Ok(addresses.into_iter().map(target).collect())
}

/// The addresses of the mail hosts of `domain` that may be connected to, each once.
pub(super) async fn by_mx(
    hosts: &dyn FindMailHosts,
    domain: &DomainName,
    config: &SmtpClientConfig,
    policy: TlsPolicy,
) -> Result<Vec<Target>, Rest> {
    let found = hosts.hosts(domain).await;
    let found = found.map_err(|error| no_hosts(domain, &error))?;
    let mut targets: Vec<Target> = Vec::new();
    let mut forbidden = None;
    for host in found {
        for address in host.addresses {
            if !may_connect(address, &config.permit) {
                forbidden = Some(format!("{} [{address}]", host.name));
                continue;
            }
            let address = SocketAddr::new(address, config.port);
            if targets.iter().all(|target| target.address != address) {
                targets.push(Target {
                    host: host.name.to_string(),
                    address,
                    policy,
                });
            }
        }
    }
    match forbidden {
        Some(target) if targets.is_empty() => {
            let detail = format!("{domain}: {target} is no public address, and `permit` lacks it");
            Err(Rest::Refused(Reason::PolicyRefused, detail))
        }
        _ => Ok(targets),
    }
}

fn no_hosts(domain: &DomainName, error: &MailHostError) -> Rest {
    let detail = |code: &str| format!("{domain}: {error} ({code})");
    match error {
        MailHostError::NoSuchDomain => Rest::Refused(Reason::UnknownRecipient, detail("5.1.2")),
        MailHostError::NullMx => Rest::Refused(Reason::UnknownRecipient, detail("5.1.10")),
        MailHostError::Loop => Rest::Refused(Reason::UnknownRecipient, detail("5.4.6")),
        MailHostError::NoAddress => Rest::Refused(Reason::UnknownRecipient, detail("5.4.4")),
        MailHostError::Transient { .. } => Rest::Deferred(detail("4.4.3")),
    }
}
