//! Zips built octet by octet: the ones that no honest library writes.

use std::io::{Cursor, Read as _, Write as _};

use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// One entry. Local header and central directory are made from it, unless a field says otherwise.
#[derive(Clone)]
pub(crate) struct RawEntry {
    pub(crate) name: Vec<u8>,
    /// The local header's name, where it lies.
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc32: u32,
    /// As it stands in the archive.
    pub(crate) data: Vec<u8>,
    pub(crate) size: u32,
    /// The local header's uncompressed size, where it lies.
    pub(crate) local_size: Option<u32>,
    /// The central directory's compressed size, where it lies.
    pub(crate) central_compressed: Option<u32>,
    pub(crate) external_attributes: u32,
    /// Points to the local header of another entry, which is then not written.
    pub(crate) shares_header_of: Option<usize>,
}

impl RawEntry {
    /// A deflated file.
    pub(crate) fn file(name: &str, octets: &[u8]) -> Self {
        Self::with_method(name, octets, CompressionMethod::Deflated)
    }

    /// A stored file.
    pub(crate) fn stored(name: &str, octets: &[u8]) -> Self {
        Self::with_method(name, octets, CompressionMethod::Stored)
    }

    /// Lets the library compress.
    fn with_method(name: &str, octets: &[u8], method: CompressionMethod) -> Self {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file("x", options).unwrap();
        writer.write_all(octets).unwrap();
        let mut archive = ZipArchive::new(writer.finish().unwrap()).unwrap();
        let mut file = archive.by_index_raw(0).unwrap();
        let mut data = Vec::new();
        file.read_to_end(&mut data).unwrap();
        Self {
            name: name.as_bytes().to_vec(),
            local_name: None,
            flags: 0,
            method: if method == CompressionMethod::Stored {
                0
            } else {
                8
            },
            crc32: file.crc32(),
            data,
            size: u32::try_from(octets.len()).unwrap(),
            local_size: None,
            central_compressed: None,
            external_attributes: 0o100_644 << 16,
            shares_header_of: None,
        }
    }
}

/// The archive, and where its parts begin.
pub(crate) struct RawZip {
    pub(crate) octets: Vec<u8>,
    pub(crate) central_start: usize,
    pub(crate) end_start: usize,
}

/// Puts the entries together.
pub(crate) fn build(entries: &[RawEntry]) -> RawZip {
    let mut octets = Vec::new();
    let mut starts: Vec<u32> = Vec::new();
    for entry in entries {
        if let Some(other) = entry.shares_header_of {
            starts.push(starts[other]);
            continue;
        }
        starts.push(u32::try_from(octets.len()).unwrap());
        let name = entry.local_name.as_ref().unwrap_or(&entry.name);
        octets.extend(b"PK\x03\x04\x14\x00");
        octets.extend(entry.flags.to_le_bytes());
        octets.extend(entry.method.to_le_bytes());
        octets.extend([0, 0, 0x21, 0]);
        octets.extend(entry.crc32.to_le_bytes());
        octets.extend(u32::try_from(entry.data.len()).unwrap().to_le_bytes());
        octets.extend(entry.local_size.unwrap_or(entry.size).to_le_bytes());
        octets.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        octets.extend(0u16.to_le_bytes());
        octets.extend(name);
        octets.extend(&entry.data);
    }
    let central_start = octets.len();
    for (entry, start) in entries.iter().zip(&starts) {
        octets.extend(b"PK\x01\x02\x14\x03\x14\x00");
        octets.extend(entry.flags.to_le_bytes());
        octets.extend(entry.method.to_le_bytes());
        octets.extend([0, 0, 0x21, 0]);
        octets.extend(entry.crc32.to_le_bytes());
        let compressed = entry
            .central_compressed
            .unwrap_or_else(|| u32::try_from(entry.data.len()).unwrap());
        octets.extend(compressed.to_le_bytes());
        octets.extend(entry.size.to_le_bytes());
        octets.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        octets.extend([0; 8]);
        octets.extend(entry.external_attributes.to_le_bytes());
        octets.extend(start.to_le_bytes());
        octets.extend(&entry.name);
    }
    let end_start = octets.len();
    let count = u16::try_from(entries.len()).unwrap();
    octets.extend(b"PK\x05\x06\0\0\0\0");
    octets.extend(count.to_le_bytes());
    octets.extend(count.to_le_bytes());
    octets.extend(
        u32::try_from(end_start - central_start)
            .unwrap()
            .to_le_bytes(),
    );
    octets.extend(u32::try_from(central_start).unwrap().to_le_bytes());
    octets.extend(0u16.to_le_bytes());
    RawZip {
        octets,
        central_start,
        end_start,
    }
}
