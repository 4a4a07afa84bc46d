//! The one vocabulary of reasons (mdn.md table RT): bare in `reasonForFailure`, the API and logs, and as
//! `token: sentence` in `codeContext`.

use serde::{Deserialize, Serialize};

use crate::formats::xdr::ErrorCode;

/// Why a recipient, or a whole message, was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "`sentence` says what each one means")]
pub enum Reason {
    BadAddress,
    UnknownRecipient,
    NoCertificate,
    Untrusted,
    CertificateRevoked,
    PolicyRefused,
    SenderUnauthorised,
    SmtpRejected,
    SmtpExpired,
    MdnFailed,
    DsnFailed,
    TimeoutProcessed,
    TimeoutDispatched,
    TooLarge,
    ConversionFailed,
    XdrRefused,
    XdrUnavailable,
    InDoubt,
    Operator,
    Internal,
    Other,
}

impl Reason {
    /// Every reason, in the order of docs/design.md section 2.
    pub const ALL: [Self; 21] = [
        Self::BadAddress,
        Self::UnknownRecipient,
        Self::NoCertificate,
        Self::Untrusted,
        Self::CertificateRevoked,
        Self::PolicyRefused,
        Self::SenderUnauthorised,
        Self::SmtpRejected,
        Self::SmtpExpired,
        Self::MdnFailed,
        Self::DsnFailed,
        Self::TimeoutProcessed,
        Self::TimeoutDispatched,
        Self::TooLarge,
        Self::ConversionFailed,
        Self::XdrRefused,
        Self::XdrUnavailable,
        Self::InDoubt,
        Self::Operator,
        Self::Internal,
        Self::Other,
    ];

    /// The token: an NCName, so that it fits `reasonForFailure` as it is.
    pub fn token(self) -> &'static str {
        match self {
            Self::BadAddress => "badAddress",
            Self::UnknownRecipient => "unknownRecipient",
            Self::NoCertificate => "noCertificate",
            Self::Untrusted => "untrusted",
            Self::CertificateRevoked => "certificateRevoked",
            Self::PolicyRefused => "policyRefused",
            Self::SenderUnauthorised => "senderUnauthorised",
            Self::SmtpRejected => "smtpRejected",
            Self::SmtpExpired => "smtpExpired",
            Self::MdnFailed => "mdnFailed",
            Self::DsnFailed => "dsnFailed",
            Self::TimeoutProcessed => "timeoutProcessed",
            Self::TimeoutDispatched => "timeoutDispatched",
            Self::TooLarge => "tooLarge",
            Self::ConversionFailed => "conversionFailed",
            Self::XdrRefused => "xdrRefused",
            Self::XdrUnavailable => "xdrUnavailable",
            Self::InDoubt => "inDoubt",
            Self::Operator => "operator",
            Self::Internal => "internal",
            Self::Other => "other",
        }
    }

    /// One fixed sentence for people: no patient data, no words of a peer.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::BadAddress => "the address is not a usable Direct address",
            Self::UnknownRecipient => "no such domain or mailbox, or no route leads to it",
            Self::NoCertificate => "no usable certificate was found for the address",
            Self::Untrusted => {
                "no certificate of the address leads to a trust anchor of the sender's domain"
            }
            Self::CertificateRevoked => "the certificate of the address is revoked",
            Self::PolicyRefused => "a local policy forbids sending to the address",
            Self::SenderUnauthorised => "this client may not send as the given sender",
            Self::SmtpRejected => "the receiving mail system refused the message",
            Self::SmtpExpired => {
                "the message could not be handed to the receiving mail system in time"
            }
            Self::MdnFailed => "the receiving system reported that delivery failed",
            Self::DsnFailed => "the receiving mail system returned a delivery failure",
            Self::TimeoutProcessed => {
                "the receiving system did not confirm that it took the message in time"
            }
            Self::TimeoutDispatched => "the receiving system did not confirm delivery in time",
            Self::TooLarge => "the message is larger than a system on its way accepts",
            Self::ConversionFailed => {
                "the package or its metadata cannot be converted for this destination"
            }
            Self::XdrRefused => "the XDR endpoint refused the submission",
            Self::XdrUnavailable => "the XDR endpoint could not be reached in time",
            Self::InDoubt => {
                "the XDR endpoint's answer was lost; the submission may have been stored"
            }
            Self::Operator => "an operator ended the delivery",
            Self::Internal => "a fault of the bridge prevented the delivery",
            Self::Other => "the delivery failed",
        }
    }

    /// `token: sentence`, the form of `codeContext` and of the MDN fields `Error` and `Failure`.
    pub fn context(self) -> String {
        format!("{}: {}", self.token(), self.sentence())
    }

    /// The errorCode of the RegistryError for a recipient refused for this reason (XDR-32).
    pub fn recipient_error_code(self) -> ErrorCode {
        match self {
            Self::BadAddress | Self::UnknownRecipient => ErrorCode::UnknownRecipient,
            _ => ErrorCode::UnavailableRecipient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: XDR-127
    #[test]
    fn every_token_is_an_ncname_and_is_what_serde_writes() {
        for reason in Reason::ALL {
            let token = reason.token();
            assert!(token.bytes().all(|b| b.is_ascii_alphabetic()), "{token}");
            assert_eq!(
                serde_json::to_string(&reason).unwrap(),
                format!("\"{token}\"")
            );
        }
    }
}
