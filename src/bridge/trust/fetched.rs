//! What was fetched from the URLs in certificates: issuers' certificates (AIA), revocation lists and OCSP answers. A
//! judgement says what it lacks; whoever fetches puts it here, where it is read, verified and kept for a while.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use openssl::{
    sha::Sha256,
    x509::{X509, X509Ref},
};

use super::revocation::{has_begun, is_crl_of};
use crate::formats::{
    ids::CertificateFingerprint,
    smime::{
        certificate,
        certs_only::certificates,
        crl::Crl,
        ocsp::{OcspAnswer, OcspStatus},
    },
};

/// Most fetches for one certificate, or for one message (TA-7).
pub const MAX_FETCHES: usize = 10;
/// Most certificates of one AIA URL.
const MAX_ISSUERS: usize = 20;
/// How long an issuer's certificate is kept before it is fetched anew.
const ISSUERS_STAND: SignedDuration = SignedDuration::from_hours(24);
/// How long a revocation list or an OCSP answer is gone by before a newer one is asked for, if it is in date for so long.
const STATUS_STANDS: SignedDuration = SignedDuration::from_hours(1);
/// How long an OCSP answer without nextUpdate is in date.
const WITHOUT_NEXT_UPDATE: SignedDuration = SignedDuration::from_hours(1);
/// Before something is asked for again that could not be had, and may pass.
const AFTER_TRANSIENT: SignedDuration = SignedDuration::from_secs(60);
/// The same for what will hardly pass.
const AFTER_PERMANENT: SignedDuration = SignedDuration::from_mins(10);
/// Most URLs of issuers that are remembered, and octets of what they gave.
const ISSUERS_KEPT: Bounds = Bounds {
    entries: 1_000,
    octets: 8 * 1024 * 1024,
};
/// The same for revocation lists.
const CRLS_KEPT: Bounds = Bounds {
    entries: 200,
    octets: 64 * 1024 * 1024,
};
/// The same for OCSP answers.
const ANSWERS_KEPT: Bounds = Bounds {
    entries: 10_000,
    octets: 8 * 1024 * 1024,
};

/// What a judgement lacks, and a fetch may give.
#[derive(Clone)]
pub enum Want {
    /// The certificate of an issuer.
    Issuer {
        /// Where a certificate says that its issuer's is (AIA caIssuers).
        url: String,
    },
    /// The revocation list of `issuer`.
    Crl {
        /// Where a certificate says that it is.
        url: String,
        /// Who must have signed it.
        issuer: X509,
    },
    /// What a responder says of `certificate`.
    Ocsp {
        /// The responder.
        url: String,
        /// Of which certificate.
        certificate: X509,
        /// Who issued that.
        issuer: X509,
    },
}

/// By what something wanted is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WantKey([u8; 32]);

impl Want {
    /// From where.
    pub fn url(&self) -> &str {
        match self {
            Self::Issuer { url } | Self::Crl { url, .. } | Self::Ocsp { url, .. } => url,
        }
    }

    /// By what it is known: an answer is kept for the issuer whose signature on it was verified.
    pub fn key(&self) -> WantKey {
        match self {
            Self::Issuer { url } => key(1, url, &[]),
            Self::Crl { url, issuer } => key(2, url, &[issuer]),
            Self::Ocsp {
                url,
                certificate,
                issuer,
            } => key(3, url, &[certificate, issuer]),
        }
    }
}

fn key(kind: u8, url: &str, certificates: &[&X509Ref]) -> WantKey {
    let mut sha = Sha256::new();
    sha.update(&[kind]);
    for certificate in certificates {
        let der = certificate.to_der().unwrap_or_default();
        sha.update(CertificateFingerprint::of_der(&der).to_string().as_bytes());
    }
    sha.update(url.as_bytes());
    WantKey(sha.finish())
}

impl fmt::Debug for Want {
    /// The URL may hold anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issuer { .. } => "Issuer",
            Self::Crl { .. } => "Crl",
            Self::Ocsp { .. } => "Ocsp",
        })
    }
}

/// All that a judgement lacks, each once, [`MAX_FETCHES`] at the most.
#[derive(Clone, Debug, Default)]
pub struct Wants(Vec<Want>);

impl Wants {
    /// Adds one, unless it is there or there is no room.
    pub fn add(&mut self, want: Want) {
        let key = want.key();
        if self.0.len() < MAX_FETCHES && self.0.iter().all(|known| known.key() != key) {
            self.0.push(want);
        }
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Self) {
        for want in others.0 {
            self.add(want);
        }
    }

