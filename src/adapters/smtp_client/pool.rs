//! Sessions that wait for their next message (TX-32).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::session::{Session, Target};

/// Waiting sessions over all hosts; one more is closed instead.
const MAX_WAITING: usize = 100;

/// Waiting sessions by host, address and TLS policy.
#[derive(Default)]
pub(super) struct Pool {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    sessions: HashMap<Target, Vec<(u64, Session)>>,
    count: usize,
    last_id: u64,
}

impl Pool {
    /// Takes the session that waited least: its peer has most likely not hung up yet.
    pub(super) fn take(&self, target: &Target) -> Option<Session> {
        self.lock().take(target, None)
    }

    /// Keeps `session` for `idle_timeout`, then closes it.
    pub(super) fn keep(self: &Arc<Self>, session: Session, idle_timeout: Duration) {
        let target = session.target.clone();
        let Ok(id) = self.lock().put(session) else {
            return;
        };
        let pool: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(idle_timeout).await;
            let session = pool
                .upgrade()
                .and_then(|pool| pool.lock().take(&target, Some(id)));
            if let Some(mut session) = session {
                session.quit().await;
            }
        });
    }

    /// Closes all that wait.
    pub(super) async fn close(&self) {
        let sessions = std::mem::take(&mut *self.lock()).sessions;
        let sessions = sessions.into_values().flatten();
        let farewells = sessions.map(|(_, mut session)| async move { session.quit().await });
        futures_util::future::join_all(farewells).await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, session: Session) -> Result<u64, TooMany> {
        if self.count >= MAX_WAITING {
            close_later(session);
            return Err(TooMany);
        }
        self.count += 1;
        self.last_id += 1;
        let waiting = self.sessions.entry(session.target.clone()).or_default();
        waiting.push((self.last_id, session));
        Ok(self.last_id)
    }

    /// Takes the last one, or the one of `id`.
    fn take(&mut self, target: &Target, id: Option<u64>) -> Option<Session> {
        let waiting = self.sessions.get_mut(target)?;
        let index = match id {
            None => waiting.len().checked_sub(1)?,
            Some(id) => waiting
                .iter()
                .position(|(waiting_id, _)| *waiting_id == id)?,
        };
        let (_, session) = waiting.remove(index);
        if waiting.is_empty() {
            self.sessions.remove(target);
        }
        self.count -= 1;
        Some(session)
    }
}

struct TooMany;

/// Says goodbye without keeping anybody waiting.
pub(super) fn close_later(mut session: Session) {
    tokio::spawn(async move { session.quit().await });
}
