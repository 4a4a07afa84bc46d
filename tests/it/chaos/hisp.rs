//! The HISP: it takes the bridge's mail, tells of each letter what became of it, and reads what its users are told.

use std::{collections::BTreeSet, sync::Mutex};

use openssl::x509::X509;
use uuid::Uuid;
use xdbridge::{
    adapters::clock::SystemClock,
    flows::ports::Clock,
    formats::{
        limits::Limits,
        mime::read::{self, Mail},
        notification::mdn::{Disposition, ReceivedMdn},
        smime::{OpenOptions, SealHeader, SealOptions, SigningIdentity, open, seal, seal_header},
    },
};

use super::{
    dice::Dice,
    ground::{Queue, World, digest, node_of},
    record::{Arrival, Digest, Says, Told},
    senders::{item_of_address, item_of_documents, item_of_message_id},
};
use crate::support::{
    crossing_ground::{HISP_DOMAIN, OWN_DOMAIN},
    mailbox::unpacked,
    scripted_smtp::{Act, Taken},
    smtp_sender::hand_over_once,
};

/// A mail that the HISP took, and what it has answered.
pub(super) struct AtHisp {
    pub(super) taken: Taken,
    pub(super) digest: Digest,
    pub(super) era: usize,
    pub(super) is_answered: bool,
}

/// A mail of the HISP's.
pub(super) struct Outgoing {
    from: String,
    to: String,
    mail: Vec<u8>,
}

/// The HISP's post: what it took and has not read, and what it has to send, one job after the other.
#[derive(Default)]
pub(super) struct Post {
    pub(super) taken: Queue<AtHisp>,
    pub(super) outgoing: Queue<Vec<Outgoing>>,
    /// What it took so far.
    came: Mutex<BTreeSet<Digest>>,
    /// The letters that it has answered.
    answered: Mutex<BTreeSet<String>>,
}

impl Post {
    pub(super) fn is_idle(&self) -> bool {
        self.taken.is_idle() && self.outgoing.is_idle()
    }

    /// Takes a mail; now and then its reply is lost, the first time.
    pub(super) fn take(&self, world: &World, dice: &Dice, taken: Taken) -> Option<Act> {
        const LOST_PERCENT: usize = 2;
        let digest = digest(&taken.message);
        let is_first = self.came.lock().unwrap().insert(digest);
        let is_answered = !(is_first && dice.percent(LOST_PERCENT));
        let era = world.record().era();
        self.taken.put(AtHisp {
            taken,
            digest,
            era,
            is_answered,
        });
        (!is_answered).then_some(Act::Close)
    }
}

/// What the HISP does with recipients of some names: `RCPT` is refused.
pub(super) fn refuse_some(step: &str) -> Option<Act> {
    step.starts_with("RCPT TO:<refused.")
        .then(|| Act::Say("550 5.1.1 no such user".to_owned()))
}

/// The HISP's keys, and the bridge's certificate.
pub(super) struct Hisp<'a> {
    pub(super) world: &'a World,
    pub(super) post: &'a Post,
    pub(super) identity: &'a SigningIdentity,
    pub(super) bridge: X509,
}

