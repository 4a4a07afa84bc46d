//! One SMTP session: from the connection to QUIT (RFC 5321 §3, smtp.md section 8).

use std::{fmt::Display, net::SocketAddr, time::Duration};

use lettre::transport::smtp::{
    Error,
    client::AsyncSmtpConnection,
    commands::{Ehlo, Quit, Starttls},
    extension::ClientId,
    response::Response,
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    config::{SmtpClientConfig, TlsPolicy},
    reply::{Failure, Reply},
    tls::Tls,
    wire::Wire,
};
use crate::formats::units::print_duration;
use jiff::Timestamp;

/// Longest wait for the reply to QUIT (TX-32).
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a session goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// The host's name, or its address where a smarthost is given so: the certificate must name it.
    pub(super) host: String,
    /// Its checked address: no second look-up comes between the check and the connection (threats.md T-14).
    pub(super) address: SocketAddr,
    /// What TLS it must offer. Sessions of different policies are never exchanged.
    pub(super) policy: TlsPolicy,
}

impl Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} [{}]:{}",
            self.host,
            self.address.ip(),
            self.address.port()
        )
    }
}

/// What every session needs to know.
pub(super) struct Terms<'a> {
    pub(super) config: &'a SmtpClientConfig,
    pub(super) hello: &'a ClientId,
    pub(super) tls: &'a Tls,
    pub(super) now: Timestamp,
}

/// An open session: greeted, under TLS as far as the policy asks for it, and free for a transaction.
pub(super) struct Session {
    pub(super) smtp: AsyncSmtpConnection,
    pub(super) wire: Wire,
    pub(super) target: Target,
    /// What the audit keeps of TLS.
    pub(super) tls: String,
    pub(super) extensions: Extensions,
    /// Messages that began in this session.
    pub(super) messages: u32,
}

/// What the last EHLO offered, as far as we use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) starttls: bool,
    pub(super) size: bool,
    /// The largest message, where the peer names one (RFC 1870 §4: 0 or nothing names none).
    pub(super) max_bytes: Option<u64>,
}

/// Why no session came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenFailure {
    pub(super) detail: String,
    /// A 5xx greeting or a 5xx to EHLO: for good, if every host says so.
    pub(super) is_permanent: bool,
}

impl Session {
    /// Connects and greets, and makes the connection as private as the policy asks.
    pub(super) async fn open(target: Target, terms: &Terms<'_>) -> Result<Self, OpenFailure> {
        let mut session = Self::connect(target, terms).await?;
        let limits = terms.config;
        session
            .expect_greeting(limits.greeting_timeout)
            .await
            .map_err(|failure| session.refused("greeting", &failure))?;
        session.hello(terms).await?;
        let policy = session.target.policy;
        if session.extensions.starttls {
            session.start_tls(terms).await?;
            // What was offered in clear is forgotten (TX-24).
            session.extensions = Extensions::default();
            session.hello(terms).await?;
        } else if policy != TlsPolicy::Opportunistic {
            let detail = format!("{}: STARTTLS is not offered (4.7.4)", session.target);
            session.quit().await;
            return Err(OpenFailure::passing(detail));
        }
        Ok(session)
    }

