//! What an operator sees of an exchange: its state, each leg and recipient, what was tried and what comes next, and why
//! what failed did; and what of it the partner sees that submitted it. Two views: a line of a list, which names no person, and the whole, which does. Their JSON form is a
//! contract with scripts (docs/operators.md).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::exchange::{
    Effect, Exchange, InOutbox, Leg, LegKind, LegState, MdnToSend, Origin, Reason, Recipient,
    RecipientState, StatusEnd,
};
use crate::formats::{
    audit::{AuditKind, AuditOutcome, AuditRecord},
    ids::{DirectAddress, DomainName, ExchangeId, LegId, MessageId, SoapMessageId},
};

/// What is never shown, whatever the audit keeps of it.
const NOT_SHOWN: &str = "patient-id";

/// Which way an exchange crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From XDR.
    ToDirect,
    /// From Direct.
    ToXdr,
}

/// How an exchange stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Somebody is not settled.
    Open,
    /// The same, and an operator holds it.
    Held,
    /// Everybody has it.
    Delivered,
    /// Some have it.
    PartlyDelivered,
    /// Nobody has it.
    Failed,
}

/// One line of a list. It names no person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The bridge's own id.
    pub id: ExchangeId,
    /// Which way it crosses.
    pub direction: Direction,
    /// How it stands.
    pub state: Standing,
    /// The partner that submitted it; `None` for a mail.
    pub partner: Option<String>,
    /// The endpoints that it is posted to; none for a submission, or before its mail is opened.
    pub endpoints: Vec<String>,
    /// When the bridge took it over.
    pub accepted_at: Timestamp,
    /// When its last recipient was settled.
    pub final_at: Option<Timestamp>,
    /// How many recipients it has, and how they stand.
    pub recipients: Counts,
    /// Why recipients failed, each token once.
    pub reasons: Vec<Reason>,
}

/// How many recipients stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Not settled.
    pub open: usize,
    /// Settled: they have it.
    pub delivered: usize,
    /// Settled: they do not have it.
    pub failed: usize,
}

/// Everything that an operator sees of one exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// The sender: of a mail, once it is verified.
    pub from: Option<DirectAddress>,
    /// The ids that others know it by.
    pub ids: Ids,
    /// Since when an operator holds it.
    pub held_since: Option<Timestamp>,
    /// Whether the sender asked to be told of final delivery.
    pub wants_final_delivery: bool,
    /// When waiting ends.
    pub deadlines: Ends,
    /// Each recipient, in the order given.
    pub recipients_each: Vec<RecipientView>,
    /// Each mail, or each post.
    pub legs: Vec<LegView>,
    /// What is to be done next, first due first.
    pub next: Vec<NextView>,
    /// What was tried: each mail and post that left, or did not, with what the peer said.
    pub attempts: Vec<AttemptView>,
    /// Each notice that came in, or went out.
    pub notices: Vec<NoticeView>,
    /// What went wrong otherwise, precisely: the rule and what it was.
    pub causes: Vec<CauseView>,
    /// All that the audit has of it, oldest first, without patient identifiers.
    pub history: Vec<HistoryView>,
}

/// The ids that others know an exchange by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// wsa:MessageID of the submission.
    pub wsa_message_id: Option<SoapMessageId>,
    /// SubmissionSet.uniqueId.
    pub submission_set: Option<String>,
    /// The Message-ID that the mail was received with.
    pub message_id: Option<MessageId>,
}

/// When waiting ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// No attempt is made from then on.
    pub queue: Timestamp,
    /// `processed` must have come.
    pub processed: Timestamp,
    /// `dispatched` must have come, where it was asked for.
    pub dispatched: Timestamp,
}

/// One recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientView {
    /// The address.
    pub address: DirectAddress,
    /// How far it got (mdn.md sections 8 and 9).
    pub state: RecipientState,
    /// Why it failed; while it is open, what a look-up said last.
    pub reason: Option<Reason>,
    /// The reason as a sentence.
    pub sentence: Option<String>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// Whether it was settled as delivered.
    pub is_delivered: bool,
    /// The legs that carry the message to it.
    pub legs: Vec<LegId>,
    /// The MDNs that were made for it.
    pub mdns_made: Vec<MdnToSend>,
    /// The status submission about it.
    pub status: Option<StatusView>,
}

