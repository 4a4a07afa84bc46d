//! The XDR systems that we serve, each known by its client certificates and bound by its policies.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use openssl::x509::X509;
use serde::{Deserialize, Serialize};

use super::status::StatusFrom;
use crate::formats::{
    ids::{AddressError, CertificateFingerprint, DirectAddress, DomainName, Oid},
    metadata::validate::Profile,
};

/// One XDR system: `[[partner]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartnerConfig {
    /// Its name in logs, metrics and the audit: letters, digits, `-` and `_`, such as `"harbor"`. No default; each
    /// partner has its own.
    pub name: String,
    /// The client certificates that are this partner, such as
    /// `[{ sha256 = "1b6c…" }, { issuer_sha256 = "9f02…", san = "ehr.harbor.example" }]`. No default. A CA alone is
    /// never a partner.
    pub certificates: Vec<ClientCertificateConfig>,
    /// Senders that it may use: addresses or whole domains, such as `["direct.harbor.example"]`. No default; a sender
    /// outside is refused (XDR-66).
    pub send_as: Vec<String>,
    /// Recipients that it may send to: addresses or whole domains, such as `["hisp.example"]`. Default: none listed,
    /// all allowed.
    pub send_to: Vec<String>,
    /// Hosts that its wsa:ReplyTo may name, such as `["ehr.harbor.example:8443"]`. Default: none.
    pub reply_to: Vec<String>,
    /// Where it takes the final outcome of each recipient, such as `"https://ehr.harbor.example/xdr"`. Default: none,
    /// the outcomes stay in the bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_endpoint: Option<String>,
    /// Who tells it: `"postmaster"` of the sender's domain, or the `"recipient"` whom it is about. Default
    /// `"postmaster"` (XDR-121).
    pub status_from: StatusFrom,
    /// What happens when some recipients cannot be served: `"split"` sends to the others, `"atomic"` refuses the
    /// submission. Default `"split"` (XDR-32).
    pub partial: Partial,
    /// What happens when the patient ids of SubmissionSet and DocumentEntry differ: `"refuse"` or `"warn"`. Default
    /// `"refuse"` (MD-92).
    pub patient_id_mismatch: PatientIdMismatch,
    /// How strictly metadata that claims no lower level is checked: `"full-strict"`, `"full-lenient"` or `"minimal"`.
    /// Default `"full-strict"` (MD-22).
    pub profile: Profile,
    /// Whether a request that is not MTOM is refused. Default false (SOAP-11).
    pub require_mtom: bool,
    /// Whether several documents may be one part of an MTOM message. Default false (SOAP-32).
    pub shared_parts: bool,
    /// Whether a request is also judged by our schemas, header blocks and all, so that whatever they do not allow is
    /// refused: elements out of order, unknown elements and attributes, missing ids. It costs a second tree of the
    /// metadata and one of the header, never of the documents: some 65 µs of CPU time for the metadata of one document.
    /// Default false (MD-99, XDR-5).
    pub validate_schema: bool,
    /// What happens to a wsse:Security header that must be understood: `"refuse"` or `"ignored"`. Default
    /// `"refuse"` (SOAP-148).
    pub saml: Saml,
    /// Whether a known wsa:MessageID with other content is refused instead of taken as a new message. Default false
    /// (SOAP-69).
    pub strict_message_id: bool,
    /// Whether a direct:addressBlock is refused whose role or relay is not exactly as it must be. Default false
    /// (SOAP-111).
    pub strict_address_block: bool,
    /// The sourceIds that its submissions may carry, such as `["2.999.1"]`. Default: none listed, all allowed
    /// (XDR-26).
    pub source_ids: Vec<String>,
    /// Whether a `displayed` notice counts as delivery. Default true (mdn.md section 8).
    pub displayed_is_delivery: bool,
    /// Whether final delivery is asked for even where the submission does not. Default false (MDN-4).
    pub always_request_dispatched: bool,
}

/// One client certificate, or the certificates of one CA with one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificateConfig {
    /// SHA-256 fingerprint of the certificate itself, as `openssl x509 -fingerprint -sha256` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// SHA-256 fingerprint of a CA above the certificate; needs `san`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_sha256: Option<String>,
    /// The subject alternative name that the certificate of that CA must carry: a DNS name, a URI or an e-mail
    /// address, such as `"ehr.harbor.example"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub san: Option<String>,
}

