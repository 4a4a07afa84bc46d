//! How an XDR sender learns what became of one recipient: an ITI-41 request of our own with minimal metadata and one
//! `direct:messageDisposition` (xdr.md section 9, mdn.md STS-1 to STS-4). [`plan()`] decides everything about it;
//! [`judge()`] says what its end means.

use std::io;

use jiff::Timestamp;
use openssl::sha::sha1;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    exchange::{Exchange, Origin, PostResult, StatusResult},
    post::{self, PostEnd, PostTerms},
    to_xdr::dtm,
};
use crate::formats::{
    cda,
    document::{DocumentKey, DocumentsInMemory, hex},
    ids::{DirectAddress, ExchangeId, Oid, SoapMessageId},
    limits::Limits,
    metadata::{
        Author, NewEntry, NewSubmission, NewSubmissionSet,
        hl7::{IntendedRecipient, Xtn},
    },
    soap::{AddressBlock, MetadataLevel, Packaging, REQUEST_ACTION},
    xdr::{
        ErrorCode,
        disposition::{MEDIA_TYPE, MessageDisposition},
        request::{OutgoingDocument, OutgoingRequest, write_mtom},
    },
    xml::kept::KeptXml,
};

/// The key that the one document is poured under.
const DOCUMENT: DocumentKey = DocumentKey::Part(1);
/// The local part of the bridge's own address in a domain (XDR-121).
const POSTMASTER: &str = "postmaster";

/// Who status submissions are from (XDR-121).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusFrom {
    /// `postmaster@` the sender's domain.
    #[default]
    Postmaster,
    /// The recipient whom they are about.
    Recipient,
}

/// The name by which status submissions of a partner are posted: one that no endpoint of the configuration can have.
pub fn target_of(partner: &str) -> String {
    format!("status:{partner}")
}

/// A status submission, ready to be written.
#[derive(Debug)]
pub struct StatusSubmission {
    /// Its wsa:MessageID: the same whenever the same outcome is planned again.
    pub message_id: SoapMessageId,
    address_block: AddressBlock,
    metadata: KeptXml,
    outgoing: [OutgoingDocument; 1],
    document: String,
}

impl StatusSubmission {
    /// Its Content-Type.
    pub fn content_type(&self, to: &str) -> String {
        self.request(to).content_type(Packaging::Mtom)
    }

    /// Writes it as it is posted to the partner's endpoint at `to`.
    pub fn write(&self, to: &str, out: &mut dyn io::Write) -> io::Result<()> {
        let octets = self.document.as_bytes().to_vec();
        let mut documents = DocumentsInMemory {
            documents: vec![(DOCUMENT, octets)],
        };
        write_mtom(&self.request(to), &mut documents, out)
    }

    fn request<'a>(&'a self, to: &'a str) -> OutgoingRequest<'a> {
        OutgoingRequest {
            message_id: &self.message_id,
            action: REQUEST_ACTION,
            to,
            address_block: Some(&self.address_block),
            metadata_level: Some(MetadataLevel::Minimal),
            metadata: &self.metadata,
            documents: &self.outgoing,
        }
    }
}

/// What is told about the recipient at `index`: nothing before it is settled, and nothing about a mail, whose sender gets
/// MDNs. `source_id` is what the sender's domain is called as a source (MD-119).
///
/// Every id and every octet follows from the exchange alone: made twice, it is the same.
pub fn plan(
    exchange: &Exchange,
    index: usize,
    from: StatusFrom,
    source_id: &Oid,
) -> Option<StatusSubmission> {
    let Origin::Xdr {
        from: sender,
        soap_message_id,
        submission_set_unique_id,
        ..
    } = &exchange.origin
    else {
        return None;
    };
    let recipient = exchange.recipients.get(index)?;
    let outcome = recipient.outcome.as_ref()?;
    let from = match from {
        StatusFrom::Postmaster => format!("{POSTMASTER}@{}", sender.domain()).parse().ok()?,
        StatusFrom::Recipient => recipient.address.clone(),
    };
    let document = MessageDisposition {
        recipient: recipient.address.clone(),
        is_success: outcome.failure.is_none(),
        reason: outcome.failure.map(|reason| reason.token().to_owned()),
    }
    .to_xml();
    let names = Names {
        exchange: exchange.id,
        recipient: &recipient.address,
    };
    let submission = submission(&names, &from, sender, source_id, &document, outcome.at);
    let document_id = names.urn("entry");
    Some(StatusSubmission {
        message_id: SoapMessageId::from_uuid(names.uuid("request")),
        address_block: AddressBlock {
            from,
            to: vec![sender.clone()],
            // A request without an id is named by what its sender knows it by all the same (STS-2).
            relates_to: Some(match soap_message_id {
                Some(id) => id.as_str().to_owned(),
                None => format!("urn:oid:{submission_set_unique_id}"),
            }),
            final_delivery: false,
        },
        metadata: submission.to_xml(),
        outgoing: [OutgoingDocument {
            document_id,
            key: DOCUMENT,
            mime_type: MEDIA_TYPE.to_owned(),
        }],
        document,
    })
}

