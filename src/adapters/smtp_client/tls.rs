//! TLS towards the next hop.

use std::path::PathBuf;

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslConnector, SslMethod, SslVerifyMode, SslVersion},
    x509::{X509, store::X509StoreBuilder},
};

use super::{
    SmtpClientError,
    config::{SmtpClientConfig, TlsPolicy},
};
use jiff::Timestamp;

/// Longest PEM file of CAs that is read, in octets.
const MAX_CA_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// The CAs that count, ready for handshakes.
pub(super) struct Tls {
    connector: SslConnector,
}

impl Tls {
    pub(super) fn new(config: &SmtpClientConfig) -> Result<Self, SmtpClientError> {
        let mut store = X509StoreBuilder::new()?;
        if config.public_cas {
            // The vendored OpenSSL does not know where this system keeps its CAs.
            let system = openssl_probe::probe();
            if let Some(file) = system.cert_file {
                add_all(&mut store, &file)?;
            }
        }
        for file in &config.ca_files {
            add_all(&mut store, file)?;
        }
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_cert_store(store.build());
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        Ok(Self {
            connector: builder.build(),
        })
    }

    /// A handshake with `host`, which the certificate must name where `policy` says so. Whether it does is found out
    /// under every policy, for the audit.
    pub(super) fn handshake_with(
        &self,
        host: &str,
        policy: TlsPolicy,
        now: Timestamp,
    ) -> Result<Ssl, ErrorStack> {
        let mut handshake = self.connector.configure()?;
        handshake.set_verify(match policy {
            TlsPolicy::RequireVerified => SslVerifyMode::PEER,
            // A client goes on after a failed verification in this mode, and the result can be asked for.
            TlsPolicy::Require | TlsPolicy::Opportunistic => SslVerifyMode::NONE,
        });
        handshake.param_mut().set_time(now.as_second());
        handshake.into_ssl(host)
    }
}

fn add_all(store: &mut X509StoreBuilder, file: &PathBuf) -> Result<(), SmtpClientError> {
    let unreadable = |source| SmtpClientError::CaFile {
        file: file.clone(),
        source,
    };
    let length = std::fs::metadata(file).map_err(unreadable)?.len();
    if length > MAX_CA_FILE_BYTES {
        return Err(SmtpClientError::NoCas { file: file.clone() });
    }
    let pem = std::fs::read(file).map_err(unreadable)?;
    let certificates = X509::stack_from_pem(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(SmtpClientError::NoCas { file: file.clone() });
    }
    for certificate in certificates {
        store.add_cert(certificate)?;
    }
    Ok(())
}