/// A status submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Its wsa:MessageID.
    pub wsa_message_id: SoapMessageId,
    /// When it is given up.
    pub until: Timestamp,
    /// How it ended.
    pub end: Option<StatusEnd>,
}

/// One mail or post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegView {
    /// The bridge's own id.
    pub id: LegId,
    /// A mail, or a post.
    #[serde(flatten)]
    pub what: LegWhat,
}

/// What a leg is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LegWhat {
    /// A mail.
    Mail {
        /// Its Message-ID.
        message_id: MessageId,
        /// Its size in octets, once it is sealed.
        wire_bytes: Option<u64>,
    },
    /// A post.
    Post {
        /// The endpoint's name.
        endpoint: String,
        /// The wsa:MessageID of every attempt.
        wsa_message_id: SoapMessageId,
        /// How far it got.
        state: LegState,
        /// Whether the answer to some attempt was lost.
        is_answer_lost: bool,
        /// Why it ended, where the state does not say.
        reason: Option<Reason>,
        /// The endpoint's last errorCode.
        error_code: Option<String>,
    },
}

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextView {
    /// From when on; of what is under way, when it is taken for lost.
    pub at: Timestamp,
    /// Whether it is under way.
    pub is_under_way: bool,
    /// Whether it waits until the exchange is released.
    pub is_withheld: bool,
    /// What.
    pub what: String,
    /// The leg that it is about.
    pub leg: Option<LegId>,
    /// The domain that mail goes to.
    pub domain: Option<DomainName>,
    /// The endpoint, or the partner, that is posted to.
    pub to: Option<String>,
    /// The recipient that it is about.
    pub recipient: Option<DirectAddress>,
    /// Which attempt it is.
    pub attempt: Option<u32>,
}

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// When.
    pub at: Timestamp,
    /// Whether it had success.
    pub is_success: bool,
    /// The recipient that mail was for, or that a status submission is about.
    pub recipient: Option<String>,
    /// The next hop, the endpoint, or the partner.
    pub to: Option<String>,
    /// What came of it, in the peer's words where there are some.
    pub text: String,
}

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeView {
    /// When.
    pub at: Timestamp,
    /// Whether it was sent; else it came in.
    pub is_sent: bool,
    /// Whether it was handed over, or counted.
    pub is_success: bool,
    /// What it says.
    pub disposition: String,
    /// Whom it speaks of.
    pub recipient: String,
    /// Its Message-ID, of one that was sent.
    pub message_id: Option<String>,
    /// What was wrong with it.
    pub text: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseView {
    /// When.
    pub at: Timestamp,
    /// What kind of record says so.
    pub kind: AuditKind,
    /// Whom it is about; `None`: everybody.
    pub recipient: Option<String>,
    /// The rule, and what it was.
    pub text: String,
}

/// One audit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    /// When.
    pub at: Timestamp,
    /// What kind (audit.md section 7).
    pub kind: AuditKind,
    /// How it ended: 0 success, 4 minor, 8 serious, 12 major.
    pub outcome: u8,
    /// By name.
    pub details: BTreeMap<String, String>,
}

