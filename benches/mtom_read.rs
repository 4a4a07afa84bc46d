//! Reading an ITI-41 request as MTOM, documents hashed on their way by: `cargo bench --bench mtom_read`.

mod support;

use divan::{Bencher, counter::BytesCount};
use xdbridge::formats::{
    document::FactsSink,
    limits::Limits,
    xdr::request::{self, ReadOptions},
};

use support::documents::{Kind, Sample};

fn main() {
    divan::main();
}

/// Octets of the document.
const SIZES: [usize; 3] = [10_000, 1_000_000, 25_000_000];

#[divan::bench(args = SIZES)]
fn read(bencher: Bencher<'_, '_>, bytes: usize) {
    let sample = Sample::new(Kind::Xml, bytes).expect("a document can be made");
    let (content_type, body) = sample.request().expect("a request can be written");
    let (limits, options) = (Limits::default(), ReadOptions::default());
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let mut facts = FactsSink::default();
        request::read(&content_type, &mut &body[..], &limits, &options, &mut facts)
            .expect("our own request is readable");
        facts.into_facts()
    });
}
