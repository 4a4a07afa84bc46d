//! Writes an XDM zip: one submission set, its METADATA.XML and its documents (XDM-1 to XDM-48).

use std::{
    collections::{HashMap, HashSet},
    io::{self, Cursor, Write},
};

use serde::{Deserialize, Serialize};
use zip::{
    CompressionMethod, DateTime, ZipWriter,
    result::ZipError,
    write::SimpleFileOptions,
    write::{PreparedZipFile, ZipFileBuilder},
};

use super::{
    names::{
        INDEX_FILE, METADATA_FILE, README_FILE, SET_DIRECTORY, XDM_DIRECTORY, is_iso9660_file_name,
    },
    pages,
};
use crate::formats::document::{DocumentKey, DocumentSink, DocumentSource};

/// What of a document decides between Store and Deflate (XDM-48).
const SAMPLE_BYTES: usize = 64 * 1024;
/// The lightest level: what remains large after it is seldom worth the time (XDM-48).
const DEFLATE_LEVEL: i64 = 1;
/// Room for names, headers and the two pages.
const FRAME_BYTES: usize = 16 * 1024;

/// Who makes the media: `[institution]`. Shown in INDEX.HTM and README.TXT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Institution {
    /// The institution's name. Default `"Direct gateway"`.
    pub name: String,
    /// How to reach it: a telephone number or an address. Default `"see the sender's address"`.
    pub contact: String,
}

impl Default for Institution {
    fn default() -> Self {
        Self {
            name: "Direct gateway".into(),
            contact: "see the sender's address".into(),
        }
    }
}

/// What goes into the zip.
#[derive(Clone, Debug)]
pub struct PackagePlan<'a> {
    /// METADATA.XML without XML declaration; URI, hash and size are in it already (XDM-21).
    pub metadata_xml: &'a str,
    /// The documents, in the order of the index page. Two may have one key and then one file name (XDM-67).
    pub files: Vec<PlannedFile>,
    /// The title of the submission set, for the index page.
    pub set_title: Option<&'a str>,
    /// Who makes the medium.
    pub institution: &'a Institution,
    /// How many octets the files have together: the zip's memory is asked for once.
    pub documents_bytes: u64,
}

/// One document of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// By which key the source pours it.
    pub key: DocumentKey,
    /// Its file name, by [`super::names::document_file_name`].
    pub file_name: String,
    /// Its title, for the index page.
    pub title: Option<String>,
    /// Its media type, for the index page.
    pub media_type: String,
}

