//! The data directory: ours alone, and locked while it is open.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or looked at.
    #[error("the data directory {} cannot be used", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may look into it.
    #[error("the data directory {} has mode {mode:04o}: others may look into it; allowed is 0700", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("the data directory {} belongs to user {owner}, and the bridge runs as user {user}", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Another process has it open.
    #[error("the data directory {} is in use by another process", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// The data directory, locked until it is unlocked or dropped, or the process ends in whatever way.
pub(super) struct DataDir {
    path: PathBuf,
    lock: File,
}

const LOCK_FILE: &str = "lock";
const PROBE_FILE: &str = "owner-probe";
const DATABASE_FILE: &str = "xdbridge.db";
const BODIES_FOLDER: &str = "bodies";
pub(super) const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

impl DataDir {
    /// Makes the directory and its folders where they are missing, checks whose it is, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable {
            path: path.to_owned(),
            source,
        };
        make_folder(path, true).map_err(unusable)?;
        let metadata = fs::metadata(path).map_err(unusable)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(DataDirError::Exposed { path, mode });
        }
        let lock = new_file(false)
            .open(path.join(LOCK_FILE))
            .map_err(unusable)?;
        if let Err(error) = lock.try_lock() {
            return Err(match error {
                fs::TryLockError::WouldBlock => DataDirError::InUse {
                    path: path.to_owned(),
                },
                fs::TryLockError::Error(source) => unusable(source),
            });
        }
        let user = who_we_are(path).map_err(unusable)?;
        if metadata.uid() != user {
            return Err(DataDirError::Foreign {
                path: path.to_owned(),
                owner: metadata.uid(),
                user,
            });
        }
        let dir = Self {
            path: path.to_owned(),
            lock,
        };
        dir.lay_out().map_err(unusable)?;
        Ok(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        database_in(&self.path)
    }

    pub(super) fn bodies(&self) -> PathBuf {
        bodies_in(&self.path)
    }

    /// Lets another process in.
    pub(super) fn unlock(&self) {
        // The lock goes with the file in any case: nothing is lost when this fails.
        let _ = self.lock.unlock();
    }

    fn lay_out(&self) -> io::Result<()> {
        // SQLite gives its companion files (-wal, -shm) the mode of the database.
        new_file(false).open(self.database())?;
        make_folder(&self.bodies(), false)?;
        sync_folder(&self.path)
    }
}

/// The database of a data directory.
pub(super) fn database_in(folder: &Path) -> PathBuf {
    folder.join(DATABASE_FILE)
}

/// The folder of body files of a data directory.
pub(super) fn bodies_in(folder: &Path) -> PathBuf {
    folder.join(BODIES_FOLDER)
}

/// A file that is created with mode 0600.
pub(super) fn new_file(must_be_new: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    if must_be_new {
        options.create_new(true);
    } else {
        options.create(true).truncate(false);
    }
    options
}

/// Makes names in a folder durable: those added, renamed, removed.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a folder with mode 0700, unless it is there.
pub(super) fn make_folder(path: &Path, with_parents: bool) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    match builder
        .mode(FOLDER_MODE)
        .recursive(with_parents)
        .create(path)
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Our user id, as the owner of a file that we make: the standard library has no other way to ask.
fn who_we_are(folder: &Path) -> io::Result<u32> {
    let path = folder.join(PROBE_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let user = new_file(true).open(&path)?.metadata()?.uid();
    fs::remove_file(&path)?;
    Ok(user)
}
