//! Failed deliveries that are told without a signature (mdn.md DSN-4): our own next hop writes its bounces in clear, and
//! nothing in them proves who wrote them. So the connection has to, and they may say no more than what the next hop knows.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    exchange::{Exchange, Origin, Reason, RecipientState},
    network::Network,
    notice::{NotUnderstood, Notice, Statement, is_returned, report_type},
};
use crate::formats::{
    ids::{CertificateFingerprint, DirectAddress, LegId},
    mime::read::{Mail, Part, Report},
};

/// A host whose unsigned bounces are believed, by the connection that it makes: an entry of
/// `receiving.trusted_bounce_hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BounceHost {
    /// Where it connects from, such as `"192.0.2.8/32"`.
    pub network: Network,
    /// SHA-256 fingerprint of the TLS client certificate that it has to show, 64 hexadecimal digits. Default none: its
    /// address is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFingerprint>,
}

impl BounceHost {
    /// Whether a TLS connection from `address`, whose peer proved to have the key of `certificate`, is this host's.
    pub fn is_at(&self, address: IpAddr, certificate: Option<&CertificateFingerprint>) -> bool {
        let is_shown = || self.certificate.as_ref() == certificate;
        self.network.contains(address) && (self.certificate.is_none() || is_shown())
    }

    /// What would be accepted instead, if the entry trusts everybody.
    pub fn problem(&self) -> Option<&'static str> {
        let is_anybody = self.network.is_everything() && self.certificate.is_none();
        is_anybody.then_some(
            "a network smaller than the whole Internet, or one together with a certificate",
        )
    }
}

/// Why a mail that nobody signed is no bounce that counts (DSN-4). For audit and log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotABounce {
    /// No DSN.
    #[error("not a multipart/report of the type delivery-status")]
    NotADsn,
    /// A DSN with something else in it.
    #[error(
        "its parts are not a text, the delivery status, and at most the returned message or header (RFC 3464 section 2)"
    )]
    Parts,
    /// Its report says nothing.
    #[error("{0}")]
    Report(#[from] NotUnderstood),
    /// It is about no mail of ours.
    #[error("it names no mail that was sent")]
    Unknown,
    /// It came to somebody else.
    #[error("it is not addressed to the sender of the mail")]
    OtherSender,
    /// The mail is known, and went to others.
    #[error("the mail did not go to the recipient")]
    OtherRecipient,
    /// Something better is known of the recipient.
    #[error("the recipient is not RELAYED any more")]
    NotRelayed,
}

/// What a bounce means to the exchange that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bounce {
    /// The next hop refused the recipient after all: the recipient is settled by it, for this reason.
    Decides(Reason),
    /// It decides nothing: a delay, or a bounce that came before.
    Idle,
    /// It is faster than our own record of the hand-over: to be sent again.
    TooEarly,
}

/// Reads a mail that nobody signed as a bounce, and as nothing else: a DSN in the form of RFC 3464, without any part
/// more. What it returns is not opened, but for the Message-ID in its header.
pub fn read(mail: &Mail<'_>) -> Result<Notice, NotABounce> {
    if mail.report() != Some(Report::DeliveryStatus) {
        return Err(NotABounce::NotADsn);
    }
    let (text, report, returned) = match mail.root.children.as_slice() {
        [text, report] => (text, report, None),
        [text, report, returned] => (text, report, Some(returned)),
        _ => return Err(NotABounce::Parts),
    };
    let is_text = |part: &Part<'_>| part.media_type().starts_with("text/");
    let is_readable = is_text(text)
        || text.media_type() == "multipart/alternative" && text.children.iter().all(is_text);
    if !is_readable
        || report_type(report) != Some(Report::DeliveryStatus)
        || returned.is_some_and(|part| !is_returned(part))
    {
        return Err(NotABounce::Parts);
    }
    Ok(Notice::of_report(mail, &[])?)
}

