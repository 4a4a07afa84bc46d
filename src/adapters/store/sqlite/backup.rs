//! A copy of the data directory that another bridge can be started on, taken beside a running bridge or without one.
//!
//! The database is copied as it is at one instant (`VACUUM INTO` in one read transaction: nobody who writes waits), the
//! body files one by one. A body that is removed while files are copied is missing then for a database copied before: so
//! most files are copied first, and the database again as long as one of its bodies has gone meanwhile. What results is
//! whole: every body that a row speaks of is there.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    super::{
        StoreConfig, StoreKind,
        data_dir::{self, make_folder, new_file, sync_folder},
        postmaster,
    },
    body, body_files, connection,
};
use crate::formats::ids::BodyId;

/// What the name of a copy ends in until it is whole.
const PART_ENDING: &str = ".partial";
/// How often the database is copied anew because bodies went meanwhile. Each time only the few that came since the last
/// are copied, so that the time in which one may go is short.
const MAX_ROUNDS: usize = 20;
/// Longest wait for a lock of the running bridge, which holds one for a checkpoint at the most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
const COPY: &str = "VACUUM INTO ?1";
const COUNT: &str = "SELECT count(*) FROM exchange";
const CHECK: &str = "PRAGMA quick_check(1)";

/// What a copy holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Exchanges.
    pub exchanges: u64,
    /// Bodies in files of their own.
    pub body_files: u64,
    /// Mails for the postmaster, and records of their use.
    pub postmaster_files: u64,
    /// Bodies that a row speaks of and that the store itself has lost.
    pub missing: Vec<BodyId>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store is a database server's.
    #[error(
        "store.kind is \"postgres\": the database is copied by its own tools (pg_dump, or continuous archiving), as \
         docs/operations.md says"
    )]
    NotSqlite,
    /// There is nothing to copy.
    #[error("there is no store in {}", path.display())]
    NoStore {
        /// Where.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{} is there already; what would be accepted: a path where nothing is, or an empty folder", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A copy was broken off, or another is being made.
    #[error(
        "{} is there: another copy is being made, or one was broken off; if so, remove it",
        path.display()
    )]
    Unfinished {
        /// Where.
        path: PathBuf,
    },
    /// The copy would lie in what it is made of.
    #[error("{} lies in the data directory itself", path.display())]
    Inside {
        /// Where.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{} cannot be copied or made", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite cannot do it.
    #[error("the database cannot be copied")]
    Database(#[from] rusqlite::Error),
    /// A later release made the tables.
    #[error("the database was written by a later release: take the copy with that one")]
    LaterRelease,
    /// The copy is not as it should be.
    #[error("the database is damaged: {what}")]
    Damaged {
        /// What SQLite says of it.
        what: String,
    },
    /// Bodies went faster than they could be copied.
    #[error("bodies were removed faster than they could be copied, {MAX_ROUNDS} times over")]
    Unstable,
}

/// Copies the store that `config` names to `destination`. Nothing is there before it is whole and on disk. The key files
/// are no part of it.
pub fn back_up(config: &StoreConfig, destination: &Path) -> Result<BackedUp, BackupError> {
    if config.kind != StoreKind::Sqlite {
        return Err(BackupError::NotSqlite);
    }
    let from = Place::new(&config.path);
    if !from.database.is_file() {
        let path = config.path.clone();
        return Err(BackupError::NoStore { path });
    }
    let (destination, parent) = free_place(destination)?;
    let data = fs::canonicalize(&config.path).map_err(|source| file(&config.path, source))?;
    if parent.starts_with(&data) {
        return Err(BackupError::Inside { path: destination });
    }
    let part = Part::new(&destination)?;
    let to = Place::new(&part.path);
    let done = copy_all(&from, &to)?;
    fs::rename(&part.path, &destination).map_err(|source| file(&destination, source))?;
    sync_folder(&parent).map_err(|source| file(&parent, source))?;
    Ok(done)
}

/// Where a copy may be put, and the folder that it comes into.
fn free_place(destination: &Path) -> Result<(PathBuf, PathBuf), BackupError> {
    let exists = || BackupError::Exists {
        path: destination.to_owned(),
    };
    match fs::read_dir(destination) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(exists());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(exists()),
        Err(source) => return Err(file(destination, source)),
    }
    let name = destination.file_name().ok_or_else(exists)?;
    let parent = match destination.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let parent = fs::canonicalize(parent).map_err(|source| file(parent, source))?;
    Ok((parent.join(name), parent))
}

/// A data directory, or a copy of one.
struct Place {
    folder: PathBuf,
    database: PathBuf,
    bodies: PathBuf,
    postmaster: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            database: data_dir::database_in(folder),
            bodies: data_dir::bodies_in(folder),
            postmaster: postmaster::folder_in(folder),
        }
    }
}

/// A copy that is not whole yet. Dropped before it has its name, it goes.
struct Part {
    path: PathBuf,
}

