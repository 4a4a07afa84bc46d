//! Our schemas, with xmllint for a judge.

use std::{collections::BTreeSet, fs, path::Path, process::Command, thread};

use xdbridge::formats::xml::schema;

use super::folder::TestFolder;

/// Files that one call is given at the most.
const AT_ONCE: usize = 500;
/// Calls at the same time.
const CALLS: usize = 2;

/// Every one of these documents is valid, by xmllint and by our own validator.
pub(crate) fn assert_valid(documents: &[String]) {
    for (document, is_valid) in documents.iter().zip(valid(documents)) {
        assert!(is_valid, "{}\n{document}", objections(document));
        assert!(ours_takes(document), "{document}");
    }
}

/// Whether our own validator has nothing against a document.
pub(crate) fn ours_takes(document: &str) -> bool {
    let document = roxmltree::Document::parse(document).unwrap();
    let schemas = schema::embedded();
    schemas.check(document.root_element(), 1).is_empty()
}

/// Which of these documents are valid by xmllint, in their order.
pub(crate) fn valid(documents: &[String]) -> Vec<bool> {
    let each = documents.len().div_ceil(CALLS).clamp(1, AT_ONCE);
    let batches: Vec<&[String]> = documents.chunks(each).collect();
    let mut found = Vec::new();
    for batches in batches.chunks(CALLS) {
        thread::scope(|scope| {
            let calls: Vec<_> = batches
                .iter()
                .map(|batch| scope.spawn(|| valid_batch(batch)))
                .collect();
            for call in calls {
                found.extend(call.join().unwrap());
            }
        });
    }
    found
}

/// One call; xmllint may not use the network.
fn valid_batch(documents: &[String]) -> Vec<bool> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/all.xsd");
    let folder = TestFolder::new();
    let names: Vec<String> = (0..documents.len())
        .map(|number| format!("{number}.xml"))
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
    let verdict = |name: &String| {
        assert!(good.contains(name) != bad.contains(name), "{name}: {said}");
        good.contains(name)
    };
    names.iter().map(verdict).collect()
}

/// What xmllint says against one document; nothing if it is valid.
fn objections(document: &str) -> String {
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
