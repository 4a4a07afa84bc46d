//! The files that the configuration names: are they there, readable, private where they must be, and what they are
//! said to be?

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use jiff::Timestamp;
use openssl::{
    pkey::{PKey, Private},
    x509::X509,
};
use zeroize::Zeroizing;

use super::Config;
use crate::{
    adapters::{
        certificates::CertificateFiles,
        operator::strong_token,
        pem_files::{MAX_FILE_BYTES, MODE_OF_OTHERS},
        store::StoreKind,
    },
    formats::smime::certificate::{self, Validity},
};

/// Everything that is wrong with the files of `config`, whose paths are resolved: key, file, and what would be
/// accepted.
pub(super) fn problems(config: &Config, now: Timestamp) -> Vec<String> {
    let mut check = Check {
        problems: Vec::new(),
        now,
    };
    let server = &config.soap.server;
    check.identity(
        ("soap.server.certificate", &server.certificate),
        ("soap.server.key", &server.key),
    );
    check.all_certificates("soap.server.client_cas", &server.client_cas);
    if let Some(server) = &config.smtp.server {
        check.identity(
            ("smtp.server.certificate", &server.certificate),
            ("smtp.server.key", &server.key),
        );
    }
    if let Some(client) = &config.soap.client {
        check.identity(
            ("soap.client.certificate", &client.certificate),
            ("soap.client.key", &client.key),
        );
        check.all_certificates("soap.client.ca_files", &client.ca_files);
    }
    check.all_certificates("smtp.client.ca_files", &config.smtp.client.ca_files);
    check.all_certificates("fetch.ca_files", &config.fetch.ca_files);
    let control = config.control.problems(&config.store.path);
    check.problems.extend(control);
    let operator = &config.operator;
    if let (Some(certificate), Some(key)) = (&operator.certificate, &operator.key) {
        check.identity(("operator.certificate", certificate), ("operator.key", key));
    }
    let mut tokens = Vec::new();
    if let Some(token) = &operator.token_file {
        tokens.extend(check.token("operator.token_file", token));
    }
    for (index, token) in operator.partner_tokens.iter().enumerate() {
        let key = format!("operator.partner_tokens[{index}].file");
        let Some(found) = check.token(&key, &token.file) else {
            continue;
        };
        if tokens.contains(&found) {
            check.problem(&key, &token.file, "a token that no other file holds");
        }
        tokens.push(found);
    }
    for (index, path) in config.store.key_files.iter().enumerate() {
        check.store_key(&format!("store.key_files[{index}]"), path);
    }
    check.data_directory("store.path", &config.store.path);
    if config.store.kind == StoreKind::Postgres {
        let database = &config.store.postgres;
        if let Some(path) = &database.password_file {
            check.read_secret("store.postgres.password_file", path);
        }
        if let Some(path) = &database.ca_file {
            check.all_certificates("store.postgres.ca_file", std::slice::from_ref(path));
        }
    }
    // Read as `serve` reads them: each file, each key against its certificate, each certificate against its domain.
    if let Err(faults) = CertificateFiles::load(config.certificates.clone(), now) {
        let told = faults.iter().map(|fault| format!("certificates: {fault}"));
        check.problems.extend(told);
    }
    check.problems
}

pub(super) struct Check {
    pub(super) problems: Vec<String>,
    now: Timestamp,
}

impl Check {
    fn problem(&mut self, key: &str, path: &Path, accepted: &str) {
        self.problems
            .push(format!("{key}: {}: {accepted}", path.display()));
    }

