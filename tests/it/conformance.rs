//! `docs/conformance.md` says which rule of `docs/spec` is shown by which test. It is made from the `// rule:` lines
//! above tests; `UPDATE_EXPECT=1` writes it anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use crate::architecture::rust_files;

const SPEC_FOLDER: &str = "docs/spec";
const CONFORMANCE: &str = "docs/conformance.md";

/// The files of `docs/spec` in reading order.
const SPEC_FILES: [&str; 12] = [
    "soap",
    "xdr",
    "xdm",
    "metadata",
    "nhin",
    "direct",
    "smime",
    "certificates",
    "mdn",
    "smtp",
    "threats",
    "audit",
];

/// What a rule's ID begins with. Other words of the same look, such as SHA-256 or ITI-41, are no rules.
const PREFIXES: [&str; 39] = [
    "SOAP", "XDR", "XDM", "MD", "NHIN", "DIR", "ADR", "WR", "CC", "CTX", "SND", "RCV", "OB", "MR",
    "SM", "CERT", "BIND", "DISC", "DNS", "LDAP", "TA", "REV", "TB", "KEY", "MDN", "DSN", "SRC",
    "DST", "COR", "LOOP", "RT", "STS", "RX", "TLS", "TX", "Q", "LIM", "T", "A",
];
/// The prefixes of audit.md.
const AUDIT_PREFIXES: [&str; 3] = ["AUD", "SYS", "PHI"];

#[test]
fn every_tagged_rule_exists_and_conformance_is_up_to_date() {
    let rules = rules();
    let tags = tags();
    let known: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    let unknown: Vec<String> = tags
        .iter()
        .filter(|(id, _)| !known.contains(id.as_str()))
        .map(|(id, tests)| format!("{id} ({})", tests.join(", ")))
        .collect();
    assert!(
        unknown.is_empty(),
        "tagged, but not in {SPEC_FOLDER}: {unknown:#?}"
    );

    let text = render(&rules, &tags);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(CONFORMANCE, &text).unwrap();
    }
    let written = fs::read_to_string(CONFORMANCE).unwrap_or_default();
    assert!(
        written == text,
        "{CONFORMANCE} is out of date; run the tests once with UPDATE_EXPECT=1 and look at the diff"
    );
}

#[test]
fn every_rule_that_the_code_cites_exists() {
    let rules = rules();
    let known: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    let mut unknown = Vec::new();
    for file in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for id in identifiers(&text) {
            // One-letter prefixes (T-8, D-1, A-1) are too short to tell from other text.
            let prefix_is_long = id.split('-').next().is_some_and(|prefix| prefix.len() > 1);
            if prefix_is_long && !known.contains(id.as_str()) {
                unknown.push(format!("{id} in {}", file.display()));
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "cited, but not in {SPEC_FOLDER}: {unknown:#?}"
    );
}

struct Rule {
    file: &'static str,
    id: String,
    text: String,
}

/// A rule is a line of `docs/spec` that begins with its ID: a table row, a list item, or a sentence.
fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen = BTreeSet::new();
    for file in SPEC_FILES {
        let text = fs::read_to_string(format!("{SPEC_FOLDER}/{file}.md")).unwrap();
        for line in text.lines() {
            let line = line.trim_start_matches(['|', '-', '*', ' ']);
            let head: String = line.chars().take_while(|c| !matches!(c, '|')).collect();
            for id in leading_ids(&head) {
                if seen.insert(id.clone()) {
                    let text = line.split_once(&id).map_or("", |(_, rest)| rest);
                    rules.push(Rule {
                        file,
                        id,
                        text: summary(text),
                    });
                }
            }
        }
    }
    assert!(rules.len() > 400, "the rules were not found");
    rules
}

/// `XDR-61, 62, 63` and `XDR-61` alike: every ID that a rule line begins with.
fn leading_ids(head: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut prefix = String::new();
    for token in head
        .split([' ', ',', ':'])
        .filter(|token| !token.is_empty())
    {
        if is_id(token) {
            prefix = token
                .rsplit_once('-')
                .map_or(String::new(), |(prefix, _)| prefix.to_owned());
            ids.push(token.to_owned());
        } else if !prefix.is_empty()
            && token.bytes().all(|b| b.is_ascii_digit())
            && head.contains(&format!(", {token}"))
            && ids.len() < 5
        {
            ids.push(format!("{prefix}-{token}"));
        } else {
            break;
        }
    }
    ids
}

fn is_id(token: &str) -> bool {
    let Some((prefix, number)) = token.rsplit_once('-') else {
        return false;
    };
    let is_prefix = PREFIXES.contains(&prefix) || AUDIT_PREFIXES.contains(&prefix);
    // OB-S1 and RCV-R1 carry their number behind a letter.
    let number = number.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
    is_prefix
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && number.len() - digits.len() <= 1
}

/// Every ID-like word of a text.
fn identifiers(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| is_id(word))
        .map(str::to_owned)
        .collect()
}

fn summary(text: &str) -> String {
    let clean: String = text
        .trim_matches(|c: char| c == '|' || c.is_whitespace() || c == ',' || c == '*')
        .replace('|', "/")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let mut short: String = clean.chars().take(110).collect();
    if short.len() < clean.len() {
        short.push('…');
    }
    short
}

/// Rule ID to the tests that show it.
fn tags() -> BTreeMap<String, Vec<String>> {
    let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(Path::new("src"))
        .into_iter()
        .chain(rust_files(Path::new("tests")))
    {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(ids) = line.trim_start().strip_prefix("// rule: ") else {
                continue;
            };
            let test = lines[at..]
                .iter()
                .find_map(|line| {
                    line.trim_start()
                        .trim_start_matches("async ")
                        .strip_prefix("fn ")
                })
                .and_then(|rest| rest.split('(').next())
                .unwrap_or_else(|| panic!("{}:{} tags no test", file.display(), at + 1));
            let module = file
                .with_extension("")
                .to_string_lossy()
                .replace("/mod", "");
            for id in ids.split(',').map(str::trim) {
                tags.entry(id.to_owned())
                    .or_default()
                    .push(format!("{module}: {test}"));
            }
        }
    }
    tags
}

fn render(rules: &[Rule], tags: &BTreeMap<String, Vec<String>>) -> String {
    let shown = rules
        .iter()
        .filter(|rule| tags.contains_key(&rule.id))
        .count();
    let mut text = format!(
        "# Conformance\n\nMade from the `// rule:` lines above tests (`tests/it/conformance.rs`); do not edit. \
         {shown} of {} rules are shown by a test. A rule without one is *not yet* shown: it may be built, or belong \
         to a part that is not.\n",
        rules.len()
    );
    for file in SPEC_FILES {
        let of_file: Vec<&Rule> = rules.iter().filter(|rule| rule.file == file).collect();
        let _ = write!(
            text,
            "\n## {file}\n\n| Rule | What it says | Shown by |\n|---|---|---|\n"
        );
        for rule in &of_file {
            if let Some(tests) = tags.get(&rule.id) {
                let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
                let _ = writeln!(
                    text,
                    "| {} | {} | {} |",
                    rule.id,
                    rule.text,
                    tests.join("<br>")
                );
            }
        }
        let not_yet: Vec<&str> = of_file
            .iter()
            .filter(|rule| !tags.contains_key(&rule.id))
            .map(|rule| rule.id.as_str())
            .collect();
        if !not_yet.is_empty() {
            let _ = writeln!(text, "\nNot yet: {}.", not_yet.join(", "));
        }
    }
    text
}
