//! What a domain demands of certificates of its peers beyond the rules that all follow (CERT-14, CERT-16): a community's
//! policies, longer keys, fewer algorithms.

use openssl::{
    nid::Nid,
    pkey::Id,
    x509::{X509, X509Ref},
};
use serde::{Deserialize, Serialize};

use crate::formats::{
    ids::Oid,
    smime::{Digest, extensions},
};

/// The demands of a domain: `[certificates.domains.demands]`. Left out, nothing is demanded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demands {
    /// Certificate policies of which a certificate must assert one at least, such as `["1.3.6.1.4.1.41179.1.3"]`. What the
    /// CAs above it assert is not asked. Default none.
    pub policies: Vec<Oid>,
    /// Extended key usages that a certificate must name, all of them, such as `["1.3.6.1.5.5.7.3.4"]`: one without the
    /// extension has none. Default none.
    pub ext_key_usages: Vec<Oid>,
    /// Kinds of key of which a certificate must have one: `"rsa"`, `"p256"`, `"p384"`. Default none: each kind that is
    /// accepted.
    pub keys: Vec<KeyKind>,
    /// Smallest RSA modulus in bits, such as 3072; 0 leaves it at what all certificates need. It holds for the CAs on the
    /// path as well, but not for the anchor. Default 0.
    pub min_rsa_bits: u32,
    /// Digests of which the signature on a certificate, and on those of the CAs on the path, must use one: `"sha256"`,
    /// `"sha384"`, `"sha512"`. The signature on the anchor is not asked. Default none: each that is accepted.
    pub digests: Vec<Digest>,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// Elliptic curve P-256.
    P256,
    /// Elliptic curve P-384.
    P384,
}

/// Which demand a certificate does not meet, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// No policy of those demanded.
    #[error("asserts none of the certificate policies that are demanded: {} (CERT-14)", list(.0))]
    Policies(Vec<Oid>),
    /// An extended key usage is lacking.
    #[error("extKeyUsage does not name {}, which is demanded (CERT-16)", .0.as_str())]
    ExtKeyUsage(Oid),
    /// Another kind of key.
    #[error("its kind of key is none of those demanded: {} (CERT-16)", kinds(.0))]
    Key(Vec<KeyKind>),
    /// A short RSA key.
    #[error("{}RSA with {bits} bits is shorter than the {min_bits} bits that are demanded (CERT-16)", of(*.depth))]
    RsaBits {
        /// How many certificates of the path are below it: 0 is the certificate itself.
        depth: usize,
        /// What it has.
        bits: u32,
        /// What is demanded.
        min_bits: u32,
    },
    /// Another digest.
    #[error("{}the signature on it uses none of the digests that are demanded: {} (CERT-16)", of(*.depth), digests(.demanded))]
    Digest {
        /// How many certificates of the path are below it.
        depth: usize,
        /// What is demanded.
        demanded: Vec<Digest>,
    },
}

impl Demands {
    /// What a trusted certificate does not meet, the first thing in the order of the settings. `path`: from it to the
    /// anchor, both included.
    pub(super) fn unmet(&self, path: &[X509]) -> Option<Unmet> {
        let certificate = path.first()?;
        self.unmet_by_itself(certificate)
            .or_else(|| self.unmet_on(path))
    }

    fn unmet_by_itself(&self, certificate: &X509Ref) -> Option<Unmet> {
        if !self.policies.is_empty() {
            let asserted = extensions::policies(certificate);
            let is_met = |policy: &Oid| asserted.iter().any(|one| one == policy.as_str());
            if !self.policies.iter().any(is_met) {
                return Some(Unmet::Policies(self.policies.clone()));
            }
        }
        if !self.ext_key_usages.is_empty() {
            let named = extensions::extended_key_usages(certificate);
            let is_lacking = |usage: &&Oid| named.iter().all(|one| one != usage.as_str());
            if let Some(usage) = self.ext_key_usages.iter().find(is_lacking) {
                return Some(Unmet::ExtKeyUsage(usage.clone()));
            }
        }
        if !self.keys.is_empty()
            && !self
                .keys
                .iter()
                .any(|kind| Some(*kind) == kind_of(certificate))
        {
            return Some(Unmet::Key(self.keys.clone()));
        }
        None
    }

    fn unmet_on(&self, path: &[X509]) -> Option<Unmet> {
        // An anchor is trusted for itself (TA-5); where it is the certificate, its key is all the same what counts.
        let above = path.len().saturating_sub(1);
        let asked = path.iter().enumerate().take(above.max(1));
        for (depth, certificate) in asked {
            let bits = rsa_bits(certificate).unwrap_or(u32::MAX);
            if bits < self.min_rsa_bits {
                let min_bits = self.min_rsa_bits;
                return Some(Unmet::RsaBits {
                    depth,
                    bits,
                    min_bits,
                });
            }
            let uses = |digest: &Digest| digest_of(certificate) == Some(*digest);
            if !self.digests.is_empty() && depth < above && !self.digests.iter().any(uses) {
                let demanded = self.digests.clone();
                return Some(Unmet::Digest { depth, demanded });
            }
        }
        None
    }
}

fn rsa_bits(certificate: &X509Ref) -> Option<u32> {
    let key = certificate.public_key().ok()?;
    matches!(key.id(), Id::RSA | Id::RSA_PSS).then(|| key.bits())
}

fn kind_of(certificate: &X509Ref) -> Option<KeyKind> {
    let key = certificate.public_key().ok()?;
    if matches!(key.id(), Id::RSA | Id::RSA_PSS) {
        return Some(KeyKind::Rsa);
    }
    match key.ec_key().ok()?.group().curve_name()? {
        Nid::X9_62_PRIME256V1 => Some(KeyKind::P256),
        Nid::SECP384R1 => Some(KeyKind::P384),
        _ => None,
    }
}

/// The digest of the signature on a certificate. RSASSA-PSS names its own in parameters that are not read: it meets no
/// demand.
fn digest_of(certificate: &X509Ref) -> Option<Digest> {
    let algorithm = certificate.signature_algorithm().object().nid();
    match algorithm.signature_algorithms()?.digest {
        Nid::SHA256 => Some(Digest::Sha256),
        Nid::SHA384 => Some(Digest::Sha384),
        Nid::SHA512 => Some(Digest::Sha512),
        _ => None,
    }
}

fn of(depth: usize) -> &'static str {
    match depth {
        0 => "",
        _ => "of a CA's certificate on the path: ",
    }
}

fn list(oids: &[Oid]) -> String {
    let oids: Vec<&str> = oids.iter().map(Oid::as_str).collect();
    oids.join(", ")
}

fn kinds(kinds: &[KeyKind]) -> String {
    let words = kinds.iter().map(|kind| match kind {
        KeyKind::Rsa => "rsa",
        KeyKind::P256 => "p256",
        KeyKind::P384 => "p384",
    });
    words.collect::<Vec<_>>().join(", ")
}

fn digests(digests: &[Digest]) -> String {
    let words = digests.iter().map(|digest| match digest {
        Digest::Sha256 => "sha256",
        Digest::Sha384 => "sha384",
        Digest::Sha512 => "sha512",
    });
    words.collect::<Vec<_>>().join(", ")
}
