//! TLS of the XDR listener: mutual, 1.2 or later. A client without a certificate, or with one that ends in none of
//! ours, fails in the handshake (NHIN-51, NHIN-61).

use std::path::PathBuf;

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
    adapters::pem_files::{self, ConfiguredFile, ConfiguredFileError},
    flows::{measures, ports::TlsPeer},
    formats::ids::CertificateFingerprint,
};

/// The security level of OpenSSL that refuses RSA below 2048 bits and SHA-1 signatures.
const SECURITY_LEVEL: u32 = 2;

/// Why the certificates of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
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
    let named = |setting, path| ConfiguredFile { setting, path };
    pem_files::identify(
        &mut acceptor,
        named("soap.server.certificate", &config.certificate),
        named("soap.server.key", &config.key),
    )?;
    demand_client_certificate(&mut acceptor, &config.client_cas)?;

    // A resumed session would skip the client's certificate: it is looked at on every connection.
    acceptor.set_session_cache_mode(SslSessionCacheMode::OFF);
    acceptor.set_options(SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION);
    acceptor.set_num_tickets(0)?;
    Ok(acceptor)
}

fn demand_client_certificate(
    acceptor: &mut SslAcceptorBuilder,
    files: &[PathBuf],
) -> Result<(), TlsError> {
    let mut store = X509StoreBuilder::new()?;
    // What is configured is where a chain may end, be it a root, an intermediate or a partner's own certificate.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let mut names = Stack::new()?;
    let mut count = 0;
    for path in files {
        let setting = "soap.server.client_cas";
        for ca in (ConfiguredFile { setting, path }).certificates()? {
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