/// Why no package was made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file name that no reader has to take.
    #[error("XDM-10: file {number} of the package needs an ISO 9660 level 1 name of its own")]
    FileName {
        /// Counted from 1.
        number: usize,
    },
    /// The source did not give a document.
    #[error("XDM-43: the document of file {number} was not given")]
    DocumentMissing {
        /// Counted from 1.
        number: usize,
    },
    /// The source gave a document twice.
    #[error("XDM-63: the document of file {number} was given twice")]
    DocumentTwice {
        /// Counted from 1.
        number: usize,
    },
    /// The zip could not be written.
    #[error("the zip could not be written")]
    Zip(#[from] ZipError),
    /// The documents could not be read.
    #[error("the documents could not be read")]
    Io(#[from] io::Error),
}

/// Writes the package into memory. The documents are poured through once; those that the plan does not name are
/// passed over. The same plan and documents give the same octets.
pub fn pack(
    plan: &PackagePlan<'_>,
    documents: &mut dyn DocumentSource,
) -> Result<Vec<u8>, PackError> {
    check_names(plan)?;
    let capacity =
        usize::try_from(plan.documents_bytes).unwrap_or(0) + plan.metadata_xml.len() + FRAME_BYTES;
    let mut zip = ZipWriter::new(Cursor::new(Vec::with_capacity(capacity)));

    // The pages and every directory come first (XDM-46, XDM-48): NIST's reader knows sets by them alone.
    let text = member(CompressionMethod::Deflated);
    // To set up a compressor costs more than it saves on so little.
    let page = member(CompressionMethod::Stored);
    zip.start_file(README_FILE, page)?;
    zip.write_all(pages::readme(plan.institution).as_bytes())?;
    zip.start_file(INDEX_FILE, page)?;
    zip.write_all(pages::index_page(plan).as_bytes())?;
    let set_directory = format!("{XDM_DIRECTORY}/{SET_DIRECTORY}");
    zip.add_directory(format!("{XDM_DIRECTORY}/"), directory())?;
    zip.add_directory(format!("{set_directory}/"), directory())?;
    zip.start_file(format!("{set_directory}/{METADATA_FILE}"), text)?;
    zip.write_all(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
    zip.write_all(plan.metadata_xml.as_bytes())?;

    // Each file once, though several entries may mean it.
    let mut seen = HashSet::new();
    let files: Vec<&PlannedFile> = plan
        .files
        .iter()
        .filter(|file| seen.insert(file.file_name.as_str()))
        .collect();
    let mut sink = ZipSink {
        zip,
        set_directory,
        files: &files,
        times_given: vec![0; files.len()],
        open: Open::Nothing,
    };
    let poured = documents.pour(&mut sink);
    for (times, file) in sink.times_given.iter().zip(&files) {
        let is_it = |planned: &PlannedFile| planned.file_name == file.file_name;
        let number = plan.files.iter().position(is_it).unwrap_or(0) + 1;
        if *times > 1 {
            return Err(PackError::DocumentTwice { number });
        }
        if *times == 0 && poured.is_ok() {
            return Err(PackError::DocumentMissing { number });
        }
    }
    poured?;
    Ok(sink.zip.finish()?.into_inner())
}

fn check_names(plan: &PackagePlan<'_>) -> Result<(), PackError> {
    let mut seen = HashMap::new();
    for (index, file) in plan.files.iter().enumerate() {
        // Only those that share a document share its file (XDM-67).
        let owner = *seen.entry(file.file_name.as_str()).or_insert(file.key);
        let is_own = file.file_name != METADATA_FILE && owner == file.key;
        if !is_own || !is_iso9660_file_name(&file.file_name) {
            return Err(PackError::FileName { number: index + 1 });
        }
    }
    Ok(())
}

/// A fixed time, so that the same message makes the same octets (XDM-48), and plain permissions.
fn member(method: CompressionMethod) -> SimpleFileOptions {
    let level = (method == CompressionMethod::Deflated).then_some(DEFLATE_LEVEL);
    SimpleFileOptions::default()
        .compression_method(method)
        .compression_level(level)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
}

fn directory() -> SimpleFileOptions {
    member(CompressionMethod::Stored).unix_permissions(0o755)
}

/// Puts the poured documents into the zip.
struct ZipSink<'p> {
    zip: ZipWriter<Cursor<Vec<u8>>>,
    set_directory: String,
    files: &'p [&'p PlannedFile],
    times_given: Vec<u32>,
    open: Open,
}

/// The document that is being poured.
enum Open {
    Nothing,
    /// The plan does not name it.
    PassedOver,
    /// Its first octets, until it is decided how it is kept.
    Sampling {
        path: String,
        sample: Vec<u8>,
    },
    /// Its member of the zip is open.
    Streaming,
}

impl ZipSink<'_> {
    /// Decides by the sample how the member is kept, and opens it.
    fn start_member(&mut self, path: &str, sample: &[u8]) -> Result<(), ZipError> {
        let method = if shrinks(&deflate(path, sample)?, sample) {
            CompressionMethod::Deflated
        } else {
            CompressionMethod::Stored
        };
        self.zip.start_file(path, member(method))?;
        self.zip.write_all(sample)?;
        Ok(())
    }

    /// A document that is no longer than the sample is compressed once.
    fn add_short_member(&mut self, path: &str, octets: &[u8]) -> Result<(), ZipError> {
        let deflated = deflate(path, octets)?;
        if shrinks(&deflated, octets) {
            return self.zip.add_prepared_file(deflated);
        }
        self.zip
            .start_file(path, member(CompressionMethod::Stored))?;
        self.zip.write_all(octets)?;
        Ok(())
    }
}

