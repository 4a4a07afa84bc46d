//! Exchanges for tests.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Event, EventKind, Exchange, Leg, LegKind, LegState, Opening, Origin, PreparedRequest,
    Recipient, Scheduled, SealedMail, Timers, XdrLeg, step, timers::after,
};
use crate::{
    bridge::destination::MailPolicy,
    formats::ids::{BodyId, DirectAddress, ExchangeId, LegId, MessageId, SoapMessageId},
};

pub(super) const ADA: &str = "ada.quill@hisp.example";
pub(super) const NGOZI: &str = "ngozi.okafor@clinic.example";
pub(super) const SENDER: &str = "front.desk@direct.bridge.example";

pub(super) fn address(text: &str) -> DirectAddress {
    text.parse().unwrap()
}

/// `minutes` after acceptance.
pub(super) fn minute(minutes: u64) -> Timestamp {
    after(
        Timestamp::UNIX_EPOCH,
        std::time::Duration::from_secs(60 * minutes),
    )
}

pub(super) fn leg_id(number: u128) -> LegId {
    LegId(Uuid::from_u128(number))
}

pub(super) fn mail_leg(number: u128) -> Leg {
    let domain = address(SENDER).domain().clone();
    let message_id = MessageId::from_uuid(Uuid::from_u128(number), &domain);
    Leg::mail(leg_id(number), message_id, MailPolicy::default())
}

pub(super) fn post_leg(number: u128, idempotent: bool) -> Leg {
    Leg {
        id: leg_id(number),
        kind: LegKind::Xdr(XdrLeg {
            soap_message_id: SoapMessageId::from_uuid(Uuid::from_u128(number)),
            request: PreparedRequest {
                body: BodyId(Uuid::from_u128(100 + number)),
                content_type: "multipart/related".to_owned(),
                wire_bytes: 9_000,
            },
            endpoint: "harbor".to_owned(),
            idempotent,
            final_by_disposition: false,
            state: LegState::Received,
            answer_lost: false,
            reason: None,
            error_code: None,
            answers: Vec::new(),
        }),
    }
}

pub(super) fn sealed(number: u128) -> SealedMail {
    SealedMail {
        header: "Subject: Encrypted message\r\n\r\n".to_owned(),
        body: BodyId(Uuid::from_u128(number)),
        wire_bytes: 4_000,
    }
}

/// From XDR, before it begins.
pub(super) fn from_xdr(legs: Vec<Leg>, recipients: Vec<Recipient>) -> Exchange {
    let origin = Origin::Xdr {
        partner: "harbor".to_owned(),
        soap_message_id: None,
        submission_set_unique_id: "2.999.1".to_owned(),
        digest: [0; 32],
        content_type: "application/soap+xml".to_owned(),
        from: address(SENDER),
        level: crate::formats::metadata::Level::Full,
        documents: Vec::new(),
    };
    exchange(origin, legs, recipients)
}

/// From Direct, before it begins.
pub(super) fn from_direct(recipients: &[&str]) -> Exchange {
    let origin = Origin::Direct {
        wire_bytes: 12_345,
        envelope_from: None,
        message_id: None,
        from: None,
        digest: None,
        signer: None,
    };
    let recipients = recipients
        .iter()
        .map(|text| Recipient::queued(address(text), Vec::new(), None))
        .collect();
    exchange(origin, Vec::new(), recipients)
}

fn exchange(origin: Origin, legs: Vec<Leg>, recipients: Vec<Recipient>) -> Exchange {
    Exchange {
        id: ExchangeId(Uuid::from_u128(1)),
        origin,
        is_begun: false,
        accepted_at: Timestamp::UNIX_EPOCH,
        deadlines: Timers::default().deadlines(Timestamp::UNIX_EPOCH),
        body: BodyId(Uuid::from_u128(2)),
        wants_final_delivery: false,
        displayed_is_delivery: true,
        legs,
        recipients,
        final_at: None,
        hold: None,
    }
}

pub(super) fn opening(legs: Vec<(Leg, Vec<DirectAddress>)>) -> Opening {
    Opening {
        from: address("dr.lee@hisp.example"),
        message_id: Some("1@hisp.example".parse().unwrap()),
        digest: [7; 32],
        signer: b"der".to_vec(),
        wants_final_delivery: true,
        legs,
        failed: Vec::new(),
    }
}

/// Feeds one event.
pub(super) fn feed(exchange: &mut Exchange, at: Timestamp, kind: EventKind) -> Vec<Scheduled> {
    let (next, effects) = step(exchange, &Event { at, kind });
    *exchange = next;
    effects
}
