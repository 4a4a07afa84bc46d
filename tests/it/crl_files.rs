//! Files of revocation lists: what is told of them, and what stays in force when they change (certificates.md section 7).

use std::{
    fs,
    path::{Path, PathBuf},
};

use xdbridge::{
    adapters::certificates::{CertificateFiles, CertificatesConfig, DomainConfig},
    app::pki::Authority,
    bridge::{
        exchange::Reason,
        trust::{CertificateCandidate, Purpose},
    },
    flows::ports::OwnDomains,
    formats::smime::SigningIdentity,
};

use crate::support::{
    bridge::{MEI, TestBridge, now, pki},
    crl::{by_lists_in, crl_of, mei_of, place, put},
    folder::TestFolder,
    wait_until,
};

/// A domain's certificate files with the root as its anchor and the folder's lists.
fn files(root: &Authority, folder: &Path) -> CertificatesConfig {
    let anchor = folder.join("anchor.pem");
    fs::write(&anchor, root.certificate.to_pem().unwrap()).unwrap();
    let crls = folder.join("crls");
    fs::create_dir_all(&crls).unwrap();
    CertificatesConfig {
        domains: vec![DomainConfig {
            crls: vec![crls],
            ..DomainConfig::new(
                "direct.elm.example".parse().unwrap(),
                Vec::new(),
                vec![anchor],
            )
        }],
        ..CertificatesConfig::default()
    }
}

// rule: REV-2
#[test]
fn lists_that_cannot_be_read_or_that_nobody_known_has_signed_are_told_by_file() {
    let root = Authority::root("root", now()).unwrap();
    let namesake = Authority::root("root", now()).unwrap();
    let folder = TestFolder::new();
    let config = files(&root, folder.path());
    let put = |name: &str, octets: &[u8]| {
        fs::write(config.domains[0].crls[0].join(name), octets).unwrap()
    };
    let problems = || {
        let problems = CertificateFiles::load(config.clone(), now())
            .err()
            .unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let two = [crl_of(&root).pem(), crl_of(&root).hours(-9, 9).pem()].concat();
    put("a.pem", &two);
    put("b.crl", &crl_of(&root).der());
    assert_eq!(problems(), Vec::<String>::new());
    // A delta beside its complete list is no fault, and told.
    put(
        "c.crl",
        &crl_of(&root)
            .extension("2.5.29.27 = critical,DER:020101")
            .der(),
    );
    let loaded = CertificateFiles::load(config.clone(), now()).unwrap();
    let warnings = loaded.warnings();
    assert!(
        warnings[0].contains("c.crl: is a delta CRL"),
        "{warnings:?}"
    );
    assert_eq!(loaded.crls().len(), 3);

    put("d.crl", &crl_of(&namesake).der());
    put(
        "e.pem",
        b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n",
    );
    put("f.pem", root.certificate.to_pem().unwrap().as_slice());
    let told = problems();
    assert_eq!(told.len(), 3, "{told:?}");
    for (problem, words) in told.iter().zip([
        "d.crl: a CRL is signed by none of the domain's anchors",
        "e.pem: is not a readable CRL",
        "f.pem: holds no CRL",
    ]) {
        assert!(problem.contains(words), "{problem}");
    }
}

/// Certificate files as a running bridge has them, with one list in their folder.
struct Ground {
    _folder: TestFolder,
    root: Authority,
    mei: SigningIdentity,
    lists: PathBuf,
    loaded: CertificateFiles,
}

impl Ground {
    /// Begins with `list.crl` of nobody, from three hours ago, with the CRL number 5.
    fn new() -> Self {
        let root = Authority::root("root", now()).unwrap();
        let folder = TestFolder::new();
        let config = files(&root, folder.path());
        let lists = config.domains[0].crls[0].clone();
        let first = crl_of(&root).hours(-3, 24).number(5).der();
        fs::write(lists.join("list.crl"), first).unwrap();
        Self {
            mei: mei_of(&root),
            root,
            lists,
            loaded: CertificateFiles::load(config, now()).unwrap(),
            _folder: folder,
        }
    }

    fn put(&self, name: &str, octets: &[u8]) {
        place(&self.lists.join(name), octets);
    }

    /// Reads what changed, and gives the problems.
    fn refresh(&self) -> Vec<String> {
        let reading = self.loaded.refresh_crls(now());
        reading.problems.iter().map(ToString::to_string).collect()
    }

    fn assert_one_problem(&self, words: &str) {
        let problems = self.refresh();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(words), "{problems:?}");
    }

    /// The domain's own judgement of Mei's certificate, which remembers: no memory may outlive the list that it was
    /// made by.
    fn judged(&self) -> Result<(), Reason> {
        let name = "direct.elm.example".parse().unwrap();
        let own = OwnDomains::find(&self.loaded, &name).unwrap();
        let address = MEI.parse().unwrap();
        let candidates = [CertificateCandidate {
            der: self.mei.certificate.to_der().unwrap(),
            origin: "test".to_owned(),
        }];
        own.judge(&candidates, &address, Purpose::Encrypt, now())
            .map(|_| ())
            .map_err(|refusal| refusal.reason)
    }
}

