//! What is wrong, or merely odd, about metadata: rules as data.
//!
//! [`rules`] is the table: each row names its rule, what it is about, and the function that looks for violations.
//! [`validate`] runs every row and collects all findings before anything is answered (XDR-34). The attributes and
//! who must send them are a table of their own, [`attributes`].

pub mod attributes;
mod datatypes;
mod documents;
mod patients;
mod presence;
mod references;
mod structure;
mod times;

use serde::{Deserialize, Serialize};

use super::{
    super::{document::DocumentFacts, finding::Finding, xdr::ErrorCode},
    Association, Level, Metadata,
    ebrim::RegistryObject,
};

/// Longest part of an id that goes into a location, in characters: a codeContext has 256 (metadata.md section 6).
const MAX_ID_CHARACTERS: usize = 100;
/// Most findings of one message, unless the caller says otherwise (XDR-34).
pub const MAX_FINDINGS: usize = 50;

/// How strictly submissions are judged that declare neither minimal nor limited (MD-22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Refuses a missing attribute of the full column, and what the schema does not allow.
    #[default]
    FullStrict,
    /// The same is a Warning, but for what no submission can do without.
    FullLenient,
    /// Treats such submissions as minimal.
    Minimal,
}

/// What the metadata came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// An ITI-41 request.
    Xdr,
    /// An XDM package, where hash, size and URI must be there (XDM-21).
    Xdm,
}

/// A document and the DocumentEntry that its container binds it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundDocument {
    /// `xds:Document/@id`; in an XDM package the id of the DocumentEntry whose URI led to it.
    pub document_id: String,
    /// Its size and digests.
    pub facts: DocumentFacts,
}

/// What a message is judged by.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// From [`Metadata::level`].
    pub level: Level,
    /// For level full (MD-22).
    pub profile: Profile,
    /// The documents that came with the metadata; `None` if the metadata is judged alone.
    pub documents: Option<&'a [BoundDocument]>,
    /// Per partner: differing patient ids are carried on with a Warning (MD-92).
    pub patient_id_mismatch_is_warning: bool,
    /// Most DocumentEntries (LIM-4).
    pub max_document_entries: usize,
    /// Whether a recipient is named outside the metadata, such as by `direct:to` (MD-23).
    pub has_recipient: bool,
    /// What the metadata came in.
    pub container: Container,
    /// Most findings that are collected (XDR-34).
    pub max_findings: usize,
}

impl Context<'_> {
    /// The default judgement of metadata alone at `level`, as it comes in an ITI-41 request.
    pub fn at(level: Level) -> Self {
        Self {
            level,
            profile: Profile::default(),
            documents: None,
            patient_id_mismatch_is_warning: false,
            max_document_entries: super::super::limits::Limits::default().max_document_entries,
            has_recipient: true,
            container: Container::Xdr,
            max_findings: MAX_FINDINGS,
        }
    }

    /// The level after the profile has had its say (MD-22).
    pub fn effective_level(&self) -> Level {
        match (self.level, self.profile) {
            (Level::Full, Profile::Minimal) => Level::Minimal,
            (level, _) => level,
        }
    }

    /// Whether what the digests call "strict" applies: full metadata under the strict profile.
    fn is_strict(&self) -> bool {
        self.level == Level::Full && self.profile == Profile::FullStrict
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The submission as a whole.
    Submission,
    /// The SubmissionSet.
    SubmissionSet,
    /// Each DocumentEntry.
    DocumentEntry,
    /// Each Folder.
    Folder,
    /// Each Association.
    Association,
    /// Every registry object.
    Any,
}

impl ObjectKind {
    /// The word for it in locations and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submission => "Submission",
            Self::SubmissionSet => "SubmissionSet",
            Self::DocumentEntry => "DocumentEntry",
            Self::Folder => "Folder",
            Self::Association => "Association",
            Self::Any => "RegistryObject",
        }
    }
}

/// One row of the table.
pub struct Rule {
    /// Its ID in `docs/spec`.
    pub id: &'static str,
    /// The levels at which it is looked at.
    pub levels: &'static [Level],
    /// What it is about.
    pub object: ObjectKind,
    /// The XDS code of an error of this rule; `None` where every violation is a Warning.
    pub code: Option<ErrorCode>,
    /// What the rule asks for.
    pub asks: &'static str,
    check: fn(&Scope<'_>, &mut Report<'_>),
}

/// The rule applies at every level.
const ALL: &[Level] = &[Level::Full, Level::Limited, Level::Minimal];
/// The code of nearly every rule here.
const METADATA_ERROR: Option<ErrorCode> = Some(ErrorCode::XdsRepositoryMetadataError);

