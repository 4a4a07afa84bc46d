//! The small traits that flows need from the world, and the values that pass through them.

mod control;
mod fetch;
mod postmaster;
mod serve_mail;

use std::{any::Any, fmt, io::Read, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;

pub use self::{
    control::{
        Asker, Done, ListOrder, MAX_PAGE, NotDone, Operator, Order, OrderId, OrderText, Page,
        PageEnd, ReadAudit, ServeOperators, Told,
    },
    fetch::{Fetch, FetchBody, FetchError, FetchRequest, Fetched, FindAddresses, NoAddresses},
    postmaster::{KeepPostmasterMail, NotKept},
    serve_mail::{
        MailAnswer, MailRecipient, MailTransaction, OriginalRecipient, RecipientAnswer, ServeMail,
        SmtpPeer, SmtpTls,
    },
};
pub use crate::bridge::{
    discovery::{Lookup, LookupStep},
    trust::CertificateCandidate,
};
use crate::{
    bridge::{
        exchange::{Effect, Exchange, NextHop, Scheduled},
        own_domain::OwnDomain,
    },
    formats::{
        audit::AuditRecord,
        ids::{BodyId, CertificateFingerprint, DirectAddress, DomainName, ExchangeId, MessageId},
    },
};

/// The one source of time.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
}

// --- certificates ------------------------------------------------------------------------------

/// One source of public certificates. Whether one of them may be used is [`crate::bridge::trust`]'s question, and
/// whether another source is asked [`super::directory::Directory`]'s.
#[async_trait]
pub trait FindCertificates: Send + Sync {
    /// What `owner` is looked for by, as a step names it.
    fn question(&self, owner: &DirectAddress) -> String;

    /// Everything that this source knows of `owner`, and the steps that led to it.
    async fn find(&self, owner: &DirectAddress) -> Lookup;
}

/// Finds the LDAP servers of a domain (certificates.md section 5).
#[async_trait]
pub trait FindLdapServers: Send + Sync {
    /// The servers that the SRV records of `_ldap._tcp` at `domain` name, in the order to try, five at the most; none
    /// where the domain offers none. `Err` says in a few words why nobody can tell.
    async fn servers(&self, domain: &DomainName) -> Result<LdapServers, String>;
}

/// The LDAP servers of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapServers {
    /// In the order to try (LDAP-1).
    pub servers: Vec<LdapServer>,
    /// What the DNS says, as a step tells it.
    pub told: String,
    /// Seconds for which it may be kept; `None`: nobody said.
    pub ttl: Option<u32>,
}

/// An LDAP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapServer {
    /// Its name.
    pub host: DomainName,
    /// Where it listens.
    pub port: u16,
}

/// Knows the domains that this bridge serves, as they were last loaded.
pub trait OwnDomains: Send + Sync {
    /// The domain's keys and trust; `None` for a domain that is not served here.
    fn find(&self, name: &DomainName) -> Option<std::sync::Arc<OwnDomain>>;
}

// --- mail --------------------------------------------------------------------------------------

/// Hands sealed mail to the next hop.
#[async_trait]
pub trait SendMail: Send + Sync {
    /// Sends one mail to recipients of one domain, in one transaction or more (TX-8, TX-28). One result for each
    /// recipient, in their order. A body that fails to read midway never leaves as a shortened message.
    async fn send(&self, mail: &OutgoingMail) -> Vec<SendResult>;
}

/// A sealed mail for the recipients of one domain.
pub struct OutgoingMail {
    /// The recipients' domain: decides the next hop.
    pub domain: DomainName,
    /// When the attempt must be over. What is settled by then stands; the rest is deferred.
    pub deadline: Timestamp,
    /// MAIL FROM; `None` is the null reverse-path.
    pub envelope_from: Option<DirectAddress>,
    /// RCPT TO.
    pub recipients: Vec<DirectAddress>,
    /// The outer header, with the blank line that ends it, CRLF.
    pub header: String,
    /// The rest of the message, CRLF, 7 bit.
    pub body: StoredBody,
}

/// What became of one recipient at the next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendResult {
    /// 250 after the final dot.
    Accepted(SmtpReceipt),
    /// Refused for good.
    Refused {
        /// `smtpRejected`, `tooLarge`, `unknownRecipient`, `badAddress`, `policyRefused` (no target that may be
        /// connected to), or `internal` (our stored body is damaged: to be alarmed).
        reason: crate::bridge::exchange::Reason,
        /// What the audit keeps: the peer and its reply, cut to 256 characters without control characters.
        detail: String,
    },
    /// Refused or not reached for now.
    Deferred {
        /// What the audit keeps.
        detail: String,
    },
}

