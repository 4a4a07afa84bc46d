//! The log: one JSON object a line, on standard error. Who sent what to whom belongs in the audit; patients, addresses
//! and content belong in neither log nor measure (T-30).

use std::io;

use serde::{Deserialize, Serialize};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

/// The log: `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged of our own doings: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`. Libraries log
    /// warnings and errors only, whatever stands here: their finer levels may show what passes through them.
    /// Default `"info"`.
    pub level: LogLevel,
    /// `"json"`, or `"text"` for people who watch. Default `"json"`.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the levels of tracing, by their names")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Words and `name=value`.
    Text,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Json,
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Logs to standard error from now on. Once in a process.
pub fn init(config: LogConfig) -> Result<(), TryInitError> {
    init_to(config, io::stderr)
}

/// Logs to `writer` from now on. Once in a process.
pub fn init_to<W>(config: LogConfig, writer: W) -> Result<(), TryInitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    subscriber(config, writer).try_init()
}

/// Libraries whose warnings name what was asked for. The names of CERT records hold the local parts of addresses, which no
/// log may have (T-30): what became of a question is told in our own words.
const TELLING_LIBRARIES: [&str; 3] = ["hickory_net", "hickory_proto", "hickory_resolver"];

fn subscriber<W>(config: LogConfig, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let own = LevelFilter::from(config.level);
    let filter = Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_targets(TELLING_LIBRARIES.map(|name| (name, LevelFilter::OFF)))
        .with_target(env!("CARGO_CRATE_NAME"), own);
    let lines = fmt::layer().with_writer(writer);
    let lines = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(config: LogConfig, doings: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        tracing::subscriber::with_default(subscriber(config, move || writer.clone()), doings);
        let octets = paper.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_with_its_fields_on_top() {
        let text = logged(LogConfig::default(), || {
            tracing::info!(http.status = 200, partner = "elm", "answered\n\"all\"");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["http.status"], 200);
        assert_eq!(line["partner"], "elm");
        assert_eq!(line["message"], "answered\n\"all\"");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn libraries_stay_at_warnings_even_at_our_trace_level() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let config = LogConfig {
                level: LogLevel::Trace,
                format,
            };
            let text = logged(config, || {
                tracing::trace!("ours");
                tracing::info!(target: "actix_http", "theirs, fine");
                tracing::debug!(target: "hickory_proto::udp", "theirs, finer");
                tracing::warn!(target: "actix_http", "theirs, grave");
            });
            assert!(text.contains("ours") && text.contains("theirs, grave"));
            assert!(!text.contains("theirs, fine"));
        }
    }

    // rule: T-30
    #[test]
    fn a_library_that_names_what_was_asked_for_is_silent() {
        let text = logged(LogConfig::default(), || {
            tracing::error!(target: "hickory_resolver::name_server_pool", "rui.silva.direct.example");
            tracing::warn!(target: "hickory_net::udp::udp_client_stream", "rui.silva.direct.example");
            tracing::warn!(target: "actix_http", "theirs, grave");
        });
        assert!(!text.contains("rui") && text.contains("theirs"), "{text}");
    }

    #[test]
    fn a_level_above_warn_silences_libraries_too() {
        let config = LogConfig {
            level: LogLevel::Error,
            ..LogConfig::default()
        };
        let text = logged(config, || {
            tracing::warn!("ours");
            tracing::warn!(target: "actix_http", "theirs");
        });
        assert_eq!(text, "");
    }
}
