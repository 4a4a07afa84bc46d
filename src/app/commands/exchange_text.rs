//! What `xdbridge exchange` tells people; scripts take `--json`.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    app::terminal::printable,
    bridge::overview::{
        AttemptView, LegWhat, NextView, NoticeView, Overview, RecipientView, Summary,
    },
    flows::ports::{Done, Page, Told},
};

/// Writes what an operator is told. What peers wrote must not command the terminal that it is read on.
pub(super) fn write(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Vec::new();
    match told {
        Told::Page(page) => list(page, &mut text)?,
        Told::Exchange(exchange) => show(exchange, &mut text)?,
        Told::Done(done) => tell(done, &mut text)?,
    }
    out.write_all(printable(&String::from_utf8_lossy(&text)).as_bytes())
}

fn list(page: &Page, out: &mut dyn Write) -> io::Result<()> {
    for one in &page.exchanges {
        writeln!(out, "{}", line(one))?;
    }
    match &page.next {
        Some(next) => writeln!(out, "more: --after {}", String::from(*next)),
        None => Ok(()),
    }
}

fn line(one: &Summary) -> String {
    let other = match &one.partner {
        Some(partner) => partner.clone(),
        None if one.endpoints.is_empty() => "-".to_owned(),
        None => one.endpoints.join(","),
    };
    let counts = one.recipients;
    let reasons: Vec<&str> = one.reasons.iter().map(|reason| reason.token()).collect();
    let line = format!(
        "{}  {}  {:10}  {:16}  {other}  {} open, {} delivered, {} failed  {}",
        one.id,
        one.accepted_at,
        word(&one.direction),
        word(&one.state),
        counts.open,
        counts.delivered,
        counts.failed,
        reasons.join(" "),
    );
    line.trim_end().to_owned()
}

fn show(one: &Overview, out: &mut dyn Write) -> io::Result<()> {
    let summary = &one.summary;
    writeln!(out, "exchange      {}", summary.id)?;
    writeln!(out, "direction     {}", word(&summary.direction))?;
    write!(out, "state         {}", word(&summary.state))?;
    match &one.held_since {
        Some(since) => writeln!(out, " since {since}")?,
        None => writeln!(out)?,
    }
    writeln!(out, "accepted      {}", summary.accepted_at)?;
    if let Some(at) = &summary.final_at {
        writeln!(out, "settled       {at}")?;
    }
    let from = one.from.as_ref().map(ToString::to_string);
    for (name, value) in [
        ("partner", summary.partner.clone()),
        ("from", from),
        (
            "wsa:MessageID",
            one.ids
                .wsa_message_id
                .as_ref()
                .map(|id| id.as_str().to_owned()),
        ),
        ("submission", one.ids.submission_set.clone()),
        (
            "Message-ID",
            one.ids.message_id.as_ref().map(|id| id.as_str().to_owned()),
        ),
    ] {
        if let Some(value) = value {
            writeln!(out, "{name:13} {value}")?;
        }
    }
    writeln!(
        out,
        "deadlines     attempts until {}, processed by {}, dispatched by {}{}",
        one.deadlines.queue,
        one.deadlines.processed,
        one.deadlines.dispatched,
        if one.wants_final_delivery {
            ""
        } else {
            " (not asked for)"
        },
    )?;
    section(out, "recipients", one.recipients_each.iter().map(recipient))?;
    section(
        out,
        "legs",
        one.legs
            .iter()
            .map(|leg| format!("{}  {}", leg.id, leg_text(&leg.what))),
    )?;
    section(out, "next", one.next.iter().map(next))?;
    section(out, "attempts", one.attempts.iter().map(attempt))?;
    section(out, "notices", one.notices.iter().map(notice))?;
    let causes = one.causes.iter().map(|cause| {
        let whom = cause.recipient.as_ref();
        let whom = whom.map_or_else(String::new, |address| format!("{address}: "));
        format!("{}  {}  {whom}{}", cause.at, word(&cause.kind), cause.text)
    });
    section(out, "causes", causes)
}

fn section(out: &mut dyn Write, name: &str, lines: impl Iterator<Item = String>) -> io::Result<()> {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            writeln!(out, "{name}")?;
        }
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn recipient(one: &RecipientView) -> String {
    let mut text = format!("{}  {}", one.address, word(&one.state));
    if let Some(at) = &one.settled_at {
        let how = if one.is_delivered {
            "delivered"
        } else {
            "failed"
        };
        text.push_str(&format!(", {how} at {at}"));
    }
    if let (Some(reason), Some(sentence)) = (&one.reason, &one.sentence) {
        text.push_str(&format!("  {}: {sentence}", reason.token()));
    }
    if let Some(status) = &one.status {
        let end = status.end.as_ref().map_or_else(|| "open".to_owned(), word);
        text.push_str(&format!(
            "  status {} {end}",
            status.wsa_message_id.as_str()
        ));
    }
    text
}

fn leg_text(what: &LegWhat) -> String {
    match what {
        LegWhat::Mail {
            message_id,
            wire_bytes,
        } => {
            let sealed = wire_bytes.map_or_else(
                || "not sealed yet".to_owned(),
                |octets| format!("{octets} octets"),
            );
            format!("mail {}  {sealed}", message_id.as_str())
        }
        LegWhat::Post {
            endpoint,
            wsa_message_id,
            state,
            is_answer_lost,
            reason,
            error_code,
        } => {
            let mut text = format!(
                "post {}  to {endpoint}  {}",
                wsa_message_id.as_str(),
                word(state)
            );
            if *is_answer_lost {
                text.push_str(", an answer was lost");
            }
            if let Some(reason) = reason {
                text.push_str(&format!("  {}", reason.token()));
            }
            if let Some(code) = error_code {
                text.push_str(&format!("  {code}"));
            }
            text
        }
    }
}

fn next(one: &NextView) -> String {
    let when = match (one.is_withheld, one.is_under_way) {
        (true, _) => "withheld                   ".to_owned(),
        (_, true) => format!("under way until {}", one.at),
        _ => one.at.to_string(),
    };
    let mut text = format!("{when}  {}", one.what);
    let recipient = one.recipient.as_ref().map(ToString::to_string);
    let domain = one.domain.as_ref().map(ToString::to_string);
    for value in [&one.to, &domain, &recipient].into_iter().flatten() {
        text.push_str(&format!("  {value}"));
    }
    if let Some(attempt) = one.attempt {
        text.push_str(&format!("  attempt {attempt}"));
    }
    text
}

fn attempt(one: &AttemptView) -> String {
    let how = if one.is_success { "ok" } else { "failed" };
    let places = [&one.to, &one.recipient].into_iter().flatten();
    let places: Vec<&str> = places.map(String::as_str).collect();
    format!("{}  {how}  {}  {}", one.at, places.join("  "), one.text)
}

fn notice(one: &NoticeView) -> String {
    let way = if one.is_sent { "sent" } else { "received" };
    let mut text = format!("{}  {way}  {}  {}", one.at, one.disposition, one.recipient);
    if let Some(id) = &one.message_id {
        text.push_str(&format!("  {id}"));
    }
    if !one.is_success {
        text.push_str("  failed");
    }
    if let Some(more) = &one.text {
        text.push_str(&format!("  {more}"));
    }
    text
}

fn tell(done: &Done, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "exchange {}: {}", done.id, done.text)?;
    for address in &done.ended {
        writeln!(out, "  {address}")?;
    }
    if done.under_way > 0 {
        writeln!(out, "  under way, and going to its end: {}", done.under_way)?;
    }
    Ok(())
}

/// The word of the JSON form.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