/// What happens when some recipients of a submission cannot be served (XDR-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partial {
    /// The others are.
    #[default]
    Split,
    /// The whole submission is refused.
    Atomic,
}

/// What happens when patient ids differ inside a submission (MD-92).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatientIdMismatch {
    /// It is refused.
    #[default]
    Refuse,
    /// It is sent on with a Warning.
    Warn,
}

/// What happens to a wsse:Security header that must be understood (SOAP-148).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Saml {
    /// MustUnderstand fault.
    #[default]
    Refuse,
    /// It is passed over.
    Ignored,
}

impl Default for PartnerConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            certificates: Vec::new(),
            send_as: Vec::new(),
            send_to: Vec::new(),
            reply_to: Vec::new(),
            status_endpoint: None,
            status_from: StatusFrom::default(),
            partial: Partial::default(),
            patient_id_mismatch: PatientIdMismatch::default(),
            profile: Profile::default(),
            require_mtom: false,
            shared_parts: false,
            validate_schema: false,
            saml: Saml::default(),
            strict_message_id: false,
            strict_address_block: false,
            source_ids: Vec::new(),
            displayed_is_delivery: true,
            always_request_dispatched: false,
        }
    }
}

/// An XDR system that we exchange with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Its name in the configuration.
    pub name: String,
    /// What its client certificates are known by.
    pub identities: Vec<ClientIdentity>,
    /// Senders that it may use.
    pub send_as: Vec<AddressPattern>,
    /// Recipients that it may send to; empty allows all.
    pub send_to: Vec<AddressPattern>,
    /// Hosts (`host` or `host:port`, lower case) that its wsa:ReplyTo may name.
    pub reply_to: Vec<String>,
    /// Where it takes outcomes.
    pub status_endpoint: Option<String>,
    /// Who tells it.
    pub status_from: StatusFrom,
    /// What happens when some recipients cannot be served.
    pub partial: Partial,
    /// What happens when patient ids differ.
    pub patient_id_mismatch: PatientIdMismatch,
    /// How strictly metadata is checked.
    pub profile: Profile,
    /// Whether a request that is not MTOM is refused.
    pub require_mtom: bool,
    /// Whether several documents may be one part of an MTOM message.
    pub shared_parts: bool,
    /// Whether a request is also judged by our schemas.
    pub validate_schema: bool,
    /// What happens to a wsse:Security header that must be understood.
    pub saml: Saml,
    /// Whether a known wsa:MessageID with other content is refused.
    pub strict_message_id: bool,
    /// Whether an addressBlock is refused whose role or relay is not exactly as it must be.
    pub strict_address_block: bool,
    /// The sourceIds that its submissions may carry; empty allows all.
    pub source_ids: Vec<Oid>,
    /// Whether a `displayed` notice counts as delivery.
    pub displayed_is_delivery: bool,
    /// Whether final delivery is always asked for.
    pub always_request_dispatched: bool,
}

impl Default for Partner {
    /// A partner that no client is, and that may send as nobody; its policies are the defaults.
    fn default() -> Self {
        let PartnerConfig {
            name,
            status_endpoint,
            status_from,
            partial,
            patient_id_mismatch,
            profile,
            require_mtom,
            shared_parts,
            validate_schema,
            saml,
            strict_message_id,
            strict_address_block,
            displayed_is_delivery,
            always_request_dispatched,
            ..
        } = PartnerConfig::default();
        Self {
            name,
            identities: Vec::new(),
            send_as: Vec::new(),
            send_to: Vec::new(),
            reply_to: Vec::new(),
            status_endpoint,
            status_from,
            partial,
            patient_id_mismatch,
            profile,
            require_mtom,
            shared_parts,
            validate_schema,
            saml,
            strict_message_id,
            strict_address_block,
            source_ids: Vec::new(),
            displayed_is_delivery,
            always_request_dispatched,
        }
    }
}

/// What a client certificate is known by. A CA alone is not enough: it would let in everybody it ever signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIdentity {
    /// The certificate itself.
    Certificate(CertificateFingerprint),
    /// A certificate of this CA that carries this subject alternative name.
    Named {
        /// The CA's certificate.
        issuer: CertificateFingerprint,
        /// DNS name (compared without case), URI or e-mail address.
        san: String,
    },
}

/// One address, or every address of one domain. A subdomain is a domain of its own.
#[derive(Clone, PartialEq, Eq)]
pub enum AddressPattern {
    /// This address.
    Address(DirectAddress),
    /// Every address of this domain.
    Domain(DomainName),
}