    async fn connect(target: Target, terms: &Terms<'_>) -> Result<Self, OpenFailure> {
        let limit = terms.config.connect_timeout;
        let failed = |what: String| OpenFailure::passing(format!("{target}: {what}"));
        let stream = timeout(limit, TcpStream::connect(target.address))
            .await
            .map_err(|_| failed(format!("no connection within {}", print_duration(limit))))?
            .map_err(|error| failed(format!("no connection: {}", error.kind())))?;
        // Commands are short and wait for their replies.
        let _ = stream.set_nodelay(true);
        let wire = Wire::new(stream, target.address);
        // Reads the primer only; the peer is not asked anything yet.
        let smtp = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), terms.hello)
            .await
            .map_err(|error| failed(error.to_string()))?;
        wire.begin();
        Ok(Self {
            smtp,
            wire,
            target,
            tls: "none".to_owned(),
            extensions: Extensions::default(),
            messages: 0,
        })
    }

    async fn expect_greeting(&mut self, limit: Duration) -> Result<(), Failure> {
        let reply = self.reply(limit).await?;
        match reply.code() {
            220 => Ok(()),
            _ => Err(Failure::Lost(format!("a greeting that is none: {reply}"))),
        }
    }

    async fn hello(&mut self, terms: &Terms<'_>) -> Result<(), OpenFailure> {
        let limit = terms.config.command_timeout;
        let command = Ehlo::new(terms.hello.clone());
        let answer = within(limit, self.smtp.command(command)).await;
        match answer {
            Ok(response) => {
                self.extensions = Extensions::read(&response);
                Ok(())
            }
            // A server that knows no EHLO knows no STARTTLS either (TX-21).
            Err(Failure::Reply(reply))
                if reply.is_permanent()
                    && self.target.policy == TlsPolicy::Opportunistic
                    && self.tls == "none" =>
            {
                let helo = format!("HELO {}\r\n", terms.hello);
                let answer = self.command(helo, limit).await;
                answer
                    .map(drop)
                    .map_err(|failure| self.refused("HELO", &failure))
            }
            Err(failure) => Err(self.refused("EHLO", &failure)),
        }
    }

    async fn start_tls(&mut self, terms: &Terms<'_>) -> Result<(), OpenFailure> {
        let limit = terms.config.command_timeout;
        let failed = |target: &Target, what: &dyn Display| {
            // Never in clear where STARTTLS was offered, and never for good: the peer may mend it (TX-22).
            OpenFailure::passing(format!("{target}: STARTTLS: {what} (4.7.0)"))
        };
        if let Err(failure) = self.command(Starttls, limit).await {
            return Err(failed(&self.target, &failure));
        }
        let ssl = terms
            .tls
            .handshake_with(&self.target.host, self.target.policy, terms.now)
            .map_err(|error| failed(&self.target, &error))?;
        let facts = timeout(limit, self.wire.start_tls(ssl))
            .await
            .map_err(|_| failed(&self.target, &"no handshake in time"))?
            .map_err(|error| failed(&self.target, &error))?;
        let verified = if facts.is_verified {
            "verified"
        } else {
            "not verified"
        };
        self.tls = format!("{} {} {verified}", facts.version, facts.cipher);
        Ok(())
    }

    /// Sends one command and gives its positive reply.
    pub(super) async fn command(
        &mut self,
        command: impl Display,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let response = within(limit, self.smtp.command(command)).await?;
        Ok(Reply::from(&response))
    }

    /// Reads one positive reply.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, Failure> {
        let response = within(limit, self.smtp.read_response()).await?;
        Ok(Reply::from(&response))
    }

    /// Says goodbye, and does not wait long for the answer.
    pub(super) async fn quit(&mut self) {
        // Whatever the answer: the connection is closed.
        let _ = self.command(Quit, QUIT_TIMEOUT).await;
        self.wire.cut();
    }

    fn refused(&self, step: &str, failure: &Failure) -> OpenFailure {
        OpenFailure {
            detail: format!("{}: {step}: {failure}", self.target),
            is_permanent: matches!(failure, Failure::Reply(reply) if reply.is_permanent()),
        }
    }
}

impl OpenFailure {
    fn passing(detail: String) -> Self {
        Self {
            detail,
            is_permanent: false,
        }
    }
}

impl Extensions {
    fn read(response: &Response) -> Self {
        let mut extensions = Self::default();
        // The first line holds the peer's name.
        for line in response.message().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default();
            if keyword.eq_ignore_ascii_case("STARTTLS") {
                extensions.starttls = true;
            } else if keyword.eq_ignore_ascii_case("SIZE") {
                extensions.size = true;
                let limit = words.next().and_then(|number| number.parse().ok());
                extensions.max_bytes = limit.filter(|limit| *limit > 0);
            }
        }
        extensions
    }
}

async fn within(
    limit: Duration,
    exchange: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Failure> {
    match timeout(limit, exchange).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => {
            let limit = print_duration(limit);
            Err(Failure::Lost(format!("no reply within {limit} (4.4.2)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extensions(text: &str) -> Extensions {
        Extensions::read(&text.parse().unwrap())
    }

    // rule: TX-25
    #[test]
    fn the_size_limit_is_read_in_any_case_and_zero_means_none() {
        let read = extensions("250-mx\r\n250-size 1000\r\n250-PIPELINING\r\n250 StartTLS\r\n");
        assert!(read.starttls && read.size);
        assert_eq!(read.max_bytes, Some(1000));
        assert_eq!(extensions("250-mx\r\n250 SIZE 0\r\n").max_bytes, None);
        assert_eq!(extensions("250-mx\r\n250 SIZE\r\n").max_bytes, None);
        assert!(!extensions("250 mx SIZE 10\r\n").size);
    }
}
