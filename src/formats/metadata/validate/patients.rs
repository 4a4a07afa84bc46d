//! One submission is about one patient (MD-92).

use super::{
    super::{super::xdr::ErrorCode, hl7::Cx},
    ALL, ObjectKind, Report, Rule, Scope,
};

pub(super) static RULES: &[Rule] = &[Rule {
    id: "MD-92",
    levels: ALL,
    object: ObjectKind::Submission,
    code: Some(ErrorCode::XdsPatientIdDoesNotMatch),
    asks: "one patientId in SubmissionSet, DocumentEntries and Folders",
    check: one_patient,
}];

fn one_patient(scope: &Scope<'_>, report: &mut Report<'_>) {
    let metadata = scope.metadata;
    let sets = metadata.submission_sets().iter().map(|set| &set.patient_id);
    let entries = metadata.document_entries().iter().map(|e| &e.patient_id);
    let folders = metadata.folders().iter().map(|folder| &folder.patient_id);
    let ids = sets.chain(entries).chain(folders);
    // `objects` holds the Associations last: `zip` leaves them out.
    let mut named = scope.objects.iter().zip(ids).filter_map(|(object, id)| {
        // A missing one is no mismatch.
        id.as_deref().map(|id| (object, Cx::read(id)))
    });
    let Some((first, expected)) = named.next() else {
        return;
    };
    for (object, id) in named {
        if !id.names_same(&expected) {
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
