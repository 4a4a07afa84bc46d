//! The senders: XDR systems and users of the HISP that hand over their items, and repeat them as real ones do until they
//! are answered, or give up.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    thread,
};

use uuid::Uuid;
use xdbridge::formats::ids::SoapMessageId;

use super::{
    dice::Dice,
    ground::{Node, ONCE, World},
    hisp::Hisp,
    record::{Door, Item, ItemId, To},
};
use crate::support::{
    crossing_ground::{
        Answered, CrossingGround, HISP_DOMAIN, Letter, OWN_DOMAIN, address, incompressible,
    },
    receiving_ground::FINAL_DELIVERY,
    smtp_sender::hand_over_once,
};

/// Recipients about whom senders wait for a last word, beyond which nothing new is sent.
const MOST_WAITING: usize = 120;
/// What a large document has: more than fits into a row of the store.
const LARGE: usize = 150_000;

/// What the threads of senders share.
pub(super) struct Senders<'a> {
    pub(super) world: &'a World,
    pub(super) ground: &'a CrossingGround<'a>,
    pub(super) hisp: &'a Hisp<'a>,
    /// How many attempts in a hundred are made twice at once.
    pub(super) twice_percent: usize,
    pub(super) made: AtomicU32,
    pub(super) is_enough: AtomicBool,
    pub(super) at_work: AtomicUsize,
    pub(super) given_up: AtomicU32,
}

/// An item as it goes over the wire, the same at every attempt.
enum Wire {
    Xdr {
        content_type: String,
        body: Vec<u8>,
    },
    Mail {
        from: String,
        to: Vec<String>,
        mail: Vec<u8>,
    },
}

enum Answer {
    Accepted,
    NotNow,
    Never(String),
}

