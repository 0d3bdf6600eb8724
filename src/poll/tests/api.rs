//! A provider on a port of its own, with planned answers.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};

/// A provider: gives the planned answers in turn, then empty listings, and keeps what it was asked.
#[derive(Clone, Default)]
pub(super) struct Api(pub(super) Arc<Mutex<Planned>>);

#[derive(Default)]
pub(super) struct Planned {
    pub(super) answers: VecDeque<Response>,
    pub(super) asked: Vec<(String, http::HeaderMap)>,
    /// Requests to this path are never answered.
    pub(super) hangs: Option<&'static str>,
}

impl Api {
    pub(super) async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let api = self.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let api = api.clone();
            async move { api.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    async fn answer(&self, request: Request) -> Response {
        let hangs = self.0.lock().expect("no panic").hangs == Some(request.uri().path());
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut planned = self.0.lock().expect("no panic");
        planned.asked.push((request.uri().to_string(), request.headers().clone()));
        planned.answers.pop_front().unwrap_or_else(|| page("[]"))
    }

    pub(super) fn plans(&self, answers: impl IntoIterator<Item = Response>) {
        self.0.lock().expect("no panic").answers.extend(answers);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.0.lock().expect("no panic").asked.iter().map(|(uri, _)| uri.clone()).collect()
    }
}

pub(super) fn page(items: &str) -> Response {
    ([("content-type", "application/json")], format!(r#"{{"items":{items}}}"#)).into_response()
}

pub(super) fn status(status: u16, headers: [(&'static str, &'static str); 1]) -> Response {
    (http::StatusCode::from_u16(status).expect("a status"), headers, "").into_response()
}
