//! What the process measures, gathered for `/metrics`. Names and meanings: [`crate::flows::measures`].

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::flows::{budget::ByteBudget, measures};

/// Upper ends of the classes of durations, in seconds: from an answer out of memory to the longest wait of an XDR
/// sender.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Upper ends of the classes of sizes, in octets: from a note to the largest message.
const BYTES: [f64; 8] = [
    1_000.0,
    10_000.0,
    100_000.0,
    1_000_000.0,
    5_000_000.0,
    10_000_000.0,
    25_000_000.0,
    70_000_000.0,
];

/// The measures of this process.
#[derive(Clone)]
pub struct Measured {
    recorder: PrometheusHandle,
}

/// The measures cannot be gathered: a second recorder in one process, most likely.
#[derive(Debug, thiserror::Error)]
#[error("the measures of this process cannot be gathered")]
pub struct MeasuredError(#[from] BuildError);

impl Measured {
    /// Gathers, from now on, all that this process measures. Once in a process.
    pub fn install() -> Result<Self, MeasuredError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
            .install_recorder()?;
        measures::describe();
        Ok(Self { recorder })
    }

    /// Folds what has come in, which otherwise waits in memory.
    pub(super) fn keep_up(&self) {
        self.recorder.run_upkeep();
    }

    /// The Prometheus text format, version 0.0.4.
    pub(super) fn render(&self, budget: &ByteBudget) -> String {
        metrics::gauge!(measures::BYTES_IN_FLIGHT).set(budget.in_flight() as f64);
        self.recorder.render()
    }
}
