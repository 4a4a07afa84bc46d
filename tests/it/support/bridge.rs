//! A whole bridge in this process: a private CA, two partners with domains of their own, recipients' certificates in a
//! folder, and next hops that the test brings.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::runtime::Runtime;
use xdbridge::{
    adapters::{
        certificates::{DomainConfig, IdentityConfig},
        clock::SystemClock,
        smtp_client::config::{DomainRoute, SmtpClientConfig},
        store::{PostgresConfig, Store, StoreKind, create_key_file},
    },
    app::{
        config::Config,
        pki::{Authority, Profile},
        wiring::Bridge,
    },
    bridge::{
        exchange::{Exchange, Recipient},
        partner::{ClientCertificateConfig, PartnerConfig},
    },
    flows::ports::{Clock, ExchangeFilter},
    formats::{
        audit::{AuditKind, AuditRecord},
        finding::Severity,
        ids::CertificateFingerprint,
        limits::Limits,
        smime::SigningIdentity,
        soap::fault::ReceivedFault,
        xdr::response::{self, Answer, RegistryResponse, Status},
    },
};

use super::{
    folder::TestFolder,
    keys, postgres,
    request::Posted,
    scripted_smtp::ScriptedSmtp,
    stores,
    tls::{Client, Connection, HttpAnswer, Identity},
    wait_until,
};

/// The domain of partner `elm`.
pub(crate) const ELM: &str = "ngozi.okafor@direct.elm.example";
/// The domain of partner `ash`.
pub(crate) const ASH: &str = "ada.quill@direct.ash.example";
/// A recipient with a certificate of the domain, like everybody at `direct.harbor.example`.
pub(crate) const RUI: &str = "rui.silva@direct.harbor.example";
/// Another one.
pub(crate) const INTAKE: &str = "intake@direct.harbor.example";
/// A recipient with a certificate of her own, at another domain.
pub(crate) const MEI: &str = "mei.tanaka@direct.quay.example";
/// A recipient whose certificate leads to nobody that is trusted.
pub(crate) const UNTRUSTED: &str = "lena.varga@direct.dune.example";
/// A recipient without a certificate.
pub(crate) const UNKNOWN: &str = "omar.haddad@direct.fjord.example";

/// Keys and certificates: made once, since RSA keys take their time.
pub(crate) struct Pki {
    pub(crate) authority: Authority,
    server: SigningIdentity,
    pub(crate) elm: SigningIdentity,
    pub(crate) ash: SigningIdentity,
    pub(crate) stranger: SigningIdentity,
    pub(crate) direct_elm: SigningIdentity,
    pub(crate) direct_ash: SigningIdentity,
    pub(crate) harbor: SigningIdentity,
    pub(crate) mei: SigningIdentity,
    untrusted: SigningIdentity,
    pub(crate) mail_host: SigningIdentity,
}

pub(crate) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let now = SystemClock.now();
        let authority = Authority::root("Test CA", now).unwrap();
        let other = Authority::root("Other CA", now).unwrap();
        let tls = |host: &str| authority.issue(&Profile::tls(host, now)).unwrap();
        let domain = |name: &str| {
            let profile = Profile::domain(&name.parse().unwrap(), now);
            keys::issue(&authority, &profile)
        };
        let address = |by: &Authority, name: &str| {
            keys::issue(by, &Profile::address(&name.parse().unwrap(), now))
        };
        Pki {
            server: tls("localhost"),
            elm: tls("ehr.elm.example"),
            ash: tls("ehr.ash.example"),
            stranger: tls("ehr.stranger.example"),
            direct_elm: domain("direct.elm.example"),
            direct_ash: domain("direct.ash.example"),
            harbor: domain("direct.harbor.example"),
            mei: address(&authority, MEI),
            untrusted: address(&other, UNTRUSTED),
            mail_host: tls("mx.harbor.example"),
            authority,
        }
    })
}

/// The same certificate and key as the raw TLS client takes them.
pub(crate) fn as_tls(identity: &SigningIdentity) -> Identity {
    Identity {
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
    }
}

/// The CA as the raw TLS client takes it.
pub(crate) fn as_tls_ca() -> Identity {
    Identity {
        certificate: pki().authority.certificate.clone(),
        key: pki().authority.key.clone(),
    }
}

/// Writes certificate and key, the key for its owner alone.
pub(crate) fn write_identity(
    folder: &Path,
    name: &str,
    identity: &SigningIdentity,
) -> IdentityConfig {
    let (certificate, key) = as_tls(identity).write(folder, name);
    IdentityConfig {
        certificate,
        key,
        passphrase_file: None,
    }
}

