//! Which algorithms are made, accepted, or accepted only where a domain's `allow_legacy` names them (smime.md
//! section 2). Decided by algorithm identifiers alone, never by MIME parameters (SM-6).

use openssl::{
    ec::EcKeyRef,
    hash::MessageDigest,
    nid::Nid,
    pkey::{HasPublic, Id, PKeyRef},
    rsa::RsaRef,
    symm::Cipher,
};
use serde::{Deserialize, Serialize};

/// Smallest RSA modulus that is used without `rsa1024` (SM-4, CERT-9), in bits.
const MIN_RSA_BITS: u32 = 2048;
/// Smallest RSA modulus that `rsa1024` allows, in bits.
const MIN_LEGACY_RSA_BITS: u32 = 1024;
/// Largest RSA modulus that is worked with (LIM-16), in bits.
const MAX_RSA_BITS: u32 = 8192;
/// Largest RSA public exponent that is worked with (T-13f), in bits.
const MAX_RSA_EXPONENT_BITS: i32 = 32;

/// A weak algorithm that a domain may allow by name in `allow_legacy`, for receipt only (SM-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Legacy {
    /// SHA-1 signatures are verified.
    #[serde(rename = "sha1")]
    Sha1,
    /// 3DES-CBC content is decrypted.
    #[serde(rename = "3des")]
    TripleDes,
    /// RSA keys of 1024 to 2047 bits verify and decrypt.
    #[serde(rename = "rsa1024")]
    Rsa1024,
    /// Ed25519 signatures are verified.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDH key agreement with the SHA-1 KDF is decrypted.
    #[serde(rename = "sha1kdf")]
    Sha1Kdf,
}

/// The digest of a signature that we make. Default SHA-256 (SM-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// SHA-256, which every Direct peer reads.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// The value of the `micalg` parameter (SM-13).
    pub fn micalg(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    pub(super) fn message_digest(self) -> MessageDigest {
        match self {
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }
}

/// The content cipher of a message that we make: AES only. Default AES-256-CBC; GCM is sent only to peers that are
/// known to take it (SM-2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentCipher {
    /// AES-128-CBC.
    Aes128Cbc,
    /// AES-256-CBC.
    #[default]
    Aes256Cbc,
    /// AES-128-GCM, as CMS AuthEnvelopedData (RFC 5083).
    Aes128Gcm,
    /// AES-256-GCM, as CMS AuthEnvelopedData (RFC 5083).
    Aes256Gcm,
}

impl ContentCipher {
    /// The value of the `smime-type` parameter (SM-30, SM-31).
    pub fn smime_type(self) -> &'static str {
        if self.is_authenticated() {
            "authEnveloped-data"
        } else {
            "enveloped-data"
        }
    }

    /// Whether the cipher protects integrity by itself.
    pub fn is_authenticated(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm)
    }

    pub(super) fn cipher(self) -> Cipher {
        match self {
            Self::Aes128Cbc => Cipher::aes_128_cbc(),
            Self::Aes256Cbc => Cipher::aes_256_cbc(),
            Self::Aes128Gcm => Cipher::aes_128_gcm(),
            Self::Aes256Gcm => Cipher::aes_256_gcm(),
        }
    }
}

/// What a public key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// We encrypt to it, or sign with its private half.
    Make,
    /// It verifies, or its private half decrypts, what a peer made.
    Receive,
}

/// Why a key is not used. The texts say what would be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// RSA below the floor.
    #[error("RSA with {bits} bits is too short; 2048 to 8192 bits are accepted")]
    RsaTooShort {
        /// What it has.
        bits: u32,
    },
    /// RSA over the ceiling: work that a hostile key would cost.
    #[error("RSA with {bits} bits is too long; 2048 to 8192 bits are accepted")]
    RsaTooLong {
        /// What it has.
        bits: u32,
    },
    /// An RSA exponent that is even, or far too large.
    #[error("the RSA exponent is even or too large; an odd one below 2^32 is accepted")]
    RsaExponent,
    /// Another curve than P-256 and P-384, or one given by its parameters.
    #[error("the elliptic curve is not accepted; P-256 and P-384 are")]
    Curve,
    /// Another kind of key.
    #[error("the kind of key is not accepted; RSA and elliptic-curve keys are")]
    Kind,
}

/// Checks the kind and strength of a key (CERT-9, SM-4). `allow_legacy` counts on receipt only.
pub fn check_key<T: HasPublic>(
    key: &PKeyRef<T>,
    key_use: KeyUse,
    allow_legacy: &[Legacy],
) -> Result<(), KeyFault> {
    let allows = |legacy| key_use == KeyUse::Receive && allow_legacy.contains(&legacy);
    match key.id() {
        Id::RSA | Id::RSA_PSS => {
            let floor = if allows(Legacy::Rsa1024) {
                MIN_LEGACY_RSA_BITS
            } else {
                MIN_RSA_BITS
            };
            check_rsa_bits(key.bits(), floor)?;
            key.rsa()
                .map_or(Ok(()), |rsa| check_rsa_exponent(rsa.as_ref()))
        }
        Id::EC => {
            let key = key.ec_key().map_err(|_| KeyFault::Curve)?;
            check_curve(key.as_ref())
        }
        Id::ED25519 if allows(Legacy::Ed25519) => Ok(()),
        _ => Err(KeyFault::Kind),
    }
}

fn check_rsa_bits(bits: u32, floor: u32) -> Result<(), KeyFault> {
    if bits < floor {
        Err(KeyFault::RsaTooShort { bits })
    } else if bits > MAX_RSA_BITS {
        Err(KeyFault::RsaTooLong { bits })
    } else {
        Ok(())
    }
}

