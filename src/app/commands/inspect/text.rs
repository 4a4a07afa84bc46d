//! What `inspect` prints for people.

use std::io::{self, Write};

use crate::{
    flows::inspect::{InspectedNotice, InspectedSubmission, Inspection},
    formats::{
        finding::{Finding, Severity},
        ids::MessageId,
        metadata::{Level, same_id},
        soap::Packaging,
    },
};

/// Writes what the file is, what it carries, every violated rule and the verdict. Nothing that was received can move
/// the terminal's cursor.
pub(in crate::app::commands) fn write(
    inspection: &Inspection,
    out: &mut dyn Write,
) -> io::Result<()> {
    let details: Vec<&str> = [
        inspection.packaging.map(Packaging::as_str),
        inspection.level.map(Level::as_str),
        inspection.secured.map(|secured| secured.form.as_str()),
    ]
    .into_iter()
    .flatten()
    .collect();
    match details.as_slice() {
        [] => writeln!(out, "{}", inspection.kind.as_str())?,
        details => writeln!(out, "{} ({})", inspection.kind.as_str(), details.join(", "))?,
    }
    if let Some(from) = &inspection.from {
        writeln!(out, "from {from}")?;
    }
    for recipient in &inspection.recipients {
        writeln!(out, "to {recipient}")?;
    }
    if let Some(id) = &inspection.notification_relates_to {
        writeln!(out, "notification about {}", shown(id))?;
    }
    if let Some(notice) = &inspection.notice {
        write_notice(notice, out)?;
    }
    if let Some(secured) = inspection.secured.filter(|one| one.recipient_infos > 0) {
        writeln!(out, "sealed for {} recipients", secured.recipient_infos)?;
    }
    for submission in &inspection.submissions {
        write_submission(submission, out)?;
    }
    write_findings(&inspection.findings, out)?;
    let verdict = if inspection.is_accepted() {
        "accept"
    } else {
        "refuse"
    };
    writeln!(out, "verdict: {verdict}")
}

/// What an MDN or DSN says of whom.
fn write_notice(notice: &InspectedNotice, out: &mut dyn Write) -> io::Result<()> {
    let id = notice.relates_to.as_ref().map(MessageId::as_str);
    writeln!(
        out,
        "notice about {}",
        shown(id.unwrap_or("an unnamed message"))
    )?;
    if let Some(disposition) = notice.disposition {
        let is_final = notice.is_final_delivery.unwrap_or_default();
        let final_delivery = if is_final { ", final delivery" } else { "" };
        writeln!(out, "  {disposition}{final_delivery}")?;
    }
    for recipient in &notice.recipients {
        let action = recipient.action.unwrap_or_default();
        let status = recipient.status.map(|status| status.to_string());
        let status = status.unwrap_or_default();
        let line = format!("  for {} {action} {status}", recipient.address);
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_submission(submission: &InspectedSubmission, out: &mut dyn Write) -> io::Result<()> {
    let metadata = &submission.metadata;
    let set = metadata.submission_sets().first();
    let id = set.and_then(|set| set.unique_id.as_deref());
    writeln!(
        out,
        "submission set {}: documents: {}, associations: {}, folders: {}",
        shown(id.unwrap_or("without uniqueId")),
        metadata.document_entries().len(),
        metadata.associations().len(),
        metadata.folders().len(),
    )?;
    for entry in metadata.document_entries() {
        let title = entry.title.as_deref().unwrap_or("without title");
        let mime_type = entry.mime_type.as_deref().unwrap_or("no mimeType");
        let mut documents = submission.documents.iter();
        let size = match documents.find(|(id, _)| same_id(id, &entry.id)) {
            Some((_, facts)) => format!("{} octets, SHA-1 {}", facts.size, facts.hash()),
            None => "not here".to_owned(),
        };
        writeln!(
            out,
            "  document {} ({}): {size}",
            shown(title),
            shown(mime_type)
        )?;
    }
    Ok(())
}

/// Writes one line for each finding.
pub(in crate::app::commands) fn write_findings(
    findings: &[Finding],
    out: &mut dyn Write,
) -> io::Result<()> {
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let code = finding.code.as_ref();
        let code = code.map_or_else(String::new, |code| format!(" {}", shown(code.as_str())));
        let place = match finding.location.as_str() {
            "" => String::new(),
            location => format!(" at {}", shown(location)),
        };
        let text = shown(&finding.text);
        writeln!(out, "{severity} {}{code}{place}: {text}", finding.rule)?;
    }
    Ok(())
}

/// Received text without control characters.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_text_cannot_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2J\r\nb"), "a\u{fffd}[2J\u{fffd}\u{fffd}b");
    }
}
