//! The search for a certificate of an address, source by source (certificates.md section 3): what was asked, what was
//! found, what the checks said of it, and what was decided. A message is decided by it, and `explain` prints it: there
//! is no second account of the same.

use std::time::Duration;

use super::{
    exchange::Reason,
    trust::{self, CertificateCandidate, Chosen, Fault, Judgement, Refusal, Verdict},
};

/// What one source gave.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// Certificates, in no order that means anything: the checks and BIND-2 decide among them.
    pub candidates: Vec<CertificateCandidate>,
    /// What was asked and answered.
    pub steps: Vec<LookupStep>,
    /// Whether a step failed in a way that may pass (SERVFAIL, time-out): the absence of a certificate is then not
    /// known for sure (DISC-3).
    pub is_transient: bool,
    /// Whether no other source may be asked for this address, whatever came of this one.
    pub is_last: bool,
}

/// One question to one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupStep {
    /// Who was asked what.
    pub question: String,
    /// What came back.
    pub answer: String,
    /// How long it took.
    pub took: Duration,
}

/// A source that was asked, with what became of each of its certificates.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was asked and answered.
    pub steps: Vec<LookupStep>,
    /// Whether it may know more than it said.
    pub is_transient: bool,
    /// Its certificates.
    pub examined: Vec<Examined>,
}

/// One certificate with what the checks said of it.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The certificate and where it was found.
    pub candidate: CertificateCandidate,
    /// What the checks said. `None`: the same question was answered a moment ago, and of that only the certificate that
    /// was chosen is known.
    pub verdict: Option<Verdict>,
    /// Whether it is the one to use.
    pub is_chosen: bool,
}

/// The certificate to use.
#[derive(Clone, Debug)]
pub struct Found {
    /// The certificate and where it was found.
    pub candidate: CertificateCandidate,
    /// How it is bound, and its path.
    pub chosen: Chosen,
}

/// A search, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Search {
    asked: Vec<Asked>,
    found: Option<Found>,
    is_over: bool,
    is_cut_off: bool,
    has_failed: bool,
}

/// Why a search found no certificate to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// The token that weighs all certificates of all sources (DISC-9).
    pub reason: Reason,
    /// Whether a source that did not answer may still know a better one (DISC-3).
    pub is_transient: bool,
    /// Whether a revocation list that comes may still make one serve (REV-4).
    pub waits_for_revocation: bool,
}

impl Search {
    /// Takes what a source gave, and how its certificates were judged.
    pub fn take(&mut self, lookup: Lookup, judgement: Judgement) {
        let Judgement {
            chosen, verdicts, ..
        } = judgement;
        let chosen_index = chosen.as_ref().map(|chosen| chosen.index);
        let mut verdicts = verdicts.into_iter();
        let examined: Vec<Examined> = lookup
            .candidates
            .into_iter()
            .enumerate()
            .map(|(index, candidate)| Examined {
                candidate,
                verdict: verdicts.next(),
                is_chosen: chosen_index == Some(index),
            })
            .collect();
        self.found = chosen.and_then(|chosen| {
            let candidate = examined.get(chosen.index)?.candidate.clone();
            Some(Found { candidate, chosen })
        });
        self.is_over = lookup.is_last || self.found.is_some();
        self.asked.push(Asked {
            steps: lookup.steps,
            is_transient: lookup.is_transient,
            examined,
        });
    }

    /// Takes note that time was over before a source had answered `question`: nobody else is asked.
    pub fn end_without_answer(&mut self, question: &str, took: Duration) {
        self.is_over = true;
        self.is_cut_off = true;
        self.asked.push(Asked {
            steps: vec![LookupStep {
                question: question.to_owned(),
                answer: "no answer within the time that the whole search has".to_owned(),
                took,
            }],
            is_transient: true,
            examined: Vec::new(),
        });
    }

    /// Takes note that certificates could not be judged, by a fault of ours: nobody else is asked.
    pub fn fail(&mut self) {
        self.is_over = true;
        self.has_failed = true;
    }

    /// Whether no other source is to be asked: the first that leaves a usable certificate ends the search (DISC-1).
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The sources that were asked, in that order.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Whether time was over before a source had answered.
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Whether a source has not answered, or only that it cannot tell.
    pub fn is_transient(&self) -> bool {
        self.asked.iter().any(|asked| asked.is_transient)
    }

    /// The certificate to use, or why there is none.
    pub fn outcome(&self) -> Result<&Found, NotFound> {
        if let Some(found) = &self.found {
            return Ok(found);
        }
        if self.has_failed {
            return Err(NotFound {
                reason: Reason::Internal,
                is_transient: false,
                waits_for_revocation: false,
            });
        }
        let examined = self.asked.iter().flat_map(|asked| &asked.examined);
        let verdicts = examined.filter_map(|examined| examined.verdict.as_ref());
        let Refusal {
            reason,
            is_temporary,
        } = trust::refusal(verdicts);
        Err(NotFound {
            reason,
            is_transient: self.is_transient(),
            waits_for_revocation: is_temporary,
        })
    }
}