    /// Forgets the issuers: the path is whole without them.
    pub(super) fn forget_issuers(&mut self) {
        self.0.retain(|want| !matches!(want, Want::Issuer { .. }));
    }

    /// Whether nothing is lacking.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Want> {
        self.0.iter()
    }
}

/// Why something could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// In words, without the URL.
    pub(super) why: Arc<str>,
    /// Whether it may be had at another time.
    pub(super) is_transient: bool,
    /// Since when, without success in between.
    pub(super) since: Timestamp,
}

/// What is known of something wanted.
#[derive(Clone, Debug)]
pub(super) struct Known<V> {
    /// The last that was had. A list may be out of date.
    pub(super) value: Option<V>,
    /// Why there is no newer one, if the last fetch gave none.
    pub(super) lack: Option<Lack>,
    /// Whether it is time to ask for it.
    pub(super) is_due: bool,
}

/// Which kinds are fetched at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetches {
    /// Issuers' certificates.
    pub issuers: bool,
    /// Revocation lists and OCSP answers.
    pub revocation: bool,
}

/// All that was fetched, and is kept.
pub struct FetchedMaterial {
    kinds: Fetches,
    issuers: Shelf<Arc<[X509]>>,
    crls: Shelf<Arc<Crl>>,
    answers: Shelf<OcspAnswer>,
}

impl fmt::Debug for FetchedMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedMaterial")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// A revocation list that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchedCrl {
    /// From where.
    pub url: String,
    /// Until when it is in date.
    pub next_update: Timestamp,
}

impl FetchedMaterial {
    /// Nothing yet; what is not of these `kinds` is never wanted.
    pub fn new(kinds: Fetches) -> Self {
        Self {
            kinds,
            issuers: Shelf::new(ISSUERS_KEPT),
            crls: Shelf::new(CRLS_KEPT),
            answers: Shelf::new(ANSWERS_KEPT),
        }
    }

    pub(super) fn fetches_issuers(&self) -> bool {
        self.kinds.issuers
    }

    pub(super) fn fetches_revocation(&self) -> bool {
        self.kinds.revocation
    }

    pub(super) fn issuers(&self, want: &Want, now: Timestamp) -> Known<Arc<[X509]>> {
        self.issuers.get(want.key(), now)
    }

    pub(super) fn crl(&self, want: &Want, now: Timestamp) -> Known<Arc<Crl>> {
        self.crls.get(want.key(), now)
    }

    pub(super) fn answer(&self, want: &Want, now: Timestamp) -> Known<OcspAnswer> {
        self.answers.get(want.key(), now)
    }

    /// Whether it is time to ask for it: nobody has meanwhile.
    pub fn is_due(&self, want: &Want, now: Timestamp) -> bool {
        let key = want.key();
        match want {
            Want::Issuer { .. } => self.issuers.get(key, now).is_due,
            Want::Crl { .. } => self.crls.get(key, now).is_due,
            Want::Ocsp { .. } => self.answers.get(key, now).is_due,
        }
    }

    /// The lists that are kept, for measures.
    pub fn crls(&self) -> Vec<FetchedCrl> {
        let mut crls = self.crls.values(|entry| {
            Some(FetchedCrl {
                url: entry.url.clone(),
                next_update: entry.value.as_ref()?.next_update(),
            })
        });
        crls.sort();
        // Of one URL the first to become stale.
        crls.dedup_by(|later, first| later.url == first.url);
        crls
    }

    /// Takes note that it could not be had.
    pub fn fail(&self, want: &Want, why: &str, is_transient: bool, now: Timestamp) {
        let lack = (why, is_transient);
        match want {
            Want::Issuer { .. } => self.issuers.fail(want, lack, now),
            Want::Crl { .. } => self.crls.fail(want, lack, now),
            Want::Ocsp { .. } => self.answers.fail(want, lack, now),
        }
    }

    /// Reads and verifies what was fetched, and keeps it. What came of it, in words: `Err` if it is of no use.
    pub fn put(&self, want: &Want, octets: &[u8], now: Timestamp) -> Result<String, String> {
        let put = match want {
            Want::Issuer { .. } => self.put_issuers(want, octets, now),
            Want::Crl { issuer, .. } => self.put_crl(want, octets, issuer, now),
            Want::Ocsp {
                certificate,
                issuer,
                ..
            } => self.put_answer(want, octets, (certificate, issuer), now),
        };
        if let Err(why) = &put {
            // A server that gives something else now may be mended.
            self.fail(want, why, false, now);
        }
        put
    }

