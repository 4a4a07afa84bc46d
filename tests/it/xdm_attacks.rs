//! Zips that attack the reader: none is taken, none costs more than its limit, none makes the reader panic.

use std::io::Cursor;

use proptest::prelude::*;
use xdbridge::formats::{
    limits::Limits,
    xdm::{XdmError, XdmPackage, unpack},
};

use crate::support::{
    medium::{
        DOCUMENT, DOCUMENT_PATH, METADATA_PATH, good_entries, good_slots, metadata, slot, slots_of,
        with_document, with_entry,
    },
    raw_zip::{RawEntry, RawZip, build},
};

fn read(octets: &[u8]) -> Result<XdmPackage, XdmError> {
    unpack(Cursor::new(octets), &Limits::default())
}

/// The rule by which the archive is refused.
fn refused_by(octets: &[u8]) -> &'static str {
    read(octets).expect_err("the archive was taken").rule()
}

#[test]
fn the_sound_medium_that_the_attacks_start_from_is_taken() {
    let package = read(&build(&good_entries()).octets).unwrap();
    assert!(!package.has_errors());
    assert_eq!(package.findings, []);
    assert_eq!(package.sets[0].documents.len(), 1);
    assert_eq!(package.sets[0].findings, []);
}

// rule: XDM-60, T-9
#[test]
fn a_name_that_leaves_the_archive_refuses_all_of_it_even_if_nobody_uses_the_entry() {
    for name in [
        "../evil",
        "IHE_XDM/../../evil",
        "..\\evil",
        "/etc/passwd",
        "\\evil",
        "C:\\evil",
        "c:evil",
        "IHE_XDM/SUBSET01/a\0.XML",
        "a\nb",
        "IHE_XDM/SUBSET01/..",
    ] {
        assert_eq!(
            refused_by(&with_entry(RawEntry::file(name, b"x"))),
            "XDM-60",
            "{name:?}"
        );
    }
}

// rule: XDM-63, T-8
#[test]
fn two_entries_of_one_name_are_refused_also_if_only_case_or_slash_differ() {
    for name in [
        DOCUMENT_PATH,
        "ihe_xdm/subset01/doc00001.xml",
        "IHE_XDM\\SUBSET01\\DOC00001.XML",
        "./IHE_XDM/SUBSET01/DOC00001.XML",
        "IHE_XDM//SUBSET01/DOC00001.XML",
        "IHE_XDM",
    ] {
        let octets = with_entry(RawEntry::file(name, b"another"));
        // The very same name is seen first as a directory that can be read in two ways.
        assert!(
            ["XDM-63", "XDM-41"].contains(&refused_by(&octets)),
            "{name:?}"
        );
    }
}

// rule: XDM-63
#[test]
fn a_local_header_that_contradicts_the_directory_is_refused() {
    let renamed = with_document(|e| e.local_name = Some(b"IHE_XDM/SUBSET01/DOC00002.XML".to_vec()));
    assert_eq!(refused_by(&renamed), "XDM-63");
    let resized = with_document(|e| e.local_size = Some(e.size + 1));
    assert_eq!(refused_by(&resized), "XDM-63");
    let mut other_method = build(&good_entries()).octets;
    other_method[8] = 8;
    assert_eq!(refused_by(&other_method), "XDM-63");
}

// rule: XDM-63, T-8
#[test]
fn entries_that_share_octets_are_refused() {
    let mut shared = RawEntry::file("IHE_XDM/SUBSET01/DOC00002.XML", DOCUMENT);
    shared.local_name = None;
    shared.shares_header_of = Some(5);
    shared.name = DOCUMENT_PATH.to_lowercase().into_bytes();
    assert_eq!(refused_by(&with_entry(shared)), "XDM-63");

    // The data of the last entry reaches into the central directory.
    let into_directory = with_document(|entry| {
        entry.flags = 1 << 3;
        entry.central_compressed = Some(u32::try_from(entry.data.len()).unwrap() + 10);
    });
    assert_eq!(refused_by(&into_directory), "XDM-63");

    // One entry lies inside the stored data of another (the quoted form of an overlap bomb).
    let inner = build(&[RawEntry::file("a", b"inner")]);
    let mut outer = good_entries();
    outer.insert(
        0,
        RawEntry::stored("outer", &inner.octets[..inner.central_start]),
    );
    outer.push(RawEntry::file("a", b"inner"));
    let mut zip = build(&outer);
    let inner_start = u32::try_from(30 + "outer".len()).unwrap();
    let last = zip.end_start - 1 - "a".len() + 1 - 4;
    zip.octets[last..last + 4].copy_from_slice(&inner_start.to_le_bytes());
    assert_eq!(refused_by(&zip.octets), "XDM-63");
}

