//! TLS of the SMTP listener: 1.2 or later, authenticated ciphers with forward secrecy (TLS-1). A client certificate is
//! asked for and looked at by nobody but the audit (TLS-3).

use openssl::{
    error::ErrorStack,
    ssl::{
        SslAcceptor, SslMethod, SslOptions, SslRef, SslSessionCacheMode, SslVerifyMode, SslVersion,
    },
};

use super::settings::SmtpServerConfig;
use crate::{
    adapters::pem_files::{self, ConfiguredFile, ConfiguredFileError},
    flows::ports::SmtpTls,
    formats::ids::CertificateFingerprint,
};

/// The security level of OpenSSL that refuses RSA below 2048 bits and SHA-1 signatures.
const SECURITY_LEVEL: u32 = 2;
/// What TLS 1.2 may use: ECDHE with AEAD. TLS 1.3 has nothing else.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

/// Why the certificate of the listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpTlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
    /// OpenSSL refuses a setting that does not come from a file.
    #[error("OpenSSL cannot be set up")]
    Setup(#[from] ErrorStack),
}

/// What handshakes are made with, from the files as they are now.
pub(super) fn acceptor(config: &SmtpServerConfig) -> Result<SslAcceptor, SmtpTlsError> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    acceptor.set_security_level(SECURITY_LEVEL);
    acceptor.set_cipher_list(CIPHERS)?;

    let named = |setting, path| ConfiguredFile { setting, path };
    pem_files::identify(
        &mut acceptor,
        named("smtp.server.certificate", &config.certificate),
        named("smtp.server.key", &config.key),
    )?;

    // Nobody vouches for a client, so any certificate will do, and none as well.
    acceptor.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    // A resumed session would keep the client's certificate from the audit.
    acceptor.set_session_cache_mode(SslSessionCacheMode::OFF);
    acceptor.set_options(SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION);
    acceptor.set_num_tickets(0)?;
    Ok(acceptor.build())
}

/// What a finished handshake tells.
pub(super) fn facts(ssl: &SslRef) -> SmtpTls {
    let certificate = ssl
        .peer_certificate()
        .and_then(|certificate| certificate.to_der().ok());
    SmtpTls {
        version: ssl.version_str().to_owned(),
        cipher: ssl
            .current_cipher()
            .map_or("?", |cipher| cipher.name())
            .to_owned(),
        certificate: certificate.as_deref().map(CertificateFingerprint::of_der),
    }
}
