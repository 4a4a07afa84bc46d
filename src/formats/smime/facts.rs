//! A certificate as people and scripts are told of it.

use jiff::Timestamp;
use openssl::{
    nid::Nid,
    x509::{X509, X509NameRef, X509Ref},
};
use serde::Serialize;

use super::certificate;
use crate::formats::{document::hex, ids::CertificateFingerprint};

/// What a certificate says about itself. Its words are its issuer's: they are shown and decide nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    /// SHA-256 over its DER form.
    pub sha256: String,
    /// Its subject, most specific part last.
    pub subject: String,
    /// Who issued it, in the same form.
    pub issuer: String,
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// From when on it is valid; `None` if that cannot be read.
    pub not_before: Option<Timestamp>,
    /// Until when it is valid.
    pub not_after: Option<Timestamp>,
    /// The rfc822Names of subjectAltName.
    pub rfc822_names: Vec<String>,
    /// The dNSNames of subjectAltName.
    pub dns_names: Vec<String>,
}

impl CertificateFacts {
    /// Reads them from DER. `None`: it is no certificate.
    pub fn of_der(der: &[u8]) -> Option<Self> {
        let certificate = X509::from_der(der).ok()?;
        let sha256 = CertificateFingerprint::of_der(der).to_string();
        Some(Self::read(&certificate, sha256))
    }

    /// The same of a certificate that was read.
    pub fn of(certificate: &X509Ref) -> Self {
        // One that cannot be written again has no fingerprint.
        let der = certificate.to_der();
        let sha256 = der.map(|der| CertificateFingerprint::of_der(&der).to_string());
        Self::read(certificate, sha256.unwrap_or_default())
    }

    fn read(certificate: &X509Ref, sha256: String) -> Self {
        let serial = certificate.serial_number().to_bn();
        Self {
            sha256,
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            serial: serial
                .map(|serial| hex(&serial.to_vec()))
                .unwrap_or_default(),
            not_before: certificate::timestamp(certificate.not_before()),
            not_after: certificate::timestamp(certificate.not_after()),
            rfc822_names: certificate::email_names(certificate),
            dns_names: certificate::dns_names(certificate),
        }
    }
}

/// A name as `CN=..., O=...`, with short names of attributes where there are any.
fn name(name: &X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let nid = entry.object().nid();
        let attribute = match nid {
            Nid::UNDEF => entry.object().to_string(),
            _ => nid.short_name().unwrap_or("?").to_owned(),
        };
        let value = entry.data().to_string().unwrap_or_else(|_| "?".to_owned());
        format!("{attribute}={value}")
    });
    parts.collect::<Vec<_>>().join(", ")
}
