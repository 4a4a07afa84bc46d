//! `xdbridge cert zone`: what the owner of a domain publishes, so that others find the certificates of this bridge.

use std::{io::Write, path::PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use openssl::x509::X509;

use crate::{
    adapters::{certificates::CertificateFiles, clock::SystemClock, dns::CertRecord},
    app::{
        config::Config,
        exit::{CommandError, Exit},
    },
    bridge::own_domain::OwnDomain,
    flows::ports::Clock,
    formats::{
        ids::{DirectAddress, DomainName},
        smime::{
            certificate::{self, Validity},
            facts::CertificateFacts,
        },
    },
};

/// `xdbridge cert`.
#[derive(Debug, Args)]
pub struct CertArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the CERT records of our own certificates, as a zone file has them (RFC 4398).
    Zone {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &CertArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let Action::Zone { config } = &args.action;
    let config = Config::read(config).map_err(CommandError::unreadable)?;
    let now = SystemClock.now();
    let files = CertificateFiles::load(config.resolved().certificates, now);
    let files = files.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandError::unreadable(anyhow!("certificates: {}", lines.join("; ")))
    })?;
    let mut domains = files.domains();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    for own in domains {
        zone(&own, now, out)?;
    }
    Ok(Exit::Done)
}

/// The records of one domain. What has expired is not published any more; what is not valid yet is published before it is
/// used (KEY-3).
fn zone(own: &OwnDomain, now: Timestamp, out: &mut dyn Write) -> Result<(), CommandError> {
    for identity in &own.identities {
        let certificate = &identity.certificate;
        let facts = CertificateFacts::of(certificate);
        let end = facts.not_after.map(|end| end.to_string());
        writeln!(
            out,
            "; {}: SHA-256 {}, valid until {}",
            own.name,
            facts.sha256,
            end.unwrap_or_default()
        )?;
        if certificate::validity(certificate, now) == Validity::Expired {
            writeln!(out, "; not published: it has expired")?;
            continue;
        }
        if !certificate::key_usable_for_encryption(certificate) {
            writeln!(out, "; not published: nobody may encrypt to it")?;
            continue;
        }
        records(own, certificate, &facts, out)?;
    }
    Ok(())
}

fn records(
    own: &OwnDomain,
    certificate: &X509,
    facts: &CertificateFacts,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let der = certificate.to_der().map_err(CommandError::failed)?;
    let addresses = facts.rfc822_names.iter();
    let addresses = addresses.filter_map(|name| name.parse::<DirectAddress>().ok());
    for address in addresses.filter(|address| *address.domain() == own.name) {
        match CertRecord::of_address(&address, &der) {
            Some(record) => write!(out, "{record}")?,
            None => writeln!(
                out,
                "; an address of it makes no DNS name (DNS-2): only a certificate of the domain can be found"
            )?,
        }
    }
    let domains = facts.dns_names.iter();
    let is_ours = |name: &&String| name.parse::<DomainName>().as_ref() == Ok(&own.name);
    if domains.into_iter().any(|name| is_ours(&name))
        && let Some(record) = CertRecord::of_domain(&own.name, &der)
    {
        write!(out, "{record}")?;
    }
    Ok(())
}
