//! An SMTP server that says what a test tells it to, and writes down every octet it gets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_openssl::SslStream;

use super::tls::Identity;

/// Longest that a test waits for the server: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does at one step.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Says these lines, as they are, with a CRLF at the end.
    Say(String),
    /// Says them and closes the connection.
    SayAndClose(String),
    /// Closes the connection.
    Close,
    /// Says nothing and waits.
    Hush,
}

impl Act {
    pub(crate) fn say(text: &str) -> Option<Self> {
        Some(Self::Say(text.to_owned()))
    }
}

/// Decides at each step: the number of the connection, counted from 0, and the step, which is `GREETING`, a command
/// line, `MESSAGE` (the first octets of a message are there) or `END` (the final dot came). `None`: what a plain
/// server does.
type Script = Arc<dyn Fn(usize, &str) -> Option<Act> + Send + Sync>;

/// Takes a message and decides about its final dot.
type Taker = Arc<dyn Fn(Taken) -> Option<Act> + Send + Sync>;

/// One message with its envelope.
pub(crate) struct Taken {
    /// The name that the client gave in its last EHLO.
    pub(crate) client: String,
    /// The recipients that were not refused.
    pub(crate) recipients: Vec<String>,
    /// The message as it was before dots were doubled.
    pub(crate) message: Vec<u8>,
}

/// What came over one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript {
    /// The command lines, without CRLF.
    pub(crate) commands: Vec<String>,
    /// The messages with their final dot, octet by octet.
    pub(crate) messages: Vec<Vec<u8>>,
    /// What came after DATA without a final dot before the end of the connection.
    pub(crate) unfinished: Vec<u8>,
    /// Whether the commands since the last EHLO came under TLS.
    pub(crate) is_tls: bool,
}

impl Transcript {
    /// The commands that begin with `verb`.
    pub(crate) fn said(&self, verb: &str) -> Vec<&str> {
        let commands = self.commands.iter().map(String::as_str);
        commands.filter(|line| line.starts_with(verb)).collect()
    }
}

/// The server. It stops when it is dropped.
pub(crate) struct ScriptedSmtp {
    address: SocketAddr,
    transcripts: Arc<Mutex<Vec<Transcript>>>,
    ended: watch::Receiver<usize>,
    noted: watch::Receiver<()>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Rules {
    identity: Option<Identity>,
    extensions: Vec<String>,
    script: Script,
    taker: Option<Taker>,
}

/// Prepares a [`ScriptedSmtp`].
pub(crate) struct Builder(Rules);

impl Builder {
    /// Offers STARTTLS with this certificate.
    pub(crate) fn tls(mut self, identity: &Identity) -> Self {
        self.0.identity = Some(identity.clone());
        self
    }

    /// Offers a further extension, such as `SIZE 1000`.
    pub(crate) fn offers(mut self, extension: &str) -> Self {
        self.0.extensions.push(extension.to_owned());
        self
    }

    /// Acts by `script`.
    pub(crate) fn acts(
        mut self,
        script: impl Fn(usize, &str) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        self.0.script = Arc::new(script);
        self
    }

    /// Gives every message to `taker`, which decides about its final dot, and keeps none.
    pub(crate) fn gives_to(
        mut self,
        taker: impl Fn(Taken) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        self.0.taker = Some(Arc::new(taker));
        self
    }

    pub(crate) async fn start(self) -> ScriptedSmtp {
        self.start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(self, address: &str) -> ScriptedSmtp {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let transcripts = Arc::<Mutex<Vec<Transcript>>>::default();
        let (count_ended, ended) = watch::channel(0);
        let (tell, noted) = watch::channel(());
        let shared = Arc::clone(&transcripts);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut transcripts = shared.lock().unwrap();
                    transcripts.push(Transcript::default());
                    transcripts.len() - 1
                };
                let connection = Connection {
                    stream: Stream::Clear(stream),
                    held: Vec::new(),
                    number,
                    client: String::new(),
                    recipients: Vec::new(),
                    rules: self.0.clone(),
                    transcripts: Arc::clone(&shared),
                    tell: tell.clone(),
                };
                let count_ended = count_ended.clone();
                connections.spawn(async move {
                    connection.serve().await;
                    count_ended.send_modify(|count| *count += 1);
                });
            }
        });
        ScriptedSmtp {
            address,
            transcripts,
            ended,
            noted,
            task,
        }
    }
}

