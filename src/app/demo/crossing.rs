//! The crossing itself, step by step.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};

use super::{
    compare::{Check, Submission, compare, shown_values},
    ehr::{Ehr, Posted, Referral},
    ground::{Ground, MAIL_HOST},
    mailbox::{Delivery, Mailbox},
    name_server::NameServer,
    notices::{self, Notice},
    opening::{self, OpenedMail},
    receiver::{Receiver, Taken},
    status,
    story::Story,
};
use crate::{
    adapters::{
        clock::SystemClock,
        operator::Measured,
        store::{ChainVerdict, Store},
    },
    app::wiring::Bridge,
    bridge::{
        exchange::{Exchange, Origin, RecipientState},
        trust::Binding,
    },
    flows::ports::{Clock, ExchangeFilter},
    formats::{
        audit::{AuditKind, AuditRecord},
        ids::DirectAddress,
        metadata::RECEIVED_URI,
        xdr::response::Answer,
    },
};

/// Longest wait for what one party owes another.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a bridge's own record of what others have taken.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often that record is looked at.
const RECORD_PAUSE: Duration = Duration::from_millis(10);
/// The notices that bridge B owes bridge A: `processed` and `dispatched` for one recipient.
const NOTICES: usize = 2;
/// More exchanges than the demo makes.
const MOST: usize = 20;

/// All parties, ready.
pub(super) struct Crossing {
    ground: Ground,
    _name_server: NameServer,
    mailbox: Mailbox,
    ehr_a: Receiver,
    ehr_b: Receiver,
    a: Bridge,
    b: Bridge,
}

impl Crossing {
    /// Makes the keys, opens the mailbox, and starts the EHRs and the bridges, all in `dir`.
    pub(super) async fn prepare(
        dir: &Path,
        measured: Measured,
        story: &mut Story<'_>,
    ) -> anyhow::Result<Self> {
        let now = SystemClock.now();
        let mut ground = Ground::make(dir, now).context("keys")?;
        story.step("keys", "a private CA, and certificates of it for everybody")?;

        let name_server = NameServer::start(ground.published()?).await?;
        let dns = name_server.address();
        story.step(
            "DNS",
            &format!("publishes their certificates (CERT) on {dns}"),
        )?;

        let mailbox = Mailbox::start(dir, vec![ground.office.clone()])?;
        let address = mailbox.address();
        story.step(
            "mailbox",
            &format!("{MAIL_HOST} takes SMTP with STARTTLS on {address}"),
        )?;

        let ehr_a = Receiver::start(&ground.a.ehr, &ground.ca)?;
        let ehr_b = Receiver::start(&ground.b.ehr, &ground.ca)?;
        let (at_a, at_b) = (ehr_a.address(), ehr_b.address());
        story.step("EHRs", &format!("A takes ITI-41 on {at_a}, B on {at_b}"))?;

        let config_a = ground.configure_a(address, ehr_a.address(), dns, now)?;
        let config_b = ground.configure_b(ehr_b.address(), dns, now)?;
        ground.b.open_door();
        let b = Bridge::start(&config_b, Arc::new(SystemClock), measured.clone()).await?;
        let (host, mail) = (ground.b.host, ground.b.mail());
        story.step(
            "bridge B",
            &format!("{host} takes mail on {mail}, posts to EHR B"),
        )?;
        ground.a.open_door();
        let a = Bridge::start(&config_a, Arc::new(SystemClock), measured).await?;
        let (host, xdr, mail) = (ground.a.host, a.xdr_address(), ground.a.mail());
        story.step(
            "bridge A",
            &format!("{host} takes XDR on {xdr}, mail on {mail}"),
        )?;
        Ok(Self {
            ground,
            _name_server: name_server,
            mailbox,
            ehr_a,
            ehr_b,
            a,
            b,
        })
    }

    /// The crossing. An error ends it; what merely differs is told and counted by `story`.
    pub(super) async fn run(&mut self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let referral = Referral::new(
            self.ground.sender.clone(),
            self.ground.recipients(),
            SystemClock.now(),
        )?;
        let posted = self.post(&referral).await.context("EHR A")?;
        let size = posted.request_bytes;
        story.step(
            "EHR A",
            &format!("posted ITI-41 as MTOM over mutual TLS, {size} octets"),
        )?;
        for check in answer_checks(&referral, &posted) {
            story.check(&check)?;
        }
        let message_id = self.follow_mail(story, &referral).await?;
        self.follow_post(story, &referral).await?;
        let notices = self.follow_notices(story, &message_id).await?;
        self.follow_status(story, &referral).await?;
        self.tell_a(story, &message_id, &notices).await?;
        self.tell_b(story).await
    }

