//! What senders handed over, what arrived, and what senders were told: everything that is judged at the end.

use std::collections::{BTreeMap, BTreeSet};

/// SHA-256 over the octets.
pub(super) type Digest = [u8; 32];

/// What one sender hands over once: its number in the run.
pub(super) type ItemId = u32;

/// By which door an item came, and so how its sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    /// ITI-41; each outcome goes to the partner's status endpoint.
    Xdr,
    /// Sealed mail; each outcome is an MDN.
    Direct,
    /// Mail for the postmaster, which is kept and told of to nobody.
    Postmaster,
}

/// One recipient of an item, and how the world behaves towards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct To {
    pub(super) address: String,
    /// The outcomes that are true of it: `success`, or a reason. MDNs name no reason: there it is `failed`.
    pub(super) may_be: &'static [&'static str],
}

/// What one sender hands over once.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) door: Door,
    pub(super) to: Vec<To>,
    /// Whether the sender asked for notices of final delivery.
    pub(super) wants_final_delivery: bool,
    /// Attempts that were begun.
    pub(super) attempts: u32,
    /// Whether one of them was answered 200 Success, or 250.
    pub(super) is_accepted: bool,
}

/// One delivery: a mail, or a post.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) item: ItemId,
    /// Message-ID or wsa:MessageID.
    pub(super) identity: String,
    pub(super) digest: Digest,
    pub(super) to: Vec<String>,
    /// The node that brought it, by its number.
    pub(super) node: usize,
    /// The era in which it came.
    pub(super) era: usize,
    /// Whether its reply was given; what was lost on purpose may be repeated.
    pub(super) is_answered: bool,
    /// Whether it may be repeated at all: not to an endpoint that does not know its submissions.
    pub(super) is_repeatable: bool,
}

/// One notice to a sender, about one recipient.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) item: ItemId,
    pub(super) recipient: String,
    pub(super) identity: String,
    pub(super) digest: Digest,
    pub(super) says: Says,
    pub(super) node: usize,
    pub(super) era: usize,
    pub(super) is_answered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// `processed`: not the last word.
    Processed,
    /// The last word: `success`, a reason, or `failed`.
    Final(String),
}

/// An exchange as the store has it at the end.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// `None` for notices that came in, which are exchanges as well.
    pub(super) item: Option<ItemId>,
    pub(super) is_final: bool,
    /// Whether it is a repetition of a mail, taken and then absorbed by the first.
    pub(super) is_absorbed: bool,
    pub(super) to: Vec<String>,
}

/// A time between two disturbances.
#[derive(Clone, Debug, Default)]
pub(super) struct Era {
    /// The nodes that may lose replies in it: their writes fail, or their database is restarted or cut off.
    pub(super) in_trouble: BTreeSet<usize>,
    /// The nodes that were killed in it.
    pub(super) killed: BTreeSet<usize>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) items: BTreeMap<ItemId, Item>,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) told: Vec<Told>,
    pub(super) held: Vec<Held>,
    /// Items that the postmaster has.
    pub(super) kept: Vec<ItemId>,
    /// The last one is now.
    pub(super) eras: Vec<Era>,
    /// What was seen on the way that must not be.
    pub(super) wrong: Vec<String>,
    /// Recipients of accepted items about whom there was no last word so far.
    pub(super) awaited: BTreeSet<(ItemId, String)>,
    /// Those about whom there was one.
    pub(super) ended: BTreeSet<(ItemId, String)>,
}

impl Record {
    /// Now.
    pub(super) fn era(&self) -> usize {
        self.eras.len().saturating_sub(1)
    }

    /// The item was answered 200 Success, or 250.
    pub(super) fn accept(&mut self, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        item.is_accepted = true;
        if item.door != Door::Postmaster {
            let to = item.to.iter().map(|to| (id, to.address.clone()));
            self.awaited
                .extend(to.filter(|to| !self.ended.contains(to)));
        }
    }

    pub(super) fn tell(&mut self, told: Told) {
        if told.says != Says::Processed {
            let key = (told.item, told.recipient.clone());
            self.awaited.remove(&key);
            self.ended.insert(key);
        }
        self.told.push(told);
    }

    /// Recipients of accepted items about whom there was no last word so far.
    pub(super) fn waiting(&self) -> usize {
        self.awaited.len()
    }
}
