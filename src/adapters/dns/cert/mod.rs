//! Certificates of an address from CERT records (RFC 4398; certificates.md section 4).

mod by_record;
mod records;

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{Name, RData, RecordType},
};
use tokio::time::Instant;

use self::records::{Answer, CertRecords, Known};
use super::{
    absence::{Absence, cause, negative_ttl},
    build,
    config::DnsConfig,
    settings, tcp_addresses,
};
use crate::{
    bridge::trust::CertificateCandidate,
    flows::{
        answer_cache::{AnswerCache, Answered},
        joined::Joined,
        measures,
        ports::{Clock, FindCertificates, Lookup, LookupStep},
    },
    formats::ids::{DirectAddress, DomainName},
};

/// After so long without an answer the same is asked by TCP as well (DNS-6): some middleboxes drop large answers, and
/// the resolver drops what it cannot decode.
const TCP_BESIDE_AFTER: Duration = Duration::from_secs(2);

/// Asks for CERT records, and remembers the answers as long as they stand.
pub struct CertQuestions {
    resolver: TokioResolver,
    by_record: by_record::Asker,
    cache: AnswerCache<Known>,
    under_way: Joined<String, Result<Known, String>>,
    clock: Arc<dyn Clock>,
}

/// Which name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// That of the address.
    Address,
    /// That of its domain.
    Domain,
}

/// One source of certificates: the names of addresses, or those of domains.
pub struct DnsCertificates {
    questions: Arc<CertQuestions>,
    level: Level,
}

impl CertQuestions {
    /// Asks as `config` says.
    ///
    /// # Errors
    /// The machine's own resolver settings are asked for and cannot be read.
    pub fn new(config: &DnsConfig, clock: Arc<dyn Clock>) -> Result<Self, NetError> {
        let (servers, mut options) = settings(config)?;
        let by_record = by_record::Asker {
            servers: tcp_addresses(&servers),
            timeout: config.timeout,
        };
        // Answers are kept here, by the one clock and with bounds of their own (DISC-6).
        options.cache_size = 0;
        Ok(Self {
            resolver: build(servers, options)?,
            by_record,
            cache: AnswerCache::default(),
            under_way: Joined::default(),
            clock,
        })
    }

    /// What is known of `name`, and whether it was known before. `Err` says in a few words why nobody can tell.
    async fn ask(self: &Arc<Self>, name: &Name) -> Result<(Known, bool), String> {
        let key = name.to_lowercase().to_ascii();
        if let Some(known) = self.cache.find(&key, self.clock.now()) {
            return Ok((known, true));
        }
        let ask = || {
            let (questions, name, key) = (Arc::clone(self), name.clone(), key.clone());
            async move {
                let answer = questions.ask_servers(&name).await?;
                let now = questions.clock.now();
                questions.cache.keep(key, &answer.known, answer.ttl, now);
                Ok(answer.known)
            }
        };
        let answer = self.under_way.ask(&key, ask).await;
        answer.as_ref().clone().map(|known| (known, false))
    }

    async fn ask_servers(&self, name: &Name) -> Result<Answer, String> {
        let mut by_resolver = pin!(self.ask_resolver(name));
        let first = tokio::time::timeout(TCP_BESIDE_AFTER, by_resolver.as_mut()).await;
        let by_record = self.by_record.ask(name);
        match first {
            Ok(Ok(answer)) => Ok(answer),
            // A server that fails hides others that would not, and one bad record a good one beside it.
            Ok(Err(cause)) => by_record.await.map_err(|_| cause),
            Err(_) => match select(by_resolver, pin!(by_record)).await {
                Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
                Either::Left((Err(cause), by_record)) => by_record.await.map_err(|_| cause),
                Either::Right((Err(_), by_resolver)) => by_resolver.await,
            },
        }
    }

    async fn ask_resolver(&self, name: &Name) -> Result<Answer, String> {
        let found = self.resolver.lookup(name.clone(), RecordType::CERT).await;
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(error) => return nothing(&error),
        };
        let mut records = CertRecords::default();
        let mut ttl = None::<u32>;
        for record in lookup.answers() {
            let counts = match &record.data {
                RData::CERT(cert) => {
                    records.take(cert.cert_type.into(), cert.cert_data.clone());
                    true
                }
                RData::CNAME(_) => true,
                _ => false,
            };
            if counts {
                ttl = Some(ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
            }
        }
        Ok(Answer {
            known: Known::Records(Arc::new(records.sorted())),
            ttl,
        })
    }
}

impl Answered for Known {
    fn bytes(&self) -> usize {
        self.certificates().iter().map(Vec::len).sum()
    }

    fn is_absence(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoRecord)
    }
}

/// What it means that the resolver found no record.
fn nothing(error: &NetError) -> Result<Answer, String> {
    let known = match Absence::of(error) {
        Absence::NoSuchName => Known::NoSuchName,
        Absence::NoData => Known::NoRecord,
        Absence::Unknown => return Err(cause(error)),
    };
    let ttl = negative_ttl(error);
    Ok(Answer { known, ttl })
}

