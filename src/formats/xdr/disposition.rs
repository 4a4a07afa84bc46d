//! The document of a delivery notification: `direct:messageDisposition` (XDR-120).

use std::fmt;

use crate::formats::{
    ids::DirectAddress,
    limits::Limits,
    soap::mailto,
    xml::{chars::is_ncname, kept::KeptXml, names, write::XmlWriter},
};

/// Its mimeType (XDR-121).
pub const MEDIA_TYPE: &str = "text/xml";
/// Longest document that is read, in octets: one address and one word.
pub const MAX_BYTES: u64 = 16 * 1024;
/// Longest reason that is kept, in characters.
const MAX_REASON_CHARS: usize = 64;

/// What became of one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageDisposition {
    /// Whom it speaks of.
    pub recipient: DirectAddress,
    /// Delivered, or not.
    pub is_success: bool,
    /// `reasonForFailure`: a token of mdn.md table RT, or whatever NCName a peer wrote (XDR-127). A success has none.
    pub reason: Option<String>,
}

/// Without the reason, which a peer may have written.
impl fmt::Debug for MessageDisposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageDisposition")
            .field("recipient", &self.recipient)
            .field("is_success", &self.is_success)
            .finish_non_exhaustive()
    }
}

/// Why a document is no disposition. No received value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispositionError {
    /// It is no XML that is read, or its root is another element.
    #[error("the document is no direct:messageDisposition")]
    NotOne,
    /// `direct:recipient` is missing, there twice, or no `mailto:` address.
    #[error("direct:recipient must stand there once and be a mailto: address")]
    Recipient,
    /// `direct:disposition` is missing, there twice, or another word.
    #[error("direct:disposition must stand there once and be success or failure")]
    Disposition,
    /// `direct:reasonForFailure` is there twice, or no NCName.
    #[error(
        "direct:reasonForFailure may stand there once and must be an NCName of 64 characters at most"
    )]
    Reason,
}

impl MessageDisposition {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut writer = XmlWriter::document();
        writer.start(
            "direct:messageDisposition",
            &[("xmlns:direct", names::DIRECT)],
        );
        writer.leaf("direct:recipient", &[], &self.recipient.to_mailto());
        let disposition = if self.is_success {
            "success"
        } else {
            "failure"
        };
        writer.leaf("direct:disposition", &[], disposition);
        if let Some(reason) = &self.reason {
            writer.leaf("direct:reasonForFailure", &[], reason);
        }
        writer.finish()
    }

    /// Reads a document. The order of the elements does not matter, nor do unknown ones: edges differ.
    pub fn read(octets: &[u8], limits: &Limits) -> Result<Self, DispositionError> {
        let kept = KeptXml::read(octets, limits).map_err(|_| DispositionError::NotOne)?;
        let document =
            roxmltree::Document::parse(kept.as_str()).map_err(|_| DispositionError::NotOne)?;
        let root = document.root_element();
        if !root.has_tag_name((names::DIRECT, "messageDisposition")) {
            return Err(DispositionError::NotOne);
        }
        let text_of = |local: &'static str, error: DispositionError| {
            let mut found = root
                .children()
                .filter(move |node| node.has_tag_name((names::DIRECT, local)));
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some(node), None) => Ok(Some(node.text().unwrap_or_default().trim().to_owned())),
                (Some(_), Some(_)) => Err(error),
            }
        };
        let recipient = text_of("recipient", DispositionError::Recipient)?;
        let recipient = recipient.as_deref().and_then(mailto);
        let is_success = match text_of("disposition", DispositionError::Disposition)?.as_deref() {
            Some("success") => true,
            Some("failure") => false,
            _ => return Err(DispositionError::Disposition),
        };
        let reason = text_of("reasonForFailure", DispositionError::Reason)?;
        let is_token = |text: &String| is_ncname(text) && text.chars().count() <= MAX_REASON_CHARS;
        if reason.as_ref().is_some_and(|text| !is_token(text)) {
            return Err(DispositionError::Reason);
        }
        Ok(Self {
            recipient: recipient.ok_or(DispositionError::Recipient)?,
            is_success,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MessageDisposition, DispositionError> {
        MessageDisposition::read(text.as_bytes(), &Limits::default())
    }

    // rule: XDR-120, STS-1
    #[test]
    fn what_is_written_is_what_the_rule_shows_and_is_read_back() {
        let failure = MessageDisposition {
            recipient: "rui.silva@direct.harbor.example".parse().unwrap(),
            is_success: false,
            reason: Some("timeoutProcessed".to_owned()),
        };
        assert_eq!(
            failure.to_xml(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <direct:messageDisposition xmlns:direct=\"urn:direct:addressing\">\
             <direct:recipient>mailto:rui.silva@direct.harbor.example</direct:recipient>\
             <direct:disposition>failure</direct:disposition>\
             <direct:reasonForFailure>timeoutProcessed</direct:reasonForFailure>\
             </direct:messageDisposition>"
        );
        assert_eq!(read(&failure.to_xml()), Ok(failure.clone()));
        let success = MessageDisposition {
            is_success: true,
            reason: None,
            ..failure
        };
        assert!(!success.to_xml().contains("reasonForFailure"));
        assert_eq!(read(&success.to_xml()), Ok(success));
    }

    // rule: XDR-120, XDR-127
    #[test]
    fn what_edges_write_otherwise_is_read_and_what_says_nothing_certain_is_not() {
        let document = |children: &str| {
            format!(
                "<d:messageDisposition xmlns:d=\"urn:direct:addressing\">{children}</d:messageDisposition>"
            )
        };
        let to = "<d:recipient> MAILTO:rui@harbor.example </d:recipient>";
        let failure = "<d:disposition>failure</d:disposition>";
        let reason = |word: &str| format!("<d:reasonForFailure>{word}</d:reasonForFailure>");
        let odd = document(&format!("<x/>{}{failure}{to}", reason("someWord-7")));
        let found = read(&odd).unwrap();
        assert_eq!(found.reason.as_deref(), Some("someWord-7"));
        assert!(!format!("{found:?}").contains("someWord"));

        use DispositionError::{Disposition, NotOne, Reason, Recipient};
        for (children, error) in [
            (failure.to_owned(), Recipient),
            (format!("{to}{to}{failure}"), Recipient),
            (
                format!("<d:recipient>rui@harbor.example</d:recipient>{failure}"),
                Recipient,
            ),
            (to.to_owned(), Disposition),
            (
                format!("{to}<d:disposition>Success!</d:disposition>"),
                Disposition,
            ),
            (format!("{to}{failure}{failure}"), Disposition),
            (format!("{to}{failure}{}", reason("two words")), Reason),
            (format!("{to}{failure}{}", reason("a:b")), Reason),
            (format!("{to}{failure}{}", reason(&"x".repeat(65))), Reason),
            (
                format!("{to}{failure}{}{}", reason("a"), reason("a")),
                Reason,
            ),
        ] {
            assert_eq!(read(&document(&children)), Err(error), "{children}");
        }
        for other in ["", "<a/>", "<messageDisposition/>", "no XML"] {
            assert_eq!(read(other), Err(NotOne), "{other}");
        }
    }
}
