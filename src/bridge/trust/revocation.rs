//! Is a certificate of a path revoked, as far as its issuers' lists say? (certificates.md section 7.)

use std::{cell::RefCell, cmp::Ordering, fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use openssl::{
    pkey::{PKey, Public},
    x509::{X509, X509KeyUsage, X509Ref},
};
use serde::{Deserialize, Serialize};

use super::fetched::{FetchedMaterial, Want, Wants, end_of};
use crate::formats::smime::{certificate, crl::Crl, ocsp::OcspStatus};

/// How far a list's start may lie ahead of our clock, as for certificates (CERT-11).
const START_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// How long `soft` tolerates that what a certificate names is past its nextUpdate, or cannot be had (REV-4).
const TOLERATED: SignedDuration = SignedDuration::from_hours(24);

/// What follows when the status of a certificate cannot be known (REV-4). A revoked one is never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenUnknown {
    /// It is used for a while; that its status is not known is told to the operator.
    #[default]
    Soft,
    /// It is not used: what needs it waits for a list.
    Hard,
}

/// The lists that a domain goes by.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    /// Complete lists, of any issuer. None is believed without its issuer's signature.
    pub crls: Vec<Arc<Crl>>,
    /// What follows when they do not tell.
    pub when_unknown: WhenUnknown,
}

/// What the lists say of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Revoked,
    /// The newest list is past its nextUpdate.
    Stale,
    /// No list speaks about it.
    Unlisted,
}

impl Revocation {
    /// What the newest list says that the certificate's issuer signed and that is in force at `now`: a certificate that
    /// was on hold and is not on the newest list is good again. A stale list still revokes.
    pub(super) fn status(&self, certificate: &X509Ref, issuer: &X509Ref, now: Timestamp) -> Status {
        let is_ca = certificate::is_ca(certificate);
        let lists = |crl: &Crl| crl.lists(certificate.serial_number());
        let mut issuer_key = None;
        let mut newest: Option<&Crl> = None;
        for crl in &self.crls {
            let counts = crl.scope().covers(is_ca)
                && has_begun(crl, now)
                && newest.is_none_or(|newest| match rank(newest).cmp(&rank(crl)) {
                    Ordering::Less => true,
                    // Nothing tells which came later: revoked by either is revoked.
                    Ordering::Equal => !lists(newest),
                    Ordering::Greater => false,
                })
                && names(crl, issuer);
            if !counts {
                continue;
            }
            if issuer_key.is_none() {
                issuer_key = key_for_crls(issuer);
            }
            let Some(key) = &issuer_key else {
                return Status::Unlisted;
            };
            if crl.is_signed_by(key) {
                newest = Some(crl);
            }
        }
        match newest {
            None => Status::Unlisted,
            Some(crl) if lists(crl) => Status::Revoked,
            Some(crl) if crl.next_update() <= now => Status::Stale,
            Some(_) => Status::Good,
        }
    }

    /// When what the lists say changes next by time alone: one comes into force, or becomes stale.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.crls.iter().flat_map(|crl| {
            let start = crl.this_update().checked_sub(START_TOLERANCE);
            [start.unwrap_or(now), crl.next_update()]
        });
        times.filter(|time| *time > now).min()
    }
}

/// Whether a list is of the present: one of the future says nothing yet.
pub fn has_begun(crl: &Crl, now: Timestamp) -> bool {
    has_started(crl.this_update(), now)
}

/// The same for any thisUpdate.
pub(super) fn has_started(this_update: Timestamp, now: Timestamp) -> bool {
    this_update <= now.checked_add(START_TOLERANCE).unwrap_or(now)
}

/// Which of several lists by one issuer is the latest.
fn rank(crl: &Crl) -> (Timestamp, Option<&[u8]>) {
    (crl.this_update(), crl.number())
}

/// Whether `issuer` signed the list: by its key, not by its name alone, and a key that may sign lists (REV-2).
pub fn is_crl_of(crl: &Crl, issuer: &X509Ref) -> bool {
    names(crl, issuer) && key_for_crls(issuer).is_some_and(|key| crl.is_signed_by(&key))
}

fn names(crl: &Crl, issuer: &X509Ref) -> bool {
    let order = issuer.subject_name().try_cmp(crl.issuer());
    order.is_ok_and(|order| order.is_eq())
}

/// RFC 5280 §6.3.3 f: a keyUsage, where there is one, must hold cRLSign.
fn key_for_crls(issuer: &X509Ref) -> Option<PKey<Public>> {
    let may_sign = issuer
        .key_usage()
        .is_none_or(|usage| usage.contains(X509KeyUsage::CRL_SIGN));
    may_sign.then(|| issuer.public_key().ok()).flatten()
}

/// What is not known of a certificate, since nothing in date tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The newest list of its issuer is past its nextUpdate.
    Stale,
    /// There is no list of its issuer.
    Missing,
    /// The lists and responders that the certificate names could not be had, or give nothing that counts.
    Unavailable,
}

