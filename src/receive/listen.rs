//! What is said on a connection: requests with a limit on the time for a head and a body, and on their size.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, warn_span};

use super::timed::{Phase, Timed};
use super::{Posted, Receiver, STOP_GRACE, caller};
use crate::listener::{self, Caller, Connection, Socket};

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte of a head to its last; the first head of a connection counts from the accept.
    pub head: Duration,
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Bytes of a head.
    pub head_bytes: usize,
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let seconds = Duration::from_secs;
        Limits { head: seconds(5), body: seconds(15), idle: seconds(30), head_bytes: 32 << 10, connections: 4_096 }
    }
}

/// Serves until cancelled, then ends what is under way.
pub async fn serve(receiver: Arc<Receiver>, socket: Socket, limits: Limits, cancel: CancellationToken) {
    let bounds = listener::Bounds { connections: limits.connections, grace: STOP_GRACE };
    let stop = cancel.clone();
    let talk = move |connection| talk(receiver.clone(), connection, limits, stop.clone());
    listener::serve(socket, bounds, cancel, talk).await;
}

async fn talk(receiver: Arc<Receiver>, connection: Connection, limits: Limits, cancel: CancellationToken) {
    let phase = Phase::default();
    let stream = Timed::new(connection.wire, phase.clone(), limits.head);
    let peer = connection.caller;
    let service = service_fn(move |request: Request<Incoming>| {
        phase.request();
        let (receiver, phase) = (receiver.clone(), phase.clone());
        let span = warn_span!("webhook", caller = %asking(&receiver, &peer, &request));
        let answering = async move {
            let answer = answer(&receiver, limits, request).await;
            phase.idle();
            Ok::<_, Infallible>(answer)
        };
        answering.instrument(span)
    });
    // Its timer cannot tell an idle connection from a slow head; the stream's can.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle.max(limits.head))
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection ended early: {error}");
    }
}

/// Who asks, for the log.
fn asking(receiver: &Receiver, peer: &Caller, request: &Request<Incoming>) -> String {
    match caller::behind(peer.ip(), request.headers(), &receiver.trusted_proxies.load()) {
        Some(ip) if Some(ip) != peer.ip() => ip.to_string(),
        _ => peer.to_string(),
    }
}

async fn answer(receiver: &Receiver, limits: Limits, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    // The buffer's bound is only a rough one: it grows in steps.
    if head_bytes(&head) > limits.head_bytes {
        let reason = "the head is too large";
        return receiver.refuse(None, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", reason);
    }
    let path = head.uri.path();
    if let Some(keys) = receiver.keys_at(&head.method, path) {
        return keys;
    }
    let door = match receiver.admit(&head.method, path) {
        Ok(door) => door,
        Err(refusal) => return *refusal,
    };
    let source = Some(&door.source.name);
    let body = match tokio::time::timeout(limits.body, read(body, receiver.max_body.load(Ordering::Relaxed))).await {
        Ok(Ok(body)) => body,
        Ok(Err(BodyFault::TooLarge)) => {
            let reason = "the body is over `receive.max_body`";
            let mut answer = receiver.refuse(source, StatusCode::PAYLOAD_TOO_LARGE, "too_large", reason);
            answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
            return answer;
        }
        Ok(Err(BodyFault::Broken)) => {
            return receiver.refuse(source, StatusCode::BAD_REQUEST, "broken", "the body broke off");
        }
        Err(_) => {
            return receiver.refuse(source, StatusCode::REQUEST_TIMEOUT, "slow", "the body did not arrive in time");
        }
    };
    let target = head.uri.path_and_query().map_or(path, |target| target.as_str());
    receiver.take(&door, Posted { method: &head.method, path, target, headers: &head.headers, body }).await
}

/// The size of a head as it was sent, to within a few bytes.
fn head_bytes(head: &http::request::Parts) -> usize {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + target
}

enum BodyFault {
    TooLarge,
    Broken,
}

async fn read(mut body: Incoming, max: usize) -> Result<Bytes, BodyFault> {
    use hyper::body::Body as _;
    let announced = body.size_hint().lower();
    if announced > max as u64 {
        return Err(BodyFault::TooLarge);
    }
    let mut whole = BytesMut::with_capacity(announced as usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > max {
            return Err(BodyFault::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