impl Summary {
    /// What a list says of `exchange`.
    pub fn of(exchange: &Exchange) -> Self {
        let mut counts = Counts::default();
        let mut reasons = Vec::new();
        for recipient in &exchange.recipients {
            match &recipient.outcome {
                None => counts.open += 1,
                Some(outcome) => match outcome.failure {
                    None => counts.delivered += 1,
                    Some(reason) => {
                        counts.failed += 1;
                        if !reasons.contains(&reason) {
                            reasons.push(reason);
                        }
                    }
                },
            }
        }
        let (direction, partner) = match &exchange.origin {
            Origin::Xdr { partner, .. } => (Direction::ToDirect, Some(partner.clone())),
            Origin::Direct { .. } => (Direction::ToXdr, None),
        };
        let posts = exchange.legs.iter().filter_map(Leg::as_xdr);
        let mut endpoints: Vec<String> = posts.map(|post| post.endpoint.clone()).collect();
        endpoints.sort();
        endpoints.dedup();
        let state = match (counts.open, counts.delivered, counts.failed) {
            (1.., ..) if exchange.hold.is_some() => Standing::Held,
            (1.., ..) => Standing::Open,
            (0, _, 0) => Standing::Delivered,
            (0, 0, _) => Standing::Failed,
            (0, _, _) => Standing::PartlyDelivered,
        };
        Self {
            id: exchange.id,
            direction,
            state,
            partner,
            endpoints,
            accepted_at: exchange.accepted_at,
            final_at: exchange.final_at,
            recipients: counts,
            reasons,
        }
    }
}