    fn put_issuers(&self, want: &Want, octets: &[u8], now: Timestamp) -> Result<String, String> {
        let found = certificates(octets, MAX_ISSUERS).map_err(|fault| fault.to_string())?;
        // Whoever signs certificates is a CA.
        let cas: Arc<[X509]> = found
            .into_iter()
            .filter(|one| certificate::is_ca(one))
            .collect();
        let count = cas.len();
        if count == 0 {
            return Err("no CA's certificate in it (TA-9)".to_owned());
        }
        self.issuers
            .put(want, cas, octets.len(), add(now, ISSUERS_STAND), now);
        Ok(match count {
            1 => "1 CA certificate".to_owned(),
            count => format!("{count} CA certificates"),
        })
    }

    fn put_crl(
        &self,
        want: &Want,
        octets: &[u8],
        issuer: &X509,
        now: Timestamp,
    ) -> Result<String, String> {
        let crl = Crl::from_der(octets).map_err(|fault| fault.to_string())?;
        if !is_crl_of(&crl, issuer) {
            return Err("the CRL is not signed by the certificate's issuer (REV-2)".to_owned());
        }
        if !has_begun(&crl, now) {
            return Err("the CRL is of the future (REV-2)".to_owned());
        }
        if crl.next_update() <= now {
            return Err("the CRL is past its nextUpdate (REV-2)".to_owned());
        }
        // An older one would make those good again who were revoked since.
        let before = self.crls.get(want.key(), now).value;
        if before.is_some_and(|before| crl.is_older_than(&before)) {
            return Err("the CRL is older than the one that was fetched before (REV-2)".to_owned());
        }
        let due = add(now, STATUS_STANDS).min(crl.next_update());
        let told = format!(
            "a CRL with {} entries, in date until {}",
            crl.revoked(),
            crl.next_update()
        );
        self.crls.put(want, Arc::new(crl), octets.len(), due, now);
        Ok(told)
    }

    fn put_answer(
        &self,
        want: &Want,
        octets: &[u8],
        (certificate, issuer): (&X509, &X509),
        now: Timestamp,
    ) -> Result<String, String> {
        let answer = OcspAnswer::read(octets, certificate, issuer, now)
            .map_err(|fault| fault.to_string())?;
        if !super::revocation::has_started(answer.this_update, now) {
            return Err("the OCSP answer is of the future (REV-3)".to_owned());
        }
        let end = end_of(&answer);
        if end <= now {
            return Err("the OCSP answer is past its nextUpdate (REV-3)".to_owned());
        }
        let before = self.answers.get(want.key(), now).value;
        if before.is_some_and(|before| answer.is_older_than(&before)) {
            let why = "the OCSP answer is older than the one that was fetched before (REV-3)";
            return Err(why.to_owned());
        }
        let due = add(now, STATUS_STANDS).min(end);
        self.answers.put(want, answer, octets.len(), due, now);
        let said = match answer.status {
            OcspStatus::Good => "good",
            OcspStatus::Revoked => "revoked",
            OcspStatus::Unknown => "unknown",
        };
        Ok(format!("OCSP: {said}, in date until {end}"))
    }
}

/// Until when an answer is in date.
pub(super) fn end_of(answer: &OcspAnswer) -> Timestamp {
    let without = || add(answer.this_update, WITHOUT_NEXT_UPDATE);
    answer.next_update.unwrap_or_else(without)
}

