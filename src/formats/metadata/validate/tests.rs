//! Every row of the table, held against a good submission (`fixtures/metadata/full-with-folder.xml`) and against the
//! same with one thing wrong: at each of its levels, and under each profile. The cases are data; the tests are made
//! from the table, so that no row is missed.

mod further;
mod good;
mod objects;
mod references;
mod structure;
mod values;

use super::{
    super::{
        super::{
            document::{DocumentFacts, DocumentKey},
            finding::Severity,
            limits::Limits,
            xdr::ErrorCode,
            xml::kept::KeptXml,
        },
        Level,
    },
    *,
};

const GOOD: &str = include_str!("../../../../fixtures/metadata/full-with-folder.xml");

/// The labels that make it limited.
const LIMITED: &str = r#"
<rim:Classification id="limited1" classificationNode="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85" classifiedObject="Document01"/>
<rim:Classification id="limited2" classificationNode="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85" classifiedObject="Document02"/>
<rim:Classification id="limited3" classificationNode="urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707" classifiedObject="Set01"/>
<rim:Classification id="limited4" classificationNode="urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03" classifiedObject="Folder01"/>
"#;
/// The extra slot of the first entry, as far as its last value goes.
const WARDS: &str = r#"name="urn:example:ward"><rim:ValueList><rim:Value>Ward 4 – Süd</rim:Value><rim:Value>病棟四"#;
const END_OF_LIST: &str = "</rim:RegistryObjectList>";

const LEVELS: [Level; 3] = [Level::Full, Level::Limited, Level::Minimal];
const PROFILES: [Profile; 3] = [Profile::FullStrict, Profile::FullLenient, Profile::Minimal];

type Edits = &'static [(&'static str, &'static str)];
const NO_EDITS: Edits = &[];
/// The entries are no entries any more.
const WITHOUT_ENTRIES: Edits = &[
    ("<rim:ExtrinsicObject", "<rim:Odd"),
    ("</rim:ExtrinsicObject>", "</rim:Odd>"),
    ("<rim:ExtrinsicObject", "<rim:Odd"),
    ("</rim:ExtrinsicObject>", "</rim:Odd>"),
];

/// How bad a case is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// The worst that its row names.
    TheRowSays,
    /// An error under the strict profile alone, though the row holds worse.
    IfStrict,
    /// A Warning, though the row holds worse.
    Told,
}

/// One thing wrong, and the finding that it gives.
#[derive(Clone, Copy)]
struct Case {
    rule: &'static str,
    /// What is changed in the good submission. `{257}` stands for so many letters.
    edits: Edits,
    /// Where the finding says it is.
    at: &'static str,
    /// Other rules that the same thing violates, at some level.
    also: &'static [&'static str],
    severity: As,
    documents: fn(&mut Vec<BoundDocument>),
    context: fn(&mut Context<'_>),
}

const fn case(rule: &'static str, edits: Edits, at: &'static str) -> Case {
    Case {
        rule,
        edits,
        at,
        also: &[],
        severity: As::TheRowSays,
        documents: |_| (),
        context: |_| (),
    }
}

impl Case {
    const fn also(mut self, rules: &'static [&'static str]) -> Self {
        self.also = rules;
        self
    }

    const fn only_told(mut self) -> Self {
        self.severity = As::Told;
        self
    }

    const fn only_if_strict(mut self) -> Self {
        self.severity = As::IfStrict;
        self
    }

    const fn documents(mut self, change: fn(&mut Vec<BoundDocument>)) -> Self {
        self.documents = change;
        self
    }

    const fn context(mut self, change: fn(&mut Context<'_>)) -> Self {
        self.context = change;
        self
    }

    fn findings(&self, level: Level, profile: Profile) -> Vec<Finding> {
        let mut documents = good_documents();
        (self.documents)(&mut documents);
        let mut context = Context {
            level,
            profile,
            documents: Some(&documents),
            has_recipient: false,
            now: Some("2026-03-02T14:40:00Z".parse().unwrap()),
            ..Context::at(level)
        };
        (self.context)(&mut context);
        validate(&read(&edited(level, self.edits)), &context)
    }
}

