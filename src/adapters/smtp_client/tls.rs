//! TLS towards the next hop.

use std::path::Path;

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslConnector, SslMethod, SslVerifyMode, SslVersion},
    x509::store::X509StoreBuilder,
};

use super::{
    SmtpClientError,
    config::{SmtpClientConfig, TlsPolicy},
};
use crate::adapters::pem_files::ConfiguredFile;
use jiff::Timestamp;

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
                add_all(&mut store, "smtp.client.public_cas", &file)?;
            }
        }
        for file in &config.ca_files {
            add_all(&mut store, "smtp.client.ca_files", file)?;
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

fn add_all(
    store: &mut X509StoreBuilder,
    setting: &'static str,
    path: &Path,
) -> Result<(), SmtpClientError> {
    let certificates = ConfiguredFile { setting, path }.certificates()?;
    for certificate in certificates {
        store.add_cert(certificate)?;
    }
    Ok(())
}
