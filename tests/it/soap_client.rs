//! The SOAP client against endpoints of every conduct: what of a request arrived, what came back, and what is never
//! done.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use xdbridge::{
    adapters::{
        clock::SystemClock,
        soap_client::{Endpoint, SoapClient, SoapClientError, settings::SoapClientConfig},
    },
    bridge::post::PostEnd,
    flows::ports::{Clock, PostReport, PostXdr, XdrPost},
};

use crate::support::{
    folder::TestFolder,
    scripted_xdr::{Act, ScriptedXdr},
    tls::Identity,
};

const MAX_ANSWER_BYTES: u64 = 64 * 1024;
const TYPE: &str = "multipart/related; boundary=\"b\"; type=\"application/xop+xml\"";

/// CAs, certificates and settings.
struct Ground {
    folder: TestFolder,
    server_ca: Identity,
    client_ca: Identity,
    client: Identity,
}

impl Ground {
    fn new() -> Self {
        let client_ca = Identity::ca("Clients");
        Self {
            folder: TestFolder::new(),
            server_ca: Identity::ca("Servers"),
            client: client_ca.issue("bridge.elm.example"),
            client_ca,
        }
    }

    fn endpoint(&self, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> ScriptedXdr {
        let server = self.server_ca.issue("xdr.harbor.example");
        ScriptedXdr::start(&server, &self.client_ca, script)
    }

    fn config(&self) -> SoapClientConfig {
        let (certificate, key) = self.client.write(self.folder.path(), "client");
        let (ca, _) = self.server_ca.write(self.folder.path(), "ca");
        SoapClientConfig {
            certificate,
            key,
            ca_files: vec![ca],
            read_timeout: Duration::from_millis(500),
            ..SoapClientConfig::default()
        }
    }

    fn client_with(&self, config: &SoapClientConfig, url: String, idempotent: bool) -> SoapClient {
        let endpoint = Endpoint {
            name: "harbor".into(),
            url,
            is_idempotent: idempotent,
        };
        SoapClient::new(config, &[endpoint], Arc::new(SystemClock), MAX_ANSWER_BYTES).unwrap()
    }

    fn client(&self, endpoint: &ScriptedXdr) -> SoapClient {
        self.client_with(&self.config(), endpoint.url(), true)
    }
}

/// Posts `chunks`; an error among them ends the body.
async fn post(client: &SoapClient, chunks: Vec<io::Result<Bytes>>) -> PostReport {
    let deadline = SystemClock.now() + Duration::from_secs(60);
    post_until(client, deadline, chunks).await
}

async fn post_until(
    client: &SoapClient,
    deadline: Timestamp,
    chunks: Vec<io::Result<Bytes>>,
) -> PostReport {
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        for chunk in chunks {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    let post = XdrPost {
        endpoint: "harbor".into(),
        content_type: TYPE.into(),
        deadline,
        body,
    };
    client.post(post).await
}

fn chunks(texts: &[&'static str]) -> Vec<io::Result<Bytes>> {
    let chunks = texts
        .iter()
        .map(|text| Ok(Bytes::from_static(text.as_bytes())));
    chunks.collect()
}

const NOT_REACHED: PostEnd = PostEnd::NotSent {
    is_untrusted: false,
};
const UNTRUSTED: PostEnd = PostEnd::NotSent { is_untrusted: true };

// rule: SOAP-94, SOAP-3
#[tokio::test(flavor = "multi_thread")]
async fn a_request_streams_out_whole_and_the_answer_comes_back_whatever_its_status() {
    let ground = Ground::new();
    for status in [200, 202, 400, 404, 500, 503] {
        let endpoint = ground.endpoint(move |_| Act::soap(status, "<answer/>"));
        let client = ground.client(&endpoint);
        let report = post(&client, chunks(&["--b\r\n", "one", "two\r\n--b--\r\n"])).await;
        let expected = PostEnd::Answered {
            status,
            content_type: "application/soap+xml; charset=UTF-8".into(),
            body: b"<answer/>".to_vec(),
        };
        assert_eq!(report.end, expected);
        let seen = endpoint.seen().remove(0);
        assert!(seen.is_whole && seen.head.starts_with("POST /xdr HTTP/1.1\r\n"));
        assert!(
            seen.head
                .to_lowercase()
                .contains(&format!("content-type: {TYPE}").to_lowercase())
        );
        assert_eq!(seen.body, b"--b\r\nonetwo\r\n--b--\r\n");
    }
}

// rule: T-24
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_and_trusted_is_read_anew_and_a_broken_file_leaves_what_was_there() {
    let mut ground = Ground::new();
    let endpoint = ground.endpoint(|_| Act::soap(200, "<answer/>"));
    let client = ground.client(&endpoint);
    let is_let_in = async || {
        let report = post(&client, chunks(&["request"])).await;
        matches!(report.end, PostEnd::Answered { status: 200, .. })
    };
    assert!(is_let_in().await);

    // Somebody whom the endpoint does not know.
    let (certificate, key) = Identity::ca("Others")
        .issue("bridge.elm.example")
        .write(ground.folder.path(), "client");
    let stranger = client.read_identity().unwrap();
    assert!(is_let_in().await, "reading changes nothing");
    client.use_identity(stranger);
    assert!(!is_let_in().await);

    std::fs::write(&key, "none").unwrap();
    assert!(matches!(
        client.read_identity(),
        Err(SoapClientError::Identity(_))
    ));
    std::fs::remove_file(&certificate).unwrap();
    assert!(matches!(
        client.read_identity(),
        Err(SoapClientError::File(_))
    ));
    assert!(!is_let_in().await);

    // Renewed by the CA that the endpoint knows.
    ground.client = ground.client_ca.issue("bridge.elm.example");
    ground.config();
    client.use_identity(client.read_identity().unwrap());
    assert!(is_let_in().await);
}

// rule: XDR-109
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_is_over_is_not_begun() {
    let ground = Ground::new();
    let endpoint = ground.endpoint(|_| Act::soap(200, "<answer/>"));
    let client = ground.client(&endpoint);
    let report = post_until(&client, SystemClock.now(), chunks(&["late"])).await;
    assert_eq!(report.end, NOT_REACHED, "{}", report.detail);
    // The next one is the first that the endpoint sees.
    post(&client, chunks(&["in time"])).await;
    let bodies = endpoint.seen().into_iter().map(|seen| seen.body);
    assert_eq!(bodies.collect::<Vec<_>>(), [b"in time"]);
}

// rule: XDR-109, XDR-111
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_before_the_end_of_the_body_has_sent_nothing() {
    let ground = Ground::new();
    let endpoint = ground.endpoint(|_| Act::CloseInBody);
    // More than the buffers of a connection hold, so that the client is still sending.
    let large = (0..400).map(|_| Ok(Bytes::from(vec![b'x'; 64 * 1024])));
    let report = post(&ground.client(&endpoint), large.collect()).await;
    assert_eq!(report.end, NOT_REACHED, "{}", report.detail);
    drop(endpoint);
}

// rule: XDR-111
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_whole_is_lost() {
    let ground = Ground::new();
    for act in [
        Act::CloseAfterBody,
        Act::CutAnswer,
        Act::Stall,
        Act::Endless,
    ] {
        let script = act.clone();
        let endpoint = ground.endpoint(move |_| script.clone());
        let report = post(&ground.client(&endpoint), chunks(&["body"])).await;
        assert_eq!(
            report.end,
            PostEnd::AnswerLost,
            "{act:?}: {}",
            report.detail
        );
        assert!(endpoint.seen()[0].is_whole);
    }
}

/// The whole takes longer than an endpoint may be silent; it never is.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_endpoint_that_goes_on_taking_the_request_is_waited_for() {
    let ground = Ground::new();
    // What comes after the slow pieces is more than the connection's buffers hold.
    let endpoint = ground.endpoint(|_| Act::Slow(150));
    let large = (0..400).map(|_| Ok(Bytes::from(vec![b'x'; 64 * 1024])));
    let config = SoapClientConfig {
        read_timeout: Duration::from_secs(2),
        ..ground.config()
    };
    let client = ground.client_with(&config, endpoint.url(), true);
    let report = post(&client, large.collect()).await;
    assert!(
        matches!(report.end, PostEnd::Answered { status: 200, .. }),
        "{report:?}"
    );
    assert!(endpoint.seen()[0].is_whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_read_on_never_looks_complete_to_the_endpoint() {
    let ground = Ground::new();
    let endpoint = ground.endpoint(|_| Act::soap(200, "taken"));
    let mut body = chunks(&["--b\r\nhalf of a docu"]);
    body.push(Err(io::Error::other("the store failed")));
    let report = post(&ground.client(&endpoint), body).await;
    assert_eq!(report.end, NOT_REACHED, "{}", report.detail);
    assert!(endpoint.seen().iter().all(|seen| !seen.is_whole));
}

// rule: T-19b, T-28
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_whom_we_trust_gets_nothing() {
    let ground = Ground::new();
    let other_ca = Identity::ca("Others");
    for server in [
        other_ca.issue("xdr.harbor.example"),
        Identity::self_signed("xdr.harbor.example"),
    ] {
        let endpoint = ScriptedXdr::start(&server, &ground.client_ca, |_| Act::soap(200, "taken"));
        let report = post(&ground.client(&endpoint), chunks(&["body"])).await;
        assert_eq!(report.end, UNTRUSTED, "{}", report.detail);
        assert!(endpoint.seen().is_empty());
    }
    // The certificate is good, but names another address.
    let server = ground.server_ca.issue("xdr.harbor.example");
    let endpoint = ScriptedXdr::start_at("127.0.0.2:0", &server, &ground.client_ca, |_| {
        Act::soap(200, "taken")
    });
    let report = post(&ground.client(&endpoint), chunks(&["body"])).await;
    assert_eq!(report.end, UNTRUSTED, "{}", report.detail);
    assert!(endpoint.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_trust_us_is_told_from_one_that_broke() {
    let ground = Ground::new();
    let server = ground.server_ca.issue("xdr.harbor.example");
    let strangers = Identity::ca("Strangers");
    let endpoint = ScriptedXdr::start(&server, &strangers, |_| Act::soap(200, "taken"));
    let report = post(&ground.client(&endpoint), chunks(&["body"])).await;
    assert_eq!(report.end, UNTRUSTED, "{}", report.detail);
    assert!(endpoint.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_there_or_not_configured_may_be_tried_again() {
    let ground = Ground::new();
    let gone = ground.endpoint(|_| Act::Stall).url();
    let report = post(
        &ground.client_with(
            &ground.config(),
            gone.replace("localhost", "127.0.0.2"),
            true,
        ),
        chunks(&["body"]),
    )
    .await;
    assert_eq!(report.end, NOT_REACHED, "{}", report.detail);

    let endpoint = ground.endpoint(|_| Act::soap(200, "taken"));
    let (_, body) = mpsc::channel(1);
    let post = XdrPost {
        endpoint: "other".into(),
        content_type: TYPE.into(),
        deadline: SystemClock.now() + Duration::from_secs(60),
        body,
    };
    let report = ground.client(&endpoint).post(post).await;
    assert_eq!(report.end, NOT_REACHED);
    assert!(endpoint.seen().is_empty());
}

// rule: T-14
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_followed_to_another_place() {
    let ground = Ground::new();
    let elsewhere = ground.endpoint(|_| Act::soap(200, "taken"));
    let url = elsewhere.url();
    let endpoint = ground.endpoint(move |_| Act::Redirect(url.clone()));
    let report = post(&ground.client(&endpoint), chunks(&["body"])).await;
    assert!(
        matches!(report.end, PostEnd::Answered { status: 307, .. }),
        "{report:?}"
    );
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_idempotent_endpoint_sees_a_connection_again() {
    let ground = Ground::new();
    for (idempotent, expected) in [(true, [0, 0]), (false, [0, 1])] {
        let endpoint = ground.endpoint(|_| Act::soap(200, "taken"));
        let client = ground.client_with(&ground.config(), endpoint.url(), idempotent);
        for _ in 0..2 {
            post(&client, chunks(&["body"])).await;
        }
        let seen: Vec<usize> = endpoint.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(seen, expected);
    }
}

// rule: T-31
#[test]
fn a_key_that_others_may_read_and_files_that_are_none_are_named() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let ground = Ground::new();
    let refusal = |config: &SoapClientConfig| {
        let made = SoapClient::new(config, &[], Arc::new(SystemClock), MAX_ANSWER_BYTES);
        made.err().unwrap()
    };
    let config = ground.config();
    fs::set_permissions(&config.key, fs::Permissions::from_mode(0o640)).unwrap();
    let text = refusal(&config).to_string();
    assert!(
        text.contains("soap.client.key") && text.contains("640"),
        "{text}"
    );
    let config = ground.config();
    fs::write(&config.ca_files[0], "no certificate").unwrap();
    let text = refusal(&config).to_string();
    assert!(text.starts_with("soap.client.ca_files: "), "{text}");
    assert!(text.contains("holds no certificate"), "{text}");
    let config = ground.config();
    fs::write(&config.certificate, "no certificate").unwrap();
    let text = refusal(&config).to_string();
    assert!(text.starts_with("soap.client.certificate: "), "{text}");
    let config = ground.config();
    fs::write(&config.key, "no key").unwrap();
    assert!(matches!(refusal(&config), SoapClientError::Identity(_)));
    let endpoint = Endpoint {
        name: "harbor".into(),
        url: "http://harbor.example/".into(),
        is_idempotent: false,
    };
    let made = SoapClient::new(
        &ground.config(),
        &[endpoint],
        Arc::new(SystemClock),
        MAX_ANSWER_BYTES,
    );
    assert!(matches!(made.err(), Some(SoapClientError::Url { .. })));
}
