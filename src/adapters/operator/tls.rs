//! The files that protect the operators' listener.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use openssl::{
    error::ErrorStack,
    ssl::{SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslVersion},
};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Shortest token that is worth its name.
const MIN_TOKEN_CHARACTERS: usize = 32;

/// Bits of a file's mode that others than its owner would profit from (T-31).
const MODE_OF_OTHERS: u32 = 0o077;

/// Why a file of the operators' listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorFileError {
    /// It cannot be read.
    #[error("{setting}: cannot read {}", path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that others may read is none.
    #[error(
        "{setting}: {} may be read by others (mode {mode:03o}); what would be accepted: mode 600 or 400",
        path.display()
    )]
    Exposed {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// OpenSSL cannot use what is in it.
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
    /// The token could be guessed.
    #[error(
        "operator.token_file: the token in {} is too weak; what would be accepted: at least \
         {MIN_TOKEN_CHARACTERS} visible ASCII characters on one line",
        path.display()
    )]
    WeakToken {
        /// The file.
        path: PathBuf,
    },
}

/// What handshakes are made with. Clients bring a token, not a certificate.
pub(super) fn acceptor(
    certificate: &Path,
    key: &Path,
) -> Result<SslAcceptorBuilder, OperatorFileError> {
    const CERTIFICATE: &str = "operator.certificate";
    const KEY: &str = "operator.key";
    let unusable = |setting, path: &Path, expected| {
        let path = path.to_owned();
        move |source| OperatorFileError::Unusable {
            setting,
            path,
            expected,
            source,
        }
    };
    read(CERTIFICATE, certificate)?;
    refuse_exposed(KEY, key)?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())
        .and_then(|mut acceptor| {
            acceptor.set_min_proto_version(Some(SslVersion::TLS1_2))?;
            acceptor.set_certificate_chain_file(certificate)?;
            Ok(acceptor)
        })
        .map_err(unusable(CERTIFICATE, certificate, "PEM certificate"))?;
    acceptor
        .set_private_key_file(key, SslFiletype::PEM)
        .and_then(|()| acceptor.check_private_key())
        .map_err(unusable(
            KEY,
            key,
            "PEM private key that fits the certificate",
        ))?;
    Ok(acceptor)
}

/// The token in `path`, without the white space around it.
pub(super) fn token(path: &Path) -> Result<SecretString, OperatorFileError> {
    const TOKEN: &str = "operator.token_file";
    refuse_exposed(TOKEN, path)?;
    let octets = Zeroizing::new(read(TOKEN, path)?);
    let text = octets.trim_ascii();
    let token = str::from_utf8(text).ok().filter(|token| {
        token.len() >= MIN_TOKEN_CHARACTERS && token.bytes().all(|b| b.is_ascii_graphic())
    });
    token
        .map(SecretString::from)
        .ok_or_else(|| OperatorFileError::WeakToken {
            path: path.to_owned(),
        })
}

fn refuse_exposed(setting: &'static str, path: &Path) -> Result<(), OperatorFileError> {
    let metadata = fs::metadata(path).map_err(|source| OperatorFileError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(OperatorFileError::Exposed {
            setting,
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, OperatorFileError> {
    fs::read(path).map_err(|source| OperatorFileError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}
