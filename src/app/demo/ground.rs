//! The parties of the demo and what they know of each other: a private CA, keys, and the configuration files of both
//! bridges.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use openssl::x509::X509;

use super::name_server::Published;
use crate::{
    adapters::{
        certificates::{CertificatesConfig, DomainConfig, IdentityConfig},
        smtp_client::config::{DomainRoute, SmtpClientConfig},
        smtp_server::SmtpServerConfig,
        soap_client::settings::SoapClientConfig,
        store::create_key_file,
    },
    app::{
        commands::init::CONFIG_FILE,
        config::Config,
        new_files::{make_folder, write_identity, write_new},
        pki::{Authority, Profile},
    },
    bridge::{
        endpoint::EndpointConfig,
        partner::{ClientCertificateConfig, PartnerConfig},
    },
    formats::{
        ids::{CertificateFingerprint, DirectAddress, DomainName},
        smime::SigningIdentity,
    },
};

/// The sender, at the domain that bridge A serves.
const SENDER: &str = "ngozi.okafor@direct.elm.example";
/// The recipient behind bridge B, whose certificate is that of the domain.
const PERSON: &str = "rui.silva@direct.harbor.example";
/// The recipient with a mailbox, who has a certificate of its own.
const OFFICE: &str = "referrals@direct.oak.example";
/// The mailbox's name in its TLS certificate, which also names 127.0.0.1: there bridge A looks for it.
pub(super) const MAIL_HOST: &str = "mail.oak.example";

/// One side of the crossing: a domain, the bridge that serves it, and the EHR behind that.
pub(super) struct Side {
    /// The bridge's name in its TLS certificate, which also names 127.0.0.1.
    pub(super) host: &'static str,
    /// Where its configuration and its data are.
    pub(super) folder: PathBuf,
    /// The key of the domain: it signs what the bridge sends, and opens what it receives.
    pub(super) own: SigningIdentity,
    /// The EHR's certificate: it is client and server with it.
    pub(super) ehr: SigningIdentity,
    domain: DomainName,
    partner: &'static str,
    /// Kept for the bridge, which both configurations name before it listens.
    door: Option<TcpListener>,
    mail: SocketAddr,
}