impl Overview {
    /// What is to be seen of `exchange`, of what the outbox has for it and of what the audit has of it.
    pub fn of(exchange: &Exchange, outbox: &[InOutbox<'_>], audit: &[AuditRecord]) -> Self {
        let (from, ids) = match &exchange.origin {
            Origin::Xdr {
                soap_message_id,
                submission_set_unique_id,
                from,
                ..
            } => {
                let ids = Ids {
                    wsa_message_id: soap_message_id.clone(),
                    submission_set: Some(submission_set_unique_id.clone()),
                    message_id: None,
                };
                (Some(from.clone()), ids)
            }
            Origin::Direct {
                message_id, from, ..
            } => {
                let ids = Ids {
                    message_id: message_id.clone(),
                    ..Ids::default()
                };
                (from.clone(), ids)
            }
        };
        let hold = exchange.hold.as_ref();
        let withheld = hold.into_iter().flat_map(|hold| {
            let effects = hold.withheld.iter();
            effects.map(|effect| {
                let mut next = next(exchange, effect, hold.since, false);
                next.is_withheld = true;
                next
            })
        });
        let waiting = outbox
            .iter()
            .map(|one| next(exchange, one.effect, one.due, one.is_under_way));
        Self {
            summary: Summary::of(exchange),
            from,
            ids,
            held_since: hold.map(|hold| hold.since),
            wants_final_delivery: exchange.wants_final_delivery,
            deadlines: Ends {
                queue: exchange.deadlines.queue,
                processed: exchange.deadlines.processed,
                dispatched: exchange.deadlines.dispatched,
            },
            recipients_each: exchange.recipients.iter().map(recipient).collect(),
            legs: exchange.legs.iter().map(leg).collect(),
            next: withheld.chain(waiting).collect(),
            attempts: audit.iter().filter_map(attempt).collect(),
            notices: audit.iter().filter_map(notice).collect(),
            causes: audit.iter().filter_map(cause).collect(),
            history: audit.iter().map(history).collect(),
        }
    }
}

impl Overview {
    /// What the partner that submitted it sees: its recipients, what was tried, what came back and why they failed; not what
    /// the bridge will do, nor what it noted of others.
    #[must_use]
    pub fn for_partner(mut self) -> Self {
        self.next.clear();
        self.history.clear();
        self.causes
            .retain(|cause| cause.kind == AuditKind::Recipient || cause.kind == AuditKind::Timeout);
        self.notices.retain(|notice| notice.is_success);
        self
    }
}

fn recipient(recipient: &Recipient) -> RecipientView {
    let outcome = recipient.outcome.as_ref();
    let mdns = recipient.mdns.sealed.iter();
    RecipientView {
        address: recipient.address.clone(),
        state: recipient.state,
        reason: recipient.reason,
        sentence: recipient.reason.map(|reason| reason.sentence().to_owned()),
        settled_at: outcome.map(|outcome| outcome.at),
        is_delivered: outcome.is_some_and(|outcome| outcome.failure.is_none()),
        legs: recipient.legs.clone(),
        mdns_made: mdns.map(|mdn| mdn.disposition).collect(),
        status: recipient.status.as_ref().map(|status| StatusView {
            wsa_message_id: status.soap_message_id.clone(),
            until: status.until,
            end: status.end,
        }),
    }
}

fn leg(leg: &Leg) -> LegView {
    let what = match &leg.kind {
        LegKind::Mail(mail) => LegWhat::Mail {
            message_id: mail.message_id.clone(),
            wire_bytes: mail.sealed.as_ref().map(|sealed| sealed.wire_bytes),
        },
        LegKind::Xdr(post) => LegWhat::Post {
            endpoint: post.endpoint.clone(),
            wsa_message_id: post.soap_message_id.clone(),
            state: post.state,
            is_answer_lost: post.answer_lost,
            reason: post.reason,
            error_code: post.error_code.clone(),
        },
    };
    LegView { id: leg.id, what }
}

fn next(exchange: &Exchange, effect: &Effect, at: Timestamp, is_under_way: bool) -> NextView {
    let mut next = NextView {
        at,
        is_under_way,
        is_withheld: false,
        what: String::new(),
        leg: None,
        domain: None,
        to: None,
        recipient: None,
        attempt: None,
    };
    let address = |index: &usize| {
        let recipient = exchange.recipients.get(*index);
        recipient.map(|recipient| recipient.address.clone())
    };
    let what = match effect {
        Effect::LookUp { recipient, attempt } => {
            next.recipient = address(recipient);
            next.attempt = Some(*attempt);
            "look-up"
        }
        Effect::Seal { leg } => {
            next.leg = Some(*leg);
            "seal"
        }
        Effect::Send {
            leg,
            domain,
            attempt,
        } => {
            next.leg = Some(*leg);
            next.domain = Some(domain.clone());
            next.attempt = Some(*attempt);
            "send"
        }
        Effect::Open => "open",
        Effect::Post {
            leg,
            endpoint,
            attempt,
        } => {
            next.leg = Some(*leg);
            next.to = Some(endpoint.clone());
            next.attempt = Some(*attempt);
            "post"
        }
        Effect::SendMdn {
            recipient,
            disposition,
            domain,
            ..
        } => {
            next.recipient = address(recipient);
            next.domain = Some(domain.clone());
            match disposition {
                MdnToSend::Processed => "send-mdn-processed",
                MdnToSend::Dispatched => "send-mdn-dispatched",
                MdnToSend::Failed => "send-mdn-failed",
            }
        }
        Effect::ReportOutcome { recipient } => {
            next.recipient = address(recipient);
            "report-outcome"
        }
        Effect::PostStatus {
            recipient,
            partner,
            attempt,
        } => {
            next.recipient = address(recipient);
            next.to = Some(partner.clone());
            next.attempt = Some(*attempt);
            "post-status"
        }
        Effect::DeadlineQueue => "deadline-queue",
        Effect::DeadlineTp => "deadline-processed",
        Effect::DeadlineTd => "deadline-dispatched",
        Effect::RemoveBodies => "remove-bodies",
    };
    what.clone_into(&mut next.what);
    next
}

fn attempt(record: &AuditRecord) -> Option<AttemptView> {
    if !matches!(record.kind, AuditKind::Iti32Export | AuditKind::Iti41Export) {
        return None;
    }
    Some(AttemptView {
        at: record.at,
        is_success: record.outcome == AuditOutcome::Success,
        recipient: first_of(record, &["destination", "recipient"]),
        to: first_of(record, &["endpoint", "partner", "peer"]),
        text: told(
            record,
            &[
                "result",
                "cause",
                "code",
                "error",
                "reason",
                "smtp-reply",
                "detail",
            ],
        ),
    })
}

fn notice(record: &AuditRecord) -> Option<NoticeView> {
    let is_sent = match record.kind {
        AuditKind::MdnOut => true,
        AuditKind::MdnIn => false,
        _ => return None,
    };
    let about = if is_sent { "from" } else { "recipient" };
    let text = told(record, &["error", "reason", "smtp-reply"]);
    Some(NoticeView {
        at: record.at,
        is_sent,
        is_success: record.outcome == AuditOutcome::Success,
        disposition: first_of(record, &["disposition"]).unwrap_or_default(),
        recipient: first_of(record, &[about]).unwrap_or_default(),
        message_id: first_of(record, &["message-id"]),
        text: (!text.is_empty()).then_some(text),
    })
}

fn cause(record: &AuditRecord) -> Option<CauseView> {
    let is_told_elsewhere = matches!(
        record.kind,
        AuditKind::Iti32Export | AuditKind::Iti41Export | AuditKind::MdnIn | AuditKind::MdnOut
    );
    if record.outcome == AuditOutcome::Success || is_told_elsewhere {
        return None;
    }
    let text = match record.kind {
        AuditKind::Timeout => {
            let timer = first_of(record, &["timer"])?;
            format!("the time for {timer:?} is over")
        }
        _ => told(
            record,
            &[
                "error",
                "failed-signer",
                "reason",
                "cause",
                "code",
                "leniency",
                "legacy",
            ],
        ),
    };
    (!text.is_empty()).then(|| CauseView {
        at: record.at,
        kind: record.kind,
        recipient: first_of(record, &["recipient", "destination"]),
        text,
    })
}

fn history(record: &AuditRecord) -> HistoryView {
    let details = record.details.iter();
    HistoryView {
        at: record.at,
        kind: record.kind,
        outcome: record.outcome.indicator(),
        details: details
            .filter(|(name, _)| *name != NOT_SHOWN)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    }
}

fn first_of(record: &AuditRecord, names: &[&str]) -> Option<String> {
    let found = names.iter().find_map(|name| record.details.get(*name));
    found.filter(|value| !value.is_empty()).cloned()
}

/// What the record says under these names, in this order.
fn told(record: &AuditRecord, names: &[&str]) -> String {
    let values = names.iter().filter_map(|name| record.details.get(*name));
    let values: Vec<&str> = values
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .collect();
    values.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: AuditKind, outcome: AuditOutcome) -> AuditRecord {
        AuditRecord::new(Timestamp::UNIX_EPOCH, kind, outcome)
    }

