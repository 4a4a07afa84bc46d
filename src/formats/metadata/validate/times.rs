//! Times that contradict each other (MD-61).

use super::{super::DocumentEntry, ALL, METADATA_ERROR, Object, ObjectKind, Report, Rule, Scope};

pub(super) static RULES: &[Rule] = &[Rule {
    id: "MD-61",
    levels: ALL,
    object: ObjectKind::DocumentEntry,
    code: METADATA_ERROR,
    asks: "a serviceStartTime that is not after serviceStopTime",
    check: service_times,
}];

fn service_times(scope: &Scope<'_>, report: &mut Report<'_>) {
    for entry in scope.metadata.document_entries() {
        if is_reversed(entry) {
            let object = Object {
                kind: ObjectKind::DocumentEntry,
                registry: &entry.registry,
            };
            report.refuse(
                object.at("serviceStopTime"),
                "serviceStopTime lies before serviceStartTime",
            );
        }
    }
}

/// Compares at the precision that both have: digits of equal number sort as times.
fn is_reversed(entry: &DocumentEntry) -> bool {
    let (Some(start), Some(stop)) = (&entry.service_start_time, &entry.service_stop_time) else {
        return false;
    };
    let is_digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let common = start.len().min(stop.len());
    is_digits(start) && is_digits(stop) && start.get(..common) > stop.get(..common)
}
