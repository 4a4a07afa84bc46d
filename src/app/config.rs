//! The configuration: one TOML file that joins the settings which each adapter and flow defines beside its code.

mod files;
mod leaves;

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    adapters::{
        certificates::CertificatesConfig,
        control::ControlConfig,
        dns::config::DnsConfig,
        fetch::FetchConfig,
        operator::OperatorConfig,
        smtp_client::config::SmtpClientConfig,
        smtp_server::SmtpServerConfig,
        soap_client::settings::SoapClientConfig,
        soap_server::SoapServerConfig,
        store::{StoreConfig, StoreKind},
    },
    app::logging::LogConfig,
    bridge::{
        destination::{DestinationConfig, Destinations},
        endpoint::{EndpointConfig, SourcesConfig, XdrEndpoints},
        exchange::Timers,
        partner::{AddressPattern, PartnerConfig, Partners},
        routing::{RouteConfig, Routes},
    },
    flows::settings::{
        AuditSettings, DeliverySettings, DiscoverySettings, NodeSettings, NotificationSettings,
        ReceivingSettings,
    },
    formats::{limits::Limits, xdm::Institution},
};

/// Largest configuration file that is read, in octets.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The whole configuration. Relative paths count from the directory of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[log]`.
    pub log: LogConfig,
    /// `[soap]`.
    pub soap: SoapConfig,
    /// `[smtp]`.
    pub smtp: SmtpConfig,
    /// `[dns]`.
    pub dns: DnsConfig,
    /// `[discovery]`.
    pub discovery: DiscoverySettings,
    /// `[fetch]`.
    pub fetch: FetchConfig,
    /// `[certificates]`.
    pub certificates: CertificatesConfig,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[operator]`.
    pub operator: OperatorConfig,
    /// `[control]`.
    pub control: ControlConfig,
    /// `[delivery]`.
    pub delivery: DeliverySettings,
    /// `[timers]`.
    pub timers: Timers,
    /// `[receiving]`.
    pub receiving: ReceivingSettings,
    /// `[notification]`.
    pub notification: NotificationSettings,
    /// `[sources]`.
    pub sources: SourcesConfig,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[node]`.
    pub node: NodeSettings,
    /// `[institution]`.
    pub institution: Institution,
    /// `[limits]`.
    pub limits: Limits,
    /// `[[partner]]`, once for each XDR system.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partner: Vec<PartnerConfig>,
    /// `[[destination]]`, once for each group of recipients that get their mail in another way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination: Vec<DestinationConfig>,
    /// `[[route]]`, once for each organisation that is known by its identifier alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<RouteConfig>,
    /// `[[endpoint]]`, once for each XDR system that mail is posted to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoint: Vec<EndpointConfig>,
    /// Where relative paths count from.
    #[serde(skip)]
    base: PathBuf,
}

/// `[soap]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoapConfig {
    /// `[soap.server]`.
    pub server: SoapServerConfig,
    /// `[soap.client]`; needed as soon as there is an endpoint, or a partner with a `status_endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<SoapClientConfig>,
}

/// `[smtp]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpConfig {
    /// `[smtp.server]`; without it no mail is received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SmtpServerConfig>,
    /// `[smtp.client]`.
    pub client: SmtpClientConfig,
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{}: {error}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: toml::de::Error,
    },
    /// Keys that there are not, or values of a wrong kind: all of them.
    #[error("{}", problems.join("\n"))]
    Values {
        /// File, key and what would be accepted.
        problems: Vec<String>,
    },
}