/// Minimal metadata for one document (MD-110).
fn submission(
    names: &Names<'_>,
    from: &DirectAddress,
    to: &DirectAddress,
    source_id: &Oid,
    document: &str,
    at: Timestamp,
) -> NewSubmission {
    NewSubmission {
        set: NewSubmissionSet {
            id: names.urn("set"),
            unique_id: names.oid("set"),
            source_id: source_id.as_str().to_owned(),
            submission_time: dtm(at),
            authors: vec![Author {
                telecommunications: vec![Xtn::for_address(from).to_string()],
                ..Author::default()
            }],
            intended_recipients: vec![IntendedRecipient::for_address(to).to_string()],
            ..NewSubmissionSet::default()
        },
        entries: vec![NewEntry {
            id: names.urn("entry"),
            association_id: names.urn("association"),
            unique_id: names.oid("document"),
            mime_type: MEDIA_TYPE.to_owned(),
            hash: hex(&sha1(document.as_bytes())),
            size: document.len() as u64,
            creation_time: Some(dtm(at)),
            format_code: Some(cda::mime_type_sufficient()),
            ..NewEntry::default()
        }],
    }
}

/// Identifiers that follow from exchange and recipient: one that is accepted again is another exchange.
struct Names<'a> {
    exchange: ExchangeId,
    recipient: &'a DirectAddress,
}

impl Names<'_> {
    fn uuid(&self, kind: &str) -> Uuid {
        let name = format!("status {kind} {}", self.recipient).to_lowercase();
        Uuid::new_v5(&self.exchange.0, name.as_bytes())
    }

    fn urn(&self, kind: &str) -> String {
        format!("urn:uuid:{}", self.uuid(kind))
    }

    fn oid(&self, kind: &str) -> String {
        Oid::from_uuid(self.uuid(kind)).as_str().to_owned()
    }
}

/// What the end of one attempt means, for the exchange, the audit and the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusVerdict {
    /// What the exchange is told.
    pub result: StatusResult,
    /// Fixed words for log and audit.
    pub cause: &'static str,
    /// The partner's errorCode, where it named one that decided.
    pub code: Option<ErrorCode>,
    /// Whether an operator has to look: something about the partner's endpoint or our settings is wrong.
    pub is_alarming: bool,
}

