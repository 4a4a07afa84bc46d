//! Servers of others that must not run as root: where the tests do, they run as nobody.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use rustix::process::geteuid;

/// User and group nobody.
const NOBODY: u32 = 65_534;

/// The command for a server whose files are in `root` and in the folders `inner`. As root it gives up its rights, and the
/// folders are then nobody's. It ends with the thread that the test runs on, also where that is killed.
pub(super) fn unprivileged(program: &Path, root: &Path, inner: &[&Path]) -> Command {
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        for path in [&[root], inner].concat() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([&user, &group, "--clear-groups"]);
    }
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .current_dir("/");
    command
}
