//! One HTTP request: who asks, what for, within which limits; and the answer.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, HeaderMap, HeaderValue},
    },
    web::{self, Data},
};
use bytes::Bytes;
use tokio::time::Instant;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    Shared,
    body::{self, Bounds, Fed, GROWTH_STEP_BYTES},
    pace::Pace,
    tls,
    watch::{Running, Watch},
    wsdl,
};
use crate::{
    bridge::partner::Partner,
    flows::{
        measures,
        ports::{BodyInterrupted, TlsPeer, XdrAnswer, XdrRequest},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::SoapMessageId,
        soap::{Fault, Packaging},
    },
};

/// The one path of the service (SOAP-2).
const XDR_PATH: &str = "/xdr";

/// What of a request may be told: nothing that the sender chose freely.
#[derive(Default)]
struct Account {
    partner: Option<Arc<Partner>>,
    received_bytes: u64,
}

/// An answer before it is put on the connection.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: Bytes,
    /// Whether the connection ends with it.
    closes: bool,
}

/// Answers every request of the listener.
pub(super) async fn answer(
    request: HttpRequest,
    mut payload: web::Payload,
    shared: Data<Shared>,
) -> HttpResponse<AnswerBody> {
    let began = Instant::now();
    let running = request.conn_data::<Watch>().map(Watch::request);
    let mut account = Account::default();
    let answer = route(&request, &mut payload, &shared, &mut account).await;
    tell(&request, &answer, &account, began.elapsed());

    let mut response = HttpResponse::with_body(
        answer.status,
        AnswerBody {
            bytes: answer.body,
            _unread: payload,
            _running: running,
        },
    );
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value);
    }
    if answer.closes {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    response
}

