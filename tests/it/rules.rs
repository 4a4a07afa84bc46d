//! The table of rules holds every rule that the code can name in a finding or a fault, and every row is shown by a test.

use std::{collections::BTreeSet, fs, path::Path};

use xdbridge::bridge::rules::{JUDGED_ELSEWHERE, rules};

use crate::architecture::rust_files;

/// Where requests, packages and answers are read and judged.
const JUDGES: [&str; 7] = [
    "src/formats/soap",
    "src/formats/xml",
    "src/formats/xdr",
    "src/formats/xdm",
    "src/formats/metadata",
    "src/bridge",
    "src/flows",
];
const PREFIXES: [&str; 7] = ["MD-", "XDR-", "XDM-", "SOAP-", "LIM-", "ADR-", "T-"];
/// Named in the code, and no rule of a finding: XDR-63 is the form of a part of what XDR-61 and MD-45 tell, XDR-50 is
/// told to the log alone.
const NO_FINDINGS: [&str; 2] = ["XDR-63", "XDR-50"];

/// The rules that the code of a file names as such: string literals that are an ID and nothing else.
fn literals(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2).filter(|literal| {
        let number = PREFIXES
            .iter()
            .find_map(|prefix| literal.strip_prefix(prefix));
        number.is_some_and(|number| {
            let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
            !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
        })
    })
}

// rule: XDR-140
#[test]
fn every_rule_that_the_code_can_tell_is_in_the_table() {
    let table: BTreeSet<&str> = rules().map(|rule| rule.id).collect();
    let mut missing = BTreeSet::new();
    let mut named = 0;
    for file in JUDGES
        .iter()
        .flat_map(|folder| rust_files(Path::new(folder)))
    {
        let is_test = file.components().any(|part| part.as_os_str() == "tests");
        if is_test || file.ends_with("tests.rs") || file.ends_with("src/bridge/rules.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code: String = text
            .split("#[cfg(test)]")
            .next()
            .unwrap()
            .lines()
            // A quotation mark in a comment would count.
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        for id in literals(&code.replace("\\\"", "").replace("'\"'", "")) {
            named += 1;
            if !table.contains(id) && !NO_FINDINGS.contains(&id) {
                missing.insert(format!("{id} in {}", file.display()));
            }
        }
    }
    assert!(named > 150, "only {named} rules are named in the code");
    assert!(
        missing.is_empty(),
        "give each a row in src/bridge/rules.rs: {missing:#?}"
    );
}

#[test]
fn every_rule_has_one_row() {
    let mut seen = BTreeSet::new();
    for rule in rules() {
        assert!(seen.insert(rule.id), "{} has two rows", rule.id);
        assert!(!rule.asks.is_empty());
    }
}

/// Rows of metadata have their cases, which a test beside them makes sure of.
#[test]
fn every_row_that_is_judged_elsewhere_is_shown_by_a_tagged_test() {
    let mut tagged = BTreeSet::new();
    for file in ["src", "tests"]
        .iter()
        .flat_map(|folder| rust_files(Path::new(folder)))
    {
        let text = fs::read_to_string(file).unwrap();
        let tags = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("// rule: "));
        tagged.extend(tags.flat_map(|tags| tags.split(", ")).map(str::to_owned));
    }
    let unshown: Vec<&str> = JUDGED_ELSEWHERE
        .iter()
        .map(|rule| rule.id)
        .filter(|id| !tagged.contains(*id))
        .collect();
    assert!(unshown.is_empty(), "no test shows {unshown:?}");
}
