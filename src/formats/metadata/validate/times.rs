//! Times that contradict each other or the clock (MD-61, MD-62).

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    Object, ObjectKind, Report, Row, Scope,
    table::{refuses, tells},
};

pub(super) static ROWS: &[Row] = &[
    refuses(
        "MD-61",
        ObjectKind::DocumentEntry,
        "a serviceStartTime that is not after serviceStopTime",
        service_times,
    ),
    tells(
        "MD-62",
        ObjectKind::Any,
        "creationTime, serviceStopTime and lastUpdateTime that are not in the future",
        future_times,
    ),
];

fn is_digits(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit())
}

fn time<'a>(object: &Object<'a>, name: &str) -> Option<&'a str> {
    let mut values = object.values_of(name).map(str::trim);
    values.find(|value| !value.is_empty() && is_digits(value))
}

fn service_times(scope: &Scope<'_>, report: &mut Report<'_>) {
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        let (Some(start), Some(stop)) = (
            time(entry, "serviceStartTime"),
            time(entry, "serviceStopTime"),
        ) else {
            continue;
        };
        // At the precision that both have, digits of equal number sort as times.
        let common = start.len().min(stop.len());
        if start.get(..common) > stop.get(..common) {
            report.refuse_value(
                entry.at("serviceStopTime"),
                "serviceStopTime lies before serviceStartTime; it must not",
                stop,
            );
        }
    }
}

/// How far another clock may be ahead of ours before it is told.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

fn future_times(scope: &Scope<'_>, report: &mut Report<'_>) {
    const PAST: [&str; 3] = ["creationTime", "serviceStopTime", "lastUpdateTime"];
    let Some(now) = scope.context.now.and_then(digits_of) else {
        return;
    };
    for object in scope.described() {
        for name in PAST {
            // Compared at the precision of the value: this year is not in the future.
            if let Some(value) = time(object, name)
                && value.len() <= now.len()
                && Some(value) > now.get(..value.len())
            {
                let text = format!(
                    "{name} lies in the future; it should be a time that has passed, in UTC"
                );
                report.warn_value(object.at(name), text, value);
            }
        }
    }
}

/// The latest time that counts as now, as 14 digits.
fn digits_of(now: Timestamp) -> Option<String> {
    let latest = now.checked_add(CLOCK_SKEW).ok()?.to_zoned(TimeZone::UTC);
    Some(format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        latest.year(),
        latest.month(),
        latest.day(),
        latest.hour(),
        latest.minute(),
        latest.second()
    ))
}
