//! The names of what we measure, in one place. `/metrics` shows them in the Prometheus text format; labels hold
//! names of the configuration and fixed words, never anything of a message.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// HTTP answers of the XDR listener. Labels: `path` (`/xdr` or `other`), `method`, `status`.
pub const XDR_REQUESTS: &str = "xdbridge_xdr_requests_total";

/// From a request's head to its answer, in seconds. Label: `partner`.
pub const XDR_REQUEST_SECONDS: &str = "xdbridge_xdr_request_seconds";

/// Octets of request bodies. Label: `partner`.
pub const XDR_REQUEST_BYTES: &str = "xdbridge_xdr_request_bytes";

/// Requests whose client certificate belongs to no partner.
pub const XDR_STRANGERS: &str = "xdbridge_xdr_strangers_total";

/// Requests to `/api/v1` without a known token.
pub const API_STRANGERS: &str = "xdbridge_api_strangers_total";

/// Client certificates that no configured CA vouches for, refused in the handshake.
pub const CLIENT_CERTIFICATES_REFUSED: &str = "xdbridge_client_certificates_refused_total";

/// Octets of messages in flight, out of `limits.max_bytes_in_flight`.
pub const BYTES_IN_FLIGHT: &str = "xdbridge_bytes_in_flight";

/// Submissions that were decided. Label: `result` (`accepted`, `repeated` or `refused`).
pub const SUBMISSIONS: &str = "xdbridge_submissions_total";

/// Received mails that were looked at. Label: `result` (`opened`, `notice`, `repeated`, `untrusted`, `refused`,
/// `bounce`, `postmaster`, or `unverified` beside one of them: `receiving.inline_verify` had no time for it,
/// or waits for a revocation list).
pub const MAILS: &str = "xdbridge_mails_total";

/// Posts to XDR endpoints that ended. Labels: `endpoint`, `result` (`success`, `partial`, `refused`, `unavailable`,
/// `deferred` or `lost`).
pub const POSTS: &str = "xdbridge_posts_total";

/// Attempts to hand status submissions to partners that ended. Labels: `partner`, `result` (`taken`, `retried` or
/// `dead`).
pub const STATUS_SUBMISSIONS: &str = "xdbridge_status_submissions_total";

/// Notices to senders of mail. Labels: `disposition` (`processed`, `dispatched` or `failed`), `result` (`sent` or
/// `dropped`).
pub const NOTICES: &str = "xdbridge_notices_total";

/// What received MDNs and DSNs said of single recipients. Label: `result` (`matched`, `suppressed`, `late_negative`,
/// `informative`, `unmatched` or `suspect`).
pub const NOTICES_RECEIVED: &str = "xdbridge_received_notices_total";

/// Recipients that were settled. Label: `outcome` (`success`, or the token of mdn.md table RT).
pub const RECIPIENT_OUTCOMES: &str = "xdbridge_recipient_outcomes_total";

/// Searches for a certificate of a recipient, or of the sender whom a notice goes to. Label: `result` (`found`,
/// `pending`: to be asked again, or the token of mdn.md table RT).
pub const CERTIFICATE_SEARCHES: &str = "xdbridge_certificate_searches_total";

/// Questions for CERT records. Labels: `name` (`address` or `domain`), `answer` (`certificates`, `none`, or `failed`:
/// no answer, or one that may pass), `from` (`cache` or `servers`).
pub const CERT_QUERIES: &str = "xdbridge_cert_queries_total";

/// Questions to LDAP servers for certificates. Labels as in [`CERT_QUERIES`]: `name`, `answer`, `from`.
pub const LDAP_QUERIES: &str = "xdbridge_ldap_queries_total";

/// Fetches of what others published under a URL. Labels: `what` (`issuer`, `crl`, `ocsp`, `bundle` or `certificate`),
/// `result` (`done`, `refused`: a URL or an address that we do not go to, `no_address`, `busy`, `no_answer`, `timeout`,
/// `redirect`, `status` or `too_large`).
pub const FETCHES: &str = "xdbridge_fetches_total";

/// SMTP sessions that ended. Label: `end` (`quit`, `broken`, `timeout`, `errors`, `tls`, `injection`, `pipelining`,
/// `early`, `size` or `stop`).
pub const SMTP_SESSIONS: &str = "xdbridge_smtp_sessions_total";

/// SMTP connections that are open.
pub const SMTP_CONNECTIONS: &str = "xdbridge_smtp_connections";

/// SMTP connections that were sent away with 421. Label: `limit` (`all`, `address` or `rate`).
pub const SMTP_CONNECTIONS_REFUSED: &str = "xdbridge_smtp_connections_refused_total";

/// Mails that the SMTP listener received. Label: `result` (`accepted`, `deferred`, `refused` or `interrupted`).
pub const SMTP_MESSAGES: &str = "xdbridge_smtp_messages_total";

/// Octets of mails that the SMTP listener received.
pub const SMTP_MESSAGE_BYTES: &str = "xdbridge_smtp_message_bytes";

/// Days until a file of revocation lists is stale; below 0 it is. Label: `file`, its path.
pub const CRL_DAYS_LEFT: &str = "xdbridge_crl_days_left";

/// Days until a revocation list is stale that was fetched; below 0 it is, NaN: it is kept no more. Label: `url`, as CAs
/// that lead to an anchor write it into certificates.
pub const FETCHED_CRL_DAYS_LEFT: &str = "xdbridge_fetched_crl_days_left";

