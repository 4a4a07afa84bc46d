//! What a received MDN or DSN says, of whom, and who vouches for it (mdn.md sections 5 and 6). Asked of a mail that was
//! decrypted and whose signature holds; an exchange learns only of what passes [`Statement::event`].

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    exchange::{Disposition, EventKind, Exchange, LegKind, Origin},
    own_domain::OwnDomain,
    received,
    trust::{Doubt, Wants},
};
use crate::formats::{
    ids::{CertificateFingerprint, DirectAddress, DomainName, LegId, MessageId},
    mime::read::{Mail, MailHeader, Part, Report},
    notification::{
        ReportError,
        dsn::{self, Action, ReceivedDsn},
        mdn::{self, ReceivedMdn},
    },
    smime::{Opened, certificate},
};

/// Most octets of a report part that are decoded.
const MAX_REPORT_BYTES: u64 = 64 * 1024;
/// Most octets of a returned message or header that are decoded: a message of ours returned whole is larger, but its
/// header stands at its beginning.
const MAX_RETURNED_BYTES: usize = 64 * 1024;
/// Most recipients of one notice that are looked at: as many as an exchange has (LIM-9).
const MAX_STATEMENTS: usize = 100;

/// Why nothing can be made of a notice. No received value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// It calls itself a report and has none.
    #[error("no part of the type message/disposition-notification or message/delivery-status")]
    NoReport,
    /// The part's transfer encoding is broken, or it is too large.
    #[error("the report part cannot be decoded, or has more than 65536 octets")]
    Encoding,
    /// Its fields pass a limit.
    #[error("{0}")]
    Report(#[from] ReportError),
    /// It says nothing (MDN-44).
    #[error("the report has no Disposition (MDN-44)")]
    NoDisposition,
    /// It names nobody, and nobody else can be taken (MDN-51, DSN-1).
    #[error("the report names no recipient")]
    NoRecipient,
}

/// Why a notice about a known message changes nothing (T-20). For audit and log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Suspicion {
    /// The signers may be trusted for others, but not for whom the notice speaks.
    #[error("no signer that the sender's domain trusts is bound to the recipient")]
    NotVouched,
    /// The message is known, and went to others.
    #[error("the message with this id did not go to the recipient")]
    OtherRecipient,
}

/// What is said of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// By an MDN.
    Mdn(Disposition),
    /// By a DSN.
    Dsn(Action),
}

impl Says {
    /// One word, for the audit.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mdn(Disposition::Processed) => "processed",
            Self::Mdn(Disposition::Dispatched {
                final_delivery: true,
            }) => "dispatched, final delivery",
            Self::Mdn(Disposition::Dispatched {
                final_delivery: false,
            }) => "dispatched",
            Self::Mdn(Disposition::Displayed) => "displayed",
            Self::Mdn(Disposition::Failed) => "failed",
            Self::Mdn(Disposition::Other) => "other",
            Self::Dsn(Action::Failed) => "DSN failed",
            Self::Dsn(Action::Delayed) => "DSN delayed",
            Self::Dsn(Action::Delivered) => "DSN delivered",
            Self::Dsn(Action::Relayed) => "DSN relayed",
            Self::Dsn(Action::Expanded) => "DSN expanded",
        }
    }

    /// Whether it says that the recipient will not have the message (SRC-3).
    pub fn is_negative(self) -> bool {
        matches!(
            self,
            Self::Mdn(Disposition::Failed) | Self::Dsn(Action::Failed)
        )
    }

    /// Whether it decides nothing, whatever it is about (mdn.md section 1, DSN-2).
    pub fn is_informative(self) -> bool {
        match self {
            Self::Mdn(disposition) => disposition == Disposition::Other,
            Self::Dsn(action) => action != Action::Failed,
        }
    }

    fn event(self, recipient: DirectAddress) -> Option<EventKind> {
        match self {
            Self::Mdn(disposition) => Some(EventKind::Notice {
                recipient,
                disposition,
            }),
            Self::Dsn(Action::Failed) => Some(EventKind::DsnFailed { recipient }),
            Self::Dsn(_) => None,
        }
    }
}

/// What a notice says of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Of whom.
    pub recipient: DirectAddress,
    /// What.
    pub says: Says,
    /// Who vouches for it.
    pub vouchers: Vec<Voucher>,
}

