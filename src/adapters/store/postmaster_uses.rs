//! Who listed, read or removed the postmaster's mail (audit.md section 7). The command that does it is no part of the bridge
//! and cannot write into its audit, whose chain a running bridge has open. So it leaves a sealed record beside the mails
//! before it shows or removes anything, and the bridge takes the records up: at once if it runs, else when it starts.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    failure::store_error,
    postmaster::{PostmasterBox, PostmasterError},
};
use crate::{
    flows::ports::{Audit, StoreError},
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::BodyId,
    },
};

/// How often a running bridge looks for such records.
pub(super) const TAKE_UP_INTERVAL: Duration = Duration::from_secs(2);
/// A command that has not written its record in this time has died.
const LONGEST_WRITE: Duration = Duration::from_secs(60 * 60);
/// What the name of a record ends in; before it stand its second and its id.
const ENDING: &str = ".use";
/// What the name of one ends in that cannot be read: it is kept, and not looked at again.
const DAMAGED_ENDING: &str = ".damaged";
/// The login uid of a process that nobody logged in for.
const NOBODY: &str = "4294967295";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostmasterAction {
    /// Time, size, sender and subject were shown.
    Listed,
    /// A mail was shown or written to a file.
    Read,
    /// A mail was removed.
    Removed,
}

#[derive(Debug, Serialize, Deserialize)]
struct Use {
    at: Timestamp,
    action: PostmasterAction,
    mails: Vec<Uuid>,
    uid: Option<u32>,
    login_uid: Option<String>,
}

impl PostmasterBox {
    /// Records what is about to be done with these mails, by whoever runs this process. Returns once that is durable.
    pub fn tell(
        &self,
        action: PostmasterAction,
        mails: &[Uuid],
        at: Timestamp,
    ) -> Result<(), PostmasterError> {
        let told = Use {
            at,
            action,
            mails: mails.to_vec(),
            uid: fs::metadata("/proc/self").ok().map(|own| own.uid()),
            login_uid: login_uid(),
        };
        let octets = serde_json::to_vec(&told).map_err(io::Error::from);
        let id = BodyId::random();
        let name = format!("{:012}-{}", at.as_second().max(0), id.0);
        octets
            .and_then(|octets| self.write_sealed(id, &octets, &name, ENDING))
            .map_err(|source| self.unusable(source))
    }

    /// The records that wait, with their ids.
    fn uses(&self) -> io::Result<Vec<(BodyId, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let stem = name.and_then(|name| name.strip_suffix(ENDING));
            let id = stem.and_then(|stem| stem.split_once('-')?.1.parse().ok());
            found.extend(id.map(|id| (BodyId(id), path.clone())));
        }
        found.sort_by(|(_, one), (_, other)| one.cmp(other));
        Ok(found)
    }
}

/// Who logged in, whatever user the process became since.
fn login_uid() -> Option<String> {
    let uid = fs::read_to_string("/proc/self/loginuid").ok()?;
    let uid = uid.trim();
    (uid != NOBODY && uid.bytes().all(|octet| octet.is_ascii_digit())).then(|| uid.to_owned())
}

/// Moves the records that wait into the audit. A crash in between leaves one there twice, with one id.
pub(super) async fn take_up(mails: &PostmasterBox, audit: &dyn Audit) -> Result<(), StoreError> {
    // A few small files, rarely one: not worth a thread.
    for (id, path) in mails.uses().map_err(store_error)? {
        let octets = match mails.read_sealed(id, &path) {
            Err(failure) if failure.is_transient() => return Err(failure),
            read => read.ok(),
        };
        let told = octets.and_then(|octets| serde_json::from_slice::<Use>(&octets).ok());
        let Some(told) = told else {
            let at = second_of(&path);
            let record = AuditRecord::new(at, AuditKind::PostmasterMail, AuditOutcome::Serious)
                .with("use", id.0.to_string())
                .with("error", "the record of a use is damaged");
            audit.record(record).await?;
            fs::rename(&path, path.with_extension(&DAMAGED_ENDING[1..])).map_err(store_error)?;
            continue;
        };
        audit.record(record(id, &told)).await?;
        fs::remove_file(&path).map_err(store_error)?;
    }
    Ok(())
}

