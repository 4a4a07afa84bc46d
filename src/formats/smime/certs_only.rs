//! Certificates in a CMS that says nothing else, as directories hold them (RFC 5652 §5, "certs-only"; the attribute
//! userSMIMECertificate, RFC 2798 §2.8).

use openssl::pkcs7::Pkcs7;

use super::{
    ber::{self, CmsKind},
    open::OpenError,
};
use crate::formats::limits::Limits;

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
