//! Hands sealed mail to the next hop by SMTP (RFC 5321): smtp.md sections 7 to 9.
//!
//! [`SmtpClient::send`] finds the hosts, tries one after the other, and gives each recipient a result of its own.
//! Commands and replies are lettre's, driven one by one, each under its own timeout (lettre's own transport gives up
//! all recipients at the first refused one). TLS is tokio-openssl's, so that the audit learns version, cipher and
//! verification, which lettre does not show; it is the same OpenSSL that native-tls stands on.

pub mod config;
mod destination;
mod message;
mod pool;
mod reply;
mod route;
mod session;
mod tls;
mod transaction;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lettre::{Address, transport::smtp::extension::ClientId};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use self::{
    config::SmtpClientConfig,
    destination::Destinations,
    message::BodyFault,
    pool::{Pool, close_later},
    reply::clean,
    session::{OpenFailure, Session, Target, Terms},
    tls::Tls,
    transaction::{Next, Recipient, Transaction},
};
use crate::{
    adapters::pem_files::ConfiguredFileError,
    bridge::exchange::Reason,
    flows::ports::{Clock, FindMailHosts, OutgoingMail, SendMail, SendResult},
    formats::{ids::DirectAddress, units::print_duration},
};

/// Sends mail. One for the process: it holds the open connections and knows which destinations fail.
pub struct SmtpClient {
    config: SmtpClientConfig,
    hello: ClientId,
    tls: Tls,
    hosts: Arc<dyn FindMailHosts>,
    clock: Arc<dyn Clock>,
    pool: Arc<Pool>,
    destinations: Destinations,
}

