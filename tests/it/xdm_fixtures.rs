//! Every medium of `fixtures/xdm` reads as the text beside it says. `UPDATE_EXPECT=1` writes the texts anew: look at
//! the difference.

use std::{fmt::Write as _, fs, io::Cursor, path::Path};

use xdbridge::formats::{
    finding::Finding,
    limits::Limits,
    xdm::{XdmSet, unpack},
};

// rule: XDM-2, XDM-3, XDM-13, XDM-22, XDM-23, XDM-25, XDM-26, XDM-32, XDM-40, XDM-41, XDM-42, XDM-43, XDM-44, XDM-45
// rule: XDM-46, XDM-47, XDM-67
#[test]
fn every_medium_reads_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/xdm");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut count = 0;
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "zip") {
            continue;
        }
        count += 1;
        let reading = reading_of(&fs::read(&path).unwrap());
        let expected_at = path.with_extension("expected");
        if update {
            fs::write(&expected_at, &reading).unwrap();
        }
        let expected = fs::read_to_string(&expected_at).unwrap_or_default();
        assert_eq!(reading, expected, "{}", path.display());
    }
    assert!(count >= 10, "only {count} media were found");
}

fn reading_of(zip: &[u8]) -> String {
    let mut text = String::new();
    match unpack(Cursor::new(zip), &Limits::default()) {
        Err(error) => {
            let _ = writeln!(text, "refused: {error}");
        }
        Ok(package) => {
            let verdict = if package.has_errors() {
                "errors"
            } else {
                "good"
            };
            let _ = writeln!(text, "verdict: {verdict}");
            write_findings(&mut text, &package.findings);
            for set in &package.sets {
                write_set(&mut text, set);
            }
        }
    }
    text
}

fn write_set(text: &mut String, set: &XdmSet) {
    let id = set
        .metadata
        .submission_set()
        .and_then(|set| set.unique_id.as_deref());
    let _ = writeln!(text, "\nset {} {}", set.directory, id.unwrap_or_default());
    for document in &set.documents {
        let facts = &document.facts;
        let _ = writeln!(
            text,
            "document {} {:?} {} octets {}",
            document.entry_id,
            facts.key,
            facts.size,
            facts.hash()
        );
    }
    write_findings(text, &set.findings);
}

fn write_findings(text: &mut String, findings: &[Finding]) {
    for finding in findings {
        let code = finding.code.as_ref().map_or("-", |code| code.as_str());
        let _ = writeln!(
            text,
            "{:?} {} {code} at {}: {}",
            finding.severity, finding.rule, finding.location, finding.text
        );
    }
}
