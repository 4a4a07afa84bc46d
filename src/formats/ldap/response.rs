//! What a server answers.

use std::fmt;

use bcder::{
    Mode, Tag,
    decode::{Constructed, Content, DecodeError, Source},
};
use bytes::Bytes;

/// Octets of tag and length at the start of a message, at most.
pub const MAX_HEAD_BYTES: usize = 6;
/// Most attributes of one entry that are read.
const MAX_ATTRIBUTES: usize = 100;
/// Most values of one entry that are read.
const MAX_VALUES: usize = 1_000;

/// One message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which request it answers; 0: none.
    pub id: u32,
    /// What it says.
    pub response: Response,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// How a bind ended.
    Bound(ResultCode),
    /// An entry that was found.
    Entry(Entry),
    /// More may be found elsewhere (RFC 4511 §4.5.2). Where, is not read: it is not followed (LDAP-10).
    Reference,
    /// How a search ended.
    Done(ResultCode),
    /// The server closes the session (RFC 4511 §4.4.1), or answers something that was not asked.
    Other,
}

/// An entry, as far as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}

/// An attribute of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name with its options, such as `userCertificate;binary`, in whatever case.
    pub description: String,
    /// Its values.
    pub values: Vec<Vec<u8>>,
}

/// How an operation ended (RFC 4511 §4.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultCode(pub u32);

/// Why octets are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer that is not a message of LDAP (RFC 4511)")]
pub struct Malformed;

/// Why octets are the start of no message that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another tag, or a length without a number or with more than four octets.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Longer than what is still read of this server.
    #[error("an answer of more than {limit} octets")]
    TooLong {
        /// What is read at most.
        limit: usize,
    },
}

impl ResultCode {
    /// The operation was done.
    pub const SUCCESS: Self = Self(0);
    /// The server has found more entries than it may send.
    pub const SIZE_LIMIT_EXCEEDED: Self = Self(4);
    /// Another server is to be asked.
    pub const REFERRAL: Self = Self(10);
    /// There is no such base.
    pub const NO_SUCH_OBJECT: Self = Self(32);

    fn name(self) -> Option<&'static str> {
        // RFC 4511 appendix A.2, as far as a search or a bind ends so.
        Some(match self.0 {
            0 => "success",
            1 => "operationsError",
            2 => "protocolError",
            3 => "timeLimitExceeded",
            4 => "sizeLimitExceeded",
            7 => "authMethodNotSupported",
            8 => "strongerAuthRequired",
            10 => "referral",
            11 => "adminLimitExceeded",
            12 => "unavailableCriticalExtension",
            13 => "confidentialityRequired",
            16 => "noSuchAttribute",
            17 => "undefinedAttributeType",
            18 => "inappropriateMatching",
            21 => "invalidAttributeSyntax",
            32 => "noSuchObject",
            33 => "aliasProblem",
            34 => "invalidDNSyntax",
            36 => "aliasDereferencingProblem",
            48 => "inappropriateAuthentication",
            49 => "invalidCredentials",
            50 => "insufficientAccessRights",
            51 => "busy",
            52 => "unavailable",
            53 => "unwillingToPerform",
            54 => "loopDetect",
            80 => "other",
            _ => return None,
        })
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "result code {}", self.0),
        }
    }
}

/// How many octets the message has that begins with `start`, head and all; `None`: more of its head is needed. LDAP
/// writes the length as a number always (RFC 4511 §5.1).
///
/// # Errors
/// It begins no message, or one of more than `limit` octets.
pub fn frame_bytes(start: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let [0x30, length, rest @ ..] = start else {
        return match start {
            [] | [0x30] => Ok(None),
            _ => Err(FrameError::Malformed(Malformed)),
        };
    };
    let (head, content) = match length {
        0..=0x7f => (2, usize::from(*length)),
        0x81..=0x84 => {
            let octets = usize::from(length & 0x7f);
            let Some(octets) = rest.get(..octets) else {
                return Ok(None);
            };
            let content = octets
                .iter()
                .fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
            (2 + octets.len(), content)
        }
        _ => return Err(FrameError::Malformed(Malformed)),
    };
    let bytes = content.checked_add(head);
    match bytes.filter(|bytes| *bytes <= limit) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(FrameError::TooLong { limit }),
    }
}

/// Reads one message, and nothing after it.
///
/// # Errors
/// It is none, or has more attributes or values than anybody's.
pub fn read(octets: &[u8]) -> Result<Message, Malformed> {
    if frame_bytes(octets, octets.len()) != Ok(Some(octets.len())) {
        return Err(Malformed);
    }
    let read = Mode::Ber.decode(octets, |message| message.take_sequence(take_message));
    read.map_err(|_| Malformed)
}

