//! The data types of metadata.md section 5 (MD-95): one row for each type, run over every attribute of that type.

use super::{
    super::{
        super::ids::Oid,
        hl7::{self, Cx, Hl7Error, IntendedRecipient, Xcn, Xon, Xtn},
        uuids::{document_entry, submission_set},
    },
    ALL, METADATA_ERROR, Object, ObjectKind, Report, Rule, Scope,
    attributes::{attributes_of, classifications},
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
}

/// What a check says of one value.
enum Verdict {
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

pub(super) static RULES: &[Rule] = &[
    row(
        "MD-40",
        "times as DTM: 4, 6, 8, 10, 12 or 14 digits, a real day, UTC",
        dtms,
    ),
    row("MD-41", "identifiers of patients as CX: Id^^^&OID&ISO", cxs),
    row("MD-43", "persons as XCN", xcns),
    row("MD-44", "organisations as XON", xons),
    row("MD-45", "telecommunication addresses as XTN", xtns),
    row("XDR-61", "intendedRecipient as XON|XCN|XTN", recipients),
    row("MD-48", "references as CXi: Id^^^&OID&ISO^TypeCode", cxis),
    row("MD-49", "repositoryUniqueId as OID", oids),
    row("MD-50", "ids that start with urn:uuid: as UUIDs", entry_ids),
    row(
        "MD-51",
        "a uniqueId of at most 256 characters without control characters",
        identifiers,
    ),
    row(
        "MD-52",
        "uniqueId of SubmissionSet and Folder, and sourceId, as OID",
        system_ids,
    ),
    row("MD-53", "hash as 40 hexadecimal digits", hashes),
    row("MD-54", "size as 1 to 19 digits", sizes),
    row("MD-55", "languageCode as a language tag", languages),
    row("MD-56", "mimeType as type/subtype", mime_types),
    row("MD-57", "sourcePatientInfo as PID-n|value", patient_infos),
    row(
        "MD-9",
        "homeCommunityId as urn:oid:, status Approved",
        home_and_status,
    ),
    Rule {
        id: "MD-58",
        levels: ALL,
        object: ObjectKind::Any,
        code: None,
        asks: "no HL7 escapes but those of the five delimiters",
        check: hl7_escapes,
    },
    Rule {
        id: "XDR-64",
        levels: ALL,
        object: ObjectKind::Any,
        code: None,
        asks: "values without white space around them",
        check: white_space,
    },
];

const fn row(id: &'static str, asks: &'static str, check: fn(&Scope<'_>, &mut Report<'_>)) -> Rule {
    Rule {
        id,
        levels: ALL,
        object: ObjectKind::Any,
        code: METADATA_ERROR,
        asks,
        check,
    }
}

/// Runs `judge` over every value of a type that is not empty.
fn each(
    scope: &Scope<'_>,
    report: &mut Report<'_>,
    data_type: DataType,
    judge: impl Fn(&str) -> Verdict,
) {
    for object in &scope.objects {
        for attribute in attributes_of(object.kind).filter(|a| a.data_type == data_type) {
            for value in attribute.values(object.registry) {
                tell(scope, report, object, attribute.name, value, &judge);
            }
        }
    }
}

fn tell(
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

/// Runs `judge` over the values of one slot of all authors.
fn each_author_slot(
    scope: &Scope<'_>,
    report: &mut Report<'_>,
    slot: &str,
    judge: impl Fn(&str) -> Verdict,
) {
    for object in &scope.objects {
        let scheme = match object.kind {
            ObjectKind::DocumentEntry => document_entry::AUTHOR,
            ObjectKind::SubmissionSet => submission_set::AUTHOR,
            _ => continue,
        };
        for author in classifications(object.registry, scheme) {
            for value in super::super::model::slot(&author.slots, slot).unwrap_or_default() {
                tell(
                    scope,
                    report,
                    object,
                    &format!("author.{slot}"),
                    value,
                    &judge,
                );
            }
        }
    }
}

fn good_if(is_good: bool, expected: &'static str) -> Verdict {
    if is_good { Good } else { Refused(expected) }
}

fn of_hl7(result: Result<(), Hl7Error>) -> Verdict {
    result.map_or_else(|error| Malformed(error.expected), |()| Good)
}

fn dtms(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Dtm, |value| {
        good_if(
            is_dtm(value),
            "not a time; accepted are the digits YYYY[MM[DD[hh[mm[ss]]]]] of a real day, in UTC, \
             without fraction or offset",
        )
    });
}

fn cxs(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Cx, |value| {
        of_hl7(Cx::read(value).check())
    });
}

fn xcns(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Xcn, |value| {
        of_hl7(Xcn::read(value).check())
    });
    each_author_slot(scope, report, "authorPerson", |value| {
        of_hl7(Xcn::read(value).check())
    });
}

fn xons(scope: &Scope<'_>, report: &mut Report<'_>) {
    each_author_slot(scope, report, "authorInstitution", |value| {
        of_hl7(Xon::read(value).check())
    });
}

fn xtns(scope: &Scope<'_>, report: &mut Report<'_>) {
    each_author_slot(scope, report, "authorTelecommunication", |value| {
        judge_xtn(&Xtn::read(value))
    });
}

fn judge_xtn(xtn: &Xtn) -> Verdict {
    match xtn.check() {
        Ok(()) => Good,
        Err(_) if xtn.is_loose_email() => Tolerated(
            "an e-mail address in a form that is only tolerated; it should be ^^Internet^user@domain",
        ),
        Err(error) => Malformed(error.expected),
    }
}

