//! `xdbridge cert list`: what ends when.

use std::{fs, process::Command};

use serde_json::Value;
use xdbridge::{
    adapters::certificates::DomainConfig,
    app::{
        config::Config,
        pki::{Authority, Profile, days},
    },
};

use crate::support::{
    bridge::{now, write_identity},
    crl::crl_of,
    folder::TestFolder,
    keys,
};

/// Kinds, days left and whose it is, as `cert list --json` tells them, and the exit code.
fn listed(config: &Config, folder: &TestFolder, arguments: &[&str]) -> (Vec<(String, i64)>, i32) {
    let file = folder.path().join("bridge.toml");
    fs::write(&file, config.print()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(["cert", "list", "--json", "--config"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    let rows = rows.as_array().unwrap().iter().map(|row| {
        let kind = row["kind"].as_str().unwrap().to_owned();
        (kind, row["days_left"].as_i64().unwrap())
    });
    (rows.collect(), output.status.code().unwrap())
}

#[test]
fn every_certificate_anchor_and_list_is_told_with_its_days_what_ends_first_on_top() {
    let folder = TestFolder::new();
    let path = folder.path();
    let ca = Authority::root("Harbor CA", now()).unwrap();
    let domain = "direct.harbor.example".parse().unwrap();
    let ending = |left| {
        let mut profile = Profile::domain(&domain, now());
        profile.not_before = days(now(), -300);
        // An hour more: the list is made a moment later.
        profile.not_after = days(now(), left) + jiff::SignedDuration::from_hours(1);
        keys::issue(&ca, &profile)
    };
    let anchor = path.join("anchor.pem");
    fs::write(&anchor, ca.certificate.to_pem().unwrap()).unwrap();
    let crl = path.join("list.pem");
    fs::write(&crl, crl_of(&ca).pem()).unwrap();
    let tls = keys::issue(&ca, &Profile::tls("bridge.harbor.example", now()));
    let mut config = Config::default();
    let shown = write_identity(path, "tls", &tls);
    config.soap.server.certificate = shown.certificate;
    config.certificates.domains.push(DomainConfig {
        crls: vec![crl],
        ..DomainConfig::new(
            domain.clone(),
            vec![
                write_identity(path, "soon", &ending(20)),
                write_identity(path, "later", &ending(200)),
                write_identity(path, "gone", &ending(-2)),
            ],
            vec![anchor],
        )
    });
    let (all, code) = listed(&config, &folder, &[]);
    assert_eq!(code, 0);
    assert!(all.is_sorted_by_key(|(_, days)| *days), "{all:?}");
    let of = |kind: &str| -> Vec<i64> {
        let rows = all.iter().filter(|(one, _)| one == kind);
        rows.map(|(_, days)| *days).collect()
    };
    assert_eq!(of("own"), [-2, 20, 200]);
    assert_eq!(
        (of("anchor").len(), of("tls").len(), of("crl").len()),
        (1, 1, 1)
    );
    assert!(of("anchor")[0] > 3_000 && of("tls")[0] >= 364);
    let (soon, code) = listed(&config, &folder, &["--expiring", "21"]);
    assert_eq!(code, 1);
    let own = soon.iter().filter(|(kind, _)| kind == "own");
    assert_eq!(own.map(|(_, days)| *days).collect::<Vec<_>>(), [-2, 20]);
    config.certificates.domains[0].identities.truncate(2);
    config.certificates.domains[0].crls.clear();
    let (none, code) = listed(&config, &folder, &["--expiring", "20"]);
    assert_eq!((none.len(), code), (0, 0));
}