/// Why the settings make no SMTP client.
#[derive(Debug, thiserror::Error)]
pub enum SmtpClientError {
    /// A file of `ca_files`, or the system's own, cannot be used.
    #[error(transparent)]
    CaFile(#[from] ConfiguredFileError),
    /// `ehlo_name` is no name that EHLO can give.
    #[error("ehlo_name `{name}` must be a host name, such as bridge.harbor.example")]
    EhloName {
        /// The name.
        name: String,
    },
    /// OpenSSL cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] openssl::error::ErrorStack),
}

impl SmtpClient {
    /// A client that finds mail hosts through `hosts`.
    ///
    /// # Errors
    /// A CA file is unreadable or empty, or the EHLO name is none.
    pub fn new(
        config: SmtpClientConfig,
        hosts: Arc<dyn FindMailHosts>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SmtpClientError> {
        let hello = match config.ehlo_name.as_deref() {
            Some(name) => checked_ehlo_name(name)?,
            None => ClientId::default(),
        };
        Ok(Self {
            hello,
            tls: Tls::new(&config)?,
            hosts,
            clock,
            pool: Arc::default(),
            destinations: Destinations::new(config.max_connections_per_destination.get()),
            config,
        })
    }

    /// Says goodbye on all connections that wait for another message.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Tries to settle every recipient; what comes back is the fate of those that no host settled.
    async fn attempt(&self, mail: &OutgoingMail, attempt: &mut Attempt) -> Rest {
        let policy = self.config.tls_of(&mail.domain);
        let smarthost = self.config.smarthost_of(&mail.domain);
        let name = smarthost.map_or_else(|| mail.domain.to_string(), ToString::to_string);
        let destination = self.destinations.of(&name);
        let _slot = destination.slot().await;
        if destination.is_paused(Instant::now()) {
            let pause = print_duration(self.config.pause);
            return Rest::Deferred(format!("{name}: not tried for {pause} after many failures"));
        }
        let targets = match smarthost {
            Some(smarthost) => route::to_smarthost(&*self.hosts, smarthost, policy).await,
            None => route::by_mx(&*self.hosts, &mail.domain, &self.config, policy).await,
        };
        let targets = match targets {
            Ok(targets) => targets,
            Err(rest) => return rest,
        };
        let mut visits = Visits::default();
        let mut rest = None;
        for target in targets {
            rest = self.visit(target, mail, attempt, &mut visits).await;
            if rest.is_some() || attempt.open.is_empty() {
                break;
            }
        }
        if visits.was_reached {
            destination.reached();
        } else {
            let config = &self.config;
            let max_failures = config.pause_after_failures.get();
            destination.failed(Instant::now(), max_failures, config.pause);
        }
        rest.unwrap_or_else(|| visits.rest())
    }

    /// Hands over what `target` takes. Gives the fate of the others where no other host can change it.
    async fn visit(
        &self,
        target: Target,
        mail: &OutgoingMail,
        attempt: &mut Attempt,
        visits: &mut Visits,
    ) -> Option<Rest> {
        if let Some(session) = self.pool.take(&target) {
            let open_before = attempt.open.len();
            let next = self.hand_over(session, mail, attempt).await;
            // A session that waited may be dead; then a new one to the same host decides.
            let was_dead = matches!(&next, Next::Elsewhere(_)) && attempt.open.len() == open_before;
            if !was_dead {
                visits.was_reached = true;
                return visits.note(next);
            }
        }
        let terms = Terms {
            config: &self.config,
            hello: &self.hello,
            tls: &self.tls,
            now: self.clock.now(),
        };
        match Session::open(target, &terms).await {
            Ok(session) => {
                visits.was_reached = true;
                let next = self.hand_over(session, mail, attempt).await;
                visits.note(next)
            }
            Err(failure) => {
                visits.note_refusal(failure);
                None
            }
        }
    }

    /// Runs transactions until no recipient is open or the session is of no more use.
    async fn hand_over(
        &self,
        mut session: Session,
        mail: &OutgoingMail,
        attempt: &mut Attempt,
    ) -> Next {
        let batch_length = self.config.max_recipients_per_transaction.get();
        // Each transaction settles one recipient at least, or is the last.
        while !attempt.open.is_empty() {
            let batch: Vec<Recipient> = attempt.open.iter().take(batch_length).cloned().collect();
            let transaction = Transaction {
                mail,
                from: attempt.from.as_ref(),
                recipients: &batch,
            };
            let outcome = transaction.run(&mut session, &self.config).await;
            attempt.settle(outcome.settled);
            if outcome.next != Next::Again {
                session.wire.cut();
                return outcome.next;
            }
        }
        let may_wait = session.messages < self.config.max_messages_per_connection.get()
            && self.config.idle_timeout > Duration::ZERO;
        if may_wait {
            self.pool.keep(session, self.config.idle_timeout);
        } else {
            close_later(session);
        }
        Next::Again
    }
}

#[async_trait]
impl SendMail for SmtpClient {
    async fn send(&self, mail: &OutgoingMail) -> Vec<SendResult> {
        let mut attempt = Attempt::new(mail);
        let until_deadline = mail.deadline.duration_since(self.clock.now());
        let until_deadline = Duration::try_from(until_deadline).unwrap_or_default();
        let limit = self.config.attempt_timeout.min(until_deadline);
        let rest = if attempt.open.is_empty() {
            Rest::nothing()
        } else {
            // What a host settled stays settled; the future that is dropped takes its connection with it.
            let attempted = timeout(limit, self.attempt(mail, &mut attempt)).await;
            attempted.unwrap_or_else(|_| {
                Rest::Deferred(format!(
                    "the attempt took longer than {}",
                    print_duration(limit)
                ))
            })
        };
        let results = attempt.into_results(rest);
        log(mail, &results);
        results
    }
}

/// One call of [`SendMail::send`]: who is settled, and who is open.
struct Attempt {
    from: Option<Address>,
    results: Vec<Option<SendResult>>,
    open: Vec<Recipient>,
}

impl Attempt {
    fn new(mail: &OutgoingMail) -> Self {
        let mut attempt = Self {
            from: None,
            results: vec![None; mail.recipients.len()],
            open: Vec::new(),
        };
        let from = mail.envelope_from.as_ref().map(envelope_address);
        let is_from_usable = !matches!(from, Some(None));
        attempt.from = from.flatten();
        for (index, (recipient, result)) in
            mail.recipients.iter().zip(&mut attempt.results).enumerate()
        {
            match envelope_address(recipient) {
                Some(address) if is_from_usable => attempt.open.push((index, address)),
                _ => {
                    *result = Some(SendResult::Refused {
                        reason: Reason::BadAddress,
                        detail: "an envelope address that SMTP cannot carry (5.1.3)".to_owned(),
                    });
                }
            }
        }
        attempt
    }

