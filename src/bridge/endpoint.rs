//! The XDR systems that mail is posted to: which one serves an address, and what a sender's domain is called as a source.

use std::collections::BTreeMap;

use openssl::sha::sha256;
use serde::{Deserialize, Serialize};

use super::{partner::AddressPattern, to_xdr::EndpointPolicy};
use crate::formats::{
    ids::{DirectAddress, DomainName, Oid},
    soap::{NHIN_REQUEST_ACTION, Packaging, REQUEST_ACTION},
};

/// Stands in `serves` for every address that no other endpoint serves.
const EVERYBODY: &str = "*";
/// Longest OID of the bridge, in octets: 64 in all, less a dot and the 20 digits of the number below it.
const MAX_GATEWAY_OID_BYTES: usize = 43;
/// Longest name of an endpoint, in octets.
const MAX_NAME_BYTES: usize = 64;

/// One XDR system that mail is posted to: `[[endpoint]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointConfig {
    /// Its name in logs, metrics and the audit: letters, digits, `-` and `_`, such as `"harbor"`. No default.
    pub name: String,
    /// Where it takes ITI-41, such as `"https://xdr.harbor.example/xdr"`. No default; always https.
    pub url: String,
    /// Whose mail it gets: addresses, whole domains, or `"*"` for everybody whom no other endpoint serves, such as
    /// `["direct.harbor.example", "intake@direct.elm.example"]`. No default. An address goes before its domain. What a
    /// partner of this bridge submits for them comes here as well, without mail (MR-5).
    pub serves: Vec<String>,
    /// Whether it knows a submission that it has had: then a post whose answer was lost is repeated. Default false: its
    /// sender is told that the submission may have been stored (mdn.md section 9).
    pub idempotent: bool,
    /// Whether its Success means only that it took the submission over, and a messageDisposition tells later what became
    /// of it. Default false (COR-5).
    pub final_by_disposition: bool,
    /// The `[[partner]]` that speaks for it: deferred responses and dispositions count only when they come with that
    /// partner's client certificate, such as `"harbor"`. Default: none, so that nothing it says later counts; needed with
    /// `final_by_disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partner: Option<String>,
    /// How requests are packaged: `"mtom"` or `"simple"`. Default `"mtom"` (SOAP-10).
    pub packaging: RequestPackaging,
    /// Which wsa:Action they have: `"ihe"` or `"nhin"`. Default `"ihe"` (NHIN-20).
    pub action: RequestAction,
    /// What it takes, and what is done where a mail has less: `[endpoint.policy]`.
    pub policy: EndpointPolicy,
}

/// How requests are packaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestPackaging {
    /// MTOM, a part for each document.
    #[default]
    Mtom,
    /// A SOAP envelope with the documents in base64.
    Simple,
}

impl RequestPackaging {
    /// The same in the words of the format.
    pub fn packaging(self) -> Packaging {
        match self {
            Self::Mtom => Packaging::Mtom,
            Self::Simple => Packaging::SimpleSoap,
        }
    }
}

/// Which wsa:Action requests have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestAction {
    /// That of ITI-41.
    #[default]
    Ihe,
    /// That of the NHIN specification.
    Nhin,
}

impl RequestAction {
    /// The Action's URI.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Ihe => REQUEST_ACTION,
            Self::Nhin => NHIN_REQUEST_ACTION,
        }
    }
}

/// What the senders of mail are called as sources of documents: `[sources]` (MD-119).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourcesConfig {
    /// The OID of this bridge, such as `"2.999.1"`; the sourceId of a domain that is not listed is made below it. No
    /// default; needed as soon as there is an endpoint, or a partner with a `status_endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_oid: Option<Oid>,
    /// The sourceIds of domains that have one, such as `{ "hisp.example" = "2.999.7" }`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub domains: BTreeMap<DomainName, Oid>,
}

/// An endpoint of the configuration, its values read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdrEndpoint {
    /// Its name.
    pub name: String,
    /// Where it takes ITI-41.
    pub url: String,
    /// Whether a post whose answer was lost is repeated.
    pub idempotent: bool,
    /// Whether a disposition tells later what became of a submission.
    pub final_by_disposition: bool,
    /// The partner that speaks for it.
    pub partner: Option<String>,
    /// How requests are packaged.
    pub packaging: Packaging,
    /// The wsa:Action.
    pub action: &'static str,
    /// What it takes.
    pub policy: EndpointPolicy,
}

/// Every endpoint, and whom each serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdrEndpoints {
    all: Vec<XdrEndpoint>,
    served: Vec<(AddressPattern, usize)>,
    everybody: Option<usize>,
}