/// What is kept of a hand-over: by the audit (audit.md section 7), and who it was by the exchange (DSN-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpReceipt {
    /// The next hop's name and address.
    pub peer: String,
    /// The same for a comparison; `None` where the mail did not leave this bridge.
    pub next_hop: Option<NextHop>,
    /// Whether TLS was used, and whether the peer's name was verified.
    pub tls: String,
    /// The final reply.
    pub reply: String,
}

/// Finds the hosts that take mail for a domain (smtp.md section 7).
#[async_trait]
pub trait FindMailHosts: Send + Sync {
    /// The hosts of `domain` that have an address, best first, without ourselves and whatever comes after us: five at
    /// the most, with four addresses each (TX-2 to TX-5).
    async fn hosts(&self, domain: &DomainName) -> Result<Vec<MailHost>, MailHostError>;

    /// The addresses of one host by its name, as the settings give it: a smarthost.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, MailHostError>;
}

/// A host that takes mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHost {
    /// Its name: what its TLS certificate must name.
    pub name: DomainName,
    /// Where it listens, in the order to try.
    pub addresses: Vec<IpAddr>,
}

/// Why no mail host is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailHostError {
    /// NXDOMAIN: 5.1.2, for good.
    #[error("the domain does not exist")]
    NoSuchDomain,
    /// `MX 0 .`: the domain takes no mail (RFC 7505): 5.1.10, for good.
    #[error("the domain takes no mail (null MX)")]
    NullMx,
    /// We are the best host ourselves and do not serve the domain: 5.4.6, for good.
    #[error("the best mail host of the domain is this bridge itself")]
    Loop,
    /// No host of the domain has an address: 5.4.4, for good.
    #[error("no mail host of the domain has an address")]
    NoAddress,
    /// SERVFAIL or a time-out: 4.4.3, may pass.
    #[error("the DNS gave no answer: {detail}")]
    Transient {
        /// What happened, without names of persons.
        detail: String,
    },
}

impl MailHostError {
    /// Whether a later attempt may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}

// --- store -------------------------------------------------------------------------------------

/// Exchanges, their outbox and the audit: one transaction for each [`UnitOfWork`].
#[async_trait]
pub trait Exchanges: Send + Sync {
    /// Writes all of `unit` or nothing. Returns once it is durable.
    async fn commit(&self, unit: UnitOfWork) -> Result<(), StoreError>;

    /// One exchange with its version.
    async fn load(&self, id: ExchangeId) -> Result<Option<VersionedExchange>, StoreError>;

    /// The exchanges that carry `key`, oldest first. Of an id that its sender chose, and may use again and again, some
    /// at most; what we made or computed finds all of them.
    async fn find(&self, key: &LookupKey) -> Result<Vec<ExchangeId>, StoreError>;

