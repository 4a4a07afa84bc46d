//! What a certificate says about itself: whom it names, what its key is for, when it is valid (certificates.md
//! section 1). Reading only; what follows from it is [`crate::bridge::trust`]'s question.

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    nid::Nid,
    pkey::Id,
    x509::{X509ExtendedKeyUsage, X509KeyUsage, X509Ref},
};

use super::ffi;

/// How far a certificate's start may lie ahead of our clock (CERT-11), in seconds.
const START_TOLERANCE_SECONDS: i64 = 5 * 60;

/// Where a time stands to a certificate's validity (CERT-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Within.
    Valid,
    /// Before its start, with 5 minutes of tolerance.
    NotYet,
    /// After its end.
    Expired,
}

/// Whether `now` lies within the certificate's validity.
pub fn validity(certificate: &X509Ref, now: Timestamp) -> Validity {
    let is_before =
        |seconds: i64, time: &Asn1TimeRef| Asn1Time::from_unix(seconds).is_ok_and(|at| at < *time);
    let seconds = now.as_second();
    if is_before(seconds + START_TOLERANCE_SECONDS, certificate.not_before()) {
        Validity::NotYet
    } else if Asn1Time::from_unix(seconds).is_ok_and(|at| at <= *certificate.not_after()) {
        Validity::Valid
    } else {
        Validity::Expired
    }
}

/// A certificate's time as a timestamp; `None` for a time that cannot be read.
pub fn timestamp(time: &Asn1TimeRef) -> Option<Timestamp> {
    let epoch = Asn1Time::from_unix(0).ok()?;
    let since = epoch.diff(time).ok()?;
    Timestamp::from_second(i64::from(since.days) * 86_400 + i64::from(since.secs)).ok()
}

/// Whether basicConstraints says that this is a CA (CERT-6). Older marks of a CA do not count.
pub fn is_ca(certificate: &X509Ref) -> bool {
    ffi::is_ca(certificate)
}

/// Whether the key may encrypt to its owner: keyUsage keyEncipherment (EC: keyAgreement) or absent, and an extended
/// key usage for e-mail or absent (CERT-7, CERT-8).
pub fn key_usable_for_encryption(certificate: &X509Ref) -> bool {
    let is_ec = certificate.public_key().is_ok_and(|key| key.id() == Id::EC);
    let wanted = if is_ec {
        X509KeyUsage::KEY_AGREEMENT
    } else {
        X509KeyUsage::KEY_ENCIPHERMENT
    };
    has_usage(certificate, wanted) && is_for_email(certificate)
}

/// Whether the key may sign mail: keyUsage digitalSignature or nonRepudiation or absent, and an extended key usage
/// for e-mail or absent (CERT-7, CERT-8).
pub fn key_usable_for_signing(certificate: &X509Ref) -> bool {
    let wanted = X509KeyUsage::DIGITAL_SIGNATURE | X509KeyUsage::NON_REPUDIATION;
    has_usage(certificate, wanted) && is_for_email(certificate)
}

fn has_usage(certificate: &X509Ref, any_of: X509KeyUsage) -> bool {
    certificate
        .key_usage()
        .is_none_or(|usage| usage.intersects(any_of))
}

fn is_for_email(certificate: &X509Ref) -> bool {
    // anyExtendedKeyUsage, RFC 5280 §4.2.1.12; the crate has no name for it in every version.
    let any = X509ExtendedKeyUsage::from_bits_retain(openssl_sys::XKU_ANYEKU);
    certificate
        .extended_key_usage()
        .is_none_or(|usage| usage.intersects(X509ExtendedKeyUsage::SMIME | any))
}

/// The rfc822Names of subjectAltName, as they are written.
pub fn email_names(certificate: &X509Ref) -> Vec<String> {
    let names = certificate.subject_alt_names();
    let emails = names.iter().flatten().filter_map(|name| name.email());
    emails.map(str::to_owned).collect()
}

/// The dNSNames of subjectAltName, as they are written.
pub fn dns_names(certificate: &X509Ref) -> Vec<String> {
    let names = certificate.subject_alt_names();
    let dns = names.iter().flatten().filter_map(|name| name.dnsname());
    dns.map(str::to_owned).collect()
}

/// The emailAddress attributes of the subject (CERT-5). `None` stands for one that is no readable text.
pub fn subject_emails(certificate: &X509Ref) -> Vec<Option<String>> {
    certificate
        .subject_name()
        .entries_by_nid(Nid::PKCS9_EMAILADDRESS)
        .map(|entry| entry.data().to_string().ok())
        .collect()
}

/// Most URLs of one kind that are read from a certificate.
const MAX_URLS: usize = 3;

/// Where the certificate says that its issuer's is: AIA caIssuers (RFC 5280 §4.2.2.1), as they are written.
pub fn issuer_urls(certificate: &X509Ref) -> Vec<String> {
    access_urls(certificate, Nid::AD_CA_ISSUERS)
}

/// The OCSP responders that it names: AIA id-ad-ocsp.
pub fn ocsp_urls(certificate: &X509Ref) -> Vec<String> {
    access_urls(certificate, Nid::AD_OCSP)
}

fn access_urls(certificate: &X509Ref, method: Nid) -> Vec<String> {
    let access = certificate.authority_info();
    access
        .iter()
        .flatten()
        .filter(|one| one.method().nid() == method)
        .filter_map(|one| one.location().uri())
        .take(MAX_URLS)
        .map(str::to_owned)
        .collect()
}

/// Where it says that its issuer's revocation list is: cRLDistributionPoints (RFC 5280 §4.2.1.13), as they are written.
pub fn crl_urls(certificate: &X509Ref) -> Vec<String> {
    let points = certificate.crl_distribution_points();
    points
        .iter()
        .flatten()
        .filter_map(|point| point.distpoint()?.fullname())
        .flatten()
        .filter_map(|name| name.uri())
        .take(MAX_URLS)
        .map(str::to_owned)
        .collect()
}