/// What the statement of a bounce means to `exchange`, whose `leg` it is about. `to` are the recipients of the bounce:
/// it goes to whom the mail came from, and counts only while its recipient is RELAYED (DSN-4).
pub fn judge(
    statement: &Statement,
    exchange: &Exchange,
    leg: LegId,
    to: &[DirectAddress],
) -> Result<Bounce, NotABounce> {
    let Origin::Xdr { from, .. } = &exchange.origin else {
        return Err(NotABounce::Unknown);
    };
    if !to.contains(from) {
        return Err(NotABounce::OtherSender);
    }
    let mut served = exchange.recipients_of(leg);
    let recipient = served
        .find(|recipient| recipient.address == statement.recipient)
        .ok_or(NotABounce::OtherRecipient)?;
    if !statement.says.is_negative() {
        return Ok(Bounce::Idle);
    }
    let outcome = recipient.outcome.as_ref();
    let is_bounced = outcome.is_some_and(|outcome| outcome.failure == Some(Reason::SmtpRejected));
    match recipient.state {
        RecipientState::Relayed => Ok(Bounce::Decides(Reason::SmtpRejected)),
        RecipientState::Queued => Ok(Bounce::TooEarly),
        _ if is_bounced => Ok(Bounce::Idle),
        _ => Err(NotABounce::NotRelayed),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        bridge::{
            destination::MailPolicy,
            exchange::{Leg, Outcome, Recipient, Timers},
            notice::Says,
        },
        formats::{
            ids::{BodyId, ExchangeId, MessageId},
            limits::Limits,
            metadata::Level,
            mime::read,
            notification::dsn::Action,
        },
    };

    const NGOZI: &str = "ngozi.okafor@direct.elm.example";
    const RUI: &str = "rui.silva@direct.harbor.example";
    const ID: &str = "one@direct.elm.example";

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    /// A mail from Ngozi to Rui, who is in `state`, failed for `failure` if it is settled.
    fn submission(state: RecipientState, failure: Option<Reason>) -> Exchange {
        let at = Timestamp::UNIX_EPOCH;
        let id: MessageId = ID.parse().unwrap();
        let leg = Leg::mail(LegId::random(), id, MailPolicy::default());
        let mut rui = Recipient::queued(address(RUI), vec![leg.id], None);
        rui.state = state;
        rui.outcome = state.is_final(true).then_some(Outcome { at, failure });
        Exchange {
            id: ExchangeId::random(),
            origin: Origin::Xdr {
                partner: "elm".to_owned(),
                soap_message_id: None,
                submission_set_unique_id: "2.999.1".to_owned(),
                digest: [0; 32],
                content_type: String::new(),
                from: address(NGOZI),
                level: Level::Full,
                documents: Vec::new(),
            },
            is_begun: true,
            accepted_at: at,
            deadlines: Timers::default().deadlines(at),
            body: BodyId::random(),
            wants_final_delivery: true,
            displayed_is_delivery: true,
            legs: vec![leg],
            recipients: vec![rui],
            final_at: None,
            hold: None,
        }
    }

    fn says(recipient: &str, action: Action) -> Statement {
        Statement {
            recipient: address(recipient),
            says: Says::Dsn(action),
            vouchers: Vec::new(),
        }
    }

    // rule: DSN-4
    #[test]
    fn a_bounce_settles_a_recipient_that_is_relayed_and_no_other() {
        use RecipientState as State;
        let to = [address(NGOZI)];
        for state in State::ALL {
            let failure = (!state.is_success()).then_some(Reason::SmtpRejected);
            let failure = match state {
                State::Nacked | State::Rejected => Some(Reason::MdnFailed),
                State::ExpiredP | State::ExpiredD => Some(Reason::TimeoutProcessed),
                _ => failure,
            };
            let exchange = submission(state, failure);
            let leg = exchange.legs[0].id;
            let failed = judge(&says(RUI, Action::Failed), &exchange, leg, &to);
            let expected = match state {
                State::Relayed => Ok(Bounce::Decides(Reason::SmtpRejected)),
                State::Queued => Ok(Bounce::TooEarly),
                State::Bounced => Ok(Bounce::Idle),
                _ => Err(NotABounce::NotRelayed),
            };
            assert_eq!(failed, expected, "{state:?}");
            for action in [
                Action::Delayed,
                Action::Delivered,
                Action::Relayed,
                Action::Expanded,
            ] {
                let idle = judge(&says(RUI, action), &exchange, leg, &to);
                assert_eq!(idle, Ok(Bounce::Idle), "{state:?} {action:?}");
            }
        }
        // Bounced for another reason: the queue ran out, say.
        let exchange = submission(State::Bounced, Some(Reason::SmtpExpired));
        let failed = judge(
            &says(RUI, Action::Failed),
            &exchange,
            exchange.legs[0].id,
            &to,
        );
        assert_eq!(failed, Err(NotABounce::NotRelayed));
    }

    // rule: DSN-4, T-20
    #[test]
    fn a_bounce_speaks_of_a_recipient_of_that_mail_to_the_one_who_sent_it() {
        let exchange = submission(RecipientState::Relayed, None);
        let leg = exchange.legs[0].id;
        let failed = says(RUI, Action::Failed);
        let told = |statement: &Statement, leg, to: &[&str]| {
            let to: Vec<DirectAddress> = to.iter().map(|text| address(text)).collect();
            judge(statement, &exchange, leg, &to)
        };
        assert!(told(&failed, leg, &["x@direct.elm.example", NGOZI]).is_ok());
        assert_eq!(told(&failed, leg, &[RUI]), Err(NotABounce::OtherSender));
        let other = says("x@direct.harbor.example", Action::Failed);
        assert_eq!(told(&other, leg, &[NGOZI]), Err(NotABounce::OtherRecipient));
        let another_leg = LegId::random();
        assert_eq!(
            told(&failed, another_leg, &[NGOZI]),
            Err(NotABounce::OtherRecipient)
        );
    }

    /// A multipart/report of this type with these parts.
    fn report(kind: &str, parts: &[(&str, &str)]) -> String {
        let mut text = format!(
            "From: MAILER-DAEMON@mx.harbor.example\r\nTo: <{NGOZI}>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n"
        );
        for (media_type, content) in parts {
            text += &format!("--b\r\nContent-Type: {media_type}\r\n\r\n{content}\r\n");
        }
        text + "--b--\r\n"
    }

    fn read_text(text: &str) -> Result<Notice, NotABounce> {
        super::read(&read::read(text.as_bytes(), &Limits::default()).unwrap())
    }

    // rule: DSN-1, DSN-4, T-11
    #[test]
    fn a_bounce_has_the_parts_of_a_dsn_and_no_other() {
        const TEXT: (&str, &str) = ("text/plain", "Not delivered.");
        let status = format!(
            "Reporting-MTA: dns; mx.harbor.example\r\n\r\nFinal-Recipient: rfc822; {RUI}\r\nAction: failed\r\n\
             Status: 5.1.1\r\n"
        );
        let status = ("message/delivery-status", status.as_str());
        let returned = format!("Message-ID: <{ID}>\r\nSubject: Encrypted message\r\n\r\nMIIB");
        let whole = ("message/rfc822", returned.as_str());
        let header = ("text/rfc822-headers", returned.as_str());
        let kind = "delivery-status";
        for parts in [&[TEXT, status, whole][..], &[TEXT, status, header]] {
            let notice = read_text(&report(kind, parts)).unwrap();
            let id = notice.original_message_id.as_ref().map(MessageId::as_str);
            assert_eq!(id, Some(ID));
            assert_eq!(notice.statements, [says(RUI, Action::Failed)]);
        }
        let alternative = (
            "multipart/alternative; boundary=c",
            "--c\r\n\r\nplain\r\n--c\r\nContent-Type: text/html\r\n\r\nrich\r\n--c--",
        );
        assert!(read_text(&report(kind, &[alternative, status, header])).is_ok());

        let zip = ("application/zip", "PK");
        let hidden = (
            "multipart/alternative; boundary=c",
            "--c\r\n\r\nplain\r\n--c\r\nContent-Type: application/zip\r\n\r\nPK\r\n--c--",
        );
        let mdn = ("message/disposition-notification", status.1);
        for (name, parts) in [
            ("one part", &[status][..]),
            ("an attachment", &[TEXT, status, zip]),
            ("an attachment more", &[TEXT, status, whole, zip]),
            ("another order", &[status, TEXT, whole]),
            ("something hidden", &[hidden, status, whole]),
            ("an MDN in it", &[TEXT, mdn, whole]),
            ("two reports", &[TEXT, status, status]),
        ] {
            let read = read_text(&report(kind, parts));
            assert_eq!(read, Err(NotABounce::Parts), "{name}");
        }
        let as_mdn = report("disposition-notification", &[TEXT, status, whole]);
        assert_eq!(read_text(&as_mdn), Err(NotABounce::NotADsn));
        let nobody = (
            "message/delivery-status",
            "Reporting-MTA: dns; x.example\r\n",
        );
        let read = read_text(&report(kind, &[TEXT, nobody, whole]));
        assert_eq!(read, Err(NotABounce::Report(NotUnderstood::NoRecipient)));
    }

    fn host(network: &str, certificate: Option<u8>) -> BounceHost {
        BounceHost {
            network: network.parse().unwrap(),
            certificate: certificate.map(|octet| CertificateFingerprint([octet; 32])),
        }
    }

    // rule: DSN-4
    #[test]
    fn a_bounce_host_is_known_by_its_address_and_by_its_certificate_where_one_is_asked_for() {
        let at = |host: &BounceHost, address: &str, certificate: Option<u8>| {
            let certificate = certificate.map(|octet| CertificateFingerprint([octet; 32]));
            host.is_at(address.parse().unwrap(), certificate.as_ref())
        };
        let by_address = host("192.0.2.8/32", None);
        assert!(at(&by_address, "192.0.2.8", None));
        assert!(at(&by_address, "::ffff:192.0.2.8", Some(1)));
        assert!(!at(&by_address, "192.0.2.9", None));
        let by_both = host("192.0.2.0/24", Some(7));
        assert!(at(&by_both, "192.0.2.9", Some(7)));
        assert!(!at(&by_both, "192.0.2.9", Some(8)));
        assert!(!at(&by_both, "192.0.2.9", None));
        assert!(!at(&by_both, "198.51.100.9", Some(7)));
    }

    #[test]
    fn an_entry_that_trusts_everybody_is_told() {
        assert!(host("0.0.0.0/0", None).problem().is_some());
        assert!(host("::/0", None).problem().is_some());
        assert_eq!(host("0.0.0.0/0", Some(7)).problem(), None);
        assert_eq!(host("192.0.2.0/24", None).problem(), None);
    }
}
