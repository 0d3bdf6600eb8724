//! The accept loop: so many connections at once, a time limit for headers (the stock server has none), and an end in order.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

const CONNECTIONS: usize = 256;
const HEADER_TIME: Duration = Duration::from_secs(5);
const HEADER_BYTES: usize = 32 * 1024;
/// Requests in progress may finish; a waiting `tail` is not waited for.
const DRAIN: Duration = Duration::from_secs(2);
/// After accept itself failed (too many open files): an immediate retry would only burn a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Over the control socket; the user's number as the kernel knows it.
    Socket {
        uid: Option<u32>,
    },
    Address(IpAddr),
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Socket { uid: Some(uid) } => write!(f, "user {uid}"),
            Caller::Socket { uid: None } => f.write_str("the control socket"),
            Caller::Address(ip) => write!(f, "{ip}"),
        }
    }
}

/// Serves until cancelled.
pub async fn serve_tcp(listener: TcpListener, router: Router, cancel: CancellationToken) {
    let accept = async || {
        let (stream, peer) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        Ok((stream, Caller::Address(peer.ip())))
    };
    serve(accept, router, cancel).await;
}

/// Serves until cancelled.
pub async fn serve_unix(listener: UnixListener, router: Router, cancel: CancellationToken) {
    let accept = async || {
        let (stream, _) = listener.accept().await?;
        let uid = stream.peer_cred().ok().map(|cred| cred.uid());
        Ok((stream, Caller::Socket { uid }))
    };
    serve(accept, router, cancel).await;
}

/// Binds a Unix socket with this mode. A socket that nobody answers on is a dead daemon's and is replaced; one that is answered
/// on is another daemon's and is left alone, as is anything that is no socket.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there")),
            Err(_) => std::fs::remove_file(path)?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

async fn serve<S, F>(accept: impl Fn() -> F, router: Router, cancel: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<(S, Caller)>>,
{
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            accept().await.map(|(stream, caller)| (stream, caller, permit))
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            accepted = accepted => match accepted {
                Ok((stream, caller, permit)) => {
                    let router = router.clone().layer(Extension(caller));
                    tasks.spawn(connection(stream, router, cancel.clone(), permit));
                }
                Err(error) => {
                    warn!("a connection to the admin listener was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection<S>(stream: S, router: Router, cancel: CancellationToken, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
        debug!("a connection to the admin listener broke: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_dead_daemon_is_replaced_and_of_a_living_one_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ringback.sock");
        let first = bind_unix(&path, 0o660).expect("bound");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(bind_unix(&path, 0o660).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind_unix(&path, 0o660).expect("bound again");
        let file = folder.path().join("precious");
        std::fs::write(&file, "data").expect("written");
        bind_unix(&file, 0o660).expect_err("it is no socket");
        assert_eq!(std::fs::read_to_string(&file).expect("still there"), "data");
    }
}