/// Every rule, in the order in which it is looked at.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        structure::RULES,
        presence::RULES,
        datatypes::RULES,
        times::RULES,
        references::RULES,
        patients::RULES,
        documents::RULES,
    ]
    .into_iter()
    .flatten()
}

/// Judges metadata. An empty answer means that nothing at all is odd about it.
pub fn validate(metadata: &Metadata, context: &Context<'_>) -> Vec<Finding> {
    let scope = Scope {
        metadata,
        context,
        objects: objects_of(metadata),
    };
    let level = context.effective_level();
    let mut findings = Vec::new();
    for rule in rules().filter(|rule| rule.levels.contains(&level)) {
        let mut report = Report {
            rule,
            findings: &mut findings,
            max_findings: context.max_findings,
        };
        (rule.check)(&scope, &mut report);
    }
    findings
}

/// What a check may look at.
struct Scope<'a> {
    metadata: &'a Metadata,
    context: &'a Context<'a>,
    /// SubmissionSets, DocumentEntries, Folders, Associations.
    objects: Vec<Object<'a>>,
}

impl<'a> Scope<'a> {
    fn of_kind(&self, kind: ObjectKind) -> impl Iterator<Item = &Object<'a>> {
        self.objects
            .iter()
            .filter(move |object| object.kind == kind)
    }

    fn associations(&self) -> impl Iterator<Item = (&'a Association, Object<'a>)> {
        self.metadata
            .associations()
            .iter()
            .map(|association| (association, Object::of_association(association)))
    }
}

/// One registry object under its XDS name.
#[derive(Clone, Copy)]
struct Object<'a> {
    kind: ObjectKind,
    registry: &'a RegistryObject,
}

impl<'a> Object<'a> {
    fn of_association(association: &'a Association) -> Self {
        Self {
            kind: ObjectKind::Association,
            registry: &association.registry,
        }
    }

    fn id(&self) -> &'a str {
        &self.registry.id
    }

    /// `Object(id)`.
    fn name(&self) -> String {
        let id: String = self.id().chars().take(MAX_ID_CHARACTERS).collect();
        format!("{}({id})", self.kind.as_str())
    }

    /// `Object(id).attribute`.
    fn at(&self, attribute: &str) -> String {
        format!("{}.{attribute}", self.name())
    }
}

fn objects_of(metadata: &Metadata) -> Vec<Object<'_>> {
    let of = |kind| move |registry| Object { kind, registry };
    let sets = metadata.submission_sets.iter().map(|set| &set.registry);
    let entries = metadata
        .document_entries
        .iter()
        .map(|entry| &entry.registry);
    let folders = metadata.folders.iter().map(|folder| &folder.registry);
    let associations = metadata.associations.iter().map(|link| &link.registry);
    sets.map(of(ObjectKind::SubmissionSet))
        .chain(entries.map(of(ObjectKind::DocumentEntry)))
        .chain(folders.map(of(ObjectKind::Folder)))
        .chain(associations.map(of(ObjectKind::Association)))
        .collect()
}

/// Takes the findings of one rule.
struct Report<'r> {
    rule: &'static Rule,
    findings: &'r mut Vec<Finding>,
    max_findings: usize,
}

impl Report<'_> {
    /// The message is refused.
    fn refuse(&mut self, location: impl Into<String>, text: impl Into<String>) {
        self.add(true, location.into(), text.into(), None);
    }

    /// The message is refused because of `value`.
    fn refuse_value(&mut self, location: String, text: impl Into<String>, value: &str) {
        self.add(true, location, text.into(), Some(value));
    }

    /// A tolerated deviation.
    fn warn(&mut self, location: impl Into<String>, text: impl Into<String>) {
        self.add(false, location.into(), text.into(), None);
    }

    /// Refused or tolerated.
    fn tell(&mut self, is_error: bool, location: String, text: impl Into<String>) {
        self.add(is_error, location, text.into(), None);
    }

    fn tell_value(
        &mut self,
        is_error: bool,
        location: String,
        text: impl Into<String>,
        value: &str,
    ) {
        self.add(is_error, location, text.into(), Some(value));
    }

    fn add(&mut self, is_error: bool, location: String, text: String, value: Option<&str>) {
        let mut finding = match &self.rule.code {
            Some(code) if is_error => Finding::error(self.rule.id, code.clone(), location, text),
            _ => Finding::warning(self.rule.id, location, text),
        };
        if let Some(value) = value {
            finding = finding.with_value(value);
        }
        if self.findings.len() < self.max_findings {
            self.findings.push(finding);
        } else if finding.is_error() {
            // The cap must not hide an error behind warnings: the verdict hangs on it (XDR-141).
            if let Some(warning) = self.findings.iter_mut().rev().find(|f| !f.is_error()) {
                *warning = finding;
            }
        }
    }
}

#[cfg(test)]
mod tests;
