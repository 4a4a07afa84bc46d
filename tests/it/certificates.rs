//! Certificate files: what is read, what is found by an address, and what an operator is told of a wrong file.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use xdbridge::{
    adapters::certificates::{
        CertificateFiles, CertificatesConfig, DomainConfig, FileFault, FileProblem, IdentityConfig,
        PemError,
    },
    app::pki::{Authority, KeyKind, Profile, days},
    flows::ports::{FindCertificates, OwnDomains},
    formats::{ids::DirectAddress, smime::SigningIdentity},
};

use crate::support::folder::TestFolder;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// A folder with the files of one served domain and of peers.
struct Ground {
    folder: TestFolder,
    root: Authority,
    issuing: Authority,
}

impl Ground {
    fn new() -> Self {
        let root = Authority::root("Harbor Root", now()).unwrap();
        let issuing = root.intermediate("Harbor Issuing", now(), &[]).unwrap();
        let ground = Self {
            folder: TestFolder::new(),
            root,
            issuing,
        };
        fs::create_dir(ground.path("peers")).unwrap();
        ground.put("root.pem", &ground.root.certificate.to_pem().unwrap());
        ground.put("inter.pem", &ground.issuing.certificate.to_pem().unwrap());
        ground.put_identity("own", &ground.issue(ground.own_profile()));
        ground
    }

    fn own_profile(&self) -> Profile {
        let mut profile = Profile::domain(&"direct.harbor.example".parse().unwrap(), now());
        profile.key = KeyKind::P256;
        profile
    }

    fn issue(&self, mut profile: Profile) -> SigningIdentity {
        profile.key = KeyKind::P256;
        self.issuing.issue(&profile).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, octets: &[u8]) {
        fs::write(self.path(name), octets).unwrap();
        set_mode(&self.path(name), 0o644);
    }

    fn put_identity(&self, name: &str, identity: &SigningIdentity) {
        self.put(
            &format!("{name}.pem"),
            &identity.certificate.to_pem().unwrap(),
        );
        let key = format!("{name}.key");
        self.put(&key, &identity.key.private_key_to_pem_pkcs8().unwrap());
        set_mode(&self.path(&key), 0o600);
    }

    fn config(&self) -> CertificatesConfig {
        CertificatesConfig {
            recipients: vec![self.path("peers")],
            domains: vec![DomainConfig {
                name: "direct.harbor.example".parse().unwrap(),
                identities: vec![IdentityConfig {
                    certificate: self.path("own.pem"),
                    key: self.path("own.key"),
                    passphrase_file: None,
                }],
                anchors: vec![self.path("root.pem")],
                intermediates: vec![self.path("inter.pem")],
                allow_legacy: Vec::new(),
            }],
        }
    }

    fn load(&self) -> Result<CertificateFiles, Vec<FileProblem>> {
        CertificateFiles::load(self.config(), now())
    }

