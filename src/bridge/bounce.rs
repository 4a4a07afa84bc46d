//! Failed deliveries that are told without a signature (mdn.md DSN-4): our own next hop writes its bounces in clear, and
//! nothing in them proves who wrote them. So the connection has to, and they may say no more than what the next hop knows:
//! that it did not get rid of a mail which it took from us itself.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    exchange::{Exchange, NextHop, Origin, Reason, RecipientState},
    network::Network,
    notice::{NotUnderstood, Notice, Statement, is_returned, report_type},
};
use crate::formats::{
    ids::{CertificateFingerprint, DirectAddress, DomainName, LegId},
    mime::read::{Mail, Part, Report},
};

/// The widest networks in which an address says who somebody is: what one site has to itself.
const ONE_SITE_V4_BITS: u8 = 24;
const ONE_SITE_V6_BITS: u8 = 64;

/// A host whose unsigned bounces are believed, by the connection that it makes: an entry of
/// `receiving.trusted_bounce_hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BounceHost {
    /// Where it connects from, such as `"192.0.2.8/32"`.
    pub network: Network,
    /// SHA-256 fingerprint of the TLS client certificate that it has to show, 64 hexadecimal digits. Default none: its
    /// address is enough, unless `network` is wider than /24 (IPv6: /64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFingerprint>,
    /// The name by which mail is handed to it, such as `"smtp.harbor.example"`: that of the smarthost or of the MX record.
    /// Needed only where it takes mail outside `network`, or where `network` is wider than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<DomainName>,
}

impl BounceHost {
    /// Whether a TLS connection from `address`, whose peer proved to have the key of `certificate`, is this host's.
    pub fn is_at(&self, address: IpAddr, certificate: Option<&CertificateFingerprint>) -> bool {
        let is_shown = match &self.certificate {
            Some(own) => certificate == Some(own),
            None => !self.is_wide(),
        };
        self.network.contains(address) && is_shown
    }

    /// What would be accepted instead, if the entry trusts more than one site for nothing but its addresses.
    pub fn problem(&self) -> Option<String> {
        let is_anybody = self.is_wide() && self.certificate.is_none();
        is_anybody.then(|| {
            format!("/{ONE_SITE_V4_BITS} or smaller (IPv6: /{ONE_SITE_V6_BITS}), or one together with a certificate")
        })
    }

    /// Whether `hop` is this host, by its network or by its name.
    fn is(&self, hop: &NextHop) -> bool {
        let is_named = |name: &DomainName| name.as_str().eq_ignore_ascii_case(&hop.host);
        !self.is_wide() && self.network.contains(hop.address)
            || self.next_hop.as_ref().is_some_and(is_named)
    }

    fn is_wide(&self) -> bool {
        self.network
            .is_wider_than(ONE_SITE_V4_BITS, ONE_SITE_V6_BITS)
    }
}

/// Who hands over a bounce: a host that the settings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bouncer<'a> {
    address: IpAddr,
    entries: Vec<&'a BounceHost>,
}

impl<'a> Bouncer<'a> {
    /// The peer of a TLS connection from `address`, who proved to have the key of `certificate`, if it is one of `hosts`.
    pub fn of(
        hosts: &'a [BounceHost],
        address: IpAddr,
        certificate: Option<&CertificateFingerprint>,
    ) -> Option<Self> {
        let is_his = |host: &&BounceHost| host.is_at(address, certificate);
        let entries: Vec<&BounceHost> = hosts.iter().filter(is_his).collect();
        (!entries.is_empty()).then_some(Self { address, entries })
    }

