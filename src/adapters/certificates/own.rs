//! The served domains: keys are checked when they are read, not when a message waits for them (KEY-2).

use jiff::Timestamp;
use openssl::x509::{X509, X509Ref};

use super::{DomainConfig, FileFault, FileProblem, IdentityConfig, read_all};
use crate::{
    adapters::pem_files,
    bridge::{
        own_domain::OwnDomain,
        trust::{self, RecentJudgements, Revocation, Terms, TrustAnchors},
    },
    formats::{
        ids::{DirectAddress, DomainName},
        smime::{
            SigningIdentity,
            certificate::{self, Validity},
            policy::{KeyUse, check_key},
        },
    },
};

/// Reads one domain. What is wrong goes into `problems`; what is odd into `warnings`.
pub(super) fn read(
    config: &DomainConfig,
    now: Timestamp,
    problems: &mut Vec<FileProblem>,
    warnings: &mut Vec<FileProblem>,
) -> OwnDomain {
    let anchors = read_all(&config.anchors, problems);
    let intermediates = read_all(&config.intermediates, problems);
    let mut domain = OwnDomain {
        name: config.name.clone(),
        identities: Vec::new(),
        anchors: TrustAnchors::new(anchors.into_iter().map(|(_, anchor)| anchor)),
        intermediates: intermediates.into_iter().map(|(_, ca)| ca).collect(),
        allow_legacy: config.allow_legacy.clone(),
        // The lists come when it is known whose signatures on them count.
        revocation: Revocation {
            crls: Vec::new(),
            when_unknown: config.revocation,
        },
        demands: config.demands.clone(),
        // Given when all is read.
        fetched: None,
        judged: RecentJudgements::default(),
    };
    for identity in &config.identities {
        match read_identity(identity, &domain, now, warnings) {
            Ok(identity) => domain.identities.push(identity),
            Err(problem) => problems.push(problem),
        }
    }
    domain
}

fn read_identity(
    config: &IdentityConfig,
    domain: &OwnDomain,
    now: Timestamp,
    warnings: &mut Vec<FileProblem>,
) -> Result<SigningIdentity, FileProblem> {
    let at_certificate = |fault: FileFault| FileProblem {
        path: config.certificate.clone(),
        fault,
    };
    let at_key = |fault: FileFault| FileProblem {
        path: config.key.clone(),
        fault,
    };
    let mut chain = pem_files::certificates(&config.certificate)
        .map_err(|error| at_certificate(error.into()))?;
    let key = pem_files::private_key(&config.key, config.passphrase_file.as_deref())
        .map_err(|error| at_key(error.into()))?;
    // `certificates` never gives an empty list.
    let certificate = chain.remove(0);
    if !certificate
        .public_key()
        .is_ok_and(|public| public.public_eq(&key))
    {
        return Err(at_key(FileFault::KeyMismatch {
            certificate: config.certificate.clone(),
        }));
    }
    check_use(&certificate, &domain.name).map_err(at_certificate)?;
    if certificate::validity(&certificate, now) != Validity::Valid {
        warnings.push(at_certificate(FileFault::NotValidNow));
        return Ok(SigningIdentity {
            certificate,
            key,
            intermediates: chain,
        });
    }
    let known: Vec<X509> = chain.iter().chain(&domain.intermediates).cloned().collect();
    // A certificate of our own that is revoked is told, and still opens mail (REV-6).
    let terms = Terms {
        revocation: None,
        demands: None,
        ..domain.terms(&known)
    };
    let path = trust::path_to_anchor(&certificate, &terms, now).map_err(|fault| {
        at_certificate(FileFault::NoPath {
            domain: domain.name.clone(),
            fault,
        })
    })?;
    // All between the certificate and the anchor goes along with each signature (SM-16).
    let below_anchor = path.len().saturating_sub(1);
    Ok(SigningIdentity {
        certificate,
        key,
        intermediates: path.into_iter().take(below_anchor).skip(1).collect(),
    })
}

fn check_use(certificate: &X509Ref, domain: &DomainName) -> Result<(), FileFault> {
    let unusable = |what: &str| Err(FileFault::Unusable(what.to_owned()));
    if certificate::is_ca(certificate) {
        return unusable("it is a CA's");
    }
    if !names(certificate, domain) {
        return Err(FileFault::NotBound {
            domain: domain.clone(),
        });
    }
    let is_usable = certificate::key_usable_for_signing(certificate)
        || certificate::key_usable_for_encryption(certificate);
    if !is_usable {
        return unusable("keyUsage or extKeyUsage does not allow mail");
    }
    let key = certificate
        .public_key()
        .map_err(|_| FileFault::Unusable("its key cannot be read".to_owned()))?;
    check_key(&key, KeyUse::Make, &[]).map_err(|fault| FileFault::Unusable(fault.to_string()))
}

/// Whether the certificate is bound to the domain, or to an address in it.
fn names(certificate: &X509Ref, domain: &DomainName) -> bool {
    let is_domain = |name: &String| name.parse::<DomainName>().as_ref() == Ok(domain);
    let is_address = |name: &String| {
        name.parse::<DirectAddress>()
            .is_ok_and(|a| a.domain() == domain)
    };
    certificate::dns_names(certificate).iter().any(is_domain)
        || certificate::email_names(certificate).iter().any(is_address)
}
