//! Sealing in one streaming pass, beside the library's plain calls on memory: `cargo bench --bench smime`.

mod support;

use divan::{Bencher, counter::BytesCount};
use xdbridge::{
    adapters::clock::SystemClock,
    app::pki::{Authority, Profile},
    flows::ports::Clock,
    formats::smime::{self, SealOptions, SigningIdentity},
};

use support::{
    documents::{Kind, RECIPIENT, SENDER, Sample},
    floor,
};

fn main() {
    divan::main();
}

/// Octets of the document inside the entity.
const SIZES: [usize; 3] = [10_000, 1_000_000, 25_000_000];

/// An entity with a document of this size, the sender and the recipient.
fn ground(bytes: usize) -> anyhow::Result<(Vec<u8>, SigningIdentity, SigningIdentity)> {
    let now = SystemClock.now();
    let authority = Authority::root("bench CA", now)?;
    let entity = Sample::new(Kind::Incompressible, bytes)?.entity()?;
    let sender = authority.issue(&Profile::address(&SENDER.parse()?, now))?;
    let recipient = authority.issue(&Profile::address(&RECIPIENT.parse()?, now))?;
    Ok((entity, sender, recipient))
}

#[divan::bench(args = SIZES)]
fn seal_streaming(bencher: Bencher<'_, '_>, bytes: usize) {
    let (entity, sender, recipient) = ground(bytes).expect("keys and an entity can be made");
    let signers = [sender];
    let recipients = [recipient.certificate];
    let options = SealOptions::default();
    bencher.counter(BytesCount::new(entity.len())).bench(|| {
        smime::seal(
            &mut std::io::sink(),
            &signers,
            &recipients,
            &options,
            SystemClock.now(),
            "=_signed",
            &mut |out| out.write_all(&entity),
        )
        .expect("the entity can be sealed");
    });
}

#[divan::bench(args = SIZES)]
fn sign_and_encrypt_in_memory(bencher: Bencher<'_, '_>, bytes: usize) {
    let (entity, sender, recipient) = ground(bytes).expect("keys and an entity can be made");
    bencher
        .counter(BytesCount::new(entity.len()))
        .bench(|| floor::sign_and_encrypt(&entity, &sender, &recipient.certificate));
}
