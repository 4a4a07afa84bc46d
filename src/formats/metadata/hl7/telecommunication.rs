//! Telecommunication addresses: XTN (MD-45).

use std::fmt;

use super::{AddressError, Components, DirectAddress, Hl7Error, escape, join, refuse};

/// A telecommunication address (MD-45): here mostly an e-mail address, `^^Internet^user@domain`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Xtn {
    /// Component 2: `NET` or empty for e-mail.
    pub use_code: String,
    /// Component 3: `Internet`, or a kind of telephone.
    pub equipment: String,
    /// Component 4: the e-mail address, as it is written.
    pub email: String,
    /// Components 5 to 8 and 12: the parts of a telephone number.
    pub telephone: Vec<String>,
    has_more: bool,
}

impl Xtn {
    /// Splits a value.
    pub fn read(text: &str) -> Self {
        let components = Components::of(text.trim());
        Self {
            use_code: components.text(2),
            equipment: components.text(3),
            email: components.text(4).trim().to_owned(),
            telephone: [5, 6, 7, 8, 12]
                .iter()
                .map(|number| components.text(*number))
                .filter(|part| !part.is_empty())
                .collect(),
            has_more: !components.has_only(&[2, 3, 4]),
        }
    }

    /// The e-mail form of an address (XDR-63).
    pub fn for_address(address: &DirectAddress) -> Self {
        Self {
            equipment: "Internet".to_owned(),
            email: address.to_string(),
            ..Self::default()
        }
    }

    /// Whether it is an e-mail address, in whatever case `Internet` is written.
    pub fn is_email(&self) -> bool {
        self.equipment.eq_ignore_ascii_case("Internet") && !self.email.is_empty()
    }

    /// The address without a display name around it (XDR-67); `None` if this is no e-mail address.
    pub fn address(&self) -> Option<Result<DirectAddress, AddressError>> {
        self.is_email().then(|| self.bare_email().parse())
    }

    /// The e-mail address without a display name around it.
    fn bare_email(&self) -> &str {
        self.email
            .rsplit_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map_or(self.email.as_str(), |(inside, _)| inside)
            .trim()
    }

    /// Whether it is in the form of MD-45, for e-mail of XDR-63. That the address is a good one is not asked:
    /// a bad one concerns its recipient alone.
    pub fn check(&self) -> Result<(), Hl7Error> {
        if self.email.is_empty() && !self.telephone.is_empty() && self.equipment != "Internet" {
            return Ok(());
        }
        let is_exact = self.equipment == "Internet"
            && matches!(self.use_code.as_str(), "" | "NET")
            && !self.has_more;
        if is_exact && is_addr_spec(&self.email) {
            return Ok(());
        }
        refuse(
            "XDR-63",
            "an XTN: ^^Internet^user@domain, or a telephone number in components 5 to 8 or 12",
        )
    }

    /// Whether it is meant as an e-mail address and as nothing else, be it a good one or not.
    pub fn is_email_alone(&self) -> bool {
        self.is_email() && self.telephone.is_empty()
    }

    /// Whether it is an e-mail address in a form that is read all the same: a display name around it (XDR-67),
    /// `Internet` in another case, another use code.
    pub fn is_loose_email(&self) -> bool {
        self.is_email_alone() && is_addr_spec(self.bare_email())
    }
}

/// Whether `text` has the shape `user@domain`.
fn is_addr_spec(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        let has_odd = |part: &str| part.contains(|c: char| c.is_whitespace() || "<>".contains(c));
        !local.is_empty() && !domain.is_empty() && !has_odd(local) && !has_odd(domain)
    })
}

impl fmt::Debug for Xtn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xtn(…)")
    }
}

impl fmt::Display for Xtn {
    /// The e-mail form; telephone numbers are not written by the bridge.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(&[
            String::new(),
            escape(&self.use_code),
            escape(&self.equipment),
            escape(&self.email),
        ]))
    }
}
