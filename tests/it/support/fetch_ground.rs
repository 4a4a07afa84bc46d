//! Certificates that say where their issuers' certificates, lists and responders are, a web server that has them, and a
//! bridge's configuration that may go there.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use openssl::{
    nid::Nid,
    x509::{X509, X509Extension},
};
use serde_json::Value;
use xdbridge::{
    adapters::certificates::DomainConfig,
    app::{
        config::Config,
        pki::{Authority, KeyKind, Profile},
    },
    formats::smime::SigningIdentity,
};

use super::{
    bridge::{now, pki, write_identity},
    folder::TestFolder,
    web::Web,
};

/// An extension as OpenSSL's configuration writes it.
fn extension(nid: Nid, text: &str) -> X509Extension {
    #[expect(
        deprecated,
        reason = "the crate has no builder for extensions that hold URLs"
    )]
    X509Extension::new_nid(None, None, nid, text).unwrap()
}

/// AIA caIssuers.
pub(crate) fn issuer_at(url: &str) -> X509Extension {
    extension(Nid::INFO_ACCESS, &format!("caIssuers;URI:{url}"))
}

/// AIA id-ad-ocsp.
pub(crate) fn responder_at(url: &str) -> X509Extension {
    extension(Nid::INFO_ACCESS, &format!("OCSP;URI:{url}"))
}

/// cRLDistributionPoints.
pub(crate) fn list_at(url: &str) -> X509Extension {
    extension(Nid::CRL_DISTRIBUTION_POINTS, &format!("URI:{url}"))
}

/// Somebody at the discovery domain's, with a key that is quickly made.
pub(crate) fn anna(case: &str) -> String {
    format!("anna@{case}.hisp.example")
}

/// The certificate of [`anna`] by `issuer`, with these extensions; nothing above it goes along.
pub(crate) fn issued(
    issuer: &Authority,
    case: &str,
    extensions: impl IntoIterator<Item = X509Extension>,
) -> SigningIdentity {
    let mut profile = Profile::address(&anna(case).parse().unwrap(), now());
    profile.key = KeyKind::P256;
    profile.extensions.extend(extensions);
    alone(issuer.issue(&profile).unwrap())
}

/// Without what lies between it and its anchor.
pub(crate) fn alone(identity: SigningIdentity) -> SigningIdentity {
    SigningIdentity {
        intermediates: Vec::new(),
        ..identity
    }
}

/// A CA below the tests' own.
pub(crate) fn harbor_ca(extensions: &[X509Extension]) -> Authority {
    let authority = &pki().authority;
    authority
        .intermediate("Harbor CA", now(), extensions)
        .unwrap()
}

/// A bridge's configuration that trusts the CA of the tests, with a folder of recipients' certificates, and may fetch
/// from one web server.
pub(crate) struct FetchGround {
    folder: TestFolder,
    pub(crate) config: Config,
    pub(crate) web: Web,
}

impl FetchGround {
    pub(crate) fn new() -> Self {
        let folder = TestFolder::new();
        let path = folder.path();
        let ca = path.join("ca.pem");
        fs::write(&ca, pki().authority.certificate.to_pem().unwrap()).unwrap();
        let recipients = path.join("recipients");
        fs::create_dir(&recipients).unwrap();
        let web = Web::start();
        let mut config = Config::default();
        config.discovery.dns = false;
        config.discovery.ldap = false;
        config.certificates.recipients = vec![recipients];
        config.certificates.domains.push(DomainConfig::new(
            "direct.elm.example".parse().unwrap(),
            vec![write_identity(path, "elm", &pki().direct_elm)],
            vec![ca],
        ));
        let mut ground = Self {
            folder,
            config,
            web,
        };
        ground.config.delivery.background_lookup = Duration::from_secs(120);
        ground.permit(&[ground.web.address().to_string()]);
        ground
    }

    /// From now on it may fetch from these places alone.
    pub(crate) fn permit(&mut self, places: &[String]) {
        self.config.fetch.permit = places.iter().map(|place| place.parse().unwrap()).collect();
    }

    /// Hands a recipient's certificate over.
    pub(crate) fn give(&self, case: &str, certificate: &X509) {
        let folder = self.folder.path().join("recipients");
        let pem = certificate.to_pem().unwrap();
        fs::write(folder.join(format!("{case}.pem")), pem).unwrap();
    }

    /// Gives the certificate of a case, and tells what `explain` says of it.
    pub(crate) fn explain(&self, case: &str, identity: &SigningIdentity) -> Told {
        self.give(case, &identity.certificate);
        self.explain_again(case)
    }

    /// The same for one that was given before.
    pub(crate) fn explain_again(&self, case: &str) -> Told {
        let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .args(["explain", &anna(case), "--json", "--config"])
            .arg(self.file())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?} {error}");
        let mut told: Value = serde_json::from_slice(&output.stdout).unwrap();
        Told {
            case: case.to_owned(),
            sender: told["senders"][0].take(),
        }
    }

    fn file(&self) -> PathBuf {
        let file = self.folder.path().join("bridge.toml");
        fs::write(&file, self.config.print()).unwrap();
        file
    }
}

/// What `explain` tells of mail from the one domain.
pub(crate) struct Told {
    case: String,
    sender: Value,
}

impl Told {
    /// Asserts that the certificate serves, with so many certificates on its path, and gives what is doubted of it.
    pub(crate) fn assert_served(&self, path: usize) -> Option<String> {
        let chosen = &self.sender["chosen"];
        let length = chosen["path"].as_array().map(Vec::len);
        assert_eq!(length, Some(path), "{}: {:#}", self.case, self.sender);
        chosen["revocation_doubt"].as_str().map(str::to_owned)
    }

    /// Asserts that it does not, for sure or not, and why.
    pub(crate) fn assert_refused(&self, reason: &str, may_pass: bool, words: &str) {
        let refusal = &self.sender["refusal"];
        let case = &self.case;
        assert_eq!(refusal["reason"], reason, "{case}: {:#}", self.sender);
        let decided_by = refusal["decided_by"].as_str().unwrap();
        assert!(
            decided_by.ends_with(words),
            "{case}: {decided_by}\nnot: {words}"
        );
        assert_eq!(refusal["may_pass"], may_pass, "{case}");
    }

    /// The answers to what was fetched, by what was asked.
    pub(crate) fn fetched(&self) -> Vec<(String, String)> {
        let steps = self.sender["asked"].as_array().unwrap().iter();
        let steps = steps.flat_map(|asked| asked["steps"].as_array().unwrap());
        let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
        steps
            .map(|step| (text(step, "question"), text(step, "answer")))
            .filter(|(question, _)| question.contains("://"))
            .collect()
    }
}
