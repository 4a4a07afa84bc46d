//! A bridge that receives mail: a Direct peer that seals and sends, an XDR endpoint of any conduct, and the peer's own
//! mailbox for what it is told.

use std::{
    io::{Cursor, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use openssl::{
    base64::encode_block,
    ssl::{SslConnector, SslMethod, SslStream},
    x509::X509,
};
use xdbridge::{
    adapters::{
        clock::SystemClock, smtp_server::SmtpServerConfig, soap_client::settings::SoapClientConfig,
    },
    app::config::Config,
    bridge::{
        endpoint::EndpointConfig,
        exchange::{Exchange, Origin, RecipientState},
    },
    flows::ports::Clock,
    formats::{
        audit::{AuditKind, AuditRecord},
        document::DocumentsInMemory,
        limits::Limits,
        mime::read::{self, Mail},
        notification::mdn::ReceivedMdn,
        smime::{OpenOptions, SealHeader, SealOptions, SigningIdentity, open, seal, seal_header},
        xdr::request::{self, ReadOptions, ReceivedRequest},
    },
};

use super::{
    bridge::{TestBridge, as_tls, as_tls_ca, pki, runtime, write_identity},
    mailbox,
    scripted_smtp::{Builder, ScriptedSmtp},
    scripted_xdr::{Act, ScriptedXdr, Seen},
    smtp_server_ground::{Peer, stuffed},
    tls::{Identity, connect_from, connect_plain},
    wait_until,
};

/// A peer's user, whose domain has a certificate.
pub(crate) const SENDER: &str = "rui.silva@direct.harbor.example";
/// Somebody whose mail the bridge takes.
pub(crate) const ADA: &str = "ada.quill@direct.elm.example";
/// Somebody else there.
pub(crate) const TEAM: &str = "care.team@direct.elm.example";

/// The bridge and what is around it.
pub(crate) struct ReceivingGround {
    pub(crate) bridge: TestBridge,
    pub(crate) endpoint: ScriptedXdr,
    /// Where the peer gets its mail.
    pub(crate) mailbox: ScriptedSmtp,
}

/// A notice that the peer got.
pub(crate) struct Notice {
    /// MAIL FROM.
    pub(crate) envelope_from: String,
    /// From of the signed header.
    pub(crate) from: String,
    /// Its Message-ID.
    pub(crate) message_id: String,
    /// The report.
    pub(crate) report: ReceivedMdn,
    /// The whole signed entity.
    pub(crate) entity: Vec<u8>,
}

/// RegistryResponse Success, as an endpoint answers.
pub(crate) fn success() -> Act {
    response("Success", "")
}

/// A RegistryResponse with this status and these RegistryErrors.
pub(crate) fn response(status: &str, errors: &str) -> Act {
    Act::soap(
        200,
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>\
             <rs:RegistryResponse xmlns:rs=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\" \
             status=\"urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:{status}\">{errors}\
             </rs:RegistryResponse></s:Body></s:Envelope>"
        ),
    )
}

/// What a test wants otherwise than [`ReceivingGround::start`] makes it.
pub(crate) struct Setup {
    /// The bridge's time.
    pub(crate) clock: Arc<dyn Clock>,
    /// How the sender's mail system behaves.
    pub(crate) mailbox: Builder,
    /// What the endpoint shows.
    pub(crate) server: Identity,
    /// Whose certificates the endpoint takes.
    pub(crate) client_ca: Identity,
    /// Changes the settings, which have the one endpoint.
    pub(crate) change: Box<dyn FnOnce(&mut Config)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            mailbox: ScriptedSmtp::builder(),
            server: as_tls(&pki().mail_host),
            client_ca: as_tls_ca(),
            change: Box::new(|_| {}),
        }
    }
}

