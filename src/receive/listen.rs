//! The accept loop: connections with a limit on their number, on the time for a head and a body, and on their size.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{Posted, Receiver, STOP_GRACE, plain};

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the head of a request, and so for an idle connection.
    pub head: Duration,
    pub body: Duration,
    /// Bytes of a head.
    pub head_bytes: usize,
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { head: Duration::from_secs(5), body: Duration::from_secs(15), head_bytes: 32 << 10, connections: 4_096 }
    }
}

/// Serves on a TCP listener until cancelled, then ends what is under way.
pub async fn serve_tcp(receiver: Arc<Receiver>, listener: TcpListener, limits: Limits, cancel: CancellationToken) {
    let connections = Connections::new(receiver, limits, cancel.clone());
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Small answers must not wait for more to send.
                let _ = stream.set_nodelay(true);
                connections.serve(stream);
            }
            Err(error) => pause(&error).await,
        }
    }
    connections.stop().await;
}

/// The same on a Unix socket; a socket file that nobody listens on any more is replaced.
pub async fn serve_unix(
    receiver: Arc<Receiver>,
    path: &Path,
    limits: Limits,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path)?;
    let connections = Connections::new(receiver, limits, cancel.clone());
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.serve(stream),
            Err(error) => pause(&error).await,
        }
    }
    connections.stop().await;
    Ok(())
}

/// Accepting fails when files run out; trying at once would only burn the processor.
async fn pause(error: &std::io::Error) {
    warn!("a connection could not be accepted: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

struct Connections {
    receiver: Arc<Receiver>,
    limits: Limits,
    cancel: CancellationToken,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
}

impl Connections {
    fn new(receiver: Arc<Receiver>, limits: Limits, cancel: CancellationToken) -> Connections {
        let room = Arc::new(Semaphore::new(limits.connections));
        Connections { receiver, limits, cancel, tasks: TaskTracker::new(), room }
    }

    fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            warn!("more than {} connections: one is closed", self.limits.connections);
            return;
        };
        let (receiver, limits, cancel) = (self.receiver.clone(), self.limits, self.cancel.clone());
        self.tasks.spawn(async move {
            let service = service_fn(move |request| {
                let receiver = receiver.clone();
                async move { Ok::<_, Infallible>(answer(&receiver, limits, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
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
            drop(room);
        });
    }

    async fn stop(&self) {
        self.tasks.close();
        if tokio::time::timeout(STOP_GRACE, self.tasks.wait()).await.is_err() {
            warn!("some webhook connections were still open at the stop");
        }
    }
}

async fn answer(receiver: &Receiver, limits: Limits, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let source = receiver.source_of(path);
    if source.is_none() {
        return receiver.refuse(None, StatusCode::NOT_FOUND, "unknown_source", "no source of this name takes webhooks");
    }
    if head.method != Method::POST {
        let mut answer =
            receiver.refuse(source.as_ref(), StatusCode::METHOD_NOT_ALLOWED, "method", "webhooks are posted");
        answer.headers_mut().insert("allow", http::HeaderValue::from_static("POST"));
        return answer;
    }
    let body = match tokio::time::timeout(limits.body, read(body, receiver.max_body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(BodyFault::TooLarge)) => {
            let mut answer = receiver.refuse(
                source.as_ref(),
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is over `receive.max_body`",
            );
            answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
            return answer;
        }
        Ok(Err(BodyFault::Broken)) => return plain(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => {
            return receiver.refuse(
                source.as_ref(),
                StatusCode::REQUEST_TIMEOUT,
                "slow",
                "the body did not arrive in time",
            );
        }
    };
    let target = head.uri.path_and_query().map_or(path, |target| target.as_str());
    receiver.handle(Posted { method: &head.method, path, target, headers: &head.headers, body }).await
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
