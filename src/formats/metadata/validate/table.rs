//! What a rule is, as data: a row of the table that `inspect --rules` prints.

use super::{
    super::{super::xdr::ErrorCode, Level},
    scope::{Report, Scope},
};

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
    /// Each document that came with the metadata.
    Document,
    /// Who sends.
    Sender,
    /// Each of those that it goes to.
    Recipient,
    /// The SOAP envelope, its header and the package of parts around it.
    Envelope,
    /// An XDM package.
    Package,
    /// What a peer answered.
    Answer,
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
            Self::Document => "Document",
            Self::Sender => "Sender",
            Self::Recipient => "Recipient",
            Self::Envelope => "Envelope",
            Self::Package => "XdmPackage",
            Self::Answer => "Answer",
        }
    }
}

/// What a violation of a rule leads to, at the worst: a rule may also hold milder deviations, which are told as
/// Warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The message is refused with this code.
    Refused(ErrorCode),
    /// The same where full metadata is judged under the strict profile, else a Warning (MD-22).
    RefusedIfStrict(ErrorCode),
    /// The message is refused before there is an XDS answer: by a SOAP fault or an HTTP status, or as a package.
    NotRead,
    /// A Warning: told, never silent (XDR-141).
    Told,
    /// A Warning that the peer is told too, with this code (XDR-142).
    Answered(ErrorCode),
}

impl Consequence {
    /// The XDS code that a peer is answered.
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Refused(code) | Self::RefusedIfStrict(code) | Self::Answered(code) => Some(code),
            Self::NotRead | Self::Told => None,
        }
    }

    /// The word for how bad a violation is: `error`, `error if strict`, or `warning`.
    pub fn severity(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::NotRead => "error",
            Self::RefusedIfStrict(_) => "error if strict",
            Self::Told | Self::Answered(_) => "warning",
        }
    }
}

/// What is asked of a message, and what comes of it if it is not so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its ID in `docs/spec`.
    pub id: &'static str,
    /// The levels at which it is looked at.
    pub levels: &'static [Level],
    /// What it is about.
    pub object: ObjectKind,
    /// What a violation leads to.
    pub consequence: Consequence,
    /// What the rule asks for.
    pub asks: &'static str,
}

impl Rule {
    /// A rule that holds at every level.
    pub const fn of(
        id: &'static str,
        object: ObjectKind,
        consequence: Consequence,
        asks: &'static str,
    ) -> Self {
        Self {
            id,
            levels: ALL,
            object,
            consequence,
            asks,
        }
    }
}

/// The rule applies at every level.
pub(super) const ALL: &[Level] = &[Level::Full, Level::Limited, Level::Minimal];

/// Looks for violations of one rule.
pub(super) type Check = fn(&Scope<'_>, &mut Report<'_>);

/// A rule that is judged here, with what looks for its violations.
pub(super) struct Row {
    pub(super) rule: Rule,
    pub(super) check: Check,
}

/// A rule with nearly every refusal's code.
pub(super) const fn refuses(
    id: &'static str,
    object: ObjectKind,
    asks: &'static str,
    check: Check,
) -> Row {
    let code = ErrorCode::XdsRepositoryMetadataError;
    refuses_with(id, object, code, asks, check)
}

/// A rule with a code of its own.
pub(super) const fn refuses_with(
    id: &'static str,
    object: ObjectKind,
    code: ErrorCode,
    asks: &'static str,
    check: Check,
) -> Row {
    let rule = Rule::of(id, object, Consequence::Refused(code), asks);
    Row { rule, check }
}

/// A rule that only the strict profile insists on.
pub(super) const fn refuses_if_strict(
    id: &'static str,
    object: ObjectKind,
    asks: &'static str,
    check: Check,
) -> Row {
    let consequence = Consequence::RefusedIfStrict(ErrorCode::XdsRepositoryMetadataError);
    let rule = Rule::of(id, object, consequence, asks);
    Row { rule, check }
}

/// A rule whose violations are only told.
pub(super) const fn tells(
    id: &'static str,
    object: ObjectKind,
    asks: &'static str,
    check: Check,
) -> Row {
    let rule = Rule::of(id, object, Consequence::Told, asks);
    Row { rule, check }
}

impl Row {
    /// The same at one level alone.
    pub(super) const fn only_at(mut self, levels: &'static [Level]) -> Self {
        self.rule.levels = levels;
        self
    }
}
