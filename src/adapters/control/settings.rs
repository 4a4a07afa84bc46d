//! The settings of the control socket.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The name of the socket in the data directory.
const IN_DATA_DIRECTORY: &str = "control.sock";

/// Longest path of a socket, in octets: what `sun_path` holds beside its end (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// The socket by which `xdbridge exchange` talks to the running bridge: `[control]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Where the Unix socket lies, such as `"/run/xdbridge/control.sock"`: in a directory that nobody but the bridge's
    /// user and root may write to, and at most 107 octets long. Default: `control.sock` in `store.path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl ControlConfig {
    /// Where the socket lies, given the data directory.
    pub fn path(&self, data_directory: &Path) -> PathBuf {
        let chosen = self.socket.clone();
        chosen.unwrap_or_else(|| data_directory.join(IN_DATA_DIRECTORY))
    }

    /// Everything that is wrong with the values: key and what would be accepted.
    pub fn problems(&self, data_directory: &Path) -> Vec<String> {
        let path = self.path(data_directory);
        if path.as_os_str().len() <= MAX_PATH_BYTES {
            return Vec::new();
        }
        vec![format!(
            "control.socket: a path of at most {MAX_PATH_BYTES} octets; {} is longer",
            path.display()
        )]
    }
}
