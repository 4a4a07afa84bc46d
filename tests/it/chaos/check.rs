//! The invariants: what was accepted arrived or was reported as failed, under one identity, and everything has ended.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Arrival, Digest, Door, Item, ItemId, Record, Says, To, Told};

/// Hand-overs to one destination that a node may have under way: so many replies one kill can lose.
const UNDER_WAY: usize = 8;

/// Eras that may begin while the world takes in what a dead node had still sent, or notes that it is dead. On one node,
/// whose silence is waited for, there are none.
const LATE: usize = 3;

/// Deliveries and notices that came more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeats {
    pub(super) deliveries: usize,
    pub(super) notices: usize,
}

/// Everything in the record that must not be, each as one sentence. `nodes` at once were at work.
pub(super) fn problems(record: &Record, nodes: usize) -> Vec<String> {
    let check = Check {
        record,
        nodes,
        told: by_recipient(&record.told),
        arrived: record
            .arrivals
            .iter()
            .fold(BTreeMap::new(), |mut all, one| {
                all.entry(one.item).or_default().push(one);
                all
            }),
        exchanges: exchanges(record),
    };
    let mut problems = record.wrong.clone();
    for (id, item) in &record.items {
        check.item(*id, item, &mut problems);
    }
    check.arrivals(&mut problems);
    check.copies(&mut problems);
    for held in record.held.iter().filter(|held| !held.is_final) {
        let what = held
            .item
            .map_or("a notice".to_owned(), |id| format!("item {id}"));
        problems.push(format!("open: the exchange of {what} never ends"));
    }
    problems
}

/// How often something came again.
pub(super) fn repeats(record: &Record) -> Repeats {
    let count = |identities: Vec<&str>| {
        let distinct: BTreeSet<&str> = identities.iter().copied().collect();
        identities.len() - distinct.len()
    };
    Repeats {
        deliveries: count(record.arrivals.iter().map(|one| &*one.identity).collect()),
        notices: count(record.told.iter().map(|one| &*one.identity).collect()),
    }
}

type ByRecipient<'a, T> = BTreeMap<(ItemId, &'a str), Vec<T>>;

fn by_recipient(told: &[Told]) -> ByRecipient<'_, &Told> {
    told.iter().fold(BTreeMap::new(), |mut all, one| {
        all.entry((one.item, &*one.recipient))
            .or_default()
            .push(one);
        all
    })
}

/// How many exchanges serve the recipient of the item. A repeated submission is tried anew for whoever had failed
/// (XDR-50), so there may be several, each with a last word of its own.
fn exchanges(record: &Record) -> BTreeMap<(ItemId, &str), usize> {
    let mut counts = BTreeMap::new();
    for held in record.held.iter().filter(|held| !held.is_absorbed) {
        for to in &held.to {
            if let Some(item) = held.item {
                *counts.entry((item, &**to)).or_default() += 1;
            }
        }
    }
    counts
}

struct Check<'a> {
    record: &'a Record,
    nodes: usize,
    told: ByRecipient<'a, &'a Told>,
    arrived: BTreeMap<ItemId, Vec<&'a Arrival>>,
    exchanges: BTreeMap<(ItemId, &'a str), usize>,
}

