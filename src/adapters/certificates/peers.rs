//! Peers' certificates from files, found by the names in subjectAltName.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use openssl::x509::{X509, X509Ref};

use super::{FileFault, FileProblem, read_all};
use crate::{
    bridge::trust::CertificateCandidate,
    formats::{
        ids::{DirectAddress, DomainName},
        smime::certificate,
    },
};

/// Certificates by the address or the domain that they name.
#[derive(Default)]
pub(super) struct PeerIndex {
    by_address: HashMap<DirectAddress, Vec<CertificateCandidate>>,
    by_domain: HashMap<DomainName, Vec<CertificateCandidate>>,
}

impl PeerIndex {
    /// Adds a certificate under each of its names; false when it has none.
    pub(super) fn insert(&mut self, certificate: &X509Ref, origin: &str) -> bool {
        let Ok(der) = certificate.to_der() else {
            return false;
        };
        let candidate = CertificateCandidate {
            der,
            origin: origin.to_owned(),
        };
        let emails = certificate::email_names(certificate);
        let addresses = emails.iter().filter_map(|name| name.parse().ok());
        let names = certificate::dns_names(certificate);
        let domains = names.iter().filter_map(|name| name.parse().ok());
        let mut count = 0;
        for address in addresses {
            push(self.by_address.entry(address).or_default(), &candidate);
            count += 1;
        }
        for domain in domains {
            push(self.by_domain.entry(domain).or_default(), &candidate);
            count += 1;
        }
        count > 0
    }

    /// Address-bound certificates before domain-bound ones (BIND-2).
    pub(super) fn find(&self, owner: &DirectAddress) -> Vec<CertificateCandidate> {
        let bound_to_address = self.by_address.get(owner).into_iter().flatten();
        let bound_to_domain = self.by_domain.get(owner.domain()).into_iter().flatten();
        let mut found = Vec::new();
        for candidate in bound_to_address.chain(bound_to_domain) {
            push(&mut found, candidate);
        }
        found
    }
}

fn push(list: &mut Vec<CertificateCandidate>, candidate: &CertificateCandidate) {
    if !list.iter().any(|known| known.der == candidate.der) {
        list.push(candidate.clone());
    }
}

/// What the files of peers hold.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) index: PeerIndex,
    /// CA certificates among them: material for paths, never a recipient's (DNS-8).
    pub(super) intermediates: Vec<X509>,
}

/// Reads the files of peers.
pub(super) fn read(
    paths: &[PathBuf],
    problems: &mut Vec<FileProblem>,
    warnings: &mut Vec<FileProblem>,
) -> Peers {
    let mut peers = Peers::default();
    for (path, certificate) in read_all(paths, problems) {
        if certificate::is_ca(&certificate) {
            peers.intermediates.push(certificate);
        } else if !peers.index.insert(&certificate, &origin(&path)) {
            let fault = FileFault::NamesNobody;
            warnings.push(FileProblem { path, fault });
        }
    }
    peers
}

fn origin(path: &Path) -> String {
    format!("file {}", path.display())
}
