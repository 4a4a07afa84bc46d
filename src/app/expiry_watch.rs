//! Looks at the certificates that the bridge shows, signs and opens with, and at those that it trusts, so that somebody
//! renews them in time.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use openssl::x509::X509Ref;
use tracing::error;

use super::config::Config;
use crate::{
    adapters::{certificates::CertificateFiles, pem_files},
    flows::{
        measures::{ANCHOR_DAYS_LEFT, CERTIFICATE_DAYS_LEFT, count_alarm},
        ports::Clock,
    },
    formats::{
        ids::DomainName,
        smime::{certificate, facts::CertificateFacts},
    },
};

/// A day in seconds.
const DAY: i64 = 86_400;
/// How long before its end a certificate is alarmed.
const ALARMED_AHEAD_DAYS: i64 = 30;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// The files that hold certificates of our own, as the settings name them.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let domains = config.certificates.domains.iter();
    let mut files: Vec<PathBuf> = domains
        .flat_map(|domain| &domain.identities)
        .map(|identity| identity.certificate.clone())
        .collect();
    files.extend(tls_files(config));
    files.sort();
    files.dedup();
    files
}

/// Those that are shown in TLS, to peers and to operators.
pub(super) fn tls_files(config: &Config) -> Vec<PathBuf> {
    let mut files = vec![config.soap.server.certificate.clone()];
    files.extend(
        config
            .soap
            .client
            .iter()
            .map(|client| client.certificate.clone()),
    );
    files.extend(
        config
            .smtp
            .server
            .iter()
            .map(|server| server.certificate.clone()),
    );
    files.extend(config.operator.certificate.clone());
    files.sort();
    files.dedup();
    files
}

/// Looks again and again, for ever. Each certificate is alarmed once.
pub(super) async fn run(
    files: Vec<PathBuf>,
    certificates: Arc<CertificateFiles>,
    clock: Arc<dyn Clock>,
) {
    let mut alarmed = HashMap::new();
    let mut alarmed_anchors = HashSet::new();
    loop {
        for own in certificates.domains() {
            for anchor in own.anchors.certificates() {
                tell_anchor(&own.name, anchor, clock.now(), &mut alarmed_anchors);
            }
        }
        let (asked, now) = (files.clone(), clock.now());
        let looking = tokio::task::spawn_blocking(move || ends(asked));
        for (file, end) in looking.await.unwrap_or_default() {
            tell(file, end, now, &mut alarmed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// When the first certificate of each file ends. A file that cannot be read is told by whoever uses it.
fn ends(files: Vec<PathBuf>) -> Vec<(PathBuf, Timestamp)> {
    let mut ends = Vec::new();
    for file in files {
        let end = pem_files::certificates(&file)
            .ok()
            .and_then(|chain| certificate::timestamp(chain.first()?.not_after()));
        ends.extend(end.map(|end| (file, end)));
    }
    ends
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a century are exact")]
fn days(seconds: i64) -> f64 {
    seconds as f64 / DAY as f64
}

/// An anchor that has ended is none any more (TA-11): whoever it stands for is trusted no longer.
fn tell_anchor(
    domain: &DomainName,
    anchor: &X509Ref,
    now: Timestamp,
    alarmed: &mut HashSet<(DomainName, String)>,
) {
    let facts = CertificateFacts::of(anchor);
    let Some(end) = facts.not_after else {
        return;
    };
    let seconds_left = end.as_second() - now.as_second();
    let (name, sha256) = (domain.to_string(), facts.sha256.clone());
    metrics::gauge!(ANCHOR_DAYS_LEFT, "domain" => name, "sha256" => sha256).set(days(seconds_left));
    let is_soon = seconds_left <= ALARMED_AHEAD_DAYS * DAY;
    if is_soon && alarmed.insert((domain.clone(), facts.sha256.clone())) {
        count_alarm("anchor_expiring");
        error!(
            alarm = "anchor_expiring",
            domain = %domain,
            sha256 = facts.sha256,
            "an anchor of {domain}, {}, is valid until {end}: whom it stands for is not trusted any more then", facts.sha256
        );
    }
}

fn tell(file: PathBuf, end: Timestamp, now: Timestamp, alarmed: &mut HashMap<PathBuf, Timestamp>) {
    let seconds_left = end.as_second() - now.as_second();
    let name = file.display().to_string();
    metrics::gauge!(CERTIFICATE_DAYS_LEFT, "file" => name.clone()).set(days(seconds_left));
    if seconds_left > ALARMED_AHEAD_DAYS * DAY || alarmed.get(&file) == Some(&end) {
        return;
    }
    count_alarm("certificate_expiring");
    error!(
        alarm = "certificate_expiring",
        file = name,
        "the certificate in {name} is valid until {end}: renew it"
    );
    alarmed.insert(file, end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_alarmed_once_from_thirty_days_before_its_end_and_so_is_the_next() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let told = recorder.handle();
        let file = || PathBuf::from("tls/server.pem");
        let at = |days: i64| Timestamp::from_second(days * DAY).unwrap();
        let mut alarmed = HashMap::new();
        for (end, now, count) in [
            (100, 69, None),
            (100, 70, Some(1)),
            (100, 71, Some(1)),
            (100, 99, Some(1)),
            (100, 101, Some(1)),
            // Renewed, for too short a time.
            (110, 101, Some(2)),
            (465, 101, Some(2)),
        ] {
            metrics::with_local_recorder(&recorder, || {
                tell(file(), at(end), at(now), &mut alarmed);
            });
            let text = told.render();
            let line = |count| {
                format!("xdbridge_alarms_total{{alarm=\"certificate_expiring\"}} {count}\n")
            };
            match count {
                Some(count) => assert!(text.contains(&line(count)), "{end} {now}\n{text}"),
                None => assert!(!text.contains("xdbridge_alarms_total{"), "{text}"),
            }
            let left = format!("{{file=\"tls/server.pem\"}} {}\n", end - now);
            assert!(text.contains(&left), "{left} in {text}");
        }
    }
}
