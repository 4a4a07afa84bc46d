//! ITI-41 requests to the XDR endpoints of the configuration, over mutual TLS (xdr.md section 8, mdn.md section 9).
//!
//! Bodies stream. Nothing is followed: no redirect, no proxy, no name that the configuration does not give.

mod failure;
pub mod settings;

use std::{
    collections::HashMap,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use reqwest::{
    Body, Certificate, Client, Identity, Response, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
    redirect, tls,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use settings::SoapClientConfig;

use crate::{
    adapters::pem_files::{ConfiguredFile, ConfiguredFileError},
    bridge::post::PostEnd,
    flows::ports::{Clock, PostReport, PostXdr, XdrPost},
};

/// An endpoint that neither takes nor gives.
const SILENT: &str = "the endpoint fell silent";

/// An XDR endpoint as the client needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in the configuration.
    pub name: String,
    /// Where it listens: `https://host:port/path`.
    pub url: String,
    /// Whether a post whose answer was lost may be repeated: only then connections are used again.
    pub is_idempotent: bool,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum SoapClientError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
    /// Certificate and key are no pair that can be used.
    #[error(
        "soap.client.certificate and soap.client.key: a PEM certificate and its PKCS #8 key are needed"
    )]
    Identity(#[source] reqwest::Error),
    /// The URL of an endpoint is none that is posted to.
    #[error(
        "endpoint {name}: url must be https://host[:port]/path, without user, query or fragment"
    )]
    Url {
        /// The endpoint's name.
        name: String,
    },
    /// OpenSSL cannot write a certificate that it has read.
    #[error("a certificate of soap.client cannot be used")]
    Certificate(#[from] openssl::error::ErrorStack),
    /// The HTTP library refuses what it was given.
    #[error("the SOAP client cannot be set up")]
    Setup(#[from] reqwest::Error),
}

/// Posts to the endpoints that it was made for, and to no other.
pub struct SoapClient {
    made_of: Option<MadeOf>,
    ways: RwLock<Arc<Ways>>,
    clock: Arc<dyn Clock>,
    post_timeout: Duration,
    read_timeout: Duration,
    max_answer_bytes: u64,
}

/// What a client is made of, and again when its files are read anew.
struct MadeOf {
    config: SoapClientConfig,
    endpoints: Vec<Endpoint>,
}

/// How each endpoint is got to, by its name.
type Ways = HashMap<String, (Client, Url)>;

/// The certificate that is shown, and those that are trusted, read anew.
pub struct NewIdentity(Ways);

impl MadeOf {
    fn read(&self) -> Result<NewIdentity, SoapClientError> {
        let config = &self.config;
        let identity = identity(config)?;
        let cas = cas(config)?;
        let client = |idle_connections| {
            Client::builder()
                .identity(identity.clone())
                .tls_certs_only(cas.clone())
                .min_tls_version(tls::Version::TLS_1_2)
                .https_only(true)
                .no_proxy()
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(config.connect_timeout)
                .pool_idle_timeout(config.idle_timeout)
                .pool_max_idle_per_host(idle_connections)
                .build()
        };
        let (keeping, closing) = (client(usize::MAX)?, client(0)?);
        let mut known = HashMap::new();
        for endpoint in &self.endpoints {
            let url = url(&endpoint.url).ok_or_else(|| SoapClientError::Url {
                name: endpoint.name.clone(),
            })?;
            let client = if endpoint.is_idempotent {
                &keeping
            } else {
                &closing
            };
            known.insert(endpoint.name.clone(), (client.clone(), url));
        }
        Ok(NewIdentity(known))
    }
}

impl SoapClient {
    /// A client for `endpoints`; answers of more than `max_answer_bytes` octets are not read.
    pub fn new(
        config: &SoapClientConfig,
        endpoints: &[Endpoint],
        clock: Arc<dyn Clock>,
        max_answer_bytes: u64,
    ) -> Result<Self, SoapClientError> {
        let made_of = MadeOf {
            config: config.clone(),
            endpoints: endpoints.to_vec(),
        };
        let NewIdentity(ways) = made_of.read()?;
        Ok(Self {
            made_of: Some(made_of),
            ways: RwLock::new(Arc::new(ways)),
            clock,
            post_timeout: config.post_timeout,
            read_timeout: config.read_timeout,
            max_answer_bytes,
        })
    }
}

impl SoapClient {
    /// A client for no endpoint at all: a bridge that receives nothing but notices.
    pub fn without_endpoints(clock: Arc<dyn Clock>) -> Self {
        Self {
            made_of: None,
            ways: RwLock::default(),
            clock,
            post_timeout: Duration::ZERO,
            read_timeout: Duration::ZERO,
            max_answer_bytes: 0,
        }
    }

    /// Reads what it shows and whom it trusts anew. That changes nothing yet.
    pub fn read_identity(&self) -> Result<NewIdentity, SoapClientError> {
        let made_of = self.made_of.as_ref();
        made_of.map_or_else(|| Ok(NewIdentity(Ways::new())), MadeOf::read)
    }

    /// Takes this for the posts to come; those under way go on.
    pub fn use_identity(&self, NewIdentity(ways): NewIdentity) {
        *self.ways.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ways);
    }

    fn way(&self, endpoint: &str) -> Option<(Client, Url)> {
        let ways = self.ways.read().unwrap_or_else(PoisonError::into_inner);
        ways.get(endpoint).cloned()
    }
}

