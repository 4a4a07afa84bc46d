//! RSA keys that are made once and then serve every test: drawing one takes a quarter of a second, several of them more
//! than the test itself. Each test is a process of its own, so they are kept in cargo's folder for what tests leave.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use openssl::pkey::{PKey, Private};
use xdbridge::{
    app::pki::{Authority, KeyKind, Profile},
    formats::smime::SigningIdentity,
};

/// What [`Profile`] makes for Direct mail, unless a test wants something else.
const KIND: KeyKind = KeyKind::Rsa(2048);

/// As [`Authority::issue`], with a kept key if an ordinary one is wanted: one that nobody else in this process has.
pub(crate) fn issue(authority: &Authority, profile: &Profile) -> SigningIdentity {
    if profile.key == KIND {
        authority.issue_for(profile, kept_key()).unwrap()
    } else {
        authority.issue(profile).unwrap()
    }
}

fn kept_key() -> PKey<Private> {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys");
    let path = folder.join(format!("rsa-2048-{number}.pem"));
    if let Ok(pem) = fs::read(&path) {
        return PKey::private_key_from_pem(&pem).unwrap();
    }
    let key = KIND.generate().unwrap();
    fs::create_dir_all(&folder).unwrap();
    // Another test may be at the same: each puts a whole file into place, and the last one stays.
    let draft = folder.join(format!("rsa-2048-{number}.{}", process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .unwrap();
    file.write_all(&key.private_key_to_pem_pkcs8().unwrap())
        .unwrap();
    fs::rename(&draft, &path).unwrap();
    key
}