impl DocumentSink for ZipSink<'_> {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.open = Open::PassedOver;
        let Some(index) = self.files.iter().position(|file| file.key == key) else {
            return Ok(());
        };
        if let (Some(times), Some(file)) = (self.times_given.get_mut(index), self.files.get(index))
        {
            *times += 1;
            if *times > 1 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.open = Open::Sampling {
                path: format!("{}/{}", self.set_directory, file.file_name),
                sample: Vec::new(),
            };
        }
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Open::Nothing | Open::PassedOver => Ok(()),
            Open::Streaming => self.zip.write_all(octets),
            Open::Sampling { sample, .. } => {
                let room = SAMPLE_BYTES.saturating_sub(sample.len()).min(octets.len());
                let (head, tail) = octets.split_at(room);
                sample.extend_from_slice(head);
                if tail.is_empty() {
                    return Ok(());
                }
                if let Open::Sampling { path, sample } =
                    std::mem::replace(&mut self.open, Open::Streaming)
                {
                    self.start_member(&path, &sample)
                        .map_err(io::Error::other)?;
                }
                self.zip.write_all(tail)
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Sampling { path, sample } => self
                .add_short_member(&path, &sample)
                .map_err(io::Error::other),
            Open::Nothing | Open::PassedOver | Open::Streaming => Ok(()),
        }
    }
}

fn deflate(path: &str, octets: &[u8]) -> Result<PreparedZipFile, ZipError> {
    let mut builder = ZipFileBuilder::new(path, member(CompressionMethod::Deflated))?;
    builder.write_all(octets)?;
    builder.finish()
}

