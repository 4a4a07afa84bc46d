//! TLS of the SMTP listener: 1.2 or later, authenticated ciphers with forward secrecy (TLS-1). A client certificate is
//! asked for and looked at by nobody but the audit (TLS-3).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use openssl::{
    error::ErrorStack,
    ssl::{
        SslAcceptor, SslFiletype, SslMethod, SslOptions, SslRef, SslSessionCacheMode,
        SslVerifyMode, SslVersion,
    },
};

use super::settings::SmtpServerConfig;
use crate::{flows::ports::SmtpTls, formats::ids::CertificateFingerprint};

/// Bits of a key file's mode that others than its owner would profit from (T-31).
const MODE_OF_OTHERS: u32 = 0o077;
/// The security level of OpenSSL that refuses RSA below 2048 bits and SHA-1 signatures.
const SECURITY_LEVEL: u32 = 2;
/// What TLS 1.2 may use: ECDHE with AEAD. TLS 1.3 has nothing else.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

/// Why the certificate of the listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpTlsError {
    /// A file cannot be read.
    #[error("{setting}: cannot read {}", path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file may be read by others.
    #[error(
        "smtp.server.key: {} may be read by others (mode {mode:03o}); what would be accepted: mode 600 or 400",
        path.display()
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds nothing that OpenSSL can use.
    #[error("{setting}: {} holds no usable {expected}", path.display())]
    Unusable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// Why.
        source: ErrorStack,
    },
    /// OpenSSL refuses a setting that does not come from a file.
    #[error("OpenSSL cannot be set up")]
    Setup(#[from] ErrorStack),
}

/// What handshakes are made with, from the files as they are now.
pub(super) fn acceptor(config: &SmtpServerConfig) -> Result<SslAcceptor, SmtpTlsError> {
    const CERTIFICATE: &str = "smtp.server.certificate";
    const KEY: &str = "smtp.server.key";
    let unreadable = |setting, path: &Path| {
        let path = path.to_owned();
        move |source| SmtpTlsError::Unreadable {
            setting,
            path,
            source,
        }
    };
    let unusable = |setting, path: &Path, expected| {
        let path = path.to_owned();
        move |source| SmtpTlsError::Unusable {
            setting,
            path,
            expected,
            source,
        }
    };
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    acceptor.set_security_level(SECURITY_LEVEL);
    acceptor.set_cipher_list(CIPHERS)?;

    // OpenSSL would not say which file is missing.
    fs::metadata(&config.certificate).map_err(unreadable(CERTIFICATE, &config.certificate))?;
    acceptor
        .set_certificate_chain_file(&config.certificate)
        .map_err(unusable(
            CERTIFICATE,
            &config.certificate,
            "PEM certificate (RSA of 2048 bits or more, or a named curve, signed with SHA-256 or better)",
        ))?;
    let metadata = fs::metadata(&config.key).map_err(unreadable(KEY, &config.key))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(SmtpTlsError::KeyExposed {
            path: config.key.clone(),
            mode,
        });
    }
    acceptor
        .set_private_key_file(&config.key, SslFiletype::PEM)
        .and_then(|()| acceptor.check_private_key())
        .map_err(unusable(
            KEY,
            &config.key,
            "PEM private key that fits the certificate",
        ))?;

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
