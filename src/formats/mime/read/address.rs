//! Address lists (RFC 5322 §3.4), groups flattened.

use mail_parser::{Addr, Address, HeaderValue, parsers::MessageStream};

use super::{
    super::super::ids::DirectAddress,
    field::{clean, terminated},
};

/// One mailbox of an address field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name, decoded. It may name a patient: not for logs.
    pub name: Option<String>,
    /// The address.
    pub address: DirectAddress,
}

/// The mailboxes of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mailboxes {
    pub(super) readable: Vec<Mailbox>,
    /// How many members are no usable address (ADR-7).
    pub(super) unreadable: usize,
}

impl Mailboxes {
    pub(super) fn read(value: &[u8]) -> Self {
        let terminated = terminated(value);
        let mut mailboxes = Self::default();
        let HeaderValue::Address(address) = MessageStream::new(&terminated).parse_address() else {
            mailboxes.unreadable = usize::from(!value.trim_ascii().is_empty());
            return mailboxes;
        };
        let members: Vec<Addr<'_>> = match address {
            Address::List(list) => list,
            Address::Group(groups) => groups.into_iter().flat_map(|g| g.addresses).collect(),
        };
        for member in members {
            let address = member.address.as_deref().map(str::parse::<DirectAddress>);
            match address {
                Some(Ok(address)) => mailboxes.readable.push(Mailbox {
                    name: member.name.as_deref().and_then(clean),
                    address,
                }),
                _ => mailboxes.unreadable += 1,
            }
        }
        mailboxes
    }
}