/// A signer bound to the recipient of a statement, in the eyes of one domain that we serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// The domain that trusts it.
    pub domain: DomainName,
    /// Its certificate.
    pub signer: CertificateFingerprint,
    /// What the revocation lists do not tell of it (REV-4).
    pub doubt: Option<Doubt>,
}

/// A notice as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which kind.
    pub kind: Report,
    /// The Message-ID of the mail that it is about.
    pub original_message_id: Option<MessageId>,
    /// What it says of whom.
    pub statements: Vec<Statement>,
    /// Whether a revocation list that comes may still make somebody vouch for it (REV-4).
    pub is_undecided: bool,
}

impl Notice {
    /// Reads a notice of `opened` and looks who vouches for what it says. `recipients` are those of the envelope: only
    /// one that the signed header names, and whose domain we serve, has a say (WR-6). What might be fetched, so that more is
    /// known of the signers, is added to `wants`.
    pub fn read(
        mail: &Mail<'_>,
        opened: &Opened,
        recipients: &[DirectAddress],
        domain_of: &dyn Fn(&DirectAddress) -> Option<Arc<OwnDomain>>,
        now: Timestamp,
        wants: &mut Wants,
    ) -> Result<Self, NotUnderstood> {
        let mut notice = Self::of_report(mail, &signers_addresses(opened))?;
        for statement in &mut notice.statements {
            for recipient in recipients {
                let domain = recipient.domain();
                if statement.vouchers.iter().any(|by| by.domain == *domain) {
                    continue;
                }
                let speaker = &statement.recipient;
                let vouched = received::vouch(
                    opened,
                    &mail.header,
                    recipient,
                    speaker,
                    domain_of,
                    now,
                    wants,
                );
                match vouched {
                    Ok(by) => {
                        let der = by.certificate.to_der().ok();
                        statement.vouchers.extend(der.map(|der| Voucher {
                            domain: domain.clone(),
                            signer: CertificateFingerprint::of_der(&der),
                            doubt: by.doubt,
                        }));
                    }
                    Err(cause) => notice.is_undecided |= cause.is_temporary(),
                }
            }
        }
        Ok(notice)
    }

    /// What the report says. Where it names nobody, the signers' own addresses have to do, then From (MDN-51).
    pub(super) fn of_report(
        mail: &Mail<'_>,
        signers: &[DirectAddress],
    ) -> Result<Self, NotUnderstood> {
        let leaves = mail.leaves();
        let report = leaves
            .iter()
            .find_map(|part| Some((*part, report_type(part)?)));
        let (part, kind) = report.ok_or(NotUnderstood::NoReport)?;
        let octets = part
            .decoded(MAX_REPORT_BYTES)
            .map_err(|_| NotUnderstood::Encoding)?;
        let mut notice = match kind {
            Report::Disposition => of_mdn(&ReceivedMdn::read(&octets)?, &mail.header, signers)?,
            Report::DeliveryStatus => {
                let dsn = ReceivedDsn::read(&octets)?;
                of_dsn(dsn, &mail.header, || returned_id(&leaves))
            }
        };
        if notice.statements.is_empty() {
            return Err(NotUnderstood::NoRecipient);
        }
        notice.statements.truncate(MAX_STATEMENTS);
        Ok(notice)
    }

    /// Whether somebody vouches for something that it says.
    pub fn is_vouched(&self) -> bool {
        let mut statements = self.statements.iter();
        statements.any(|statement| !statement.vouchers.is_empty())
    }

    /// The leg of `exchange` that the notice is about, if it is a submission that was sent under that id.
    pub fn leg(&self, exchange: &Exchange) -> Option<LegId> {
        let original = self.original_message_id.as_ref()?;
        if !matches!(exchange.origin, Origin::Xdr { .. }) {
            return None;
        }
        let mut legs = exchange.legs.iter();
        legs.find(|leg| match &leg.kind {
            LegKind::Mail(mail) => mail.message_id == *original,
            LegKind::Xdr(_) => false,
        })
        .map(|leg| leg.id)
    }
}

