//! What others published under a URL: fetched by whoever guards our own network (threats.md T-14).

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;

use crate::{bridge::fetch_target::TargetFault, flows::guard::NotAdmitted};

/// Finds the addresses of a host by its name.
#[async_trait]
pub trait FindAddresses: Send + Sync {
    /// Its addresses, in the order to try: four at the most, at least one.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoAddresses>;
}

/// Why a host has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddresses {
    /// The DNS says so, for sure.
    #[error("its host has no address in the DNS")]
    None,
    /// SERVFAIL or a time-out: may pass.
    #[error("the DNS gave no answer about its host: {detail}")]
    Transient {
        /// What happened.
        detail: String,
    },
}

/// Fetches what others published. The URL may be anybody's: it is judged, and so is every address that it leads to.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// One request, and the octets of its answer. Nothing is followed; what the server says of the content's type is not
    /// asked.
    async fn fetch(&self, request: FetchRequest) -> Result<Vec<u8>, FetchError>;
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// From where, as it was found.
    pub url: String,
    /// What it is.
    pub what: Fetched,
    /// What is posted; `None` asks by GET.
    pub post: Option<FetchBody>,
    /// Longest time that it may take, from the look-up of the name to the last octet; the settings may allow less.
    pub limit: Duration,
}

/// What is posted.
#[derive(Clone, Debug)]
pub struct FetchBody {
    /// Its media type.
    pub content_type: &'static str,
    /// Its octets.
    pub octets: Vec<u8>,
}

/// The kinds of things that are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fetched {
    /// The certificate of an issuer (AIA caIssuers).
    Issuer,
    /// A revocation list.
    Crl,
    /// An OCSP response.
    Ocsp,
    /// A trust bundle.
    Bundle,
    /// A certificate by a URL in a CERT record.
    Certificate,
}

impl Fetched {
    /// One word, for measures.
    pub fn word(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Crl => "crl",
            Self::Ocsp => "ocsp",
            Self::Bundle => "bundle",
            Self::Certificate => "certificate",
        }
    }

    /// The most octets that are read of one (TA-7, REV-2, TB-9).
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Issuer | Self::Ocsp | Self::Certificate => 64 * 1024,
            Self::Crl => 10 * 1024 * 1024,
            Self::Bundle => 5 * 1024 * 1024,
        }
    }
}

/// Why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL, or where it leads, is none that we go to.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// As many as may be are fetched from this host at this moment, or from all hosts.
    #[error("too many fetches are under way")]
    Busy,
    /// No connection, or it broke.
    #[error("no answer: {detail}")]
    NoAnswer {
        /// What happened.
        detail: String,
    },
    /// Nothing whole in time.
    #[error("no whole answer within {} ms", .limit.as_millis())]
    TimedOut {
        /// The time that it had.
        limit: Duration,
    },
    /// The server sends us elsewhere.
    #[error("HTTP {status}: a redirect, and none is followed (T-14)")]
    Redirected {
        /// The status.
        status: u16,
    },
    /// Another status than 200.
    #[error("HTTP {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// More octets than such a thing has.
    #[error("the answer is longer than {max_bytes} octets")]
    TooLarge {
        /// The most that are read.
        max_bytes: usize,
    },
}

impl FetchError {
    /// Whether it may be had at another time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotAdmitted(not_admitted) => not_admitted.is_transient(),
            Self::Busy | Self::NoAnswer { .. } | Self::TimedOut { .. } => true,
            // Not ready, too slow, too many, or a fault of the server's.
            Self::Status { status } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Redirected { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// One word, for measures.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotAdmitted(NotAdmitted::Target(TargetFault::NoAddress))
            | Self::NotAdmitted(NotAdmitted::Host(_)) => "no_address",
            Self::NotAdmitted(NotAdmitted::Target(_)) => "refused",
            Self::Busy => "busy",
            Self::NoAnswer { .. } => "no_answer",
            Self::TimedOut { .. } => "timeout",
            Self::Redirected { .. } => "redirect",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
        }
    }
}