impl Check<'_> {
    fn item(&self, id: ItemId, item: &Item, problems: &mut Vec<String>) {
        if item.door == Door::Postmaster {
            if item.is_accepted && !self.record.kept.contains(&id) {
                problems.push(format!(
                    "lost: item {id} was accepted, and the postmaster has it not"
                ));
            }
            return;
        }
        for to in &item.to {
            self.recipient(id, item, to, problems);
        }
    }

    fn recipient(&self, id: ItemId, item: &Item, to: &To, problems: &mut Vec<String>) {
        let address = &*to.address;
        let exchanges = self
            .exchanges
            .get(&(id, address))
            .copied()
            .unwrap_or_default();
        let told = self.told.get(&(id, address));
        let mut last_words = BTreeMap::<&str, &str>::new();
        for one in told.into_iter().flatten() {
            if let Says::Final(word) = &one.says {
                last_words.insert(&one.identity, word);
            }
        }
        if item.is_accepted && exchanges == 0 {
            problems.push(format!(
                "lost: item {id} was accepted, and is not there for {address}"
            ));
        }
        if item.is_accepted && last_words.is_empty() {
            problems.push(format!(
                "lost: item {id} was accepted, and nobody was told of {address}"
            ));
        } else if last_words.len() != exchanges {
            let notices = last_words.len();
            problems.push(format!(
                "told: {notices} last words about {address} of item {id}, which {exchanges} exchanges serve"
            ));
        }
        if item.door == Door::Direct && exchanges > 1 {
            problems.push(format!("doubled: item {id} was opened {exchanges} times"));
        }
        let words: Vec<&str> = last_words.values().copied().collect();
        if words.iter().filter(|word| **word == "success").count() > 1 {
            problems.push(format!(
                "doubled: item {id} was delivered twice to {address}"
            ));
        }
        for word in &words {
            if !to.may_be.contains(word) {
                problems.push(format!(
                    "untrue: {address} of item {id} was told of as {word}"
                ));
            }
        }
        if words.contains(&"success") && !self.has_arrived(id, address) {
            problems.push(format!(
                "untrue: item {id} is told of as delivered to {address}, and never came"
            ));
        }
    }

    fn has_arrived(&self, id: ItemId, address: &str) -> bool {
        let mut arrivals = self.arrived.get(&id).into_iter().flatten();
        arrivals.any(|arrival| arrival.to.iter().any(|to| to == address))
    }

    /// Everything came to whom it was meant for, once for each time that it was sent.
    fn arrivals(&self, problems: &mut Vec<String>) {
        for (id, arrivals) in &self.arrived {
            let Some(item) = self.record.items.get(id) else {
                problems.push(format!("misdelivered: item {id} came and was never sent"));
                continue;
            };
            let mut identities = BTreeMap::<&str, BTreeSet<&str>>::new();
            for arrival in arrivals {
                for to in &arrival.to {
                    if !item.to.iter().any(|meant| meant.address == *to) {
                        problems.push(format!("misdelivered: item {id} came to {to}"));
                    }
                    identities.entry(to).or_default().insert(&arrival.identity);
                }
            }
            for (to, identities) in identities {
                let exchanges = self.exchanges.get(&(*id, to)).copied().unwrap_or_default();
                if identities.len() > exchanges {
                    problems.push(format!(
                        "doubled: item {id} came to {to} under {} identities from {exchanges} exchanges",
                        identities.len()
                    ));
                }
            }
        }
    }

    /// What came again is the same, and came again because a reply was lost.
    fn copies(&self, problems: &mut Vec<String>) {
        let arrivals = self.record.arrivals.iter().map(|one| Copy {
            identity: &one.identity,
            digest: &one.digest,
            node: one.node,
            era: one.era,
            is_excused: !one.is_answered,
            is_repeatable: one.is_repeatable,
        });
        self.copies_of("delivery", arrivals, problems);
        let told = self.record.told.iter().map(|one| {
            let item = self.record.items.get(&one.item);
            // A mail that comes again is told of again (LOOP-4).
            let came_again =
                item.is_some_and(|item| item.door == Door::Direct && item.attempts > 1);
            Copy {
                identity: &one.identity,
                digest: &one.digest,
                node: one.node,
                era: one.era,
                is_excused: !one.is_answered || came_again,
                is_repeatable: true,
            }
        });
        self.copies_of("notice", told, problems);
    }

    fn copies_of<'a>(
        &self,
        what: &str,
        all: impl Iterator<Item = Copy<'a>>,
        problems: &mut Vec<String>,
    ) {
        let mut by_identity = BTreeMap::<&str, Vec<Copy<'a>>>::new();
        for copy in all {
            by_identity.entry(copy.identity).or_default().push(copy);
        }
        let mut lost_in = BTreeMap::<(usize, usize), usize>::new();
        for (identity, copies) in by_identity {
            for pair in copies.windows(2) {
                let [first, again] = pair else { continue };
                if first.digest != again.digest {
                    problems.push(format!(
                        "changed: {what} {identity} came again with other octets"
                    ));
                }
                if !first.is_repeatable {
                    problems.push(format!("repeated: {what} {identity} may never be"));
                }
                if first.is_excused {
                    continue;
                }
                if !self.may_have_lost(first.node, first.era, again.era) {
                    problems.push(format!(
                        "repeated: {what} {identity} by node {} in era {}, whose reply to node {} in era {} was not lost",
                        again.node, again.era, first.node, first.era
                    ));
                }
                *lost_in.entry((first.node, first.era)).or_default() += 1;
            }
        }
        for ((node, era), count) in lost_in {
            // To each of two destinations, and twice where a failing write and the kill came together.
            let most = 2 * 2 * UNDER_WAY;
            if count > most {
                problems.push(format!(
                    "repeated: {count} times a {what} of node {node} in era {era}, more than {most}"
                ));
            }
        }
    }

    /// Whether the node may have lost a reply that came to it in the era `first` before the era `again` ended. What happened
    /// to other nodes is no reason.
    fn may_have_lost(&self, node: usize, first: usize, again: usize) -> bool {
        let era = |era: usize| self.record.eras.get(era);
        let loses = |at: usize| era(at).is_some_and(|era| era.in_trouble.contains(&node));
        let killed = |at: usize| era(at).is_some_and(|era| era.killed.contains(&node));
        // One node: only its own end lies between. Of several, each has its own, and what it sent may still be on its way.
        let late = if self.nodes > 1 { LATE } else { 0 };
        (first.saturating_sub(late)..=again).any(loses)
            || (first.saturating_sub(late)..again + late).any(killed)
    }
}

