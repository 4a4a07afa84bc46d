//! One connection from its greeting to its end: reads command lines, asks the session what to answer, and does what
//! only a connection can do. One task; what it may hold is bounded: a read buffer and the chunks on their way to the
//! flow (16 KiB each, five at the most), a command line, OpenSSL's buffers and an envelope.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use openssl::ssl::Ssl;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, info};

use super::{
    Shared,
    account::{self, Incident},
    command::{self, Command},
    doors::Place,
    line::{Line, LineReader},
    reply::{self, Reply},
    session::{Session, Step, Surroundings},
    tls, told_to_stop,
    wire::Wire,
};
use crate::{
    flows::{
        measures,
        ports::{RecipientAnswer, SmtpPeer, SmtpTls},
    },
    formats::{
        audit::{AuditKind, AuditOutcome},
        ids::DomainName,
    },
};

/// Longest wait for the flow's word about a recipient; then 451.
const RECIPIENT_PATIENCE: Duration = Duration::from_secs(30);

/// A connection at work.
pub(super) struct Connection {
    pub(super) wire: Wire,
    pub(super) shared: Arc<Shared>,
    pub(super) session: Session,
    lines: LineReader,
    address: SocketAddr,
    tls: Option<SmtpTls>,
    stop: watch::Receiver<bool>,
    ends_at: Instant,
}

/// How a connection ends.
#[derive(Debug)]
pub(super) struct Ending {
    /// A fixed word, for log, metrics and audit.
    why: &'static str,
    last_word: Option<Reply>,
    /// What the audit is told beyond the session's own account: that somebody tried what they may not.
    alert: Option<String>,
}

impl Ending {
    pub(super) fn silent(why: &'static str) -> Self {
        Self {
            why,
            last_word: None,
            alert: None,
        }
    }

    pub(super) fn said(why: &'static str, reply: Reply) -> Self {
        Self {
            last_word: Some(reply),
            ..Self::silent(why)
        }
    }

    fn alert(mut self, text: impl Into<String>) -> Self {
        self.alert = Some(text.into());
        self
    }

    pub(super) fn timed_out() -> Self {
        Self::said("timeout", Reply::new(421, "4.4.2", "too slow, closing"))
    }
}

/// What the session asks.
struct Around<'a>(&'a Shared);

impl Surroundings for Around<'_> {
    fn has_room(&self, bytes: u64) -> bool {
        let parts = &self.0.parts;
        parts.room.is_left() && parts.budget.try_reserve(bytes).is_some()
    }

    fn serves(&self, domain: &DomainName) -> bool {
        self.0.parts.mail.serves(domain)
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    socket: TcpStream,
    address: SocketAddr,
    place: Place,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) {
    let ip = address.ip().to_canonical();
    let is_own_host = shared
        .config
        .own_hosts
        .iter()
        .any(|network| network.contains(ip));
    let mut connection = Connection {
        wire: Wire::new(socket),
        session: Session::new(Arc::clone(&shared.rules), is_own_host),
        lines: LineReader::default(),
        address,
        tls: None,
        stop,
        ends_at: Instant::now() + shared.config.session_timeout,
        shared,
    };
    let Err(ending) = connection.talk().await;
    connection.end(ending).await;
    drop(place);
}

impl Connection {
    async fn talk(&mut self) -> Result<Infallible, Ending> {
        self.greet().await?;
        loop {
            let command = match self.next_line().await? {
                Line::Whole(line) => command::read(&line),
                Line::TooLong => Err(command::too_long()),
                Line::BadEnd => Err(Reply::new(500, "5.5.2", "a command ends in CRLF")),
            };
            self.check_pipelining(&command)?;
            let step = self.session.take(command, &Around(&self.shared));
            self.follow(step).await?;
        }
    }

    /// The greeting, and patience for those who cannot wait for it (RX-1).
    async fn greet(&mut self) -> Result<(), Ending> {
        let delay = self.shared.config.greeting_delay;
        if !delay.is_zero() {
            match timeout(delay, self.wire.fill()).await {
                Err(_) => {}
                Ok(Err(_)) => return Err(Ending::silent("broken")),
                Ok(Ok(())) => {
                    let reply = Reply::new(554, "5.5.1", "the greeting comes first");
                    return Err(Ending::said("early", reply));
                }
            }
        }
        let text = format!("{} ESMTP", self.shared.rules.host);
        self.wire.say(&Reply::plain(220, vec![text.into()]));
        Ok(())
    }

    /// What may not have anything behind it before it is answered (RFC 2920 §3.1): whoever sends it guesses our
    /// answer, and on a wrong guess a mail's data would be taken for commands. Before TLS it is an attack (RX-10).
    fn check_pipelining(&self, command: &Result<Command, Reply>) -> Result<(), Ending> {
        if self.wire.held().is_empty() {
            return Ok(());
        }
        match command {
            Ok(Command::StartTls) => {
                Err(Ending::silent("injection").alert("octets in clear behind STARTTLS"))
            }
            Ok(Command::Ehlo(_) | Command::Helo(_) | Command::Data) => {
                let reply = reply::out_of_order("nothing may follow this before its answer");
                Err(Ending::said("pipelining", reply))
            }
            _ => Ok(()),
        }
    }

