//! The operators' listener, over real sockets.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use tokio::runtime::Runtime;
use xdbridge::{
    adapters::operator::{
        OperatorConfig, OperatorError, OperatorFileError, OperatorListener, OperatorParts,
    },
    app::http_thread::HttpThread,
    flows::{
        budget::ByteBudget,
        measures,
        ports::{Asker, NotDone, Order, Readiness, ServeOperators, Told},
    },
};

use crate::support::{
    folder::TestFolder,
    tls::{Client, Connection, HttpAnswer, Identity},
};

const TOKEN: &str = "a-token-of-more-than-32-characters";

#[test]
fn it_tells_that_the_process_lives_and_that_it_can_work() {
    let ground = Ground::start(vec![part("store", || Ok(())), part("disk", || Ok(()))]);
    let alive = ground.get("/healthz");
    assert_eq!((alive.status, alive.body), (200, b"alive\n".to_vec()));
    let ready = ground.get("/readyz");
    assert_eq!((ready.status, ready.body), (200, b"ready\n".to_vec()));
}

#[test]
fn it_names_each_part_that_cannot_work_and_lives_on() {
    let ground = Ground::start(vec![
        part("store", || Ok(())),
        part("disk", || Err("less than 5 % are free")),
        part("clock", || panic!("as planned")),
        Arc::new(Silent),
    ]);
    let answer = ground.get("/readyz");
    assert_eq!(answer.status, 503);
    let expected = "not ready\ndisk: less than 5 % are free\nclock: the check panicked\n\
                    silent: no answer in time\n";
    assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    assert_eq!(ground.get("/healthz").status, 200);
}

#[test]
fn it_shows_what_is_measured() {
    let ground = Ground::start(Vec::new());
    metrics::counter!(measures::XDR_STRANGERS).increment(3);
    metrics::histogram!(measures::XDR_REQUEST_SECONDS, "partner" => "ash").record(0.3);
    let _taken = ground.budget.try_reserve(64 * 1024).unwrap();
    let answer = ground.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        "# TYPE xdbridge_xdr_strangers_total counter",
        "# HELP xdbridge_xdr_strangers_total Requests whose client certificate belongs to no partner",
        "xdbridge_xdr_request_seconds_bucket{partner=\"ash\",le=\"0.25\"} 0",
        "xdbridge_xdr_request_seconds_bucket{partner=\"ash\",le=\"0.5\"} 1",
        "xdbridge_bytes_in_flight 65536",
    ] {
        assert!(
            text.lines().any(|l| l == line),
            "{line} is missing in\n{text}"
        );
    }
}

#[test]
fn other_methods_and_paths_are_refused() {
    let ground = Ground::start(Vec::new());
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = ask(
            Connection::plain(ground.address),
            &format!("POST {path}"),
            "",
        );
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("GET"));
    }
    assert_eq!(ground.get("/").status, 404);
    assert_eq!(ground.get("/metrics/").status, 404);
}

// rule: T-35
#[test]
fn an_address_that_others_can_reach_needs_tls_and_a_token() {
    let folder = TestFolder::new();
    let full = protected(&Identity::ca("Test CA"), &folder);
    for address in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
        let bind = SocketAddr::new(address, 0);
        for config in [
            OperatorConfig {
                bind,
                ..OperatorConfig::default()
            },
            OperatorConfig {
                bind,
                token_file: None,
                ..full.clone()
            },
            OperatorConfig {
                bind,
                certificate: None,
                key: None,
                ..full.clone()
            },
        ] {
            let error = bind_error(&config);
            assert!(
                matches!(error, OperatorError::Unprotected { .. }),
                "{error}"
            );
        }
    }
    let bind = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let runtime = Runtime::new().unwrap();
    let config = OperatorConfig { bind, ..full };
    OperatorListener::bind(&config, parts(&runtime, Vec::new())).unwrap();
}

