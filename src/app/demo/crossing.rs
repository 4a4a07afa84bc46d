//! The crossing itself, step by step.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};

use super::{
    compare::{Check, Submission, compare, shown_values},
    ehr::{Ehr, Posted, Referral},
    ground::{Ground, MAIL_HOST, XDR_HOST},
    mailbox::{Delivery, Mailbox},
    opening::{self, OpenedMail},
    story::Story,
};
use crate::{
    adapters::{
        clock::SystemClock,
        operator::Measured,
        store::{ChainVerdict, SqliteStore},
    },
    app::wiring::Bridge,
    bridge::{
        exchange::{Exchange, RecipientState},
        trust::Binding,
    },
    flows::ports::{Clock, ExchangeFilter, Exchanges},
    formats::{audit::AuditKind, ids::DirectAddress, xdr::response::Answer},
};

/// Longest wait for the mail at the mailbox.
const MAIL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the bridge's own record of what the mailbox has taken.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often that record is looked at.
const RECORD_PAUSE: Duration = Duration::from_millis(10);

/// All parties, ready.
pub(super) struct Crossing {
    ground: Ground,
    mailbox: Mailbox,
    bridge: Bridge,
}

impl Crossing {
    /// Makes the keys, opens the mailbox, and starts the bridge, all in `dir`.
    pub(super) async fn prepare(
        dir: &Path,
        measured: Measured,
        story: &mut Story<'_>,
    ) -> anyhow::Result<Self> {
        let now = SystemClock.now();
        let ground = Ground::make(dir, now).context("keys")?;
        story.step("keys", "a private CA, and certificates of it for everybody")?;

        let mailbox = Mailbox::start(dir, ground.recipient_addresses())?;
        let address = mailbox.address();
        story.step(
            "mailbox",
            &format!("{MAIL_HOST} takes SMTP with STARTTLS on {address}"),
        )?;

        let config = ground.configure(dir, address, now)?;
        let bridge = Bridge::start(&config, Arc::new(SystemClock), measured).await?;
        let address = bridge.xdr_address();
        story.step(
            "bridge",
            &format!("{XDR_HOST} takes XDR on {address}, store is SQLite"),
        )?;
        Ok(Self {
            ground,
            mailbox,
            bridge,
        })
    }

    /// The crossing. An error ends it; what merely differs is told and counted by `story`.
    pub(super) async fn run(&mut self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let referral = Referral::new(
            self.ground.sender.clone(),
            self.ground.recipient_addresses(),
            SystemClock.now(),
        )?;
        let posted = self.post(&referral).await.context("the EHR")?;
        let size = posted.request_bytes;
        story.step(
            "EHR",
            &format!("posted ITI-41 as MTOM over mutual TLS, {size} octets"),
        )?;
        for check in answer_checks(&referral, &posted) {
            story.check(&check)?;
        }

        let delivery = tokio::time::timeout(MAIL_TIMEOUT, self.mailbox.next())
            .await
            .with_context(|| format!("no mail came within {MAIL_TIMEOUT:?}"))??;
        let (mail, copies) = (delivery.mail.len(), delivery.to.len());
        story.step(
            "mailbox",
            &format!("took one mail of {mail} octets for {copies} recipients"),
        )?;
        let envelope_from = referral.from.to_string();
        story.check(&Check::equal("MAIL FROM", &envelope_from, &delivery.from))?;

        let mut first: Option<OpenedMail> = None;
        for (address, identity) in &self.ground.recipients {
            let now = SystemClock.now();
            let opened = opening::open(&delivery.mail, identity, &self.ground.ca, now)
                .with_context(|| format!("{address} cannot open the mail"))?;
            self.tell_opened(story, address, &referral, &opened)?;
            match &first {
                None => {
                    keep_package(&delivery, &opened)?;
                    self.tell_compared(story, &referral.submission, &delivery, &opened)?;
                    first = Some(opened);
                }
                Some(first) => {
                    let is_other = opened.zip != first.zip;
                    let difference = is_other.then(|| "another than the first".to_owned());
                    story.check(&Check::of("package", "the very same", difference))?;
                }
            }
        }
        let opened = first.context("nobody opened the mail")?;
        self.tell_recorded(story, &referral, &opened.message_id)
            .await
    }