    /// Whether it was this host that took a mail at `hop`.
    fn is(&self, hop: &NextHop) -> bool {
        self.address.to_canonical() == hop.address.to_canonical()
            || self.entries.iter().any(|entry| entry.is(hop))
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
    /// Whoever has the mail, it is not known that this host has.
    #[error("the mail for the recipient was not taken by the host that returns it")]
    OtherHost,
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
/// it goes to whom the mail came from, and counts only while its recipient is RELAYED, from the host that took the mail
/// for it (DSN-4).
pub fn judge(
    statement: &Statement,
    exchange: &Exchange,
    leg: LegId,
    to: &[DirectAddress],
    bouncer: &Bouncer<'_>,
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
    let took_it = |hop: &NextHop| bouncer.is(hop);
    if recipient.state != RecipientState::Queued
        && !recipient.taken_by.as_ref().is_some_and(took_it)
    {
        return Err(NotABounce::OtherHost);
    }
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

    const SMARTHOST: &str = "192.0.2.8";

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    fn hop(host: &str, address: &str) -> NextHop {
        NextHop {
            host: host.to_owned(),
            address: address.parse().unwrap(),
        }
    }

    /// The smarthost that took the mails of [`submission`].
    fn smarthost() -> BounceHost {
        host("192.0.2.8/32", None)
    }

    /// What `bounce` says to `exchange`, from the smarthost.
    fn judged(
        bounce: &Statement,
        exchange: &Exchange,
        leg: LegId,
        to: &[DirectAddress],
    ) -> Result<Bounce, NotABounce> {
        let hosts = [smarthost()];
        let bouncer = Bouncer::of(&hosts, SMARTHOST.parse().unwrap(), None).unwrap();
        judge(bounce, exchange, leg, to, &bouncer)
    }

    /// A mail from Ngozi to Rui, who is in `state`, failed for `failure` if it is settled.
    fn submission(state: RecipientState, failure: Option<Reason>) -> Exchange {
        let at = Timestamp::UNIX_EPOCH;
        let id: MessageId = ID.parse().unwrap();
        let leg = Leg::mail(LegId::random(), id, MailPolicy::default());
        let mut rui = Recipient::queued(address(RUI), vec![leg.id], None);
        rui.state = state;
        rui.taken_by =
            (state != RecipientState::Queued).then(|| hop("smtp.elm.example", SMARTHOST));
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
            let failed = judged(&says(RUI, Action::Failed), &exchange, leg, &to);
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
                let idle = judged(&says(RUI, action), &exchange, leg, &to);
                assert_eq!(idle, Ok(Bounce::Idle), "{state:?} {action:?}");
            }
        }
        // Bounced for another reason: the queue ran out, say.
        let exchange = submission(State::Bounced, Some(Reason::SmtpExpired));
        let failed = judged(
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
            judged(statement, &exchange, leg, &to)
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

    // rule: DSN-4, T-20
    #[test]
    fn a_bounce_counts_from_the_host_that_took_the_mail() {
        let told = |hosts: &[BounceHost], from: &str, certificate, taken_by: Option<NextHop>| {
            let mut exchange = submission(RecipientState::Relayed, None);
            exchange.recipients[0].taken_by = taken_by;
            let certificate = certificate_of(certificate);
            let bouncer = Bouncer::of(hosts, from.parse().unwrap(), certificate.as_ref());
            let leg = exchange.legs[0].id;
            let failed = says(RUI, Action::Failed);
            judge(
                &failed,
                &exchange,
                leg,
                &[address(NGOZI)],
                &bouncer.unwrap(),
            )
        };
        let decides = Ok(Bounce::Decides(Reason::SmtpRejected));
        let other = Err(NotABounce::OtherHost);
        let hosts = [smarthost(), host("198.51.100.0/28", None)];
        let taken = |at: &str| Some(hop("smtp.elm.example", at));
        assert_eq!(told(&hosts, SMARTHOST, None, taken(SMARTHOST)), decides);
        let mapped = "::ffff:192.0.2.8";
        assert_eq!(told(&hosts, mapped, None, taken(SMARTHOST)), decides);
        // Another address of the same entry, and another entry.
        let farm = "198.51.100.3";
        assert_eq!(told(&hosts, farm, None, taken("198.51.100.9")), decides);
        assert_eq!(told(&hosts, farm, None, taken(SMARTHOST)), other);
        assert_eq!(told(&hosts, SMARTHOST, None, taken(farm)), other);
        // Nothing left this bridge, or nobody knows who took it.
        assert_eq!(told(&hosts, SMARTHOST, None, None), other);

        // It takes mail elsewhere, under a name.
        let named = BounceHost {
            next_hop: Some("SMTP.Elm.example".parse().unwrap()),
            ..smarthost()
        };
        let named = [named];
        assert_eq!(told(&named, SMARTHOST, None, taken("203.0.113.7")), decides);
        let elsewhere = Some(hop("mx.harbor.example", "203.0.113.7"));
        assert_eq!(told(&named, SMARTHOST, None, elsewhere), other);

        // Half of the Internet is not one host: its certificate is, and only where it took the mail itself.
        let wide = [host("0.0.0.0/1", Some(7))];
        let wide_named = [BounceHost {
            next_hop: Some("smtp.elm.example".parse().unwrap()),
            ..wide[0].clone()
        }];
        let (here, there) = ("100.64.0.1", "100.64.0.2");
        assert_eq!(told(&wide, here, Some(7), taken(here)), decides);
        assert_eq!(told(&wide, here, Some(7), taken(there)), other);
        assert_eq!(told(&wide_named, here, Some(7), taken(there)), decides);
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

    fn certificate_of(octet: Option<u8>) -> Option<CertificateFingerprint> {
        octet.map(|octet| CertificateFingerprint([octet; 32]))
    }

    fn host(network: &str, certificate: Option<u8>) -> BounceHost {
        BounceHost {
            network: network.parse().unwrap(),
            certificate: certificate_of(certificate),
            next_hop: None,
        }
    }

    // rule: DSN-4
    #[test]
    fn a_bounce_host_is_known_by_its_address_and_by_its_certificate_where_one_is_asked_for() {
        let at = |host: &BounceHost, address: &str, certificate: Option<u8>| {
            host.is_at(
                address.parse().unwrap(),
                certificate_of(certificate).as_ref(),
            )
        };
        let by_address = host("192.0.2.8/32", None);
        assert!(at(&by_address, "192.0.2.8", None));
        assert!(at(&by_address, "::ffff:192.0.2.8", Some(1)));
        assert!(!at(&by_address, "192.0.2.9", None));
        assert!(at(&host("192.0.2.0/24", None), "192.0.2.9", None));
        assert!(at(&host("2001:db8::/64", None), "2001:db8::9", Some(1)));
        // Addresses of more than one site say nothing.
        assert!(!at(&host("192.0.2.0/23", None), "192.0.2.9", Some(1)));
        assert!(!at(&host("2001:db8::/63", None), "2001:db8::9", None));
        let by_both = host("192.0.0.0/16", Some(7));
        assert!(at(&by_both, "192.0.2.9", Some(7)));
        assert!(!at(&by_both, "192.0.2.9", Some(8)));
        assert!(!at(&by_both, "192.0.2.9", None));
        assert!(!at(&by_both, "198.51.100.9", Some(7)));
    }

    #[test]
    fn an_entry_that_trusts_more_than_one_site_by_its_addresses_is_told() {
        assert!(host("0.0.0.0/0", None).problem().is_some());
        assert!(host("192.0.2.0/23", None).problem().is_some());
        assert!(host("::/0", None).problem().is_some());
        assert!(host("2001:db8::/63", None).problem().is_some());
        assert_eq!(host("2001:db8::/64", None).problem(), None);
        assert_eq!(host("0.0.0.0/0", Some(7)).problem(), None);
        assert_eq!(host("192.0.2.0/24", None).problem(), None);
    }
}