impl Config {
    /// Reads a configuration file. Unknown keys and values of a wrong kind are all told at once.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let (table, base) = Self::read_table(path)?;
        Self::from_table(table, path, base)
    }

    /// Reads a configuration file and tells everything that is wrong with it at once, judged at `now`: unknown keys,
    /// values, and the files that they name. Empty: `serve` can start.
    pub fn check(path: &Path, now: Timestamp) -> Result<(Self, Vec<String>), ConfigError> {
        let (table, base) = Self::read_table(path)?;
        let (bad, table) = leaves::sort_out::<Self>(table);
        let mut problems: Vec<String> = bad
            .iter()
            .map(|leaf| format!("{}: {}", leaf.key, leaf.problem))
            .collect();
        let config: Self = match table.try_into() {
            Ok(config) => Self { base, ..config },
            Err(error) => {
                // A table lacks what it must have; the rest cannot be judged without it.
                problems.push(one_line(&error));
                return Ok((Self::default(), problems));
            }
        };
        let is_told = |problem: &String| {
            // What a value that was left out would have made of the rest is not known.
            let key = problem.split(": ").next().unwrap_or_default();
            bad.iter().any(|leaf| leaf.key.starts_with(key))
        };
        let more = config.problems(now);
        problems.extend(more.into_iter().filter(|problem| !is_told(problem)));
        Ok((config, problems))
    }

    fn read_table(path: &Path) -> Result<(toml::Table, PathBuf), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let size = fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            let error = format!("larger than {MAX_FILE_BYTES} octets");
            return Err(unreadable(std::io::Error::other(error)));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let table = toml::from_str(&text).map_err(|error| ConfigError::NotToml {
            path: path.to_owned(),
            error,
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok((table, base))
    }

    fn from_table(table: toml::Table, path: &Path, base: PathBuf) -> Result<Self, ConfigError> {
        let values = |problems: Vec<String>| ConfigError::Values {
            problems: problems
                .into_iter()
                .map(|problem| format!("{}: {problem}", path.display()))
                .collect(),
        };
        let (bad, table) = leaves::sort_out::<Self>(table);
        if !bad.is_empty() {
            let tell = |leaf: leaves::BadLeaf| format!("{}: {}", leaf.key, leaf.problem);
            return Err(values(bad.into_iter().map(tell).collect()));
        }
        let config: Self = table
            .try_into()
            .map_err(|error: toml::de::Error| values(vec![one_line(&error)]))?;
        Ok(Self { base, ..config })
    }

    /// The whole configuration as TOML, defaults included, paths as they were written.
    pub fn print(&self) -> String {
        toml::to_string(self).expect("every setting has a TOML form; a test prints them all")
    }

    /// The same configuration with every path made absolute, or relative to the working directory as the file is.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        let base = self.base.clone();
        for path in self.paths_mut() {
            // Joining an absolute path gives that path.
            *path = base.join(&*path);
        }
        self.base = PathBuf::new();
        self
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = vec![
            &mut self.soap.server.certificate,
            &mut self.soap.server.key,
            &mut self.store.path,
        ];
        paths.extend(&mut self.soap.server.client_cas);
        paths.extend(&mut self.certificates.recipients);
        for domain in &mut self.certificates.domains {
            paths.extend(&mut domain.anchors);
            paths.extend(&mut domain.intermediates);
            paths.extend(&mut domain.crls);
            for identity in &mut domain.identities {
                paths.extend([&mut identity.certificate, &mut identity.key]);
                paths.extend(&mut identity.passphrase_file);
            }
        }
        if let Some(server) = &mut self.smtp.server {
            paths.extend([&mut server.certificate, &mut server.key]);
        }
        if let Some(client) = &mut self.soap.client {
            paths.extend([&mut client.certificate, &mut client.key]);
            paths.extend(&mut client.ca_files);
        }
        paths.extend(&mut self.smtp.client.ca_files);
        paths.extend(&mut self.fetch.ca_files);
        paths.extend(&mut self.store.key_files);
        paths.extend(&mut self.store.postgres.password_file);
        paths.extend(&mut self.store.postgres.ca_file);
        paths.extend(&mut self.operator.certificate);
        paths.extend(&mut self.operator.key);
        paths.extend(&mut self.operator.token_file);
        let tokens = self.operator.partner_tokens.iter_mut();
        paths.extend(tokens.map(|token| &mut token.file));
        paths.extend(&mut self.control.socket);
        paths
    }

    /// Everything that is wrong with the values and with the files that they name, judged at `now`: key and what would
    /// be accepted.
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        let mut problems = self.value_problems();
        problems.extend(files::problems(&self.clone().resolved(), now));
        problems
    }

    /// What is wrong with the settings for mail that comes in.
    fn receiving_problems(&self) -> Vec<String> {
        let mut problems = XdrEndpoints::read(&self.endpoint).err().unwrap_or_default();
        // Without an endpoint only notices about our own mail come in.
        for (index, endpoint) in self.endpoint.iter().enumerate() {
            let is_it = |name: &String| self.partner.iter().any(|partner| partner.name == *name);
            if endpoint.partner.as_ref().is_some_and(|name| !is_it(name)) {
                problems.push(format!(
                    "endpoint[{index}].partner: the name of one of the [[partner]] tables"
                ));
            }
        }
        if !self.endpoint.is_empty() && self.smtp.server.is_none() {
            problems.push("smtp.server: needed as soon as there is an [[endpoint]]".to_owned());
        }
        problems.extend(self.posting_problems());
        problems
    }

    /// What is wrong with the settings for requests that go out: to endpoints, and to where partners take outcomes.
    fn posting_problems(&self) -> Vec<String> {
        let is_told = |partner: &PartnerConfig| partner.status_endpoint.is_some();
        if self.endpoint.is_empty() && !self.partner.iter().any(is_told) {
            return Vec::new();
        }
        let mut problems = self.sources.problems();
        match &self.soap.client {
            None => {
                let why = "needed as soon as there is an [[endpoint]] or a partner.status_endpoint";
                problems.push(format!("soap.client: {why}"));
            }
            Some(client) if client.post_timeout >= self.delivery.longest_effect() => {
                problems.push(
                    "soap.client.post_timeout: shorter than nine tenths of delivery.lease"
                        .to_owned(),
                );
            }
            Some(_) => {}
        }
        problems
    }

    /// What is wrong with the values by themselves.
    fn value_problems(&self) -> Vec<String> {
        let mut problems = self.store.problems();
        problems.extend(self.timers.problems());
        problems.extend(self.fetch.problems());
        problems.extend(self.smtp.server.iter().flat_map(SmtpServerConfig::problems));
        if let Some(server) = &self.smtp.server {
            problems.extend(self.receiving.problems(server.answer_timeout));
        }
        problems.extend(self.delivery.problems(self.smtp.client.attempt_timeout));
        problems.extend(Partners::read(&self.partner).err().unwrap_or_default());
        problems.extend(Routes::read(&self.route).err().unwrap_or_default());
        let destinations = Destinations::read(self.delivery.mail_policy(), &self.destination);
        problems.extend(destinations.err().unwrap_or_default());
        problems.extend(self.domain_problems());
        problems.extend(self.receiving_problems());
        let mut problem = |key: &str, accepted: &str| problems.push(format!("{key}: {accepted}"));
        if self.partner.is_empty() {
            problem(
                "partner",
                "one [[partner]] at least; without one nobody can connect",
            );
        }
        if self.smtp.client.attempt_timeout >= self.timers.queue_lifetime {
            problem(
                "smtp.client.attempt_timeout",
                "shorter than timers.queue_lifetime, or one peer that hangs takes all the time there is",
            );
        }
        if self.delivery.resubmission_window > self.store.exchange_retention {
            problem(
                "delivery.resubmission_window",
                "at most store.exchange_retention, or the exchange is forgotten before",
            );
        }
        // Two nodes may be off to different sides.
        let between_nodes = self.store.postgres.max_clock_difference.saturating_mul(2);
        let margin = self.delivery.lease - self.delivery.longest_effect();
        if self.store.kind == StoreKind::Postgres && between_nodes > margin {
            problem(
                "store.postgres.max_clock_difference",
                "at most a twentieth of delivery.lease, or a node claims what another is still doing",
            );
        }
        if self.certificates.crl_refresh.is_zero() {
            problem("certificates.crl_refresh", "longer than 0s");
        }
        for (key, time) in [
            ("discovery.dns_timeout", self.discovery.dns_timeout),
            (
                "discovery.ldap_connect_timeout",
                self.discovery.ldap_connect_timeout,
            ),
            ("discovery.ldap_timeout", self.discovery.ldap_timeout),
        ] {
            if time.is_zero() {
                problem(key, "longer than 0s");
            }
        }
        if self.node.name.trim().is_empty() {
            problem("node.name", "a name that no other node has");
        }
        if self.limits.max_message_bytes > self.limits.max_bytes_in_flight {
            problem(
                "limits.max_message_bytes",
                "at most limits.max_bytes_in_flight, or no such message could come in",
            );
        }
        let counts = [
            ("soap.server.workers", self.soap.server.workers),
            (
                "soap.server.max_connections",
                self.soap.server.max_connections,
            ),
            (
                "limits.max_document_entries",
                self.limits.max_document_entries,
            ),
            ("limits.max_xml_depth", self.limits.max_xml_depth),
            ("limits.max_mtom_parts", self.limits.max_mtom_parts),
            ("limits.max_recipients", self.limits.max_recipients),
            (
                "limits.max_recipient_infos",
                self.limits.max_recipient_infos,
            ),
            ("limits.max_signer_infos", self.limits.max_signer_infos),
        ];
        for (key, count) in counts {
            if count == 0 {
                problem(key, "1 or more");
            }
        }
        let operator = &self.operator;
        if operator.certificate.is_some() != operator.key.is_some() {
            problem(
                "operator.certificate",
                "together with operator.key, or neither",
            );
        }
        for (index, token) in operator.partner_tokens.iter().enumerate() {
            if !self.partner.iter().any(|one| one.name == token.partner) {
                let key = format!("operator.partner_tokens[{index}].partner");
                problem(&key, "the name of one of the [[partner]] tables");
            }
        }
        let is_protected = operator.certificate.is_some() && operator.token_file.is_some();
        if !operator.bind.ip().is_loopback() && !is_protected {
            problem(
                "operator.bind",
                "a loopback address, or together with operator.certificate, operator.key and operator.token_file",
            );
        }
        if operator.bind == self.soap.server.bind && operator.bind.port() != 0 {
            problem("operator.bind", "another address than soap.server.bind");
        }
        problems
    }
}

