//! Collections of certificates as CAs and bundles publish them: one certificate in DER form, a certs-only PKCS#7
//! SignedData (RFC 5652 §5, RFC 8551 §3.8; in directories the attribute userSMIMECertificate, RFC 2798 §2.8), or either as PEM
//! (RFC 5280 §4.2.2.1; TA-8).

use openssl::{pkcs7::Pkcs7, x509::X509};

use super::{
    ber::{self, CmsKind},
    open::OpenError,
};
use crate::formats::limits::Limits;

/// Why there are no certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesFault {
    /// Something else.
    #[error(
        "no certificate in it; one in DER form, a certs-only PKCS#7, or PEM of either is accepted (TA-8)"
    )]
    None,
    /// More than are read.
    #[error("more than {max} certificates in it")]
    TooMany {
        /// The most that are read.
        max: usize,
    },
}

/// The certificates of `octets`, `max` at the most, each once. None of them is believed for having been there.
pub fn certificates(octets: &[u8], max: usize) -> Result<Vec<X509>, CertificatesFault> {
    let found = if octets.starts_with(b"-----BEGIN") {
        from_pem(octets)
    } else {
        from_der(octets)
    };
    let mut certificates: Vec<X509> = Vec::new();
    for certificate in found.unwrap_or_default() {
        if !certificates.contains(&certificate) {
            certificates.push(certificate);
        }
        if certificates.len() > max {
            return Err(CertificatesFault::TooMany { max });
        }
    }
    if certificates.is_empty() {
        return Err(CertificatesFault::None);
    }
    Ok(certificates)
}

fn from_der(octets: &[u8]) -> Option<Vec<X509>> {
    match X509::from_der(octets) {
        Ok(certificate) => Some(vec![certificate]),
        Err(_) => of_cms(octets),
    }
}

fn from_pem(octets: &[u8]) -> Option<Vec<X509>> {
    match X509::stack_from_pem(octets) {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        _ => of_cms(&Pkcs7::from_pem(octets).ok()?.to_der().ok()?),
    }
}

fn of_cms(cms: &[u8]) -> Option<Vec<X509>> {
    let ders = certificates_in(cms, &Limits::default()).ok()?;
    ders.iter().map(|der| X509::from_der(der).ok()).collect()
}

/// The certificates of a SignedData, in DER form. Who signed it, if anybody did, is not asked: they are data.
///
/// # Errors
/// It is no SignedData, or has more than `limits` allow.
pub fn certificates_in(cms: &[u8], limits: &Limits) -> Result<Vec<Vec<u8>>, OpenError> {
    let survey = ber::survey(cms, limits)?;
    if survey.kind != CmsKind::Signed {
        return Err(OpenError::ContentType);
    }
    let unreadable = |_| ber::malformed("no readable SignedData");
    let signed = Pkcs7::from_der(cms).map_err(unreadable)?;
    let certificates = signed.signed().and_then(|signed| signed.certificates());
    let certificates = certificates.into_iter().flatten();
    certificates
        .map(|certificate| certificate.to_der().map_err(unreadable))
        .collect()
}
