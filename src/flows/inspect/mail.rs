//! Mail as it is before it is signed and sealed: what would be posted for it to an endpoint without wishes of its own, or
//! what it says if it is a notice.

use std::io::Read;

use jiff::Timestamp;
use uuid::Uuid;

use super::{InspectError, InspectedSubmission, Inspection, Kind, notice};
use crate::{
    bridge::to_xdr::{EndpointPolicy, Incoming, Plan, plan},
    formats::{
        ids::{DirectAddress, Oid},
        limits::Limits,
        metadata::Level,
        mime::read::{self, Mail},
        soap::MetadataLevel,
    },
};

/// The octets of a mail in a file, one more than the limit at the most: the reader refuses those.
pub(in crate::flows) fn octets_of(
    file: &mut dyn Read,
    limits: &Limits,
) -> Result<Vec<u8>, InspectError> {
    let mut octets = Vec::new();
    file.take(limits.max_message_bytes.saturating_add(1))
        .read_to_end(&mut octets)?;
    Ok(octets)
}

/// Plans a mail from `from` to `to`. The source is made up from the sender's domain: the configuration is not asked.
pub(in crate::flows) fn planned(
    mail: &Mail<'_>,
    octets: &[u8],
    from: &DirectAddress,
    to: &[DirectAddress],
    limits: &Limits,
) -> Plan {
    let domain = from.domain().as_str().as_bytes();
    plan(&Incoming {
        mail,
        from,
        recipients: to,
        endpoint: "",
        policy: &EndpointPolicy::default(),
        source_id: &Oid::from_uuid(Uuid::new_v5(&Uuid::NAMESPACE_DNS, domain)),
        received_at: Timestamp::UNIX_EPOCH,
        digest: &openssl::sha::sha256(octets),
        limits,
    })
}

/// Whom the header names: the first sender, and everybody in To and Cc once.
pub(in crate::flows) fn addresses(mail: &Mail<'_>) -> (Option<DirectAddress>, Vec<DirectAddress>) {
    let header = &mail.header;
    let mut to: Vec<DirectAddress> = Vec::new();
    for mailbox in header.to.iter().chain(&header.cc) {
        if !to.contains(&mailbox.address) {
            to.push(mailbox.address.clone());
        }
    }
    (header.from.first().map(|one| one.address.clone()), to)
}

pub(super) fn inspect_mail(
    file: &mut dyn Read,
    limits: &Limits,
) -> Result<Inspection, InspectError> {
    let octets = octets_of(file, limits)?;
    let mut inspection = Inspection::of(Kind::Mail);
    let mail = match read::read(&octets, limits) {
        Ok(mail) => mail,
        Err(error) => {
            inspection.findings.push(error.to_finding());
            return Ok(inspection);
        }
    };
    let (from, to) = addresses(&mail);
    if let Some(report) = mail.report() {
        let mut inspection = notice::inspect(&mail, report, limits);
        inspection.from = from;
        inspection.recipients = to;
        return Ok(inspection);
    }
    let Some(from) = from else {
        return Err(InspectError::unreadable("a header without a sender"));
    };
    let plan = planned(&mail, &octets, &from, &to, limits);
    inspection.findings = plan.findings;
    let is_full = |level| level == MetadataLevel::Xds;
    inspection.level = plan.requests.first().map(|first| {
        if plan.requests.iter().all(|one| is_full(one.level)) && is_full(first.level) {
            Level::Full
        } else {
            Level::Minimal
        }
    });
    for request in plan.requests {
        let ids = request.outgoing.into_iter().map(|one| one.document_id);
        inspection.submissions.push(InspectedSubmission {
            metadata: request.metadata,
            documents: ids.zip(request.facts).collect(),
        });
    }
    inspection.from = Some(from);
    inspection.recipients = to;
    Ok(inspection)
}
