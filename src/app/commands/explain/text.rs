//! What `explain` tells people.

use std::io::{self, Write};

use super::view::{AskedView, CertificateView, ChosenView, ExplainView, RefusalView, SenderView};
use crate::{app::terminal::printable, formats::smime::facts::CertificateFacts};

/// Certificates of one source that are shown; the JSON form has all.
const MAX_SHOWN: usize = 50;

/// Writes it. What others published must not command the terminal that it is read on.
pub(super) fn write(view: &ExplainView, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Vec::new();
    writeln!(text, "{} at {}", view.address, view.at)?;
    for one in &view.senders {
        writeln!(text)?;
        sender(one, &mut text)?;
    }
    out.write_all(printable(&String::from_utf8_lossy(&text)).as_bytes())
}

fn sender(one: &SenderView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "For mail from {}:", one.domain)?;
    let mut number = 0;
    for source in &one.asked {
        asked(source, &mut number, out)?;
    }
    match (&one.chosen, &one.refusal) {
        (Some(chosen), _) => served(chosen, out),
        (None, Some(refusal)) => refused(refusal, out),
        (None, None) => Ok(()),
    }
}

fn asked(source: &AskedView, number: &mut usize, out: &mut dyn Write) -> io::Result<()> {
    for step in &source.steps {
        writeln!(out, "? {} ({} ms)", step.question, step.took_ms)?;
        writeln!(out, "  {}", step.answer)?;
    }
    for one in source.certificates.iter().take(MAX_SHOWN) {
        *number += 1;
        certificate(one, *number, out)?;
    }
    match source.certificates.len().saturating_sub(MAX_SHOWN) {
        0 => Ok(()),
        more => {
            *number += more;
            writeln!(out, "  and {more} more, which --json shows")
        }
    }
}

fn certificate(one: &CertificateView, number: usize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  certificate {number} from {}", one.origin)?;
    writeln!(out, "    SHA-256   {}", one.sha256)?;
    match &one.facts {
        Some(told) => facts(told, out)?,
        None => writeln!(out, "    {} octets, no certificate", one.octets)?,
    }
    let binding = one.binding.unwrap_or_default();
    let passed = one.passed.iter().map(|check| match *check {
        "binding" => format!("binding ({binding})"),
        other => other.to_owned(),
    });
    let passed: Vec<String> = passed.collect();
    if !passed.is_empty() {
        writeln!(out, "    passed    {}", passed.join(", "))?;
    }
    match &one.failed {
        Some(failed) => writeln!(out, "    FAILED    {}: {}", failed.check, failed.reason),
        None if one.is_chosen => writeln!(out, "    CHOSEN"),
        None => writeln!(out, "    serves, and another one is preferred"),
    }
}

fn facts(told: &CertificateFacts, out: &mut dyn Write) -> io::Result<()> {
    let time = |time: Option<jiff::Timestamp>| match time {
        Some(time) => time.to_string(),
        None => "an unreadable time".to_owned(),
    };
    writeln!(out, "    subject   {}", told.subject)?;
    writeln!(out, "    issuer    {}", told.issuer)?;
    writeln!(out, "    serial    {}", told.serial)?;
    let (start, end) = (time(told.not_before), time(told.not_after));
    writeln!(out, "    valid     {start} to {end}")?;
    let emails = told
        .rfc822_names
        .iter()
        .map(|name| format!("rfc822Name {name}"));
    let domains = told.dns_names.iter().map(|name| format!("dNSName {name}"));
    let names: Vec<String> = emails.chain(domains).collect();
    match names.is_empty() {
        true => writeln!(out, "    names     nobody in subjectAltName"),
        false => writeln!(out, "    names     {}", names.join(", ")),
    }
}

fn served(chosen: &ChosenView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "= {} from {}", chosen.sha256, chosen.origin)?;
    writeln!(out, "  bound by {}", chosen.binding)?;
    for (index, one) in chosen.path.iter().enumerate() {
        let is_last = index + 1 == chosen.path.len();
        let role = match (index, is_last) {
            (_, true) => "anchor",
            (0, false) => "itself",
            _ => "between",
        };
        writeln!(out, "  path      {role:8}{} {}", one.sha256, one.subject)?;
    }
    match chosen.revocation_doubt {
        Some(doubt) => writeln!(
            out,
            "  used although its revocation is not known ({doubt}): revocation = \"soft\" (REV-4)"
        ),
        None => Ok(()),
    }
}

fn refused(refusal: &RefusalView, out: &mut dyn Write) -> io::Result<()> {
    let (reason, sentence) = (refusal.reason, refusal.sentence);
    writeln!(out, "= {reason}: {sentence}")?;
    writeln!(out, "  decided by {}", refusal.decided_by)?;
    if refusal.may_pass {
        writeln!(
            out,
            "  This may pass: a recipient is accepted, and looked up again until timers.queue_lifetime ends."
        )?;
    }
    Ok(())
}