    async fn post(&self, referral: &Referral) -> anyhow::Result<Posted> {
        let (side, address) = (&self.ground.a, self.a.xdr_address());
        let ehr = Ehr::new(&side.ehr, &self.ground.ca, side.host, address)?;
        ehr.submit(referral).await
    }

    /// What bridge A sent, as the mailbox has it; the answer is its Message-ID.
    async fn follow_mail(
        &mut self,
        story: &mut Story<'_>,
        referral: &Referral,
    ) -> anyhow::Result<String> {
        let delivery = tokio::time::timeout(STEP_TIMEOUT, self.mailbox.next())
            .await
            .with_context(|| format!("no mail came within {STEP_TIMEOUT:?}"))??;
        let size = delivery.mail.len();
        story.step("mailbox", &format!("took a sealed mail of {size} octets"))?;
        let envelope_from = referral.from.to_string();
        story.check(&Check::equal("MAIL FROM", &envelope_from, &delivery.from))?;
        let envelope = delivery.to.iter().map(|text| Ok(text.parse()?));
        let envelope: Vec<DirectAddress> = envelope.collect::<anyhow::Result<_>>()?;
        let office = &self.ground.office;
        let wanted = std::slice::from_ref(office);
        story.check(&Check::same_addresses("RCPT TO", wanted, &envelope))?;

        let (key, ca) = (&self.ground.office_key, &self.ground.ca);
        let opened = opening::open(&delivery.mail, key, ca, SystemClock.now())
            .with_context(|| format!("{office} cannot open the mail"))?;
        story.step("opened", &format!("by {office} with a key of its own"))?;
        let binding = match opened.binding {
            Binding::Domain => "its domain",
            Binding::Address => "the address",
        };
        let evidence = format!("\"{}\", trusted, bound by {binding}", opened.signer);
        story.check(&Check::of("signed by", evidence, None))?;
        let found = opened.from.to_string();
        story.check(&Check::equal("From", &envelope_from, &found))?;
        keep_package(&delivery, &opened)?;
        let (name, size) = (&opened.package_name, opened.zip.len());
        story.step("unpacked", &format!("{name}, {size} octets"))?;
        let (sent, received) = (&referral.submission, &opened.submission);
        story.step("compared", "what EHR A sent and what the mailbox has")?;
        for check in compare(sent, &sent.recipients, received, RECEIVED_URI) {
            story.check(&check)?;
        }
        Ok(opened.message_id)
    }

    /// What bridge B posted, as EHR B has it.
    async fn follow_post(
        &mut self,
        story: &mut Story<'_>,
        referral: &Referral,
    ) -> anyhow::Result<()> {
        let taken = tokio::time::timeout(STEP_TIMEOUT, self.ehr_b.next())
            .await
            .with_context(|| format!("nothing was posted within {STEP_TIMEOUT:?}"))?;
        let taken = taken.context("EHR B cannot read what was posted")?;
        let size = taken.request_bytes;
        story.step(
            "EHR B",
            &format!("took ITI-41 as MTOM over mutual TLS, {size} octets"),
        )?;
        self.tell_taken(story, referral, &taken)?;
        let sent: &Submission = &referral.submission;
        story.step("compared", "what EHR A sent and what EHR B has")?;
        let to = std::slice::from_ref(&self.ground.person);
        for check in compare(sent, to, &taken.submission, "URI") {
            story.check(&check)?;
        }
        story.step("shown", "some of the values that were compared")?;
        for check in shown_values(&sent.metadata, &taken.submission.metadata, "URI") {
            story.check(&check)?;
        }
        Ok(())
    }

    fn tell_taken(
        &self,
        story: &mut Story<'_>,
        referral: &Referral,
        taken: &Taken,
    ) -> anyhow::Result<()> {
        let bridge = self.ground.b.host;
        story.check(&Check::equal("client", bridge, &taken.client))?;
        let (wanted, found) = (referral.from.to_string(), taken.from.to_string());
        story.check(&Check::equal("from", &wanted, &found))?;
        let is_same = taken.message_id == referral.message_id;
        let difference = is_same.then(|| "that of EHR A's own request".to_owned());
        story.check(&Check::of("MessageID", "of bridge B's own", difference))?;
        Ok(())
    }

    /// What bridge A was told by bridge B.
    async fn follow_notices(
        &self,
        story: &mut Story<'_>,
        message_id: &str,
    ) -> anyhow::Result<Vec<Notice>> {
        let (key, ca) = (&self.ground.a.own, &self.ground.ca);
        let receiving = notices::received(self.a.store(), NOTICES, key, ca);
        let notices = tokio::time::timeout(STEP_TIMEOUT, receiving)
            .await
            .with_context(|| format!("no {NOTICES} notices came within {STEP_TIMEOUT:?}"))??;
        let count = notices.len();
        story.step("MDNs", &format!("{count} came back to bridge A by SMTP"))?;
        for check in notices::checks(&notices, message_id, &self.ground.person)? {
            story.check(&check)?;
        }
        Ok(notices)
    }

