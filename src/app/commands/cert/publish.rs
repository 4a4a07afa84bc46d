//! What the owner of a domain publishes, in the DNS or in a directory.

use std::{collections::BTreeMap, io::Write};

use jiff::Timestamp;
use openssl::x509::X509;

use crate::{
    adapters::{
        dns::CertRecord,
        ldap::{BaseRecord, PersonRecord, base_of},
    },
    app::exit::CommandError,
    bridge::own_domain::OwnDomain,
    formats::{
        ids::{DirectAddress, DomainName},
        smime::{
            certificate::{self, Validity},
            facts::CertificateFacts,
        },
    },
};

/// The records of one domain.
pub(super) fn zone(
    own: &OwnDomain,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
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
        if let Some(why) = unpublished(certificate, now) {
            writeln!(out, "; not published: {why}")?;
            continue;
        }
        let der = certificate.to_der().map_err(CommandError::failed)?;
        for owner in owners(own, &facts) {
            match owner.record(&der) {
                Some(record) => write!(out, "{record}")?,
                None => writeln!(
                    out,
                    "; an address of it makes no DNS name (DNS-2): only a certificate of the domain can be found"
                )?,
            }
        }
    }
    Ok(())
}

/// The entries of one domain, one for each owner: of an address, or domain, with two certificates, both are found in it
/// (KEY-3).
pub(super) fn ldif(
    own: &OwnDomain,
    base: Option<&str>,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut by_mail: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    writeln!(out, "# {}", own.name)?;
    for identity in &own.identities {
        let certificate = &identity.certificate;
        let facts = CertificateFacts::of(certificate);
        let end = facts.not_after.map(|end| end.to_string());
        writeln!(out, "# SHA-256 {}", facts.sha256)?;
        writeln!(out, "# valid until {}", end.unwrap_or_default())?;
        if let Some(why) = unpublished(certificate, now) {
            writeln!(out, "# not published: {why}")?;
            continue;
        }
        let der = certificate.to_der().map_err(CommandError::failed)?;
        for owner in owners(own, &facts) {
            by_mail.entry(owner.mail()).or_default().push(der.clone());
        }
    }
    writeln!(out)?;
    let of_domain = base_of(&own.name);
    if base.is_none() {
        write!(out, "{}", BaseRecord::of(&own.name))?;
    }
    let base = base.unwrap_or(&of_domain);
    for (mail, certificates) in &by_mail {
        let record = PersonRecord {
            base,
            mail,
            certificates,
        };
        write!(out, "{record}")?;
    }
    Ok(())
}

/// Why a certificate is not published: what has expired; what is not valid yet is published before it is used (KEY-3).
fn unpublished(certificate: &X509, now: Timestamp) -> Option<&'static str> {
    if certificate::validity(certificate, now) == Validity::Expired {
        return Some("it has expired");
    }
    if !certificate::key_usable_for_encryption(certificate) {
        return Some("nobody may encrypt to it");
    }
    None
}

/// Whose certificate one is.
enum Owner {
    Address(DirectAddress),
    Domain(DomainName),
}

impl Owner {
    fn record<'a>(&self, der: &'a [u8]) -> Option<CertRecord<'a>> {
        match self {
            Self::Address(address) => CertRecord::of_address(address, der),
            Self::Domain(domain) => CertRecord::of_domain(domain, der),
        }
    }

    fn mail(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Domain(domain) => domain.to_string(),
        }
    }
}

/// The addresses of the domain that a certificate names, and the domain, if it names it.
fn owners(own: &OwnDomain, facts: &CertificateFacts) -> Vec<Owner> {
    let addresses = facts.rfc822_names.iter();
    let addresses = addresses.filter_map(|name| name.parse::<DirectAddress>().ok());
    let addresses = addresses.filter(|address| *address.domain() == own.name);
    let mut owners: Vec<Owner> = addresses.map(Owner::Address).collect();
    let mut domains = facts.dns_names.iter();
    if domains.any(|name| name.parse::<DomainName>().as_ref() == Ok(&own.name)) {
        owners.push(Owner::Domain(own.name.clone()));
    }
    owners
}