async fn route(
    request: &HttpRequest,
    payload: &mut web::Payload,
    shared: &Shared,
    account: &mut Account,
) -> Answer {
    // A connection without a peer was not made by our acceptor: it is a stranger's.
    let peer = request.conn_data::<TlsPeer>().cloned().unwrap_or_default();
    let Some(partner) = (shared.parts.identify)(&peer) else {
        return refuse_stranger(&peer, shared).await;
    };
    account.partner = Some(Arc::clone(&partner));
    if head_bytes(request) > shared.max_http_head_bytes {
        return Answer::closing(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if request.path() != XDR_PATH {
        return Answer::empty(StatusCode::NOT_FOUND);
    }
    match *request.method() {
        Method::POST => receive(request, payload, shared, peer, partner, account).await,
        Method::GET if asks_for_wsdl(request.query_string()) => describe(request),
        Method::GET => Answer::empty(StatusCode::NOT_FOUND),
        _ => Answer::empty(StatusCode::METHOD_NOT_ALLOWED)
            .with(header::ALLOW, HeaderValue::from_static("GET, POST")),
    }
}

/// A certificate that our CAs vouch for, of nobody we know: 403 before anything is read (SOAP-95), and a record.
async fn refuse_stranger(peer: &TlsPeer, shared: &Shared) -> Answer {
    metrics::counter!(measures::XDR_STRANGERS).increment(1);
    let fingerprint = peer.certificate.map(|print| print.to_string());
    let record = AuditRecord::new(
        shared.parts.clock.now(),
        AuditKind::SecurityAlert,
        AuditOutcome::Serious,
    )
    .with("reason", "the client certificate belongs to no partner")
    .with("peer", peer.address.clone())
    .with("certificate", fingerprint.unwrap_or_default())
    .with("subject", tls::subject(peer));
    let audit = Arc::clone(&shared.parts.audit);
    let recorded = shared
        .parts
        .flows
        .spawn(async move { audit.record(record).await })
        .await;
    match recorded {
        Ok(Ok(())) => {}
        Ok(Err(error)) => error!(%error, "a refused peer could not be audited: {error}"),
        Err(_) => error!("a refused peer could not be audited: the audit panicked"),
    }
    Answer::closing(StatusCode::FORBIDDEN)
}

fn describe(request: &HttpRequest) -> Answer {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let mut answer = Answer::empty(StatusCode::OK).with(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/xml; charset=UTF-8"),
    );
    answer.body = Bytes::from(wsdl::at(host));
    answer
}

/// Takes a `POST /xdr` and gives it to the flow.
async fn receive(
    request: &HttpRequest,
    payload: &mut web::Payload,
    shared: &Shared,
    peer: TlsPeer,
    partner: Arc<Partner>,
    account: &mut Account,
) -> Answer {
    if has_content_encoding(request.headers()) {
        // RFC 9110 §15.5.16: say what would be accepted.
        return Answer::closing(StatusCode::UNSUPPORTED_MEDIA_TYPE).with(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    if request.headers().get_all(header::CONTENT_TYPE).count() > 1 {
        // Two readers would take two messages out of it (T-11b).
        return Answer::closing(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let is_chunked = request.chunked().unwrap_or(false);
    let declared_bytes = if is_chunked {
        GROWTH_STEP_BYTES.min(shared.max_message_bytes)
    } else {
        content_length(request.headers())
    };
    if declared_bytes > shared.max_message_bytes {
        return Answer::closing(StatusCode::PAYLOAD_TOO_LARGE);
    }
    if !shared.parts.room.is_left() {
        warn!("a budget of room is used up: a sender is asked to come again");
        return come_again(shared);
    }
    let Some(reservation) = shared.parts.budget.try_reserve(declared_bytes) else {
        return busy(shared);
    };
    let bounds = Bounds {
        max_bytes: shared.max_message_bytes,
        pace: Pace::new(&shared.config),
        reserved_bytes: declared_bytes,
        growth: is_chunked.then(|| reservation.growth(&shared.parts.budget)),
    };
    let (feed, chunks) = body::channel();
    let content_type = content_type(request.headers());
    let xdr_request = XdrRequest {
        content_type: content_type.clone(),
        peer,
        partner,
        body: chunks,
        reservation,
    };
    let xdr = Arc::clone(&shared.parts.xdr);
    // The flow runs to its end even when the connection breaks: what it recorded, it must also finish.
    let mut serving = shared
        .parts
        .flows
        .spawn(async move { xdr.serve(xdr_request).await });

    let served = tokio::select! {
        biased;
        fed = body::feed(payload, feed, bounds, &mut account.received_bytes) => match fed {
            Fed::Complete | Fed::Unwanted => serving.await,
            Fed::Interrupted(why) => return interrupted(why, shared),
        },
        served = &mut serving => served,
    };
    match served {
        Ok(answer) => Answer::of(answer),
        Err(_) => {
            error!("the flow panicked on a request");
            Answer::failed(&content_type)
        }
    }
}

fn interrupted(why: BodyInterrupted, shared: &Shared) -> Answer {
    match why {
        BodyInterrupted::Broken | BodyInterrupted::Malformed => {
            Answer::closing(StatusCode::BAD_REQUEST)
        }
        BodyInterrupted::TooSlow => Answer::closing(StatusCode::REQUEST_TIMEOUT),
        BodyInterrupted::TooLarge { .. } => Answer::closing(StatusCode::PAYLOAD_TOO_LARGE),
        BodyInterrupted::NoRoom => busy(shared),
    }
}

/// Over the byte budget (SOAP-91).
fn busy(shared: &Shared) -> Answer {
    warn!(
        in_flight_bytes = shared.parts.budget.in_flight(),
        "the byte budget is used up: a sender is asked to come again"
    );
    come_again(shared)
}

/// Nothing of the request is read (SOAP-91).
fn come_again(shared: &Shared) -> Answer {
    Answer::closing(StatusCode::SERVICE_UNAVAILABLE).retry_after(shared.config.retry_after)
}

impl Answer {
    fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            closes: false,
        }
    }

    /// For a request whose body stays unread, or whose sender should begin anew.
    fn closing(status: StatusCode) -> Self {
        Self {
            closes: true,
            ..Self::empty(status)
        }
    }

    /// A failure of our own (SOAP-90). Nothing is known of the request but how it says that it is packaged.
    fn failed(content_type: &str) -> Self {
        let mut fault = Fault::receiver("the request could not be processed");
        fault.packaging = Packaging::of_content_type(content_type);
        let id = SoapMessageId::from_uuid(Uuid::new_v4());
        let (content_type, body) = fault.write_answer(&id);
        Self {
            closes: true,
            ..Self::of(XdrAnswer {
                status: fault.http_status(),
                content_type: Some(content_type),
                body: body.into(),
                retry_after: None,
            })
        }
    }

    fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn retry_after(self, wait: Duration) -> Self {
        self.with(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_secs().max(1)),
        )
    }

    fn of(answer: XdrAnswer) -> Self {
        let (Ok(status), Ok(content_type)) = (
            StatusCode::from_u16(answer.status),
            answer
                .content_type
                .map(|text| HeaderValue::from_str(&text))
                .transpose(),
        ) else {
            error!("the flow gave a status or Content-Type that HTTP has no place for");
            return Self::closing(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let mut http = Self::empty(status);
        http.body = answer.body;
        if let Some(content_type) = content_type {
            http = http.with(header::CONTENT_TYPE, content_type);
        }
        match answer.retry_after {
            Some(wait) => http.retry_after(wait),
            None => http,
        }
    }
}

/// The answer's octets, and what must last until they are out.
pub(super) struct AnswerBody {
    bytes: Bytes,
    /// What is unread of the request: once it is dropped, actix reads a chunked body to its end, however long that
    /// is.
    _unread: web::Payload,
    _running: Option<Running>,
}

impl MessageBody for AnswerBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.bytes))))
    }
}