// rule: T-35
#[test]
fn with_a_token_only_who_knows_it_sees_the_measures() {
    let folder = TestFolder::new();
    let ca = Identity::ca("Test CA");
    let ground = Ground::with(&protected(&ca, &folder), Vec::new());
    let ask_with = |request: &str, fields: &str| {
        let client = Client {
            ca: &ca,
            identity: None,
            newest: None,
        };
        ask(client.connect(ground.address).unwrap(), request, fields)
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask_with("GET /metrics", &bearer(TOKEN)).status, 200);
    for wrong in [
        String::new(),
        bearer(""),
        bearer(&TOKEN[1..]),
        bearer(&format!("{TOKEN}x")),
        format!("Authorization: Basic {TOKEN}\r\n"),
    ] {
        let answer = ask_with("GET /metrics", &wrong);
        assert_eq!(answer.status, 401, "{wrong}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.body, b"");
        assert_eq!(ask_with("GET /api/v1/exchanges", &wrong).status, 401);
    }
    assert_eq!(ask_with("GET /healthz", "").status, 200);
    assert_eq!(ask_with("GET /readyz", "").status, 200);
}

// rule: KEY-1, T-31
#[test]
fn secrets_that_others_may_read_or_guess_are_refused_at_the_start() {
    let folder = TestFolder::new();
    let full = protected(&Identity::ca("Test CA"), &folder);
    for file in [&full.key, &full.token_file] {
        let file = file.clone().unwrap();
        for (mode, is_accepted) in [(0o640, false), (0o604, false), (0o600, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let runtime = Runtime::new().unwrap();
            let outcome = OperatorListener::bind(&full, parts(&runtime, Vec::new()));
            match outcome {
                Ok(_) => assert!(is_accepted, "mode {mode:o}"),
                Err(error) => {
                    assert!(!is_accepted, "{error}");
                    assert!(matches!(
                        &error,
                        OperatorError::File(OperatorFileError::File(_))
                    ));
                    assert!(
                        error.to_string().contains(&format!("has mode {mode:04o}")),
                        "{error}"
                    );
                }
            }
        }
    }
    for weak in ["short", "", "two lines of more than\n32 characters each"] {
        fs::write(full.token_file.as_ref().unwrap(), weak).unwrap();
        let error = bind_error(&full).to_string();
        assert!(error.contains("at least 32 visible"), "{error}");
    }
    let half = OperatorConfig {
        key: None,
        ..full.clone()
    };
    assert!(matches!(bind_error(&half), OperatorError::HalfIdentity));
}

// --- the ground ---------------------------------------------------------------------------------

struct Ground {
    address: SocketAddr,
    budget: ByteBudget,
    _server: HttpThread,
    _runtime: Runtime,
}

impl Ground {
    fn start(readiness: Vec<Arc<dyn Readiness>>) -> Self {
        let config = OperatorConfig {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            readiness_timeout: Duration::from_millis(300),
            ..OperatorConfig::default()
        };
        Self::with(&config, readiness)
    }

    fn with(config: &OperatorConfig, readiness: Vec<Arc<dyn Readiness>>) -> Self {
        let runtime = Runtime::new().unwrap();
        let parts = parts(&runtime, readiness);
        let budget = parts.budget.clone();
        let listener = OperatorListener::bind(config, parts).unwrap();
        let address = listener.address();
        let server = HttpThread::start("operator-http", move || listener.into_server()).unwrap();
        Self {
            address,
            budget,
            _server: server,
            _runtime: runtime,
        }
    }

    fn get(&self, path: &str) -> HttpAnswer {
        ask(Connection::plain(self.address), &format!("GET {path}"), "")
    }
}

fn ask<S: Read + Write>(mut connection: Connection<S>, request: &str, fields: &str) -> HttpAnswer {
    connection
        .send(format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ))
        .unwrap();
    connection.answer().unwrap()
}

fn parts(runtime: &Runtime, readiness: Vec<Arc<dyn Readiness>>) -> OperatorParts {
    // One process has one recorder, which shows one budget.
    static BUDGET: OnceLock<ByteBudget> = OnceLock::new();
    OperatorParts {
        readiness,
        operators: Arc::new(NoExchanges),
        measured: crate::support::measured().clone(),
        budget: BUDGET.get_or_init(|| ByteBudget::new(1024 * 1024)).clone(),
        flows: runtime.handle().clone(),
    }
}

/// Settings with TLS and a token.
fn protected(ca: &Identity, folder: &TestFolder) -> OperatorConfig {
    let (certificate, key) = ca.issue("localhost").write(folder.path(), "operator");
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    OperatorConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        certificate: Some(certificate),
        key: Some(key),
        token_file: Some(token_file),
        ..OperatorConfig::default()
    }
}

pub(crate) fn bind_error(config: &OperatorConfig) -> OperatorError {
    OperatorListener::bind(config, parts(&Runtime::new().unwrap(), Vec::new()))
        .err()
        .unwrap()
}

/// Nobody asks for exchanges here.
struct NoExchanges;

#[async_trait]
impl ServeOperators for NoExchanges {
    async fn serve(&self, _: &Asker, _: Order) -> Result<Told, NotDone> {
        Err(NotDone::Unknown)
    }
}

struct Part<F>(&'static str, F);

fn part<F>(name: &'static str, check: F) -> Arc<dyn Readiness>
where
    F: Fn() -> Result<(), &'static str> + Send + Sync + 'static,
{
    Arc::new(Part(name, check))
}

#[async_trait]
impl<F: Fn() -> Result<(), &'static str> + Send + Sync> Readiness for Part<F> {
    fn part(&self) -> &'static str {
        self.0
    }

    async fn check(&self) -> Result<(), &'static str> {
        (self.1)()
    }
}

/// A part that hangs.
struct Silent;

#[async_trait]
impl Readiness for Silent {
    fn part(&self) -> &'static str {
        "silent"
    }

    async fn check(&self) -> Result<(), &'static str> {
        std::future::pending().await
    }
}
