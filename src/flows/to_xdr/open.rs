//! Open: a recorded mail is decrypted, its signature checked, its sender trusted or not; then what is to be posted is
//! prepared.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    ToXdr,
    duplicate::Earlier,
    judge::{MEMORY_TO_OPEN, NotOpened, OpenJob, OpenedMail},
    prepare::{PrepareJob, Prepared},
};
use crate::{
    bridge::{
        exchange::{Event, EventKind, Exchange, Opening, Origin, Reason},
        notice::{NotUnderstood, Notice},
        retry,
    },
    flows::{
        cpu::Urgency,
        deadlines, fault_points,
        intake::store_error,
        measures,
        ports::{Claim, Found, LookupKey, StoreError},
        records::{alarm_damaged_body, alarm_revocation_unknown},
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, ExchangeId},
        notification::request::FinalDelivery,
    },
};

/// Longest wait for what is fetched about a mail's signers (DISC-5).
const FETCH_LIMIT: Duration = Duration::from_secs(30);

impl ToXdr {
    /// Runs `Open`.
    pub(super) async fn open(&self, claim: &Claim) -> Result<(), StoreError> {
        fault_points::pass("open.before").map_err(store_error)?;
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return deadlines::complete(&self.store, claim).await;
        };
        let exchange = loaded.exchange;
        let Origin::Direct {
            wire_bytes,
            envelope_from,
            from: None,
            ..
        } = &exchange.origin
        else {
            return deadlines::complete(&self.store, claim).await;
        };
        if exchange.is_final() {
            return deadlines::complete(&self.store, claim).await;
        }
        // The mail, its content and what is made of it are in memory at once, until the requests are stored.
        let bytes = wire_bytes.saturating_mul(MEMORY_TO_OPEN);
        let memory = self.budget.reserve(bytes).await;
        let job = OpenJob {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            body: exchange.body,
            mail_bytes: *wire_bytes,
            envelope_from: envelope_from.clone(),
            recipients: addresses(&exchange),
            domains: self.domains_of(&addresses(&exchange)),
            now: self.clock.now(),
            memory,
            waiter: None,
        };
        let end = Instant::now() + FETCH_LIMIT;
        match self.judge_mail(job, Urgency::CanWait, end).await {
            Ok(Ok(None)) => deadlines::complete(&self.store, claim).await,
            Ok(Ok(Some(opened))) => match self.go_on(claim, &exchange, opened).await {
                // Another node opened the same mail at this moment: opened again, it is the one that came before.
                Err(StoreError::Overtaken) => self.store.give_back(claim, self.clock.now()).await,
                gone_on => gone_on,
            },
            Ok(Err(NotOpened::Store(StoreError::DamagedBody { .. }))) => {
                alarm_damaged_body(claim, "recorded");
                let cause = "the recorded mail is damaged";
                self.reject(claim, &exchange, Reason::Internal, cause, Vec::new())
                    .await
            }
            Ok(Err(NotOpened::Store(failure))) => Err(failure),
            Ok(Err(NotOpened::Untrusted(cause))) => {
                self.reject(claim, &exchange, Reason::Untrusted, &cause, Vec::new())
                    .await
            }
            Err(panicked) => {
                error!(alarm = "panic", exchange.id = %claim.exchange, error = &panicked as &dyn std::error::Error, "opening the mail of exchange {} panicked", claim.exchange);
                measures::count_alarm("panic");
                self.reject(claim, &exchange, Reason::Internal, "panic", Vec::new())
                    .await
            }
        }
    }

    /// Nobody gets the mail, and nobody is told (DST-2).
    async fn reject(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        reason: Reason,
        cause: &str,
        mut audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let events: Vec<Event> = addresses(exchange)
            .into_iter()
            .map(|recipient| Event {
                at,
                kind: EventKind::RecipientRefused { recipient, reason },
            })
            .collect();
        let record = AuditRecord::new(at, AuditKind::SecurityAlert, AuditOutcome::Serious)
            .of(claim.exchange)
            .with("error", cause);
        audit.push(record);
        self.finish(claim, &events, audit).await?;
        measures::count_mail("untrusted");
        info!(exchange.id = %claim.exchange, "the mail of exchange {} could not be opened or trusted", claim.exchange);
        Ok(())
    }

    async fn go_on(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        opened: OpenedMail,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        if opened.is_undecided()
            && let Some(retry_at) = next_opening(claim, exchange, at)
        {
            return self.wait_for_lists(claim, &opened, at, retry_at).await;
        }
        let welcome: Vec<DirectAddress> = opened.trusted.welcome().cloned().collect();
        if let Some(notice) = &opened.notice {
            return self.take_in(claim, exchange, &opened, notice).await;
        }
        let mut audit = of(claim.exchange, opened.verdicts(at));
        if let Some(cause) = opened.refusal() {
            let reason = Reason::Untrusted;
            return self.reject(claim, exchange, reason, cause, audit).await;
        }
        let key = LookupKey::of_received(opened.trusted.message_id.as_ref(), &opened.digest);
        let _place = self.under_way.enter(&key).await;
        let earlier = self
            .earlier(claim.exchange, &key, &opened.digest, &welcome)
            .await?;
        if earlier.is_id_taken {
            warn!(exchange.id = %claim.exchange, "exchange {} has the Message-ID of another mail", claim.exchange);
            let record = AuditRecord::new(at, AuditKind::SecurityAlert, AuditOutcome::Minor);
            audit.push(
                record
                    .of(claim.exchange)
                    .with("error", "duplicate_message_id"),
            );
        }
        self.repeat(&earlier, at).await?;
        let fresh: Vec<DirectAddress> = welcome
            .into_iter()
            .filter(|address| !earlier.holds(address))
            .collect();
        if fresh.is_empty() {
            let kind = EventKind::Absorbed;
            self.finish(claim, &[Event { at, kind }], audit).await?;
            measures::count_mail("repeated");
            info!(exchange.id = %claim.exchange, "the mail of exchange {} came before", claim.exchange);
            return Ok(());
        }
        let decided_on = Found {
            key,
            exchanges: earlier.found,
        };
        self.prepare(claim, opened, fresh, decided_on, audit).await
    }

    /// A mail of which one recipient's domain cannot say whether its signer is revoked, and must, is opened again later,
    /// for all of them: it is one exchange, and is opened once (REV-4).
    async fn wait_for_lists(
        &self,
        claim: &Claim,
        opened: &OpenedMail,
        at: Timestamp,
        retry_at: Timestamp,
    ) -> Result<(), StoreError> {
        let reason = Reason::Untrusted;
        let sender = opened.trusted.sender.to_string();
        let mut events = Vec::new();
        let mut extras = Extras::default();
        for (recipient, cause) in opened.trusted.undecided() {
            alarm_revocation_unknown(recipient.domain());
            let record = AuditRecord::new(at, AuditKind::Recipient, AuditOutcome::Minor)
                .of(claim.exchange)
                .with("recipient", recipient.to_string())
                .with("from", &sender)
                .with("pending", reason.token())
                .with("error", cause.to_string());
            extras.audit.push(record);
            let recipient = recipient.clone();
            let kind = EventKind::TrustUndecided { recipient, reason };
            events.push(Event { at, kind });
        }
        transition::apply(&self.store, claim.exchange, &events, extras).await?;
        info!(exchange.id = %claim.exchange, "the mail of exchange {} waits for a revocation list", claim.exchange);
        self.store.give_back(claim, retry_at).await
    }

    /// Notices are sent again for the recipients that earlier exchanges serve (DST-6).
    async fn repeat(&self, earlier: &Earlier, at: Timestamp) -> Result<(), StoreError> {
        for (id, recipients) in &earlier.repeated {
            let kind = EventKind::MailRepeated {
                recipients: recipients.clone(),
            };
            let extras = Extras::default();
            transition::apply(&self.store, *id, &[Event { at, kind }], extras).await?;
        }
        Ok(())
    }

    /// A notice is never answered and never a document (RCV-8, XDR-112). What it says is recorded with the exchange that
    /// it is about before it is absorbed: a crash between the two repeats what changes nothing any more.
    async fn take_in(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        opened: &OpenedMail,
        notice: &Result<Notice, NotUnderstood>,
    ) -> Result<(), StoreError> {
        let mut audit = self.take_notice(claim.exchange, notice).await?;
        fault_points::pass("notice.taken").map_err(store_error)?;
        if let Some(cause) = opened.refusal() {
            audit.extend(of(claim.exchange, opened.verdicts(self.clock.now())));
            return self
                .reject(claim, exchange, Reason::Untrusted, cause, audit)
                .await;
        }
        let (at, kind) = (self.clock.now(), EventKind::Absorbed);
        self.finish(claim, &[Event { at, kind }], audit).await?;
        measures::count_mail("notice");
        Ok(())
    }

    async fn prepare(
        &self,
        claim: &Claim,
        opened: OpenedMail,
        recipients: Vec<DirectAddress>,
        decided_on: Found,
        mut audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let signer = opened.trusted.signer();
        let signer = signer.and_then(|signer| signer.certificate.to_der().ok());
        let opening = Opening {
            from: opened.trusted.sender.clone(),
            message_id: opened.trusted.message_id.clone(),
            digest: opened.digest,
            signer: signer.unwrap_or_default(),
            wants_final_delivery: opened.trusted.final_delivery == FinalDelivery::Requested,
            legs: Vec::new(),
            failed: Vec::new(),
        };
        let job = PrepareJob {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            endpoints: Arc::clone(&self.endpoints),
            sources: Arc::clone(&self.sources),
            opened,
            recipients: recipients.clone(),
            now: at,
        };
        let prepared = match self.cpu.run(Urgency::CanWait, move || job.run()).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(failure)) => return Err(failure),
            Err(panicked) => {
                error!(alarm = "panic", exchange.id = %claim.exchange, error = &panicked as &dyn std::error::Error, "preparing exchange {} panicked", claim.exchange);
                measures::count_alarm("panic");
                let reason = Reason::Internal;
                let failed = recipients.into_iter().map(|address| (address, reason));
                Prepared::failed(failed.collect())
            }
        };
        fault_points::pass("open.prepared").map_err(store_error)?;
        audit.extend(prepared.audit(at, claim.exchange));
        let posts = prepared.legs.len();
        let kind = EventKind::Opened(Opening {
            legs: prepared.legs,
            failed: prepared.failed,
            ..opening
        });
        let extras = Extras {
            done: Some(claim.clone()),
            // Held until the transition has adopted them.
            adopt: prepared.bodies.iter().map(|body| body.id).collect(),
            decided_on: Some(decided_on),
            audit,
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[Event { at, kind }], extras).await?;
        fault_points::pass("open.recorded").map_err(store_error)?;
        measures::count_mail("opened");
        info!(exchange.id = %claim.exchange, posts, "opened the mail of exchange {}: {posts} requests to post", claim.exchange);
        Ok(())
    }

    async fn finish(
        &self,
        claim: &Claim,
        events: &[Event],
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let extras = Extras {
            done: Some(claim.clone()),
            audit,
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, events, extras).await?;
        Ok(())
    }
}

/// When a mail that could not be judged is opened again; `None`: no time is left, and what is known now decides.
fn next_opening(claim: &Claim, exchange: &Exchange, now: Timestamp) -> Option<Timestamp> {
    let attempts = claim.attempts.saturating_add(1);
    let random = Uuid::new_v4().as_u64_pair().0;
    retry::next_attempt(now, attempts, exchange.deadlines.queue, random)
}

fn addresses(exchange: &Exchange) -> Vec<DirectAddress> {
    let recipients = exchange.recipients.iter();
    recipients
        .map(|recipient| recipient.address.clone())
        .collect()
}

/// The same records, tied to an exchange.
fn of(exchange: ExchangeId, records: Vec<AuditRecord>) -> Vec<AuditRecord> {
    records
        .into_iter()
        .map(|record| record.of(exchange))
        .collect()
}
