//! What a client asks.

use std::fmt;

use bcder::{
    Mode, OctetString, Tag,
    encode::{self, PrimitiveContent, Values},
};

/// LDAP's version 3 (RFC 4511 §4.2).
const VERSION: u8 = 3;
/// `derefAlways`: an alias within the same directory is no referral (RFC 4511 §4.5.1.3).
const DEREF_ALWAYS: u8 = 3;

/// A search (RFC 4511 §4.5.1).
#[derive(Clone, Debug)]
pub struct Search<'a> {
    /// The entry under which is searched; empty: the server's own entry.
    pub base: &'a str,
    /// How far.
    pub scope: Scope,
    /// Most entries that the server may send.
    pub max_entries: u32,
    /// Most seconds that the server may take.
    pub max_seconds: u32,
    /// What an entry must have.
    pub filter: Filter<'a>,
    /// The attributes that are wanted.
    pub attributes: &'a [&'a str],
}

/// How far is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The base alone.
    Base,
    /// The base and all below it.
    Subtree,
}

/// What an entry must have. In a message the value stands by its length, and nothing in it can mean anything else;
/// `Display` writes the filter as people do, with what would mean something escaped (RFC 4515 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    /// The attribute, with whatever value.
    Present(&'a str),
    /// The attribute with this value.
    Equal(&'a str, &'a str),
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(attribute) => write!(f, "({attribute}=*)"),
            Self::Equal(attribute, value) => {
                write!(f, "({attribute}=")?;
                for character in value.chars() {
                    match character {
                        '\\' | '*' | '(' | ')' | '\0' => write!(f, "\\{:02x}", character as u32)?,
                        _ => write!(f, "{character}")?,
                    }
                }
                f.write_str(")")
            }
        }
    }
}

impl Filter<'_> {
    fn encode(self) -> impl Values {
        let (equal, present) = match self {
            Self::Present(attribute) => (None, Some(attribute)),
            Self::Equal(attribute, value) => (Some((attribute, value)), None),
        };
        // equalityMatch [3], present [7] (RFC 4511 §4.5.1).
        let equal = equal.map(|(attribute, value)| {
            let assertion = (octets(attribute), octets(value));
            encode::sequence_as(Tag::ctx(3), assertion)
        });
        let present = present.map(|attribute| {
            let attribute = attribute.to_owned().into_bytes();
            OctetString::encode_slice_as(attribute, Tag::ctx(7))
        });
        (equal, present)
    }
}

/// A bind without a name and a password: anonymous (RFC 4513 §5.1.1).
pub fn bind(id: u32) -> Vec<u8> {
    let no_password = OctetString::encode_slice_as(Vec::new(), Tag::ctx(0));
    let bind = (VERSION.encode(), octets(""), no_password);
    message(id, encode::sequence_as(Tag::application(0), bind))
}

/// A search.
pub fn search(id: u32, search: &Search<'_>) -> Vec<u8> {
    let scope: u8 = match search.scope {
        Scope::Base => 0,
        Scope::Subtree => 2,
    };
    let attributes: Vec<_> = search.attributes.iter().map(|name| octets(name)).collect();
    let request = (
        octets(search.base),
        scope.encode_as(Tag::ENUMERATED),
        DEREF_ALWAYS.encode_as(Tag::ENUMERATED),
        search.max_entries.encode(),
        search.max_seconds.encode(),
        // Values, not the names of attributes alone.
        false.encode(),
        search.filter.encode(),
        encode::sequence(attributes),
    );
    message(id, encode::sequence_as(Tag::application(3), request))
}

/// The end of a session; the server does not answer it.
pub fn unbind(id: u32) -> Vec<u8> {
    message(id, ().encode_as(Tag::application(2)))
}

fn message(id: u32, operation: impl Values) -> Vec<u8> {
    let message = encode::sequence((id.encode(), operation));
    message.to_captured(Mode::Der).as_slice().to_vec()
}

fn octets(text: &str) -> impl Values {
    OctetString::encode_slice(text.to_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: LDAP-4
    #[test]
    fn the_bind_has_neither_name_nor_password() {
        let expected = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
        assert_eq!(bind(1), expected);
        assert_eq!(unbind(2), b"\x30\x05\x02\x01\x02\x42\x00");
    }

    // rule: LDAP-5, LDAP-6, LDAP-10
    #[test]
    fn a_search_bears_its_limits_and_its_filter() {
        let root = Search {
            base: "",
            scope: Scope::Base,
            max_entries: 50,
            max_seconds: 5,
            filter: Filter::Present("objectClass"),
            attributes: &["namingContexts"],
        };
        let expected = [
            b"\x30\x35\x02\x01\x02\x63\x30\x04\x00\x0a\x01\x00\x0a\x01\x03\x02\x01\x32\x02\x01\x05\x01\x01\x00\x87\x0b".as_slice(),
            b"objectClass\x30\x10\x04\x0enamingContexts",
        ]
        .concat();
        assert_eq!(search(2, &root), expected);
        let of_address = Search {
            base: "dc=a",
            scope: Scope::Subtree,
            filter: Filter::Equal("mail", "a*)(b@c.example"),
            attributes: &["userCertificate"],
            ..root
        };
        let told = search(3, &of_address);
        let filter = b"\xa3\x17\x04\x04mail\x04\x0fa*)(b@c.example\x30";
        assert!(told.windows(filter.len()).any(|part| part == filter));
        assert!(told.starts_with(b"\x30\x46\x02\x01\x03\x63\x41\x04\x04dc=a\x0a\x01\x02"));
    }

    // rule: LDAP-8
    #[test]
    fn what_means_something_in_a_filter_is_escaped_where_it_is_written() {
        let filter = Filter::Equal("mail", "a*(b)\\\0é@c.example");
        assert_eq!(
            filter.to_string(),
            "(mail=a\\2a\\28b\\29\\5c\\00é@c.example)"
        );
        assert_eq!(Filter::Present("mail").to_string(), "(mail=*)");
    }
}
