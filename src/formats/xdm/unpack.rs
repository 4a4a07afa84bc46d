//! Reads an XDM zip: its submission sets, and for each DocumentEntry the one file it means, verified (XDM-40 to
//! XDM-45, XDM-60 to XDM-67).

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read, Seek},
};

use super::{
    directory::{Directory, Inflated},
    names::is_iso9660_file_name,
    nested::NestedPackage,
    tree::{File, Found, SetDirectory, Tree},
    uri::{self, MAX_URI_CHARS},
};
use crate::formats::{
    document::{DocumentFacts, DocumentKey, DocumentSink, DocumentSource, FactsSink},
    finding::{self, Finding, Severity},
    limits::Limits,
    metadata::{DocumentEntry, Metadata},
    xdr::ErrorCode,
    xml::kept::KeptXml,
};

pub use super::error::XdmError;

/// One medium as it was read.
#[derive(Clone, Debug, Default)]
pub struct XdmPackage {
    /// The submission sets whose metadata could be read, in the order of their directories' names.
    pub sets: Vec<XdmSet>,
    /// What is wrong or odd about the medium: Warnings, and an Error for each set directory that could not be read.
    pub findings: Vec<Finding>,
}

/// One submission set of a medium.
#[derive(Clone, Debug)]
pub struct XdmSet {
    /// Its directory below `IHE_XDM`, as written. It may name a patient: not for logs.
    pub directory: String,
    /// Its METADATA.XML.
    pub metadata: Metadata,
    /// The document of each DocumentEntry, in their order. One is missing only where `findings` has an Error.
    pub documents: Vec<XdmDocument>,
    /// What is wrong or odd about this set.
    pub findings: Vec<Finding>,
}

/// The document that a DocumentEntry means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdmDocument {
    /// Which of the metadata's DocumentEntries, from 0.
    pub entry_index: usize,
    /// Its entryUUID.
    pub entry_id: String,
    /// What was found in the file. Two entries may share one (XDM-67).
    pub facts: DocumentFacts,
}

impl XdmPackage {
    /// Whether anything in it could not be read or verified: such a message is not reported as delivered (XDR-102).
    pub fn has_errors(&self) -> bool {
        finding::refuses(&self.findings) || self.sets.iter().any(XdmSet::is_refused)
    }
}

impl XdmSet {
    /// Whether this set must not be forwarded (XDM-40).
    pub fn is_refused(&self) -> bool {
        finding::refuses(&self.findings)
    }
}

/// Reads the medium: checks the archive, finds the sets, reads their metadata, and verifies each document's size and
/// hash. Everything is inflated under a counting limit; nothing is kept but metadata and facts. The documents
/// themselves come from [`XdmDocuments`].
pub fn unpack(zip: impl Read + Seek, limits: &Limits) -> Result<XdmPackage, XdmError> {
    let mut directory = Directory::open(zip, limits)?;
    let tree = Tree::read(directory.members(), limits)?;
    let mut package = XdmPackage {
        sets: Vec::new(),
        findings: tree.findings.clone(),
    };
    let mut reader = SetReader {
        directory: &mut directory,
        tree: &tree,
        limits,
        inflated: Inflated::default(),
        facts: HashMap::new(),
        packages: HashSet::new(),
    };
    for (number, set_directory) in (1..).zip(&tree.sets) {
        match reader.read_set(number, set_directory)? {
            Ok(set) => package.sets.push(set),
            Err(finding) => package.findings.push(finding),
        }
    }
    Ok(package)
}

/// The documents of one set, poured from the zip they were found in. A file that two entries share is poured once.
pub struct XdmDocuments<R> {
    directory: Directory<R>,
    members: Vec<u32>,
    limits: Limits,
}

impl<R: Read + Seek> XdmDocuments<R> {
    /// Opens the zip that `set` was read from.
    pub fn open(zip: R, set: &XdmSet, limits: &Limits) -> Result<Self, XdmError> {
        let mut members = Vec::new();
        for document in &set.documents {
            match document.facts.key {
                DocumentKey::ZipMember(index) if !members.contains(&index) => members.push(index),
                _ => {}
            }
        }
        Ok(Self {
            directory: Directory::open(zip, limits)?,
            members,
            limits: limits.clone(),
        })
    }
}