fn recipients(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::IntendedRecipient, |value| {
        let recipient = IntendedRecipient::read(value);
        let is_loose = recipient
            .telecommunication
            .as_ref()
            .is_some_and(Xtn::is_loose_email);
        match recipient.check() {
            Ok(()) => Good,
            Err(error) if error.rule == "XDR-63" && is_loose => Tolerated(
                "an e-mail address in a form that is only tolerated; it should be ^^Internet^user@domain",
            ),
            Err(error) => Malformed(error.expected),
        }
    });
}

fn cxis(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Cxi, |value| {
        of_hl7(hl7::check_cxi(value))
    });
}

fn oids(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Oid, |value| {
        good_if(value.parse::<Oid>().is_ok(), "not an OID, such as 2.999.1")
    });
}

fn entry_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::EntryId, |value| {
        if !super::super::is_uuid_urn(value) {
            return Good;
        }
        let expected = "urn:uuid: must be followed by a UUID of 36 characters; an id without that \
                        prefix is symbolic";
        if !is_uuid_text(value.get("urn:uuid:".len()..).unwrap_or_default()) {
            Refused(expected)
        } else if value.bytes().any(|octet| octet.is_ascii_uppercase()) {
            Tolerated("a UUID in upper case; it should be in lower case (MD-7)")
        } else {
            Good
        }
    });
}

fn identifiers(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Identifier, |value| {
        good_if(
            value.chars().count() <= 256 && !value.chars().any(char::is_control),
            "a uniqueId has at most 256 characters and no control characters",
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
            Tolerated("not a bare OID, such as 2.999.1; carried as it is")
        } else {
            RefusedIfStrict("not an OID, such as 2.999.1")
        }
    });
}

fn hashes(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Hash, |value| {
        good_if(
            value.len() == 40 && value.bytes().all(|octet| octet.is_ascii_hexdigit()),
            "a hash has 40 hexadecimal digits (SHA-1)",
        )
    });
}

fn sizes(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Size, |value| {
        good_if(
            value.len() <= 19 && value.bytes().all(|octet| octet.is_ascii_digit()),
            "a size is a number of octets of 1 to 19 digits",
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
            "not a language tag, such as en-US",
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
                    .all(|c| c.is_alphanumeric() || "_!#$&^.+-".contains(c))
        };
        let is_good = media_type
            .trim_end()
            .split_once('/')
            .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
        match (is_good, parameters.is_empty()) {
            (true, true) => Good,
            (true, false) => Tolerated("a mimeType has no parameters; they are not used"),
            (false, _) => Refused("not a media type, such as text/xml"),
        }
    });
}

fn patient_infos(scope: &Scope<'_>, report: &mut Report<'_>) {
    /// PID fields that carry identifiers which must not be sent (ITI TF-3 4.2.3.2.23).
    const FORBIDDEN: [u8; 4] = [2, 4, 12, 19];
    const ONCE: [u8; 2] = [7, 8];
    each(scope, report, DataType::PatientInfo, |value| {
        let Some((field, content)) = pid_field(value) else {
            return Refused("sourcePatientInfo must be PID-n|value with n from 1 to 39");
        };
        if content.is_empty() {
            return Good;
        }
        if FORBIDDEN.contains(&field) {
            return Refused("sourcePatientInfo must not carry PID-2, PID-4, PID-12 or PID-19");
        }
        let is_cx_list = || content.split('~').all(|cx| Cx::read(cx).check().is_ok());
        good_if(
            field != 3 || is_cx_list(),
            "PID-3 must be a list of CX (Id^^^&OID&ISO) joined by ~",
        )
    });
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        let values = super::super::model::slot(&entry.registry.slots, "sourcePatientInfo");
        let fields: Vec<u8> = values
            .unwrap_or_default()
            .iter()
            .filter_map(|value| pid_field(value.trim()).map(|(field, _)| field))
            .collect();
        for once in ONCE {
            if fields.iter().filter(|field| **field == once).count() > 1 {
                report.refuse(
                    entry.at("sourcePatientInfo"),
                    format!("PID-{once} may occur once"),
                );
            }
        }
    }
}

/// The number and the content of `PID-n|content`.
fn pid_field(value: &str) -> Option<(u8, &str)> {
    let (number, content) = value.strip_prefix("PID-")?.split_once('|')?;
    let is_plain = number.bytes().all(|octet| octet.is_ascii_digit()) && !number.starts_with('0');
    let field: u8 = number.parse().ok()?;
    (is_plain && field <= 39).then_some((field, content))
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
            Tolerated("a status other than Approved is not submitted; carried as it is")
        }
    });
}

/// The types whose values are split at HL7 delimiters.
const HL7_TYPES: [DataType; 5] = [
    DataType::Cx,
    DataType::Cxi,
    DataType::Xcn,
    DataType::IntendedRecipient,
    DataType::PatientInfo,
];

fn hl7_escapes(scope: &Scope<'_>, report: &mut Report<'_>) {
    let judge = |value: &str| {
        if hl7::is_escaped_well(value) {
            Good
        } else {
            Tolerated("a backslash that starts none of the escapes \\F\\ \\S\\ \\T\\ \\R\\ \\E\\")
        }
    };
    for data_type in HL7_TYPES {
        each(scope, report, data_type, judge);
    }
    for slot in [
        "authorPerson",
        "authorInstitution",
        "authorTelecommunication",
    ] {
        each_author_slot(scope, report, slot, judge);
    }
}

fn white_space(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        for attribute in attributes_of(object.kind) {
            let is_text = matches!(attribute.data_type, DataType::Text);
            let values = attribute.values(object.registry);
            let is_wrapped = |value: &&str| value.trim().len() != value.len();
            let is_broken = |value: &&str| value.contains(['\r', '\n']);
            if !is_text && values.iter().any(|v| is_wrapped(v) || is_broken(v)) {
                report.warn(
                    object.at(attribute.name),
                    "a value with white space around it or a line break in it; read without",
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