    /// Takes up to `limit` effects that are due and not leased, and leases them until `now + lease`.
    async fn claim(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError>;

    /// From now on, up to `room` effects that are due the moment they are committed are leased for `lease` in that same
    /// transaction, and wait for the next [`Exchanges::claim`], which then asks nobody: work that follows work at once
    /// costs no transaction of its own. A room of 0 ends it.
    fn lease_on_commit(&self, lease: Duration, room: usize);

    /// When the next effect can be claimed: the earliest one that waits becomes due, or a lease lapses.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Rings after effects were committed or given back, so that a waiting worker asks [`Exchanges::next_due`] anew.
    /// A ring that nobody hears is kept for the next one who listens; only one task should listen.
    fn due_changed(&self) -> Arc<Notify>;

    /// Gives a claimed effect back, due again at `at`: the attempt could not be made.
    async fn give_back(&self, claim: &Claim, at: Timestamp) -> Result<(), StoreError>;

    /// Asks whether a claim still stands, right before what cannot be taken back: [`StoreError::LeaseLost`] if another
    /// worker may have the effect by now. A node that the others may have taken for dead must not begin.
    async fn confirm(&self, claim: &Claim) -> Result<(), StoreError>;

    /// What is in the outbox for one exchange, first due first: what waits, and what is under way.
    async fn outstanding(&self, id: ExchangeId) -> Result<Vec<Outstanding>, StoreError>;

    /// A page of exchanges, newest first.
    async fn list(&self, filter: &ExchangeFilter) -> Result<Vec<Exchange>, StoreError>;
}

/// What one transaction writes. Audit rows ride in it, so that nothing is done without its record.
#[derive(Debug, Default)]
pub struct UnitOfWork {
    /// The new or changed exchange.
    pub exchange: Option<ExchangeWrite>,
    /// Bodies that the exchange owns from now on: staged until then (hold their [`StagedBody`]), and swept if the
    /// process dies before.
    pub adopt: Vec<BodyId>,
    /// Bodies to remove.
    pub remove: Vec<BodyId>,
    /// Effects to put into the outbox.
    pub effects: Vec<(ExchangeId, Scheduled)>,
    /// The claimed effect that this unit completes.
    pub done: Option<Claim>,
    /// The claim that this unit is a step of, without completing it: the unit is refused with
    /// [`StoreError::LeaseLost`] unless the claim still stands.
    pub under: Option<Claim>,
    /// Effects that wait and get another time. If one of them does not wait any more, the unit is refused with
    /// [`StoreError::Conflict`]: whoever decided about it decides again.
    pub reschedule: Vec<Reschedule>,
    /// What was known of a key when the unit was decided on. If another exchange carries that key by now, the unit is
    /// refused with [`StoreError::Overtaken`]: whoever decided looks again and decides again. So two nodes that decide
    /// about the same at the same moment do not both take it for the first.
    pub decided_on: Option<Found>,
    /// Records for the audit.
    pub audit: Vec<AuditRecord>,
}

/// What [`Exchanges::find`] gave for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key: one that finds all exchanges that carry it.
    pub key: LookupKey,
    /// What was found.
    pub exchanges: Vec<ExchangeId>,
}

/// How an exchange is written.
#[derive(Debug)]
pub enum ExchangeWrite {
    /// A new exchange, with the keys that it is found by.
    Insert {
        /// The exchange.
        exchange: Exchange,
        /// What it is found by.
        keys: Vec<LookupKey>,
    },
    /// A changed exchange. Refused with [`StoreError::Conflict`] unless the stored version is the one given.
    Update {
        /// The exchange.
        exchange: Exchange,
        /// The version it was loaded at.
        version: u64,
        /// Further keys that it is found by.
        keys: Vec<LookupKey>,
    },
}

/// What an exchange is found by. The store keeps a keyed hash of it only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LookupKey {
    /// A partner's wsa:MessageID: ids never match across partners (XDR-50).
    SoapMessageId {
        /// The partner's name.
        partner: String,
        /// The id.
        id: String,
    },
    /// A partner's submission by its digest: what it says and carries, whoever wrote it (XDR-50).
    Submission {
        /// The partner's name.
        partner: String,
        /// The digest.
        digest: [u8; 32],
    },
    /// A partner's SubmissionSet.uniqueId.
    SubmissionSet {
        /// The partner's name.
        partner: String,
        /// The id.
        id: String,
    },
    /// Inner or outer Message-ID of one of its legs.
    MessageId(String),
    /// The inner Message-ID of the mail that it was received as.
    ReceivedMail(String),
    /// The digest of that mail, where it has no Message-ID.
    ReceivedContent([u8; 32]),
    /// The wsa:MessageID of a post of its own.
    Post {
        /// The endpoint's name in the configuration: ids never match across endpoints.
        endpoint: String,
        /// The id.
        id: String,
    },
    /// Any of the above, for operators.
    Any(String),
}

impl LookupKey {
    /// What a received mail is found by, should it come again (DST-6).
    pub(in crate::flows) fn of_received(message_id: Option<&MessageId>, digest: &[u8; 32]) -> Self {
        match message_id {
            Some(id) => Self::ReceivedMail(id.as_str().to_owned()),
            None => Self::ReceivedContent(*digest),
        }
    }
}

/// An exchange and the version that the store holds.
#[derive(Clone, Debug)]
pub struct VersionedExchange {
    /// The exchange.
    pub exchange: Exchange,
    /// To be given back with an update.
    pub version: u64,
}

/// An effect taken from the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The outbox row.
    pub id: i64,
    /// For which exchange.
    pub exchange: ExchangeId,
    /// What to do.
    pub effect: Effect,
    /// How often it was claimed before.
    pub attempts: u32,
    /// When the lease lapses: another worker may claim it then, so work must end before.
    pub leased_until: Timestamp,
}