impl<R: Read + Seek> DocumentSource for XdmDocuments<R> {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        let mut inflated = Inflated::default();
        for index in &self.members {
            sink.begin(DocumentKey::ZipMember(*index))?;
            self.directory
                .read(
                    *index,
                    document_limit(&self.limits),
                    &self.limits,
                    &mut inflated,
                    &mut |octets| sink.write(octets),
                )
                .map_err(|error| match error {
                    XdmError::Io(error) => error,
                    other => io::Error::new(io::ErrorKind::InvalidData, other),
                })?;
            sink.end()?;
        }
        Ok(())
    }
}

/// One document may be no larger than either limit says (LIM-2, LIM-11).
fn document_limit(limits: &Limits) -> (&'static str, u64) {
    if limits.max_document_bytes < limits.max_zip_member_bytes {
        ("LIM-2", limits.max_document_bytes)
    } else {
        ("LIM-11", limits.max_zip_member_bytes)
    }
}

struct SetReader<'a, R> {
    directory: &'a mut Directory<R>,
    tree: &'a Tree,
    limits: &'a Limits,
    inflated: Inflated,
    /// Every file is inflated once, however many entries mean it.
    facts: HashMap<u32, DocumentFacts>,
    /// The files among them that are XDM packages themselves.
    packages: HashSet<u32>,
}

