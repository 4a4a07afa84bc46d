//! Our schemas, with xmllint for a judge.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::folder::TestFolder;

/// Files that one call is given.
const AT_ONCE: usize = 500;

/// Which of these documents are valid, in their order. xmllint may not use the network.
pub(crate) fn valid(documents: &[String]) -> Vec<bool> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/all.xsd");
    let folder = TestFolder::new();
    let mut found = Vec::new();
    for (batch, documents) in documents.chunks(AT_ONCE).enumerate() {
        let names: Vec<String> = (0..documents.len())
            .map(|number| format!("{batch}-{number}.xml"))
            .collect();
        for (name, document) in names.iter().zip(documents) {
            fs::write(folder.path().join(name), document).unwrap();
        }
        let output = Command::new("xmllint")
            .args(["--noout", "--nonet", "--schema"])
            .arg(&schema)
            .args(&names)
            .current_dir(folder.path())
            .output()
            .expect("xmllint is there: the package libxml2-utils");
        let said = String::from_utf8_lossy(&output.stderr);
        let ending = |with: &str| -> BTreeSet<String> {
            let lines = said.lines().filter_map(|line| line.strip_suffix(with));
            lines.map(str::to_owned).collect()
        };
        let (good, bad) = (ending(" validates"), ending(" fails to validate"));
        for name in &names {
            assert!(good.contains(name) != bad.contains(name), "{name}: {said}");
            found.push(good.contains(name));
        }
    }
    found
}

/// What xmllint says against one document; nothing if it is valid.
pub(crate) fn objections(document: &str) -> String {
    let folder = TestFolder::new();
    let file = folder.path().join("document.xml");
    fs::write(&file, document).unwrap();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/all.xsd");
    let output = Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema"])
        .arg(schema)
        .arg(&file)
        .output()
        .expect("xmllint is there: the package libxml2-utils");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        String::new()
    } else {
        said
    }
}
