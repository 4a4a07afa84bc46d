//! Certificate files: the keys, anchors and intermediates of the domains that this bridge serves, and the certificates
//! of peers that were handed over by hand. Local files are asked before any directory (DISC-4).

mod crls;
mod own;
mod peers;
mod settings;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use openssl::x509::X509;

use crate::{
    adapters::pem_files::{self, PemError},
    bridge::{
        own_domain::OwnDomain,
        trust::{self, FetchedMaterial, PathFault, Terms},
    },
    flows::ports::{FindCertificates, Lookup, LookupStep, OwnDomains},
    formats::ids::{DirectAddress, DomainName},
};

use self::crls::{CrlCache, CrlFile};

pub use self::{
    crls::CrlFileFault,
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
        fault: PathFault,
    },
    /// Its time is over: it still opens late mail, and signs no more (KEY-3).
    #[error("the certificate is not valid now: it still opens mail, but signs none (KEY-3)")]
    NotValidNow,
    /// A peer's certificate that nobody can be found by.
    #[error(
        "a certificate has no rfc822Name or dNSName in subjectAltName: it is never used (CERT-2)"
    )]
    NamesNobody,
    /// A file of revocation lists.
    #[error(transparent)]
    Crl(#[from] CrlFileFault),
    /// One of our own certificates is on a list.
    #[error("a certificate of {domain} is revoked: peers refuse what it signs; replace it (REV-6)")]
    OwnRevoked {
        /// The domain.
        domain: DomainName,
    },
    /// The same domain twice.
    #[error("the domain {domain} is configured twice; one entry for each domain is accepted")]
    DomainTwice {
        /// Which.
        domain: DomainName,
    },
}

/// Everything that the files hold at one time.
#[derive(Clone, Default)]
struct Loaded {
    domains: HashMap<DomainName, Arc<OwnDomain>>,
    /// The certificates of our own keys.
    own: Arc<peers::PeerIndex>,
    peers: Arc<peers::PeerIndex>,
    warnings: Arc<Vec<FileProblem>>,
    /// The revocation lists of each domain, with their files.
    crls: HashMap<DomainName, Vec<CrlFile>>,
}

/// What a reading of the files of revocation lists has to tell.
#[derive(Debug, Default)]
pub struct CrlReading {
    /// What is wrong. The lists that were there before stay in force.
    pub problems: Vec<FileProblem>,
    /// Lists of a kind that is not used.
    pub warnings: Vec<FileProblem>,
}

/// A revocation list that is in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrlInUse {
    /// Its file.
    pub path: PathBuf,
    /// Until when it is in date: from then on it is stale.
    pub next_update: Timestamp,
}

/// The certificate files as they were last read.
pub struct CertificateFiles {
    config: CertificatesConfig,
    fetched: Option<Arc<FetchedMaterial>>,
    loaded: RwLock<Arc<Loaded>>,
    /// Held while files are read, so that no reading overtakes another.
    crl_cache: Mutex<CrlCache>,
}

impl CertificateFiles {
    /// Reads every file. All problems are told at once. Nothing is fetched for its domains.
    pub fn load(config: CertificatesConfig, now: Timestamp) -> Result<Self, Vec<FileProblem>> {
        Self::load_with(config, None, now)
    }

    /// The same, with what is fetched from the URLs in certificates.
    pub fn load_with(
        config: CertificatesConfig,
        fetched: Option<Arc<FetchedMaterial>>,
        now: Timestamp,
    ) -> Result<Self, Vec<FileProblem>> {
        let mut cache = CrlCache::default();
        let loaded = read(&config, fetched.as_ref(), &mut cache, now)?;
        Ok(Self {
            config,
            fetched,
            loaded: RwLock::new(Arc::new(loaded)),
            crl_cache: Mutex::new(cache),
        })
    }

    /// Reads every file again. On any problem all stays as it was.
    pub fn reload(&self, now: Timestamp) -> Result<(), Vec<FileProblem>> {
        let mut cache = self.lock_cache();
        let loaded = read(&self.config, self.fetched.as_ref(), &mut cache, now)?;
        self.put(loaded);
        Ok(())
    }

    /// Reads the files of revocation lists that changed. A file that cannot be read, one that is gone, and one that holds
    /// an older list than is in force leave in force what was there: until a newer list of that issuer comes, or all is
    /// reloaded.
    pub fn refresh_crls(&self, now: Timestamp) -> CrlReading {
        let mut cache = self.lock_cache();
        let mut reading = CrlReading::default();
        let problems = &mut reading.problems;
        let mut loaded = Loaded::clone(&self.current());
        let mut is_changed = false;
        for config in &self.config.domains {
            let Some(own) = loaded.domains.get(&config.name) else {
                continue;
            };
            let issuers = issuers_of(own);
            let read = cache.read(&config.crls, &issuers, problems, &mut reading.warnings);
            let before = loaded.crls.entry(config.name.clone()).or_default();
            let files = crls::in_use(read, before, now, problems);
            let is_same = files.len() == before.len()
                && files
                    .iter()
                    .all(|new| before.iter().any(|old| Arc::ptr_eq(&new.crl, &old.crl)));
            if is_same {
                // Time may have passed into a list's own.
                problems.extend(own_revoked(own, now));
                continue;
            }
            is_changed = true;
            // A copy begins without judgements: those were made by the lists before.
            let mut renewed = OwnDomain::clone(own);
            renewed.revocation.crls = files.iter().map(|file| Arc::clone(&file.crl)).collect();
            *before = files;
            problems.extend(own_revoked(&renewed, now));
            loaded
                .domains
                .insert(config.name.clone(), Arc::new(renewed));
        }
        if is_changed {
            self.put(loaded);
        }
        reading
    }