impl Doubt {
    /// One word, for the audit.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Who says that a certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedBy {
    /// Its issuer's list.
    Crl,
    /// A responder.
    Ocsp,
}

impl RevokedBy {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Crl => "CRL",
            Self::Ocsp => "OCSP",
        }
    }
}

/// That it is not known whether a certificate is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Why not.
    pub doubt: Doubt,
    /// Why what the certificate names was not to be had, without the URL.
    pub why: Option<String>,
    /// Whether that was so for longer than is tolerated, or is not tolerated at all.
    pub is_overdue: bool,
}

impl Unknown {
    fn of_files(doubt: Doubt) -> Self {
        Self {
            doubt,
            why: None,
            is_overdue: false,
        }
    }

    /// Whether the domain uses such a certificate all the same (REV-4).
    pub(super) fn is_tolerated(&self, revocation: &Revocation) -> bool {
        revocation.when_unknown == WhenUnknown::Soft && !self.is_overdue
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.why.as_deref();
        match self.doubt {
            Doubt::Stale => f.write_str("the CRL is past its nextUpdate"),
            Doubt::Missing => f.write_str("no CRL of its issuer is there"),
            Doubt::Unavailable => f.write_str("no CRL or OCSP answer was to be had"),
        }?;
        why.map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

/// What is known of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStatus {
    /// Nothing on it is revoked; until when that is known, as far as it was fetched.
    Good { until: Option<Timestamp> },
    /// The certificate with so many others below it is revoked.
    Revoked { depth: usize, by: RevokedBy },
    /// Its status is not known.
    Unknown { depth: usize, unknown: Unknown },
}

/// What is known of one certificate.
enum Answer {
    Good { until: Option<Timestamp> },
    Revoked(RevokedBy),
    Unknown(Unknown),
}

/// Looks for the status of certificates: in the domain's own lists, then in what their URLs gave.
pub(super) struct StatusSearch<'a> {
    pub(super) revocation: &'a Revocation,
    /// `None`: nothing is fetched.
    pub(super) fetched: Option<&'a FetchedMaterial>,
    /// Where the issuer of an end entity that is itself the anchor is looked for.
    pub(super) others: &'a [X509],
    pub(super) now: Timestamp,
    /// Where what is lacking is noted down.
    pub(super) wants: &'a RefCell<Wants>,
}