impl ReceivingGround {
    /// A bridge whose one endpoint does with the n-th request what `script` says.
    pub(crate) fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_as(script, Setup::default())
    }

    /// The same with what the test sets up.
    pub(crate) fn start_as(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        setup: Setup,
    ) -> Self {
        let change = setup.change;
        let setup = Setup {
            change: Box::new(|_| {}),
            ..setup
        };
        Self::build(script, setup, change)
    }

    /// The same with anything else in the configuration.
    pub(crate) fn configured(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::build(script, Setup::default(), change)
    }

    fn build(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        setup: Setup,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let runtime = runtime();
        let mailbox = setup.mailbox.tls(&as_tls(&pki().mail_host));
        let mailbox = runtime.block_on(mailbox.start());
        let endpoint = ScriptedXdr::start(&setup.server, &setup.client_ca, script);
        let peers = ["direct.harbor.example", "direct.quay.example"];
        let next_hops = peers.map(|domain| (domain, mailbox.address()));
        let url = endpoint.url();
        let bridge = TestBridge::start_with(runtime, &next_hops, setup.clock, |config| {
            receive(config, url);
            change(config);
        });
        Self {
            bridge,
            endpoint,
            mailbox,
        }
    }

    /// Sends a mail over STARTTLS, as a peer's mail system would, and gives the reply to its data, or to the first
    /// command that was refused.
    pub(crate) fn send(&self, from: &str, to: &[&str], mail: &[u8]) -> String {
        hand_over(self.bridge.smtp_address(), from, to, mail)
    }

    /// Sends a mail that must reach the endpoint, and gives the documents that it got.
    pub(crate) fn arrives(&self, to: &[&str], mail: &[u8]) -> Vec<Vec<u8>> {
        let before = (self.posted().len(), self.causes().len());
        let reply = self.send(SENDER, to, mail);
        assert!(
            reply.starts_with("250 2.0.0"),
            "{reply}: {:?}",
            self.causes()
        );
        self.posted_after(before)
    }

    /// The documents of the one request that comes after the first `before`, in a test where nothing is refused.
    pub(crate) fn next_posted(&self, before: usize) -> Vec<Vec<u8>> {
        self.posted_after((before, 0))
    }

    fn posted_after(&self, (posts, causes): (usize, usize)) -> Vec<Vec<u8>> {
        wait_until("the mail is posted, or refused", || {
            self.posted().len() > posts || self.causes().len() > causes
        });
        let posted = self.posted();
        assert_eq!(posted.len(), posts + 1, "{:?}", self.causes());
        understood(&posted[posts]).1
    }

    /// Sends a mail that must be answered 250 and then be nobody's; gives the causes in the audit.
    pub(crate) fn rejects(&self, from: &str, to: &[&str], mail: &[u8]) -> Vec<String> {
        let before = self.bridge.exchanges().len();
        let reply = self.send(from, to, mail);
        assert!(
            reply.starts_with("250 2.0.0 Ok: queued as "),
            "{reply}: {:?}",
            self.causes()
        );
        wait_until("the exchange is final", || {
            let exchanges = self.bridge.exchanges();
            exchanges.len() > before && exchanges.iter().all(Exchange::is_final)
        });
        let exchange = self.bridge.exchanges().pop().unwrap();
        for recipient in &exchange.recipients {
            assert_eq!(recipient.state, RecipientState::Rejected);
        }
        assert!(exchange.legs.is_empty());
        self.causes_of(|record| record.exchange == Some(exchange.id))
    }

    /// Every cause of a security alert in the audit.
    pub(crate) fn causes(&self) -> Vec<String> {
        self.causes_of(|_| true)
    }

    fn causes_of(&self, is_wanted: impl Fn(&AuditRecord) -> bool) -> Vec<String> {
        let alerts = self.bridge.audit_of(AuditKind::SecurityAlert).into_iter();
        alerts
            .filter(is_wanted)
            .filter_map(|mut record| record.details.remove("error"))
            .collect()
    }

    /// Nothing was posted, and nobody was told anything.
    pub(crate) fn assert_silence(&self) {
        self.bridge.wait_until_idle();
        assert!(self.posted().is_empty());
        assert!(self.notices_now().is_empty());
    }

    /// Seals `message` as the sender's domain does, to the bridge's domain, and sends it to `to`.
    pub(crate) fn deliver(&self, message: &str, to: &[&str]) -> String {
        self.send(
            SENDER,
            to,
            &sealed(message, &[&pki().harbor], &pki().direct_elm),
        )
    }

    /// The one exchange.
    pub(crate) fn exchange(&self) -> Exchange {
        self.bridge.exchange()
    }

    /// Waits until nothing is open, and gives the one exchange.
    pub(crate) fn settled(&self) -> Exchange {
        wait_until("the exchange is final", || {
            let exchanges = self.bridge.exchanges();
            !exchanges.is_empty() && exchanges.iter().all(Exchange::is_final)
        });
        self.exchange()
    }

    /// Waits until the sender was told `count` notices.
    pub(crate) fn notices(&self, count: usize) -> Vec<Notice> {
        wait_until("the sender is told", || {
            mailbox::received(&self.mailbox).len() >= count
        });
        self.notices_now()
    }

    /// What the sender was told so far.
    pub(crate) fn notices_now(&self) -> Vec<Notice> {
        let envelopes = self.mailbox.transcripts().into_iter();
        let mut froms = envelopes
            .flat_map(|transcript| transcript.commands)
            .filter_map(|command| {
                let path = command.strip_prefix("MAIL FROM:<")?;
                Some(path.split('>').next()?.to_owned())
            });
        let received = mailbox::received(&self.mailbox);
        received
            .iter()
            .map(|mail| notice(&mail.message, froms.next().unwrap()))
            .collect()
    }

    /// What the endpoint got.
    pub(crate) fn posted(&self) -> Vec<Seen> {
        self.endpoint.seen()
    }

    /// Whether the mail was opened: its sender is known.
    pub(crate) fn is_opened(&self) -> bool {
        let origin = self.exchange().origin;
        matches!(origin, Origin::Direct { from: Some(_), .. })
    }
}

