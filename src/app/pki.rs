//! A private CA made on the spot, for `init`, `demo` and tests: keys and certificates of the shapes that Direct uses
//! (certificates.md section 1). Not for production: its keys are nowhere but here.

use std::net::IpAddr;

use jiff::Timestamp;
use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509Extension, X509Name, X509NameBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
            SubjectAlternativeName, SubjectKeyIdentifier,
        },
    },
};

use crate::formats::{
    ids::{DirectAddress, DomainName},
    smime::SigningIdentity,
};

/// A day in seconds.
const DAY: i64 = 86_400;

/// What kind of key is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with this many bits.
    Rsa(u32),
    /// Elliptic curve P-256.
    P256,
    /// Elliptic curve P-384.
    P384,
    /// Another named curve.
    Curve(Nid),
}

impl KeyKind {
    /// Makes a key.
    pub fn generate(self) -> Result<PKey<Private>, ErrorStack> {
        let curve = match self {
            Self::Rsa(bits) => return PKey::from_rsa(Rsa::generate(bits)?),
            Self::P256 => Nid::X9_62_PRIME256V1,
            Self::P384 => Nid::SECP384R1,
            Self::Curve(curve) => curve,
        };
        let group = EcGroup::from_curve_name(curve)?;
        PKey::from_ec_key(EcKey::generate(&group)?)
    }

    fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa(_))
    }
}

/// What a certificate's key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// Direct mail, signing and encrypting.
    Mail,
    /// Direct mail, signing only.
    MailSigning,
    /// Direct mail, encrypting only.
    MailEncryption,
    /// TLS, as server and as client.
    Tls,
}

/// A name in subjectAltName.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// rfc822Name, as it is written.
    Email(String),
    /// dNSName, as it is written.
    Dns(String),
    /// iPAddress.
    Ip(IpAddr),
}

/// What a certificate is to say. Change what a test wants otherwise.
pub struct Profile {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's emailAddress attribute.
    pub subject_email: Option<String>,
    /// subjectAltName.
    pub names: Vec<Name>,
    /// What kind of key is made.
    pub key: KeyKind,
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
    /// Digest of the issuer's signature.
    pub digest: MessageDigest,
    /// The serial number; `None` draws one.
    pub serial: Option<u32>,
    /// Whether a subjectKeyIdentifier computed from the key is put in.
    pub with_key_id: bool,
    /// Further extensions.
    pub extensions: Vec<X509Extension>,
}

impl Profile {
    /// An address-bound certificate for Direct mail, valid for a year around `now`.
    pub fn address(address: &DirectAddress, now: Timestamp) -> Self {
        Self::named(address.to_string(), Name::Email(address.to_string()), now)
    }

    /// A domain-bound certificate for Direct mail, valid for a year around `now`.
    pub fn domain(domain: &DomainName, now: Timestamp) -> Self {
        Self::named(domain.to_string(), Name::Dns(domain.to_string()), now)
    }

    /// A TLS certificate for `host`, which may be reached over loopback too, valid for a year around `now`.
    pub fn tls(host: &str, now: Timestamp) -> Self {
        let mut profile = Self::named(host.to_owned(), Name::Dns(host.to_owned()), now);
        let loopback = [
            [127, 0, 0, 1].into(),
            IpAddr::V6([0, 0, 0, 0, 0, 0, 0, 1].into()),
        ];
        profile.names.extend(loopback.map(Name::Ip));
        profile.purpose = KeyPurpose::Tls;
        profile.key = KeyKind::P256;
        profile
    }

    fn named(common_name: String, name: Name, now: Timestamp) -> Self {
        Self {
            common_name,
            subject_email: None,
            names: vec![name],
            key: KeyKind::Rsa(2048),
            purpose: KeyPurpose::Mail,
            not_before: days(now, -1),
            not_after: days(now, 365),
            digest: MessageDigest::sha256(),
            serial: None,
            with_key_id: true,
            extensions: Vec::new(),
        }
    }
}

/// `now` moved by whole days.
pub fn days(now: Timestamp, days: i64) -> Timestamp {
    Timestamp::from_second(now.as_second() + days * DAY).unwrap_or(now)
}

/// A CA that issues.
#[derive(Clone)]
pub struct Authority {
    /// Its certificate.
    pub certificate: X509,
    /// Its key.
    pub key: PKey<Private>,
    /// Its own certificate and those above it, without the root.
    below_root: Vec<X509>,
}

impl Authority {
    /// A root that vouches for itself, valid for ten years around `now`.
    pub fn root(name: &str, now: Timestamp) -> Result<Self, ErrorStack> {
        Self::root_with(name, now, KeyKind::P256)
    }

    /// A root with a key of this kind.
    pub fn root_with(name: &str, now: Timestamp, key: KeyKind) -> Result<Self, ErrorStack> {
        let key = key.generate()?;
        let certificate = ca_certificate(name, &key, None, &[], now)?;
        Ok(Self {
            certificate,
            key,
            below_root: Vec::new(),
        })
    }

    /// A CA below this one. `extensions` may say more about it, such as name constraints.
    pub fn intermediate(
        &self,
        name: &str,
        now: Timestamp,
        extensions: &[X509Extension],
    ) -> Result<Self, ErrorStack> {
        let key = KeyKind::P256.generate()?;
        let certificate = ca_certificate(name, &key, Some(self), extensions, now)?;
        let mut below_root = vec![certificate.clone()];
        below_root.extend(self.below_root.iter().cloned());
        Ok(Self {
            certificate,
            key,
            below_root,
        })
    }

