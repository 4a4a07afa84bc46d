//! The HL7 v2 data types inside metadata values (metadata.md section 5, xdr.md section 6; ITI TF-3 4.2.3.1.7): CX,
//! XCN, XON, XTN, and the intendedRecipient that joins three of them.
//!
//! A value is split first and un-escaped afterwards, piece by piece (XDR-63). `read` takes any text; `check` says
//! whether it is in the form of its type.

mod recipient;
mod telecommunication;

use std::fmt;

pub use recipient::IntendedRecipient;
pub use telecommunication::Xtn;

use super::super::ids::{AddressError, DirectAddress, Oid};

/// A value is not in the form of its data type. The value itself is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} ({rule})")]
pub struct Hl7Error {
    /// The rule, such as `MD-41`.
    pub rule: &'static str,
    /// What would be accepted.
    pub expected: &'static str,
}

fn refuse(rule: &'static str, expected: &'static str) -> Result<(), Hl7Error> {
    Err(Hl7Error { rule, expected })
}

/// Turns the escapes `\F\ \S\ \T\ \R\ \E\` into the characters that they stand for (MD-58). Anything else between
/// backslashes stays as it is.
pub fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        result.push_str(before);
        let mut letters = escape.chars().skip(1);
        let meant = match (letters.next(), letters.next()) {
            (Some('F'), Some('\\')) => Some('|'),
            (Some('S'), Some('\\')) => Some('^'),
            (Some('T'), Some('\\')) => Some('&'),
            (Some('R'), Some('\\')) => Some('~'),
            (Some('E'), Some('\\')) => Some('\\'),
            _ => None,
        };
        let taken = if meant.is_some() { 3 } else { 1 };
        result.push(meant.unwrap_or('\\'));
        rest = escape.get(taken..).unwrap_or_default();
    }
    result.push_str(rest);
    result
}

/// Writes the five delimiters of HL7 as escapes (MD-58).
pub fn escape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' => result.push_str("\\F\\"),
            '^' => result.push_str("\\S\\"),
            '&' => result.push_str("\\T\\"),
            '~' => result.push_str("\\R\\"),
            '\\' => result.push_str("\\E\\"),
            other => result.push(other),
        }
    }
    result
}

/// Whether every backslash belongs to one of the five escapes; formatting escapes are forbidden (MD-58).
pub fn is_escaped_well(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let escape = rest.get(at..).unwrap_or_default();
        if !["\\F\\", "\\S\\", "\\T\\", "\\R\\", "\\E\\"]
            .iter()
            .any(|known| escape.starts_with(known))
        {
            return false;
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    true
}

/// The components of a value, each escaped and joined, without empty ones at the end.
pub(crate) fn components(parts: &[String]) -> String {
    let escaped: Vec<String> = parts.iter().map(|part| escape(part)).collect();
    join(&escaped)
}

/// A value's components, still escaped.
struct Components<'a>(Vec<&'a str>);

impl<'a> Components<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.split('^').collect())
    }

    /// The component, counted from 1 as HL7 does; empty where there is none.
    fn raw(&self, number: usize) -> &'a str {
        number
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn text(&self, number: usize) -> String {
        unescape(self.raw(number))
    }

    fn authority(&self, number: usize) -> Authority {
        Authority::read(self.raw(number))
    }

    /// Whether all components but these are empty.
    fn has_only(&self, allowed: &[usize]) -> bool {
        self.0
            .iter()
            .enumerate()
            .all(|(at, component)| component.is_empty() || allowed.contains(&(at + 1)))
    }
}

/// Joins components, without empty ones at the end.
fn join(components: &[String]) -> String {
    let filled = components
        .iter()
        .rposition(|component| !component.is_empty())
        .map_or(0, |last| last + 1);
    components.get(..filled).unwrap_or_default().join("^")
}

/// An assigning authority: an HD in the form `&OID&ISO` (MD-42).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Subcomponent 1, which must be empty.
    pub namespace: String,
    /// Subcomponent 2: the OID.
    pub universal_id: String,
    /// Subcomponent 3: `ISO`.
    pub universal_id_type: String,
    has_more: bool,
}

impl Authority {
    fn read(text: &str) -> Self {
        let mut parts = text.split('&').map(unescape);
        Self {
            namespace: parts.next().unwrap_or_default(),
            universal_id: parts.next().unwrap_or_default(),
            universal_id_type: parts.next().unwrap_or_default(),
            has_more: parts.any(|part| !part.is_empty()),
        }
    }

    /// The authority with this OID.
    pub fn of_oid(oid: &Oid) -> Self {
        Self {
            universal_id: oid.as_str().to_owned(),
            universal_id_type: "ISO".to_owned(),
            ..Self::default()
        }
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is `&OID&ISO`.
    pub fn is_iso_oid(&self) -> bool {
        self.namespace.is_empty()
            && self.universal_id_type == "ISO"
            && !self.has_more
            && self.universal_id.parse::<Oid>().is_ok()
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "{}&{}&{}",
            escape(&self.namespace),
            escape(&self.universal_id),
            escape(&self.universal_id_type)
        )
    }
}

/// An identifier with its assigning authority: `Id^^^&OID&ISO` (MD-41). `==` compares id and authority and does not
/// see delimiters at the end (MD-92).
#[derive(Clone, PartialEq, Eq)]
pub struct Cx {
    /// Component 1.
    pub id: String,
    /// Component 4.
    pub authority: Authority,
    has_more: bool,
}

