//! The room that is left where a store lies.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rustix::{fs::StatVfs, io::Errno};

use super::{PostgresStore, SqliteStore, failure::failed};
use crate::flows::ports::{FreeRoom, MeasureRoom, StoreError};

/// What is free on the file system that holds `path`. It may block, as on a network file system that does not answer.
async fn free(path: PathBuf) -> io::Result<FreeRoom> {
    let asked = tokio::task::spawn_blocking(move || told_of(&path));
    let told = asked.await.map_err(io::Error::other)??;
    Ok(FreeRoom {
        bytes: told.f_bavail.saturating_mul(told.f_frsize),
        // Some file systems make inodes as they are needed, and tell of none.
        inodes: (told.f_files > 0).then_some(told.f_favail),
    })
}

/// A node on PostgreSQL makes its folder when it first has something to put there; until then the one above counts.
fn told_of(path: &Path) -> rustix::io::Result<StatVfs> {
    let mut told = Err(Errno::NOENT);
    for folder in path.ancestors() {
        told = rustix::fs::statvfs(folder);
        if told.as_ref().err() != Some(&Errno::NOENT) {
            break;
        }
    }
    told
}

fn octets(sum: i64) -> Result<u64, StoreError> {
    u64::try_from(sum).map_err(failed)
}

#[async_trait]
impl MeasureRoom for SqliteStore {
    async fn free(&self) -> io::Result<FreeRoom> {
        free(self.folder().to_owned()).await
    }

    async fn body_bytes(&self) -> Result<u64, StoreError> {
        octets(self.sum_of_bodies().await?)
    }
}

#[async_trait]
impl MeasureRoom for PostgresStore {
    async fn free(&self) -> io::Result<FreeRoom> {
        free(self.folder().to_owned()).await
    }

    async fn body_bytes(&self) -> Result<u64, StoreError> {
        octets(self.sum_of_bodies().await?)
    }
}
