//! The questions to the servers of a domain, one server after the other, and what is remembered of the answers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    MAIL,
    connection::{Connection, Found, MAX_ENTRIES, ServerFault},
    values::{Values, WANTED},
};
use crate::{
    bridge::network::{Network, may_connect},
    flows::{
        answer_cache::{AnswerCache, Answered},
        joined::Joined,
        ports::{
            Clock, FindAddresses, FindLdapServers, LdapServer, LdapServers, LookupStep, NoAddresses,
        },
    },
    formats::{
        ids::DomainName,
        ldap::{Filter, Scope, Search},
    },
};

/// Most bases of one server that are searched; most have one.
const MAX_BASES: usize = 10;
/// Longest name of a base, in octets.
const MAX_BASE_BYTES: usize = 1_024;
/// Seconds for which certificates are kept where the DNS does not say how long the server is the domain's (DISC-6).
const CERTIFICATES_STAND: u32 = 3_600;
/// Seconds for which it is kept that there are none.
const ABSENCE_STANDS: u32 = 600;
/// Seconds for which a domain whose servers have all failed is not asked again: the search for its domain's certificate,
/// and the next message, need not wait in vain once more.
const FAILURE_STANDS: u32 = 30;

/// How servers are asked.
#[derive(Clone, Debug)]
pub struct LdapSettings {
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the whole answer to one question.
    pub timeout: Duration,
    /// Networks that may be connected to though they are not public.
    pub permit: Vec<Network>,
}

/// Asks the LDAP servers of domains, and remembers the answers as long as they stand.
pub struct LdapQuestions {
    dns: Arc<dyn FindLdapServers>,
    hosts: Arc<dyn FindAddresses>,
    settings: LdapSettings,
    clock: Arc<dyn Clock>,
    servers: AnswerCache<Arc<LdapServers>>,
    certificates: AnswerCache<Kept>,
    /// Domains whose servers have all failed a moment ago.
    failures: AnswerCache<Failed>,
    under_way: Joined<String, Told>,
}

/// What is told of one question.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// What was asked and answered.
    pub(super) steps: Vec<LookupStep>,
    /// What was found; `None`: nobody can tell.
    pub(super) certificates: Option<Arc<[Vec<u8>]>>,
    /// Who has answered.
    pub(super) server: String,
    /// Whether nobody was asked.
    pub(super) is_from_memory: bool,
}

#[derive(Clone)]
struct Kept {
    certificates: Arc<[Vec<u8>]>,
    server: Arc<str>,
    told: Arc<str>,
}

impl Answered for Kept {
    fn bytes(&self) -> usize {
        self.certificates.iter().map(Vec::len).sum()
    }

    fn is_absence(&self) -> bool {
        self.certificates.is_empty()
    }
}

impl Answered for Arc<LdapServers> {
    fn bytes(&self) -> usize {
        0
    }

    fn is_absence(&self) -> bool {
        self.servers.is_empty()
    }
}

#[derive(Clone)]
struct Failed;

impl Answered for Failed {
    fn bytes(&self) -> usize {
        0
    }

    fn is_absence(&self) -> bool {
        true
    }
}

/// What becomes of one server.
enum Asked {
    Answered(Values),
    /// It cannot be asked, and that is sure: it has no address, or none that may be connected to.
    Forbidden,
    Failed,
}

/// What the servers of `domain` are asked about `mail`, as a step names it.
pub(super) fn question(domain: &DomainName, mail: &str) -> String {
    format!("LDAP {} of {domain}", Filter::Equal(MAIL, mail))
}