impl Cx {
    /// Splits a value.
    pub fn read(text: &str) -> Self {
        let components = Components::of(text.trim());
        Self {
            id: components.text(1),
            authority: components.authority(4),
            has_more: !components.has_only(&[1, 4]),
        }
    }

    /// Whether it is in the form of MD-41.
    pub fn check(&self) -> Result<(), Hl7Error> {
        if self.id.is_empty() || self.has_more || !self.authority.is_iso_oid() {
            return refuse("MD-41", "a CX of the form Id^^^&OID&ISO");
        }
        Ok(())
    }

    /// Whether both name the same patient: id and authority OID (MD-92).
    pub fn names_same(&self, other: &Self) -> bool {
        self.id == other.id && self.authority.universal_id == other.authority.universal_id
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cx(…^^^{})", self.authority)
    }
}

impl fmt::Display for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^^^{}", escape(&self.id), self.authority)
    }
}

/// A person (MD-43).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Xcn {
    /// Component 1.
    pub id: String,
    /// Component 2.
    pub family: String,
    /// Component 3.
    pub given: String,
    /// Component 4.
    pub middle: String,
    /// Component 5.
    pub suffix: String,
    /// Component 6, such as `Dr`.
    pub prefix: String,
    /// Component 7.
    pub degree: String,
    /// Component 9.
    pub authority: Authority,
}

impl Xcn {
    /// Splits a value.
    pub fn read(text: &str) -> Self {
        let components = Components::of(text.trim());
        Self {
            id: components.text(1),
            family: components.text(2),
            given: components.text(3),
            middle: components.text(4),
            suffix: components.text(5),
            prefix: components.text(6),
            degree: components.text(7),
            authority: components.authority(9),
        }
    }

    /// Whether it is in the form of MD-43.
    pub fn check(&self) -> Result<(), Hl7Error> {
        let expected = "an XCN: Id^Family^Given^Middle^Suffix^Prefix^Degree^^&OID&ISO with an id or a \
                        family name, component 9 only with an id";
        let has_authority = !self.authority.is_empty();
        if (self.id.is_empty() && self.family.is_empty())
            || (has_authority && (self.id.is_empty() || !self.authority.is_iso_oid()))
        {
            return refuse("MD-43", expected);
        }
        Ok(())
    }

    /// Whether the id may be another's elsewhere, and nobody is named who gave it: component 9 is expected then. An OID,
    /// a UUID and any other URI are unique by themselves.
    pub fn lacks_authority(&self) -> bool {
        let is_unique = |id: &str| {
            id.contains(':') || id.parse::<Oid>().is_ok() || uuid::Uuid::try_parse(id).is_ok()
        };
        !self.id.is_empty() && self.authority.is_empty() && !is_unique(&self.id)
    }

    /// `Given Family`, for display beside an address (XDR-68); `None` without a name.
    pub fn display_name(&self) -> Option<String> {
        let name = format!("{} {}", self.given, self.family);
        let name = name.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }
}

impl fmt::Debug for Xcn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xcn(…)")
    }
}

impl fmt::Display for Xcn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(&[
            escape(&self.id),
            escape(&self.family),
            escape(&self.given),
            escape(&self.middle),
            escape(&self.suffix),
            escape(&self.prefix),
            escape(&self.degree),
            String::new(),
            self.authority.to_string(),
        ]))
    }
}

/// An organisation (MD-44).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xon {
    /// Component 1.
    pub name: String,
    /// Component 6.
    pub authority: Authority,
    /// Component 10.
    pub id: String,
    has_more: bool,
}

impl Xon {
    /// Splits a value.
    pub fn read(text: &str) -> Self {
        let components = Components::of(text.trim());
        Self {
            name: components.text(1),
            authority: components.authority(6),
            id: components.text(10),
            has_more: !components.has_only(&[1, 6, 10]),
        }
    }

    /// Whether it is in the form of MD-44.
    pub fn check(&self) -> Result<(), Hl7Error> {
        let is_local_id = !self.id.is_empty() && self.id.parse::<Oid>().is_err();
        let has_authority = !self.authority.is_empty();
        if self.name.is_empty()
            || self.has_more
            || (is_local_id && !has_authority)
            || (has_authority && !self.authority.is_iso_oid())
        {
            return refuse(
                "MD-44",
                "an XON: Name^^^^^^^^^OID or Name^^^^^&OID&ISO^^^^Id, the other components empty",
            );
        }
        Ok(())
    }
}

impl fmt::Display for Xon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let empty = String::new;
        f.write_str(&join(&[
            escape(&self.name),
            empty(),
            empty(),
            empty(),
            empty(),
            self.authority.to_string(),
            empty(),
            empty(),
            empty(),
            escape(&self.id),
        ]))
    }
}

/// Checks a CXi, `Id^^^[&OID&ISO]^TypeCode` (MD-48).
pub fn check_cxi(text: &str) -> Result<(), Hl7Error> {
    let components = Components::of(text.trim());
    let authority = components.authority(4);
    let is_good = !components.raw(1).is_empty()
        && !components.raw(5).is_empty()
        && (authority.is_empty() || authority.is_iso_oid())
        // Component 6 is the home community that later editions of the type add.
        && components.has_only(&[1, 4, 5, 6]);
    if is_good {
        Ok(())
    } else {
        refuse("MD-48", "a CXi of the form Id^^^&OID&ISO^TypeCode")
    }
}

#[cfg(test)]
mod tests;
