//! Inline verification (smtp.md section 5): with `inline_verify` a mail is decrypted, verified and judged before its
//! final reply, so that a sender who is not trusted learns that the mail was not taken. Every cause has one reply (T-13).
//!
//! It decides about the reply alone. What was taken is opened and judged again when it is due, by the same code: a
//! certificate may have expired in between, and a mail whose time ran out here was never judged.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{error, info};

use super::{
    ToXdr,
    judge::{MEMORY_TO_OPEN, NotOpened, OpenJob},
    receive::Envelope,
};
use crate::{
    flows::{
        cpu::Urgency,
        measures,
        ports::{MailAnswer, StagedBody, StoreError},
    },
    formats::audit::AuditRecord,
};

/// The one reply to whatever cannot be decrypted, verified or trusted: which of them it was is no business of a sender
/// that nobody knows.
pub(super) const NOT_ACCEPTED: MailAnswer = MailAnswer::Refused {
    code: 550,
    enhanced: "5.7.1",
    text: "message not accepted",
};

/// No such reply leaves sooner after the end of its mail: what failed first, and so took least, looks like what failed
/// last (T-13). More than opening a mail of some megabytes takes.
const SOONEST_REFUSAL: Duration = Duration::from_secs(1);

/// What came of it.
pub(super) enum Inline {
    /// It may be taken: it would be opened and trusted now, or nobody can say now.
    Pass,
    /// It is not taken.
    Refuse(Refusal),
}

/// Why a mail is not taken. For the audit alone.
pub(super) struct Refusal {
    pub(super) cause: String,
    /// What was decided about each recipient, if it came so far.
    pub(super) verdicts: Vec<AuditRecord>,
}

impl From<String> for Refusal {
    fn from(cause: String) -> Self {
        Self {
            cause,
            verdicts: Vec::new(),
        }
    }
}

impl ToXdr {
    /// Judges a mail that came in whole, if the settings ask for it.
    pub(super) async fn verify_inline(
        &self,
        envelope: &Envelope,
        staged: &StagedBody,
    ) -> Result<Inline, StoreError> {
        if !self.receiving.inline_verify {
            return Ok(Inline::Pass);
        }
        let began = Instant::now();
        let end = began + self.receiving.inline_verify_timeout;
        // What is fetched must leave time for the judgement.
        let fetched = began + self.receiving.inline_verify_timeout / 2;
        let judged = self.judge_now(envelope, staged, fetched);
        let Ok(judged) = timeout_at(end, judged).await else {
            unverified(staged, "time");
            return Ok(Inline::Pass);
        };
        let inline = judged?;
        if let Inline::Refuse(_) = &inline {
            sleep_until(began + SOONEST_REFUSAL).await;
        }
        Ok(inline)
    }

    async fn judge_now(
        &self,
        envelope: &Envelope,
        staged: &StagedBody,
        end: Instant,
    ) -> Result<Inline, StoreError> {
        // The mail's own octets are in flight until its reply, so nobody may wait here for more: several large mails at once
        // would wait for one another, and everybody else for them.
        let bytes = staged.size.saturating_mul(MEMORY_TO_OPEN);
        let Some(memory) = self.budget.try_reserve(bytes) else {
            unverified(staged, "room");
            return Ok(Inline::Pass);
        };
        let now = self.clock.now();
        // Once the time is over and this future is dropped, this end is, too.
        let (waiter, _waited_for) = oneshot::channel();
        let job = OpenJob {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            body: staged.id,
            mail_bytes: staged.size,
            envelope_from: envelope.from.clone(),
            recipients: envelope.recipients.clone(),
            domains: self.domains_of(&envelope.recipients),
            now,
            memory,
            waiter: Some(waiter),
        };
        match self.judge_mail(job, Urgency::PeerWaits, end).await {
            // Nobody waits for it any more.
            Ok(Ok(None)) => Ok(Inline::Pass),
            Ok(Ok(Some(opened))) => Ok(match opened.refusal() {
                None => Inline::Pass,
                // It waits for a revocation list after its reply, as a mail does that nobody verified before.
                Some(_) if opened.is_undecided() => {
                    measures::count_mail("unverified");
                    Inline::Pass
                }
                Some(cause) => Inline::Refuse(Refusal {
                    cause: cause.to_owned(),
                    verdicts: opened.verdicts(now),
                }),
            }),
            Ok(Err(NotOpened::Untrusted(cause))) => Ok(Inline::Refuse(cause.into())),
            Ok(Err(NotOpened::Store(failure))) => Err(failure),
            Err(panicked) => {
                error!(
                    alarm = "panic",
                    error = &panicked as &dyn std::error::Error,
                    "judging a received mail panicked"
                );
                measures::count_alarm("panic");
                Ok(Inline::Refuse("panic".to_owned().into()))
            }
        }
    }
}

/// A mail is taken as it would be without inline verification, for want of what it needs.
fn unverified(staged: &StagedBody, lack: &'static str) {
    info!(
        size_bytes = staged.size,
        lack, "there was no {lack} to verify a mail before its reply: it is taken and opened later"
    );
    measures::count_mail("unverified");
}
