//! A bridge that is asked by `xdbridge explain` which certificate it would use, and the certificates that it finds.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use jiff::Timestamp;
use openssl::x509::X509;
use serde_json::Value;
use xdbridge::{
    adapters::{certificates::DomainConfig, dns::config::DnsConfig},
    app::{
        config::Config,
        pki::{Profile, days},
    },
    formats::{
        ids::CertificateFingerprint,
        smime::{SigningIdentity, certificate},
    },
};

use super::{
    bind::ZONE,
    bridge::{now, pki, write_identity},
    folder::TestFolder,
    keys,
};

/// A bridge's configuration that trusts the CA of the tests, and asks one name server.
pub(crate) struct Asking {
    pub(crate) folder: TestFolder,
    pub(crate) config: Config,
}

impl Asking {
    pub(crate) fn at(server: SocketAddr) -> Self {
        let folder = TestFolder::new();
        let path = folder.path();
        let ca = path.join("ca.pem");
        fs::write(&ca, pki().authority.certificate.to_pem().unwrap()).unwrap();
        let mut config = Config::default();
        config.dns = DnsConfig {
            servers: vec![server],
            ..DnsConfig::default()
        };
        // What is answered is waited for, however busy the machine is.
        config.discovery.dns_timeout = Duration::from_secs(60);
        config.discovery.ldap_connect_timeout = Duration::from_secs(60);
        config.discovery.ldap_timeout = Duration::from_secs(60);
        config.discovery.ldap_permit = vec!["127.0.0.0/8".parse().unwrap()];
        config.delivery.background_lookup = Duration::from_secs(120);
        config.certificates.domains.push(DomainConfig::new(
            "direct.elm.example".parse().unwrap(),
            vec![write_identity(path, "elm", &pki().direct_elm)],
            vec![ca],
        ));
        Self { folder, config }
    }

    /// The same with these certificates, each in files of this name, for a domain of its own.
    pub(crate) fn owning(mut self, domain: &str, identities: &[(&str, &SigningIdentity)]) -> Self {
        let own = &mut self.config.certificates.domains[0];
        own.name = domain.parse().unwrap();
        let identities = identities.iter();
        own.identities = identities
            .map(|(name, identity)| write_identity(self.folder.path(), name, identity))
            .collect();
        self
    }

    pub(crate) fn file(&self) -> PathBuf {
        let file = self.folder.path().join("bridge.toml");
        fs::write(&file, self.config.print()).unwrap();
        file
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .arg("explain")
            .args(arguments)
            .arg("--config")
            .arg(self.file())
            .output()
            .unwrap()
    }

    /// Runs `xdbridge cert` with these arguments on the same configuration, and gives what it prints.
    pub(crate) fn cert(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .arg("cert")
            .args(arguments)
            .arg("--config")
            .arg(self.file())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it tells scripts of mail from the one domain, and whether a certificate serves.
    pub(crate) fn told(&self, address: &str) -> (Value, bool) {
        let output = self.run(&[address, "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?} {error}");
        let mut told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{error}"));
        (told["senders"][0].take(), code == Some(0))
    }

    /// What it tells people.
    pub(crate) fn text(&self, address: &str) -> String {
        let output = self.run(&[address]);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts that this certificate is the one, found under that name.
    pub(crate) fn assert_chosen(&self, address: &str, identity: &SigningIdentity, origin: &str) {
        let (told, is_served) = self.told(address);
        assert!(is_served, "{address}: {told:#}");
        assert_eq!(
            told["chosen"]["sha256"],
            sha256(identity),
            "{address}: {told:#}"
        );
        assert_eq!(told["chosen"]["origin"], origin, "{address}");
    }

    /// Asserts that none serves, for sure, and what decided.
    pub(crate) fn assert_refused(&self, address: &str, reason: &str, decided_by: &str) {
        let (told, is_served) = self.told(address);
        assert!(!is_served, "{address}: {told:#}");
        let refusal = &told["refusal"];
        assert_eq!(refusal["reason"], reason, "{address}: {told:#}");
        assert_eq!(refusal["may_pass"], false, "{address}: {told:#}");
        let told = refusal["decided_by"].as_str().unwrap();
        assert!(told.contains(decided_by), "{address}: {told}");
    }
}

pub(crate) fn der(identity: &SigningIdentity) -> Vec<u8> {
    identity.certificate.to_der().unwrap()
}

pub(crate) fn sha256(identity: &SigningIdentity) -> String {
    CertificateFingerprint::of_der(&der(identity)).to_string()
}

pub(crate) fn address(address: &str) -> Profile {
    Profile::address(&address.parse().unwrap(), now())
}

pub(crate) fn domain(domain: &str) -> Profile {
    Profile::domain(&domain.parse().unwrap(), now())
}

pub(crate) fn expired(mut profile: Profile) -> Profile {
    profile.not_before = days(now(), -30);
    // No time that another certificate begins at.
    profile.not_after = days(now(), -2);
    profile
}

pub(crate) fn issue(profile: &Profile) -> SigningIdentity {
    keys::issue(&pki().authority, profile)
}

/// `anna` in a domain of her own for each case.
pub(crate) fn anna(case: &str) -> String {
    format!("anna@{case}.{ZONE}")
}

/// What differs from run to run, by names.
pub(crate) fn fixed(text: &str, named: &[(&str, &X509)]) -> String {
    let mut text = text.to_owned();
    for (name, certificate) in named {
        let der = certificate.to_der().unwrap();
        let sha256 = CertificateFingerprint::of_der(&der).to_string();
        text = text.replace(&sha256, &format!("<SHA-256 of {name}>"));
        let serial = certificate.serial_number().to_bn().unwrap();
        let serial: String = serial.to_vec().iter().map(|o| format!("{o:02x}")).collect();
        text = text.replace(&serial, &format!("<serial of {name}>"));
        for (what, time) in [
            ("start", certificate.not_before()),
            ("end", certificate.not_after()),
        ] {
            let time = certificate::timestamp(time).unwrap().to_string();
            text = text.replace(&time, &format!("<{what} of {name}>"));
        }
    }
    let lines = text.lines().map(|line| {
        // How long it took, and when it was.
        match (line.starts_with("? "), line.rsplit_once(" (")) {
            (true, Some((question, _))) => question.to_owned(),
            _ => line.to_owned(),
        }
    });
    let mut lines: Vec<String> = lines.collect();
    let (address, at) = lines[0].split_once(" at ").unwrap();
    assert!(at.parse::<Timestamp>().is_ok());
    lines[0] = format!("{address} at <now>");
    lines.join("\n") + "\n"
}