// rule: XDM-64
#[test]
fn encrypted_entries_and_symbolic_links_refuse_the_archive() {
    for flags in [1, 1 << 6, 1 << 13] {
        let mut entry = RawEntry::file("other", b"x");
        entry.flags = flags;
        assert_eq!(refused_by(&with_entry(entry)), "XDM-64");
    }
    let mut aes = RawEntry::stored("other", b"x");
    aes.method = 99;
    assert_eq!(refused_by(&with_entry(aes)), "XDM-64");
    let mut link = RawEntry::stored("other", b"/etc/passwd");
    link.external_attributes = 0o120_777 << 16;
    assert_eq!(refused_by(&with_entry(link)), "XDM-64");
}

// rule: XDM-62, LIM-12, T-8
#[test]
fn a_member_that_inflates_too_much_is_stopped() {
    let mut entries = good_entries();
    entries[5] = RawEntry::file(DOCUMENT_PATH, &vec![0; 3 << 20]);
    let error = read(&build(&entries).octets).unwrap_err();
    assert_eq!(error.rule(), "LIM-12");
    assert!(error.is_too_large());
    // The same octets are no bomb while they are few: the ratio is judged beyond 1 MiB.
    let mut entries = good_entries();
    entries[5] = RawEntry::file(DOCUMENT_PATH, &vec![0; 1 << 20]);
    assert!(
        read(&build(&entries).octets).unwrap().has_errors(),
        "another hash, no limit"
    );
}

// rule: XDM-62, LIM-3, LIM-11
#[test]
fn octets_are_counted_as_they_come_and_not_as_headers_claim() {
    let limits = Limits {
        max_zip_member_bytes: 1_000,
        max_zip_ratio: 1_000_000,
        ..Limits::default()
    };
    let mut entries = good_entries();
    entries[5] = RawEntry::file(DOCUMENT_PATH, &[b'x'; 1_001]);
    let octets = build(&entries).octets;
    let error = unpack(Cursor::new(&octets), &limits).unwrap_err();
    assert_eq!(error.rule(), "LIM-11");
    let total = Limits {
        max_zip_total_bytes: 900,
        ..Limits::default()
    };
    assert_eq!(
        unpack(Cursor::new(&octets), &total).unwrap_err().rule(),
        "LIM-11"
    );
    let metadata = Limits {
        max_metadata_bytes: 100,
        ..Limits::default()
    };
    assert_eq!(
        unpack(Cursor::new(&octets), &metadata).unwrap_err().rule(),
        "LIM-3"
    );
    // The same member, claiming to be small, is no better off.
    entries[5].size = 10;
    let package = unpack(Cursor::new(&build(&entries).octets), &limits).unwrap();
    assert!(package.sets[0].is_refused() && package.sets[0].documents.is_empty());
}

// rule: XDM-62
#[test]
fn a_size_that_lies_is_found_out() {
    for delta in [-1, 1, 1_000] {
        let octets = with_document(|entry| {
            entry.size = entry.size.checked_add_signed(delta).unwrap();
        });
        let package = read(&octets).unwrap();
        assert!(package.has_errors(), "{delta}");
        assert!(package.sets[0].documents.is_empty());
    }
    let damaged = with_document(|entry| entry.crc32 ^= 1);
    assert!(read(&damaged).unwrap().has_errors());
}

// rule: LIM-10, T-8
#[test]
fn too_many_entries_are_refused_before_they_are_read() {
    let many: Vec<RawEntry> = (0..1_001)
        .map(|number| RawEntry::stored(&format!("f{number}"), b""))
        .collect();
    assert_eq!(refused_by(&build(&many).octets), "LIM-10");
    let long = vec![RawEntry::stored(&"n".repeat(60_000), b"")];
    assert_eq!(refused_by(&build(&long).octets), "LIM-10");
}

// rule: LIM-10, T-8
#[test]
fn zip64_is_refused_and_too_many_entries_are_told_where_it_counts_them() {
    let sound = build(&good_entries());
    let of = |entries: u64| {
        let (head, end) = sound.octets.split_at(sound.end_start);
        let mut octets = head.to_vec();
        octets.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
        for field in [entries, entries, 0, 0] {
            octets.extend(field.to_le_bytes());
        }
        octets.extend(b"PK\x06\x07\0\0\0\0");
        octets.extend((sound.end_start as u64).to_le_bytes());
        octets.extend(b"\x01\0\0\0");
        octets.extend(end);
        octets
    };
    assert_eq!(refused_by(&of(6)), "XDM-41");
    assert_eq!(refused_by(&of(1_000)), "XDM-41");
    assert!(read(&of(1_001)).unwrap_err().is_too_large());
    assert_eq!(refused_by(&of(u64::MAX)), "LIM-10");
    // The locator points anywhere.
    let mut astray = of(u64::MAX);
    let at = astray.len() - 22 - 12;
    for start in [0, 1_000_000, u64::MAX] {
        astray[at..at + 8].copy_from_slice(&start.to_le_bytes());
        assert_eq!(refused_by(&astray), "XDM-41", "{start}");
    }
}

