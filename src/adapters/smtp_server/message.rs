//! One mail's data, from 354 to the final reply. It is read to its true end even after it was refused, so that none
//! of it is ever taken for commands.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{error, warn};
use uuid::Uuid;

use super::{
    account::{self, Incident, MailAccount},
    connection::{Connection, Ending},
    data::{DataFault, DataReader},
    feed::{Feed, GROWTH_STEP_BYTES, Unfed},
    pace::Pace,
    reply::{self, Reply},
    session::{Hello, Mail},
    trace,
};
use crate::{
    flows::{
        budget::Reservation,
        ports::{BodyInterrupted, MailAnswer, MailTransaction},
    },
    formats::audit::{AuditKind, AuditOutcome},
};

/// A mail that has arrived.
enum Arrived {
    /// The flow has all of it.
    Whole,
    /// The flow had decided before its end.
    Unwanted,
    /// We do not take it.
    Refused(Reply, &'static str),
}

/// What is being received.
struct Receiving {
    reader: DataReader,
    pace: Pace,
    began: Instant,
    /// Octets from the wire, dots and end included.
    raw_bytes: u64,
    feed: Option<Feed>,
    refusal: Option<(Reply, &'static str)>,
}

impl Connection {
    /// Takes the mail whose envelope stands, and answers it.
    pub(super) async fn take_mail(&mut self) -> Result<(), Ending> {
        let (Some(mail), Some(hello)) = (self.session.take_mail(), self.session.hello().cloned())
        else {
            self.wire.say(&reply::out_of_order("MAIL comes first"));
            return Ok(());
        };
        if !self.shared.parts.room.is_left() {
            warn!("a budget of room is used up: a sender of mail is asked to come again");
            self.wire.say(&reply::no_room());
            return Ok(());
        }
        let budget = &self.shared.parts.budget;
        let Some(reservation) = budget.try_reserve(GROWTH_STEP_BYTES) else {
            warn!(
                in_flight_bytes = budget.in_flight(),
                "the byte budget is used up: a sender of mail is asked to come again"
            );
            self.wire.say(&reply::no_room());
            return Ok(());
        };
        let growth = reservation.growth(budget);
        let (feed, body) = Feed::new(growth);
        let id = Uuid::new_v4().simple().to_string();
        let Some(transaction) = self.transaction(&id, &mail, &hello, body, reservation) else {
            self.wire.say(&reply::unavailable());
            return Ok(());
        };
        let go_on = "end with a line that holds a dot alone";
        self.wire.say(&Reply::plain(354, vec![go_on.into()]));
        self.flush().await?;

        let flow = Arc::clone(&self.shared.parts.mail);
        // The flow runs to its end even when the connection breaks: what it recorded, it must also finish.
        let serving = tokio::spawn(async move { flow.serve(transaction).await });
        let config = &self.shared.config;
        let mut receiving = Receiving {
            reader: DataReader::new(config.max_text_line_bytes),
            pace: Pace::new(config),
            began: Instant::now(),
            raw_bytes: 0,
            feed: Some(feed),
            refusal: None,
        };
        let arrived = self.receive(&mut receiving).await;
        let size_bytes = receiving.reader.size();
        drop(receiving);
        let (reply, reason) = match arrived {
            Ok(Arrived::Refused(reply, reason)) => (reply, reason),
            Ok(Arrived::Whole) => (self.decided(serving, &id, true).await, "refused"),
            Ok(Arrived::Unwanted) => (self.decided(serving, &id, false).await, "refused"),
            Err(ending) => {
                account::tell(&id, &mail, size_bytes, None);
                let reply = String::new();
                self.audit_refused(
                    &id,
                    &mail,
                    size_bytes,
                    reply,
                    "broke off",
                    AuditOutcome::Minor,
                )
                .await;
                return Err(ending);
            }
        };
        account::tell(&id, &mail, size_bytes, Some(&reply));
        if reply.is_refusal() {
            let outcome = match reply.code {
                400..500 => AuditOutcome::Minor,
                _ => AuditOutcome::Serious,
            };
            self.audit_refused(&id, &mail, size_bytes, reply.summary(), reason, outcome)
                .await;
        }
        self.wire.say(&reply);
        Ok(())
    }

    fn transaction(
        &self,
        id: &str,
        mail: &Mail,
        hello: &Hello,
        body: tokio::sync::mpsc::Receiver<Result<Bytes, BodyInterrupted>>,
        reservation: Reservation,
    ) -> Option<MailTransaction> {
        let peer = self.peer();
        let now = self.shared.parts.clock.now();
        let trace = trace::field(hello, &peer, &self.shared.rules.host, id, mail, now)?;
        Some(MailTransaction {
            id: id.to_owned(),
            trace,
            envelope_from: mail.from.clone(),
            recipients: mail.recipients.clone(),
            peer,
            body,
            reservation,
        })
    }

