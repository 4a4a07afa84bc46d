//! The JSON document of `inspect --json`. Its names are a contract with scripts.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    flows::inspect::{InspectedSubmission, Inspection},
    formats::{
        document::DocumentFacts,
        finding::{Finding, Severity},
        ids::{DirectAddress, MessageId},
        metadata::{Code, DocumentEntry, Level, SubmissionSet, same_id},
        soap::Packaging,
    },
};

#[derive(Serialize)]
struct Document<'a> {
    kind: &'a str,
    level: Option<&'a str>,
    packaging: Option<&'a str>,
    from: Option<String>,
    recipients: Vec<String>,
    submissions: Vec<Submission<'a>>,
    notification: Option<Notification<'a>>,
    /// Of S/MIME alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    smime: Option<Secured>,
    findings: Vec<Found<'a>>,
    verdict: &'a str,
}

#[derive(Serialize)]
struct Submission<'a> {
    submission_set: Option<Set<'a>>,
    documents: Vec<Entry<'a>>,
    associations: usize,
    folders: usize,
}

#[derive(Serialize)]
struct Set<'a> {
    id: &'a str,
    unique_id: Option<&'a str>,
    source_id: Option<&'a str>,
    submission_time: Option<&'a str>,
    patient_id: Option<&'a str>,
    title: Option<&'a str>,
    content_type_code: Option<Coded<'a>>,
    intended_recipients: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    unique_id: Option<&'a str>,
    title: Option<&'a str>,
    mime_type: Option<&'a str>,
    /// Of the document that came, else as the metadata claims it.
    size: Option<u64>,
    hash: Option<String>,
    creation_time: Option<&'a str>,
    patient_id: Option<&'a str>,
    type_code: Option<Coded<'a>>,
    format_code: Option<Coded<'a>>,
}

#[derive(Serialize)]
struct Coded<'a> {
    code: &'a str,
    scheme: Option<&'a str>,
    display: Option<&'a str>,
}

#[derive(Serialize)]
struct Notification<'a> {
    relates_to: Option<&'a str>,
    /// Of an MDN alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<Option<&'a str>>,
    /// Of an MDN alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    final_delivery: Option<bool>,
    /// Of whom an MDN or DSN speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<Vec<Reported>>,
}

#[derive(Serialize)]
struct Reported {
    address: String,
    /// Of a DSN alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    /// Of a DSN alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
}

#[derive(Serialize)]
struct Secured {
    form: &'static str,
    recipient_infos: usize,
}

#[derive(Serialize)]
struct Found<'a> {
    rule: &'a str,
    severity: &'a str,
    code: Option<&'a str>,
    location: &'a str,
    text: &'a str,
}

/// Writes one JSON document and a line end.
pub(in crate::app::commands) fn write(
    inspection: &Inspection,
    out: &mut dyn Write,
) -> io::Result<()> {
    let document = Document {
        kind: inspection.kind.as_str(),
        level: inspection.level.map(Level::as_str),
        packaging: inspection.packaging.map(Packaging::as_str),
        from: inspection.from.as_ref().map(DirectAddress::to_string),
        recipients: inspection
            .recipients
            .iter()
            .map(DirectAddress::to_string)
            .collect(),
        submissions: inspection.submissions.iter().map(submission).collect(),
        notification: notification(inspection),
        smime: inspection.secured.map(|secured| Secured {
            form: secured.form.as_str(),
            recipient_infos: secured.recipient_infos,
        }),
        findings: inspection.findings.iter().map(found).collect(),
        verdict: if inspection.is_accepted() {
            "accept"
        } else {
            "refuse"
        },
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    out.write_all(b"\n")
}

/// What a notice says, or what a delivery notification by XDR is about.
fn notification(inspection: &Inspection) -> Option<Notification<'_>> {
    let Some(notice) = &inspection.notice else {
        let relates_to = inspection.notification_relates_to.as_deref()?;
        return Some(Notification {
            relates_to: Some(relates_to),
            disposition: None,
            final_delivery: None,
            recipients: None,
        });
    };
    let recipients = notice.recipients.iter().map(|recipient| Reported {
        address: recipient.address.to_string(),
        action: recipient.action,
        status: recipient.status.map(|status| status.to_string()),
    });
    Some(Notification {
        relates_to: notice.relates_to.as_ref().map(MessageId::as_str),
        disposition: notice.is_final_delivery.map(|_| notice.disposition),
        final_delivery: notice.is_final_delivery,
        recipients: Some(recipients.collect()),
    })
}

fn submission(submission: &InspectedSubmission) -> Submission<'_> {
    let metadata = &submission.metadata;
    let entries = metadata.document_entries().iter();
    Submission {
        submission_set: metadata.submission_sets().first().map(set),
        documents: entries
            .map(|found| {
                let mut documents = submission.documents.iter();
                let facts = documents.find(|(id, _)| same_id(id, &found.id));
                entry(found, facts.map(|(_, facts)| facts))
            })
            .collect(),
        associations: metadata.associations().len(),
        folders: metadata.folders().len(),
    }
}

fn set(set: &SubmissionSet) -> Set<'_> {
    Set {
        id: &set.id,
        unique_id: set.unique_id.as_deref(),
        source_id: set.source_id.as_deref(),
        submission_time: set.submission_time.as_deref(),
        patient_id: set.patient_id.as_deref(),
        title: set.title.as_deref(),
        content_type_code: set.content_type_code.as_ref().map(coded),
        intended_recipients: &set.intended_recipients,
    }
}

fn entry<'a>(entry: &'a DocumentEntry, facts: Option<&DocumentFacts>) -> Entry<'a> {
    let claimed_size = || entry.size.as_ref().and_then(|size| size.parse().ok());
    let claimed_hash = || entry.hash.as_ref().map(|hash| hash.to_ascii_lowercase());
    Entry {
        unique_id: entry.unique_id.as_deref(),
        title: entry.title.as_deref(),
        mime_type: entry.mime_type.as_deref(),
        size: facts.map(|facts| facts.size).or_else(claimed_size),
        hash: facts.map(DocumentFacts::hash).or_else(claimed_hash),
        creation_time: entry.creation_time.as_deref(),
        patient_id: entry.patient_id.as_deref(),
        type_code: entry.type_code.as_ref().map(coded),
        format_code: entry.format_code.as_ref().map(coded),
    }
}

fn coded(code: &Code) -> Coded<'_> {
    Coded {
        code: &code.code,
        scheme: code.scheme.as_deref(),
        display: code.display.as_deref(),
    }
}

fn found(finding: &Finding) -> Found<'_> {
    Found {
        rule: finding.rule,
        severity: match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        code: finding.code.as_ref().map(|code| code.as_str()),
        location: &finding.location,
        text: &finding.text,
    }
}