impl Search {
    /// Of a search that found no certificate to use, the first one that falls under its token, with the check that it
    /// failed. `None`: no source has a certificate.
    pub fn deciding(&self) -> Option<(&Examined, &Fault)> {
        let token = self.outcome().err()?.reason;
        let examined = self.asked.iter().flat_map(|asked| &asked.examined);
        let mut failed = examined.filter_map(|examined| {
            let verdict = examined.verdict.as_ref()?;
            Some((examined, verdict, verdict.fault.as_ref()?))
        });
        let (examined, _, fault) =
            failed.find(|(_, verdict, _)| trust::refusal([*verdict]).reason == token)?;
        Some((examined, fault))
    }
}

impl NotFound {
    /// Whether asking again may end otherwise.
    pub fn may_pass(&self) -> bool {
        self.is_transient || self.waits_for_revocation
    }
}

#[cfg(test)]
mod tests {
    use super::super::trust::{Check, PathFault, RevokedBy, Wants};
    use super::*;

    fn lookup(origins: &[&str]) -> Lookup {
        let candidates = origins.iter().map(|origin| CertificateCandidate {
            der: origin.as_bytes().to_vec(),
            origin: (*origin).to_owned(),
        });
        Lookup {
            candidates: candidates.collect(),
            ..Lookup::default()
        }
    }

    /// A source whose certificates all fall, by these faults.
    fn fallen(search: &mut Search, faults: &[(&str, Fault)]) {
        let origins: Vec<&str> = faults.iter().map(|(origin, _)| *origin).collect();
        let verdicts = faults.iter().map(|(_, fault)| Verdict {
            binding: None,
            fault: Some(fault.clone()),
        });
        let judgement = Judgement {
            chosen: None,
            verdicts: verdicts.collect(),
            refusal: None,
            wants: Wants::default(),
        };
        search.take(lookup(&origins), judgement);
    }

    fn revoked() -> Fault {
        let by = RevokedBy::Crl;
        Fault::Path(PathFault::Revoked { depth: 0, by })
    }

    // rule: DISC-9, REV-5
    #[test]
    fn the_token_weighs_all_certificates_of_all_sources_and_the_first_under_it_decides() {
        let end = |sources: &[&[(&str, Fault)]]| {
            let mut search = Search::default();
            for faults in sources {
                fallen(&mut search, faults);
            }
            assert!(!search.is_over());
            let token = search.outcome().unwrap_err().reason;
            let deciding = search.deciding();
            (token, deciding.map(|(one, _)| one.candidate.origin.clone()))
        };
        let some = |origin: &str| Some(origin.to_owned());
        let no_path = Fault::Path(PathFault::NoPath);
        assert_eq!(end(&[]), (Reason::NoCertificate, None));
        assert_eq!(end(&[&[], &[]]), (Reason::NoCertificate, None));
        let late = [("a", Fault::Expired), ("b", Fault::NotBound)];
        assert_eq!(end(&[&[], &late]), (Reason::NoCertificate, some("a")));
        let untrusted = [("c", Fault::Expired), ("d", no_path.clone())];
        assert_eq!(end(&[&late, &untrusted]), (Reason::Untrusted, some("d")));
        let gone = [("e", revoked()), ("f", no_path)];
        let ended = end(&[&untrusted, &gone, &late]);
        assert_eq!(ended, (Reason::CertificateRevoked, some("e")));
    }

    // rule: DISC-3
    #[test]
    fn a_source_that_did_not_answer_leaves_the_end_open_and_one_that_may_not_be_passed_ends_the_search()
     {
        let mut search = Search::default();
        let unanswered = Lookup {
            is_transient: true,
            ..Lookup::default()
        };
        search.take(unanswered, Judgement::of_nothing());
        fallen(&mut search, &[("a", revoked())]);
        let not_found = search.outcome().unwrap_err();
        assert_eq!(not_found.reason, Reason::CertificateRevoked);
        assert!(not_found.may_pass() && !not_found.waits_for_revocation);

        let mut search = Search::default();
        search.end_without_answer("DNS CERT a.", Duration::from_secs(8));
        assert!(search.is_over());
        assert!(search.outcome().unwrap_err().may_pass());

        let mut search = Search::default();
        let last = Lookup {
            is_last: true,
            ..Lookup::default()
        };
        search.take(last, Judgement::of_nothing());
        assert!(search.is_over());
        assert!(!search.outcome().unwrap_err().may_pass());

        search.fail();
        assert_eq!(search.outcome().unwrap_err().reason, Reason::Internal);
    }

    // rule: DISC-9
    #[test]
    fn the_checks_before_the_one_that_failed_were_passed() {
        let passed = |fault: Option<Fault>| {
            let verdict = Verdict {
                binding: None,
                fault,
            };
            verdict.passed().collect::<Vec<Check>>()
        };
        assert_eq!(passed(Some(Fault::Unreadable)), []);
        let three = [Check::Readable, Check::EndEntity, Check::Validity];
        assert_eq!(passed(Some(Fault::NotBound)), three);
        assert_eq!(passed(Some(revoked())), Check::ALL[..7]);
        assert_eq!(passed(None), Check::ALL);
    }
}
