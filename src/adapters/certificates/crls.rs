//! Revocation lists from files, read anew when a file changes: an operator's timer replaces them.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use openssl::{base64::decode_block, x509::X509};

use super::{FileFault, FileProblem, pem};
use crate::{
    bridge::trust::is_crl_of,
    formats::smime::crl::{Crl, CrlFault},
};

/// Largest file of revocation lists, in octets.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Most lists of one domain.
const MAX_CRLS: usize = 1_000;
/// Name endings of the files that are read in a folder.
const ENDINGS: [&str; 3] = ["crl", "pem", "der"];
const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// Why a file gives no revocation lists.
#[derive(Debug, thiserror::Error)]
pub enum CrlFileFault {
    /// It is not there, or may not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The folder has too many files.
    #[error(transparent)]
    Folder(pem::PemError),
    /// Far larger than lists are.
    #[error(
        "is larger than {MAX_FILE_BYTES} octets; files of CRLs up to that size are accepted (REV-2)"
    )]
    TooLarge,
    /// Nothing of the kind inside.
    #[error("holds no CRL; PEM ({BEGIN}) or one in DER form is accepted (REV-2)")]
    None,
    /// A list that cannot be used.
    #[error("{0}")]
    Crl(#[from] CrlFault),
    /// Nobody known has signed it.
    #[error(
        "a CRL is signed by none of the domain's anchors and intermediates whose keyUsage allows it; add its issuer's certificate to them (REV-2)"
    )]
    SignedByNobody,
    /// Too many of them.
    #[error("the domain has more than {MAX_CRLS} CRLs (REV-2)")]
    TooMany,
}

/// A list and where it was read.
#[derive(Clone, Debug)]
pub(super) struct CrlFile {
    pub(super) path: PathBuf,
    pub(super) crl: Arc<Crl>,
}

impl CrlFile {
    /// Whether this list takes the place of `older`.
    pub(super) fn replaces(&self, older: &Self) -> bool {
        let (new, old) = (&self.crl, &older.crl);
        let is_same_issuer = new
            .issuer()
            .try_cmp(old.issuer())
            .is_ok_and(|order| order.is_eq());
        self.path == older.path
            || (is_same_issuer
                && new.scope() == old.scope()
                && new.this_update() >= old.this_update())
    }
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
            let files = match pem::files_under(path, &ENDINGS) {
                Ok(files) => files,
                Err(error) => {
                    problems.push(problem(path, CrlFileFault::Folder(error)));
                    continue;
                }
            };
            for file in files {
                match self.file(&file) {
                    Ok(content) => {
                        let unused = content.unused.iter();
                        warnings.extend(unused.map(|fault| problem(&file, (*fault).into())));
                        for crl in content.crls {
                            if issuers.iter().any(|issuer| is_crl_of(&crl, issuer)) {
                                let path = file.clone();
                                found.push(CrlFile { path, crl });
                            } else {
                                problems.push(problem(&file, CrlFileFault::SignedByNobody));
                            }
                        }
                    }
                    Err(fault) => problems.push(problem(&file, fault)),
                }
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
    let mut blocks = text.split(BEGIN).skip(1).peekable();
    if blocks.peek().is_none() {
        return Err(CrlFileFault::None);
    }
    for block in blocks {
        let broken = CrlFault::Malformed("its PEM form breaks off or is no base64");
        let (base64, _) = block.split_once(END).ok_or(broken)?;
        let base64: String = base64.split_ascii_whitespace().collect();
        take(&decode_block(&base64).map_err(|_| broken)?)?;
    }
    Ok(content)
}