    fn settle(&mut self, settled: Vec<(usize, SendResult)>) {
        for (index, result) in settled {
            self.open.retain(|(open, _)| *open != index);
            if let Some(place) = self.results.get_mut(index) {
                *place = Some(result);
            }
        }
    }

    fn into_results(self, rest: Rest) -> Vec<SendResult> {
        let settled = self.results.into_iter();
        settled
            .map(|result| result.unwrap_or_else(|| rest.result()))
            .collect()
    }
}

/// The fate of the recipients that no host settled.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    Deferred(String),
    Refused(Reason, String),
}

impl Rest {
    fn nothing() -> Self {
        Self::Deferred(String::new())
    }

    fn result(&self) -> SendResult {
        match self {
            Self::Deferred(detail) => SendResult::Deferred {
                detail: clean(detail),
            },
            Self::Refused(reason, detail) => SendResult::Refused {
                reason: *reason,
                detail: clean(detail),
            },
        }
    }
}

impl From<BodyFault> for Rest {
    fn from(fault: BodyFault) -> Self {
        if fault.is_damage {
            Self::Refused(Reason::Internal, fault.to_string())
        } else {
            Self::Deferred(fault.to_string())
        }
    }
}

/// What the hosts said so far.
#[derive(Default)]
struct Visits {
    /// A session came about.
    was_reached: bool,
    /// A host refused us with 5xx at greeting or EHLO.
    was_refused: bool,
    /// A host was not reached, or might serve us later.
    may_pass: bool,
    last_detail: String,
}

impl Visits {
    fn note_refusal(&mut self, failure: OpenFailure) {
        self.was_refused |= failure.is_permanent;
        self.may_pass |= !failure.is_permanent;
        self.last_detail = failure.detail;
    }

    fn note(&mut self, next: Next) -> Option<Rest> {
        self.may_pass = true;
        match next {
            Next::Again => None,
            Next::Elsewhere(detail) => {
                self.last_detail = detail;
                None
            }
            Next::BodyFault(fault) => Some(fault.into()),
        }
    }

    fn rest(self) -> Rest {
        // For good only if every host says so.
        if self.was_refused && !self.may_pass {
            Rest::Refused(Reason::SmtpRejected, self.last_detail)
        } else {
            Rest::Deferred(self.last_detail)
        }
    }
}

/// The address with its domain as A-labels (TX-1), as lettre writes it into MAIL and RCPT.
fn envelope_address(address: &DirectAddress) -> Option<Address> {
    Address::new(address.local(), address.domain().as_str()).ok()
}

fn checked_ehlo_name(name: &str) -> Result<ClientId, SmtpClientError> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(SmtpClientError::EhloName {
            name: name.to_owned(),
        });
    }
    Ok(ClientId::Domain(name.to_owned()))
}

/// Domains and counts only: replies may name persons, and belong into the audit.
fn log(mail: &OutgoingMail, results: &[SendResult]) {
    let count = |wanted: fn(&SendResult) -> bool| results.iter().filter(|r| wanted(r)).count();
    let accepted = count(|result| matches!(result, SendResult::Accepted(_)));
    let refused = count(|result| matches!(result, SendResult::Refused { .. }));
    let deferred = count(|result| matches!(result, SendResult::Deferred { .. }));
    let domain = &mail.domain;
    let is_our_fault = |result: &SendResult| {
        matches!(
            result,
            SendResult::Refused {
                reason: Reason::Internal,
                ..
            }
        )
    };
    if results.iter().any(is_our_fault) {
        warn!(%domain, "a stored message to {domain} is damaged and was not sent");
    }
    info!(
        %domain, accepted, refused, deferred,
        "mail to {domain}: {accepted} accepted, {refused} refused, {deferred} deferred"
    );
}
