//! The settings of the flows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    bridge::{
        bounce::BounceHost,
        destination::{DirectPackaging, MailPolicy, body_text_problem},
        network::Network,
    },
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

/// Where certificates are looked for that no file has: `[discovery]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoverySettings {
    /// Whether the DNS is asked for CERT records, of the address and then of its domain. Its name servers are those of
    /// `[dns]`. What is found there counts only if it leads to an anchor. Default true (DISC-1).
    pub dns: bool,
    /// Longest wait for one answer. Default `"3s"` (DISC-5).
    #[serde(with = "duration_text")]
    pub dns_timeout: Duration,
    /// How often a question is repeated when no answer comes. Default 2.
    pub dns_attempts: u8,
    /// Whether, after the DNS, the LDAP servers are asked that SRV records of the domain name: for the entries of the
    /// address, and then of its domain. It counts as little without an anchor. Default true (DISC-1, LDAP-1).
    pub ldap: bool,
    /// Longest wait for a connection to an LDAP server; the next one is tried then. Default `"3s"` (DISC-5).
    #[serde(with = "duration_text")]
    pub ldap_connect_timeout: Duration,
    /// Longest wait for the whole answer to one question to an LDAP server. Default `"5s"` (LDAP-10).
    #[serde(with = "duration_text")]
    pub ldap_timeout: Duration,
    /// Networks that SRV records may lead to though they are not public, such as `["10.20.0.0/16"]`. Default: none
    /// (T-14).
    pub ldap_permit: Vec<Network>,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self {
            dns: true,
            dns_timeout: Duration::from_secs(3),
            dns_attempts: 2,
            ldap: true,
            ldap_connect_timeout: Duration::from_secs(3),
            ldap_timeout: Duration::from_secs(5),
            ldap_permit: Vec::new(),
        }
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

/// How received mail is taken: `[receiving]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceivingSettings {
    /// When a recipient's address is looked at: `"session"` refuses an unknown one at RCPT; `"late"` takes every address
    /// of the domains served, so that nobody can try out who is there, and tells the sender of an unknown one by a notice
    /// `failed`, if the sender is trusted. Default `"session"` (RX-26).
    pub rcpt_verify: RcptVerify,
    /// Whether a mail is decrypted, verified and trusted before its final reply; what fails is refused with
    /// `550 5.7.1 message not accepted`, whatever the cause, a second after its end at the earliest. Every mail is then
    /// opened twice. False: it is recorded and answered 250, and what fails later is dropped in silence. Default false.
    pub inline_verify: bool,
    /// Longest time for `inline_verify`; a mail that is not judged by then, or that there is no room to open at once, is
    /// recorded, answered 250, and opened later. Default `"20s"`.
    #[serde(with = "duration_text")]
    pub inline_verify_timeout: Duration,
    /// Largest mail for the postmaster, in octets; it need not be sealed. Default 262144 (RX-24).
    pub postmaster_max_bytes: u64,
    /// Mails for the postmaster that are kept within 24 hours; further ones are put off with 452. Each is an alarm; read
    /// them with `xdbridge postmaster list` and `show`. Default 50.
    pub postmaster_max_per_day: usize,
    /// Those of them that come from one peer, an IPv4 address or IPv6 /64; further ones of it are put off with 452, so
    /// that there is room for others. Default 10.
    pub postmaster_max_per_peer: usize,
    /// How long a mail for the postmaster is kept, unless it is removed before. Default `"30d"`.
    #[serde(with = "duration_text")]
    pub postmaster_retention: Duration,
    /// Our own next hops, whose unsigned bounces are believed over TLS, by the address that they connect from and the
    /// client certificate that they show where one is asked for, such as
    /// `[{ network = "192.0.2.8/32", certificate = "<SHA-256 fingerprint>" }]`. A failure of a mail that this very host
    /// took from us, told to the mail's sender by `MAIL FROM:<>`, then counts as refused by the next hop; everything else
    /// without a seal is refused from there as from anywhere. It took the mail if it has the address that the mail went
    /// to, or one in the same `network`; a host that takes mail elsewhere is named, as in
    /// `next_hop = "smtp.harbor.example"`, by the smarthost or MX record. A network wider than /24 (IPv6: /64) says
    /// nothing: it needs the certificate, and the name or the very address. Default none (DSN-4).
    pub trusted_bounce_hosts: Vec<BounceHost>,
}

/// When a recipient's address is looked at: `receiving.rcpt_verify` (RX-26).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RcptVerify {
    /// At RCPT.
    #[default]
    Session,
    /// When the mail is opened.
    Late,
}

impl Default for ReceivingSettings {
    fn default() -> Self {
        Self {
            rcpt_verify: RcptVerify::Session,
            inline_verify: false,
            inline_verify_timeout: Duration::from_secs(20),
            postmaster_max_bytes: 256 * 1024,
            postmaster_max_per_day: 50,
            postmaster_max_per_peer: 10,
            postmaster_retention: Duration::from_secs(30 * 24 * 60 * 60),
            trusted_bounce_hosts: Vec::new(),
        }
    }
}

/// The least that a postmaster's largest mail may be: a short text under a long header.
const MIN_POSTMASTER_BYTES: u64 = 4 * 1024;
/// The shortest time for which a postmaster's mail waits to be read.
const MIN_POSTMASTER_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

impl ReceivingSettings {
    /// What is wrong with these settings beside a listener that waits `answer_timeout` for an answer: key and what would
    /// be accepted.
    pub fn problems(&self, answer_timeout: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        let limit = self.inline_verify_timeout;
        if limit.is_zero() || limit >= answer_timeout {
            problems.push(
                "receiving.inline_verify_timeout: more than \"0s\", and shorter than smtp.server.answer_timeout"
                    .to_owned(),
            );
        }
        // RFC 5321 section 4.5.1: a postmaster can be written to.
        if self.postmaster_max_bytes < MIN_POSTMASTER_BYTES {
            problems.push(format!(
                "receiving.postmaster_max_bytes: {MIN_POSTMASTER_BYTES} or more"
            ));
        }
        if self.postmaster_max_per_day == 0 {
            problems.push("receiving.postmaster_max_per_day: 1 or more".to_owned());
        }
        if self.postmaster_max_per_peer == 0 {
            problems.push("receiving.postmaster_max_per_peer: 1 or more".to_owned());
        }
        if self.postmaster_retention < MIN_POSTMASTER_RETENTION {
            problems.push("receiving.postmaster_retention: at least \"24h\"".to_owned());
        }
        for (index, host) in self.trusted_bounce_hosts.iter().enumerate() {
            if let Some(accepted) = host.problem() {
                problems.push(format!(
                    "receiving.trusted_bounce_hosts[{index}].network: {accepted}"
                ));
            }
        }
        problems
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ids::CertificateFingerprint;

    #[test]
    fn the_settings_of_receiving_read_back_what_they_print() {
        let settings = ReceivingSettings {
            rcpt_verify: RcptVerify::Late,
            inline_verify: true,
            trusted_bounce_hosts: vec![
                toml::from_str("network = \"192.0.2.8/32\"").unwrap(),
                BounceHost {
                    network: "2001:db8::/64".parse().unwrap(),
                    certificate: Some(CertificateFingerprint([7; 32])),
                    next_hop: Some("smtp.harbor.example".parse().unwrap()),
                },
            ],
            ..ReceivingSettings::default()
        };
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(
            toml::from_str::<ReceivingSettings>(&text).unwrap(),
            settings
        );
        let minute = Duration::from_secs(60);
        assert_eq!(settings.problems(minute), Vec::<String>::new());
        let problems = settings.problems(settings.inline_verify_timeout);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
