//! The data types of metadata.md section 5 (MD-95): one row for each type, run over every attribute of that type. Those
//! of HL7 are in [`super::hl7_types`].

use super::{
    super::super::ids::Oid,
    Object, ObjectKind, Report, Row, Scope,
    table::{Check, refuses, refuses_if_strict, tells},
};

/// The form of an attribute's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the data type of metadata.md section 5 that its name says"
)]
pub enum DataType {
    Text,
    Dtm,
    /// A DTM with nothing left out.
    DtmToTheSecond,
    Cx,
    Cxi,
    Xcn,
    IntendedRecipient,
    Oid,
    /// A SubmissionSet's or Folder's uniqueId, and sourceId (MD-52).
    SystemId,
    /// A DocumentEntry's uniqueId (MD-51).
    Identifier,
    /// An object's `@id` (MD-7, MD-50).
    EntryId,
    Hash,
    Size,
    Language,
    MimeType,
    PatientInfo,
    HomeCommunity,
    Status,
    /// Whether the document can be had at once.
    Availability,
}

/// What a check says of one value.
pub(super) enum Verdict {
    Good,
    /// Read leniently; the text says how it should be.
    Tolerated(&'static str),
    /// Refused; the text says what would be accepted.
    Refused(&'static str),
    /// Refused; the text names the form that would be accepted.
    Malformed(&'static str),
    /// Refused under the strict profile, tolerated otherwise.
    RefusedIfStrict(&'static str),
}

use Verdict::{Good, Malformed, Refused, RefusedIfStrict, Tolerated};

pub(super) static ROWS: &[Row] = &[
    of_type(
        "MD-40",
        "times as DTM: 4, 6, 8, 10, 12 or 14 digits, a real day, UTC",
        dtms,
    ),
    of_type("MD-49", "repositoryUniqueId as OID", oids),
    of_type("MD-50", "ids that start with urn:uuid: as UUIDs", entry_ids),
    of_type(
        "MD-51",
        "a uniqueId of at most 256 characters without control characters",
        identifiers,
    ),
    refuses_if_strict(
        "MD-52",
        ObjectKind::Any,
        "uniqueId of SubmissionSet and Folder, and sourceId, as OID",
        system_ids,
    ),
    of_type("MD-53", "hash as 40 hexadecimal digits", hashes),
    of_type("MD-54", "size as 1 to 19 digits", sizes),
    of_type("MD-55", "languageCode as a language tag", languages),
    of_type("MD-56", "mimeType as type/subtype", mime_types),
    of_type(
        "MD-9",
        "homeCommunityId as urn:oid:, status Approved",
        home_and_status,
    ),
    refuses_if_strict(
        "MD-95",
        ObjectKind::DocumentEntry,
        "documentAvailability as one of its two URNs",
        availabilities,
    ),
    tells(
        "XDR-64",
        ObjectKind::Any,
        "values without white space around them or line breaks in them",
        white_space,
    ),
];

/// A rule about the form of values, wherever they stand (MD-95).
pub(super) const fn of_type(id: &'static str, asks: &'static str, check: Check) -> Row {
    refuses(id, ObjectKind::Any, asks, check)
}

/// Runs `judge` over every value of a type that is not empty.
pub(super) fn each(
    scope: &Scope<'_>,
    report: &mut Report<'_>,
    data_type: DataType,
    judge: impl Fn(&str) -> Verdict,
) {
    for object in &scope.objects {
        for (attribute, value) in &object.values {
            if attribute.data_type == data_type {
                tell(scope, report, object, attribute.name, value, &judge);
            }
        }
    }
}

pub(super) fn tell(
    scope: &Scope<'_>,
    report: &mut Report<'_>,
    object: &Object<'_>,
    attribute: &str,
    value: &str,
    judge: impl Fn(&str) -> Verdict,
) {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        // An empty value is no value (MD-1).
        return;
    }
    let (is_error, text) = match judge(trimmed) {
        Good => return,
        Tolerated(text) => (false, text.to_owned()),
        Refused(text) => (true, text.to_owned()),
        Malformed(expected) => (true, format!("malformed; accepted is {expected}")),
        RefusedIfStrict(text) => (scope.context.is_strict(), text.to_owned()),
    };
    report.tell_value(is_error, object.at(attribute), text, value);
}

pub(super) fn good_if(is_good: bool, expected: &'static str) -> Verdict {
    if is_good { Good } else { Refused(expected) }
}

fn dtms(scope: &Scope<'_>, report: &mut Report<'_>) {
    let judge = |value: &str| {
        good_if(
            is_dtm(value),
            "not a time; accepted are the digits YYYY[MM[DD[hh[mm[ss]]]]] of a real day, in UTC, \
             without fraction or offset",
        )
    };
    each(scope, report, DataType::Dtm, judge);
    each(
        scope,
        report,
        DataType::DtmToTheSecond,
        |value| match judge(value) {
            Good if value.len() < 14 => {
                RefusedIfStrict("a time that is not told to the second; accepted are 14 digits")
            }
            verdict => verdict,
        },
    );
}

fn oids(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Oid, |value| {
        good_if(
            value.parse::<Oid>().is_ok(),
            "not an OID; accepted is one such as 2.999.1",
        )
    });
}

fn entry_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::EntryId, |value| {
        let is_symbolic = !super::super::is_uuid_urn(value);
        good_if(
            is_symbolic || is_uuid_text(value.get("urn:uuid:".len()..).unwrap_or_default()),
            "urn:uuid: must be followed by a UUID of 36 characters; an id without that prefix is symbolic",
        )
    });
}