const REVOKED: Result<(), Reason> = Err(Reason::CertificateRevoked);

// rule: REV-1, REV-2, REV-5
#[test]
fn files_are_read_anew_when_they_change_and_what_is_gone_or_broken_leaves_the_last_in_force() {
    let ground = Ground::new();
    let none = Vec::<String>::new();
    assert_eq!(ground.judged(), Ok(()));
    let revoked = crl_of(&ground.root)
        .revoking(&ground.mei.certificate)
        .hours(-2, 24);
    ground.put("list.crl", &revoked.der());
    assert_eq!(ground.judged(), Ok(()));
    assert_eq!(ground.refresh(), none);
    assert_eq!(ground.judged(), REVOKED);

    ground.put("list.crl", b"half a fi");
    ground.assert_one_problem("list.crl: holds no CRL");
    assert_eq!(ground.judged(), REVOKED);
    fs::remove_file(ground.lists.join("list.crl")).unwrap();
    ground.assert_one_problem("crls: holds no file whose name ends in");
    assert_eq!(ground.judged(), REVOKED);
    fs::remove_dir(&ground.lists).unwrap();
    ground.assert_one_problem("crls: cannot be read");
    assert_eq!(ground.judged(), REVOKED);
    fs::create_dir(&ground.lists).unwrap();
    // Under another name, and newer: off the list.
    ground.put("newer.crl", &crl_of(&ground.root).der());
    assert_eq!(ground.refresh(), none);
    assert_eq!(ground.loaded.crls().len(), 1);
    assert_eq!(ground.judged(), Ok(()));
}

// rule: REV-2
#[test]
fn an_older_list_takes_no_newer_ones_place_until_all_is_reloaded() {
    let ground = Ground::new();
    let listed = || crl_of(&ground.root).revoking(&ground.mei.certificate);
    ground.put("list.crl", &listed().hours(-2, 24).number(6).der());
    assert_eq!(ground.refresh(), Vec::<String>::new());
    assert_eq!(ground.judged(), REVOKED);
    // By its time; by its number, though it says that it is newer; the same under another name.
    let older = crl_of(&ground.root).hours(-3, 24).number(5).der();
    let lower = crl_of(&ground.root).hours(-1, 24).number(5).der();
    for (name, octets) in [
        ("list.crl", &older),
        ("list.crl", &lower),
        ("x.crl", &older),
    ] {
        let _ = fs::remove_file(ground.lists.join("list.crl"));
        ground.put(name, octets);
        for _ in 0..2 {
            ground.assert_one_problem("is older than the one in force by the same issuer");
            assert_eq!(ground.judged(), REVOKED);
        }
    }
    // One of the future says nothing yet, and so takes nobody's place either.
    ground.put("x.crl", &crl_of(&ground.root).hours(2, 24).number(7).der());
    assert_eq!(ground.refresh(), Vec::<String>::new());
    assert_eq!(ground.judged(), REVOKED);
    // Nor does it keep a right one out.
    ground.put("x.crl", &crl_of(&ground.root).number(6).der());
    assert_eq!(ground.refresh(), Vec::<String>::new());
    assert_eq!(ground.judged(), Ok(()));
    assert_eq!(ground.loaded.crls().len(), 1);

    ground.put("x.crl", &listed().hours(-9, 24).number(1).der());
    ground.assert_one_problem("is older");
    assert_eq!(ground.judged(), Ok(()));
    ground.loaded.reload(now()).unwrap();
    assert_eq!(ground.judged(), REVOKED);
}

