//! The crypto floor: what signing and encrypting the entity costs by the library's plain calls on memory, on one thread,
//! and in the other direction decrypting and verifying.

use std::ops::Range;

use anyhow::Context;
use openssl::{
    base64,
    cms::{CMSOptions, CmsContentInfo},
    stack::Stack,
    symm::Cipher,
    x509::{
        X509,
        store::{X509Store, X509StoreBuilder},
    },
};
use xdbridge::formats::smime::SigningIdentity;

/// Signs detached and encrypts, both in memory, and gives the size of the results.
pub(crate) fn sign_and_encrypt(
    entity: &[u8],
    signer: &SigningIdentity,
    recipient: &X509,
) -> anyhow::Result<usize> {
    let signature = CmsContentInfo::sign(
        Some(&signer.certificate),
        Some(&signer.key),
        None,
        Some(entity),
        CMSOptions::DETACHED | CMSOptions::BINARY,
    )?
    .to_der()?;
    let mut recipients = Stack::new()?;
    recipients.push(recipient.clone())?;
    let envelope = CmsContentInfo::encrypt(
        &recipients,
        entity,
        Cipher::aes_256_cbc(),
        CMSOptions::BINARY,
    )?
    .to_der()?;
    Ok(signature.len() + envelope.len())
}

/// A received mail, taken apart once: what its floor works on.
pub(crate) struct ReceivedMail {
    /// The envelope's DER.
    cms: Vec<u8>,
    /// Where the signed entity stands in what the envelope holds.
    signed: Range<usize>,
    /// The signature's DER.
    signature: Vec<u8>,
    roots: X509Store,
}

impl ReceivedMail {
    /// Takes a sealed body apart, base64 as it stands on the wire. `root` vouches for its signer.
    pub(crate) fn new(
        body: &str,
        recipient: &SigningIdentity,
        root: &X509,
    ) -> anyhow::Result<Self> {
        let cms = base64::decode_block(&body.replace("\r\n", ""))?;
        let content = decrypted(&cms, recipient)?;
        // Found from both ends: the document between may be of any size.
        let find = |octets: &[u8], text: &str| {
            memchr::memmem::find(octets, text.as_bytes()).context("not a multipart/signed")
        };
        let head = content.get(..1000.min(content.len())).unwrap_or_default();
        let blank = find(head, "\r\n\r\n")? + 4;
        let delimiter = head.get(blank..).unwrap_or_default();
        let delimiter = delimiter.get(..find(delimiter, "\r\n")?);
        let delimiter = std::str::from_utf8(delimiter.unwrap_or_default())?;
        let start = blank + delimiter.len() + 2;
        let middle = format!("\r\n{delimiter}\r\n");
        let end = memchr::memmem::rfind(&content, middle.as_bytes()).context("one part")?;
        let part = content.get(end + middle.len()..).unwrap_or_default();
        let part = part.get(find(part, "\r\n\r\n")? + 4..);
        let part = part.unwrap_or_default();
        let part = part.get(..find(part, "--")?).unwrap_or_default();
        let signature = base64::decode_block(&std::str::from_utf8(part)?.replace("\r\n", ""))?;
        let mut roots = X509StoreBuilder::new()?;
        roots.add_cert(root.clone())?;
        let mail = Self {
            cms,
            signed: start..end,
            signature,
            roots: roots.build(),
        };
        mail.decrypt_and_verify(recipient)?;
        Ok(mail)
    }

    /// Decrypts, verifies the signature and builds the signer's chain, all in memory.
    pub(crate) fn decrypt_and_verify(&self, recipient: &SigningIdentity) -> anyhow::Result<usize> {
        let content = decrypted(&self.cms, recipient)?;
        CmsContentInfo::from_der(&self.signature)?.verify(
            None,
            Some(&self.roots),
            Some(content.get(self.signed.clone()).unwrap_or_default()),
            None,
            CMSOptions::BINARY | CMSOptions::DETACHED,
        )?;
        Ok(content.len())
    }
}

fn decrypted(cms: &[u8], recipient: &SigningIdentity) -> anyhow::Result<Vec<u8>> {
    let envelope = CmsContentInfo::from_der(cms)?;
    Ok(envelope.decrypt(&recipient.key, &recipient.certificate)?)
}

/// CPU seconds of one call of `work` on this thread, over `calls`.
pub(crate) fn cpu_seconds(
    calls: u32,
    work: impl Fn() -> anyhow::Result<usize>,
) -> anyhow::Result<f64> {
    let before = own_thread_seconds()?;
    for _ in 0..calls {
        std::hint::black_box(work()?);
    }
    Ok((own_thread_seconds()? - before) / f64::from(calls))
}

/// CPU time of this thread (proc(5), `schedstat`: nanoseconds on the CPU).
fn own_thread_seconds() -> anyhow::Result<f64> {
    const PATH: &str = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(PATH).context(PATH)?;
    let nanoseconds: f64 = text.split(' ').next().context(PATH)?.parse()?;
    Ok(nanoseconds / 1e9)
}