impl LdapQuestions {
    /// Finds servers by `dns`, and their addresses by `hosts`.
    pub fn new(
        dns: Arc<dyn FindLdapServers>,
        hosts: Arc<dyn FindAddresses>,
        settings: LdapSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            dns,
            hosts,
            settings,
            clock,
            servers: AnswerCache::default(),
            certificates: AnswerCache::default(),
            failures: AnswerCache::default(),
            under_way: Joined::default(),
        }
    }

    /// The certificates of the entries whose `mail` is the address or domain `mail`.
    pub(super) async fn ask(self: &Arc<Self>, domain: &DomainName, mail: &str) -> Arc<Told> {
        if let Some(told) = self.remember(domain, mail) {
            return Arc::new(told);
        }
        let key = mail.to_owned();
        let ask = || {
            let (questions, domain, mail) = (Arc::clone(self), domain.clone(), key.clone());
            async move { questions.ask_servers(&domain, &mail).await }
        };
        self.under_way.ask(&key, ask).await
    }

    fn remember(&self, domain: &DomainName, mail: &str) -> Option<Told> {
        let now = self.clock.now();
        let step = |answer: String| {
            vec![LookupStep {
                question: question(domain, mail),
                answer,
                took: Duration::ZERO,
            }]
        };
        if let Some(kept) = self.certificates.find(mail, now) {
            return Some(Told {
                steps: step(format!("{} (from the cache)", kept.told)),
                certificates: Some(kept.certificates),
                server: kept.server.to_string(),
                is_from_memory: true,
            });
        }
        self.failures.find(domain.as_str(), now)?;
        let answer =
            format!("no answer: none of its servers answered within the last {FAILURE_STANDS} s");
        Some(Told {
            steps: step(answer),
            certificates: None,
            server: String::new(),
            is_from_memory: true,
        })
    }

    async fn ask_servers(&self, domain: &DomainName, mail: &str) -> Told {
        let mut steps = Steps::default();
        let found = self.find_servers(domain, &mut steps).await;
        let none: Arc<[Vec<u8>]> = Arc::default();
        let Some(found) = found else {
            return steps.told(None, String::new());
        };
        let mut has_failed = false;
        for server in &found.servers {
            let name = format!("{}:{}", server.host, server.port);
            match self.ask_server(server, &name, mail, &mut steps).await {
                Asked::Answered(values) => {
                    let kept = Kept {
                        told: values.to_string().into(),
                        certificates: values.certificates.into(),
                        server: name.as_str().into(),
                    };
                    let (stands, longest) = if kept.is_absence() {
                        (ABSENCE_STANDS, ABSENCE_STANDS)
                    } else {
                        (found.ttl.unwrap_or(CERTIFICATES_STAND), CERTIFICATES_STAND)
                    };
                    let stands = Some(stands.min(longest));
                    let now = self.clock.now();
                    self.certificates.keep(mail.to_owned(), &kept, stands, now);
                    return steps.told(Some(kept.certificates), name);
                }
                Asked::Forbidden => {}
                Asked::Failed => has_failed = true,
            }
        }
        if !has_failed {
            return steps.told(Some(none), String::new());
        }
        let key = domain.as_str().to_owned();
        let stands = Some(FAILURE_STANDS);
        self.failures.keep(key, &Failed, stands, self.clock.now());
        steps.told(None, String::new())
    }

    /// `None`: nobody can tell.
    async fn find_servers(
        &self,
        domain: &DomainName,
        steps: &mut Steps,
    ) -> Option<Arc<LdapServers>> {
        let begun = Instant::now();
        let question = format!("DNS SRV _ldap._tcp.{domain}.");
        if let Some(known) = self.servers.find(domain.as_str(), self.clock.now()) {
            let told = format!("{} (from the cache)", known.told);
            steps.add(question, told, begun);
            return Some(known);
        }
        match self.dns.servers(domain).await {
            Ok(servers) => {
                steps.add(question, servers.told.clone(), begun);
                let servers = Arc::new(servers);
                let key = domain.as_str().to_owned();
                let now = self.clock.now();
                self.servers.keep(key, &servers, servers.ttl, now);
                Some(servers)
            }
            Err(cause) => {
                steps.add(question, format!("no answer: {cause}"), begun);
                None
            }
        }
    }

    async fn ask_server(
        &self,
        server: &LdapServer,
        name: &str,
        mail: &str,
        steps: &mut Steps,
    ) -> Asked {
        let begun = Instant::now();
        let question = format!("LDAP {name}");
        let addresses = match self.hosts.addresses(server.host.as_str()).await {
            Ok(addresses) => addresses,
            Err(cause) => {
                steps.add(question, format!("no answer: {cause}"), begun);
                return match cause {
                    NoAddresses::None => Asked::Forbidden,
                    NoAddresses::Transient { .. } => Asked::Failed,
                };
            }
        };
        let permit = &self.settings.permit;
        let (may, not) = addresses
            .into_iter()
            .partition::<Vec<_>, _>(|address| may_connect(*address, permit));
        if may.is_empty() {
            let address = not.first().map(ToString::to_string).unwrap_or_default();
            let answer = format!(
                "not asked: {address} is no public address, and discovery.ldap_permit lacks it (T-14)"
            );
            steps.add(question, answer, begun);
            return Asked::Forbidden;
        }
        let addresses = may.into_iter();
        let addresses = addresses.map(|address| SocketAddr::new(address, server.port));
        let (connect_timeout, timeout) = (self.settings.connect_timeout, self.settings.timeout);
        let addresses: Vec<SocketAddr> = addresses.collect();
        match Connection::open(&addresses, connect_timeout, timeout).await {
            Ok(mut connection) => {
                let values = self.search(&mut connection, name, mail, steps).await;
                connection.close().await;
                values.map_or(Asked::Failed, Asked::Answered)
            }
            Err(fault) => {
                steps.add(question, no_answer(&fault), begun);
                Asked::Failed
            }
        }
    }

    /// Searches every base of a server. `None`: it is of no use.
    async fn search(
        &self,
        connection: &mut Connection,
        name: &str,
        mail: &str,
        steps: &mut Steps,
    ) -> Option<Values> {
        let begun = Instant::now();
        let root = Search {
            base: "",
            scope: Scope::Base,
            max_entries: u32::try_from(MAX_ENTRIES).unwrap_or(u32::MAX),
            max_seconds: u32::try_from(self.settings.timeout.as_secs())
                .unwrap_or(u32::MAX)
                .max(1),
            filter: Filter::Present("objectClass"),
            attributes: &["namingContexts"],
        };
        let question = format!("LDAP {name} namingContexts");
        let bases = match connection.search(&root).await {
            Ok(found) => bases(&found),
            Err(fault) => {
                steps.add(question, no_answer(&fault), begun);
                return None;
            }
        };
        if bases.is_empty() {
            let answer = "no answer: it names no base to search (LDAP-5)";
            steps.add(question, answer.to_owned(), begun);
            return None;
        }
        steps.add(question, told_bases(&bases), begun);
        let mut values = Values::default();
        for base in bases.iter().take(MAX_BASES) {
            let begun = Instant::now();
            let filter = Filter::Equal(MAIL, mail);
            let question = format!("LDAP {name} {} {filter}", base.escape_debug());
            let search = Search {
                base,
                scope: Scope::Subtree,
                filter,
                attributes: &WANTED,
                ..root
            };
            match connection.search(&search).await {
                Ok(found) => {
                    let mut of_base = Values::default();
                    of_base.take(&found.entries);
                    steps.add(question, told_found(&found, &of_base), begun);
                    values.take(&found.entries);
                }
                Err(fault) => {
                    steps.add(question, no_answer(&fault), begun);
                    return None;
                }
            }
        }
        Some(values)
    }
}