impl FromStr for AddressPattern {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('@') {
            text.parse().map(Self::Address)
        } else {
            text.parse().map(Self::Domain)
        }
    }
}

impl fmt::Debug for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

impl AddressPattern {
    /// Whether `address` is meant (ADR-4).
    pub fn matches(&self, address: &DirectAddress) -> bool {
        match self {
            Self::Address(own) => own == address,
            Self::Domain(own) => own == address.domain(),
        }
    }

    /// The domain of what is meant.
    pub fn domain(&self) -> &DomainName {
        match self {
            Self::Address(address) => address.domain(),
            Self::Domain(domain) => domain,
        }
    }
}

impl Partner {
    /// Whether it may use `sender` (XDR-66).
    pub fn may_send_as(&self, sender: &DirectAddress) -> bool {
        self.send_as.iter().any(|pattern| pattern.matches(sender))
    }

    /// Whether it may send to `recipient` (RT-3).
    pub fn may_send_to(&self, recipient: &DirectAddress) -> bool {
        self.send_to.is_empty() || self.send_to.iter().any(|own| own.matches(recipient))
    }

    /// Whether its submissions may carry this sourceId (XDR-26).
    pub fn may_use_source_id(&self, source_id: &str) -> bool {
        self.source_ids.is_empty() || self.source_ids.iter().any(|own| own.as_str() == source_id)
    }
}