impl Part {
    fn new(destination: &Path) -> Result<Self, BackupError> {
        let mut name = destination.as_os_str().to_owned();
        name.push(PART_ENDING);
        let path = PathBuf::from(name);
        match DirBuilder::new().mode(data_dir::FOLDER_MODE).create(&path) {
            Ok(()) => Ok(Self { path }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Unfinished { path })
            }
            Err(source) => Err(file(&path, source)),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is not there any more once it has its name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn copy_all(from: &Place, to: &Place) -> Result<BackedUp, BackupError> {
    let source = connect(&from.database)?;
    if !connection::is_known(&source)? {
        return Err(BackupError::LaterRelease);
    }
    make_folder(&to.bodies, false).map_err(|source| file(&to.bodies, source))?;
    let mut bodies = BodyCopies {
        from: &from.bodies,
        to: &to.bodies,
        copied: HashSet::new(),
    };
    // Most of the files; what has gone by then is not asked for.
    bodies.copy(&in_files(&source)?)?;
    let (wanted, missing) = copy_database(&source, &mut bodies, to)?;
    bodies.keep_only(&wanted)?;
    let copy = connect(&to.database)?;
    let told: String = copy.query_row(CHECK, [], |row| row.get(0))?;
    if told != "ok" {
        return Err(BackupError::Damaged { what: told });
    }
    let exchanges: i64 = copy.query_row(COUNT, [], |row| row.get(0))?;
    close(copy)?;
    let postmaster_files = copy_postmaster(from, to)?;
    for folder in [&to.bodies, &to.folder] {
        sync_folder(folder).map_err(|source| file(folder, source))?;
    }
    Ok(BackedUp {
        exchanges: u64::try_from(exchanges).unwrap_or_default(),
        body_files: bodies.copied.len() as u64,
        postmaster_files,
        missing,
    })
}

/// Copies the database, and the bodies that came since the last look, until all of its bodies are there. Gives the bodies
/// that it speaks of, and those of them that the store itself has lost.
fn copy_database(
    source: &Connection,
    bodies: &mut BodyCopies<'_>,
    to: &Place,
) -> Result<(HashSet<BodyId>, Vec<BodyId>), BackupError> {
    let mut missing_before = None;
    for _ in 0..MAX_ROUNDS {
        snapshot(source, &to.database)?;
        let copy = connect(&to.database)?;
        let wanted = in_files(&copy)?;
        close(copy)?;
        let missing = bodies.copy(&wanted)?;
        // A row that still speaks of a body that was not there a round ago speaks of one that is lost.
        if missing.is_empty() || missing_before.as_ref() == Some(&missing) {
            return Ok((wanted.into_iter().collect(), missing));
        }
        missing_before = Some(missing);
    }
    Err(BackupError::Unstable)
}

fn in_files(connection: &Connection) -> rusqlite::Result<Vec<BodyId>> {
    let owned = body::in_files(connection)?;
    Ok(owned.into_iter().map(|(id, _)| id).collect())
}

/// Writes the database as it is now to `path`.
fn snapshot(source: &Connection, path: &Path) -> Result<(), BackupError> {
    let told = |source| file(path, source);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(error)),
        _ => {}
    }
    // SQLite takes an empty file as it is, and so its mode.
    new_file(true).open(path).map_err(told)?;
    let name = path
        .to_str()
        .ok_or_else(|| told(io::Error::other("the path is not UTF-8")))?;
    source.execute(COPY, [name])?;
    let written = File::open(path).and_then(|file| file.sync_all());
    written.map_err(told)
}

/// Nothing is ever written by it; but to read a database in WAL mode takes the right to write its index.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn close(connection: Connection) -> rusqlite::Result<()> {
    connection.close().map_err(|(_, error)| error)
}

struct BodyCopies<'a> {
    from: &'a Path,
    to: &'a Path,
    copied: HashSet<BodyId>,
}

impl BodyCopies<'_> {
    /// Copies those that are not copied yet. Gives those that are not there.
    fn copy(&mut self, wanted: &[BodyId]) -> Result<Vec<BodyId>, BackupError> {
        let mut missing = Vec::new();
        let mut folders = HashSet::new();
        for id in wanted {
            if self.copied.contains(id) {
                continue;
            }
            let path = body_files::path_in(self.to, *id);
            let folder = body_files::folder_in(self.to, *id);
            make_folder(&folder, false).map_err(|source| file(&folder, source))?;
            if copy_file(&body_files::path_in(self.from, *id), &path)? {
                self.copied.insert(*id);
                folders.insert(folder);
            } else {
                missing.push(*id);
            }
        }
        for folder in folders {
            sync_folder(&folder).map_err(|source| file(&folder, source))?;
        }
        Ok(missing)
    }

    /// Removes what went from the store while the copy was made.
    fn keep_only(&mut self, wanted: &HashSet<BodyId>) -> Result<(), BackupError> {
        let gone: Vec<BodyId> = self.copied.difference(wanted).copied().collect();
        for id in gone {
            let path = body_files::path_in(self.to, id);
            fs::remove_file(&path).map_err(|source| file(&path, source))?;
            self.copied.remove(&id);
        }
        Ok(())
    }
}

fn copy_postmaster(from: &Place, to: &Place) -> Result<u64, BackupError> {
    let entries = match fs::read_dir(&from.postmaster) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(file(&from.postmaster, source)),
    };
    make_folder(&to.postmaster, false).map_err(|source| file(&to.postmaster, source))?;
    let mut count = 0;
    for entry in entries {
        let entry = entry.map_err(|source| file(&from.postmaster, source))?;
        let path = entry.path();
        let is_whole =
            postmaster::is_whole(&path) && entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_whole && copy_file(&path, &to.postmaster.join(entry.file_name()))? {
            count += 1;
        }
    }
    sync_folder(&to.postmaster).map_err(|source| file(&to.postmaster, source))?;
    Ok(count)
}

/// Copies a file that does not change; false if it is not there.
fn copy_file(from: &Path, to: &Path) -> Result<bool, BackupError> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(file(from, source)),
    };
    let written = new_file(true).open(to).and_then(|mut copy| {
        io::copy(&mut source, &mut copy)?;
        copy.sync_all()
    });
    written.map_err(|source| file(to, source))?;
    Ok(true)
}

fn file(path: &Path, source: io::Error) -> BackupError {
    let path = path.to_owned();
    BackupError::File { path, source }
}