    // rule: PHI-2
    #[test]
    fn a_patient_identifier_is_not_shown_whatever_the_audit_keeps() {
        let kept = record(AuditKind::Iti41Import, AuditOutcome::Success)
            .with("patient-id", "Q-77^^^&2.999.1&ISO")
            .with("partner", "elm");
        let shown = history(&kept);
        assert_eq!(shown.details.keys().collect::<Vec<_>>(), ["partner"]);
        assert_eq!(shown.outcome, 0);
    }

    #[test]
    fn each_record_is_an_attempt_or_a_notice_or_a_cause() {
        let refused = record(AuditKind::Iti32Export, AuditOutcome::Minor)
            .with("destination", "ada.quill@hisp.example")
            .with("smtp-reply", "451 later");
        let alert = record(AuditKind::SecurityAlert, AuditOutcome::Serious).with(
            "error",
            "no RecipientInfo names a certificate of ours (SM-37)",
        );
        let told = record(AuditKind::MdnOut, AuditOutcome::Success)
            .with("disposition", "failed")
            .with("from", "ada.quill@hisp.example");
        let late = record(AuditKind::Timeout, AuditOutcome::Minor).with("timer", "processed");
        let fine = record(AuditKind::Recipient, AuditOutcome::Success).with("error", "none");
        let kinds = |one: &AuditRecord| {
            (
                attempt(one).is_some(),
                notice(one).is_some(),
                cause(one).is_some(),
            )
        };
        assert_eq!(kinds(&refused), (true, false, false));
        assert_eq!(kinds(&told), (false, true, false));
        assert_eq!(kinds(&alert), (false, false, true));
        assert_eq!(kinds(&late), (false, false, true));
        assert_eq!(kinds(&fine), (false, false, false));
        assert_eq!(attempt(&refused).unwrap().text, "451 later");
        assert_eq!(notice(&told).unwrap().recipient, "ada.quill@hisp.example");
        let precise = cause(&alert).unwrap();
        assert_eq!(
            precise.text,
            "no RecipientInfo names a certificate of ours (SM-37)"
        );
        assert_eq!(precise.recipient, None);
    }
}
