//! The tools of the command line that stand in for another's implementation: openssl, unzip, xmllint.

use std::{fs, path::Path, process::Command};

use xdbridge::formats::smime::SigningIdentity;

use super::bridge::{pki, write_identity};

/// Runs a tool that must be content.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{tool} cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Decrypts and verifies a mail by `openssl cms`; gives the signed entity.
pub(crate) fn opened_by_openssl(
    folder: &Path,
    message: &[u8],
    identity: &SigningIdentity,
) -> Vec<u8> {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let keys = write_identity(folder, "mailbox", identity);
    let ca = pki().authority.certificate.to_pem().unwrap();
    fs::write(file("ca.pem"), ca).unwrap();
    fs::write(file("mail.eml"), message).unwrap();
    let (certificate, key) = (
        keys.certificate.to_str().unwrap(),
        keys.key.to_str().unwrap(),
    );
    run(
        "openssl",
        &[
            "cms",
            "-decrypt",
            "-binary",
            "-in",
            &file("mail.eml"),
            "-recip",
            certificate,
            "-inkey",
            key,
            "-out",
            &file("signed.eml"),
        ],
    );
    run(
        "openssl",
        &[
            "cms",
            "-verify",
            "-binary",
            "-crlfeol",
            "-in",
            &file("signed.eml"),
            "-CAfile",
            &file("ca.pem"),
            "-out",
            &file("entity.eml"),
        ],
    );
    fs::read(file("entity.eml")).unwrap()
}

/// `unzip -t` finds the package whole, and xmllint its metadata well-formed.
pub(crate) fn assert_tools_accept_the_package(folder: &Path, zip: &[u8]) {
    let path = folder.join("package.zip");
    fs::write(&path, zip).unwrap();
    let path = path.to_str().unwrap();
    run("unzip", &["-tq", path]);
    let target = folder.join("package");
    run("unzip", &["-q", path, "-d", target.to_str().unwrap()]);
    let metadata = target.join("IHE_XDM/SUBSET01/METADATA.XML");
    run(
        "xmllint",
        &["--noout", "--nonet", metadata.to_str().unwrap()],
    );
    assert!(target.join("INDEX.HTM").is_file());
}