impl Config {
    /// Domains without a key to sign with, and senders in domains that nobody serves.
    fn domain_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let domains = &self.certificates.domains;
        if domains.is_empty() {
            problems.push(
                "certificates.domains: one [[certificates.domains]] at least; without one nothing can be sent"
                    .to_owned(),
            );
        }
        for (index, domain) in domains.iter().enumerate() {
            let key = format!("certificates.domains[{index}]");
            if domain.identities.is_empty() {
                problems.push(format!(
                    "{key}.identities: one certificate with its key at least, to sign what {} sends",
                    domain.name
                ));
            }
            let min_rsa_bits = domain.demands.min_rsa_bits;
            if !matches!(min_rsa_bits, 0 | 2048..=8192) {
                problems.push(format!(
                    "{key}.demands.min_rsa_bits: 0, or 2048 to 8192; others are refused whatever is demanded"
                ));
            }
            if domain.anchors.is_empty() {
                problems.push(format!(
                    "{key}.anchors: one file at least; without anchors {} trusts nobody",
                    domain.name
                ));
            }
        }
        for (index, partner) in self.partner.iter().enumerate() {
            let patterns = partner.send_as.iter().enumerate();
            for (position, text) in patterns {
                // One that is no pattern is told by the partner itself.
                let Ok(pattern) = text.parse::<AddressPattern>() else {
                    continue;
                };
                if domains
                    .iter()
                    .all(|domain| domain.name != *pattern.domain())
                {
                    problems.push(format!(
                        "partner[{index}].send_as[{position}]: a sender in one of certificates.domains, not in {}",
                        pattern.domain()
                    ));
                }
            }
        }
        problems
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/bridge.example.toml");
    const MINIMAL: &str = include_str!("../../config/bridge.minimal.toml");