impl Senders<'_> {
    /// Sends one item after the other until there are enough.
    pub(super) fn run(&self, dice: &Dice) {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        while !self.is_enough.load(Ordering::SeqCst) && !self.world.is_over() {
            if self.world.record().waiting() > MOST_WAITING {
                thread::sleep(dice.millis(10, 30));
                continue;
            }
            let id = self.made.fetch_add(1, Ordering::SeqCst) + 1;
            self.send(dice, id);
        }
        self.at_work.fetch_sub(1, Ordering::SeqCst);
    }

    fn send(&self, dice: &Dice, id: ItemId) {
        const GIVES_UP_PERCENT: usize = 3;
        let (item, wire) = self.make(dice, id);
        self.world.record().items.insert(id, item);
        while let Some(node) = self.world.any_node(dice) {
            let is_twice = dice.percent(self.twice_percent);
            let attempts = if is_twice { 2 } else { 1 };
            self.world.record().items.get_mut(&id).unwrap().attempts += attempts;
            let answer = if is_twice {
                self.attempt_twice(node, dice, &wire)
            } else {
                self.attempt(node, &wire)
            };
            match answer {
                Answer::Accepted => return self.world.record().accept(id),
                Answer::Never(why) => {
                    return self.world.complain(format!("item {id} was refused: {why}"));
                }
                Answer::NotNow if dice.percent(GIVES_UP_PERCENT) => {
                    self.given_up.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Answer::NotNow => thread::sleep(dice.millis(20, 200)),
            }
        }
    }

    /// Two attempts at the same moment, perhaps at two nodes; one that is answered is enough.
    fn attempt_twice(&self, node: Node, dice: &Dice, wire: &Wire) -> Answer {
        let other = self.world.any_node(dice).unwrap_or(node);
        let (first, second) = thread::scope(|scope| {
            let second = scope.spawn(|| self.attempt(other, wire));
            (self.attempt(node, wire), second.join().unwrap())
        });
        match (first, second) {
            (Answer::Never(why), _) | (_, Answer::Never(why)) => Answer::Never(why),
            (Answer::Accepted, _) | (_, Answer::Accepted) => Answer::Accepted,
            (Answer::NotNow, Answer::NotNow) => Answer::NotNow,
        }
    }

    fn attempt(&self, node: Node, wire: &Wire) -> Answer {
        match wire {
            Wire::Xdr { content_type, body } => {
                match self
                    .ground
                    .post_octets_to(node.xdr, "/xdr", content_type, body)
                {
                    Answered::Success => Answer::Accepted,
                    Answered::Nothing | Answered::Refused(503, _) => Answer::NotNow,
                    Answered::Refused(_, text)
                        if text.contains("XDSRepositoryBusy")
                            || text.contains("XDSRepositoryOutOfResources") =>
                    {
                        Answer::NotNow
                    }
                    Answered::Refused(status, text) => Answer::Never(format!("{status} {text}")),
                }
            }
            Wire::Mail { from, to, mail } => {
                match hand_over_once(node.smtp, OWN_DOMAIN, from, to, mail) {
                    None => Answer::NotNow,
                    Some(reply) if reply.starts_with("250") => Answer::Accepted,
                    Some(reply) if reply.starts_with('4') => Answer::NotNow,
                    Some(reply) => Answer::Never(reply),
                }
            }
        }
    }

    fn make(&self, dice: &Dice, id: ItemId) -> (Item, Wire) {
        match dice.below(100) {
            0..45 => self.mail(dice, id),
            45..85 => self.submission(dice, id),
            85..95 => self.own_submission(dice, id),
            _ => postmaster_mail(id),
        }
    }

    /// A sealed mail to the XDR systems behind the bridge.
    fn mail(&self, dice: &Dice, id: ItemId) -> (Item, Wire) {
        let own = |local: &str| format!("{local}@{OWN_DOMAIN}");
        let to: Vec<To> = match dice.below(10) {
            0 => vec![to(own(ONCE), &["success", "failed"])],
            1 => vec![to(own(&format!("rejected.{id}")), &["failed"])],
            2..6 => vec![to(own(&format!("ada.{id}")), &["success"])],
            _ => vec![
                to(own(&format!("ada.{id}")), &["success"]),
                to(own(&format!("team.{id}")), &["success"]),
            ],
        };
        let from = format!("sender.{id}@{HISP_DOMAIN}");
        let addresses: Vec<String> = to.iter().map(|to| to.address.clone()).collect();
        let message = format!(
            "From: <{from}>\r\nTo: {}\r\nSubject: Letter\r\nDate: Sun, 22 Nov 2026 07:59:00 +0000\r\n\
             Message-ID: <item-{id}@{HISP_DOMAIN}>\r\nMIME-Version: 1.0\r\n\
             {FINAL_DELIVERY}Content-Type: text/plain; name=\"letter.txt\"\r\n\
             Content-Disposition: attachment; filename=\"letter.txt\"\r\n\r\n{}{}\r\n",
            addresses.join(", "),
            mark(id),
            if dice.percent(10) {
                "Much text.\r\n".repeat(LARGE / 12)
            } else {
                String::new()
            },
        );
        let mail = self.hisp.sealed(&from, &addresses, &message);
        let wire = Wire::Mail {
            from,
            to: addresses,
            mail,
        };
        (item(Door::Direct, to, true), wire)
    }

    /// A submission for users of the HISP; one of them at least can be served.
    fn submission(&self, dice: &Dice, id: ItemId) -> (Item, Wire) {
        let hisp = |local: &str| format!("{local}.{id}@{HISP_DOMAIN}");
        let mut all = vec![to(hisp("rui"), &["success"])];
        if dice.percent(20) {
            all.push(to(hisp("intake"), &["success"]));
        }
        if dice.percent(10) {
            all.push(to(hisp("nacked"), &["mdnFailed"]));
        }
        if dice.percent(10) {
            all.push(to(hisp("refused"), &["smtpRejected"]));
        }
        if dice.percent(12) {
            all.push(to(hisp("bounced"), &["smtpRejected"]));
        }
        if dice.percent(8) {
            let nobody = format!("nobody.{id}@direct.fjord.example");
            all.push(to(nobody, &["noCertificate"]));
        }
        self.letter(dice, id, all)
    }

    /// A submission for XDR systems behind the same bridge.
    fn own_submission(&self, dice: &Dice, id: ItemId) -> (Item, Wire) {
        let address = format!("ada.{id}@{OWN_DOMAIN}");
        self.letter(dice, id, vec![to(address, &["success"])])
    }

    fn letter(&self, dice: &Dice, id: ItemId, to: Vec<To>) -> (Item, Wire) {
        let uuid = uuid_of(self.world.seed, id);
        let mut letter = Letter {
            message_id: SoapMessageId::from_uuid(uuid),
            unique_id: format!("2.25.{}", uuid.as_u128()),
            from: address("ngozi.okafor", OWN_DOMAIN),
            to: to.iter().map(|to| to.address.parse().unwrap()).collect(),
            final_delivery: dice.percent(50),
            ..Letter::small()
        };
        letter.documents[0] = format!("<note>{}</note>", mark(id)).into_bytes();
        if dice.percent(10) {
            letter.documents[1] = incompressible(LARGE);
        }
        let (content_type, body) = letter.request();
        let item = item(Door::Xdr, to, letter.final_delivery);
        (item, Wire::Xdr { content_type, body })
    }
}