/// Judges the end of an attempt by the rows that posts are judged by (mdn.md section 9). `retry_at` is when to try again,
/// should that make sense; `was_answer_lost` whether the partner may have it from an earlier attempt.
///
/// Whoever said that it has the submission has it, in whatever words; whoever refused it is not asked again. Where trust
/// between the endpoint and us failed, nobody said anything: a certificate may be put right within the day.
pub fn judge(
    end: &PostEnd,
    retry_at: Timestamp,
    was_answer_lost: bool,
    limits: &Limits,
) -> StatusVerdict {
    let terms = PostTerms {
        recipients: &[],
        was_answer_lost,
        retry_at,
        limits,
    };
    let verdict = post::judge(end, &terms);
    let unknown = |may_have_arrived| StatusResult::Unknown {
        retry_at,
        may_have_arrived,
    };
    let result = match (end, &verdict.result) {
        (PostEnd::NotSent { .. }, _) | (_, PostResult::Unavailable { .. }) => unknown(false),
        (_, PostResult::AnswerLost { .. }) => unknown(true),
        (_, PostResult::Refused) => StatusResult::Refused,
        (_, PostResult::Success | PostResult::Partial { .. } | PostResult::Deferred) => {
            StatusResult::Taken
        }
    };
    StatusVerdict {
        result,
        cause: verdict.cause,
        code: verdict.code,
        is_alarming: verdict.is_alarming,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bridge::exchange::{Deadlines, Outcome, Reason, Recipient, Timers},
        formats::{
            ids::BodyId,
            metadata::{
                Level, Metadata,
                validate::{Context, validate},
            },
        },
    };

    const SENDER: &str = "ngozi.okafor@direct.elm.example";
    const RECIPIENT: &str = "rui.silva@direct.harbor.example";

    fn deadlines() -> Deadlines {
        Timers::default().deadlines(Timestamp::UNIX_EPOCH)
    }

    fn settled(failure: Option<Reason>, message_id: Option<SoapMessageId>) -> Exchange {
        let mut recipient = Recipient::queued(RECIPIENT.parse().unwrap(), Vec::new(), None);
        recipient.outcome = Some(Outcome {
            at: Timestamp::UNIX_EPOCH,
            failure,
        });
        Exchange {
            id: ExchangeId(Uuid::from_u128(1)),
            origin: Origin::Xdr {
                partner: "elm".to_owned(),
                soap_message_id: message_id,
                submission_set_unique_id: "2.999.1.7".to_owned(),
                digest: [0; 32],
                content_type: String::new(),
                from: SENDER.parse().unwrap(),
                level: Level::Full,
                documents: Vec::new(),
            },
            is_begun: true,
            accepted_at: Timestamp::UNIX_EPOCH,
            deadlines: deadlines(),
            body: BodyId(Uuid::from_u128(2)),
            wants_final_delivery: false,
            displayed_is_delivery: true,
            legs: Vec::new(),
            recipients: vec![recipient],
            final_at: None,
            hold: None,
        }
    }

    fn original() -> Option<SoapMessageId> {
        Some(SoapMessageId::from_uuid(Uuid::from_u128(9)))
    }

    fn planned(exchange: &Exchange, from: StatusFrom) -> StatusSubmission {
        plan(exchange, 0, from, &"2.999.1".parse().unwrap()).unwrap()
    }

    fn octets(submission: &StatusSubmission) -> Vec<u8> {
        let mut octets = Vec::new();
        let to = "https://ehr.elm.example/xdr";
        submission.write(to, &mut octets).unwrap();
        octets
    }

    // rule: STS-1, STS-2, XDR-120, XDR-121
    #[test]
    fn the_disposition_goes_from_the_postmaster_to_the_sender_about_the_original_request() {
        for (failure, disposition) in [
            (
                None,
                "<direct:disposition>success</direct:disposition></direct:messageDisposition>",
            ),
            (
                Some(Reason::TimeoutProcessed),
                "<direct:disposition>failure</direct:disposition>\
                 <direct:reasonForFailure>timeoutProcessed</direct:reasonForFailure>",
            ),
        ] {
            let exchange = settled(failure, original());
            let submission = planned(&exchange, StatusFrom::Postmaster);
            let block = &submission.address_block;
            assert_eq!(block.from, "postmaster@direct.elm.example".parse().unwrap());
            assert_eq!(block.to, [SENDER.parse().unwrap()]);
            let id = original().unwrap();
            assert_eq!(block.relates_to.as_deref(), Some(id.as_str()));
            let text = String::from_utf8(octets(&submission)).unwrap();
            assert!(text.contains(disposition), "{text}");
            assert!(text.contains("minimal</direct:metadata-level>"), "{text}");
        }
        let from_recipient = planned(&settled(None, original()), StatusFrom::Recipient);
        assert_eq!(
            from_recipient.address_block.from,
            RECIPIENT.parse().unwrap()
        );
    }

    // rule: STS-2
    #[test]
    fn a_request_without_an_id_is_named_by_its_submission_set() {
        let submission = planned(&settled(None, None), StatusFrom::Postmaster);
        let relates_to = submission.address_block.relates_to.as_deref();
        assert_eq!(relates_to, Some("urn:oid:2.999.1.7"));
    }

    // rule: STS-3
    #[test]
    fn made_twice_it_is_the_same_octet_by_octet_and_made_of_another_exchange_it_is_another() {
        let exchange = settled(None, original());
        let make = |exchange: &Exchange| octets(&planned(exchange, StatusFrom::Postmaster));
        assert_eq!(make(&exchange), make(&exchange));
        let mut other = exchange.clone();
        other.id = ExchangeId(Uuid::from_u128(3));
        let ids = [&exchange, &other].map(|e| planned(e, StatusFrom::Postmaster).message_id);
        assert_ne!(ids[0], ids[1]);
    }

    // rule: XDR-121, MD-110
    #[test]
    fn nothing_is_odd_about_its_metadata() {
        let submission = planned(&settled(None, original()), StatusFrom::Postmaster);
        let limits = Limits::default();
        let metadata = Metadata::read(submission.metadata, &limits).unwrap();
        assert_eq!(validate(&metadata, &Context::at(Level::Minimal)), []);
    }

    // rule: STS-4
    #[test]
    fn nothing_is_told_before_the_outcome() {
        let mut exchange = settled(None, original());
        exchange.recipients[0].outcome = None;
        let source_id = "2.999.1".parse().unwrap();
        assert!(plan(&exchange, 0, StatusFrom::Postmaster, &source_id).is_none());
        assert!(plan(&exchange, 1, StatusFrom::Postmaster, &source_id).is_none());
    }

    // rule: STS-3
    #[test]
    fn it_is_repeated_only_while_receipt_is_unknown() {
        let at = Timestamp::UNIX_EPOCH;
        let answered = |status, body: &str| PostEnd::Answered {
            status,
            content_type: "application/soap+xml".to_owned(),
            body: body.as_bytes().to_vec(),
        };
        let response = |status: &str, errors: &str| {
            format!(
                "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Body>\
                 <r:RegistryResponse xmlns:r=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\" \
                 status=\"urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:{status}\">{errors}\
                 </r:RegistryResponse></s:Body></s:Envelope>"
            )
        };
        let error = |code: &str| {
            format!(
                "<r:RegistryErrorList><r:RegistryError errorCode=\"{code}\" codeContext=\"x\" \
                 severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/></r:RegistryErrorList>"
            )
        };
        let (success, failure) = (response("Success", ""), |code| {
            response("Failure", &error(code))
        });
        let unknown = |may_have_arrived| StatusResult::Unknown {
            retry_at: at,
            may_have_arrived,
        };
        let not_sent = |is_untrusted| PostEnd::NotSent { is_untrusted };
        for (end, was_lost, result) in [
            (answered(200, &success), false, StatusResult::Taken),
            (answered(202, ""), false, StatusResult::Taken),
            (not_sent(false), false, unknown(false)),
            (not_sent(true), false, unknown(false)),
            (PostEnd::AnswerLost, false, unknown(true)),
            (answered(200, "hello"), false, unknown(true)),
            (answered(503, ""), false, unknown(false)),
            (
                answered(200, &failure("XDSRepositoryBusy")),
                false,
                unknown(false),
            ),
            (answered(404, ""), false, StatusResult::Refused),
            (
                answered(200, &failure("XDSRepositoryError")),
                false,
                StatusResult::Refused,
            ),
            (
                answered(200, &failure("XDSDuplicateUniqueIdInRegistry")),
                false,
                StatusResult::Refused,
            ),
            (
                answered(200, &failure("XDSDuplicateUniqueIdInRegistry")),
                true,
                StatusResult::Taken,
            ),
        ] {
            let verdict = judge(&end, at, was_lost, &Limits::default());
            assert_eq!(verdict.result, result, "{end:?}");
            let is_trust = matches!(end, PostEnd::NotSent { is_untrusted: true });
            assert!(verdict.is_alarming || !is_trust, "{end:?}");
        }
    }
}
