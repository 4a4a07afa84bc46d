//! The level of a submission, and what is done where an endpoint needs more (XDR-104, XDR-105; metadata.md section 9).

use super::{
    plain::dtm,
    plan::Incoming,
    policy::{ConfiguredCode, MissingMetadata},
};
use crate::{
    bridge::judge::level_from_xdm,
    formats::{
        finding::Finding,
        metadata::{
            Level, Metadata, MetadataError,
            uuids::{document_entry, submission_set},
            validate::{Context, validate},
        },
        mime::read::refusal,
        soap::MetadataLevel,
    },
};

type Settled = (Option<(Metadata, MetadataLevel)>, Vec<Finding>);

/// The metadata as it is sent and the level that it is declared with, unless the endpoint's policy refuses it.
pub(super) fn settle(metadata: Metadata, incoming: &Incoming<'_>) -> Settled {
    if level_from_xdm(&metadata, incoming.limits) == Level::Full {
        return (Some((metadata, MetadataLevel::Xds)), Vec::new());
    }
    if !incoming.policy.needs_full_metadata {
        return (Some((metadata, MetadataLevel::Minimal)), Vec::new());
    }
    match incoming.policy.missing_metadata {
        MissingMetadata::Send => (Some((metadata, MetadataLevel::Minimal)), Vec::new()),
        MissingMetadata::Refuse => {
            let text = "the destination takes only full metadata";
            (None, vec![refusal("XDR-105", "Submission", text)])
        }
        MissingMetadata::Fill => filled(&metadata, incoming),
    }
}

/// Adds the configured constants, each told as a Warning. What is still missing then refuses the submission: nothing
/// is claimed to be full that is not (MD-177), and no patient id is made up (MD-176).
fn filled(metadata: &Metadata, incoming: &Incoming<'_>) -> Settled {
    let (metadata, mut findings) = match fill(metadata, incoming) {
        Ok(filled) => filled,
        Err(error) => {
            return (
                None,
                vec![refusal("XDR-105", "Submission", error.to_string())],
            );
        }
    };
    let context = Context {
        patient_id_mismatch_is_warning: incoming.warns_of_patients(),
        max_document_entries: incoming.limits.max_document_entries,
        ..Context::at(Level::Full)
    };
    let missing: Vec<Finding> = validate(&metadata, &context)
        .into_iter()
        .filter(Finding::is_error)
        .collect();
    if missing.is_empty() {
        return (Some((metadata, MetadataLevel::Xds)), findings);
    }
    findings.extend(missing);
    (None, findings)
}

fn fill(
    metadata: &Metadata,
    incoming: &Incoming<'_>,
) -> Result<(Metadata, Vec<Finding>), MetadataError> {
    use document_entry as uuid;
    let defaults = &incoming.policy.defaults;
    let mut findings = Vec::new();
    let mut told = |rule: &'static str, object: &str, attribute: &str| {
        let text =
            "the configured default was added, since the destination takes only full metadata";
        findings.push(Finding::warning(
            rule,
            format!("{object}.{attribute}"),
            text,
        ));
    };
    let mut edit = metadata.edit();
    edit.remove_limited_labels();
    let mut type_of_all: Option<ConfiguredCode> = None;
    for entry in metadata.document_entries() {
        let object = format!("DocumentEntry({})", entry.id);
        let codes = [
            (
                "MD-170",
                "classCode",
                uuid::CLASS_CODE,
                entry.class_code.is_none(),
                &defaults.class_code,
            ),
            (
                "MD-170",
                "typeCode",
                uuid::TYPE_CODE,
                entry.type_code.is_none(),
                &defaults.type_code,
            ),
            (
                "MD-171",
                "confidentialityCode",
                uuid::CONFIDENTIALITY_CODE,
                entry.confidentiality_codes.is_empty(),
                &defaults.confidentiality_code,
            ),
            (
                "MD-173",
                "healthcareFacilityTypeCode",
                uuid::HEALTHCARE_FACILITY_TYPE_CODE,
                entry.healthcare_facility_type_code.is_none(),
                &defaults.healthcare_facility_type_code,
            ),
            (
                "MD-173",
                "practiceSettingCode",
                uuid::PRACTICE_SETTING_CODE,
                entry.practice_setting_code.is_none(),
                &defaults.practice_setting_code,
            ),
        ];
        for (rule, attribute, scheme, is_missing, default) in codes {
            if let (true, Some(default)) = (is_missing, default) {
                edit.add_code(&entry.id, scheme, &default.to_code());
                told(rule, &object, attribute);
            }
        }
        if entry.language_code.is_none() && !defaults.language_code.is_empty() {
            edit.set_slot(&entry.id, "languageCode", &[&defaults.language_code]);
            told("MD-172", &object, "languageCode");
        }
        if let (None, Some(date)) = (&entry.creation_time, incoming.mail.header.date) {
            edit.set_slot(&entry.id, "creationTime", &[&dtm(date)]);
            told("MD-174", &object, "creationTime");
        }
        let own = entry.type_code.as_ref().map(|code| ConfiguredCode {
            code: code.code.clone(),
            scheme: code.scheme.clone().unwrap_or_default(),
            display: code.display.clone().unwrap_or_default(),
        });
        type_of_all = type_of_all.or(own);
    }
    if let Some(set) = metadata.submission_set()
        && set.content_type_code.is_none()
        && let Some(code) = type_of_all.as_ref().or(defaults.type_code.as_ref())
    {
        edit.add_code(&set.id, submission_set::CONTENT_TYPE_CODE, &code.to_code());
        told(
            "MD-175",
            &format!("SubmissionSet({})", set.id),
            "contentTypeCode",
        );
    }
    let metadata = edit.finish()?;
    Ok((metadata, findings))
}