    /// What EHR A was told by bridge A: one status, and no document of a notice. The mailbox tells nobody anything.
    async fn follow_status(
        &mut self,
        story: &mut Story<'_>,
        referral: &Referral,
    ) -> anyhow::Result<()> {
        let taken = tokio::time::timeout(STEP_TIMEOUT, self.ehr_a.next())
            .await
            .with_context(|| format!("EHR A was told nothing within {STEP_TIMEOUT:?}"))?;
        let taken = taken.context("EHR A cannot read what it was told")?;
        let size = taken.request_bytes;
        story.step("EHR A", &format!("took a status submission, {size} octets"))?;
        let (person, bridge) = (&self.ground.person, self.ground.a.host);
        for check in status::checks(&taken, referral, person, bridge)? {
            story.check(&check)?;
        }
        Ok(())
    }

    /// Asks bridge A what it knows.
    async fn tell_a(
        &self,
        story: &mut Story<'_>,
        message_id: &str,
        notices: &[Notice],
    ) -> anyhow::Result<()> {
        let store = self.a.store();
        let is_told = |exchange: &Exchange| {
            exchange.recipients.iter().all(|recipient| {
                let is_reported = recipient
                    .status
                    .as_ref()
                    .is_some_and(|one| one.end.is_some());
                match recipient.outcome {
                    Some(_) => is_reported,
                    None => recipient.state != RecipientState::Queued,
                }
            })
        };
        let exchange = the_exchange(store, true, is_told).await?;
        story.step("bridge A", &format!("exchange {}", exchange.id))?;
        // The mailbox sends no notices: whether the office has read its mail nobody knows.
        let (person, office) = (&self.ground.person, &self.ground.office);
        for (address, state) in [
            (person, RecipientState::Dispatched),
            (office, RecipientState::Relayed),
        ] {
            story.check(&state_check(&exchange, address, state))?;
        }
        let legs: Vec<&str> = exchange
            .legs
            .iter()
            .filter_map(|leg| Some(leg.as_mail()?.message_id.as_str()))
            .collect();
        story.check(&Check::equal("Message-ID", &legs.join(", "), message_id))?;
        let further = self.mailbox.waiting();
        let twice = (further > 0).then(|| format!("{further} further mails came"));
        story.check(&Check::of("mails", "one", twice))?;
        let further = self.ehr_a.waiting();
        let twice = (further > 0).then(|| format!("{further} further posts came to EHR A"));
        story.check(&Check::of("statuses", "one, of one recipient", twice))?;
        let told = exchange
            .recipient(person)
            .and_then(|one| one.status.as_ref()?.end);
        let found = told.map_or("under way".to_owned(), |end| format!("{end:?}"));
        story.check(&Check::equal("status", "Taken", &found))?;

        let records = store.read_audit_of("demo", exchange.id).await?;
        let domain = person.domain().to_string();
        for (address, name) in [
            (person, domain),
            (office, office.to_string().replace('@', ".")),
        ] {
            story.check(&origin_check(&records, address, &name))?;
        }
        let tls = tls_check("TLS of mails", &records, AuditKind::Iti32Export, 2);
        story.check(&tls)?;
        let mut recorded = 0;
        for notice in notices {
            let of_notice = store.read_audit_of("demo", notice.exchange).await?;
            let all = of_notice.iter().chain(&records);
            recorded += all.filter(|one| one.kind == AuditKind::MdnIn).count();
        }
        let difference = (recorded < notices.len()).then(|| format!("{recorded} are recorded"));
        story.check(&Check::of("MDNs recorded", "each", difference))?;
        story.check(&audit_check(store).await?)?;
        Ok(())
    }

    /// Asks bridge B what it knows.
    async fn tell_b(&self, story: &mut Story<'_>) -> anyhow::Result<()> {
        let store = self.b.store();
        let exchange = the_exchange(store, false, Exchange::is_final).await?;
        let recording = async {
            loop {
                let records = store.read_audit_of("demo", exchange.id).await?;
                let told = records.iter().filter(|one| one.kind == AuditKind::MdnOut);
                if told.count() >= NOTICES {
                    return anyhow::Ok(records);
                }
                tokio::time::sleep(RECORD_PAUSE).await;
            }
        };
        let records = tokio::time::timeout(RECORD_TIMEOUT, recording)
            .await
            .with_context(|| format!("no notices were recorded within {RECORD_TIMEOUT:?}"))??;
        story.step("bridge B", &format!("exchange {}", exchange.id))?;
        let person = &self.ground.person;
        story.check(&state_check(&exchange, person, RecipientState::Dispatched))?;
        let further = self.ehr_b.waiting();
        let twice = (further > 0).then(|| format!("{further} further posts came"));
        story.check(&Check::of("posts", "one", twice))?;
        let tls = tls_check("TLS of MDNs", &records, AuditKind::MdnOut, NOTICES);
        story.check(&tls)?;
        story.check(&audit_check(store).await?)?;
        Ok(())
    }