fn take_message<S: Source>(
    message: &mut Constructed<'_, S>,
) -> Result<Message, DecodeError<S::Error>> {
    let id = message.take_u32()?;
    let response = message.take_value(|tag, content| match application(tag) {
        Some(1) => Ok(Response::Bound(take_result(content.as_constructed()?)?)),
        Some(4) => Ok(Response::Entry(take_entry(content.as_constructed()?)?)),
        Some(5) => Ok(Response::Done(take_result(content.as_constructed()?)?)),
        Some(19) => skip(content).map(|()| Response::Reference),
        _ => skip(content).map(|()| Response::Other),
    })?;
    // Controls, which were not asked for.
    message.skip_all()?;
    Ok(Message { id, response })
}

fn application(tag: Tag) -> Option<u32> {
    tag.is_application().then(|| tag.number())
}

fn skip<S: Source>(content: &mut Content<'_, S>) -> Result<(), DecodeError<S::Error>> {
    match content {
        Content::Primitive(primitive) => primitive.skip_all(),
        Content::Constructed(constructed) => constructed.skip_all(),
    }
}

/// LDAPResult and what an operation adds to it: the code alone says what happened; the rest is prose of a stranger.
fn take_result<S: Source>(
    result: &mut Constructed<'_, S>,
) -> Result<ResultCode, DecodeError<S::Error>> {
    let code = result.take_primitive_if(Tag::ENUMERATED, |code| code.to_u32())?;
    result.skip_all()?;
    Ok(ResultCode(code))
}

fn take_entry<S: Source>(entry: &mut Constructed<'_, S>) -> Result<Entry, DecodeError<S::Error>> {
    take_octets(entry)?;
    let mut attributes = Vec::new();
    let mut values = 0;
    entry.take_sequence(|list| {
        while let Some(attribute) =
            list.take_opt_sequence(|one| take_attribute(one, &mut values))?
        {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(list.content_err("more attributes than are read"));
            }
            attributes.push(attribute);
        }
        Ok(())
    })?;
    Ok(Entry { attributes })
}

/// `count`: the values of the entry so far.
fn take_attribute<S: Source>(
    attribute: &mut Constructed<'_, S>,
    count: &mut usize,
) -> Result<Attribute, DecodeError<S::Error>> {
    let description = take_octets(attribute)?;
    let description = String::from_utf8(description.into())
        .map_err(|_| attribute.content_err("a description that is no text"))?;
    let mut values = Vec::new();
    attribute.take_set(|set| {
        while let Some(value) =
            set.take_opt_primitive_if(Tag::OCTET_STRING, |value| value.take_all())?
        {
            *count += 1;
            if *count > MAX_VALUES {
                return Err(set.content_err("more values than are read"));
            }
            values.push(value.to_vec());
        }
        Ok(())
    })?;
    Ok(Attribute {
        description,
        values,
    })
}

