//! The settings of certificate files.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    bridge::trust::{Demands, WhenUnknown},
    formats::{ids::DomainName, smime::Legacy, units::duration_text},
};

/// Certificate files: `[certificates]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificatesConfig {
    /// Files, or folders of files, with certificates of recipients at other HISPs, such as `["certificates/peers"]`.
    /// A recipient is found by subjectAltName; what is found here is used before what the DNS has. CA certificates among
    /// them complete paths. Default none.
    pub recipients: Vec<PathBuf>,
    /// How often the files of revocation lists are looked at, such as `"30s"`; those that changed are read. Default
    /// `"1m"`.
    #[serde(with = "duration_text")]
    pub crl_refresh: Duration,
    /// The domains that this bridge serves: `[[certificates.domains]]`. Default none.
    pub domains: Vec<DomainConfig>,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self {
            recipients: Vec::new(),
            crl_refresh: Duration::from_secs(60),
            domains: Vec::new(),
        }
    }
}

/// A domain that this bridge serves: `[[certificates.domains]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Its name, such as `"direct.harbor.example"`. Required.
    pub name: DomainName,
    /// Its certificates with their keys. Old ones stay here for 90 days, so that late mail can be opened. Default none.
    #[serde(default)]
    pub identities: Vec<IdentityConfig>,
    /// Files, or folders of files, with the certificates that it trusts, such as `["certificates/anchors"]`. Default
    /// none: nobody is trusted.
    #[serde(default)]
    pub anchors: Vec<PathBuf>,
    /// Files, or folders of files, with CA certificates that complete a path to an anchor. They are not trusted by
    /// themselves. Default none.
    #[serde(default)]
    pub intermediates: Vec<PathBuf>,
    /// Weak algorithms that it takes from peers: `"sha1"`, `"3des"`, `"rsa1024"`, `"ed25519"`, `"sha1kdf"`. Each use is
    /// told. Default none.
    #[serde(default)]
    pub allow_legacy: Vec<Legacy>,
    /// Files, or folders of files (`.crl`, `.pem`, `.der`), with the revocation lists of the CAs that it trusts, such as
    /// `["certificates/crls"]`; each holds one at least. Default none.
    #[serde(default)]
    pub crls: Vec<PathBuf>,
    /// What follows when neither a CRL nor an OCSP answer that is in date tells of a certificate: `"soft"`, it is used all
    /// the same, for 24 h if it names a list or responder that cannot be had, or `"hard"`, what needs it waits for one,
    /// for `timers.queue_lifetime` at most. A revoked one is never used. Default `"soft"` (REV-4).
    #[serde(default)]
    pub revocation: WhenUnknown,
    /// What it demands of its peers' certificates beyond the rules that all follow: `[certificates.domains.demands]`. A
    /// certificate that would serve and does not meet it is refused as `policyRefused`. Default nothing.
    #[serde(default)]
    pub demands: Demands,
}

impl DomainConfig {
    /// A domain with what each must have, and everything else at its default.
    pub fn new(name: DomainName, identities: Vec<IdentityConfig>, anchors: Vec<PathBuf>) -> Self {
        Self {
            name,
            identities,
            anchors,
            intermediates: Vec::new(),
            allow_legacy: Vec::new(),
            crls: Vec::new(),
            revocation: WhenUnknown::default(),
            demands: Demands::default(),
        }
    }
}

/// A certificate with its key: `[[certificates.domains.identities]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// PEM file with the certificate, such as `"certificates/direct.pem"`. Intermediates may follow it. Required.
    pub certificate: PathBuf,
    /// PEM file with its private key (PKCS#8 or older), readable by its owner alone. Required.
    pub key: PathBuf,
    /// File with the pass phrase of an encrypted key, readable by its owner alone. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
recipients = ["peers"]

[[domains]]
name = "direct.harbor.example"
anchors = ["anchors"]
intermediates = []
allow_legacy = ["sha1"]
crls = ["crls"]
revocation = "hard"

[[domains.identities]]
certificate = "direct.pem"
key = "direct.key"
"#;

    #[test]
    fn settings_read_back_what_they_print_and_refuse_unknown_keys() {
        let config: CertificatesConfig = toml::from_str(TEXT).unwrap();
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(
            toml::from_str::<CertificatesConfig>(&printed).unwrap(),
            config
        );
        let unknown = TEXT.replace("allow_legacy", "allow_legcay");
        assert!(toml::from_str::<CertificatesConfig>(&unknown).is_err());
    }
}
