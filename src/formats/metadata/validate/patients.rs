//! One submission is about one patient (MD-92).

use super::{
    super::{super::xdr::ErrorCode, hl7::Cx},
    ObjectKind, Report, Row, Scope,
    table::refuses_with,
};

pub(super) static ROWS: &[Row] = &[refuses_with(
    "MD-92",
    ObjectKind::Submission,
    ErrorCode::XdsPatientIdDoesNotMatch,
    "one patientId in SubmissionSet, DocumentEntries and Folders, where they have one",
    one_patient,
)];

fn one_patient(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut named = scope.described().filter_map(|object| {
        // A missing one is no mismatch.
        let id = object
            .values_of("patientId")
            .find(|id| !id.trim().is_empty())?;
        Some((object, id))
    });
    let Some((first, expected)) = named.next() else {
        return;
    };
    for (object, id) in named {
        // Mostly the very same text, which need not be taken apart.
        if id != expected && !Cx::read(id).names_same(&Cx::read(expected)) {
            report.tell(
                !scope.context.patient_id_mismatch_is_warning,
                object.at("patientId"),
                format!(
                    "the patientIds of {} and {} differ; they must be equal",
                    first.name(),
                    object.name()
                ),
            );
        }
    }
}