/// Whether it is a record that a command may still be writing.
pub(super) fn may_be_begun(path: &Path, now: Timestamp) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let is_use = name.is_some_and(|name| name.contains(&format!("{ENDING}.")));
    is_use && now.duration_since(second_of(path)).unsigned_abs() < LONGEST_WRITE
}

fn second_of(path: &Path) -> Timestamp {
    let name = path.file_name().and_then(|name| name.to_str());
    let second = name.and_then(|name| name.split_once('-')?.0.parse().ok());
    second
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn record(id: BodyId, told: &Use) -> AuditRecord {
    let action = match told.action {
        PostmasterAction::Listed => "listed",
        PostmasterAction::Read => "read",
        PostmasterAction::Removed => "removed",
    };
    let mails: Vec<String> = told.mails.iter().map(Uuid::to_string).collect();
    let uid = told
        .uid
        .map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
    let record = AuditRecord::new(told.at, AuditKind::PostmasterMail, AuditOutcome::Success)
        .with("use", id.0.to_string())
        .with("action", action)
        .with("mails", mails.join(" "))
        .with("uid", uid);
    match &told.login_uid {
        Some(uid) => record.with("login-uid", uid),
        None => record,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::adapters::store::{StoreConfig, create_key_file};

    #[derive(Default)]
    struct Notebook(Mutex<Vec<AuditRecord>>);

    #[async_trait]
    impl Audit for Notebook {
        async fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
            self.0.lock().unwrap().push(record);
            Ok(())
        }
    }

    // rule: PHI-4, PHI-5, RX-24
    #[tokio::test]
    async fn what_was_done_with_the_mail_goes_to_the_audit_once_and_lies_sealed_until_then() {
        let folder = std::env::temp_dir().join(format!("xdbridge-{}", Uuid::new_v4()));
        let key = folder.join("key");
        fs::create_dir_all(folder.join("data/postmaster")).unwrap();
        create_key_file(&key).unwrap();
        let config = StoreConfig {
            path: folder.join("data"),
            key_files: vec![key],
            ..StoreConfig::default()
        };
        let mails = PostmasterBox::new(&config).unwrap();
        let one = Uuid::new_v4();
        let at = |second| Timestamp::from_second(second).unwrap();
        mails
            .tell(PostmasterAction::Read, &[one], at(1_000))
            .unwrap();
        mails
            .tell(PostmasterAction::Removed, &[one], at(2_000))
            .unwrap();
        // Somebody changed what he had done.
        mails
            .tell(PostmasterAction::Read, &[one], at(3_000))
            .unwrap();
        let uses = mails.uses().unwrap();
        let mut octets = fs::read(&uses[2].1).unwrap();
        assert!(memchr::memmem::find(&octets, one.to_string().as_bytes()).is_none());
        *octets.last_mut().unwrap() ^= 1;
        fs::write(&uses[2].1, octets).unwrap();
        assert_eq!(mails.list().unwrap(), []);

        let audit = Notebook::default();
        take_up(&mails, &audit).await.unwrap();
        take_up(&mails, &audit).await.unwrap();
        let records = audit.0.lock().unwrap();
        let said: Vec<_> = records
            .iter()
            .map(|record| (record.at, record.outcome, record.details.get("action")))
            .collect();
        let action = |text: &str| text.to_owned();
        let (read, removed) = (action("read"), action("removed"));
        assert_eq!(
            said,
            [
                (at(1_000), AuditOutcome::Success, Some(&read)),
                (at(2_000), AuditOutcome::Success, Some(&removed)),
                (at(3_000), AuditOutcome::Serious, None),
            ]
        );
        assert_eq!(records[0].details["mails"], one.to_string());
        let own = fs::metadata(&folder).unwrap().uid().to_string();
        assert_eq!(records[0].details["uid"], own);
        fs::remove_dir_all(&folder).unwrap();
    }
}
