//! Files of a new configuration, as `init` and `demo` write them: their owner's alone, and never over others.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;

use crate::formats::smime::SigningIdentity;

/// A folder that its owner alone may enter. One that is there stays as it is.
pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.with_context(|| format!("cannot make {}", path.display())),
    }
}

/// The certificate with its intermediates as `NAME.pem`, the key as `NAME.key`.
pub(super) fn write_identity(name: &Path, identity: &SigningIdentity) -> anyhow::Result<()> {
    let mut chain = identity.certificate.to_pem()?;
    for intermediate in &identity.intermediates {
        chain.extend(intermediate.to_pem()?);
    }
    write_new(&name.with_extension("pem"), &chain)?;
    let key = zeroize::Zeroizing::new(identity.key.private_key_to_pem_pkcs8()?);
    write_new(&name.with_extension("key"), &key)
}

/// A new file that its owner alone may read.
pub(super) fn write_new(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(octets)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