impl PartnerConfig {
    /// The partner that these settings describe, or everything that is wrong with them. `key` is where they stand,
    /// such as `partner[0]`.
    pub fn read(&self, key: &str) -> Result<Partner, Vec<String>> {
        let mut problems = Vec::new();
        let mut problem = |field: &str, accepted: &str| {
            problems.push(format!("{key}.{field}: {accepted}"));
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(is_name) {
            problem(
                "name",
                "1 to 64 letters, digits, `-` and `_`, such as \"harbor\"",
            );
        }
        if self.certificates.is_empty() {
            problem(
                "certificates",
                "one client certificate at least, such as [{ sha256 = \"…64 hexadecimal digits…\" }]",
            );
        }
        let mut identities = Vec::new();
        for (index, certificate) in self.certificates.iter().enumerate() {
            match certificate.read() {
                Ok(identity) => identities.push(identity),
                Err(accepted) => problem(&format!("certificates[{index}]"), accepted),
            }
        }
        if self.send_as.is_empty() {
            problem("send_as", "one sender address or domain at least");
        }
        let mut patterns = |field: &str, texts: &[String]| -> Vec<AddressPattern> {
            let mut patterns = Vec::new();
            for (index, text) in texts.iter().enumerate() {
                match text.parse() {
                    Ok(pattern) => patterns.push(pattern),
                    Err(error) => problem(
                        &format!("{field}[{index}]"),
                        &format!("an address or a domain; {error}"),
                    ),
                }
            }
            patterns
        };
        let send_as = patterns("send_as", &self.send_as);
        let send_to = patterns("send_to", &self.send_to);
        for (index, host) in self.reply_to.iter().enumerate() {
            if !is_host(host) {
                problem(
                    &format!("reply_to[{index}]"),
                    "a host name, with a port if it is not 443, such as \"ehr.harbor.example:8443\"",
                );
            }
        }
        let is_endpoint = |url: &String| {
            let rest = url.strip_prefix("https://");
            rest.is_some_and(|rest| {
                let is_plain = !rest.contains(['@', '?', '#', ' ']);
                is_plain && is_host(rest.split('/').next().unwrap_or_default())
            })
        };
        if self
            .status_endpoint
            .as_ref()
            .is_some_and(|url| !is_endpoint(url))
        {
            problem(
                "status_endpoint",
                "an https URL without user, query and fragment, such as \"https://ehr.harbor.example/xdr\"",
            );
        }
        let mut source_ids = Vec::new();
        for (index, text) in self.source_ids.iter().enumerate() {
            match text.parse() {
                Ok(oid) => source_ids.push(oid),
                Err(_) => problem(
                    &format!("source_ids[{index}]"),
                    "an OID, such as \"2.999.1\"",
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Partner {
            name: self.name.clone(),
            identities,
            send_as,
            send_to,
            reply_to: self
                .reply_to
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            status_endpoint: self.status_endpoint.clone(),
            status_from: self.status_from,
            partial: self.partial,
            patient_id_mismatch: self.patient_id_mismatch,
            profile: self.profile,
            require_mtom: self.require_mtom,
            shared_parts: self.shared_parts,
            validate_schema: self.validate_schema,
            saml: self.saml,
            strict_message_id: self.strict_message_id,
            strict_address_block: self.strict_address_block,
            source_ids,
            displayed_is_delivery: self.displayed_is_delivery,
            always_request_dispatched: self.always_request_dispatched,
        })
    }
}

impl ClientCertificateConfig {
    fn read(&self) -> Result<ClientIdentity, &'static str> {
        const FINGERPRINT: &str = "a SHA-256 fingerprint has 64 hexadecimal digits";
        match (&self.sha256, &self.issuer_sha256, &self.san) {
            (Some(own), None, None) => own
                .parse()
                .map(ClientIdentity::Certificate)
                .map_err(|_| FINGERPRINT),
            (None, Some(issuer), Some(san)) if !san.trim().is_empty() => {
                Ok(ClientIdentity::Named {
                    issuer: issuer.parse().map_err(|_| FINGERPRINT)?,
                    san: san.trim().to_owned(),
                })
            }
            (None, Some(_), _) => Err(
                "`issuer_sha256` needs `san`: a CA alone is no partner, it signs for others too",
            ),
            _ => Err("either `sha256`, or `issuer_sha256` and `san`"),
        }
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "443"));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.len() <= 253
        && host.split('.').all(is_label)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// All partners, found by what a TLS connection tells of a client.
#[derive(Clone, Debug, Default)]
pub struct Partners {
    all: Vec<Arc<Partner>>,
}

impl Partners {
    /// The partners of these settings, or everything that is wrong with any of them.
    pub fn read(configs: &[PartnerConfig]) -> Result<Self, Vec<String>> {
        let mut all = Vec::new();
        let mut problems = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            match config.read(&format!("partner[{index}]")) {
                Ok(partner) => all.push(Arc::new(partner)),
                Err(more) => problems.extend(more),
            }
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, config) in configs.iter().enumerate() {
            if let Some(first) = names.insert(&config.name, index) {
                problems.push(format!(
                    "partner[{index}].name: not that of partner[{first}]; each partner has its own"
                ));
            }
        }
        let known: Vec<(&str, &ClientIdentity)> = all
            .iter()
            .flat_map(|partner: &Arc<Partner>| {
                let name = partner.name.as_str();
                partner.identities.iter().map(move |known| (name, known))
            })
            .collect();
        for (index, (name, identity)) in known.iter().enumerate() {
            let other = known.iter().take(index).find(|(_, same)| same == identity);
            if let Some((other, _)) = other {
                problems.push(format!(
                    "partner.certificates: one certificate is one partner, but {other} and {name} share one"
                ));
            }
        }
        if problems.is_empty() {
            Ok(Self { all })
        } else {
            Err(problems)
        }
    }

    /// The partner that a client is. `der` is its certificate, `issuers_der` the chain above it that the TLS handshake
    /// verified. `None`: the client belongs to no partner, and must be refused (XDR-66).
    pub fn identify(&self, der: &[u8], issuers_der: &[impl AsRef<[u8]>]) -> Option<Arc<Partner>> {
        let own = CertificateFingerprint::of_der(der);
        let is_own = |identity: &ClientIdentity| *identity == ClientIdentity::Certificate(own);
        let by_certificate = self
            .all
            .iter()
            .find(|partner| partner.identities.iter().any(is_own));
        if let Some(partner) = by_certificate {
            return Some(Arc::clone(partner));
        }
        let names = subject_alternative_names(der);
        let issuers: Vec<CertificateFingerprint> = issuers_der
            .iter()
            .map(|issuer| CertificateFingerprint::of_der(issuer.as_ref()))
            .collect();
        let is_named = |identity: &ClientIdentity| match identity {
            ClientIdentity::Certificate(_) => false,
            ClientIdentity::Named { issuer, san } => {
                issuers.contains(issuer) && names.iter().any(|name| name.is(san))
            }
        };
        let by_name = self
            .all
            .iter()
            .find(|partner| partner.identities.iter().any(is_named));
        by_name.map(Arc::clone)
    }

    /// The partner of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Partner>> {
        self.all
            .iter()
            .find(|partner| partner.name == name)
            .map(Arc::clone)
    }