    /// The revocation lists that are in use, each once.
    pub fn crls(&self) -> Vec<CrlInUse> {
        let loaded = self.current();
        let mut crls: Vec<CrlInUse> = loaded
            .crls
            .values()
            .flatten()
            .map(|file| CrlInUse {
                path: file.path.clone(),
                next_update: file.crl.next_update(),
            })
            .collect();
        crls.sort();
        crls.dedup();
        crls
    }

    /// What is fetched for the domains, if anything is.
    pub fn fetched(&self) -> Option<&Arc<FetchedMaterial>> {
        self.fetched.as_ref()
    }

    fn lock_cache(&self) -> std::sync::MutexGuard<'_, CrlCache> {
        self.crl_cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, loaded: Loaded) {
        let mut place = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(loaded);
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
    fn question(&self, owner: &DirectAddress) -> String {
        if self.current().domains.contains_key(owner.domain()) {
            "certificates of our own keys".to_owned()
        } else {
            "certificate files".to_owned()
        }
    }

    async fn find(&self, owner: &DirectAddress) -> Lookup {
        let current = self.current();
        // Mail to a domain that we serve comes back to us (MR-5): we open it with our own keys and no others, whatever
        // anybody publishes.
        let is_own = current.domains.contains_key(owner.domain());
        let index = if is_own { &current.own } else { &current.peers };
        let candidates = index.find(owner);
        let step = LookupStep {
            question: self.question(owner),
            answer: match candidates.len() {
                0 => "no certificate".to_owned(),
                1 => "1 certificate".to_owned(),
                count => format!("{count} certificates"),
            },
            // They are in memory.
            took: Duration::ZERO,
        };
        Lookup {
            candidates,
            steps: vec![step],
            is_transient: false,
            is_last: is_own,
        }
    }
}

fn read(
    config: &CertificatesConfig,
    fetched: Option<&Arc<FetchedMaterial>>,
    cache: &mut CrlCache,
    now: Timestamp,
) -> Result<Loaded, Vec<FileProblem>> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut index = peers::PeerIndex::default();
    let mut loaded = Loaded::default();
    let peers = peers::read(&config.recipients, &mut problems, &mut warnings);
    let mut domains = Vec::new();
    // Material for paths that all domains may use: whom a domain trusts, its anchors alone say (TA-7).
    let mut intermediates = peers.intermediates;
    for domain in &config.domains {
        let own = own::read(domain, now, &mut problems, &mut warnings);
        for identity in &own.identities {
            let origin = format!("own certificate of {}", own.name);
            index.insert(&identity.certificate, &origin);
            for ca in &identity.intermediates {
                if !intermediates.contains(ca) {
                    intermediates.push(ca.clone());
                }
            }
        }
        domains.push(own);
    }
    for (mut own, config) in domains.into_iter().zip(&config.domains) {
        own.intermediates.extend(intermediates.iter().cloned());
        own.fetched = fetched.cloned();
        let issuers = issuers_of(&own);
        let files = cache.read(&config.crls, &issuers, &mut problems, &mut warnings);
        own.revocation.crls = files.iter().map(|file| Arc::clone(&file.crl)).collect();
        warnings.extend(own_revoked(&own, now));
        loaded.crls.insert(own.name.clone(), files);
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
    loaded.own = Arc::new(index);
    loaded.peers = Arc::new(peers.index);
    loaded.warnings = Arc::new(warnings);
    cache.keep_only(|path| {
        let mut files = loaded.crls.values().flatten();
        files.any(|file| file.path == path)
    });
    if problems.is_empty() {
        Ok(loaded)
    } else {
        Err(problems)
    }
}

/// Those whose signature on a revocation list counts for the domain, as far as they are configured.
fn issuers_of(own: &OwnDomain) -> Vec<X509> {
    let from_identities = own.identities.iter().flat_map(|own| &own.intermediates);
    own.anchors
        .certificates()
        .iter()
        .chain(&own.intermediates)
        .chain(from_identities)
        .cloned()
        .collect()
}

/// The domain's own certificates that its revocation lists name (REV-6).
fn own_revoked(own: &OwnDomain, now: Timestamp) -> Vec<FileProblem> {
    let is_revoked = |certificate: &X509, between: &[X509]| {
        let known: Vec<X509> = between.iter().chain(&own.intermediates).cloned().collect();
        // By the lists of the files: what peers fetch, they see for themselves.
        let terms = Terms {
            fetched: None,
            ..own.terms(&known)
        };
        let path = trust::path_to_anchor(certificate, &terms, now);
        matches!(path, Err(PathFault::Revoked { .. }))
    };
    let identities = own.identities.iter();
    identities
        .filter(|identity| is_revoked(&identity.certificate, &identity.intermediates))
        .map(|_| FileProblem {
            path: PathBuf::from("certificates.domains"),
            fault: FileFault::OwnRevoked {
                domain: own.name.clone(),
            },
        })
        .collect()
}

/// The certificates of files and folders; what cannot be read becomes a problem.
fn read_all(paths: &[PathBuf], problems: &mut Vec<FileProblem>) -> Vec<(PathBuf, X509)> {
    let mut certificates = Vec::new();
    for path in paths {
        match pem_files::certificates_under(path) {
            Ok(found) => certificates.extend(found),
            Err((path, error)) => problems.push(FileProblem {
                path,
                fault: error.into(),
            }),
        }
    }
    certificates
}