fn no_answer(fault: &ServerFault) -> String {
    format!("no answer: {fault}")
}

/// The bases of a server, as its own entry names them (LDAP-5).
fn bases(found: &Found) -> Vec<String> {
    let attributes = found.entries.iter().flat_map(|entry| &entry.attributes);
    let named =
        attributes.filter(|attribute| attribute.description.eq_ignore_ascii_case("namingContexts"));
    let values = named.flat_map(|attribute| &attribute.values);
    let values = values.filter(|value| value.len() <= MAX_BASE_BYTES);
    values
        .filter_map(|value| String::from_utf8(value.clone()).ok())
        .collect()
}

fn told_bases(bases: &[String]) -> String {
    let shown = bases.iter().take(MAX_BASES);
    let shown: Vec<String> = shown.map(|base| base.escape_debug().to_string()).collect();
    let shown = shown.join("; ");
    match bases.len().saturating_sub(MAX_BASES) {
        0 => shown,
        more => format!("{shown}; {more} more, which are not searched"),
    }
}

fn told_found(found: &Found, values: &Values) -> String {
    let mut told = values.to_string();
    if found.is_cut_short {
        told.push_str("; the server has more than it may send");
    }
    match found.references {
        0 => told,
        1 => told + "; 1 reference to another server, which is not followed (LDAP-10)",
        count => {
            format!("{told}; {count} references to other servers, which are not followed (LDAP-10)")
        }
    }
}

/// What was asked and answered so far.
#[derive(Default)]
struct Steps(Vec<LookupStep>);

impl Steps {
    fn add(&mut self, question: String, answer: String, begun: Instant) {
        self.0.push(LookupStep {
            question,
            answer,
            took: begun.elapsed(),
        });
    }

    fn told(self, certificates: Option<Arc<[Vec<u8>]>>, server: String) -> Told {
        Told {
            steps: self.0,
            certificates,
            server,
            is_from_memory: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ldap::{Attribute, Entry};

    // rule: LDAP-5
    #[test]
    fn every_value_of_naming_contexts_is_a_base_in_whatever_case_it_is_written() {
        let attribute = |description: &str, values: &[&[u8]]| Attribute {
            description: description.to_owned(),
            values: values.iter().map(|value| value.to_vec()).collect(),
        };
        let entry = Entry {
            attributes: vec![
                attribute("NAMINGCONTEXTS", &[b"dc=a", b"", b"\xff", &[b'x'; 1_025]]),
                attribute("subschemaSubentry", &[b"cn=Subschema"]),
            ],
        };
        let found = Found {
            entries: vec![entry],
            ..Found::default()
        };
        assert_eq!(bases(&found), ["dc=a", ""]);
        let many: Vec<String> = (0..12).map(|n| format!("dc={n}")).collect();
        assert!(told_bases(&many).ends_with("dc=9; 2 more, which are not searched"));
        assert_eq!(told_bases(&["o=\u{1b}[2J".to_owned()]), "o=\\u{1b}[2J");
    }
}
