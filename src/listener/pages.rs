//! A router on a socket: dashboard, API, metrics, pages for readers. A time limit for headers (the stock server has none), and an
//! end in order.

use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Bounds, Connection, Socket, serve};

const CONNECTIONS: usize = 256;
const HEADER_TIME: Duration = Duration::from_secs(5);
const HEADER_BYTES: usize = 32 * 1024;
/// Requests in progress may finish; a waiting `tail` is not waited for.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves until cancelled. Every request says who asks, as an extension.
pub async fn serve_router(socket: Socket, router: Router, cancel: CancellationToken) {
    let stop = cancel.clone();
    let bounds = Bounds { connections: CONNECTIONS, grace: DRAIN * 2 };
    serve(socket, bounds, cancel, move |connection| answer(connection, router.clone(), stop.clone())).await;
}

async fn answer(connection: Connection, router: Router, cancel: CancellationToken) {
    let router = router.layer(Extension(connection.caller));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(connection.wire), TowerToHyperService::new(router));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = cancel.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, served.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!("a connection broke: {error}");
    }
}