/// One coming of what has an identity.
struct Copy<'a> {
    identity: &'a str,
    digest: &'a Digest,
    node: usize,
    era: usize,
    /// Whether what follows needs no other reason.
    is_excused: bool,
    is_repeatable: bool,
}

mod tests {
    use super::*;
    use crate::chaos::record::{Era, Held};

    /// One submission and one mail, both delivered and told of.
    fn good() -> Record {
        let to = |address: &str| To {
            address: address.to_owned(),
            may_be: &["success"],
        };
        let item = |door, address: &str| Item {
            door,
            to: vec![to(address)],
            wants_final_delivery: true,
            attempts: 1,
            is_accepted: true,
        };
        let arrival = |item, address: &str| Arrival {
            item,
            identity: format!("delivery-{item}"),
            digest: [1; 32],
            to: vec![address.to_owned()],
            node: 0,
            era: 0,
            is_answered: true,
            is_repeatable: true,
        };
        let told = |item, address: &str| Told {
            item,
            recipient: address.to_owned(),
            identity: format!("notice-{item}"),
            digest: [2; 32],
            says: Says::Final("success".to_owned()),
            node: 0,
            era: 0,
            is_answered: true,
        };
        let held = |item, address: &str| Held {
            item: Some(item),
            is_final: true,
            is_absorbed: false,
            to: vec![address.to_owned()],
        };
        Record {
            items: BTreeMap::from([(1, item(Door::Xdr, "rui")), (2, item(Door::Direct, "ada"))]),
            arrivals: vec![arrival(1, "rui"), arrival(2, "ada")],
            told: vec![told(1, "rui"), told(2, "ada")],
            held: vec![held(1, "rui"), held(2, "ada")],
            eras: vec![Era::default(), Era::default()],
            ..Record::default()
        }
    }

    /// The first words of what is wrong once `change` is made.
    fn complaints(change: impl FnOnce(&mut Record)) -> Vec<String> {
        complaints_of(1, change)
    }

    fn complaints_of(nodes: usize, change: impl FnOnce(&mut Record)) -> Vec<String> {
        let mut record = good();
        change(&mut record);
        let first = |problem: &String| problem.split(':').next().unwrap().to_owned();
        problems(&record, nodes).iter().map(first).collect()
    }

    #[test]
    fn a_run_in_which_all_was_delivered_and_told_is_fine() {
        assert_eq!(complaints(|_| {}), Vec::<String>::new());
        // Whom nothing was promised may have nothing.
        let given_up = complaints(|record| {
            record.items.get_mut(&1).unwrap().is_accepted = false;
            record.arrivals.remove(0);
            record.told.remove(0);
            record.held.remove(0);
        });
        assert_eq!(given_up, Vec::<String>::new());
    }

    #[test]
    fn an_item_that_was_accepted_and_lost_is_found() {
        let without_a_word = complaints(|record| drop(record.told.remove(0)));
        assert_eq!(without_a_word, ["lost"]);
        let without_a_trace = complaints(|record| {
            record.told.remove(1);
            record.held.remove(1);
            record.arrivals.remove(1);
        });
        assert_eq!(without_a_trace, ["lost", "lost"]);
        let postmaster = complaints(|record| {
            record.items.get_mut(&1).unwrap().door = Door::Postmaster;
        });
        assert_eq!(postmaster, ["lost"]);
    }