impl XdrEndpoints {
    /// The endpoints of these settings, or everything that is wrong with them: key and what would be accepted.
    pub fn read(configs: &[EndpointConfig]) -> Result<Self, Vec<String>> {
        let mut endpoints = Self::default();
        let mut problems = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let key = format!("endpoint[{index}]");
            problems.extend(config.problems(&key));
            if endpoints.all.iter().any(|other| other.name == config.name) {
                problems.push(format!("{key}.name: one that no other endpoint has"));
            }
            for (position, text) in config.serves.iter().enumerate() {
                let key = format!("{key}.serves[{position}]");
                problems.extend(
                    endpoints
                        .serve(index, text)
                        .map(|bad| format!("{key}: {bad}")),
                );
            }
            endpoints.all.push(config.endpoint());
        }
        if problems.is_empty() {
            Ok(endpoints)
        } else {
            Err(problems)
        }
    }

    /// Notes that the endpoint at `index` serves `text`; what is wrong with it is the answer.
    fn serve(&mut self, index: usize, text: &str) -> Option<String> {
        let taken = "whom no other endpoint serves".to_owned();
        if text == EVERYBODY {
            return self.everybody.replace(index).map(|_| taken);
        }
        match text.parse::<AddressPattern>() {
            Ok(pattern) if self.served.iter().any(|(other, _)| *other == pattern) => Some(taken),
            Ok(pattern) => {
                self.served.push((pattern, index));
                None
            }
            Err(error) => Some(format!("an address, a domain or \"*\"; {error}")),
        }
    }

    /// The endpoint that serves `address`: by the address itself, else by its domain, else the one for everybody.
    pub fn find(&self, address: &DirectAddress) -> Option<&XdrEndpoint> {
        let serving = |is_narrow: bool| {
            let mut served = self.served.iter();
            let found = served.find(|(pattern, _)| {
                matches!(pattern, AddressPattern::Address(_)) == is_narrow
                    && pattern.matches(address)
            });
            found.map(|(_, index)| *index)
        };
        let index = serving(true)
            .or_else(|| serving(false))
            .or(self.everybody)?;
        self.all.get(index)
    }

    /// The endpoint of this name.
    pub fn named(&self, name: &str) -> Option<&XdrEndpoint> {
        self.all.iter().find(|endpoint| endpoint.name == name)
    }

    /// All of them.
    pub fn all(&self) -> &[XdrEndpoint] {
        &self.all
    }

    /// Whether there is none: no mail can be received then.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The recipients in groups that share an endpoint, and so a request (COR-1); those whom no endpoint serves come
    /// last, without one.
    pub fn group(
        &self,
        recipients: impl IntoIterator<Item = DirectAddress>,
    ) -> Vec<(Option<&XdrEndpoint>, Vec<DirectAddress>)> {
        let mut groups: Vec<(Option<&XdrEndpoint>, Vec<DirectAddress>)> = Vec::new();
        for address in recipients {
            let endpoint = self.find(&address);
            let name = |endpoint: Option<&XdrEndpoint>| endpoint.map(|found| found.name.clone());
            match groups
                .iter_mut()
                .find(|(other, _)| name(*other) == name(endpoint))
            {
                Some((_, group)) => group.push(address),
                None => groups.push((endpoint, vec![address])),
            }
        }
        groups.sort_by_key(|(endpoint, _)| endpoint.is_none());
        groups
    }
}

impl EndpointConfig {
    fn problems(&self, key: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut problem =
            |field: &str, accepted: &str| problems.push(format!("{key}.{field}: {accepted}"));
        let is_name = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        let name = &self.name;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_name) {
            problem(
                "name",
                "1 to 64 letters, digits, `-` and `_`, such as \"harbor\"",
            );
        }
        let is_url = self.url.strip_prefix("https://").is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['@', '?', '#', ' '])
        });
        if !is_url {
            problem(
                "url",
                "https://host[:port]/path, without user, query and fragment",
            );
        }
        if self.final_by_disposition && self.partner.is_none() {
            problem(
                "partner",
                "the name of the [[partner]] that it reports as; needed with final_by_disposition",
            );
        }
        if self.serves.is_empty() {
            problem("serves", "one address or domain at least, or \"*\"");
        }
        problems
    }

    fn endpoint(&self) -> XdrEndpoint {
        XdrEndpoint {
            name: self.name.clone(),
            url: self.url.clone(),
            idempotent: self.idempotent,
            final_by_disposition: self.final_by_disposition,
            partner: self.partner.clone(),
            packaging: self.packaging.packaging(),
            action: self.action.uri(),
            policy: self.policy.clone(),
        }
    }
}