impl Side {
    fn make(
        dir: &Path,
        names: [&'static str; 4],
        domain: &DomainName,
        authority: &Authority,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let [name, host, ehr, partner] = names;
        let folder = dir.join(name);
        make_folder(&folder)?;
        for part in ["tls", "direct", "anchors", "data"] {
            make_folder(&folder.join(part))?;
        }
        let own = authority.issue(&Profile::domain(domain, now))?;
        write_identity(&folder.join("direct/domain"), &own)?;
        let tls = authority.issue(&Profile::tls(host, now))?;
        write_identity(&folder.join("tls/bridge"), &tls)?;
        let ca = authority.certificate.to_pem()?;
        write_new(&folder.join("anchors/ca.pem"), &ca)?;
        create_key_file(&folder.join("store.key"))?;
        let door = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
        Ok(Self {
            host,
            own,
            ehr: authority.issue(&Profile::tls(ehr, now))?,
            domain: domain.clone(),
            partner,
            mail: door.local_addr()?,
            door: Some(door),
            folder,
        })
    }

    /// The configuration. Mail goes to `next_hops`, what comes is posted to the EHR at `ehr`, and others' certificates are
    /// asked of the name server at `dns`.
    fn config(
        &self,
        next_hops: &[(&DomainName, SocketAddr)],
        ehr: SocketAddr,
        dns: SocketAddr,
    ) -> anyhow::Result<Config> {
        let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = Config::default();
        config.soap.server.bind = any_port;
        config.soap.server.certificate = "tls/bridge.pem".into();
        config.soap.server.key = "tls/bridge.key".into();
        config.soap.server.client_cas = vec!["anchors/ca.pem".into()];
        config.soap.client = Some(SoapClientConfig {
            certificate: "tls/bridge.pem".into(),
            key: "tls/bridge.key".into(),
            ca_files: vec!["anchors/ca.pem".into()],
            ..SoapClientConfig::default()
        });
        config.operator.bind = any_port;
        config.store.path = "data".into();
        config.store.key_files = vec!["store.key".into()];
        config.smtp.server = Some(SmtpServerConfig {
            bind: self.mail,
            host_name: Some(self.host.parse()?),
            certificate: "tls/bridge.pem".into(),
            key: "tls/bridge.key".into(),
            // At the end both bridges hold connections to each other: nobody has anything more to say.
            close_timeout: Duration::from_millis(100),
            ..SmtpServerConfig::default()
        });
        let mut domains = BTreeMap::new();
        for (domain, address) in next_hops {
            let route = DomainRoute {
                smarthost: Some(address.to_string().parse()?),
                ..DomainRoute::default()
            };
            domains.insert((*domain).clone(), route);
        }
        config.smtp.client = SmtpClientConfig {
            ehlo_name: Some(self.host.to_owned()),
            public_cas: false,
            ca_files: vec!["anchors/ca.pem".into()],
            domains,
            ..SmtpClientConfig::default()
        };
        // Certificates alone are asked for: every next hop is named by its address.
        config.dns.servers = vec![dns];
        config.certificates = CertificatesConfig {
            domains: vec![DomainConfig::new(
                self.domain.clone(),
                vec![IdentityConfig {
                    certificate: "direct/domain.pem".into(),
                    key: "direct/domain.key".into(),
                    passphrase_file: None,
                }],
                vec!["anchors".into()],
            )],
            ..CertificatesConfig::default()
        };
        let fingerprint = CertificateFingerprint::of_der(&self.ehr.certificate.to_der()?);
        config.partner = vec![PartnerConfig {
            name: self.partner.to_owned(),
            certificates: vec![ClientCertificateConfig {
                sha256: Some(fingerprint.to_string()),
                ..ClientCertificateConfig::default()
            }],
            send_as: vec![self.domain.to_string()],
            status_endpoint: Some(format!("https://{ehr}/xdr")),
            ..PartnerConfig::default()
        }];
        config.sources.gateway_oid = Some("2.999.1".parse()?);
        config.endpoint = vec![EndpointConfig {
            name: self.partner.to_owned(),
            url: format!("https://{ehr}/xdr"),
            serves: vec![self.domain.to_string()],
            ..EndpointConfig::default()
        }];
        Ok(config)
    }

    /// Writes the configuration file and reads it as `serve` would, so that it can be tried with the other commands.
    fn configure(
        &self,
        next_hops: &[(&DomainName, SocketAddr)],
        ehr: SocketAddr,
        dns: SocketAddr,
        now: Timestamp,
    ) -> anyhow::Result<Config> {
        let path = self.folder.join(CONFIG_FILE);
        let config = self.config(next_hops, ehr, dns)?;
        write_new(&path, config.print().as_bytes())?;
        let (config, problems) = Config::check(&path, now)?;
        if !problems.is_empty() {
            bail!("the demo's own configuration: {}", problems.join("; "));
        }
        Ok(config.resolved())
    }

    /// Where the bridge takes mail.
    pub(super) fn mail(&self) -> SocketAddr {
        self.mail
    }

    /// Makes way for the bridge, which is about to listen.
    pub(super) fn open_door(&mut self) {
        self.door = None;
    }
}

/// Everybody's keys.
pub(super) struct Ground {
    /// The CA's certificate.
    pub(super) ca: X509,
    /// The sender.
    pub(super) sender: DirectAddress,
    /// The recipient behind bridge B.
    pub(super) person: DirectAddress,
    /// The recipient with a mailbox.
    pub(super) office: DirectAddress,
    /// The key that opens what comes to the mailbox.
    pub(super) office_key: SigningIdentity,
    /// Where the crossing begins.
    pub(super) a: Side,
    /// Where it ends.
    pub(super) b: Side,
}

impl Ground {
    /// Makes the CA and all keys, and writes into `dir` what bridges and mailbox read from files.
    pub(super) fn make(dir: &Path, now: Timestamp) -> anyhow::Result<Self> {
        let sender: DirectAddress = SENDER.parse()?;
        let person: DirectAddress = PERSON.parse()?;
        let office: DirectAddress = OFFICE.parse()?;
        let authority = Authority::root("xdbridge demo CA", now)?;
        for folder in ["tls", "mail"] {
            make_folder(&dir.join(folder))?;
        }
        let a = ["a", "xdr.elm.example", "ehr.elm.example", "elm-ehr"];
        let a = Side::make(dir, a, sender.domain(), &authority, now)?;
        let b = [
            "b",
            "xdr.harbor.example",
            "ehr.harbor.example",
            "harbor-ehr",
        ];
        let b = Side::make(dir, b, person.domain(), &authority, now)?;
        let office_key = authority.issue(&Profile::address(&office, now))?;
        let mailbox = authority.issue(&Profile::tls(MAIL_HOST, now))?;
        write_identity(&dir.join("tls/mailbox"), &mailbox)?;
        write_identity(&dir.join("tls/ehr-a"), &a.ehr)?;
        write_identity(&dir.join("tls/ehr-b"), &b.ehr)?;
        Ok(Self {
            ca: authority.certificate,
            sender,
            person,
            office,
            office_key,
            a,
            b,
        })
    }

    /// The addresses that the EHR sends to.
    pub(super) fn recipients(&self) -> Vec<DirectAddress> {
        vec![self.person.clone(), self.office.clone()]
    }

    /// What is known of everybody's keys: the certificates of both domains, and that of the office itself.
    pub(super) fn published(&self) -> anyhow::Result<Published> {
        let office = self.office.to_string().replace('@', ".");
        Published::default()
            .with(self.a.domain.as_str(), &self.a.own.certificate)?
            .with(self.b.domain.as_str(), &self.b.own.certificate)?
            .with(&office, &self.office_key.certificate)
    }

    /// The configuration of bridge A: it posts what comes to the EHR at `ehr`, and asks the name server at `dns`.
    pub(super) fn configure_a(
        &self,
        mailbox: SocketAddr,
        ehr: SocketAddr,
        dns: SocketAddr,
        now: Timestamp,
    ) -> anyhow::Result<Config> {
        let harbor = (&self.b.domain, self.b.mail);
        let oak = (self.office.domain(), mailbox);
        self.a.configure(&[harbor, oak], ehr, dns, now)
    }

    /// The configuration of bridge B: it posts what comes to the EHR at `ehr`, and asks the name server at `dns`.
    pub(super) fn configure_b(
        &self,
        ehr: SocketAddr,
        dns: SocketAddr,
        now: Timestamp,
    ) -> anyhow::Result<Config> {
        let elm = (&self.a.domain, self.a.mail);
        self.b.configure(&[elm], ehr, dns, now)
    }
}
