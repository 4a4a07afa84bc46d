//! The commands' side of the control socket.

use std::{io, os::unix::net::UnixStream, path::Path, time::Duration};

use super::{ANSWER_TIMEOUT, PATH};
use crate::flows::ports::{NotDone, Order, Told};

/// Beyond the time that the bridge gives itself for an answer.
const GRACE: Duration = Duration::from_secs(10);
/// Largest answer, in octets: a long history is far below it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What asking came to.
#[derive(Debug)]
pub enum Asked {
    /// The running bridge answered.
    Answered(Result<Told, NotDone>),
    /// No bridge listens there.
    NobodyListens,
}

/// Why a running bridge could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket is not for this user.
    #[error(
        "the bridge's control socket is open to the bridge's own user and to root alone: run the command as one of them"
    )]
    NotAllowed,
    /// The socket cannot be reached.
    #[error("the bridge's control socket cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The connection failed on its way.
    #[error("the bridge did not answer on its control socket")]
    Broken(#[source] reqwest::Error),
    /// It is no bridge of this release.
    #[error("what answers on the control socket is no bridge of this release: {status}: {text}")]
    Foreign {
        /// The HTTP status.
        status: u16,
        /// What came with it.
        text: String,
    },
}

/// Hands `order` to the bridge that listens on the socket at `path`.
pub async fn ask(path: &Path, order: &Order) -> Result<Asked, AskError> {
    // Asked first, since an HTTP client does not tell why it has no connection.
    match UnixStream::connect(path) {
        Ok(_) => {}
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    Ok(Asked::NobodyListens)
                }
                io::ErrorKind::PermissionDenied => Err(AskError::NotAllowed),
                _ => Err(AskError::Unreachable(error)),
            };
        }
    }
    let client = reqwest::Client::builder()
        .unix_socket(path)
        .no_proxy()
        .timeout(ANSWER_TIMEOUT + GRACE)
        .build()
        .map_err(AskError::Broken)?;
    let body = serde_json::to_vec(order).unwrap_or_default();
    let asked = client
        .post(format!("http://localhost{PATH}"))
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .body(body);
    let mut answer = asked.send().await.map_err(AskError::Broken)?;
    let status = answer.status().as_u16();
    let mut octets = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(AskError::Broken)? {
        if octets.len() + chunk.len() > MAX_ANSWER_BYTES {
            let text = "more octets than any answer has".to_owned();
            return Err(AskError::Foreign { status, text });
        }
        octets.extend_from_slice(&chunk);
    }
    let parsed = match status {
        200 => serde_json::from_slice(&octets).map(Ok),
        403 => return Err(AskError::NotAllowed),
        _ => serde_json::from_slice(&octets).map(Err),
    };
    parsed.map(Asked::Answered).map_err(|_| AskError::Foreign {
        status,
        text: String::from_utf8_lossy(&octets).chars().take(200).collect(),
    })
}