fn check_rsa_exponent<T: HasPublic>(rsa: &RsaRef<T>) -> Result<(), KeyFault> {
    let exponent = rsa.e();
    if exponent.is_bit_set(0) && exponent.num_bits() <= MAX_RSA_EXPONENT_BITS {
        Ok(())
    } else {
        Err(KeyFault::RsaExponent)
    }
}

fn check_curve<T: HasPublic>(key: &EcKeyRef<T>) -> Result<(), KeyFault> {
    match key.group().curve_name() {
        Some(Nid::X9_62_PRIME256V1 | Nid::SECP384R1) => Ok(()),
        _ => Err(KeyFault::Curve),
    }
}

/// Whether the signature on a certificate is strong enough (CERT-10).
pub fn is_strong_certificate_signature(algorithm: Nid, allow_legacy: &[Legacy]) -> bool {
    match algorithm {
        Nid::SHA256WITHRSAENCRYPTION
        | Nid::SHA384WITHRSAENCRYPTION
        | Nid::SHA512WITHRSAENCRYPTION
        | Nid::RSASSAPSS
        | Nid::ECDSA_WITH_SHA256
        | Nid::ECDSA_WITH_SHA384
        | Nid::ECDSA_WITH_SHA512 => true,
        Nid::SHA1WITHRSAENCRYPTION | Nid::ECDSA_WITH_SHA1 => allow_legacy.contains(&Legacy::Sha1),
        algorithm => {
            algorithm.as_raw() == openssl_sys::NID_ED25519
                && allow_legacy.contains(&Legacy::Ed25519)
        }
    }
}

/// Whether a received signature's algorithms are accepted and fit each other (SM-23): `None` for no, else the weak
/// algorithms that were used with leave.
pub(super) fn check_signature(
    digest: Nid,
    signature: Nid,
    allow_legacy: &[Legacy],
) -> Option<Vec<Legacy>> {
    if signature.as_raw() == openssl_sys::NID_ED25519 {
        let is_fitting = digest == Nid::SHA512 && allow_legacy.contains(&Legacy::Ed25519);
        return is_fitting.then(|| vec![Legacy::Ed25519]);
    }
    // The plain key algorithms name no digest of their own (RFC 5754 §3.2).
    let is_fitting = match signature {
        Nid::RSAENCRYPTION | Nid::RSASSAPSS => true,
        signature => signature
            .signature_algorithms()
            .is_some_and(|parts| parts.digest == digest && is_accepted_key(parts.pkey)),
    };
    match digest {
        Nid::SHA256 | Nid::SHA384 | Nid::SHA512 if is_fitting => Some(Vec::new()),
        Nid::SHA1 if is_fitting && allow_legacy.contains(&Legacy::Sha1) => Some(vec![Legacy::Sha1]),
        _ => None,
    }
}

fn is_accepted_key(key: Nid) -> bool {
    matches!(key, Nid::RSAENCRYPTION | Nid::X9_62_ID_ECPUBLICKEY)
}

/// ECDH with a KDF over SHA-256, SHA-384 or SHA-512 (RFC 5753 §7.1.4).
pub(super) fn is_strong_agreement(algorithm: Nid) -> bool {
    const NAMES: [&str; 3] = [
        "dhSinglePass-stdDH-sha256kdf-scheme",
        "dhSinglePass-stdDH-sha384kdf-scheme",
        "dhSinglePass-stdDH-sha512kdf-scheme",
    ];
    algorithm
        .short_name()
        .is_ok_and(|name| NAMES.contains(&name))
}

/// ECDH with a KDF over SHA-1, OpenSSL's default when it is told nothing (SM-75).
pub(super) fn is_sha1_agreement(algorithm: Nid) -> bool {
    algorithm
        .short_name()
        .is_ok_and(|name| name == "dhSinglePass-stdDH-sha1kdf-scheme")
}

#[cfg(test)]
mod tests {
    use openssl::{ec::EcGroup, ec::EcKey, pkey::PKey, rsa::Rsa};

    use super::*;

    // rule: SM-4, SM-6, CERT-9
    #[test]
    fn short_rsa_keys_serve_only_on_receipt_and_only_where_a_domain_names_them() {
        let key = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
        let short = Err(KeyFault::RsaTooShort { bits: 1024 });
        let legacy = [Legacy::Rsa1024];
        assert_eq!(check_key(&key, KeyUse::Receive, &[]), short);
        assert_eq!(check_key(&key, KeyUse::Make, &legacy), short);
        assert_eq!(check_key(&key, KeyUse::Receive, &legacy), Ok(()));
    }

    // rule: T-13f
    #[test]
    fn only_the_named_curves_of_the_profile_are_worked_with() {
        let key = |curve| {
            let group = EcGroup::from_curve_name(curve).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        let check = |curve| check_key(&key(curve), KeyUse::Make, &[]);
        assert_eq!(check(Nid::X9_62_PRIME256V1), Ok(()));
        assert_eq!(check(Nid::SECP384R1), Ok(()));
        assert_eq!(check(Nid::SECP224R1), Err(KeyFault::Curve));
    }

    // rule: SM-6
    #[test]
    fn legacy_names_are_those_of_the_rule() {
        for (legacy, name) in [
            (Legacy::Sha1, "sha1"),
            (Legacy::TripleDes, "3des"),
            (Legacy::Rsa1024, "rsa1024"),
            (Legacy::Ed25519, "ed25519"),
            (Legacy::Sha1Kdf, "sha1kdf"),
        ] {
            assert_eq!(
                serde_json::to_string(&legacy).unwrap(),
                format!("\"{name}\"")
            );
        }
    }
}