/// All that is wrong, from the files of this folder.
fn cases() -> impl Iterator<Item = &'static Case> {
    [
        structure::CASES,
        objects::CASES,
        values::CASES,
        references::CASES,
    ]
    .into_iter()
    .flatten()
}

/// The good submission of a level with some places changed.
fn edited(level: Level, edits: Edits) -> String {
    let mut text = GOOD.to_owned();
    if level == Level::Limited {
        text = text.replacen(END_OF_LIST, &format!("{LIMITED}{END_OF_LIST}"), 1);
    }
    for (from, to) in edits {
        let is_label = from.contains("limited");
        assert!(text.contains(from) || is_label, "{from} is not there");
        let long = |length: usize| "é".repeat(length);
        let to = [128, 129, 256, 257, 1024, 1025]
            .iter()
            .fold((*to).to_owned(), |to, length| {
                to.replace(&format!("{{{length}}}"), &long(*length))
            });
        text = text.replacen(from, &to, 1);
    }
    text
}

fn read(text: &str) -> Metadata {
    let limits = Limits::default();
    let xml = KeptXml::read(text.as_bytes(), &limits).unwrap();
    Metadata::read(xml, &limits).unwrap()
}

fn other(id: &str) -> BoundDocument {
    BoundDocument {
        document_id: id.to_owned(),
        facts: DocumentFacts {
            key: DocumentKey::Inline(0),
            size: 7,
            sha1: [0; 20],
        },
    }
}

/// The documents that the good submission describes.
fn good_documents() -> Vec<BoundDocument> {
    let sha1 = "8174d57a3e3e09a7ac98777341a58d3b9d3d6aba";
    let mut first = other("Document01");
    first.facts.size = 89;
    first.facts.sha1 =
        std::array::from_fn(|at| u8::from_str_radix(&sha1[at * 2..at * 2 + 2], 16).unwrap());
    vec![first, other("Document02")]
}

/// What a violation of a row gives at a level, under a profile.
fn severity_of(rule: &Rule, case: &Case, level: Level, profile: Profile) -> Severity {
    let is_strict = level == Level::Full && profile == Profile::FullStrict;
    let is_error = match (case.severity, &rule.consequence) {
        (As::Told, _) | (_, Consequence::Told | Consequence::Answered(_)) => false,
        (As::IfStrict, _) | (_, Consequence::RefusedIfStrict(_)) => is_strict,
        (As::TheRowSays, Consequence::Refused(_) | Consequence::NotRead) => true,
    };
    if is_error {
        Severity::Error
    } else {
        Severity::Warning
    }
}

/// What is not as it should be with a case at one level.
fn complaint(rule: &Rule, case: &Case, level: Level, profile: Profile) -> Option<String> {
    let findings = case.findings(level, profile);
    let what = format!("{} at {level:?}, {profile:?}: {:?}", rule.id, case.edits);
    let its: Vec<&Finding> = findings.iter().filter(|f| f.rule == rule.id).collect();
    let [finding] = its.as_slice() else {
        return Some(format!(
            "{what}: {} findings of it in {findings:?}",
            its.len()
        ));
    };
    let expected = severity_of(rule, case, level, profile);
    let code = match expected {
        Severity::Error => rule.consequence.code(),
        Severity::Warning => None,
    };
    if finding.severity != expected || finding.code.as_ref() != code {
        return Some(format!(
            "{what}: {finding:?}, but {expected:?} {code:?} is due"
        ));
    }
    if !is_at(&finding.location, case.at) {
        return Some(format!("{what}: it is at {}", finding.location));
    }
    if !says_what_is_accepted(&finding.text) {
        return Some(format!("{what}: what is accepted? {}", finding.text));
    }
    let stray = findings
        .iter()
        .find(|found| found.rule != rule.id && !case.also.contains(&found.rule));
    stray.map(|found| format!("{what}: and also {found:?}"))
}

/// Whether a finding is where it should be; the number of a line depends on the level.
fn is_at(location: &str, expected: &str) -> bool {
    location == expected || expected == "line " && location.starts_with(expected)
}