impl Statement {
    /// What the statement means to `exchange`, whose `leg` the notice is about: `None` is nothing that decides. It
    /// counts only if a signer bound to the recipient is trusted by the submission's sender, and the recipient belongs
    /// to that leg (mdn.md section 5, "Anti-spoof").
    pub fn event(&self, exchange: &Exchange, leg: LegId) -> Result<Option<EventKind>, Suspicion> {
        let Origin::Xdr { from, .. } = &exchange.origin else {
            return Err(Suspicion::OtherRecipient);
        };
        if self.voucher_of(from.domain()).is_none() {
            return Err(Suspicion::NotVouched);
        }
        let mut served = exchange.recipients_of(leg);
        if !served.any(|recipient| recipient.address == self.recipient) {
            return Err(Suspicion::OtherRecipient);
        }
        Ok(self.says.event(self.recipient.clone()))
    }

    /// The signer that `domain` trusts for it.
    pub fn voucher_of(&self, domain: &DomainName) -> Option<&Voucher> {
        self.vouchers.iter().find(|by| by.domain == *domain)
    }
}

/// The part's type decides what is read, whatever the message calls itself (MDN-48).
pub(super) fn report_type(part: &Part<'_>) -> Option<Report> {
    match part.media_type() {
        "message/disposition-notification" | "message/global-disposition-notification" => {
            Some(Report::Disposition)
        }
        "message/delivery-status" | "message/global-delivery-status" => {
            Some(Report::DeliveryStatus)
        }
        _ => None,
    }
}

fn of_mdn(
    mdn: &ReceivedMdn,
    header: &MailHeader,
    signers: &[DirectAddress],
) -> Result<Notice, NotUnderstood> {
    let disposition = match mdn.disposition.ok_or(NotUnderstood::NoDisposition)? {
        mdn::Disposition::Processed => Disposition::Processed,
        mdn::Disposition::Dispatched => Disposition::Dispatched {
            final_delivery: mdn.is_final_delivery,
        },
        mdn::Disposition::Displayed => Disposition::Displayed,
        mdn::Disposition::Failed => Disposition::Failed,
        mdn::Disposition::Other => Disposition::Other,
    };
    let mut speakers = mdn.final_recipients.clone();
    if speakers.is_empty() {
        speakers.extend_from_slice(signers);
    }
    if speakers.is_empty() {
        speakers.extend(header.from.iter().map(|from| from.address.clone()));
    }
    Ok(Notice {
        kind: Report::Disposition,
        original_message_id: mdn.original_message_id.clone().or_else(|| answered(header)),
        statements: speakers
            .into_iter()
            .map(|recipient| Statement {
                recipient,
                says: Says::Mdn(disposition),
                vouchers: Vec::new(),
            })
            .collect(),
        is_undecided: false,
    })
}

fn of_dsn(
    dsn: ReceivedDsn,
    header: &MailHeader,
    returned: impl FnOnce() -> Option<MessageId>,
) -> Notice {
    Notice {
        kind: Report::DeliveryStatus,
        original_message_id: dsn
            .original_message_id
            .or_else(returned)
            .or_else(|| answered(header)),
        statements: dsn
            .recipients
            .into_iter()
            .map(|of| Statement {
                recipient: of.address,
                says: Says::Dsn(of.action),
                vouchers: Vec::new(),
            })
            .collect(),
        is_undecided: false,
    }
}

/// The mail that this one answers, by its header (MDN-50).
fn answered(header: &MailHeader) -> Option<MessageId> {
    let references = || header.references.last().cloned();
    header.in_reply_to.clone().or_else(references)
}

