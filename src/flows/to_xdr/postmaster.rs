//! Mail for whoever runs this bridge (smtp.md RX-24). It need not be sealed: who writes to a postmaster has trouble, often
//! with sealing. It is kept apart from all exchanges, encrypted, until an operator reads it; it is never answered.

use std::{io::Read, net::Ipv4Addr};

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{
    ToXdr,
    receive::{Envelope, Peer, cannot_store, imported},
};
use crate::{
    flows::{
        fault_points,
        intake::store_error,
        measures,
        ports::{BodyInterrupted, MailAnswer, NotKept, StagedBody, StoreError, UnitOfWork},
    },
    formats::audit::AuditRecord,
};

/// The mail is larger than one for the postmaster may be.
const TOO_LARGE: MailAnswer = MailAnswer::Refused {
    code: 552,
    enhanced: "5.3.4",
    text: "the mail is too large for the postmaster",
};
/// As many as one day may bring came already.
const FULL: MailAnswer = MailAnswer::Deferred {
    code: 452,
    enhanced: "4.3.1",
    text: "the postmaster has too much mail now, try again later",
};

impl ToXdr {
    /// Takes a mail for the postmaster alone. `start` is what the listener puts in front of it.
    pub(super) async fn for_postmaster(
        &self,
        envelope: &Envelope,
        start: Vec<u8>,
        mut chunks: mpsc::Receiver<Result<Bytes, BodyInterrupted>>,
    ) -> MailAnswer {
        let mut mail = return_path(envelope);
        mail.extend_from_slice(&start);
        let mut size_bytes: u64 = 0;
        while let Some(chunk) = chunks.recv().await {
            // The listener answers by itself.
            let Ok(chunk) = chunk else {
                return MailAnswer::UNAVAILABLE;
            };
            size_bytes = size_bytes.saturating_add(chunk.len() as u64);
            if size_bytes > self.receiving.postmaster_max_bytes {
                return TOO_LARGE;
            }
            mail.extend_from_slice(&chunk);
        }
        match self.keep(envelope, mail).await {
            Ok(()) => MailAnswer::Accepted,
            Err(full @ (NotKept::Full | NotKept::FullForPeer)) => {
                warn!(
                    alarm = "postmaster",
                    "mail for the postmaster is put off: {full}"
                );
                measures::count_alarm("postmaster");
                FULL
            }
            Err(NotKept::Store(failure)) => cannot_store(&failure),
        }
    }

    /// Keeps a copy of a mail that is about to be recorded as an exchange, for the postmaster besides. The others have it, so that
    /// it is taken even when the postmaster cannot have it (smtp.md section 5, "Partial recipients").
    pub(super) async fn copy_for_postmaster(
        &self,
        envelope: &Envelope,
        staged: &StagedBody,
    ) -> Result<(), StoreError> {
        if !envelope.is_for_postmaster {
            return Ok(());
        }
        let kept = if staged.size > self.receiving.postmaster_max_bytes {
            Err(NotKept::Full)
        } else {
            let mut mail = return_path(envelope);
            let bodies = std::sync::Arc::clone(&self.bodies);
            let id = staged.id;
            let reading = tokio::task::spawn_blocking(move || {
                bodies
                    .open(id)?
                    .read_to_end(&mut mail)
                    .map_err(store_error)?;
                Ok::<_, StoreError>(mail)
            });
            let mail = reading
                .await
                .map_err(|_| StoreError::Failed("the thread that read a body is gone".into()))??;
            self.keep(envelope, mail).await
        };
        match kept {
            Ok(()) => Ok(()),
            Err(NotKept::Full | NotKept::FullForPeer) => {
                error!(
                    alarm = "postmaster",
                    "a mail for the postmaster and others is not kept for the postmaster: it is too large, or too many came"
                );
                measures::count_alarm("postmaster");
                Ok(())
            }
            Err(NotKept::Store(failure)) => Err(failure),
        }
    }

    async fn keep(&self, envelope: &Envelope, mail: Vec<u8>) -> Result<(), NotKept> {
        let size_bytes = mail.len() as u64;
        let peer = match &envelope.peer {
            Peer::Smtp(peer) => peer.address.ip(),
            Peer::ThisBridge => Ipv4Addr::LOCALHOST.into(),
        };
        self.postmaster.keep(mail, peer).await?;
        fault_points::pass("postmaster.kept").map_err(store_error)?;
        let record: AuditRecord = imported(envelope, size_bytes, self.clock.now());
        let unit = UnitOfWork {
            audit: vec![record.with("kept-for", "postmaster")],
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await?;
        measures::count_mail("postmaster");
        measures::count_alarm("postmaster");
        warn!(
            alarm = "postmaster",
            size_bytes,
            "there is mail for the postmaster: read it with `xdbridge postmaster list` and `show`"
        );
        Ok(())
    }
}

/// What final delivery puts in front of a mail (RFC 5321 section 4.4, RX-11).
fn return_path(envelope: &Envelope) -> Vec<u8> {
    let from = envelope.from.as_ref().map(ToString::to_string);
    format!("Return-Path: <{}>\r\n", from.unwrap_or_default()).into_bytes()
}
