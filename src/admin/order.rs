//! Reading requests and refusing them: every refusal is JSON with what is wrong and what to do.

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts as Head;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::ControlError;
use super::shape::Refusal;
use crate::store::StoreError;

/// Bytes of an order: room for thousands of event ids.
const BODY_MAX: usize = 256 * 1024;
/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(15);

/// A refused request.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    refusal: Refusal,
}

impl Refused {
    pub fn new(status: StatusCode, error: impl Into<String>, help: impl Into<String>) -> Refused {
        Refused { status, refusal: Refusal { error: error.into(), help: help.into() } }
    }

    pub fn bad(error: impl Into<String>) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, error, "docs/api.md lists what each request takes")
    }

    pub fn unknown(error: impl Into<String>, help: impl Into<String>) -> Refused {
        Refused::new(StatusCode::NOT_FOUND, error, help)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.refusal)).into_response()
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        let (status, help) = match &error {
            StoreError::Conflict | StoreError::Stale => (StatusCode::CONFLICT, "try again"),
            StoreError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment"),
            StoreError::Broken(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the daemon stops; see its log"),
        };
        Refused::new(status, error.to_string(), help)
    }
}

impl From<ControlError> for Refused {
    fn from(error: ControlError) -> Refused {
        let (status, help) = match &error {
            ControlError::Unknown(_) => (StatusCode::NOT_FOUND, "`ringback status` lists what there is"),
            ControlError::Wrong(_) => (StatusCode::BAD_REQUEST, "nothing was stored or sent"),
            ControlError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment"),
            ControlError::Configuration(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "the running configuration stays in force; mend the file and reload")
            }
            ControlError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "see the daemon's log"),
        };
        Refused::new(status, error.to_string(), help)
    }
}

/// A request's body as JSON; an empty one is an empty object.
pub struct Order<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Order<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let (head, body) = request.into_parts();
        let bytes = tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_MAX))
            .await
            .map_err(|_| {
                Refused::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time", "send it at once")
            })?
            .map_err(|_| {
                let error = format!("the body is larger than {BODY_MAX} bytes, or broke off");
                Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error, "send less at a time")
            })?;
        if bytes.is_empty() {
            let value = serde_json::from_str("{}");
            return value.map(Order).map_err(|error| Refused::bad(format!("the body is missing: {error}")));
        }
        if !is_json(&head) {
            let error = "the body must be JSON and say so";
            return Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                error,
                "send the header `Content-Type: application/json`",
            ));
        }
        // A list would be taken for the members in their order.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Refused::bad("the body is no JSON object"));
        }
        serde_json::from_slice(&bytes).map(Order).map_err(|error| Refused::bad(format!("the body: {error}")))
    }
}

fn is_json(head: &Head) -> bool {
    let value = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A request's query; unknown names are refused.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(head: &mut Head, _: &S) -> Result<Self, Refused> {
        let query: Query<T> = Query::try_from_uri(&head.uri)
            .map_err(|error| Refused::bad(format!("the query: {}", error.body_text())))?;
        Ok(Asked(query.0))
    }
}

pub async fn not_found(uri: Uri) -> Refused {
    Refused::unknown(format!("there is nothing at {}", uri.path()), "the API begins at /api/v1/status")
}

pub async fn wrong_method(method: Method, uri: Uri) -> Refused {
    let error = format!("{method} is not possible at {}", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, error, "reading is GET, acting is POST")
}