// rule: REV-2
#[test]
fn a_list_takes_the_place_of_its_own_issuers_list_alone() {
    let root = Authority::root("root", now()).unwrap();
    let namesake = Authority::root("root", now()).unwrap();
    let mei = mei_of(&root);
    let folder = TestFolder::new();
    let mut config = files(&root, folder.path());
    let other = folder.path().join("namesake.pem");
    fs::write(&other, namesake.certificate.to_pem().unwrap()).unwrap();
    config.domains[0].anchors.push(other);
    let lists = config.domains[0].crls[0].clone();
    let listed = crl_of(&root).revoking(&mei.certificate).hours(-3, 24);
    let both = [crl_of(&namesake).hours(-3, 24).pem(), listed.pem()].concat();
    place(&lists.join("lists.pem"), &both);
    let ground = Ground {
        loaded: CertificateFiles::load(config, now()).unwrap(),
        _folder: folder,
        root,
        mei,
        lists,
    };
    assert_eq!(ground.judged(), REVOKED);
    // The file ends after its first list: nobody can tell that from a whole one, and the other list stays in force.
    ground.put("lists.pem", &crl_of(&namesake).pem());
    assert_eq!(ground.refresh(), Vec::<String>::new());
    assert_eq!(ground.judged(), REVOKED);
    ground.put("lists.pem", &crl_of(&ground.root).pem());
    assert_eq!(ground.refresh(), Vec::<String>::new());
    assert_eq!(ground.judged(), Ok(()));
}

// rule: REV-2
#[test]
fn a_file_of_several_lists_that_breaks_off_anywhere_changes_nothing() {
    let ground = Ground::new();
    let listed = crl_of(&ground.root)
        .revoking(&ground.mei.certificate)
        .hours(-2, 24);
    ground.put("list.crl", &listed.der());
    assert_eq!(ground.refresh(), Vec::<String>::new());
    fs::remove_file(ground.lists.join("list.crl")).unwrap();
    let (first, second) = (crl_of(&ground.root).pem(), crl_of(&ground.root).pem());
    let whole = [first.as_slice(), b"words between\n", second.as_slice()].concat();
    let begins = first.len() + "words between\n".len();
    for length in (1..first.len() - 1)
        .chain(begins + 1..whole.len() - 1)
        .step_by(7)
    {
        ground.put("lists.pem", &whole[..length]);
        let problems = ground.refresh();
        assert_eq!(problems.len(), 1, "after {length} octets: {problems:?}");
        assert_eq!(ground.judged(), REVOKED, "after {length} octets");
    }
    ground.put("lists.pem", &whole);
    assert_eq!(ground.refresh(), Vec::<String>::new());
    assert_eq!(ground.judged(), Ok(()));
}

// rule: REV-2
#[test]
fn a_path_without_a_list_that_is_used_is_told_at_start() {
    let root = Authority::root("root", now()).unwrap();
    let folder = TestFolder::new();
    let config = files(&root, folder.path());
    let problem = || {
        let problems = CertificateFiles::load(config.clone(), now()).err().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    };
    assert!(problem().contains("crls: holds no file whose name ends in .crl, .pem or .der"));
    let lists = &config.domains[0].crls[0];
    fs::write(lists.join("readme.txt"), "nothing").unwrap();
    assert!(problem().contains("crls: holds no file whose name ends in .crl, .pem or .der"));
    let delta = crl_of(&root).extension("2.5.29.27 = critical,DER:020101");
    fs::write(lists.join("delta.crl"), delta.der()).unwrap();
    assert!(problem().contains("crls: holds no CRL of a kind that is used"));
    fs::write(lists.join("none.pem"), "words").unwrap();
    assert!(problem().contains("none.pem: holds no CRL"));
}

fn gauge(bridge: &TestBridge, name: &str) -> f64 {
    let measures = bridge.measures();
    let mut lines = measures.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

// rule: REV-2
#[test]
fn a_running_bridge_tells_of_an_older_or_missing_list_by_alarm_and_gauge() {
    let folder = TestFolder::new();
    let list = folder.path().join("list.pem");
    place(&list, &crl_of(&pki().authority).pem());
    let domains = ["direct.harbor.example"];
    let (bridge, _hop) = TestBridge::beside_a_hop(&domains, by_lists_in(folder.path()));
    let problems = |count: f64| {
        wait_until("the problems are told", || {
            gauge(&bridge, "xdbridge_crl_problems") == count
        });
    };
    wait_until("the list is in use", || {
        bridge.measures().contains("xdbridge_crl_days_left")
    });
    problems(0.0);
    assert_eq!(bridge.alarms("crl"), 0);
    place(&list, &crl_of(&pki().authority).hours(-9, 24).pem());
    problems(1.0);
    assert_eq!(bridge.alarms("crl"), 1);
    fs::remove_file(&list).unwrap();
    wait_until("the empty folder is told", || bridge.alarms("crl") == 2);
    problems(1.0);
    put(
        &bridge,
        folder.path(),
        "new.pem",
        &crl_of(&pki().authority).pem(),
    );
    problems(0.0);
    assert_eq!(bridge.alarms("crl"), 2);
}