fn identifiers(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Identifier, |value| {
        good_if(
            value.chars().count() <= 256 && !value.chars().any(char::is_control),
            "accepted is a uniqueId of at most 256 characters and no control characters",
        )
    });
}

fn system_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::SystemId, |value| {
        let uuid = value.strip_prefix("urn:uuid:").unwrap_or(value);
        let oid = value.strip_prefix("urn:oid:");
        if value.parse::<Oid>().is_ok() {
            Good
        } else if is_uuid_text(uuid) || oid.is_some_and(|oid| oid.parse::<Oid>().is_ok()) {
            Tolerated("not a bare OID; it should be one such as 2.999.1; carried as it is")
        } else {
            RefusedIfStrict("not an OID; accepted is one such as 2.999.1")
        }
    });
}

fn hashes(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Hash, |value| {
        good_if(
            value.len() == 40 && value.bytes().all(|octet| octet.is_ascii_hexdigit()),
            "not a hash; accepted are 40 hexadecimal digits (SHA-1)",
        )
    });
}

fn sizes(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Size, |value| {
        good_if(
            value.len() <= 19 && value.bytes().all(|octet| octet.is_ascii_digit()),
            "not a size; accepted is a number of octets of 1 to 19 digits",
        )
    });
}

fn languages(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Language, |value| {
        let is_subtag = |(at, subtag): (usize, &str)| {
            (1..=8).contains(&subtag.len())
                && subtag.bytes().all(|octet| match at {
                    0 => octet.is_ascii_alphabetic(),
                    _ => octet.is_ascii_alphanumeric(),
                })
        };
        good_if(
            value.split('-').enumerate().all(is_subtag),
            "not a language tag; accepted is one such as en-US",
        )
    });
}

fn mime_types(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::MimeType, |value| {
        let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
        let is_token = |text: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_!#$&^.+-".contains(c))
        };
        let is_good = media_type
            .trim_end()
            .split_once('/')
            .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
        match (is_good, parameters.is_empty()) {
            (true, true) => Good,
            (true, false) => Tolerated("a mimeType should have no parameters; they are not used"),
            (false, _) => Refused("not a media type; accepted is one such as text/xml"),
        }
    });
}

fn home_and_status(scope: &Scope<'_>, report: &mut Report<'_>) {
    const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";
    each(scope, report, DataType::HomeCommunity, |value| {
        let oid = value.strip_prefix("urn:oid:");
        good_if(
            oid.is_some_and(|oid| oid.parse::<Oid>().is_ok()),
            "homeCommunityId must be urn:oid: and an OID",
        )
    });
    each(scope, report, DataType::Status, |value| {
        if value == APPROVED {
            Good
        } else {
            Tolerated(
                "a status other than Approved, carried as it is; it should be Approved or left out",
            )
        }
    });
}

fn availabilities(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Availability, |value| {
        let state = value.strip_prefix("urn:ihe:iti:2010:DocumentAvailability:");
        match state {
            Some("Online" | "Offline") => Good,
            _ => RefusedIfStrict(
                "an unknown availability; accepted are urn:ihe:iti:2010:DocumentAvailability:Online and the same with \
                 Offline",
            ),
        }
    });
}

fn white_space(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let mut told = "";
        for (attribute, value) in &object.values {
            let is_wrapped = value.trim().len() != value.len() || value.contains(['\r', '\n']);
            // Once for each attribute; free text may hold what it likes.
            if is_wrapped && attribute.data_type != DataType::Text && told != attribute.name {
                told = attribute.name;
                report.warn_value(
                    object.at(attribute.name),
                    "a value with white space around it or a line break in it, read without; it should have none",
                    value,
                );
            }
        }
    }
}

/// Whether `value` is a DTM of a real day (MD-40).
fn is_dtm(value: &str) -> bool {
    if !matches!(value.len(), 4 | 6 | 8 | 10 | 12 | 14)
        || !value.bytes().all(|octet| octet.is_ascii_digit())
    {
        return false;
    }
    let part = |from: usize, to: usize, missing: i16| {
        value
            .get(from..to)
            .and_then(|digits| digits.parse::<i16>().ok())
            .unwrap_or(missing)
    };
    let (month, day) = (part(4, 6, 1), part(6, 8, 1));
    let is_day = match (i8::try_from(month), i8::try_from(day)) {
        // Year 0 is none; jiff knows the lengths of months and the leap years.
        (Ok(month), Ok(day)) => jiff::civil::Date::new(part(0, 4, 1), month, day).is_ok(),
        _ => false,
    };
    is_day && part(8, 10, 0) < 24 && part(10, 12, 0) < 60 && part(12, 14, 0) < 60
}

/// Whether `text` is a UUID in its usual form of 36 characters, in any case (MD-50).
fn is_uuid_text(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}