impl StatusSearch<'_> {
    /// Asks for every certificate of `path` below its anchor; of an end entity that is itself the anchor, its issuer is
    /// looked for among the others (TA-5).
    pub(super) fn judge(&self, path: &[X509]) -> PathStatus {
        let pairs = path.windows(2).enumerate();
        let mut asked: Vec<(usize, &X509Ref, &X509)> = pairs
            .filter_map(|(depth, pair)| match pair {
                [certificate, issuer] => Some((depth, &**certificate, issuer)),
                _ => None,
            })
            .collect();
        if let [alone] = path {
            let mut known = std::iter::once(alone).chain(self.others);
            // Nobody answers for one that nobody known has issued: it was configured by itself.
            asked.extend(
                known
                    .find(|issuer| has_signed(issuer, alone))
                    .map(|issuer| (0, &**alone, issuer)),
            );
        }
        let (mut unknown, mut earliest) = (None, None);
        for (depth, certificate, issuer) in asked {
            match self.status(certificate, issuer) {
                Answer::Revoked(by) => return PathStatus::Revoked { depth, by },
                Answer::Unknown(found) => {
                    // One that is not tolerated says more than one that is.
                    let says_more =
                        |(_, before): &(usize, Unknown)| found.is_overdue && !before.is_overdue;
                    if unknown.as_ref().is_none_or(says_more) {
                        unknown = Some((depth, found));
                    }
                }
                Answer::Good { until } => {
                    earliest = earliest.into_iter().chain(until).min();
                }
            }
        }
        match unknown {
            Some((depth, unknown)) => PathStatus::Unknown { depth, unknown },
            None => PathStatus::Good { until: earliest },
        }
    }

    /// The domain's own lists say it, or what the certificate itself names (REV-1).
    fn status(&self, certificate: &X509Ref, issuer: &X509) -> Answer {
        let doubt = match self.revocation.status(certificate, issuer, self.now) {
            Status::Good => return Answer::Good { until: None },
            Status::Revoked => return Answer::Revoked(RevokedBy::Crl),
            Status::Stale => Doubt::Stale,
            Status::Unlisted => Doubt::Missing,
        };
        let fetched = self
            .fetched
            .and_then(|fetched| self.fetched_status(fetched, certificate, issuer));
        if let Some(answer) = fetched {
            return answer;
        }
        // Who has no lists, and need not have any, doubts nothing.
        if self.revocation.crls.is_empty() && self.revocation.when_unknown == WhenUnknown::Soft {
            return Answer::Good { until: None };
        }
        Answer::Unknown(Unknown::of_files(doubt))
    }

    /// What the lists and responders say that the certificate names, lists first; `None`: it names none.
    fn fetched_status(
        &self,
        fetched: &FetchedMaterial,
        certificate: &X509Ref,
        issuer: &X509,
    ) -> Option<Answer> {
        let lists = certificate::crl_urls(certificate)
            .into_iter()
            .map(|url| Want::Crl {
                url,
                issuer: issuer.clone(),
            });
        let responders = certificate::ocsp_urls(certificate)
            .into_iter()
            .map(|url| Want::Ocsp {
                url,
                certificate: certificate.to_owned(),
                issuer: issuer.clone(),
            });
        let mut failed: Option<Failed> = None;
        let mut is_disowned = false;
        for want in lists.chain(responders) {
            let source = self.source(fetched, &want, certificate);
            if source.is_due {
                self.wants.borrow_mut().add(want);
            }
            let now_failed = match source.said {
                Said::Answer(answer) => return Some(answer),
                Said::Nothing(failed) => failed,
            };
            is_disowned |= now_failed.is_disowned;
            // Whichever failed later is tolerated for longer.
            failed = Some(match failed {
                Some(before) if before.is_disowned => before,
                Some(before) if !now_failed.is_disowned && before.since >= now_failed.since => {
                    before
                }
                _ => now_failed,
            });
            if source.is_due {
                // The others only if this one gives nothing.
                break;
            }
        }
        let failed = failed?;
        let end = failed
            .since
            .checked_add(TOLERATED)
            .unwrap_or(Timestamp::MAX);
        Some(Answer::Unknown(Unknown {
            doubt: failed.doubt,
            why: Some(failed.why),
            is_overdue: is_disowned || end <= self.now,
        }))
    }

    /// What one list or responder says.
    fn source(&self, fetched: &FetchedMaterial, want: &Want, certificate: &X509Ref) -> Source {
        // When it ends, whether it is in date, and what it says.
        let (said, lack, is_due) = match want {
            Want::Issuer { .. } => (None, None, false),
            Want::Crl { .. } => {
                let known = fetched.crl(want, self.now);
                let is_ca = certificate::is_ca(certificate);
                let covering = known.value.filter(|crl| crl.scope().covers(is_ca));
                let said = covering.map(|crl| {
                    let end = crl.next_update();
                    let answer = match crl.lists(certificate.serial_number()) {
                        true => Answer::Revoked(RevokedBy::Crl),
                        false => Answer::Good { until: Some(end) },
                    };
                    (end, Some(answer))
                });
                (said, known.lack, known.is_due)
            }
            Want::Ocsp { .. } => {
                let known = fetched.answer(want, self.now);
                let said = known.value.map(|answer| {
                    let end = end_of(&answer);
                    let answer = match answer.status {
                        OcspStatus::Revoked => Some(Answer::Revoked(RevokedBy::Ocsp)),
                        OcspStatus::Good => Some(Answer::Good { until: Some(end) }),
                        // As good as no answer (REV-3).
                        OcspStatus::Unknown => None,
                    };
                    (end, answer)
                });
                (said, known.lack, known.is_due)
            }
        };
        let nothing = |doubt, why: &str, since| {
            Said::Nothing(Failed {
                doubt,
                why: why.to_owned(),
                since,
                is_disowned: false,
            })
        };
        let said = match (said, lack) {
            // What is revoked stays so, in date or not.
            (Some((_, Some(answer @ Answer::Revoked(_)))), _) => Said::Answer(answer),
            (Some((end, Some(answer))), _) if end > self.now => Said::Answer(answer),
            (Some((end, None)), _) if end > self.now => Said::Nothing(Failed {
                doubt: Doubt::Unavailable,
                why: "the responder does not know the certificate (REV-3)".to_owned(),
                since: self.now,
                is_disowned: true,
            }),
            (Some((end, _)), lack) => {
                let why = lack
                    .as_ref()
                    .map_or("it was not fetched anew yet", |lack| &lack.why);
                nothing(Doubt::Stale, why, end)
            }
            (None, Some(lack)) => nothing(Doubt::Unavailable, &lack.why, lack.since),
            (None, None) => nothing(
                Doubt::Unavailable,
                "it was not fetched yet, or is about other certificates",
                self.now,
            ),
        };
        Source { said, is_due }
    }
}

/// What one list or responder gave.
struct Source {
    said: Said,
    is_due: bool,
}

enum Said {
    Answer(Answer),
    Nothing(Failed),
}

/// Why it gave nothing, and since when.
struct Failed {
    doubt: Doubt,
    why: String,
    since: Timestamp,
    /// Whether the issuer's own responder has never heard of the certificate: no outage, so nothing is tolerated.
    is_disowned: bool,
}

fn has_signed(issuer: &X509Ref, certificate: &X509Ref) -> bool {
    let order = certificate.issuer_name().try_cmp(issuer.subject_name());
    order.is_ok_and(|order| order.is_eq())
        && issuer
            .public_key()
            .and_then(|key| certificate.verify(&key))
            .unwrap_or(false)
}