/// An octet string, which LDAP never writes in parts (RFC 4511 §5.1).
fn take_octets<S: Source>(parent: &mut Constructed<'_, S>) -> Result<Bytes, DecodeError<S::Error>> {
    parent.take_primitive_if(Tag::OCTET_STRING, |value| value.take_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element with its length in five octets, as some servers write all of them.
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x84][..], &length, content].concat()
    }

    fn message(operation: &[u8]) -> Vec<u8> {
        tlv(0x30, &[&[2, 1, 7][..], operation].concat())
    }

    fn entry(attributes: &[(&str, &[&[u8]])]) -> Vec<u8> {
        let attributes = attributes.iter().map(|(name, values)| {
            let values: Vec<u8> = values.iter().flat_map(|value| tlv(4, value)).collect();
            tlv(
                0x30,
                &[tlv(4, name.as_bytes()), tlv(0x31, &values)].concat(),
            )
        });
        let attributes: Vec<u8> = attributes.flatten().collect();
        let entry = [tlv(4, b"cn=anna,dc=a"), tlv(0x30, &attributes)].concat();
        message(&tlv(0x64, &entry))
    }

    fn done(code: u8) -> Vec<u8> {
        let result = [&[0x0a, 1, code][..], &[4, 0], &tlv(4, b"prose")].concat();
        message(&tlv(0x65, &result))
    }

    // rule: LDAP-9
    #[test]
    fn an_entry_gives_its_attributes_and_values_whatever_octets_they_are() {
        let octets = entry(&[("userCertificate;binary", &[b"\x30\0", b""]), ("mail", &[])]);
        let read = read(&octets).unwrap();
        let expected = [
            Attribute {
                description: "userCertificate;binary".to_owned(),
                values: vec![b"\x30\0".to_vec(), Vec::new()],
            },
            Attribute {
                description: "mail".to_owned(),
                values: Vec::new(),
            },
        ];
        assert_eq!(read.id, 7);
        let Response::Entry(entry) = read.response else {
            panic!("{read:?}");
        };
        assert_eq!(entry.attributes, expected);
    }

    // rule: LDAP-10
    #[test]
    fn ends_and_references_are_told_apart_and_prose_is_not_kept() {
        let response = |octets: &[u8]| read(octets).unwrap().response;
        assert_eq!(response(&done(0)), Response::Done(ResultCode::SUCCESS));
        assert_eq!(response(&done(10)), Response::Done(ResultCode::REFERRAL));
        let bound = message(&tlv(0x61, &[0x0a, 1, 49, 4, 0, 4, 0]));
        assert_eq!(response(&bound), Response::Bound(ResultCode(49)));
        let reference = message(&tlv(0x73, &tlv(4, b"ldap://127.0.0.1/dc=b")));
        assert_eq!(response(&reference), Response::Reference);
        let disconnection = message(&tlv(0x78, &[0x0a, 1, 52, 4, 0, 4, 0]));
        assert_eq!(response(&disconnection), Response::Other);
        assert_eq!(ResultCode(51).to_string(), "busy (51)");
        assert_eq!(ResultCode(4_096).to_string(), "result code 4096");
    }

    #[test]
    fn garbage_is_refused_wherever_it_is_cut_or_changed_and_never_read_without_end() {
        let whole = entry(&[("userCertificate;binary", &[b"\x30\0"])]);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Err(Malformed), "cut at {end}");
        }
        for at in 0..whole.len() {
            for octet in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = octet;
                // Whatever comes of it, it comes to an end.
                let _ = read(&changed);
            }
        }
        assert_eq!(read(&[whole.clone(), vec![0]].concat()), Err(Malformed));
        // Nested as deep as a megabyte goes: where nothing is looked into, and where something is.
        let mut deep = Vec::new();
        for level in (0..150_000).rev() {
            let length = u32::try_from(level * 6).unwrap().to_be_bytes();
            deep.extend([&[0x30, 0x84][..], &length].concat());
        }
        assert_eq!(read(&deep), Err(Malformed));
        let inside = message(&tlv(0x73, &deep));
        assert_eq!(read(&inside).unwrap().response, Response::Reference);
        let open = [0x30, 0x80].repeat(500_000);
        assert_eq!(read(&open), Err(Malformed));
    }

    // rule: LDAP-10
    #[test]
    fn attributes_and_values_are_counted() {
        let one: &[u8] = b"x";
        let values = |count| entry(&[("userCertificate", &vec![one; count])]);
        assert!(read(&values(MAX_VALUES)).is_ok());
        assert_eq!(read(&values(MAX_VALUES + 1)), Err(Malformed));
        let attributes = |count| entry(&vec![("a", &[][..]); count]);
        assert!(read(&attributes(MAX_ATTRIBUTES)).is_ok());
        assert_eq!(read(&attributes(MAX_ATTRIBUTES + 1)), Err(Malformed));
    }

    // rule: LDAP-10
    #[test]
    fn the_length_of_a_message_is_known_from_its_head_and_bounded() {
        let limit = 1_000;
        for (start, bytes) in [
            (&b""[..], None),
            (b"\x30", None),
            (b"\x30\x05", Some(7)),
            (b"\x30\x81", None),
            (b"\x30\x82\x01", None),
            (b"\x30\x82\x01\x00", Some(260)),
            (b"\x30\x84\0\0\x01\x00", Some(262)),
            (b"\x30\x84\0\0\x03\xe2", Some(1_000)),
        ] {
            assert_eq!(frame_bytes(start, limit), Ok(bytes), "{start:?}");
        }
        for start in [&b"\x31"[..], b"HTTP", b"\x30\x80", b"\x30\x85", b"\x30\xff"] {
            assert_eq!(
                frame_bytes(start, limit),
                Err(FrameError::Malformed(Malformed))
            );
        }
        let too_long = Err(FrameError::TooLong { limit });
        for start in [b"\x30\x84\0\0\x03\xe3", b"\x30\x84\xff\xff\xff\xff"] {
            assert_eq!(frame_bytes(start, limit), too_long);
        }
    }
}
