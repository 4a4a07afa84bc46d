//! The demo's directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::bail;
use uuid::Uuid;

use crate::app::new_files::make_folder;

/// A directory for everything that the demo makes. A temporary one is removed with this value.
pub(super) struct DemoFolder {
    path: PathBuf,
    is_temporary: bool,
}

impl DemoFolder {
    /// `dir`, new or empty, or else a temporary directory.
    pub(super) fn make(dir: Option<&Path>) -> anyhow::Result<Self> {
        let path = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("xdbridge-demo-{}", Uuid::new_v4())),
        };
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!(
                "{} is not empty; give a new directory or an empty one",
                path.display()
            );
        }
        make_folder(&path)?;
        let is_temporary = dir.is_none();
        Ok(Self { path, is_temporary })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DemoFolder {
    fn drop(&mut self) {
        if self.is_temporary {
            // Nothing more can be done about what cannot be removed: all in it is invented.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_goes_and_a_named_one_stays() {
        let temporary = DemoFolder::make(None).unwrap();
        let named = temporary.path().join("kept");
        drop(DemoFolder::make(Some(&named)).unwrap());
        assert!(named.is_dir());
        let path = temporary.path().to_owned();
        drop(temporary);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let temporary = DemoFolder::make(None).unwrap();
        fs::write(temporary.path().join("file"), "mine").unwrap();
        assert!(DemoFolder::make(Some(temporary.path())).is_err());
    }
}
