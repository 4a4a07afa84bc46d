//! The XDS error codes (ITI TF-3 4.2.4.1, xdr.md section 5).

use std::{convert::Infallible, fmt, str::FromStr};

/// A code of a RegistryError. The codes that this bridge emits or must understand have a name; any other that a
/// peer sends is kept as [`ErrorCode::Other`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the names are the standard's; xdr.md section 5 says when each applies"
)]
pub enum ErrorCode {
    XdsRepositoryMetadataError,
    XdsRegistryMetadataError,
    XdsMissingDocument,
    XdsMissingDocumentMetadata,
    XdsRepositoryDuplicateUniqueIdInMessage,
    XdsDuplicateUniqueIdInRegistry,
    XdsNonIdenticalHash,
    XdsNonIdenticalSize,
    XdsPatientIdDoesNotMatch,
    XdsUnknownPatientId,
    UnresolvedReferenceException,
    InvalidDocumentContent,
    UnknownRecipient,
    UnavailableRecipient,
    DocumentQueued,
    PartialFolderContentNotProcessed,
    PartialAppendContentNotProcessed,
    PartialReplaceContentNotProcessed,
    PartialTransformNotProcessed,
    PartialTransformReplaceNotProcessed,
    PartialRelationshipContentNotProcessed,
    XdsExtraMetadataNotSaved,
    XdsRegistryDeprecatedDocumentError,
    XdsRepositoryBusy,
    XdsRepositoryOutOfResources,
    XdsRepositoryError,
    XdsRegistryError,
    XdsRegistryBusy,
    XdsRegistryOutOfResources,
    XdsRegistryNotAvailable,
    XdsReplaceFailed,
    Other(String),
}

/// Every named code beside its spelling on the wire.
const NAMES: [(ErrorCode, &str); 31] = [
    (
        ErrorCode::XdsRepositoryMetadataError,
        "XDSRepositoryMetadataError",
    ),
    (
        ErrorCode::XdsRegistryMetadataError,
        "XDSRegistryMetadataError",
    ),
    (ErrorCode::XdsMissingDocument, "XDSMissingDocument"),
    (
        ErrorCode::XdsMissingDocumentMetadata,
        "XDSMissingDocumentMetadata",
    ),
    (
        ErrorCode::XdsRepositoryDuplicateUniqueIdInMessage,
        "XDSRepositoryDuplicateUniqueIdInMessage",
    ),
    (
        ErrorCode::XdsDuplicateUniqueIdInRegistry,
        "XDSDuplicateUniqueIdInRegistry",
    ),
    (ErrorCode::XdsNonIdenticalHash, "XDSNonIdenticalHash"),
    (ErrorCode::XdsNonIdenticalSize, "XDSNonIdenticalSize"),
    (
        ErrorCode::XdsPatientIdDoesNotMatch,
        "XDSPatientIdDoesNotMatch",
    ),
    (ErrorCode::XdsUnknownPatientId, "XDSUnknownPatientId"),
    (
        ErrorCode::UnresolvedReferenceException,
        "UnresolvedReferenceException",
    ),
    (ErrorCode::InvalidDocumentContent, "InvalidDocumentContent"),
    (ErrorCode::UnknownRecipient, "UnknownRecipient"),
    (ErrorCode::UnavailableRecipient, "UnavailableRecipient"),
    (ErrorCode::DocumentQueued, "DocumentQueued"),
    (
        ErrorCode::PartialFolderContentNotProcessed,
        "PartialFolderContentNotProcessed",
    ),
    (
        ErrorCode::PartialAppendContentNotProcessed,
        "PartialAppendContentNotProcessed",
    ),
    (
        ErrorCode::PartialReplaceContentNotProcessed,
        "PartialReplaceContentNotProcessed",
    ),
    (
        ErrorCode::PartialTransformNotProcessed,
        "PartialTransformNotProcessed",
    ),
    (
        ErrorCode::PartialTransformReplaceNotProcessed,
        "PartialTransformReplaceNotProcessed",
    ),
    (
        ErrorCode::PartialRelationshipContentNotProcessed,
        "PartialRelationshipContentNotProcessed",
    ),
    (
        ErrorCode::XdsExtraMetadataNotSaved,
        "XDSExtraMetadataNotSaved",
    ),
    (
        ErrorCode::XdsRegistryDeprecatedDocumentError,
        "XDSRegistryDeprecatedDocumentError",
    ),
    (ErrorCode::XdsRepositoryBusy, "XDSRepositoryBusy"),
    (
        ErrorCode::XdsRepositoryOutOfResources,
        "XDSRepositoryOutOfResources",
    ),
    (ErrorCode::XdsRepositoryError, "XDSRepositoryError"),
    (ErrorCode::XdsRegistryError, "XDSRegistryError"),
    (ErrorCode::XdsRegistryBusy, "XDSRegistryBusy"),
    (
        ErrorCode::XdsRegistryOutOfResources,
        "XDSRegistryOutOfResources",
    ),
    (
        ErrorCode::XdsRegistryNotAvailable,
        "XDSRegistryNotAvailable",
    ),
    (ErrorCode::XdsReplaceFailed, "XDSReplaceFailed"),
];

/// The longer spellings of two codes in ITI TF-2 3.41, beside the table form that we emit.
const SECOND_SPELLINGS: [(ErrorCode, &str); 2] = [
    (
        ErrorCode::PartialTransformNotProcessed,
        "PartialTransformContentNotProcessed",
    ),
    (
        ErrorCode::PartialTransformReplaceNotProcessed,
        "PartialTransformReplaceContentNotProcessed",
    ),
];

impl ErrorCode {
    /// The code as it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(code) => code,
            named => NAMES
                .iter()
                .find(|(code, _)| code == named)
                .map_or("XDSRepositoryError", |(_, name)| name),
        }
    }

    /// The code for logs: one that is not known is `other`, since a peer may write anything into it.
    pub fn known_name(&self) -> &'static str {
        let mut names = NAMES.iter();
        names
            .find(|(code, _)| code == self)
            .map_or("other", |(_, name)| name)
    }

    /// Whether a repetition of the same request may succeed (mdn.md section 9).
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::XdsRepositoryBusy
                | Self::XdsRepositoryOutOfResources
                | Self::XdsRegistryBusy
                | Self::XdsRegistryOutOfResources
                | Self::XdsRegistryNotAvailable
        )
    }
}

impl FromStr for ErrorCode {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let known = NAMES
            .iter()
            .chain(&SECOND_SPELLINGS)
            .find(|(_, name)| *name == text)
            .map(|(code, _)| code.clone());
        Ok(known.unwrap_or_else(|| Self::Other(text.to_owned())))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_code_reads_back_as_itself() {
        for (code, name) in NAMES {
            assert_eq!(code.as_str(), name);
            assert_eq!(name.parse::<ErrorCode>().unwrap(), code);
        }
    }

    #[test]
    fn both_spellings_of_the_partial_codes_are_read() {
        assert_eq!(
            "PartialTransformContentNotProcessed"
                .parse::<ErrorCode>()
                .unwrap(),
            ErrorCode::PartialTransformNotProcessed
        );
    }

    #[test]
    fn an_unknown_code_is_kept() {
        assert_eq!(
            "LocalCode".parse::<ErrorCode>().unwrap().as_str(),
            "LocalCode"
        );
    }
}