/// An effect in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The outbox row.
    pub id: i64,
    /// What is to be done.
    pub effect: Effect,
    /// From when on it can be claimed; of one that is under way, when its lease lapses.
    pub due: Timestamp,
    /// Whether a worker has it.
    pub is_under_way: bool,
}

/// Another time for an effect that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reschedule {
    /// For which exchange.
    pub exchange: ExchangeId,
    /// The outbox row.
    pub id: i64,
    /// Not before this time.
    pub at: Timestamp,
}

/// Which exchanges a list shows.
#[derive(Clone, Debug, Default)]
pub struct ExchangeFilter {
    /// Only those of this partner.
    pub partner: Option<String>,
    /// Only final ones, or only open ones.
    pub is_final: Option<bool>,
    /// Only those accepted before this time: the page after one that ended there.
    pub accepted_before: Option<Timestamp>,
    /// With `accepted_before`: the last exchange of the page before, so that none is lost among those accepted at the
    /// very same time.
    pub before_id: Option<ExchangeId>,
    /// How many at the most.
    pub limit: usize,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The exchange was changed by somebody else meanwhile: load it and step again.
    #[error("exchange {exchange} was changed by another worker")]
    Conflict {
        /// Which.
        exchange: ExchangeId,
    },
    /// Another exchange came by the key that the unit was decided on: look again and decide again.
    #[error("another exchange was recorded under the same key meanwhile")]
    Overtaken,
    /// The lease of the claimed effect has lapsed and another worker has it, or has completed it: that one's result
    /// stands, and nothing of this unit is written.
    #[error("the lease of the claimed effect is lost")]
    LeaseLost,
    /// No space is left, or a disk quota ended.
    #[error("no space is left for the store")]
    NoSpace,
    /// A body is not there, or not as it was written.
    #[error("body {body} is damaged: {what}")]
    DamagedBody {
        /// Which.
        body: BodyId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Anything else: the store cannot be reached, or the disk fails.
    #[error("the store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether a later attempt may succeed.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::DamagedBody { .. })
    }
}

/// The body store. Blocking, since formats read and write by [`std::io`]: call it on the CPU threads or in
/// `spawn_blocking`.
pub trait Bodies: Send + Sync {
    /// Begins a body that is encrypted at rest. It is swept unless a unit of work adopts it.
    fn create_encrypted(&self) -> Result<Box<dyn BodyWriter>, StoreError>;

    /// Begins a body that is ciphertext already (sealed mail) and is kept as it is, under a digest of its own.
    fn create_sealed(&self) -> Result<Box<dyn BodyWriter>, StoreError>;

    /// Opens a body for reading from its first octet. It can be opened again.
    fn open(&self, id: BodyId) -> Result<Box<dyn Read + Send>, StoreError>;
}

/// Writes one body.
pub trait BodyWriter: std::io::Write + Send {
    /// Makes it durable (fsync of file and folder for one in a file) and gives its id. A small body stays in memory
    /// until the unit of work that adopts it writes it into its row.
    fn finish(self: Box<Self>) -> Result<StagedBody, StoreError>;
}

/// A body that is written and not yet adopted. Keep it until the unit of work that adopts it is committed: when the
/// last clone is gone, the store drops what no unit adopted.
#[derive(Clone)]
pub struct StagedBody {
    /// Its id.
    pub id: BodyId,
    /// Its length in octets, as written by the caller.
    pub size: u64,
    hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl StagedBody {
    /// A body that stays until it is removed.
    pub fn new(id: BodyId, size: u64) -> Self {
        let hold = None;
        Self { id, size, hold }
    }

    /// A body that is given up when `hold` is dropped, unless it is adopted by then.
    pub fn held(id: BodyId, size: u64, hold: Arc<dyn Any + Send + Sync>) -> Self {
        let hold = Some(hold);
        Self { id, size, hold }
    }
}

impl fmt::Debug for StagedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedBody")
            .field("id", &self.id)
            .field("size", &self.size)
            .field("is_held", &self.hold.is_some())
            .finish()
    }
}

/// A stored body that can be read many times.
#[derive(Clone)]
pub struct StoredBody {
    /// Where it lies.
    pub store: Arc<dyn Bodies>,
    /// Its id.
    pub id: BodyId,
    /// Its length in octets.
    pub size: u64,
}

impl StoredBody {
    /// Opens it from its first octet.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, StoreError> {
        self.store.open(self.id)
    }
}

// --- audit and readiness -----------------------------------------------------------------------

/// Writes a record that belongs to no other transaction, such as a refused connection.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Returns once the record is durable.
    async fn record(&self, record: AuditRecord) -> Result<(), StoreError>;
}

