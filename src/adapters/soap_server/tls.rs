//! TLS of the XDR listener: mutual, 1.2 or later. A client without a certificate, or with one that ends in none of
//! ours, fails in the handshake (NHIN-51, NHIN-61).

use std::{fs, os::unix::fs::PermissionsExt, path::Path, path::PathBuf};

use bytes::Bytes;
use openssl::{
    error::ErrorStack,
    ssl::{
        SslAcceptor, SslAcceptorBuilder, SslMethod, SslOptions, SslRef, SslSessionCacheMode,
        SslVerifyMode, SslVersion,
    },
    stack::Stack,
    x509::{X509, store::X509StoreBuilder, verify::X509VerifyFlags},
};
use tracing::info;

use super::settings::SoapServerConfig;
use crate::{
    flows::{measures, ports::TlsPeer},
    formats::ids::CertificateFingerprint,
};

/// Bits of a key file's mode that others than its owner would profit from (T-31).
const MODE_OF_OTHERS: u32 = 0o077;

/// The security level of OpenSSL that refuses RSA below 2048 bits and SHA-1 signatures.
const SECURITY_LEVEL: u32 = 2;

/// Why the certificates of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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
        "{setting}: {} may be read by others (mode {mode:03o}); what would be accepted: mode 600 or 400",
        path.display()
    )]
    KeyExposed {
        /// The setting that names the file.
        setting: &'static str,
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
    /// No client could ever connect.
    #[error("soap.server.client_cas names no certificate; what would be accepted: at least one CA")]
    NoClientCa,
    /// OpenSSL refuses a setting that does not come from a file.
    #[error("OpenSSL cannot be set up")]
    Setup(#[from] ErrorStack),
}

/// What the handshake of the listener is made with.
pub(super) fn acceptor(config: &SoapServerConfig) -> Result<SslAcceptorBuilder, TlsError> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    acceptor.set_security_level(SECURITY_LEVEL);
    identify_ourselves(&mut acceptor, config)?;
    demand_client_certificate(&mut acceptor, &config.client_cas)?;

    // A resumed session would skip the client's certificate: it is looked at on every connection.
    acceptor.set_session_cache_mode(SslSessionCacheMode::OFF);
    acceptor.set_options(SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION);
    acceptor.set_num_tickets(0)?;
    Ok(acceptor)
}

fn identify_ourselves(
    acceptor: &mut SslAcceptorBuilder,
    config: &SoapServerConfig,
) -> Result<(), TlsError> {
    const CERTIFICATE: &str = "soap.server.certificate";
    const KEY: &str = "soap.server.key";
    read(CERTIFICATE, &config.certificate)?;
    let unusable = |setting, path: &Path, expected| {
        let path = path.to_owned();
        move |source| TlsError::Unusable {
            setting,
            path,
            expected,
            source,
        }
    };
    acceptor
        .set_certificate_chain_file(&config.certificate)
        .map_err(unusable(
            CERTIFICATE,
            &config.certificate,
            "PEM certificate (RSA of 2048 bits or more, or a named curve, signed with SHA-256 or better)",
        ))?;
    let key_error = |source| TlsError::Unreadable {
        setting: KEY,
        path: config.key.clone(),
        source,
    };
    let mode = fs::metadata(&config.key)
        .map_err(key_error)?
        .permissions()
        .mode()
        & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(TlsError::KeyExposed {
            setting: KEY,
            path: config.key.clone(),
            mode,
        });
    }
    acceptor
        .set_private_key_file(&config.key, openssl::ssl::SslFiletype::PEM)
        .and_then(|()| acceptor.check_private_key())
        .map_err(unusable(
            KEY,
            &config.key,
            "PEM private key that fits the certificate",
        ))
}

fn demand_client_certificate(
    acceptor: &mut SslAcceptorBuilder,
    files: &[PathBuf],
) -> Result<(), TlsError> {
    const CLIENT_CAS: &str = "soap.server.client_cas";
    let mut store = X509StoreBuilder::new()?;
    // What is configured is where a chain may end, be it a root, an intermediate or a partner's own certificate.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let mut names = Stack::new()?;
    let mut count = 0;
    for path in files {
        let unusable = |source| TlsError::Unusable {
            setting: CLIENT_CAS,
            path: path.clone(),
            expected: "PEM certificate",
            source,
        };
        for ca in X509::stack_from_pem(&read(CLIENT_CAS, path)?).map_err(unusable)? {
            names.push(ca.subject_name().to_owned()?)?;
            store.add_cert(ca)?;
            count += 1;
        }
    }
    if count == 0 {
        return Err(TlsError::NoClientCa);
    }
    acceptor.set_cert_store(store.build());
    acceptor.set_client_ca_list(names);
    let demand = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    acceptor.set_verify_callback(demand, |is_trusted, context| {
        if !is_trusted {
            metrics::counter!(measures::CLIENT_CERTIFICATES_REFUSED).increment(1);
            let reason = context.error().error_string();
            info!(
                reason,
                "refused a client certificate in the handshake: {reason}"
            );
        }
        is_trusted
    });
    Ok(())
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

/// The peer, as the finished handshake tells.
pub(super) fn peer_of(ssl: &SslRef, address: String) -> TlsPeer {
    let der = ssl
        .peer_certificate()
        .and_then(|certificate| certificate.to_der().ok());
    let issuers = ssl.verified_chain().map_or_else(Vec::new, |chain| {
        chain
            .iter()
            .skip(1)
            .filter_map(|issuer| issuer.to_der().ok().map(Bytes::from))
            .collect()
    });
    TlsPeer {
        certificate: der.as_deref().map(CertificateFingerprint::of_der),
        certificate_der: der.map(Bytes::from),
        issuers_der: issuers,
        address,
    }
}

/// The subject of the peer's certificate, such as `CN=gateway.elm.example, O=Elm Clinic`, for the audit.
pub(super) fn subject(peer: &TlsPeer) -> String {
    let Some(Ok(certificate)) = peer.certificate_der.as_deref().map(X509::from_der) else {
        return String::new();
    };
    let entries = certificate.subject_name().entries();
    let entries = entries.filter_map(|entry| {
        let name = entry.object().nid().short_name().ok()?;
        Some(format!("{name}={}", entry.data().to_string().ok()?))
    });
    entries.collect::<Vec<_>>().join(", ")
}
