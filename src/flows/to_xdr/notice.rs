//! A notice comes in: what it says goes to the exchange whose mail it is about (RCV-8; mdn.md section 5). Forged, unknown
//! and late ones change nothing and are audited.

use jiff::Timestamp;
use tracing::{info, warn};

use super::ToXdr;
use crate::{
    bridge::{
        exchange::{Event, Exchange},
        notice::{NotUnderstood, Notice, Statement, Suspicion},
    },
    flows::{
        measures,
        ports::{LookupKey, StoreError, VersionedExchange},
        records::doubted,
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{ExchangeId, LegId},
    },
};

/// What became of what a notice said of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The recipient's state changed.
    Matched,
    /// It came late, twice, or for something that is not waited for.
    Suppressed,
    /// It came after the recipient was reported as served, and says otherwise.
    LateNegative,
    /// It decides nothing.
    Informative,
}

impl Taken {
    /// One word, for audit and metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Suppressed => "suppressed",
            Self::LateNegative => "late_negative",
            Self::Informative => "informative",
        }
    }
}

impl ToXdr {
    /// Feeds a notice, received as `mail`, to the exchange that it is about, and gives the audit records of what changed
    /// nothing: they belong to the notice's own exchange. Whatever is repeated after a crash finds its work done.
    pub(super) async fn take_notice(
        &self,
        mail: ExchangeId,
        notice: &Result<Notice, NotUnderstood>,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let at = self.clock.now();
        let notice = match notice {
            Ok(notice) => notice,
            Err(why) => {
                count("unmatched");
                info!(exchange.id = %mail, "the notice received as exchange {mail} is not understood: {why}");
                let record = AuditRecord::new(at, AuditKind::MdnIn, AuditOutcome::Minor).of(mail);
                let record = record.with("error", format!("mdn_unmatched: {why}"));
                return Ok(vec![record]);
            }
        };
        let Some((exchange, leg)) = self.noticed(notice).await? else {
            count("unmatched");
            info!(exchange.id = %mail, "the notice received as exchange {mail} is about no mail of ours");
            // One record whatever it says of how many: nobody had to be trusted to cause it.
            let records = notice.statements.first().map(|statement| {
                let count = notice.statements.len().to_string();
                record(at, AuditKind::MdnIn, AuditOutcome::Minor, notice, statement)
                    .of(mail)
                    .with("recipients", count)
                    .with("error", "mdn_unmatched")
            });
            return Ok(records.into_iter().collect());
        };
        let mut suspect = Vec::new();
        for statement in &notice.statements {
            match statement.event(&exchange, leg) {
                Ok(kind) => {
                    let events: Vec<Event> =
                        kind.into_iter().map(|kind| Event { at, kind }).collect();
                    let tell = |before: &Exchange, after: &Exchange| {
                        let taken = taken(before, after, statement);
                        let record = told(at, notice, statement, after, taken);
                        vec![record.with("received-as", mail.to_string())]
                    };
                    self.tell_exchange(&exchange, &events, statement, &tell)
                        .await?;
                }
                Err(suspicion) => {
                    suspect.push(suspected(at, mail, &exchange, notice, statement, suspicion));
                }
            }
        }
        Ok(suspect)
    }

    /// The submission that the notice is about, and the mail of it.
    pub(super) async fn noticed(
        &self,
        notice: &Notice,
    ) -> Result<Option<(Exchange, LegId)>, StoreError> {
        let Some(original) = &notice.original_message_id else {
            return Ok(None);
        };
        let key = LookupKey::MessageId(original.as_str().to_owned());
        for id in self.store.find(&key).await? {
            let Some(VersionedExchange { exchange, .. }) = self.store.load(id).await? else {
                continue;
            };
            if let Some(leg) = notice.leg(&exchange) {
                return Ok(Some((exchange, leg)));
            }
        }
        Ok(None)
    }

    async fn tell_exchange(
        &self,
        exchange: &Exchange,
        events: &[Event],
        statement: &Statement,
        tell: &(dyn Fn(&Exchange, &Exchange) -> Vec<AuditRecord> + Sync),
    ) -> Result<(), StoreError> {
        let id = exchange.id;
        let extras = Extras::default();
        let after = transition::apply_telling(&self.store, id, events, extras, tell).await?;
        // The last conflict, if there was one, is not seen from here: the audit has the exact word.
        let taken = taken(exchange, &after, statement);
        let (domain, said) = (statement.recipient.domain(), statement.says.word());
        let result = taken.word();
        count(result);
        info!(exchange.id = %id, domain = %domain, result, "a notice from {domain} about exchange {id} says {said}: {result}");
        Ok(())
    }
}

/// What the statement did, by what its recipient was and is.
pub(super) fn taken(before: &Exchange, after: &Exchange, statement: &Statement) -> Taken {
    let address = &statement.recipient;
    let was = before.recipient(address);
    if statement.says.is_informative() {
        return Taken::Informative;
    }
    if was != after.recipient(address) {
        return Taken::Matched;
    }
    let is_served = was
        .and_then(|recipient| recipient.outcome.as_ref())
        .is_some_and(|outcome| outcome.failure.is_none());
    if is_served && statement.says.is_negative() {
        Taken::LateNegative
    } else {
        Taken::Suppressed
    }
}

/// The audit record of what a statement did to `exchange`.
pub(super) fn told(
    at: Timestamp,
    notice: &Notice,
    statement: &Statement,
    exchange: &Exchange,
    taken: Taken,
) -> AuditRecord {
    let outcome = match taken {
        Taken::Matched | Taken::Informative => AuditOutcome::Success,
        Taken::Suppressed | Taken::LateNegative => AuditOutcome::Minor,
    };
    record(at, AuditKind::MdnIn, outcome, notice, statement)
        .of(exchange.id)
        .with("result", taken.word())
}

fn suspected(
    at: Timestamp,
    mail: ExchangeId,
    about: &Exchange,
    notice: &Notice,
    statement: &Statement,
    suspicion: Suspicion,
) -> AuditRecord {
    count("suspect");
    let about = about.id;
    warn!(exchange.id = %about, "a notice about exchange {about} may be forged and changes nothing: {suspicion}");
    record(
        at,
        AuditKind::SecurityAlert,
        AuditOutcome::Serious,
        notice,
        statement,
    )
    .of(mail)
    .with("about", about.to_string())
    .with("error", format!("mdn_spoof_suspect: {suspicion}"))
}

/// What the audit keeps of a notice (audit.md section 7).
pub(super) fn record(
    at: Timestamp,
    kind: AuditKind,
    outcome: AuditOutcome,
    notice: &Notice,
    statement: &Statement,
) -> AuditRecord {
    let original = notice.original_message_id.as_ref();
    let signers: Vec<String> = statement
        .vouchers
        .iter()
        .map(|by| by.signer.to_string())
        .collect();
    let doubt = statement.vouchers.iter().find_map(|by| by.doubt);
    let record = AuditRecord::new(at, kind, outcome)
        .with("original-message-id", original.map_or("", |id| id.as_str()))
        .with("recipient", statement.recipient.to_string())
        .with("disposition", statement.says.word())
        .with("signer", signers.join(" "));
    doubted(record, doubt)
}

/// Counts what a notice said of one recipient.
pub(super) fn count(result: &'static str) {
    metrics::counter!(measures::NOTICES_RECEIVED, "result" => result).increment(1);
}
