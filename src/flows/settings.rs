//! The settings of the flows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    bridge::destination::{DirectPackaging, MailPolicy, body_text_problem},
    formats::{audit::PatientIdPolicy, units::duration_text},
};

/// How accepted messages are worked on: `[delivery]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySettings {
    /// Longest look-up of certificates before an XDR request is answered; what is not known by then is accepted and
    /// looked up further. Default `"8s"` (XDR-88, DISC-5).
    #[serde(with = "duration_text")]
    pub accept_lookup: Duration,
    /// Longest single look-up after acceptance. Default `"30s"` (DISC-5).
    #[serde(with = "duration_text")]
    pub background_lookup: Duration,
    /// How long after the end of an exchange a repetition of it is recognised. Default `"24h"` (XDR-50).
    #[serde(with = "duration_text")]
    pub resubmission_window: Duration,
    /// Effects that are worked on at once. Default 64.
    pub workers: usize,
    /// How long a claimed effect stays with the worker that took it. Default `"40m"`; nine tenths of it must be
    /// longer than `smtp.client.attempt_timeout`.
    #[serde(with = "duration_text")]
    pub lease: Duration,
    /// How long a stop waits for deliveries that are under way; then they are broken off, and repeated at the next start.
    /// Default `"60s"`.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    /// How destinations get their documents, unless a `[[destination]]` says otherwise: `"xdm"`, `"xdm+documents"` or `"documents"`, which loses the metadata.
    /// Default `"xdm"` (XDR-86, XDR-87).
    pub packaging: DirectPackaging,
    /// Whether the inner Subject carries the SubmissionSet's title, which may name the patient. Default false
    /// (XDR-85).
    pub subject_title: bool,
    /// Whether minimal metadata gets the limitedMetadata labels. Default false (XDR-83).
    pub add_limited_label: bool,
    /// The text that a reader of the mail sees first, in lines of at most 78 characters; it is the same in every mail, so
    /// nothing about a patient may stand in it. Default `""`, the bridge's own sentence about the packaging (XDR-86).
    pub body_text: String,
    /// The outer Subject; empty leaves it out. Default `"Encrypted message"` (WR-4).
    pub outer_subject: String,
    /// Whether final delivery is asked for even where the XDR sender did not. Default false (MDN-4).
    pub always_request_dispatched: bool,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        Self {
            accept_lookup: Duration::from_secs(8),
            background_lookup: Duration::from_secs(30),
            resubmission_window: Duration::from_secs(24 * HOUR),
            workers: 64,
            lease: Duration::from_secs(40 * MINUTE),
            drain_timeout: Duration::from_secs(MINUTE),
            packaging: DirectPackaging::Xdm,
            subject_title: false,
            add_limited_label: false,
            body_text: String::new(),
            outer_subject: "Encrypted message".to_owned(),
            always_request_dispatched: false,
        }
    }
}

impl DeliverySettings {
    /// The part of a lease in which an effect must end: the rest is the margin before another worker may claim it.
    const LEASE_SHARE: f64 = 0.9;

    /// The longest time that one effect may take.
    pub fn longest_effect(&self) -> Duration {
        self.lease.mul_f64(Self::LEASE_SHARE)
    }

    /// How a mail is made where no `[[destination]]` says otherwise.
    pub fn mail_policy(&self) -> MailPolicy {
        MailPolicy {
            packaging: self.packaging,
            subject_title: self.subject_title,
            add_limited_label: self.add_limited_label,
            body_text: self.body_text.clone(),
        }
    }

    /// What is wrong with these settings beside an SMTP attempt of `attempt_timeout`: key and what would be accepted.
    pub fn problems(&self, attempt_timeout: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        if self.longest_effect() <= attempt_timeout {
            problems.push(
                "delivery.lease: nine tenths of it must be longer than smtp.client.attempt_timeout"
                    .to_owned(),
            );
        }
        if let Some(accepted) = body_text_problem(&self.body_text) {
            problems.push(format!("delivery.body_text: {accepted}"));
        }
        if self.workers == 0 {
            problems.push("delivery.workers: at least 1".to_owned());
        }
        problems
    }
}

/// How notices are written to the senders of mail: `[notification]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationSettings {
    /// The envelope's sender of notices: `"recipient"`, for whom they speak, or `"null"`, as RFC 8098 has it and some
    /// Direct systems do not take it. Default `"recipient"` (MDN-30).
    pub mdn_envelope_sender: MdnEnvelopeSender,
}

/// The envelope's sender of notices (MDN-30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MdnEnvelopeSender {
    /// The recipient for whom the notice speaks.
    #[default]
    Recipient,
    /// `<>`.
    Null,
}

/// What the audit keeps: `[audit]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Patient identifiers: `"full"`, `"opaque"` (a keyed hash, by which the same patient is recognised again) or
    /// `"none"`. Default `"opaque"` (PHI-2).
    pub patient_id: PatientIdPolicy,
}

/// This node: `[node]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSettings {
    /// Its name in the audit, whose hash chain is the node's own. Default `"bridge"`.
    pub name: String,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            name: "bridge".to_owned(),
        }
    }
}