/// A running bridge with its folder. Dropped, it ends as after a crash.
pub(crate) struct TestBridge {
    bridge: Option<Bridge>,
    store: Arc<dyn Store>,
    xdr: SocketAddr,
    data: PathBuf,
    /// Its database, unless it keeps what it has in SQLite.
    database: Option<PostgresConfig>,
    pub(crate) runtime: Runtime,
    _folder: TestFolder,
}

/// Where the mail of each domain goes.
pub(crate) type NextHops<'a> = &'a [(&'a str, SocketAddr)];

impl TestBridge {
    /// A bridge by the system's clock.
    pub(crate) fn start(runtime: Runtime, next_hops: NextHops<'_>) -> Self {
        Self::start_with(runtime, next_hops, Arc::new(SystemClock), |_| {})
    }

    /// A bridge with another clock, or with settings that `change` makes.
    pub(crate) fn start_with(
        runtime: Runtime,
        next_hops: NextHops<'_>,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        // The recorder of measures is one for the process.
        let measured = super::measured();
        let folder = TestFolder::new();
        let mut config = config(folder.path(), next_hops);
        if let Some(server) = stores::server() {
            stores::put_on(&server, &mut config.store);
        }
        change(&mut config);
        let mut problems = config.problems(clock.now());
        // The test's clock stands, far from the database's.
        problems.retain(|problem| !problem.starts_with("store.postgres.max_clock_difference: "));
        assert_eq!(problems, Vec::<String>::new());
        let bridge = runtime
            .block_on(Bridge::start(&config, clock, measured.clone()))
            .unwrap();
        Self {
            store: Arc::clone(bridge.store()),
            xdr: bridge.xdr_address(),
            database: (config.store.kind == StoreKind::Postgres).then_some(config.store.postgres),
            data: config.store.path,
            bridge: Some(bridge),
            runtime,
            _folder: folder,
        }
    }

    /// A bridge by the system's clock with settings that `change` makes, beside one next hop that takes all mail for
    /// `domains`.
    pub(crate) fn beside_a_hop(
        domains: &[&str],
        change: impl FnOnce(&mut Config),
    ) -> (Self, ScriptedSmtp) {
        let runtime = runtime();
        let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
        let hop = runtime.block_on(builder.start());
        let next_hops: Vec<_> = domains.iter().map(|name| (*name, hop.address())).collect();
        let bridge = Self::start_with(runtime, &next_hops, Arc::new(SystemClock), change);
        (bridge, hop)
    }

    /// Posts with this client certificate, if any.
    pub(crate) fn post_as(
        &self,
        identity: Option<&SigningIdentity>,
        posted: &Posted,
    ) -> Result<HttpAnswer, String> {
        let identity = identity.map(as_tls);
        let client = Client {
            ca: &as_tls_ca(),
            identity: identity.as_ref(),
            newest: None,
        };
        let mut connection = client.connect(self.xdr)?;
        let head = format!(
            "POST /xdr HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            posted.content_type,
            posted.body.len()
        );
        let sent = connection
            .send(head)
            .and_then(|()| connection.send(&posted.body));
        // A peer that refuses may close before all is sent: its answer is what counts.
        connection
            .answer()
            .map_err(|error| format!("{error}, after sending: {sent:?}"))
    }

    /// A connection of partner `elm` on which nothing was said yet.
    pub(crate) fn connect(&self) -> Connection {
        let client = Client {
            ca: &as_tls_ca(),
            identity: Some(&as_tls(&pki().elm)),
            newest: None,
        };
        client.connect(self.xdr).unwrap()
    }

    /// Posts as partner `elm`.
    pub(crate) fn post(&self, posted: &Posted) -> HttpAnswer {
        self.post_as(Some(&pki().elm), posted).unwrap()
    }

    /// Posts as partner `elm` and gives the RegistryResponse.
    pub(crate) fn submit(&self, posted: &Posted) -> RegistryResponse {
        registry_response(&self.post(posted))
    }

    /// Where it listens for ITI-41.
    pub(crate) fn xdr(&self) -> SocketAddr {
        self.xdr
    }

    /// Where mail is received; only asked where the test's settings have it.
    pub(crate) fn smtp_address(&self) -> SocketAddr {
        self.bridge.as_ref().unwrap().smtp_address().unwrap()
    }

    /// How often an alarm of this kind was raised in this process.
    pub(crate) fn alarms(&self, kind: &str) -> u64 {
        let text = self.measures();
        let name = format!("xdbridge_alarms_total{{alarm=\"{kind}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Where operators ask.
    pub(crate) fn operator(&self) -> SocketAddr {
        self.bridge.as_ref().unwrap().operator_address()
    }

    /// What `/metrics` tells.
    pub(crate) fn measures(&self) -> String {
        let mut connection = Connection::plain(self.operator());
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.send(request).unwrap();
        String::from_utf8(connection.rest().unwrap()).unwrap()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Its store.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Every exchange, oldest first.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        let filter = ExchangeFilter {
            limit: 1_000,
            ..ExchangeFilter::default()
        };
        let mut all = self.runtime.block_on(self.store.list(&filter)).unwrap();
        all.reverse();
        all
    }

    /// The one exchange that there is.
    pub(crate) fn exchange(&self) -> Exchange {
        let all = self.exchanges();
        let [exchange] = all.as_slice() else {
            panic!("{} exchanges", all.len());
        };
        exchange.clone()
    }

    /// The recipient as the one exchange holds it.
    pub(crate) fn recipient(&self, address: &str) -> Recipient {
        let exchange = self.exchange();
        exchange
            .recipient(&address.parse().unwrap())
            .unwrap()
            .clone()
    }

    /// Waits until every recipient of every exchange is past the outbox: relayed, or settled.
    pub(crate) fn wait_until_sent(&self) {
        use xdbridge::bridge::exchange::RecipientState::Queued;
        wait_until("every recipient is relayed or settled", || {
            let all = self.exchanges();
            let mut recipients = all.iter().flat_map(|exchange| &exchange.recipients);
            recipients.all(|recipient| recipient.state != Queued)
        });
    }

    /// Waits until no effect waits or runs, deadlines and clearing up aside: a lease lapses after 40 minutes, a deadline
    /// comes after 50.
    pub(crate) fn wait_until_idle(&self) {
        wait_until("nothing is left to do", || {
            let due = self.runtime.block_on(self.store.next_due()).unwrap();
            due.is_none_or(|due| due > now() + Duration::from_secs(45 * 60))
        });
    }

    /// When the next effect is due, or a lease lapses.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.runtime.block_on(self.store.next_due()).unwrap()
    }

    /// Every audit record so far.
    pub(crate) fn audit(&self) -> Vec<AuditRecord> {
        let reading = self.store.read_audit("test", 0, 10_000);
        let records = self.runtime.block_on(reading).unwrap();
        records.into_iter().map(|(_, record)| record).collect()
    }

    /// The audit records of one kind.
    pub(crate) fn audit_of(&self, kind: AuditKind) -> Vec<AuditRecord> {
        let all = self.audit().into_iter();
        all.filter(|record| record.kind == kind).collect()
    }

    /// From now on no exchange can be written, whatever else goes on.
    pub(crate) fn break_store(&self) {
        self.change_database(
            "CREATE TRIGGER broken BEFORE INSERT ON exchange BEGIN SELECT RAISE(ABORT, 'broken'); END",
        );
    }

    /// Ends what [`TestBridge::break_store`] began.
    pub(crate) fn mend_store(&self) {
        self.change_database("DROP TRIGGER broken");
    }

    fn change_database(&self, statement: &str) {
        assert!(self.database.is_none(), "only SQLite is broken so");
        let path = self.data.join("xdbridge.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch(statement).unwrap();
    }

    /// How many bodies are too large to lie in rows with their ids: those in files, or in chunks.
    pub(crate) fn large_bodies(&self) -> usize {
        let Some(database) = &self.database else {
            return self.body_files().len();
        };
        let apart = "SELECT count(*) FROM body WHERE content IS NULL";
        let rows = self.runtime.block_on(postgres::sql(database, apart));
        rows[0].parse().unwrap()
    }

    /// Files with bodies.
    pub(crate) fn body_files(&self) -> Vec<PathBuf> {
        files_under(&self.data.join("bodies"))
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) {
        let bridge = self.bridge.take().unwrap();
        self.runtime.block_on(bridge.stop()).unwrap();
    }

    /// The same; its files stay until what is given is dropped.
    pub(crate) fn stop_and_keep(self) -> TestFolder {
        let Self {
            bridge,
            runtime,
            _folder,
            ..
        } = self;
        runtime.block_on(bridge.unwrap().stop()).unwrap();
        _folder
    }

    /// Nothing is kept of a message, and nothing waits to be sent.
    pub(crate) fn assert_nothing_stored(&self) {
        assert!(self.exchanges().is_empty());
        assert_eq!(self.body_files(), Vec::<PathBuf>::new());
        let due = self.runtime.block_on(self.store.next_due()).unwrap();
        assert_eq!(due, None);
    }
}

/// A runtime for a bridge and its counterparts.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Every file below a folder. A socket has no content.
pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files
}

/// Reads an answer that must be a RegistryResponse.
pub(crate) fn registry_response(answer: &HttpAnswer) -> RegistryResponse {
    assert_eq!(answer.status, 200);
    match read_answer(answer) {
        Answer::Response(response) => response,
        Answer::Fault(fault) => panic!("a fault: {fault:?}"),
    }
}

/// Reads an answer that must be a fault.
pub(crate) fn fault(answer: &HttpAnswer) -> ReceivedFault {
    match read_answer(answer) {
        Answer::Fault(fault) => fault,
        Answer::Response(response) => panic!("no fault: {response:?}"),
    }
}

fn read_answer(answer: &HttpAnswer) -> Answer {
    let content_type = answer.header("content-type").unwrap();
    let mut body = answer.body.as_slice();
    response::read(content_type, &mut body, &Limits::default())
        .unwrap()
        .answer
}

/// Each entry of the answer: severity, code, token before the colon, location.
pub(crate) fn entries(response: &RegistryResponse) -> Vec<(Severity, String, String, String)> {
    let entry = |error: &response::RegistryError| {
        let token = error.context.split(':').next().unwrap_or_default();
        (
            error.severity,
            error.code.to_string(),
            token.to_owned(),
            error.location.clone().unwrap_or_default(),
        )
    };
    response.errors.iter().map(entry).collect()
}

/// Success without an entry.
pub(crate) fn assert_plain_success(response: &RegistryResponse) {
    assert_eq!(entries(response), []);
    assert_eq!(response.status, Status::Success);
}

/// The settings of a bridge whose files lie in `folder`.
pub(crate) fn config(folder: &Path, next_hops: NextHops<'_>) -> Config {
    let pki = pki();
    let ca = folder.join("ca.pem");
    fs::write(&ca, pki.authority.certificate.to_pem().unwrap()).unwrap();
    let store_key = folder.join("store.key");
    create_key_file(&store_key).unwrap();
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let peers = folder.join("peers");
    fs::create_dir(&peers).unwrap();
    for (name, peer) in [
        ("harbor", &pki.harbor),
        ("mei", &pki.mei),
        ("untrusted", &pki.untrusted),
    ] {
        fs::write(
            peers.join(format!("{name}.pem")),
            peer.certificate.to_pem().unwrap(),
        )
        .unwrap();
    }

    let mut config = Config::default();
    let server = write_identity(folder, "server", &pki.server);
    config.soap.server.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.soap.server.certificate = server.certificate;
    config.soap.server.key = server.key;
    config.soap.server.client_cas = vec![ca.clone()];
    config.soap.server.drain_timeout = Duration::from_secs(1);
    config.operator.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.store.path = data;
    config.store.key_files = vec![store_key];
    // No test asks the name servers of the machine that it runs on.
    config.discovery.dns = false;
    config.discovery.ldap = false;
    config.certificates.recipients = vec![peers];
    for (name, identity) in [
        ("direct.elm.example", &pki.direct_elm),
        ("direct.ash.example", &pki.direct_ash),
    ] {
        config.certificates.domains.push(DomainConfig::new(
            name.parse().unwrap(),
            vec![write_identity(folder, name, identity)],
            vec![ca.clone()],
        ));
    }
    config.partner = vec![
        partner("elm", &pki.elm, "direct.elm.example"),
        partner("ash", &pki.ash, "direct.ash.example"),
    ];
    let hop = |(domain, address): &(&str, SocketAddr)| {
        let route = DomainRoute {
            smarthost: Some(address.to_string().parse().unwrap()),
            ..DomainRoute::default()
        };
        (domain.parse().unwrap(), route)
    };
    config.smtp.client = SmtpClientConfig {
        ehlo_name: Some("bridge.elm.example".to_owned()),
        public_cas: false,
        ca_files: vec![ca],
        domains: next_hops.iter().map(hop).collect::<BTreeMap<_, _>>(),
        ..SmtpClientConfig::default()
    };
    config
}

fn partner(name: &str, client: &SigningIdentity, domain: &str) -> PartnerConfig {
    let fingerprint = CertificateFingerprint::of_der(&client.certificate.to_der().unwrap());
    PartnerConfig {
        name: name.to_owned(),
        certificates: vec![ClientCertificateConfig {
            sha256: Some(fingerprint.to_string()),
            ..ClientCertificateConfig::default()
        }],
        send_as: vec![domain.to_owned()],
        ..PartnerConfig::default()
    }
}

/// When this test runs.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
