//! `xdbridge init DIR --domain D`: a working configuration with fresh keys and a private CA for trying out. Nothing in
//! it is a default secret: every key is made on the spot.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use openssl::x509::X509;

use crate::{
    adapters::{clock::SystemClock, store::create_key_file},
    app::{
        exit::{CommandError, Exit},
        new_files::{make_folder, write_identity, write_new},
        pki::{Authority, Profile},
    },
    flows::ports::Clock,
    formats::ids::{CertificateFingerprint, DomainName},
};

/// The name of the configuration file that is written.
pub const CONFIG_FILE: &str = "xdbridge.toml";

/// Where to, and for which domain.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The directory to write to: a new one, or an empty one.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The Direct domain to serve, such as `direct.harbor.example`.
    #[arg(long, value_name = "D")]
    pub domain: DomainName,
}

/// Runs the command.
pub fn run(args: &InitArgs, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let dir = args.dir.as_path();
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CommandError::failed(anyhow!(
            "{} is not empty; give a new directory or an empty one",
            dir.display()
        )));
    }
    write_all(dir, &args.domain).map_err(CommandError::Failed)?;
    let config = dir.join(CONFIG_FILE);
    writeln!(out, "wrote {}", config.display())?;
    writeln!(
        out,
        "check it: xdbridge config check --config {}",
        config.display()
    )?;
    writeln!(
        out,
        "start it: xdbridge serve --config {}",
        config.display()
    )?;
    Ok(Exit::Done)
}

fn write_all(dir: &Path, domain: &DomainName) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let authority = Authority::root("xdbridge trial CA", now)?;
    let server = authority.issue(&Profile::tls(domain.as_str(), now))?;
    let client = authority.issue(&Profile::tls("trial-ehr.invalid", now))?;
    let poster = authority.issue(&Profile::tls(domain.as_str(), now))?;
    let own = authority.issue(&Profile::domain(domain, now))?;

    make_folder(dir)?;
    for folder in ["ca", "tls", "direct", "anchors", "peers", "data"] {
        make_folder(&dir.join(folder))?;
    }
    let ca = authority.certificate.to_pem()?;
    write_new(&dir.join("ca/ca.pem"), &ca)?;
    write_new(
        &dir.join("ca/ca.key"),
        &authority.key.private_key_to_pem_pkcs8()?,
    )?;
    write_new(&dir.join("tls/clients.pem"), &ca)?;
    write_new(&dir.join("tls/endpoints.pem"), &ca)?;
    write_new(&dir.join("anchors/trial-ca.pem"), &ca)?;
    write_identity(&dir.join("tls/server"), &server)?;
    write_identity(&dir.join("tls/trial-ehr"), &client)?;
    write_identity(&dir.join("tls/client"), &poster)?;
    write_identity(&dir.join("direct/domain"), &own)?;
    let store_key = dir.join("store.key");
    create_key_file(&store_key).with_context(|| format!("cannot write {}", store_key.display()))?;
    let config = config_text(domain, &client.certificate)?;
    write_new(&dir.join(CONFIG_FILE), config.as_bytes())
}

fn config_text(domain: &DomainName, client: &X509) -> anyhow::Result<String> {
    let fingerprint = CertificateFingerprint::of_der(&client.to_der()?);
    Ok(TEMPLATE
        .replace("@DOMAIN@", domain.as_str())
        .replace("@CLIENT@", &fingerprint.to_string()))
}

const TEMPLATE: &str = include_str!("init.template.toml");