#[async_trait]
impl PostXdr for SoapClient {
    async fn post(&self, post: XdrPost) -> PostReport {
        let not_sent = |detail: &str| PostReport {
            end: PostEnd::NotSent {
                is_untrusted: false,
            },
            detail: detail.to_owned(),
        };
        let Some((client, url)) = self.way(&post.endpoint) else {
            return not_sent("the configuration has no endpoint of this name");
        };
        let Ok(content_type) = HeaderValue::from_str(&post.content_type) else {
            return not_sent("the Content-Type is none");
        };
        let left = post.deadline.duration_since(self.clock.now());
        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
        if left.is_zero() {
            // Begun all the same, it would be cut off behind its head: half a request that helps nobody.
            return not_sent("its time was over before it began");
        }
        let (body, progress) = streamed(post.body);
        let request = client
            .post(url)
            .header(CONTENT_TYPE, content_type)
            .timeout(left.min(self.post_timeout))
            .body(body);
        match self.unless_silent(request.send(), &progress).await {
            Some(Ok(response)) => self.read(response).await,
            Some(Err(error)) => PostReport {
                end: failure::end_of(&error, progress.is_sent()),
                detail: failure::detail_of(&error),
            },
            None if progress.is_sent() => PostReport {
                end: PostEnd::AnswerLost,
                detail: SILENT.to_owned(),
            },
            None => not_sent(SILENT),
        }
    }
}

impl SoapClient {
    /// Waits for the head of the answer, unless nothing moves for too long. The library's own timer would run while the
    /// request is still being sent, and break off what a slow line takes its time for.
    async fn unless_silent<T>(
        &self,
        sending: impl Future<Output = T>,
        progress: &Progress,
    ) -> Option<T> {
        let mut sending = pin!(sending);
        loop {
            let silent_at = progress.last() + self.read_timeout;
            tokio::select! {
                ended = &mut sending => return Some(ended),
                () = sleep_until(silent_at) => {
                    if progress.last() + self.read_timeout <= silent_at {
                        return None;
                    }
                }
            }
        }
    }

    async fn read(&self, mut response: Response) -> PostReport {
        let lost = |detail: String| PostReport {
            end: PostEnd::AnswerLost,
            detail,
        };
        let status = response.status().as_u16();
        let header = |name| {
            let value: Option<&HeaderValue> = response.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let content_type = header(CONTENT_TYPE).unwrap_or_default().to_owned();
        let declared = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let is_too_large = |bytes: u64| bytes > self.max_answer_bytes;
        let too_large = || lost(format!("HTTP {status} with an answer that is too large"));
        if declared.is_some_and(is_too_large) {
            return too_large();
        }
        let mut body = Vec::new();
        loop {
            let Ok(chunk) = timeout(self.read_timeout, response.chunk()).await else {
                return lost(SILENT.to_owned());
            };
            match chunk {
                Ok(Some(chunk)) if is_too_large((body.len() + chunk.len()) as u64) => {
                    return too_large();
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return lost(failure::detail_of(&error)),
            }
        }
        PostReport {
            end: PostEnd::Answered {
                status,
                content_type,
                body,
            },
            detail: format!("HTTP {status}"),
        }
    }
}

/// What the connection has taken of a request.
struct Progress {
    last: Mutex<Instant>,
    is_sent: AtomicBool,
}

impl Progress {
    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether all of it was taken from us.
    fn is_sent(&self) -> bool {
        self.is_sent.load(Ordering::Acquire)
    }
}

/// The chunks as a body. Chunks that end in an error never look complete to the endpoint: the connection is broken off.
fn streamed(chunks: mpsc::Receiver<io::Result<Bytes>>) -> (Body, Arc<Progress>) {
    let progress = Arc::new(Progress {
        last: Mutex::new(Instant::now()),
        is_sent: AtomicBool::new(false),
    });
    let told = Arc::clone(&progress);
    let octets = stream::unfold(Some((chunks, told)), |state| async {
        let (mut chunks, told) = state?;
        let chunk = chunks.recv().await;
        told.note();
        match chunk {
            Some(Ok(chunk)) => Some((Ok(chunk), Some((chunks, told)))),
            Some(Err(error)) => Some((Err(error), None)),
            None => {
                told.is_sent.store(true, Ordering::Release);
                None
            }
        }
    });
    (Body::wrap_stream(octets), progress)
}

fn url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.scheme() == "https"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_plain.then_some(url)
}

fn identity(config: &SoapClientConfig) -> Result<Identity, SoapClientError> {
    let certificate = ConfiguredFile {
        setting: "soap.client.certificate",
        path: &config.certificate,
    };
    let key = ConfiguredFile {
        setting: "soap.client.key",
        path: &config.key,
    };
    let mut chain = Vec::new();
    for certificate in certificate.certificates()? {
        chain.extend(certificate.to_pem()?);
    }
    Identity::from_pkcs8_pem(&chain, &key.secret()?).map_err(SoapClientError::Identity)
}

fn cas(config: &SoapClientConfig) -> Result<Vec<Certificate>, SoapClientError> {
    let mut cas = Vec::new();
    for path in &config.ca_files {
        let setting = "soap.client.ca_files";
        for ca in (ConfiguredFile { setting, path }).certificates()? {
            cas.push(Certificate::from_der(&ca.to_der()?)?);
        }
    }
    Ok(cas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_urls_are_posted_to() {
        for good in [
            "https://ehr.harbor.example/xdr",
            "https://10.0.0.7:8443/a/b",
        ] {
            assert!(url(good).is_some(), "{good}");
        }
        for bad in [
            "http://ehr.harbor.example/xdr",
            "https://user:word@ehr.harbor.example/xdr",
            "https://ehr.harbor.example/xdr?wsdl",
            "https://ehr.harbor.example/xdr#x",
            "file:///etc/passwd",
            "ehr.harbor.example",
            "",
        ] {
            assert!(url(bad).is_none(), "{bad}");
        }
    }
}