/// Days until a certificate of our own ends; below 0 it has. Label: `file`, its path.
pub const CERTIFICATE_DAYS_LEFT: &str = "xdbridge_certificate_days_left";

/// Days until a trust anchor ends; from then on nobody is trusted by it. Labels: `domain`, ours that trusts it, and
/// `sha256`.
pub const ANCHOR_DAYS_LEFT: &str = "xdbridge_anchor_days_left";

/// What is wrong with files of revocation lists now; 0 is well.
pub const CRL_PROBLEMS: &str = "xdbridge_crl_problems";

/// Octets free on the file system that holds the data directory (LIM-18).
pub const FREE_BYTES: &str = "xdbridge_store_free_bytes";

/// Files that can still be made there (LIM-19). Absent where the file system does not count them.
pub const FREE_INODES: &str = "xdbridge_store_free_inodes";

/// Octets of all bodies that are kept (LIM-20). Absent without `store.room.max_body_bytes`.
pub const BODY_BYTES: &str = "xdbridge_store_body_bytes";

/// 1 while a budget of room is used up and nothing more is accepted, else 0. Label: `budget` (`disk`, `inodes` or
/// `bodies`).
pub const ROOM_SHORT: &str = "xdbridge_room_short";

/// Things that an operator must look at; each is a log line with the field `alarm` too. Label: `alarm`.
pub const ALARMS: &str = "xdbridge_alarms_total";

/// Counts an alarm. The log line beside it says more.
pub fn count_alarm(alarm: &'static str) {
    metrics::counter!(ALARMS, "alarm" => alarm).increment(1);
}

/// Counts a received mail that was looked at.
pub fn count_mail(result: &'static str) {
    metrics::counter!(MAILS, "result" => result).increment(1);
}

/// Tells the recorder what each name means and in which unit it counts.
pub fn describe() {
    describe_counter!(XDR_REQUESTS, "HTTP answers of the XDR listener");
    describe_histogram!(
        XDR_REQUEST_SECONDS,
        Unit::Seconds,
        "From the head of an XDR request to its answer"
    );
    describe_histogram!(
        XDR_REQUEST_BYTES,
        Unit::Bytes,
        "Size of the bodies of XDR requests"
    );
    describe_counter!(
        XDR_STRANGERS,
        "Requests whose client certificate belongs to no partner"
    );
    describe_counter!(API_STRANGERS, "Requests to /api/v1 without a known token");
    describe_counter!(
        CLIENT_CERTIFICATES_REFUSED,
        "Client certificates refused in the handshake"
    );
    describe_counter!(SUBMISSIONS, "Submissions that were decided");
    describe_counter!(MAILS, "Received mails that were looked at");
    describe_counter!(POSTS, "Posts to XDR endpoints that ended");
    describe_counter!(
        STATUS_SUBMISSIONS,
        "Attempts to hand status submissions to partners that ended"
    );
    describe_counter!(NOTICES, "Notices to senders of mail");
    describe_counter!(
        NOTICES_RECEIVED,
        "What received MDNs and DSNs said of single recipients"
    );
    describe_counter!(RECIPIENT_OUTCOMES, "Recipients that were settled");
    describe_counter!(
        CERTIFICATE_SEARCHES,
        "Searches for a certificate of a recipient or of a notice's receiver"
    );
    describe_counter!(CERT_QUERIES, "Questions for CERT records");
    describe_counter!(LDAP_QUERIES, "Questions to LDAP servers for certificates");
    describe_counter!(SMTP_SESSIONS, "SMTP sessions that ended");
    describe_gauge!(SMTP_CONNECTIONS, "SMTP connections that are open");
    describe_counter!(
        FETCHES,
        "Fetches of what others published under a URL, such as CRLs"
    );
    describe_counter!(
        SMTP_CONNECTIONS_REFUSED,
        "SMTP connections that were sent away"
    );
    describe_counter!(SMTP_MESSAGES, "Mails that the SMTP listener received");
    describe_histogram!(
        SMTP_MESSAGE_BYTES,
        Unit::Bytes,
        "Size of the mails that the SMTP listener received"
    );
    describe_gauge!(
        CRL_DAYS_LEFT,
        "Days until a file of revocation lists is stale; below 0 it is"
    );
    describe_gauge!(
        FETCHED_CRL_DAYS_LEFT,
        "Days until a revocation list is stale that was fetched; below 0 it is"
    );
    describe_gauge!(
        CERTIFICATE_DAYS_LEFT,
        "Days until a certificate of our own ends; below 0 it has"
    );
    describe_gauge!(ANCHOR_DAYS_LEFT, "Days until a trust anchor ends");
    describe_gauge!(
        CRL_PROBLEMS,
        "What is wrong with files of revocation lists now; 0 is well"
    );
    describe_gauge!(
        FREE_BYTES,
        Unit::Bytes,
        "Octets free on the file system that holds the data directory"
    );
    describe_gauge!(
        FREE_INODES,
        "Files that can still be made on the file system that holds the data directory"
    );
    describe_gauge!(
        BODY_BYTES,
        Unit::Bytes,
        "Octets of all bodies that are kept"
    );
    describe_gauge!(
        ROOM_SHORT,
        "Whether a budget of room is used up, so that nothing more is accepted"
    );
    describe_counter!(ALARMS, "Things that an operator must look at");
    describe_gauge!(
        BYTES_IN_FLIGHT,
        Unit::Bytes,
        "Octets of messages in flight, as taken from the byte budget"
    );
}