    /// Every partner, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Partner>> {
        self.all.iter()
    }
}

enum AlternativeName {
    Dns(String),
    Exact(String),
}

impl AlternativeName {
    /// Whether it is the one that was configured. A wildcard in a certificate names no one system, and so matches
    /// nothing but itself.
    fn is(&self, configured: &str) -> bool {
        match self {
            Self::Dns(name) => name.eq_ignore_ascii_case(configured),
            Self::Exact(name) => name == configured,
        }
    }
}

fn subject_alternative_names(der: &[u8]) -> Vec<AlternativeName> {
    let Ok(certificate) = X509::from_der(der) else {
        return Vec::new();
    };
    let Some(names) = certificate.subject_alt_names() else {
        return Vec::new();
    };
    names
        .iter()
        .filter_map(|name| {
            let dns = name
                .dnsname()
                .map(|dns| AlternativeName::Dns(dns.to_owned()));
            let exact = name.uri().or_else(|| name.email());
            dns.or_else(|| exact.map(|text| AlternativeName::Exact(text.to_owned())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use openssl::{
        asn1::Asn1Time,
        bn::BigNum,
        ec::{EcGroup, EcKey},
        hash::MessageDigest,
        nid::Nid,
        pkey::{PKey, Private},
        x509::{X509Builder, X509NameBuilder, extension::SubjectAlternativeName},
    };

    use super::*;

    struct Signer {
        key: PKey<Private>,
        der: Vec<u8>,
    }

    /// A certificate with these DNS names, signed by `issuer` or by itself.
    fn certificate(common_name: &str, dns_names: &[&str], issuer: Option<&Signer>) -> Signer {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", common_name).unwrap();
        let name = name.build();
        let issuer_certificate = issuer.map(|issuer| X509::from_der(&issuer.der).unwrap());
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&name).unwrap();
        let issuer_name = issuer_certificate
            .as_ref()
            .map(|issuer| issuer.subject_name());
        builder
            .set_issuer_name(issuer_name.unwrap_or(&name))
            .unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(0).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(4_000_000_000).unwrap())
            .unwrap();
        builder.set_pubkey(&key).unwrap();
        if !dns_names.is_empty() {
            let mut names = SubjectAlternativeName::new();
            for dns in dns_names {
                names.dns(dns);
            }
            let context = builder.x509v3_context(issuer_certificate.as_deref(), None);
            let names = names.build(&context).unwrap();
            builder.append_extension(names).unwrap();
        }
        let signing_key = issuer.map_or(&key, |issuer| &issuer.key);
        builder.sign(signing_key, MessageDigest::sha256()).unwrap();
        let der = builder.build().to_der().unwrap();
        Signer { key, der }
    }

    fn config(name: &str, certificate: ClientCertificateConfig) -> PartnerConfig {
        PartnerConfig {
            name: name.to_owned(),
            certificates: vec![certificate],
            send_as: vec![format!("direct.{name}.example")],
            ..PartnerConfig::default()
        }
    }

    fn by_fingerprint(der: &[u8]) -> ClientCertificateConfig {
        ClientCertificateConfig {
            sha256: Some(CertificateFingerprint::of_der(der).to_string()),
            ..ClientCertificateConfig::default()
        }
    }

    fn by_name(issuer: &[u8], san: &str) -> ClientCertificateConfig {
        ClientCertificateConfig {
            issuer_sha256: Some(CertificateFingerprint::of_der(issuer).to_string()),
            san: Some(san.to_owned()),
            ..ClientCertificateConfig::default()
        }
    }

    const NO_ISSUERS: [Vec<u8>; 0] = [];

    // rule: XDR-66
    #[test]
    fn a_certificate_is_its_partner_and_no_other() {
        let ca = certificate("CA", &[], None);
        let harbor = certificate("harbor", &[], Some(&ca));
        let stranger = certificate("stranger", &[], Some(&ca));
        let partners = Partners::read(&[config("harbor", by_fingerprint(&harbor.der))]).unwrap();
        let found = partners.identify(&harbor.der, std::slice::from_ref(&ca.der));
        assert_eq!(found.unwrap().name, "harbor");
        assert!(partners.identify(&stranger.der, &[ca.der]).is_none());
        assert!(partners.identify(b"no certificate", &NO_ISSUERS).is_none());
    }

    // rule: XDR-66
    #[test]
    fn a_ca_names_a_partner_only_together_with_a_subject_alternative_name() {
        let ca = certificate("CA", &[], None);
        let other_ca = certificate("other CA", &[], None);
        let harbor = certificate("x", &["EHR.harbor.example"], Some(&ca));
        let forged = certificate("x", &["ehr.harbor.example"], Some(&other_ca));
        let wildcard = certificate("x", &["*.harbor.example"], Some(&ca));
        let nameless = certificate("ehr.harbor.example", &[], Some(&ca));
        let partners =
            Partners::read(&[config("harbor", by_name(&ca.der, "ehr.harbor.example"))]).unwrap();
        let identify = |client: &Signer, issuer: &Signer| {
            partners.identify(&client.der, std::slice::from_ref(&issuer.der))
        };
        assert!(identify(&harbor, &ca).is_some());
        assert!(identify(&forged, &other_ca).is_none());
        assert!(identify(&wildcard, &ca).is_none());
        assert!(identify(&nameless, &ca).is_none());
        let ca_alone = ClientCertificateConfig {
            san: None,
            ..by_name(&ca.der, "")
        };
        let problems = Partners::read(&[config("harbor", ca_alone)]).unwrap_err();
        assert!(
            problems[0].contains("a CA alone is no partner"),
            "{problems:?}"
        );
    }

    // rule: XDR-66, ADR-4
    #[test]
    fn a_partner_sends_as_its_own_addresses_and_domains_only() {
        let mut settings = config("harbor", by_fingerprint(b"der"));
        settings.send_as = vec!["direct.harbor.example".into(), "One@other.example".into()];
        settings.send_to = vec!["hisp.example".into()];
        let partner = settings.read("partner[0]").unwrap();
        let may = |text: &str| partner.may_send_as(&text.parse().unwrap());
        assert!(may("anybody@DIRECT.harbor.example"));
        assert!(may("one@other.example"));
        assert!(!may("two@other.example"));
        assert!(!may("a@sub.direct.harbor.example"));
        assert!(partner.may_send_to(&"a@hisp.example".parse().unwrap()));
        assert!(!partner.may_send_to(&"a@else.example".parse().unwrap()));
    }

    // rule: XDR-26
    #[test]
    fn source_ids_bind_only_where_they_are_listed() {
        let mut settings = config("harbor", by_fingerprint(b"der"));
        assert!(settings.read("p").unwrap().may_use_source_id("2.999.9"));
        settings.source_ids = vec!["2.999.1".into()];
        let partner = settings.read("p").unwrap();
        assert!(partner.may_use_source_id("2.999.1"));
        assert!(!partner.may_use_source_id("2.999.9"));
    }

    #[test]
    fn every_problem_is_named_at_once_with_key_and_what_would_be_accepted() {
        let bad = PartnerConfig {
            name: "no spaces please".into(),
            certificates: vec![ClientCertificateConfig {
                sha256: Some("12".into()),
                ..ClientCertificateConfig::default()
            }],
            send_as: vec!["a b@x.example".into()],
            send_to: vec!["localhost".into()],
            reply_to: vec!["http://x".into()],
            status_endpoint: Some("http://plain.example".into()),
            source_ids: vec!["x".into()],
            ..PartnerConfig::default()
        };
        let shared = config("a", by_fingerprint(b"der"));
        let twin = config("a", by_fingerprint(b"der"));
        let problems = Partners::read(&[bad, shared, twin]).unwrap_err();
        for key in [
            "partner[0].name: ",
            "partner[0].certificates[0]: ",
            "partner[0].send_as[0]: ",
            "partner[0].send_to[0]: ",
            "partner[0].reply_to[0]: ",
            "partner[0].status_endpoint: ",
            "partner[0].source_ids[0]: ",
            "partner[2].name: ",
            "partner.certificates: ",
        ] {
            let found = problems.iter().filter(|problem| problem.starts_with(key));
            assert_eq!(found.count(), 1, "{key} in {problems:?}");
        }
        assert_eq!(problems.len(), 9);
    }

    #[test]
    fn settings_read_back_what_they_print_and_refuse_unknown_keys() {
        let mut settings = config("harbor", by_name(b"ca", "ehr.harbor.example"));
        settings.partial = Partial::Atomic;
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<PartnerConfig>(&text).unwrap(), settings);
        assert!(toml::from_str::<PartnerConfig>("nmae = \"x\"").is_err());
    }
}
