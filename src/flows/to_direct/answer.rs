//! What the XDR sender is answered: a RegistryResponse or a fault in the packaging of its request, or an HTTP status
//! where no SOAP was understood.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    bridge::exchange::Reason,
    flows::ports::{BodyInterrupted, XdrAnswer},
    formats::{
        finding::{Finding, Severity},
        ids::SoapMessageId,
        soap::Fault,
        xdr::{
            ErrorCode,
            request::{Packaging, ReadError, ReceivedRequest},
            response::{self, RegistryError, RegistryResponse},
        },
    },
};

/// What a pushed-back sender is asked to wait.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How to answer one request: in its packaging, related to its id (SOAP-10, SOAP-67); or not at all (SOAP-70).
#[derive(Clone, Debug)]
pub(super) struct ReplyTo {
    pub(super) packaging: Packaging,
    pub(super) message_id: Option<SoapMessageId>,
    pub(super) is_unwanted: bool,
}

impl ReplyTo {
    pub(super) fn of(request: &ReceivedRequest) -> Self {
        Self {
            packaging: request.packaging,
            message_id: request.addressing.message_id.clone(),
            is_unwanted: request.addressing.wants_no_answer(),
        }
    }

    /// A RegistryResponse: Failure if one entry is an error, else Success (XDR-42). A sender that wants no answer learns
    /// nothing but that its request came.
    pub(super) fn respond(&self, errors: Vec<RegistryError>) -> XdrAnswer {
        if self.is_unwanted {
            return status(202);
        }
        let response = RegistryResponse::from_errors(errors);
        let own_id = SoapMessageId::from_uuid(Uuid::new_v4());
        let (content_type, body) =
            response::write_answer(&response, self.packaging, self.message_id.as_ref(), &own_id);
        answer(200, content_type, body)
    }

    /// Failure for one reason that concerns the whole message.
    pub(super) fn refuse(&self, code: ErrorCode, context: impl Into<String>) -> XdrAnswer {
        self.respond(vec![RegistryError {
            code,
            severity: Severity::Error,
            context: context.into(),
            location: None,
        }])
    }

    /// A fault about a request that was read.
    pub(super) fn fault(&self, mut fault: Fault) -> XdrAnswer {
        fault.packaging = self.packaging;
        fault.relates_to = self.message_id.clone();
        fault.is_unwanted = self.is_unwanted;
        fault_answer(&fault)
    }
}

/// A request that could not be read.
pub(super) fn unreadable(error: &ReadError) -> XdrAnswer {
    match error {
        ReadError::Fault(fault) => fault_answer(fault),
        ReadError::UnsupportedMediaType => status(415),
        ReadError::TooLarge { .. } => status(413),
        ReadError::Io(_) | ReadError::Sink(_) => busy(),
    }
}

/// A SOAP fault, unless its sender wants no answer (SOAP-70).
pub(super) fn fault_answer(fault: &Fault) -> XdrAnswer {
    if fault.is_unwanted {
        return status(202);
    }
    let own_id = SoapMessageId::from_uuid(Uuid::new_v4());
    let (content_type, body) = fault.write_answer(&own_id);
    answer(fault.http_status(), content_type, body)
}

/// A deferred response came, whatever it was about (SOAP-130, SOAP-131).
pub(super) fn taken() -> XdrAnswer {
    status(202)
}

/// A body that did not come in.
pub(super) fn interrupted(error: BodyInterrupted) -> XdrAnswer {
    match error {
        BodyInterrupted::Broken | BodyInterrupted::Malformed => status(400),
        BodyInterrupted::TooSlow => status(408),
        BodyInterrupted::TooLarge { .. } => status(413),
        BodyInterrupted::NoRoom => busy(),
    }
}

/// The bridge cannot take it now (SOAP-91).
pub(super) fn busy() -> XdrAnswer {
    XdrAnswer {
        retry_after: Some(RETRY_AFTER),
        ..status(503)
    }
}

/// Findings as RegistryErrors (XDR-142), and one entry for each refused recipient.
pub(super) fn errors_of(findings: &[Finding]) -> Vec<RegistryError> {
    findings
        .iter()
        .filter_map(RegistryError::from_finding)
        .collect()
}

/// The entry for a recipient that is not served (XDR-32).
pub(super) fn refused_recipient(
    location: &str,
    reason: Reason,
    severity: Severity,
) -> RegistryError {
    RegistryError {
        code: reason.recipient_error_code(),
        severity,
        context: reason.context(),
        location: Some(location.to_owned()),
    }
}

fn status(status: u16) -> XdrAnswer {
    XdrAnswer {
        status,
        content_type: None,
        body: Bytes::new(),
        retry_after: None,
    }
}

fn answer(status: u16, content_type: String, body: Vec<u8>) -> XdrAnswer {
    XdrAnswer {
        status,
        content_type: Some(content_type),
        body: body.into(),
        retry_after: None,
    }
}
