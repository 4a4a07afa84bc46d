//! Submission to mail message (xdr.md section 7): the received metadata and documents become one XDM package inside
//! one message, ready to be signed. This direction loses nothing, unless the destination asks for documents alone.

mod attachments;
mod estimate;
mod file_names;
#[cfg(test)]
mod ground;
mod in_order;
mod losses;
mod message;
mod metadata;
mod package;

use std::io;

use jiff::Timestamp;

use super::{destination::MailPolicy, exchange::Reason};
use crate::formats::{
    document::DocumentFacts,
    ids::{DirectAddress, MessageId},
    metadata::{Level, Metadata, MetadataError},
    xdm::{Institution, PackError},
};

pub use estimate::{DocumentSize, estimate_wire_bytes};
pub use losses::losses;
pub use message::{outer_header_fields, write_message, write_plain_message};
pub use metadata::direct_metadata;
pub(super) use metadata::{RECEIVED_AGAIN, is_received_uri};
pub use package::package;

/// One leg's message: what goes into it.
#[derive(Clone, Debug)]
pub struct Conversion<'a> {
    /// The received metadata.
    pub metadata: &'a Metadata,
    /// Each DocumentEntry's id and the facts of its document.
    pub documents: &'a [(String, DocumentFacts)],
    /// The level of the received metadata (XDR-84).
    pub level: Level,
    /// The sender.
    pub from: &'a DirectAddress,
    /// The recipients of this leg, and nobody else (XDR-81).
    pub to: &'a [DirectAddress],
    /// The leg's Message-ID, the same at every retry (MDN-1).
    pub message_id: &'a MessageId,
    /// When the exchange was accepted (XDR-85).
    pub date: Timestamp,
    /// How the mail is made.
    pub policy: &'a MailPolicy,
    /// Whether to ask for a notice of final delivery (MDN-4).
    pub wants_final_delivery: bool,
    /// Who makes the package.
    pub institution: &'a Institution,
}

/// Why no message was made.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// A leg without recipients.
    #[error("WR-11: a message needs at least one recipient")]
    NoRecipient,
    /// A DocumentEntry has no document.
    #[error("XDR-82: DocumentEntry {number} has no document")]
    DocumentMissing {
        /// Counted from 1, in metadata order.
        number: usize,
    },
    /// A DocumentEntry would not have the name of its file in the package.
    #[error("XDR-82: DocumentEntry {number} did not get its URI")]
    UriNotSet {
        /// Counted from 1, in metadata order.
        number: usize,
    },
    /// The set was refused when it was read.
    #[error("XDM-40: the submission set was not read without errors")]
    SetRefused,
    /// The metadata cannot be changed.
    #[error("the metadata cannot take what XDM requires")]
    Metadata(#[from] MetadataError),
    /// The package cannot be made.
    #[error("the XDM package cannot be made")]
    Pack(#[from] PackError),
    /// The documents cannot be read, or the message not be written.
    #[error("the message could not be written")]
    Io(#[from] io::Error),
}

impl ConversionError {
    /// Whether a later attempt may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io(_) | Self::Pack(PackError::Io(_)) => true,
            Self::NoRecipient
            | Self::DocumentMissing { .. }
            | Self::UriNotSet { .. }
            | Self::SetRefused
            | Self::Metadata(_)
            | Self::Pack(_) => false,
        }
    }

    /// What the sender is told once no attempt is left.
    pub fn reason(&self) -> Reason {
        if self.is_transient() {
            Reason::Internal
        } else {
            Reason::ConversionFailed
        }
    }
}
