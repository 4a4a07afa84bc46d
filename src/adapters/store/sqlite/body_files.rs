//! Large bodies in files: `bodies/xx/<id>`, written under a temporary name, fsynced, renamed, the folder fsynced, all
//! before its writer is told that it is finished. So whatever a committed row speaks of is on disk.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::super::{
    bodies::{BodyStore, LargeBodies, SealedSource, WriteLarge},
    data_dir::{make_folder, new_file, sync_folder},
};
use crate::{flows::fault_points, formats::ids::BodyId};

/// What a file is called until it is finished.
const PART_SUFFIX: &str = "part";

/// Folders that the files are spread over.
const SPREAD: usize = 1 << u8::BITS;

/// The folder of body files.
#[derive(Clone)]
pub(super) struct BodyFiles {
    folder: PathBuf,
    /// Which of its folders are known to be on disk.
    known: Arc<Mutex<[bool; SPREAD]>>,
}

impl BodyFiles {
    pub(super) fn new(folder: PathBuf) -> Self {
        let known = Arc::new(Mutex::new([false; SPREAD]));
        Self { folder, known }
    }

    /// Unlinks the files of bodies whose rows are gone.
    pub(super) fn unlink(&self, ids: &[BodyId]) {
        for id in ids {
            self.unlink_path(&self.path_of(*id));
        }
    }

    /// The files that no open body of `bodies` owns: adopted, or left behind.
    pub(super) fn settled(&self, bodies: &BodyStore) -> io::Result<Vec<(Option<BodyId>, PathBuf)>> {
        let mut files = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            for entry in fs::read_dir(folder?.path())? {
                let path = entry?.path();
                let id = path
                    .file_stem()
                    .and_then(|name| name.to_str())
                    .and_then(|name| name.parse().ok())
                    .map(BodyId);
                if !id.is_some_and(|id| bodies.is_open(id)) {
                    let is_part = path.extension().is_some();
                    files.push((id.filter(|_| !is_part), path));
                }
            }
        }
        Ok(files)
    }

    /// Whether the body's file is there, whole or not.
    pub(super) fn is_there(&self, id: BodyId) -> bool {
        // What cannot be told is not called lost.
        self.path_of(id).try_exists().unwrap_or(true)
    }

    pub(super) fn unlink_path(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // It is found again by the next sweep.
                tracing::warn!(%error, "a body file could not be removed");
            }
            _ => {}
        }
    }

    fn path_of(&self, id: BodyId) -> PathBuf {
        path_in(&self.folder, id)
    }

    /// Makes the folder that the body's file goes into, and its name durable, unless that was done before.
    fn ensure_folder(&self, id: BodyId) -> io::Result<()> {
        // Whoever finds it known must find it durable, so it is held until it is.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut known[usize::from(first_octet(id))];
        if !*known {
            // It may be there from a process that died before it was durable.
            make_folder(&folder_in(&self.folder, id), false)?;
            sync_folder(&self.folder)?;
            *known = true;
        }
        Ok(())
    }
}

/// The file of a body below `folder`.
pub(super) fn path_in(folder: &Path, id: BodyId) -> PathBuf {
    folder_in(folder, id).join(id.to_string())
}

/// The folder of that file.
pub(super) fn folder_in(folder: &Path, id: BodyId) -> PathBuf {
    folder.join(format!("{:02x}", first_octet(id)))
}

fn first_octet(id: BodyId) -> u8 {
    let [first_octet, ..] = *id.0.as_bytes();
    first_octet
}

impl LargeBodies for BodyFiles {
    fn begin(&self, id: BodyId, header: &[u8]) -> io::Result<Box<dyn WriteLarge>> {
        self.ensure_folder(id)?;
        let path = self.path_of(id);
        let mut file = new_file(true).open(path.with_extension(PART_SUFFIX))?;
        file.write_all(header)?;
        Ok(Box::new(Writer { path, file }))
    }

    fn open(&self, id: BodyId, _is_staged: bool) -> io::Result<Option<SealedSource>> {
        let file = match File::open(self.path_of(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        Ok(Some((Box::new(file), length)))
    }

    fn remove(&self, id: BodyId) {
        let path = self.path_of(id);
        self.unlink_path(&path.with_extension(PART_SUFFIX));
        self.unlink_path(&path);
    }
}

struct Writer {
    path: PathBuf,
    file: File,
}

impl WriteLarge for Writer {
    fn write_chunk(&mut self, sealed: &[u8]) -> io::Result<()> {
        self.file.write_all(sealed)?;
        fault_points::pass_with_file("body.write", &self.file)
    }

    fn finish(&mut self, _size: u64) -> io::Result<()> {
        self.file.sync_all()?;
        fault_points::pass_with_file("body.sync", &self.file)?;
        fs::rename(self.path.with_extension(PART_SUFFIX), &self.path)?;
        self.path.parent().map_or(Ok(()), sync_folder)
    }
}
