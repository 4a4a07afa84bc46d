//! Revocation lists from files, read anew when a file changes: an operator's timer replaces them.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use openssl::{base64::decode_block, x509::X509};

use super::{FileFault, FileProblem};
use crate::{
    adapters::pem_files,
    bridge::trust::{has_begun, is_crl_of},
    formats::smime::crl::{Crl, CrlFault},
};

/// Largest file of revocation lists, in octets.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Most lists of one domain.
const MAX_CRLS: usize = 1_000;
/// Name endings of the files that are read in a folder.
const ENDINGS: [&str; 3] = ["crl", "pem", "der"];
/// What a PEM block of a list is called.
const LABEL: &str = "X509 CRL";

/// Why a file gives no revocation lists.
#[derive(Debug, thiserror::Error)]
pub enum CrlFileFault {
    /// It is not there, or may not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The folder has too many files.
    #[error(transparent)]
    Folder(pem_files::PemError),
    /// Far larger than lists are.
    #[error(
        "is larger than {MAX_FILE_BYTES} octets; files of CRLs up to that size are accepted (REV-2)"
    )]
    TooLarge,
    /// Nothing of the kind inside.
    #[error("holds no CRL; PEM (-----BEGIN {LABEL}-----) or one in DER form is accepted (REV-2)")]
    None,
    /// A folder without files of lists.
    #[error(
        "holds no file whose name ends in .crl, .pem or .der; a folder with one CRL at least is accepted (REV-2)"
    )]
    EmptyFolder,
    /// There are lists, and none that can be used.
    #[error("holds no CRL of a kind that is used; one complete CRL at least is accepted (REV-2)")]
    NoneUsed,
    /// A list that cannot be used.
    #[error("{0}")]
    Crl(#[from] CrlFault),
    /// Nobody known has signed it.
    #[error(
        "a CRL is signed by none of the domain's anchors and intermediates whose keyUsage allows it; add its issuer's certificate to them (REV-2)"
    )]
    SignedByNobody,
    /// Of the past: an old file was put back, or an old list is served anew.
    #[error(
        "a CRL (thisUpdate {this_update}) is older than the one in force by the same issuer (thisUpdate {in_force}), or has a lower CRL number; put a newer one in its place, or reload everything (REV-2)"
    )]
    Older {
        /// When it was made.
        this_update: Timestamp,
        /// When the one in force was.
        in_force: Timestamp,
    },
    /// Too many of them.
    #[error("the domain has more than {MAX_CRLS} CRLs (REV-2)")]
    TooMany,
}

/// A list and where it was read.
#[derive(Clone, Debug)]
pub(super) struct CrlFile {
    pub(super) path: PathBuf,
    pub(super) crl: Arc<Crl>,
    /// The key that signed it (DER): two CAs of one name are two issuers.
    key: Arc<[u8]>,
}

impl CrlFile {
    /// Whether both are by one issuer about the same certificates.
    fn is_about_the_same_as(&self, other: &Self) -> bool {
        let order = self.crl.issuer().try_cmp(other.crl.issuer());
        self.key == other.key
            && self.crl.scope() == other.crl.scope()
            && order.is_ok_and(|order| order.is_eq())
    }

    /// Whether this list takes the place of `older`, wherever they were read.
    fn replaces(&self, older: &Self, now: Timestamp) -> bool {
        Arc::ptr_eq(&self.crl, &older.crl)
            || (self.is_about_the_same_as(older)
                && has_begun(&self.crl, now)
                && !self.crl.is_older_than(&older.crl))
    }
}

/// What is in use after `read` was read: that, and whatever of `before` nothing newer took the place of. A list that
/// is older than such a one is not used: it would make those good again who were revoked since.
pub(super) fn in_use(
    read: Vec<CrlFile>,
    before: &[CrlFile],
    now: Timestamp,
    problems: &mut Vec<FileProblem>,
) -> Vec<CrlFile> {
    let is_kept =
        |old: &&CrlFile| has_begun(&old.crl, now) && !read.iter().any(|new| new.replaces(old, now));
    let kept: Vec<CrlFile> = before.iter().filter(is_kept).cloned().collect();
    let mut files = Vec::with_capacity(read.len() + kept.len());
    for new in read {
        let is_older =
            |old: &&CrlFile| new.is_about_the_same_as(old) && new.crl.is_older_than(&old.crl);
        match kept.iter().find(is_older) {
            Some(old) => {
                let fault = CrlFileFault::Older {
                    this_update: new.crl.this_update(),
                    in_force: old.crl.this_update(),
                };
                problems.push(problem(&new.path, fault));
            }
            None => files.push(new),
        }
    }
    files.extend(kept);
    files
}

/// What tells one state of a file from the next: inode, size, times of change.
type Stamp = (u64, u64, i64, i64, i64, i64);