    /// The next command line. Replies leave first, once nothing more is held (RX-45).
    async fn next_line(&mut self) -> Result<Line, Ending> {
        let config = &self.shared.config;
        let patience = if self.session.is_in_mail() {
            config.command_timeout
        } else {
            config.idle_timeout
        };
        let deadline = self.ends_at.min(Instant::now() + patience);
        loop {
            let (used, line) = self.lines.read(self.wire.held());
            self.wire.used(used);
            if let Some(line) = line {
                return Ok(line);
            }
            self.flush().await?;
            // A timeout looks at its clock only while there is nothing to read.
            if Instant::now() >= deadline {
                return Err(Ending::timed_out());
            }
            tokio::select! {
                biased;
                () = told_to_stop(&mut self.stop) => {
                    let reply = Reply::new(421, "4.3.2", "closing for maintenance");
                    return Err(Ending::said("stop", reply));
                }
                filled = timeout_at(deadline, self.wire.fill()) => match filled {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(Ending::silent("broken")),
                    Err(_) => return Err(Ending::timed_out()),
                },
            }
        }
    }

    async fn follow(&mut self, mut step: Step) -> Result<(), Ending> {
        loop {
            step = match step {
                Step::Say(reply) => {
                    self.wire.say(&reply);
                    return Ok(());
                }
                Step::SayLate(reply) => {
                    self.flush().await?;
                    sleep(self.shared.config.tarpit_delay).await;
                    Step::Say(reply)
                }
                Step::Close(reply, why) => return Err(Ending::said(why, reply)),
                Step::StartTls(reply) => return self.start_tls(&reply).await,
                Step::Ask(address, original) => {
                    let asked = self.shared.parts.mail.recipient(&address);
                    let answer = timeout(RECIPIENT_PATIENCE, asked).await;
                    let answer = answer.unwrap_or(RecipientAnswer::Unavailable);
                    self.session.answered(address, original, answer)
                }
                Step::Data => return self.take_mail().await,
            };
        }
    }

    async fn start_tls(&mut self, ready: &Reply) -> Result<(), Ending> {
        let Ok(ssl) = Ssl::new(self.shared.acceptor().context()) else {
            self.wire
                .say(&Reply::new(454, "4.7.0", "TLS not available now"));
            return Ok(());
        };
        self.wire.say(ready);
        self.flush().await?;
        let deadline = Instant::now() + self.shared.config.handshake_timeout;
        let handshake = self.wire.start_tls(ssl, self.ends_at.min(deadline)).await;
        let facts = match handshake {
            Ok(ssl) => tls::facts(ssl),
            // Never back to clear text (TLS-4).
            Err(error) => {
                return Err(Ending::silent("tls").alert(format!("the handshake failed: {error}")));
            }
        };
        self.tls = Some(facts);
        self.lines = LineReader::default();
        self.session.tls_started();
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), Ending> {
        let patience = self.shared.config.reply_timeout;
        let flushed = self.wire.flush(patience).await;
        flushed.map_err(|_| Ending::silent("broken"))
    }

    /// The peer, as far as it is known.
    pub(super) fn peer(&self) -> SmtpPeer {
        let hello = self.session.hello();
        SmtpPeer {
            address: self.address,
            helo: hello.map_or_else(String::new, |hello| hello.name.clone()),
            tls: self.tls.clone(),
        }
    }

    /// The last word, the account, the end.
    async fn end(mut self, ending: Ending) {
        let Ending {
            why,
            last_word,
            alert,
        } = ending;
        metrics::counter!(measures::SMTP_SESSIONS, "end" => why).increment(1);
        let ip = self.address.ip();
        if why == "quit" || why == "broken" {
            debug!(peer.ip = %ip, end = why, "an SMTP session ended: {why}");
        } else {
            info!(peer.ip = %ip, end = why, "an SMTP session ended: {why}");
        }
        let (senders, recipients) = self.session.refused();
        if alert.is_some() || senders > 0 || recipients > 0 {
            let incident = Incident {
                kind: AuditKind::SecurityAlert,
                outcome: if alert.is_some() {
                    AuditOutcome::Serious
                } else {
                    AuditOutcome::Minor
                },
                reason: alert.unwrap_or_else(|| {
                    format!("refused {senders} senders and {recipients} recipients")
                }),
            };
            account::audit(&self.shared, &self.peer(), incident, None).await;
        }
        if let Some(reply) = &last_word {
            self.wire.say(reply);
        }
        let config = &self.shared.config;
        self.wire
            .close(config.reply_timeout, config.close_timeout)
            .await;
    }
}
