//! Mail for a domain that this bridge serves itself (MR-5): it is sealed like any other, and taken by the step that takes
//! what comes by SMTP, without a connection. So trust, notices and audit are the same, and no mail of ours ever comes
//! back to us from a next hop (TX-8).
//!
//! The two ends are two exchanges, and two transactions. A crash between them, or an answer that got lost, repeats the
//! same octets, which are then known as a duplicate (DST-6, TX-29).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{fmt::rfc2822, tz::TimeZone};
use tracing::warn;
use uuid::Uuid;

use super::{
    ToXdr,
    receive::{Envelope, IN_PROCESS, Peer, THIS_BRIDGE, cannot_store},
};
use crate::{
    bridge::exchange::Reason,
    flows::{
        fault_points,
        intake::{self, CopyError},
        ports::{
            MailAnswer, OutgoingMail, RecipientAnswer, SendMail, SendResult, ServeMail, SmtpReceipt,
        },
    },
    formats::ids::DirectAddress,
};

/// Mail for a domain that is served here goes no further than this; any other goes to the next hop.
#[async_trait]
impl SendMail for ToXdr {
    async fn send(&self, mail: &OutgoingMail) -> Vec<SendResult> {
        if self.serves(&mail.domain) {
            self.take_over(mail).await
        } else {
            self.mail.send(mail).await
        }
    }
}

impl ToXdr {
    /// Answers each recipient as at RCPT, and those that are served as after the final dot.
    async fn take_over(&self, mail: &OutgoingMail) -> Vec<SendResult> {
        let mut welcome: Vec<DirectAddress> = Vec::new();
        let mut refusals: Vec<Option<SendResult>> = Vec::new();
        for address in &mail.recipients {
            let refusal = refusal(self.recipient(address).await);
            if refusal.is_none() {
                welcome.push(address.clone());
            }
            refusals.push(refusal);
        }
        let taken = if welcome.is_empty() {
            None
        } else {
            Some(self.take(mail, welcome).await)
        };
        let nobody = || deferred("no recipient is served now");
        let results = refusals.into_iter();
        results
            .map(|refusal| refusal.or_else(|| taken.clone()).unwrap_or_else(nobody))
            .collect()
    }

    /// One answer for all recipients, as after the final dot.
    async fn take(&self, mail: &OutgoingMail, recipients: Vec<DirectAddress>) -> SendResult {
        if let Err(failure) = fault_points::pass("own_mail.before") {
            return deferred(&failure.to_string());
        }
        let size = mail.header.len() as u64 + mail.body.size;
        let max_bytes = self.limits.max_message_bytes;
        if size > max_bytes {
            return SendResult::Refused {
                reason: Reason::TooLarge,
                detail: format!("{THIS_BRIDGE}: takes {max_bytes} octets, not {size} (5.3.4)"),
            };
        }
        // Who holds room of the budget never waits for this mail, so it may wait for room.
        let patience = mail.deadline.duration_since(self.clock.now());
        let patience = Duration::try_from(patience).unwrap_or_default();
        let Ok(_reservation) = tokio::time::timeout(patience, self.budget.reserve(size)).await
        else {
            return deferred("no room in time (4.3.1)");
        };
        let envelope = Envelope {
            id: Uuid::new_v4().simple().to_string(),
            from: mail.envelope_from.clone(),
            recipients,
            is_for_postmaster: false,
            peer: Peer::ThisBridge,
        };
        let start = self.trace(&envelope) + &mail.header;
        let copy = intake::copy(
            start.into_bytes(),
            mail.body.clone(),
            Arc::clone(&self.bodies),
        );
        let received = match copy.await {
            Ok(received) => received,
            Err(CopyError::Copy(failure)) => return result(&cannot_store(&failure), &envelope.id),
            Err(CopyError::Source(failure)) if failure.is_transient() => {
                return deferred(&failure.to_string());
            }
            Err(CopyError::Source(failure)) => {
                warn!(domain = %mail.domain, "a stored message to {} is damaged and was not handed over", mail.domain);
                return SendResult::Refused {
                    reason: Reason::Internal,
                    detail: failure.to_string(),
                };
            }
        };
        if let Err(failure) = fault_points::pass("own_mail.copied") {
            return deferred(&failure.to_string());
        }
        let answer = self.accept(&envelope, received).await;
        let answer = answer.unwrap_or_else(|failure| cannot_store(&failure));
        // An answer that is lost here is that of a mail that was taken: the next attempt is its duplicate.
        if let Err(failure) = fault_points::pass("own_mail.taken") {
            return deferred(&failure.to_string());
        }
        result(&answer, &envelope.id)
    }

    /// The trace field, as for any mail that comes in (RX-11). It names nobody: there was no other host.
    fn trace(&self, envelope: &Envelope) -> String {
        let now = self.clock.now().to_zoned(TimeZone::UTC);
        // A time that RFC 5322 has no form for leaves the field out; it decides nothing.
        rfc2822::to_string(&now).map_or_else(
            |_| String::new(),
            |date| {
                let (host, id) = (&self.host, &envelope.id);
                format!("Received: by {host}\r\n\tid {id};\r\n\t{date}\r\n")
            },
        )
    }
}

/// What an answer to RCPT means for its recipient, unless it is served.
fn refusal(answer: RecipientAnswer) -> Option<SendResult> {
    match answer {
        RecipientAnswer::Served => None,
        RecipientAnswer::Unknown => Some(SendResult::Refused {
            reason: Reason::UnknownRecipient,
            detail: format!("{THIS_BRIDGE}: no such address (5.1.1)"),
        }),
        RecipientAnswer::Unconfigured => Some(deferred("no key opens mail for it (4.3.5)")),
        RecipientAnswer::Unavailable => Some(deferred("it cannot be known now (4.3.0)")),
    }
}

/// What an answer after the final dot means for those that it is about.
fn result(answer: &MailAnswer, id: &str) -> SendResult {
    match answer {
        MailAnswer::Accepted => SendResult::Accepted(SmtpReceipt {
            peer: THIS_BRIDGE.to_owned(),
            next_hop: None,
            tls: IN_PROCESS.to_owned(),
            reply: format!("250 2.0.0 Ok: queued as {id}"),
        }),
        MailAnswer::Refused {
            code,
            enhanced,
            text,
        } => SendResult::Refused {
            reason: Reason::SmtpRejected,
            detail: format!("{THIS_BRIDGE}: {code} {enhanced} {text}"),
        },
        MailAnswer::Deferred {
            code,
            enhanced,
            text,
        } => deferred(&format!("{code} {enhanced} {text}")),
    }
}

fn deferred(why: &str) -> SendResult {
    SendResult::Deferred {
        detail: format!("{THIS_BRIDGE}: {why}"),
    }
}