// rule: LIM-13
#[test]
fn a_package_in_a_package_fails_the_set_whose_document_it_is() {
    let inner = build(&good_entries()).octets;
    let mut entries = good_entries();
    entries[4] = RawEntry::file(METADATA_PATH, metadata(&slots_of(&inner)).as_bytes());
    for entry in [RawEntry::file, RawEntry::stored] {
        entries[5] = entry(DOCUMENT_PATH, &inner);
        let package = read(&build(&entries).octets).unwrap();
        assert!(package.sets[0].is_refused() && package.sets[0].documents.is_empty());
        assert_eq!(package.sets[0].findings[0].rule, "LIM-13");
    }
}

// rule: LIM-13, XDM-66
#[test]
fn any_other_zip_in_a_package_is_a_document_whatever_is_in_it() {
    let package = build(&good_entries()).octets;
    for document in [
        build(&[RawEntry::stored("XDM00001.ZIP", &package)]).octets,
        build(&[RawEntry::file("a", &vec![0; 40 << 20])]).octets,
        build(&[RawEntry::file("../../etc/passwd", b"x")]).octets,
    ] {
        let mut entries = good_entries();
        entries[4] = RawEntry::file(METADATA_PATH, metadata(&slots_of(&document)).as_bytes());
        entries[5] = RawEntry::file(DOCUMENT_PATH, &document);
        let package = read(&build(&entries).octets).unwrap();
        assert_eq!(package.sets[0].findings, []);
        assert_eq!(
            package.sets[0].documents[0].facts.size,
            document.len() as u64
        );
    }
}

// rule: LIM-13
#[test]
fn a_deep_path_is_refused() {
    let name = "d/".repeat(16) + "f";
    assert_eq!(
        refused_by(&with_entry(RawEntry::stored(&name, b"x"))),
        "LIM-13"
    );
}

// rule: XDM-41, XDM-63, T-8
#[test]
fn a_directory_that_two_readers_would_read_differently_is_refused() {
    let RawZip {
        octets,
        central_start,
        end_start,
    } = build(&good_entries());
    let change = |at: usize, new: &[u8]| {
        let mut octets = octets.clone();
        octets[at..at + new.len()].copy_from_slice(new);
        octets
    };
    let mut trailing = octets.clone();
    trailing.push(b'\n');
    assert_eq!(refused_by(&trailing), "XDM-41");
    let mut prefixed = b"MZ".to_vec();
    prefixed.extend(&octets);
    assert_eq!(refused_by(&prefixed), "XDM-41");
    // One entry fewer is counted than stands there.
    assert_eq!(refused_by(&change(end_start + 8, &[5, 0, 5, 0])), "XDM-41");
    assert_eq!(refused_by(&change(end_start + 8, &[7, 0, 7, 0])), "XDM-41");
    // Saturated fields promise a ZIP64 record.
    assert_eq!(refused_by(&change(end_start + 8, &[255; 4])), "XDM-41");
    // A second end record hides in the comment of the first.
    let mut hidden = change(end_start + 20, &22u16.to_le_bytes());
    hidden.extend(&octets[end_start..]);
    assert_eq!(refused_by(&hidden), "XDM-41");
    assert_eq!(refused_by(&octets[..central_start]), "XDM-41");
    assert_eq!(refused_by(b""), "XDM-41");
}

// rule: XDM-13
#[test]
fn a_directory_entry_without_its_slash_is_still_a_directory() {
    let mut entries = good_entries();
    entries[3] = RawEntry::stored("IHE_XDM/SUBSET01", b"");
    let package = read(&build(&entries).octets).unwrap();
    assert!(!package.has_errors());
    assert_eq!(package.findings.len(), 1);
    assert_eq!(package.findings[0].rule, "XDM-13");
}