impl DnsCertificates {
    /// The source of what is published for an address itself.
    pub fn of_addresses(questions: Arc<CertQuestions>) -> Self {
        let level = Level::Address;
        Self { questions, level }
    }

    /// The source of what is published for a whole domain.
    pub fn of_domains(questions: Arc<CertQuestions>) -> Self {
        let level = Level::Domain;
        Self { questions, level }
    }

    fn name_for(&self, owner: &DirectAddress) -> Option<Name> {
        match self.level {
            Level::Address => owner_name(owner),
            Level::Domain => domain_name(owner.domain()),
        }
    }
}

#[async_trait]
impl FindCertificates for DnsCertificates {
    fn question(&self, owner: &DirectAddress) -> String {
        match (self.name_for(owner), self.level) {
            (Some(name), _) => format!("DNS CERT {}.", plain(&name)),
            (None, Level::Address) => "DNS CERT of the address".to_owned(),
            (None, Level::Domain) => "DNS CERT of the domain".to_owned(),
        }
    }

    async fn find(&self, owner: &DirectAddress) -> Lookup {
        let begun = Instant::now();
        let question = self.question(owner);
        let step = |answer: String| {
            vec![LookupStep {
                question,
                answer,
                took: begun.elapsed(),
            }]
        };
        let Some(name) = self.name_for(owner) else {
            let answer = "not asked: it makes no DNS name of labels of 1 to 63 octets (DNS-2)";
            return Lookup {
                steps: step(answer.to_owned()),
                ..Lookup::default()
            };
        };
        let asked = self.questions.ask(&name).await;
        self.count(&asked);
        match asked {
            Ok((known, is_cached)) => {
                let from_cache = if is_cached { " (from the cache)" } else { "" };
                let origin = format!("dns {}", plain(&name));
                let candidates = known.certificates().iter().map(|der| CertificateCandidate {
                    der: der.clone(),
                    origin: origin.clone(),
                });
                Lookup {
                    candidates: candidates.collect(),
                    steps: step(format!("{known}{from_cache}")),
                    ..Lookup::default()
                }
            }
            Err(cause) => Lookup {
                steps: step(format!("no answer: {cause}")),
                is_transient: true,
                ..Lookup::default()
            },
        }
    }
}

impl DnsCertificates {
    fn count(&self, asked: &Result<(Known, bool), String>) {
        let name = match self.level {
            Level::Address => "address",
            Level::Domain => "domain",
        };
        let (answer, from) = match asked {
            Ok((known, is_cached)) => (
                if known.certificates().is_empty() {
                    "none"
                } else {
                    "certificates"
                },
                if *is_cached { "cache" } else { "servers" },
            ),
            Err(_) => ("failed", "servers"),
        };
        metrics::counter!(measures::CERT_QUERIES, "name" => name, "answer" => answer, "from" => from)
            .increment(1);
    }
}

/// The name as people write it, without the final dot: addresses and domains are ASCII, and hold nothing to be escaped.
fn plain(name: &Name) -> String {
    let labels = name.iter().map(String::from_utf8_lossy);
    labels.collect::<Vec<_>>().join(".")
}

/// The owner name of an address: the `@` becomes a dot, and the dots of the local part part labels like any other
/// (DNS-1). `None`: no such name can be asked for (DNS-2).
pub(super) fn owner_name(address: &DirectAddress) -> Option<Name> {
    let local = address.local().split('.');
    let domain = address.domain().as_str().split('.');
    // Raw octets: what is unusual in host names is legal in names of the DNS (RFC 2181 §11).
    Name::from_labels(local.chain(domain).map(str::as_bytes)).ok()
}

pub(super) fn domain_name(domain: &DomainName) -> Option<Name> {
    Name::from_labels(domain.as_str().split('.').map(str::as_bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: DNS-1
    #[test]
    fn the_at_sign_becomes_a_dot_and_the_dots_of_the_local_part_part_labels() {
        let name = |address: &str| owner_name(&address.parse().unwrap());
        let labels = |address: &str| name(address).unwrap().iter().count();
        let plain = name("john.doe@direct.b.example").unwrap();
        assert_eq!(plain.to_ascii(), "john.doe.direct.b.example.");
        assert_eq!(labels("john.doe@direct.b.example"), 5);
        assert!(plain.is_fqdn());
        let domain = domain_name(&"direct.b.example".parse().unwrap()).unwrap();
        assert_eq!(domain.to_ascii(), "direct.b.example.");
    }

    // rule: DNS-2
    #[test]
    fn unusual_characters_are_octets_of_a_label_and_what_makes_no_label_is_not_asked_for() {
        let name = |address: &str| owner_name(&address.parse().unwrap());
        let plus = name("a+b_c!=d@direct.b.example").unwrap();
        assert_eq!(plus.iter().next(), Some(&b"a+b_c!=d"[..]));
        let long = format!("{}@direct.b.example", "x".repeat(64));
        assert_eq!(name(&long), None);
        assert!(name(&long[1..]).is_some());
        let too_long = format!("{}@{}example", "x".repeat(60), "y23456789.".repeat(18));
        assert_eq!(too_long.len(), 60 + 1 + 187);
        assert!(name(&too_long).is_some());
    }
}
