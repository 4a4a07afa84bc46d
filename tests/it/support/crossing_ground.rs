//! Everything around a real bridge process: its configuration, an XDR sender, the next hop, and the HISP's key.

use std::{
    fs,
    io::{Cursor, Read},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use openssl::{
    cms::CmsContentInfo,
    hash::{MessageDigest, hash},
    ssl::{SslConnector, SslFiletype, SslMethod, SslStream},
    x509::X509,
};
use tokio::runtime::Runtime;
use xdbridge::{
    adapters::{
        clock::SystemClock,
        store::{PostgresConfig, PostgresStore, SqliteStore, Store, StoreConfig, StoreKind},
    },
    app::pki::{Authority, Profile},
    bridge::exchange::Exchange,
    flows::ports::{Clock, ExchangeFilter},
    formats::{
        audit::AuditRecord,
        document::{DocumentKey, DocumentsInMemory, hex},
        ids::{DirectAddress, SoapMessageId},
        limits::Limits,
        smime::SigningIdentity,
        soap::{AddressBlock, REQUEST_ACTION},
        xdr::request::{OutgoingDocument, OutgoingRequest, Packaging, write_mtom},
        xml::kept::KeptXml,
    },
};

use super::{
    folder::TestFolder,
    keys,
    postgres::{self, set_database},
    process::{BridgeProcess, run},
    scripted_smtp::{Builder, ScriptedSmtp, Transcript},
    stores,
    tls::{Connection, Identity},
    wait_until,
};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(30);
/// The domain that the bridge serves.
pub(crate) const OWN_DOMAIN: &str = "direct.harbor.example";
/// The peer's domain.
pub(crate) const HISP_DOMAIN: &str = "hisp.example";
/// The metadata that letters are made of.
const METADATA: &str = include_str!("../../../fixtures/metadata/full-with-folder.xml");

/// What a test's bridges have in common: keys and a configuration, made once and copied for each of them.
pub(crate) struct Workshop {
    runtime: Runtime,
    hisp: SigningIdentity,
    hisp_authority: Authority,
    relay: Identity,
    model: TestFolder,
    /// The server that bridges keep what they have on, unless it is SQLite.
    server: Option<PostgresConfig>,
}

/// One bridge's directory, and the next hop that it sends to.
pub(crate) struct CrossingGround<'a> {
    workshop: &'a Workshop,
    pub(crate) sink: ScriptedSmtp,
    folder: TestFolder,
    /// Where the bridge keeps what it has.
    store: StoreConfig,
    /// The partner's, made with the first connection.
    connector: OnceLock<SslConnector>,
}

