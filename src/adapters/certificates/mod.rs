//! Certificate files: the keys, anchors and intermediates of the domains that this bridge serves, and the certificates
//! of peers that were handed over by hand. Local files are asked before any directory (DISC-4).

mod own;
mod peers;
pub mod pem;
mod settings;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use openssl::x509::X509;

use crate::{
    bridge::own_domain::OwnDomain,
    flows::ports::{FindCertificates, Lookup, LookupStep, OwnDomains},
    formats::ids::{DirectAddress, DomainName},
};

pub use self::{
    pem::PemError,
    settings::{CertificatesConfig, DomainConfig, IdentityConfig},
};

/// What is wrong with one file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct FileProblem {
    /// The file, or folder.
    pub path: PathBuf,
    /// What is wrong with it, and what would be accepted.
    pub fault: FileFault,
}

/// What can be wrong with a file of certificates or a key.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It cannot be read, or holds something else.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate in {}; its own certificate comes first in that file (KEY-2)", certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate names neither the domain nor an address in it.
    #[error(
        "the certificate is not bound to {domain}: subjectAltName must hold that dNSName, or an rfc822Name in it (KEY-2)"
    )]
    NotBound {
        /// The domain that it is configured for.
        domain: DomainName,
    },
    /// The key may neither sign nor encrypt mail, or is too weak.
    #[error("the certificate cannot be used for Direct mail: {0} (KEY-2)")]
    Unusable(String),
    /// No path to an anchor of the domain.
    #[error("{fault}; add the intermediates, or the anchor it leads to, to {domain} (KEY-2)")]
    NoPath {
        /// The domain.
        domain: DomainName,
        /// Why.
        fault: crate::bridge::trust::PathFault,
    },
    /// Its time is over: it still opens late mail, and signs no more (KEY-3).
    #[error("the certificate is not valid now: it still opens mail, but signs none (KEY-3)")]
    NotValidNow,
    /// A peer's certificate that nobody can be found by.
    #[error(
        "a certificate has no rfc822Name or dNSName in subjectAltName: it is never used (CERT-2)"
    )]
    NamesNobody,
    /// The same domain twice.
    #[error("the domain {domain} is configured twice; one entry for each domain is accepted")]
    DomainTwice {
        /// Which.
        domain: DomainName,
    },
}

/// Everything that the files hold at one time.
#[derive(Default)]
struct Loaded {
    domains: HashMap<DomainName, Arc<OwnDomain>>,
    /// The certificates of our own keys.
    own: peers::PeerIndex,
    peers: peers::PeerIndex,
    warnings: Vec<FileProblem>,
}

/// The certificate files as they were last read.
pub struct CertificateFiles {
    config: CertificatesConfig,
    loaded: RwLock<Arc<Loaded>>,
}

impl CertificateFiles {
    /// Reads every file. All problems are told at once.
    pub fn load(config: CertificatesConfig, now: Timestamp) -> Result<Self, Vec<FileProblem>> {
        let loaded = read(&config, now)?;
        Ok(Self {
            config,
            loaded: RwLock::new(Arc::new(loaded)),
        })
    }

    /// Reads every file again. On any problem all stays as it was.
    pub fn reload(&self, now: Timestamp) -> Result<(), Vec<FileProblem>> {
        let loaded = Arc::new(read(&self.config, now)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// What an operator should know and nothing is refused for, as lines to be logged.
    pub fn warnings(&self) -> Vec<String> {
        let loaded = self.current();
        loaded.warnings.iter().map(ToString::to_string).collect()
    }

    /// The domains that are served.
    pub fn domains(&self) -> Vec<Arc<OwnDomain>> {
        self.current().domains.values().cloned().collect()
    }

    fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OwnDomains for CertificateFiles {
    fn find(&self, name: &DomainName) -> Option<Arc<OwnDomain>> {
        self.current().domains.get(name).cloned()
    }
}

#[async_trait]
impl FindCertificates for CertificateFiles {
    async fn find(&self, owner: &DirectAddress) -> Lookup {
        let current = self.current();
        // Mail to a domain that we serve comes back to us (MR-5): we open it with our own keys and no others.
        let (index, question) = if current.domains.contains_key(owner.domain()) {
            (&current.own, "certificates of our own keys")
        } else {
            (&current.peers, "certificate files")
        };
        let candidates = index.find(owner);
        let step = LookupStep {
            question: question.to_owned(),
            answer: match candidates.len() {
                0 => "no certificate".to_owned(),
                count => format!("{count} certificate(s)"),
            },
            // They are in memory.
            took: Duration::ZERO,
        };
        Lookup {
            candidates,
            steps: vec![step],
            is_transient: false,
        }
    }
}

fn read(config: &CertificatesConfig, now: Timestamp) -> Result<Loaded, Vec<FileProblem>> {
    let mut problems = Vec::new();
    let mut loaded = Loaded::default();
    let peers = peers::read(&config.recipients, &mut problems, &mut loaded.warnings);
    let mut domains = Vec::new();
    // Material for paths that all domains may use: whom a domain trusts, its anchors alone say (TA-7).
    let mut intermediates = peers.intermediates;
    for domain in &config.domains {
        let own = own::read(domain, now, &mut problems, &mut loaded.warnings);
        for identity in &own.identities {
            let origin = format!("own certificate of {}", own.name);
            loaded.own.insert(&identity.certificate, &origin);
            for ca in &identity.intermediates {
                if !intermediates.contains(ca) {
                    intermediates.push(ca.clone());
                }
            }
        }
        domains.push(own);
    }
    for mut own in domains {
        own.intermediates.extend(intermediates.iter().cloned());
        let fault = FileFault::DomainTwice {
            domain: own.name.clone(),
        };
        if loaded
            .domains
            .insert(own.name.clone(), Arc::new(own))
            .is_some()
        {
            let path = PathBuf::from("certificates.domains");
            problems.push(FileProblem { path, fault });
        }
    }
    loaded.peers = peers.index;
    if problems.is_empty() {
        Ok(loaded)
    } else {
        Err(problems)
    }
}

/// The certificates of files and folders; what cannot be read becomes a problem.
fn read_all(paths: &[PathBuf], problems: &mut Vec<FileProblem>) -> Vec<(PathBuf, X509)> {
    let mut certificates = Vec::new();
    for path in paths {
        match pem::certificates_under(path) {
            Ok(found) => certificates.extend(found),
            Err((path, error)) => problems.push(FileProblem {
                path,
                fault: error.into(),
            }),
        }
    }
    certificates
}