impl ScriptedSmtp {
    /// A plain server; its [`Builder`] makes it less plain.
    pub(crate) fn builder() -> Builder {
        Builder(Rules {
            identity: None,
            extensions: Vec::new(),
            script: Arc::new(|_, _| None),
            taker: None,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came so far, by connection.
    pub(crate) fn transcripts(&self) -> Vec<Transcript> {
        self.transcripts.lock().unwrap().clone()
    }

    /// Waits until what came over all connections is as asked, and gives it.
    pub(crate) async fn wait_until(
        &self,
        is_so: impl Fn(&[Transcript]) -> bool,
    ) -> Vec<Transcript> {
        let mut noted = self.noted.clone();
        let waiting = noted.wait_for(|()| is_so(&self.transcripts()));
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.expect("what is waited for comes").unwrap();
        self.transcripts()
    }

    /// Waits until `count` connections have ended, and gives what came over all of them.
    pub(crate) async fn ended(&self, count: usize) -> Vec<Transcript> {
        let mut ended = self.ended.clone();
        let waiting = ended.wait_for(|so_far| *so_far >= count);
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.expect("the connections end").unwrap();
        self.transcripts()
    }
}

impl Drop for ScriptedSmtp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A message as it was before dots were doubled.
pub(crate) fn undotted(wire: &[u8]) -> Vec<u8> {
    let wire = wire.strip_suffix(b".\r\n").unwrap_or(wire);
    let mut message = Vec::new();
    for line in wire.split_inclusive(|octet| *octet == b'\n') {
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    message
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    Gone,
}

struct Connection {
    stream: Stream,
    held: Vec<u8>,
    number: usize,
    /// The name in its last EHLO.
    client: String,
    /// Those of the transaction under way that were not refused.
    recipients: Vec<String>,
    rules: Rules,
    transcripts: Arc<Mutex<Vec<Transcript>>>,
    tell: watch::Sender<()>,
}

/// The connection is over.
struct Over;

impl Connection {
    async fn serve(mut self) {
        let _ = self.run().await;
    }

    async fn run(&mut self) -> Result<(), Over> {
        self.step("GREETING", "220 mx.test ESMTP").await?;
        loop {
            let line = self.line().await?;
            self.note(|transcript| transcript.commands.push(line.clone()));
            let verb = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    line.get("EHLO ".len()..)
                        .unwrap_or_default()
                        .clone_into(&mut self.client);
                    let answer = self.ehlo_answer();
                    self.step(&line, &answer).await?;
                }
                "STARTTLS" => {
                    self.step(&line, "220 2.0.0 go ahead").await?;
                    self.handshake().await?;
                }
                "DATA" => {
                    if self.step(&line, "354 go ahead").await? {
                        let message = self.message().await?;
                        let act = self.taken(message);
                        let act = act.or_else(|| (self.rules.script)(self.number, "END"));
                        self.act(act, "250 2.0.0 queued as 1").await?;
                    }
                }
                "MAIL" => {
                    self.recipients.clear();
                    self.step(&line, "250 2.0.0 ok").await?;
                }
                "RCPT" => {
                    if self.step(&line, "250 2.0.0 ok").await? {
                        let path = line.split(['<', '>']).nth(1).unwrap_or_default();
                        self.recipients.push(path.to_owned());
                    }
                }
                "QUIT" => {
                    self.step(&line, "221 2.0.0 bye").await?;
                    return Err(Over);
                }
                _ => {
                    self.step(&line, "250 2.0.0 ok").await?;
                }
            }
        }
    }

    fn ehlo_answer(&self) -> String {
        let mut lines = vec!["mx.test".to_owned()];
        lines.extend(self.rules.extensions.iter().cloned());
        if self.rules.identity.is_some() && matches!(self.stream, Stream::Clear(_)) {
            lines.push("STARTTLS".to_owned());
        }
        let last = lines.len() - 1;
        let numbered = lines.iter().enumerate().map(|(index, line)| {
            let mark = if index == last { ' ' } else { '-' };
            format!("250{mark}{line}")
        });
        numbered.collect::<Vec<_>>().join("\r\n")
    }

    /// Acts by the script, else says `plain`. Tells whether the plain thing was done, or a reply of the same class.
    async fn step(&mut self, step: &str, plain: &str) -> Result<bool, Over> {
        let act = (self.rules.script)(self.number, step);
        self.act(act, plain).await
    }

    async fn act(&mut self, act: Option<Act>, plain: &str) -> Result<bool, Over> {
        match act.unwrap_or_else(|| Act::Say(plain.to_owned())) {
            Act::Say(text) => {
                self.say(&text).await?;
                Ok(text.as_bytes()[0] == plain.as_bytes()[0])
            }
            Act::SayAndClose(text) => {
                self.say(&text).await?;
                Err(Over)
            }
            Act::Close => Err(Over),
            Act::Hush => {
                std::future::pending::<()>().await;
                Err(Over)
            }
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), Over> {
        let octets = [text.as_bytes(), b"\r\n"].concat();
        let said = match &mut self.stream {
            Stream::Clear(stream) => stream.write_all(&octets).await,
            Stream::Tls(stream) => stream.write_all(&octets).await,
            Stream::Gone => return Err(Over),
        };
        said.map_err(|_| Over)
    }

    async fn fill(&mut self) -> Result<(), Over> {
        let mut octets = vec![0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Clear(stream) => stream.read(&mut octets).await,
            Stream::Tls(stream) => stream.read(&mut octets).await,
            Stream::Gone => return Err(Over),
        };
        match read {
            Ok(0) | Err(_) => Err(Over),
            Ok(length) => {
                self.held.extend_from_slice(&octets[..length]);
                Ok(())
            }
        }
    }

    async fn line(&mut self) -> Result<String, Over> {
        loop {
            if let Some(end) = self.held.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.held.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill().await?;
        }
    }

    /// Hands a message over, or notes it.
    fn taken(&mut self, message: Vec<u8>) -> Option<Act> {
        let Some(taker) = self.rules.taker.clone() else {
            self.note(|transcript| transcript.messages.push(message));
            return None;
        };
        taker(Taken {
            client: self.client.clone(),
            recipients: std::mem::take(&mut self.recipients),
            message: undotted(&message),
        })
    }

    async fn message(&mut self) -> Result<Vec<u8>, Over> {
        let mut has_begun = false;
        loop {
            let end = if self.held.starts_with(b".\r\n") {
                Some(3)
            } else {
                let end = self.held.windows(5).position(|five| five == b"\r\n.\r\n");
                end.map(|at| at + 5)
            };
            if let Some(end) = end {
                return Ok(self.held.drain(..end).collect());
            }
            if let Err(over) = self.fill().await {
                let rest = std::mem::take(&mut self.held);
                self.note(|transcript| transcript.unfinished = rest);
                return Err(over);
            }
            if !has_begun && let Some(act) = (self.rules.script)(self.number, "MESSAGE") {
                if let Act::Say(text) | Act::SayAndClose(text) = &act {
                    self.say(text).await?;
                }
                return Err(Over);
            }
            has_begun = true;
        }
    }

    async fn handshake(&mut self) -> Result<(), Over> {
        let Stream::Clear(clear) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(Over);
        };
        let identity = self
            .rules
            .identity
            .as_ref()
            .expect("STARTTLS is offered with a certificate");
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&identity.certificate).unwrap();
        acceptor.set_private_key(&identity.key).unwrap();
        let ssl = Ssl::new(acceptor.build().context()).unwrap();
        let mut tls = SslStream::new(ssl, clear).unwrap();
        if std::pin::Pin::new(&mut tls).accept().await.is_err() {
            return Err(Over);
        }
        self.note(|transcript| transcript.is_tls = true);
        self.stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Transcript)) {
        change(&mut self.transcripts.lock().unwrap()[self.number]);
        self.tell.send_replace(());
    }
}