    fn parse(text: &str) -> Config {
        let table = toml::from_str(text).unwrap();
        Config::from_table(table, Path::new("bridge.toml"), PathBuf::new()).unwrap()
    }

    /// The example with its commented settings and tables in force: `#name = value`, where prose has `# `.
    fn uncommented(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') || rest.starts_with("   ") => rest.to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The keys that the table at `path` takes, as serde names them when it meets one that it does not.
    fn keys_at(path: &[&str]) -> Vec<String> {
        let probe = toml::Value::Table(toml::Table::from_iter([(
            "no-such-key".to_owned(),
            toml::Value::Boolean(true),
        )]));
        let whole = path.iter().rev().fold(probe, |inner, key| {
            let (key, inner) = match key.strip_suffix("[]") {
                Some(key) => (key, toml::Value::Array(vec![inner])),
                None => (*key, inner),
            };
            toml::Value::Table(toml::Table::from_iter([(key.to_owned(), inner)]))
        });
        let error = whole.try_into::<Config>().unwrap_err();
        let (_, expected) = error.message().split_once("expected ").unwrap();
        let names = expected.split('`').skip(1).step_by(2).map(str::to_owned);
        names.collect()
    }

    fn find<'a>(whole: &'a toml::Table, path: &[&str]) -> &'a toml::Table {
        path.iter().fold(whole, |table, key| {
            let inner = &table[key.trim_end_matches("[]")];
            match inner {
                // Where there are several, the last one shows what the others do not.
                toml::Value::Array(items) => items.last().unwrap().as_table().unwrap(),
                table => table.as_table().unwrap(),
            }
        })
    }

    #[test]
    fn example_config_states_every_default() {
        assert_eq!(parse(EXAMPLE), Config::default());
        let whole: toml::Table = toml::from_str(&uncommented(EXAMPLE)).unwrap();
        let tables: [&[&str]; 35] = [
            &[],
            &["log"],
            &["soap"],
            &["soap", "server"],
            &["soap", "client"],
            &["smtp"],
            &["smtp", "server"],
            &["smtp", "client"],
            &["smtp", "client", "domains", "hisp.example"],
            &["dns"],
            &["discovery"],
            &["fetch"],
            &["certificates"],
            &["certificates", "domains[]"],
            &["certificates", "domains[]", "demands"],
            &["certificates", "domains[]", "identities[]"],
            &["store"],
            &["store", "postgres"],
            &["store", "room"],
            &["operator"],
            &["timers"],
            &["delivery"],
            &["receiving"],
            &["notification"],
            &["sources"],
            &["audit"],
            &["node"],
            &["institution"],
            &["limits"],
            &["partner[]"],
            &["destination[]"],
            &["route[]"],
            &["endpoint[]"],
            &["endpoint[]", "policy"],
            &["endpoint[]", "policy", "defaults"],
        ];
        for path in tables {
            let stated: BTreeSet<&String> = find(&whole, path).keys().collect();
            let expected = keys_at(path);
            assert!(!expected.is_empty());
            for key in &expected {
                assert!(stated.contains(key), "{path:?} does not state {key}");
            }
        }
    }

    #[test]
    fn the_example_states_the_defaults_of_a_partner_too() {
        let whole: toml::Table = toml::from_str(&uncommented(EXAMPLE)).unwrap();
        let stated = find(&whole, &["partner[]"]);
        let defaults = toml::Table::try_from(PartnerConfig::default()).unwrap();
        for (key, default) in &defaults {
            if !["name", "certificates", "send_as"].contains(&key.as_str()) {
                assert_eq!(&stated[key], default, "{key}");
            }
        }
    }

    #[test]
    fn the_example_states_the_defaults_of_the_smtp_listener_too() {
        let whole: toml::Table = toml::from_str(&uncommented(EXAMPLE)).unwrap();
        let stated = find(&whole, &["smtp", "server"]);
        let defaults = toml::Table::try_from(SmtpServerConfig::default()).unwrap();
        for (key, default) in &defaults {
            assert_eq!(&stated[key], default, "{key}");
        }
    }

    #[test]
    fn the_example_in_force_and_the_minimal_configuration_have_no_wrong_value() {
        for text in [&uncommented(EXAMPLE), MINIMAL] {
            assert_eq!(parse(text).value_problems(), Vec::<String>::new());
        }
    }

    #[test]
    fn config_reads_back_what_it_prints() {
        for text in ["", EXAMPLE, &uncommented(EXAMPLE), MINIMAL] {
            let config = parse(text);
            assert_eq!(parse(&config.print()), config);
        }
    }

    #[test]
    fn paths_count_from_the_file_unless_they_are_absolute() {
        let mut config = parse("store.path = \"data\"");
        config.base = PathBuf::from("/etc/bridge");
        let config = config.resolved();
        assert_eq!(config.store.path, Path::new("/etc/bridge/data"));
        assert_eq!(
            config.soap.server.key,
            Path::new("/etc/bridge/tls/server.key")
        );
        assert_eq!(
            config.store.key_files[0],
            Path::new("/etc/xdbridge/store.key")
        );
    }

    #[test]
    fn a_domain_without_identity_and_a_sender_in_no_domain_are_told() {
        let config = parse(
            r#"
            [[certificates.domains]]
            name = "direct.harbor.example"
            [[partner]]
            name = "harbor"
            send_as = ["direct.harbor.example", "x@direct.elm.example", "no one"]
            "#,
        );
        let problems = config.domain_problems();
        let keys: Vec<&str> = problems
            .iter()
            .filter_map(|problem| Some(problem.split_once(": ")?.0))
            .collect();
        assert_eq!(
            keys,
            [
                "certificates.domains[0].identities",
                "certificates.domains[0].anchors",
                "partner[0].send_as[1]"
            ]
        );
    }

    #[test]
    fn every_contradiction_between_values_is_told_at_once() {
        let config = parse(
            r#"
            operator = { bind = "0.0.0.0:9480", key = "k" }
            smtp.client.attempt_timeout = "2h"
            smtp.server.max_connections = 0
            limits = { max_bytes_in_flight = 1024, max_recipients = 0 }
            timers.queue_lifetime = "2h"
            store = { kind = "postgres", key_files = [], postgres = { max_clock_difference = "1h" } }
            delivery = { workers = 0, resubmission_window = "31d" }
            node.name = ""
            receiving = { inline_verify_timeout = "9m", postmaster_max_bytes = 1, postmaster_max_per_day = 0, postmaster_max_per_peer = 0, postmaster_retention = "1h", trusted_bounce_hosts = [{ network = "0.0.0.0/0" }] }
            route = [{ organisation = "2.999.7", address = "nobody" }]
            "#,
        );
        let problems = config.value_problems();
        for key in [
            "store.key_files: ",
            "store.postgres.max_clock_difference: ",
            "timers.queue_lifetime: ",
            "route[0].address: ",
            "certificates.domains: ",
            "partner: ",
            "smtp.client.attempt_timeout: ",
            "smtp.server.max_connections: ",
            "receiving.inline_verify_timeout: ",
            "receiving.postmaster_max_bytes: ",
            "receiving.postmaster_max_per_day: ",
            "receiving.postmaster_max_per_peer: ",
            "receiving.postmaster_retention: ",
            "receiving.trusted_bounce_hosts[0].network: ",
            "delivery.lease: ",
            "delivery.resubmission_window: ",
            "delivery.workers: ",
            "node.name: ",
            "limits.max_message_bytes: ",
            "limits.max_recipients: ",
            "operator.certificate: ",
            "operator.bind: ",
        ] {
            let found = problems.iter().filter(|problem| problem.starts_with(key));
            assert_eq!(found.count(), 1, "{key} in {problems:?}");
        }
        assert_eq!(problems.len(), 22, "{problems:?}");
    }

    // rule: STS-3, T-28
    #[test]
    fn a_status_endpoint_needs_what_posts_need_and_an_oid_to_be_called_by() {
        let mut config = parse(MINIMAL);
        let needs = |config: &Config| {
            let keys = ["soap.client: ", "sources.gateway_oid: ", "smtp.server: "];
            let problems = config.posting_problems();
            keys.map(|key| problems.iter().any(|problem| problem.starts_with(key)))
        };
        assert_eq!(needs(&config), [false; 3]);
        config.partner[0].status_endpoint = Some("https://ehr.harbor.example/xdr".to_owned());
        assert_eq!(needs(&config), [true, true, false]);
        config.soap.client = Some(SoapClientConfig::default());
        config.sources.gateway_oid = Some("2.999.1".parse().unwrap());
        assert_eq!(needs(&config), [false; 3]);
        for url in [
            "http://ehr.harbor.example/xdr",
            "https://ehr.harbor.example/x?y",
        ] {
            config.partner[0].status_endpoint = Some(url.to_owned());
            let problems = config.value_problems();
            let is_told = |problem: &String| problem.starts_with("partner[0].status_endpoint: ");
            assert!(problems.iter().any(is_told), "{url}");
        }
    }
}