    /// Where to look while the demo stays up.
    pub(super) fn places(&self, dir: &Path) -> Vec<(&'static str, String)> {
        let operator = self.a.operator_address();
        let (xdr, host) = (self.a.xdr_address(), self.ground.a.host);
        let file = |name: &str| dir.join(name).display().to_string();
        vec![
            ("health", format!("http://{operator}/healthz")),
            ("ready", format!("http://{operator}/readyz")),
            ("measures", format!("http://{operator}/metrics")),
            (
                "XDR",
                format!("https://{xdr}/xdr (as {host}, with tls/ehr-a.pem)"),
            ),
            ("mail as sent", file("mail")),
            ("bridge A", file("a/xdbridge.toml")),
            ("bridge B", file("b/xdbridge.toml")),
            ("log", file("log.json")),
        ]
    }

    /// Drains the bridges; the EHRs end with this.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let (a, b) = tokio::join!(self.a.stop(), self.b.stop());
        a.and(b)
    }
}

/// Whether a bridge knows this of a recipient.
fn state_check(exchange: &Exchange, address: &DirectAddress, wanted: RecipientState) -> Check {
    let state = exchange.recipient(address).map(|recipient| recipient.state);
    let found = state.map_or("not recorded".to_owned(), |state| format!("{state:?}"));
    let wanted = format!("{address} {wanted:?}");
    Check::equal("recipient", &wanted, &format!("{address} {found}"))
}

/// What EHR A was answered.
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

/// The one exchange that came by XDR, or by mail, once it is as it should be.
async fn the_exchange(
    store: &Arc<dyn Store>,
    is_by_xdr: bool,
    is_ready: impl Fn(&Exchange) -> bool,
) -> anyhow::Result<Exchange> {
    let filter = ExchangeFilter {
        limit: MOST,
        ..ExchangeFilter::default()
    };
    let looking = async {
        loop {
            let mut exchanges = store.list(&filter).await?;
            exchanges.retain(|one| matches!(one.origin, Origin::Xdr { .. }) == is_by_xdr);
            let [exchange] = exchanges.as_slice() else {
                bail!("{} exchanges are recorded in place of one", exchanges.len());
            };
            if is_ready(exchange) {
                return Ok(exchange.clone());
            }
            tokio::time::sleep(RECORD_PAUSE).await;
        }
    };
    tokio::time::timeout(RECORD_TIMEOUT, looking)
        .await
        .with_context(|| format!("nothing was recorded within {RECORD_TIMEOUT:?}"))?
}

/// Where the certificate of `address` was found, by the audit.
fn origin_check(records: &[AuditRecord], address: &DirectAddress, name: &str) -> Check {
    let address = address.to_string();
    let of_address = records.iter().find(|record| {
        record.kind == AuditKind::Recipient && record.details.get("recipient") == Some(&address)
    });
    let origin = of_address.and_then(|record| record.details.get("origin"));
    let found = origin.map_or("no record", String::as_str);
    Check::equal("certificate", &format!("dns {name}"), found)
}

/// Whether `count` transmissions of this kind were made, each over TLS with a verified peer.
fn tls_check(subject: &str, records: &[AuditRecord], kind: AuditKind, count: usize) -> Check {
    let of_kind = records.iter().filter(|record| record.kind == kind);
    let all: Vec<&str> = of_kind
        .map(|record| {
            let tls = record.details.get("tls");
            tls.map_or("without TLS", String::as_str)
        })
        .collect();
    let is_good = |text: &&str| text.ends_with(" verified") && !text.ends_with("not verified");
    let is_verified = all.len() == count && all.iter().all(is_good);
    let difference = (!is_verified).then(|| format!("\"{}\"", all.join("; ")));
    let mut told = all;
    told.dedup();
    Check::of(subject, told.join("; "), difference)
}

/// Whether the chain of the audit is whole.
async fn audit_check(store: &Arc<dyn Store>) -> anyhow::Result<Check> {
    Ok(match store.verify_audit_chain().await? {
        ChainVerdict::Intact { records } => {
            Check::of("audit", format!("{records} records, chain intact"), None)
        }
        ChainVerdict::Broken { what, .. } => Check::of("audit", "", Some(what.to_owned())),
    })
}
