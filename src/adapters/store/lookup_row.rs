//! Keyed hashes of the ids that exchanges are found by. The ids themselves are not kept.

use std::borrow::Cow;

use super::{
    failure::failed,
    keys::{Key, KeyRing},
};
use crate::{
    flows::ports::{Found, LookupKey, StoreError},
    formats::{document::hex, ids::ExchangeId},
};

/// How many exchanges a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All that carry it: we made or computed it.
    All,
    /// Some of them: its sender chose it.
    Some,
    /// All that carry its bare text in any key.
    Any,
}

/// A key as its row has it.
pub(super) struct Row {
    pub(super) hash: [u8; 32],
    pub(super) any_hash: [u8; 32],
}

impl Row {
    /// Hashes `key` under the current key.
    pub(super) fn of(keys: &KeyRing, key: &LookupKey) -> Self {
        let current = keys.current();
        Self {
            hash: hash(current, key),
            any_hash: any_hash(current, &bare_text(key)),
        }
    }
}

/// What a unit was decided on, as rows tell it: no exchange but those `known` may carry one of the hashes.
pub(super) struct Decided {
    /// The key's hash under every key of the store: nodes may differ in which of them is current.
    pub(super) hashes: Vec<[u8; 32]>,
    pub(super) known: Vec<ExchangeId>,
}

impl Decided {
    pub(super) fn of(keys: &KeyRing, found: &Found) -> Result<Self, StoreError> {
        if Reach::of(&found.key) != Reach::All {
            return Err(failed("a unit was decided on a key that finds only some"));
        }
        Ok(Self {
            hashes: hashes(keys, &found.key),
            known: found.exchanges.clone(),
        })
    }
}

impl Reach {
    pub(super) fn of(key: &LookupKey) -> Self {
        match key {
            LookupKey::Any(_) => Self::Any,
            LookupKey::SoapMessageId { .. } | LookupKey::SubmissionSet { .. } => Self::Some,
            LookupKey::Submission { .. }
            | LookupKey::MessageId(_)
            | LookupKey::ReceivedMail(_)
            | LookupKey::ReceivedContent(_)
            | LookupKey::Post { .. } => Self::All,
        }
    }
}

/// The hashes of `key` under every key of the store. Those keys change rarely and newer exchanges are hashed under newer
/// ones: the oldest comes first.
pub(super) fn hashes(keys: &KeyRing, key: &LookupKey) -> Vec<[u8; 32]> {
    let mut hashes: Vec<_> = keys.all().map(|of| hash(of, key)).collect();
    hashes.reverse();
    hashes
}

/// What an operator means by `text`: ids are pasted as they are seen, a Message-ID with its angle brackets.
pub(super) fn bare_id(text: &str) -> &str {
    text.trim().trim_start_matches('<').trim_end_matches('>')
}

fn hash(key: &Key, of: &LookupKey) -> [u8; 32] {
    match of {
        LookupKey::SoapMessageId { partner, id } => {
            key.lookups
                .of(&[b"soap", partner.as_bytes(), id.as_bytes()])
        }
        LookupKey::Submission { partner, digest } => {
            key.lookups.of(&[b"submission", partner.as_bytes(), digest])
        }
        LookupKey::SubmissionSet { partner, id } => {
            key.lookups.of(&[b"set", partner.as_bytes(), id.as_bytes()])
        }
        LookupKey::MessageId(id) => key.lookups.of(&[b"mail", id.as_bytes()]),
        LookupKey::ReceivedMail(id) => key.lookups.of(&[b"received", id.as_bytes()]),
        LookupKey::ReceivedContent(digest) => key.lookups.of(&[b"received content", digest]),
        LookupKey::Post { endpoint, id } => {
            key.lookups
                .of(&[b"post", endpoint.as_bytes(), id.as_bytes()])
        }
        LookupKey::Any(text) => any_hash(key, text),
    }
}

fn any_hash(key: &Key, text: &str) -> [u8; 32] {
    key.lookups.of(&[b"any", text.as_bytes()])
}

fn bare_text(key: &LookupKey) -> Cow<'_, str> {
    match key {
        LookupKey::Submission { digest, .. } | LookupKey::ReceivedContent(digest) => {
            hex(digest).into()
        }
        LookupKey::SoapMessageId { id, .. }
        | LookupKey::SubmissionSet { id, .. }
        | LookupKey::Post { id, .. } => id.into(),
        LookupKey::MessageId(id) | LookupKey::ReceivedMail(id) | LookupKey::Any(id) => id.into(),
    }
}