/// Makes the bridge receive mail, for the endpoint at `url`.
pub(crate) fn receive(config: &mut Config, url: String) {
    let folder = config.soap.server.certificate.parent().unwrap().to_owned();
    let client = write_identity(&folder, "client", &pki().elm);
    config.soap.client = Some(SoapClientConfig {
        certificate: client.certificate,
        key: client.key,
        ca_files: vec![folder.join("ca.pem")],
        // Far beyond what a busy machine needs for an answer.
        read_timeout: Duration::from_secs(5),
        ..SoapClientConfig::default()
    });
    config.smtp.server = Some(SmtpServerConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        host_name: Some("bridge.elm.example".parse().unwrap()),
        certificate: config.soap.server.certificate.clone(),
        key: config.soap.server.key.clone(),
        tarpit_delay: Duration::ZERO,
        max_sessions_per_minute: 10_000,
        ..SmtpServerConfig::default()
    });
    config.sources.gateway_oid = Some("2.999.1".parse().unwrap());
    config.endpoint = vec![EndpointConfig {
        name: "ehr".to_owned(),
        url,
        serves: vec!["direct.elm.example".to_owned()],
        ..EndpointConfig::default()
    }];
}

/// Sends a mail over STARTTLS to the bridge at `address`, as a peer's mail system would, and gives the reply to its
/// data, or to the first command that was refused.
pub(crate) fn hand_over(address: SocketAddr, from: &str, to: &[&str], mail: &[u8]) -> String {
    let known = (&pki().authority.certificate, "localhost");
    hand_over_by(known, address, from, to, mail)
}

/// The same to a bridge that another CA vouches for, under another name.
pub(crate) fn hand_over_by(
    (ca, host): (&X509, &str),
    address: SocketAddr,
    from: &str,
    to: &[&str],
    mail: &[u8],
) -> String {
    let stream = connect_plain(address);
    let mut peer = starttls(Peer { stream }, ca, host, None);
    transact(&mut peer, from, to, mail)
}

/// The same to the bridge of a test, by a peer with a client certificate.
pub(crate) fn hand_over_as(
    client: &SigningIdentity,
    address: SocketAddr,
    from: &str,
    to: &[&str],
    mail: &[u8],
) -> String {
    let ca = &pki().authority.certificate;
    let stream = connect_plain(address);
    let mut peer = starttls(Peer { stream }, ca, "localhost", Some(client));
    transact(&mut peer, from, to, mail)
}

