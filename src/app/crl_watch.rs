//! Looks at the files of revocation lists from time to time: a timer of the operator's replaces them.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::{
    adapters::certificates::{CertificateFiles, CrlInUse, FileProblem},
    flows::{
        measures::{CRL_DAYS_LEFT, CRL_PROBLEMS, FETCHED_CRL_DAYS_LEFT, count_alarm},
        ports::Clock,
    },
};

/// A day in seconds.
const DAY: f64 = 86_400.0;

/// Reads what changed every `pause`, for as long as it is polled. What is wrong is told when it begins, not each time.
pub(super) async fn run(
    certificates: Arc<CertificateFiles>,
    clock: Arc<dyn Clock>,
    pause: Duration,
) {
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = HashSet::new();
    let mut warned: HashSet<String> = certificates.warnings().into_iter().collect();
    let mut stale = HashSet::new();
    let mut fetched = HashSet::new();
    loop {
        ticks.tick().await;
        let now = clock.now();
        let files = Arc::clone(&certificates);
        let reading = tokio::task::spawn_blocking(move || files.refresh_crls(now));
        let Ok(reading) = reading.await else {
            count_alarm("panic");
            error!(alarm = "panic", "the reading of CRLs ended early");
            continue;
        };
        let problems = lines(&reading.problems);
        for problem in problems.difference(&told) {
            count_alarm("crl");
            error!(
                alarm = "crl",
                problem, "{problem}; what was read before stays in force"
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "few")]
        metrics::gauge!(CRL_PROBLEMS).set(problems.len() as f64);
        let warnings = lines(&reading.warnings);
        for warning in warnings.difference(&warned) {
            warn!(warning, "{warning}");
        }
        warned = warnings;
        told = problems;
        let crls = certificates.crls();
        measure(&crls, now.as_second());
        measure_fetched(&certificates, now, &mut fetched);
        let is_stale = |crl: &&CrlInUse| crl.next_update <= now;
        let now_stale: HashSet<PathBuf> = crls
            .iter()
            .filter(is_stale)
            .map(|crl| crl.path.clone())
            .collect();
        for path in now_stale.difference(&stale) {
            let file = path.display();
            count_alarm("crl_stale");
            error!(alarm = "crl_stale", %file, "the CRL in {file} is past its nextUpdate: who was revoked since is not known");
        }
        for path in stale.difference(&now_stale) {
            let file = path.display();
            info!(%file, "the CRL in {file} is in date again, or gone");
        }
        stale = now_stale;
    }
}

fn lines(problems: &[FileProblem]) -> HashSet<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The days left of each file; of one with several lists, those of the first to become stale.
fn measure(crls: &[CrlInUse], now: i64) {
    for crl in crls.iter().rev() {
        // They are sorted by file and time.
        #[expect(clippy::cast_precision_loss, reason = "seconds of a century are exact")]
        let seconds = (crl.next_update.as_second() - now) as f64;
        let file = crl.path.display().to_string();
        metrics::gauge!(CRL_DAYS_LEFT, "file" => file).set(seconds / DAY);
    }
}

/// The days left of each list that was fetched and is kept; of one that is kept no more there is nothing to tell.
fn measure_fetched(certificates: &CertificateFiles, now: Timestamp, told: &mut HashSet<String>) {
    let crls = certificates.fetched().map(|fetched| fetched.crls());
    let mut kept = HashSet::new();
    for crl in crls.unwrap_or_default() {
        #[expect(clippy::cast_precision_loss, reason = "seconds of a century are exact")]
        let seconds = (crl.next_update.as_second() - now.as_second()) as f64;
        metrics::gauge!(FETCHED_CRL_DAYS_LEFT, "url" => crl.url.clone()).set(seconds / DAY);
        kept.insert(crl.url);
    }
    for gone in told.difference(&kept) {
        metrics::gauge!(FETCHED_CRL_DAYS_LEFT, "url" => gone.clone()).set(f64::NAN);
    }
    *told = kept;
}
