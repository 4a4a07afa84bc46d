//! `[store]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::formats::units::duration_text;

/// Where exchanges, bodies and the audit are kept: `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The data directory: owned by the user that the bridge runs as, mode 0700, used by one process at a time.
    /// Created if it is not there. Default `"/var/lib/xdbridge"`.
    pub path: PathBuf,
    /// Files with one key each: 32 random octets as 64 hexadecimal digits or as base64, mode 0600. The first one
    /// encrypts, all of them decrypt: to change the key, put a new file first and keep the old one until
    /// `audit_retention` is over. Default `["/etc/xdbridge/store.key"]`.
    pub key_files: Vec<PathBuf>,
    /// How long a final exchange can be looked up, such as `"7d"`; then its rows and bodies go. At least the 24 h for
    /// which a resubmission must be recognised (XDR-50). Default `"7d"` (audit.md section 9).
    #[serde(with = "duration_text")]
    pub exchange_retention: Duration,
    /// How long audit records are kept. Default `"2192d"`, six years (45 CFR 164.316(b)(2)).
    #[serde(with = "duration_text")]
    pub audit_retention: Duration,
    /// How often what is over its retention, and bodies that nobody adopted, are removed. Default `"1h"`.
    #[serde(with = "duration_text")]
    pub sweep_interval: Duration,
    /// Units of work that one transaction, and so one fsync, may join. Default 64.
    pub max_units_per_commit: usize,
    /// Connections for reading that are kept open; more are opened while more are needed. Default 2.
    pub read_connections: u32,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: "/var/lib/xdbridge".into(),
            key_files: vec!["/etc/xdbridge/store.key".into()],
            exchange_retention: 7 * DAY,
            audit_retention: 2192 * DAY,
            sweep_interval: Duration::from_secs(60 * 60),
            max_units_per_commit: 64,
            read_connections: 2,
        }
    }
}

impl StoreConfig {
    /// Everything that is wrong with the values: key and what would be accepted.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.key_files.is_empty() {
            problems.push("store.key_files: name one key file at least".to_owned());
        }
        if self.exchange_retention < DAY {
            problems.push("store.exchange_retention: at least \"24h\" (XDR-50)".to_owned());
        }
        if self.audit_retention < self.exchange_retention {
            problems.push("store.audit_retention: at least store.exchange_retention".to_owned());
        }
        if self.sweep_interval < Duration::from_secs(1) {
            problems.push("store.sweep_interval: at least \"1s\"".to_owned());
        }
        if self.max_units_per_commit == 0 {
            problems.push("store.max_units_per_commit: 1 or more".to_owned());
        }
        if self.read_connections == 0 {
            problems.push("store.read_connections: 1 or more".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_without_problems_and_read_back() {
        let config = StoreConfig::default();
        assert!(config.problems().is_empty());
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<StoreConfig>(&text).unwrap(), config);
    }

    #[test]
    fn every_bad_value_is_named_at_once() {
        let config: StoreConfig = toml::from_str(
            "key_files = []\nexchange_retention = \"1h\"\nsweep_interval = \"0s\"\n\
             max_units_per_commit = 0\nread_connections = 0\naudit_retention = \"1m\"",
        )
        .unwrap();
        assert_eq!(config.problems().len(), 6);
        assert!(toml::from_str::<StoreConfig>("retention = \"1d\"").is_err());
    }
}
