//! A Direct peer whose S/MIME is the machine's own `openssl cms`.

use std::{fmt::Write as _, fs, path::PathBuf};

use openssl::x509::X509;
use xdbridge::{
    adapters::clock::SystemClock, flows::ports::Clock, formats::smime::SigningIdentity,
};

use super::{
    folder::TestFolder,
    receiving_ground::{ADA, SENDER},
    tools::run,
};

/// Its desk: a folder with the files that openssl reads and writes.
pub(crate) struct OpensslPeer {
    folder: TestFolder,
}

impl OpensslPeer {
    pub(crate) fn new() -> Self {
        Self {
            folder: TestFolder::new(),
        }
    }

    /// Puts a file on the desk and gives its path.
    pub(crate) fn put(&self, name: &str, octets: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, octets).unwrap();
        text(path)
    }

    /// `openssl cms -sign` by each of `signers`; the first comes with `options` of its own.
    pub(crate) fn sign(
        &self,
        entity: impl AsRef<[u8]>,
        signers: &[&SigningIdentity],
        options: &[&str],
    ) -> Vec<u8> {
        let entity = self.put("entity.eml", entity);
        let mut arguments = words("cms -sign -outform SMIME -in");
        arguments.extend([entity, "-out".into(), text(self.path("signed.eml"))]);
        for (number, signer) in signers.iter().enumerate() {
            let certificate = signer.certificate.to_pem().unwrap();
            let key = signer.key.private_key_to_pem_pkcs8().unwrap();
            let certificate = self.put(&format!("signer{number}.pem"), certificate);
            let key = self.put(&format!("signer{number}.key"), key);
            arguments.extend(["-signer".into(), certificate, "-inkey".into(), key]);
            if number == 0 {
                arguments.extend(options.iter().map(|option| (*option).to_owned()));
            }
        }
        self.make(&arguments, "signed.eml")
    }

    /// `openssl cms -encrypt` to each of `recipients`, all with `options`; the first of them is the cipher.
    pub(crate) fn encrypt(
        &self,
        content: impl AsRef<[u8]>,
        recipients: &[&X509],
        options: &[&str],
    ) -> Vec<u8> {
        let content = self.put("content.eml", content);
        let (cipher, options) = options.split_first().unwrap();
        let mut arguments = words("cms -encrypt -binary -outform SMIME -in");
        arguments.extend([content, "-out".into(), text(self.path("sealed.eml"))]);
        arguments.push((*cipher).to_owned());
        for (number, recipient) in recipients.iter().enumerate() {
            let file = self.put(&format!("to{number}.pem"), recipient.to_pem().unwrap());
            arguments.extend(["-recip".into(), file]);
            arguments.extend(options.iter().map(|option| (*option).to_owned()));
        }
        self.make(&arguments, "sealed.eml")
    }

    /// Signs, encrypts to one, and puts the outer header before it.
    pub(crate) fn seal(
        &self,
        entity: impl AsRef<[u8]>,
        signers: &[&SigningIdentity],
        to: &X509,
    ) -> Vec<u8> {
        let signed = self.sign(entity, signers, &["-binary", "-md", "sha256"]);
        self.enclose(signed, to)
    }

    /// Encrypts what was signed, or was not, and puts the outer header before it.
    pub(crate) fn enclose(&self, content: impl AsRef<[u8]>, to: &X509) -> Vec<u8> {
        mailed(&self.encrypt(content, &[to], &["-aes-256-cbc"]))
    }

    fn make(&self, arguments: &[String], file: &str) -> Vec<u8> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run("openssl", &arguments);
        over_smtp(&fs::read(self.path(file)).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

/// Makes every line end CRLF, as a mail system does with openssl's wrapper (SM-73).
pub(crate) fn over_smtp(mail: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(mail.len() + mail.len() / 32);
    let mut last = 0;
    for octet in mail {
        if *octet == b'\n' && last != b'\r' {
            made.push(b'\r');
        }
        made.push(*octet);
        last = *octet;
    }
    made
}

/// The sender's outer header before an S/MIME entity.
pub(crate) fn mailed(entity: &[u8]) -> Vec<u8> {
    mailed_by(SENDER, &[ADA], entity)
}

/// The same from and to somebody else.
pub(crate) fn mailed_by(from: &str, to: &[&str], entity: &[u8]) -> Vec<u8> {
    let mut header = String::new();
    let date = SystemClock.now().strftime("%a, %d %b %Y %H:%M:%S +0000");
    let _ = write!(
        header,
        "From: {from}\r\nTo: {}\r\nDate: {date}\r\nSubject: Encrypted message\r\n\
         Message-ID: <outer.{}@direct.harbor.example>\r\n",
        to.join(", "),
        number(),
    );
    [header.as_bytes(), entity].concat()
}

/// Something that no other mail has.
fn number() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed).to_string()
}

/// The message in an entity that wraps it.
pub(crate) fn wrapped(message: &str) -> String {
    format!("Content-Type: message/rfc822\r\n\r\n{message}")
}
