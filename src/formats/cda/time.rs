//! HL7 V3 times (TS) as DTM (MD-142): UTC, no fraction, no offset.

use jiff::{
    ToSpan,
    civil::{DateTime, date},
};

/// Turns a TS such as `20261122090509.123+0100` into a DTM, at the precision that it has. The offset counts only where
/// there is an hour; without one the time is taken as `default_offset_minutes` east of UTC. `None` if it is no time.
pub(crate) fn dtm(ts: &str, default_offset_minutes: i16) -> Option<String> {
    let ts = ts.trim();
    let (local, offset) = match ts.rfind(['+', '-']) {
        Some(at) => (ts.get(..at)?, Some(offset_minutes(ts.get(at..)?)?)),
        None => (
            ts.strip_suffix('Z').unwrap_or(ts),
            ts.ends_with('Z').then_some(0),
        ),
    };
    let digits = local.split('.').next()?;
    let is_time = matches!(digits.len(), 4 | 6 | 8 | 10 | 12 | 14)
        && digits.bytes().all(|octet| octet.is_ascii_digit());
    if !is_time {
        return None;
    }
    let field = |from: usize, to: usize, absent: i8| -> Option<i8> {
        digits
            .get(from..to)
            .map_or(Some(absent), |text| text.parse().ok())
    };
    let day = date_of(
        digits.get(..4)?.parse().ok()?,
        field(4, 6, 1)?,
        field(6, 8, 1)?,
    )?;
    if digits.len() <= 8 {
        return Some(digits.to_owned());
    }
    let offset = offset.unwrap_or(default_offset_minutes);
    let at = day.with().hour(field(8, 10, 0)?).minute(field(10, 12, 0)?);
    let at: DateTime = at.second(field(12, 14, 0)?).build().ok()?;
    let utc = at.checked_sub(i64::from(offset).minutes()).ok()?;
    let whole = utc.strftime("%Y%m%d%H%M%S").to_string();
    // An offset of half an hour makes minutes of a bare hour.
    let precision = if digits.len() == 10 && offset % 60 != 0 {
        12
    } else {
        digits.len()
    };
    whole.get(..precision).map(str::to_owned)
}

fn date_of(year: i16, month: i8, day: i8) -> Option<DateTime> {
    let is_real = year > 0 && jiff::civil::Date::new(year, month, day).is_ok();
    is_real.then(|| date(year, month, day).at(0, 0, 0, 0))
}

/// `+HHMM`, `-HH`, `+HH:MM`.
fn offset_minutes(text: &str) -> Option<i16> {
    let (sign, digits) = text.split_at_checked(1)?;
    let digits = digits.replace(':', "");
    let is_offset =
        matches!(digits.len(), 2 | 4) && digits.bytes().all(|octet| octet.is_ascii_digit());
    if !is_offset {
        return None;
    }
    let hours: i16 = digits.get(..2)?.parse().ok()?;
    let minutes: i16 = digits.get(2..).unwrap_or_default().parse().unwrap_or(0);
    let total = hours * 60 + minutes;
    (hours <= 14 && minutes < 60).then_some(if sign == "-" { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: MD-142, MD-40
    #[test]
    fn times_keep_their_precision_and_go_to_utc() {
        for (ts, expected) in [
            ("2026", Some("2026")),
            ("202611", Some("202611")),
            ("20261122", Some("20261122")),
            // A day has no zone.
            ("20261122+0100", Some("20261122")),
            ("2026112209", Some("2026112208")),
            ("2026112209+0530", Some("202611220330")),
            ("202611220005+0100", Some("202611212305")),
            ("20261231233005-0500", Some("20270101043005")),
            ("20261122090509.1234+01:00", Some("20261122080509")),
            ("20261122090509Z", Some("20261122090509")),
            ("20261122090509", Some("20261122080509")),
            ("20240229", Some("20240229")),
            ("20260229", None),
            ("20261322", None),
            ("20261122250000", None),
            ("00000101", None),
            ("202", None),
            ("", None),
            ("nullFlavor", None),
            ("20261122é", None),
            ("20261122090509+99", None),
        ] {
            assert_eq!(dtm(ts, 60).as_deref(), expected, "{ts}");
        }
    }
}
