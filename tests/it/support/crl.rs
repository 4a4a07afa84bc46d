//! Revocation lists as a CA makes them: by the machine's own `openssl ca -gencrl`.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use openssl::x509::{X509, X509Ref};
use xdbridge::{
    app::{
        config::Config,
        pki::{Authority, KeyKind, Profile},
    },
    formats::smime::SigningIdentity,
};

use super::{
    bridge::{MEI, TestBridge, now, pki},
    folder::TestFolder,
    tools::run,
    wait_until,
};

const REFRESH: Duration = Duration::from_millis(20);

/// A list that is to be made.
pub(crate) struct CrlDraft<'a> {
    issuer: &'a Authority,
    entries: Vec<(String, &'static str)>,
    this_update: Timestamp,
    next_update: Timestamp,
    extensions: String,
}

/// A list of nobody by this CA, from an hour ago, good for a day.
pub(crate) fn crl_of(issuer: &Authority) -> CrlDraft<'_> {
    CrlDraft {
        issuer,
        entries: Vec::new(),
        this_update: now() - SignedDuration::from_hours(1),
        next_update: now() + SignedDuration::from_hours(24),
        extensions: String::new(),
    }
}

impl CrlDraft<'_> {
    pub(crate) fn revoking(self, certificate: &X509) -> Self {
        self.with_reason(certificate, "keyCompromise")
    }

    /// One more entry; the reason is spelled as openssl does.
    pub(crate) fn with_reason(mut self, certificate: &X509, reason: &'static str) -> Self {
        self.entries.push((serial(certificate), reason));
        self
    }

    /// A time in hours from now for thisUpdate and nextUpdate.
    pub(crate) fn hours(mut self, this_update: i64, next_update: i64) -> Self {
        self.this_update = now() + SignedDuration::from_hours(this_update);
        self.next_update = now() + SignedDuration::from_hours(next_update);
        self
    }

    /// Good for so many minutes from now.
    pub(crate) fn minutes_left(mut self, minutes: i64) -> Self {
        self.next_update = now() + SignedDuration::from_mins(minutes);
        self
    }

    /// With this CRL number, below 128.
    pub(crate) fn number(self, number: u8) -> Self {
        self.extension(&format!("2.5.29.20 = DER:0201{number:02X}"))
    }

    /// An extension, as a line of openssl's configuration.
    pub(crate) fn extension(mut self, line: &str) -> Self {
        writeln!(self.extensions, "{line}").unwrap();
        self
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.made("PEM")
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.made("DER")
    }

    fn made(&self, form: &str) -> Vec<u8> {
        let folder = TestFolder::new();
        let path = |name: &str| {
            folder
                .path()
                .join(name)
                .into_os_string()
                .into_string()
                .unwrap()
        };
        let asn1 = |time: Timestamp| time.strftime("%Y%m%d%H%M%SZ").to_string();
        // openssl's index holds times with two digits of the year.
        let revoked_at = self.this_update.strftime("%y%m%d%H%M%SZ").to_string();
        let mut index = String::new();
        for (serial, reason) in &self.entries {
            writeln!(
                index,
                "R\t361231235959Z\t{revoked_at},{reason}\t{serial}\tunknown\t/CN={serial}"
            )
            .unwrap();
        }
        fs::write(path("index.txt"), index).unwrap();
        fs::write(path("ca.pem"), self.issuer.certificate.to_pem().unwrap()).unwrap();
        let key = self.issuer.key.private_key_to_pem_pkcs8().unwrap();
        fs::write(path("ca.key"), key).unwrap();
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {}\ndefault_md = sha256\ncrl_extensions = more\n\
             [more]\nauthorityKeyIdentifier = keyid\n{}",
            path("index.txt"),
            self.extensions
        );
        fs::write(path("ca.conf"), config).unwrap();
        let (start, end) = (asn1(self.this_update), asn1(self.next_update));
        let (config, certificate, key) = (path("ca.conf"), path("ca.pem"), path("ca.key"));
        let (made, converted) = (path("made.pem"), path("made"));
        let arguments = [
            ["ca", "-gencrl"].as_slice(),
            &["-config", &config, "-cert", &certificate, "-keyfile", &key],
            &[
                "-crl_lastupdate",
                &start,
                "-crl_nextupdate",
                &end,
                "-out",
                &made,
            ],
        ];
        run("openssl", &arguments.concat());
        run(
            "openssl",
            &["crl", "-in", &made, "-outform", form, "-out", &converted],
        );
        fs::read(converted).unwrap()
    }
}

fn serial(certificate: &X509Ref) -> String {
    let number = certificate.serial_number().to_bn().unwrap();
    number.to_hex_str().unwrap().to_string()
}

/// A certificate of Mei's by this CA.
pub(crate) fn mei_of(authority: &Authority) -> SigningIdentity {
    let mut profile = Profile::address(&MEI.parse().unwrap(), now());
    profile.key = KeyKind::P256;
    authority.issue(&profile).unwrap()
}

/// Sets the folder of lists of the domain that the tests' bridge sends and receives for.
pub(crate) fn by_lists_in(folder: &Path) -> impl FnOnce(&mut Config) + use<> {
    let folder = folder.to_owned();
    move |config| {
        config.certificates.crl_refresh = REFRESH;
        config.certificates.domains[0].crls = vec![folder];
    }
}

/// A first list in the folder: the tests' CA has revoked nobody yet.
pub(crate) fn nobody_revoked(folder: &Path) {
    place(&folder.join("first.pem"), &crl_of(&pki().authority).pem());
}

/// Puts a list into the folder at one stroke, and waits until the bridge goes by it.
pub(crate) fn put(bridge: &TestBridge, folder: &Path, name: &str, octets: &[u8]) {
    let path = folder.join(name);
    place(&path, octets);
    let measure = format!("xdbridge_crl_days_left{{file=\"{}\"}}", path.display());
    wait_until("the list is in use", || {
        bridge.measures().contains(&measure)
    });
}

/// Puts a file there at one stroke, as an operator's timer does.
pub(crate) fn place(path: &Path, octets: &[u8]) {
    fs::write(path.with_extension("new"), octets).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}