    async fn post(&self, referral: &Referral) -> anyhow::Result<Posted> {
        let address = self.bridge.xdr_address();
        let ehr = Ehr::new(&self.ground.ehr, &self.ground.ca, XDR_HOST, address)?;
        ehr.submit(referral).await
    }

    fn tell_opened(
        &self,
        story: &mut Story<'_>,
        reader: &DirectAddress,
        referral: &Referral,
        opened: &OpenedMail,
    ) -> anyhow::Result<()> {
        story.step("opened", &format!("by {reader} with a key of its own"))?;
        let binding = match opened.binding {
            Binding::Domain => "its domain",
            Binding::Address => "the address",
        };
        let evidence = format!("\"{}\", trusted, bound by {binding}", opened.signer);
        story.check(&Check::of("signed by", evidence, None))?;
        let (wanted, found) = (referral.from.to_string(), opened.from.to_string());
        story.check(&Check::equal("From", &wanted, &found))?;
        Ok(())
    }

    fn tell_compared(
        &self,
        story: &mut Story<'_>,
        sent: &Submission,
        delivery: &Delivery,
        opened: &OpenedMail,
    ) -> anyhow::Result<()> {
        let (name, size) = (&opened.package_name, opened.zip.len());
        story.step("unpacked", &format!("{name}, {size} octets"))?;
        let envelope = delivery.to.iter().map(|text| Ok(text.parse()?));
        let envelope: Vec<DirectAddress> = envelope.collect::<anyhow::Result<_>>()?;
        let mut checks = vec![Check::same_addresses(
            "RCPT TO",
            &sent.recipients,
            &envelope,
        )];
        checks.extend(compare(sent, &opened.submission));
        let shown = shown_values(&sent.metadata, &opened.submission.metadata);
        story.step("compared", "what the EHR sent and what the counterpart has")?;
        for check in &checks {
            story.check(check)?;
        }
        story.step("shown", "some of the values that were compared")?;
        for check in &shown {
            story.check(check)?;
        }
        Ok(())
    }

    /// Asks the bridge what it knows.
    async fn tell_recorded(
        &self,
        story: &mut Story<'_>,
        referral: &Referral,
        message_id: &str,
    ) -> anyhow::Result<()> {
        let store = self.bridge.store();
        let exchange = tokio::time::timeout(RECORD_TIMEOUT, settled(store))
            .await
            .with_context(|| format!("nothing was recorded within {RECORD_TIMEOUT:?}"))??;
        story.step("bridge", &format!("exchange {}", exchange.id))?;
        for address in &referral.submission.recipients {
            let state = exchange.recipient(address).map(|recipient| recipient.state);
            let found = state.map_or("not recorded".to_owned(), |state| format!("{state:?}"));
            let wanted = format!("{:?}", RecipientState::Relayed);
            let wanted = format!("{address} {wanted}");
            let found = format!("{address} {found}");
            story.check(&Check::equal("recipient", &wanted, &found))?;
        }
        let legs: Vec<&str> = exchange
            .legs
            .iter()
            .filter_map(|leg| Some(leg.as_mail()?.message_id.as_str()))
            .collect();
        let recorded = legs.join(", ");
        story.check(&Check::equal("Message-ID", &recorded, message_id))?;
        let further = self.mailbox.waiting();
        let twice = (further > 0).then(|| format!("{further} further mails came"));
        story.check(&Check::of("mails", "one", twice))?;
        for check in audit_checks(store, &exchange).await? {
            story.check(&check)?;
        }
        Ok(())
    }

