//! Fetches what others published, by HTTP or HTTPS (threats.md T-14): one request, one answer, and nothing that it could
//! lead on to.

mod settings;

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Certificate, Client, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    redirect, tls,
};
use tokio::{sync::Semaphore, time::Instant};

pub use self::settings::FetchConfig;
use crate::{
    adapters::pem_files::{ConfiguredFile, ConfiguredFileError},
    flows::{
        guard::{Admitted, Guard},
        keyed::KeyedPlaces,
        measures,
        ports::{Fetch, FetchError, FetchRequest},
    },
};

/// Longest text of a failure that is kept, in characters.
const MAX_DETAIL_CHARACTERS: usize = 160;
/// Most octets that are reserved before they have come, whatever the server announces.
const MAX_RESERVED_BYTES: usize = 64 * 1024;

/// Why nothing can be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetcherError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
    /// OpenSSL cannot write a certificate that it has read.
    #[error("a CA certificate of fetch cannot be used")]
    Certificate(#[from] openssl::error::ErrorStack),
    /// The HTTP library refuses a CA.
    #[error("the CAs of fetch cannot be used")]
    Setup(#[from] reqwest::Error),
}

/// Fetches by HTTP.
pub struct HttpFetcher {
    guard: Guard,
    /// Who counts for https.
    cas: Vec<Certificate>,
    connect_timeout: Duration,
    timeout: Duration,
    places: Arc<Semaphore>,
    host_places: KeyedPlaces<String>,
}

impl HttpFetcher {
    /// Goes where `guard` lets it.
    pub fn new(config: &FetchConfig, guard: Guard) -> Result<Self, FetcherError> {
        let mut cas = Vec::new();
        if config.public_cas {
            // The vendored OpenSSL does not know where this system keeps its CAs.
            if let Some(file) = openssl_probe::probe().cert_file {
                add_all(&mut cas, "fetch.public_cas", &file)?;
            }
        }
        for file in &config.ca_files {
            add_all(&mut cas, "fetch.ca_files", file)?;
        }
        Ok(Self {
            guard,
            cas,
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            places: Arc::new(Semaphore::new(config.max_at_once)),
            host_places: KeyedPlaces::new(config.max_at_once_per_host),
        })
    }

    async fn run(&self, request: &FetchRequest, limit: Duration) -> Result<Vec<u8>, FetchError> {
        let _place = self.places.try_acquire().map_err(|_| FetchError::Busy)?;
        let admitted = self.guard.admit(&request.url).await?;
        let authority = admitted.target.authority();
        let place = self.host_places.try_enter(&authority);
        let _host_place = place.ok_or(FetchError::Busy)?;
        let client = self.client(&admitted, limit);
        let client = client.map_err(|error| no_answer(&error))?;
        let url = admitted.target.url();
        let asked = match &request.post {
            None => client.get(url),
            Some(body) => client
                .post(url)
                .header(CONTENT_TYPE, body.content_type)
                .body(body.octets.clone()),
        };
        let response = asked.send().await.map_err(|error| no_answer(&error))?;
        read(response, request.what.max_bytes()).await
    }

    /// A client that knows one host, by the addresses that were judged, and keeps no connection: another fetch is judged
    /// anew.
    fn client(&self, admitted: &Admitted, limit: Duration) -> Result<Client, reqwest::Error> {
        // Reading all public CAs takes longer than all the rest of a fetch.
        let cas = if admitted.target.is_https() {
            self.cas.clone()
        } else {
            Vec::new()
        };
        let host = admitted.target.host_text();
        Client::builder()
            .resolve_to_addrs(&host, &admitted.addresses)
            .tls_certs_only(cas)
            .min_tls_version(tls::Version::TLS_1_2)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .connect_timeout(self.connect_timeout.min(limit))
            .build()
    }
}

#[async_trait]
impl Fetch for HttpFetcher {
    async fn fetch(&self, request: FetchRequest) -> Result<Vec<u8>, FetchError> {
        let limit = request.limit.min(self.timeout);
        let end = Instant::now() + limit;
        let running = tokio::time::timeout_at(end, self.run(&request, limit)).await;
        let fetched = running.unwrap_or(Err(FetchError::TimedOut { limit }));
        let result = fetched.as_ref().map_or_else(FetchError::word, |_| "done");
        let what = request.what.word();
        metrics::counter!(measures::FETCHES, "what" => what, "result" => result).increment(1);
        fetched
    }
}

async fn read(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, FetchError> {
    let status = response.status();
    match status.as_u16() {
        200 => {}
        _ if status.is_redirection() => {
            let status = status.as_u16();
            return Err(FetchError::Redirected { status });
        }
        status => return Err(FetchError::Status { status }),
    }
    let header = response.headers().get(CONTENT_LENGTH);
    let text = header.and_then(|length| length.to_str().ok());
    let declared: usize = text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let too_large = FetchError::TooLarge { max_bytes };
    if declared > max_bytes {
        return Err(too_large);
    }
    let mut octets = Vec::with_capacity(declared.min(MAX_RESERVED_BYTES));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if octets.len() + chunk.len() > max_bytes => return Err(too_large),
            Ok(Some(chunk)) => octets.extend_from_slice(&chunk),
            Ok(None) => return Ok(octets),
            Err(error) => return Err(no_answer(&error)),
        }
    }
}

/// The last of the causes tells most. The URL, which anybody may have written, is left out.
fn no_answer(error: &reqwest::Error) -> FetchError {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    FetchError::NoAnswer {
        detail: text.chars().take(MAX_DETAIL_CHARACTERS).collect(),
    }
}

fn add_all(
    cas: &mut Vec<Certificate>,
    setting: &'static str,
    path: &Path,
) -> Result<(), FetcherError> {
    for ca in (ConfiguredFile { setting, path }).certificates()? {
        cas.push(Certificate::from_der(&ca.to_der()?)?);
    }
    Ok(())
}
