//! How long certificates and revocation lists are valid.

use std::{io::Write, path::Path, sync::Arc};

use jiff::Timestamp;
use openssl::x509::X509Ref;
use serde::Serialize;

use crate::{
    adapters::{certificates::CertificateFiles, pem_files},
    app::{
        config::Config,
        exit::{CommandError, Exit},
        expiry_watch,
        terminal::printable,
    },
    bridge::own_domain::OwnDomain,
    formats::smime::facts::CertificateFacts,
};

/// A day in seconds.
const DAY: i64 = 86_400;

/// One certificate or list.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Until when it is valid, or in date.
    until: Timestamp,
    /// Whole days until then; negative when it is over.
    days_left: i64,
    /// `own`: it signs and opens mail; `tls`: it is shown in TLS; `anchor`; `crl`.
    kind: &'static str,
    /// The domain whose it is, or the file.
    of: String,
    /// Its subject; none of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// SHA-256 over its DER form; none of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Everything that the settings name, by the end of its validity.
pub(super) fn rows(
    config: &Config,
    files: &CertificateFiles,
    domains: &[Arc<OwnDomain>],
    now: Timestamp,
) -> Result<Vec<Row>, CommandError> {
    let mut rows = Vec::new();
    let certificate = |kind, of: String, certificate: &X509Ref| {
        let facts = CertificateFacts::of(certificate);
        Some(Row {
            until: facts.not_after?,
            days_left: days_left(facts.not_after?, now),
            kind,
            of,
            subject: Some(facts.subject),
            sha256: Some(facts.sha256),
        })
    };
    for own in domains {
        let name = || own.name.to_string();
        let identities = own.identities.iter();
        rows.extend(identities.filter_map(|one| certificate("own", name(), &one.certificate)));
        let anchors = own.anchors.certificates().iter();
        rows.extend(anchors.filter_map(|anchor| certificate("anchor", name(), anchor)));
    }
    for file in expiry_watch::tls_files(config) {
        let shown = pem_files::certificates(&file);
        let shown = shown.map_err(|fault| {
            CommandError::unreadable(anyhow::anyhow!("{}: {fault}", file.display()))
        })?;
        // Those after the first are its intermediates.
        let first = shown.first();
        rows.extend(first.and_then(|first| certificate("tls", shown_path(&file), first)));
    }
    rows.extend(files.crls().into_iter().map(|list| Row {
        until: list.next_update,
        days_left: days_left(list.next_update, now),
        kind: "crl",
        of: shown_path(&list.path),
        subject: None,
        sha256: None,
    }));
    rows.sort_by(|a, b| (a.until, a.kind, &a.of).cmp(&(b.until, b.kind, &b.of)));
    Ok(rows)
}

fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

fn days_left(until: Timestamp, now: Timestamp) -> i64 {
    (until.as_second() - now.as_second()).div_euclid(DAY)
}

/// Writes them. With `expiring`: 1 if there are any.
pub(super) fn write(
    mut rows: Vec<Row>,
    expiring: Option<u32>,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    if let Some(days) = expiring {
        rows.retain(|row| row.days_left < i64::from(days));
    }
    if json {
        let document = serde_json::to_value(&rows).map_err(CommandError::failed)?;
        writeln!(out, "{document:#}")?;
    } else {
        for row in &rows {
            let subject = row.subject.as_deref().unwrap_or_default();
            let line = format!(
                "{:>6} days  {}  {:<6}  {}  {subject}",
                row.days_left, row.until, row.kind, row.of
            );
            // What others wrote must not command the terminal that it is read on.
            writeln!(out, "{}", printable(line.trim_end()))?;
        }
    }
    Ok(if expiring.is_some() && !rows.is_empty() {
        Exit::Refused
    } else {
        Exit::Done
    })
}