/// What a sender got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// RegistryResponse Success.
    Success,
    /// RegistryResponse Failure, or an HTTP status; with the answer's text.
    Refused(u16, String),
    /// The connection broke without an answer.
    Nothing,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        let now = SystemClock.now();
        let model = TestFolder::new();
        let folder = model.path().join("bridge");
        run(&["init", folder.to_str().unwrap(), "--domain", OWN_DOMAIN]);

        let hisp_authority = Authority::root("HISP CA", now).unwrap();
        let domain = HISP_DOMAIN.parse().unwrap();
        let hisp = keys::issue(&hisp_authority, &Profile::domain(&domain, now));
        let write = |name: &str, octets: Vec<u8>| fs::write(folder.join(name), octets).unwrap();
        write(
            "anchors/hisp.pem",
            hisp_authority.certificate.to_pem().unwrap(),
        );
        write("peers/hisp.pem", hisp.certificate.to_pem().unwrap());
        let relay_ca = Identity::ca("Relay CA");
        write("relay-ca.pem", relay_ca.certificate_pem());
        Self {
            runtime: Runtime::new().unwrap(),
            hisp,
            hisp_authority,
            relay: relay_ca.issue("relay.harbor.example"),
            model,
            server: stores::server(),
        }
    }

    /// A bridge's directory beside a next hop that takes everything.
    pub(crate) fn ground(&self) -> CrossingGround<'_> {
        self.ground_with(|builder| builder)
    }

    /// The same with another next hop.
    pub(crate) fn ground_with(&self, hop: impl FnOnce(Builder) -> Builder) -> CrossingGround<'_> {
        let builder = hop(ScriptedSmtp::builder().tls(&self.relay));
        let sink = self.runtime.block_on(builder.start());
        let folder = TestFolder::new();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.model.path().join("bridge"))
            .arg(folder.path())
            .status();
        assert!(copied.unwrap().success());
        let bridge = folder.path().join("bridge");
        let mut store = StoreConfig {
            path: bridge.join("data"),
            key_files: vec![bridge.join("store.key")],
            ..StoreConfig::default()
        };
        if let Some(server) = &self.server {
            stores::put_on(server, &mut store);
        }
        let ground = CrossingGround {
            workshop: self,
            sink,
            folder,
            store,
            connector: OnceLock::new(),
        };
        ground.configure();
        if self.server.is_some() {
            set_database(&ground.path(), &ground.store.postgres, None);
        }
        ground
    }

    /// The HISP's CA.
    pub(crate) fn hisp_authority(&self) -> &Authority {
        &self.hisp_authority
    }

    /// The HISP's certificate.
    pub(crate) fn hisp_certificate(&self) -> &X509 {
        &self.hisp.certificate
    }

    /// The HISP's certificate and key.
    #[cfg(feature = "fault-points")]
    pub(crate) fn hisp(&self) -> &SigningIdentity {
        &self.hisp
    }

    /// Certificate and key of the next hop, and of whatever else the bridge talks to by TLS.
    #[cfg(feature = "fault-points")]
    pub(crate) fn relay(&self) -> &Identity {
        &self.relay
    }

    /// A certificate of the HISP's CA for another domain of it.
    pub(crate) fn issue_for(&self, domain: &str) -> SigningIdentity {
        let domain = domain.parse().unwrap();
        let profile = Profile::domain(&domain, SystemClock.now());
        keys::issue(&self.hisp_authority, &profile)
    }

    /// Everything that the recipient finds in a message: the decrypted entity, each base64 part, each member of a zip.
    pub(crate) fn opened(&self, message: &[u8]) -> Vec<u8> {
        let mail = message.strip_suffix(b".\r\n").unwrap();
        let sealed = CmsContentInfo::smime_read_cms(mail).unwrap();
        let mut everything = sealed
            .decrypt(&self.hisp.key, &self.hisp.certificate)
            .unwrap();
        for part in base64_parts(&everything) {
            everything.extend_from_slice(&part);
            if let Ok(mut zip) = zip::ZipArchive::new(Cursor::new(part)) {
                for index in 0..zip.len() {
                    zip.by_index(index)
                        .unwrap()
                        .read_to_end(&mut everything)
                        .unwrap();
                }
            }
        }
        everything
    }
}