impl SourcesConfig {
    /// What `domain` is called as a source: its own OID, else one below the bridge's that is always the same. `None`
    /// without an OID of the bridge.
    pub fn source_id(&self, domain: &DomainName) -> Option<Oid> {
        if let Some(own) = self.domains.get(domain) {
            return Some(own.clone());
        }
        let digest = sha256(domain.as_str().as_bytes());
        let arc = digest
            .iter()
            .take(size_of::<u64>())
            .fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        let gateway = self.gateway_oid.as_ref()?;
        format!("{}.{arc}", gateway.as_str()).parse().ok()
    }

    /// What is wrong with these settings when requests are made.
    pub fn problems(&self) -> Vec<String> {
        match &self.gateway_oid {
            Some(oid) if oid.as_str().len() <= MAX_GATEWAY_OID_BYTES => Vec::new(),
            _ => vec![format!(
                "sources.gateway_oid: an OID of at most {MAX_GATEWAY_OID_BYTES} characters, such as \"2.999.1\""
            )],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, serves: &[&str]) -> EndpointConfig {
        EndpointConfig {
            name: name.to_owned(),
            url: format!("https://{name}.example/xdr"),
            serves: serves.iter().map(|text| (*text).to_owned()).collect(),
            ..EndpointConfig::default()
        }
    }

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_goes_before_its_domain_and_everybody_comes_last() {
        let endpoints = XdrEndpoints::read(&[
            config("rest", &["*"]),
            config("domain", &["direct.elm.example"]),
            config("one", &["Intake@direct.elm.example", "direct.oak.example"]),
        ])
        .unwrap();
        for (to, expected) in [
            ("intake@direct.ELM.example", "one"),
            ("rui@direct.elm.example", "domain"),
            ("rui@direct.oak.example", "one"),
            ("rui@x.direct.elm.example", "rest"),
        ] {
            assert_eq!(endpoints.find(&address(to)).unwrap().name, expected, "{to}");
        }
        let some = XdrEndpoints::read(&[config("one", &["direct.oak.example"])]).unwrap();
        assert!(some.find(&address("rui@direct.elm.example")).is_none());
    }

    // rule: COR-1, XDR-108
    #[test]
    fn recipients_of_one_endpoint_share_a_group_whatever_their_domains() {
        let endpoints = XdrEndpoints::read(&[
            config("elm", &["direct.elm.example", "direct.oak.example"]),
            config("harbor", &["direct.harbor.example"]),
        ])
        .unwrap();
        let to = [
            "a@direct.gone.example",
            "b@direct.elm.example",
            "c@direct.harbor.example",
            "d@direct.oak.example",
        ];
        let groups = endpoints.group(to.map(address));
        let told: Vec<(Option<&str>, usize)> = groups
            .iter()
            .map(|(endpoint, group)| (endpoint.map(|found| &*found.name), group.len()))
            .collect();
        assert_eq!(told, [(Some("elm"), 2), (Some("harbor"), 1), (None, 1)]);
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_with_its_key() {
        let bad = EndpointConfig {
            url: "http://elm.example/xdr".to_owned(),
            ..config("a b", &[])
        };
        let problems = XdrEndpoints::read(&[
            bad,
            config("elm", &["direct.elm.example", "*", "no domain"]),
            config("elm", &["direct.ELM.example", "*"]),
        ])
        .unwrap_err();
        let keys: Vec<&str> = problems
            .iter()
            .filter_map(|problem| problem.split(": ").next())
            .collect();
        assert_eq!(
            keys,
            [
                "endpoint[0].name",
                "endpoint[0].url",
                "endpoint[0].serves",
                "endpoint[1].serves[2]",
                "endpoint[2].name",
                "endpoint[2].serves[0]",
                "endpoint[2].serves[1]",
            ]
        );
    }

    // rule: MD-119
    #[test]
    fn every_domain_has_a_source_id_of_its_own_that_never_changes() {
        let sources = SourcesConfig {
            gateway_oid: Some("2.999.1".parse().unwrap()),
            domains: [(
                "hisp.example".parse().unwrap(),
                "2.999.7".parse::<Oid>().unwrap(),
            )]
            .into(),
        };
        let of = |domain: &str| sources.source_id(&domain.parse().unwrap()).unwrap();
        assert_eq!(of("hisp.example").as_str(), "2.999.7");
        let elm = of("direct.elm.example");
        assert!(elm.as_str().starts_with("2.999.1."));
        assert_eq!(elm, of("DIRECT.elm.example"));
        assert_ne!(elm, of("direct.oak.example"));
        let nobody = SourcesConfig::default();
        assert_eq!(nobody.source_id(&"elm.example".parse().unwrap()), None);
        assert_eq!(nobody.problems().len(), 1);
        let longest = SourcesConfig {
            gateway_oid: Some(format!("2.{}", "9".repeat(41)).parse().unwrap()),
            ..SourcesConfig::default()
        };
        assert_eq!(longest.problems(), [""; 0]);
        assert!(longest.source_id(&"elm.example".parse().unwrap()).is_some());
    }
}