    #[test]
    fn a_doubled_notice_and_a_doubled_delivery_are_found() {
        let notice = complaints(|record| {
            let mut second = record.told[1].clone();
            second.identity = "another".to_owned();
            record.told.push(second);
        });
        assert_eq!(notice, ["told", "doubled"]);
        let delivery = complaints(|record| {
            let mut second = record.arrivals[0].clone();
            second.identity = "another".to_owned();
            record.arrivals.push(second);
        });
        assert_eq!(delivery, ["doubled"]);
        let opened_twice = complaints(|record| {
            record.held.push(record.held[1].clone());
            let mut second = record.told[1].clone();
            second.identity = "another".to_owned();
            record.told.push(second);
        });
        assert_eq!(opened_twice, ["doubled", "doubled"]);
    }

    #[test]
    fn an_untrue_notice_a_misdelivery_and_an_open_exchange_are_found() {
        let untrue = complaints(|record| drop(record.arrivals.remove(0)));
        assert_eq!(untrue, ["untrue"]);
        let failed = complaints(|record| record.told[0].says = Says::Final("internal".to_owned()));
        assert_eq!(failed, ["untrue"]);
        let misdelivered = complaints(|record| record.arrivals[0].to.push("mei".to_owned()));
        assert_eq!(misdelivered, ["misdelivered", "doubled"]);
        let open = complaints(|record| record.held[1].is_final = false);
        assert_eq!(open, ["open"]);
    }

    #[test]
    fn a_repetition_needs_a_lost_reply_and_the_same_octets() {
        let again = |change: fn(&mut Record)| {
            complaints(|record| {
                let mut second = record.arrivals[0].clone();
                second.era = 1;
                record.arrivals.push(second);
                change(record);
            })
        };
        assert_eq!(again(|_| {}), ["repeated"]);
        assert_eq!(
            again(|record| record.eras[0].killed = BTreeSet::from([0])),
            Vec::<String>::new()
        );
        assert_eq!(
            again(|record| record.eras[1].killed = BTreeSet::from([0])),
            ["repeated"]
        );
        assert_eq!(
            again(|record| record.eras[0].in_trouble = BTreeSet::from([0])),
            Vec::<String>::new()
        );
        assert_eq!(
            again(|record| record.arrivals[0].is_answered = false),
            Vec::<String>::new()
        );
        let other = again(|record| {
            record.eras[0].killed = BTreeSet::from([0]);
            record.arrivals[2].digest = [3; 32];
        });
        assert_eq!(other, ["changed"]);
        let unrepeatable = again(|record| {
            record.eras[0].killed = BTreeSet::from([0]);
            record.arrivals[0].is_repeatable = false;
        });
        assert_eq!(unrepeatable, ["repeated"]);
    }

    #[test]
    fn what_happens_to_another_node_excuses_no_repetition() {
        let again_by_node_1 = |change: &dyn Fn(&mut Record)| {
            complaints_of(3, |record| {
                let mut second = record.told[0].clone();
                (second.node, second.era) = (1, 1);
                record.told.push(second);
                change(record);
            })
        };
        assert_eq!(again_by_node_1(&|_| {}), ["repeated"]);
        for (node, excuses) in [(0, true), (1, false), (2, false)] {
            let one = BTreeSet::from([node]);
            let killed = again_by_node_1(&|record| record.eras[0].killed.clone_from(&one));
            assert_eq!(killed.is_empty(), excuses, "node {node} was killed");
            let cut_off = again_by_node_1(&|record| record.eras[1].in_trouble.clone_from(&one));
            assert_eq!(cut_off.is_empty(), excuses, "node {node} was cut off");
        }
    }

    #[test]
    fn a_kill_loses_no_more_replies_than_were_under_way() {
        let many = complaints(|record| {
            record.eras[0].killed = BTreeSet::from([0]);
            for number in 0..100 {
                for era in 0..2 {
                    let mut told = record.told[0].clone();
                    told.identity = format!("processed-{number}");
                    told.says = Says::Processed;
                    told.era = era;
                    record.told.push(told);
                }
            }
        });
        assert_eq!(many, ["repeated"]);
    }
}