// rule: XDM-13, XDM-40
#[test]
fn missing_hash_and_size_are_warnings_and_the_only_file_is_found_without_a_uri() {
    let mut entries = good_entries();
    entries[4] = RawEntry::file(METADATA_PATH, metadata("").as_bytes());
    let package = read(&build(&entries).octets).unwrap();
    assert!(!package.has_errors());
    let mut rules: Vec<_> = package.sets[0].findings.iter().map(|f| f.rule).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["XDM-13", "XDM-40", "XDM-40", "XDM-42"]);
    assert_eq!(
        package.sets[0].documents[0].facts.size,
        DOCUMENT.len() as u64
    );
}

// rule: XDM-65, SOAP-43
#[test]
fn metadata_is_read_as_strictly_in_a_package_as_in_a_request() {
    let sound = metadata(&good_slots());
    for (place, attack) in [
        ("<rim:RegistryObjectList>", "<?target instruction?>"),
        ("<lcm:", "<?xml-stylesheet href='a.xsl'?>"),
        ("<lcm:", "<!DOCTYPE a>"),
        ("</rim:RegistryObjectList>", "<b:unbound/>"),
    ] {
        let mut entries = good_entries();
        let text = sound.replacen(place, &format!("{attack}{place}"), 1);
        entries[4] = RawEntry::file(METADATA_PATH, text.as_bytes());
        let package = read(&build(&entries).octets).unwrap();
        assert!(package.sets.is_empty(), "{attack}");
        assert!(
            package
                .findings
                .iter()
                .any(|f| f.rule == "XDM-65" && f.is_error()),
            "{attack}: {:?}",
            package.findings
        );
    }
}

// rule: XDM-24
#[test]
fn a_uri_split_into_numbered_values_is_joined() {
    let mut entries = good_entries();
    let split = "<rim:Slot name=\"URI\"><rim:ValueList><rim:Value>2|001.XML</rim:Value>\
                 <rim:Value>1|DOC00</rim:Value></rim:ValueList></rim:Slot>";
    let slots = good_slots().replace(&slot("URI", "DOC00001.XML"), split);
    entries[4] = RawEntry::file(METADATA_PATH, metadata(&slots).as_bytes());
    let package = read(&build(&entries).octets).unwrap();
    assert!(!package.has_errors());
    assert_eq!(package.sets[0].findings, []);
}

// rule: XDM-47
#[test]
fn a_method_other_than_store_and_deflate_fails_the_set_that_needs_it() {
    let octets = with_document(|entry| entry.method = 12);
    let package = read(&octets).unwrap();
    assert_eq!(package.sets[0].findings[0].rule, "XDM-47");
    assert!(package.has_errors());
}

// rule: XDM-60, XDM-61
#[test]
fn a_uri_that_leaves_the_medium_fails_the_set() {
    for (uri, rule) in [
        ("http://evil.example/x", "XDM-61"),
        ("file:///etc/passwd", "XDM-61"),
        ("/etc/passwd", "XDM-61"),
        ("DOC00001.XML?x", "XDM-61"),
        ("../../../etc/passwd", "XDM-60"),
        ("%2e%2e/%2e%2e/%2e%2e/x", "XDM-60"),
    ] {
        let mut entries = good_entries();
        let slots = good_slots().replace("DOC00001.XML", uri);
        entries[4] = RawEntry::file(METADATA_PATH, metadata(&slots).as_bytes());
        let package = read(&build(&entries).octets).unwrap();
        assert_eq!(package.sets[0].findings[0].rule, rule, "{uri}");
        assert!(package.sets[0].is_refused() && package.sets[0].documents.is_empty());
    }
}

// rule: XDM-65, T-10
#[test]
fn metadata_with_a_dtd_fails_its_set_alone() {
    let mut entries = good_entries();
    let bomb = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>";
    entries.push(RawEntry::file(
        "IHE_XDM/SUBSET02/METADATA.XML",
        bomb.as_bytes(),
    ));
    let package = read(&build(&entries).octets).unwrap();
    assert_eq!(package.sets.len(), 1);
    assert!(!package.sets[0].is_refused());
    assert!(package.has_errors());
    assert!(
        package
            .findings
            .iter()
            .any(|finding| finding.rule == "XDM-65")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // rule: XDM-62, T-8
    #[test]
    fn no_mutation_of_a_real_medium_makes_the_reader_panic_or_take_other_documents(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut octets = build(&good_entries()).octets;
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        if let Ok(package) = read(&octets) {
            for set in &package.sets {
                for document in &set.documents {
                    // What is given out fits the metadata's hash, if the metadata still has one.
                    let entry = &set.metadata.document_entries()[document.entry_index];
                    if let Some(hash) = &entry.hash {
                        prop_assert!(hash.eq_ignore_ascii_case(&document.facts.hash()));
                    }
                }
            }
        }
    }
}