/// The Message-ID in the header that a DSN returns.
fn returned_id(leaves: &[&Part<'_>]) -> Option<MessageId> {
    let returned = leaves.iter().find(|part| is_returned(part))?;
    dsn::returned_message_id(&returned.beginning(MAX_RETURNED_BYTES))
}

/// Whether the part holds the message that a report is about, or its header.
pub(super) fn is_returned(part: &Part<'_>) -> bool {
    matches!(
        part.media_type(),
        "text/rfc822-headers"
            | "message/rfc822-headers"
            | "message/global-headers"
            | "message/rfc822"
            | "message/global"
    )
}

/// The addresses that the signers' certificates name, each once.
fn signers_addresses(opened: &Opened) -> Vec<DirectAddress> {
    let mut addresses: Vec<DirectAddress> = Vec::new();
    let names = opened
        .signers
        .iter()
        .flat_map(|signer| certificate::email_names(&signer.certificate));
    for address in names.filter_map(|name| name.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bridge::{
            destination::MailPolicy,
            exchange::{Leg, Recipient},
        },
        formats::{
            ids::{BodyId, ExchangeId},
            limits::Limits,
            metadata::Level,
            mime::read,
        },
    };

    const RUI: &str = "rui.silva@direct.harbor.example";
    const MEI: &str = "mei.tanaka@direct.quay.example";
    const NGOZI: &str = "ngozi.okafor@direct.elm.example";

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    /// A report message with these header lines, report type and parts.
    fn message(header: &str, kind: &str, parts: &[(&str, &str)]) -> String {
        let mut text = format!(
            "From: <{RUI}>\r\nTo: <{NGOZI}>\r\nMessage-ID: <n@direct.harbor.example>\r\n{header}MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nA notice.\r\n"
        );
        for (media_type, content) in parts {
            text += &format!("--b\r\nContent-Type: {media_type}\r\n\r\n{content}\r\n");
        }
        text + "--b--\r\n"
    }

    fn understood(message: &str, signers: &[&str]) -> Result<Notice, NotUnderstood> {
        let mail = read::read(message.as_bytes(), &Limits::default()).unwrap();
        let signers: Vec<DirectAddress> = signers.iter().map(|text| address(text)).collect();
        Notice::of_report(&mail, &signers)
    }

    fn mdn(header: &str, report: &str) -> String {
        let part = ("message/disposition-notification", report);
        message(header, "disposition-notification", &[part])
    }

    fn id(notice: &Notice) -> Option<&str> {
        notice.original_message_id.as_ref().map(MessageId::as_str)
    }

    fn of(notice: &Notice) -> Vec<(String, Says)> {
        let statements = notice.statements.iter();
        statements
            .map(|statement| (statement.recipient.to_string(), statement.says))
            .collect()
    }

    const PROCESSED: &str = "Disposition: automatic-action/MDN-sent-automatically; processed\r\n";

    // rule: MDN-50
    #[test]
    fn the_message_is_named_by_the_report_then_by_in_reply_to_then_by_the_last_reference() {
        let header =
            "In-Reply-To: <two@x.example>\r\nReferences: <first@x.example> <three@x.example>\r\n";
        let named = mdn(
            header,
            &format!("Original-Message-ID: one@x.example\r\n{PROCESSED}"),
        );
        assert_eq!(id(&understood(&named, &[]).unwrap()), Some("one@x.example"));
        let replied = mdn(header, PROCESSED);
        assert_eq!(
            id(&understood(&replied, &[]).unwrap()),
            Some("two@x.example")
        );
        let referred = mdn(
            "References: <first@x.example> <three@x.example>\r\n",
            PROCESSED,
        );
        assert_eq!(
            id(&understood(&referred, &[]).unwrap()),
            Some("three@x.example")
        );
        assert_eq!(id(&understood(&mdn("", PROCESSED), &[]).unwrap()), None);
    }

    // rule: MDN-51
    #[test]
    fn it_speaks_for_each_final_recipient_else_for_the_signer_else_for_from() {
        let processed = Says::Mdn(Disposition::Processed);
        let both = format!(
            "Final-Recipient: rfc822; {RUI}\r\nFinal-Recipient: rfc822; {MEI}\r\n{PROCESSED}"
        );
        let notice = understood(&mdn("", &both), &["x@y.example"]).unwrap();
        assert_eq!(
            of(&notice),
            [(RUI.to_owned(), processed), (MEI.to_owned(), processed)]
        );
        let notice = understood(&mdn("", PROCESSED), &[MEI]).unwrap();
        assert_eq!(of(&notice), [(MEI.to_owned(), processed)]);
        let notice = understood(&mdn("", PROCESSED), &[]).unwrap();
        assert_eq!(of(&notice), [(RUI.to_owned(), processed)]);
    }

    // rule: MDN-44
    #[test]
    fn a_report_that_says_nothing_is_not_understood() {
        let silent = mdn("", &format!("Final-Recipient: rfc822; {RUI}\r\n"));
        assert_eq!(understood(&silent, &[]), Err(NotUnderstood::NoDisposition));
        let without = message("", "disposition-notification", &[("text/plain", "x")]);
        assert_eq!(understood(&without, &[]), Err(NotUnderstood::NoReport));
        let nobody = message(
            "",
            "delivery-status",
            &[(
                "message/delivery-status",
                "Reporting-MTA: dns; x.example\r\n",
            )],
        );
        assert_eq!(understood(&nobody, &[]), Err(NotUnderstood::NoRecipient));
    }

    // rule: DSN-1, DSN-2, MDN-48
    #[test]
    fn a_dsn_is_read_by_the_type_of_its_part_and_finds_its_message_in_the_returned_header() {
        let report = format!(
            "Reporting-MTA: dns; mx.harbor.example\r\n\r\nFinal-Recipient: rfc822; {RUI}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n\
             Final-Recipient: rfc822; {MEI}\r\nAction: delivered\r\nStatus: 2.0.0\r\n"
        );
        let parts = [
            ("message/delivery-status", &*report),
            (
                "text/rfc822-headers",
                "Message-ID: <one@x.example>\r\nSubject: x\r\n",
            ),
        ];
        // It calls itself an MDN.
        let notice = understood(&message("", "disposition-notification", &parts), &[]).unwrap();
        assert_eq!(notice.kind, Report::DeliveryStatus);
        assert_eq!(id(&notice), Some("one@x.example"));
        let said = of(&notice);
        assert_eq!(
            said,
            [
                (RUI.to_owned(), Says::Dsn(Action::Failed)),
                (MEI.to_owned(), Says::Dsn(Action::Delivered))
            ]
        );
        assert!(said[0].1.is_negative() && !said[0].1.is_informative());
        assert!(!said[1].1.is_negative() && said[1].1.is_informative());
        assert_eq!(said[1].1.event(address(MEI)), None);
    }

    /// A submission of Ngozi's: one mail to Rui, another one to Mei.
    fn submission() -> Exchange {
        let leg = |id: &str| {
            let id = id.parse().unwrap();
            Leg::mail(LegId::random(), id, MailPolicy::default())
        };
        let legs = vec![leg("one@direct.elm.example"), leg("two@direct.elm.example")];
        let to = |text, leg: &Leg| Recipient::queued(address(text), vec![leg.id], None);
        let recipients = vec![to(RUI, &legs[0]), to(MEI, &legs[1])];
        let at = "2026-11-22T08:00:00Z".parse().unwrap();
        Exchange {
            id: ExchangeId::random(),
            origin: Origin::Xdr {
                partner: "elm".into(),
                soap_message_id: None,
                submission_set_unique_id: "1.2".into(),
                digest: [0; 32],
                content_type: String::new(),
                from: address(NGOZI),
                level: Level::Full,
                documents: Vec::new(),
            },
            is_begun: true,
            accepted_at: at,
            deadlines: crate::bridge::exchange::Timers::default().deadlines(at),
            body: BodyId::random(),
            wants_final_delivery: false,
            displayed_is_delivery: true,
            legs,
            recipients,
            final_at: None,
            hold: None,
        }
    }

    fn statement(recipient: &str, trusted_by: &str) -> Statement {
        Statement {
            recipient: address(recipient),
            says: Says::Mdn(Disposition::Processed),
            vouchers: vec![Voucher {
                domain: trusted_by.parse().unwrap(),
                signer: CertificateFingerprint::of_der(b"der"),
                doubt: None,
            }],
        }
    }

    // rule: T-20
    #[test]
    fn a_statement_counts_for_a_recipient_of_that_mail_vouched_for_in_the_senders_domain() {
        let exchange = submission();
        let mut notice = understood(
            &mdn("In-Reply-To: <one@direct.elm.example>\r\n", PROCESSED),
            &[],
        );
        let notice = notice.as_mut().unwrap();
        let leg = notice.leg(&exchange).unwrap();
        assert_eq!(leg, exchange.legs[0].id);
        let good = statement(RUI, "direct.elm.example");
        assert_eq!(
            good.event(&exchange, leg),
            Ok(Some(EventKind::Notice {
                recipient: address(RUI),
                disposition: Disposition::Processed
            }))
        );
        // Mei got another mail of the same submission.
        let other = statement(MEI, "direct.elm.example");
        assert_eq!(other.event(&exchange, leg), Err(Suspicion::OtherRecipient));
        // Trusted by a domain that has nothing to do with it.
        let elsewhere = statement(RUI, "direct.ash.example");
        assert_eq!(elsewhere.event(&exchange, leg), Err(Suspicion::NotVouched));
        notice.original_message_id = "three@direct.elm.example".parse().ok();
        assert_eq!(notice.leg(&exchange), None);
    }
}
