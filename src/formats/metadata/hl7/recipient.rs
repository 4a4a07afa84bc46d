//! intendedRecipient: `XON|XCN|XTN` (XDR-61).

use std::fmt;

use super::{AddressError, DirectAddress, Hl7Error, Xcn, Xon, Xtn, refuse};

/// One value of intendedRecipient. Parts that are empty in the text are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntendedRecipient {
    /// The organisation.
    pub organisation: Option<Xon>,
    /// The person.
    pub person: Option<Xcn>,
    /// The telecommunication address.
    pub telecommunication: Option<Xtn>,
    has_more: bool,
}

impl IntendedRecipient {
    /// Splits a value; white space and line breaks around and inside it are collapsed first (XDR-64).
    pub fn read(text: &str) -> Self {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut parts = text.split('|').map(|part| {
            let part = part.trim();
            (!part.is_empty()).then_some(part)
        });
        let mut next = || parts.next().flatten();
        Self {
            organisation: next().map(Xon::read),
            person: next().map(Xcn::read),
            telecommunication: next().map(Xtn::read),
            has_more: parts.next().is_some(),
        }
    }

    /// The Direct-only form, `||^^Internet^user@domain` (XDR-62).
    pub fn for_address(address: &DirectAddress) -> Self {
        Self {
            organisation: None,
            person: None,
            telecommunication: Some(Xtn::for_address(address)),
            has_more: false,
        }
    }

    /// The address that it names, if it has an e-mail XTN (XDR-60).
    pub fn address(&self) -> Option<Result<DirectAddress, AddressError>> {
        self.telecommunication.as_ref()?.address()
    }

    /// Whether it is in the form of XDR-61 but for an e-mail address that cannot be used. Such an address refuses its
    /// own recipient, never the submission (ADR-7).
    pub fn is_address_broken(&self) -> bool {
        let is_alone = self.telecommunication.as_ref();
        let is_alone = is_alone.is_some_and(Xtn::is_email_alone);
        let is_rest_good = self
            .check()
            .map_or_else(|error| error.rule == "XDR-63", |()| true);
        is_alone && is_rest_good && matches!(self.address(), Some(Err(_)))
    }

    /// Whether it is in the form of XDR-61, and each part in its own.
    pub fn check(&self) -> Result<(), Hl7Error> {
        let is_filled = self.organisation.is_some()
            || self.person.is_some()
            || self.telecommunication.is_some();
        if !is_filled || self.has_more {
            return refuse(
                "XDR-61",
                "an intendedRecipient: XON|XCN|XTN with at least one part, such as \
                 ||^^Internet^user@domain",
            );
        }
        if let Some(organisation) = &self.organisation {
            organisation.check()?;
        }
        if let Some(person) = &self.person {
            person.check()?;
        }
        if let Some(telecommunication) = &self.telecommunication {
            telecommunication.check()?;
        }
        Ok(())
    }
}

impl fmt::Display for IntendedRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: Option<String>| part.unwrap_or_default();
        let text = format!(
            "{}|{}|{}",
            part(self.organisation.as_ref().map(Xon::to_string)),
            part(self.person.as_ref().map(Xcn::to_string)),
            part(self.telecommunication.as_ref().map(Xtn::to_string)),
        );
        f.write_str(text.trim_end_matches('|'))
    }
}