fn stamp(data: &Metadata) -> Stamp {
    (
        data.ino(),
        data.size(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    )
}

/// Files as they were last read, so that a list that did not change is indexed once, however many domains have it.
#[derive(Default)]
pub(super) struct CrlCache {
    known: HashMap<PathBuf, (Stamp, Content)>,
}

#[derive(Clone, Default)]
struct Content {
    crls: Vec<Arc<Crl>>,
    unused: Vec<CrlFault>,
}

impl CrlCache {
    /// The lists of files and folders, each of which one of `issuers` has signed. What cannot be read becomes a problem;
    /// lists of a kind that is not used become warnings.
    pub(super) fn read(
        &mut self,
        paths: &[PathBuf],
        issuers: &[X509],
        problems: &mut Vec<FileProblem>,
        warnings: &mut Vec<FileProblem>,
    ) -> Vec<CrlFile> {
        let mut found = Vec::new();
        for path in paths {
            let (lists_before, problems_before) = (found.len(), problems.len());
            let files = match pem_files::files_under(path, &ENDINGS) {
                Ok(files) => files,
                Err(error) => {
                    problems.push(problem(path, CrlFileFault::Folder(error)));
                    continue;
                }
            };
            if files.is_empty() {
                problems.push(problem(path, CrlFileFault::EmptyFolder));
            }
            for file in files {
                match self.file(&file) {
                    Ok(content) => {
                        let unused = content.unused.iter();
                        warnings.extend(unused.map(|fault| problem(&file, (*fault).into())));
                        for crl in content.crls {
                            match signed(&file, crl, issuers) {
                                Some(list) => found.push(list),
                                None => {
                                    problems.push(problem(&file, CrlFileFault::SignedByNobody));
                                }
                            }
                        }
                    }
                    Err(fault) => problems.push(problem(&file, fault)),
                }
            }
            if found.len() == lists_before && problems.len() == problems_before {
                problems.push(problem(path, CrlFileFault::NoneUsed));
            }
            if found.len() > MAX_CRLS {
                problems.push(problem(path, CrlFileFault::TooMany));
                found.truncate(MAX_CRLS);
                break;
            }
        }
        found
    }

    /// Forgets the files that no domain uses any more.
    pub(super) fn keep_only(&mut self, is_used: impl Fn(&Path) -> bool) {
        self.known.retain(|path, _| is_used(path));
    }

    fn file(&mut self, path: &Path) -> Result<Content, CrlFileFault> {
        let mut file = File::open(path)?;
        let stamp = stamp(&file.metadata()?);
        if let Some((known, content)) = self.known.get(path)
            && *known == stamp
        {
            return Ok(content.clone());
        }
        let mut octets = Vec::new();
        (&mut file)
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut octets)?;
        if octets.len() as u64 > MAX_FILE_BYTES {
            return Err(CrlFileFault::TooLarge);
        }
        let content = parse(&octets)?;
        self.known.insert(path.to_owned(), (stamp, content.clone()));
        Ok(content)
    }
}

/// The list with the key of the one of `issuers` who signed it.
fn signed(path: &Path, crl: Arc<Crl>, issuers: &[X509]) -> Option<CrlFile> {
    let issuer = issuers.iter().find(|issuer| is_crl_of(&crl, issuer))?;
    let key = issuer.public_key().ok()?.public_key_to_der().ok()?;
    Some(CrlFile {
        path: path.to_owned(),
        crl,
        key: key.into(),
    })
}

fn problem(path: &Path, fault: CrlFileFault) -> FileProblem {
    FileProblem {
        path: path.to_owned(),
        fault: FileFault::Crl(fault),
    }
}

/// The lists of a file: DER, or any number in PEM.
fn parse(octets: &[u8]) -> Result<Content, CrlFileFault> {
    const SEQUENCE: u8 = 0x30;
    let mut content = Content::default();
    let mut take = |der: &[u8]| {
        match Crl::from_der(der) {
            Ok(crl) => content.crls.push(Arc::new(crl)),
            Err(fault) if fault.is_of_other_kind() => content.unused.push(fault),
            Err(fault) => return Err(fault),
        }
        Ok(())
    };
    if octets.first() == Some(&SEQUENCE) {
        take(octets)?;
        return Ok(content);
    }
    let text = std::str::from_utf8(octets).map_err(|_| CrlFileFault::None)?;
    let blocks = pem_blocks(text)?;
    if blocks.is_empty() {
        return Err(CrlFileFault::None);
    }
    for base64 in blocks {
        take(&decode_block(&base64).map_err(|_| BROKEN_PEM)?)?;
    }
    Ok(content)
}

const BROKEN_PEM: CrlFault = CrlFault::Malformed("its PEM form breaks off or is no base64");

/// The base64 text of each list. A file that breaks off, be it within the first line of a block, is none at all: what
/// is missing is not known.
fn pem_blocks(text: &str) -> Result<Vec<String>, CrlFault> {
    const DASHES: &str = "-----";
    let mut blocks = Vec::new();
    // The label and the text of the block that is open.
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(str::trim_end) {
        let mark = line
            .strip_prefix(DASHES)
            .and_then(|line| line.strip_suffix(DASHES));
        let beginning = mark.and_then(|mark| mark.strip_prefix("BEGIN "));
        let end = mark.and_then(|mark| mark.strip_prefix("END "));
        open = match (open, beginning, end) {
            (None, Some(label), _) => Some((label, String::new())),
            (Some((label, base64)), _, Some(ended)) if label == ended => {
                if label == LABEL {
                    blocks.push(base64);
                }
                None
            }
            // Half a mark, or one out of place.
            _ if line.starts_with('-') => return Err(BROKEN_PEM),
            (Some((label, mut base64)), ..) => {
                base64.extend(line.split_ascii_whitespace());
                Some((label, base64))
            }
            // Words between blocks are usual: what `openssl crl -text` prints.
            (None, ..) => None,
        };
    }
    match open {
        Some(_) => Err(BROKEN_PEM),
        None => Ok(blocks),
    }
}
