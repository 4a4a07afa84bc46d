//! What bridge A was told: the notices in its store, opened with the key of its domain.

use std::{io::Read, sync::Arc, time::Duration};

use anyhow::Context;
use openssl::x509::X509;
use tokio::task::spawn_blocking;

use super::{
    compare::Check,
    opening::{self, OpenedNotice},
};
use crate::{
    adapters::{clock::SystemClock, store::Store},
    bridge::exchange::{Exchange, Origin},
    flows::ports::{Clock, ExchangeFilter},
    formats::{
        ids::{BodyId, DirectAddress, ExchangeId, MessageId},
        notification::mdn::Disposition,
        smime::SigningIdentity,
    },
};

/// How often the store is looked at.
const PAUSE: Duration = Duration::from_millis(10);
/// More exchanges than the demo makes.
const MOST: usize = 20;

/// A notice as bridge A received it.
pub(super) struct Notice {
    /// The exchange that it is recorded as.
    pub(super) exchange: ExchangeId,
    /// What it says.
    pub(super) opened: OpenedNotice,
}

/// The notices that `store` has, once there are `count` and nothing is left to do about them; `identity` opens them.
pub(super) async fn received(
    store: &Arc<dyn Store>,
    count: usize,
    identity: &SigningIdentity,
    ca: &X509,
) -> anyhow::Result<Vec<Notice>> {
    let filter = ExchangeFilter {
        limit: MOST,
        ..ExchangeFilter::default()
    };
    let mut exchanges = loop {
        let mut exchanges = store.list(&filter).await?;
        exchanges.retain(|exchange| matches!(exchange.origin, Origin::Direct { .. }));
        if exchanges.len() >= count && exchanges.iter().all(Exchange::is_final) {
            break exchanges;
        }
        tokio::time::sleep(PAUSE).await;
    };
    exchanges.sort_by_key(|exchange| exchange.accepted_at);
    let mut notices = Vec::new();
    for exchange in exchanges {
        let mail = body(store, exchange.body).await?;
        let opened = opening::open_notice(&mail, identity, ca, SystemClock.now());
        notices.push(Notice {
            exchange: exchange.id,
            opened: opened.context("what came by mail is no notice that can be opened")?,
        });
    }
    Ok(notices)
}

async fn body(store: &Arc<dyn Store>, id: BodyId) -> anyhow::Result<Vec<u8>> {
    let store = Arc::clone(store);
    let read = spawn_blocking(move || -> anyhow::Result<Vec<u8>> {
        let mut octets = Vec::new();
        store.open(id)?.read_to_end(&mut octets)?;
        Ok(octets)
    });
    read.await?
}

/// Every check of the notices about the mail `message_id`: `recipient` is to have said `processed`, then `dispatched`
/// with the field of final delivery, and nothing more.
pub(super) fn checks(
    notices: &[Notice],
    message_id: &str,
    recipient: &DirectAddress,
) -> anyhow::Result<Vec<Check>> {
    let message_id: MessageId = message_id.parse()?;
    let wanted = [
        ("processed", Disposition::Processed, false),
        ("dispatched", Disposition::Dispatched, true),
    ];
    let mut checks = Vec::new();
    for (word, disposition, is_final_delivery) in wanted {
        let opened = notices.iter().map(|notice| &notice.opened);
        let mut told = opened.filter(|opened| opened.report.disposition == Some(disposition));
        let subject = format!("MDN {word}");
        checks.push(match (told.next(), told.next()) {
            (None, _) => Check::of(subject, "", Some("it did not arrive".to_owned())),
            (Some(_), Some(_)) => Check::of(subject, "", Some("it arrived twice".to_owned())),
            (Some(opened), None) => {
                let report = &opened.report;
                let difference = if report.original_message_id.as_ref() != Some(&message_id) {
                    Some("it is about another mail")
                } else if report.final_recipients != [recipient.clone()] {
                    Some("it speaks for another recipient")
                } else if opened.from != *recipient {
                    Some("it is from somebody else")
                } else if report.is_final_delivery != is_final_delivery {
                    Some("it says otherwise what it knows of final delivery")
                } else {
                    None
                };
                let final_delivery = match is_final_delivery {
                    true => ", final delivery",
                    false => "",
                };
                let signer = &opened.signer;
                let evidence = format!("of {recipient}{final_delivery}, signed by \"{signer}\"");
                Check::of(subject, evidence, difference.map(str::to_owned))
            }
        });
    }
    let further = notices.len().saturating_sub(wanted.len());
    let difference = (further > 0).then(|| format!("{further} further notices came"));
    checks.push(Check::of("notices", wanted.len().to_string(), difference));
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::notification::mdn::ReceivedMdn;

    const RECIPIENT: &str = "rui.silva@direct.harbor.example";

    fn notice(disposition: Disposition, is_final_delivery: bool) -> Notice {
        let recipient: DirectAddress = RECIPIENT.parse().unwrap();
        Notice {
            exchange: ExchangeId::random(),
            opened: OpenedNotice {
                from: recipient.clone(),
                signer: "direct.harbor.example".to_owned(),
                report: ReceivedMdn {
                    final_recipients: vec![recipient],
                    original_message_id: Some("1@direct.elm.example".parse().unwrap()),
                    disposition: Some(disposition),
                    is_final_delivery,
                },
            },
        }
    }

    fn both() -> Vec<Notice> {
        vec![
            notice(Disposition::Processed, false),
            notice(Disposition::Dispatched, true),
        ]
    }

    fn differing(notices: &[Notice]) -> Vec<String> {
        let checks = checks(notices, "1@direct.elm.example", &RECIPIENT.parse().unwrap());
        let checks = checks.unwrap().into_iter();
        let differing = checks.filter(|check| !check.holds());
        differing.map(|check| check.subject).collect()
    }

    // rule: MDN-12, MDN-27
    #[test]
    fn processed_and_dispatched_about_this_mail_are_what_is_wanted() {
        assert_eq!(differing(&both()), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_missing_foreign_or_too_much_is_noticed() {
        assert_eq!(differing(&both()[..1]), ["MDN dispatched"]);
        let mut foreign = both();
        foreign[0].opened.report.original_message_id = None;
        foreign[1].opened.from = "x@direct.harbor.example".parse().unwrap();
        assert_eq!(differing(&foreign), ["MDN processed", "MDN dispatched"]);
        let mut unasked = both();
        unasked[1].opened.report.is_final_delivery = false;
        assert_eq!(differing(&unasked), ["MDN dispatched"]);
        let mut twice = both();
        twice.extend(both().into_iter().skip(1));
        assert_eq!(differing(&twice), ["MDN dispatched", "notices"]);
        let mut failed = both();
        failed.push(notice(Disposition::Failed, false));
        assert_eq!(differing(&failed), ["notices"]);
    }
}