/// Octets of the request's head as they came, but for white space.
fn head_bytes(request: &HttpRequest) -> usize {
    let fields: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    let target = request.uri().path().len() + request.query_string().len();
    fields + target + request.method().as_str().len() + " ? HTTP/1.1\r\n\r\n".len()
}

fn asks_for_wsdl(query: &str) -> bool {
    query.split('&').any(|item| {
        let name = item.split_once('=').map_or(item, |(name, _)| name);
        name.eq_ignore_ascii_case("wsdl")
    })
}

/// Whether a coding other than identity is said to lie over the body (SOAP-7).
fn has_content_encoding(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).any(|value| {
        !value
            .as_bytes()
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
    })
}

/// Zero without the header: then there is no body. actix has refused what is no number, or stands twice.
fn content_length(headers: &HeaderMap) -> u64 {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

/// Measures and logs one answer, by fixed words and names of the configuration.
fn tell(request: &HttpRequest, answer: &Answer, account: &Account, took: Duration) {
    let path = if request.path() == XDR_PATH {
        XDR_PATH
    } else {
        "other"
    };
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let partner = account.partner.as_ref().map_or("", |partner| &partner.name);
    let status = answer.status.as_u16();
    metrics::counter!(
        measures::XDR_REQUESTS,
        "path" => path, "method" => method, "status" => status.to_string()
    )
    .increment(1);
    if path == XDR_PATH && method == "POST" && account.partner.is_some() {
        let label = partner.to_owned();
        metrics::histogram!(measures::XDR_REQUEST_SECONDS, "partner" => label.clone())
            .record(took.as_secs_f64());
        metrics::histogram!(measures::XDR_REQUEST_BYTES, "partner" => label)
            .record(account.received_bytes as f64);
    }
    info!(
        http.method = method,
        http.path = path,
        http.status = status,
        partner,
        request_bytes = account.received_bytes,
        answer_bytes = answer.body.len(),
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "answered {method} {path} with {status}"
    );
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_wsdl_is_asked_for_in_any_case_and_among_other_parameters() {
        assert!(asks_for_wsdl("wsdl"));
        assert!(asks_for_wsdl("WSDL"));
        assert!(asks_for_wsdl("x=1&wsdl="));
        assert!(!asks_for_wsdl(""));
        assert!(!asks_for_wsdl("xwsdl&y=wsdl"));
    }

    // rule: SOAP-7
    #[test]
    fn only_the_identity_coding_is_no_coding() {
        for (value, expected) in [
            ("identity", false),
            ("Identity , identity", false),
            ("gzip", true),
            ("identity, gzip", true),
            ("x-whatever", true),
        ] {
            let request = TestRequest::default()
                .insert_header(("Content-Encoding", value))
                .to_http_request();
            assert_eq!(has_content_encoding(request.headers()), expected, "{value}");
        }
        let twice = TestRequest::default()
            .append_header(("Content-Encoding", "identity"))
            .append_header(("Content-Encoding", "br"))
            .to_http_request();
        assert!(has_content_encoding(twice.headers()));
    }

    #[test]
    fn an_answer_that_http_cannot_carry_becomes_a_500() {
        let answer = |status, content_type: &str| XdrAnswer {
            status,
            content_type: Some(content_type.to_owned()),
            body: Bytes::from_static(b"x"),
            retry_after: None,
        };
        assert_eq!(Answer::of(answer(200, "text/xml")).status, StatusCode::OK);
        for bad in [answer(99, "text/xml"), answer(200, "a\r\nb: c")] {
            let http = Answer::of(bad);
            assert_eq!(http.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(http.headers.is_empty() && http.body.is_empty());
        }
    }

    #[test]
    fn retry_after_is_never_zero_seconds() {
        let answer =
            Answer::empty(StatusCode::SERVICE_UNAVAILABLE).retry_after(Duration::from_millis(200));
        assert_eq!(answer.headers[0].1, "1");
    }
}