impl Hisp<'_> {
    /// Reads what was taken, until the run is over.
    pub(super) fn read(&self) {
        self.post
            .taken
            .work(self.world, |mail| self.read_one(&mail));
    }

    /// Sends what there is to send, until the run is over.
    pub(super) fn send(&self, dice: &Dice) {
        self.post.outgoing.work(self.world, |job| {
            for mail in job {
                self.deliver(dice, &mail);
            }
        });
    }

    /// Hands it over as often as it takes.
    fn deliver(&self, dice: &Dice, mail: &Outgoing) {
        while let Some(node) = self.world.any_node(dice) {
            let to = [&mail.to];
            let reply = hand_over_once(node.smtp, OWN_DOMAIN, &mail.from, &to, &mail.mail);
            match reply {
                Some(reply) if reply.starts_with("250") => return,
                Some(reply) if !reply.starts_with('4') => {
                    let what = format!("a notice of the HISP to {} was refused: {reply}", mail.to);
                    return self.world.complain(what);
                }
                _ => std::thread::sleep(dice.millis(50, 300)),
            }
        }
    }

    fn read_one(&self, mail: &AtHisp) {
        let identities = std::slice::from_ref(self.identity);
        let message = &mail.taken.message;
        let opened = match open(message, identities, &OpenOptions::default()) {
            Ok(opened) => opened,
            Err(error) => {
                let what = format!(
                    "the HISP cannot open a mail of {} octets: {error}",
                    message.len()
                );
                return self.world.complain(what);
            }
        };
        let limits = Limits::default();
        let inner = read::wrapped_message(&opened.entity, &limits)
            .unwrap()
            .unwrap();
        let inner: Mail<'_> = read::read(&inner, &limits).unwrap();
        let leaves = inner.leaves();
        let report = leaves
            .iter()
            .find(|part| part.media_type() == "message/disposition-notification");
        match report {
            Some(report) => {
                let report = ReceivedMdn::read(&report.decoded(64 * 1024).unwrap()).unwrap();
                let id = inner.header.message_id.as_ref().unwrap().to_string();
                self.note_notice(mail, id, &report);
            }
            None => self.note_letter(mail, &opened.entity),
        }
    }

    fn note_notice(&self, mail: &AtHisp, identity: String, report: &ReceivedMdn) {
        let original = report.original_message_id.as_ref();
        let item = original.and_then(|id| item_of_message_id(id.as_str()));
        let (Some(item), [recipient]) = (item, report.final_recipients.as_slice()) else {
            return self
                .world
                .complain(format!("the notice {identity} is about nothing known"));
        };
        let says = match report.disposition {
            Some(Disposition::Processed) => Says::Processed,
            Some(Disposition::Dispatched) => Says::Final("success".to_owned()),
            _ => Says::Final("failed".to_owned()),
        };
        self.world.record().tell(Told {
            item,
            recipient: recipient.to_string(),
            identity,
            digest: mail.digest,
            says,
            node: node_of(&mail.taken.client),
            era: mail.era,
            is_answered: mail.is_answered,
        });
    }

    fn note_letter(&self, mail: &AtHisp, entity: &[u8]) {
        let letter = unpacked(entity);
        let Some(item) = item_of_documents(&letter.documents) else {
            return self
                .world
                .complain(format!("the letter {} has changed", letter.message_id));
        };
        let wants_final = {
            let mut record = self.world.record();
            record.arrivals.push(Arrival {
                item,
                identity: letter.message_id.clone(),
                digest: mail.digest,
                to: mail.taken.recipients.clone(),
                node: node_of(&mail.taken.client),
                era: mail.era,
                is_answered: mail.is_answered,
                is_repeatable: true,
            });
            let item = record.items.get(&item);
            item.is_some_and(|item| item.wants_final_delivery)
        };
        let is_first = self
            .post
            .answered
            .lock()
            .unwrap()
            .insert(letter.message_id.clone());
        if is_first {
            for to in &mail.taken.recipients {
                self.answer(&letter.from, &letter.message_id, to, wants_final);
            }
        }
    }

    /// Tells the letter's sender what becomes of it, which the recipient's name says.
    fn answer(&self, sender: &str, letter: &str, recipient: &str, wants_final: bool) {
        let notice = |disposition: &str| Outgoing {
            from: recipient.to_owned(),
            to: sender.to_owned(),
            mail: self.notice(sender, letter, recipient, disposition),
        };
        let job = if recipient.starts_with("bounced.") {
            vec![Outgoing {
                from: String::new(),
                to: sender.to_owned(),
                mail: bounce(sender, letter, recipient).into_bytes(),
            }]
        } else if recipient.starts_with("nacked.") {
            vec![notice("failed")]
        } else if wants_final {
            vec![
                notice("processed"),
                notice("dispatched\r\nX-DIRECT-FINAL-DESTINATION-DELIVERY:"),
            ]
        } else {
            vec![notice("processed")]
        };
        debug_assert!(item_of_address(recipient).is_some());
        self.post.outgoing.put(job);
    }

    fn notice(&self, sender: &str, letter: &str, recipient: &str, disposition: &str) -> Vec<u8> {
        let message = format!(
            "From: <{recipient}>\r\nTo: <{sender}>\r\nSubject: Notice\r\nDate: Sun, 22 Nov 2026 07:59:00 +0000\r\n\
             Message-ID: <{}@{HISP_DOMAIN}>\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\n\
             Content-Type: multipart/report; report-type=disposition-notification; boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nA notice.\r\n\
             --b\r\nContent-Type: message/disposition-notification\r\n\r\n\
             Reporting-UA: {HISP_DOMAIN}; hisp\r\nFinal-Recipient: rfc822; {recipient}\r\n\
             Original-Message-ID: <{letter}>\r\n\
             Disposition: automatic-action/MDN-sent-automatically; {disposition}\r\n\r\n--b--\r\n",
            Uuid::new_v4()
        );
        self.sealed(recipient, &[sender.to_owned()], &message)
    }

    /// A message as the HISP sends it.
    pub(super) fn sealed(&self, from: &str, to: &[String], message: &str) -> Vec<u8> {
        let options = SealOptions::default();
        let now = SystemClock.now();
        let to: Vec<_> = to.iter().map(|to| to.parse().unwrap()).collect();
        let mut mail = seal_header(&SealHeader {
            from: &from.parse().unwrap(),
            to: &to,
            cc: &[],
            date: now,
            message_id: &format!("{}@{HISP_DOMAIN}", Uuid::new_v4()).parse().unwrap(),
            in_reply_to: None,
            references: &[],
            subject: "Encrypted message",
            cipher: options.cipher,
        })
        .into_bytes();
        seal(
            &mut mail,
            std::slice::from_ref(self.identity),
            std::slice::from_ref(&self.bridge),
            &options,
            now,
            "=_signed",
            &mut |out| write!(out, "Content-Type: message/rfc822\r\n\r\n{message}"),
        )
        .unwrap();
        mail
    }
}

/// What a relay tells that could not deliver after all.
fn bounce(sender: &str, letter: &str, recipient: &str) -> String {
    format!(
        "From: MAILER-DAEMON@relay.harbor.example\r\nTo: <{sender}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\n\r\nNot delivered.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; relay.harbor.example\r\n\r\nFinal-Recipient: rfc822; {recipient}\r\n\
         Action: failed\r\nStatus: 5.1.1\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <{letter}>\r\n\r\n--b--\r\n"
    )
}
