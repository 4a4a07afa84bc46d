//! One mail transaction: MAIL, RCPT for each recipient, DATA, the message, the final dot (RFC 5321 §3.3).

use lettre::{
    Address,
    transport::smtp::{
        commands::{Data, Mail, Rcpt, Rset},
        extension::MailParameter,
    },
};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    config::SmtpClientConfig,
    message::{BodyChunks, BodyFault, DotStuffing},
    reply::{Failure, Reply, clean},
    session::Session,
};
use crate::{
    bridge::exchange::{NextHop, Reason},
    flows::{
        fault_points,
        ports::{OutgoingMail, SendResult, SmtpReceipt},
    },
    formats::units::print_duration,
};
use std::time::Duration;

/// How long a peer that stopped reading is listened to: it may have said why.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// One recipient, by its place in the mail.
pub(super) type Recipient = (usize, Address);

/// What goes out in one transaction.
pub(super) struct Transaction<'a> {
    pub(super) mail: &'a OutgoingMail,
    pub(super) from: Option<&'a Address>,
    pub(super) recipients: &'a [Recipient],
}

/// How a transaction ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Recipients whose fate at this host is known. The others were never tried, or lost with the session.
    pub(super) settled: Vec<(usize, SendResult)>,
    /// What can be done next.
    pub(super) next: Next,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The session is free for another transaction.
    Again,
    /// This host serves us no further now: try another one for whoever is not settled.
    Elsewhere(String),
    /// Our own copy of the message is at fault: no host can help.
    BodyFault(BodyFault),
}

/// How the message went.
enum Sent {
    Answered(Reply),
    /// The connection broke before the final dot: nobody took the message.
    Broken(String),
    /// The connection broke after it: nobody knows (TX-29).
    Unknown(String),
}

impl Transaction<'_> {
    /// Runs the transaction. Unless the outcome is [`Next::Again`], the session must not be used any more.
    pub(super) async fn run(&self, session: &mut Session, limits: &SmtpClientConfig) -> Outcome {
        let mut settled = Vec::new();
        let next = match self.run_steps(session, limits, &mut settled).await {
            Ok(()) => Next::Again,
            Err(next) => next,
        };
        Outcome { settled, next }
    }

    async fn run_steps(
        &self,
        session: &mut Session,
        limits: &SmtpClientConfig,
        settled: &mut Vec<(usize, SendResult)>,
    ) -> Result<(), Next> {
        let size = self.size_bytes();
        if let Some(max) = session.extensions.max_bytes.filter(|max| size > *max) {
            let detail = format!("{}: takes {max} octets, not {size} (5.3.4)", session.target);
            settled.extend(self.recipients.iter().map(|(index, _)| {
                let detail = detail.clone();
                let reason = Reason::TooLarge;
                (*index, SendResult::Refused { reason, detail })
            }));
            return Ok(());
        }
        session.messages += 1;
        if let Err(failure) = self.mail(session, size, limits).await {
            return match failure {
                Failure::Reply(reply) if reply.is_permanent() => {
                    let all = self.recipients.iter();
                    settled.extend(all.map(|(index, _)| (*index, verdict(session, &reply))));
                    Ok(())
                }
                other => Err(elsewhere(session, &other)),
            };
        }
        let accepted = self.offer_recipients(session, limits, settled).await?;
        if accepted.is_empty() {
            let reset = session.command(Rset, limits.command_timeout).await;
            return reset
                .map(drop)
                .map_err(|failure| elsewhere(session, &failure));
        }
        self.data(session, limits, &accepted, settled).await
    }

    fn size_bytes(&self) -> u64 {
        self.mail.header.len() as u64 + self.mail.body.size
    }

    async fn mail(
        &self,
        session: &mut Session,
        size: u64,
        limits: &SmtpClientConfig,
    ) -> Result<(), Failure> {
        let mut parameters = Vec::new();
        if session.extensions.size {
            parameters.push(MailParameter::Size(
                usize::try_from(size).unwrap_or(usize::MAX),
            ));
        }
        let command = Mail::new(self.from.cloned(), parameters);
        let reply = session.command(command, limits.command_timeout).await;
        reply.map(drop)
    }

    /// RCPT for each one; gives those that were taken.
    async fn offer_recipients(
        &self,
        session: &mut Session,
        limits: &SmtpClientConfig,
        settled: &mut Vec<(usize, SendResult)>,
    ) -> Result<Vec<usize>, Next> {
        let mut accepted = Vec::new();
        for (index, address) in self.recipients {
            let command = Rcpt::new(address.clone(), Vec::new());
            match session.command(command, limits.command_timeout).await {
                Ok(_) => accepted.push(*index),
                Err(Failure::Reply(reply)) if reply.is_closing() => {
                    return Err(elsewhere(session, &Failure::Reply(reply)));
                }
                // The transaction is full: the rest, this one too, gets another. If none was taken before it, that
                // would go on for ever, so it is deferred alone.
                Err(Failure::Reply(reply))
                    if reply.is_too_many_recipients(accepted.len()) && !accepted.is_empty() =>
                {
                    break;
                }
                Err(Failure::Reply(reply)) => settled.push((*index, verdict(session, &reply))),
                Err(lost) => return Err(elsewhere(session, &lost)),
            }
        }
        Ok(accepted)
    }

    async fn data(
        &self,
        session: &mut Session,
        limits: &SmtpClientConfig,
        accepted: &[usize],
        settled: &mut Vec<(usize, SendResult)>,
    ) -> Result<(), Next> {
        let mut settle = |result: &SendResult| {
            settled.extend(accepted.iter().map(|index| (*index, result.clone())));
        };
        // Before DATA, so that a body that is not there costs the peer nothing.
        let mut body = BodyChunks::read(self.mail.body.clone());
        let first = body.next().await.map_err(|fault| cut(session, fault))?;
        match session.command(Data, limits.data_start_timeout).await {
            Ok(reply) if reply.code() == 354 => {}
            Ok(reply) => {
                // We do not know whether the peer now reads commands or a message.
                session.wire.cut();
                return Err(elsewhere(session, &Failure::Reply(reply)));
            }
            Err(Failure::Reply(reply)) if !reply.is_closing() => {
                settle(&verdict(session, &reply));
                let reset = session.command(Rset, limits.command_timeout).await;
                return reset
                    .map(drop)
                    .map_err(|failure| elsewhere(session, &failure));
            }
            Err(failure) => return Err(elsewhere(session, &failure)),
        }
        let sent = self.message(session, limits, first, body).await;
        match sent.map_err(|fault| cut(session, fault))? {
            Sent::Answered(reply) if reply.is_closing() => {
                Err(elsewhere(session, &Failure::Reply(reply)))
            }
            Sent::Answered(reply) => {
                settle(&verdict(session, &reply));
                Ok(())
            }
            Sent::Broken(what) => {
                session.wire.cut();
                Err(elsewhere(session, &Failure::Lost(what)))
            }
            Sent::Unknown(what) => {
                session.wire.cut();
                // Perhaps delivered. Not to another host now: the same Message-ID at the same host is recognised.
                let what = format!("after the final dot: {what}");
                let detail = clean(&format!("{}: {what}", session.target));
                settle(&SendResult::Deferred { detail });
                Err(elsewhere(session, &Failure::Lost(what)))
            }
        }
    }

    /// Writes the message and its final dot, and reads the answer. A body fault comes back before the final dot.
    async fn message(
        &self,
        session: &mut Session,
        limits: &SmtpClientConfig,
        first: Option<bytes::Bytes>,
        mut body: BodyChunks,
    ) -> Result<Sent, BodyFault> {
        let mut stuffing = DotStuffing::new();
        let mut block = Vec::new();
        stuffing.encode(self.mail.header.as_bytes(), &mut block)?;
        let mut chunk = first;
        while let Some(octets) = chunk {
            stuffing.encode(&octets, &mut block)?;
            if let Err(what) = write(session, &block, limits.data_block_timeout).await {
                return Ok(last_words(session, what).await);
            }
            block.clear();
            chunk = body.next().await?;
        }
        let end = stuffing.end()?;
        fault_points::pass("smtp.before_final_dot").map_err(|error| BodyFault::from(&error))?;
        block.extend_from_slice(end);
        if let Err(what) = write(session, &block, limits.data_block_timeout).await {
            // Part of it may have arrived.
            return Ok(Sent::Unknown(what));
        }
        Ok(match session.reply(limits.final_dot_timeout).await {
            Ok(reply) | Err(Failure::Reply(reply)) => Sent::Answered(reply),
            Err(Failure::Lost(what)) => Sent::Unknown(what),
        })
    }
}