#[async_trait]
impl<T: Exchanges> Audit for T {
    async fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
        self.commit(UnitOfWork {
            audit: vec![record],
            ..UnitOfWork::default()
        })
        .await
    }
}

/// Tells whether a part of the node can do its work now: what `/readyz` asks.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// The part's name in the answer, such as `store`.
    fn part(&self) -> &'static str;

    /// `Err` names the trouble for operators, in fixed words: the answer is not protected by a token.
    async fn check(&self) -> Result<(), &'static str>;
}

/// Measures the room that is left where the store lies (T-26).
#[async_trait]
pub trait MeasureRoom: Send + Sync {
    /// Of the file system that holds the data directory.
    async fn free(&self) -> std::io::Result<FreeRoom>;

    /// Octets of all bodies that are kept, as they were handed over.
    async fn body_bytes(&self) -> Result<u64, StoreError>;
}

/// What is free on a file system for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeRoom {
    /// Octets.
    pub bytes: u64,
    /// Files that can be made; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

// --- peers -------------------------------------------------------------------------------------

/// Who speaks to us over TLS, as far as the connection tells.
#[derive(Clone, Debug, Default)]
pub struct TlsPeer {
    /// The client certificate's fingerprint.
    pub certificate: Option<CertificateFingerprint>,
    /// Its DER form.
    pub certificate_der: Option<Bytes>,
    /// The chain that the handshake verified above it, nearest issuer first, in DER form: a partner may be named by
    /// its CA and a subject alternative name.
    pub issuers_der: Vec<Bytes>,
    /// The peer's network address.
    pub address: String,
}

/// What the SOAP listener hands a request to. The listener does HTTP only: the body arrives in chunks over a bounded
/// channel, already within the message limit and paid for from the byte budget.
#[async_trait]
pub trait ServeXdr: Send + Sync {
    /// Serves one `POST /xdr` to its end.
    async fn serve(&self, request: XdrRequest) -> XdrAnswer;
}

/// One `POST /xdr`.
pub struct XdrRequest {
    /// The Content-Type, as sent.
    pub content_type: String,
    /// Who sends, as the TLS connection tells.
    pub peer: TlsPeer,
    /// The partner that the peer's certificate maps to.
    pub partner: Arc<crate::bridge::partner::Partner>,
    /// The body: complete only when the channel ends without an error. After an error the listener answers by
    /// itself, and what the flow answers reaches nobody.
    pub body: tokio::sync::mpsc::Receiver<Result<Bytes, BodyInterrupted>>,
    /// The octets that the body may take.
    pub reservation: super::budget::Reservation,
}

/// The body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyInterrupted {
    /// The connection broke.
    #[error("the connection broke in the body")]
    Broken,
    /// A chunk did not come in time.
    #[error("the body came too slowly")]
    TooSlow,
    /// More octets than one message may have.
    #[error("the body is larger than {max_bytes} octets")]
    TooLarge {
        /// What would be accepted.
        max_bytes: u64,
    },
    /// A body of undeclared length outgrew what was free of the byte budget (LIM-17).
    #[error("no room is left for the rest of the body")]
    NoRoom,
    /// Octets that no mail may hold: a bare CR or LF, NUL, or a line that is too long (RX-5, RX-42, RX-46).
    #[error("the body holds what no mail may hold")]
    Malformed,
}

/// What goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdrAnswer {
    /// HTTP status.
    pub status: u16,
    /// Content-Type; `None` for an empty body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
    /// Retry-After, with 503.
    pub retry_after: Option<Duration>,
}

// --- XDR endpoints -----------------------------------------------------------------------------

/// Posts ITI-41 requests to the endpoints of the configuration.
#[async_trait]
pub trait PostXdr: Send + Sync {
    /// Makes one attempt. Nothing is repeated here: whether that may be done is [`crate::bridge::post`]'s question.
    async fn post(&self, post: XdrPost) -> PostReport;
}

/// One attempt to post a request.
pub struct XdrPost {
    /// The endpoint's name in the configuration.
    pub endpoint: String,
    /// Content-Type.
    pub content_type: String,
    /// When the attempt must be over.
    pub deadline: Timestamp,
    /// The body in chunks. After an error the endpoint never takes the request for complete.
    pub body: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostReport {
    /// What counts.
    pub end: crate::bridge::post::PostEnd,
    /// What the audit keeps: no word of the body, no URL.
    pub detail: String,
}
