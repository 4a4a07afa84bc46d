//! The files that protect the operators' listener.

use std::path::{Path, PathBuf};

use openssl::{
    error::ErrorStack,
    ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslVersion},
};
use secrecy::SecretString;

use crate::adapters::pem_files::{self, ConfiguredFile, ConfiguredFileError};

/// Shortest token that is worth its name.
const MIN_TOKEN_CHARACTERS: usize = 32;

/// Why a file of the operators' listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorFileError {
    /// As every file that a setting names.
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
    /// OpenSSL cannot be set up.
    #[error("TLS of the operators' listener cannot be set up")]
    Setup(#[from] ErrorStack),
    /// The token could be guessed.
    #[error(
        "{setting}: the token in {} is too weak; what would be accepted: at least \
         {MIN_TOKEN_CHARACTERS} visible ASCII characters on one line",
        path.display()
    )]
    WeakToken {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// What handshakes are made with. Clients bring a token, not a certificate.
pub(super) fn acceptor(
    certificate: &Path,
    key: &Path,
) -> Result<SslAcceptorBuilder, OperatorFileError> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    let named = |setting, path| ConfiguredFile { setting, path };
    pem_files::identify(
        &mut acceptor,
        named("operator.certificate", certificate),
        named("operator.key", key),
    )?;
    Ok(acceptor)
}

/// The token in `path`, without the white space around it.
pub(super) fn token(setting: &'static str, path: &Path) -> Result<SecretString, OperatorFileError> {
    let octets = ConfiguredFile { setting, path }.secret()?;
    strong_token(&octets)
        .map(SecretString::from)
        .ok_or_else(|| OperatorFileError::WeakToken {
            setting,
            path: path.to_owned(),
        })
}

/// The token that a file holds, without the white space around it, if it could not be guessed.
pub fn strong_token(octets: &[u8]) -> Option<&str> {
    let token = str::from_utf8(octets.trim_ascii()).ok()?;
    let is_strong =
        token.len() >= MIN_TOKEN_CHARACTERS && token.bytes().all(|b| b.is_ascii_graphic());
    is_strong.then_some(token)
}
