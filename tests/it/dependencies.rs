//! What the project may be built from: licences, one TLS stack, one crypto library, no crate twice without a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Licences that may be linked into an Apache-2.0 program. An expression passes if one of its `OR` choices holds
/// nothing else.
const LICENCES: [&str; 13] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "0BSD",
    "BSL-1.0",
    "MPL-2.0",
    "Unlicense",
];

/// TLS and crypto libraries beside OpenSSL: none of them may come in, by whatever road.
const SECOND_STACKS: [&str; 9] = [
    "rustls",
    "ring",
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "boring-sys",
    "rsa",
    "mbedtls",
    "gnutls",
];

/// Crates that stand in the tree more than once, each with the reason why that cannot be mended here.
const TWICE: [(&str, &str); 8] = [
    (
        "base64",
        "metrics-exporter-prometheus asks for 0.22, the others for 0.23",
    ),
    (
        "fallible-iterator",
        "tokio-postgres asks for 0.2, rusqlite for 0.3",
    ),
    (
        "getrandom",
        "metrics-util's rand 0.9 asks for 0.3, the others for 0.4",
    ),
    (
        "hashbrown",
        "metrics-util asks for 0.16, the others for 0.17",
    ),
    (
        "http",
        "actix-web 4 is built on 0.2, reqwest and tower on 1",
    ),
    (
        "nom",
        "mailin, which only the demo uses, asks for 7, lettre for 8",
    ),
    ("rand", "metrics-util asks for 0.9, hickory for 0.10"),
    ("rand_core", "follows rand"),
];

#[test]
fn every_dependency_has_a_licence_that_may_be_linked() {
    let refused: Vec<String> = linked_packages()
        .iter()
        .filter(|package| !is_permitted(&package.licence))
        .map(|package| format!("{} {}: {}", package.name, package.version, package.licence))
        .collect();
    assert!(refused.is_empty(), "licences to look at: {refused:#?}");
}

#[test]
fn there_is_one_tls_stack_and_one_crypto_library() {
    let present: BTreeSet<String> = linked_packages()
        .into_iter()
        .map(|package| package.name)
        .collect();
    assert!(present.contains("openssl"), "the packages were not found");
    let second: Vec<&&str> = SECOND_STACKS
        .iter()
        .filter(|stack| present.contains(**stack))
        .collect();
    assert!(second.is_empty(), "beside OpenSSL: {second:?}");
}

#[test]
fn no_crate_is_linked_twice_without_a_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked_packages() {
        versions
            .entry(package.name)
            .or_default()
            .insert(package.version);
    }
    let unexplained: Vec<String> = versions
        .iter()
        .filter(|(name, versions)| {
            versions.len() > 1 && !TWICE.iter().any(|(twice, _)| twice == name)
        })
        .map(|(name, versions)| format!("{name} {versions:?}"))
        .collect();
    assert!(
        unexplained.is_empty(),
        "twice in the tree: {unexplained:#?}"
    );
    for (name, reason) in TWICE {
        let is_twice = versions
            .get(name)
            .is_some_and(|versions| versions.len() > 1);
        assert!(
            is_twice,
            "{name} stands in the tree once: remove its exception ({reason})"
        );
    }
}

fn is_permitted(expression: &str) -> bool {
    // The older form `MIT/Apache-2.0` means OR.
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|licence| LICENCES.contains(&licence.trim()))
    })
}

/// One package of the tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

/// Every package that is linked into `xdbridge` with its default features on this platform: what only builds,
/// macros or tests need is not counted.
fn linked_packages() -> BTreeSet<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal,no-proc-macro",
        ])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let packages: BTreeSet<Package> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(read_line)
        .collect();
    assert!(packages.len() > 100, "the packages were not found");
    packages
}

/// `name v1.2.3 (…)|licence (*)`; `None` for the project itself.
fn read_line(line: &str) -> Option<Package> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (
        words.next()?.to_owned(),
        words.next()?.trim_start_matches('v').to_owned(),
    );
    let licence = licence.trim_end_matches(" (*)").to_owned();
    (name != env!("CARGO_PKG_NAME")).then_some(Package {
        name,
        version,
        licence,
    })
}