/// The same by a peer that connects from this address.
pub(crate) fn hand_over_from(
    source: IpAddr,
    address: SocketAddr,
    from: &str,
    to: &[&str],
    mail: &[u8],
) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stream = runtime.block_on(connect_from(source, address));
    let ca = &pki().authority.certificate;
    let mut peer = starttls(Peer { stream }, ca, "localhost", None);
    transact(&mut peer, from, to, mail)
}

/// The same in clear, where the bridge takes that.
pub(crate) fn hand_over_in_clear(
    address: SocketAddr,
    from: &str,
    to: &[&str],
    mail: &[u8],
) -> String {
    let stream = connect_plain(address);
    let mut peer = Peer { stream };
    assert!(peer.reply().starts_with("220"));
    peer.ask("EHLO mx.harbor.example");
    transact(&mut peer, from, to, mail)
}

/// A mail that has come but for the dot that ends it.
pub(crate) struct Unended(Peer<SslStream<TcpStream>>);

impl Unended {
    /// Sends a mail but for its end.
    pub(crate) fn hand_over(address: SocketAddr, from: &str, to: &[&str], mail: &[u8]) -> Self {
        let stream = connect_plain(address);
        let ca = &pki().authority.certificate;
        let mut peer = starttls(Peer { stream }, ca, "localhost", None);
        assert_eq!(envelope(&mut peer, from, to), None);
        let stuffed = stuffed(mail);
        peer.send(stuffed.strip_suffix(b".\r\n").unwrap());
        Self(peer)
    }

    /// Ends it, without waiting for the reply.
    pub(crate) fn end(&mut self) {
        self.0.send(".\r\n");
    }

    /// The reply.
    pub(crate) fn reply(&mut self) -> String {
        self.0.reply()
    }
}

/// One mail over a session that has begun.
fn transact<S: Read + Write>(peer: &mut Peer<S>, from: &str, to: &[&str], mail: &[u8]) -> String {
    if let Some(refusal) = envelope(peer, from, to) {
        return refusal;
    }
    peer.send(stuffed(mail));
    peer.reply()
}

/// Up to 354, or the reply that came instead.
fn envelope<S: Read + Write>(peer: &mut Peer<S>, from: &str, to: &[&str]) -> Option<String> {
    let mut commands = vec![format!("MAIL FROM:<{from}>")];
    commands.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
    for command in commands {
        let reply = peer.ask(&command);
        if !reply.starts_with("250") {
            return Some(reply);
        }
    }
    let reply = peer.ask("DATA");
    (!reply.starts_with("354")).then_some(reply)
}

/// The request as the endpoint reads it, and its documents.
pub(crate) fn understood(seen: &Seen) -> (ReceivedRequest, Vec<Vec<u8>>) {
    let content_type = seen
        .head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type")
                .then(|| value.trim())
        })
        .unwrap();
    let mut documents = DocumentsInMemory::default();
    let request = request::read(
        content_type,
        &mut Cursor::new(&seen.body),
        &Limits::default(),
        &ReadOptions::default(),
        &mut documents,
    )
    .unwrap();
    assert_eq!(request.findings, []);
    let octets = documents.documents.into_iter().map(|(_, octets)| octets);
    (request, octets.collect())
}

/// Greets, and takes TLS.
fn starttls(
    mut peer: Peer<TcpStream>,
    ca: &X509,
    host: &str,
    client: Option<&SigningIdentity>,
) -> Peer<SslStream<TcpStream>> {
    assert!(peer.reply().starts_with("220"));
    peer.ask("EHLO mx.harbor.example");
    assert!(peer.ask("STARTTLS").starts_with("220"));
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.cert_store_mut().add_cert(ca.clone()).unwrap();
    if let Some(client) = client {
        connector.set_certificate(&client.certificate).unwrap();
        connector.set_private_key(&client.key).unwrap();
    }
    let stream = connector.build().connect(host, peer.stream).unwrap();
    let mut peer = Peer { stream };
    peer.ask("EHLO mx.harbor.example");
    peer
}