/// Takes the connection down so that what was sent can never count as a whole message.
fn cut(session: &Session, fault: BodyFault) -> Next {
    session.wire.cut();
    Next::BodyFault(fault)
}

async fn write(session: &mut Session, block: &[u8], limit: Duration) -> Result<(), String> {
    let writing = async {
        session.wire.write_all(block).await?;
        session.wire.flush().await
    };
    match timeout(limit, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the connection broke: {}", error.kind())),
        Err(_) => Err(format!(
            "nothing was taken within {}",
            print_duration(limit)
        )),
    }
}

/// A peer that refuses a message half-way says so and closes.
async fn last_words(session: &mut Session, what: String) -> Sent {
    match session.reply(LAST_WORDS_TIMEOUT).await {
        Err(Failure::Reply(reply)) => {
            session.wire.cut();
            Sent::Answered(reply)
        }
        _ => Sent::Broken(what),
    }
}

fn elsewhere(session: &Session, failure: &Failure) -> Next {
    Next::Elsewhere(clean(&format!("{}: {failure}", session.target)))
}

/// What a reply means for the recipients that it is about.
fn verdict(session: &Session, reply: &Reply) -> SendResult {
    let detail = || clean(&format!("{}: {reply}", session.target));
    if reply.is_permanent() {
        SendResult::Refused {
            reason: reply.reason(),
            detail: detail(),
        }
    } else if (200..300).contains(&reply.code()) {
        SendResult::Accepted(SmtpReceipt {
            peer: session.target.to_string(),
            next_hop: Some(NextHop {
                host: session.target.host.clone(),
                address: session.target.address.ip(),
            }),
            tls: session.tls.clone(),
            reply: reply.to_string(),
        })
    } else {
        SendResult::Deferred { detail: detail() }
    }
}