impl<R: Read + Seek> SetReader<'_, R> {
    /// Reads one set. The inner error is a set that cannot be read; the outer one refuses the whole archive.
    fn read_set(
        &mut self,
        number: usize,
        set_directory: &SetDirectory,
    ) -> Result<Result<XdmSet, Finding>, XdmError> {
        let location = format!("submission set directory {number}");
        let Some(file) = &set_directory.metadata else {
            return Ok(Err(error(
                "XDM-44",
                &location,
                "the directory has no METADATA.XML; each directory of a submission set must have one",
            )));
        };
        let location = format!("METADATA.XML of {location}");
        let mut octets = Vec::new();
        let read = self.directory.read(
            file.index,
            ("LIM-3", self.limits.max_metadata_bytes),
            self.limits,
            &mut self.inflated,
            &mut |block| {
                octets.extend_from_slice(block);
                Ok(())
            },
        );
        if let Err(fault) = read {
            return member_fault(fault, &location).map(Err);
        }
        let mut findings = Vec::new();
        if octets.starts_with(b"\xef\xbb\xbf") {
            findings.push(Finding::warning(
                "XDM-13",
                &location,
                "a byte order mark stands before the XML; there should be none",
            ));
        }
        let metadata = match KeptXml::read(&*octets, self.limits) {
            Ok(xml) => Metadata::read(xml, self.limits).map_err(|fault| fault.to_string()),
            Err(fault) => Err(fault.to_string()),
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(text) => return Ok(Err(error("XDM-65", &location, text))),
        };
        let max_entries = self.limits.max_document_entries;
        if metadata.document_entries().len() > max_entries {
            return Err(XdmError::TooLarge {
                rule: "LIM-4",
                what: "a submission set has too many DocumentEntries",
                max: max_entries as u64,
            });
        }
        let mut documents = Vec::new();
        let entries = metadata.document_entries();
        for (entry_index, entry) in entries.iter().enumerate() {
            let facts = self.read_document(
                entry,
                entries.len() == 1,
                &set_directory.segments,
                &mut findings,
            )?;
            documents.extend(facts.map(|facts| XdmDocument {
                entry_index,
                entry_id: entry.id.clone(),
                facts,
            }));
        }
        Ok(Ok(XdmSet {
            directory: set_directory.segments.last().cloned().unwrap_or_default(),
            metadata,
            documents,
            findings,
        }))
    }

    /// The verified document of one entry; nothing, and an Error in `findings`, if there is none.
    fn read_document(
        &mut self,
        entry: &DocumentEntry,
        is_only_entry: bool,
        base: &[String],
        findings: &mut Vec<Finding>,
    ) -> Result<Option<DocumentFacts>, XdmError> {
        let location = |attribute: &str| format!("DocumentEntry({}).{attribute}", entry.id);
        let by_uri = match self.find_by_uri(entry, base, findings) {
            Ok(found) => found,
            Err((rule, what)) => {
                findings.push(error(rule, location("URI"), what));
                return Ok(None);
            }
        };
        let file = match by_uri {
            Some(file) => Some(file),
            None => self.find_without_uri(entry, is_only_entry, base, findings)?,
        };
        let Some(file) = file else {
            let text =
                "the document's file is not on the medium; it must be there, where the URI says";
            findings.push(
                error("XDM-43", location("URI"), text).with_code(ErrorCode::XdsMissingDocument),
            );
            return Ok(None);
        };
        if is_multipart(entry) {
            if file.segments.len() > base.len() + 1 {
                let text = "a multipart/related document of several files is not supported; one file is accepted";
                findings.push(error("XDM-26", location("mimeType"), text));
                return Ok(None);
            }
            let text = "a multipart/related document given as one file is taken as it is; it should have a media type of its own";
            findings.push(Finding::warning("XDM-26", location("mimeType"), text));
        }
        if !file
            .segments
            .last()
            .is_some_and(|name| is_iso9660_file_name(name))
        {
            let text = "the file's name is not one of ISO 9660 level 1; it should be, such as DOC00001.XML";
            findings.push(Finding::warning("XDM-13", location("URI"), text));
        }
        let facts = match self.facts_of(&file) {
            Ok(facts) => facts,
            Err(fault) => {
                findings.push(member_fault(fault, &location("URI"))?);
                return Ok(None);
            }
        };
        if self.packages.contains(&file.index) {
            let text = "the document is an XDM package itself; a document must be one, and packages of documents belong into submission sets";
            findings.push(error("LIM-13", location("URI"), text));
            return Ok(None);
        }
        let found = verify(entry, &facts);
        let is_sound = !finding::refuses(&found);
        findings.extend(found);
        Ok(is_sound.then_some(facts))
    }

    /// The file that the entry's URI means; `None` if it has none or nothing lies there.
    fn find_by_uri(
        &self,
        entry: &DocumentEntry,
        base: &[String],
        findings: &mut Vec<Finding>,
    ) -> Result<Option<File>, uri::UriFault> {
        let location = || format!("DocumentEntry({}).URI", entry.id);
        let Some(uri) = &entry.uri else {
            findings.push(Finding::warning(
                "XDM-13",
                location(),
                "the entry has no URI; it should be the path of its file",
            ));
            return Ok(None);
        };
        if uri.chars().count() > MAX_URI_CHARS {
            let text = format!(
                "the URI has more than {MAX_URI_CHARS} characters; so many are accepted without a word"
            );
            findings.push(Finding::warning("XDM-24", location(), text));
        }
        match self.tree.find(&uri::resolve(uri, base)?) {
            Some(Found::Exactly(file)) => Ok(Some(file.clone())),
            Some(Found::ByOtherCase(file)) => {
                let text = "the URI differs from the file's name in the case of letters; it should be the same";
                findings.push(Finding::warning("XDM-25", location(), text));
                Ok(Some(file.clone()))
            }
            None => Ok(None),
        }
    }

    /// The one file of the set's directory with the entry's hash and size; or the only file for the only entry
    /// (XDM-42).
    fn find_without_uri(
        &mut self,
        entry: &DocumentEntry,
        is_only_entry: bool,
        base: &[String],
        findings: &mut Vec<Finding>,
    ) -> Result<Option<File>, XdmError> {
        let files: Vec<File> = self.tree.files_below(base).into_iter().cloned().collect();
        let mut found = None;
        if let (Some(hash), Some(size)) = (&entry.hash, &entry.size) {
            for file in &files {
                // The claimed length is verified once the file is read.
                if size.parse() != Ok(file.bytes) {
                    continue;
                }
                match self.facts_of(file) {
                    Ok(facts) if facts.hash().eq_ignore_ascii_case(hash) => {
                        found = Some(file.clone());
                        break;
                    }
                    Ok(_) | Err(XdmError::Member { .. }) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        if let (None, true, [only]) = (&found, is_only_entry, files.as_slice()) {
            found = Some(only.clone());
        }
        if found.is_some() {
            let text = "no file lies at the URI; the document was found by its hash and size, or as the only one; the URI should be its path";
            findings.push(Finding::warning(
                "XDM-42",
                format!("DocumentEntry({}).URI", entry.id),
                text,
            ));
        }
        Ok(found)
    }

    fn facts_of(&mut self, file: &File) -> Result<DocumentFacts, XdmError> {
        if let Some(facts) = self.facts.get(&file.index) {
            return Ok(facts.clone());
        }
        let mut sink = FactsSink::default();
        let mut nested = NestedPackage::default();
        sink.begin(DocumentKey::ZipMember(file.index))?;
        self.directory.read(
            file.index,
            document_limit(self.limits),
            self.limits,
            &mut self.inflated,
            &mut |octets| {
                nested.write(octets);
                sink.write(octets)
            },
        )?;
        sink.end()?;
        if nested.is_package() {
            self.packages.insert(file.index);
        }
        let facts = sink.into_facts().pop().ok_or(XdmError::NotXdm)?;
        self.facts.insert(file.index, facts.clone());
        Ok(facts)
    }
}

fn is_multipart(entry: &DocumentEntry) -> bool {
    entry.mime_type.as_deref().is_some_and(|text| {
        let bare = text.split(';').next().unwrap_or_default();
        bare.trim().eq_ignore_ascii_case("multipart/related")
    })
}

/// Holds size and hash against the document (XDM-22, XDM-40).
fn verify(entry: &DocumentEntry, facts: &DocumentFacts) -> Vec<Finding> {
    let location = |attribute: &str| format!("DocumentEntry({}).{attribute}", entry.id);
    let mut findings = Vec::new();
    match &entry.hash {
        None => findings.push(Finding::warning(
            "XDM-40",
            location("hash"),
            "the entry has no hash; it should be the SHA-1 of its file",
        )),
        Some(hash) if !hash.eq_ignore_ascii_case(&facts.hash()) => findings.push(
            error(
                "XDM-40",
                location("hash"),
                "the document's SHA-1 is another; the file must be the one whose hash it is",
            )
            .with_code(ErrorCode::XdsNonIdenticalHash),
        ),
        Some(_) => {}
    }
    match &entry.size {
        None => findings.push(Finding::warning(
            "XDM-40",
            location("size"),
            "the entry has no size; it should be the number of octets of its file",
        )),
        Some(size) if size.parse() != Ok(facts.size) => findings.push(
            error(
                "XDM-40",
                location("size"),
                "the document has another length; the file must have as many octets as size says",
            )
            .with_code(ErrorCode::XdsNonIdenticalSize),
        ),
        Some(_) => {}
    }
    findings
}

/// A fault of one member is a finding of its set; anything else refuses the archive.
fn member_fault(fault: XdmError, location: &str) -> Result<Finding, XdmError> {
    match fault {
        XdmError::Member { rule, what, .. } => Ok(error(rule, location, what)),
        XdmError::NotZip { .. }
        | XdmError::NotXdm
        | XdmError::Refused { .. }
        | XdmError::TooLarge { .. }
        | XdmError::Io(_) => Err(fault),
    }
}

/// An Error that has no XDS code of its own.
fn error(rule: &'static str, location: impl Into<String>, text: impl Into<String>) -> Finding {
    Finding {
        rule,
        severity: Severity::Error,
        code: None,
        location: location.into(),
        text: text.into(),
        value: None,
    }
}
