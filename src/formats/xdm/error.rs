//! Why an archive, or a member of it, is not taken.

use std::io;

use crate::formats::finding::{Finding, Severity};

/// Why a whole archive is refused. Entries are named by their place in the central directory, from 0: their names
/// may hold patient data.
#[derive(Debug, thiserror::Error)]
pub enum XdmError {
    /// Not a zip that this reader takes.
    #[error("XDM-41: not a readable zip archive: {what}")]
    NotZip {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A zip, and no XDM: an ordinary document (XDR-100).
    #[error("XDM-41: the zip must hold IHE_XDM/<directory>/METADATA.XML")]
    NotXdm,
    /// Hostile or ambiguous structure.
    #[error("{rule}: the archive is refused for its entry {entry}: {what}")]
    Refused {
        /// The rule that refuses it.
        rule: &'static str,
        /// Which entry.
        entry: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// One member cannot be read.
    #[error("{rule}: entry {entry} cannot be read: {what}")]
    Member {
        /// The rule that refuses it.
        rule: &'static str,
        /// Which entry.
        entry: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// More than a limit allows: `tooLarge`.
    #[error("{rule}: {what}; at most {max} are accepted")]
    TooLarge {
        /// The limit.
        rule: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// What would be accepted.
        max: u64,
    },
    /// The archive could not be read, or a document not be passed on.
    #[error("the archive could not be read")]
    Io(#[from] io::Error),
}

impl XdmError {
    /// The rule that it is about.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotZip { .. } | Self::NotXdm | Self::Io(_) => "XDM-41",
            Self::Refused { rule, .. }
            | Self::Member { rule, .. }
            | Self::TooLarge { rule, .. } => rule,
        }
    }

    /// Whether the reason told to the sender is `tooLarge`; else it is `conversionFailed`.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    /// The same as a finding that refuses the message.
    pub fn to_finding(&self) -> Finding {
        let location = match self {
            Self::Refused { entry, .. } | Self::Member { entry, .. } => {
                format!("zip entry {entry}")
            }
            Self::NotZip { .. } | Self::NotXdm | Self::TooLarge { .. } | Self::Io(_) => {
                "zip".to_owned()
            }
        };
        Finding {
            rule: self.rule(),
            severity: Severity::Error,
            code: None,
            location,
            text: self.to_string(),
            value: None,
        }
    }
}