    /// An end entity's certificate with its key. Its intermediates lead up to, and without, the root.
    pub fn issue(&self, profile: &Profile) -> Result<SigningIdentity, ErrorStack> {
        self.issue_for(profile, profile.key.generate()?)
    }

    /// The same for a key that is there already, of the profile's kind.
    pub fn issue_for(
        &self,
        profile: &Profile,
        key: PKey<Private>,
    ) -> Result<SigningIdentity, ErrorStack> {
        Ok(SigningIdentity {
            certificate: end_certificate(profile, &key, &self.certificate, &self.key)?,
            key,
            intermediates: self.below_root.clone(),
        })
    }
}

/// A certificate that vouches for itself and is no CA, as some peers have it (TA-4).
pub fn self_signed(profile: &Profile) -> Result<SigningIdentity, ErrorStack> {
    let key = profile.key.generate()?;
    let draft = draft(&profile.common_name, profile.subject_email.as_deref())?;
    let mut own = X509::builder()?;
    own.set_subject_name(&draft)?;
    own.set_pubkey(&key)?;
    Ok(SigningIdentity {
        certificate: end_certificate(profile, &key, &own.build(), &key)?,
        key,
        intermediates: Vec::new(),
    })
}

fn draft(common_name: &str, email: Option<&str>) -> Result<X509Name, ErrorStack> {
    /// Longest common name (RFC 5280, ub-common-name), in characters.
    const MAX_COMMON_NAME: usize = 64;
    let common_name: String = common_name.chars().take(MAX_COMMON_NAME).collect();
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, &common_name)?;
    if let Some(email) = email {
        name.append_entry_by_nid(Nid::PKCS9_EMAILADDRESS, email)?;
    }
    Ok(name.build())
}

fn begin(
    subject: &X509Name,
    serial: Option<u32>,
    key: &PKey<Private>,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<X509Builder, ErrorStack> {
    const SERIAL_BITS: i32 = 120;
    const VERSION_3: i32 = 2;
    let number = match serial {
        Some(serial) => BigNum::from_u32(serial)?,
        None => {
            let mut number = BigNum::new()?;
            number.rand(SERIAL_BITS, MsbOption::ONE, false)?;
            number
        }
    };
    let mut builder = X509::builder()?;
    builder.set_version(VERSION_3)?;
    builder.set_serial_number(&*number.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::from_unix(not_before.as_second())?)?;
    builder.set_not_after(&*Asn1Time::from_unix(not_after.as_second())?)?;
    Ok(builder)
}

fn ca_certificate(
    name: &str,
    key: &PKey<Private>,
    issuer: Option<&Authority>,
    extensions: &[X509Extension],
    now: Timestamp,
) -> Result<X509, ErrorStack> {
    let subject = draft(name, None)?;
    let mut builder = begin(&subject, None, key, days(now, -30), days(now, 3650))?;
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name)?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    let usage = KeyUsage::new()
        .critical()
        .key_cert_sign()
        .crl_sign()
        .build()?;
    builder.append_extension(usage)?;
    let issuer_certificate = issuer.map(|issuer| &*issuer.certificate);
    let key_id =
        SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer_certificate, None))?;
    builder.append_extension(key_id)?;
    for extension in extensions {
        builder.append_extension2(extension)?;
    }
    builder.sign(
        issuer.map_or(key, |issuer| &issuer.key),
        MessageDigest::sha256(),
    )?;
    Ok(builder.build())
}

fn end_certificate(
    profile: &Profile,
    key: &PKey<Private>,
    issuer: &X509,
    issuer_key: &PKey<Private>,
) -> Result<X509, ErrorStack> {
    let subject = draft(&profile.common_name, profile.subject_email.as_deref())?;
    let (not_before, not_after) = (profile.not_before, profile.not_after);
    let mut builder = begin(&subject, profile.serial, key, not_before, not_after)?;
    builder.set_issuer_name(issuer.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(key_usage(profile)?)?;
    builder.append_extension(extended_key_usage(profile.purpose)?)?;
    if !profile.names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in &profile.names {
            match name {
                Name::Email(email) => names.email(email),
                Name::Dns(dns) => names.dns(dns),
                Name::Ip(ip) => names.ip(&ip.to_string()),
            };
        }
        let names = names.build(&builder.x509v3_context(Some(issuer), None))?;
        builder.append_extension(names)?;
    }
    if profile.with_key_id {
        let key_id =
            SubjectKeyIdentifier::new().build(&builder.x509v3_context(Some(issuer), None))?;
        builder.append_extension(key_id)?;
    }
    if issuer.subject_key_id().is_some() {
        let issuer_id = AuthorityKeyIdentifier::new()
            .keyid(true)
            .build(&builder.x509v3_context(Some(issuer), None))?;
        builder.append_extension(issuer_id)?;
    }
    for extension in &profile.extensions {
        builder.append_extension2(extension)?;
    }
    builder.sign(issuer_key, profile.digest)?;
    Ok(builder.build())
}

fn key_usage(profile: &Profile) -> Result<X509Extension, ErrorStack> {
    let mut usage = KeyUsage::new();
    usage.critical();
    if profile.purpose != KeyPurpose::MailEncryption {
        usage.digital_signature();
    }
    if profile.purpose != KeyPurpose::MailSigning {
        if profile.key.is_rsa() {
            usage.key_encipherment();
        } else {
            usage.key_agreement();
        }
    }
    usage.build()
}

fn extended_key_usage(purpose: KeyPurpose) -> Result<X509Extension, ErrorStack> {
    let mut usage = ExtendedKeyUsage::new();
    match purpose {
        KeyPurpose::Tls => usage.server_auth().client_auth(),
        _ => usage.email_protection(),
    };
    usage.build()
}