fn to(address: String, may_be: &'static [&'static str]) -> To {
    To { address, may_be }
}

fn item(door: Door, to: Vec<To>, wants_final_delivery: bool) -> Item {
    Item {
        door,
        to,
        wants_final_delivery,
        attempts: 0,
        is_accepted: false,
    }
}

fn postmaster_mail(id: ItemId) -> (Item, Wire) {
    let from = format!("sender.{id}@{HISP_DOMAIN}");
    let address = format!("postmaster@{OWN_DOMAIN}");
    let mail =
        format!("From: <{from}>\r\nTo: <{address}>\r\nSubject: Hello\r\n\r\nIs anybody there?\r\n");
    let wire = Wire::Mail {
        from,
        to: vec![address.clone()],
        mail: mail.into_bytes(),
    };
    (item(Door::Postmaster, vec![to(address, &[])], false), wire)
}

/// What a document says of its item.
fn mark(id: ItemId) -> String {
    format!("This is item {id}.")
}

/// The item that one of the documents is of.
pub(super) fn item_of_documents(documents: &[Vec<u8>]) -> Option<ItemId> {
    documents.iter().find_map(|document| {
        let text = String::from_utf8_lossy(document);
        let (_, rest) = text.split_once("This is item ")?;
        rest.split_once('.')?.0.parse().ok()
    })
}

/// `item-17@hisp.example` is item 17.
pub(super) fn item_of_message_id(id: &str) -> Option<ItemId> {
    let rest = id.trim_start_matches('<').strip_prefix("item-")?;
    rest.split_once('@')?.0.parse().ok()
}

/// `rui.17@hisp.example` is of item 17.
pub(super) fn item_of_address(address: &str) -> Option<ItemId> {
    address.split_once('@')?.0.rsplit_once('.')?.1.parse().ok()
}

/// The wsa:MessageID of an item, without its scheme: the run's seed, and the number of the item.
fn uuid_of(seed: u64, id: ItemId) -> Uuid {
    uuid::Builder::from_custom_bytes((u128::from(seed) << 64 | u128::from(id)).to_be_bytes())
        .into_uuid()
}

/// The item that a wsa:MessageID belongs to.
pub(super) fn item_of_soap_id(id: &str) -> Option<ItemId> {
    let uuid: Uuid = id.rsplit(':').next()?.parse().ok()?;
    let [.., a, b, c, d] = uuid.into_bytes();
    Some(ItemId::from_be_bytes([a, b, c, d]))
}
