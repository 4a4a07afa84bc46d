//! The settings of the flows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::formats::units::duration_text;

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
    /// How long a claimed effect stays with the worker that took it. Default `"30m"`; must be longer than the longest
    /// SMTP session.
    #[serde(with = "duration_text")]
    pub lease: Duration,
    /// Whether the inner Subject carries the SubmissionSet's title, which may name the patient. Default false
    /// (XDR-85).
    pub subject_title: bool,
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
            lease: Duration::from_secs(30 * MINUTE),
            subject_title: false,
            outer_subject: "Encrypted message".to_owned(),
            always_request_dispatched: false,
        }
    }
}