fn add(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// How much is kept.
#[derive(Clone, Copy)]
struct Bounds {
    entries: usize,
    octets: usize,
}

/// What was fetched of one kind. What is oldest gives way.
struct Shelf<V> {
    bounds: Bounds,
    entries: Mutex<HashMap<WantKey, Entry<V>>>,
}

struct Entry<V> {
    url: String,
    value: Option<V>,
    octets: usize,
    lack: Option<Lack>,
    /// When it is asked for anew.
    due: Timestamp,
    /// When it was last tried.
    tried: Timestamp,
}

impl<V: Clone> Shelf<V> {
    fn new(bounds: Bounds) -> Self {
        let entries = Mutex::default();
        Self { bounds, entries }
    }

    fn get(&self, key: WantKey, now: Timestamp) -> Known<V> {
        let entries = self.lock();
        match entries.get(&key) {
            Some(entry) => Known {
                value: entry.value.clone(),
                lack: entry.lack.clone(),
                is_due: entry.due <= now,
            },
            None => Known {
                value: None,
                lack: None,
                is_due: true,
            },
        }
    }

    fn put(&self, want: &Want, value: V, octets: usize, due: Timestamp, now: Timestamp) {
        let entry = Entry {
            url: want.url().to_owned(),
            value: Some(value),
            octets,
            lack: None,
            due,
            tried: now,
        };
        self.insert(want.key(), entry);
    }

    /// Keeps the value that there was.
    fn fail(&self, want: &Want, (why, is_transient): (&str, bool), now: Timestamp) {
        let key = want.key();
        let before = self.lock().remove(&key);
        let (value, octets, lack) = match before {
            Some(before) => (before.value, before.octets, before.lack),
            None => (None, 0, None),
        };
        let pause = if is_transient {
            AFTER_TRANSIENT
        } else {
            AFTER_PERMANENT
        };
        let entry = Entry {
            url: want.url().to_owned(),
            value,
            octets,
            lack: Some(Lack {
                why: why.into(),
                is_transient,
                since: lack.map_or(now, |lack| lack.since),
            }),
            due: add(now, pause),
            tried: now,
        };
        self.insert(key, entry);
    }

    fn insert(&self, key: WantKey, entry: Entry<V>) {
        let mut entries = self.lock();
        entries.insert(key, entry);
        let octets = |entries: &HashMap<WantKey, Entry<V>>| -> usize {
            entries
                .values()
                .map(|entry| entry.octets + entry.url.len())
                .sum()
        };
        while entries.len() > self.bounds.entries || octets(&entries) > self.bounds.octets {
            let others = entries.iter().filter(|(other, _)| **other != key);
            let oldest = others.min_by_key(|(_, entry)| entry.tried);
            let Some(oldest) = oldest.map(|(key, _)| *key) else {
                break;
            };
            entries.remove(&oldest);
        }
    }

    fn values<T>(&self, of: impl Fn(&Entry<V>) -> Option<T>) -> Vec<T> {
        self.lock().values().filter_map(of).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WantKey, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn want(url: &str) -> Want {
        let url = url.to_owned();
        Want::Issuer { url }
    }

    fn shelf(entries: usize, octets: usize) -> Shelf<u8> {
        Shelf::new(Bounds { entries, octets })
    }

    // rule: TA-7
    #[test]
    fn what_fails_keeps_what_there_was_and_is_asked_for_again_after_a_while() {
        let shelf = shelf(10, 1_000);
        let (a, key) = (want("a"), want("a").key());
        assert!(shelf.get(key, at(0)).is_due);
        shelf.fail(&a, ("no", true), at(0));
        let known = shelf.get(key, at(59));
        assert!(known.value.is_none() && !known.is_due);
        assert!(shelf.get(key, at(60)).is_due);
        shelf.fail(&a, ("never", false), at(60));
        assert!(!shelf.get(key, at(659)).is_due);
        let lack = shelf.get(key, at(660)).lack.unwrap();
        assert_eq!((lack.since, &*lack.why), (at(0), "never"));
        shelf.put(&a, 7, 1, at(700), at(660));
        let known = shelf.get(key, at(699));
        assert!(known.lack.is_none() && !known.is_due);
        shelf.fail(&a, ("no", true), at(700));
        let known = shelf.get(key, at(700));
        assert_eq!((known.value, known.lack.unwrap().since), (Some(7), at(700)));
    }

    // rule: TA-7
    #[test]
    fn what_is_oldest_gives_way_when_there_are_too_many_or_they_are_too_large() {
        let is_kept =
            |shelf: &Shelf<u8>, url: &str| shelf.get(want(url).key(), at(9)).value.is_some();
        let few = shelf(2, 1_000);
        for (time, url) in ["a", "b", "c"].into_iter().enumerate() {
            few.put(&want(url), 1, 1, at(100), at(i64::try_from(time).unwrap()));
        }
        assert_eq!(
            ["a", "b", "c"].map(|url| is_kept(&few, url)),
            [false, true, true]
        );
        let small = shelf(10, 100);
        small.put(&want("a"), 1, 60, at(100), at(0));
        small.put(&want("b"), 1, 60, at(100), at(1));
        assert_eq!(["a", "b"].map(|url| is_kept(&small, url)), [false, true]);
    }

    // rule: TA-7
    #[test]
    fn so_much_is_wanted_at_once_and_no_more_and_nothing_twice() {
        let mut wants = Wants::default();
        for number in 0..2 * MAX_FETCHES {
            wants.add(want(&format!("http://ca.example/{}", number / 2)));
        }
        assert_eq!(wants.iter().count(), MAX_FETCHES);
        wants.add(want("http://ca.example/more"));
        assert_eq!(wants.iter().count(), MAX_FETCHES);
    }
}