/// Whether a text says how it would be right.
fn says_what_is_accepted(text: &str) -> bool {
    [
        "accepted",
        "must",
        "should",
        "needs",
        "name one",
        "left out",
        "read as",
        "the label is",
    ]
    .iter()
    .any(|word| text.contains(word))
}

// rule: MD-1, MD-2, MD-3, MD-4, MD-6, MD-7, MD-8, MD-9, MD-21, MD-23, MD-30, MD-33, MD-34, MD-35, MD-36, MD-40, MD-41
// rule: MD-42, MD-43, MD-44, MD-45, MD-47, MD-48, MD-49, MD-50, MD-51, MD-52, MD-53, MD-54, MD-55, MD-56, MD-57, MD-58
// rule: MD-61, MD-62, MD-80, MD-81, MD-82, MD-83, MD-84, MD-85, MD-86, MD-87, MD-88, MD-89, MD-90, MD-91, MD-92, MD-93
// rule: MD-94, MD-95, MD-96, MD-97, MD-98, MD-99, XDR-5, XDR-6, XDR-7, XDR-8, XDR-10, XDR-12, XDR-21, XDR-22, XDR-24
// rule: XDR-25, XDR-61, XDR-63, XDR-64, XDR-67, XDR-140, XDR-141, LIM-4
#[test]
fn every_row_finds_its_violations_at_each_of_its_levels_and_under_each_profile() {
    let mut complaints = Vec::new();
    for rule in rules() {
        let its: Vec<&Case> = cases().filter(|case| case.rule == rule.id).collect();
        if !its.iter().any(|case| case.severity == As::TheRowSays) {
            complaints.push(format!("{} has no case that gives its worst", rule.id));
        }
        for case in its {
            for level in rule.levels {
                for profile in PROFILES {
                    // A profile has its say about full metadata alone (MD-22).
                    let is_judged = *level == Level::Full && profile != Profile::Minimal
                        || profile == Profile::FullStrict;
                    if is_judged {
                        complaints.extend(complaint(rule, case, *level, profile));
                    }
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn every_case_is_about_a_row() {
    for case in cases()
        .map(|case| case.rule)
        .chain(good::CASES.iter().map(|good| good.0))
        .chain(good::AROUND.iter().map(|good| good.rule))
    {
        assert!(rules().any(|rule| rule.id == case), "{case}");
    }
}

// rule: MD-20, XDR-20
#[test]
fn the_good_submission_gives_no_finding_of_any_row_at_any_level() {
    let good = case("", NO_EDITS, "");
    for level in LEVELS {
        for profile in PROFILES {
            assert_eq!(good.findings(level, profile), [], "{level:?} {profile:?}");
        }
    }
}

// rule: MD-5, MD-20, MD-31, MD-32, MD-37, MD-51, MD-58, MD-59, MD-60, MD-61, MD-62, MD-92, XDR-11, XDR-21, XDR-23
#[test]
fn what_is_just_still_right_gives_no_finding_of_its_row() {
    for rule in rules() {
        let edited = good::CASES.iter().map(|(id, edits)| {
            assert!(!edits.is_empty(), "{id} has the good submission itself");
            case(id, edits, "")
        });
        let around = good::AROUND.iter().copied();
        let its: Vec<Case> = edited
            .chain(around)
            .filter(|good| good.rule == rule.id)
            .collect();
        assert!(
            !its.is_empty(),
            "{} has no case that is just still right",
            rule.id
        );
        for good in its {
            for level in rule.levels {
                let findings = good.findings(*level, Profile::FullStrict);
                let found = findings.iter().find(|found| found.rule == rule.id);
                assert_eq!(found, None, "{level:?} {:?}", good.edits);
            }
        }
    }
}

#[test]
fn every_rule_has_an_id_once_and_says_what_it_asks() {
    let mut ids: Vec<_> = rules().map(|rule| rule.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert!(rules().all(|rule| !rule.asks.is_empty() && !rule.levels.is_empty()));
}
