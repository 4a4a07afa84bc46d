//! What metadata is judged by: level, profile, what it came in and with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{
    super::{document::DocumentFacts, finding::MAX_FINDINGS, limits::Limits},
    Level,
};

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
    /// From `Metadata::level`.
    pub level: Level,
    /// For level full (MD-22).
    pub profile: Profile,
    /// The documents that came with the metadata; `None` if the metadata is judged alone.
    pub documents: Option<&'a [BoundDocument]>,
    /// The ids of documents that came and cannot be used, as another finding says: they are not missing.
    pub unusable_documents: &'a [String],
    /// Per partner: differing patient ids are carried on with a Warning (MD-92).
    pub patient_id_mismatch_is_warning: bool,
    /// Most DocumentEntries (LIM-4).
    pub max_document_entries: usize,
    /// Whether a recipient is named outside the metadata, such as by `direct:to` (MD-23).
    pub has_recipient: bool,
    /// What the metadata came in.
    pub container: Container,
    /// The time of the judgement; `None` where times are not held against the clock (MD-62).
    pub now: Option<Timestamp>,
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
            unusable_documents: &[],
            patient_id_mismatch_is_warning: false,
            max_document_entries: Limits::default().max_document_entries,
            has_recipient: true,
            container: Container::Xdr,
            now: None,
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
    pub(super) fn is_strict(&self) -> bool {
        self.level == Level::Full && self.profile == Profile::FullStrict
    }
}
