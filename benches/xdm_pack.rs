//! Packing one document as XDM: `cargo bench --bench xdm_pack`.

mod support;

use divan::{Bencher, counter::BytesCount};
use xdbridge::formats::{
    document::DocumentKey,
    xdm::{self, Institution, PackagePlan, PlannedFile, names::document_file_name},
};

use support::documents::{Borrowed, Kind, Sample};

fn main() {
    divan::main();
}

/// Octets of the document.
const SIZES: [usize; 3] = [10_000, 1_000_000, 25_000_000];

#[divan::bench(args = SIZES)]
fn xml(bencher: Bencher<'_, '_>, bytes: usize) {
    pack(bencher, Kind::Xml, bytes);
}

#[divan::bench(args = SIZES)]
fn incompressible(bencher: Bencher<'_, '_>, bytes: usize) {
    pack(bencher, Kind::Incompressible, bytes);
}

fn pack(bencher: Bencher<'_, '_>, kind: Kind, bytes: usize) {
    let sample = Sample::new(kind, bytes).expect("a document can be made");
    let metadata = sample.metadata().expect("metadata can be made");
    let plan = PackagePlan {
        metadata_xml: metadata.as_str(),
        files: vec![PlannedFile {
            key: DocumentKey::Part(1),
            file_name: document_file_name(1, "text/xml"),
            title: None,
            media_type: "text/xml".to_owned(),
        }],
        set_title: None,
        institution: &Institution::default(),
        documents_bytes: bytes as u64,
    };
    bencher
        .counter(BytesCount::new(bytes))
        .bench(|| xdm::pack(&plan, &mut Borrowed(&sample.documents)).expect("it can be packed"));
}