impl CrossingGround<'_> {
    /// The bridge's own directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("bridge")
    }

    fn configure(&self) {
        let path = self.path().join("xdbridge.toml");
        let hop = format!(
            "smarthost = \"{}\"\nca_files = [\"relay-ca.pem\"]\npublic_cas = false\nidle_timeout = \"0s\"\n\
             ehlo_name = \"bridge.harbor.example\"",
            self.sink.address()
        );
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("127.0.0.1:8443", "127.0.0.1:0")
            .replace("127.0.0.1:9480", "127.0.0.1:0")
            .replace("#smarthost = \"relay.harbor.example:587\"", &hop);
        assert!(text.contains(&hop), "init writes a smarthost to fill in");
        // No test asks the name servers of the machine that it runs on.
        let more = "\n[log]\nlevel = \"trace\"\n\n[delivery]\nsubject_title = true\n\n[discovery]\ndns = false\nldap = false\n";
        fs::write(&path, text + more).unwrap();
    }

    /// Goes by the lists of a folder `crls`, and reads them at the start and on SIGHUP alone.
    pub(crate) fn go_by_crls(&self) -> PathBuf {
        let path = self.path().join("xdbridge.toml");
        let text = fs::read_to_string(&path).unwrap();
        let by_lists = text
            .replace("[certificates]\n", "[certificates]\ncrl_refresh = \"1d\"\n")
            .replace(
                "anchors = [\"anchors\"]\n",
                "anchors = [\"anchors\"]\ncrls = [\"crls\"]\n",
            );
        assert_eq!(by_lists.matches("crl").count(), 3, "{by_lists}");
        fs::write(&path, by_lists).unwrap();
        let folder = self.path().join("crls");
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// Adds tables to the settings.
    pub(crate) fn add_settings(&self, tables: &str) {
        let path = self.path().join("xdbridge.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + tables).unwrap();
    }

    /// Starts the bridge without faults.
    pub(crate) fn start(&self) -> BridgeProcess {
        let end = Instant::now() + PATIENCE;
        loop {
            let bridge = self.start_with("");
            if bridge.is_listening() {
                return bridge;
            }
            // A database may not have seen yet that the bridge before is dead.
            let may_come = self.is_on_postgresql() && Instant::now() < end;
            assert!(may_come, "{}", bridge.log_text());
        }
    }

    /// Starts the bridge with these faults; it may not come as far as to listen.
    pub(crate) fn start_with(&self, faults: &str) -> BridgeProcess {
        BridgeProcess::start(&self.path(), faults)
    }

    /// Posts a letter.
    pub(crate) fn post(&self, bridge: &BridgeProcess, letter: &Letter) -> Answered {
        let (content_type, body) = letter.request();
        self.post_octets(bridge, "/xdr", &content_type, &body)
    }

    /// Posts a body as it is.
    pub(crate) fn post_octets(
        &self,
        bridge: &BridgeProcess,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Answered {
        if !bridge.is_listening() {
            return Answered::Nothing;
        }
        self.post_octets_to(bridge.xdr(), path, content_type, body)
    }

    /// The same to whoever listens there.
    pub(crate) fn post_octets_to(
        &self,
        bridge: SocketAddr,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Answered {
        let Some(mut connection) = self.connect_to(bridge) else {
            return Answered::Nothing;
        };
        let head = post_head(path, content_type, body.len());
        // A broken connection shows at the answer, at the latest.
        let _ = connection.send(head).and_then(|()| connection.send(body));
        let Ok(answer) = connection.answer() else {
            return Answered::Nothing;
        };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status == 200 && text.contains("ResponseStatusType:Success") {
            Answered::Success
        } else {
            Answered::Refused(answer.status, text)
        }
    }

    /// A connection as the partner that `init` made.
    pub(crate) fn connect(
        &self,
        bridge: &BridgeProcess,
    ) -> Option<Connection<SslStream<TcpStream>>> {
        self.connect_to(bridge.xdr())
    }

    fn connect_to(&self, bridge: SocketAddr) -> Option<Connection<SslStream<TcpStream>>> {
        let socket = TcpStream::connect(bridge).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let connector = self.connector.get_or_init(|| self.connector());
        let stream = connector.connect(OWN_DOMAIN, socket).ok()?;
        Some(Connection::over(stream))
    }

    fn connector(&self) -> SslConnector {
        let folder = self.path();
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_ca_file(folder.join("ca/ca.pem")).unwrap();
        connector
            .set_certificate_file(folder.join("tls/trial-ehr.pem"), SslFiletype::PEM)
            .unwrap();
        connector
            .set_private_key_file(folder.join("tls/trial-ehr.key"), SslFiletype::PEM)
            .unwrap();
        connector.build()
    }

    /// Every whole message that the next hop has so far.
    pub(crate) fn arrived(&self) -> Vec<Vec<u8>> {
        messages(&self.sink.transcripts())
    }

    /// Waits for `count` whole messages at the next hop.
    pub(crate) fn wait_for_messages(&self, count: usize) -> Vec<Vec<u8>> {
        self.wait_for_hop(|transcripts| messages(transcripts).len() >= count);
        self.arrived()
    }

    /// Waits until what came to the next hop is as asked.
    pub(crate) fn wait_for_hop(&self, is_so: impl Fn(&[Transcript]) -> bool) -> Vec<Transcript> {
        let waiting = self.sink.wait_until(is_so);
        self.workshop.runtime.block_on(waiting)
    }

    /// The exchanges in the store of a bridge that is stopped or dead. Read from a copy, so that nothing is repaired
    /// for the bridge.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        let all = ExchangeFilter {
            limit: 100,
            ..ExchangeFilter::default()
        };
        self.asked(async |store| store.list(&all).await.unwrap())
    }

    /// All of them, however many there are.
    pub(crate) fn all_exchanges(&self) -> Vec<Exchange> {
        self.asked(async |store| every_exchange(store).await)
    }

    /// The audit there, oldest first.
    pub(crate) fn audit(&self) -> Vec<AuditRecord> {
        let read = self.asked(async |store| store.read_audit("test", 0, 10_000).await.unwrap());
        read.into_iter().map(|(_, record)| record).collect()
    }

    fn is_on_postgresql(&self) -> bool {
        self.store.kind == StoreKind::Postgres
    }

    /// What a statement says in the database of the bridge.
    fn sql(&self, statement: &str) -> Vec<String> {
        let asking = postgres::sql(&self.store.postgres, statement);
        self.workshop.runtime.block_on(asking)
    }

    fn asked<T>(&self, ask: impl AsyncFnOnce(&dyn Store) -> T) -> T {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        if self.is_on_postgresql() {
            return self.workshop.runtime.block_on(async {
                let store = PostgresStore::open(&self.store, clock, "reader")
                    .await
                    .unwrap();
                let answer = ask(&*store).await;
                store.close().await;
                answer
            });
        }
        let copy = TestFolder::new();
        let from = self.path().join("data");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(copy.path())
            .status();
        assert!(copied.unwrap().success());
        let config = StoreConfig {
            path: copy.path().join("data"),
            ..self.store.clone()
        };
        self.workshop.runtime.block_on(async {
            let store = SqliteStore::open(&config, clock, "bridge").await.unwrap();
            let answer = ask(&*store).await;
            store.close().await;
            answer
        })
    }

    /// Makes the work that waits in the outbox of a stopped bridge due, as if the waits of its retries had passed.
    pub(crate) fn let_retries_be_due(&self) {
        let statement = "UPDATE outbox SET next_at = 0 \
             WHERE effect NOT LIKE '%Deadline%' AND effect NOT LIKE '%RemoveBodies%'";
        if self.is_on_postgresql() {
            self.sql(statement);
        } else {
            self.change_rows(statement);
        }
    }

    /// Waits until a running bridge has nothing more to do for a while, deadlines and clearing up aside.
    pub(crate) fn wait_until_quiet(&self) {
        wait_until("nothing is under way", || self.is_quiet());
    }

    /// Whether it has nothing more to do for a while.
    pub(crate) fn is_quiet(&self) -> bool {
        let path = self.path().join("data/xdbridge.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        // What is under way is leased; what failed for want of the disk comes again within seconds.
        let soon = "SELECT count(*) FROM outbox \
             WHERE effect NOT LIKE '%Deadline%' AND effect NOT LIKE '%RemoveBodies%' \
             AND (state = 1 OR next_at < ?1)";
        let horizon = (SystemClock.now() + Duration::from_secs(15)).as_microsecond();
        let count: i64 = connection
            .query_row(soon, [horizon], |row| row.get(0))
            .unwrap();
        count == 0
    }

    /// Changes the database of a stopped or dead bridge, and tells how many rows.
    pub(crate) fn change_rows(&self, statement: &'static str) -> usize {
        let path = self.path().join("data/xdbridge.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute(statement, []).unwrap()
    }

    /// Waits until every connection to the next hop that there was has ended.
    pub(crate) fn wait_for_silence(&self) {
        let count = self.sink.transcripts().len();
        self.workshop.runtime.block_on(self.sink.ended(count));
    }
}

/// Every exchange of a store, page by page.
pub(crate) async fn every_exchange(store: &dyn Store) -> Vec<Exchange> {
    let mut all: Vec<Exchange> = Vec::new();
    loop {
        let last = all.last();
        let page = ExchangeFilter {
            accepted_before: last.map(|last| last.accepted_at),
            before_id: last.map(|last| last.id),
            limit: 500,
            ..ExchangeFilter::default()
        };
        let page = store.list(&page).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The head of a request with a body.
pub(crate) fn post_head(path: &str, content_type: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {OWN_DOMAIN}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Every file below a folder. A socket has no content.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn messages(transcripts: &[Transcript]) -> Vec<Vec<u8>> {
    let messages = transcripts.iter().flat_map(|each| each.messages.clone());
    messages.collect()
}

/// The Message-ID of a mail as it is on the wire.
pub(crate) fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let line = text
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("message-id:"));
    line.expect("a mail has a Message-ID").to_owned()
}

/// The decoded parts of a MIME entity that are base64.
fn base64_parts(entity: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(entity);
    let mut parts = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line
            .to_ascii_lowercase()
            .starts_with("content-transfer-encoding: base64")
        {
            continue;
        }
        let in_body = lines.by_ref().skip_while(|line| !line.trim().is_empty());
        let encoded: String = in_body
            .skip(1)
            .take_while(|line| !line.starts_with("--") && !line.is_empty())
            .collect();
        if let Ok(part) = openssl::base64::decode_block(&encoded) {
            parts.push(part);
        }
    }
    parts
}

/// One submission: full metadata of two documents, with the values that a test cares about.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) message_id: SoapMessageId,
    pub(crate) unique_id: String,
    pub(crate) from: DirectAddress,
    pub(crate) to: Vec<DirectAddress>,
    pub(crate) title: String,
    pub(crate) patient_id: String,
    pub(crate) uri: String,
    pub(crate) documents: [Vec<u8>; 2],
    /// Whether notices of final delivery are asked for.
    pub(crate) final_delivery: bool,
    /// What else is written otherwise in the metadata: from, to.
    pub(crate) replaced: Vec<(String, String)>,
}

impl Letter {
    /// A letter to two recipients of the HISP that fits into one row of the store.
    pub(crate) fn small() -> Self {
        let id = uuid::Uuid::new_v4();
        Self {
            message_id: SoapMessageId::from_uuid(id),
            unique_id: format!("2.25.{}", id.as_u128()),
            from: address("ngozi.okafor", OWN_DOMAIN),
            to: vec![
                address("rui.silva", HISP_DOMAIN),
                address("intake", HISP_DOMAIN),
            ],
            title: "Referral for Ada Quill".to_owned(),
            patient_id: "PT-7731".to_owned(),
            uri: "referral.xml".to_owned(),
            documents: [
                b"<note>A short note.</note>".to_vec(),
                b"%PDF- no more".to_vec(),
            ],
            final_delivery: false,
            replaced: Vec::new(),
        }
    }

    /// The same with a document that makes request and mail files of several chunks.
    pub(crate) fn large() -> Self {
        let mut letter = Self::small();
        letter.documents[1] = incompressible(150_000);
        letter
    }

    /// The Content-Type and the body of the request: the same at every call.
    pub(crate) fn request(&self) -> (String, Vec<u8>) {
        let sha1 = hash(MessageDigest::sha1(), &self.documents[0]).unwrap();
        let uri = format!(
            "<rim:Slot name=\"URI\"><rim:ValueList><rim:Value>{}</rim:Value></rim:ValueList></rim:Slot>\
             <rim:Slot name=\"creationTime\">",
            self.uri
        );
        let mut metadata = METADATA
            .replacen("<rim:Slot name=\"creationTime\">", &uri, 1)
            .replace("8174d57a3e3e09a7ac98777341a58d3b9d3d6aba", &hex(&sha1))
            .replace(
                "<rim:Value>89</rim:Value>",
                &format!("<rim:Value>{}</rim:Value>", self.documents[0].len()),
            )
            .replace("2.999.30.2001", &self.unique_id)
            .replace("Referral for Ada Quill", &self.title)
            .replace("Referral note é", &self.title)
            .replace("PT-7731", &self.patient_id);
        for (from, to) in &self.replaced {
            assert!(metadata.contains(from), "the metadata has {from}");
            metadata = metadata.replace(from, to);
        }
        let metadata = KeptXml::read(metadata.as_bytes(), &Limits::default()).unwrap();
        let block = AddressBlock {
            from: self.from.clone(),
            to: self.to.clone(),
            relates_to: None,
            final_delivery: self.final_delivery,
        };
        let parts: Vec<OutgoingDocument> = [
            ("Document01", "text/xml"),
            ("Document02", "application/pdf"),
        ]
        .into_iter()
        .zip(1..)
        .map(|((id, mime_type), number)| OutgoingDocument {
            document_id: id.to_owned(),
            key: DocumentKey::Part(number),
            mime_type: mime_type.to_owned(),
        })
        .collect();
        let request = OutgoingRequest {
            message_id: &self.message_id,
            action: REQUEST_ACTION,
            to: "https://direct.harbor.example/xdr",
            address_block: Some(&block),
            metadata_level: None,
            metadata: &metadata,
            documents: &parts,
        };
        let documents = (1..).map(DocumentKey::Part).zip(self.documents.clone());
        let mut documents = DocumentsInMemory {
            documents: documents.collect(),
        };
        let mut body = Vec::new();
        write_mtom(&request, &mut documents, &mut body).unwrap();
        (request.content_type(Packaging::Mtom), body)
    }
}

/// `local@domain`.
pub(crate) fn address(local: &str, domain: &str) -> DirectAddress {
    format!("{local}@{domain}").parse().unwrap()
}

/// Octets that neither repeat nor shrink.
pub(crate) fn incompressible(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
