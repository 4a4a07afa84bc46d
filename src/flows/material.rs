//! Fetches what judgements of certificates lack: issuers' certificates, revocation lists, OCSP answers. Within the time
//! that whoever waits has; what takes longer goes on without being waited for, and is there for the next one.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::{
    keyed::KeyedPlaces,
    ports::{Clock, Fetch, FetchBody, FetchRequest, Fetched, LookupStep},
};
use crate::{
    bridge::trust::{FetchedMaterial, MAX_FETCHES, Want, WantKey, Wants},
    formats::smime::ocsp,
};

/// Longest time of one fetch; the settings may allow less.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// Fetches into what is kept.
#[derive(Clone)]
pub struct Material {
    fetch: Arc<dyn Fetch>,
    kept: Arc<FetchedMaterial>,
    clock: Arc<dyn Clock>,
    /// One fetch at a time of one thing, however many wait for it.
    under_way: KeyedPlaces<WantKey>,
}

/// The fetches for one certificate or one message.
pub struct Errand {
    end: Instant,
    left: usize,
    steps: Vec<LookupStep>,
}

impl Errand {
    /// Nobody waits longer than until `end`.
    pub fn until(end: Instant) -> Self {
        Self {
            end,
            left: MAX_FETCHES,
            steps: Vec::new(),
        }
    }

    /// What was asked and answered.
    pub fn into_steps(self) -> Vec<LookupStep> {
        self.steps
    }
}

impl Material {
    /// Fetches by `fetch` into `kept`.
    pub fn new(fetch: Arc<dyn Fetch>, kept: Arc<FetchedMaterial>, clock: Arc<dyn Clock>) -> Self {
        Self {
            fetch,
            kept,
            clock,
            under_way: KeyedPlaces::new(1),
        }
    }

    /// Fetches what is wanted. True: more may be known than before, so what was judged should be judged anew.
    pub async fn get(&self, wants: &Wants, errand: &mut Errand) -> bool {
        let wanted: Vec<Want> = wants.iter().take(errand.left).cloned().collect();
        if wanted.is_empty() || Instant::now() >= errand.end {
            return false;
        }
        errand.left -= wanted.len();
        let end = errand.end;
        let steps = join_all(wanted.into_iter().map(|want| self.one(want, end))).await;
        errand.steps.extend(steps.into_iter().flatten());
        true
    }

    /// `None`: somebody else has fetched it meanwhile.
    async fn one(&self, want: Want, end: Instant) -> Option<LookupStep> {
        let begun = Instant::now();
        let question = question(&want);
        let step = |answer: String| {
            Some(LookupStep {
                question: question.clone(),
                answer,
                took: begun.elapsed(),
            })
        };
        let late = "no whole answer in time; it goes on being fetched";
        let Ok(place) = timeout_at(end, self.under_way.enter(&want.key())).await else {
            return step(late.to_owned());
        };
        if !self.kept.is_due(&want, self.clock.now()) {
            return None;
        }
        let this = self.clone();
        let fetching = tokio::spawn(async move {
            let answer = this.fetch(&want).await;
            drop(place);
            answer
        });
        match timeout_at(end, fetching).await {
            Ok(Ok(answer)) => step(answer),
            Ok(Err(_)) => step("the fetch panicked".to_owned()),
            Err(_) => step(late.to_owned()),
        }
    }

    /// What came of it, in words.
    async fn fetch(&self, want: &Want) -> String {
        let Some(request) = request(want) else {
            let why = "there can be no question about this certificate";
            self.kept.fail(want, why, false, self.clock.now());
            return why.to_owned();
        };
        match self.fetch.fetch(request).await {
            Ok(octets) => {
                let (kept, wanted, now) = (Arc::clone(&self.kept), want.clone(), self.clock.now());
                // A list of a million entries takes its time.
                let putting = tokio::task::spawn_blocking(move || kept.put(&wanted, &octets, now));
                match putting.await {
                    Ok(Ok(told)) => told,
                    Ok(Err(why)) => format!("of no use: {why}"),
                    Err(_) => {
                        let why = "reading it panicked";
                        self.kept.fail(want, why, false, self.clock.now());
                        why.to_owned()
                    }
                }
            }
            Err(error) => {
                let why = error.to_string();
                self.kept
                    .fail(want, &why, error.is_transient(), self.clock.now());
                format!("not fetched: {why}")
            }
        }
    }
}

/// Who is asked what, as a step names it.
fn question(want: &Want) -> String {
    let url = want.url();
    match want {
        Want::Issuer { .. } => format!("issuer's certificate {url}"),
        Want::Crl { .. } => format!("CRL {url}"),
        Want::Ocsp { .. } => format!("OCSP {url}"),
    }
}

fn request(want: &Want) -> Option<FetchRequest> {
    let (what, post) = match want {
        Want::Issuer { .. } => (Fetched::Issuer, None),
        Want::Crl { .. } => (Fetched::Crl, None),
        Want::Ocsp {
            certificate,
            issuer,
            ..
        } => {
            let post = FetchBody {
                content_type: "application/ocsp-request",
                octets: ocsp::question(certificate, issuer).ok()?,
            };
            (Fetched::Ocsp, Some(post))
        }
    };
    Some(FetchRequest {
        url: want.url().to_owned(),
        what,
        post,
        limit: FETCH_LIMIT,
    })
}
