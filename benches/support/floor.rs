//! The crypto floor: what signing and encrypting the entity costs by the library's plain calls, on one thread.

use anyhow::Context;
use openssl::{
    cms::{CMSOptions, CmsContentInfo},
    stack::Stack,
    symm::Cipher,
    x509::X509,
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

/// CPU seconds per call of [`sign_and_encrypt`] on this thread, over `calls`.
pub(crate) fn cpu_seconds(
    entity: &[u8],
    signer: &SigningIdentity,
    recipient: &X509,
    calls: u32,
) -> anyhow::Result<f64> {
    let before = own_thread_seconds()?;
    for _ in 0..calls {
        std::hint::black_box(sign_and_encrypt(entity, signer, recipient)?);
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
