//! Reads certificates, keys and other secrets from files, with limits, and secrets only where nobody else can read them
//! (KEY-1, T-31). Every adapter that a setting gives such files reads them here.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use openssl::{
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::SslAcceptorBuilder,
    x509::X509,
};
use zeroize::Zeroizing;

/// Largest file of certificates or a key, in octets: all CAs of the public net take a quarter of a megabyte.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Bits of a file's mode that others than its owner would profit from (T-31).
pub const MODE_OF_OTHERS: u32 = 0o077;
/// Most files of one folder.
const MAX_FILES: usize = 10_000;
/// Name endings of the files that are read in a folder.
const ENDINGS: [&str; 4] = ["pem", "crt", "cer", "der"];

/// Why a file could not be used. The texts say what would be accepted.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It is not there, or may not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Far larger than any certificate.
    #[error("is larger than {MAX_FILE_BYTES} octets; a file of certificates or a key is accepted")]
    TooLarge,
    /// Too many files.
    #[error("holds more than {MAX_FILES} files; put certificates into fewer files")]
    TooManyFiles,
    /// No certificate inside.
    #[error(
        "holds no certificate; PEM (-----BEGIN CERTIFICATE-----) or one in DER form is accepted"
    )]
    NoCertificate,
    /// No key inside, or an encrypted one without its pass phrase.
    #[error(
        "holds no private key that can be read; PEM is accepted (PKCS#8 or older), an encrypted one with its passphrase_file"
    )]
    NoKey,
    /// Others may read the key.
    #[error(
        "has mode {mode:04o}: a secret must be readable by its owner alone, such as 0600 (KEY-1, T-31)"
    )]
    Permissions {
        /// The mode's permission bits.
        mode: u32,
    },
    /// The security level of the listener is above it, or OpenSSL cannot make sense of it.
    #[error(
        "holds a certificate that cannot be shown to peers ({0}); RSA of 2048 bits or more, or a named curve, signed \
         with SHA-256 or better is accepted"
    )]
    Unfit(ErrorStack),
    /// The key belongs to another certificate.
    #[error(
        "is not the key of the certificate beside it ({0}); the private key that fits it is accepted"
    )]
    KeyMismatch(ErrorStack),
}

/// A file that a setting names, and why it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {} {fault}", path.display())]
pub struct ConfiguredFileError {
    /// The setting.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what would be accepted.
    pub fault: PemError,
}

/// A file by the setting that names it.
#[derive(Clone, Copy)]
pub struct ConfiguredFile<'a> {
    /// The setting, such as `smtp.server.key`.
    pub setting: &'static str,
    /// The file.
    pub path: &'a Path,
}

impl ConfiguredFile<'_> {
    /// The file, as the reason why something cannot start.
    pub fn error(self, fault: PemError) -> ConfiguredFileError {
        ConfiguredFileError {
            setting: self.setting,
            path: self.path.to_owned(),
            fault,
        }
    }

    /// All certificates of the file: at least one.
    pub fn certificates(self) -> Result<Vec<X509>, ConfiguredFileError> {
        certificates(self.path).map_err(|fault| self.error(fault))
    }

    /// The octets of the file, which nobody but its owner may read.
    pub fn secret(self) -> Result<Zeroizing<Vec<u8>>, ConfiguredFileError> {
        read_secret(self.path).map_err(|fault| self.error(fault))
    }
}

/// Gives a listener the certificate, with its chain, and the key that it shows to peers.
pub fn identify(
    acceptor: &mut SslAcceptorBuilder,
    certificate: ConfiguredFile<'_>,
    key: ConfiguredFile<'_>,
) -> Result<(), ConfiguredFileError> {
    // OpenSSL would not say that a file is missing.
    certificate.certificates()?;
    acceptor
        .set_certificate_chain_file(certificate.path)
        .map_err(|error| certificate.error(PemError::Unfit(error)))?;
    let private = private_key(key.path, None).map_err(|fault| key.error(fault))?;
    acceptor
        .set_private_key(&private)
        .and_then(|()| acceptor.check_private_key())
        .map_err(|error| key.error(PemError::KeyMismatch(error)))
}

/// All certificates of one file, in their order: PEM, or one in DER form.
pub fn certificates(path: &Path) -> Result<Vec<X509>, PemError> {
    let octets = read(&mut File::open(path)?)?;
    let certificates = if is_pem(&octets) {
        X509::stack_from_pem(&octets)
    } else {
        X509::from_der(&octets).map(|certificate| vec![certificate])
    };
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or(PemError::NoCertificate)
}

/// All certificates of a file, or of a folder's files by name, each with its file.
pub fn certificates_under(path: &Path) -> Result<Vec<(PathBuf, X509)>, (PathBuf, PemError)> {
    let mut found = Vec::new();
    for file in files_under(path, &ENDINGS).map_err(|error| (path.to_owned(), error))? {
        let certificates = certificates(&file).map_err(|error| (file.clone(), error))?;
        found.extend(certificates.into_iter().map(|one| (file.clone(), one)));
    }
    Ok(found)
}

/// The file itself, or the folder's files whose names end in one of `endings`, by name.
pub fn files_under(path: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, PemError> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let ending = file.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| endings.contains(&ending)) {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(PemError::TooManyFiles);
        }
    }
    files.sort();
    Ok(files)
}

/// A private key, encrypted by the pass phrase in `passphrase_file` or not at all.
pub fn private_key(path: &Path, passphrase_file: Option<&Path>) -> Result<PKey<Private>, PemError> {
    let pem = read_secret(path)?;
    let passphrase = passphrase_file.map(read_secret).transpose()?;
    let passphrase = passphrase
        .as_ref()
        .map_or(&[][..], |text| text.trim_ascii_end());
    // With a callback OpenSSL never asks at a terminal.
    PKey::private_key_from_pem_callback(&pem, |buffer| {
        let room = buffer.get_mut(..passphrase.len());
        Ok(room.map_or(0, |room| {
            room.copy_from_slice(passphrase);
            passphrase.len()
        }))
    })
    .map_err(|_| PemError::NoKey)
}

/// Reads a file that nobody but its owner can read; the mode is asked of the very file that is read.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(PemError::Permissions { mode });
    }
    read(&mut file).map(Zeroizing::new)
}

fn read(file: &mut File) -> Result<Vec<u8>, PemError> {
    let mut octets = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE_BYTES {
        return Err(PemError::TooLarge);
    }
    Ok(octets)
}

fn is_pem(octets: &[u8]) -> bool {
    const MARK: &[u8] = b"-----BEGIN";
    octets.windows(MARK.len()).any(|window| window == MARK)
}