/// Opens a notice with the sender's key.
fn notice(message: &[u8], envelope_from: String) -> Notice {
    let identities = std::slice::from_ref(&pki().harbor);
    let opened = open(message, identities, &OpenOptions::default()).unwrap();
    let limits = Limits::default();
    let inner = read::wrapped_message(&opened.entity, &limits)
        .unwrap()
        .unwrap();
    let mail: Mail<'_> = read::read(&inner, &limits).unwrap();
    let leaves = mail.leaves();
    let report = leaves
        .iter()
        .find(|part| part.media_type() == "message/disposition-notification")
        .unwrap();
    Notice {
        envelope_from,
        from: mail.header.from[0].address.to_string(),
        message_id: mail.header.message_id.as_ref().unwrap().to_string(),
        report: ReceivedMdn::read(&report.decoded(64 * 1024).unwrap()).unwrap(),
        entity: opened.entity.clone(),
    }
}

/// A message as a peer seals it: wrapped, signed by `signers`, encrypted to `to`.
pub(crate) fn sealed(message: &str, signers: &[&SigningIdentity], to: &SigningIdentity) -> Vec<u8> {
    let entity = format!("Content-Type: message/rfc822\r\n\r\n{message}");
    sealed_entity(&entity, signers, &to.certificate)
}

/// A MIME entity, signed and encrypted as it is.
pub(crate) fn sealed_entity(entity: &str, signers: &[&SigningIdentity], to: &X509) -> Vec<u8> {
    let options = SealOptions::default();
    let signers: Vec<SigningIdentity> = signers.iter().map(|signer| (*signer).clone()).collect();
    let mut mail = seal_header(&SealHeader {
        from: &SENDER.parse().unwrap(),
        to: &[ADA.parse().unwrap()],
        cc: &[],
        date: SystemClock.now(),
        message_id: &"outer@direct.harbor.example".parse().unwrap(),
        in_reply_to: None,
        references: &[],
        subject: "Encrypted message",
        cipher: options.cipher,
    })
    .into_bytes();
    seal(
        &mut mail,
        &signers,
        std::slice::from_ref(to),
        &options,
        SystemClock.now(),
        "=_signed",
        &mut |out| out.write_all(entity.as_bytes()),
    )
    .unwrap();
    mail
}

/// A message with one text attachment, from the sender to `to`; `more` are further header lines.
pub(crate) fn letter(message_id: &str, to: &[&str], more: &str) -> String {
    format!(
        "From: Rui Silva <{SENDER}>\r\nTo: {}\r\nSubject: Letter\r\n\
         Date: Sun, 22 Nov 2026 07:59:00 +0000\r\nMessage-ID: <{message_id}>\r\nMIME-Version: 1.0\r\n{more}\
         Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nPlease see the attachment.\r\n\
         --b\r\nContent-Type: application/pdf; name=\"letter.pdf\"\r\n\
         Content-Disposition: attachment; filename=\"letter.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQKJSBsZXR0ZXIK\r\n--b--\r\n",
        to.join(", ")
    )
}

/// The letter with a zip in the place of its attachment.
pub(crate) fn with_package(letter: &str, zip: &[u8]) -> String {
    let attachment = letter.find("Content-Type: application/pdf").unwrap();
    // In one piece, the encoder's own limit would be near.
    let lines: Vec<String> = zip.chunks(57).map(encode_block).collect();
    format!(
        "{}Content-Type: application/zip; name=\"XDM00001.ZIP\"\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"XDM00001.ZIP\"\r\n\r\n{}\r\n--b--\r\n",
        &letter[..attachment],
        lines.join("\r\n")
    )
}

/// The attachment of [`letter`].
pub(crate) const LETTER: &[u8] = b"%PDF-1.4\n% letter\n";
/// Asks for a notice of final delivery.
pub(crate) const FINAL_DELIVERY: &str =
    "Disposition-Notification-Options: X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true\r\n";