    /// The one problem that loading finds.
    fn problem(&self) -> FileProblem {
        let mut problems = self.load().err().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn address(text: &str) -> DirectAddress {
    text.parse().unwrap()
}

// rule: SM-16, SND-4, KEY-2
#[test]
fn a_served_domain_signs_for_its_addresses_with_the_intermediates_below_the_anchor() {
    let ground = Ground::new();
    let files = ground.load().unwrap();
    let domain = OwnDomains::find(&files, &"direct.harbor.example".parse().unwrap()).unwrap();
    let signers = domain.signers(&address("rui@direct.harbor.example"), now());
    assert_eq!(signers.len(), 1);
    assert_eq!(
        signers[0].intermediates,
        std::slice::from_ref(&ground.issuing.certificate)
    );
    assert!(domain.anchors.contains(&ground.root.certificate));
    assert!(
        domain
            .signers(&address("rui@direct.quay.example"), now())
            .is_empty()
    );
    assert!(
        domain
            .signers(&address("rui@direct.harbor.example"), days(now(), 400))
            .is_empty()
    );
    assert!(OwnDomains::find(&files, &"direct.quay.example".parse().unwrap()).is_none());
}

// rule: BIND-2, DISC-4, DNS-8, MR-5, CERT-2
#[tokio::test]
async fn peers_are_found_by_address_before_domain_and_own_domains_like_peers() {
    let ground = Ground::new();
    let by_domain = ground.issue(Profile::domain(
        &"direct.quay.example".parse().unwrap(),
        now(),
    ));
    let by_address = ground.issue(Profile::address(
        &address("ngozi@direct.quay.example"),
        now(),
    ));
    let mut nameless = ground.own_profile();
    nameless.names = Vec::new();
    let nameless = ground.issue(nameless);
    ground.put("peers/a.pem", &by_domain.certificate.to_pem().unwrap());
    ground.put("peers/b.der", &by_address.certificate.to_der().unwrap());
    ground.put("peers/c.crt", &nameless.certificate.to_pem().unwrap());
    ground.put("peers/d.cer", &ground.issuing.certificate.to_pem().unwrap());
    ground.put("peers/notes.txt", b"not a certificate");
    let files = ground.load().unwrap();
    let find = async |text: &str| {
        let lookup = FindCertificates::find(&files, &address(text)).await;
        assert_eq!(lookup.steps.len(), 1);
        lookup
            .candidates
            .into_iter()
            .map(|found| found.der)
            .collect::<Vec<_>>()
    };
    let (domain_der, address_der) = (
        by_domain.certificate.to_der().unwrap(),
        by_address.certificate.to_der().unwrap(),
    );
    assert_eq!(
        find("NGOZI@direct.quay.example").await,
        [address_der, domain_der.clone()]
    );
    assert_eq!(find("ada@direct.quay.example").await, [domain_der]);
    assert_eq!(find("rui@direct.harbor.example").await.len(), 1);
    assert!(find("rui@direct.wharf.example").await.is_empty());
    assert_eq!(files.warnings().len(), 1);
    assert!(files.warnings()[0].contains("CERT-2"));
}

// rule: KEY-1, T-31
#[test]
fn a_key_that_others_can_read_is_refused_with_the_mode_that_would_do() {
    let ground = Ground::new();
    set_mode(&ground.path("own.key"), 0o640);
    let problem = ground.problem();
    assert_eq!(problem.path, ground.path("own.key"));
    assert!(matches!(
        problem.fault,
        FileFault::Pem(PemError::Permissions { mode: 0o640 })
    ));
    assert!(problem.to_string().contains("0600"));
}

// rule: KEY-2
#[test]
fn keys_are_checked_when_they_are_read() {
    let ground = Ground::new();
    let fits = fs::read(ground.path("own.key")).unwrap();
    let stranger = ground.issue(ground.own_profile());
    let foreign_pem = stranger.key.private_key_to_pem_pkcs8().unwrap();
    fs::write(ground.path("own.key"), foreign_pem).unwrap();
    assert!(matches!(
        ground.problem().fault,
        FileFault::KeyMismatch { .. }
    ));
    fs::write(ground.path("own.key"), b"-----BEGIN NOTHING-----").unwrap();
    assert!(matches!(
        ground.problem().fault,
        FileFault::Pem(PemError::NoKey)
    ));
    fs::write(ground.path("own.key"), fits).unwrap();
    assert!(ground.load().is_ok());

    let elsewhere = Profile::domain(&"direct.quay.example".parse().unwrap(), now());
    ground.put_identity("own", &ground.issue(elsewhere));
    assert!(matches!(ground.problem().fault, FileFault::NotBound { .. }));
    let mut foreign = ground.own_profile();
    foreign.key = KeyKind::P256;
    let foreign = Authority::root("Foreign", now())
        .unwrap()
        .issue(&foreign)
        .unwrap();
    ground.put_identity("own", &foreign);
    assert!(matches!(ground.problem().fault, FileFault::NoPath { .. }));
    ground.put("own.pem", b"nothing");
    assert!(matches!(
        ground.problem().fault,
        FileFault::Pem(PemError::NoCertificate)
    ));
}

// rule: KEY-1
#[test]
fn an_encrypted_key_opens_with_its_pass_phrase_file_and_never_asks_a_terminal() {
    let ground = Ground::new();
    let identity = ground.issue(ground.own_profile());
    ground.put_identity("own", &identity);
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let pem = identity
        .key
        .private_key_to_pem_pkcs8_passphrase(cipher, b"a long phrase")
        .unwrap();
    fs::write(ground.path("own.key"), pem).unwrap();
    assert!(matches!(
        ground.problem().fault,
        FileFault::Pem(PemError::NoKey)
    ));
    ground.put("phrase", b"a long phrase\n");
    set_mode(&ground.path("phrase"), 0o600);
    let mut config = ground.config();
    config.domains[0].identities[0].passphrase_file = Some(ground.path("phrase"));
    assert!(CertificateFiles::load(config, now()).is_ok());
}

// rule: KEY-3
#[test]
fn an_expired_key_still_opens_mail_and_signs_none() {
    let ground = Ground::new();
    let files = CertificateFiles::load(ground.config(), days(now(), 400)).unwrap();
    let domain = OwnDomains::find(&files, &"direct.harbor.example".parse().unwrap()).unwrap();
    assert_eq!(domain.identities.len(), 1);
    let sender = address("rui@direct.harbor.example");
    assert!(domain.signers(&sender, days(now(), 400)).is_empty());
    assert!(files.warnings()[0].contains("KEY-3"));
}

#[tokio::test]
async fn a_reload_takes_new_files_and_keeps_the_old_state_on_any_problem() {
    let ground = Ground::new();
    let files = ground.load().unwrap();
    let wanted = address("ngozi@direct.quay.example");
    let peer = ground.issue(Profile::address(&wanted, now()));
    ground.put("peers/a.pem", &peer.certificate.to_pem().unwrap());
    files.reload(now()).unwrap();
    assert_eq!(
        FindCertificates::find(&files, &wanted)
            .await
            .candidates
            .len(),
        1
    );
    fs::remove_file(ground.path("peers/a.pem")).unwrap();
    fs::remove_file(ground.path("own.key")).unwrap();
    fs::remove_file(ground.path("root.pem")).unwrap();
    let problems = files.reload(now()).unwrap_err();
    assert_eq!(problems.len(), 2, "every problem at once: {problems:?}");
    assert_eq!(
        FindCertificates::find(&files, &wanted)
            .await
            .candidates
            .len(),
        1
    );
}
