//! `/api/v1/exchanges`: what `xdbridge exchange list` and `show` tell, for programs (docs/api.md). Operators see all, a
//! partner what it submitted. It only reads.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::{self, Data},
};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;

use super::Shared;
use crate::flows::{
    measures,
    ports::{ListOrder, MAX_PAGE, NotDone, Order, OrderId, Told},
};

/// What every path of the interface begins with.
pub(super) const ROOT: &str = "/api/v1/";

/// Longest wait for an answer of the store.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest query that is read, in octets: each field once, and percent-encoded.
const MAX_QUERY_BYTES: usize = 4 * 1024;
/// The interface's description.
const OPENAPI: &str = include_str!("openapi.json");

/// Answers a request below [`ROOT`].
pub(super) async fn answer(request: &HttpRequest, shared: &Data<Shared>) -> HttpResponse {
    let path = request.path().strip_prefix(ROOT).unwrap_or_default();
    let is_read = *request.method() == Method::GET;
    if path == "openapi.json" && is_read {
        // It holds fixed words and is asked for by tools that have no token yet.
        return HttpResponse::Ok()
            .content_type("application/json")
            .body(OPENAPI);
    }
    let Some(asker) = shared.tokens.get().asker(request) else {
        metrics::counter!(measures::API_STRANGERS).increment(1);
        let peer = request.peer_addr().map(|peer| peer.ip().to_string());
        warn!(peer, "somebody asked for exchanges without a known token");
        return HttpResponse::Unauthorized()
            .insert_header((header::WWW_AUTHENTICATE, "Bearer"))
            .json(json!({
                "error": "unauthorized",
                "text": "the operators' token, or a partner's, is needed: Authorization: Bearer TOKEN",
            }));
    };
    let order = match path.split_once('/') {
        None if path == "exchanges" => list(request.query_string()),
        Some(("exchanges", id)) if !id.is_empty() => show(id),
        _ => return not_found(),
    };
    if !is_read {
        return HttpResponse::MethodNotAllowed()
            .insert_header((header::ALLOW, "GET"))
            .json(json!({ "error": "method-not-allowed", "text": "GET is answered here" }));
    }
    let order = match order {
        Ok(order) => order,
        Err(text) => return refusal(&NotDone::BadOrder { text }),
    };
    let operators = Arc::clone(&shared.parts.operators);
    let flows = &shared.parts.flows;
    let doing = flows.spawn(async move { operators.serve(&asker, order).await });
    match timeout(ANSWER_TIMEOUT, doing).await {
        Ok(Ok(Ok(told))) => told_as_json(&told),
        Ok(Ok(Err(refused))) => refusal(&refused),
        Ok(Err(_)) => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request could not be served",
        ),
        Err(_) => failed(
            StatusCode::GATEWAY_TIMEOUT,
            "the store did not answer in time",
        ),
    }
}

fn list(query: &str) -> Result<Order, String> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(format!("a query has at most {MAX_QUERY_BYTES} octets"));
    }
    let order = web::Query::<ListOrder>::from_query(query).map_err(|error| error.to_string())?;
    let order = order.into_inner();
    if order.limit > MAX_PAGE {
        return Err(format!("limit is at most {MAX_PAGE}"));
    }
    Ok(Order::List(order))
}

fn show(id: &str) -> Result<Order, String> {
    let id = percent_decode_str(id)
        .decode_utf8()
        .map_err(|_| "an id is UTF-8, percent-encoded".to_owned())?;
    let id = OrderId::try_from(id.into_owned())?;
    Ok(Order::Show { id })
}

fn told_as_json(told: &Told) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    // What is shown names people.
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    match told {
        Told::Page(page) => answer.json(page),
        Told::Exchange(exchange) => answer.json(exchange),
        Told::Done(done) => answer.json(done),
    }
}

fn refusal(refused: &NotDone) -> HttpResponse {
    let (status, error) = match refused {
        NotDone::BadOrder { .. } => (StatusCode::BAD_REQUEST, "bad-request"),
        NotDone::Unknown => return not_found(),
        NotDone::Several { ids } => {
            return HttpResponse::Conflict().json(json!({
                "error": "several",
                "text": refused.to_string(),
                "ids": ids,
            }));
        }
        NotDone::NotNow { .. } => (StatusCode::CONFLICT, "not-now"),
        NotDone::Store => (StatusCode::SERVICE_UNAVAILABLE, "store"),
    };
    HttpResponse::build(status).json(json!({ "error": error, "text": refused.to_string() }))
}

fn not_found() -> HttpResponse {
    HttpResponse::NotFound()
        .json(json!({ "error": "not-found", "text": NotDone::Unknown.to_string() }))
}

fn failed(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": "failed", "text": text }))
}