    /// Reads to the end of the data.
    async fn receive(&mut self, receiving: &mut Receiving) -> Result<Arrived, Ending> {
        let max_bytes = self.shared.rules.max_message_bytes;
        loop {
            let held = self.wire.held();
            if held.is_empty() {
                let asked_at = Instant::now();
                let patience = receiving.pace.patience(receiving.began.elapsed());
                // A timeout looks at its clock only while there is nothing to read.
                let filled = match patience {
                    Duration::ZERO => None,
                    patience => timeout(patience, self.wire.fill()).await.ok(),
                };
                match filled {
                    Some(Ok(())) => {}
                    // The feed, dropped, tells the flow.
                    Some(Err(_)) => return Err(Ending::silent("broken")),
                    None => {
                        receiving.give_up(BodyInterrupted::TooSlow);
                        return Err(Ending::timed_out());
                    }
                }
                let arrived = self.wire.held().len();
                receiving.pace.count(asked_at.elapsed(), arrived);
                continue;
            }
            let mut chunk = Vec::with_capacity(held.len());
            let end = receiving.reader.read(held, &mut chunk);
            let used = end.unwrap_or(held.len());
            self.wire.used(used);
            receiving.raw_bytes = receiving.raw_bytes.saturating_add(used as u64);
            receiving
                .pass_on(chunk, max_bytes, self.shared.config.data_timeout)
                .await;
            if end.is_some() {
                return Ok(receiving.arrived());
            }
            if receiving.raw_bytes > max_bytes.saturating_mul(2) {
                let reply = Reply::new(421, "4.7.0", "far larger than the limit, closing");
                return Err(Ending::said("size", reply));
            }
        }
    }

    /// The flow's answer to a mail that it has all of, or did not want the rest of.
    async fn decided(&self, serving: JoinHandle<MailAnswer>, id: &str, is_whole: bool) -> Reply {
        let answer = match timeout(self.shared.config.answer_timeout, serving).await {
            Ok(Ok(MailAnswer::Accepted)) if !is_whole => {
                error!("the flow accepted a mail that it had not read to its end");
                return reply::unavailable();
            }
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                error!("the flow panicked on a mail");
                return reply::unavailable();
            }
            // It goes on, and may record the mail yet: the sender's next attempt is then a duplicate (RX-48).
            Err(_) => {
                warn!("a mail was not decided on in time");
                return reply::unavailable();
            }
        };
        Reply::of(&answer, id).unwrap_or_else(|| {
            error!("the flow gave an answer that SMTP has no place for");
            reply::unavailable()
        })
    }

    async fn audit_refused(
        &self,
        id: &str,
        mail: &Mail,
        size_bytes: u64,
        reply: String,
        reason: &'static str,
        outcome: AuditOutcome,
    ) {
        let is_attack = reason == BARE_LINE_END;
        let incident = Incident {
            kind: if is_attack {
                AuditKind::SecurityAlert
            } else {
                AuditKind::Iti32Import
            },
            outcome,
            reason: reason.to_owned(),
        };
        let account = MailAccount {
            id,
            mail,
            size_bytes,
            reply,
        };
        account::audit(&self.shared, &self.peer(), incident, Some(&account)).await;
    }
}

/// Why a mail with bare line ends is refused: the sign of SMTP smuggling (RX-42).
const BARE_LINE_END: &str = "bare CR or LF";

impl Receiving {
    /// Gives a chunk to the flow, unless the mail has met its fate already.
    async fn pass_on(&mut self, chunk: Vec<u8>, max_bytes: u64, patience: Duration) {
        let Some(feed) = &mut self.feed else {
            return;
        };
        if let Some(fault) = self.reader.fault() {
            return self.refuse(refusal_of(fault), BodyInterrupted::Malformed);
        }
        let size = self.reader.size();
        if size > max_bytes {
            let refusal = (reply::too_large(max_bytes), "too large");
            return self.refuse(refusal, BodyInterrupted::TooLarge { max_bytes });
        }
        if chunk.is_empty() {
            return;
        }
        match feed.send(chunk.into(), size, self.began + patience).await {
            Ok(()) => {}
            Err(Unfed::Unwanted) => self.feed = None,
            Err(Unfed::NoRoom) => {
                self.refuse((reply::no_room(), "no room"), BodyInterrupted::NoRoom);
            }
            Err(Unfed::Stuck) => {
                warn!("the flow took nothing of a mail for too long");
                self.refuse(
                    (reply::unavailable(), "not taken"),
                    BodyInterrupted::TooSlow,
                );
            }
        }
    }

    fn refuse(&mut self, refusal: (Reply, &'static str), why: BodyInterrupted) {
        self.refusal = Some(refusal);
        self.give_up(why);
    }

    fn give_up(&mut self, why: BodyInterrupted) {
        if let Some(feed) = self.feed.take() {
            feed.interrupt(why);
        }
    }

    fn arrived(&mut self) -> Arrived {
        match (self.refusal.take(), self.feed.take()) {
            (Some((reply, reason)), _) => Arrived::Refused(reply, reason),
            (None, Some(feed)) => {
                feed.complete();
                Arrived::Whole
            }
            (None, None) => Arrived::Unwanted,
        }
    }
}

/// What a mail that no mail may be is answered with, once it has ended.
fn refusal_of(fault: DataFault) -> (Reply, &'static str) {
    match fault {
        DataFault::BareLineEnd => (
            Reply::new(550, "5.6.0", "a line ends in CR or LF alone"),
            BARE_LINE_END,
        ),
        DataFault::Nul => (Reply::new(554, "5.6.0", "the mail holds NUL"), "NUL"),
        DataFault::LongLine => (
            Reply::new(554, "5.6.0", "a line of the mail is too long"),
            "a line that is too long",
        ),
    }
}