/// Whether compression saves a tenth (XDM-48).
fn shrinks(deflated: &PreparedZipFile, original: &[u8]) -> bool {
    deflated.compressed_size().saturating_mul(10) <= (original.len() as u64).saturating_mul(9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::document::DocumentsInMemory;
    use std::io::Read;

    fn planned(number: usize, media_type: &str) -> PlannedFile {
        PlannedFile {
            key: DocumentKey::Part(u32::try_from(number).unwrap()),
            file_name: super::super::names::document_file_name(number, media_type),
            title: None,
            media_type: media_type.into(),
        }
    }

    fn pack_all(
        files: Vec<PlannedFile>,
        documents: &[(u32, Vec<u8>)],
    ) -> Result<Vec<u8>, PackError> {
        let institution = Institution::default();
        let plan = PackagePlan {
            metadata_xml: "<m>é</m>",
            files,
            set_title: None,
            institution: &institution,
            documents_bytes: 10,
        };
        let mut source = DocumentsInMemory {
            documents: documents
                .iter()
                .map(|(part, octets)| (DocumentKey::Part(*part), octets.clone()))
                .collect(),
        };
        pack(&plan, &mut source)
    }

    /// Octets that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(length)
        .collect()
    }

    // rule: XDM-1, XDM-3, XDM-20, XDM-46, XDM-48
    #[test]
    fn pages_and_directories_come_first_and_everything_reads_back() {
        let xml = b"<ClinicalDocument/>".repeat(5_000);
        let documents = [
            (1, xml.clone()),
            (2, noise(200_000)),
            (9, b"not planned".to_vec()),
        ];
        let files = vec![planned(1, "text/xml"), planned(2, "application/pdf")];
        let octets = pack_all(files, &documents).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(octets)).unwrap();
        let names: Vec<String> = zip.file_names().map(|n| n.unwrap().into_owned()).collect();
        assert_eq!(
            names,
            [
                "README.TXT",
                "INDEX.HTM",
                "IHE_XDM/",
                "IHE_XDM/SUBSET01/",
                "IHE_XDM/SUBSET01/METADATA.XML",
                "IHE_XDM/SUBSET01/DOC00001.XML",
                "IHE_XDM/SUBSET01/DOC00002.PDF",
            ]
        );
        let mut read = |name: &str| {
            let mut octets = Vec::new();
            zip.by_name(name).unwrap().read_to_end(&mut octets).unwrap();
            octets
        };
        assert_eq!(
            read("IHE_XDM/SUBSET01/METADATA.XML"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<m>é</m>".as_bytes()
        );
        assert_eq!(read("IHE_XDM/SUBSET01/DOC00001.XML"), xml);
        assert_eq!(read("IHE_XDM/SUBSET01/DOC00002.PDF"), noise(200_000));
    }

    // rule: XDM-47
    #[test]
    fn members_are_stored_or_deflated_without_data_descriptors_or_zip64() {
        let files = vec![planned(1, "text/xml"), planned(2, "text/plain")];
        let documents = [(1, noise(70_000)), (2, vec![b'a'; 70_000])];
        let octets = pack_all(files, &documents).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(&octets)).unwrap();
        let mut at = 0;
        for index in 0..zip.len() {
            let file = zip.by_index_raw(index).unwrap();
            assert!(
                [CompressionMethod::Stored, CompressionMethod::Deflated]
                    .contains(&file.compression())
            );
            // Each local header follows the data of the one before: nothing stands between.
            assert_eq!(file.header_start(), at);
            let header = usize::try_from(at).unwrap();
            assert_eq!(octets[header + 6] & 0b1000, 0, "data descriptor flag");
            at = file.data_start().unwrap() + file.compressed_size();
        }
        assert!(!octets.windows(4).any(|w| w == b"PK\x06\x06"));
    }

    // rule: XDM-48
    #[test]
    fn what_does_not_shrink_by_a_tenth_in_its_first_64_kib_is_stored() {
        let mut late = noise(SAMPLE_BYTES);
        late.extend(vec![0; 300_000]);
        let mut early = vec![0; SAMPLE_BYTES];
        early.extend(noise(300_000));
        let cases = [
            (noise(1_000), CompressionMethod::Stored),
            (b"abcabcabc".repeat(100), CompressionMethod::Deflated),
            (noise(SAMPLE_BYTES), CompressionMethod::Stored),
            (late, CompressionMethod::Stored),
            (early, CompressionMethod::Deflated),
            (Vec::new(), CompressionMethod::Stored),
        ];
        for (document, method) in cases {
            let octets = pack_all(vec![planned(1, "text/xml")], &[(1, document.clone())]).unwrap();
            let mut zip = zip::ZipArchive::new(Cursor::new(octets)).unwrap();
            let mut file = zip.by_name("IHE_XDM/SUBSET01/DOC00001.XML").unwrap();
            assert_eq!(file.compression(), method, "{} octets", document.len());
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert_eq!(read, document);
        }
    }

    // rule: XDM-48
    #[test]
    fn the_same_message_makes_the_same_octets() {
        let make = || pack_all(vec![planned(1, "text/xml")], &[(1, noise(99))]).unwrap();
        assert_eq!(make(), make());
    }

    // rule: XDM-67, XDM-15
    #[test]
    fn entries_that_share_a_document_share_its_file_and_both_are_listed() {
        let second = PlannedFile {
            title: Some("The same again".into()),
            ..planned(1, "text/xml")
        };
        let files = vec![planned(1, "text/xml"), second, planned(3, "text/plain")];
        let octets = pack_all(files, &[(1, b"<a/>".to_vec()), (3, b"c".to_vec())]).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(octets)).unwrap();
        let names: Vec<String> = zip.file_names().map(|n| n.unwrap().into_owned()).collect();
        assert_eq!(
            names[5..],
            [
                "IHE_XDM/SUBSET01/DOC00001.XML",
                "IHE_XDM/SUBSET01/DOC00003.TXT"
            ]
        );
        let mut index = String::new();
        zip.by_name("INDEX.HTM")
            .unwrap()
            .read_to_string(&mut index)
            .unwrap();
        assert_eq!(index.matches("DOC00001.XML\"").count(), 2);
        // What is missing is named by its first entry.
        let files = vec![
            planned(1, "text/xml"),
            planned(1, "text/xml"),
            planned(3, ""),
        ];
        assert!(matches!(
            pack_all(files, &[(1, vec![1])]),
            Err(PackError::DocumentMissing { number: 3 })
        ));
    }

    // rule: XDM-10, XDM-43, XDM-63
    #[test]
    fn missing_and_repeated_documents_and_names_are_errors() {
        let one = || vec![planned(1, "text/xml")];
        assert!(matches!(
            pack_all(one(), &[]),
            Err(PackError::DocumentMissing { number: 1 })
        ));
        assert!(matches!(
            pack_all(one(), &[(1, vec![1]), (1, vec![1])]),
            Err(PackError::DocumentTwice { number: 1 })
        ));
        let other = PlannedFile {
            key: DocumentKey::Part(2),
            ..planned(1, "text/xml")
        };
        let twice = vec![planned(1, "text/xml"), other];
        assert!(matches!(
            pack_all(twice, &[(1, vec![])]),
            Err(PackError::FileName { number: 2 })
        ));
        for bad in ["METADATA.XML", "../X", "doc.xml"] {
            let file = PlannedFile {
                file_name: bad.into(),
                ..planned(1, "text/xml")
            };
            assert!(matches!(
                pack_all(vec![file], &[(1, vec![])]),
                Err(PackError::FileName { number: 1 })
            ));
        }
    }
}
