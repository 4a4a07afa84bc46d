//! The data types of HL7 inside metadata values (metadata.md section 5, MD-95).

use super::{
    super::hl7::{self, Cx, Hl7Error, IntendedRecipient, Xcn, Xon, Xtn},
    ObjectKind, Report, Row, Scope,
    attributes::{DataType, Form},
    datatypes::{
        Verdict::{self, Good, Malformed, Refused, Tolerated},
        each, good_if, of_type, tell,
    },
    table::tells,
};

pub(super) static ROWS: &[Row] = &[
    of_type("MD-41", "identifiers of patients as CX: Id^^^&OID&ISO", cxs),
    of_type("MD-43", "persons as XCN", xcns),
    of_type("MD-44", "organisations as XON", xons),
    of_type("MD-45", "telecommunication addresses as XTN", xtns),
    of_type("XDR-61", "intendedRecipient as XON|XCN|XTN", recipients),
    of_type("MD-48", "references as CXi: Id^^^&OID&ISO^TypeCode", cxis),
    of_type("MD-57", "sourcePatientInfo as PID-n|value", patient_infos),
    tells(
        "MD-47",
        ObjectKind::Any,
        "authorRole and authorSpecialty as text or as a coded string: Code^^^&OID&ISO",
        coded_strings,
    ),
    tells(
        "MD-58",
        ObjectKind::Any,
        "no HL7 escapes but those of the five delimiters",
        hl7_escapes,
    ),
];

/// Runs `judge` over the values of one slot of all authors.
fn each_author_slot(
    scope: &Scope<'_>,
    report: &mut Report<'_>,
    slot: &str,
    judge: impl Fn(&str) -> Verdict,
) {
    for object in &scope.objects {
        for (attribute, author) in &object.classified {
            if !matches!(attribute.form, Form::Author(_)) {
                continue;
            }
            for found in author.slots.iter().filter(|found| found.name == slot) {
                for value in &found.values {
                    let place = format!("author.{slot}");
                    tell(scope, report, object, &place, value, &judge);
                }
            }
        }
    }
}

fn of_hl7(result: Result<(), Hl7Error>) -> Verdict {
    result.map_or_else(|error| Malformed(error.expected), |()| Good)
}

fn cxs(scope: &Scope<'_>, report: &mut Report<'_>) {
    each(scope, report, DataType::Cx, |value| {
        match Cx::read(value).check() {
            Ok(()) if value.ends_with('^') => {
                Tolerated("delimiters at the end, read without; it should be Id^^^&OID&ISO")
            }
            checked => of_hl7(checked),
        }
    });
}

fn xcns(scope: &Scope<'_>, report: &mut Report<'_>) {
    let judge = |value: &str| {
        let person = Xcn::read(value);
        match person.check() {
            Ok(()) if person.lacks_authority() => Tolerated(
                "an Id without an assigning authority, which is not known to be unique; component 9 should be &OID&ISO",
            ),
            checked => of_hl7(checked),
        }
    };
    each(scope, report, DataType::Xcn, judge);
    each_author_slot(scope, report, "authorPerson", judge);
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
            _ if recipient.is_address_broken() => Tolerated(
                "an e-mail address that cannot be used, which refuses its recipient alone, where it names one; it \
                 should be ^^Internet^user@domain",
            ),
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

/// Plain text is a string of its own; only what is split like a code must be one (MD-47).
fn coded_strings(scope: &Scope<'_>, report: &mut Report<'_>) {
    for slot in ["authorRole", "authorSpecialty", "authorSpeciality"] {
        each_author_slot(scope, report, slot, |value| {
            if !value.contains('^') || Cx::read(value).check().is_ok() {
                Good
            } else {
                Tolerated(
                    "neither plain text nor a coded string, carried; it should be Code^^^&OID&ISO",
                )
            }
        });
    }
}

fn patient_infos(scope: &Scope<'_>, report: &mut Report<'_>) {
    /// PID fields that carry identifiers which must not be sent (ITI TF-3 4.2.3.2.23).
    const FORBIDDEN: [u8; 4] = [2, 4, 12, 19];
    const ONCE: [u8; 2] = [7, 8];
    each(scope, report, DataType::PatientInfo, |value| {
        let Some((field, content)) = pid_field(value) else {
            return Refused("not of the form PID-n|value with n from 1 to 39, which is accepted");
        };
        if content.is_empty() {
            return Good;
        }
        if FORBIDDEN.contains(&field) {
            return Refused(
                "PID-2, PID-4, PID-12 and PID-19 must not be sent; accepted are PID-3, PID-5, PID-7, PID-8 and PID-11",
            );
        }
        let is_cx_list = || content.split('~').all(|cx| Cx::read(cx).check().is_ok());
        good_if(
            field != 3 || is_cx_list(),
            "PID-3 must be a list of CX (Id^^^&OID&ISO) joined by ~",
        )
    });
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        let values = || entry.values_of("sourcePatientInfo");
        for once in ONCE {
            let is_it =
                |value: &str| pid_field(value.trim()).is_some_and(|(field, _)| field == once);
            if values().filter(|value| is_it(value)).count() > 1 {
                report.refuse(
                    entry.at("sourcePatientInfo"),
                    format!("PID-{once} occurs more than once; it must occur once"),
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
            Tolerated(
                "a backslash that starts no escape, carried as it is; accepted are \\F\\ \\S\\ \\T\\ \\R\\ and \\E\\",
            )
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