    /// Where to look while the demo stays up.
    pub(super) fn places(&self, dir: &Path) -> Vec<(&'static str, String)> {
        let operator = self.bridge.operator_address();
        let xdr = self.bridge.xdr_address();
        let file = |name: &str| dir.join(name).display().to_string();
        vec![
            ("health", format!("http://{operator}/healthz")),
            ("ready", format!("http://{operator}/readyz")),
            ("measures", format!("http://{operator}/metrics")),
            (
                "XDR",
                format!("https://{xdr}/xdr (as {XDR_HOST}, with tls/ehr.pem)"),
            ),
            ("mail as sent", file("mail")),
            ("configuration", file("xdbridge.toml")),
            ("store", file("data")),
            ("log", file("log.json")),
        ]
    }

    /// Drains the bridge.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.bridge.stop().await
    }
}

/// What the EHR was answered.
fn answer_checks(referral: &Referral, posted: &Posted) -> Vec<Check> {
    let mut checks = vec![Check::equal(
        "HTTP status",
        "200",
        &posted.status.to_string(),
    )];
    match &posted.answer.answer {
        Answer::Response(response) => {
            let errors = response.errors.iter();
            let told: Vec<String> = errors
                .map(|error| format!("{}: {}", error.code, error.context))
                .collect();
            let differs = !response.is_success() || !told.is_empty();
            let difference =
                differs.then(|| format!("{} {}", response.status.as_str(), told.join("; ")));
            let evidence = "Success, without a warning";
            checks.push(Check::of("RegistryResponse", evidence, difference));
        }
        Answer::Fault(fault) => {
            let difference = Some(format!("a SOAP fault: {fault:?}"));
            checks.push(Check::of("RegistryResponse", "", difference));
        }
    }
    let addressing = posted.answer.addressing.as_ref();
    let relates_to = addressing.and_then(|addressing| addressing.relates_to.as_deref());
    checks.push(Check::equal(
        "RelatesTo",
        referral.message_id.as_str(),
        relates_to.unwrap_or("none"),
    ));
    checks
}

/// The package beside the mail, for people to look at.
fn keep_package(delivery: &Delivery, opened: &OpenedMail) -> anyhow::Result<()> {
    let path = delivery.file.with_extension("zip");
    std::fs::write(&path, &opened.zip).with_context(|| format!("cannot write {}", path.display()))
}

/// The one exchange, once no recipient of it waits for the next hop.
async fn settled(store: &SqliteStore) -> anyhow::Result<Exchange> {
    let filter = ExchangeFilter {
        limit: 2,
        ..ExchangeFilter::default()
    };
    loop {
        let exchanges = store.list(&filter).await?;
        let [exchange] = exchanges.as_slice() else {
            bail!("{} exchanges are recorded in place of one", exchanges.len());
        };
        let mut states = exchange.recipients.iter().map(|recipient| recipient.state);
        if states.all(|state| state != RecipientState::Queued) {
            return Ok(exchange.clone());
        }
        tokio::time::sleep(RECORD_PAUSE).await;
    }
}

/// What the audit says of the hand-over, and whether its chain is whole.
async fn audit_checks(store: &SqliteStore, exchange: &Exchange) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    let records = store.read_audit_of("demo", exchange.id).await?;
    let hand_overs = records.iter().filter(|r| r.kind == AuditKind::Iti32Export);
    let mut tls: Vec<&str> = hand_overs
        .map(|record| {
            record
                .details
                .get("tls")
                .map_or("without TLS", String::as_str)
        })
        .collect();
    tls.dedup();
    let told = tls.join("; ");
    let is_good = |text: &&str| text.ends_with(" verified") && !text.ends_with("not verified");
    let is_verified = !tls.is_empty() && tls.iter().all(is_good);
    let difference = (!is_verified).then(|| format!("\"{told}\""));
    checks.push(Check::of("TLS to the mailbox", told, difference));
    checks.push(match store.verify_audit_chain().await? {
        ChainVerdict::Intact { records } => {
            Check::of("audit", format!("{records} records, chain intact"), None)
        }
        ChainVerdict::Broken { what, .. } => Check::of("audit", "", Some(what.to_owned())),
    });
    Ok(checks)
}
