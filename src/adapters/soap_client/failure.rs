//! What a failed post means: whether the endpoint may have got it, and whether trust was the reason.

use std::error::Error;

use crate::bridge::post::PostEnd;

/// Longest text of a failure that is kept, in characters.
const MAX_DETAIL_CHARACTERS: usize = 256;

/// What OpenSSL says when we do not trust the endpoint.
const NOT_TRUSTED_BY_US: [&str; 3] = [
    "certificate verify failed",
    "hostname mismatch",
    "unsupported protocol",
];
/// What it says when the endpoint does not trust us, or shares no way to speak with us. Such an alert ends a handshake,
/// so that no request was taken, though with TLS 1.3 it may arrive after one was sent.
const ALERTS: [&str; 10] = [
    "alert bad certificate",
    "alert unsupported certificate",
    "alert certificate revoked",
    "alert certificate expired",
    "alert certificate unknown",
    "alert unknown ca",
    "alert access denied",
    "alert handshake failure",
    "alert protocol version",
    "certificate required",
];

/// The end of a post that came to no answer. `is_sent` tells whether the whole body had left.
pub(super) fn end_of(error: &reqwest::Error, is_sent: bool) -> PostEnd {
    let texts = texts(error);
    let says = |known: &[&str]| {
        let mut words = known.iter();
        words.any(|word| texts.iter().any(|text| text.contains(word)))
    };
    if says(&NOT_TRUSTED_BY_US) || says(&ALERTS) {
        return PostEnd::NotSent { is_untrusted: true };
    }
    if is_sent && !error.is_connect() {
        return PostEnd::AnswerLost;
    }
    PostEnd::NotSent {
        is_untrusted: false,
    }
}

/// What happened, for the audit: the innermost cause, cut, without control characters. No URL and no body is in it.
pub(super) fn detail_of(error: &reqwest::Error) -> String {
    let texts = texts(error);
    let text = texts.last().map_or("", String::as_str);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL_CHARACTERS)
        .collect()
}

/// The error and its causes in lower case, outermost first; the URL that the outermost would quote left out.
fn texts(error: &reqwest::Error) -> Vec<String> {
    let kind = match error {
        error if error.is_timeout() => "timed out",
        error if error.is_connect() => "no connection",
        error if error.is_body() => "the body broke off",
        _ => "the exchange of messages broke off",
    };
    let mut texts = vec![kind.to_owned()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        texts.push(inner.to_string().to_lowercase());
        cause = inner.source();
    }
    texts
}