    /// The octets of a file, or a problem.
    fn read(&mut self, key: &str, path: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let is_small =
            fs::metadata(path).map(|data| data.is_file() && data.len() <= MAX_FILE_BYTES);
        match is_small.and_then(|is_small| Ok((is_small, fs::read(path)?))) {
            Ok((true, octets)) => Some(Zeroizing::new(octets)),
            Ok((false, _)) => {
                self.problem(key, path, "a file of 8 MiB at most");
                None
            }
            Err(error) => {
                self.problem(key, path, &format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// The octets of a file that nobody else may read, or a problem.
    fn read_secret(&mut self, key: &str, path: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let octets = self.read(key, path)?;
        let mode = fs::metadata(path).map_or(0, |data| data.permissions().mode());
        if mode & MODE_OF_OTHERS != 0 {
            let accepted = format!(
                "others may read it (mode {:03o}); mode 600 or 400",
                mode & 0o777
            );
            self.problem(key, path, &accepted);
        }
        Some(octets)
    }

    /// The certificates of a PEM file, or a problem.
    pub(super) fn certificates(&mut self, key: &str, path: &Path) -> Vec<X509> {
        let Some(octets) = self.read(key, path) else {
            return Vec::new();
        };
        let found = X509::stack_from_pem(&octets).unwrap_or_default();
        if found.is_empty() {
            self.problem(key, path, "holds no PEM certificate");
        }
        found
    }

    fn all_certificates(&mut self, key: &str, paths: &[std::path::PathBuf]) {
        for (index, path) in paths.iter().enumerate() {
            self.certificates(&format!("{key}[{index}]"), path);
        }
    }

    /// A certificate that is valid now, and the private key that fits it.
    pub(super) fn identity(&mut self, certificate: (&str, &Path), key: (&str, &Path)) {
        let chain = self.certificates(certificate.0, certificate.1);
        let own = chain.first();
        match own.map(|own| certificate::validity(own, self.now)) {
            None | Some(Validity::Valid) => {}
            Some(Validity::NotYet) => {
                self.problem(
                    certificate.0,
                    certificate.1,
                    "the certificate is not valid yet",
                );
            }
            Some(Validity::Expired) => {
                self.problem(certificate.0, certificate.1, "the certificate has expired");
            }
        }
        let Some(octets) = self.read_secret(key.0, key.1) else {
            return;
        };
        // An empty passphrase: OpenSSL must not ask on the terminal for one.
        match PKey::<Private>::private_key_from_pem_passphrase(&octets, b"") {
            Err(_) => self.problem(
                key.0,
                key.1,
                "holds no PEM private key without a passphrase",
            ),
            Ok(private) => {
                let public = own.and_then(|own| own.public_key().ok());
                if public.is_some_and(|public| !private.public_eq(&public)) {
                    let accepted = format!("the key of {}", certificate.1.display());
                    self.problem(key.0, key.1, &accepted);
                }
            }
        }
    }

    /// The token in a file, or a problem.
    fn token(&mut self, key: &str, path: &Path) -> Option<Zeroizing<String>> {
        let octets = self.read_secret(key, path)?;
        let token = strong_token(&octets).map(|token| Zeroizing::new(token.to_owned()));
        if token.is_none() {
            let accepted = "at least 32 visible ASCII characters on one line";
            self.problem(key, path, accepted);
        }
        token
    }

    fn store_key(&mut self, key: &str, path: &Path) {
        let Some(octets) = self.read_secret(key, path) else {
            return;
        };
        let text = octets.trim_ascii();
        let is_hex = text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit);
        let is_base64 = || {
            let decoded = base64_simd::STANDARD
                .decode_to_vec(text)
                .map(Zeroizing::new);
            decoded.is_ok_and(|octets| octets.len() == 32)
        };
        if !is_hex && !is_base64() {
            self.problem(key, path, "32 octets as 64 hexadecimal digits or as base64");
        }
    }

    /// A directory of ours, or one that can be made.
    fn data_directory(&mut self, key: &str, path: &Path) {
        match fs::metadata(path) {
            Ok(data) if !data.is_dir() => self.problem(key, path, "a directory"),
            Ok(data) if data.mode() & MODE_OF_OTHERS != 0 => {
                let accepted = format!(
                    "others may enter it (mode {:03o}); mode 700",
                    data.mode() & 0o777
                );
                self.problem(key, path, &accepted);
            }
            Ok(_) => {}
            Err(_) => {
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                if !parent.unwrap_or(Path::new(".")).is_dir() {
                    self.problem(
                        key,
                        path,
                        "a directory, or a new one in a directory that is there",
                    );
                }
            }
        }
    }
}
