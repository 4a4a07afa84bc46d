//! Notices as they are before they are signed and sealed: what an MDN or DSN says, of which message and of whom.

use super::{Inspection, Kind};
use crate::formats::{
    finding::Finding,
    ids::{DirectAddress, MessageId},
    limits::Limits,
    mime::read::{Mail, Report},
    notification::{
        dsn::{Action, ReceivedDsn, StatusCode, returned_message_id},
        mdn::{Disposition, ReceivedMdn},
    },
};

/// What a notice says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedNotice {
    /// The Message-ID of the message that it is about.
    pub relates_to: Option<MessageId>,
    /// An MDN's disposition: `processed`, `dispatched`, `displayed`, `failed` or `other`.
    pub disposition: Option<&'static str>,
    /// Whether an MDN carries the field of final delivery (MDN-27).
    pub is_final_delivery: Option<bool>,
    /// Of whom it speaks.
    pub recipients: Vec<NoticeRecipient>,
}

/// One recipient that a notice speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRecipient {
    /// The address.
    pub address: DirectAddress,
    /// A DSN's action: `failed`, `delayed`, `delivered`, `relayed` or `expanded`.
    pub action: Option<&'static str>,
    /// A DSN's status.
    pub status: Option<StatusCode>,
}

/// Reads the report in `mail`. One that says nothing usable changes nothing at the bridge either: it is told by
/// Warnings.
pub(super) fn inspect(mail: &Mail<'_>, report: Report, limits: &Limits) -> Inspection {
    let (kind, media_type) = match report {
        Report::Disposition => (Kind::Mdn, "message/disposition-notification"),
        Report::DeliveryStatus => (Kind::Dsn, "message/delivery-status"),
    };
    let mut inspection = Inspection::of(kind);
    inspection.findings.clone_from(&mail.findings);
    let octets = part(mail, media_type, limits);
    let read = octets.as_deref().and_then(|octets| match report {
        Report::Disposition => ReceivedMdn::read(octets).ok().map(of_mdn),
        Report::DeliveryStatus => ReceivedDsn::read(octets).ok().map(of_dsn),
    });
    let mut warn = |rule, place: &str, text: String| {
        let finding = Finding::warning(rule, place, text);
        inspection.findings.push(finding);
    };
    let Some(mut notice) = read else {
        let text =
            format!("nothing can be made of the notice: a readable {media_type} must be in it");
        warn("MDN-20", "message", text);
        return inspection;
    };
    if report == Report::Disposition && notice.disposition.is_none() {
        let text = "missing or unusable, so that nothing can be made of the notice; automatic-action/MDN-sent-automatically; and one of processed, dispatched and failed is accepted";
        warn("MDN-44", "Disposition", text.to_owned());
    }
    if notice.relates_to.is_none() {
        notice.relates_to = elsewhere(mail, limits);
        let text = match (&notice.relates_to, report) {
            (None, _) => {
                Some("missing, and nothing else names the message; the field must be there")
            }
            (Some(_), Report::Disposition) => Some(
                "missing, and taken from what else names the message; the field should be there",
            ),
            // Few reporters put it into a DSN, which has no field of its own for it (DSN-1).
            (Some(_), Report::DeliveryStatus) => None,
        };
        if let Some(text) = text {
            warn("MDN-50", "Original-Message-ID", text.to_owned());
        }
    }
    inspection.notice = Some(notice);
    inspection
}

/// The octets of the first part of this type.
fn part(mail: &Mail<'_>, media_type: &str, limits: &Limits) -> Option<Vec<u8>> {
    let leaves = mail.leaves();
    let part = leaves.iter().find(|part| part.media_type() == media_type)?;
    let octets = part.decoded(limits.max_message_bytes).ok()?;
    Some(octets.into_owned())
}

/// The message that a notice without an Original-Message-ID is about: of the returned header, In-Reply-To, or the last
/// of the References (MDN-50).
fn elsewhere(mail: &Mail<'_>, limits: &Limits) -> Option<MessageId> {
    let returned = ["text/rfc822-headers", "message/rfc822"]
        .iter()
        .find_map(|media_type| part(mail, media_type, limits));
    let header = &mail.header;
    returned
        .and_then(|octets| returned_message_id(&octets))
        .or_else(|| header.in_reply_to.clone())
        .or_else(|| header.references.last().cloned())
}

fn of_mdn(mdn: ReceivedMdn) -> InspectedNotice {
    let addresses = mdn.final_recipients.into_iter();
    InspectedNotice {
        relates_to: mdn.original_message_id,
        disposition: mdn.disposition.map(|disposition| match disposition {
            Disposition::Processed => "processed",
            Disposition::Dispatched => "dispatched",
            Disposition::Displayed => "displayed",
            Disposition::Failed => "failed",
            Disposition::Other => "other",
        }),
        is_final_delivery: Some(mdn.is_final_delivery),
        recipients: addresses
            .map(|address| NoticeRecipient {
                address,
                action: None,
                status: None,
            })
            .collect(),
    }
}

fn of_dsn(dsn: ReceivedDsn) -> InspectedNotice {
    let recipients = dsn.recipients.into_iter();
    InspectedNotice {
        relates_to: dsn.original_message_id,
        recipients: recipients
            .map(|recipient| NoticeRecipient {
                address: recipient.address,
                action: Some(match recipient.action {
                    Action::Failed => "failed",
                    Action::Delayed => "delayed",
                    Action::Delivered => "delivered",
                    Action::Relayed => "relayed",
                    Action::Expanded => "expanded",
                }),
                status: recipient.status,
            })
            .collect(),
        ..InspectedNotice::default()
    }
}
