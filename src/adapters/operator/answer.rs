//! What operators ask, and the answers.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::Data,
};
use tokio::time::timeout;

use super::{Shared, api};

/// Answers every request of the listener.
pub(super) async fn answer(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    let is_get = *request.method() == Method::GET;
    match request.path() {
        "/healthz" | "/readyz" | "/metrics" if !is_get => HttpResponse::MethodNotAllowed()
            .insert_header((header::ALLOW, "GET"))
            .finish(),
        // Probes carry no token, and these two tell nothing but fixed words.
        "/healthz" => text(StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => readiness(&shared).await,
        path if path.starts_with(api::ROOT) => api::answer(&request, &shared).await,
        _ if !shared.tokens.get().may_measure(&request) => HttpResponse::Unauthorized()
            .insert_header((header::WWW_AUTHENTICATE, "Bearer"))
            .finish(),
        "/metrics" => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(shared.parts.measured.render(&shared.parts.budget)),
        _ => HttpResponse::NotFound().finish(),
    }
}

/// 200 when every part can work, else 503 with the parts that cannot. All are asked at once.
async fn readiness(shared: &Shared) -> HttpResponse {
    let limit = shared.readiness_timeout;
    let mut asked = Vec::new();
    for part in &shared.parts.readiness {
        let name = part.part();
        let part = Arc::clone(part);
        let check = async move { timeout(limit, part.check()).await };
        asked.push((name, shared.parts.flows.spawn(check)));
    }
    let mut troubles = String::new();
    for (name, check) in asked {
        let trouble = match check.await {
            Ok(Ok(Ok(()))) => continue,
            Ok(Ok(Err(trouble))) => trouble,
            Ok(Err(_)) => "no answer in time",
            Err(_) => "the check panicked",
        };
        troubles.push_str(&format!("{name}: {trouble}\n"));
    }
    if troubles.is_empty() {
        text(StatusCode::OK, "ready\n".to_owned())
    } else {
        let body = format!("not ready\n{troubles}");
        text(StatusCode::SERVICE_UNAVAILABLE, body)
    }
}

fn text(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(body)
}
