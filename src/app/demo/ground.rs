//! The parties of the demo and what they know of each other: a private CA, keys, and the bridge's configuration file.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use jiff::Timestamp;
use openssl::x509::X509;

use crate::{
    adapters::{
        certificates::{CertificatesConfig, DomainConfig, IdentityConfig},
        smtp_client::config::{DomainRoute, SmtpClientConfig},
        store::create_key_file,
    },
    app::{
        commands::init::CONFIG_FILE,
        config::Config,
        new_files::{make_folder, write_identity, write_new},
        pki::{Authority, Profile},
    },
    bridge::partner::{ClientCertificateConfig, PartnerConfig},
    formats::{
        ids::{CertificateFingerprint, DirectAddress, DomainName},
        smime::SigningIdentity,
    },
};

/// The sender, at the domain that the bridge serves.
const SENDER: &str = "ngozi.okafor@direct.elm.example";
/// A recipient with a certificate of his own.
const PERSON: &str = "rui.silva@direct.harbor.example";
/// A recipient that the certificate of the domain serves.
const OFFICE: &str = "referrals@direct.harbor.example";
/// The bridge's name in its TLS certificate.
pub(super) const XDR_HOST: &str = "xdr.elm.example";
/// The mailbox's name in its TLS certificate, which also names 127.0.0.1: there the bridge looks for it.
pub(super) const MAIL_HOST: &str = "mail.harbor.example";

/// Everybody's keys.
pub(super) struct Ground {
    /// The CA's certificate.
    pub(super) ca: X509,
    /// The EHR's client certificate.
    pub(super) ehr: SigningIdentity,
    /// The sender.
    pub(super) sender: DirectAddress,
    /// The counterpart's addresses, each with the key that opens its mail.
    pub(super) recipients: Vec<(DirectAddress, SigningIdentity)>,
}

impl Ground {
    /// Makes the CA and all keys, and writes into `dir` what bridge and mailbox read from files.
    pub(super) fn make(dir: &Path, now: Timestamp) -> anyhow::Result<Self> {
        let sender: DirectAddress = SENDER.parse()?;
        let person: DirectAddress = PERSON.parse()?;
        let office: DirectAddress = OFFICE.parse()?;
        let authority = Authority::root("xdbridge demo CA", now)?;
        let issue = |profile: Profile| authority.issue(&profile);
        let ground = Self {
            ca: authority.certificate.clone(),
            ehr: issue(Profile::tls("ehr.elm.example", now))?,
            recipients: vec![
                (person.clone(), issue(Profile::address(&person, now))?),
                (
                    office.clone(),
                    issue(Profile::domain(office.domain(), now))?,
                ),
            ],
            sender,
        };

        for folder in ["tls", "direct", "anchors", "peers", "data", "mail"] {
            make_folder(&dir.join(folder))?;
        }
        let ca = authority.certificate.to_pem()?;
        write_new(&dir.join("anchors/ca.pem"), &ca)?;
        let own = issue(Profile::domain(ground.sender.domain(), now))?;
        write_identity(&dir.join("direct/domain"), &own)?;
        write_identity(
            &dir.join("tls/bridge"),
            &issue(Profile::tls(XDR_HOST, now))?,
        )?;
        write_identity(
            &dir.join("tls/mailbox"),
            &issue(Profile::tls(MAIL_HOST, now))?,
        )?;
        write_identity(&dir.join("tls/ehr"), &ground.ehr)?;
        for (name, (_, identity)) in ["person", "office"].iter().zip(&ground.recipients) {
            // Of the counterpart's keys the bridge gets the certificates alone.
            let path = dir.join("peers").join(name).with_extension("pem");
            write_new(&path, &identity.certificate.to_pem()?)?;
        }
        create_key_file(&dir.join("store.key"))?;
        Ok(ground)
    }

    /// The addresses that the EHR sends to.
    pub(super) fn recipient_addresses(&self) -> Vec<DirectAddress> {
        let addresses = self.recipients.iter().map(|(address, _)| address);
        addresses.cloned().collect()
    }

    /// Writes the bridge's configuration file into `dir` and reads it as `serve` would, so that it can be tried with
    /// the other commands. Mail for the counterpart goes to `mailbox`.
    pub(super) fn configure(
        &self,
        dir: &Path,
        mailbox: SocketAddr,
        now: Timestamp,
    ) -> anyhow::Result<Config> {
        let path = dir.join(CONFIG_FILE);
        write_new(&path, self.config(mailbox)?.print().as_bytes())?;
        let (config, problems) = Config::check(&path, now)?;
        if !problems.is_empty() {
            bail!("the demo's own configuration: {}", problems.join("; "));
        }
        Ok(config.resolved())
    }

    fn config(&self, mailbox: SocketAddr) -> anyhow::Result<Config> {
        let own = self.sender.domain();
        let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = Config::default();
        config.soap.server.bind = any_port;
        config.soap.server.certificate = "tls/bridge.pem".into();
        config.soap.server.key = "tls/bridge.key".into();
        config.soap.server.client_cas = vec!["anchors/ca.pem".into()];
        config.operator.bind = any_port;
        config.store.path = "data".into();
        config.store.key_files = vec!["store.key".into()];
        config.smtp.client = self.mail_route(mailbox)?;
        // Nobody is asked: the only next hop is named by its address, and a machine without a name server serves too.
        config.dns.servers = vec![([127, 0, 0, 1], 53).into()];
        config.certificates = CertificatesConfig {
            recipients: vec!["peers".into()],
            domains: vec![DomainConfig {
                name: own.clone(),
                identities: vec![IdentityConfig {
                    certificate: "direct/domain.pem".into(),
                    key: "direct/domain.key".into(),
                    passphrase_file: None,
                }],
                anchors: vec!["anchors".into()],
                intermediates: Vec::new(),
                allow_legacy: Vec::new(),
            }],
        };
        let ehr = CertificateFingerprint::of_der(&self.ehr.certificate.to_der()?);
        config.partner = vec![PartnerConfig {
            name: "elm-ehr".to_owned(),
            certificates: vec![ClientCertificateConfig {
                sha256: Some(ehr.to_string()),
                ..ClientCertificateConfig::default()
            }],
            send_as: vec![own.to_string()],
            ..PartnerConfig::default()
        }];
        Ok(config)
    }

    fn mail_route(&self, mailbox: SocketAddr) -> anyhow::Result<SmtpClientConfig> {
        let (address, _) = self.recipients.first().context("there are recipients")?;
        let domain: DomainName = address.domain().clone();
        let route = DomainRoute {
            smarthost: Some(mailbox.to_string().parse()?),
            ..DomainRoute::default()
        };
        Ok(SmtpClientConfig {
            ehlo_name: Some("bridge.elm.example".to_owned()),
            public_cas: false,
            ca_files: vec!["anchors/ca.pem".into()],
            domains: [(domain, route)].into(),
            ..SmtpClientConfig::default()
        })
    }
}
