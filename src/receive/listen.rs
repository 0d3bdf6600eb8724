//! The accept loop: connections with a limit on their number, on the time for a head and a body, and on their size.

use std::convert::Infallible;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
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

use super::timed::{Phase, Timed};
use super::{Posted, Receiver, STOP_GRACE};

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
    let left_behind = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if left_behind && std::os::unix::net::UnixStream::connect(path).is_err() {
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
            let phase = Phase::default();
            let stream = Timed::new(stream, phase.clone(), limits.head);
            let service = service_fn(move |request| {
                phase.request();
                let (receiver, phase) = (receiver.clone(), phase.clone());
                async move {
                    let answer = answer(&receiver, limits, request).await;
                    phase.idle();
                    Ok::<_, Infallible>(answer)
                }
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
    let door = match receiver.admit(&head.method, path) {
        Ok(door) => door,
        Err(refusal) => return *refusal,
    };
    let source = Some(&door.source.name);
    let body = match tokio::time::timeout(limits.body, read(body, receiver.max_body)).await {
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
