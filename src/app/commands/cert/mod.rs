//! `xdbridge cert`: what the owner of a domain publishes, so that others find the certificates of this bridge, and how long
//! all that it works with is valid.

mod list;
mod publish;

use std::{io::Write, path::PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};

use crate::{
    adapters::{certificates::CertificateFiles, clock::SystemClock},
    app::{
        config::Config,
        exit::{CommandError, Exit},
    },
    flows::ports::Clock,
};

/// `xdbridge cert`.
#[derive(Debug, Args)]
pub struct CertArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List every certificate of our own, trust anchor and revocation list with the days that it has left, those that end
    /// first on top.
    List {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only what ends within so many days, or has ended. Exit code 1 if there is any.
        #[arg(long, value_name = "DAYS")]
        expiring: Option<u32>,
        /// Print one JSON document, nothing else.
        #[arg(long)]
        json: bool,
    },
    /// Print the CERT records of our own certificates, as a zone file has them (RFC 4398).
    Zone {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print the entries of our own certificates, as a directory takes them (LDIF, RFC 2849; inetOrgPerson, RFC 2798).
    Ldif {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The entry of the directory below which they go. Default: one for the domain, such as
        /// `dc=direct,dc=harbor,dc=example`, which is printed as well.
        #[arg(long, value_name = "DN", value_parser = distinguished_name)]
        base: Option<String>,
    },
}

/// A name as RFC 4514 §3 writes it, as far as slips go: `attribute=value`, parted by commas, all on one line. What the
/// directory has is for it to say.
fn distinguished_name(text: &str) -> Result<String, &'static str> {
    let is_part = |part: &str| {
        let Some((attribute, value)) = part.split_once('=') else {
            return false;
        };
        let mut attribute = attribute.trim().bytes().peekable();
        attribute.peek().is_some()
            && attribute.all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet))
            && !value.trim().is_empty()
    };
    // A comma behind a backslash belongs to a value.
    let is_name = text.replace("\\,", "").split(',').all(is_part);
    if is_name && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("a distinguished name is needed, such as ou=people,dc=harbor,dc=example")
    }
}

/// Runs the command.
pub fn run(args: &CertArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let (Action::List { config, .. } | Action::Zone { config } | Action::Ldif { config, .. }) =
        &args.action;
    let config = Config::read(config).map_err(CommandError::unreadable)?;
    let config = config.resolved();
    let now = SystemClock.now();
    let files = CertificateFiles::load(config.certificates.clone(), now);
    let files = files.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandError::unreadable(anyhow!("certificates: {}", lines.join("; ")))
    })?;
    let mut domains = files.domains();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    match &args.action {
        Action::List { expiring, json, .. } => {
            let rows = list::rows(&config, &files, &domains, now)?;
            return list::write(rows, *expiring, *json, out);
        }
        Action::Zone { .. } => {
            for own in &domains {
                publish::zone(own, now, out)?;
            }
        }
        Action::Ldif { base, .. } => {
            for own in &domains {
                publish::ldif(own, base.as_deref(), now, out)?;
            }
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: LDAP-7
    #[test]
    fn a_base_is_a_distinguished_name_on_one_line() {
        for name in [
            "dc=harbor,dc=example",
            "ou=a b, o=Hafen\u{e9}",
            "o=Harbor\\, Inc.,c=DE",
            "2.5.4.10=Harbor",
        ] {
            assert_eq!(distinguished_name(name).as_deref(), Ok(name));
        }
        for slip in [
            "",
            "not a dn",
            "harbor.example",
            "dc=harbor,",
            "dc=,dc=example",
            "=harbor",
            "d c=harbor",
            "dc=harbor\ndn: cn=other",
        ] {
            assert!(distinguished_name(slip).is_err(), "{slip:?}");
        }
    }
}
